//! Products of activations with weights in bf16.
//!
//! Kernels   [`PackedMat`]: the register tiles of `direct.rs`, inputs rounded to bf16. [`linear`]: for few rows, where
//!           reading the weights is all the time: weights widened, multiplied in float32 with inputs as they are

use super::super::direct::{Ending, Epilogue as Floats, Place};
use super::super::par::{Aligned, ranges, scratch, tasks};
use super::super::simd::{Simd, ld, unroll};
use super::super::tile::fetch;
use super::super::view::{Rows, RowsMut};
use super::direct::{Epilogue, Job, Shared, Source, panel_cols};
use super::simd::{Halves, Task, Unit, widen};
use super::tile::Stored;
use half::bf16;

/// The weights of a linear layer, packed.
#[derive(Debug)]
pub struct PackedMat {
    unit: Unit,
    k: usize,
    n: usize,
    data: Aligned,
}

impl PackedMat {
    /// From rows [n, k], as a linear layer stores its weights.
    pub fn from_nk(unit: Unit, w: Rows) -> Self {
        w.check();
        let (k, n, kb) = (w.cols, w.rows, panel_cols(unit));
        let len = k.div_ceil(2) * kb;
        let mut data = Aligned::zeros(n.div_ceil(kb) * len);
        let base = super::super::par::Shared(data.as_mut_ptr());
        tasks(n.div_ceil(kb), |p| {
            // SAFETY: each task has its own panel.
            let panel = unsafe { std::slice::from_raw_parts_mut(base.at(p * len), len) };
            let panel: &mut [bf16] = bytemuck::cast_slice_mut(panel);
            // 64 terms at a time: what is written stays in L1, and rows are read by several lines.
            for k0 in (0..k).step_by(64) {
                for j in 0..kb.min(n - p * kb) {
                    let row = &w.data[(p * kb + j) * w.dist..][..k];
                    for (at, &v) in row.iter().enumerate().take(k0 + 64).skip(k0) {
                        panel[(at / 2 * kb + j) * 2 + at % 2] = bf16::from_f32(v);
                    }
                }
            }
        });
        PackedMat { unit, k, n, data }
    }

    /// `out = epilogue(a * self)`, `a` [m, k], `out` [m, n].
    pub fn run<O: Stored>(&self, a: Rows<bf16>, out: RowsMut<O>, epilogue: &Epilogue) {
        a.check();
        out.check();
        assert!(a.cols == self.k && out.cols == self.n && a.rows == out.rows, "matrices that do not fit");
        epilogue.check(out.rows, out.cols, 1);
        let job = Job {
            unit: self.unit,
            source: Source::Rows { x: a.data.as_ptr(), dist: a.dist },
            groups: 1,
            rows: a.rows,
            images: 1,
            taps: 1,
            depth: self.k,
            cols: self.n,
            w: self.data.as_ptr().cast(),
            y: Shared(out.data.as_mut_ptr()),
            y_dist: out.dist,
            epilogue,
        };
        // SAFETY: the views were checked and are as large as the packed matrix wants.
        unsafe { job.run() };
    }

    /// [`PackedMat::run`] on rows that are rounded first.
    pub fn run_wide<O: Stored>(&self, a: Rows, out: RowsMut<O>, epilogue: &Epilogue) {
        a.check();
        scratch((a.rows * a.cols).div_ceil(2), |rounded| {
            let rounded: &mut [bf16] = &mut bytemuck::cast_slice_mut(rounded)[..a.rows * a.cols];
            let from = super::super::walk::Strided { data: a.data, strides: &[a.dist, 1] };
            super::copy::copy(self.unit, &[a.rows, a.cols], from, rounded, &[a.cols, 1]);
            self.run(Rows::new(&*rounded, a.rows, a.cols), out, epilogue);
        });
    }
}

