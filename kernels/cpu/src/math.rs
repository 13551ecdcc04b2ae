//! The functions of one value: exp, tanh, erf and the activations, over vectors.
//!
//! The polynomials are minimax fits of this project (Lawson's weights on 200 Chebyshev nodes in 50 digits); their own
//! error is below 4e-9, so that rounding decides. NaN comes out as NaN everywhere.

use super::simd::{Simd, lanes, ld, st};
use std::marker::PhantomData;

/// An activation, as PyTorch defines it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Act {
    #[default]
    None,
    Relu,
    Relu6,
    /// `min(max(x, lo), hi)`; an infinite bound is none.
    Clamp {
        lo: f32,
        hi: f32,
    },
    /// `x > 0 ? x : alpha * (e^x - 1)`
    Elu(f32),
    /// `x > 0 ? x : slope * x`
    LeakyRelu(f32),
    /// `x / 2 * (1 + erf(x / sqrt(2)))`
    Gelu,
    /// GELU by its approximation with tanh.
    GeluTanh,
    /// `x * sigmoid(x)`
    Silu,
    Sigmoid,
    Tanh,
    /// `x * relu6(x + 3) / 6`
    HardSwish,
    /// `relu6(x + 3) / 6`
    HardSigmoid,
    /// `ln(1 + e^x)`; `x` above 20.
    Softplus,
    /// `x * tanh(softplus(x))`
    Mish,
    Exp,
    Sqrt,
    Abs,
    Square,
    /// `1 / sqrt(x)`
    Rsqrt,
    /// `a * x + b`
    Affine(f32, f32),
}

impl Act {
    /// The bounds of an activation that is a clamp (none at all is one with infinite bounds).
    pub(super) fn bounds(self) -> Option<(f32, f32)> {
        match self {
            Act::None => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Act::Relu => Some((0.0, f32::INFINITY)),
            Act::Relu6 => Some((0.0, 6.0)),
            Act::Clamp { lo, hi } => Some((lo, hi)),
            _ => None,
        }
    }
}

/// A function of one value.
pub(super) trait Fun: Copy {
    /// # Safety
    /// The CPU must have the instruction set of `S`.
    unsafe fn eval<S: Simd>(self, x: S::F) -> S::F;
}

/// Something to be done with whatever function an [`Act`] names.
pub(super) trait WithFun {
    /// # Safety
    /// As the implementor says.
    unsafe fn call<F: Fun>(self, f: F);
}

/// Calls `with` with the function of `act`, so that the loop inside is compiled for each function.
///
/// # Safety
/// That of `W::call`.
#[inline(always)]
pub(super) unsafe fn visit<W: WithFun>(act: Act, with: W) {
    // SAFETY: passed on to the caller.
    unsafe {
        match act {
            Act::None => with.call(Clamp(f32::NEG_INFINITY, f32::INFINITY)),
            Act::Relu => with.call(Clamp(0.0, f32::INFINITY)),
            Act::Relu6 => with.call(Clamp(0.0, 6.0)),
            Act::Clamp { lo, hi } => with.call(Clamp(lo, hi)),
            Act::Elu(alpha) => with.call(Elu(alpha)),
            Act::LeakyRelu(slope) => with.call(LeakyRelu(slope)),
            Act::Gelu => with.call(Gelu()),
            Act::GeluTanh => with.call(GeluTanh()),
            Act::Silu => with.call(Silu()),
            Act::Sigmoid => with.call(Sigmoid()),
            Act::Tanh => with.call(Tanh()),
            Act::HardSwish => with.call(HardSwish()),
            Act::HardSigmoid => with.call(HardSigmoid()),
            Act::Softplus => with.call(Softplus()),
            Act::Mish => with.call(Mish()),
            Act::Exp => with.call(Exp()),
            Act::Sqrt => with.call(Sqrt()),
            Act::Abs => with.call(Abs()),
            Act::Square => with.call(Square()),
            Act::Rsqrt => with.call(Rsqrt()),
            Act::Affine(a, b) => with.call(Affine(a, b)),
        }
    }
}

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
#[allow(clippy::excessive_precision, clippy::approx_constant)]
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
unsafe fn expm1<S: Simd>(x: S::F) -> S::F {
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
#[allow(clippy::excessive_precision)]
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
#[allow(clippy::excessive_precision)]
unsafe fn ln_1p<S: Simd>(u: S::F) -> S::F {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let z = S::div(u, S::add(u, S::splat(2.0)));
        let s = S::mul(z, z);
        let p = poly!(s, 0.122_427_061, 0.106_873_661, 0.143_111_84, 0.199_993_163, 0.333_333_403, 0.0);
        S::mul(S::splat(2.0), S::fma(p, z, z))
    }
}

