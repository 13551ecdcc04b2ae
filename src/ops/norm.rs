//! Normalisations: subtract a mean, divide by a standard deviation, scale and shift by learned numbers.

use super::conv::image;
use super::init::Init;
use super::shape::Shape;
use super::{Operand, Operation, ParamDecl, Role, bad_value, eval, inner_axis, mismatch, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

op! {
    /// Batch normalisation of [N, C, H, W], as `torch.nn.BatchNorm2d` (Ioffe and Szegedy 2015):
    /// (x - mean) / sqrt(variance + eps) * weight + bias, for every channel.
    ///
    /// In eval mode mean and variance are `running_mean` and `running_var`; in training they are the batch's, with the
    /// biased variance, and the running ones move by `momentum` towards them, with the unbiased variance.
    pub struct BatchNorm2d = "batch_norm2d", First, aten ["batch_norm", "_native_batch_norm_legit_no_training"] {
        /// number of channels, only to be checked: the input's number is what counts
        features: Option<usize> = "none",
        /// added to the variance
        eps: f64 = "1e-5",
        /// how far the running statistics move towards the batch's
        momentum: f64 = "0.1",
        /// how a fresh weight is filled; ones where none
        init: Option<Init> = "none",
        /// whether it has weight and bias
        affine: bool = "true",
    }
}

impl Operation for BatchNorm2d {
    fn check(&self) -> Result<(), Problem> {
        statistics("batch_norm2d", self.eps, self.momentum)?;
        fills("batch_norm2d", self.affine, &self.init)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (channels, ..) = image(ins[0], "batch_norm2d")?;
        told("batch_norm2d", self.features, channels, ins[0])
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        with_statistics(ins[0].axis(1).unwrap_or(1), self.affine, &self.init)
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], _out: &[usize]) -> Tensor {
        by_statistics(ins[0].value, 1, self.eps, self.affine, params)
    }
}

op! {
    /// Batch normalisation of [N, C] or [N, C, L], as `torch.nn.BatchNorm1d`; of [N, L, C] with `axis = 2`. What it computes is
    /// said at `batch_norm2d`.
    pub struct BatchNorm1d = "batch_norm1d", First, aten ["batch_norm", "_native_batch_norm_legit_no_training"] {
        /// number of channels, only to be checked: the input's number is what counts
        features: Option<usize> = "none",
        /// the axis of the channels; -1 is the last
        axis: i64 = "1",
        /// added to the variance
        eps: f64 = "1e-5",
        /// how far the running statistics move towards the batch's
        momentum: f64 = "0.1",
        /// how a fresh weight is filled; ones where none
        init: Option<Init> = "none",
        /// whether it has weight and bias
        affine: bool = "true",
    }
}

impl BatchNorm1d {
    /// The axis of the channels.
    fn channels(&self, input: &Shape) -> Result<usize, Problem> {
        if !input.batched || !matches!(input.rank(), 2 | 3) {
            return Err(mismatch(format!("`batch_norm1d` needs [N, C] or [N, C, L], got {input}")));
        }
        inner_axis("batch_norm1d", input, self.axis)
    }
}

impl Operation for BatchNorm1d {
    fn check(&self) -> Result<(), Problem> {
        statistics("batch_norm1d", self.eps, self.momentum)?;
        fills("batch_norm1d", self.affine, &self.init)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let channels = ins[0].axis(self.channels(ins[0])?).expect("the axis is there");
        told("batch_norm1d", self.features, channels, ins[0])
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        let channels = self.channels(ins[0]).ok().and_then(|axis| ins[0].axis(axis));
        with_statistics(channels.unwrap_or(1), self.affine, &self.init)
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], _out: &[usize]) -> Tensor {
        let axis = eval::axis_of(self.axis, ins[0].value);
        by_statistics(ins[0].value, axis, self.eps, self.affine, params)
    }
}

