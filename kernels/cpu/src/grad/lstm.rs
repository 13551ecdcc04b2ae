//! The backward pass of an LSTM's recurrence, through its steps from the last one that it took to the first.
//!
//! Formula   dh = dy[t] + weight^T ds[t + 1]; do = dh tanh(c[t]); dc = dc[t + 1] f[t + 1] + dh o (1 - tanh(c[t])^2);
//!           ds = (dc g i (1 - i), dc c[t - 1] f (1 - f), dc i (1 - g^2), do o (1 - o)), the gates' functions of the sums
//! Layout    weights in tiles [unit / 4 N][k][4][N], padded with zeros; c[t] lies where the first part of ds[t] comes
//! Tile      that of the forward pass, four vectors of units in place of four parts

use super::super::lstm::{MOST, Sequences, block_of, products, rows_of};
use super::super::math::{sigmoid, tanh};
use super::super::par::{Aligned, Shared, scratch, tasks};
use super::super::simd::{Isa, Simd, Task, lanes, ld, st, unroll};
use super::super::view::{Rows, RowsMut};

/// Recurrent weights as [`lstm_scan_data`] reads them.
#[derive(Debug)]
pub struct PackedLstmData {
    isa: Isa,
    hidden: usize,
    data: Aligned,
}

impl PackedLstmData {
    /// From rows [4 hidden, hidden], the parts in the order i, f, g, o.
    pub fn pack(isa: Isa, weight: Rows) -> PackedLstmData {
        weight.check();
        let (hidden, wide) = (weight.cols, 4 * isa.lanes());
        assert_eq!(weight.rows, 4 * hidden, "four rows for each hidden feature");
        let mut data = Aligned::zeros(hidden.div_ceil(wide) * 4 * hidden * wide);
        let base = Shared(data.as_mut_ptr());
        tasks(hidden.div_ceil(wide), |tile| {
            let len = 4 * hidden * wide;
            // SAFETY: each task has its own tile.
            let to = unsafe { std::slice::from_raw_parts_mut(base.at(tile * len), len) };
            let units = wide.min(hidden - tile * wide);
            for (k, to) in to.chunks_exact_mut(wide).enumerate() {
                to[..units].copy_from_slice(&weight.data[k * weight.stride + tile * wide..][..units]);
            }
        });
        PackedLstmData { isa, hidden, data }
    }
}

/// The gradient of the gates: of the hidden states `dy`, of `sums`, which the states were made of, to `dx`; a row of each is
/// a step of a sequence. `reverse` as in the forward pass.
pub fn lstm_scan_data(
    isa: Isa,
    sequences: Sequences,
    reverse: bool,
    weight: &PackedLstmData,
    dy: Rows,
    sums: Rows,
    dx: RowsMut,
) {
    [&dy, &sums].into_iter().for_each(Rows::check);
    dx.check();
    let hidden = weight.hidden;
    assert!([dy.rows, sums.rows, dx.rows] == [sequences.rows(); 3], "other steps than the sequences have");
    assert!(dy.cols == hidden && sums.cols == 4 * hidden && dx.cols == 4 * hidden, "rows of another shape");
    assert_eq!(weight.isa, isa, "weights of another instruction set");
    let count = sequences.count();
    let block = block_of(isa, count);
    let to = Shared(dx.data.as_mut_ptr());
    tasks(count.div_ceil(block.max(1)), |task| {
        let first = task * block;
        let count = block.min(count - first);
        let padded = hidden.next_multiple_of(4 * isa.lanes());
        scratch(2 * count * padded, |memory| {
            memory.fill(0.0);
            let (dh, dc) = memory.split_at_mut(count * padded);
            let block = Block {
                sequences,
                first,
                count,
                reverse,
                hidden,
                weight: weight.data.as_ptr(),
                dy: dy.data.as_ptr(),
                dy_stride: dy.stride,
                sums: sums.data.as_ptr(),
                sums_stride: sums.stride,
                dx: to.at(0),
                dx_stride: dx.stride,
                dh: dh.as_mut_ptr(),
                dc: dc.as_mut_ptr(),
                padded,
            };
            isa.run(block);
        });
    });
}

/// Some sequences.
struct Block {
    sequences: Sequences,
    first: usize,
    count: usize,
    reverse: bool,
    hidden: usize,
    weight: *const f32,
    dy: *const f32,
    dy_stride: usize,
    sums: *const f32,
    sums_stride: usize,
    dx: *mut f32,
    dx_stride: usize,
    /// Gradients of h, and of c as far as they come from the step after, `[count][padded]`.
    dh: *mut f32,
    dc: *mut f32,
    padded: usize,
}

impl Task for Block {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; all pointers are valid for what the sizes say, and the rows of `dx` of these sequences are this
    /// task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's.
        unsafe {
            for own in 0..self.count {
                for at in 0..self.sequences.steps {
                    self.cells::<S>(at, own);
                }
            }
            if S::N == 16 { self.back::<S, MOST>() } else { self.back::<S, { rows_of(8) }>() }
        }
    }
}

impl Block {
    /// The row of a step, which is counted in the order of the forward pass.
    #[inline(always)]
    fn row(&self, own: usize, at: usize) -> usize {
        let step = if self.reverse { self.sequences.steps - 1 - at } else { at };
        self.sequences.row(self.first + own, step)
    }

