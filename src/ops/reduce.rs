//! Reductions over whole axes.

use super::shape::Shape;
use super::{Operand, Operation, bad_value, eval, inner_axis, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

op! {
    /// Mean over one axis or several, as `torch.mean`. Any shape; the batch is never one of them.
    pub struct Mean = "mean", First, aten ["mean.dim"] {
        /// the axis, or a list of them; -1 is the last
        axis: Vec<i64>,
        /// whether the axes stay, with length 1
        keep: bool = "false",
    }
}

impl Operation for Mean {
    fn check(&self) -> Result<(), Problem> {
        some_axis("mean", &self.axis)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        reduced("mean", ins[0], &self.axis, self.keep)
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let x = ins[0].value;
        let (sums, count) = reduce(x, &self.axis, 0.0, |sum, value| sum + value);
        Tensor::new(out, sums.iter().map(|sum| (sum / count as f64) as f32).collect())
    }
}

op! {
    /// Sum over one axis or several, as `torch.sum`. Any shape; the batch is never one of them.
    pub struct Sum = "sum", First, aten ["sum.dim_IntList"] {
        /// the axis, or a list of them; -1 is the last
        axis: Vec<i64>,
        /// whether the axes stay, with length 1
        keep: bool = "false",
    }
}

impl Operation for Sum {
    fn check(&self) -> Result<(), Problem> {
        some_axis("sum", &self.axis)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        reduced("sum", ins[0], &self.axis, self.keep)
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let (sums, _) = reduce(ins[0].value, &self.axis, 0.0, |sum, value| sum + value);
        Tensor::new(out, sums.iter().map(|sum| *sum as f32).collect())
    }
}

op! {
    /// Variance over one axis or several, as `torch.var`: the sum of the squared distances from the mean, over the number
    /// of values less 1. Any shape; the batch is never one of them. The standard deviation is its `sqrt`.
    pub struct Var = "var", First, aten ["var.dim", "var.correction"] {
        /// the axis, or a list of them; -1 is the last
        axis: Vec<i64>,
        /// whether the axes stay, with length 1
        keep: bool = "false",
        /// whether it is the number of values less 1 that divides, which makes that of one value NaN, or the number itself
        unbiased: bool = "true",
    }
}

impl Operation for Var {
    fn check(&self) -> Result<(), Problem> {
        some_axis("var", &self.axis)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        reduced("var", ins[0], &self.axis, self.keep)
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        // squares of float32 numbers and their sums keep 29 digits more in float64 than the result has
        let moments = |[sum, squares]: [f64; 2], value: f64| [sum + value, squares + value * value];
        let (moments, count) = reduce(ins[0].value, &self.axis, [0.0; 2], moments);
        let count = count as f64;
        let divisor = if self.unbiased { count - 1.0 } else { count };
        let variance = |[sum, squares]: &[f64; 2]| ((squares - sum * sum / count).max(0.0) / divisor) as f32;
        Tensor::new(out, moments.iter().map(variance).collect())
    }
}

op! {
    /// Euclidean length over one axis or several, the square root of the sum of squares, as `torch.linalg.vector_norm`; its
    /// gradient at 0 is 0. Any shape; the batch is never one of them.
    ///
    /// Other norms are of other ops: the sum of sizes is `abs -> sum(axis)`, the largest size `abs -> amax(axis)`.
    pub struct VectorNorm = "vector_norm", First, aten ["linalg_vector_norm", "norm.ScalarOpt_dim"] {
        /// the axis, or a list of them; -1 is the last
        axis: Vec<i64>,
        /// whether the axes stay, with length 1
        keep: bool = "false",
    }
}

impl Operation for VectorNorm {
    fn check(&self) -> Result<(), Problem> {
        some_axis("vector_norm", &self.axis)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        reduced("vector_norm", ins[0], &self.axis, self.keep)
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let (sums, _) = reduce(ins[0].value, &self.axis, 0.0, |sum, value| sum + value * value);
        Tensor::new(out, sums.iter().map(|sum| sum.sqrt() as f32).collect())
    }
}

op! {
    /// Largest value over one axis or several, as `torch.amax`. Any shape; the batch is never one of them.
    pub struct Amax = "amax", First, aten ["amax", "max.dim"] {
        /// the axis, or a list of them; -1 is the last
        axis: Vec<i64>,
        /// whether the axes stay, with length 1
        keep: bool = "false",
    }
}

impl Operation for Amax {
    fn check(&self) -> Result<(), Problem> {
        some_axis("amax", &self.axis)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        reduced("amax", ins[0], &self.axis, self.keep)
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let larger = |max: f64, value: f64| if value > max || value.is_nan() { value } else { max };
        let (maxima, _) = reduce(ins[0].value, &self.axis, f64::NEG_INFINITY, larger);
        Tensor::new(out, maxima.iter().map(|max| *max as f32).collect())
    }
}

fn some_axis(op: &str, axes: &[i64]) -> Result<(), Problem> {
    if axes.is_empty() {
        return Err(bad_value(format!("`{op}` needs an axis or more, got none")));
    }
    Ok(())
}

/// The shape without `axes`, or with length 1 there.
fn reduced(op: &str, input: &Shape, axes: &[i64], keep: bool) -> Result<Shape, Problem> {
    let first = usize::from(input.batched);
    let mut gone = vec![false; input.dims.len()];
    for axis in axes {
        let at = inner_axis(op, input, *axis)? - first;
        if std::mem::replace(&mut gone[at], true) {
            return Err(bad_value(format!("`{op}` needs different axes, got axis {} twice", at + first)));
        }
    }
    let dims = input.dims.iter().zip(&gone).filter(|(_, gone)| keep || !**gone);
    Ok(Shape { batched: input.batched, dims: dims.map(|(dim, gone)| if *gone { 1 } else { *dim }).collect() })
}

/// Folds the values along `axes`; the results in order, and how many values each is made of.
fn reduce<T: Copy>(x: &Tensor, axes: &[i64], start: T, fold: impl Fn(T, f64) -> T) -> (Vec<T>, usize) {
    let mut shape = x.shape().to_vec();
    for axis in axes {
        shape[eval::axis_of(*axis, x)] = 1;
    }
    let len: usize = shape.iter().product();
    let mut results = vec![start; len];
    eval::build(x.shape(), |index| {
        let offset =
            index.iter().zip(&shape).fold(0, |offset, (at, len)| offset * len + if *len == 1 { 0 } else { *at });
        let value = eval::at(x, index);
        results[offset] = fold(results[offset], value as f64);
        value
    });
    (results, x.len() / len.max(1))
}
