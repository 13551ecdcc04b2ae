//! Sharing work among the threads of a run (`team.rs`) or else of the current rayon pool, and memory that is used again.
//!
//! How the work is cut depends on its size alone, never on the number of threads, and no sum is split between
//! tasks: so the results are the same bits on any number of threads.

use super::pages::Pages;
use super::team;
use rayon::prelude::*;
use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Runs `f` for 0..n on the threads of the run, or of the current pool.
pub fn tasks(n: usize, f: impl Fn(usize) + Sync) {
    share(n, &f);
}

/// [`tasks`], compiled once: a call by address is nothing beside a task.
fn share(n: usize, f: &(dyn Fn(usize) + Sync)) {
    if n <= 1 || rayon::current_num_threads() == 1 {
        (0..n).for_each(f);
    } else if !team::share(n, f) {
        (0..n).into_par_iter().with_max_len(1).for_each(f);
    }
}

/// Deals 0..n out to the threads of the current pool: each calls `f` once, with the first of its numbers and an iterator of
/// those that follow. For what a thread prepares once for all of its numbers.
pub(super) fn team(n: usize, f: impl Fn(usize, &mut dyn Iterator<Item = usize>) + Sync) {
    let next = AtomicUsize::new(0);
    let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < n);
    tasks(rayon::current_num_threads().min(n), |_| {
        if let Some(first) = take() {
            f(first, &mut std::iter::from_fn(take));
        }
    });
}

/// Cuts `0..rows` into ranges of about `GRAIN` units of work, `cost` units a row (a unit is about one float
/// read or written), and runs `f` on each.
pub fn ranges(rows: usize, cost: usize, f: impl Fn(Range<usize>) + Sync) {
    let blocks = blocks(rows, cost);
    tasks(blocks, |b| f(rows * b / blocks..rows * (b + 1) / blocks));
}

/// How many ranges [`ranges`] cuts.
pub(super) fn blocks(rows: usize, cost: usize) -> usize {
    const GRAIN: usize = 32 << 10;
    (rows.saturating_mul(cost.max(1)) / GRAIN).clamp(1, rows.clamp(1, 256))
}

/// A pointer that tasks may share, because each writes a part of its own.
#[derive(Clone, Copy)]
pub struct Shared<T = f32>(pub *mut T);
// SAFETY: whoever dereferences it answers for the parts being disjoint; see the uses.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// The pointer `offset` values on. A method, so that closures capture the whole struct.
    #[inline(always)]
    pub fn at(self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }
}

/// One cache line of floats.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// What a kernel panics with that gets no memory for packed weights.
#[derive(Clone, Copy, Debug)]
pub struct NoMemory;

/// Zeroed floats that start on a cache line.
pub(super) struct Aligned {
    pages: Pages,
    /// Of `pages`.
    len: usize,
}

/// Memory of packed weights that are not used any more, while it is [`kept`].
static SPARE: Mutex<Vec<Pages>> = Mutex::new(Vec::new());

thread_local! {
    static KEEPS: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f`, which packs weights that it uses once: their memory is used again by the next that are packed so, as fresh
/// pages would cost as much as the packing.
pub fn kept<R>(f: impl FnOnce() -> R) -> R {
    let before = KEEPS.replace(true);
    let result = f();
    KEEPS.set(before);
    result
}

impl Aligned {
    /// # Panics
    /// If the memory cannot be had; whoever loads a network has asked how much there is.
    pub fn zeros(len: usize) -> Self {
        Aligned::padded(len, true)
    }

    /// Where `padded`, zeros; else numbers of whatever value, all of which the caller writes.
    ///
    /// # Panics
    /// As [`Aligned::zeros`].
    pub fn padded(len: usize, padded: bool) -> Self {
        let spare = KEEPS.get().then(|| {
            let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = (0..spare.len()).filter(|at| spare[*at].len() >= len).min_by_key(|at| spare[*at].len());
            // what is too small makes room for what is not
            fits.map(|at| spare.swap_remove(at)).or_else(|| {
                spare.clear();
                None
            })
        });
        match spare.flatten() {
            Some(pages) => {
                let mut own = Aligned { pages, len };
                if padded {
                    let base = Shared(own.as_mut_ptr());
                    ranges(len, 1, |range| {
                        // SAFETY: each task has its own part.
                        unsafe { std::slice::from_raw_parts_mut(base.at(range.start), range.len()) }.fill(0.0);
                    });
                }
                own
            }
            None => match Pages::zeros(len) {
                Some(pages) => Aligned { pages, len },
                None => std::panic::panic_any(NoMemory),
            },
        }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        if KEEPS.get()
            && let Some(nothing) = Pages::zeros(0)
        {
            let pages = std::mem::replace(&mut self.pages, nothing);
            SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(pages);
        }
    }
}

impl Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.pages[..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.pages[..self.len]
    }
}

impl std::fmt::Debug for Aligned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} floats", self.len)
    }
}

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `len` floats of unspecified content, kept by this thread for the next call.
///
/// Calls may nest, also through work that rayon steals meanwhile.
pub(super) fn scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut lines = FREE.with_borrow_mut(|free| free.pop()).unwrap_or_default();
    let need = len.div_ceil(16);
    if lines.len() < need {
        lines.resize(need, Line([0.0; 16]));
    }
    // SAFETY: there are at least `len` floats, all initialised, and a Line is 16 floats without padding.
    let out = f(unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), len) });
    FREE.with_borrow_mut(|free| free.push(lines));
    out
}
