//! Backward of what works on rows: layer norm, softmax, L2 norm, prelu, and sums of columns.

use archc_base::Centre;

use super::super::elementwise::Map;
use super::super::math::exp;
use super::super::norm::moments;
use super::super::par::ranges;
use super::super::simd::{Isa, Simd, Task, lanes, ld, st};
use super::super::view::Rows;
use super::over_rows;

/// Sums of the columns, into `out`.
pub fn sums(isa: Isa, dy: Rows, out: &mut [f32]) {
    dy.check();
    assert!(out.len() >= dy.cols, "too small an output");
    over_rows(dy.rows, dy.cols, part(isa, Sum::Plain, dy, dy), |col, [sum]: [f64; 1]| out[col] = sum as f32);
}

/// Gradients of the slopes: sums of `dy * min(x, 0)` over each column, or over all for one slope.
pub fn prelu_sums(isa: Isa, dy: Rows, x: Rows, out: &mut [f32]) {
    check(&dy, &x);
    let one = out.len() == 1;
    assert!(one || out.len() >= x.cols, "too small an output");
    let mut total = 0.0;
    over_rows(x.rows, x.cols, part(isa, Sum::Negative, dy, x), |col, [sum]: [f64; 1]| {
        total += sum;
        if !one {
            out[col] = sum as f32;
        }
    });
    if one {
        out[0] = total as f32;
    }
}

/// Gradients of weight and bias of a layer norm, into `out` [2, cols].
pub fn layer_norm_sums(isa: Isa, dy: Rows, x: Rows, centre: Centre, eps: f32, out: &mut [f32]) {
    check(&dy, &x);
    assert!(out.len() >= 2 * x.cols, "too small an output");
    let (weight, bias) = out.split_at_mut(x.cols);
    over_rows(x.rows, x.cols, part(isa, Sum::Normed(centre, eps), dy, x), |col, [product, sum]: [f64; 2]| {
        weight[col] = product as f32;
        bias[col] = sum as f32;
    });
}

/// Sums the columns of some of the rows; plain sums do not look at `x`.
fn part<'a>(isa: Isa, kind: Sum, dy: Rows<'a>, x: Rows<'a>) -> impl Fn(std::ops::Range<usize>, *mut f32) + 'a {
    move |rows, to| {
        isa.run(Sums {
            kind,
            dy: dy.at(rows.start),
            stride: dy.stride,
            x: x.at(rows.start),
            x_stride: x.stride,
            rows: rows.len(),
            cols: x.cols,
            to,
        });
    }
}

fn check(dy: &Rows, x: &Rows) {
    dy.check();
    x.check();
    assert!(dy.rows == x.rows && dy.cols == x.cols, "rows of another shape");
}

#[derive(Clone, Copy)]
enum Sum {
    Plain,
    Negative,
    /// Of products with the normalised x, then plain.
    Normed(Centre, f32),
}

struct Sums {
    kind: Sum,
    dy: *const f32,
    stride: usize,
    x: *const f32,
    x_stride: usize,
    rows: usize,
    cols: usize,
    to: *mut f32,
}

impl Task for Sums {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the rows are valid, and the sums are this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Sums { kind, dy, stride, x, x_stride, rows, cols, to } = self;
        // SAFETY: the caller's.
        unsafe {
            for row in 0..rows {
                let (dy, x) = (dy.add(row * stride), x.add(row * x_stride));
                let moments = match kind {
                    Sum::Normed(centre, eps) => moments::<S>(x, cols, centre, eps),
                    _ => (0.0, 0.0),
                };
                let (mean, rstd) = (S::splat(moments.0), S::splat(moments.1));
                lanes!(S, cols, |c, n| {
                    let d = ld::<S>(dy.add(c), n);
                    match kind {
                        Sum::Plain => st::<S>(to.add(c), S::add(ld::<S>(to.add(c), n), d), n),
                        Sum::Negative => {
                            let low = S::min(S::splat(0.0), ld::<S>(x.add(c), n));
                            st::<S>(to.add(c), S::fma(d, low, ld::<S>(to.add(c), n)), n);
                        }
                        Sum::Normed(..) => {
                            let normed = S::mul(S::sub(ld::<S>(x.add(c), n), mean), rstd);
                            st::<S>(to.add(c), S::fma(d, normed, ld::<S>(to.add(c), n)), n);
                            st::<S>(to.add(cols + c), S::add(ld::<S>(to.add(cols + c), n), d), n);
                        }
                    }
                });
            }
        }
    }
}

/// `io` reads dy, and may write over it.
pub fn layer_norm_data(isa: Isa, io: Map, x: Rows, weight: &[f32], centre: Centre, eps: f32) {
    assert!(weight.len() >= x.cols, "too few values for the channels");
    rows(isa, &io, x, Kind::LayerNorm { weight, centre, eps });
}

/// The gradient of a softmax, or of its logarithm, whose result is `y`.
pub fn softmax_data(isa: Isa, io: Map, y: Rows, log: bool) {
    rows(isa, &io, y, if log { Kind::LogSoftmax } else { Kind::Softmax });
}

/// The gradient of a division by the L2 norm.
pub fn normalize_data(isa: Isa, io: Map, x: Rows, eps: f32) {
    rows(isa, &io, x, Kind::Normalize { eps });
}

