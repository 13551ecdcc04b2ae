//! Training as a spec's `train` block says, into a folder that a run may be taken up from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use indexmap::IndexMap;

use super::{Error, Model, Options};
use crate::bind::Bound;
use crate::card::{self, Card, Made, Seen, Stamped, Training};
use crate::data::{DataSource, Recipe};
use crate::diag::{At, Code, Diagnostics, Problem};
use crate::exec::device::Device;
use crate::exec::learning::Learns;
use crate::train::run::checkpoint::{Best, Checkpoint};
use crate::train::run::fingerprint::Fingerprint;
use crate::train::run::metrics;
use crate::train::run::network::{NetworkLearner, Pace};
use crate::train::run::report::Report;
use crate::train::run::samples::Samples;
use crate::train::run::setup::{Given, Setup, setup};
use crate::train::run::{self, Ended, Job, RunFolder, Watch, Written};
use crate::train::stage::stages;
use crate::train::{TrainSpec, frozen_at_random};
use crate::weights::WeightsSource;
use crate::words::Choices;

/// How much memory the outputs of a frozen prefix may take before they lie on the disk.
const PREFIX_MEMORY: u64 = 2 << 30;

/// A network that learns as its spec says, on a device.
///
/// What is random is drawn by the seed, the epoch and the sample: the same spec, data and seed give the same bits, however
/// often a run is cut off and taken up again.
pub struct Trainer {
    model: Model,
    device: Arc<dyn Learns>,
    options: Options,
    prefix_memory: Option<u64>,
    has_card: bool,
}

/// How a run in a folder begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In a folder that is not there yet, or empty.
    Fresh,
    /// From the folder's last checkpoint.
    Resume,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Trained {
    /// The folder holds the weights of the best epoch, and a report.
    Done(Results),
    /// It was told to stop, and may go on from this checkpoint.
    Stopped { checkpoint: PathBuf },
}

/// What a run came to. Its text is a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// The epoch whose weights were kept, from 1 on; None without validation.
    pub epoch: Option<usize>,
    /// Whether the figures are of samples kept for validation.
    pub is_validated: bool,
    pub loss: f64,
    /// Of a classifier.
    pub accuracy: Option<f64>,
    /// Tensors in the file of weights.
    pub tensors: usize,
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(epoch) = self.epoch {
            write!(f, "epoch {epoch}: ")?;
        }
        let on = if self.is_validated { "validation" } else { "training" };
        write!(f, "{on} loss {:.4}", self.loss)?;
        match self.accuracy {
            Some(accuracy) => write!(f, ", accuracy {:.2} %", accuracy * 100.0),
            None => Ok(()),
        }
    }
}

impl Results {
    /// The figures by name, as the Hugging Face hub calls them.
    pub(super) fn figures(&self) -> IndexMap<String, f64> {
        let figures =
            [("loss", Some(self.loss)), ("accuracy", self.accuracy), ("epoch", self.epoch.map(|epoch| epoch as f64))];
        figures.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))).collect()
    }
}

impl Trainer {
    pub(super) fn new(model: Model, device: Device, options: Options) -> Result<Trainer, Error> {
        if model.compiled().train.is_none() {
            let problem = Problem::new(Code::Train, format!("{} has no `train` block", model.name()))
                .hint("`train { data folder(\"digits\"); loss cross_entropy }`");
            return Err(problem.into());
        }
        let device = device.learns(options.precision())?;
        Ok(Trainer { model, device, options, prefix_memory: Some(PREFIX_MEMORY), has_card: true })
    }

    /// Computes what a frozen prefix makes of a sample anew in each epoch, where it is kept otherwise.
    pub fn without_prefix_cache(self) -> Trainer {
        Trainer { prefix_memory: None, ..self }
    }

    /// Leaves the model card out, README.md in the run's folder.
    pub fn without_card(self) -> Trainer {
        Trainer { has_card: false, ..self }
    }

