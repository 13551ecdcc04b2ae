//! Convolutions over images.

use archc_base::Window;

use super::attr::{Padding, Pair, Pair0};
use super::init::Init;
use super::shape::Shape;
use super::{Arity, Operand, Operation, ParamDecl, bad_value, eval, mismatch, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

op! {
    /// Two-dimensional convolution (cross-correlation) of [N, C, H, W], as `torch.nn.Conv2d` (`aten.conv2d`); of a value
    /// without batch also of [C, H, W].
    ///
    /// The output is [N, out, H', W'] with H' = floor((H + padding above and below - dilation * (kernel - 1) - 1) /
    /// stride) + 1. With `groups` the channels are convolved in that many separate groups; C and `out` must be
    /// divisible by it.
    pub struct Conv2d = "conv2d", First, aten ["conv2d", "convolution", "_convolution"] {
        /// number of output channels
        out: usize,
        /// size of the window, in pixels
        kernel: Pair,
        /// step of the window
        stride: Pair = "1",
        /// zeros around the image, or `same` for TensorFlow's padding
        padding: Padding = "0",
        /// distance of the window's pixels
        dilation: Pair = "1",
        /// number of separate groups of channels
        groups: usize = "1",
        /// whether a learned number is added to each channel
        bias: bool = "true",
        /// how a fresh weight is filled; PyTorch's default where none
        init: Option<Init> = "none",
    }
}

/// The sizes of one convolution, padding worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub out_height: usize,
    pub out_width: usize,
    pub pad_top: usize,
    pub pad_left: usize,
}

impl Conv2d {
    /// The output size and the padding above and left of an image of this shape.
    pub fn geometry(&self, input: &Shape) -> Result<ConvGeometry, Problem> {
        let (channels, height, width) = images(input, "conv2d")?;
        let side = |len: usize, kernel: usize, stride: usize, padding: Option<usize>, dilation: usize| {
            let reach = dilation.checked_mul(kernel - 1)?.checked_add(1)?;
            match padding {
                Some(pad) => {
                    let padded = pad.checked_mul(2)?.checked_add(len)?;
                    Some(((padded.checked_sub(reach)?) / stride + 1, pad))
                }
                None => {
                    let out = len.div_ceil(stride);
                    let needed = ((out - 1) * stride).checked_add(reach)?.saturating_sub(len);
                    Some((out, needed / 2))
                }
            }
        };
        let padding = match self.padding {
            Padding::Each(pair) => (Some(pair.h), Some(pair.w)),
            Padding::Same => (None, None),
        };
        let rows = side(height, self.kernel.h, self.stride.h, padding.0, self.dilation.h);
        let columns = side(width, self.kernel.w, self.stride.w, padding.1, self.dilation.w);
        let (Some((out_height, pad_top)), Some((out_width, pad_left))) = (rows, columns) else {
            return Err(mismatch(format!(
                "the {} x {} window of `conv2d` is larger than its padded input {input}",
                self.kernel.h, self.kernel.w
            )));
        };
        Ok(ConvGeometry { channels, height, width, out_height, out_width, pad_top, pad_left })
    }

    /// The window over an image of this shape, which was inferred.
    pub fn window(&self, input: &Shape) -> Window {
        let geometry = self.geometry(input).expect("the shape was inferred");
        let window = Window {
            kernel: self.kernel.sides(),
            stride: self.stride.sides(),
            padding: [geometry.pad_top, geometry.pad_left, 0, 0],
            dilation: self.dilation.sides(),
        };
        window.fitted([geometry.height, geometry.width], [geometry.out_height, geometry.out_width])
    }
}

/// Refuses channels that do not fall into equal groups.
fn divisible(op: &str, groups: usize, input: usize, output: usize) -> Result<(), Problem> {
    for (what, count) in [("input", input), ("output", output)] {
        if count % groups != 0 {
            return Err(mismatch(format!(
                "`{op}` with groups = {groups} needs {what} channels divisible by that, got {count}"
            )));
        }
    }
    Ok(())
}

/// (C, H, W) of an [N, C, H, W], or an error in the name of `op`.
pub(super) fn image(input: &Shape, op: &str) -> Result<(usize, usize, usize), Problem> {
    input.as_image().ok_or_else(|| mismatch(format!("`{op}` needs [N, C, H, W], got {input}")))
}

