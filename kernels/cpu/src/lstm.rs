//! The recurrence of LSTMs over the steps of sequences.
//!
//! Formula   sums = gates[t] + weight h[t - 1], in parts i, f, g, o; c[t] = sigmoid(f) c[t - 1] + sigmoid(i) tanh(g);
//!           h[t] = sigmoid(o) tanh(c[t]); h and c are 0 before the first step
//! Layout    a row is a step of a sequence ([`Sequences`]); weights in tiles [unit / N][k][part][N], padded with zeros
//! Tile      a block of sequences goes through all steps; 6 (AVX-512) or 3 sequences x 4 parts x a vector of units are in
//!           registers, and the weights of a vector of units are read from L1 by all sequences of the block
//! Roofline  all units that multiply, while there are so many sequences; of one sequence the latency of 4 sums

use super::math::{sigmoid, tanh};
use super::par::{Aligned, Shared, scratch, tasks};
use super::simd::{Isa, Simd, Task, ld, st, unroll};
use super::view::{Rows, RowsMut};

/// How the steps of sequences lie among rows: step t of sequence `outer * inner + at` is row
/// `(outer * steps + t) * inner + at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequences {
    pub outer: usize,
    pub steps: usize,
    pub inner: usize,
}

impl Sequences {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.outer * self.inner
    }

    /// Steps of all of them.
    pub fn rows(&self) -> usize {
        self.count() * self.steps
    }

    #[inline(always)]
    pub(super) fn row(&self, sequence: usize, step: usize) -> usize {
        (sequence / self.inner * self.steps + step) * self.inner + sequence % self.inner
    }
}

/// The most sequences whose sums are in registers, and the most floats of them.
pub(super) const MOST: usize = 6;
pub(super) const SUMS: usize = MOST * 4 * 16;

/// How many sequences have their sums in registers.
pub(super) const fn rows_of(lanes: usize) -> usize {
    if lanes == 16 { MOST } else { 3 }
}

/// Sequences of a block: of many a few tiles, so that weights are read again from near, of few one, so that many threads
/// have some.
pub(super) fn block_of(isa: Isa, sequences: usize) -> usize {
    let rows = rows_of(isa.lanes());
    sequences.div_ceil(8).next_multiple_of(rows).min(4 * rows)
}

/// Adds `sum over k of x[r][k] * w[k][v]` to the sums of `R` rows and four vectors; `w` is `[depth][4][N]`.
///
/// # Safety
/// The CPU must have the instruction set of `S`; `depth` values of each row and all of `w` must be valid.
#[inline(always)]
pub(super) unsafe fn products<S: Simd, const R: usize>(
    mut sums: [[S::F; 4]; R],
    x: [*const f32; R],
    mut w: *const f32,
    depth: usize,
) -> [[S::F; 4]; R] {
    // SAFETY: the caller's.
    unsafe {
        for k in 0..depth {
            let mut own = [S::splat(0.0); R];
            unroll!(I <7 R, {
                own[I] = S::splat(*x[I].add(k));
            });
            unroll!(J <4 4, {
                let by = S::load(w.add(J * S::N));
                unroll!(I <7 R, {
                    sums[I][J] = S::fma(own[I], by, sums[I][J]);
                });
            });
            w = w.add(4 * S::N);
        }
        sums
    }
}

/// Recurrent weights as [`lstm_scan`] reads them.
#[derive(Debug)]
pub struct PackedLstm {
    isa: Isa,
    hidden: usize,
    data: Aligned,
}

impl PackedLstm {
    /// From rows [4 hidden, hidden], the parts in the order i, f, g, o.
    pub fn pack(isa: Isa, weight: Rows) -> PackedLstm {
        weight.check();
        let (hidden, lanes) = (weight.cols, isa.lanes());
        assert_eq!(weight.rows, 4 * hidden, "four rows for each hidden feature");
        let mut data = Aligned::zeros(hidden.div_ceil(lanes) * hidden * 4 * lanes);
        let base = Shared(data.as_mut_ptr());
        tasks(hidden.div_ceil(lanes), |tile| {
            let len = hidden * 4 * lanes;
            // SAFETY: each task has its own tile.
            let to = unsafe { std::slice::from_raw_parts_mut(base.at(tile * len), len) };
            let units = lanes.min(hidden - tile * lanes);
            for (part, lane) in (0..4).flat_map(|part| (0..units).map(move |lane| (part, lane))) {
                let row = &weight.data[(part * hidden + tile * lanes + lane) * weight.stride..][..hidden];
                for (k, value) in row.iter().enumerate() {
                    to[(k * 4 + part) * lanes + lane] = *value;
                }
            }
        });
        PackedLstm { isa, hidden, data }
    }
}

/// One direction: its gates [steps of sequences, 4 hidden] and its weights.
#[derive(Clone, Copy, Debug)]
pub struct Direction<'a> {
    pub gates: Rows<'a>,
    pub weight: &'a PackedLstm,
    /// From the last step to the first.
    pub reverse: bool,
}

