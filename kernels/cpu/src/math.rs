//! exp, tanh, erf and their like over vectors.
//!
//! The polynomials are minimax fits of this project (Lawson's weights on 200 Chebyshev nodes in 50 digits); their own
//! error is below 4e-9, so that rounding decides. NaN comes out as NaN everywhere.

use super::simd::Simd;

/// Horner's rule over constants, highest power first.
macro_rules! poly {
    ($x:expr, $first:expr $(, $c:expr)*) => {{
        let p = S::splat($first);
        $(let p = S::fma(p, $x, S::splat($c));)*
        p
    }};
}

/// `(n, e^r - 1)` with `x = n ln 2 + r`, `|r| <= ln 2 / 2`; `x` is clamped to where `e^x` is 0 or infinite.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "coefficients as they were fitted")]
unsafe fn exp_parts<S: Simd>(x: S::F) -> (S::F, S::F) {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let x = S::min(S::splat(89.0), S::max(S::splat(-104.5), x));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts; the first has zeros at its end, so that n times it is exact.
        let r = S::fma(n, S::splat(-0.693_359_375), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let p = poly!(r, 1.395_080_47e-3, 8.369_073_27e-3, 4.166_620_22e-2, 0.166_665_167, 0.5);
        (n, S::fma(S::mul(r, r), p, r))
    }
}

/// `e^x`, within 2 ulp.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn exp<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let (n, em1) = exp_parts::<S>(x);
        S::scale2(S::add(em1, S::splat(1.0)), n)
    }
}

/// `e^x - 1`, accurate near 0 as well.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn expm1<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let (n, em1) = exp_parts::<S>(S::min(S::splat(88.0), x));
        let scale = S::scale2(S::splat(1.0), n);
        S::fma(scale, em1, S::sub(scale, S::splat(1.0)))
    }
}

/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn sigmoid<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let one = S::splat(1.0);
        S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), x))))
    }
}

/// `m / (m + 2)` with `m = e^(2|x|) - 1`.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn tanh<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let a = S::min(S::splat(10.0), S::abs(x));
        let m = expm1::<S>(S::add(a, a));
        S::copysign(S::div(m, S::add(m, S::splat(2.0))), x)
    }
}

/// Within 1e-7.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "coefficients as they were fitted")]
pub(super) unsafe fn erf<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller has the instruction set.
    unsafe {
        // |x| < 0.93: x + x P(x^2)
        let s = S::mul(x, x);
        let p =
            poly!(s, -5.940_512_64e-4, 4.983_860_07e-3, -2.676_075_32e-2, 0.112_816_721, -0.376_124_829, 0.128_379_151);
        let small = S::fma(p, x, x);
        // above: 1 - e^P(|x|), where P is a fit of ln erfc
        let t = S::min(S::splat(4.0), S::abs(x));
        let p = poly!(
            t,
            -2.116_203e-5,
            4.352_202_52e-4,
            -4.174_649_25e-3,
            2.512_864_21e-2,
            -0.108_293_973,
            -0.633_334_637,
            -1.129_520_77,
            1.758_764_7e-4
        );
        let large = S::copysign(S::sub(S::splat(1.0), exp::<S>(p)), x);
        S::select(S::gt(S::abs(x), S::splat(0.93)), large, small)
    }
}

/// `ln(1 + u)` for `u` in [0, 1]: `2 artanh(u / (2 + u))`.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "coefficients as they were fitted")]
pub(super) unsafe fn ln_1p<S: Simd>(u: S::F) -> S::F {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let z = S::div(u, S::add(u, S::splat(2.0)));
        let s = S::mul(z, z);
        let p = poly!(s, 0.122_427_061, 0.106_873_661, 0.143_111_84, 0.199_993_163, 0.333_333_403, 0.0);
        S::mul(S::splat(2.0), S::fma(p, z, z))
    }
}
