//! The register tile under convolution and matrix product.
//!
//! Formula   y[i][j] = sum over t, c of ptrs[t][i][c] * w[t][c][j] in float32, then the epilogue, then rounded where y is bf16
//! Layout    weights in panels of two vectors of columns, [T][C][2 N] of terms: a float, or a pair of bf16 along C, padded
//!           with a zero where C is odd; rows by one pointer per (t, i)
//! Tile      MR rows x 2 vectors in registers: 14 x 32 (AVX-512), 6 x 16 (AVX2; 4 x 16 of bf16), 6 x 8 (portable)
//! Roofline  all units that multiply: per term, MR broadcasts and 2 loads for 2 MR products
//! Measured  see `benches`; one thread, 3x3: 96 to 99 % of the peak

use archc_base::Act;

use super::act::{Fun, HardSwish, apply_rows};
use super::bf16::simd::{F, Halves, Task, Unit, vectors};
use super::element::Element;
use super::simd::{NO_KERNELS, PORTABLE, Portable, Simd, ld, st, unroll};

/// One tile's work. The kernel adds the bias, multiplies by the gate, adds the residual, and clamps or takes the hard
/// swish; what more an epilogue wants is done by [`Finish`], while the tile is in L1.
pub(super) struct Tile<T, O> {
    /// `[taps][MR]` pointers to rows of `c` values.
    pub ptrs: *const *const T,
    pub taps: usize,
    pub c: usize,
    /// The panel, `[taps][terms of c][2 N]`, though a kernel of one vector reads half of each row.
    pub w: *const T,
    /// What to fetch into L2 meanwhile: the panel that comes next, a line per term. Any address will do.
    pub next: *const T,
    /// A cache line, or 0 to fetch nothing new.
    pub next_step: usize,
    pub y: *mut O,
    pub y_stride: usize,
    /// Null for none; one row for all.
    pub gate: *const f32,
    /// Null for none.
    pub res: *const T,
    pub res_stride: usize,
    /// Null for none.
    pub bias: *const f32,
    pub lo: f32,
    pub hi: f32,
    /// Whether hard swish comes last.
    pub swish: bool,
    /// Columns to write, at most those of the kernel.
    pub cols: usize,
    /// Of a kernel of `stem.rs`: rows to write, values from one to the next, and where the terms are.
    pub rows: usize,
    pub step: usize,
    pub offsets: *const u32,
}

/// Sums of floats become bf16 in a stem alone: for these formats there are no kernels here.
macro_rules! table {
    ($kernel:ident, $($rows:literal)*) => {
        const {
            if T::TERMS < O::TERMS { &[] as &[[Kernel<T, O>; 2]] } else {
                &[$([$kernel::<T, O, $rows, 1> as Kernel<T, O>, $kernel::<T, O, $rows, 2> as Kernel<T, O>]),*]
            }
        }
    };
}

pub(super) type Kernel<T, O> = unsafe fn(&Tile<T, O>);

