//! `archc train`: fine-tunes as the spec's `train` block says, into a folder.

use std::path::PathBuf;

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::args::{ExecArgs, SpecArgs, positive};
use super::session::Session;
use super::{Failure, Outcome, stop};
use crate::diag::Diagnostics;
use crate::face::{Options, Start, Trained};
use crate::io::console::{self, print, say};
use crate::train::run::Watch;
use crate::train::run::learner::Stepped;
use crate::train::run::metrics::Line;

/// Fine-tune the network as the spec's `train` block says.
#[derive(Debug, clap::Args)]
pub struct Train {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// The run's folder, which is made: checkpoints, metrics, the trained weights, a report.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on with the run in the folder.
    #[arg(long)]
    pub resume: bool,
    /// Compute the frozen layers before the first that learns in every step, instead of once a picture.
    #[arg(long)]
    pub no_prefix_cache: bool,
    /// Pictures a step, instead of the block's.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batch: Option<usize>,
    /// Write no model card, README.md, into the folder.
    #[arg(long)]
    pub no_card: bool,
    #[command(flatten)]
    pub exec: ExecArgs,
}

pub fn run(session: &mut Session, args: &Train) -> Outcome {
    let model = session.compile(&args.spec)?;
    let options = Options { batch: args.batch, ..args.exec.options() };
    let mut trainer = model.trainer(args.exec.device, options)?;
    if args.no_prefix_cache {
        trainer = trainer.without_prefix_cache();
    }
    if args.no_card {
        trainer = trainer.without_card();
    }
    let start = if args.resume { Start::Resume } else { Start::Fresh };
    let session = &*session;
    args.exec.with_threads(|| match trainer.run(&args.out, start, &mut Shown::new(session))? {
        Trained::Done(results) => {
            print(&format!("{results}\n"));
            let (folder, tensors) = (args.out.display(), results.tensors);
            let card = if args.no_card { "" } else { ", README.md" };
            say(format!("wrote {folder}: model.safetensors ({tensors} tensors), report.html{card}"));
            Ok(())
        }
        Trained::Stopped { checkpoint } => {
            say(format!("stopped; the checkpoint is written: {}", checkpoint.display()));
            say(format!("go on with: {}", resuming(std::env::args().skip(1))));
            Err(Failure::Status(stop::asked().unwrap_or(1)))
        }
    })
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

/// What is shown while the run goes on.
pub(super) struct Shown<'a> {
    session: &'a Session,
    epochs: usize,
    bar: ProgressBar,
    began: Instant,
    /// While the first signal is a wish to stop.
    waits: Option<stop::Waits>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(session: &'a Session) -> Shown<'a> {
        Shown { session, epochs: 0, bar: ProgressBar::hidden(), began: Instant::now(), waits: None }
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| say(text));
    }
}

impl Watch for Shown<'_> {
    fn begin(&mut self, epochs: usize) {
        self.epochs = epochs;
        self.waits = Some(stop::Waits::new());
    }

    fn end(&mut self) {
        self.waits = None;
        self.bar.finish_and_clear();
    }

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

    fn warn(&mut self, found: &Diagnostics) {
        self.bar.suspend(|| self.session.report(found));
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
