//! The register tile under Winograd's algorithm: for one point, MR tiles times a panel of two vectors of channels.
//!
//! Formula   m[i][j] = sum over c of v[c / N][i][c % N] * u[c][j]
//! Layout    rows of V are N floats apart: one base register and constant offsets; U is a panel [C][2 N], read in order
//! Ceiling   all FMA units, as in `tile.rs`

use super::super::simd::{Isa, Portable, Simd, unroll};
use super::super::tile::fetch;
#[cfg(target_arch = "x86_64")]
use super::super::x86::{Avx2, Avx512};

/// One tile's work.
pub(super) struct Product {
    /// `[vectors][MR][N]`, vectors `v_step` apart.
    pub v: *const f32,
    pub v_step: usize,
    /// `[vectors * N][2 N]`, though a kernel of one vector reads half.
    pub u: *const f32,
    /// Vectors of input channels.
    pub vectors: usize,
    /// `[MR][2 N]`.
    pub m: *mut f32,
    /// What to fetch into L2 meanwhile, two lines for each input channel. Any address will do.
    pub next: [*const f32; 2],
    /// 16 floats, or 0 to fetch nothing new.
    pub next_step: usize,
}

type Kernel = unsafe fn(&Product);

/// The kernel of `rows` tiles and `vectors` (1 or 2) vectors of columns.
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
/// That of [`product`], and AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")]
unsafe fn avx512<const MR: usize, const NV: usize>(t: &Product) {
    // SAFETY: the features are enabled here; the rest is the caller's.
    unsafe { product::<Avx512, MR, NV>(t) }
}

/// # Safety
/// That of [`product`], and AVX2 with FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const MR: usize, const NV: usize>(t: &Product) {
    // SAFETY: the features are enabled here; the rest is the caller's.
    unsafe { product::<Avx2, MR, NV>(t) }
}

/// # Safety
/// That of [`product`].
unsafe fn portable<const MR: usize, const NV: usize>(t: &Product) {
    // SAFETY: the caller's.
    unsafe { product::<Portable, MR, NV>(t) }
}

/// # Safety
/// The CPU has the instruction set of `S`; V, U and M are valid for the sizes, and M overlaps neither.
#[inline(always)]
unsafe fn product<S: Simd, const MR: usize, const NV: usize>(t: &Product) {
    // SAFETY: rows and columns stay within the sizes that the caller answers for.
    unsafe {
        let mut acc = [[S::splat(0.0); NV]; MR];
        let (mut v, mut u, mut next) = (t.v, t.u, t.next);
        for _ in 0..t.vectors {
            for c in 0..S::N {
                let mut uv = [S::splat(0.0); NV];
                unroll!(J <4 NV, {
                    uv[J] = S::load(u.add(J * S::N));
                });
                u = u.add(2 * S::N);
                fetch(next[0]);
                fetch(next[1]);
                next = next.map(|next| next.wrapping_add(t.next_step));
                unroll!(I < MR, {
                    let x = S::splat(*v.add(I * S::N + c));
                    unroll!(J <4 NV, {
                        acc[I][J] = S::fma(x, uv[J], acc[I][J]);
                    });
                });
            }
            v = v.add(t.v_step);
        }
        unroll!(I < MR, {
            unroll!(J <4 NV, {
                S::store(t.m.add((I * 2 + J) * S::N), acc[I][J]);
            });
        });
    }
}
