//! report.html: what a run came to, in one file that needs nothing else: curves, the confusion matrix, the worst mistakes
//! with their pictures, or inputs and reconstructions, the ledger and the spec.

mod page;
mod svg;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::learner::Learner;
use super::metrics::Line;
use super::scores::Scores;
use super::{Evaluation, Job, evaluate};
use crate::data::{Dataset, Want};
use crate::diag::Problem;
use crate::io::atomic;
use crate::io::picture::{self, Rgb};
use crate::io::png;
use crate::io::preprocess::in_channels;

/// Inputs and reconstructions that are shown.
const PAIRS: usize = 12;

/// What a report shows.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The spec's name.
    pub name: String,
    /// Rows of the table at the top.
    pub facts: Vec<(String, String)>,
    /// The lines of metrics.jsonl.
    pub lines: Vec<Line>,
    pub scores: Option<Scores>,
    /// The pictures of [`Scores::worst`], as the network sees them.
    pub mistakes: Vec<Rgb>,
    /// Inputs and what the network makes of them.
    pub pairs: Vec<(Rgb, Rgb)>,
    /// The weights' ledger: fates and keys.
    pub ledger: Vec<(String, Vec<String>)>,
    /// The text of the spec.
    pub spec: String,
}

impl Report {
    /// Evaluates the network on the samples kept for validation (on the training samples where there are none), and keeps
    /// what is to be shown.
    ///
    /// # Errors
    /// A picture that cannot be read, a device that fails.
    pub fn look(&mut self, learner: &mut dyn Learner, job: &Job) -> Result<Evaluation, Problem> {
        let data = if job.val.is_empty() { &job.train } else { &job.val };
        let found = evaluate(learner, job, data, None)?;
        if let Some(scores) = &found.scores {
            let seen = scores.worst.iter().map(|mistake| seen(job, data, mistake.sample));
            self.mistakes = seen.collect::<Result<_, _>>()?;
            self.scores = Some(scores.clone());
        }
        if job.recipe.want == Want::Image {
            // of all classes, as they follow one another
            let count = data.len().min(PAIRS);
            let samples: Vec<usize> = (0..count).map(|at| at * data.len() / count).collect();
            for samples in samples.chunks(job.batch) {
                let batch = job.recipe.evaluation(data, samples)?;
                if batch.samples.is_empty() {
                    continue;
                }
                let outputs = learner.outputs(&batch.input)?;
                let preprocess = job.recipe.preprocess.clone().unwrap_or_default();
                let len: usize = job.recipe.input.iter().product();
                let pictures = |values: &[f32]| preprocess.picture(values, job.recipe.input);
                let pairs = batch.input.data().chunks_exact(len).zip(outputs.data().chunks_exact(len));
                self.pairs.extend(pairs.map(|(input, output)| (pictures(input), pictures(output))));
            }
        }
        Ok(found)
    }

    /// Writes the page.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Problem> {
        atomic::write_bytes(path, page::page(self).as_bytes())
    }
}

/// A sample's pixels as the network sees them.
fn seen(job: &Job, data: &Dataset, sample: usize) -> Result<Rgb, Problem> {
    let picture = picture::read(&data.samples[sample].path)?;
    let [channels, height, width] = job.recipe.input;
    let preprocess = job.recipe.preprocess.clone().unwrap_or_default();
    Ok(preprocess.sized(&in_channels(&picture, channels), height, width))
}

/// A picture as the address of an image: a PNG file in base64.
fn data_url(picture: &Rgb) -> String {
    use base64::Engine;
    // an empty picture has no pixels to show
    let png = png::encode(picture.data(), picture.width(), picture.height(), 3).unwrap_or_default();
    format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(png))
}
