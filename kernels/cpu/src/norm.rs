//! Normalisations: each row, or each group of channels, by its own mean and spread.
//!
//! Means and variances are taken in two passes over data that is in cache, in lanes, so that their error is small.

use archc_base::{Act, Centre};

use super::act::Apply;
use super::elementwise::Map;
use super::math::exp;
use super::par::{Shared, ranges};
use super::simd::{Isa, Simd, Task, lanes, ld, st};
use super::view::{Image, ImageMut};

/// `(x - mean) / sqrt(variance + eps) * weight + bias` over each row, then an activation; about zero the mean is taken as 0,
/// which makes it an RMS norm. For NHWC this is both the norm of the last axis and that of the channels of each pixel.
pub fn layer_norm(isa: Isa, io: Map, centre: Centre, weight: Option<&[f32]>, bias: Option<&[f32]>, eps: f32, act: Act) {
    check_affine(weight, bias, io.cols);
    rows(isa, &io, act, RowKind::LayerNorm { centre, weight, bias, eps });
}

/// `x / max(sqrt(sum of x^2), eps)` over each row.
pub fn l2_normalize(isa: Isa, io: Map, eps: f32) {
    rows(isa, &io, Act::None, RowKind::L2 { eps });
}

/// Softmax of each row.
pub fn softmax(isa: Isa, io: Map) {
    rows(isa, &io, Act::None, RowKind::Softmax);
}

/// The logarithm of the softmax of each row.
pub fn log_softmax(isa: Isa, io: Map) {
    rows(isa, &io, Act::None, RowKind::LogSoftmax);
}

/// `x * scale + shift` with one value of each a column (a batch norm that was not folded), then an activation.
pub fn scale_shift(isa: Isa, io: Map, scale: &[f32], shift: &[f32], act: Act) {
    check_affine(Some(scale), Some(shift), io.cols);
    rows(isa, &io, act, RowKind::ScaleShift { scale, shift });
}

fn check_affine(weight: Option<&[f32]>, bias: Option<&[f32]>, cols: usize) {
    let enough = |v: Option<&[f32]>| v.is_none_or(|v| v.len() >= cols);
    assert!(enough(weight) && enough(bias), "too few values for the channels");
}

#[derive(Clone, Copy)]
pub(super) enum RowKind<'a> {
    LayerNorm { centre: Centre, weight: Option<&'a [f32]>, bias: Option<&'a [f32]>, eps: f32 },
    L2 { eps: f32 },
    Softmax,
    LogSoftmax,
    ScaleShift { scale: &'a [f32], shift: &'a [f32] },
}

fn rows(isa: Isa, io: &Map, act: Act, kind: RowKind) {
    if io.cols == 0 {
        return;
    }
    let cost = match kind {
        RowKind::Softmax | RowKind::LogSoftmax => 8,
        _ => 2,
    };
    ranges(io.rows, io.cols * cost, |range| {
        for row in range {
            isa.run(RowTask { x: io.from(row), y: io.to(row), cols: io.cols, kind });
            if act != Act::None {
                let y = io.to(row);
                isa.run(Apply { act, x: y, x_stride: 0, y, y_stride: 0, rows: 1, cols: io.cols });
            }
        }
    });
}

/// One row; `x` and `y` may be the same.
pub(super) struct RowTask<'a> {
    pub x: *const f32,
    pub y: *mut f32,
    pub cols: usize,
    pub kind: RowKind<'a>,
}