op! {
    /// Layer normalisation over the last axis of [.., features], any rank, as `torch.nn.LayerNorm` of that axis (Ba et al.
    /// 2016): (x - mean) / sqrt(variance + eps) * weight + bias, with the biased variance.
    pub struct LayerNorm = "layer_norm", First, aten ["layer_norm", "native_layer_norm"] {
        /// added to the variance
        eps: f64 = "1e-5",
        /// how a fresh weight is filled; ones where none
        init: Option<Init> = "none",
        /// whether it has weight and bias
        affine: bool = "true",
        /// the axis that is normalised, never the batch; -1 is the last
        axis: i64 = "-1",
    }
}

impl Operation for LayerNorm {
    fn check(&self) -> Result<(), Problem> {
        positive_eps("layer_norm", self.eps)?;
        fills("layer_norm", self.affine, &self.init)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        over_features("layer_norm", ins[0], self.axis)
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        scale_and_shift(features(ins[0], self.axis), self.affine, &self.init)
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], _out: &[usize]) -> Tensor {
        let axis = eval::axis_of(self.axis, ins[0].value);
        eval::along(ins[0].value, axis, |lane| standardise(lane, self.eps, params))
    }
}

op! {
    /// Normalisation by the root mean square over the last axis of [.., features], any rank, as `torch.nn.RMSNorm` of that
    /// axis (Zhang and Sennrich 2019): x / sqrt(mean of x^2 + eps) * weight.
    pub struct RmsNorm = "rms_norm", First, aten ["rms_norm"] {
        /// added to the mean square; PyTorch's default is what float32 tells from 1
        eps: f64 = "1.1920929e-7",
        /// how a fresh weight is filled; ones where none
        init: Option<Init> = "none",
        /// whether it has a weight
        affine: bool = "true",
        /// the axis that is normalised, never the batch; -1 is the last
        axis: i64 = "-1",
    }
}

impl Operation for RmsNorm {
    fn check(&self) -> Result<(), Problem> {
        positive_eps("rms_norm", self.eps)?;
        fills("rms_norm", self.affine, &self.init)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        over_features("rms_norm", ins[0], self.axis)
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        let mut params = scale_and_shift(features(ins[0], self.axis), self.affine, &self.init);
        params.truncate(1);
        params
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], _out: &[usize]) -> Tensor {
        let axis = eval::axis_of(self.axis, ins[0].value);
        eval::along(ins[0].value, axis, |lane| {
            let square = lane.iter().map(|value| value * value).sum::<f64>() / lane.len() as f64;
            let root = (square + self.eps).sqrt();
            for (at, value) in lane.iter_mut().enumerate() {
                *value *= params.first().map_or(1.0, |weight| weight.data()[at] as f64) / root;
            }
        })
    }
}

op! {
    /// Layer normalisation over the channels of [N, C, ..], at every place, as torchvision's `LayerNorm2d` of [N, C, H, W]
    /// (ConvNeXt).
    pub struct LayerNorm2d = "layer_norm2d", First, aten ["layer_norm"] {
        /// added to the variance
        eps: f64 = "1e-5",
        /// how a fresh weight is filled; ones where none
        init: Option<Init> = "none",
        /// whether it has weight and bias
        affine: bool = "true",
    }
}

impl Operation for LayerNorm2d {
    fn check(&self) -> Result<(), Problem> {
        positive_eps("layer_norm2d", self.eps)?;
        fills("layer_norm2d", self.affine, &self.init)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        channels("layer_norm2d", ins[0])?;
        Ok(ins[0].clone())
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        scale_and_shift(ins[0].axis(1).unwrap_or(1), self.affine, &self.init)
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], _out: &[usize]) -> Tensor {
        eval::along(ins[0].value, 1, |lane| standardise(lane, self.eps, params))
    }
}

op! {
    /// Group normalisation of [N, C, ..], as `torch.nn.GroupNorm` (Wu and He 2018): each sample's channels in `groups` groups
    /// of neighbours, mean and biased variance of a group, weight and bias of a channel.
    pub struct GroupNorm = "group_norm", First, aten ["group_norm", "native_group_norm"] {
        /// number of groups; the number of channels must be divisible by it
        groups: usize,
        /// added to the variance
        eps: f64 = "1e-5",
        /// how a fresh weight is filled; ones where none
        init: Option<Init> = "none",
        /// whether it has weight and bias
        affine: bool = "true",
    }
}