/// The kernel of `rows` rows and `vectors` (1 or 2) vectors of columns.
pub(super) fn kernel<T: Element, O: Element>(unit: Unit, rows: usize, vectors: usize) -> Kernel<T, O> {
    let table: &[[Kernel<T, O>; 2]] = match (unit.isa().name(), T::has_dots(unit)) {
        #[cfg(target_arch = "x86_64")]
        ("avx512", true) => table!(dots, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        #[cfg(target_arch = "x86_64")]
        ("avx512", false) => table!(avx512, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        #[cfg(target_arch = "x86_64")]
        ("avx2", _) => table!(avx2, 1 2 3 4 5 6),
        _ if PORTABLE => table!(portable, 1 2 3 4 5 6),
        _ => unreachable!("{NO_KERNELS}"),
    };
    table[rows - 1][vectors - 1]
}

macro_rules! entry {
    ($name:ident, $halves:ty, $features:literal) => {
        /// # Safety
        /// That of [`tile`], and these features.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $name<T: Element, O: Element, const MR: usize, const NV: usize>(t: &Tile<T, O>) {
            // SAFETY: the features are enabled here; the rest is the caller's.
            unsafe { tile::<$halves, T, O, MR, NV>(t) }
        }
    };
}
entry!(dots, super::bf16::x86::Dots, "avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,avx2,fma");
entry!(avx512, super::x86::Avx512, "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma");
entry!(avx2, super::x86::Avx2, "avx2,fma");

/// # Safety
/// That of [`tile`].
unsafe fn portable<T: Element, O: Element, const MR: usize, const NV: usize>(t: &Tile<T, O>) {
    // SAFETY: the caller's.
    unsafe { tile::<Portable, T, O, MR, NV>(t) }
}

/// # Safety
/// The CPU must have the instruction set of `H`. All pointers of `t` must be valid for what its sizes say:
/// `taps * MR` rows of `c` values, a panel of as many terms in `NV` vectors, and `MR` rows of `cols` values in
/// `y` and `res`, `cols` floats in `bias`. No row of `y` may overlap another or any input.
#[inline(always)]
unsafe fn tile<H: Halves, T: Element, O: Element, const MR: usize, const NV: usize>(t: &Tile<T, O>) {
    // SAFETY: rows, taps and columns stay within the sizes that the caller answers for.
    unsafe {
        let lanes = H::S::N;
        let mut acc = begin::<H, T, O, MR, NV>(t);
        let mut w = t.w;
        let mut next = t.next;
        for tap in 0..t.taps {
            let mut p = [std::ptr::null::<T>(); MR];
            unroll!(I < MR, {
                p[I] = *t.ptrs.add(tap * MR + I);
            });
            for c in 0..t.c / T::TERMS {
                let mut wv = [T::terms::<H>(w); NV];
                unroll!(J <4 NV, {
                    wv[J] = T::terms::<H>(w.add(J * lanes * T::TERMS));
                });
                fetch(next);
                next = next.wrapping_add(t.next_step);
                unroll!(I < MR, {
                    let x = T::spread::<H>(p[I].add(c * T::TERMS));
                    unroll!(J <4 NV, {
                        acc[I][J] = T::fma::<H>(x, wv[J], acc[I][J]);
                    });
                });
                w = w.add(2 * lanes * T::TERMS);
            }
            if !t.c.is_multiple_of(T::TERMS) {
                let mut wv = [T::terms::<H>(w); NV];
                unroll!(J <4 NV, {
                    wv[J] = T::terms::<H>(w.add(J * lanes * T::TERMS));
                });
                unroll!(I < MR, {
                    let x = T::spread_one::<H>(p[I].add(t.c - 1));
                    unroll!(J <4 NV, {
                        acc[I][J] = T::fma::<H>(x, wv[J], acc[I][J]);
                    });
                });
                w = w.add(2 * lanes * T::TERMS);
            }
        }
        end::<H, T, O, MR, NV>(t, acc, MR);
    }
}

/// What the sums of a tile begin with: the bias. The residual's lines are fetched meanwhile, as they are needed last.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
pub(super) unsafe fn begin<H: Halves, T: Element, O: Element, const MR: usize, const NV: usize>(
    t: &Tile<T, O>,
) -> [[F<H>; NV]; MR] {
    let lanes = H::S::N;
    // SAFETY: the caller's.
    unsafe {
        if !t.res.is_null() {
            unroll!(I < MR, {
                unroll!(J <4 NV, {
                    fetch_near(t.res.wrapping_add(I * t.res_stride + J * lanes));
                });
            });
        }
        let mut bias = [H::S::splat(0.0); NV];
        if !t.bias.is_null() {
            unroll!(J <4 NV, {
                let n = t.cols.saturating_sub(J * lanes).min(lanes);
                bias[J] = ld::<H::S>(t.bias.wrapping_add(J * lanes), n);
            });
        }
        [bias; MR]
    }
}

/// Gate, residual and clamp, and the first `rows` rows stored.
///
/// # Safety
/// As [`tile`], for `rows` rows of y and `res`.
#[inline(always)]
pub(super) unsafe fn end<H: Halves, T: Element, O: Element, const MR: usize, const NV: usize>(
    t: &Tile<T, O>,
    mut acc: [[F<H>; NV]; MR],
    rows: usize,
) {
    let lanes = H::S::N;
    // SAFETY: the caller's.
    unsafe {
        let (lo, hi) = (H::S::splat(t.lo), H::S::splat(t.hi));
        if t.cols == NV * lanes {
            if !t.gate.is_null() {
                unroll!(J <4 NV, {
                    let gate = H::S::load(t.gate.add(J * lanes));
                    unroll!(I < MR, {
                        acc[I][J] = H::S::mul(acc[I][J], gate);
                    });
                });
            }
            if !t.res.is_null() {
                unroll!(I < MR, {
                    unroll!(J <4 NV, {
                        if I < rows {
                            acc[I][J] = H::S::add(acc[I][J], T::get::<H>(t.res.add(I * t.res_stride + J * lanes), lanes));
                        }
                    });
                });
            }
            if t.swish {
                unroll!(I < MR, {
                    unroll!(J <4 NV, {
                        acc[I][J] = HardSwish().eval::<H::S>(acc[I][J]);
                    });
                });
            }
            // Minima and maxima take the place of FMAs.
            if t.hi < f32::INFINITY {
                unroll!(I < MR, {
                    unroll!(J <4 NV, {
                        acc[I][J] = H::S::min(hi, acc[I][J]);
                    });
                });
            }
            unroll!(I < MR, {
                if I < rows {
                    unroll!(J <4 NV, {
                        O::put::<H>(t.y.add(I * t.y_stride + J * lanes), H::S::max(lo, acc[I][J]), lanes);
                    });
                }
            });
        } else {
            unroll!(J <4 NV, {
                let n = t.cols.saturating_sub(J * lanes).min(lanes);
                if n > 0 {
                    let gate = if t.gate.is_null() { H::S::splat(1.0) } else { H::S::load_n(t.gate.add(J * lanes), n) };
                    unroll!(I < MR, {
                        if I < rows {
                            let mut v = H::S::mul(acc[I][J], gate);
                            if !t.res.is_null() {
                                v = H::S::add(v, T::get::<H>(t.res.add(I * t.res_stride + J * lanes), n));
                            }
                            if t.swish {
                                v = HardSwish().eval::<H::S>(v);
                            }
                            O::put::<H>(t.y.add(I * t.y_stride + J * lanes), H::S::max(lo, H::S::min(hi, v)), n);
                        }
                    });
                }
            });
        }
    }
}

/// Asks for the line of `p` in L1, to be read; any address will do.
#[inline(always)]
fn fetch_near<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, and SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Asks for the line of `p` in L2; any address will do.
#[inline(always)]
pub(super) fn fetch<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, and SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// What a tile's epilogue does beyond bias, gate, residual and clamp: `y = after(before(x) * gate + res)`.
pub(super) struct Finish<T, O> {
    /// Sums, which are overwritten; y itself where that holds floats.
    pub x: *mut f32,
    pub x_stride: usize,
    pub y: *mut O,
    pub y_stride: usize,
    pub rows: usize,
    pub cols: usize,
    pub before: Act,
    /// Null for none.
    pub res: *const T,
    pub res_stride: usize,
    pub after: Act,
    /// Null for none; else `gate_rows` rows share one row of gates, and the first row of y is row `gate_row`.
    pub gate: *const f32,
    pub gate_stride: usize,
    pub gate_row: usize,
    pub gate_rows: usize,
}

impl<T: Element, O: Element> Task for Finish<T, O> {
    const PAIRS: bool = T::TERMS > 1 || O::TERMS > 1;

    /// # Safety
    /// As [`Task::run`]; all pointers must be valid for `rows` rows of `cols`.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        let (x, stride) = (self.x, self.x_stride);
        // SAFETY: rows and columns stay within the sizes that the caller answers for.
        unsafe {
            if self.before != Act::None {
                apply_rows::<H::S>(self.before, x, stride, self.rows, self.cols);
            }
            if !self.gate.is_null() {
                for i in 0..self.rows {
                    let x = x.add(i * stride);
                    let gate = self.gate.add((self.gate_row + i) / self.gate_rows * self.gate_stride);
                    vectors!(H, self.cols, |at, n| {
                        st::<H::S>(x.add(at), H::S::mul(ld::<H::S>(x.add(at), n), ld::<H::S>(gate.add(at), n)), n);
                    });
                }
            }
            if !self.res.is_null() {
                for i in 0..self.rows {
                    let (x, res) = (x.add(i * stride), self.res.add(i * self.res_stride));
                    vectors!(H, self.cols, |at, n| {
                        st::<H::S>(x.add(at), H::S::add(ld::<H::S>(x.add(at), n), T::get::<H>(res.add(at), n)), n);
                    });
                }
            }
            if self.after != Act::None {
                apply_rows::<H::S>(self.after, x, stride, self.rows, self.cols);
            }
            if O::floats(self.y) != Some(x) {
                for i in 0..self.rows {
                    let (x, y) = (x.add(i * stride), self.y.add(i * self.y_stride));
                    vectors!(H, self.cols, |at, n| {
                        O::put::<H>(y.add(at), ld::<H::S>(x.add(at), n), n);
                    });
                }
            }
        }
    }
}
