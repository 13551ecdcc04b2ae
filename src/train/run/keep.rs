//! Writing checkpoints on the way, and what is said where one is lost.

use std::path::Path;
use std::time::Instant;

use super::checkpoint::{self, Best, Checkpoint};
use super::{Run, RunFolder, prefix};
use crate::diag::{Code, Problem};

impl Run<'_> {
    pub(super) fn save(&mut self) -> Result<(), Problem> {
        self.position.metrics = self.metrics.bytes();
        self.save_as(&self.folder.checkpoint())?;
        self.saved = Instant::now();
        Ok(())
    }

    pub(super) fn save_as(&mut self, path: &Path) -> Result<(), Problem> {
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

    /// The bytes that checkpoints take on the disk: the last one, the best one, and the one that is being written.
    pub(super) fn spare(&self) -> u64 {
        let one = std::fs::metadata(self.folder.checkpoint()).map_or(0, |found| found.len());
        3 * one + METRICS_MAY_GROW
    }

    /// Says which checkpoint is left, and what it is good for.
    pub(super) fn kept(&self, problem: Problem) -> Problem {
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

const BEST: &str = "checkpoint.best";

/// Bytes of lines of metrics.
const METRICS_MAY_GROW: u64 = 1 << 20;

/// The checkpoint, where it is that of the end of an epoch.
pub(super) fn of_epoch(kept: Checkpoint, epoch: usize) -> Result<Checkpoint, Problem> {
    match kept.position.epoch == epoch {
        true => Ok(kept),
        false => Err(Problem::new(Code::Input, format!("`{BEST}` is that of epoch {}", kept.position.epoch))),
    }
}

pub(super) fn lost_at_the_end(problem: Problem, folder: &RunFolder, best: &Best) -> Problem {
    let what = format!("the weights of epoch {}, the best one, are lost: {}", best.epoch, problem.message);
    let problem = Problem::new(Code::Input, what);
    let problem = match folder.model().is_file() {
        true => problem.note(format!("all epochs are done, and `{}` is left as it is", folder.model().display())),
        false => problem,
    };
    problem.hint(format!("put `{}` back", folder.best().display())).hint("or begin again in another folder: `--out`")
}

/// Where the last checkpoint cannot be gone on with, the one of the best epoch may do.
pub(super) fn from_the_best(problem: Problem, folder: &RunFolder) -> Problem {
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
