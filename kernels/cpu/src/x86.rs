//! The vector types of x86: AVX-512 (16 floats) and AVX2 with FMA (8 floats).
//!
//! Knows nothing of kernels. Each function is one or a few instructions.

use super::simd::{ROOT_OF_HALF, Simd, Task};
use std::arch::x86_64::*;

/// AVX-512 F, DQ, VL and BW.
#[derive(Clone, Copy)]
pub(super) struct Avx512;

/// AVX2 and FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// # Safety
/// The CPU must have these features.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")]
pub(super) unsafe fn run_avx512<T: Task>(task: T) -> T::Output {
    // SAFETY: the features are enabled here.
    unsafe { task.run::<Avx512>() }
}

/// # Safety
/// The CPU must have these features.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2<T: Task>(task: T) -> T::Output {
    // SAFETY: the features are enabled here.
    unsafe { task.run::<Avx2>() }
}

/// The first `n` of 16 lanes.
#[inline(always)]
fn mask16(n: usize) -> u16 {
    ((1u32 << n) - 1) as u16
}

/// Functions whose body is one expression of intrinsics.
macro_rules! intrinsics {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $e:expr;)*) => {
        $(#[inline(always)]
        unsafe fn $name($($arg: $ty),*) -> $ret {
            // SAFETY: the caller of a `Simd` function has the instruction set, and its pointers are valid for the lanes.
            unsafe { $e }
        })*
    };
}

impl Simd for Avx512 {
    type F = __m512;
    type M = __mmask16;
    type I = __m512i;
    const N: usize = 16;
    const MR: usize = 14;

    intrinsics! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        load(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        store(p: *mut f32, v: __m512) -> () = _mm512_storeu_ps(p, v);
        load_n(p: *const f32, n: usize) -> __m512 = _mm512_maskz_loadu_ps(mask16(n), p);
        store_n(p: *mut f32, v: __m512, n: usize) -> () = _mm512_mask_storeu_ps(p, mask16(n), v);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        sqrt(a: __m512) -> __m512 = _mm512_sqrt_ps(a);
        round(a: __m512) -> __m512 = _mm512_roundscale_ps::<0x08>(a);
        abs(a: __m512) -> __m512 = _mm512_abs_ps(a);
        copysign(a: __m512, b: __m512) -> __m512 = {
            let sign = _mm512_set1_ps(-0.0);
            _mm512_or_ps(_mm512_andnot_ps(sign, a), _mm512_and_ps(sign, b))
        };
        scale2(a: __m512, n: __m512) -> __m512 = _mm512_scalef_ps(a, n);
        split(a: __m512) -> (__m512, __m512) = {
            let bits = _mm512_castps_si512(a);
            let n = _mm512_srai_epi32::<23>(_mm512_sub_epi32(bits, _mm512_set1_epi32(ROOT_OF_HALF)));
            let m = _mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_slli_epi32::<23>(n)));
            (m, _mm512_cvtepi32_ps(n))
        };
        gt(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b);
        is_nan(a: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
        select(m: __mmask16, a: __m512, b: __m512) -> __m512 = _mm512_mask_blend_ps(m, b, a);
        lanes(p: *const u32) -> __m512i = _mm512_loadu_si512(p.cast());
        permute(a: __m512, idx: __m512i) -> __m512 = _mm512_permutexvar_ps(idx, a);
        sum(a: __m512) -> f32 = Avx2::sum(_mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)));
    }

    #[inline(always)]
    unsafe fn apart<T: Task>(task: T) -> T::Output {
        // SAFETY: passed on to the caller.
        unsafe { run_avx512(task) }
    }
}

/// Eight set lanes, then eight clear ones: `n` set lanes start at `8 - n`.
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Simd for Avx2 {
    type F = __m256;
    type M = __m256;
    type I = __m256i;
    const N: usize = 8;
    const MR: usize = 6;

    intrinsics! {
        splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        load(p: *const f32) -> __m256 = _mm256_loadu_ps(p);
        store(p: *mut f32, v: __m256) -> () = _mm256_storeu_ps(p, v);
        load_n(p: *const f32, n: usize) -> __m256 =
            _mm256_maskload_ps(p, _mm256_loadu_si256(MASKS.as_ptr().add(8 - n).cast()));
        store_n(p: *mut f32, v: __m256, n: usize) -> () =
            _mm256_maskstore_ps(p, _mm256_loadu_si256(MASKS.as_ptr().add(8 - n).cast()), v);
        add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        sqrt(a: __m256) -> __m256 = _mm256_sqrt_ps(a);
        round(a: __m256) -> __m256 = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        abs(a: __m256) -> __m256 = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
        copysign(a: __m256, b: __m256) -> __m256 = {
            let sign = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b))
        };
        scale2(a: __m256, n: __m256) -> __m256 = {
            // In two steps, so that each power is a normal number.
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let rest = _mm256_sub_epi32(n, half);
            let bias = _mm256_set1_epi32(127);
            let a = _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias))));
            _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(rest, bias))))
        };
        split(a: __m256) -> (__m256, __m256) = {
            let bits = _mm256_castps_si256(a);
            let n = _mm256_srai_epi32::<23>(_mm256_sub_epi32(bits, _mm256_set1_epi32(ROOT_OF_HALF)));
            let m = _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32::<23>(n)));
            (m, _mm256_cvtepi32_ps(n))
        };
        gt(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_GT_OQ>(a, b);
        is_nan(a: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a);
        select(m: __m256, a: __m256, b: __m256) -> __m256 = _mm256_blendv_ps(b, a, m);
        lanes(p: *const u32) -> __m256i = _mm256_loadu_si256(p.cast());
        permute(a: __m256, idx: __m256i) -> __m256 = _mm256_permutevar8x32_ps(a, idx);
        sum(a: __m256) -> f32 = {
            let s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let s = _mm_add_ps(s, _mm_movehl_ps(s, s));
            _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)))
        };
    }

    #[inline(always)]
    unsafe fn apart<T: Task>(task: T) -> T::Output {
        // SAFETY: passed on to the caller.
        unsafe { run_avx2(task) }
    }
}