    /// Works in `folder` until the run ends: metrics and checkpoints on the way, weights and a report at the end.
    ///
    /// # Errors
    /// Data, weights or a folder that do not fit, each with what is wrong; a loss that is not finite; a full disk. The last
    /// checkpoint stays good.
    pub fn run(&self, folder: impl AsRef<Path>, start: Start, watch: &mut dyn Watch) -> Result<Trained, Error> {
        let (out, options) = (folder.as_ref(), &self.options);
        let (sources, file) = self.model.text();
        let compiled = self.model.compiled();
        let spec = compiled.train.as_ref().expect("it was asked for when the trainer was made");
        let placed = |found: Diagnostics| self.model.error(found);
        // before the data is read: a folder of a run in it would be said to be a class without pictures
        if let DataSource::Folder { path, .. } = &spec.data.value {
            let apart = RunFolder::check_apart(out, &compiled.settings.dir.join(path));
            apart.at(spec.data.span).map_err(|found| placed(found.into()))?;
        }
        let own_seed = run::says(sources, file, "seed");
        let Setup { mut job, config, remarks } = self.setup()?;
        if let Some(batch) = options.batch.filter(|batch| *batch != spec.batch) {
            watch.note(&format!("batch: {batch}, as `--batch` says; the spec's is {}", spec.batch));
        }
        if let (Some(seed), true) = (options.seed, own_seed) {
            let own = job.recipe.seed;
            watch.note(&format!("seed: {own}, as the spec says; `--seed {seed}` is for what has none there"));
        }
        if options.weights.is_none() {
            warn(watch, &frozen_at_random(&compiled.typed, &compiled.settings, spec));
        }
        job.prefix_memory = self.prefix_memory;
        let (mut bound, line) = self.model.bind(options)?;
        watch.note(&line);
        bound.remarks().iter().for_each(|remark| watch.note(remark));
        let preprocess = bound.settings().preprocess.clone();
        job.recipe = Arc::new(Recipe { preprocess, ..(*job.recipe).clone() });
        bound.check_memory()?;
        bound.hold()?;
        job.fingerprint = self.fingerprint(&bound)?;
        remarks.iter().for_each(|remark| watch.note(remark));
        watch.note(&format!("data: {}", data(&job)));
        if let Some(preprocess) = &bound.settings().preprocess {
            watch.note(&preprocess.to_string());
        }

        let folder = match start {
            Start::Fresh => RunFolder::create(out)?,
            Start::Resume => RunFolder::resume(out)?,
        };
        let card = self.has_card.then(|| {
            let weights = options.weights.as_deref();
            Card::begin(compiled, (sources, file), self.model.parameters(), (&bound, weights), out)
        });
        let card = card.transpose()?;
        let stages = stages(&compiled.typed, spec);
        let pace = Pace {
            schedule: spec.schedule.value,
            lr: config.optimizer.lr(),
            steps_per_epoch: job.steps() as u64,
            epochs: job.epochs as u64,
        };
        let mut learner = NetworkLearner::new(&stages, &bound, self.device.clone(), config, job.batch, pace)?;
        warn(watch, &bound.warnings());
        job.spec = run::resolved(sources, file, self.model.parameters(), out);

        let began = Instant::now();
        watch.begin(job.epochs);
        let ended = run::run(&job, &mut learner, &folder, watch);
        watch.end();
        let (best, early) = match ended? {
            Ended::Done { best, early } => (best, early),
            Ended::Stopped => return Ok(Trained::Stopped { checkpoint: folder.checkpoint() }),
        };
        let time = began.elapsed();
        if early {
            watch.note(&format!("stopped early: {} epochs without a better one", job.patience.unwrap_or(0)));
        }
        let written = run::write(&folder, &mut learner, &job)?;
        if let Some((count, digest)) = &written.frozen {
            let digest = digest.get(..16).unwrap_or(digest);
            watch.note(&format!("frozen is frozen: {count} tensors, sha256 {digest}.. before and after"));
        }
        let mut report = Report { name: self.model.name().into(), spec: job.spec.clone(), ..Report::default() };
        report.lines = metrics::read(&folder.metrics())?;
        report.ledger = self.fates(&bound);
        let found = report.look(&mut learner, &job)?;
        let results = Results {
            epoch: best.map(|best: Best| best.epoch),
            is_validated: !job.val.is_empty(),
            loss: found.loss,
            accuracy: found.scores.as_ref().map(|scores| scores.accuracy()),
            tensors: written.tensors,
        };
        report.facts = facts(&job, spec, &results, &written, time.as_secs_f64());
        report.write(&folder.report())?;
        if let Some(mut card) = card {
            card.train(training(&job, &spec.data.value, &report));
            let mut record = card.record(self.made(&folder));
            let Checkpoint { fingerprint, .. } = Checkpoint::open(&folder.checkpoint())?;
            record.data =
                Some(Seen { training: job.train.len(), validation: job.val.len(), sha256: fingerprint.samples });
            let outputs = [(folder.model(), "weights"), (folder.metrics(), "figures of each step and epoch")];
            let stamped = outputs.iter().map(|(path, what)| Stamped::of(path, what, card::file_name(path)));
            record.outputs = stamped.collect::<Result<_, _>>()?;
            record.results = results.figures();
            card::write(&folder.card(), &card.text(&record))?;
        }
        Ok(Trained::Done(results))
    }

