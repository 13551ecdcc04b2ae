//! Batch norm by the statistics of the batch, and its backward pass.
//!
//! Formula   y = (x - mean) / sqrt(var + eps) * weight + bias; with x^ the normalised x and M values a channel
//!           dx = weight / sqrt(var + eps) * (dy - sum(dy) / M - x^ sum(dy x^) / M)
//! Layout    NHWC, channels are the lanes. Memory is the limit: statistics read x once, of differences to the first
//!           pixel, so that a mean far from 0 costs no digits; backward reads dy and x twice and writes once
//! Relu      that follows is undone by the sign of y, which is computed again from x with the same instructions

use archc_base::Act;

use super::super::act::bounds;
use super::super::direct::Epilogue;
use super::super::elementwise::Map;
use super::super::par::{ranges, scratch};
use super::super::simd::{Isa, Simd, Task, lanes, ld, st};
use super::super::view::Rows;
use super::over_rows;

/// Means and biased variances of the columns of `x`, into `stats` [2, cols].
pub fn batch_stats(isa: Isa, x: Rows, stats: &mut [f32]) {
    x.check();
    let cols = x.cols;
    assert!(stats.len() >= 2 * cols && x.rows > 0, "statistics of nothing");
    let (mean, var) = stats.split_at_mut(cols);
    let part = |rows: std::ops::Range<usize>, out: *mut f32| {
        isa.run(Stats { x: x.at(rows.start), stride: x.stride, rows: rows.len(), cols, first: x.at(0), out })
    };
    over_rows(x.rows, cols, part, |col, [sum, square]: [f64; 2]| {
        let count = x.rows as f64;
        let shift = sum / count;
        mean[col] = (f64::from(x.data[col]) + shift) as f32;
        var[col] = (square / count - shift * shift).max(0.0) as f32;
    });
}

struct Stats {
    x: *const f32,
    stride: usize,
    rows: usize,
    cols: usize,
    first: *const f32,
    out: *mut f32,
}

impl Task for Stats {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; rows are valid, `out` is this task's and holds 2 * cols.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's.
        unsafe {
            lanes!(S, self.cols, |c, n| {
                let first = ld::<S>(self.first.add(c), n);
                let (mut sum, mut square) = ([S::splat(0.0); 2], [S::splat(0.0); 2]);
                let mut row = 0;
                while row + 2 <= self.rows {
                    let at = self.x.add(row * self.stride + c);
                    let (a, b) = (S::sub(ld::<S>(at, n), first), S::sub(ld::<S>(at.add(self.stride), n), first));
                    sum = [S::add(sum[0], a), S::add(sum[1], b)];
                    square = [S::fma(a, a, square[0]), S::fma(b, b, square[1])];
                    row += 2;
                }
                if row < self.rows {
                    let a = S::sub(ld::<S>(self.x.add(row * self.stride + c), n), first);
                    sum[0] = S::add(sum[0], a);
                    square[0] = S::fma(a, a, square[0]);
                }
                st::<S>(self.out.add(c), S::add(sum[0], sum[1]), n);
                st::<S>(self.out.add(self.cols + c), S::add(square[0], square[1]), n);
            });
        }
    }
}

/// What a batch norm knows besides its operand.
#[derive(Clone, Copy)]
pub struct BatchNorm<'a> {
    /// [2, C]
    pub stats: &'a [f32],
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    pub eps: f32,
}

impl BatchNorm<'_> {
    fn check(&self, cols: usize) {
        let enough = self.stats.len() >= 2 * cols && self.weight.len() >= cols && self.bias.len() >= cols;
        assert!(enough, "too few values for the channels");
    }

    /// Scale and shift of each channel, [2, cols].
    fn line(&self, cols: usize, out: &mut [f32]) {
        for c in 0..cols {
            let scale = self.weight[c] * self.rstd(cols, c);
            out[c] = scale;
            out[cols + c] = self.bias[c] - self.stats[c] * scale;
        }
    }

    fn rstd(&self, cols: usize, c: usize) -> f32 {
        1.0 / (self.stats[cols + c] + self.eps).sqrt()
    }
}

/// `y = after(norm(x) + residual)`
pub fn batch_norm(isa: Isa, io: Map, norm: &BatchNorm, epilogue: &Epilogue) {
    let cols = io.cols;
    norm.check(cols);
    epilogue.check(io.rows, cols, 1);
    assert!(epilogue.before == Act::None && epilogue.gate.is_none(), "an epilogue that this kernel does not know");
    let bounds = bounds(epilogue.after);
    let (lo, hi) = bounds.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
    scratch(2 * cols, |line| {
        norm.line(cols, line);
        let line: &[f32] = line;
        ranges(io.rows, cols, |range| {
            for row in range {
                let residual = epilogue.residual.map(|residual| residual.at(row));
                let y = io.to(row);
                isa.run(Apply { x: io.from(row), y, residual, cols, line, lo, hi });
                if bounds.is_none() {
                    let act = epilogue.after;
                    isa.run(super::super::act::Apply { act, x: y, x_stride: 0, y, y_stride: 0, rows: 1, cols });
                }
            }
        });
    });
}

struct Apply<'a> {
    x: *const f32,
    y: *mut f32,
    residual: Option<*const f32>,
    cols: usize,
    line: &'a [f32],
    lo: f32,
    hi: f32,
}

impl Task for Apply<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; a row of x, y and the residual is valid, and y is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Apply { x, y, residual, cols, line, lo, hi } = self;
        // SAFETY: the caller's; `line` holds 2 * cols.
        unsafe {
            let (lo, hi) = (S::splat(lo), S::splat(hi));
            lanes!(S, cols, |c, n| {
                let (scale, shift) = (ld::<S>(line.as_ptr().add(c), n), ld::<S>(line.as_ptr().add(cols + c), n));
                let mut v = S::fma(ld::<S>(x.add(c), n), scale, shift);
                if let Some(residual) = residual {
                    v = S::add(v, ld::<S>(residual.add(c), n));
                }
                st::<S>(y.add(c), S::max(lo, S::min(hi, v)), n);
            });
        }
    }
}

