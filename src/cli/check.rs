//! `archc check`: everything short of execution. Reads no weights beyond their headers.

use std::sync::Arc;

use super::args::SpecArgs;
use super::session::Session;
use super::{Failure, Outcome};
use crate::compile::{self, Files};
use crate::diag::{Diagnostics, count, one_line, to_json};
use crate::io::console::{print, print_json};

/// Check a spec: everything short of running it.
#[derive(Debug, clap::Args)]
pub struct Check {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Print the messages as JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(session: &mut Session, args: &Check) -> Outcome {
    let result = check(session, args);
    if !args.json {
        let (warnings, line) = result?;
        session.report(&warnings);
        print(&line);
        return Ok(());
    }
    let (diagnostics, failed) = match result {
        Ok((warnings, _)) => (warnings, false),
        Err(Failure::Diagnostics(diagnostics)) => (diagnostics, true),
        Err(status) => return Err(status),
    };
    let json = to_json(&diagnostics, &session.sources);
    print_json(&json);
    if failed { Err(Failure::Status(super::status(&diagnostics))) } else { Ok(()) }
}

fn check(session: &mut Session, args: &Check) -> Result<(Diagnostics, String), Failure> {
    let file = session.open(&args.spec)?;
    let name = session.sources.file(file).name.clone();
    let name = one_line(&name);
    match compile::check(Arc::make_mut(&mut session.sources), file, &args.spec.set, Files::All)? {
        compile::Outcome::Library => Ok((Diagnostics::new(), format!("{name}: ok, a library of definitions\n"))),
        compile::Outcome::Spec(compiled) => {
            let layers = count(compiled.typed.order().len(), "layer");
            Ok((compiled.warnings, format!("{name}: ok, {layers}\n")))
        }
    }
}
