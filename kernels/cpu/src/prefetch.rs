//! Weights that a later step of a run will read, fetched into cache while arithmetic leaves the memory idle.
//!
//! The weights of a network are more than L2 holds, and seldom find all of L3 for themselves. A step that does little more
//! than to read its weights (a linear layer of one row) waits for them; steps before it that compute much from little
//! can ask for them in the meantime, a cache line every few multiplications. Nothing depends on whether they come.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Floats of a cache line.
const LINE: usize = 16;

/// Floats that the kernel of register tiles may fetch while it computes `rows` rows: a cache line each step of a tile.
pub(super) fn room(tile_rows: usize, rows: usize, panels: usize, terms: usize) -> usize {
    let lines = rows.div_ceil(tile_rows) * panels * terms;
    // Half of them for its own weights, where those are many.
    if panels * terms * 2 * LINE * 4 > 600 << 10 { lines / 2 * LINE } else { lines * LINE }
}

thread_local! {
    /// What the next kernel that this thread starts may fetch: first float and cache lines.
    static ASKED: Cell<(*const f32, usize)> = const { Cell::new((std::ptr::null(), 0)) };
}

/// Lets the next kernel that knows how fetch these weights.
pub fn prefetch(weights: &[f32]) {
    ASKED.set((weights.as_ptr(), weights.len() / LINE));
}

/// What one run of a kernel may fetch.
pub(super) struct Prefetch {
    from: *const f32,
    lines: usize,
    taken: AtomicUsize,
}
// SAFETY: the pointer is only an address to fetch.
unsafe impl Sync for Prefetch {}

impl Prefetch {
    /// What was asked for on this thread, once.
    pub fn asked() -> Prefetch {
        let (from, lines) = ASKED.replace((std::ptr::null(), 0));
        Prefetch { from, lines, taken: AtomicUsize::new(0) }
    }

    /// Some lines for the caller.
    pub fn take(&self, lines: usize) -> Lines {
        if self.lines == 0 {
            return Lines::none();
        }
        let at = self.taken.fetch_add(lines, Ordering::Relaxed).min(self.lines);
        Lines { from: self.from, lines: at..(at + lines).min(self.lines) }
    }
}

/// Some lines of a [`Prefetch`].
pub(super) struct Lines {
    from: *const f32,
    lines: Range<usize>,
}

impl Lines {
    pub fn none() -> Lines {
        Lines { from: std::ptr::null(), lines: 0..0 }
    }

    /// Where the next `lines` begin; null if none are left.
    pub fn next(&mut self, lines: usize) -> *const f32 {
        if self.lines.is_empty() {
            return std::ptr::null();
        }
        let at = self.lines.start;
        self.lines.start = (at + lines).min(self.lines.end);
        self.from.wrapping_add(at * LINE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_handed_out_once_and_none_beyond() {
        let weights = vec![0f32; 10 * LINE + 3];
        prefetch(&weights);
        let prefetch = Prefetch::asked();
        assert_eq!(Prefetch::asked().lines, 0, "it was asked for to one kernel");
        let mut starts = vec![];
        for _ in 0..4 {
            let mut some = prefetch.take(4);
            loop {
                let from = some.next(3);
                if from.is_null() {
                    break;
                }
                starts.push((from as usize - weights.as_ptr() as usize) / (LINE * size_of::<f32>()));
            }
        }
        // parts of four lines, by three; ten lines in all
        assert_eq!(starts, [0, 3, 4, 7, 8]);
        assert!(Lines::none().next(1).is_null());
    }
}
