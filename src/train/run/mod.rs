//! A training run: epochs of steps, validation, checkpoints, and what is left in the run's folder.
//!
//! A run is a function of its spec, its data and its seed. It may be cut off anywhere, by a kill or a full disk, and goes on
//! from the last checkpoint to the same bits: whatever a step depends on is in the checkpoint, and everything random is
//! drawn by (seed, epoch, sample). Knows the network only as a [`Learner`].

mod begin;
mod caches;
pub mod checkpoint;
mod evaluate;
pub mod fingerprint;
mod folder;
mod keep;
pub mod learner;
mod left_out;
mod loss;
pub mod metrics;
pub mod network;
mod prefix;
pub mod report;
mod resolved;
mod results;
pub mod samples;
pub mod scores;
pub mod setup;

use std::sync::Arc;
use std::time::{Duration, Instant};

use caches::Caches;
use checkpoint::{Best, Checkpoint, Position};
pub use evaluate::{Evaluation, evaluate};
use fingerprint::Fingerprint;
pub use folder::RunFolder;
use keep::{lost_at_the_end, of_epoch};
use learner::{Learner, Stepped};
use left_out::{LeftOut, none_readable};
pub use loss::loss;
use metrics::{Line, Metrics};
pub use resolved::{relative, resolved, says};
pub use results::{Written, write};
use samples::{Part, Samples};

use crate::data::{Batch, Data, Dataset, Loader, Order, Recipe};
use crate::diag::{Code, Diagnostics, Problem};

/// What a run does.
pub struct Job {
    pub train: Arc<Dataset>,
    pub val: Arc<Dataset>,
    /// Names of classes; none where the network answers with something else.
    pub classes: Vec<String>,
    /// The name of the loss, which says what the outputs are.
    pub loss: &'static str,
    pub recipe: Arc<Recipe>,
    pub order: Order,
    pub batch: usize,
    pub epochs: usize,
    /// Epochs without a better one after which the run ends.
    pub patience: Option<usize>,
    /// A checkpoint is written at the end of each epoch, and when the last one is as old as this.
    pub save_every: Duration,
    /// How much memory the outputs of a frozen prefix may take before they lie on the disk; None where they are not kept.
    pub prefix_memory: Option<u64>,
    /// The spec as it is to lie in the run's folder.
    pub spec: String,
    /// What the run is a function of, beside what is in this job.
    pub fingerprint: Fingerprint,
}

/// What happens during a run, for whoever watches it, and whether it should stop.
pub trait Watch {
    /// From here on [`Watch::stops`] is asked; `epochs` are those of the whole run.
    fn begin(&mut self, _epochs: usize) {}
    /// No step comes any more.
    fn end(&mut self) {}
    /// Epoch `epoch` (from 0 on) goes on at `step` of `steps`.
    fn epoch(&mut self, _epoch: usize, _step: usize, _steps: usize) {}
    fn step(&mut self, _stepped: Stepped) {}
    /// An epoch is over.
    fn epoch_done(&mut self, _line: &Line) {}
    /// Something worth a line.
    fn note(&mut self, _text: &str) {}
    /// Something that the run goes on without, such as a picture that cannot be read.
    fn warn(&mut self, _found: &Diagnostics) {}
    /// Whether the run should stop after the step at work.
    fn stops(&self) -> bool {
        false
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// All epochs are done, or patience is at an end; the epoch whose weights the learner now has.
    Done { best: Option<Best>, early: bool },
    /// It was told to stop; the checkpoint is written.
    Stopped,
}

impl Job {
    pub fn new(data: Data, recipe: Recipe, order: Order, batch: usize, epochs: usize) -> Job {
        Job {
            train: Arc::new(data.train),
            val: Arc::new(data.val),
            classes: data.classes,
            loss: "",
            recipe: Arc::new(recipe),
            order,
            batch,
            epochs,
            patience: None,
            save_every: Duration::from_secs(60),
            prefix_memory: None,
            spec: String::new(),
            fingerprint: Fingerprint::default(),
        }
    }

    /// Steps an epoch; a last short batch is one.
    pub fn steps(&self) -> usize {
        self.train.len().div_ceil(self.batch.max(1))
    }
}

/// Begins the run in `folder`, or goes on with it where it has a checkpoint, and works until it ends.
///
/// # Errors
/// A picture that cannot be read, a loss that is not finite, a disk that is full, a device that fails. The last checkpoint
/// stays good.
pub fn run(job: &Job, learner: &mut dyn Learner, folder: &RunFolder, watch: &mut dyn Watch) -> Result<Ended, Problem> {
    let mut run = Run::begin(job, learner, folder, watch)?;
    let mut early = false;
    while run.position.epoch < job.epochs {
        if job.patience.is_some_and(|patience| run.position.waited >= patience) {
            early = true;
            break;
        }
        if run.epoch()? {
            return Ok(Ended::Stopped);
        }
    }
    let best = run.position.best.clone();
    let last = run.position.epoch;
    if let Some(best) = best.as_ref().filter(|best| best.epoch != last) {
        let kept = Checkpoint::open(&folder.best()).and_then(|kept| of_epoch(kept, best.epoch));
        kept.map_err(|problem| lost_at_the_end(problem, folder, best))?.restore(learner)?;
    }
    // nothing asks for the values any more, and they may be large
    let _ = std::fs::remove_dir_all(folder.prefix());
    Ok(Ended::Done { best, early })
}

/// A run at work.
struct Run<'a> {
    job: &'a Job,
    learner: &'a mut dyn Learner,
    folder: &'a RunFolder,
    watch: &'a mut dyn Watch,
    fingerprint: Fingerprint,
    samples: Samples,
    position: Position,
    metrics: Metrics,
    saved: Instant,
    caches: Caches,
    left_out: LeftOut,
}

