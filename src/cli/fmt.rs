//! `archc fmt`: specs in their canonical form.

use std::path::PathBuf;

use std::sync::Arc;

use super::session::Session;
use super::{Failure, Outcome, status};
use crate::compile;
use crate::diag::{Diagnostics, one_line};
use crate::io::atomic;
use crate::io::console::{print, print_exact};
use crate::syntax;

/// Write specs in their canonical form.
#[derive(Debug, clap::Args)]
pub struct Fmt {
    /// The files; `-` formats standard input to standard output.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Change nothing; list the files that would change, and exit with 1 if there are any.
    #[arg(long)]
    pub check: bool,
}

pub fn run(session: &mut Session, args: &Fmt) -> Outcome {
    let mut failed = Diagnostics::new();
    let mut would_change = false;
    for path in &args.files {
        match format(session, path) {
            Err(problems) => failed.extend(problems),
            Ok((name, old, new)) if args.check => {
                if old != new {
                    would_change = true;
                    print(&format!("{}\n", one_line(&name)));
                }
            }
            Ok((_, _, new)) if path.as_os_str() == "-" => print_exact(&new),
            Ok((_, old, new)) if old != new => {
                if let Err(problem) = atomic::write_bytes(path, new.as_bytes()) {
                    failed.push(problem.anywhere());
                }
            }
            Ok(_) => {}
        }
    }
    if failed.has_errors() {
        session.report(&failed);
        return Err(Failure::Status(status(&failed)));
    }
    if would_change { Err(Failure::Status(1)) } else { Ok(()) }
}

/// A file's name, text, and canonical text.
fn format(session: &mut Session, path: &std::path::Path) -> Result<(String, String, String), Diagnostics> {
    let file = compile::open(Arc::make_mut(&mut session.sources), path)
        .map_err(|problem| Diagnostics::from(problem.anywhere()))?;
    let source = session.sources.file(file);
    let new = syntax::format(file, &source.text)?;
    Ok((source.name.clone(), source.text.clone(), new))
}