/// (C, H, W) of images, with a batch or without one, or an error in the name of `op`.
pub(super) fn images(input: &Shape, op: &str) -> Result<(usize, usize, usize), Problem> {
    if input.batched {
        return image(input, op);
    }
    input.as_images().ok_or_else(|| without_batch(op, "[C, H, W] or [K, C, H, W]", input))
}

/// A value without batch that has other axes than `op` takes.
pub(super) fn without_batch(op: &str, wanted: &str, input: &Shape) -> Problem {
    mismatch(format!("`{op}` of a value without batch needs {wanted}, got {input}"))
        .hint("`reshape` and `permute` give it these axes; of a value without batch they list all")
}

impl Operation for Conv2d {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let geometry = self.geometry(ins[0])?;
        divisible("conv2d", self.groups, geometry.channels, self.out)?;
        Ok(ins[0].with_last(&[self.out, geometry.out_height, geometry.out_width]))
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        let channels = channels(ins[0], 3) / self.groups;
        let fan_in = channels.saturating_mul(self.kernel.h).saturating_mul(self.kernel.w);
        weight_and_bias([self.out, channels, self.kernel.h, self.kernel.w], self.out, fan_in, self.bias, &self.init)
    }

    fn macs(&self, ins: &[&Shape], out: &Shape) -> u64 {
        let window = (self.kernel.h as u64).saturating_mul(self.kernel.w as u64);
        (out.len() as u64).saturating_mul(window).saturating_mul((channels(ins[0], 3) / self.groups) as u64)
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], out: &[usize]) -> Tensor {
        eval::samples(ins[0].value, 3, out, |x, out| self.of_samples(x, params, out))
    }
}

/// The length of the axis that is so many from the end; 1 where there is none.
fn channels(input: &Shape, from_end: usize) -> usize {
    input.dims.len().checked_sub(from_end).and_then(|at| input.dims.get(at)).copied().unwrap_or(1)
}

impl Conv2d {
    /// [`Operation::eval`] of x [N, C, H, W].
    fn of_samples(&self, x: &Tensor, params: &[&Tensor], out: &[usize]) -> Tensor {
        let geometry = self.geometry(&Shape::batched(&x.shape()[1..])).expect("the shape was inferred");
        let (height, width) = (geometry.height as isize, geometry.width as isize);
        let (group_in, group_out) = (geometry.channels / self.groups, self.out / self.groups);
        let mut result = Tensor::zeros(out);
        let mut at = 0;
        for n in 0..out[0] {
            for k in 0..self.out {
                for oy in 0..geometry.out_height {
                    for ox in 0..geometry.out_width {
                        let mut sum = if self.bias { params[1].data()[k] as f64 } else { 0.0 };
                        for c in 0..group_in {
                            let channel = k / group_out * group_in + c;
                            for r in 0..self.kernel.h {
                                for s in 0..self.kernel.w {
                                    let y =
                                        (oy * self.stride.h + r * self.dilation.h) as isize - geometry.pad_top as isize;
                                    let x_at = (ox * self.stride.w + s * self.dilation.w) as isize
                                        - geometry.pad_left as isize;
                                    if (0..height).contains(&y) && (0..width).contains(&x_at) {
                                        let pixel = ((n * geometry.channels + channel) * geometry.height + y as usize)
                                            * geometry.width
                                            + x_at as usize;
                                        let weight = ((k * group_in + c) * self.kernel.h + r) * self.kernel.w + s;
                                        sum += x.data()[pixel] as f64 * params[0].data()[weight] as f64;
                                    }
                                }
                            }
                        }
                        result.data_mut()[at] = sum as f32;
                        at += 1;
                    }
                }
            }
        }
        result
    }
}

op! {
    /// Two-dimensional convolution whose weight and bias are values, as `torch.nn.functional.conv2d` (`aten.conv2d`):
    /// `conv2d_with(x, weight)` or `conv2d_with(x, weight, bias)` of x [N, C, H, W], a weight [out, C / groups, kernel h,
    /// kernel w] and a bias of `out` values, both without batch, gives [N, out, H', W'], sizes as of `conv2d`. For weights that are
    /// standardised (Qiao et al. 2019) or made of others.
    pub struct Conv2dWith = "conv2d_with", First, aten ["conv2d"] {
        /// step of the window
        stride: Pair = "1",
        /// zeros around the image, or `same` for TensorFlow's padding
        padding: Padding = "0",
        /// distance of the window's pixels
        dilation: Pair = "1",
        /// number of separate groups of channels
        groups: usize = "1",
    }
}