/// Gradients of weight and bias, into `out` [2, cols].
pub fn batch_norm_sums(isa: Isa, dy: Rows, x: Rows, norm: &BatchNorm, relu: bool, out: &mut [f32]) {
    dy.check();
    x.check();
    let cols = x.cols;
    norm.check(cols);
    assert!(dy.rows == x.rows && dy.cols == cols && out.len() >= 2 * cols, "rows of another shape");
    scratch(2 * cols, |line| {
        norm.line(cols, line);
        let line: &[f32] = line;
        let part = |rows: std::ops::Range<usize>, sums: *mut f32| {
            let (first, rows) = (rows.start, rows.len());
            let (dy_at, x_at) = (dy.at(first), x.at(first));
            isa.run(Sums {
                dy: dy_at,
                dy_stride: dy.stride,
                x: x_at,
                x_stride: x.stride,
                rows,
                cols,
                norm,
                line,
                relu,
                sums,
            });
        };
        let (weight, bias) = out.split_at_mut(cols);
        over_rows(x.rows, cols, part, |col, [product, sum]: [f64; 2]| {
            weight[col] = (product * f64::from(norm.rstd(cols, col))) as f32;
            bias[col] = sum as f32;
        });
    });
}

struct Sums<'a> {
    dy: *const f32,
    dy_stride: usize,
    x: *const f32,
    x_stride: usize,
    rows: usize,
    cols: usize,
    norm: &'a BatchNorm<'a>,
    line: &'a [f32],
    relu: bool,
    sums: *mut f32,
}

impl Task for Sums<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the rows are valid, and the sums are this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's; the norm was checked against the columns.
        unsafe {
            let zero = S::splat(0.0);
            lanes!(S, self.cols, |c, n| {
                let mean = ld::<S>(self.norm.stats.as_ptr().add(c), n);
                let (scale, shift) =
                    (ld::<S>(self.line.as_ptr().add(c), n), ld::<S>(self.line.as_ptr().add(self.cols + c), n));
                let (mut product, mut sum) = (zero, zero);
                for row in 0..self.rows {
                    let x = ld::<S>(self.x.add(row * self.x_stride + c), n);
                    let mut dy = ld::<S>(self.dy.add(row * self.dy_stride + c), n);
                    if self.relu {
                        dy = S::select(S::gt(S::fma(x, scale, shift), zero), dy, zero);
                    }
                    sum = S::add(sum, dy);
                    product = S::fma(dy, S::sub(x, mean), product);
                }
                st::<S>(self.sums.add(c), product, n);
                st::<S>(self.sums.add(self.cols + c), sum, n);
            });
        }
    }
}

/// The gradient by x: `io` reads dy, and may write over it; `sums` are those of [`batch_norm_sums`].
pub fn batch_norm_data(isa: Isa, io: Map, x: Rows, norm: &BatchNorm, sums: &[f32], relu: bool) {
    x.check();
    let cols = x.cols;
    norm.check(cols);
    assert!(io.rows == x.rows && io.cols == cols && sums.len() >= 2 * cols, "rows of another shape");
    scratch(5 * cols, |line| {
        norm.line(cols, line);
        for c in 0..cols {
            let share = 1.0 / x.rows as f32;
            line[2 * cols + c] = sums[cols + c] * share;
            line[3 * cols + c] = sums[c] * share * norm.rstd(cols, c);
            line[4 * cols + c] = norm.stats[c];
        }
        let line: &[f32] = line;
        ranges(x.rows, 2 * cols, |range| {
            for row in range {
                isa.run(Data { dy: io.from(row), x: x.at(row), dx: io.to(row), cols, line, relu });
            }
        });
    });
}

struct Data<'a> {
    dy: *const f32,
    x: *const f32,
    dx: *mut f32,
    cols: usize,
    line: &'a [f32],
    relu: bool,
}

impl Task for Data<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; a row of each is valid, and dx is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Data { dy, x, dx, cols, line, relu } = self;
        // SAFETY: the caller's; `line` holds 5 * cols.
        unsafe {
            let zero = S::splat(0.0);
            lanes!(S, cols, |c, n| {
                let at = |kind: usize| line.as_ptr().add(kind * cols + c);
                let scale = ld::<S>(at(0), n);
                let v = ld::<S>(x.add(c), n);
                let mut d = ld::<S>(dy.add(c), n);
                if relu {
                    d = S::select(S::gt(S::fma(v, scale, ld::<S>(at(1), n)), zero), d, zero);
                }
                let centred = S::sub(v, ld::<S>(at(4), n));
                let rest = S::fma(centred, ld::<S>(at(3), n), ld::<S>(at(2), n));
                st::<S>(dx.add(c), S::mul(scale, S::sub(d, rest)), n);
            });
        }
    }
}

/// Moves running statistics: `running += momentum * (stats - running)`, the variance unbiased as of `count` values.
pub fn running(stats: &[f32], mean: &mut [f32], var: &mut [f32], momentum: f32, count: usize) {
    let cols = mean.len();
    let unbiased = count as f64 / (count as f64 - 1.0).max(1.0);
    for c in 0..cols {
        mean[c] = (1.0 - momentum) * mean[c] + momentum * stats[c];
        var[c] = (1.0 - momentum) * var[c] + momentum * (f64::from(stats[cols + c]) * unbiased) as f32;
    }
}
