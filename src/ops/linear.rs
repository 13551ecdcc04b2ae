//! Linear maps of the last axis.

use super::conv::weight_and_bias;
use super::init::Init;
use super::shape::Shape;
use super::{Operand, Operation, ParamDecl, op};
use crate::diag::{Code, Problem};
use crate::tensor::Tensor;

op! {
    /// Linear map of the last axis, y = x W^T + b, as `torch.nn.Linear`: [.., in] to [.., out], any rank.
    pub struct Linear = "linear", First {
        /// number of output features
        out: usize,
        /// whether a learned number is added to each feature
        bias: bool = "true",
        /// how a fresh weight is filled; PyTorch's default where none
        init: Option<Init> = "none",
    }
}

impl Operation for Linear {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        if ins[0].last().is_none() {
            return Err(Problem::new(Code::ShapeMismatch, format!("`linear` needs [.., features], got {}", ins[0])));
        }
        Ok(ins[0].with_axis(ins[0].rank() - 1, self.out))
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        let features = ins[0].last().unwrap_or(1);
        weight_and_bias([self.out, features], self.out, features, self.bias, &self.init)
    }

    fn macs(&self, ins: &[&Shape], out: &Shape) -> u64 {
        (out.len() as u64).saturating_mul(ins[0].last().unwrap_or(0) as u64)
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], out: &[usize]) -> Tensor {
        let features = *ins[0].value.shape().last().expect("the shape was inferred");
        let mut result = Vec::with_capacity(out.iter().product());
        for row in ins[0].value.data().chunks_exact(features) {
            for (k, weights) in params[0].data().chunks_exact(features).enumerate() {
                let bias = if self.bias { params[1].data()[k] as f64 } else { 0.0 };
                let sum: f64 = row.iter().zip(weights).map(|(x, w)| *x as f64 * *w as f64).sum();
                result.push((sum + bias) as f32);
            }
        }
        Tensor::new(out, result)
    }
}
