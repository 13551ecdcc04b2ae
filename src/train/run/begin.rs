//! How a run begins, or goes on: with what its folder was begun with, or not at all.

use std::time::Instant;

use rayon::prelude::*;

use super::caches::Caches;
use super::checkpoint::{Checkpoint, Position};
use super::keep::{from_the_best, lost_at_the_end, of_epoch};
use super::learner::Learner;
use super::left_out::{LeftOut, none_readable};
use super::metrics::Metrics;
use super::samples::{Part, Samples};
use super::{Job, Run, RunFolder, Watch, results};
use crate::diag::{Code, Problem};
use crate::io::{atomic, open};

impl<'a> Run<'a> {
    pub(super) fn begin(
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
}

/// Bytes of a spec that are compared.
const MAX_SPEC: u64 = 1 << 26;

/// Pictures whose reading takes long enough to say so.
const MANY: usize = 20_000;