impl Conv2dWith {
    /// The convolution with a weight of this shape, [out, C / groups, kernel h, kernel w].
    pub fn with(&self, weight: &Shape) -> Result<Conv2d, Problem> {
        let (false, &[out, _, h, w]) = (weight.batched, &weight.dims[..]) else {
            let asked = "a weight [out, C / groups, kernel h, kernel w] without batch";
            return Err(mismatch(format!("`conv2d_with` needs {asked}, got {weight}")));
        };
        let Conv2dWith { stride, padding, dilation, groups } = *self;
        Ok(Conv2d { out, kernel: Pair { h, w }, stride, padding, dilation, groups, bias: false, init: None })
    }
}

impl Operation for Conv2dWith {
    fn arity(&self) -> Arity {
        Arity::Between(2, 3)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (x, weight) = (ins[0], ins[1]);
        let conv = self.with(weight)?;
        let named = |mut problem: Problem| {
            problem.message = problem.message.replace("`conv2d`", "`conv2d_with`");
            problem
        };
        let out = conv.infer(&[x]).map_err(named)?;
        let channels = x.dims[0];
        let each = weight.dims[1];
        if each.saturating_mul(self.groups) != channels {
            return Err(mismatch(format!(
                "`conv2d_with` needs {} channels for its weight {weight}, got {x}",
                each.saturating_mul(self.groups)
            )));
        }
        if let Some(bias) = ins.get(2).filter(|bias| bias.batched || bias.dims != [conv.out]) {
            return Err(mismatch(format!(
                "`conv2d_with` needs a bias [{}] beside its weight {weight}, got {bias}",
                conv.out
            )));
        }
        Ok(out)
    }

    fn macs(&self, ins: &[&Shape], out: &Shape) -> u64 {
        self.with(ins[1]).map_or(0, |conv| conv.macs(&ins[..1], out))
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let conv = self.with(&ins[1].shape()).expect("the shape was inferred");
        let params: Vec<&Tensor> = ins[1..].iter().map(|operand| operand.value).collect();
        Conv2d { bias: params.len() > 1, ..conv }.eval(&ins[..1], &params, out)
    }
}

op! {
    /// One-dimensional convolution (cross-correlation) of [N, C, L], as `torch.nn.Conv1d` (`aten.conv1d`), of a value without
    /// batch also of [C, L]: to [N, out, L'] with L' = (L + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1, rounded
    /// down.
    pub struct Conv1d = "conv1d", First, aten ["conv1d"] {
        /// number of output channels
        out: usize,
        /// length of the window
        kernel: usize,
        /// step of the window
        stride: usize = "1",
        /// zeros at either end, or `same` for TensorFlow's padding
        padding: Padding = "0",
        /// distance of the window's values
        dilation: usize = "1",
        /// number of separate groups of channels
        groups: usize = "1",
        /// whether a learned number is added to each channel
        bias: bool = "true",
        /// how a fresh weight is filled; PyTorch's default where none
        init: Option<Init> = "none",
    }
}

impl Conv1d {
    /// The same of images that are one pixel high.
    pub fn of_images(&self) -> Conv2d {
        let along = |w: usize| Pair { h: 1, w };
        let padding = match self.padding {
            Padding::Each(pair) => Padding::Each(Pair { h: 0, w: pair.w }),
            Padding::Same => Padding::Same,
        };
        let (kernel, stride, dilation) = (along(self.kernel), along(self.stride), along(self.dilation));
        let Conv1d { out, groups, bias, ref init, .. } = *self;
        Conv2d { out, kernel, stride, padding, dilation, groups, bias, init: init.clone() }
    }

    /// [N, C, L] as such images.
    pub fn image(input: &Shape) -> Result<Shape, Problem> {
        match (input.batched, &input.dims[..]) {
            (_, [.., channels, len]) if input.dims.len() == 2 || !input.batched && input.dims.len() == 3 => {
                let dims = [&input.dims[..input.dims.len() - 2], &[*channels, 1, *len]].concat();
                Ok(Shape { batched: input.batched, dims })
            }
            (true, _) => Err(mismatch(format!("`conv1d` needs [N, C, L], got {input}"))),
            (false, _) => Err(without_batch("conv1d", "[C, L] or [K, C, L]", input)),
        }
    }
}

