//! The command line: a file a command. Data goes to stdout, everything else to stderr. Exit status 0, 1 for a mistake in
//! the user's files, 2 for wrong usage, 3 where a device or resource is missing.

mod again;
pub mod args;
mod backend;
mod bench;
mod check;
mod completions;
mod devices;
mod diff;
mod eval;
mod explain;
mod export;
mod fmt;
mod plan;
mod run;
mod session;
mod show;
mod table;
mod train;
mod zoo;

use std::process::ExitCode;

use clap::Parser;

use crate::diag::{Code, Diagnostics};
use args::{Args, Command};

/// Why a command did not do what it was asked.
pub enum Failure {
    /// Messages to print, and the status that they mean.
    Diagnostics(Diagnostics),
    /// Everything was printed already.
    Status(u8),
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Failure {
        Failure::Diagnostics(diagnostics)
    }
}

impl From<crate::diag::Problem> for Failure {
    fn from(problem: crate::diag::Problem) -> Failure {
        Failure::Diagnostics(problem.anywhere().into())
    }
}

/// What a command comes to.
pub type Outcome = Result<(), Failure>;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let mut session = session::Session::new();
    let outcome = match &args.command {
        Command::Run(args) => run::run(&mut session, args),
        Command::Train(args) => train::run(&mut session, args),
        Command::Eval(args) => eval::run(&mut session, args),
        Command::Bench(args) => bench::run(&mut session, args),
        Command::Check(args) => check::run(&mut session, args),
        Command::Show(args) => show::run(&mut session, args),
        Command::Plan(args) => plan::run(&mut session, args),
        Command::Diff(args) => diff::run(&mut session, args),
        Command::Export(args) => export::run(&mut session, args),
        Command::Zoo(args) => zoo::run(&mut session, args),
        Command::Explain(args) => explain::run(&mut session, args),
        Command::Fmt(args) => fmt::run(&mut session, args),
        Command::Devices(args) => devices::run(&mut session, args),
        Command::Completions(args) => completions::run(&mut session, args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Status(status)) => ExitCode::from(status),
        Err(Failure::Diagnostics(diagnostics)) => {
            session.report(&diagnostics);
            ExitCode::from(again::after(&args.command, status(&diagnostics)))
        }
    }
}

/// The exit status that messages mean.
fn status(diagnostics: &Diagnostics) -> u8 {
    let codes = || diagnostics.iter().filter(|one| one.is_error()).map(|one| one.problem.code);
    if codes().any(|code| code == Code::Usage) {
        2
    } else if codes().any(|code| code == Code::Resource) {
        3
    } else {
        1
    }
}
