//! `archc reproduce`: a model card's spec once more, beside what the card says.

use std::path::PathBuf;
use std::sync::Arc;

use super::args::positive;
use super::progress::Bars;
use super::session::Session;
use super::threads::with_threads;
use super::train::Shown;
use super::{Failure, Outcome, stop};
use crate::diag::{Code, Problem};
use crate::exec::device::Device;
use crate::face::{Likeness, reproduce};
use crate::io::console::{print, say};
use crate::table::{Align, table};

/// Run a model card's spec again and compare.
#[derive(Debug, clap::Args)]
pub struct Reproduce {
    /// The card, the README.md that `export` or `train` wrote beside its files.
    #[arg(value_name = "CARD")]
    pub card: PathBuf,
    /// A new folder to keep what comes out in; without it nothing is kept.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Where to train: auto, cpu, cuda, cuda:1 ..
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Device,
    /// Threads to use; all cores where not given.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub threads: Option<usize>,
}

pub fn run(session: &mut Session, args: &Reproduce) -> Outcome {
    let session = &*session;
    let failed = |error: &std::io::Error, place: String| {
        Problem::new(Code::Output, format!("{place} cannot be made: {error}")).hint("name another folder with `--out`")
    };
    let temporary = match &args.out {
        Some(out) => {
            let is_empty = out.read_dir().map(|mut entries| entries.next().is_none());
            if is_empty.is_ok_and(|is_empty| !is_empty) {
                let message = format!("the folder `{}` is there already", out.display());
                return Err(Problem::new(Code::Output, message).hint("name another one with `--out`").into());
            }
            std::fs::create_dir_all(out).map_err(|error| failed(&error, format!("`{}`", out.display())))?;
            None
        }
        None => Some(tempfile::tempdir().map_err(|error| failed(&error, "a temporary folder".into()))?),
    };
    let out = args.out.as_deref().or(temporary.as_ref().map(|folder| folder.path())).expect("one of them is there");
    with_threads(args.threads, || {
        let downloads = Some(Arc::new(Bars) as _);
        let Some(found) = reproduce(&args.card, out, args.device, downloads, &mut Shown::new(session))? else {
            say("stopped; nothing was compared");
            return Err(Failure::Status(stop::asked().unwrap_or(1)));
        };
        if let Some(archc) = &found.archc {
            say(format!("note: archc {archc} wrote the card, this is archc {}", env!("CARGO_PKG_VERSION")));
        }
        let word = |likeness| match likeness {
            Likeness::Same => "same",
            Likeness::Close => "close",
            Likeness::Other => "other",
        };
        let rows: Vec<Vec<String>> = found
            .compared
            .iter()
            .map(|one| vec![one.name.clone(), word(one.likeness).into(), one.what.clone()])
            .collect();
        print(&table(&[("result", Align::Left), ("", Align::Left), ("", Align::Left)], &rows));
        match found.likeness() {
            Likeness::Same => print("reproduced, bit by bit\n"),
            Likeness::Close => print("reproduced, up to rounding\n"),
            Likeness::Other => {
                print("not reproduced\n");
                return Err(Failure::Status(1));
            }
        }
        Ok(())
    })
}
