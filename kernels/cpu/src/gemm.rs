//! Products of matrices: with packed weights, with weights as they are (few rows), and of two activations.
//!
//! Formula   C[m][n] = epilogue(sum over k of A[m][k] * B[k][n])
//! Kernels   [`PackedMat`]: the register tiles of `direct.rs`. [`linear`]: dot products over weights [n, k] read once,
//!           for few rows, where reading the weights is all the time. [`matmul`]: B packed on the way

use super::bf16::{
    self,
    simd::{Halves, Task, Unit},
};
use super::direct::{Ending, Epilogue, Extra, Job, Place, Source, panel_cols};
use super::element::{Element, scratch_of};
use super::formats::{Packs, Sums};
use super::par::{Aligned, Shared, ranges, scratch, tasks};
use super::simd::{Isa, Simd, ld, unroll};
use super::tile::fetch;
use super::view::{Rows, RowsMut};
use super::walk::Strided;
use std::marker::PhantomData;

/// The right matrix of a product, packed.
#[derive(Debug)]
pub struct PackedMat<T = f32> {
    unit: Unit,
    k: usize,
    n: usize,
    data: Aligned,
    of: PhantomData<T>,
}

impl<T: Element> PackedMat<T> {
    /// From rows [n, k], as a linear layer stores its weights.
    pub fn from_nk(unit: impl Into<Unit>, w: Rows) -> Self {
        T::pack_mat(unit.into(), w)
    }

    pub(super) fn packed(unit: Unit, w: Rows) -> Self {
        w.check();
        Self::new(unit, w.cols, w.rows, &Right::Nk(w))
    }

    /// From rows [k, n].
    pub fn from_kn(unit: impl Into<Unit>, b: Rows) -> Self {
        b.check();
        Self::new(unit.into(), b.rows, b.cols, &Right::Kn(b))
    }

    fn new(unit: Unit, k: usize, n: usize, b: &Right) -> Self {
        let kb = panel_cols(unit);
        // in floats, which hold one term
        let len = k.div_ceil(T::TERMS) * kb;
        let mut data = Aligned::zeros(n.div_ceil(kb) * len);
        let base = Shared(data.as_mut_ptr());
        tasks(n.div_ceil(kb), |p| {
            // SAFETY: each task has its own panel.
            let panel = unsafe { std::slice::from_raw_parts_mut(base.at(p * len), len) };
            b.pack::<T>(p * kb, n, bytemuck::cast_slice_mut(panel), kb, 1.0);
        });
        PackedMat { unit, k, n, data, of: PhantomData }
    }

    /// `[k, n]`
    pub fn shape(&self) -> [usize; 2] {
        [self.k, self.n]
    }

    /// The weights, if to read them is most of the work for so many rows: for [`prefetch`](super::prefetch).
    pub fn streamed(&self, rows: usize) -> Option<&[f32]> {
        (rows < T::tile_rows(self.unit)).then_some(&self.data)
    }

    /// `gemm 14x32`
    pub fn kernel(&self) -> String {
        format!("gemm{} {}x{}", T::LABEL, T::tile_rows(self.unit), panel_cols(self.unit))
    }

    /// `out = epilogue(a * self)`, `a` [m, k], `out` [m, n].
    pub fn run<O: Sums<T>>(&self, a: Rows<T>, out: RowsMut<O>, epilogue: &Epilogue<T>) {
        O::mat(self, a, out, epilogue);
    }

    pub(super) fn multiply<O: Element>(&self, a: Rows<T>, out: RowsMut<O>, epilogue: &Epilogue<T>) {
        a.check();
        out.check();
        assert!(a.cols == self.k && out.cols == self.n && a.rows == out.rows, "matrices that do not fit");
        epilogue.check(out.rows, out.cols, 1);
        let job = Job {
            unit: self.unit,
            source: Source::Rows { x: a.data.as_ptr(), stride: a.stride },
            groups: 1,
            rows: a.rows,
            images: 1,
            taps: 1,
            depth: self.k,
            cols: self.n,
            w: self.data.as_ptr().cast(),
            y: Shared(out.data.as_mut_ptr()),
            y_stride: out.stride,
            epilogue,
            extra: Extra::default(),
        };
        // SAFETY: the views were checked and are as large as the packed matrix wants.
        unsafe { job.run() };
    }

    /// [`PackedMat::run`] on rows that are rounded first.
    pub fn run_wide<O: Sums<T>>(&self, a: Rows, out: RowsMut<O>, epilogue: &Epilogue<T>) {
        O::mat_wide(self, a, out, epilogue);
    }

    pub(super) fn multiply_wide<O: Element>(&self, a: Rows, out: RowsMut<O>, epilogue: &Epilogue<T>) {
        a.check();
        scratch_of(a.rows * a.cols, |rounded: &mut [T]| {
            let from = Strided { data: a.data, strides: &[a.stride, 1] };
            bf16::copy_of(self.unit, &[a.rows, a.cols], from, rounded, &[a.cols, 1]);
            self.multiply(Rows::new(&*rounded, a.rows, a.cols), out, epilogue);
        });
    }
}

