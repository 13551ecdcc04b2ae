//! The register tile under convolution and matrix product of bf16.
//!
//! Formula   y[i][j] = sum over t, c of ptrs[t][i][c] * w[t][c][j] in float32, then the epilogue, then rounded once
//! Layout    weights in panels of two vectors of columns, in pairs along c: [T][C/2][2 N][2], odd C padded with a zero
//! Tile      MR rows x 2 vectors of sums: 14 x 32 (AVX-512), 4 x 16 (AVX2), 6 x 8 (portable)
//! Ceiling   the units of `vdpbf16ps`: per pair, MR broadcasts and 2 loads for 2 MR dot products of pairs

use super::super::math::{Act, apply_rows};
use super::super::simd::{Portable, Simd, ld, st, unroll};
use super::super::tile::fetch;
use super::simd::{F, Halves, Task, Unit, narrow, vectors, widen};
use half::bf16;

/// One tile's work. The kernel adds bias and residual and clamps; what more an epilogue wants is done by [`Finish`].
pub struct Tile<O> {
    /// `[taps][MR]` pointers to rows of `c` values.
    pub ptrs: *const *const bf16,
    pub taps: usize,
    pub c: usize,
    /// The panel, `[taps][c / 2, rounded up][2 N][2]`, though a kernel of one vector reads half of each row.
    pub w: *const bf16,
    /// What to fetch into L2 meanwhile: the panel that comes next, a line per pair. Any address will do.
    pub next: *const bf16,
    /// A cache line, or 0 to fetch nothing new.
    pub next_step: usize,
    pub y: *mut O,
    pub y_dist: usize,
    /// Null for none.
    pub res: *const bf16,
    pub res_dist: usize,
    /// Null for none.
    pub bias: *const f32,
    pub lo: f32,
    pub hi: f32,
    /// Columns to write, at most those of the kernel.
    pub cols: usize,
}

/// What values are kept in: bf16, or float32.
pub trait Stored: Copy + Send + Sync + 'static {
    /// Stores the first `n` of `N` lanes.
    ///
    /// # Safety
    /// As `Halves` says.
    unsafe fn put<H: Halves>(p: *mut Self, v: F<H>, n: usize);

    /// Loads the first `n` of `N` lanes.
    ///
    /// # Safety
    /// As `Halves` says.
    unsafe fn get<H: Halves>(p: *const Self, n: usize) -> F<H>;

    fn down(value: f32) -> Self;

    fn up(self) -> f32;

    /// The tables of kernels of this output.
    fn kernels(unit: Unit) -> &'static [[Kernel<Self>; 2]];
}

macro_rules! table {
    ($out:ty, $kernel:ident, $($rows:literal)*) => {{
        static TABLE: &[[Kernel<$out>; 2]] = &[$([$kernel::<$out, $rows, 1> as Kernel<$out>, $kernel::<$out, $rows, 2> as Kernel<$out>]),*];
        TABLE
    }};
}

/// The table of a unit. A macro, as the tables of both outputs are made of the same lines.
macro_rules! tables {
    ($unit:ident, $out:ty) => {
        match ($unit.isa().name(), $unit.has_dots()) {
            #[cfg(target_arch = "x86_64")]
            ("avx512", true) => table!($out, dots, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            #[cfg(target_arch = "x86_64")]
            ("avx512", false) => table!($out, avx512, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            #[cfg(target_arch = "x86_64")]
            ("avx2", _) => table!($out, avx2, 1 2 3 4),
            _ => table!($out, portable, 1 2 3 4 5 6),
        }
    };
}

impl Stored for bf16 {
    #[inline(always)]
    unsafe fn put<H: Halves>(p: *mut bf16, v: F<H>, n: usize) {
        // SAFETY: passed on to the caller.
        unsafe { narrow::<H>(p, v, n) }
    }
    #[inline(always)]
    unsafe fn get<H: Halves>(p: *const bf16, n: usize) -> F<H> {
        // SAFETY: passed on to the caller.
        unsafe { widen::<H>(p, n) }
    }
    #[inline(always)]
    fn down(value: f32) -> bf16 {
        bf16::from_f32(value)
    }
    #[inline(always)]
    fn up(self) -> f32 {
        self.to_f32()
    }
    fn kernels(unit: Unit) -> &'static [[Kernel<bf16>; 2]] {
        tables!(unit, bf16)
    }
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn put<H: Halves>(p: *mut f32, v: F<H>, n: usize) {
        // SAFETY: passed on to the caller.
        unsafe { st::<H::S>(p, v, n) }
    }
    #[inline(always)]
    unsafe fn get<H: Halves>(p: *const f32, n: usize) -> F<H> {
        // SAFETY: passed on to the caller.
        unsafe { ld::<H::S>(p, n) }
    }
    #[inline(always)]
    fn down(value: f32) -> f32 {
        value
    }
    #[inline(always)]
    fn up(self) -> f32 {
        self
    }
    fn kernels(unit: Unit) -> &'static [[Kernel<f32>; 2]] {
        tables!(unit, f32)
    }
}

pub type Kernel<O> = unsafe fn(&Tile<O>);

/// The kernel of `rows` rows and `vectors` (1 or 2) vectors of columns.
pub(super) fn kernel<O: Stored>(unit: Unit, rows: usize, vectors: usize) -> Kernel<O> {
    O::kernels(unit)[rows - 1][vectors - 1]
}

macro_rules! entry {
    ($name:ident, $halves:ty, $features:literal) => {
        /// # Safety
        /// That of [`tile`], and these features.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $name<O: Stored, const MR: usize, const NV: usize>(t: &Tile<O>) {
            // SAFETY: the features are enabled here; the rest is the caller's.
            unsafe { tile::<$halves, O, MR, NV>(t) }
        }
    };
}
entry!(dots, super::x86::Dots, "avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,avx2,fma");
entry!(avx512, super::super::x86::Avx512, "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma");
entry!(avx2, super::super::x86::Avx2, "avx2,fma");

