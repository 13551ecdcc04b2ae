//! Products of matrices: with packed weights, with weights as they are (few rows), and of two activations.
//!
//! Formula   C[m][n] = epilogue(sum over k of A[m][k] * B[k][n])
//! Kernels   [`PackedMat`]: the register tiles of `direct.rs`. [`linear`]: dot products over weights [n, k] read once,
//!           for few rows, where reading the weights is all the time. [`matmul`]: B packed on the way

use super::direct::{Ending, Epilogue, Extra, Job, Place, Source, panel_cols};
use super::par::{Aligned, Shared, ranges, scratch, tasks};
use super::simd::{Isa, Simd, Task, unroll};
use super::tile::fetch;
use super::view::{Rows, RowsMut};

/// The right matrix of a product, packed.
#[derive(Debug)]
pub struct PackedMat {
    isa: Isa,
    k: usize,
    n: usize,
    data: Aligned,
}

impl PackedMat {
    /// From rows [n, k], as a linear layer stores its weights.
    pub fn from_nk(isa: Isa, w: Rows) -> Self {
        w.check();
        Self::new(isa, w.cols, w.rows, &Right::Nk(w))
    }

    /// From rows [k, n].
    pub fn from_kn(isa: Isa, b: Rows) -> Self {
        b.check();
        Self::new(isa, b.rows, b.cols, &Right::Kn(b))
    }

    fn new(isa: Isa, k: usize, n: usize, b: &Right) -> Self {
        let kb = panel_cols(isa);
        let mut data = Aligned::zeros(n.div_ceil(kb) * k * kb);
        let base = Shared(data.as_mut_ptr());
        tasks(n.div_ceil(kb), |p| {
            // SAFETY: each task has its own panel.
            let panel = unsafe { std::slice::from_raw_parts_mut(base.at(p * k * kb), k * kb) };
            b.pack(p * kb, n, panel, kb, 1.0);
        });
        PackedMat { isa, k, n, data }
    }

    /// `[k, n]`
    pub fn shape(&self) -> [usize; 2] {
        [self.k, self.n]
    }

    /// The weights, if to read them is most of the work for so many rows: for [`announce`](super::announce).
    pub fn streamed(&self, rows: usize) -> Option<&[f32]> {
        (rows < self.isa.tile_rows()).then_some(&self.data)
    }

    /// `out = epilogue(a * self)`, `a` [m, k], `out` [m, n].
    pub fn run(&self, a: Rows, out: RowsMut, epilogue: &Epilogue) {
        a.check();
        out.check();
        assert!(a.cols == self.k && out.cols == self.n && a.rows == out.rows, "matrices that do not fit");
        epilogue.check(out.rows, out.cols, 1);
        let job = Job {
            isa: self.isa,
            source: Source::Rows { x: a.data.as_ptr(), dist: a.dist },
            groups: 1,
            rows: a.rows,
            images: 1,
            taps: 1,
            depth: self.k,
            cols: self.n,
            w: self.data.as_ptr(),
            y: Shared(out.data.as_mut_ptr()),
            y_dist: out.dist,
            epilogue,
            extra: Extra::default(),
        };
        // SAFETY: the views were checked and are as large as the packed matrix wants.
        unsafe { job.run() };
    }
}

/// A right matrix that is not packed.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    Kn(Rows<'a>),
    Nk(Rows<'a>),
}

impl Right<'_> {
    /// Writes the panel of columns `first..` (below `n`) times `scale`: `[k][kb]`, zeros beyond `n`.
    pub fn pack(&self, first: usize, n: usize, panel: &mut [f32], kb: usize, scale: f32) {
        let cols = kb.min(n - first);
        match self {
            Right::Kn(b) => {
                for (k, out) in panel.chunks_exact_mut(kb).enumerate() {
                    for (out, &v) in out.iter_mut().zip(&b.data[k * b.dist + first..][..cols]) {
                        *out = v * scale;
                    }
                    out[cols..].fill(0.0);
                }
            }
            Right::Nk(b) => {
                if cols < kb {
                    panel.fill(0.0);
                }
                // 64 terms at a time: what is written stays in L1, and rows are read by several lines.
                for (block, out) in panel.chunks_mut(64 * kb).enumerate() {
                    for j in 0..cols {
                        let row = &b.data[(first + j) * b.dist + block * 64..][..out.len() / kb];
                        for (i, &v) in row.iter().enumerate() {
                            out[i * kb + j] = v * scale;
                        }
                    }
                }
            }
        }
    }
}

/// `out = epilogue(a * w^T)` with weights [n, k] as they are: for few rows (up to about 8), where packing does not pay.
pub fn linear(isa: Isa, a: Rows, w: Rows, out: RowsMut, epilogue: &Epilogue) {
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
                isa.run(Dots { a, w, row, rows, first, cols, y, y_dist: out.dist, epilogue, ending: &ending });
            }
            if ending.more {
                let place = Place { y: y.at(first), dist: out.dist, row: 0, rows: a.rows, col: first, cols };
                // SAFETY: these columns have just been written, and are this task's.
                unsafe { ending.finish(isa, epilogue, place, w.rows, a.rows) };
            }
        }
    });
}

/// Rows of weights, and of A, that one call of [`Dots`] reads together, at most.
const DOTS: usize = 4;

