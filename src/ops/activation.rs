//! Functions of one value (`relu`, `gelu` ..) and along one axis (`softmax`, `normalize`).
//!
//! [`Act`] is what passes and backends fuse: an op that is one says so by [`Operation::activation`].

use archc_base::Act;

use super::attr::words;
use super::init::Init;
use super::shape::Shape;
use super::{Operand, Operation, ParamDecl, bad_value, eval, inner_axis, mismatch, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

/// An op that is an [`Act`]; everything else follows from that.
trait Pointwise {
    fn function(&self) -> Act;

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

    fn activation(&self) -> Option<Act> {
        Some(self.function())
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], _out: &[usize]) -> Tensor {
        let function = self.function();
        eval::each(ins[0].value, |x| function.apply(x))
    }
}

/// Ops without arguments that are an [`Act`] each.
macro_rules! activations {
    ($($(#[doc = $doc:literal])* $Name:ident = $word:literal, aten [$($aten:literal),*]: $act:expr;)*) => {
        $(
            op! {
                $(#[doc = $doc])*
                pub struct $Name = $word, First, aten [$($aten),*] {}
            }

            impl Pointwise for $Name {
                fn function(&self) -> Act {
                    $act
                }
            }
        )*
    };
}

activations! {
    /// Rectifier, max(x, 0), as `torch.nn.ReLU`. Any shape.
    Relu = "relu", aten ["relu"]: Act::Relu;
    /// Rectifier that stops at 6, min(max(x, 0), 6), as `torch.nn.ReLU6`. Any shape.
    Relu6 = "relu6", aten ["relu6"]: Act::RELU6;
    /// x sigmoid(x), also called swish, as `torch.nn.SiLU`. Any shape.
    Silu = "silu", aten ["silu"]: Act::Silu;
    /// 1 / (1 + e^-x), as `torch.nn.Sigmoid`. Any shape.
    Sigmoid = "sigmoid", aten ["sigmoid"]: Act::Sigmoid;
    /// Hyperbolic tangent, as `torch.nn.Tanh`. Any shape.
    Tanh = "tanh", aten ["tanh"]: Act::Tanh;
    /// x min(max(x + 3, 0), 6) / 6, as `torch.nn.Hardswish` (Howard et al. 2019). Any shape.
    Hardswish = "hardswish", aten ["hardswish"]: Act::HardSwish;
    /// min(max(x + 3, 0), 6) / 6, as `torch.nn.Hardsigmoid`. Any shape.
    Hardsigmoid = "hardsigmoid", aten ["hardsigmoid"]: Act::HardSigmoid;
    /// ln(1 + e^x), and x above 20, as `torch.nn.Softplus`. Any shape.
    Softplus = "softplus", aten ["softplus"]: Act::Softplus;
    /// x tanh(softplus(x)), as `torch.nn.Mish` (Misra 2019). Any shape.
    Mish = "mish", aten ["mish"]: Act::Mish;
    /// Square root, as `torch.sqrt`: NaN below 0. Any shape.
    Sqrt = "sqrt", aten ["sqrt"]: Act::Sqrt;
    /// 1 / sqrt(x), as `torch.rsqrt`: infinite at 0, NaN below. Any shape.
    Rsqrt = "rsqrt", aten ["rsqrt"]: Act::Rsqrt;
    /// |x|, as `torch.abs`. Any shape.
    Abs = "abs", aten ["abs"]: Act::Abs;
    /// -x, as `torch.neg`; of values `-a` is the same. Any shape.
    Neg = "neg", aten ["neg"]: Act::Linear { scale: -1.0, shift: 0.0 };
    /// Natural logarithm, as `torch.log`: -inf of 0, NaN below. Any shape.
    Log = "log", aten ["log"]: Act::Log;
    /// Sine of radians, as `torch.sin`. Any shape.
    Sin = "sin", aten ["sin"]: Act::Sin;
    /// Cosine of radians, as `torch.cos`. Any shape.
    Cos = "cos", aten ["cos"]: Act::Cos;
    /// x / (1 + |x|), as `torch.nn.Softsign`. Any shape.
    Softsign = "softsign", aten []: Act::Softsign;
    /// -ln(1 + e^-x), the logarithm of `sigmoid`, as `torch.nn.LogSigmoid`. Any shape.
    LogSigmoid = "log_sigmoid", aten ["log_sigmoid"]: Act::LogSigmoid;
    /// 1.0507 x where x > 0, else 1.7581 (e^x - 1), as `torch.nn.SELU` (Klambauer et al. 2017). Any shape.
    Selu = "selu", aten ["selu"]: Act::Selu;
}

op! {
    /// e^x, as `torch.exp`. Any shape. With a `base` it is a power of that number, `2 ** x`, as `torch.pow` of a number and a
    /// tensor (`aten.pow.Scalar`): e^(x ln base).
    pub struct Exp = "exp", First, aten ["exp", "pow.Scalar", "exp2"] {
        /// the number, above 0, that x is the exponent of; e where none
        base: Option<f64> = "none",
    }
}

impl Operation for Exp {
    fn check(&self) -> Result<(), Problem> {
        match self.base {
            Some(base) if !(base as f32 > 0.0 && (base as f32).is_finite()) => {
                Err(bad_value(format!("`base` of `exp` needs a finite number above 0, got {base}")))
            }
            _ => Ok(()),
        }
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        Ok(ins[0].clone())
    }

    fn activation(&self) -> Option<Act> {
        self.base.is_none().then_some(Act::Exp)
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], _out: &[usize]) -> Tensor {
        eval::each(ins[0].value, |x| self.base.map_or_else(|| x.exp(), |base| base.powf(x)))
    }
}

op! {
    /// x where x > 0, else alpha (e^x - 1), as `torch.nn.ELU` (Clevert et al. 2015). Any shape.
    pub struct Elu = "elu", First, aten ["elu"] {
        /// the value it approaches on the left, negated
        alpha: f64 = "1.0",
    }
}

impl Pointwise for Elu {
    fn function(&self) -> Act {
        Act::Elu(self.alpha as f32)
    }

    fn arguments(&self) -> Result<(), Problem> {
        finite("elu", "alpha", self.alpha)
    }
}

op! {
    /// x where x > 0, else alpha (e^(x / alpha) - 1), as `torch.nn.CELU` (Barron 2017). Any shape.
    pub struct Celu = "celu", First, aten ["celu"] {
        /// the value it approaches on the left, negated
        alpha: f64 = "1.0",
    }
}

impl Pointwise for Celu {
    fn function(&self) -> Act {
        Act::Celu(self.alpha as f32)
    }

    fn arguments(&self) -> Result<(), Problem> {
        finite("celu", "alpha", self.alpha)?;
        if self.alpha as f32 == 0.0 {
            return Err(bad_value(format!("`alpha` of `celu` needs a number other than 0, got {}", self.alpha)));
        }
        Ok(())
    }
}

op! {
    /// x to a power, `x ** 3`, as `torch.pow` with a number as the exponent (`aten.pow.Tensor_Scalar`). Any shape.
    ///
    /// Of negative x it is NaN where the exponent is no integer, of 0 infinite where it is negative, and 1, with gradient 0, of
    /// anything to the power of 0. A number to the power of x is `exp`. Where the exponent is learned, write `exp(p * log(x))` for positive x: `x -> log -> mul(p) -> exp`.
    pub struct Pow = "pow", First, aten ["pow.Tensor_Scalar", "square", "reciprocal"] {
        /// the power
        exponent: f64,
    }
}

impl Pointwise for Pow {
    fn function(&self) -> Act {
        match self.exponent as f32 {
            1.0 => Act::None,
            2.0 => Act::Square,
            0.5 => Act::Sqrt,
            -0.5 => Act::Rsqrt,
            -1.0 => Act::Over(1.0),
            exponent => Act::Pow(exponent),
        }
    }

    fn arguments(&self) -> Result<(), Problem> {
        finite("pow", "exponent", f64::from(self.exponent as f32))
    }
}

op! {
    /// x where x > 0, else slope x, as `torch.nn.LeakyReLU`. Any shape.
    pub struct LeakyRelu = "leaky_relu", First, aten ["leaky_relu"] {
        /// what negative values are multiplied by
        slope: f64 = "0.01",
    }
}

impl Pointwise for LeakyRelu {
    fn function(&self) -> Act {
        Act::LeakyRelu(self.slope as f32)
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
    pub struct Gelu = "gelu", First, aten ["gelu"] {
        /// `none`, or `tanh` for the approximation
        approximate: Approximate = "none",
    }
}

impl Pointwise for Gelu {
    fn function(&self) -> Act {
        match self.approximate {
            Approximate::None => Act::Gelu,
            Approximate::Tanh => Act::GeluTanh,
        }
    }
}

op! {
    /// min(max(x, min), max), as `torch.clamp`. Any shape. At least one of the bounds is needed.
    pub struct Clamp = "clamp", First, aten ["clamp", "clamp_min", "clamp_max"] {
        /// lower bound, or none
        min: Option<f64> = "none",
        /// upper bound, or none
        max: Option<f64> = "none",
    }
}

impl Pointwise for Clamp {
    fn function(&self) -> Act {
        Act::Clamp {
            lo: self.min.map_or(f32::NEG_INFINITY, |min| min as f32),
            hi: self.max.map_or(f32::INFINITY, |max| max as f32),
        }
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

op! {
    /// min(max(x, min), max), as `torch.nn.Hardtanh`: a `clamp` from -1 to 1. Any shape.
    pub struct Hardtanh = "hardtanh", First, aten ["hardtanh"] {
        /// lower bound
        min: f64 = "-1.0",
        /// upper bound
        max: f64 = "1.0",
    }
}

impl Pointwise for Hardtanh {
    fn function(&self) -> Act {
        Act::Clamp { lo: self.min as f32, hi: self.max as f32 }
    }

    fn arguments(&self) -> Result<(), Problem> {
        finite("hardtanh", "min", self.min)?;
        finite("hardtanh", "max", self.max)?;
        if self.min > self.max {
            return Err(bad_value(format!("`hardtanh` needs `min` up to `max`, got {} and {}", self.min, self.max)));
        }
        Ok(())
    }
}

op! {
    /// Gated linear unit, a sigmoid(b) of the halves a and b of an axis, as `torch.nn.GLU` (Dauphin et al. 2017).
    ///
    /// Any shape; the axis, never the batch, has an even length, of which half is left.
    pub struct Glu = "glu", First, aten ["glu"] {
        /// the axis that is halved; -1 is the last
        axis: i64 = "-1",
    }
}

impl Operation for Glu {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let axis = inner_axis("glu", ins[0], self.axis)?;
        match ins[0].axis(axis) {
            Some(len) if len % 2 == 0 => Ok(ins[0].with_axis(axis, len / 2)),
            len => Err(mismatch(format!("`glu` needs an axis of even length, got {} in {}", len.unwrap_or(0), ins[0]))),
        }
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let (x, axis) = (ins[0].value, eval::axis_of(self.axis, ins[0].value));
        let mut other = vec![];
        eval::build(out, |index| {
            other.clear();
            other.extend_from_slice(index);
            other[axis] += out[axis];
            let gate = Act::Sigmoid.apply(eval::at(x, &other).into());
            (f64::from(eval::at(x, index)) * gate) as f32
        })
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
    pub struct Prelu = "prelu", First, aten ["prelu", "_prelu_kernel"] {
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
    pub struct Softmax = "softmax", First, aten ["softmax", "_softmax"] {
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
    pub struct LogSoftmax = "log_softmax", First, aten ["log_softmax", "_log_softmax"] {
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
    /// Any shape; the axis is never the batch. PyTorch's default axis is 1, archc's is the last. The length itself is
    /// `vector_norm`.
    pub struct Normalize = "normalize", First, aten [] {
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
