//! Functions of one value (`relu`, `gelu` ..) and along one axis (`softmax`, `normalize`).
//!
//! [`Activation`] is what passes and backends fuse: an op that is one says so by [`Operation::activation`].

use super::attr::words;
use super::init::Init;
use super::shape::Shape;
use super::{Operand, Operation, ParamDecl, bad_value, eval, inner_axis, mismatch, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

/// A function of one value that can be fused into the layer before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    Relu,
    Relu6,
    Elu {
        alpha: f64,
    },
    LeakyRelu {
        slope: f64,
    },
    /// By erf.
    Gelu,
    /// By tanh.
    GeluTanh,
    Silu,
    Sigmoid,
    Tanh,
    HardSwish,
    HardSigmoid,
    Softplus,
    Mish,
    Exp,
    /// An infinite bound is none.
    Clamp {
        min: f64,
        max: f64,
    },
}

impl Activation {
    /// The function's value, in float64. NaN stays NaN.
    pub fn apply(self, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let softplus = |x: f64| if x > 20.0 { x } else { x.exp().ln_1p() };
        match self {
            Activation::Relu => clamp(x, 0.0, f64::INFINITY),
            Activation::Relu6 => clamp(x, 0.0, 6.0),
            Activation::Elu { alpha } => {
                if x > 0.0 {
                    x
                } else {
                    alpha * x.exp_m1()
                }
            }
            Activation::LeakyRelu { slope } => {
                if x > 0.0 {
                    x
                } else {
                    slope * x
                }
            }
            Activation::Gelu => 0.5 * x * erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
            Activation::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
            Activation::Silu => x * sigmoid(x),
            Activation::Sigmoid => sigmoid(x),
            Activation::Tanh => x.tanh(),
            Activation::HardSwish => x * clamp(x + 3.0, 0.0, 6.0) / 6.0,
            Activation::HardSigmoid => clamp(x + 3.0, 0.0, 6.0) / 6.0,
            Activation::Softplus => softplus(x),
            Activation::Mish => x * softplus(x).tanh(),
            Activation::Exp => x.exp(),
            Activation::Clamp { min, max } => clamp(x, min, max),
        }
    }
}

/// As PyTorch: NaN stays, and `max` wins where it is below `min`.
fn clamp(x: f64, min: f64, max: f64) -> f64 {
    if x.is_nan() { x } else { x.max(min).min(max) }
}

/// 1 - erf(x): a series of positive terms near zero, a continued fraction (Abramowitz and Stegun 7.1.14) beyond.
fn erfc(x: f64) -> f64 {
    let root_pi = std::f64::consts::PI.sqrt();
    if x.is_nan() {
        return x;
    }
    if x.abs() > 2.5 {
        let tail = (1..=60).rev().fold(x.abs(), |rest, n| x.abs() + n as f64 / 2.0 / rest);
        let tail = (-x * x).exp() / (tail * root_pi);
        return if x > 0.0 { tail } else { 2.0 - tail };
    }
    let (mut term, mut sum) = (x, 0.0);
    for n in 1..=80 {
        sum += term;
        term *= 2.0 * x * x / (2 * n + 1) as f64;
    }
    1.0 - 2.0 / root_pi * (-x * x).exp() * sum
}

/// An op that is an [`Activation`]; everything else follows from that.
trait Pointwise {
    fn function(&self) -> Activation;

    fn arguments(&self) -> Result<(), Problem> {
        Ok(())
    }
}

impl<T: Pointwise> Operation for T {
    fn check(&self) -> Result<(), Problem> {
        self.arguments()
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        Ok(ins[0].clone())
    }

    fn activation(&self) -> Option<Activation> {
        Some(self.function())
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], _out: &[usize]) -> Tensor {
        let function = self.function();
        eval::each(ins[0].value, |x| function.apply(x))
    }
}

op! {
    /// Rectifier, max(x, 0), as `torch.nn.ReLU`. Any shape.
    pub struct Relu = "relu", First {}
}

impl Pointwise for Relu {
    fn function(&self) -> Activation {
        Activation::Relu
    }
}

op! {
    /// Rectifier that stops at 6, min(max(x, 0), 6), as `torch.nn.ReLU6`. Any shape.
    pub struct Relu6 = "relu6", First {}
}

impl Pointwise for Relu6 {
    fn function(&self) -> Activation {
        Activation::Relu6
    }
}

op! {
    /// x where x > 0, else alpha (e^x - 1), as `torch.nn.ELU` (Clevert et al. 2015). Any shape.
    pub struct Elu = "elu", First {
        /// the value it approaches on the left, negated
        alpha: f64 = "1.0",
    }
}