/// The hidden states of each direction side by side, `y` [steps of sequences, hidden of all].
pub fn lstm_scan(isa: Isa, sequences: Sequences, directions: &[Direction], y: RowsMut) {
    y.check();
    let width = directions.iter().map(|direction| direction.weight.hidden).sum::<usize>();
    assert!(y.rows == sequences.rows() && y.cols == width, "states of another shape");
    for Direction { gates, weight, .. } in directions {
        gates.check();
        assert!(gates.rows == y.rows && gates.cols == 4 * weight.hidden, "gates of another shape");
        assert_eq!(weight.isa, isa, "weights of another instruction set");
    }
    let count = sequences.count();
    let block = block_of(isa, count);
    let blocks = count.div_ceil(block.max(1));
    let to = Shared(y.data.as_mut_ptr());
    tasks(directions.len() * blocks, |task| {
        let (at, first) = (task / blocks, task % blocks * block);
        let Direction { gates, weight, reverse } = directions[at];
        let from: usize = directions[..at].iter().map(|direction| direction.weight.hidden).sum();
        let count = block.min(count - first);
        let padded = weight.hidden.next_multiple_of(isa.lanes());
        scratch(count * padded, |cells| {
            cells.fill(0.0);
            let block = Block {
                sequences,
                first,
                count,
                reverse,
                hidden: weight.hidden,
                weight: weight.data.as_ptr(),
                gates: gates.data.as_ptr(),
                gates_stride: gates.stride,
                y: to.at(from),
                y_stride: y.stride,
                cells: cells.as_mut_ptr(),
                padded,
            };
            isa.run(block);
        });
    });
}

/// Some sequences in one direction.
struct Block {
    sequences: Sequences,
    first: usize,
    count: usize,
    reverse: bool,
    hidden: usize,
    weight: *const f32,
    gates: *const f32,
    gates_stride: usize,
    /// The first column of the direction.
    y: *mut f32,
    y_stride: usize,
    /// c of the step before, `[count][padded]`.
    cells: *mut f32,
    padded: usize,
}

impl Task for Block {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; all pointers are valid for what the sizes say, and the rows of `y` of these sequences are this task's
    /// from that column on.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's.
        unsafe { if S::N == 16 { self.steps::<S, MOST>() } else { self.steps::<S, { rows_of(8) }>() } }
    }
}

impl Block {
    /// # Safety
    /// As [`Block::run`].
    #[inline(always)]
    unsafe fn steps<S: Simd, const R: usize>(&self) {
        let tiles = self.hidden.div_ceil(S::N);
        for at in 0..self.sequences.steps {
            for tile in 0..tiles {
                let mut own = 0;
                // SAFETY: the caller's; each tile is within the block.
                unsafe {
                    while own + R <= self.count {
                        self.tile::<S, R>(at, tile, own);
                        own += R;
                    }
                    while own < self.count {
                        self.tile::<S, 1>(at, tile, own);
                        own += 1;
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn step(&self, at: usize) -> usize {
        if self.reverse { self.sequences.steps - 1 - at } else { at }
    }

    /// A vector of units of `R` sequences.
    ///
    /// # Safety
    /// As [`Block::run`], for sequences `own` to `own + R` of the block.
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize>(&self, at: usize, tile: usize, own: usize) {
        let (lanes, hidden, unit) = (S::N, self.hidden, tile * S::N);
        let n = (hidden - unit).min(lanes);
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [[S::splat(0.0); 4]; R];
            unroll!(I <7 R, {
                let row = self.sequences.row(self.first + own + I, self.step(at));
                let gates = self.gates.add(row * self.gates_stride + unit);
                unroll!(J <4 4, {
                    sums[I][J] = ld::<S>(gates.add(J * hidden), n);
                });
            });
            if at > 0 {
                let mut before = [std::ptr::null::<f32>(); R];
                unroll!(I <7 R, {
                    let row = self.sequences.row(self.first + own + I, self.step(at - 1));
                    before[I] = self.y.add(row * self.y_stride);
                });
                sums = products::<S, R>(sums, before, self.weight.add(tile * hidden * 4 * lanes), hidden);
            }
            // out of the registers of the sums, so that the functions are there once
            let mut kept = [0f32; SUMS];
            unroll!(I <7 R, {
                unroll!(J <4 4, {
                    S::store(kept.as_mut_ptr().add((I * 4 + J) * lanes), sums[I][J]);
                });
            });
            for i in 0..R {
                let kept = kept.as_ptr().add(i * 4 * lanes);
                let cell = self.cells.add((own + i) * self.padded + unit);
                let forget = S::mul(sigmoid::<S>(S::load(kept.add(lanes))), S::load(cell));
                let c = S::fma(sigmoid::<S>(S::load(kept)), tanh::<S>(S::load(kept.add(2 * lanes))), forget);
                S::store(cell, c);
                let row = self.sequences.row(self.first + own + i, self.step(at));
                let h = S::mul(sigmoid::<S>(S::load(kept.add(3 * lanes))), tanh::<S>(c));
                st::<S>(self.y.add(row * self.y_stride + unit), h, n);
            }
        }
    }
}
