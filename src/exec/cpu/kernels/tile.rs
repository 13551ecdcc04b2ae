//! The register tile under convolution and matrix product.
//!
//! Formula   y[i][j] = sum over t, c of ptrs[t][i][c] * w[t][c][j], then the epilogue
//! Layout    weights in panels of two vectors of columns, [T][C][2 N]; rows by one pointer per (t, i)
//! Tile      MR rows x 2 vectors in registers: 14 x 32 (AVX-512), 6 x 16 (AVX2), 6 x 8 (portable)
//! Ceiling   all FMA units: per c, MR broadcasts and 2 loads for 2 MR FMAs
//! Measured  see `benches`; one thread, 3x3: 96 to 99 % of the ceiling

use super::math::{Act, Fun, HardSwish, apply_rows};
use super::simd::{Isa, Portable, Simd, Task, lanes, ld, st, unroll};

/// One tile's work. The kernel adds the bias, multiplies by the gate, adds the residual, and clamps or takes the hard swish; what more an epilogue wants is done by
/// [`Finish`], while the tile is in L1.
pub(super) struct Tile {
    /// `[taps][MR]` pointers to rows of `c` floats.
    pub ptrs: *const *const f32,
    pub taps: usize,
    pub c: usize,
    /// The panel, `[taps][c][step]`.
    pub w: *const f32,
    /// Floats from one row of the panel to the next: two vectors, though a kernel of one vector reads half.
    pub w_step: usize,
    /// What to fetch into L2 meanwhile: the panel that comes next, a line per `c`. Any address will do.
    pub next: *const f32,
    /// 16 floats, or 0 to fetch nothing new.
    pub next_step: usize,
    pub y: *mut f32,
    pub y_dist: usize,
    /// Null for none; one row for all.
    pub gate: *const f32,
    /// Null for none.
    pub res: *const f32,
    pub res_dist: usize,
    /// Null for none.
    pub bias: *const f32,
    pub lo: f32,
    pub hi: f32,
    /// Whether hard swish comes last.
    pub swish: bool,
    /// Columns to write, at most those of the kernel.
    pub cols: usize,
    /// Of a kernel of `stem.rs`: rows to write, floats from one to the next, and where the terms are.
    pub rows: usize,
    pub step: usize,
    pub offsets: *const u32,
}

pub(super) type Kernel = unsafe fn(&Tile);

/// The kernel of `rows` rows and `vectors` (1 or 2) vectors of columns.
pub(super) fn kernel(isa: Isa, rows: usize, vectors: usize) -> Kernel {
    let table: &[[Kernel; 2]] = match isa.name() {
        #[cfg(target_arch = "x86_64")]
        "avx512" => &AVX512,
        #[cfg(target_arch = "x86_64")]
        "avx2" => &AVX2,
        _ => &PORTABLE,
    };
    table[rows - 1][vectors - 1]
}

macro_rules! table {
    ($kernel:ident, $($rows:literal)*) => {
        [$([$kernel::<$rows, 1> as Kernel, $kernel::<$rows, 2> as Kernel]),*]
    };
}
#[cfg(target_arch = "x86_64")]
static AVX512: [[Kernel; 2]; 14] = table!(avx512, 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
#[cfg(target_arch = "x86_64")]
static AVX2: [[Kernel; 2]; 6] = table!(avx2, 1 2 3 4 5 6);
static PORTABLE: [[Kernel; 2]; 6] = table!(portable, 1 2 3 4 5 6);

/// # Safety
/// That of [`tile`], and AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")]
unsafe fn avx512<const MR: usize, const NV: usize>(t: &Tile) {
    // SAFETY: the features are enabled here; the rest is the caller's.
    unsafe { tile::<super::x86::Avx512, MR, NV>(t) }
}

/// # Safety
/// That of [`tile`], and AVX2 with FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const MR: usize, const NV: usize>(t: &Tile) {
    // SAFETY: the features are enabled here; the rest is the caller's.
    unsafe { tile::<super::x86::Avx2, MR, NV>(t) }
}

/// # Safety
/// That of [`tile`].
unsafe fn portable<const MR: usize, const NV: usize>(t: &Tile) {
    // SAFETY: the caller's.
    unsafe { tile::<Portable, MR, NV>(t) }
}

/// # Safety
/// The CPU must have the instruction set of `S`. All pointers of `t` must be valid for what its sizes say:
/// `taps * MR` rows of `c` floats, a panel of `taps * c` rows of `NV` vectors, and `MR` rows of `cols` floats in
/// `y` and `res`, `cols` floats in `bias`. No row of `y` may overlap another or any input.
#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(t: &Tile) {
    // SAFETY: rows, taps and columns stay within the sizes that the caller answers for.
    unsafe {
        let mut acc = begin::<S, MR, NV>(t);
        let mut w = t.w;
        let mut next = t.next;
        for tap in 0..t.taps {
            let mut p = [std::ptr::null::<f32>(); MR];
            unroll!(I < MR, {
                p[I] = *t.ptrs.add(tap * MR + I);
            });
            for c in 0..t.c {
                let mut wv = [S::splat(0.0); NV];
                unroll!(J <4 NV, {
                    wv[J] = S::load(w.add(J * S::N));
                });
                fetch(next);
                next = next.wrapping_add(t.next_step);
                unroll!(I < MR, {
                    let x = S::splat(*p[I].add(c));
                    unroll!(J <4 NV, {
                        acc[I][J] = S::fma(x, wv[J], acc[I][J]);
                    });
                });
                w = w.add(t.w_step);
            }
        }
        end::<S, MR, NV>(t, acc, MR);
    }
}

