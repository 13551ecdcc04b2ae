//! A training run: epochs of steps, validation, checkpoints, and what is left in the run's folder.
//!
//! A run is a function of its spec, its data and its seed. It may be cut off anywhere, by a kill or a full disk, and goes on
//! from the last checkpoint to the same bits: whatever a step depends on is in the checkpoint, and everything random is
//! drawn by (seed, epoch, sample). Knows the network only as a [`Learner`].

pub mod checkpoint;
mod evaluate;
pub mod fingerprint;
mod folder;
pub mod learner;
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

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use checkpoint::{Best, Checkpoint, Position};
pub use evaluate::{Evaluation, evaluate};
use fingerprint::Fingerprint;
pub use folder::RunFolder;
use learner::{Learner, Stepped};
pub use loss::loss;
use metrics::{Line, Metrics};
use prefix::{NoRoom, PrefixCache, Room};
use rayon::prelude::*;
pub use resolved::{resolved, says};
pub use results::{Written, write};
use samples::{Part, Samples};

use crate::data::{Batch, Data, Dataset, Loader, Order, Recipe};
use crate::diag::{Code, Diagnostics, Problem, count};
use crate::io::{atomic, open, picture};

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

/// What a frozen prefix made of the samples; None where nothing is kept.
#[derive(Default)]
struct Caches {
    key: Option<[u8; 32]>,
    train: Option<Arc<PrefixCache>>,
    val: Option<Arc<PrefixCache>>,
}

/// The pictures that could not be read, by what was said of them.
#[derive(Default)]
struct LeftOut {
    train: HashSet<String>,
    val: HashSet<String>,
    /// How many of both were told.
    told: (usize, usize),
}

