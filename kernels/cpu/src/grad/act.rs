//! Derivatives of functions of one value: `dx = dy * f'`, from the result where `f'` is a function of it, else from what
//! the function was given.

use super::super::elementwise::Map;
use super::super::math::{erf, exp, sigmoid, tanh};
use super::super::par::ranges;
use super::super::simd::{Isa, Simd, Task, lanes, ld, st};
use super::super::view::Rows;

/// The function, and what its derivative is computed of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slope {
    /// Of the result: 1 where it is strictly between the bounds.
    Between(f32, f32),
    /// Of the result: `y > 0 ? 1 : y + alpha`; of the operand where alpha is below 0, as two have the same result.
    Elu(f32),
    /// Of the result: `y > 0 ? 1 : slope`.
    Leaky(f32),
    /// Of the result.
    Sigmoid,
    /// Of the result.
    Tanh,
    /// Of the result.
    HardSigmoid,
    /// Of the result.
    Softplus,
    /// Of the result.
    Exp,
    /// A constant.
    Line(f32),
    /// Of the operand.
    Gelu,
    /// Of the operand.
    GeluTanh,
    /// Of the operand.
    Silu,
    /// Of the operand.
    HardSwish,
    /// Of the operand.
    Mish,
}

/// `dx = dy * slope(seen)`; `io` reads dy, and may write over it.
pub fn act_data(isa: Isa, slope: Slope, io: Map, seen: Rows) {
    seen.check();
    assert!(io.rows == seen.rows && io.cols == seen.cols, "rows of another shape");
    ranges(io.rows, 2 * io.cols, |range| {
        for row in range {
            isa.run(Row { slope, dy: io.from(row), seen: seen.at(row), dx: io.to(row), cols: io.cols });
        }
    });
}

struct Row {
    slope: Slope,
    dy: *const f32,
    seen: *const f32,
    dx: *mut f32,
    cols: usize,
}

impl Task for Row {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; a row of each is valid, and dx is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Row { slope, dy, seen, dx, cols } = self;
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
            match slope {
                Slope::Between(lo, hi) => {
                    let (lo, hi) = (S::splat(lo), S::splat(hi));
                    lanes!(S, cols, |c, n| {
                        let y = ld::<S>(seen.add(c), n);
                        let inside = S::select(S::gt(y, lo), ld::<S>(dy.add(c), n), zero);
                        st::<S>(dx.add(c), S::select(S::gt(hi, y), inside, zero), n);
                    });
                }
                Slope::Elu(alpha) if alpha < 0.0 => {
                    keep!(|x| S::gt(x, zero), S::mul(S::splat(alpha), exp::<S>(S::min(zero, x))));
                }
                Slope::Elu(alpha) => keep!(|y| S::gt(y, zero), S::add(y, S::splat(alpha))),
                Slope::Leaky(slope) => keep!(|y| S::gt(y, zero), S::splat(slope)),
                Slope::Sigmoid => each!(|y| S::mul(y, S::sub(one, y))),
                Slope::Tanh => each!(|y| S::sub(one, S::mul(y, y))),
                Slope::HardSigmoid => {
                    let sixth = S::splat(1.0 / 6.0);
                    each!(|y| S::select(S::gt(y, zero), S::select(S::gt(one, y), sixth, zero), zero))
                }
                Slope::Softplus => each!(|y| S::sub(one, exp::<S>(S::sub(zero, y)))),
                Slope::Exp => each!(|y| y),
                Slope::Line(slope) => each!(|_y| S::splat(slope)),
                Slope::Gelu => each!(|x| {
                    let half = S::splat(0.5);
                    let share = S::fma(half, erf::<S>(S::mul(x, S::splat(std::f32::consts::FRAC_1_SQRT_2))), half);
                    let bell = exp::<S>(S::mul(S::splat(-0.5), S::mul(x, x)));
                    // 1 / sqrt(2 pi)
                    S::fma(S::mul(x, bell), S::splat(0.398_942_3), share)
                }),
                Slope::GeluTanh => each!(|x| {
                    let (half, root) = (S::splat(0.5), S::splat(0.797_884_6));
                    let square = S::mul(x, x);
                    let inner = S::mul(root, S::fma(S::mul(S::splat(0.044_715), square), x, x));
                    let t = tanh::<S>(inner);
                    let slope = S::mul(root, S::fma(S::splat(3.0 * 0.044_715), square, one));
                    let rest = S::mul(S::mul(half, x), S::mul(S::sub(one, S::mul(t, t)), slope));
                    S::add(S::fma(half, t, half), rest)
                }),
                Slope::Silu => each!(|x| {
                    let s = sigmoid::<S>(x);
                    S::mul(s, S::fma(x, S::sub(one, s), one))
                }),
                Slope::HardSwish => each!(|x| {
                    let line = S::mul(S::fma(S::splat(2.0), x, S::splat(3.0)), S::splat(1.0 / 6.0));
                    let below = S::select(S::gt(x, S::splat(-3.0)), line, zero);
                    S::select(S::gt(S::splat(3.0), x), below, one)
                }),
                Slope::Mish => each!(|x| {
                    let e = exp::<S>(S::min(S::splat(20.0), x));
                    let q = S::mul(e, S::add(e, S::splat(2.0)));
                    let t = S::div(q, S::add(q, S::splat(2.0)));
                    S::fma(S::mul(x, sigmoid::<S>(x)), S::sub(one, S::mul(t, t)), t)
                }),
            }
        }
    }
}