impl Task for RowTask<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; `x` and `y` are valid for `cols` floats, and y is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let RowTask { x, y, cols, kind } = self;
        // SAFETY: the caller's; operands have at least `cols` values.
        unsafe {
            match kind {
                RowKind::LayerNorm { centre, weight, bias, eps } => {
                    let (mean, rstd) = moments::<S>(x, cols, centre, eps);
                    let (mean, scale) = (S::splat(mean), S::splat(rstd));
                    lanes!(S, cols, |i, n| {
                        let mut v = S::mul(S::sub(ld::<S>(x.add(i), n), mean), scale);
                        if let Some(weight) = weight {
                            v = S::mul(v, ld::<S>(weight.as_ptr().add(i), n));
                        }
                        if let Some(bias) = bias {
                            v = S::add(v, ld::<S>(bias.as_ptr().add(i), n));
                        }
                        st::<S>(y.add(i), v, n);
                    });
                }
                RowKind::L2 { eps } => {
                    let mut square = S::splat(0.0);
                    lanes!(S, cols, |i, n| {
                        let v = ld::<S>(x.add(i), n);
                        square = S::fma(v, v, square);
                    });
                    let norm = S::sum(square).sqrt();
                    let by = S::splat(if eps > norm { eps } else { norm });
                    lanes!(S, cols, |i, n| {
                        st::<S>(y.add(i), S::div(ld::<S>(x.add(i), n), by), n);
                    });
                }
                RowKind::Softmax => {
                    let sum = exp_row::<S>(x, y, cols);
                    let by = S::splat(1.0 / sum);
                    lanes!(S, cols, |i, n| {
                        st::<S>(y.add(i), S::mul(ld::<S>(y.add(i), n), by), n);
                    });
                }
                RowKind::LogSoftmax => {
                    let max = row_max::<S>(x, cols);
                    let top = S::splat(max);
                    let mut sum = S::splat(0.0);
                    lanes!(S, cols, |i, n| {
                        let e = exp::<S>(S::sub(ld::<S>(x.add(i), n), top));
                        sum = S::add(sum, if n == S::N { e } else { first_lanes::<S>(e, n) });
                    });
                    let log = S::splat(S::sum(sum).ln());
                    lanes!(S, cols, |i, n| {
                        st::<S>(y.add(i), S::sub(S::sub(ld::<S>(x.add(i), n), top), log), n);
                    });
                }
                RowKind::ScaleShift { scale, shift } => {
                    lanes!(S, cols, |i, n| {
                        let (a, b) = (ld::<S>(scale.as_ptr().add(i), n), ld::<S>(shift.as_ptr().add(i), n));
                        st::<S>(y.add(i), S::fma(ld::<S>(x.add(i), n), a, b), n);
                    });
                }
            }
        }
    }
}

/// The centre of a row, and 1 / the root of the mean square about it.
///
/// # Safety
/// The CPU must have the instruction set of `S`; the row is valid.
#[inline(always)]
pub(super) unsafe fn moments<S: Simd>(x: *const f32, cols: usize, centre: Centre, eps: f32) -> (f32, f32) {
    // SAFETY: the caller's.
    unsafe {
        let mut mean = 0.0;
        if centre == Centre::Mean {
            let mut sum = S::splat(0.0);
            lanes!(S, cols, |i, n| {
                sum = S::add(sum, ld::<S>(x.add(i), n));
            });
            mean = S::sum(sum) / cols as f32;
        }
        // Lanes beyond the row must not count.
        let tail = first_lanes::<S>(S::splat(mean), cols % S::N);
        let mut square = S::splat(0.0);
        lanes!(S, cols, |i, n| {
            let d = S::sub(ld::<S>(x.add(i), n), if n == S::N { S::splat(mean) } else { tail });
            square = S::fma(d, d, square);
        });
        (mean, 1.0 / (S::sum(square) / cols as f32 + eps).sqrt())
    }
}

/// The first `n` lanes, the others zero.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn first_lanes<S: Simd>(v: S::F, n: usize) -> S::F {
    let mut some = [0f32; 16];
    // SAFETY: N is at most 16.
    unsafe {
        S::store(some.as_mut_ptr(), v);
        S::load_n(some.as_ptr(), n)
    }
}

/// The largest of a row; NaN if any is.
///
/// # Safety
/// The CPU must have the instruction set of `S`; `x` is valid for `cols` floats, at least one.
#[inline(always)]
unsafe fn row_max<S: Simd>(x: *const f32, cols: usize) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        let mut max = S::splat(*x);
        lanes!(S, cols, |i, n| {
            let v = ld::<S>(x.add(i), n);
            // Lanes beyond the row repeat what is there.
            let v = if n == S::N { v } else { tail_or::<S>(v, max, n) };
            max = S::select(S::is_nan(v), v, S::max(v, max));
        });
        S::reduce_max(max)
    }
}

