//! `archc completions`: what a shell needs to complete archc's command lines.

use clap::CommandFactory;

use super::Outcome;
use super::args::{Args, Completions};
use super::session::Session;
use crate::io::console::print;

pub fn run(_session: &mut Session, args: &Completions) -> Outcome {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut Args::command(), "archc", &mut script);
    print(&String::from_utf8_lossy(&script));
    Ok(())
}
