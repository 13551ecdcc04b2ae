//! `archc export`: the edited weights as a file.

use std::path::PathBuf;

use indexmap::IndexMap;

use super::Outcome;
use super::answers::{loss_of, trained};
use super::args::{Dtype, Export, Target};
use super::run::{bound, own_files};
use super::session::Session;
use crate::diag::{Code, Problem};
use crate::io::console::say;
use crate::io::{atomic, output};
use crate::weights::DType;

pub fn run(session: &mut Session, args: &Export) -> Outcome {
    let Target::Safetensors = args.to;
    if args.output.extension().is_none_or(|extension| extension != "safetensors") {
        let problem = Problem::new(Code::Usage, format!("`{}` does not end in .safetensors", args.output.display()));
        return Err(problem.into());
    }
    atomic::check_writable(&args.output)?;
    let compiled = session.compile(&args.spec)?;
    output::refuse_what_is_read(
        &args.output,
        own_files(&compiled, &args.spec, &args.source).iter().map(PathBuf::as_path),
    )?;
    args.source.with_threads(|| {
        let bound = bound(&compiled, &args.source)?;
        let dtype = match args.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::Bf16 => DType::BF16,
        };
        // what a trained file says of its outputs travels on, as far as it is still of these
        let mut metadata = IndexMap::new();
        if let Some(labels) = trained(&compiled, &bound, &args.source)? {
            metadata.insert("classes".to_string(), serde_json::to_string(labels.names()).expect("JSON of strings"));
        }
        metadata.extend(loss_of(&compiled, &bound, &args.source).map(|loss| ("loss".to_string(), loss)));
        bound.export(&args.output, &dtype, &metadata)?;
        session.report(&bound.warnings());
        let count = bound.keys().count();
        say(format!("wrote {count} tensors to {}", args.output.display()));
        Ok(())
    })
}
