//! The register tile under Winograd's algorithm: for one point, MR tiles times a panel of two vectors of channels.
//!
//! Formula   m[i][j] = sum over c of v[c / N][i][c % N] * u[c][j] in float32
//! Layout    rows of V are N values apart: one base register and constant offsets; U is a panel [terms of C][2 N], read in
//!           order
//! Roofline  all FMA units, as in `tile.rs`

use super::super::bf16::simd::{Halves, Unit};
#[cfg(target_arch = "x86_64")]
use super::super::bf16::x86::Dots;
use super::super::element::Element;
use super::super::simd::{NO_KERNELS, PORTABLE, Portable, Simd, unroll};
use super::super::tile::fetch;
#[cfg(target_arch = "x86_64")]
use super::super::x86::{Avx2, Avx512};

/// One tile's work.
pub(super) struct Product<V> {
    /// `[vectors][MR][N]`, vectors `v_step` apart.
    pub v: *const V,
    pub v_step: usize,
    /// `[terms of vectors * N][2 N]`, though a kernel of one vector reads half.
    pub u: *const V,
    /// Vectors of input channels.
    pub vectors: usize,
    /// `[MR][2 N]`.
    pub m: *mut f32,
    /// What to fetch into L2 meanwhile, two lines for each term. Any address will do.
    pub next: [*const V; 2],
    /// A cache line, or 0 to fetch nothing new.
    pub next_step: usize,
}

type Kernel<V> = unsafe fn(&Product<V>);

macro_rules! table {
    ($kernel:ident, $($rows:literal)*) => {
        [$([$kernel::<V, $rows, 1> as Kernel<V>, $kernel::<V, $rows, 2> as Kernel<V>]),*]
    };
}

/// The kernel of `rows` tiles and `vectors` (1 or 2) vectors of columns.
pub(super) fn kernel<V: Element>(unit: Unit, rows: usize, vectors: usize) -> Kernel<V> {
    let table: &[[Kernel<V>; 2]] = match (unit.isa().name(), V::has_dots(unit)) {
        #[cfg(target_arch = "x86_64")]
        ("avx512", true) => const { &table!(dots, 1 2 3 4 5 6 7 8 9 10 11 12 13 14) },
        #[cfg(target_arch = "x86_64")]
        ("avx512", false) => const { &table!(avx512, 1 2 3 4 5 6 7 8 9 10 11 12 13 14) },
        #[cfg(target_arch = "x86_64")]
        ("avx2", _) => const { &table!(avx2, 1 2 3 4 5 6) },
        _ if PORTABLE => const { &table!(portable, 1 2 3 4 5 6) },
        _ => unreachable!("{NO_KERNELS}"),
    };
    table[rows - 1][vectors - 1]
}

macro_rules! entry {
    ($name:ident, $halves:ty, $features:literal) => {
        /// # Safety
        /// That of [`product`], and these features.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $name<V: Element, const MR: usize, const NV: usize>(t: &Product<V>) {
            // SAFETY: the features are enabled here; the rest is the caller's.
            unsafe { product::<$halves, V, MR, NV>(t) }
        }
    };
}
entry!(dots, Dots, "avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,avx2,fma");
entry!(avx512, Avx512, "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma");
entry!(avx2, Avx2, "avx2,fma");

/// # Safety
/// That of [`product`].
unsafe fn portable<V: Element, const MR: usize, const NV: usize>(t: &Product<V>) {
    // SAFETY: the caller's.
    unsafe { product::<Portable, V, MR, NV>(t) }
}

/// # Safety
/// The CPU has the instruction set of `H`; V, U and M are valid for the sizes, and M overlaps neither.
#[inline(always)]
unsafe fn product<H: Halves, V: Element, const MR: usize, const NV: usize>(t: &Product<V>) {
    let lanes = H::S::N;
    // SAFETY: rows and columns stay within the sizes that the caller answers for.
    unsafe {
        let mut acc = [[H::S::splat(0.0); NV]; MR];
        let (mut v, mut u, mut next) = (t.v, t.u, t.next);
        for _ in 0..t.vectors {
            for c in 0..lanes / V::TERMS {
                let mut uv = [V::terms::<H>(u); NV];
                unroll!(J <4 NV, {
                    uv[J] = V::terms::<H>(u.add(J * lanes * V::TERMS));
                });
                u = u.add(2 * lanes * V::TERMS);
                fetch(next[0]);
                fetch(next[1]);
                next = next.map(|next| next.wrapping_add(t.next_step));
                unroll!(I < MR, {
                    let x = V::spread::<H>(v.add(I * lanes + c * V::TERMS));
                    unroll!(J <4 NV, {
                        acc[I][J] = V::fma::<H>(x, uv[J], acc[I][J]);
                    });
                });
            }
            v = v.add(t.v_step);
        }
        unroll!(I < MR, {
            unroll!(J <4 NV, {
                H::S::store(t.m.add((I * 2 + J) * lanes), acc[I][J]);
            });
        });
    }
}
