//! exp, log, pow, sin, tanh, erf and their like over vectors.
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
        (n, small_expm1::<S>(S::fma(n, S::splat(2.121_944_4e-4), r)))
    }
}

/// `e^r - 1` for `|r| <= ln 2 / 2`.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "coefficients as they were fitted")]
unsafe fn small_expm1<S: Simd>(r: S::F) -> S::F {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let p = poly!(r, 1.395_080_47e-3, 8.369_073_27e-3, 4.166_620_22e-2, 0.166_665_167, 0.5);
        S::fma(S::mul(r, r), p, r)
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
pub(super) unsafe fn ln_1p<S: Simd>(u: S::F) -> S::F {
    // SAFETY: the caller has the instruction set.
    unsafe { artanh_of_ratio::<S>(u, S::add(u, S::splat(2.0))) }
}

/// `2 artanh(a / b)` for `a / b` in [-1/5, 1/3].
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "coefficients as they were fitted")]
unsafe fn artanh_of_ratio<S: Simd>(a: S::F, b: S::F) -> S::F {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let z = S::div(a, b);
        let s = S::mul(z, z);
        let p = poly!(s, 0.122_427_061, 0.106_873_661, 0.143_111_84, 0.199_993_163, 0.333_333_403, 0.0);
        S::mul(S::splat(2.0), S::fma(p, z, z))
    }
}

/// `(n, ln m)` with `a = m 2^n`, for positive finite `a`.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
unsafe fn log_parts<S: Simd>(a: S::F) -> (S::F, S::F) {
    // SAFETY: the caller has the instruction set.
    unsafe {
        // subnormal numbers are made normal before they are split
        let small = S::gt(S::splat(f32::MIN_POSITIVE), a);
        let (m, n) = S::split(S::select(small, S::mul(a, S::splat(8_388_608.0)), a));
        let n = S::select(small, S::sub(n, S::splat(23.0)), n);
        let one = S::splat(1.0);
        (n, artanh_of_ratio::<S>(S::sub(m, one), S::add(m, one)))
    }
}

/// `ln x`: -inf of 0, NaN below.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "a number with zeros at its end, in full")]
pub(super) unsafe fn log<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let (zero, nan) = (S::splat(0.0), S::splat(f32::NAN));
        let (n, part) = log_parts::<S>(x);
        // ln 2 in two parts, as for exp
        let low = S::fma(n, S::splat(-2.121_944_4e-4), part);
        let y = S::fma(n, S::splat(0.693_359_375), low);
        let y = S::select(S::gt(x, S::splat(f32::MAX)), x, y);
        let ends = S::select(S::gt(zero, x), nan, S::splat(f32::NEG_INFINITY));
        S::select(S::is_nan(x), x, S::select(S::gt(x, zero), y, ends))
    }
}

/// `x` to a power: of negative numbers to an integral one alone, else NaN.
///
/// The exponent of 2 is summed in two parts, so that the digits that its size takes are not the result's. What is left of
/// the logarithm's error grows with the exponent: 5e-8 of the result for each unit.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn pow<S: Simd>(x: S::F, exponent: f32) -> S::F {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let (a, zero) = (S::abs(x), S::splat(0.0));
        let (n, part) = log_parts::<S>(a);
        let part = S::mul(S::splat(exponent), S::mul(part, S::splat(std::f32::consts::LOG2_E)));
        // the first digits of the exponent, so few that n times them is exact
        let high = f32::from_bits(exponent.to_bits() & !0xfff);
        let whole = S::mul(S::splat(high), n);
        let rest = S::fma(S::splat(exponent - high), n, part);
        let k = S::round(S::add(whole, rest));
        let r = S::add(S::sub(whole, k), rest);
        // beyond these bounds the result is infinite or 0, whatever r is
        let k = S::min(S::max(k, S::splat(-152.0)), S::splat(130.0));
        let r = S::min(S::max(r, S::splat(-0.5)), S::splat(0.5));
        let em1 = small_expm1::<S>(S::mul(r, S::splat(std::f32::consts::LN_2)));
        let y = S::scale2(S::add(em1, S::splat(1.0)), k);
        let at = |x: f32| S::splat(x.powf(exponent));
        let y = S::select(S::gt(a, S::splat(f32::MAX)), at(f32::INFINITY), S::select(S::gt(a, zero), y, at(0.0)));
        let signed = match exponent.rem_euclid(2.0) {
            1.0 => S::copysign(y, x),
            0.0 => y,
            _ => {
                let below = S::select(S::gt(a, S::splat(f32::MAX)), y, S::splat(f32::NAN));
                S::select(S::gt(zero, x), below, y)
            }
        };
        // of anything to the power of 0 it is 1
        let nan = if exponent == 0.0 { S::splat(1.0) } else { x };
        S::select(S::is_nan(x), nan, signed)
    }
}

/// The sine of `x` plus so many quarter turns.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "coefficients as they were fitted")]
pub(super) unsafe fn sine<S: Simd>(x: S::F, quarters: u8) -> S::F {
    // SAFETY: the caller has the instruction set; N is at most 16.
    unsafe {
        // so far the digits of pi / 2 below suffice
        let far = S::gt(S::abs(x), S::splat(8192.0));
        if S::sum(S::select(far, S::splat(1.0), S::splat(0.0))) > 0.0 {
            let mut lanes = [0f32; 16];
            S::store(lanes.as_mut_ptr(), x);
            for lane in &mut lanes[..S::N] {
                let x = f64::from(*lane);
                *lane = if quarters == 0 { x.sin() } else { x.cos() } as f32;
            }
            return S::load(lanes.as_ptr());
        }
        let n = S::round(S::mul(x, S::splat(std::f32::consts::FRAC_2_PI)));
        // pi / 2 in three parts; the first two have zeros at their ends, so that n times them is exact
        let r = S::fma(n, S::splat(-1.570_312_5), x);
        let r = S::fma(n, S::splat(-4.837_512_969_970_703e-4), r);
        let r = S::fma(n, S::splat(-7.549_789_948_768_648e-8), r);
        let t = S::mul(r, r);
        let s = poly!(t, -1.951_529_6e-4, 8.332_161e-3, -0.166_666_55);
        let s = S::fma(S::mul(r, t), s, r);
        let c = poly!(t, 2.443_241_29e-5, -1.388_730_99e-3, 4.166_664_56e-2, -0.5);
        let c = S::fma(t, c, S::splat(1.0));
        // the quarter in -2..=2
        let q = S::add(n, S::splat(quarters.into()));
        let q = S::fma(S::round(S::mul(q, S::splat(0.25))), S::splat(-4.0), q);
        let odd = S::gt(S::splat(0.5), S::abs(S::sub(S::abs(q), S::splat(1.0))));
        let y = S::select(odd, c, s);
        let turned = S::sub(S::splat(0.0), y);
        S::select(S::gt(q, S::splat(1.5)), turned, S::select(S::gt(S::splat(-0.5), q), turned, y))
    }
}