macro_rules! funs {
    ($($(#[$doc:meta])* $name:ident($($field:ident),*) |$x:ident| $e:expr;)*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy)]
        pub(super) struct $name($(pub funs!(@f32 $field)),*);
        impl Fun for $name {
            #[inline(always)]
            unsafe fn eval<S: Simd>(self, $x: S::F) -> S::F {
                let $name($($field),*) = self;
                // SAFETY: the caller has the instruction set.
                unsafe { $e }
            }
        })*
    };
    (@f32 $field:ident) => { f32 };
}

funs! {
    Clamp(lo, hi) |x| S::min(S::splat(hi), S::max(S::splat(lo), x));
    Elu(alpha) |x| S::select(S::gt(x, S::splat(0.0)), x, S::mul(S::splat(alpha), expm1::<S>(x)));
    LeakyRelu(slope) |x| S::select(S::gt(x, S::splat(0.0)), x, S::mul(S::splat(slope), x));
    Gelu() |x| {
        let half = S::mul(S::splat(0.5), x);
        S::fma(half, erf::<S>(S::mul(x, S::splat(std::f32::consts::FRAC_1_SQRT_2))), half)
    };
    GeluTanh() |x| {
        let cubic = S::mul(S::mul(x, x), x);
        // sqrt(2 / pi)
        let inner = S::mul(S::splat(0.797_884_6), S::fma(S::splat(0.044_715), cubic, x));
        let half = S::mul(S::splat(0.5), x);
        S::fma(half, tanh::<S>(inner), half)
    };
    Silu() |x| S::div(x, S::add(S::splat(1.0), exp::<S>(S::sub(S::splat(0.0), x))));
    Sigmoid() |x| sigmoid::<S>(x);
    Tanh() |x| tanh::<S>(x);
    HardSwish() |x| {
        let gate = S::min(S::splat(6.0), S::max(S::splat(0.0), S::add(x, S::splat(3.0))));
        S::mul(S::mul(x, gate), S::splat(1.0 / 6.0))
    };
    HardSigmoid() |x| {
        let gate = S::min(S::splat(6.0), S::max(S::splat(0.0), S::add(x, S::splat(3.0))));
        S::mul(gate, S::splat(1.0 / 6.0))
    };
    Softplus() |x| {
        let u = exp::<S>(S::sub(S::splat(0.0), S::abs(x)));
        let y = S::add(S::max(S::splat(0.0), x), ln_1p::<S>(u));
        S::select(S::gt(x, S::splat(20.0)), x, y)
    };
    // tanh(ln(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2)
    Mish() |x| {
        let e = exp::<S>(S::min(S::splat(20.0), x));
        let q = S::mul(e, S::add(e, S::splat(2.0)));
        S::mul(x, S::div(q, S::add(q, S::splat(2.0))))
    };
    Exp() |x| exp::<S>(x);
    Sqrt() |x| S::sqrt(x);
    Abs() |x| S::abs(x);
    Square() |x| S::mul(x, x);
    Rsqrt() |x| S::div(S::splat(1.0), S::sqrt(x));
    Affine(a, b) |x| S::fma(S::splat(a), x, S::splat(b));
}

/// Rows of values to which a function is applied.
pub(super) struct Apply<S> {
    pub x: *const f32,
    pub x_dist: usize,
    pub y: *mut f32,
    pub y_dist: usize,
    pub rows: usize,
    pub cols: usize,
    pub simd: PhantomData<S>,
}

impl<S: Simd> WithFun for Apply<S> {
    /// # Safety
    /// The CPU must have the instruction set of `S`; all rows must be valid. `x` and `y` may be the same place.
    #[inline(always)]
    unsafe fn call<F: Fun>(self, f: F) {
        // SAFETY: the loops stay below `rows` and `cols`.
        unsafe {
            for row in 0..self.rows {
                let (x, y) = (self.x.add(row * self.x_dist), self.y.add(row * self.y_dist));
                lanes!(S, self.cols, |i, n| {
                    st::<S>(y.add(i), f.eval::<S>(ld::<S>(x.add(i), n)), n);
                });
            }
        }
    }
}

/// Applies `act` to rows in place.
///
/// # Safety
/// The CPU must have the instruction set of `S`; `y` must be valid for `rows` rows of `cols`, `dist` apart.
#[inline(always)]
pub(super) unsafe fn apply_rows<S: Simd>(act: Act, y: *mut f32, dist: usize, rows: usize, cols: usize) {
    let simd = PhantomData::<S>;
    // SAFETY: passed on to the caller.
    unsafe { visit(act, Apply { x: y, x_dist: dist, y, y_dist: dist, rows, cols, simd }) }
}
