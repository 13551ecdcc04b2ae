//! The pictures that a run goes on without.

use std::collections::HashSet;

use super::Run;
use super::samples::Part;
use crate::data::Dataset;
use crate::diag::{Code, Problem};
use crate::io::picture;

/// The pictures that could not be read, by what was said of them.
#[derive(Default)]
pub(super) struct LeftOut {
    train: HashSet<String>,
    val: HashSet<String>,
    /// How many of both were told.
    told: (usize, usize),
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

/// How many pictures that cannot be read are named, of each part.
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
