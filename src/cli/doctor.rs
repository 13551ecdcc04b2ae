//! `archc doctor`: what a file of weights is, and the base that reads it.

use std::path::PathBuf;

use super::session::Session;
use super::threads::with_threads;
use super::{Failure, Outcome};
use crate::doctor::{Catalogue, diagnose, readable};
use crate::io::console::{print, print_json};

/// Say what a file of weights is, and print the base that reads it.
///
/// The file's keys and shapes are compared with those of all networks of the zoo. What is printed is a spec, ready to paste or to be
/// sent to a file; it was tried, and loads. Where nothing fits, the nearest network is named with what differs, and the exit
/// status is 1.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// A file of weights: .safetensors, its index, .pth, .pt, .bin, .ckpt.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Try this network of the zoo alone.
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// Print what was found as JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(session: &mut Session, args: &Doctor) -> Outcome {
    let found = with_threads(None, || {
        // what is no file of weights is said at once: the catalogue takes seconds
        readable(&args.file)?;
        let catalogue = Catalogue::new(args.network.as_deref())?;
        Ok(diagnose(&args.file, &catalogue)?)
    })?;
    session.report(found.warnings());
    if args.json {
        print_json(&found.json());
        return if found.network().is_some() { Ok(()) } else { Err(Failure::Status(1)) };
    }
    print(&found.report()?);
    Ok(())
}