impl Run<'_> {
    fn warn(&mut self, problem: Problem) {
        self.watch.warn(&problem.anywhere().warning().into());
    }

    /// One epoch, or the rest of one. True where the run should stop.
    fn epoch(&mut self) -> Result<bool, Problem> {
        let job = self.job;
        let (epoch, from) = (self.position.epoch, self.position.in_epoch);
        self.learner.begin_epoch(epoch)?;
        self.prepare_caches()?;
        self.watch.epoch(epoch, from, job.steps());
        let batches = self.batches(epoch, from)?;
        self.begin_reading(from);
        for batch in batches {
            let (batch, cached) = batch?;
            self.leave_out(Part::Training, &batch.problems);
            self.has_read(&batch.samples);
            if !batch.samples.is_empty() {
                let stepped = self.step(&batch, cached)?;
                self.position.step += 1;
                self.position.add(stepped.loss, batch.samples.len());
                self.watch.step(stepped);
                let step = Some(self.position.step);
                let line = Line { step, epoch: epoch + 1, loss: stepped.loss, lr: Some(stepped.lr), ..Line::default() };
                self.metrics.add(&line).map_err(|problem| self.kept(problem))?;
            }
            self.position.in_epoch += 1;
            if self.watch.stops() {
                self.save()?;
                return Ok(true);
            }
            if self.saved.elapsed() >= job.save_every {
                self.save()?;
            }
        }
        self.end_epoch()?;
        Ok(self.watch.stops() && self.position.epoch < job.epochs)
    }

    /// Validation, the line of the epoch, the checkpoints.
    fn end_epoch(&mut self) -> Result<(), Problem> {
        let job = self.job;
        if self.position.samples == 0 {
            return Err(none_readable(Part::Training, &job.train)).map_err(|problem| self.kept(problem));
        }
        self.tell_training_classes();
        let epoch = self.position.epoch + 1;
        let mut line = Line { epoch, loss: self.position.mean_loss(), ..Line::default() };
        let mut is_best = false;
        if !job.val.is_empty() {
            let found = evaluate(self.learner, job, &job.val, self.caches.val.as_ref());
            let found = found.map_err(|problem| self.kept(problem))?;
            self.leave_out(Part::Validation, &found.problems);
            self.tell_classes(Part::Validation, &found.seen);
            let accuracy = found.scores.as_ref().map(scores::Scores::accuracy);
            line.val_loss = Some(found.loss);
            line.val_accuracy = accuracy;
            if !found.loss.is_finite() {
                let what = format!("the validation loss of epoch {epoch} is not finite: {}", found.loss);
                self.warn(
                    Problem::new(Code::NonFinite, what)
                        .note("the training loss is: look at what eval mode alone uses, the running statistics"),
                );
            }
            let now = Best::new(epoch, accuracy, found.loss);
            is_best = self.position.best.as_ref().is_none_or(|best| now.beats(best));
            if is_best {
                self.position.best = Some(now);
                self.position.waited = 0;
            } else {
                self.position.waited += 1;
            }
        }
        self.metrics.add(&line).map_err(|problem| self.kept(problem))?;
        self.position.begin_epoch();
        self.watch.epoch_done(&line);
        self.tell_left_out();
        self.tell_broken();
        if is_best {
            self.position.metrics = self.metrics.bytes();
            self.save_as(&self.folder.best())?;
        }
        self.save()
    }

    fn step(&mut self, batch: &Batch, cached: bool) -> Result<Stepped, Problem> {
        let stepped = match &self.caches.train {
            Some(cache) => {
                let values = match cached {
                    true => cache.batch(&batch.samples)?,
                    false => {
                        let made = self.learner.run_prefix(&batch.input)?;
                        cache.keep(&batch.samples, &made);
                        made
                    }
                };
                self.learner.step_after(&values, &batch.targets)
            }
            None => self.learner.step(&batch.input, &batch.targets),
        };
        stepped.map_err(|problem| if problem.code == Code::NonFinite { self.kept(problem) } else { problem })
    }

    /// The batches of an epoch from a step on, and whether their prefix is known, in which case nothing is decoded.
    fn batches(
        &self,
        epoch: usize,
        from: usize,
    ) -> Result<impl Iterator<Item = Result<(Batch, bool), Problem>> + use<>, Problem> {
        let job = self.job;
        let cache = self.caches.train.clone();
        let knows = move |samples: &[usize]| {
            cache.as_ref().is_some_and(|cache| samples.iter().all(|sample| cache.knows(*sample)))
        };
        let loader = Loader::training(
            Arc::clone(&job.train),
            Arc::clone(&job.recipe),
            job.order,
            job.batch,
            (epoch, from),
            knows,
        )?;
        Ok(loader.map(|batch| {
            batch.map(|batch| {
                let cached = batch.input.is_empty();
                (batch, cached)
            })
        }))
    }
}

#[cfg(test)]
mod tests;