/// The first `n` lanes of `v`, the others of `other`.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn tail_or<S: Simd>(v: S::F, other: S::F, n: usize) -> S::F {
    let mut some = [0f32; 16];
    // SAFETY: N is at most 16.
    unsafe {
        S::store(some.as_mut_ptr(), other);
        S::store_n(some.as_mut_ptr(), v, n);
        S::load(some.as_ptr())
    }
}

/// `y = e^(x - max)`; returns the sum.
///
/// # Safety
/// The CPU must have the instruction set of `S`; `x` and `y` are valid for `cols` floats, at least one.
#[inline(always)]
pub(super) unsafe fn exp_row<S: Simd>(x: *const f32, y: *mut f32, cols: usize) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        let top = S::splat(row_max::<S>(x, cols));
        let mut sum = S::splat(0.0);
        lanes!(S, cols, |i, n| {
            let e = exp::<S>(S::sub(ld::<S>(x.add(i), n), top));
            st::<S>(y.add(i), e, n);
            sum = S::add(sum, if n == S::N { e } else { first_lanes::<S>(e, n) });
        });
        S::sum(sum)
    }
}

/// Group norm of images: `(x - mean) / sqrt(variance + eps) * weight + bias`, mean and variance over the pixels and the
/// channels of a group of one image; then an activation.
#[expect(clippy::too_many_arguments, reason = "they are those of the op")]
pub fn group_norm(
    isa: Isa,
    groups: usize,
    x: Image,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    eps: f32,
    act: Act,
    y: ImageMut,
) {
    x.check();
    y.check();
    assert!([x.n, x.h, x.w, x.c] == [y.n, y.h, y.w, y.c], "images of other shapes");
    assert!(groups > 0 && x.c.is_multiple_of(groups), "groups divide the channels");
    check_affine(weight, bias, x.c);
    if x.pixels() * x.c == 0 {
        return;
    }
    let (out, y_stride, per) = (Shared(y.data.as_mut_ptr()), y.stride, x.c / groups);
    if per == 1 {
        return instances(isa, x, [weight, bias], eps, act, out, y_stride);
    }
    ranges(x.n * groups, 3 * x.h * x.w * per, |range| {
        for i in range {
            let (n, first) = (i / groups, i % groups * per);
            isa.run(GroupTask {
                x: x.data.as_ptr().wrapping_add(n * x.h * x.w * x.stride + first),
                x_stride: x.stride,
                y: out.at(n * x.h * x.w * y_stride + first),
                y_stride,
                lines: x.h,
                pixels: x.w,
                channels: per,
                weight: weight.map_or(std::ptr::null(), |w| w[first..].as_ptr()),
                bias: bias.map_or(std::ptr::null(), |b| b[first..].as_ptr()),
                eps,
            });
            if act != Act::None {
                let y = out.at(n * x.h * x.w * y_stride + first);
                isa.run(Apply { act, x: y, x_stride: y_stride, y, y_stride, rows: x.h * x.w, cols: per });
            }
        }
    });
}

/// Group norm of channels that are a group each: lanes are channels, so that no sum crosses them.
fn instances(isa: Isa, x: Image, affine: [Option<&[f32]>; 2], eps: f32, act: Act, out: Shared, y_stride: usize) {
    let strips = x.c.div_ceil(STRIP);
    ranges(x.n * strips, 3 * x.h * x.w * STRIP.min(x.c), |range| {
        for i in range {
            let (n, first) = (i / strips, i % strips * STRIP);
            let from = |values: Option<&[f32]>| values.map_or(std::ptr::null(), |values| values[first..].as_ptr());
            let (channels, y) = (STRIP.min(x.c - first), out.at(n * x.h * x.w * y_stride + first));
            let x_at = x.data.as_ptr().wrapping_add(n * x.h * x.w * x.stride + first);
            let [weight, bias] = affine.map(from);
            let (lines, pixels, x_stride) = (x.h, x.w, x.stride);
            isa.run(Instances(GroupTask {
                x: x_at,
                x_stride,
                y,
                y_stride,
                lines,
                pixels,
                channels,
                weight,
                bias,
                eps,
            }));
            if act != Act::None {
                isa.run(Apply { act, x: y, x_stride: y_stride, y, y_stride, rows: lines * pixels, cols: channels });
            }
        }
    });
}

