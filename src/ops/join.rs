//! Ops of several values: arithmetic, concatenation, matrix products, table look-up.

use super::shape::Shape;
use super::{Arity, Operand, Operation, op};
use crate::diag::{Code, Problem};
use crate::tensor::Tensor;

op! {
    /// Sum of two values, `add(a, b)` or `a + b`; or of a value and a number, `a + 0.5`.
    ///
    /// Two batched values of different rank pair their axes from the left ([N, C, H, W] + [N, C]); with a batchless one
    /// from the right, as PyTorch. A 1 is stretched.
    pub struct Add = "add", First {
        /// the number, where the other side is one
        number: Option<f64> = "none",
    }
}

impl Operation for Add {
    fn arity(&self) -> Arity {
        binary_arity(self.number)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        broadcast_all("add", ins)
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        elementwise(ins, self.number, out, |a, b| a + b)
    }
}

/// Two operands, or one where the other is a number.
fn binary_arity(number: Option<f64>) -> Arity {
    Arity::Exactly(if number.is_some() { 1 } else { 2 })
}

/// The common shape of one or two operands.
fn broadcast_all(op: &str, ins: &[&Shape]) -> Result<Shape, Problem> {
    match ins {
        [a, b] => broadcast(op, a, b),
        _ => Ok(ins[0].clone()),
    }
}

/// The shape of `a` and `b` after stretching (see [`Add`]).
pub fn broadcast(op: &str, a: &Shape, b: &Shape) -> Result<Shape, Problem> {
    let rank = a.rank().max(b.rank());
    let from_left = a.batched && b.batched;
    let mut dims = Vec::with_capacity(rank);
    for at in 0..rank {
        let (x, y) = (aligned(a, rank, at, from_left), aligned(b, rank, at, from_left));
        match (x, y) {
            (Side::Batch, Side::Batch | Side::Len(1)) | (Side::Len(1), Side::Batch) => {}
            (Side::Len(x), Side::Len(y)) if x == y || y == 1 => dims.push(x),
            (Side::Len(1), Side::Len(y)) => dims.push(y),
            _ => {
                return Err(Problem::new(
                    Code::ShapeMismatch,
                    format!("`{op}` needs shapes that fit, got {a} and {b}"),
                ));
            }
        }
    }
    Ok(Shape { batched: a.batched || b.batched, dims })
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Batch,
    Len(usize),
}

/// What `shape` has at axis `at` of a common shape of `rank` axes.
fn aligned(shape: &Shape, rank: usize, at: usize, from_left: bool) -> Side {
    let own = if from_left { Some(at) } else { at.checked_sub(rank - shape.rank()) };
    match own {
        Some(0) if shape.batched => Side::Batch,
        Some(own) => Side::Len(shape.axis(own).unwrap_or(1)),
        None => Side::Len(1),
    }
}

/// Applies `f` to every pair of values under broadcasting; to every value and the number where there is one.
fn elementwise(ins: &[Operand<'_>], number: Option<f64>, out: &[usize], f: impl Fn(f64, f64) -> f64) -> Tensor {
    let a = ins[0].value;
    if let Some(number) = number {
        return Tensor::new(out, a.data().iter().map(|x| f(*x as f64, number) as f32).collect());
    }
    let b = ins[1].value;
    let from_left = ins[0].batched && ins[1].batched;
    let (a_steps, b_steps) = (steps(a.shape(), out, from_left), steps(b.shape(), out, from_left));
    let mut result = Tensor::zeros(out);
    for (at, value) in result.data_mut().iter_mut().enumerate() {
        let (mut rest, mut a_at, mut b_at) = (at, 0, 0);
        for axis in (0..out.len()).rev() {
            let index = rest % out[axis];
            rest /= out[axis];
            a_at += index * a_steps[axis];
            b_at += index * b_steps[axis];
        }
        *value = f(a.data()[a_at] as f64, b.data()[b_at] as f64) as f32;
    }
    result
}

/// For every axis of `out` how far one step goes in a row-major tensor of `shape`; 0 where it is stretched.
pub fn steps(shape: &[usize], out: &[usize], from_left: bool) -> Vec<usize> {
    let offset = if from_left { 0 } else { out.len() - shape.len() };
    let mut steps = vec![0; out.len()];
    let mut step = 1;
    for (axis, len) in shape.iter().enumerate().rev() {
        if *len != 1 {
            steps[axis + offset] = step;
        }
        step *= len;
    }
    steps
}
