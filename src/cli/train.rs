//! `archc train`: fine-tunes as the spec's `train` block says, into a folder.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::args::Train;
use super::run::bound;
use super::session::Session;
use super::{Failure, Outcome, stop};
use crate::bind::Bound;
use crate::compile::Compiled;
use crate::diag::{At, Code, Diagnostics, Problem};
use crate::exec::learning::Learns;
use crate::io::console::{self, print, say};
use crate::source::FileId;
use crate::train::run::fingerprint::Fingerprint;
use crate::train::run::learner::Stepped;
use crate::train::run::metrics::{self, Line};
use crate::train::run::network::{NetworkLearner, Pace};
use crate::train::run::report::Report;
use crate::train::run::setup::{Given, Setup, setup};
use crate::train::run::{self, Ended, RunFolder, Watch};
use crate::train::spec::Setting;
use crate::train::stage::stages;
use crate::train::{Schedule, TrainSpec, frozen_at_random};
use crate::weights::WeightsSource;

/// How much memory the outputs of a frozen prefix may take before they lie on the disk.
const PREFIX_MEMORY: u64 = 2 << 30;

pub fn run(session: &mut Session, args: &Train) -> Outcome {
    let file = session.open(&args.spec)?;
    let model = session.compile_file(file, &args.spec)?;
    let compiled = model.compiled();
    let Some(spec) = &compiled.train else {
        let name = &session.sources.file(file).name;
        return Err(Problem::new(Code::Train, format!("{name} has no `train` block"))
            .hint("`train { data folder(\"digits\"); loss cross_entropy }`")
            .into());
    };
    let device = args.exec.device.learns(args.exec.precision())?;
    args.exec.with_threads(|| train(session, file, compiled, spec, args, device))
}