    /// The parts of the run, as the spec and the options say them.
    fn setup(&self) -> Result<Setup, Error> {
        let (sources, file) = self.model.text();
        let (compiled, options) = (self.model.compiled(), &self.options);
        let spec = compiled.train.as_ref().expect("it was asked for when the trainer was made");
        let own_seed = run::says(sources, file, "seed");
        let given = Given { batch: options.batch, seed: options.seed.filter(|_| !own_seed) };
        let setup = setup(spec, &compiled.typed, &compiled.settings, &given);
        setup.map_err(|found| self.model.error(found))
    }

    /// The samples as they are now, in digits, as a card has them.
    pub(super) fn samples(&self) -> Result<String, Error> {
        let Setup { job, .. } = self.setup()?;
        Ok(Samples::of(&job.train, &job.val, &job.classes, None).digest())
    }

    /// The command, for a card.
    fn made(&self, folder: &RunFolder) -> Made {
        let Options { dtype, tf32, exact, batch, weights, seed, .. } = &self.options;
        Made::Train {
            dtype: dtype.name().into(),
            tf32: *tf32,
            exact: *exact,
            prefix_cache: self.prefix_memory.is_some(),
            batch: *batch,
            weights: weights.as_ref().map(|path| card::relative(path, folder.path())),
            seed: *seed,
        }
    }

    /// What the run is a function of, beside its data: the device and threads change no more than rounding.
    fn fingerprint(&self, bound: &Bound) -> Result<Fingerprint, Problem> {
        let Options { dtype, tf32, exact, seed, .. } = &self.options;
        let (sources, file) = self.model.text();
        let mut fingerprint = Fingerprint::new(sources, file, self.model.parameters(), bound)?;
        let yes_or_no = |yes: bool| if yes { "given" } else { "not given" }.to_string();
        fingerprint.options.extend([
            ("dtype".to_string(), dtype.name().to_string()),
            ("option `--tf32`".to_string(), yes_or_no(*tf32)),
            ("option `--exact`".to_string(), yes_or_no(*exact)),
            ("seed of fresh weights".to_string(), seed.unwrap_or(0).to_string()),
        ]);
        Ok(fingerprint)
    }

    /// The ledger as a report shows it: fates and keys.
    fn fates(&self, bound: &Bound) -> Vec<(String, Vec<String>)> {
        let ledger = bound.ledger();
        let is_drawn = matches!(self.model.compiled().settings.weights, WeightsSource::Random { .. });
        let is_random = self.options.weights.is_none() && is_drawn;
        let kept = if is_random { "drawn" } else { "kept" };
        ledger.fates(kept).into_iter().map(|(fate, keys)| (fate.to_string(), keys)).collect()
    }
}

fn warn(watch: &mut dyn Watch, found: &Diagnostics) {
    if !found.is_empty() {
        watch.warn(found);
    }
}

fn data(job: &Job) -> String {
    let classes = if job.classes.is_empty() { String::new() } else { format!(", {} classes", job.classes.len()) };
    format!("{} pictures to learn from, {} for validation{classes}", job.train.len(), job.val.len())
}

/// What a card says of the run.
fn training(job: &Job, data: &DataSource, report: &Report) -> Training {
    let (DataSource::Folder { path, .. } | DataSource::Csv { path, .. }) = data;
    let counts = job.train.counts(job.classes.len());
    // what the clock says is no result
    let is_result = |fact: &&(String, String)| !["Data", "Time of this process"].contains(&fact.0.as_str());
    Training {
        dataset: card::file_name(Path::new(path)),
        counts: job.classes.iter().cloned().zip(counts).collect(),
        validation: job.val.len(),
        facts: report.facts.iter().filter(is_result).cloned().collect(),
        scores: report.scores.clone(),
    }
}

/// The table at the top of a report.
fn facts(job: &Job, spec: &TrainSpec, results: &Results, written: &Written, seconds: f64) -> Vec<(String, String)> {
    let names = (spec.loss.value.name(), spec.optimizer.value.name(), spec.schedule.value.name());
    let mut facts = vec![
        ("Result", results.to_string()),
        ("Data", format!("{} pictures to learn from, {} for validation", job.train.len(), job.val.len())),
        ("Recipe", format!("{}, {}, {} schedule", names.0, names.1, names.2)),
        (
            "Steps",
            format!("{} epochs of {} steps, batch {}, seed {}", job.epochs, job.steps(), job.batch, job.recipe.seed),
        ),
        ("Time of this process", format!("{seconds:.1} s")),
    ];
    if let Some((count, digest)) = &written.frozen {
        facts.push(("Frozen", format!("{count} tensors, sha256 {digest} before and after")));
    }
    facts.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}
