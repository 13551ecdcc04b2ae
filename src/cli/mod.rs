//! The command line: a file a command. Data goes to stdout, everything else to stderr. Exit status 0, 1 for a mistake in
//! the user's files, 2 for wrong usage, 3 where a device or resource is missing.

mod answers;
mod args;
mod backend;
mod bench;
mod check;
mod completions;
mod devices;
mod diff;
mod doctor;
mod eval;
mod explain;
mod export;
mod fmt;
mod import;
mod inputs;
mod plan;
mod progress;
mod reproduce;
mod run;
mod session;
mod show;
mod stop;
mod threads;
mod train;
mod usage;
mod view;
mod zoo;

use std::process::ExitCode;

pub use stop::out_of_memory;

use clap::Parser;

use crate::diag::{Code, Diagnostics, one_line};
use crate::io::console;
use session::Session;

/// A compiler for edits to pretrained vision networks.
#[derive(Debug, Parser)]
#[command(name = "archc", version, about, max_term_width = 100)]
struct Args {
    /// Print lists of keys and places in full, not the first eight.
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

/// One line a command, in the order of the help: its module and the struct of its arguments, which says what it does.
macro_rules! commands {
    ($($module:ident::$Name:ident,)*) => {
        #[derive(Debug, clap::Subcommand)]
        enum Command { $($Name($module::$Name)),* }

        impl Command {
            fn run(&self, session: &mut Session) -> Outcome {
                match self { $(Command::$Name(args) => $module::run(session, args)),* }
            }
        }
    };
}

commands! {
    run::Run,
    check::Check,
    show::Show,
    plan::Plan,
    diff::Diff,
    view::View,
    train::Train,
    eval::Eval,
    bench::Bench,
    export::Export,
    import::Import,
    reproduce::Reproduce,
    zoo::Zoo,
    doctor::Doctor,
    explain::Explain,
    fmt::Fmt,
    devices::Devices,
    completions::Completions,
}

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

impl From<crate::face::Error> for Failure {
    fn from(error: crate::face::Error) -> Failure {
        Failure::Diagnostics(error.into_diagnostics())
    }
}

/// What a command comes to.
pub type Outcome = Result<(), Failure>;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    stop::install();
    let mut session = Session::new();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return ExitCode::from(usage(&session, &usage::explained(error))),
    };
    session.verbose = args.verbose;
    let status = match args.command.run(&mut session) {
        Ok(()) => 0,
        Err(Failure::Status(status)) => status,
        Err(Failure::Diagnostics(diagnostics)) => {
            session.report(&diagnostics);
            status(&diagnostics)
        }
    };
    ExitCode::from(written(&session, status))
}

/// Prints the help or the version that was asked for, or what is wrong with the arguments.
fn usage(session: &Session, error: &clap::Error) -> u8 {
    // an argument that is not printable would have to be told from clap's colours
    let is_printable = std::env::args_os().all(|arg| {
        let arg = arg.to_string_lossy();
        one_line(&arg) == arg
    });
    let text = error.render();
    if error.use_stderr() {
        match is_printable && console::colours_stderr() {
            true => console::say_rendered(&text.ansi().to_string()),
            false => console::say_lines(&text.to_string()),
        }
        return 2;
    }
    match is_printable && console::colours_stdout() {
        true => console::print_rendered(&text.ansi().to_string()),
        false => console::print(&text.to_string()),
    }
    written(session, 0)
}

/// The status to end with: `status`, but at least the session's `unwritten` where stdout could not be written.
fn written(session: &Session, status: u8) -> u8 {
    match console::stdout_problem() {
        None => status,
        Some(problem) => {
            session.report(&problem.anywhere().into());
            status.max(session.unwritten)
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