impl<'a> Run<'a> {
    fn begin(
        job: &'a Job,
        learner: &'a mut dyn Learner,
        folder: &'a RunFolder,
        watch: &'a mut dyn Watch,
    ) -> Result<Run<'a>, Problem> {
        let path = folder.checkpoint();
        let kept = match path.exists() || folder.best().exists() {
            true => Some(Checkpoint::open(&path).map_err(|problem| from_the_best(problem, folder))?),
            false => None,
        };
        let listed = kept.as_ref().and_then(|kept| Samples::read(&folder.samples(), &kept.fingerprint.samples));
        let count = job.train.len() + job.val.len();
        if listed.is_none() && count > MANY {
            watch.note(&format!("reading {count} pictures once, so that a change of them is found"));
        }
        let samples = Samples::of(&job.train, &job.val, &job.classes, listed.as_ref());
        let fingerprint = job.fingerprint.clone().of_job(job, &samples);
        if let Some(kept) = &kept {
            kept.fingerprint.check(&fingerprint, listed.as_ref(), &samples, folder)?;
            kept.restore(learner)?;
        }
        if job.recipe.skip_corrupt {
            for (part, data) in [(Part::Training, &job.train), (Part::Validation, &job.val)] {
                let is_good =
                    |at: usize| job.recipe.evaluation(data, &[at]).is_ok_and(|batch| !batch.samples.is_empty());
                if !data.is_empty() && !(0..data.len()).into_par_iter().any(is_good) {
                    return Err(none_readable(part, data));
                }
            }
        }
        // on a disk that is full what is there already is not written again
        if !open::read(&folder.spec(), MAX_SPEC).is_ok_and(|text| text == job.spec.as_bytes()) {
            atomic::write_bytes(&folder.spec(), job.spec.as_bytes())?;
        }
        if listed.is_none_or(|listed| listed != samples) {
            samples.write(&folder.samples())?;
        }
        let begins = kept.is_none();
        if begins && std::fs::metadata(folder.metrics()).is_ok_and(|found| found.len() > 0) {
            watch.note(&format!("`{}` is not there: the run begins again", path.display()));
        }
        let position = kept.map_or_else(Position::default, |kept| kept.position);
        let metrics = Metrics::open(&folder.metrics(), position.metrics)?;
        let mut run = Run {
            job,
            learner,
            folder,
            watch,
            fingerprint,
            samples,
            position,
            metrics,
            saved: Instant::now(),
            caches: Caches::default(),
            left_out: LeftOut::default(),
        };
        if begins {
            let frozen = run.learner.frozen();
            if !frozen.is_empty() {
                run.position.frozen = results::digest(&run.learner.weights()?, &frozen);
            }
            // a run that is killed in its first epoch begins with the very same weights
            run.save()?;
        } else {
            run.goes_on()?;
        }
        Ok(run)
    }

    fn warn(&mut self, problem: Problem) {
        self.watch.warn(&problem.anywhere().warning().into());
    }

    /// Says where the run goes on, and what of its folder is lost.
    fn goes_on(&mut self) -> Result<(), Problem> {
        let (epoch, epochs) = (self.position.epoch, self.job.epochs);
        let (at, step) = ((epoch + 1).min(epochs), self.position.step);
        let note = match epoch < epochs {
            true => format!("goes on at epoch {at} of {epochs}, after step {step}"),
            false => format!("was at its end, after epoch {epochs} of {epochs}: only its results are written again"),
        };
        self.watch.note(&note);
        if let Some(lost) = self.metrics.lost() {
            let path = self.folder.metrics();
            let what = match &lost.aside {
                Some(aside) => format!(
                    "`{}` lacks lines of the {step} steps done: what it has is now in `{}`",
                    path.display(),
                    aside.display()
                ),
                None => format!("`{}` is gone with the lines of the {step} steps done", path.display()),
            };
            let problem = Problem::new(Code::Input, what);
            self.warn(problem.note("it begins anew with the next step; nothing else depends on it"));
        }
        let Some(best) = self.position.best.clone() else { return Ok(()) };
        let found = Checkpoint::open(&self.folder.best());
        // a better epoch than the checkpoint knows of comes again
        let found = found.and_then(|found| match found.position.epoch > epoch {
            true => Ok(found),
            false => of_epoch(found, best.epoch),
        });
        if let Err(problem) = found {
            if epoch >= epochs {
                return if best.epoch == epoch { Ok(()) } else { Err(lost_at_the_end(problem, self.folder, &best)) };
            }
            (self.position.best, self.position.waited) = (None, 0);
            let what =
                format!("the weights of epoch {}, the best one so far, are lost: {}", best.epoch, problem.message);
            self.warn(Problem::new(Code::Input, what).note("the best one of the epochs to come takes its place"));
        }
        Ok(())
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
            self.leave_out(Part::Training, &batch.problems);
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
        let epoch = self.position.epoch + 1;
        let mut line = Line { epoch, loss: self.position.mean_loss(), ..Line::default() };
        let mut is_best = false;
        if !job.val.is_empty() {
            let found = evaluate(self.learner, job, &job.val, self.caches.val.as_ref());
            let found = found.map_err(|problem| self.kept(problem))?;
            self.leave_out(Part::Validation, &found.problems);
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
        let (folder, room) = (self.folder.prefix(), Room { memory: limit, spare: self.spare() });
        let make = |data: &Dataset, part: Part| {
            let digest = self.samples.part_digest(part);
            PrefixCache::new(&prefix, (data.len(), &digest), &job.recipe, room, &folder).map(Arc::new)
        };
        let are = if prefix.len == 1 { "is" } else { "are" };
        let layers = format!("{} up to {} {are}", count(prefix.len, "layer"), prefix.layers.join(", "));
        let train = make(&job.train, Part::Training);
        let val = (!job.val.is_empty()).then(|| make(&job.val, Part::Validation));
        let places = [train.as_ref().ok(), val.as_ref().and_then(|val| val.as_ref().ok())];
        let places = places.into_iter().flatten().filter_map(|cache| cache.place());
        remove_others(&folder, &places.collect::<Vec<_>>());
        match train {
            Ok(train) => {
                let place = train.place().map_or("in memory".into(), |place| format!("in {}", place.display()));
                self.watch.note(&format!("frozen prefix: {layers} computed once a picture and kept {place}"));
                self.caches.train = Some(train);
            }
            Err(why) => self.watch.note(&format!("frozen prefix: {layers} computed in every step: {}", said(&why))),
        }
        match val {
            Some(Ok(val)) => self.caches.val = Some(val),
            Some(Err(why)) => {
                self.watch.note(&format!("frozen prefix: for validation computed in every epoch: {}", said(&why)));
            }
            None => {}
        }
        Ok(())
    }

    /// Remembers pictures that could not be read, and names the first ones.
    fn leave_out(&mut self, part: Part, problems: &[Problem]) {
        for problem in problems {
            let known = match part {
                Part::Training => &mut self.left_out.train,
                Part::Validation => &mut self.left_out.val,
            };
            if known.insert(problem.message.clone()) && known.len() <= NAMED {
                self.watch.warn(&problem.clone().anywhere().warning().into());
            }
        }
    }

    /// Says how many pictures the epochs go on without.
    fn tell_left_out(&mut self) {
        let now = (self.left_out.train.len(), self.left_out.val.len());
        let counts = [
            (Part::Training, self.left_out.told.0, now.0, self.job.train.len()),
            (Part::Validation, self.left_out.told.1, now.1, self.job.val.len()),
        ];
        for (part, told, count, all) in counts {
            if count > told {
                let text = format!("left out: {count} of {all} {} pictures, which cannot be read", part.name());
                self.watch.note(&text);
            }
        }
        self.left_out.told = now;
    }

    /// Says where the disk has failed a frozen prefix.
    fn tell_broken(&mut self) {
        for cache in [&self.caches.train, &self.caches.val].into_iter().flatten() {
            if let Some(problem) = cache.failure() {
                let message = format!("no more values of the frozen prefix are kept: {}", problem.message);
                self.watch.warn(&Problem { message, ..problem }.anywhere().warning().into());
            }
        }
    }

    fn save(&mut self) -> Result<(), Problem> {
        self.position.metrics = self.metrics.bytes();
        self.save_as(&self.folder.checkpoint())?;
        self.saved = Instant::now();
        Ok(())
    }

    fn save_as(&mut self, path: &Path) -> Result<(), Problem> {
        let Err(problem) = checkpoint::save(path, self.learner, &self.position, &self.fingerprint) else {
            return Ok(());
        };
        let prefix = self.folder.prefix();
        let is_full =
            problem.code == Code::Output && prefix::free(self.folder.path()).is_some_and(|free| free < self.spare());
        let problem = match is_full && prefix.exists() && std::fs::remove_dir_all(&prefix).is_ok() {
            true => problem
                .note(format!("the values of the frozen prefix, `{}`, are removed to make room", prefix.display())),
            false => problem,
        };
        Err(self.kept(problem))
    }

    /// What checkpoints take on the disk: the last one, the best one, and the one that is being written.
    fn spare(&self) -> u64 {
        let one = std::fs::metadata(self.folder.checkpoint()).map_or(0, |found| found.len());
        3 * one + METRICS_MAY_GROW
    }

    /// Says which checkpoint is left, and what it is good for.
    fn kept(&self, problem: Problem) -> Problem {
        let path = self.folder.checkpoint();
        let Ok(kept) = Checkpoint::open(&path) else { return problem };
        let is_doomed = problem.code == Code::NonFinite;
        let problem =
            problem.note(format!("the checkpoint after step {} is kept: {}", kept.position.step, path.display()));
        match is_doomed {
            // the same steps with the same numbers
            true => problem.hint(
                "`--resume` would come to the same: change the spec, and begin a new run in another folder: `--out`",
            ),
            false => problem.hint("go on from there with `--resume`, once the reason is gone"),
        }
    }
}