/// A right matrix that is not packed.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    Kn(Rows<'a>),
    Nk(Rows<'a>),
}

impl Right<'_> {
    /// Writes the panel of columns `first..` (below `n`) times `scale`: `[terms of k][kb]`, zeros beyond `n` and for a last
    /// term that is not whole.
    pub fn pack<T: Element>(&self, first: usize, n: usize, panel: &mut [T], kb: usize, scale: f32) {
        let cols = kb.min(n - first);
        let k = match self {
            Right::Kn(b) => b.rows,
            Right::Nk(b) => b.cols,
        };
        if cols < kb || !k.is_multiple_of(T::TERMS) {
            panel.fill(T::ZERO);
        }
        match self {
            Right::Kn(b) => {
                for (term, out) in panel.chunks_exact_mut(kb * T::TERMS).enumerate() {
                    for at in 0..T::TERMS.min(k - term * T::TERMS) {
                        let row = &b.data[(term * T::TERMS + at) * b.stride + first..][..cols];
                        for (out, &v) in out[at..].iter_mut().step_by(T::TERMS).zip(row) {
                            *out = T::down(v * scale);
                        }
                    }
                }
            }
            Right::Nk(b) => {
                // 64 values at a time: what is written stays in L1, and rows are read by several lines.
                for (block, out) in panel.chunks_mut(64 * kb).enumerate() {
                    for j in 0..cols {
                        let row = &b.data[(first + j) * b.stride + block * 64..][..64.min(k - block * 64)];
                        for (i, &v) in row.iter().enumerate() {
                            out[(i / T::TERMS * kb + j) * T::TERMS + i % T::TERMS] = T::down(v * scale);
                        }
                    }
                }
            }
        }
    }
}

/// `out = epilogue(a * w^T)` with weights [n, k] as they are: for few rows (up to about 8), where packing does not pay.
pub fn linear<T: Packs>(unit: impl Into<Unit>, a: Rows, w: Rows<T>, out: RowsMut, epilogue: &Epilogue) {
    T::linear(unit.into(), a, w, out, epilogue);
}

pub(super) fn linear_of<T: Element>(unit: Unit, a: Rows, w: Rows<T>, out: RowsMut, epilogue: &Epilogue) {
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
                let y = y.at(row * out.stride + first);
                unit.run(Dots { a, w, row, rows, first, cols, y, y_stride: out.stride, epilogue, ending: &ending });
            }
            if ending.more {
                let y = y.at(first);
                let place = Place { y, stride: out.stride, row: 0, rows: a.rows, col: first, cols };
                // SAFETY: these columns have just been written, and are this task's.
                unsafe { ending.finish(unit, epilogue, (y, out.stride), &place, w.rows, a.rows) };
            }
        }
    });
}

/// Rows of weights, and of A, that one call of [`Dots`] reads together, at most.
const DOTS: usize = 4;

/// Some rows of A times some rows of weights.
struct Dots<'a, T> {
    a: Rows<'a>,
    w: Rows<'a, T>,
    row: usize,
    rows: usize,
    first: usize,
    cols: usize,
    y: *mut f32,
    y_stride: usize,
    epilogue: &'a Epilogue<'a>,
    ending: &'a Ending,
}

impl<T: Element> Task for Dots<'_, T> {
    const PAIRS: bool = T::TERMS > 1;

    /// # Safety
    /// As [`Task::run`]; the views were checked and y is this task's.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        // SAFETY: the caller's.
        unsafe {
            match self.rows {
                1 => self.some::<H, 1, 2>(),
                2 => self.some::<H, 2, 1>(),
                3 => self.some::<H, 3, 1>(),
                _ => self.some::<H, 4, 1>(),
            }
        }
    }
}

