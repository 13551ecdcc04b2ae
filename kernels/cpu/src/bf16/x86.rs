//! The vectors of bf16 of x86: AVX-512 with and without BF16, AVX2.

use super::super::x86::{Avx2, Avx512};
use super::simd::{Halves, Task};
use half::bf16;
use std::arch::x86_64::*;

/// AVX-512 F, DQ, VL, BW and BF16. Its conversions and products take subnormal numbers as zero.
#[derive(Clone, Copy)]
pub(in super::super) struct Dots;

/// # Safety
/// The CPU must have these features.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,avx2,fma")]
pub(super) unsafe fn run_dots<T: Task>(task: T) {
    // SAFETY: the features are enabled here.
    unsafe { task.run::<Dots>() }
}

/// # Safety
/// The CPU must have these features.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")]
pub(super) unsafe fn run_avx512<T: Task>(task: T) {
    // SAFETY: the features are enabled here.
    unsafe { task.run::<Avx512>() }
}

/// # Safety
/// The CPU must have these features.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2<T: Task>(task: T) {
    // SAFETY: the features are enabled here.
    unsafe { task.run::<Avx2>() }
}

/// Functions whose body is one expression of intrinsics.
macro_rules! intrinsics {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $e:expr;)*) => {
        $(#[inline(always)]
        unsafe fn $name($($arg: $ty),*) -> $ret {
            // SAFETY: the caller has the instruction set, and its pointers are valid for what they touch.
            unsafe { $e }
        })*
    };
}

#[inline(always)]
fn mask16(n: usize) -> u16 {
    ((1u32 << n) - 1) as u16
}

#[inline(always)]
fn mask32(n: usize) -> u32 {
    ((1u64 << n) - 1) as u32
}

/// What AVX-512 does the same way with BF16 and without.
macro_rules! avx512 {
    () => {
        type P = __m512i;
        const MR: usize = 14;

        intrinsics! {
            pairs(p: *const bf16) -> __m512i = _mm512_loadu_si512(p.cast());
            pairs_n(p: *const bf16, n: usize) -> __m512i = _mm512_maskz_loadu_epi16(mask32(n), p.cast());
            pair(p: *const bf16) -> __m512i = _mm512_set1_epi32(p.cast::<i32>().read_unaligned());
            single(p: *const bf16) -> __m512i = _mm512_set1_epi32(i32::from((*p).to_bits()));
            even(v: __m512i) -> __m512 = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(v));
            odd(v: __m512i) -> __m512 = _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(-65536)));
            zip(even: __m512, odd: __m512) -> [__m512; 2] = {
                let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
                let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
                [_mm512_permutex2var_ps(even, low, odd), _mm512_permutex2var_ps(even, high, odd)]
            };
            widen(p: *const bf16) -> __m512 = {
                let v = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(v))
            };
            widen_n(p: *const bf16, n: usize) -> __m512 = {
                let v = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask16(n), p.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(v))
            };
        }
    };
}

impl Halves for Dots {
    type S = Avx512;
    avx512! {}

    intrinsics! {
        dot(a: __m512i, b: __m512i, sum: __m512) -> __m512 = {
            _mm512_dpbf16_ps(sum, std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b))
        };
        narrow(p: *mut bf16, v: __m512) -> () = _mm256_storeu_si256(p.cast(), halves(v));
        narrow_n(p: *mut bf16, v: __m512, n: usize) -> () =
            _mm256_mask_storeu_epi16(p.cast(), mask16(n), halves(v));
    }
}

/// # Safety
/// The CPU must have AVX-512 BF16.
#[inline(always)]
unsafe fn halves(v: __m512) -> __m256i {
    // SAFETY: the caller's; both are 256 bits.
    unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v)) }
}

impl Halves for Avx512 {
    type S = Avx512;
    avx512! {}

    intrinsics! {
        dot(a: __m512i, b: __m512i, sum: __m512) -> __m512 = {
            let sum = _mm512_fmadd_ps(Self::odd(a), Self::odd(b), sum);
            _mm512_fmadd_ps(Self::even(a), Self::even(b), sum)
        };
        narrow(p: *mut bf16, v: __m512) -> () =
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded512(v))));
        narrow_n(p: *mut bf16, v: __m512, n: usize) -> () = {
            let v = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded512(v)));
            _mm256_mask_storeu_epi16(p.cast(), mask16(n), v)
        };
    }
}

/// The nearest bf16 in the upper half of each lane.
///
/// # Safety
/// The CPU must have AVX-512.
#[inline(always)]
unsafe fn rounded512(v: __m512) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let bits = _mm512_castps_si512(v);
        let last = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), last);
        let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
        _mm512_mask_blend_epi32(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v), up, quiet)
    }
}

impl Halves for Avx2 {
    type S = Avx2;
    type P = __m256i;
    // Eight sums, four vectors of weights and two of input leave two registers.
    const MR: usize = 4;

    intrinsics! {
        pairs(p: *const bf16) -> __m256i = _mm256_loadu_si256(p.cast());
        pairs_n(p: *const bf16, n: usize) -> __m256i = {
            let mut some = [bf16::ZERO; 16];
            std::ptr::copy_nonoverlapping(p, some.as_mut_ptr(), n);
            _mm256_loadu_si256(some.as_ptr().cast())
        };
        pair(p: *const bf16) -> __m256i = _mm256_set1_epi32(p.cast::<i32>().read_unaligned());
        single(p: *const bf16) -> __m256i = _mm256_set1_epi32(i32::from((*p).to_bits()));
        dot(a: __m256i, b: __m256i, sum: __m256) -> __m256 = {
            let sum = _mm256_fmadd_ps(Self::odd(a), Self::odd(b), sum);
            _mm256_fmadd_ps(Self::even(a), Self::even(b), sum)
        };
        even(v: __m256i) -> __m256 = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(v));
        odd(v: __m256i) -> __m256 = _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(-65536)));
        zip(even: __m256, odd: __m256) -> [__m256; 2] = {
            let (low, high) = (_mm256_unpacklo_ps(even, odd), _mm256_unpackhi_ps(even, odd));
            [_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high)]
        };
        widen(p: *const bf16) -> __m256 = {
            let v = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(v))
        };
        widen_n(p: *const bf16, n: usize) -> __m256 = {
            let mut some = [bf16::ZERO; 8];
            std::ptr::copy_nonoverlapping(p, some.as_mut_ptr(), n);
            Self::widen(some.as_ptr())
        };
        narrow(p: *mut bf16, v: __m256) -> () = {
            let v = _mm256_srli_epi32::<16>(rounded256(v));
            let v = _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
            _mm_storeu_si128(p.cast(), v)
        };
        narrow_n(p: *mut bf16, v: __m256, n: usize) -> () = {
            let mut some = [bf16::ZERO; 8];
            Self::narrow(some.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(some.as_ptr(), p, n);
        };
    }
}

/// The nearest bf16 in the upper half of each lane.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn rounded256(v: __m256) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        let bits = _mm256_castps_si256(v);
        let last = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), last);
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        _mm256_blendv_epi8(up, quiet, nan)
    }
}