/// Bytes of lines of metrics.
const METRICS_MAY_GROW: u64 = 1 << 20;

/// How many pictures that cannot be read are named, of each part.
const NAMED: usize = 8;

/// Bytes of a spec that are compared.
const MAX_SPEC: u64 = 1 << 26;

/// Pictures whose reading takes long enough to say so.
const MANY: usize = 20_000;

fn none_readable(part: Part, data: &Dataset) -> Problem {
    let message = format!("none of the {} {} pictures can be read", data.len(), part.name());
    let problem = Problem::new(Code::Input, message);
    let problem = match data.samples.first().and_then(|first| picture::read(&first.path).err()) {
        Some(first) => problem.note(format!("the first one: {}", first.message)),
        None => problem,
    };
    problem.hint("`skip_corrupt = true` leaves out single pictures; look at the folder that the `data` line names")
}

/// The checkpoint, where it is that of the end of an epoch.
fn of_epoch(kept: Checkpoint, epoch: usize) -> Result<Checkpoint, Problem> {
    match kept.position.epoch == epoch {
        true => Ok(kept),
        false => Err(Problem::new(Code::Input, format!("`{BEST}` is that of epoch {}", kept.position.epoch))),
    }
}

const BEST: &str = "checkpoint.best";

fn lost_at_the_end(problem: Problem, folder: &RunFolder, best: &Best) -> Problem {
    let what = format!("the weights of epoch {}, the best one, are lost: {}", best.epoch, problem.message);
    let problem = Problem::new(Code::Input, what);
    let problem = match folder.model().is_file() {
        true => problem.note(format!("all epochs are done, and `{}` is left as it is", folder.model().display())),
        false => problem,
    };
    problem.hint(format!("put `{}` back", folder.best().display())).hint("or begin again in another folder: `--out`")
}

/// Where the last checkpoint cannot be gone on with, the one of the best epoch may do.
fn from_the_best(problem: Problem, folder: &RunFolder) -> Problem {
    let (last, best) = (folder.checkpoint(), folder.best());
    let problem = match last.exists() {
        true => problem,
        false => Problem::new(Code::Input, format!("`{}` is gone", last.display())),
    };
    match Checkpoint::open(&best) {
        Ok(kept) => problem.hint(format!(
            "the checkpoint of the best epoch is whole: `cp {} {}`, and `--resume` goes on after epoch {}",
            best.display(),
            last.display(),
            kept.position.epoch
        )),
        Err(_) if problem.hints.is_empty() => problem.hint("begin again in another folder: `--out`"),
        Err(_) => problem,
    }
}

/// Removes the files of prefixes that no step asks for any more.
fn remove_others(folder: &Path, kept: &[&Path]) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !kept.contains(&entry.path().as_path()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    // only an empty one goes
    let _ = std::fs::remove_dir(folder);
}

fn said(why: &NoRoom) -> String {
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let free = why.free.map_or(String::new(), |free| format!(", {} are free", gigabytes(free)));
    format!("what they make takes {} on the disk{free} ({})", gigabytes(why.needed), why.reason)
}

#[cfg(test)]
mod tests;
