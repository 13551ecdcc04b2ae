//! The answers of a network as `run` prints them: classes with probabilities, numbers, or tensors in short.

use crate::answers::Answer;
use crate::diag::one_line;
use crate::exec::samples::{Moments, Sampled};
use crate::io::labels::Labels;
use crate::io::results::{Covered, Numbers, Range, Results, Row, Scores, Summary, classify, probabilities, shares};
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
        match self.values(&outputs) {
            Some(values) => self.tell(names, values.each(), None),
            None => self.sum_up(&outputs, &[]),
        }
        self.keep(outputs);
    }

    /// What there is to add of a batch that is run several times.
    pub fn draws(&self) -> Draws {
        let whole = self.tensors.is_some() || self.answer == Answer::Tensors;
        Draws { width: 1, values: None, outputs: whole.then(Sampled::default) }
    }

    /// Adds the outputs of one of the runs of a batch.
    pub fn draw(&self, drawn: &mut Draws, outputs: &[(String, Tensor)]) {
        if let Some(values) = self.values(outputs) {
            drawn.width = values.width;
            drawn.values.get_or_insert_default().add(values.values.into_iter());
        } else {
            // whatever the answer was taken for
            drawn.outputs.get_or_insert_default();
        }
        if let Some(sampled) = &mut drawn.outputs {
            sampled.add(outputs);
        }
    }

    /// Adds a batch of several runs: means, and standard deviations beside them.
    pub fn add_drawn(&mut self, names: &[String], drawn: Draws) {
        let is_row = drawn.values.is_some();
        if let Some(values) = drawn.values {
            let stds = values.std();
            self.tell(names, values.mean().chunks_exact(drawn.width), Some(stds.chunks_exact(drawn.width)));
        }
        let Some(outputs) = drawn.outputs else { return };
        let [mut means, mut stds] = outputs.finish();
        if !is_row {
            self.sum_up(&means, &stds);
        }
        stds.iter_mut().for_each(|(name, _)| *name = std_name(name));
        means.extend(stds);
        self.keep(means);
    }

    /// The numbers that are told of each sample; None where outputs are summed up as they are.
    fn values(&self, outputs: &[(String, Tensor)]) -> Option<Values> {
        let [(_, output)] = outputs else { return None };
        let row = output.shape().get(1).copied().unwrap_or(1).max(1);
        let double = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
        let values = match self.answer {
            Answer::Tensors => return None,
            Answer::Numbers => double(output.data().to_vec()),
            Answer::Classes(scores) => {
                output.data().chunks_exact(row).flat_map(|values| double(probabilities(values, scores))).collect()
            }
            Answer::Pixels => {
                let each = output.shape()[1..].iter().product::<usize>().max(1);
                output.data().chunks_exact(each).flat_map(|scores| shares(scores, row)).collect()
            }
        };
        Some(Values { width: row, values })
    }

    /// Adds what is told of each sample, with standard deviations where it is drawn.
    fn tell<'a>(
        &mut self,
        names: &[String],
        samples: impl Iterator<Item = &'a [f64]>,
        stds: Option<std::slice::ChunksExact<'a, f64>>,
    ) {
        let labels = self.labels.as_ref();
        let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
        let mut stds = stds.map(|stds| stds.map(Some)).into_iter().flatten().chain(std::iter::repeat(None));
        for ((name, values), stds) in names.iter().zip(samples).zip(&mut stds) {
            let single_stds = stds.map(single);
            match self.answer {
                Answer::Classes(scores) => {
                    // several classes may be right, and a file of results holds all
                    let count = if scores == Scores::Sigmoids { usize::MAX } else { TOP };
                    self.rows.extend(classify(name, &single(values), single_stds.as_deref(), count, labels));
                }
                Answer::Numbers => {
                    self.numbers.push(Numbers::new(name, &single(values), single_stds.as_deref(), labels));
                }
                Answer::Pixels => self.covered.push(Covered::new(name, values, stds, labels)),
                Answer::Tensors => {}
            }
        }
    }

    /// Adds outputs to what is said of all samples, and standard deviations where they are drawn.
    fn sum_up(&mut self, outputs: &[(String, Tensor)], stds: &[(String, Tensor)]) {
        if self.summaries.is_empty() {
            self.summaries = outputs.iter().map(|(name, _)| Summary::new(name, "f32")).collect();
        }
        for (summary, (_, tensor)) in self.summaries.iter_mut().zip(outputs) {
            summary.add(tensor);
        }
        for (summary, (_, tensor)) in self.summaries.iter_mut().zip(stds) {
            summary.add_stds(tensor);
        }
    }

    /// Keeps outputs, where they are to be.
    fn keep(&mut self, outputs: Vec<(String, Tensor)>) {
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

/// What is told of the samples of a batch: `width` numbers of each.
struct Values {
    width: usize,
    values: Vec<f64>,
}

impl Values {
    fn each(&self) -> std::slice::ChunksExact<'_, f64> {
        self.values.chunks_exact(self.width)
    }
}

/// A batch that is run several times.
pub struct Draws {
    /// Of [`Values`].
    width: usize,
    values: Option<Moments>,
    /// Outputs as they are, where these are wanted.
    outputs: Option<Sampled>,
}

/// What a file of outputs calls the standard deviations of one. No output of a user's is called so, as labels have no dots.
pub fn std_name(output: &str) -> String {
    format!("{output}.std")
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
                    let share = percent(f64::from(row.probability), row.std.map(f64::from));
                    text += &format!("  {share}  {index:>4}{label}\n");
                }
            }
        }
        Results::Numbers(samples) => {
            for sample in samples {
                text += &format!("{}\n", one_line(&sample.file));
                for (at, value) in sample.values.iter().enumerate().take(MOST_NUMBERS) {
                    let label = sample.label(at).map_or(String::new(), |label| format!("  {}", one_line(label)));
                    let index = if sample.values.len() > 1 { format!("  {at:>4}") } else { String::new() };
                    let std = sample.stds.as_ref().map_or(String::new(), |stds| format!(" +- {}", decimal(stds[at])));
                    text += &format!("  {:>12}{std}{index}{label}\n", decimal(*value));
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
                    text += &format!("  {}  {:>4}{label}\n", percent(one.share, one.std), one.index);
                }
            }
        }
        Results::Outputs(summaries) => {
            for one in summaries {
                let range =
                    |range: &Range| format!("min {:.6}  mean {:.6}  max {:.6}", range.min, range.mean(), range.max);
                let (name, values) = (one_line(&one.name), range(&one.values));
                text += &format!("{name}  {}  {:?}  {values}\n", one.dtype, one.shape);
                if let Some(stds) = &one.stds {
                    text += &format!("  standard deviation  {}\n", range(stds));
                }
            }
        }
    }
    text
}

/// A share of 1 in percent, with its standard deviation where it is drawn.
fn percent(share: f64, std: Option<f64>) -> String {
    let std = std.map_or(String::new(), |std| format!(" +- {:5.2}", std * 100.0));
    format!("{:6.2}{std} %", share * 100.0)
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
