//! Looking at a data set with what was learned: the loss, and the scores of a classifier.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Job;
use super::learner::Learner;
use super::left_out::none_readable;
use super::prefix::PrefixCache;
use super::samples::Part;
use super::scores::Scores;
use crate::data::{Dataset, Loader};
use crate::diag::Problem;

/// What came of it.
pub struct Evaluation {
    /// The mean loss of a sample.
    pub loss: f64,
    /// Where there are classes.
    pub scores: Option<Scores>,
    /// Pictures that were left out.
    pub problems: Vec<Problem>,
    /// The classes of those that were read.
    pub seen: BTreeSet<usize>,
}

/// Evaluates `data`, with what is known of its frozen prefix.
///
/// # Errors
/// A picture that cannot be read, or no picture that can, where such are left out; a device that fails.
pub fn evaluate(
    learner: &mut dyn Learner,
    job: &Job,
    data: &Arc<Dataset>,
    cache: Option<&Arc<PrefixCache>>,
) -> Result<Evaluation, Problem> {
    let mut scores = (!job.classes.is_empty()).then(|| Scores::new(&job.classes));
    let mut problems = vec![];
    let mut seen = BTreeSet::new();
    let (mut sum, mut count) = (0.0, 0);
    let known = cache.cloned();
    let knows =
        move |samples: &[usize]| known.as_ref().is_some_and(|cache| samples.iter().all(|sample| cache.knows(*sample)));
    for batch in Loader::evaluation(Arc::clone(data), Arc::clone(&job.recipe), job.batch, knows)? {
        let batch = batch?;
        problems.extend(batch.problems);
        if batch.samples.is_empty() {
            continue;
        }
        let outputs = match cache {
            Some(cache) if batch.input.is_empty() => learner.outputs_after(&cache.batch(&batch.samples)?)?,
            Some(cache) => {
                let made = learner.run_prefix(&batch.input)?;
                cache.keep(&batch.samples, &made);
                learner.outputs_after(&made)?
            }
            None => learner.outputs(&batch.input)?,
        };
        sum += learner.loss(&outputs, &batch.targets) * batch.samples.len() as f64;
        count += batch.samples.len();
        seen.extend(data.classes_of(&batch.samples));
        if let Some(scores) = &mut scores {
            scores.add(&batch.samples, &outputs, &batch.targets);
        }
    }
    if count == 0 {
        let part = if Arc::ptr_eq(data, &job.train) { Part::Training } else { Part::Validation };
        return Err(none_readable(part, data));
    }
    Ok(Evaluation { loss: sum / count as f64, scores, problems, seen })
}
