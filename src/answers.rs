//! What the outputs of a network mean: classes with probabilities, numbers, or tensors; and what its classes are called.
//!
//! The loss that a network learned by says what its output is: cross entropy a class of several, binary cross entropy
//! classes that are right or not each for itself, any other loss numbers. It is known from the trained file's metadata,
//! or from the spec's `train` block. Without either a row of outputs is one of classes, but a single output is a number, and
//! what ends with `identity`, as networks without a classifier do, are features: tensors.

use crate::bind::Bound;
use crate::compile::Compiled;
use crate::diag::{Code, Diagnostics, Problem};
use crate::graph::OWN_OUTPUT;
use crate::io::labels::Labels;
use crate::io::results::Scores;
use crate::settings::{LabelsSource, classes};
use crate::train::loss::Loss;
use crate::typed::Typed;
use crate::words::Choices;

/// What a network answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Classes(Scores),
    Numbers,
    /// A class for each pixel of a map [N, classes, H, W].
    Pixels,
    /// Anything but one row of values a sample.
    Tensors,
}

/// What the network answers with. `loss` is what it learned by, and `names` are of its classes, where these are known.
pub fn answer(typed: &Typed, loss: Option<&str>, names: Option<&Labels>) -> Answer {
    if typed.graph().outputs().len() != 1 {
        return Answer::Tensors;
    }
    match own_answer(typed, loss) {
        Answer::Tensors if is_of_pixels(typed, loss, names) => Answer::Pixels,
        other => other,
    }
}

/// Whether the output is a map of scores of classes: as it learned by a loss of classes, ends with a softmax, or has a name
/// for each channel.
fn is_of_pixels(typed: &Typed, loss: Option<&str>, names: Option<&Labels>) -> bool {
    let Some(output) = typed.graph().outputs().get(OWN_OUTPUT) else { return false };
    let shape = typed.shape(output.node);
    let [channels, _, _] = shape.dims[..] else { return false };
    let scores = loss.and_then(Loss::named).map(|loss| loss.scores());
    let is_softmax = typed.graph().node(output.node).op.name() == "softmax";
    let is_of_classes = match scores {
        Some(scores) => scores == Some(Scores::Logits),
        None => is_softmax || names.is_some_and(|names| names.len() == channels),
    };
    shape.batched && channels > 1 && is_of_classes
}

/// The same of the network's own output, whatever others it has.
pub fn own_answer(typed: &Typed, loss: Option<&str>) -> Answer {
    let Some(output) = typed.graph().outputs().get(OWN_OUTPUT) else { return Answer::Tensors };
    let shape = typed.shape(output.node);
    if !shape.batched || shape.rank() != 2 {
        return Answer::Tensors;
    }
    let last = typed.graph().node(output.node).op.name();
    match loss.and_then(Loss::named).map(|loss| loss.scores()) {
        Some(None) => Answer::Numbers,
        Some(Some(Scores::Sigmoids)) if last != "sigmoid" => Answer::Classes(Scores::Sigmoids),
        None if loss.is_none() && last == "identity" => Answer::Tensors,
        None if loss.is_none() && shape.dims == [1] => Answer::Numbers,
        _ if matches!(last, "softmax" | "sigmoid") => Answer::Classes(Scores::Probabilities),
        _ => Answer::Classes(Scores::Logits),
    }
}

/// The name of the loss that the network learned by, or is to learn by.
pub fn loss_of(compiled: &Compiled, bound: &Bound) -> Option<String> {
    let learned = bound.metadata().get("loss").cloned();
    let block = compiled.train.as_ref().map(|spec| spec.loss.value.name().to_string());
    match bound.is_own() {
        true => learned.or(block),
        // the file is the base's, and speaks of another output where an edit made this one
        false => block.or(learned.filter(|_| is_of_base(compiled))),
    }
}

/// Whether the output is that of the base network.
fn is_of_base(compiled: &Compiled) -> bool {
    let own = |typed: &Typed| typed.graph().outputs().get(OWN_OUTPUT).map(|output| output.node);
    let (Some(base), Some(edited)) = (own(&compiled.base), own(&compiled.typed)) else { return false };
    let node = compiled.typed.graph().node(edited);
    let before = compiled.base.graph().node(base);
    node.base.as_ref().is_some_and(|base| base.path == before.path)
        && compiled.typed.shape(edited) == compiled.base.shape(base)
}

/// The names of the classes: the trained file's, else the spec's.
///
/// # Errors
/// A file of names that cannot be read; a trained file with other classes than the network has.
pub fn names(compiled: &Compiled, bound: &Bound) -> Result<Option<Labels>, Diagnostics> {
    match trained(compiled, bound)? {
        Some(labels) => Ok(Some(labels)),
        None => spec_names(bound),
    }
}

/// A word on the labels that the spec gives, where those of a trained file stand in their place and are others.
///
/// # Errors
/// A file of names that cannot be read.
pub fn overruled(trained: &Labels, bound: &Bound) -> Result<Option<String>, Diagnostics> {
    // those of ImageNet may be the base's own
    let Some(LabelsSource::File(path, _)) = &bound.settings().labels else { return Ok(None) };
    let Some(said) = spec_names(bound)? else { return Ok(None) };
    let (said, learned) = (said.names(), trained.names());
    if said == learned {
        return Ok(None);
    }
    let first = learned.iter().zip(said).position(|(learned, said)| learned != said);
    let first = match first {
        Some(at) => format!("class {at} is `{}` there, and `{}` in `{}`", learned[at], said[at], path.display()),
        None => format!("there are {} there, and {} in `{}`", learned.len(), said.len(), path.display()),
    };
    let file = bound.file().unwrap_or_else(|| "the trained weights".into());
    Ok(Some(format!("note: the classes are called as {file} names them, not by the spec's `labels`: {first}")))
}

/// The class names that a trained file carries.
///
/// # Errors
/// If there are more or fewer than the network has outputs, and no edit has made these.
pub fn trained(compiled: &Compiled, bound: &Bound) -> Result<Option<Labels>, Diagnostics> {
    let names = bound.metadata().get("classes").cloned();
    let Some(names) = names.and_then(|names| serde_json::from_str::<Vec<String>>(&names).ok()) else { return Ok(None) };
    let Some(classes) = classes(&compiled.typed) else { return Ok(None) };
    if names.len() == classes {
        return Ok(Some(Labels::from(names)));
    }
    if !bound.is_own() && !is_of_base(compiled) {
        return Ok(None);
    }
    let file = bound.file().unwrap_or_else(|| "the weights".into());
    let message = format!("the network gives {classes} classes, {file} names {}", names.len());
    Err(Problem::new(Code::WeightsFile, message)
        .note("the names are in the file's metadata, under `classes`")
        .hint("save it with as many names as the network has outputs, or without")
        .anywhere()
        .into())
}

/// The class names that the spec gives, or the hub that its weights are of.
///
/// # Errors
/// A file of names that cannot be read.
pub fn spec_names(bound: &Bound) -> Result<Option<Labels>, Diagnostics> {
    match &bound.settings().labels {
        None => Ok(None),
        Some(LabelsSource::Imagenet) => Ok(Some(Labels::imagenet())),
        Some(LabelsSource::Named(names)) => Ok(Some(Labels::from(names.clone()))),
        Some(LabelsSource::File(path, span)) => match Labels::load(path) {
            Ok(labels) => Ok(Some(labels)),
            Err(problem) => Err(problem.at(*span).into()),
        },
    }
}
