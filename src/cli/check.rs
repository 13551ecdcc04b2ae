//! `archc check`: everything short of execution. Reads no weights beyond their headers.

use super::args::Check;
use super::session::{Session, print};
use super::{Failure, Outcome};
use crate::bind::bind;
use crate::compile;
use crate::diag::{Diagnostics, to_json};
use crate::train::frozen_at_random;
use crate::train::run::setup::{Given, setup};
use crate::weights::WeightsSource;

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
    print(&format!("{}\n", serde_json::to_string_pretty(&json).expect("JSON of strings and numbers")));
    if failed { Err(Failure::Status(super::status(&diagnostics))) } else { Ok(()) }
}

fn check(session: &mut Session, args: &Check) -> Result<(Diagnostics, String), Failure> {
    let file = session.open(&args.spec)?;
    let name = session.sources.file(file).name.clone();
    match compile::compile(&mut session.sources, file, &args.spec.set)? {
        compile::Outcome::Library => Ok((Diagnostics::new(), format!("{name}: ok, a library of definitions\n"))),
        compile::Outcome::Spec(compiled) => {
            let (settings, typed) = (&compiled.settings, &compiled.typed);
            let mut found = compiled.warnings;
            // a hub is asked when the network runs, not here
            if !matches!(settings.weights, WeightsSource::Hub(_))
                && let Err(problems) = bind(settings, &compiled.base, typed, None)
            {
                found.extend(problems);
            }
            if let Some(spec) = &compiled.train {
                found.extend(frozen_at_random(typed, settings, spec));
                if let Err(problems) = setup(spec, typed, settings, &Given::default()) {
                    found.extend(problems);
                }
            }
            if found.has_errors() {
                return Err(found.into());
            }
            Ok((found, format!("{name}: ok, {} layers\n", typed.order().len())))
        }
    }
}