impl Pointwise for Elu {
    fn function(&self) -> Activation {
        Activation::Elu { alpha: self.alpha }
    }

    fn arguments(&self) -> Result<(), Problem> {
        finite("elu", "alpha", self.alpha)
    }
}

op! {
    /// x where x > 0, else slope x, as `torch.nn.LeakyReLU`. Any shape.
    pub struct LeakyRelu = "leaky_relu", First {
        /// what negative values are multiplied by
        slope: f64 = "0.01",
    }
}

impl Pointwise for LeakyRelu {
    fn function(&self) -> Activation {
        Activation::LeakyRelu { slope: self.slope }
    }

    fn arguments(&self) -> Result<(), Problem> {
        finite("leaky_relu", "slope", self.slope)
    }
}

words! {
    /// How `gelu` is computed.
    Approximate { None = "none", Tanh = "tanh" }
}

op! {
    /// x / 2 (1 + erf(x / sqrt(2))), as `torch.nn.GELU` (Hendrycks and Gimpel 2016). Any shape.
    ///
    /// With `approximate = tanh` it is x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
    pub struct Gelu = "gelu", First {
        /// `none`, or `tanh` for the approximation
        approximate: Approximate = "none",
    }
}

impl Pointwise for Gelu {
    fn function(&self) -> Activation {
        match self.approximate {
            Approximate::None => Activation::Gelu,
            Approximate::Tanh => Activation::GeluTanh,
        }
    }
}

op! {
    /// x sigmoid(x), also called swish, as `torch.nn.SiLU`. Any shape.
    pub struct Silu = "silu", First {}
}

impl Pointwise for Silu {
    fn function(&self) -> Activation {
        Activation::Silu
    }
}

op! {
    /// 1 / (1 + e^-x), as `torch.nn.Sigmoid`. Any shape.
    pub struct Sigmoid = "sigmoid", First {}
}

impl Pointwise for Sigmoid {
    fn function(&self) -> Activation {
        Activation::Sigmoid
    }
}

op! {
    /// Hyperbolic tangent, as `torch.nn.Tanh`. Any shape.
    pub struct Tanh = "tanh", First {}
}

impl Pointwise for Tanh {
    fn function(&self) -> Activation {
        Activation::Tanh
    }
}

op! {
    /// x min(max(x + 3, 0), 6) / 6, as `torch.nn.Hardswish` (Howard et al. 2019). Any shape.
    pub struct Hardswish = "hardswish", First {}
}

impl Pointwise for Hardswish {
    fn function(&self) -> Activation {
        Activation::HardSwish
    }
}

op! {
    /// min(max(x + 3, 0), 6) / 6, as `torch.nn.Hardsigmoid`. Any shape.
    pub struct Hardsigmoid = "hardsigmoid", First {}
}

impl Pointwise for Hardsigmoid {
    fn function(&self) -> Activation {
        Activation::HardSigmoid
    }
}

op! {
    /// ln(1 + e^x), and x above 20, as `torch.nn.Softplus`. Any shape.
    pub struct Softplus = "softplus", First {}
}

impl Pointwise for Softplus {
    fn function(&self) -> Activation {
        Activation::Softplus
    }
}

op! {
    /// x tanh(softplus(x)), as `torch.nn.Mish` (Misra 2019). Any shape.
    pub struct Mish = "mish", First {}
}

impl Pointwise for Mish {
    fn function(&self) -> Activation {
        Activation::Mish
    }
}

op! {
    /// e^x, as `torch.exp`. Any shape.
    pub struct Exp = "exp", First {}
}

impl Pointwise for Exp {
    fn function(&self) -> Activation {
        Activation::Exp
    }
}

op! {
    /// min(max(x, min), max), as `torch.clamp`. Any shape. At least one of the bounds is needed.
    pub struct Clamp = "clamp", First {
        /// lower bound, or none
        min: Option<f64> = "none",
        /// upper bound, or none
        max: Option<f64> = "none",
    }
}

impl Pointwise for Clamp {
    fn function(&self) -> Activation {
        Activation::Clamp { min: self.min.unwrap_or(f64::NEG_INFINITY), max: self.max.unwrap_or(f64::INFINITY) }
    }

    fn arguments(&self) -> Result<(), Problem> {
        match (self.min, self.max) {
            (None, None) => Err(bad_value("`clamp` needs `min`, `max` or both, got none")),
            (Some(min), Some(max)) if min > max => {
                Err(bad_value(format!("`clamp` needs `min` up to `max`, got {min} and {max}")))
            }
            _ => [("min", self.min), ("max", self.max)]
                .into_iter()
                .try_for_each(|(name, bound)| bound.map_or(Ok(()), |bound| finite("clamp", name, bound))),
        }
    }
}