impl<T: Element> Dots<'_, T> {
    /// `MA` rows of A; `U` sums in parallel for each product, where few products would wait for one another.
    ///
    /// # Safety
    /// As `run`.
    #[inline(always)]
    unsafe fn some<H: Halves, const MA: usize, const U: usize>(&self) {
        let k = self.a.cols;
        // SAFETY: rows and columns are below the checked sizes; a row that is missing repeats the last one.
        unsafe {
            let a: [*const f32; MA] = std::array::from_fn(|i| self.a.at(self.row + i));
            let w: [*const T; DOTS] = std::array::from_fn(|j| self.w.at(self.first + j.min(self.cols - 1)));
            let mut acc = [[[H::S::splat(0.0); U]; DOTS]; MA];
            let mut t = 0;
            while t + U * H::S::N <= k {
                unroll!(P <4 U, {
                    let mut av = [H::S::splat(0.0); MA];
                    unroll!(I <4 MA, {
                        av[I] = H::S::load(a[I].add(t + P * H::S::N));
                    });
                    unroll!(J <4 DOTS, {
                        let from = w[J].wrapping_add(t + P * H::S::N);
                        fetch(from.wrapping_add(AHEAD / size_of::<T>()));
                        let wv = T::get::<H>(from, H::S::N);
                        unroll!(I <4 MA, {
                            acc[I][J][P] = H::S::fma(av[I], wv, acc[I][J][P]);
                        });
                    });
                });
                t += U * H::S::N;
            }
            while t < k {
                let n = (k - t).min(H::S::N);
                unroll!(J <4 DOTS, {
                    let wv = T::get::<H>(w[J].add(t), n);
                    unroll!(I <4 MA, {
                        acc[I][J][0] = H::S::fma(ld::<H::S>(a[I].add(t), n), wv, acc[I][J][0]);
                    });
                });
                t += n;
            }
            let mut sums = [[0f32; DOTS]; MA];
            unroll!(I <4 MA, {
                unroll!(J <4 DOTS, {
                    let mut sum = acc[I][J][0];
                    if U == 2 {
                        sum = H::S::add(sum, acc[I][J][U - 1]);
                    }
                    sums[I][J] = H::S::sum(sum);
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
                    *self.y.add(i * self.y_stride + j) = v;
                }
            }
        }
    }
}

/// How far ahead weights are fetched, in bytes: memory answers after some 100 ns.
const AHEAD: usize = 1024;

/// A batch of matrices: matrix `b` starts at `data[b * batch]`, its row `i` `stride` floats further on.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
    /// Floats from one matrix to the next; 0 to use one for all.
    pub batch: usize,
}

/// As [`Batch`], to be written.
#[derive(Debug)]
pub struct BatchMut<'a> {
    pub data: &'a mut [f32],
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
    pub batch: usize,
}

/// Whether the right matrices of [`matmul`] are [k, n] or [n, k].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Kn,
    Nk,
}

/// `out[i] = scale * a[i] * b[i]` for `count` matrices, `a` [m, k], `b` [k, n] (or [n, k]), `out` [m, n].
pub fn matmul(isa: Isa, count: usize, a: Batch, b: Batch, layout: Layout, out: BatchMut, scale: f32) {
    let (k, n) = match layout {
        Layout::Kn => (b.rows, b.cols),
        Layout::Nk => (b.cols, b.rows),
    };
    assert!(a.cols == k && out.cols == n && a.rows == out.rows, "matrices that do not fit");
    if count == 0 || out.rows == 0 || n == 0 {
        return;
    }
    // one after the other, or side by side in the same rows
    let beside = out.batch >= n && (count - 1) * out.batch + n <= out.stride;
    assert!(out.batch >= (out.rows - 1) * out.stride + n || beside || count == 1, "matrices of the output overlap");
    let last = |batch: usize| (count - 1) * batch;
    Rows { data: &a.data[last(a.batch)..], rows: a.rows, cols: a.cols, stride: a.stride }.check();
    Rows { data: &b.data[last(b.batch)..], rows: b.rows, cols: b.cols, stride: b.stride }.check();
    RowsMut { data: &mut out.data[last(out.batch)..], rows: out.rows, cols: out.cols, stride: out.stride }.check();
    let y = Shared(out.data.as_mut_ptr());
    let epilogue = Epilogue::default();
    // Rows are cut as well, so that one matrix keeps all threads busy.
    let unit = Unit::from(isa);
    let kb = panel_cols(unit);
    let parts = if count >= 16 { 1 } else { out.rows.div_ceil(8 * isa.tile_rows()) };
    tasks(count * parts, |task| {
        let (i, part) = (task / parts, task % parts);
        let rows = out.rows * part / parts..out.rows * (part + 1) / parts;
        let b = Rows { data: &b.data[i * b.batch..], rows: b.rows, cols: b.cols, stride: b.stride };
        let right = if layout == Layout::Kn { Right::Kn(b) } else { Right::Nk(b) };
        scratch(n.div_ceil(kb) * k * kb, |packed| {
            for (p, panel) in packed.chunks_mut((k * kb).max(1)).enumerate() {
                right.pack::<f32>(p * kb, n, panel, kb, scale);
            }
            let job = Job {
                unit,
                source: Source::Rows { x: a.data[i * a.batch + rows.start * a.stride..].as_ptr(), stride: a.stride },
                groups: 1,
                rows: rows.len(),
                images: 1,
                taps: 1,
                depth: k,
                cols: n,
                w: packed.as_ptr(),
                y: Shared(y.at(i * out.batch + rows.start * out.stride)),
                y_stride: out.stride,
                epilogue: &epilogue,
                extra: Extra::default(),
            };
            // SAFETY: the views were checked; matrices of the output do not overlap, and each task has its own rows.
            unsafe { job.run() };
        });
    });
}
