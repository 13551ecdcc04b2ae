//! Activations over vectors, and their gradients; [`Act`] has the formulas.

use archc_base::Act;

use super::math::{erf, exp, expm1, ln_1p, log, pow, sigmoid, sine, tanh};
use super::simd::{Simd, Task, lanes, ld, st};

/// The bounds of an activation that is a clamp (none at all is one with infinite bounds).
pub(super) fn bounds(act: Act) -> Option<(f32, f32)> {
    match act {
        Act::None => Some((f32::NEG_INFINITY, f32::INFINITY)),
        Act::Relu => Some((0.0, f32::INFINITY)),
        Act::Clamp { lo, hi } => Some((lo, hi)),
        _ => None,
    }
}

/// A function of one value.
pub(super) trait Fun: Copy {
    /// # Safety
    /// The CPU must have the instruction set of `S`.
    unsafe fn eval<S: Simd>(self, x: S::F) -> S::F;
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
    Linear(scale, shift) |x| S::fma(S::splat(scale), x, S::splat(shift));
    Square() |x| S::mul(x, x);
    Sqrt() |x| S::sqrt(x);
    Rsqrt() |x| S::div(S::splat(1.0), S::sqrt(x));
    Pow(exponent) |x| pow::<S>(x, exponent);
    Over(number) |x| S::div(S::splat(number), x);
    Abs() |x| S::abs(x);
    Log() |x| log::<S>(x);
    Sin() |x| sine::<S>(x, 0);
    Cos() |x| sine::<S>(x, 1);
    Softsign() |x| S::div(x, S::add(S::splat(1.0), S::abs(x)));
    LogSigmoid() |x| {
        let u = exp::<S>(S::sub(S::splat(0.0), S::abs(x)));
        S::sub(S::min(S::splat(0.0), x), ln_1p::<S>(u))
    };
    Celu(alpha) |x| {
        let below = S::mul(S::splat(alpha), expm1::<S>(S::div(x, S::splat(alpha))));
        S::select(S::gt(x, S::splat(0.0)), x, below)
    };
    Selu() |x| {
        let below = S::mul(S::splat((Act::SELU_SCALE * Act::SELU_ALPHA) as f32), expm1::<S>(x));
        S::select(S::gt(x, S::splat(0.0)), S::mul(S::splat(Act::SELU_SCALE as f32), x), below)
    };
}

/// Rows of values to which an activation is applied; `x` and `y` may be the same place.
pub(super) struct Apply {
    pub act: Act,
    pub x: *const f32,
    pub x_stride: usize,
    pub y: *mut f32,
    pub y_stride: usize,
    pub rows: usize,
    pub cols: usize,
}

impl Task for Apply {
    type Output = ();

    /// # Safety
    /// As [`Task::run`]; the rows are valid and y is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's.
        unsafe {
            match self.act {
                Act::None => self.each::<S>(Clamp(f32::NEG_INFINITY, f32::INFINITY)),
                Act::Relu => self.each::<S>(Clamp(0.0, f32::INFINITY)),
                Act::Clamp { lo, hi } => self.each::<S>(Clamp(lo, hi)),
                Act::Elu(alpha) => self.each::<S>(Elu(alpha)),
                Act::LeakyRelu(slope) => self.each::<S>(LeakyRelu(slope)),
                Act::Gelu => self.each::<S>(Gelu()),
                Act::GeluTanh => self.each::<S>(GeluTanh()),
                Act::Silu => self.each::<S>(Silu()),
                Act::Sigmoid => self.each::<S>(Sigmoid()),
                Act::Tanh => self.each::<S>(Tanh()),
                Act::HardSwish => self.each::<S>(HardSwish()),
                Act::HardSigmoid => self.each::<S>(HardSigmoid()),
                Act::Softplus => self.each::<S>(Softplus()),
                Act::Mish => self.each::<S>(Mish()),
                Act::Exp => self.each::<S>(Exp()),
                Act::Linear { scale, shift } => self.each::<S>(Linear(scale, shift)),
                Act::Square => self.each::<S>(Square()),
                Act::Sqrt | Act::Length => self.each::<S>(Sqrt()),
                Act::Rsqrt => self.each::<S>(Rsqrt()),
                Act::Pow(exponent) => self.each::<S>(Pow(exponent)),
                Act::Over(number) => self.each::<S>(Over(number)),
                Act::Abs => self.each::<S>(Abs()),
                Act::Log => self.each::<S>(Log()),
                Act::Sin => self.each::<S>(Sin()),
                Act::Cos => self.each::<S>(Cos()),
                Act::Softsign => self.each::<S>(Softsign()),
                Act::LogSigmoid => self.each::<S>(LogSigmoid()),
                Act::Celu(alpha) => self.each::<S>(Celu(alpha)),
                Act::Selu => self.each::<S>(Selu()),
            }
        }
    }
}

