//! `archc export`: the edited network as a file of weights, or as a module of another tool.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::Outcome;
use super::args::{Dtype, SpecArgs, WeightArgs};
use super::run::own_files;
use super::session::Session;
use crate::diag::{Code, Problem, and, count};
use crate::export::pytorch;
use crate::face::Onnx;
use crate::graph::path;
use crate::io::console::{print_exact, say};
use crate::io::{atomic, output};
use crate::weights::{FORMATS, Format};

/// Write the edited network's weights, or the network for another tool.
#[derive(Debug, clap::Args)]
pub struct Export {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// The format.
    #[arg(long, value_parser = formats())]
    pub to: To,
    /// The file to write; beside a module of Python (.py) lie its weights, under the same name (.safetensors)
    #[arg(long, short, visible_alias = "out", value_name = "FILE")]
    pub output: PathBuf,
    /// The number format of the tensors that are written.
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: Dtype,
    /// Write parallel convolutions that are added as one, as RepVGG runs; as ONNX, batch norms in the layers before them
    #[arg(long)]
    pub fold: bool,
    /// ONNX: the version of its operators, from 13 on.
    #[arg(long, value_name = "N", default_value_t = Onnx::default().opset)]
    pub opset: i64,
    /// ONNX: write the weights into a file beside, NAME.onnx.data, as is done above a gigabyte.
    #[arg(long)]
    pub external_data: bool,
    /// ONNX: take pictures, uint8 [N, height, width, 3], and prepare them as `archc run` does.
    #[arg(long)]
    pub with_preprocess: bool,
    /// Fold the adapters that this block has put beside linear layers into them: `--merge lora`. Prints the spec that
    /// the file then fits.
    #[arg(long, value_name = "BLOCK", conflicts_with = "fold")]
    pub merge: Option<String>,
    /// Write no model card beside the file.
    #[arg(long)]
    pub no_card: bool,
    #[command(flatten)]
    pub source: WeightArgs,
}

/// What is written.
#[derive(Clone, Copy, Debug)]
pub enum To {
    /// A file of weights.
    Weights(Format),
    /// A module of PyTorch, with its weights beside it.
    Pytorch,
    /// The network with its weights, as ONNX.
    Onnx,
}

impl To {
    /// Everything that can be written.
    fn all() -> impl Iterator<Item = To> {
        FORMATS.iter().copied().map(To::Weights).chain([To::Pytorch, To::Onnx])
    }

    /// As `--to` says it.
    fn name(self) -> &'static str {
        match self {
            To::Weights(format) => format.name,
            To::Pytorch => pytorch::NAME,
            To::Onnx => "onnx",
        }
    }

    /// As files end.
    fn extension(self) -> &'static str {
        match self {
            To::Weights(format) => format.name,
            To::Pytorch => "py",
            To::Onnx => "onnx",
        }
    }
}

/// The values of `--to`.
fn formats() -> impl TypedValueParser<Value = To> {
    let named = |name: String| To::all().find(|to| to.name() == name);
    PossibleValuesParser::new(To::all().map(To::name))
        .map(move |name| named(name).expect("clap lets these alone through"))
}

impl Export {
    /// Refuses what the format has not.
    fn check(&self) -> Result<(), Problem> {
        let is_onnx = matches!(self.to, To::Onnx);
        let given = [
            ("--opset", self.opset != Onnx::default().opset),
            ("--external-data", self.external_data),
            ("--with-preprocess", self.with_preprocess),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given && !is_onnx) {
            Some((option, _)) => {
                Err(Problem::new(Code::Usage, format!("`{option}` is of `--to onnx`")).hint("leave it out"))
            }
            None if is_onnx && self.merge.is_some() => {
                let problem = Problem::new(Code::Usage, "`--merge` is of `--to safetensors`");
                Err(problem.hint("write safetensors first, and export the spec that is printed with `--weights`"))
            }
            None => Ok(()),
        }
    }

    fn onnx(&self) -> Onnx {
        Onnx {
            opset: self.opset,
            fold: self.fold,
            dtype: self.dtype.into(),
            external_data: self.external_data.then_some(true),
            with_preprocess: self.with_preprocess,
        }
    }
}

pub fn run(session: &mut Session, args: &Export) -> Outcome {
    args.check()?;
    let extension = args.to.extension();
    if args.output.extension().is_none_or(|other| other != extension) {
        let message = format!("`{}` does not end in .{extension}", args.output.display());
        return Err(Problem::new(Code::Usage, message).into());
    }
    let mut outputs = vec![args.output.clone()];
    match args.to {
        To::Weights(_) | To::Onnx => {}
        To::Pytorch => {
            if args.fold || args.merge.is_some() {
                let option = if args.fold { "fold" } else { "merge" };
                let message = format!("`--{option}` makes weights of another network than the spec's");
                return Err(Problem::new(Code::Usage, message)
                    .hint("write them with `--to safetensors`, and export the spec that they fit with `--weights`")
                    .into());
            }
            outputs.push(args.output.with_extension("safetensors"));
        }
    }
    outputs.iter().try_for_each(|output| atomic::check_writable(output))?;
    let model = session.compile(&args.spec)?;
    let own = own_files(model.compiled(), &args.spec, &args.source);
    for output in &outputs {
        output::refuse_what_is_read(output, own.iter().map(PathBuf::as_path))?;
    }
    args.source.with_threads(|| {
        let mut exporter = model.exporter(&args.source.options())?;
        say(exporter.remark());
        // of ONNX, what is folded are batch norms
        if args.fold && !matches!(args.to, To::Onnx) {
            let folded = exporter.fold()?;
            let first = path::display(&folded[0]);
            say(format!("folded {} into a convolution each, the first is `{first}`", count(folded.len(), "sum")));
        }
        if let Some(block) = &args.merge {
            let layers = exporter.merge(block)?;
            let named = if layers.len() > 4 { "the layers beside them".into() } else { and(layers) };
            say(format!("merged {} into {named}", count(layers.len(), "adapter")));
        }
        let written = match args.to {
            To::Weights(format) => {
                let written = exporter.write(&args.output, format, args.dtype.into())?;
                session.report(&exporter.bound().warnings());
                say(format!("wrote {written} tensors to {}", args.output.display()));
                vec![args.output.clone()]
            }
            To::Pytorch => {
                let (weights, written) = exporter.write_pytorch(&args.output, args.dtype.into())?;
                session.report(&exporter.bound().warnings());
                say(format!("wrote {} and {written} tensors to {}", args.output.display(), weights.display()));
                vec![args.output.clone(), weights]
            }
            To::Onnx => {
                let written = exporter.write_onnx(&args.output, &args.onnx())?;
                session.report(&exporter.bound().warnings());
                let (nodes, tensors) = (count(written.nodes, "node"), count(written.tensors, "tensor"));
                let beside = match written.is_external {
                    true => format!(", these in {}.data", args.output.display()),
                    false => String::new(),
                };
                say(format!("wrote {nodes} and {tensors} to {}{beside}", args.output.display()));
                let beside = PathBuf::from(format!("{}.data", args.output.display()));
                [args.output.clone()].into_iter().chain(written.is_external.then_some(beside)).collect()
            }
        };
        let onnx = matches!(args.to, To::Onnx).then(|| args.onnx());
        if !args.no_card {
            say(match exporter.card(&written, args.to.name(), args.dtype.into(), onnx.as_ref())? {
                Some(card) => format!("wrote {}, the model card", card.display()),
                None => "wrote no model card: the files that it could be are somebody else's".into(),
            });
        }
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