    /// Leaves c of a step in the first part of its row of `dx`.
    ///
    /// # Safety
    /// As [`Block::run`].
    #[inline(always)]
    unsafe fn cells<S: Simd>(&self, at: usize, own: usize) {
        // SAFETY: the caller's.
        unsafe {
            let row = self.row(own, at);
            let (sums, c) = (self.sums.add(row * self.sums_stride), self.dx.add(row * self.dx_stride));
            let before = if at == 0 { c } else { self.dx.add(self.row(own, at - 1) * self.dx_stride) };
            lanes!(S, self.hidden, |u, n| {
                let i = sigmoid::<S>(ld::<S>(sums.add(u), n));
                let f = sigmoid::<S>(ld::<S>(sums.add(self.hidden + u), n));
                let g = tanh::<S>(ld::<S>(sums.add(2 * self.hidden + u), n));
                let old = if at == 0 { S::splat(0.0) } else { ld::<S>(before.add(u), n) };
                st::<S>(c.add(u), S::fma(i, g, S::mul(f, old)), n);
            });
        }
    }

    /// # Safety
    /// As [`Block::run`].
    #[inline(always)]
    unsafe fn back<S: Simd, const R: usize>(&self) {
        let tiles = self.hidden.div_ceil(4 * S::N);
        for at in (0..self.sequences.steps).rev() {
            // SAFETY: the caller's; each tile is within the block.
            unsafe {
                for tile in 0..tiles {
                    let mut own = 0;
                    while own + R <= self.count {
                        self.states::<S, R>(at, tile, own);
                        own += R;
                    }
                    while own < self.count {
                        self.states::<S, 1>(at, tile, own);
                        own += 1;
                    }
                }
                for own in 0..self.count {
                    self.gates::<S>(at, own);
                }
            }
        }
    }

    /// The gradient of h: four vectors of units of `R` sequences.
    ///
    /// # Safety
    /// As [`Block::run`], for sequences `own` to `own + R` of the block.
    #[inline(always)]
    unsafe fn states<S: Simd, const R: usize>(&self, at: usize, tile: usize, own: usize) {
        let (hidden, unit) = (self.hidden, tile * 4 * S::N);
        // SAFETY: the caller's.
        unsafe {
            let mut dh = [[S::splat(0.0); 4]; R];
            unroll!(I <7 R, {
                let dy = self.dy.add(self.row(own + I, at) * self.dy_stride + unit);
                unroll!(J <4 4, {
                    let n = hidden.saturating_sub(unit + J * S::N).min(S::N);
                    if n > 0 {
                        dh[I][J] = ld::<S>(dy.add(J * S::N), n);
                    }
                });
            });
            if at + 1 < self.sequences.steps {
                let mut after = [std::ptr::null::<f32>(); R];
                unroll!(I <7 R, {
                    after[I] = self.dx.add(self.row(own + I, at + 1) * self.dx_stride);
                });
                dh = products::<S, R>(dh, after, self.weight.add(tile * 4 * hidden * 4 * S::N), 4 * hidden);
            }
            unroll!(I <7 R, {
                unroll!(J <4 4, {
                    S::store(self.dh.add((own + I) * self.padded + unit + J * S::N), dh[I][J]);
                });
            });
        }
    }

    /// The gradients of the sums of a step.
    ///
    /// # Safety
    /// As [`Block::run`].
    #[inline(always)]
    unsafe fn gates<S: Simd>(&self, at: usize, own: usize) {
        let hidden = self.hidden;
        // SAFETY: the caller's.
        unsafe {
            let row = self.row(own, at);
            let (sums, dx) = (self.sums.add(row * self.sums_stride), self.dx.add(row * self.dx_stride));
            let before = if at == 0 { dx } else { self.dx.add(self.row(own, at - 1) * self.dx_stride) };
            lanes!(S, hidden, |u, n| {
                let i = sigmoid::<S>(ld::<S>(sums.add(u), n));
                let f = sigmoid::<S>(ld::<S>(sums.add(hidden + u), n));
                let g = tanh::<S>(ld::<S>(sums.add(2 * hidden + u), n));
                let o = sigmoid::<S>(ld::<S>(sums.add(3 * hidden + u), n));
                let one = S::splat(1.0);
                let c = tanh::<S>(ld::<S>(dx.add(u), n));
                let old = if at == 0 { S::splat(0.0) } else { ld::<S>(before.add(u), n) };
                let (dh, kept) = (S::load(self.dh.add(own * self.padded + u)), self.dc.add(own * self.padded + u));
                let through = S::mul(S::mul(dh, o), S::sub(one, S::mul(c, c)));
                let dc = S::add(S::load(kept), through);
                S::store(kept, S::mul(dc, f));
                st::<S>(dx.add(u), S::mul(S::mul(dc, g), S::mul(i, S::sub(one, i))), n);
                st::<S>(dx.add(hidden + u), S::mul(S::mul(dc, old), S::mul(f, S::sub(one, f))), n);
                st::<S>(dx.add(2 * hidden + u), S::mul(S::mul(dc, i), S::sub(one, S::mul(g, g))), n);
                st::<S>(dx.add(3 * hidden + u), S::mul(S::mul(dh, c), S::mul(o, S::sub(one, o))), n);
            });
        }
    }
}