impl Operation for Conv1d {
    fn check(&self) -> Result<(), Problem> {
        match self.padding {
            Padding::Each(pair) if pair.h != pair.w => Err(bad_value("`padding` of `conv1d` is one number, or `same`")),
            _ => Ok(()),
        }
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let image = Conv1d::image(ins[0])?;
        let found = self.of_images().infer(&[&image]).map_err(|problem| Problem {
            message: problem
                .message
                .replace(&format!("the 1 x {} window", self.kernel), &format!("the window of {}", self.kernel))
                .replace("`conv2d`", "`conv1d`")
                .replace(&image.to_string(), &ins[0].to_string()),
            ..problem
        })?;
        let [.., out, _, len] = found.dims[..] else { unreachable!("the result is an image") };
        Ok(ins[0].with_last(&[out, len]))
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        let channels = channels(ins[0], 2) / self.groups;
        let fan_in = channels.saturating_mul(self.kernel);
        weight_and_bias([self.out, channels, self.kernel], self.out, fan_in, self.bias, &self.init)
    }

    fn macs(&self, ins: &[&Shape], out: &Shape) -> u64 {
        (out.len() as u64).saturating_mul(self.kernel as u64).saturating_mul((channels(ins[0], 2) / self.groups) as u64)
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], out: &[usize]) -> Tensor {
        let high = |shape: &[usize]| [&shape[..shape.len() - 1], &[1], &shape[shape.len() - 1..]].concat();
        let x = ins[0].value.clone().reshape(high(ins[0].value.shape()));
        let operand = Operand { value: &x, ..ins[0] };
        self.of_images().eval(&[operand], params, &high(out)).reshape(out)
    }
}

op! {
    /// Two-dimensional transposed convolution of [N, C, H, W], as `torch.nn.ConvTranspose2d` (`aten.conv_transpose2d.input`), of a
    /// value without batch also of [C, H, W]: the gradient of a convolution, used to enlarge.
    ///
    /// The output is [N, out, H', W'] with H' = (H - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1.
    /// With `groups` the channels are convolved in that many separate groups; C and `out` must be divisible by it.
    pub struct ConvTranspose2d = "conv_transpose2d", First, aten ["conv_transpose2d"] {
        /// number of output channels
        out: usize,
        /// size of the window, in pixels
        kernel: Pair,
        /// step of the window in the output
        stride: Pair = "1",
        /// pixels cut off around the output
        padding: Pair0 = "0",
        /// pixels added below and right of the output, less than stride or dilation
        output_padding: Pair0 = "0",
        /// number of separate groups of channels
        groups: usize = "1",
        /// whether a learned number is added to each channel
        bias: bool = "true",
        /// distance of the window's pixels
        dilation: Pair = "1",
        /// how a fresh weight is filled; PyTorch's default where none
        init: Option<Init> = "none",
    }
}

impl ConvTranspose2d {
    /// The window of the convolution whose gradient this is.
    pub fn window(&self) -> Window {
        let Pair { h, w } = self.padding.0;
        let [kernel, stride, dilation] = [self.kernel, self.stride, self.dilation].map(Pair::sides);
        Window { kernel, stride, padding: [h, w, h, w], dilation }
    }
}