fn train(
    session: &Session,
    file: FileId,
    compiled: &Compiled,
    spec: &TrainSpec,
    args: &Train,
    device: Arc<dyn Learns>,
) -> Outcome {
    // before the data is read: a folder of a run in it would be said to be a class without pictures
    if let Some(data) = spec.choice("data").filter(|choice| choice.name() == "folder")
        && let Some(Setting::Text(path)) = data.arg("path")
    {
        RunFolder::check_apart(&args.out, &compiled.settings.dir.join(path))
            .at(data.span)
            .map_err(Diagnostics::from)?;
    }
    let own_seed = run::says(&session.sources, file, "seed");
    let given = Given { batch: args.batch, seed: args.exec.seed.filter(|_| !own_seed) };
    let Setup { mut job, config, remarks } = setup(spec, &compiled.typed, &compiled.settings, &given)?;
    if let (Some(batch), Some(Setting::Int(own))) = (args.batch, spec.value("batch"))
        && batch as i64 != *own
    {
        say(format!("batch: {batch}, as `--batch` says; the spec's is {own}"));
    }
    if let (Some(seed), true) = (args.exec.seed, own_seed) {
        say(format!("seed: {}, as the spec says; `--seed {seed}` is for what has none there", job.recipe.seed));
    }
    if args.exec.weights.is_none() {
        session.report(&frozen_at_random(&compiled.typed, &compiled.settings, spec));
    }
    job.prefix_memory = (!args.no_prefix_cache).then_some(PREFIX_MEMORY);
    let mut bound = bound(compiled, &args.exec)?;
    bound.check_memory()?;
    bound.hold()?;
    job.fingerprint = fingerprint(session, file, args, &bound)?;
    remarks.iter().for_each(say);
    let classes = if job.classes.is_empty() { String::new() } else { format!(", {} classes", job.classes.len()) };
    say(format!("data: {} pictures to learn from, {} for validation{classes}", job.train.len(), job.val.len()));
    if let Some(preprocess) = &compiled.settings.preprocess {
        say(preprocess);
    }

    let folder = if args.resume { RunFolder::resume(&args.out)? } else { RunFolder::create(&args.out)? };
    let stages = stages(&compiled.typed, spec);
    let pace = Pace {
        schedule: Schedule::new(spec),
        lr: config.optimizer.lr,
        steps_per_epoch: job.steps() as u64,
        epochs: job.epochs as u64,
    };
    let mut learner = NetworkLearner::new(&stages, &bound, device, config, job.batch, pace)?;
    session.report(&bound.warnings());
    job.spec = run::resolved(&session.sources, file, &args.spec.set, &args.out);

    let began = Instant::now();
    let mut shown = Shown::new(session, job.epochs);
    let ended = {
        let _waits = stop::Waits::new();
        run::run(&job, &mut learner, &folder, &mut shown)
    };
    shown.bar.finish_and_clear();
    let (best, early) = match ended? {
        Ended::Done { best, early } => (best, early),
        Ended::Stopped => {
            say(format!("stopped; the checkpoint is written: {}", folder.checkpoint().display()));
            say(format!("go on with: {}", resuming(std::env::args().skip(1))));
            return Err(Failure::Status(stop::asked().unwrap_or(1)));
        }
    };
    let time = began.elapsed();
    if early {
        say(format!("stopped early: {} epochs without a better one", job.patience.unwrap_or(0)));
    }
    let written = run::write(&folder, &mut learner, &job)?;
    if let Some((count, digest)) = &written.frozen {
        let digest = digest.get(..16).unwrap_or(digest);
        say(format!("frozen is frozen: {count} tensors, sha256 {digest}.. before and after"));
    }

    let name = session.sources.file(file).name.clone();
    let mut report = Report { name, spec: job.spec.clone(), ..Report::default() };
    report.lines = metrics::read(&folder.metrics())?;
    let ledger = bound.ledger();
    let is_random = args.exec.weights.is_none() && matches!(compiled.settings.weights, WeightsSource::Random { .. });
    report.ledger = [
        (if is_random { "drawn" } else { "kept" }, &ledger.kept),
        ("dropped", &ledger.dropped),
        ("new", &ledger.new),
        ("reshaped", &ledger.reshaped),
        ("unused", &ledger.unused),
    ]
    .map(|(fate, keys)| (fate.to_string(), keys.clone()))
    .into();
    let found = report.look(&mut learner, &job)?;
    let on = if job.val.is_empty() { "training" } else { "validation" };
    let epoch = best.as_ref().map_or(String::new(), |best| format!("epoch {}: ", best.epoch));
    let mut result = format!("{epoch}{on} loss {:.4}", found.loss);
    if let Some(scores) = &found.scores {
        result += &format!(", accuracy {:.2} %", scores.accuracy() * 100.0);
    }
    report.facts = facts(&job, spec, &result, &written, time);
    report.write(&folder.report())?;
    print(&format!("{result}\n"));
    say(format!("wrote {}: model.safetensors ({} tensors), report.html", folder.path().display(), written.tensors));
    Ok(())
}

/// What the run is a function of, beside its data: the device and threads change no more than rounding.
fn fingerprint(session: &Session, file: FileId, args: &Train, bound: &Bound) -> Result<Fingerprint, Problem> {
    let exec = &args.exec;
    let mut fingerprint = Fingerprint::new(&session.sources, file, &args.spec.set, bound)?;
    let yes_or_no = |yes: bool| if yes { "given" } else { "not given" }.to_string();
    fingerprint.options.extend([
        ("dtype".to_string(), exec.dtype.name().to_string()),
        ("option `--tf32`".to_string(), yes_or_no(exec.tf32)),
        ("option `--exact`".to_string(), yes_or_no(exec.exact)),
        ("seed of fresh weights".to_string(), exec.seed.unwrap_or(0).to_string()),
    ]);
    Ok(fingerprint)
}

