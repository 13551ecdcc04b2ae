//! The answers of a network as `run` prints them: classes with probabilities, numbers, or tensors in short.

use crate::answers::Answer;
use crate::diag::one_line;
use crate::io::labels::Labels;
use crate::io::results::{Covered, Numbers, Results, Row, Scores, Summary, classify};
use crate::tensor::Tensor;

/// Classes that are printed a picture.
const TOP: usize = 5;
/// Numbers that are printed a picture.
const MOST_NUMBERS: usize = 16;

/// What has come out so far.
pub struct Collected {
    answer: Answer,
    labels: Option<Labels>,
    rows: Vec<Row>,
    numbers: Vec<Numbers>,
    covered: Vec<Covered>,
    summaries: Vec<Summary>,
    tensors: Option<Vec<(String, Tensor)>>,
}

impl Collected {
    /// Outputs themselves are kept where `keeps_tensors`.
    pub fn new(answer: Answer, labels: Option<Labels>, keeps_tensors: bool) -> Collected {
        let tensors = keeps_tensors.then(Vec::new);
        Collected { answer, labels, rows: vec![], numbers: vec![], covered: vec![], summaries: vec![], tensors }
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
            (Answer::Pixels, [(_, output)]) => {
                let classes = output.shape().get(1).copied().unwrap_or(1);
                let each = output.len() / names.len().max(1);
                let samples = names.iter().zip(output.data().chunks_exact(each.max(1)));
                let labels = self.labels.as_ref();
                self.covered.extend(samples.map(|(name, scores)| Covered::new(name, scores, classes, labels)));
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
            Answer::Pixels => Results::Pixels(self.covered),
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
        Results::Pixels(samples) => {
            for sample in samples {
                let file = one_line(&sample.file);
                text += &format!("{file}  {} of {} classes\n", sample.found.len(), sample.classes);
                for one in sample.found.iter().take(TOP) {
                    let label = one.label.as_deref().map_or(String::new(), |label| format!("  {}", one_line(label)));
                    text += &format!("  {:6.2} %  {:>4}{label}\n", one.share * 100.0, one.index);
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