impl Operation for GroupNorm {
    fn check(&self) -> Result<(), Problem> {
        positive_eps("group_norm", self.eps)?;
        fills("group_norm", self.affine, &self.init)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let channels = channels("group_norm", ins[0])?;
        if channels % self.groups != 0 {
            let groups = self.groups;
            return Err(mismatch(format!("`group_norm` needs channels divisible by {groups} groups, got {channels}")));
        }
        Ok(ins[0].clone())
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        scale_and_shift(ins[0].axis(1).unwrap_or(1), self.affine, &self.init)
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], out: &[usize]) -> Tensor {
        by_groups(ins[0].value, self.groups, self.eps, params, out)
    }
}

op! {
    /// Instance normalisation of [N, C, H, W], as `torch.nn.InstanceNorm2d` (Ulyanov et al. 2016): each channel of each sample
    /// by its own mean and biased variance, (x - mean) / sqrt(variance + eps). Without running statistics, as by default
    /// in PyTorch.
    pub struct InstanceNorm2d = "instance_norm2d", First, aten ["instance_norm"] {
        /// number of channels, only to be checked: the input's number is what counts
        features: Option<usize> = "none",
        /// added to the variance
        eps: f64 = "1e-5",
        /// how a fresh weight is filled; ones where none
        init: Option<Init> = "none",
        /// whether it has weight and bias
        affine: bool = "false",
    }
}

impl Operation for InstanceNorm2d {
    fn check(&self) -> Result<(), Problem> {
        positive_eps("instance_norm2d", self.eps)?;
        fills("instance_norm2d", self.affine, &self.init)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (channels, ..) = image(ins[0], "instance_norm2d")?;
        told("instance_norm2d", self.features, channels, ins[0])
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        scale_and_shift(ins[0].axis(1).unwrap_or(1), self.affine, &self.init)
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], out: &[usize]) -> Tensor {
        by_groups(ins[0].value, out[1], self.eps, params, out)
    }
}

/// The channels of [N, C, ..].
fn channels(op: &str, input: &Shape) -> Result<usize, Problem> {
    match (input.batched, input.axis(1)) {
        (true, Some(channels)) => Ok(channels),
        _ => Err(mismatch(format!("`{op}` needs [N, C, ..], got {input}"))),
    }
}

/// The input's shape, where it has the axis of the features.
fn over_features(op: &str, input: &Shape, axis: i64) -> Result<Shape, Problem> {
    if input.last().is_none() {
        return Err(mismatch(format!("`{op}` needs [.., features], got {input}")));
    }
    inner_axis(op, input, axis)?;
    Ok(input.clone())
}

/// The length of the axis of the features, which is there.
fn features(input: &Shape, axis: i64) -> usize {
    input.resolve_axis(axis).ok().and_then(|axis| input.axis(axis)).unwrap_or(1)
}

/// The input's shape, where its channels are as many as `features` says, which may be left out.
fn told(op: &str, features: Option<usize>, channels: usize, input: &Shape) -> Result<Shape, Problem> {
    match features {
        Some(features) if features != channels => {
            let message = format!("`{op}` was told {features} features, its input {input} has {channels} channels");
            Err(mismatch(message).hint("the number is inferred: leave `features` out"))
        }
        _ => Ok(input.clone()),
    }
}

/// Checks what batch norms take.
fn statistics(op: &str, eps: f64, momentum: f64) -> Result<(), Problem> {
    positive_eps(op, eps)?;
    if !(0.0..=1.0).contains(&momentum) {
        return Err(bad_value(format!("`momentum` of `{op}` needs a number from 0 to 1, got {momentum}")));
    }
    Ok(())
}

