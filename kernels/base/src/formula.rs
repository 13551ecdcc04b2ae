//! Functions that formulas call. A formula is a Rust expression of float64s made of arithmetic, numbers with a point and calls
//! of these, so that its text means the same in C++, once numbers and functions have the names of another precision there:
//! what it says is evaluated here and compiled by the kernels.

/// `|x|`
pub(crate) fn abs(x: f64) -> f64 {
    x.abs()
}

/// `e^x`
pub(crate) fn exp(x: f64) -> f64 {
    x.exp()
}

/// `ln(1 + x)`
pub(crate) fn log1p(x: f64) -> f64 {
    x.ln_1p()
}

/// The larger one; NaN where either is.
pub(crate) fn max(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller one; NaN where either is.
pub(crate) fn min(a: f64, b: f64) -> f64 {
    if a < b || a.is_nan() { a } else { b }
}

/// 1 or -1 as `x` is above or below 0, else `x` itself.
pub(crate) fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x } else { x.signum() }
}

/// `1 / (1 + e^-x)`
pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `condition ? a : b`; both are evaluated.
pub(crate) fn choose(condition: bool, a: f64, b: f64) -> f64 {
    if condition { a } else { b }
}