/// `out = epilogue(a * w^T)` with weights [n, k] as they are: for few rows (up to about 8).
pub fn linear(unit: Unit, a: Rows, w: Rows<bf16>, out: RowsMut, epilogue: &Floats) {
    a.check();
    w.check();
    out.check();
    assert!(a.cols == w.cols && out.cols == w.rows && a.rows == out.rows, "matrices that do not fit");
    epilogue.check(out.rows, out.cols, 1);
    if out.rows == 0 || out.cols == 0 {
        return;
    }
    let y = Shared(out.data.as_mut_ptr());
    let ending = Ending::of(epilogue);
    ranges(w.rows.div_ceil(DOTS), DOTS * w.cols, |range| {
        for block in range {
            let first = block * DOTS;
            let cols = DOTS.min(w.rows - first);
            for row in (0..a.rows).step_by(DOTS) {
                let rows = DOTS.min(a.rows - row);
                let y = y.at(row * out.dist + first);
                unit.run(Dots { a, w, row, rows, first, cols, y, y_dist: out.dist, epilogue, ending: &ending });
            }
            if ending.more {
                let place = Place { y: y.at(first), dist: out.dist, row: 0, rows: a.rows, col: first, cols };
                // SAFETY: these columns have just been written, and are this task's.
                unsafe { ending.finish(unit.isa(), epilogue, place, w.rows, a.rows) };
            }
        }
    });
}

/// Rows of weights, and of A, that one call of [`Dots`] reads together, at most.
const DOTS: usize = 4;

/// How far ahead weights are fetched, in values: memory answers after some 100 ns.
const AHEAD: usize = 512;

/// Some rows of A times some rows of weights.
struct Dots<'a> {
    a: Rows<'a>,
    w: Rows<'a, bf16>,
    row: usize,
    rows: usize,
    first: usize,
    cols: usize,
    y: *mut f32,
    y_dist: usize,
    epilogue: &'a Floats<'a>,
    ending: &'a Ending,
}

impl Task for Dots<'_> {
    /// # Safety
    /// As [`Task::run`]; the views were checked and y is this task's.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        // SAFETY: the caller's.
        unsafe {
            match self.rows {
                1 => self.some::<H, 1>(),
                2 => self.some::<H, 2>(),
                3 => self.some::<H, 3>(),
                _ => self.some::<H, 4>(),
            }
        }
    }
}

impl Dots<'_> {
    /// # Safety
    /// As `run`, with `MA` rows of A.
    #[inline(always)]
    unsafe fn some<H: Halves, const MA: usize>(&self) {
        let k = self.a.cols;
        // SAFETY: rows and columns are below the checked sizes; a row that is missing repeats the last one.
        unsafe {
            let a: [*const f32; MA] = std::array::from_fn(|i| self.a.at(self.row + i));
            let w: [*const bf16; DOTS] = std::array::from_fn(|j| self.w.at(self.first + j.min(self.cols - 1)));
            let mut acc = [[H::S::splat(0.0); DOTS]; MA];
            let mut t = 0;
            while t < k {
                let n = (k - t).min(H::S::N);
                let mut av = [H::S::splat(0.0); MA];
                unroll!(I <4 MA, {
                    av[I] = ld::<H::S>(a[I].add(t), n);
                });
                unroll!(J <4 DOTS, {
                    let from = w[J].wrapping_add(t);
                    fetch(from.wrapping_add(AHEAD).cast());
                    let wv = widen::<H>(from, n);
                    unroll!(I <4 MA, {
                        acc[I][J] = H::S::fma(av[I], wv, acc[I][J]);
                    });
                });
                t += n;
            }
            let mut sums = [[0f32; DOTS]; MA];
            unroll!(I <4 MA, {
                unroll!(J <4 DOTS, {
                    sums[I][J] = H::S::sum(acc[I][J]);
                });
            });
            for (i, sums) in sums.into_iter().enumerate() {
                for (j, mut v) in sums.into_iter().enumerate().take(self.cols) {
                    v += self.epilogue.bias.map_or(0.0, |b| b[self.first + j]);
                    if self.ending.simple {
                        v += self.epilogue.residual.map_or(0.0, |res| *res.at(self.row + i).add(self.first + j));
                        v = if self.ending.lo > v { self.ending.lo } else { v };
                        v = if self.ending.hi < v { self.ending.hi } else { v };
                    }
                    *self.y.add(i * self.y_dist + j) = v;
                }
            }
        }
    }
}