/// Refuses infinities and NaN.
fn finite(op: &str, name: &str, value: f64) -> Result<(), Problem> {
    if value.is_finite() {
        return Ok(());
    }
    Err(bad_value(format!("`{name}` of `{op}` needs a finite number, got {value}")))
}

op! {
    /// x where x > 0, else w x with a learned slope w, as `torch.nn.PReLU` (He et al. 2015).
    ///
    /// One slope for all, for any shape, or as many as axis 1 has channels, [N, C, ..].
    pub struct Prelu = "prelu", First {
        /// number of slopes: 1, or the number of channels
        parameters: usize = "1",
        /// how fresh slopes are filled; 0.25 where none
        init: Option<Init> = "none",
    }
}

impl Operation for Prelu {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        if self.parameters == 1 || ins[0].axis(1) == Some(self.parameters) {
            return Ok(ins[0].clone());
        }
        let have = match ins[0].axis(1) {
            Some(channels) => format!("{} has {channels} channels", ins[0]),
            None => format!("{} has none", ins[0]),
        };
        Err(mismatch(format!("`prelu` has {} slopes, its input {have}", self.parameters)))
    }

    fn params(&self, _ins: &[&Shape]) -> Vec<ParamDecl> {
        vec![ParamDecl::weight("weight", [self.parameters], self.init.clone().unwrap_or(Init::Constant(0.25)))]
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], _out: &[usize]) -> Tensor {
        let (mut result, slopes) = (ins[0].value.clone(), params[0].data());
        let lean = |values: &mut [f32], slope: f32| {
            values.iter_mut().filter(|value| **value <= 0.0).for_each(|value| *value *= slope);
        };
        if self.parameters == 1 {
            lean(result.data_mut(), slopes[0]);
        } else {
            eval::channels(&mut result).for_each(|(channel, values)| lean(values, slopes[channel]));
        }
        result
    }
}

op! {
    /// e^x over the sum of e^x along an axis, as `torch.nn.Softmax`. Any shape; the axis is never the batch.
    pub struct Softmax = "softmax", First {
        /// the axis that sums to 1; -1 is the last
        axis: i64 = "-1",
    }
}

impl Operation for Softmax {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        inner_axis("softmax", ins[0], self.axis)?;
        Ok(ins[0].clone())
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], _out: &[usize]) -> Tensor {
        let x = ins[0].value;
        eval::along(x, eval::axis_of(self.axis, x), |lane| {
            let sum = log_sum_exp(lane);
            lane.iter_mut().for_each(|value| *value = (*value - sum).exp());
        })
    }
}

op! {
    /// Logarithm of `softmax`, as `torch.nn.LogSoftmax`. Any shape; the axis is never the batch.
    pub struct LogSoftmax = "log_softmax", First {
        /// the axis along which e^x would sum to 1; -1 is the last
        axis: i64 = "-1",
    }
}

impl Operation for LogSoftmax {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        inner_axis("log_softmax", ins[0], self.axis)?;
        Ok(ins[0].clone())
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], _out: &[usize]) -> Tensor {
        let x = ins[0].value;
        eval::along(x, eval::axis_of(self.axis, x), |lane| {
            let sum = log_sum_exp(lane);
            lane.iter_mut().for_each(|value| *value -= sum);
        })
    }
}

/// ln of the sum of e^x.
fn log_sum_exp(lane: &[f64]) -> f64 {
    let max = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + lane.iter().map(|value| (value - max).exp()).sum::<f64>().ln()
}

op! {
    /// x over its Euclidean length along an axis (at least 1e-12), as `torch.nn.functional.normalize`.
    ///
    /// Any shape; the axis is never the batch. PyTorch's default axis is 1, archc's is the last.
    pub struct Normalize = "normalize", First {
        /// the axis whose length becomes 1; -1 is the last
        axis: i64 = "-1",
    }
}

impl Operation for Normalize {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        inner_axis("normalize", ins[0], self.axis)?;
        Ok(ins[0].clone())
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], _out: &[usize]) -> Tensor {
        let x = ins[0].value;
        eval::along(x, eval::axis_of(self.axis, x), |lane| {
            let length = lane.iter().map(|value| value * value).sum::<f64>().sqrt().max(1e-12);
            lane.iter_mut().for_each(|value| *value /= length);
        })
    }
}
