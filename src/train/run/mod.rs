//! A training run: epochs of steps, validation, checkpoints, and what is left in the run's folder.
//!
//! A run is a function of its spec, its data and its seed. It may be cut off anywhere, by a kill or a full disk, and goes on
//! from the last checkpoint to the same bits: whatever a step depends on is in the checkpoint, and everything random is
//! drawn by (seed, epoch, sample). Knows the network only as a [`Learner`].

pub mod checkpoint;
mod evaluate;
mod folder;
pub mod learner;
mod loss;
pub mod metrics;
pub mod network;
mod prefix;
pub mod report;
mod resolved;
mod results;
pub mod scores;
pub mod setup;

use std::sync::Arc;
use std::time::{Duration, Instant};

use checkpoint::{Best, Position};
pub use evaluate::{Evaluation, evaluate};
pub use folder::RunFolder;
use learner::{Learner, Stepped};
pub use loss::loss;
use metrics::{Line, Metrics};
use prefix::PrefixCache;
pub use resolved::{resolved, says};
pub use results::{Written, write};

use crate::data::{Batch, Data, Dataset, Loader, Order, Recipe};
use crate::diag::{Code, Problem};

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
    /// A digest of the spec and what it is given.
    pub spec: String,
}

/// What happens during a run, for whoever watches it, and whether it should stop.
pub trait Watch {
    /// Epoch `epoch` (from 0 on) goes on at `step` of `steps`.
    fn epoch(&mut self, _epoch: usize, _step: usize, _steps: usize) {}
    fn step(&mut self, _stepped: Stepped) {}
    /// An epoch is over.
    fn epoch_done(&mut self, _line: &Line) {}
    /// Something worth a line.
    fn note(&mut self, _text: &str) {}
    /// Pictures that were left out.
    fn skipped(&mut self, _problem: &Problem) {}
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
    if best.as_ref().is_some_and(|best| best.epoch != last) {
        checkpoint::load(&folder.best(), learner)?;
    }
    Ok(Ended::Done { best, early })
}

/// A run at work.
struct Run<'a> {
    job: &'a Job,
    learner: &'a mut dyn Learner,
    folder: &'a RunFolder,
    watch: &'a mut dyn Watch,
    position: Position,
    metrics: Metrics,
    saved: Instant,
    caches: Caches,
    told: Vec<String>,
}

/// What a frozen prefix made of the samples; None where nothing is kept.
#[derive(Default)]
struct Caches {
    key: Option<[u8; 32]>,
    train: Option<Arc<PrefixCache>>,
    val: Option<Arc<PrefixCache>>,
}