/// Channels that are neighbours in a task of [`instances`]: a few cache lines of each pixel.
const STRIP: usize = 64;

/// Some channels of one image, each by itself.
struct Instances(GroupTask);

impl Task for Instances {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the channels lie inside the image, and y is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let GroupTask { x, x_stride, y, y_stride, lines, pixels, channels, weight, bias, eps } = self.0;
        // SAFETY: the caller's.
        unsafe {
            let count = S::splat((lines * pixels) as f32);
            lanes!(S, channels, |c, n| {
                // a sum of lines, each of pixels: no sum is long
                let mut mean = S::splat(0.0);
                for line in 0..lines {
                    let mut sum = S::splat(0.0);
                    for px in line * pixels..(line + 1) * pixels {
                        sum = S::add(sum, ld::<S>(x.add(px * x_stride + c), n));
                    }
                    mean = S::add(mean, sum);
                }
                let mean = S::div(mean, count);
                let mut square = S::splat(0.0);
                for line in 0..lines {
                    let mut sum = S::splat(0.0);
                    for px in line * pixels..(line + 1) * pixels {
                        let d = S::sub(ld::<S>(x.add(px * x_stride + c), n), mean);
                        sum = S::fma(d, d, sum);
                    }
                    square = S::add(square, sum);
                }
                let deviation = S::sqrt(S::add(S::div(square, count), S::splat(eps)));
                let mut scale = S::div(S::splat(1.0), deviation);
                if !weight.is_null() {
                    scale = S::mul(scale, ld::<S>(weight.add(c), n));
                }
                let shift = if bias.is_null() { S::splat(0.0) } else { ld::<S>(bias.add(c), n) };
                for px in 0..lines * pixels {
                    let d = S::sub(ld::<S>(x.add(px * x_stride + c), n), mean);
                    st::<S>(y.add(px * y_stride + c), S::fma(d, scale, shift), n);
                }
            });
        }
    }
}

/// One group of one image.
struct GroupTask {
    x: *const f32,
    x_stride: usize,
    y: *mut f32,
    y_stride: usize,
    lines: usize,
    pixels: usize,
    channels: usize,
    /// Null for none.
    weight: *const f32,
    /// Null for none.
    bias: *const f32,
    eps: f32,
}

impl Task for GroupTask {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the group lies inside the image, and y is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let count = self.lines * self.pixels * self.channels;
        // SAFETY: the caller's.
        unsafe {
            // Sums of lines are added in f64, so that the size of the image does not matter.
            let mut total = 0f64;
            for line in 0..self.lines {
                let mut sum = S::splat(0.0);
                for px in line * self.pixels..(line + 1) * self.pixels {
                    let x = self.x.add(px * self.x_stride);
                    lanes!(S, self.channels, |c, n| {
                        sum = S::add(sum, ld::<S>(x.add(c), n));
                    });
                }
                total += f64::from(S::sum(sum));
            }
            let mean = S::splat((total / count as f64) as f32);
            let tail = first_lanes::<S>(mean, self.channels % S::N);
            let mut total = 0f64;
            for line in 0..self.lines {
                let mut square = S::splat(0.0);
                for px in line * self.pixels..(line + 1) * self.pixels {
                    let x = self.x.add(px * self.x_stride);
                    lanes!(S, self.channels, |c, n| {
                        let d = S::sub(ld::<S>(x.add(c), n), if n == S::N { mean } else { tail });
                        square = S::fma(d, d, square);
                    });
                }
                total += f64::from(S::sum(square));
            }
            let scale = S::splat(1.0 / ((total / count as f64) as f32 + self.eps).sqrt());
            for px in 0..self.lines * self.pixels {
                let (x, y) = (self.x.add(px * self.x_stride), self.y.add(px * self.y_stride));
                lanes!(S, self.channels, |c, n| {
                    let mut v = S::mul(S::sub(ld::<S>(x.add(c), n), mean), scale);
                    if !self.weight.is_null() {
                        v = S::mul(v, ld::<S>(self.weight.add(c), n));
                    }
                    if !self.bias.is_null() {
                        v = S::add(v, ld::<S>(self.bias.add(c), n));
                    }
                    st::<S>(y.add(c), v, n);
                });
            }
        }
    }
}
