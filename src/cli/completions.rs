//! `archc completions`: what a shell needs to complete archc's command lines.

use clap::CommandFactory;

use super::session::Session;
use super::{Args, Outcome};
use crate::io::console::print;

/// Print a shell's completions.
#[derive(Debug, clap::Args)]
pub struct Completions {
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

pub fn run(_session: &mut Session, args: &Completions) -> Outcome {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut Args::command(), "archc", &mut script);
    print(&String::from_utf8_lossy(&script));
    Ok(())
}