/// The command that goes on with the run: the same options, since a run goes on only with what it was begun with.
fn resuming(args: impl Iterator<Item = String>) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    let word = |word: String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    let words = args.filter(|arg| arg != "--resume").map(word);
    ["archc".to_string()].into_iter().chain(words).chain(["--resume".to_string()]).collect::<Vec<_>>().join(" ")
}

fn facts(
    job: &run::Job,
    spec: &TrainSpec,
    result: &str,
    written: &run::Written,
    time: Duration,
) -> Vec<(String, String)> {
    let name = |word: &str| spec.choice(word).map_or("", |choice| choice.name()).to_string();
    let mut facts = vec![
        ("Result", result.to_string()),
        ("Data", format!("{} pictures to learn from, {} for validation", job.train.len(), job.val.len())),
        ("Recipe", format!("{}, {}, {} schedule", name("loss"), name("optimizer"), name("schedule"))),
        (
            "Steps",
            format!("{} epochs of {} steps, batch {}, seed {}", job.epochs, job.steps(), job.batch, job.recipe.seed),
        ),
        ("Time of this process", format!("{:.1} s", time.as_secs_f64())),
    ];
    if let Some((count, digest)) = &written.frozen {
        facts.push(("Frozen", format!("{count} tensors, sha256 {digest} before and after")));
    }
    facts.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

/// What is shown while the run goes on.
struct Shown<'a> {
    session: &'a Session,
    epochs: usize,
    bar: ProgressBar,
    began: Instant,
}

impl<'a> Shown<'a> {
    fn new(session: &'a Session, epochs: usize) -> Shown<'a> {
        Shown { session, epochs, bar: ProgressBar::hidden(), began: Instant::now() }
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| say(text));
    }
}

impl Watch for Shown<'_> {
    fn epoch(&mut self, epoch: usize, step: usize, steps: usize) {
        self.began = Instant::now();
        if !console::is_terminal() {
            return;
        }
        let template =
            format!("epoch {}/{} {{bar:30}} {{pos}}/{{len}} {{msg}} {{per_sec}} {{eta}}", epoch + 1, self.epochs);
        let style = ProgressStyle::with_template(&template).expect("the template is well formed");
        self.bar.finish_and_clear();
        self.bar = ProgressBar::new(steps as u64).with_style(style).with_position(step as u64);
        self.bar.reset_eta();
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn step(&mut self, stepped: Stepped) {
        self.bar.inc(1);
        self.bar.set_message(format!("loss {:.4} rate {:.2e}", stepped.loss, stepped.lr));
    }

    fn epoch_done(&mut self, line: &Line) {
        let mut text = format!("epoch {}/{}  loss {:.4}", line.epoch, self.epochs, line.loss);
        if let Some(loss) = line.val_loss {
            text += &format!("  validation loss {loss:.4}");
        }
        if let Some(accuracy) = line.val_accuracy {
            text += &format!("  accuracy {:.2} %", accuracy * 100.0);
        }
        self.say(&format!("{text}  {:.1} s", self.began.elapsed().as_secs_f64()));
    }

    fn note(&mut self, text: &str) {
        self.say(text);
    }

    fn warn(&mut self, problem: &Problem) {
        self.bar.suspend(|| self.session.report(&problem.clone().anywhere().warning().into()));
    }

    fn stops(&self) -> bool {
        stop::asked().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::resuming;

    #[test]
    fn a_run_goes_on_with_the_options_that_it_was_given() {
        let command = |words: &[&str]| resuming(words.iter().map(|word| word.to_string()));
        assert_eq!(command(&["train", "a.arch", "--out", "b", "--resume"]), "archc train a.arch --out b --resume");
        let wanted = "archc train 'my spec.arch' --set 'name=\"it'\\''s\"' --set width=6 --out '' --resume";
        assert_eq!(
            command(&["train", "my spec.arch", "--set", "name=\"it's\"", "--set", "width=6", "--out", ""]),
            wanted
        );
    }
}
