//! Which step fetches the weights of which later one; see `kernels/cpu/src/prefetch.rs`.

use super::kernels;
use super::step::Bound;
use std::ops::Range;

/// What a step fetches while it computes: some weights of a later step.
pub(super) struct Fetch {
    pub step: usize,
    range: Range<usize>,
}

/// For each step what it fetches. Each takes as much as it has room for of what is needed next.
pub(super) fn assign(steps: &[Bound]) -> Vec<Option<Fetch>> {
    let mut fetches: Vec<Option<Fetch>> = steps.iter().map(|_| None).collect();
    // the steps whose weights nobody fetches yet, the next one last, and how many of them
    let mut open: Vec<(usize, usize)> = vec![];
    for (at, step) in steps.iter().enumerate().rev() {
        let streamed = step.streamed().filter(|weights| weights.len() >= WORTH);
        if let (None, Some((of, left))) = (streamed, open.last_mut()) {
            let some = step.room().min(*left);
            if some > 0 {
                *left -= some;
                fetches[at] = Some(Fetch { step: *of, range: *left..*left + some });
            }
            if *left == 0 {
                open.pop();
            }
        }
        if let Some(weights) = streamed {
            open.push((at, weights.len()));
        }
    }
    fetches
}

/// Floats of weights that are read before a thread has begun to wait for them.
const WORTH: usize = 8 << 10;

impl Fetch {
    /// Asks the next kernel for it.
    pub(super) fn ask(&self, steps: &[Bound]) {
        if let Some(weights) = steps[self.step].streamed() {
            kernels::prefetch(&weights[self.range.clone()]);
        }
    }
}
