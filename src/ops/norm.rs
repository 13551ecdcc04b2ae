//! Normalisations: subtract a mean, divide by a standard deviation, scale and shift by learned numbers.

use super::conv::image;
use super::init::Init;
use super::shape::Shape;
use super::{Operand, Operation, ParamDecl, Role, bad_value, eval, mismatch, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

op! {
    /// Batch normalisation of [N, C, H, W], as `torch.nn.BatchNorm2d` (Ioffe and Szegedy 2015):
    /// (x - mean) / sqrt(variance + eps) * weight + bias, for every channel.
    ///
    /// In eval mode mean and variance are `running_mean` and `running_var`; in training they are the batch's, with the
    /// biased variance, and the running ones move by `momentum` towards them, with the unbiased variance.
    pub struct BatchNorm2d = "batch_norm2d", First {
        /// number of channels, only to be checked: the input's number is what counts
        features: Option<usize> = "none",
        /// added to the variance
        eps: f64 = "1e-5",
        /// how far the running statistics move towards the batch's
        momentum: f64 = "0.1",
        /// how a fresh weight is filled; ones where none
        init: Option<Init> = "none",
    }
}

impl Operation for BatchNorm2d {
    fn check(&self) -> Result<(), Problem> {
        positive_eps("batch_norm2d", self.eps)?;
        if !(0.0..=1.0).contains(&self.momentum) {
            let got = self.momentum;
            return Err(bad_value(format!("`momentum` of `batch_norm2d` needs a number from 0 to 1, got {got}")));
        }
        Ok(())
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (channels, ..) = image(ins[0], "batch_norm2d")?;
        match self.features {
            Some(features) if features != channels => Err(mismatch(format!(
                "`batch_norm2d` was told {features} features, its input {} has {channels} channels",
                ins[0]
            ))
            .hint("the number is inferred: leave `features` out")),
            _ => Ok(ins[0].clone()),
        }
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        let channels = ins[0].axis(1).unwrap_or(1);
        let mut params = scale_and_shift(channels, &self.init);
        params.push(ParamDecl { role: Role::Statistic, ..ParamDecl::weight("running_mean", [channels], Init::Zeros) });
        params.push(ParamDecl { role: Role::Statistic, ..ParamDecl::weight("running_var", [channels], Init::Ones) });
        params.push(ParamDecl { role: Role::Computed, ..ParamDecl::weight("num_batches_tracked", [], Init::Zeros) });
        params
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], _out: &[usize]) -> Tensor {
        let mut result = ins[0].value.clone();
        for (channel, values) in eval::channels(&mut result) {
            let of = |param: usize| params[param].data()[channel] as f64;
            let scale = of(0) / (of(3) + self.eps).sqrt();
            values.iter_mut().for_each(|value| *value = ((*value as f64 - of(2)) * scale + of(1)) as f32);
        }
        result
    }
}

op! {
    /// Layer normalisation over the last axis of [.., features], any rank, as `torch.nn.LayerNorm` of that axis (Ba et al.
    /// 2016): (x - mean) / sqrt(variance + eps) * weight + bias, with the biased variance.
    pub struct LayerNorm = "layer_norm", First {
        /// added to the variance
        eps: f64 = "1e-5",
        /// how a fresh weight is filled; ones where none
        init: Option<Init> = "none",
    }
}

impl Operation for LayerNorm {
    fn check(&self) -> Result<(), Problem> {
        positive_eps("layer_norm", self.eps)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        match ins[0].last() {
            Some(_) => Ok(ins[0].clone()),
            None => Err(mismatch(format!("`layer_norm` needs [.., features], got {}", ins[0]))),
        }
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        scale_and_shift(ins[0].last().unwrap_or(1), &self.init)
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], out: &[usize]) -> Tensor {
        eval::along(ins[0].value, out.len() - 1, |lane| standardise(lane, self.eps, params))
    }
}

op! {
    /// Layer normalisation over the channels of [N, C, H, W], at every pixel, as torchvision's `LayerNorm2d` (ConvNeXt).
    pub struct LayerNorm2d = "layer_norm2d", First {
        /// added to the variance
        eps: f64 = "1e-5",
        /// how a fresh weight is filled; ones where none
        init: Option<Init> = "none",
    }
}

impl Operation for LayerNorm2d {
    fn check(&self) -> Result<(), Problem> {
        positive_eps("layer_norm2d", self.eps)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        image(ins[0], "layer_norm2d")?;
        Ok(ins[0].clone())
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        scale_and_shift(ins[0].axis(1).unwrap_or(1), &self.init)
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], _out: &[usize]) -> Tensor {
        eval::along(ins[0].value, 1, |lane| standardise(lane, self.eps, params))
    }
}

op! {
    /// Group normalisation of [N, C, ..], as `torch.nn.GroupNorm` (Wu and He 2018): each sample's channels in `groups` groups
    /// of neighbours, mean and biased variance of a group, weight and bias of a channel.
    pub struct GroupNorm = "group_norm", First {
        /// number of groups; the number of channels must be divisible by it
        groups: usize,
        /// added to the variance
        eps: f64 = "1e-5",
        /// how a fresh weight is filled; ones where none
        init: Option<Init> = "none",
    }
}

impl Operation for GroupNorm {
    fn check(&self) -> Result<(), Problem> {
        positive_eps("group_norm", self.eps)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (true, Some(channels)) = (ins[0].batched, ins[0].axis(1)) else {
            return Err(mismatch(format!("`group_norm` needs [N, C, ..], got {}", ins[0])));
        };
        if channels % self.groups != 0 {
            let groups = self.groups;
            return Err(mismatch(format!("`group_norm` needs channels divisible by {groups} groups, got {channels}")));
        }
        Ok(ins[0].clone())
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        scale_and_shift(ins[0].axis(1).unwrap_or(1), &self.init)
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], out: &[usize]) -> Tensor {
        let pixels: usize = out[2..].iter().product();
        let size = out[1] / self.groups * pixels;
        let mut result = ins[0].value.clone();
        for (group, values) in result.data_mut().chunks_exact_mut(size).enumerate() {
            let (mean, deviation) = moments(values.iter().map(|value| *value as f64), self.eps);
            for (at, value) in values.iter_mut().enumerate() {
                let channel = group % self.groups * (out[1] / self.groups) + at / pixels;
                let (weight, bias) = (params[0].data()[channel] as f64, params[1].data()[channel] as f64);
                *value = ((*value as f64 - mean) / deviation * weight + bias) as f32;
            }
        }
        result
    }
}

/// `weight` and `bias` of a norm: ones (or `init`) and zeros.
fn scale_and_shift(features: usize, init: &Option<Init>) -> Vec<ParamDecl> {
    vec![
        ParamDecl::weight("weight", [features], init.clone().unwrap_or(Init::Ones)),
        ParamDecl::weight("bias", [features], Init::Zeros),
    ]
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
        *value = (*value - mean) / deviation * params[0].data()[at] as f64 + params[1].data()[at] as f64;
    }
}
