//! The pictures that a run goes on without.

use std::collections::{BTreeSet, HashSet};

use super::Run;
use super::samples::Part;
use crate::data::Dataset;
use crate::diag::{Code, Problem, and};
use crate::io::picture;

/// The pictures that could not be read, by what was said of them.
#[derive(Default)]
pub(super) struct LeftOut {
    train: HashSet<String>,
    val: HashSet<String>,
    /// How many of both were told.
    told: (usize, usize),
    /// The classes of the training pictures that this epoch has read; None where it does not read all of them.
    seen: Option<BTreeSet<usize>>,
    /// The classes without a picture that were told.
    told_classes: HashSet<(Part, usize)>,
}

impl Run<'_> {
    /// Remembers pictures that could not be read, and names the first ones.
    pub(super) fn leave_out(&mut self, part: Part, problems: &[Problem]) {
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

    /// An epoch begins, at its first picture or after it.
    pub(super) fn begin_reading(&mut self, from: usize) {
        self.left_out.seen = (from == 0).then(BTreeSet::new);
    }

    /// Remembers of which classes pictures were read.
    pub(super) fn has_read(&mut self, samples: &[usize]) {
        if let Some(seen) = &mut self.left_out.seen {
            seen.extend(self.job.train.classes_of(samples));
        }
    }

    /// Names the classes of which no picture of an epoch can be read.
    pub(super) fn tell_classes(&mut self, part: Part, seen: &BTreeSet<usize>) {
        let job = self.job;
        let data = if part == Part::Training { &job.train } else { &job.val };
        let counts = data.counts(job.classes.len());
        let unread = (0..counts.len()).filter(|class| counts[*class] > 0 && !seen.contains(class));
        let fresh: Vec<usize> = unread.filter(|class| self.left_out.told_classes.insert((part, *class))).collect();
        if fresh.is_empty() {
            return;
        }
        let names: Vec<&str> = fresh.iter().map(|class| job.classes[*class].as_str()).collect();
        let message = format!("no {} picture of {} can be read", part.name(), some(&names));
        let hint = match part {
            Part::Training => "a class that is never seen is not learned: give it pictures, or take its folder out",
            Part::Validation => "the validation says nothing of such a class",
        };
        self.warn(Problem::new(Code::Input, message).hint(hint));
    }

    /// The same of the training pictures, where the epoch has read all that can be.
    pub(super) fn tell_training_classes(&mut self) {
        if let Some(seen) = self.left_out.seen.take() {
            self.tell_classes(Part::Training, &seen);
        }
    }

    /// Says how many pictures the epochs go on without.
    pub(super) fn tell_left_out(&mut self) {
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
}

/// `` `a`, `b` and 3 more ``
fn some(names: &[&str]) -> String {
    match names.len().checked_sub(NAMED).filter(|more| *more > 0) {
        None => and(names),
        Some(more) => format!("`{}` and {more} more", names[..NAMED].join("`, `")),
    }
}

/// How many pictures that cannot be read, and classes of none that can, are named of each part.
const NAMED: usize = 8;

pub(super) fn none_readable(part: Part, data: &Dataset) -> Problem {
    let message = format!("none of the {} {} pictures can be read", data.len(), part.name());
    let problem = Problem::new(Code::Input, message);
    let problem = match data.samples.first().and_then(|first| picture::read(&first.path).err()) {
        Some(first) => problem.note(format!("the first one: {}", first.message)),
        None => problem,
    };
    problem.hint("`skip_corrupt = true` leaves out single pictures; look at the folder that the `data` line names")
}