/// What the sums of a tile begin with: the bias. The residual, asked for now, has come after them.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
pub(super) unsafe fn begin<S: Simd, const MR: usize, const NV: usize>(t: &Tile) -> [[S::F; NV]; MR] {
    // SAFETY: the caller's.
    unsafe {
        if !t.res.is_null() {
            unroll!(I < MR, {
                unroll!(J <4 NV, {
                    fetch_near(t.res.wrapping_add(I * t.res_dist + J * S::N));
                });
            });
        }
        let mut bias = [S::splat(0.0); NV];
        if !t.bias.is_null() {
            unroll!(J <4 NV, {
                let n = t.cols.saturating_sub(J * S::N).min(S::N);
                bias[J] = ld::<S>(t.bias.wrapping_add(J * S::N), n);
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
pub(super) unsafe fn end<S: Simd, const MR: usize, const NV: usize>(t: &Tile, mut acc: [[S::F; NV]; MR], rows: usize) {
    // SAFETY: the caller's.
    unsafe {
        let (lo, hi) = (S::splat(t.lo), S::splat(t.hi));
        if t.cols == NV * S::N {
            if !t.gate.is_null() {
                unroll!(J <4 NV, {
                    let gate = S::load(t.gate.add(J * S::N));
                    unroll!(I < MR, {
                        acc[I][J] = S::mul(acc[I][J], gate);
                    });
                });
            }
            if !t.res.is_null() {
                unroll!(I < MR, {
                    unroll!(J <4 NV, {
                        if I < rows {
                            acc[I][J] = S::add(acc[I][J], S::load(t.res.add(I * t.res_dist + J * S::N)));
                        }
                    });
                });
            }
            if t.swish {
                unroll!(I < MR, {
                    unroll!(J <4 NV, {
                        acc[I][J] = HardSwish().eval::<S>(acc[I][J]);
                    });
                });
            }
            // Minima and maxima take the place of FMAs.
            if t.hi < f32::INFINITY {
                unroll!(I < MR, {
                    unroll!(J <4 NV, {
                        acc[I][J] = S::min(hi, acc[I][J]);
                    });
                });
            }
            unroll!(I < MR, {
                if I < rows {
                    unroll!(J <4 NV, {
                        S::store(t.y.add(I * t.y_dist + J * S::N), S::max(lo, acc[I][J]));
                    });
                }
            });
        } else {
            unroll!(J <4 NV, {
                let n = t.cols.saturating_sub(J * S::N).min(S::N);
                if n > 0 {
                    let gate = if t.gate.is_null() { S::splat(1.0) } else { S::load_n(t.gate.add(J * S::N), n) };
                    unroll!(I < MR, {
                        if I < rows {
                            let mut v = S::mul(acc[I][J], gate);
                            if !t.res.is_null() {
                                v = S::add(v, S::load_n(t.res.add(I * t.res_dist + J * S::N), n));
                            }
                            if t.swish {
                                v = HardSwish().eval::<S>(v);
                            }
                            S::store_n(t.y.add(I * t.y_dist + J * S::N), S::max(lo, S::min(hi, v)), n);
                        }
                    });
                }
            });
        }
    }
}

/// Asks for the line of `p` in L1, to be read; any address will do.
#[inline(always)]
fn fetch_near(p: *const f32) {
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
pub(super) fn fetch(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, and SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// What a tile's epilogue does beyond bias, gate, residual and clamp: `after(before(y) * gate + res)`, in place.
pub(super) struct Finish {
    pub y: *mut f32,
    pub y_dist: usize,
    pub rows: usize,
    pub cols: usize,
    pub before: Act,
    /// Null for none.
    pub res: *const f32,
    pub res_dist: usize,
    pub after: Act,
    /// Null for none; else `gate_rows` rows share one row of gates, and the first row of y is row `gate_row`.
    pub gate: *const f32,
    pub gate_dist: usize,
    pub gate_row: usize,
    pub gate_rows: usize,
}

impl Task for Finish {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; all pointers must be valid for `rows` rows of `cols`.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: rows and columns stay within the sizes that the caller answers for.
        unsafe {
            if self.before != Act::None {
                apply_rows::<S>(self.before, self.y, self.y_dist, self.rows, self.cols);
            }
            if !self.gate.is_null() {
                for i in 0..self.rows {
                    let y = self.y.add(i * self.y_dist);
                    let gate = self.gate.add((self.gate_row + i) / self.gate_rows * self.gate_dist);
                    lanes!(S, self.cols, |at, n| {
                        st::<S>(y.add(at), S::mul(ld::<S>(y.add(at), n), ld::<S>(gate.add(at), n)), n);
                    });
                }
            }
            if !self.res.is_null() {
                for i in 0..self.rows {
                    let (y, res) = (self.y.add(i * self.y_dist), self.res.add(i * self.res_dist));
                    lanes!(S, self.cols, |at, n| {
                        st::<S>(y.add(at), S::add(ld::<S>(y.add(at), n), ld::<S>(res.add(at), n)), n);
                    });
                }
            }
            if self.after != Act::None {
                apply_rows::<S>(self.after, self.y, self.y_dist, self.rows, self.cols);
            }
        }
    }
}