impl<'a> Run<'a> {
    fn begin(
        job: &'a Job,
        learner: &'a mut dyn Learner,
        folder: &'a RunFolder,
        watch: &'a mut dyn Watch,
    ) -> Result<Run<'a>, Problem> {
        let mut position = Position { spec: job.spec.clone(), ..Position::default() };
        let there = folder.checkpoint().exists();
        if there {
            position = checkpoint::load(&folder.checkpoint(), learner)?;
            if position.spec != job.spec {
                let message = format!("the run in `{}` is of another spec or other data", folder.path().display());
                return Err(Problem::new(Code::Input, message)
                    .hint("begin a new one in another folder: `--out`")
                    .hint(format!("what it was begun with is in `{}`", folder.spec().display())));
            }
            watch.note(&format!(
                "goes on at epoch {} of {}, after step {}",
                (position.epoch + 1).min(job.epochs),
                job.epochs,
                position.step
            ));
        }
        let metrics = Metrics::open(&folder.metrics(), position.metrics)?;
        let mut run = Run {
            job,
            learner,
            folder,
            watch,
            position,
            metrics,
            saved: Instant::now(),
            caches: Caches::default(),
            told: vec![],
        };
        if there {
            return Ok(run);
        }
        let frozen = run.learner.frozen();
        if !frozen.is_empty() {
            run.position.frozen = results::digest(&run.learner.weights()?, &frozen);
        }
        // a run that is killed in its first epoch begins with the very same weights
        run.save()?;
        Ok(run)
    }

    /// One epoch, or the rest of one. True where the run should stop.
    fn epoch(&mut self) -> Result<bool, Problem> {
        let job = self.job;
        let (epoch, from) = (self.position.epoch, self.position.in_epoch);
        self.learner.begin_epoch(epoch)?;
        self.prepare_caches()?;
        self.watch.epoch(epoch, from, job.steps());
        let batches = self.batches(epoch, from)?;
        for batch in batches {
            let (batch, cached) = batch?;
            self.tell_skipped(&batch);
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
        let epoch = self.position.epoch + 1;
        let mut line = Line { epoch, loss: self.position.mean_loss(), ..Line::default() };
        let mut is_best = false;
        if !job.val.is_empty() {
            let found = evaluate(self.learner, job, &job.val, self.caches.val.as_ref())?;
            found.problems.iter().for_each(|problem| self.watch.skipped(problem));
            let accuracy = found.scores.as_ref().map(scores::Scores::accuracy);
            line.val_loss = Some(found.loss);
            line.val_accuracy = accuracy;
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
        if is_best {
            self.position.metrics = self.metrics.bytes();
            self.save_as(&self.folder.best())?;
        }
        self.save()
    }

    fn step(&mut self, batch: &Batch, cached: bool) -> Result<Stepped, Problem> {
        let stepped = match &self.caches.train {
            Some(cache) => {
                if !cached {
                    let made = self.learner.run_prefix(&batch.input)?;
                    cache.keep(&batch.samples, &made);
                }
                let values = cache.batch(&batch.samples);
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

    /// Makes the caches of the epoch's frozen prefix, unless they are there already.
    fn prepare_caches(&mut self) -> Result<(), Problem> {
        let job = self.job;
        let prefix = match job.prefix_memory {
            Some(_) if job.recipe.is_fixed() => self.learner.prefix(),
            _ => None,
        };
        let key = prefix.as_ref().map(|prefix| prefix.key);
        if key == self.caches.key {
            return Ok(());
        }
        self.caches = Caches { key, train: None, val: None };
        let (Some(prefix), Some(limit)) = (prefix, job.prefix_memory) else { return Ok(()) };
        let make = |data: &Dataset| PrefixCache::new(&prefix, data, &job.recipe, limit, &self.folder.prefix());
        let train = make(&job.train)?;
        let place = train.place().map_or("in memory".into(), |place| format!("in {}", place.display()));
        self.watch.note(&format!(
            "frozen prefix: {} layers up to {} are computed once a picture and kept {place}",
            prefix.len,
            prefix.layers.join(", ")
        ));
        self.caches.train = Some(Arc::new(train));
        if !job.val.is_empty() {
            self.caches.val = Some(Arc::new(make(&job.val)?));
        }
        Ok(())
    }

    fn tell_skipped(&mut self, batch: &Batch) {
        for problem in &batch.problems {
            if !self.told.contains(&problem.message) {
                self.told.push(problem.message.clone());
                self.watch.skipped(problem);
            }
        }
    }

    fn save(&mut self) -> Result<(), Problem> {
        self.position.metrics = self.metrics.bytes();
        self.save_as(&self.folder.checkpoint())?;
        self.saved = Instant::now();
        Ok(())
    }

    fn save_as(&mut self, path: &std::path::Path) -> Result<(), Problem> {
        checkpoint::save(path, self.learner, &self.position).map_err(|problem| self.kept(problem))
    }

    /// Says which checkpoint is left.
    fn kept(&self, problem: Problem) -> Problem {
        match checkpoint::position(&self.folder.checkpoint()) {
            Ok(position) => problem
                .note(format!(
                    "the checkpoint after step {} is kept: {}",
                    position.step,
                    self.folder.checkpoint().display()
                ))
                .hint("go on from there with `--resume`, once the reason is gone"),
            Err(_) => problem,
        }
    }
}

#[cfg(test)]
mod tests;