/// `dx = x > 0 ? dy : slope * dy`, one slope a column or one for all.
pub fn prelu_data(isa: Isa, io: Map, x: Rows, slope: &[f32]) {
    assert!(slope.len() == 1 || slope.len() >= x.cols, "too few slopes");
    rows(isa, &io, x, Kind::PRelu { slope });
}

fn rows(isa: Isa, io: &Map, seen: Rows, kind: Kind) {
    seen.check();
    assert!(io.rows == seen.rows && io.cols == seen.cols, "rows of another shape");
    ranges(io.rows, 4 * io.cols, |range| {
        for row in range {
            isa.run(Row { kind, dy: io.from(row), seen: seen.at(row), dx: io.to(row), cols: io.cols });
        }
    });
}

#[derive(Clone, Copy)]
enum Kind<'a> {
    LayerNorm { weight: &'a [f32], centre: Centre, eps: f32 },
    Softmax,
    LogSoftmax,
    Normalize { eps: f32 },
    PRelu { slope: &'a [f32] },
}

struct Row<'a> {
    kind: Kind<'a>,
    dy: *const f32,
    seen: *const f32,
    dx: *mut f32,
    cols: usize,
}

impl Task for Row<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; a row of each is valid, and dx is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Row { kind, dy, seen, dx, cols } = self;
        // SAFETY: the caller's; operands have at least `cols` values.
        unsafe {
            match kind {
                Kind::LayerNorm { weight, centre, eps } => {
                    let (mean, rstd) = moments::<S>(seen, cols, centre, eps);
                    let (mean, rstd) = (S::splat(mean), S::splat(rstd));
                    let (mut sum, mut product) = (S::splat(0.0), S::splat(0.0));
                    lanes!(S, cols, |c, n| {
                        let g = S::mul(ld::<S>(dy.add(c), n), ld::<S>(weight.as_ptr().add(c), n));
                        let normed = S::mul(S::sub(ld::<S>(seen.add(c), n), mean), rstd);
                        sum = S::add(sum, g);
                        product = S::fma(g, normed, product);
                    });
                    let share = 1.0 / cols as f32;
                    let sum = if centre == Centre::Mean { S::sum(sum) * share } else { 0.0 };
                    let (sum, product) = (S::splat(sum), S::splat(S::sum(product) * share));
                    lanes!(S, cols, |c, n| {
                        let g = S::mul(ld::<S>(dy.add(c), n), ld::<S>(weight.as_ptr().add(c), n));
                        let normed = S::mul(S::sub(ld::<S>(seen.add(c), n), mean), rstd);
                        let rest = S::fma(normed, product, sum);
                        st::<S>(dx.add(c), S::mul(rstd, S::sub(g, rest)), n);
                    });
                }
                Kind::Softmax => {
                    let mut dot = S::splat(0.0);
                    lanes!(S, cols, |c, n| {
                        dot = S::fma(ld::<S>(dy.add(c), n), ld::<S>(seen.add(c), n), dot);
                    });
                    let dot = S::splat(S::sum(dot));
                    lanes!(S, cols, |c, n| {
                        let v = S::mul(ld::<S>(seen.add(c), n), S::sub(ld::<S>(dy.add(c), n), dot));
                        st::<S>(dx.add(c), v, n);
                    });
                }
                Kind::LogSoftmax => {
                    let mut sum = S::splat(0.0);
                    lanes!(S, cols, |c, n| {
                        sum = S::add(sum, ld::<S>(dy.add(c), n));
                    });
                    let sum = S::splat(S::sum(sum));
                    lanes!(S, cols, |c, n| {
                        let share = exp::<S>(ld::<S>(seen.add(c), n));
                        st::<S>(dx.add(c), S::sub(ld::<S>(dy.add(c), n), S::mul(share, sum)), n);
                    });
                }
                Kind::Normalize { eps } => {
                    let (mut square, mut dot) = (S::splat(0.0), S::splat(0.0));
                    lanes!(S, cols, |c, n| {
                        let x = ld::<S>(seen.add(c), n);
                        square = S::fma(x, x, square);
                        dot = S::fma(x, ld::<S>(dy.add(c), n), dot);
                    });
                    let norm = S::sum(square).sqrt();
                    // below eps the divisor is a constant
                    let (by, dot) = if norm > eps { (1.0 / norm, S::sum(dot) / norm / norm) } else { (1.0 / eps, 0.0) };
                    let (by, dot) = (S::splat(by), S::splat(dot));
                    lanes!(S, cols, |c, n| {
                        let v = S::sub(ld::<S>(dy.add(c), n), S::mul(ld::<S>(seen.add(c), n), dot));
                        st::<S>(dx.add(c), S::mul(by, v), n);
                    });
                }
                Kind::PRelu { slope } => {
                    lanes!(S, cols, |c, n| {
                        let slope =
                            if slope.len() == 1 { S::splat(slope[0]) } else { ld::<S>(slope.as_ptr().add(c), n) };
                        let d = ld::<S>(dy.add(c), n);
                        let up = S::gt(ld::<S>(seen.add(c), n), S::splat(0.0));
                        st::<S>(dx.add(c), S::select(up, d, S::mul(slope, d)), n);
                    });
                }
            }
        }
    }
}