impl Operation for ConvTranspose2d {
    fn check(&self) -> Result<(), Problem> {
        let extra = self.output_padding.0;
        let limit = (self.stride.h.max(self.dilation.h), self.stride.w.max(self.dilation.w));
        if extra.h >= limit.0 || extra.w >= limit.1 {
            return Err(bad_value(format!(
                "`output_padding` of `conv_transpose2d` needs less than stride or dilation, {}, got {}",
                if extra.h >= limit.0 { limit.0 } else { limit.1 },
                if extra.h >= limit.0 { extra.h } else { extra.w }
            )));
        }
        Ok(())
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (channels, height, width) = images(ins[0], "conv_transpose2d")?;
        divisible("conv_transpose2d", self.groups, channels, self.out)?;
        let side = |sizes: [usize; 6]| {
            let [len, kernel, stride, padding, extra, dilation] = sizes.map(|size| size as i128);
            let out = (len - 1) * stride - 2 * padding + dilation * (kernel - 1) + extra + 1;
            usize::try_from(out).ok().filter(|out| *out > 0)
        };
        let (kernel, stride, dilation) = (self.kernel, self.stride, self.dilation);
        let (padding, extra) = (self.padding.0, self.output_padding.0);
        let rows = side([height, kernel.h, stride.h, padding.h, extra.h, dilation.h]);
        let columns = side([width, kernel.w, stride.w, padding.w, extra.w, dilation.w]);
        match (rows, columns) {
            (Some(rows), Some(columns)) => Ok(ins[0].with_last(&[self.out, rows, columns])),
            _ => Err(mismatch(format!("`conv_transpose2d` cuts off the whole of its output, its input is {}", ins[0]))),
        }
    }

    /// The fan of PyTorch's default is that of the weight's second axis, the outputs of a group.
    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        let outputs = self.out / self.groups;
        let fan_in = outputs.saturating_mul(self.kernel.h).saturating_mul(self.kernel.w);
        let shape = [channels(ins[0], 3), outputs, self.kernel.h, self.kernel.w];
        weight_and_bias(shape, self.out, fan_in, self.bias, &self.init)
    }

    fn macs(&self, ins: &[&Shape], _out: &Shape) -> u64 {
        let window = (self.kernel.h as u64).saturating_mul(self.kernel.w as u64);
        (ins[0].len() as u64).saturating_mul(window).saturating_mul((self.out / self.groups) as u64)
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], out: &[usize]) -> Tensor {
        eval::samples(ins[0].value, 3, out, |x, out| self.of_samples(x, params, out))
    }
}

impl ConvTranspose2d {
    /// [`Operation::eval`] of x [N, C, H, W].
    fn of_samples(&self, x: &Tensor, params: &[&Tensor], out: &[usize]) -> Tensor {
        let weight = params[0].data();
        let &[channels, height, width] = &x.shape()[1..] else { unreachable!("the shape was inferred") };
        let (group_in, group_out) = (channels / self.groups, self.out / self.groups);
        let bias = |k: usize| if self.bias { params[1].data()[k] as f64 } else { 0.0 };
        let mut sums: Vec<f64> = vec![];
        for _ in 0..out[0] {
            (0..self.out).for_each(|k| sums.extend(std::iter::repeat_n(bias(k), out[2] * out[3])));
        }
        for (at, value) in x.data().iter().enumerate() {
            let (n, channel, y, x_at) =
                (at / (channels * height * width), at / (height * width) % channels, at / width % height, at % width);
            for k in 0..group_out {
                for r in 0..self.kernel.h {
                    for s in 0..self.kernel.w {
                        let out_y = (y * self.stride.h + r * self.dilation.h).checked_sub(self.padding.0.h);
                        let out_x = (x_at * self.stride.w + s * self.dilation.w).checked_sub(self.padding.0.w);
                        let (Some(out_y), Some(out_x)) = (out_y, out_x) else { continue };
                        if out_y < out[2] && out_x < out[3] {
                            let target = n * self.out + channel / group_in * group_out + k;
                            let weight =
                                weight[((channel * group_out + k) * self.kernel.h + r) * self.kernel.w + s] as f64;
                            sums[(target * out[2] + out_y) * out[3] + out_x] += *value as f64 * weight;
                        }
                    }
                }
            }
        }
        Tensor::new(out, sums.iter().map(|sum| *sum as f32).collect())
    }
}

/// `weight` and `bias` with PyTorch's defaults: both uniform with bound 1 / sqrt(fan_in). With an explicit initialiser
/// the bias is zero.
pub(super) fn weight_and_bias(
    shape: impl Into<Vec<usize>>,
    out: usize,
    fan_in: usize,
    bias: bool,
    init: &Option<Init>,
) -> Vec<ParamDecl> {
    let default = Init::Uniform { bound: 1.0 / (fan_in.max(1) as f64).sqrt() };
    let bias_init = if init.is_some() { Init::Zeros } else { default.clone() };
    let mut params = vec![ParamDecl::weight("weight", shape, init.clone().unwrap_or(default))];
    if bias {
        params.push(ParamDecl::weight("bias", [out], bias_init));
    }
    params
}
