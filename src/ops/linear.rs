//! Linear maps of the last axis.

use std::ops::Range;

use super::conv::weight_and_bias;
use super::init::Init;
use super::shape::Shape;
use super::{Arity, Operand, Operation, ParamDecl, bad_value, mismatch, op};
use crate::diag::{Code, Problem};
use crate::tensor::Tensor;

op! {
    /// Linear map of the last axis, y = x W^T + b, as `torch.nn.Linear`: [.., in] to [.., out], any rank.
    pub struct Linear = "linear", First, aten ["linear", "addmm"] {
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

op! {
    /// Linear map of the last axis whose weight and bias are values, y = x W^T + b, as `aten.linear`:
    /// `linear_with(x, weight)` or `linear_with(x, weight, bias)` of x `[.., in]`, a weight `[out, in]` and a bias `[out]`,
    /// both without batch, gives `[.., out]`.
    ///
    /// With `rows` some rows of both are the map. Maps of one x by rows of one weight that together are all its rows are
    /// computed as one product: queries, keys and values of an attention.
    pub struct LinearWith = "linear_with", First, aten ["linear"] {
        /// first row and the one behind the last, of weight and bias; all where none
        rows: Option<Vec<i64>> = "none",
    }
}

impl LinearWith {
    /// The rows of a weight of `len` that are meant.
    pub fn range(&self, len: usize) -> std::ops::Range<usize> {
        match self.rows.as_deref() {
            Some(&[from, to]) => from as usize..to as usize,
            _ => 0..len,
        }
    }
}

impl Operation for LinearWith {
    fn arity(&self) -> Arity {
        Arity::Between(2, 3)
    }

    fn check(&self) -> Result<(), Problem> {
        match self.rows.as_deref() {
            None => Ok(()),
            Some(&[from, to]) if from >= 0 && from < to => Ok(()),
            _ => Err(bad_value(
                "`rows` of `linear_with` needs a first row and a later one behind the last: `rows = (0, 768)`",
            )),
        }
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (x, weight) = (ins[0], ins[1]);
        let (Some(features), false, &[rows, columns]) = (x.last(), weight.batched, &weight.dims[..]) else {
            return Err(mismatch(format!("`linear_with` needs [.., in] and a weight [out, in], got {x} and {weight}")));
        };
        if features != columns {
            return Err(mismatch(format!(
                "`linear_with` needs {columns} features for its weight {weight}, got {features}"
            )));
        }
        if let Some(bias) = ins.get(2).filter(|bias| bias.batched || bias.dims != [rows]) {
            return Err(mismatch(format!(
                "`linear_with` needs a bias [{rows}] beside its weight {weight}, got {bias}"
            )));
        }
        let range = self.range(rows);
        if range.end > rows {
            let Range { start, end } = range;
            return Err(mismatch(format!("`linear_with` takes rows {start}..{end} of a weight {weight}")));
        }
        Ok(x.with_axis(x.rank() - 1, range.len()))
    }

    fn macs(&self, ins: &[&Shape], out: &Shape) -> u64 {
        (out.len() as u64).saturating_mul(ins[0].last().unwrap_or(0) as u64)
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let (weight, bias) = (ins[1].value, ins.get(2).map(|bias| bias.value.data()));
        let features = weight.shape()[1];
        let range = self.range(weight.shape()[0]);
        let mut result = Vec::with_capacity(out.iter().product());
        for row in ins[0].value.data().chunks_exact(features) {
            for k in range.clone() {
                let weights = &weight.data()[k * features..][..features];
                let sum: f64 = row.iter().zip(weights).map(|(x, w)| *x as f64 * *w as f64).sum();
                result.push((sum + bias.map_or(0.0, |bias| bias[k] as f64)) as f32);
            }
        }
        Tensor::new(out, result)
    }
}
