//! Pooling over images: windows, adaptive windows, whole images.

use archc_base::Window;

use super::attr::{Pair, Pair0};
use super::conv::image;
use super::shape::Shape;
use super::{Operand, Operation, bad_value, eval, mismatch, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

op! {
    /// Largest value of each window of [N, C, H, W], as `torch.nn.MaxPool2d`. Padding never wins.
    ///
    /// H' = floor((H + 2 padding - dilation (kernel - 1) - 1) / stride) + 1. With `ceil_mode` it is rounded up, but a
    /// last window that would start beyond the image and the padding above it is left out.
    pub struct MaxPool2d = "max_pool2d", First {
        /// size of the window, in pixels
        kernel: Pair,
        /// step of the window; the window's size where none
        stride: Option<Pair> = "none",
        /// pixels around the image, at most half the window
        padding: Pair0 = "0",
        /// distance of the window's pixels
        dilation: Pair = "1",
        /// whether a last window may reach beyond the image
        ceil_mode: bool = "false",
    }
}

impl MaxPool2d {
    pub fn window(&self) -> Window {
        window(self.kernel, self.stride, self.padding, self.dilation)
    }
}

impl Operation for MaxPool2d {
    fn check(&self) -> Result<(), Problem> {
        half_padding("max_pool2d", self.kernel, self.padding)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        pooled("max_pool2d", ins[0], self.window(), self.ceil_mode)
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let (x, Window { kernel, stride, padding, dilation }) = (ins[0].value, self.window());
        eval::build(out, |index| {
            let [ys, xs] = [0, 1].map(|axis| {
                let start = (index[axis + 2] * stride[axis]) as i64 - padding[axis] as i64;
                let pixels = (0..kernel[axis]).map(|k| start + (k * dilation[axis]) as i64);
                let len = x.shape()[axis + 2] as i64;
                let inside = pixels.take_while(|pixel| *pixel < len).filter(|pixel| *pixel >= 0);
                inside.map(|pixel| pixel as usize).collect::<Vec<_>>()
            });
            max_of(x, index[0], index[1], &ys, &xs)
        })
    }
}

op! {
    /// Mean of each window of [N, C, H, W], as `torch.nn.AvgPool2d`.
    ///
    /// Sizes are those of `max_pool2d`. The sum is divided by the number of pixels of the window that lie on the image or
    /// its padding, or, without `count_include_pad`, on the image.
    pub struct AvgPool2d = "avg_pool2d", First {
        /// size of the window, in pixels
        kernel: Pair,
        /// step of the window; the window's size where none
        stride: Option<Pair> = "none",
        /// zeros around the image, at most half the window
        padding: Pair0 = "0",
        /// whether a last window may reach beyond the image
        ceil_mode: bool = "false",
        /// whether padding counts in the mean
        count_include_pad: bool = "true",
    }
}

impl AvgPool2d {
    pub fn window(&self) -> Window {
        window(self.kernel, self.stride, self.padding, Pair::both(1))
    }
}

impl Operation for AvgPool2d {
    fn check(&self) -> Result<(), Problem> {
        half_padding("avg_pool2d", self.kernel, self.padding)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        pooled("avg_pool2d", ins[0], self.window(), self.ceil_mode)
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let (x, Window { kernel, stride, padding, .. }) = (ins[0].value, self.window());
        eval::build(out, |index| {
            // from and to on the image, and the length with the padding
            let [(top, bottom, tall), (left, right, wide)] = [0, 1].map(|axis| {
                let len = x.shape()[axis + 2];
                let start = (index[axis + 2] * stride[axis]) as i64 - padding[axis] as i64;
                let end = (start + kernel[axis] as i64).min((len + padding[axis]) as i64);
                (start.max(0) as usize, end.clamp(0, len as i64) as usize, (end - start) as usize)
            });
            if top >= bottom || left >= right {
                return 0.0;
            }
            let count = if self.count_include_pad { tall * wide } else { (bottom - top) * (right - left) };
            let mut sum = 0.0;
            for y in top..bottom {
                for x_at in left..right {
                    sum += eval::at(x, &[index[0], index[1], y, x_at]) as f64;
                }
            }
            (sum / count as f64) as f32
        })
    }
}

fn window(kernel: Pair, stride: Option<Pair>, Pair0(padding): Pair0, dilation: Pair) -> Window {
    let stride = stride.unwrap_or(kernel).sides();
    Window {
        kernel: kernel.sides(),
        stride,
        padding: [padding.h, padding.w, padding.h, padding.w],
        dilation: dilation.sides(),
    }
}

fn pooled(op: &str, input: &Shape, window: Window, ceil_mode: bool) -> Result<Shape, Problem> {
    let (channels, height, width) = image(input, op)?;
    match [0, 1].map(|axis| places(&window, axis, [height, width][axis], ceil_mode)) {
        [Some(height), Some(width)] => Ok(Shape::image(channels, height, width)),
        _ => Err(mismatch(format!(
            "`{op}` needs an image of the size of its {} x {} window or larger, got {input}",
            window.kernel[0], window.kernel[1]
        ))),
    }
}

/// How many places a window has along an axis of `len` pixels: PyTorch's rule. None where not even one fits.
fn places(window: &Window, axis: usize, len: usize, ceil_mode: bool) -> Option<usize> {
    let Window { kernel, stride, padding, dilation } = window;
    let [kernel, stride, padding, dilation, len] =
        [kernel[axis], stride[axis], padding[axis], dilation[axis], len].map(|value| value as i128);
    let room = len + 2 * padding - dilation * (kernel - 1) - 1;
    let extra = if ceil_mode { stride - 1 } else { 0 };
    let mut count = (room + extra).div_euclid(stride) + 1;
    if ceil_mode && (count - 1) * stride >= len + padding {
        count -= 1;
    }
    usize::try_from(count).ok().filter(|count| *count > 0)
}

fn half_padding(op: &str, kernel: Pair, padding: Pair0) -> Result<(), Problem> {
    for (kernel, padding) in [(kernel.h, padding.0.h), (kernel.w, padding.0.w)] {
        if padding > kernel / 2 {
            return Err(bad_value(format!(
                "`padding` of `{op}` needs at most half the window, {}, got {padding}",
                kernel / 2
            )));
        }
    }
    Ok(())
}

/// The largest value at those rows and columns of a channel; NaN where there is one.
fn max_of(x: &Tensor, n: usize, c: usize, ys: &[usize], xs: &[usize]) -> f32 {
    let mut max = f32::NEG_INFINITY;
    for y in ys {
        for x_at in xs {
            let value = eval::at(x, &[n, c, *y, *x_at]);
            if value > max || value.is_nan() {
                max = value;
            }
        }
        if max.is_nan() {
            break;
        }
    }
    max
}

op! {
    /// Mean over windows chosen so that [N, C, H, W] becomes [N, C, size], as `torch.nn.AdaptiveAvgPool2d`.
    ///
    /// Window i reaches from floor(i H / size) to ceil((i + 1) H / size); `adaptive_avg_pool2d(1)` is the mean of the image.
    pub struct AdaptiveAvgPool2d = "adaptive_avg_pool2d", First {
        /// size of the output, in pixels
        size: Pair,
    }
}

impl Operation for AdaptiveAvgPool2d {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (channels, ..) = image(ins[0], "adaptive_avg_pool2d")?;
        Ok(Shape::image(channels, self.size.h, self.size.w))
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let x = ins[0].value;
        eval::build(out, |index| {
            let rows = adaptive(index[2], x.shape()[2], out[2]);
            let columns = adaptive(index[3], x.shape()[3], out[3]);
            let mut sum = 0.0;
            for y in rows.clone() {
                for x_at in columns.clone() {
                    sum += eval::at(x, &[index[0], index[1], y, x_at]) as f64;
                }
            }
            (sum / (rows.len() * columns.len()) as f64) as f32
        })
    }
}