/// The tensors of a batch norm.
fn with_statistics(channels: usize, affine: bool, init: &Option<Init>) -> Vec<ParamDecl> {
    let mut params = scale_and_shift(channels, affine, init);
    params.push(ParamDecl { role: Role::Statistic, ..ParamDecl::weight("running_mean", [channels], Init::Zeros) });
    params.push(ParamDecl { role: Role::Statistic, ..ParamDecl::weight("running_var", [channels], Init::Ones) });
    params.push(ParamDecl { role: Role::Computed, ..ParamDecl::weight("num_batches_tracked", [], Init::Zeros) });
    params
}

/// A batch norm in eval mode.
fn by_statistics(x: &Tensor, axis: usize, eps: f64, affine: bool, params: &[&Tensor]) -> Tensor {
    let (affine, statistics) = params.split_at(if affine { 2 } else { 0 });
    eval::along(x, axis, |lane| {
        for (channel, value) in lane.iter_mut().enumerate() {
            let of = |param: &Tensor| param.data()[channel] as f64;
            let normed = (*value - of(statistics[0])) / (of(statistics[1]) + eps).sqrt();
            *value = if let [weight, bias] = affine { normed * of(weight) + of(bias) } else { normed };
        }
    })
}

/// Groups of neighbouring channels of each sample by their own mean and variance.
fn by_groups(x: &Tensor, groups: usize, eps: f64, params: &[&Tensor], out: &[usize]) -> Tensor {
    let pixels: usize = out[2..].iter().product();
    let size = out[1] / groups * pixels;
    let mut result = x.clone();
    for (group, values) in result.data_mut().chunks_exact_mut(size).enumerate() {
        let (mean, deviation) = moments(values.iter().map(|value| *value as f64), eps);
        for (at, value) in values.iter_mut().enumerate() {
            let channel = group % groups * (out[1] / groups) + at / pixels;
            let normed = (*value as f64 - mean) / deviation;
            *value = affine(normed, channel, params) as f32;
        }
    }
    result
}

/// What weight and bias, where there are some, make of a normalised value.
fn affine(normed: f64, channel: usize, params: &[&Tensor]) -> f64 {
    match params {
        [weight, bias] => normed * weight.data()[channel] as f64 + bias.data()[channel] as f64,
        _ => normed,
    }
}

/// `weight` and `bias` of a norm that is `affine`: ones (or `init`) and zeros.
fn scale_and_shift(features: usize, affine: bool, init: &Option<Init>) -> Vec<ParamDecl> {
    if !affine {
        return vec![];
    }
    vec![
        ParamDecl::weight("weight", [features], init.clone().unwrap_or(Init::Ones)),
        ParamDecl::weight("bias", [features], Init::Zeros),
    ]
}

/// Refuses an `init` of a norm that has nothing to be filled.
fn fills(op: &str, affine: bool, init: &Option<Init>) -> Result<(), Problem> {
    if affine || init.is_none() {
        return Ok(());
    }
    let problem = bad_value(format!("`init` fills the weight, and `{op}` has none where it is not `affine`"));
    Err(problem.hint("leave `init` out, or say `affine = true`"))
}

fn positive_eps(op: &str, eps: f64) -> Result<(), Problem> {
    if eps > 0.0 && eps < 1.0 {
        return Ok(());
    }
    let problem = bad_value(format!("`eps` of `{op}` needs a number above 0 and below 1, got {eps}"));
    // `batch_norm2d(64)` is what PyTorch's users write
    Err(if eps >= 1.0 { problem.hint("the input's size is inferred: leave it out") } else { problem })
}

/// Mean, and square root of the biased variance + eps.
fn moments(values: impl ExactSizeIterator<Item = f64> + Clone, eps: f64) -> (f64, f64) {
    let len = values.len() as f64;
    let mean = values.clone().sum::<f64>() / len;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / len;
    (mean, (variance + eps).sqrt())
}

/// Normalises a run of values, scales and shifts each by its own weight and bias.
fn standardise(lane: &mut [f64], eps: f64, params: &[&Tensor]) {
    let (mean, deviation) = moments(lane.iter().copied(), eps);
    for (at, value) in lane.iter_mut().enumerate() {
        *value = affine((*value - mean) / deviation, at, params);
    }
}
