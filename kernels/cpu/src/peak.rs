//! Loops that run into one limit of the machine and do nothing else: what kernels are measured against.
//!
//! Each runs on the calling thread and says how much it did; who calls it takes the time.

#![expect(
    clippy::out_of_bounds_indexing,
    reason = "`unroll` has more literals than there are chains, and leaves them out"
)]

use super::simd::{Isa, Simd, Task, unroll};
use std::hint::black_box;

/// Chains of sums that are in flight: more than latency times units of any core, and few enough for 16 registers.
const CHAINS: usize = 12;

/// Fused multiply-adds in registers; the number of floating point operations.
pub fn fma(isa: Isa, rounds: usize) -> f64 {
    black_box(isa.run(Fma { rounds, x: black_box(0.999), y: black_box(1e-3) }));
    (2 * CHAINS * isa.lanes() * rounds) as f64
}

/// Dot products of bf16 pairs in registers; the number of floating point operations, none without the instruction.
pub fn dot_bf16(isa: Isa, rounds: usize) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if isa.name() == "avx512" && is_x86_feature_detected!("avx512bf16") {
        // SAFETY: the CPU was asked for both features.
        black_box(unsafe { dot_avx512(rounds) });
        return Some((4 * CHAINS * isa.lanes() * rounds) as f64);
    }
    let _ = (isa, rounds);
    None
}

/// Reads all; the number of bytes.
pub fn read(isa: Isa, data: &[f32]) -> f64 {
    black_box(isa.run(Read { data }));
    size_of_val(data) as f64
}

/// Copies as much as both have; the number of bytes read and written.
pub fn copy(isa: Isa, from: &[f32], to: &mut [f32]) -> f64 {
    let len = from.len().min(to.len());
    isa.run(Copy { from: &from[..len], to: &mut to[..len] });
    black_box(&to);
    (2 * len * size_of::<f32>()) as f64
}

struct Fma {
    rounds: usize,
    x: f32,
    y: f32,
}

impl Task for Fma {
    type Output = f32;
    /// # Safety
    /// As [`Task::run`].
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        // SAFETY: registers only; the caller has the instruction set.
        unsafe {
            let (x, y) = (S::splat(self.x), S::splat(self.y));
            let mut sums = [S::splat(0.0); CHAINS];
            for _ in 0..self.rounds {
                unroll!(I < CHAINS, {
                    sums[I] = S::fma(sums[I], x, y);
                });
            }
            let mut all = S::splat(0.0);
            unroll!(I < CHAINS, {
                all = S::add(all, sums[I]);
            });
            S::sum(all)
        }
    }
}

/// # Safety
/// The CPU must have these features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn dot_avx512(rounds: usize) -> f32 {
    use std::arch::x86_64::*;
    let ones = _mm512_cvtne2ps_pbh(_mm512_set1_ps(black_box(1e-3)), _mm512_set1_ps(black_box(1e-3)));
    let mut sums = [_mm512_setzero_ps(); CHAINS];
    for _ in 0..rounds {
        unroll!(I < CHAINS, {
            sums[I] = _mm512_dpbf16_ps(sums[I], ones, ones);
        });
    }
    let mut all = _mm512_setzero_ps();
    unroll!(I < CHAINS, {
        all = _mm512_add_ps(all, sums[I]);
    });
    _mm512_reduce_add_ps(all)
}

struct Read<'a> {
    data: &'a [f32],
}

impl Task for Read<'_> {
    type Output = f32;
    /// # Safety
    /// As [`Task::run`].
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        // SAFETY: `i + 4 * N` stays within the slice; the caller has the instruction set.
        unsafe {
            let mut most = [S::splat(0.0); 4];
            let mut i = 0;
            while i + 4 * S::N <= self.data.len() {
                let from = self.data.as_ptr().add(i);
                unroll!(J <4 4, {
                    most[J] = S::max(most[J], S::load(from.add(J * S::N)));
                });
                i += 4 * S::N;
            }
            S::sum(S::max(S::max(most[0], most[1]), S::max(most[2], most[3])))
        }
    }
}

struct Copy<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Task for Copy<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; both slices have the same length.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (from, to) = (self.from.as_ptr(), self.to.as_mut_ptr());
        let mut i = 0;
        while i + S::N <= self.from.len() {
            // SAFETY: `i + N` stays within both slices; the caller has the instruction set.
            unsafe { S::store(to.add(i), S::load(from.add(i))) };
            i += S::N;
        }
    }
}