op! {
    /// Largest value of windows chosen so that [N, C, H, W] becomes [N, C, size], as `torch.nn.AdaptiveMaxPool2d`. The
    /// windows are those of `adaptive_avg_pool2d`.
    pub struct AdaptiveMaxPool2d = "adaptive_max_pool2d", First {
        /// size of the output, in pixels
        size: Pair,
    }
}

impl Operation for AdaptiveMaxPool2d {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (channels, ..) = image(ins[0], "adaptive_max_pool2d")?;
        Ok(Shape::image(channels, self.size.h, self.size.w))
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let x = ins[0].value;
        eval::build(out, |index| {
            let rows: Vec<usize> = adaptive(index[2], x.shape()[2], out[2]).collect();
            let columns: Vec<usize> = adaptive(index[3], x.shape()[3], out[3]).collect();
            max_of(x, index[0], index[1], &rows, &columns)
        })
    }
}

/// Window `at` of `parts` over `len` pixels.
fn adaptive(at: usize, len: usize, parts: usize) -> std::ops::Range<usize> {
    at * len / parts..((at + 1) * len).div_ceil(parts)
}

op! {
    /// Mean of each channel, [N, C, H, W] to [N, C]: `adaptive_avg_pool2d(1)` and `flatten` in one.
    pub struct GlobalAvgPool2d = "global_avg_pool2d", First {}
}

impl Operation for GlobalAvgPool2d {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        Ok(Shape::batched([image(ins[0], "global_avg_pool2d")?.0]))
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let pixels = ins[0].value.shape()[2..].iter().product();
        let mean = |values: &[f32]| values.iter().map(|value| *value as f64).sum::<f64>() / values.len() as f64;
        Tensor::new(out, ins[0].value.data().chunks_exact(pixels).map(|values| mean(values) as f32).collect())
    }
}

op! {
    /// Largest value of each channel, [N, C, H, W] to [N, C]: `adaptive_max_pool2d(1)` and `flatten` in one.
    pub struct GlobalMaxPool2d = "global_max_pool2d", First {}
}

impl Operation for GlobalMaxPool2d {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        Ok(Shape::batched([image(ins[0], "global_max_pool2d")?.0]))
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let x = ins[0].value;
        let (rows, columns): (Vec<usize>, Vec<usize>) = ((0..x.shape()[2]).collect(), (0..x.shape()[3]).collect());
        eval::build(out, |index| max_of(x, index[0], index[1], &rows, &columns))
    }
}
