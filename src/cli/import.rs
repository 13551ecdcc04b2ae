//! `archc import`: a network of another program as a file of the language, and its weights.

use std::path::{Path, PathBuf};

use super::Outcome;
use super::session::Session;
use super::threads::with_threads;
use crate::diag::{Code, Problem, count};
use crate::graph::path;
use crate::import::{Imported, import};
use crate::io::console::say;
use crate::io::{atomic, output};
use crate::ops;
use crate::weights::hub::pretrained_cfg;
use crate::writer::{About, write};

/// Import a network that PyTorch exported, or one as ONNX.
///
/// Writes NAME.arch, the network in the language, and NAME.safetensors beside it, its weights under the module's own keys. A
/// spec then says `use "NAME.arch"` and `base NAME { weights "NAME.safetensors" }`. Nothing is approximated: what is written was run
/// beside the file, value by value, before.
///
/// FILE is what `torch.export.save(torch.export.export(model.eval(), (x,)), "model.pt2")` of PyTorch 2.8 or newer writes, or ONNX of
/// opset 13 or newer, `model.onnx`.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// The exported network, `.pt2` or `.onnx`.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The file to write, `NAME.arch`; the weights go to `NAME.safetensors`.
    #[arg(long, short, value_name = "NAME.arch")]
    pub out: PathBuf,
    /// A config.json of timm's, which says how pictures are prepared and what the classes are called.
    #[arg(long, value_name = "FILE")]
    pub pretrained_cfg: Option<PathBuf>,
    /// Number of threads (default: all cores).
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

pub fn run(_session: &mut Session, args: &Import) -> Outcome {
    if args.out.extension().is_none_or(|extension| extension != "arch") {
        let message = format!("`{}` does not end in .arch", args.out.display());
        return Err(Problem::new(Code::Usage, message).into());
    }
    let (weights, labels) = (args.out.with_extension("safetensors"), args.out.with_extension("labels.txt"));
    let read: Vec<&Path> = std::iter::once(&args.file).chain(&args.pretrained_cfg).map(PathBuf::as_path).collect();
    for path in [&args.out, &weights, &labels] {
        atomic::check_writable(path)?;
        output::refuse_what_is_read(path, read.iter().copied())?;
    }
    let said = args.pretrained_cfg.as_deref().map(pretrained_cfg).transpose()?.unwrap_or_default();
    with_threads(args.threads, || {
        let imported = import(&args.file)?;
        let typed = imported.typed()?;
        let names = said.labels.as_ref().map(|names| lines(names)).transpose()?;
        if let Some(names) = &names {
            atomic::write_bytes(&labels, names.as_bytes())?;
        }
        let (name, labels) = (network_name(&args.out), file_name(&labels));
        let about = About {
            name: &name,
            preprocess: said.preprocess.as_ref().map(|(preprocess, _)| preprocess),
            labels: names.as_ref().map(|_| labels.as_str()),
            dir: args.out.parent(),
            comment: &[format!("imported from {}", file_name(&args.file))],
        };
        let text = write(typed.graph(), &about)?;
        imported.write_tensors(&weights)?;
        atomic::write_bytes(&args.out, text.as_bytes())?;
        report(&imported, &text, args, &weights);
        Ok(())
    })
}

/// What was done.
fn report(imported: &Imported, text: &str, args: &Import, weights: &Path) {
    let (layers, lines) = (count(imported.graph().len(), "layer"), count(text.lines().count(), "line"));
    say(format!("wrote {}: {layers} in {lines}", args.out.display()));
    let constants = match imported.folded {
        0 => String::new(),
        folded => format!(", among them {} that were folded", count(folded, "constant")),
    };
    say(format!("wrote {}: {}{constants}", weights.display(), count(imported.keys().count(), "tensor")));
    if let Some(first) = imported.unused.first() {
        let all = count(imported.unused.len(), "tensor");
        say(format!(
            "left out {all} of the file that the network does not use, the first is `{}`",
            path::display(first)
        ));
    }
    if let Some(first) = imported.aliases.first() {
        let all = count(imported.aliases.len(), "further key");
        say(format!(
            "left out {all} of tensors that it has under another one, the first is `{}`",
            path::display(first)
        ));
    }
    imported.remarks.iter().for_each(say);
    let (compared, worst) = (count(imported.proof.compared, "value"), imported.proof.worst);
    say(format!("{compared} of the network agree with the file, to {worst:.0e} of the largest in each"));
}

/// Class names as a file has them, one a line.
fn lines(names: &[String]) -> Result<String, Problem> {
    if let Some(name) = names.iter().find(|name| name.contains(['\n', '\r'])) {
        let message = format!("the class `{}` has more than one line", name.escape_debug());
        return Err(Problem::new(Code::Import, message));
    }
    Ok(names.iter().map(|name| format!("{name}\n")).collect())
}

/// The name of the network: that of the file, as far as it is one.
fn network_name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if is_name && ops::find(&name).is_none() { name } else { format!("net_{name}") }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
