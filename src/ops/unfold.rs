//! Windows of an image as columns, and back.

use super::attr::{Padding, Pair, Pair0};
use super::conv::{Conv2d, ConvGeometry, images, without_batch};
use super::shape::Shape;
use super::{Operand, Operation, eval, mismatch, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

op! {
    /// The windows of [N, C, H, W] as columns, as `torch.nn.Unfold` (`aten.im2col`): [N, C * kernel h * kernel w, L] for L
    /// windows row by row, the pixels of a window within its channel. Of a value without batch also [C, H, W] to
    /// [C * kernel h * kernel w, L].
    pub struct Unfold = "unfold", First, aten ["im2col", "unfold"] {
        /// size of the window, in pixels
        kernel: Pair,
        /// step of the window
        stride: Pair = "1",
        /// zeros around the image
        padding: Pair0 = "0",
        /// distance of the window's pixels
        dilation: Pair = "1",
    }
}

op! {
    /// Sums windows that are columns where they lie in an image, as `torch.nn.Fold` (`aten.col2im`): the transpose of
    /// `unfold`, from [N, C * kernel h * kernel w, L] to [N, C, size], of a value without batch also from
    /// [C * kernel h * kernel w, L] to [C, size].
    pub struct Fold = "fold", First, aten ["col2im"] {
        /// height and width of the image
        size: Pair,
        /// size of the window, in pixels
        kernel: Pair,
        /// step of the window
        stride: Pair = "1",
        /// pixels cut off around the image
        padding: Pair0 = "0",
        /// distance of the window's pixels
        dilation: Pair = "1",
    }
}

/// The windows of an image as those of a convolution; the number of outputs does not matter.
fn windows(kernel: Pair, stride: Pair, padding: Pair0, dilation: Pair) -> Conv2d {
    let padding = Padding::Each(padding.0);
    Conv2d { out: 1, kernel, stride, padding, dilation, groups: 1, bias: false, init: None }
}

/// How these windows lie in an image, for the op of that name.
fn geometry(op: &str, windows: &Conv2d, image: &Shape) -> Result<ConvGeometry, Problem> {
    windows.geometry(image).map_err(|mut problem| {
        problem.message = problem.message.replace("`conv2d`", &format!("`{op}`"));
        problem
    })
}

/// The pixel of place `tap` of window `place`, unless it is in the padding.
fn pixel(windows: &Conv2d, at: &ConvGeometry, place: usize, tap: usize) -> Option<(usize, usize)> {
    let along = |at: usize, stride: usize, tap: usize, dilation: usize, before: usize, len: usize| {
        (at * stride + tap * dilation).checked_sub(before).filter(|at| *at < len)
    };
    let Conv2d { kernel, stride, dilation, .. } = windows;
    let y = along(place / at.out_width, stride.h, tap / kernel.w, dilation.h, at.pad_top, at.height)?;
    Some((y, along(place % at.out_width, stride.w, tap % kernel.w, dilation.w, at.pad_left, at.width)?))
}

impl Unfold {
    pub fn windows(&self) -> Conv2d {
        windows(self.kernel, self.stride, self.padding, self.dilation)
    }
}

impl Operation for Unfold {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (channels, ..) = images(ins[0], "unfold")?;
        let ConvGeometry { out_height, out_width, .. } = geometry("unfold", &self.windows(), ins[0])?;
        let Pair { h, w } = self.kernel;
        let rows = channels.saturating_mul(h).saturating_mul(w);
        let before = &ins[0].dims[..ins[0].dims.len() - 3];
        let dims = [before, &[rows, out_height.saturating_mul(out_width)]].concat();
        Ok(Shape { batched: ins[0].batched, dims })
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let (windows, taps) = (self.windows(), self.kernel.h * self.kernel.w);
        eval::samples(ins[0].value, 3, out, |x, out| {
            let at = windows.geometry(&Shape::batched(&x.shape()[1..])).expect("the shape was inferred");
            eval::build(out, |index| {
                let &[n, row, place] = index else { unreachable!("three axes") };
                let (c, tap) = (row / taps, row % taps);
                pixel(&windows, &at, place, tap).map_or(0.0, |(y, x_at)| eval::at(x, &[n, c, y, x_at]))
            })
        })
    }
}

impl Fold {
    pub fn windows(&self) -> Conv2d {
        windows(self.kernel, self.stride, self.padding, self.dilation)
    }
}

impl Operation for Fold {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let Pair { h, w } = self.kernel;
        let taps = h.saturating_mul(w);
        let (before, [rows, count]) = match (ins[0].batched, &ins[0].dims[..]) {
            (_, &[rows, count]) => (&[][..], [rows, count]),
            (false, &[ref before @ .., rows, count]) if before.len() == 1 => (before, [rows, count]),
            (true, _) => return Err(mismatch(format!("`fold` needs [N, C * {taps}, L], got {}", ins[0]))),
            (false, _) => {
                return Err(without_batch("fold", &format!("[C * {taps}, L] or [K, C * {taps}, L]"), ins[0]));
            }
        };
        if rows % taps != 0 {
            return Err(mismatch(format!(
                "`fold` needs rows divisible by the {taps} pixels of a window, got {}",
                ins[0]
            )));
        }
        let dims = [before, &[rows / taps, self.size.h, self.size.w]].concat();
        let image = Shape { batched: ins[0].batched, dims };
        let at = geometry("fold", &self.windows(), &image)?;
        if at.out_height.saturating_mul(at.out_width) != count {
            return Err(mismatch(format!(
                "`fold` needs {} x {} windows for an image of {} x {}, got {}",
                at.out_height, at.out_width, self.size.h, self.size.w, ins[0]
            )));
        }
        Ok(image)
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        eval::samples(ins[0].value, 2, out, |x, out| self.of_samples(x, out))
    }
}

impl Fold {
    /// [`Operation::eval`] of x [N, rows, L].
    fn of_samples(&self, x: &Tensor, out: &[usize]) -> Tensor {
        let (windows, taps) = (self.windows(), self.kernel.h * self.kernel.w);
        let at = windows.geometry(&Shape::batched(&out[1..])).expect("the shape was inferred");
        let (rows, count) = (x.shape()[1], x.shape()[2]);
        let mut sums = vec![0f64; out.iter().product()];
        for (from, value) in x.data().iter().enumerate() {
            let (n, row, place) = (from / (rows * count), from / count % rows, from % count);
            let (c, tap) = (row / taps, row % taps);
            if let Some((y, x_at)) = pixel(&windows, &at, place, tap) {
                sums[((n * out[1] + c) * out[2] + y) * out[3] + x_at] += f64::from(*value);
            }
        }
        Tensor::new(out, sums.into_iter().map(|sum| sum as f32).collect())
    }
}