impl Apply {
    /// The loop of one function.
    ///
    /// # Safety
    /// As [`Apply::run`].
    #[inline(always)]
    unsafe fn each<S: Simd>(&self, f: impl Fun) {
        // SAFETY: the loops stay below `rows` and `cols`.
        unsafe {
            for row in 0..self.rows {
                let (x, y) = (self.x.add(row * self.x_stride), self.y.add(row * self.y_stride));
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
/// The CPU must have the instruction set of `S`; `y` must be valid for `rows` rows of `cols`, `stride` apart.
#[inline(always)]
pub(super) unsafe fn apply_rows<S: Simd>(act: Act, y: *mut f32, stride: usize, rows: usize, cols: usize) {
    // SAFETY: passed on to the caller.
    unsafe { S::apart(Apply { act, x: y, x_stride: stride, y, y_stride: stride, rows, cols }) }
}

/// `dx = dy * f'(seen)`; `seen` is the result where [`Act::by_result`], else the operand.
///
/// # Safety
/// The CPU must have the instruction set of `S`; `cols` values of each are valid. `dx` and `dy` may be the same place.
#[inline(always)]
pub(super) unsafe fn gradient<S: Simd>(act: Act, dx: *mut f32, dy: *const f32, seen: *const f32, cols: usize) {
    // SAFETY: the caller's.
    unsafe {
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        macro_rules! each {
            (|$s:ident| $slope:expr) => {
                lanes!(S, cols, |c, n| {
                    let $s = ld::<S>(seen.add(c), n);
                    let slope = $slope;
                    st::<S>(dx.add(c), S::mul(ld::<S>(dy.add(c), n), slope), n);
                })
            };
        }
        macro_rules! keep {
            (|$s:ident| $mask:expr, $other:expr) => {
                lanes!(S, cols, |c, n| {
                    let $s = ld::<S>(seen.add(c), n);
                    let dy = ld::<S>(dy.add(c), n);
                    st::<S>(dx.add(c), S::select($mask, dy, S::mul(dy, $other)), n);
                })
            };
        }
        match act {
            Act::Relu | Act::Clamp { .. } => {
                let (lo, hi) = bounds(act).expect("both are clamps");
                let (lo, hi) = (S::splat(lo), S::splat(hi));
                lanes!(S, cols, |c, n| {
                    let y = ld::<S>(seen.add(c), n);
                    let inside = S::select(S::gt(y, lo), ld::<S>(dy.add(c), n), zero);
                    st::<S>(dx.add(c), S::select(S::gt(hi, y), inside, zero), n);
                });
            }
            // two operands have the same result
            Act::Elu(alpha) if alpha < 0.0 => {
                keep!(|x| S::gt(x, zero), S::mul(S::splat(alpha), exp::<S>(S::min(zero, x))));
            }
            Act::Elu(alpha) => keep!(|y| S::gt(y, zero), S::add(y, S::splat(alpha))),
            Act::LeakyRelu(slope) => keep!(|y| S::gt(y, zero), S::splat(slope)),
            Act::Sigmoid => each!(|y| S::mul(y, S::sub(one, y))),
            Act::Tanh => each!(|y| S::sub(one, S::mul(y, y))),
            Act::HardSigmoid => {
                let sixth = S::splat(1.0 / 6.0);
                each!(|y| S::select(S::gt(y, zero), S::select(S::gt(one, y), sixth, zero), zero))
            }
            Act::Softplus => each!(|y| S::sub(one, exp::<S>(S::sub(zero, y)))),
            Act::Exp => each!(|y| y),
            Act::None => each!(|_y| one),
            Act::Linear { scale, .. } => each!(|_y| S::splat(scale)),
            Act::Square => each!(|x| S::add(x, x)),
            Act::Sqrt => each!(|y| S::div(S::splat(0.5), y)),
            Act::Length => each!(|y| S::select(S::gt(y, zero), S::div(S::splat(0.5), y), y)),
            Act::Rsqrt => each!(|y| S::mul(S::splat(-0.5), S::mul(y, S::mul(y, y)))),
            // whatever reaches it
            Act::Pow(0.0) => lanes!(S, cols, |c, n| {
                st::<S>(dx.add(c), zero, n);
            }),
            Act::Pow(exponent) => each!(|x| S::mul(S::splat(exponent), pow::<S>(x, exponent - 1.0))),
            Act::Over(number) => each!(|x| S::div(S::splat(-number), S::mul(x, x))),
            // of 0 itself
            Act::Abs => each!(|x| S::select(S::gt(S::abs(x), zero), S::copysign(one, x), x)),
            Act::Log => each!(|x| S::div(one, x)),
            Act::Sin => each!(|x| sine::<S>(x, 1)),
            Act::Cos => each!(|x| S::sub(zero, sine::<S>(x, 0))),
            Act::Softsign => each!(|x| {
                let part = S::div(one, S::add(one, S::abs(x)));
                S::mul(part, part)
            }),
            Act::LogSigmoid => each!(|y| S::sub(zero, expm1::<S>(y))),
            Act::Celu(alpha) => keep!(|y| S::gt(y, zero), S::add(S::div(y, S::splat(alpha)), one)),
            Act::Selu => each!(|y| {
                let below = S::add(y, S::splat((Act::SELU_SCALE * Act::SELU_ALPHA) as f32));
                S::select(S::gt(y, zero), S::splat(Act::SELU_SCALE as f32), below)
            }),
            Act::Gelu => each!(|x| {
                let half = S::splat(0.5);
                let share = S::fma(half, erf::<S>(S::mul(x, S::splat(std::f32::consts::FRAC_1_SQRT_2))), half);
                let bell = exp::<S>(S::mul(S::splat(-0.5), S::mul(x, x)));
                // 1 / sqrt(2 pi)
                S::fma(S::mul(x, bell), S::splat(0.398_942_3), share)
            }),
            Act::GeluTanh => each!(|x| {
                let (half, root) = (S::splat(0.5), S::splat(0.797_884_6));
                let square = S::mul(x, x);
                let inner = S::mul(root, S::fma(S::mul(S::splat(0.044_715), square), x, x));
                let t = tanh::<S>(inner);
                let slope = S::mul(root, S::fma(S::splat(3.0 * 0.044_715), square, one));
                let rest = S::mul(S::mul(half, x), S::mul(S::sub(one, S::mul(t, t)), slope));
                S::add(S::fma(half, t, half), rest)
            }),
            Act::Silu => each!(|x| {
                let s = sigmoid::<S>(x);
                S::mul(s, S::fma(x, S::sub(one, s), one))
            }),
            Act::HardSwish => each!(|x| {
                let line = S::mul(S::fma(S::splat(2.0), x, S::splat(3.0)), S::splat(1.0 / 6.0));
                let below = S::select(S::gt(x, S::splat(-3.0)), line, zero);
                S::select(S::gt(S::splat(3.0), x), below, one)
            }),
            Act::Mish => each!(|x| {
                let e = exp::<S>(S::min(S::splat(20.0), x));
                let q = S::mul(e, S::add(e, S::splat(2.0)));
                let t = S::div(q, S::add(q, S::splat(2.0)));
                S::fma(S::mul(x, sigmoid::<S>(x)), S::sub(one, S::mul(t, t)), t)
            }),
        }
    }
}