/// Some rows of A times some rows of weights.
struct Dots<'a> {
    a: Rows<'a>,
    w: Rows<'a>,
    row: usize,
    rows: usize,
    first: usize,
    cols: usize,
    y: *mut f32,
    y_dist: usize,
    epilogue: &'a Epilogue<'a>,
    ending: &'a Ending,
}

impl Task for Dots<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the views were checked and y is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's.
        unsafe {
            match self.rows {
                1 => self.some::<S, 1, 2>(),
                2 => self.some::<S, 2, 1>(),
                3 => self.some::<S, 3, 1>(),
                _ => self.some::<S, 4, 1>(),
            }
        }
    }
}

impl Dots<'_> {
    /// `MA` rows of A; `U` sums in parallel for each product, where few products would wait for one another.
    ///
    /// # Safety
    /// As `run`.
    #[inline(always)]
    unsafe fn some<S: Simd, const MA: usize, const U: usize>(&self) {
        let k = self.a.cols;
        // SAFETY: rows and columns are below the checked sizes; a row that is missing repeats the last one.
        unsafe {
            let a: [*const f32; MA] = std::array::from_fn(|i| self.a.at(self.row + i));
            let w: [*const f32; DOTS] = std::array::from_fn(|j| self.w.at(self.first + j.min(self.cols - 1)));
            let mut acc = [[[S::splat(0.0); U]; DOTS]; MA];
            let mut t = 0;
            while t + U * S::N <= k {
                unroll!(P <4 U, {
                    let mut av = [S::splat(0.0); MA];
                    unroll!(I <4 MA, {
                        av[I] = S::load(a[I].add(t + P * S::N));
                    });
                    unroll!(J <4 DOTS, {
                        let from = w[J].wrapping_add(t + P * S::N);
                        fetch(from.wrapping_add(AHEAD));
                        let wv = S::load(from);
                        unroll!(I <4 MA, {
                            acc[I][J][P] = S::fma(av[I], wv, acc[I][J][P]);
                        });
                    });
                });
                t += U * S::N;
            }
            while t < k {
                let n = (k - t).min(S::N);
                unroll!(J <4 DOTS, {
                    let wv = S::load_n(w[J].add(t), n);
                    unroll!(I <4 MA, {
                        acc[I][J][0] = S::fma(S::load_n(a[I].add(t), n), wv, acc[I][J][0]);
                    });
                });
                t += n;
            }
            let mut sums = [[0f32; DOTS]; MA];
            unroll!(I <4 MA, {
                unroll!(J <4 DOTS, {
                    let mut sum = acc[I][J][0];
                    if U == 2 {
                        sum = S::add(sum, acc[I][J][U - 1]);
                    }
                    sums[I][J] = S::sum(sum);
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

/// How far ahead weights are fetched, in floats: memory answers after some 100 ns.
const AHEAD: usize = 256;

/// A batch of matrices: matrix `b` starts at `data[b * batch]`, its row `i` `dist` floats further on.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub cols: usize,
    pub dist: usize,
    /// Floats from one matrix to the next; 0 to use one for all.
    pub batch: usize,
}

/// As [`Batch`], to be written.
#[derive(Debug)]
pub struct BatchMut<'a> {
    pub data: &'a mut [f32],
    pub rows: usize,
    pub cols: usize,
    pub dist: usize,
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
    let beside = out.batch >= n && (count - 1) * out.batch + n <= out.dist;
    assert!(out.batch >= (out.rows - 1) * out.dist + n || beside || count == 1, "matrices of the output overlap");
    let last = |batch: usize| (count - 1) * batch;
    Rows { data: &a.data[last(a.batch)..], rows: a.rows, cols: a.cols, dist: a.dist }.check();
    Rows { data: &b.data[last(b.batch)..], rows: b.rows, cols: b.cols, dist: b.dist }.check();
    RowsMut { data: &mut out.data[last(out.batch)..], rows: out.rows, cols: out.cols, dist: out.dist }.check();
    let y = Shared(out.data.as_mut_ptr());
    let epilogue = Epilogue::default();
    // Rows are cut as well, so that one matrix keeps all threads busy.
    let kb = panel_cols(isa);
    let parts = if count >= 16 { 1 } else { out.rows.div_ceil(8 * isa.tile_rows()) };
    tasks(count * parts, |task| {
        let (i, part) = (task / parts, task % parts);
        let rows = out.rows * part / parts..out.rows * (part + 1) / parts;
        let b = Rows { data: &b.data[i * b.batch..], rows: b.rows, cols: b.cols, dist: b.dist };
        let right = if layout == Layout::Kn { Right::Kn(b) } else { Right::Nk(b) };
        scratch(n.div_ceil(kb) * k * kb, |packed| {
            for (p, panel) in packed.chunks_mut((k * kb).max(1)).enumerate() {
                right.pack(p * kb, n, panel, kb, scale);
            }
            let job = Job {
                isa,
                source: Source::Rows { x: a.data[i * a.batch + rows.start * a.dist..].as_ptr(), dist: a.dist },
                groups: 1,
                rows: rows.len(),
                images: 1,
                taps: 1,
                depth: k,
                cols: n,
                w: packed.as_ptr(),
                y: Shared(y.at(i * out.batch + rows.start * out.dist)),
                y_dist: out.dist,
                epilogue: &epilogue,
                extra: Extra::default(),
            };
            // SAFETY: the views were checked; matrices of the output do not overlap, and each task has its own rows.
            unsafe { job.run() };
        });
    });
}
