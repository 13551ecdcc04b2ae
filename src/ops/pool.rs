//! Pooling over images: windows, adaptive windows, whole images. Of a value without batch, images are [C, H, W] or
//! [K, C, H, W].

use std::ops::Range;

use archc_base::Window;

use super::attr::{Pair, Pair0};
use super::conv::images;
use super::shape::Shape;
use super::{Operand, Operation, bad_value, mismatch, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

op! {
    /// Largest value of each window of [N, C, H, W], as `torch.nn.MaxPool2d` (`aten.max_pool2d`), of a value without batch
    /// also of [C, H, W]. Padding never wins.
    ///
    /// H' = floor((H + 2 padding - dilation (kernel - 1) - 1) / stride) + 1. With `ceil_mode` it is rounded up, but a
    /// last window that would start beyond the image and the padding above it is left out.
    pub struct MaxPool2d = "max_pool2d", First, aten ["max_pool2d", "max_pool2d_with_indices"] {
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
        let Window { kernel, stride, padding, dilation } = self.window();
        by_image(ins[0].value, out, |pixels, [h, w], at| {
            let [ys, xs] = [(0, h), (1, w)].map(|(axis, len)| {
                let start = (at[axis] * stride[axis]) as i64 - padding[axis] as i64;
                let pixels = (0..kernel[axis]).map(|k| start + (k * dilation[axis]) as i64);
                let inside = pixels.take_while(|pixel| *pixel < len as i64).filter(|pixel| *pixel >= 0);
                inside.map(|pixel| pixel as usize).collect::<Vec<_>>()
            });
            max_of(pixels, w, &ys, &xs)
        })
    }
}

op! {
    /// Mean of each window of [N, C, H, W], as `torch.nn.AvgPool2d` (`aten.avg_pool2d`), of a value without batch also of
    /// [C, H, W].
    ///
    /// Sizes are those of `max_pool2d`. The sum is divided by the number of pixels of the window that lie on the image or
    /// its padding, or, without `count_include_pad`, on the image.
    pub struct AvgPool2d = "avg_pool2d", First, aten ["avg_pool2d", "avg_pool1d"] {
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
        let Window { kernel, stride, padding, .. } = self.window();
        by_image(ins[0].value, out, |pixels, [h, w], at| {
            // from and to on the image, and the length with the padding
            let [(top, bottom, tall), (left, right, wide)] = [(0, h), (1, w)].map(|(axis, len)| {
                let start = (at[axis] * stride[axis]) as i64 - padding[axis] as i64;
                let end = (start + kernel[axis] as i64).min((len + padding[axis]) as i64);
                (start.max(0) as usize, end.clamp(0, len as i64) as usize, (end - start) as usize)
            });
            if top >= bottom || left >= right {
                return 0.0;
            }
            let count = if self.count_include_pad { tall * wide } else { (bottom - top) * (right - left) };
            (sum_of(pixels, w, top..bottom, left..right) / count as f64) as f32
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
    let (_, height, width) = images(input, op)?;
    match [0, 1].map(|axis| places(&window, axis, [height, width][axis], ceil_mode)) {
        [Some(height), Some(width)] => Ok(input.with_last(&[height, width])),
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

/// Evaluates each output pixel by the channel that it is of: `of` is given its pixels, their height and width, and the
/// pixel's place.
fn by_image(x: &Tensor, out: &[usize], of: impl Fn(&[f32], [usize; 2], [usize; 2]) -> f32) -> Tensor {
    let [height, width] = [2, 1].map(|end| x.shape()[x.shape().len() - end]);
    let channels = x.data().chunks_exact(height * width);
    let size = [out[out.len() - 2], out[out.len() - 1]];
    let places = || (0..size[0]).flat_map(|y| (0..size[1]).map(move |x| [y, x]));
    let values = channels.flat_map(|pixels| places().map(|at| of(pixels, [height, width], at)).collect::<Vec<f32>>());
    Tensor::new(out, values.collect())
}

/// The largest value at those rows and columns of an image of such a width; NaN where there is one.
fn max_of(pixels: &[f32], width: usize, ys: &[usize], xs: &[usize]) -> f32 {
    let mut max = f32::NEG_INFINITY;
    for y in ys {
        for x in xs {
            let value = pixels[y * width + x];
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

/// The sum of those rows and columns of an image of such a width.
fn sum_of(pixels: &[f32], width: usize, rows: Range<usize>, columns: Range<usize>) -> f64 {
    rows.flat_map(|y| &pixels[y * width..][columns.clone()]).map(|value| *value as f64).sum()
}

op! {
    /// Mean over windows chosen so that [N, C, H, W] becomes [N, C, size], as `torch.nn.AdaptiveAvgPool2d`
    /// (`aten.adaptive_avg_pool2d`); of a value without batch also [C, H, W].
    ///
    /// Window i reaches from floor(i H / size) to ceil((i + 1) H / size); `adaptive_avg_pool2d(1)` is the mean of the image.
    pub struct AdaptiveAvgPool2d = "adaptive_avg_pool2d", First, aten ["adaptive_avg_pool2d", "_adaptive_avg_pool2d"] {
        /// size of the output, in pixels
        size: Pair,
    }
}

impl Operation for AdaptiveAvgPool2d {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        images(ins[0], "adaptive_avg_pool2d")?;
        Ok(ins[0].with_last(&self.size.sides()))
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        by_image(ins[0].value, out, |pixels, [h, w], at| {
            let (rows, columns) = (adaptive(at[0], h, self.size.h), adaptive(at[1], w, self.size.w));
            let count = rows.len() * columns.len();
            (sum_of(pixels, w, rows, columns) / count as f64) as f32
        })
    }
}

op! {
    /// Largest value of windows chosen so that [N, C, H, W] becomes [N, C, size], as `torch.nn.AdaptiveMaxPool2d`
    /// (`aten.adaptive_max_pool2d`); of a value without batch also [C, H, W]. The windows are those of `adaptive_avg_pool2d`.
    pub struct AdaptiveMaxPool2d = "adaptive_max_pool2d", First, aten ["adaptive_max_pool2d"] {
        /// size of the output, in pixels
        size: Pair,
    }
}

impl Operation for AdaptiveMaxPool2d {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        images(ins[0], "adaptive_max_pool2d")?;
        Ok(ins[0].with_last(&self.size.sides()))
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        by_image(ins[0].value, out, |pixels, [h, w], at| {
            let rows: Vec<usize> = adaptive(at[0], h, self.size.h).collect();
            let columns: Vec<usize> = adaptive(at[1], w, self.size.w).collect();
            max_of(pixels, w, &rows, &columns)
        })
    }
}

/// Window `at` of `parts` over `len` pixels.
fn adaptive(at: usize, len: usize, parts: usize) -> Range<usize> {
    at * len / parts..((at + 1) * len).div_ceil(parts)
}

op! {
    /// Mean of each channel, [N, C, H, W] to [N, C]: `adaptive_avg_pool2d(1)` and `flatten` in one. A value without batch,
    /// [C, H, W], gives a vector of C means.
    pub struct GlobalAvgPool2d = "global_avg_pool2d", First, aten ["adaptive_avg_pool2d", "mean.dim"] {}
}

impl Operation for GlobalAvgPool2d {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        of_channels(ins[0], "global_avg_pool2d")
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let of = |pixels: &[f32], [h, w]: [usize; 2], _| (sum_of(pixels, w, 0..h, 0..w) / (h * w) as f64) as f32;
        by_image(ins[0].value, &[out, &[1, 1]].concat(), of).reshape(out)
    }
}

op! {
    /// Largest value of each channel, [N, C, H, W] to [N, C]: `adaptive_max_pool2d(1)` and `flatten` in one. A value without
    /// batch, [C, H, W], gives a vector of C values.
    pub struct GlobalMaxPool2d = "global_max_pool2d", First, aten ["adaptive_max_pool2d", "amax"] {}
}

impl Operation for GlobalMaxPool2d {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        of_channels(ins[0], "global_max_pool2d")
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        by_image(ins[0].value, &[out, &[1, 1]].concat(), |pixels, [h, w], _| {
            max_of(pixels, w, &(0..h).collect::<Vec<_>>(), &(0..w).collect::<Vec<_>>())
        })
        .reshape(out)
    }
}

/// One value a channel of images.
fn of_channels(input: &Shape, op: &str) -> Result<Shape, Problem> {
    images(input, op)?;
    Ok(Shape { batched: input.batched, dims: input.dims[..input.dims.len() - 2].to_vec() })
}
