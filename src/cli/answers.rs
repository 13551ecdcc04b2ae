//! What the outputs of a network mean, and how `run` prints them: classes with probabilities, numbers, or tensors in short.
//!
//! The loss that a network learned by says what its output is: cross entropy a class of several, binary cross entropy
//! classes that are right or not each for itself, any other loss numbers. It is known from the trained file's metadata,
//! or from the spec's `train` block. Without either a row of outputs is one of classes, but a single output is a number.

use super::Failure;
use super::args::WeightArgs;
use crate::bind::Bound;
use crate::compile::Compiled;
use crate::diag::{Code, Diagnostics, Problem, one_line};
use crate::graph::OWN_OUTPUT;
use crate::io::labels::Labels;
use crate::io::results::{Numbers, Results, Row, Scores, Summary, classify};
use crate::settings::LabelsSource;
use crate::tensor::Tensor;
use crate::typed::Typed;

/// Classes that are printed a picture.
const TOP: usize = 5;
/// Numbers that are printed a picture.
const MOST_NUMBERS: usize = 16;

/// What a network answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Classes(Scores),
    Numbers,
    /// Anything but one row of values a sample.
    Tensors,
}

/// What the network answers with. `loss` is what it learned by, where that is known.
pub fn answer(typed: &Typed, loss: Option<&str>) -> Answer {
    if typed.graph().outputs().len() == 1 { own_answer(typed, loss) } else { Answer::Tensors }
}

/// The same of the network's own output, whatever others it has.
pub fn own_answer(typed: &Typed, loss: Option<&str>) -> Answer {
    let Some(output) = typed.graph().outputs().get(OWN_OUTPUT) else { return Answer::Tensors };
    let shape = typed.shape(output.node);
    if !shape.batched || shape.rank() != 2 {
        return Answer::Tensors;
    }
    let last = typed.graph().node(output.node).op.name();
    match loss {
        Some("mse" | "l1" | "huber") => Answer::Numbers,
        Some("bce_with_logits") if last != "sigmoid" => Answer::Classes(Scores::Sigmoids),
        None if shape.dims == [1] => Answer::Numbers,
        _ if matches!(last, "softmax" | "sigmoid") => Answer::Classes(Scores::Probabilities),
        _ => Answer::Classes(Scores::Logits),
    }
}

