//! `archc export`: the edited weights as a file.

use std::path::PathBuf;

use super::Outcome;
use super::args::{Export, Target};
use super::run::own_files;
use super::session::Session;
use crate::diag::{Code, Problem};
use crate::io::console::say;
use crate::io::{atomic, output};

pub fn run(session: &mut Session, args: &Export) -> Outcome {
    let Target::Safetensors = args.to;
    if args.output.extension().is_none_or(|extension| extension != "safetensors") {
        let problem = Problem::new(Code::Usage, format!("`{}` does not end in .safetensors", args.output.display()));
        return Err(problem.into());
    }
    atomic::check_writable(&args.output)?;
    let model = session.compile(&args.spec)?;
    let own = own_files(model.compiled(), &args.spec, &args.source);
    output::refuse_what_is_read(&args.output, own.iter().map(PathBuf::as_path))?;
    args.source.with_threads(|| {
        let exporter = model.exporter(&args.source.options())?;
        say(exporter.remark());
        let count = exporter.safetensors(&args.output, args.dtype.into())?;
        session.report(&exporter.bound().warnings());
        say(format!("wrote {count} tensors to {}", args.output.display()));
        Ok(())
    })
}