/// # Safety
/// That of [`tile`].
unsafe fn portable<O: Stored, const MR: usize, const NV: usize>(t: &Tile<O>) {
    // SAFETY: the caller's.
    unsafe { tile::<Portable, O, MR, NV>(t) }
}

/// # Safety
/// The CPU must have the instruction set of `H`. All pointers of `t` must be valid for what its sizes say:
/// `taps * MR` rows of `c` values, a panel, and `MR` rows of `cols` values in `y` and `res`, `cols` floats in `bias`.
/// No row of `y` may overlap another or any input.
#[inline(always)]
unsafe fn tile<H: Halves, O: Stored, const MR: usize, const NV: usize>(t: &Tile<O>) {
    // SAFETY: rows, taps and columns stay within the sizes that the caller answers for.
    unsafe {
        let n = H::S::N;
        let mut acc = [[H::S::splat(0.0); NV]; MR];
        let mut w = t.w;
        let mut next = t.next;
        let (pairs, odd) = (t.c / 2, t.c % 2 == 1);
        for tap in 0..t.taps {
            let mut p = [std::ptr::null::<bf16>(); MR];
            unroll!(I < MR, {
                p[I] = *t.ptrs.add(tap * MR + I);
            });
            for c in 0..pairs {
                let w0 = H::pairs(w);
                let w1 = H::pairs(w.add((NV - 1) * 2 * n));
                fetch(next.cast());
                next = next.wrapping_add(t.next_step);
                unroll!(I < MR, {
                    let x = H::pair(p[I].add(2 * c));
                    acc[I][0] = H::dot(x, w0, acc[I][0]);
                    if NV == 2 {
                        acc[I][NV - 1] = H::dot(x, w1, acc[I][NV - 1]);
                    }
                });
                w = w.add(4 * n);
            }
            if odd {
                let w0 = H::pairs(w);
                let w1 = H::pairs(w.add((NV - 1) * 2 * n));
                unroll!(I < MR, {
                    let x = H::single(p[I].add(2 * pairs));
                    acc[I][0] = H::dot(x, w0, acc[I][0]);
                    if NV == 2 {
                        acc[I][NV - 1] = H::dot(x, w1, acc[I][NV - 1]);
                    }
                });
                w = w.add(4 * n);
            }
        }
        let (lo, hi) = (H::S::splat(t.lo), H::S::splat(t.hi));
        unroll!(J <4 NV, {
            let left = t.cols.saturating_sub(J * n).min(n);
            if left > 0 {
                let b = if t.bias.is_null() { H::S::splat(0.0) } else { ld::<H::S>(t.bias.add(J * n), left) };
                unroll!(I < MR, {
                    acc[I][J] = H::S::add(acc[I][J], b);
                });
                if !t.res.is_null() {
                    unroll!(I < MR, {
                        acc[I][J] = H::S::add(acc[I][J], widen::<H>(t.res.add(I * t.res_dist + J * n), left));
                    });
                }
                unroll!(I < MR, {
                    let v = H::S::min(hi, H::S::max(lo, acc[I][J]));
                    O::put::<H>(t.y.add(I * t.y_dist + J * n), v, left);
                });
            }
        });
    }
}

/// What an epilogue does beyond bias and clamp, from sums in float32 to the output: `after(before(x) + res) * gate`.
pub(super) struct Finish<O> {
    /// Overwritten.
    pub x: *mut f32,
    pub x_dist: usize,
    pub rows: usize,
    pub cols: usize,
    pub before: Act,
    /// Null for none.
    pub res: *const bf16,
    pub res_dist: usize,
    pub after: Act,
    /// Null for none; else `gate_rows` rows share one row of gates, and the first row of y is row `gate_row`.
    pub gate: *const f32,
    pub gate_dist: usize,
    pub gate_row: usize,
    pub gate_rows: usize,
    pub y: *mut O,
    pub y_dist: usize,
}

impl<O: Stored> Task for Finish<O> {
    /// # Safety
    /// As [`Task::run`]; all pointers must be valid for `rows` rows of `cols`, and those that are written be the caller's.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        // SAFETY: rows and columns stay within the sizes that the caller answers for.
        unsafe {
            if self.before != Act::None {
                apply_rows::<H::S>(self.before, self.x, self.x_dist, self.rows, self.cols);
            }
            if !self.res.is_null() {
                for i in 0..self.rows {
                    let (x, res) = (self.x.add(i * self.x_dist), self.res.add(i * self.res_dist));
                    vectors!(H, self.cols, |at, n| {
                        st::<H::S>(x.add(at), H::S::add(ld::<H::S>(x.add(at), n), widen::<H>(res.add(at), n)), n);
                    });
                }
            }
            if self.after != Act::None {
                apply_rows::<H::S>(self.after, self.x, self.x_dist, self.rows, self.cols);
            }
            for i in 0..self.rows {
                let (x, y) = (self.x.add(i * self.x_dist), self.y.add(i * self.y_dist));
                if self.gate.is_null() {
                    vectors!(H, self.cols, |at, n| {
                        O::put::<H>(y.add(at), ld::<H::S>(x.add(at), n), n);
                    });
                } else {
                    let gate = self.gate.add((self.gate_row + i) / self.gate_rows * self.gate_dist);
                    vectors!(H, self.cols, |at, n| {
                        O::put::<H>(y.add(at), H::S::mul(ld::<H::S>(x.add(at), n), ld::<H::S>(gate.add(at), n)), n);
                    });
                }
            }
        }
    }
}
