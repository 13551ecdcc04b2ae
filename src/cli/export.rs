//! `archc export`: the edited weights as a file.

use indexmap::IndexMap;

use super::Outcome;
use super::args::{Dtype, Export, Target};
use super::run::bound;
use super::session::Session;
use crate::diag::{Code, Problem};
use crate::io::console::say;
use crate::weights::DType;

pub fn run(session: &mut Session, args: &Export) -> Outcome {
    let Target::Safetensors = args.to;
    if args.output.extension().is_none_or(|extension| extension != "safetensors") {
        let problem = Problem::new(Code::Usage, format!("`{}` does not end in .safetensors", args.output.display()));
        return Err(problem.into());
    }
    let compiled = session.compile(&args.spec)?;
    args.exec.with_threads(|| {
        let bound = bound(&compiled, &args.exec)?;
        let dtype = match args.exec.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::Bf16 => DType::BF16,
        };
        // class names of a trained file travel on
        let metadata: IndexMap<String, String> =
            bound.metadata().into_iter().filter(|(key, _)| key == "classes").collect();
        bound.export(&args.output, &dtype, &metadata)?;
        session.report(&bound.warnings());
        let count = bound.keys().count();
        say(format!("wrote {count} tensors to {}", args.output.display()));
        Ok(())
    })
}
