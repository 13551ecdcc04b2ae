//! `archc export`: the edited weights as a file.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::Outcome;
use super::args::{Dtype, SpecArgs, WeightArgs};
use super::run::own_files;
use super::session::Session;
use crate::diag::{Code, Problem, and, count};
use crate::graph::path;
use crate::io::console::{print_exact, say};
use crate::io::{atomic, output};
use crate::weights::{FORMATS, Format};

/// Write the edited network's weights.
#[derive(Debug, clap::Args)]
pub struct Export {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// The format.
    #[arg(long, value_parser = formats())]
    pub to: Format,
    /// The file to write.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// The number format of the tensors that are written.
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: Dtype,
    /// Write parallel convolutions that are added as one, as RepVGG runs
    #[arg(long)]
    pub fold: bool,
    /// Fold the adapters that this block has put beside linear layers into them: `--merge lora`. Prints the spec that
    /// the file then fits.
    #[arg(long, value_name = "BLOCK", conflicts_with = "fold")]
    pub merge: Option<String>,
    #[command(flatten)]
    pub source: WeightArgs,
}

/// The values of `--to`.
fn formats() -> impl TypedValueParser<Value = Format> {
    let named = |name: String| FORMATS.iter().find(|format| format.name == name).copied();
    PossibleValuesParser::new(FORMATS.iter().map(|format| format.name))
        .map(move |name| named(name).expect("clap lets these alone through"))
}

pub fn run(session: &mut Session, args: &Export) -> Outcome {
    let format = args.to;
    if args.output.extension().is_none_or(|extension| extension != format.name) {
        let message = format!("`{}` does not end in .{}", args.output.display(), format.name);
        return Err(Problem::new(Code::Usage, message).into());
    }
    atomic::check_writable(&args.output)?;
    let model = session.compile(&args.spec)?;
    let own = own_files(model.compiled(), &args.spec, &args.source);
    output::refuse_what_is_read(&args.output, own.iter().map(PathBuf::as_path))?;
    args.source.with_threads(|| {
        let mut exporter = model.exporter(&args.source.options())?;
        say(exporter.remark());
        if args.fold {
            let folded = exporter.fold()?;
            let first = path::display(&folded[0]);
            say(format!("folded {} into a convolution each, the first is `{first}`", count(folded.len(), "sum")));
        }
        if let Some(block) = &args.merge {
            let layers = exporter.merge(block)?;
            let named = if layers.len() > 4 { "the layers beside them".into() } else { and(layers) };
            say(format!("merged {} into {named}", count(layers.len(), "adapter")));
        }
        let written = exporter.write(&args.output, format, args.dtype.into())?;
        session.report(&exporter.bound().warnings());
        say(format!("wrote {written} tensors to {}", args.output.display()));
        if args.merge.is_some() {
            match exporter.merged_spec() {
                Some(spec) => {
                    say("they are the weights of this spec, with `--weights`:");
                    print_exact(&spec);
                }
                None => say("they are those of the spec without the statements that made or name the adapters"),
            }
        }
        Ok(())
    })
}