/// The name of the loss that the network learned by, or is to learn by.
pub fn loss_of(compiled: &Compiled, bound: &Bound, source: &WeightArgs) -> Option<String> {
    let learned = bound.metadata().get("loss").cloned();
    let block = compiled.train.as_ref().and_then(|spec| spec.choice("loss")).map(|choice| choice.name().to_string());
    match source.weights {
        Some(_) => learned.or(block),
        // the file is the base's, and speaks of another output where an edit made this one
        None => block.or(learned.filter(|_| is_of_base(compiled))),
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
pub fn names(compiled: &Compiled, bound: &Bound, source: &WeightArgs) -> Result<Option<Labels>, Failure> {
    match trained(compiled, bound, source)? {
        Some(labels) => Ok(Some(labels)),
        None => spec_names(compiled),
    }
}

/// The class names that a trained file carries.
///
/// # Errors
/// If there are more or fewer than the network has outputs, and no edit has made these.
pub fn trained(compiled: &Compiled, bound: &Bound, source: &WeightArgs) -> Result<Option<Labels>, Failure> {
    let names = bound.metadata().get("classes").cloned();
    let Some(names) = names.and_then(|names| serde_json::from_str::<Vec<String>>(&names).ok()) else { return Ok(None) };
    let Some(classes) = classes(&compiled.typed) else { return Ok(None) };
    if names.len() == classes {
        return Ok(Some(Labels::from(names)));
    }
    if source.weights.is_none() && !is_of_base(compiled) {
        return Ok(None);
    }
    let file = bound.file().unwrap_or_else(|| "the weights".into());
    let message = format!("the network gives {classes} classes, {file} names {}", names.len());
    Err(Problem::new(Code::WeightsFile, message)
        .note("the names are in the file's metadata, under `classes`")
        .hint("save it with as many names as the network has outputs, or without")
        .into())
}

/// The class names that the spec gives.
///
/// # Errors
/// A file of names that cannot be read.
pub fn spec_names(compiled: &Compiled) -> Result<Option<Labels>, Failure> {
    match &compiled.settings.labels {
        None => Ok(None),
        Some(LabelsSource::Imagenet) => Ok(Some(Labels::imagenet())),
        Some(LabelsSource::File(path, span)) => match Labels::load(path) {
            Ok(labels) => Ok(Some(labels)),
            Err(problem) => Err(Diagnostics::from(problem.at(*span)).into()),
        },
    }
}

/// How many values the network's own output has, where it is a row.
fn classes(typed: &Typed) -> Option<usize> {
    let shape = typed.shape(typed.graph().outputs().get(OWN_OUTPUT)?.node);
    (shape.batched && shape.rank() == 2).then(|| shape.dims[0])
}

/// What has come out so far.
pub struct Collected {
    answer: Answer,
    labels: Option<Labels>,
    rows: Vec<Row>,
    numbers: Vec<Numbers>,
    summaries: Vec<Summary>,
    tensors: Option<Vec<(String, Tensor)>>,
}

impl Collected {
    /// Outputs themselves are kept where `keeps_tensors`.
    pub fn new(answer: Answer, labels: Option<Labels>, keeps_tensors: bool) -> Collected {
        let tensors = keeps_tensors.then(Vec::new);
        Collected { answer, labels, rows: vec![], numbers: vec![], summaries: vec![], tensors }
    }

    /// Adds the outputs of a batch, whose samples are called `names`.
    pub fn add(&mut self, names: &[String], outputs: Vec<(String, Tensor)>) {
        match (self.answer, outputs.as_slice()) {
            (Answer::Classes(scores), [(_, output)]) => {
                // several classes may be right, and a file of results holds all
                let count = if scores == Scores::Sigmoids { usize::MAX } else { TOP };
                for (name, values) in names.iter().zip(samples(output)) {
                    self.rows.extend(classify(name, values, scores, count, self.labels.as_ref()));
                }
            }
            (Answer::Numbers, [(_, output)]) => {
                let samples = names.iter().zip(samples(output));
                self.numbers.extend(samples.map(|(name, values)| Numbers::new(name, values, self.labels.as_ref())));
            }
            _ => {
                if self.summaries.is_empty() {
                    self.summaries = outputs.iter().map(|(name, _)| Summary::new(name, "f32")).collect();
                }
                for (summary, (_, tensor)) in self.summaries.iter_mut().zip(&outputs) {
                    summary.add(tensor);
                }
            }
        }
        let Some(kept) = &mut self.tensors else { return };
        if kept.is_empty() {
            *kept = outputs;
            return;
        }
        for ((_, whole), (_, more)) in kept.iter_mut().zip(outputs) {
            let mut shape = whole.shape().to_vec();
            if let (Some(samples), Some(added)) = (shape.first_mut(), more.shape().first()) {
                *samples += added;
            }
            let old = std::mem::replace(whole, Tensor::zeros([0]));
            let data: Vec<f32> = [old.into_data(), more.into_data()].concat();
            *whole = Tensor::new(shape, data);
        }
    }

    /// The results, and the outputs where they were kept.
    pub fn finish(self) -> (Results, Vec<(String, Tensor)>) {
        let results = match self.answer {
            Answer::Classes(_) => Results::Classes(self.rows),
            Answer::Numbers => Results::Numbers(self.numbers),
            // where nothing could be read there is nothing to say
            Answer::Tensors => Results::Outputs(self.summaries),
        };
        (results, self.tensors.unwrap_or_default())
    }
}

/// The rows of an output [N, values].
fn samples(output: &Tensor) -> impl Iterator<Item = &[f32]> {
    output.data().chunks_exact(output.shape().get(1).copied().unwrap_or(1).max(1))
}

/// Results as `run` prints them.
pub fn text(results: &Results) -> String {
    let mut text = String::new();
    match results {
        Results::Classes(rows) => {
            // a file may have been given twice: a sample begins with rank 1
            for sample in rows.chunk_by(|_, next| next.rank != 1) {
                text += &format!("{}\n", one_line(&sample[0].file));
                for row in sample.iter().filter(|row| row.rank <= TOP || row.probability >= 0.5) {
                    let index = row.index.to_string();
                    let label = row.label.as_deref().map_or(String::new(), |label| format!("  {}", one_line(label)));
                    text += &format!("  {:6.2} %  {index:>4}{label}\n", row.probability * 100.0);
                }
            }
        }
        Results::Numbers(samples) => {
            for sample in samples {
                text += &format!("{}\n", one_line(&sample.file));
                for (index, value) in sample.values.iter().enumerate().take(MOST_NUMBERS) {
                    let label = sample.label(index).map_or(String::new(), |label| format!("  {}", one_line(label)));
                    let index = if sample.values.len() > 1 { format!("  {index:>4}") } else { String::new() };
                    text += &format!("  {:>12}{index}{label}\n", decimal(*value));
                }
                match sample.values.len().saturating_sub(MOST_NUMBERS) {
                    0 => {}
                    more => text += &format!("  and {more} more\n"),
                }
            }
        }
        Results::Outputs(summaries) => {
            for one in summaries {
                text += &format!(
                    "{}  {}  {:?}  min {:.6}  mean {:.6}  max {:.6}\n",
                    one_line(&one.name),
                    one.dtype,
                    one.shape,
                    one.min,
                    one.mean(),
                    one.max
                );
            }
        }
    }
    text
}

/// Six digits behind the point, or an exponent where these say nothing.
fn decimal(value: f32) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() || (1e-3..1e7).contains(&size) {
        format!("{value:.6}")
    } else {
        format!("{value:.6e}")
    }
}
