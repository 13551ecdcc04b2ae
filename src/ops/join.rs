//! Ops of several values: arithmetic, concatenation, matrix products, table look-up.

use archc_base::Binary;

use super::shape::Shape;
use super::{Arity, Operand, Operation, bad_value, eval, inner_axis, mismatch, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

op! {
    /// Sum of two values, `add(a, b)` or `a + b`; or of a value and a number, `a + 0.5`.
    ///
    /// Two batched values of different rank pair their axes from the left ([N, C, H, W] + [N, C]); with a batchless one
    /// from the right, as PyTorch. A 1 is broadcast.
    pub struct Add = "add", First, aten ["add", "addcmul"] {
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

    fn is_elementwise(&self) -> bool {
        true
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        elementwise(ins, self.number, out, |a, b| a + b)
    }
}

op! {
    /// Product of two values, `mul(a, b)` or `a * b`; or of a value and a number, `a * 0.5`. Shapes pair as for `add`:
    /// [N, C, H, W] * [N, C] scales each channel.
    pub struct Mul = "mul", First, aten ["mul", "addcmul"] {
        /// the number, where the other side is one
        number: Option<f64> = "none",
    }
}

impl Operation for Mul {
    fn arity(&self) -> Arity {
        binary_arity(self.number)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        broadcast_all("mul", ins)
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        elementwise(ins, self.number, out, |a, b| a * b)
    }
}

op! {
    /// Difference of two values, `sub(a, b)` or `a - b`; or of a value and a number, `a - 0.5` or `0.5 - a`. Shapes pair as
    /// for `add`.
    pub struct Sub = "sub", First, aten ["sub", "rsub"] {
        /// the number, where the other side is one
        number: Option<f64> = "none",
        /// whether the number is the first of the two
        swapped: bool = "false",
    }
}

impl Operation for Sub {
    fn arity(&self) -> Arity {
        binary_arity(self.number)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        broadcast_all("sub", ins)
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let swapped = self.swapped && self.number.is_some();
        elementwise(ins, self.number, out, |a, b| if swapped { b - a } else { a - b })
    }
}

op! {
    /// Quotient of two values, `div(a, b)` or `a / b`; or of a value and a number, `a / 2` or `1 / a`, as `torch.div` and
    /// `torch.reciprocal`. Shapes pair as for `add`. Over 0 it is infinite or NaN.
    pub struct Div = "div", First, aten ["div", "reciprocal"] {
        /// the number, where the other side is one
        number: Option<f64> = "none",
        /// whether the number is the first of the two
        swapped: bool = "false",
    }
}

impl Operation for Div {
    fn arity(&self) -> Arity {
        binary_arity(self.number)
    }

    fn check(&self) -> Result<(), Problem> {
        // of smaller ones float32 has no reciprocal
        match self.number {
            Some(number) if !self.swapped && !(1.0 / number as f32).is_finite() => {
                Err(bad_value(format!("`div` needs a number whose reciprocal is finite, got {number}")))
            }
            _ => Ok(()),
        }
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        broadcast_all("div", ins)
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let swapped = self.swapped;
        elementwise(ins, self.number, out, |a, b| if swapped { b / a } else { a / b })
    }
}

op! {
    /// The larger of two values at each place, `maximum(a, b)`, as `torch.maximum`; NaN where either is. Shapes pair as for
    /// `add`. Beside a number it is `clamp(min = ..)`.
    pub struct Maximum = "maximum", First, aten ["maximum", "max.other"] {}
}

impl Operation for Maximum {
    fn arity(&self) -> Arity {
        Arity::Exactly(2)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        broadcast_all("maximum", ins)
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        elementwise(ins, None, out, |a, b| Binary::Max.apply(a, b))
    }
}

op! {
    /// The smaller of two values at each place, `minimum(a, b)`, as `torch.minimum`; NaN where either is. Shapes pair as for
    /// `add`. Beside a number it is `clamp(max = ..)`.
    pub struct Minimum = "minimum", First, aten ["minimum", "min.other"] {}
}

impl Operation for Minimum {
    fn arity(&self) -> Arity {
        Arity::Exactly(2)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        broadcast_all("minimum", ins)
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        elementwise(ins, None, out, |a, b| Binary::Min.apply(a, b))
    }
}

op! {
    /// Values side by side along an axis, as `torch.cat`: `concat(a, b, axis = 1)`. All other axes must have equal lengths;
    /// only a first axis of 1 of a value without batch is broadcast to the batch ([1, 1, 768] with [N, 196, 768]).
    pub struct Concat = "concat", First, aten ["cat", "stack", "repeat", "tile"] {
        /// the axis along which they are joined; -1 is the last; never the batch
        axis: i64 = "1",
    }
}

impl Operation for Concat {
    fn arity(&self) -> Arity {
        Arity::AtLeast(1)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let whole = ins.iter().find(|shape| shape.batched).copied().unwrap_or(ins[0]);
        let axis = inner_axis("concat", whole, self.axis)?;
        let mut len = 0usize;
        for shape in ins {
            let broadcast = whole.batched && !shape.batched;
            let others = (usize::from(whole.batched)..whole.rank()).filter(|at| *at != axis);
            if shape.rank() != whole.rank()
                || broadcast && shape.axis(0) != Some(1)
                || others.into_iter().any(|at| shape.axis(at) != whole.axis(at))
            {
                return Err(mismatch(format!(
                    "`concat` along axis {axis} needs values that differ only there, got {whole} and {shape}"
                )));
            }
            len = len.saturating_add(shape.axis(axis).unwrap_or(0));
        }
        Ok(whole.with_axis(axis, len))
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let axis = eval::axis_of(self.axis, ins[0].value);
        let mut source = vec![];
        eval::build(out, |index| {
            source.clear();
            source.extend_from_slice(index);
            for operand in ins {
                let shape = operand.value.shape();
                if source[axis] < shape[axis] {
                    source[0] %= shape[0];
                    return eval::at(operand.value, &source);
                }
                source[axis] -= shape[axis];
            }
            unreachable!("the operands fill the axis")
        })
    }
}

op! {
    /// Product of matrices, as `torch.matmul`: [.., m, k] and [.., k, n] give [.., m, n]. The axes before the last two are
    /// broadcast from the right: [N, L, k] and a batchless [k, n] give [N, L, n].
    pub struct Matmul = "matmul", First, aten ["matmul", "bmm", "mm", "einsum"] {}
}

impl Operation for Matmul {
    fn arity(&self) -> Arity {
        Arity::Exactly(2)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (a, b) = (ins[0], ins[1]);
        let wrong = || mismatch(format!("`matmul` needs [.., m, k] and [.., k, n], got {a} and {b}"));
        if a.rank() < 2 || b.rank() < 2 {
            return Err(wrong());
        }
        let (k, n) = (a.last(), b.last());
        // of [N, k] the batch is the rows, which only a plain matrix allows
        let rows_are_batch = a.batched && a.rank() == 2;
        if k != b.axis(b.rank() - 2) || k.is_none() || b.batched && b.rank() == 2 || rows_are_batch && b.rank() > 2 {
            return Err(wrong());
        }
        if rows_are_batch {
            return Ok(Shape::batched([n.unwrap_or(1)]));
        }
        let outer = |shape: &Shape| Shape { batched: shape.batched, dims: shape.dims[..shape.dims.len() - 2].to_vec() };
        let mut result = pair(&outer(a), &outer(b), false).ok_or_else(wrong)?;
        result.dims.extend([a.axis(a.rank() - 2).unwrap_or(1), n.unwrap_or(1)]);
        Ok(result)
    }

    fn macs(&self, ins: &[&Shape], out: &Shape) -> u64 {
        (out.len() as u64).saturating_mul(ins[0].last().unwrap_or(0) as u64)
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let (a, b) = (ins[0].value, ins[1].value);
        let (outer, n) = (&out[..out.len() - 2], out[out.len() - 1]);
        let (a_inner, b_inner) = (a.shape().len() - 2, b.shape().len() - 2);
        let k = a.shape()[a_inner + 1];
        let (a_steps, b_steps) =
            (steps(&a.shape()[..a_inner], outer, false), steps(&b.shape()[..b_inner], outer, false));
        let offset =
            |steps: &[usize], index: &[usize]| -> usize { steps.iter().zip(index).map(|(step, at)| step * at).sum() };
        eval::build(out, |index| {
            let (row, column) = (index[outer.len()], index[outer.len() + 1]);
            let a_at = (offset(&a_steps, index) * out[outer.len()] + row) * k;
            let b_at: usize = offset(&b_steps, index) * k * n + column;
            let product = |at: usize| a.data()[a_at + at] as f64 * b.data()[b_at + at * n] as f64;
            (0..k).map(product).sum::<f64>() as f32
        })
    }
}

op! {
    /// Rows of a table, as `table[index]` in PyTorch: `gather(table, index)` of [rows, ..] and indices of any shape [i, j ..]
    /// is [i, j .., ..]. Neither has a batch; indices count from 0.
    pub struct Gather = "gather", First, aten ["index.Tensor", "index_select", "embedding"] {}
}

/// Whole numbers beyond this are not exact in float32.
const MAX_ROWS: usize = 1 << 24;

impl Operation for Gather {
    fn arity(&self) -> Arity {
        Arity::Exactly(2)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (table, index) = (ins[0], ins[1]);
        if table.batched || index.batched || table.dims.is_empty() {
            return Err(mismatch(format!(
                "`gather` needs a table [rows, ..] and indices, both without batch, got {table} and {index}"
            )));
        }
        if table.dims[0] > MAX_ROWS {
            return Err(mismatch(format!("`gather` needs a table of 2^24 rows at most, got {table}")));
        }
        Ok(Shape::fixed([index.dims.as_slice(), &table.dims[1..]].concat()))
    }

    /// An index that is no row gives NaN.
    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let (table, index) = (ins[0].value, ins[1].value);
        let (rows, row) = (table.shape()[0], table.shape()[1..].iter().product::<usize>());
        let mut data = Vec::with_capacity(index.len() * row);
        for at in index.data() {
            if *at >= 0.0 && (*at as usize) < rows {
                data.extend_from_slice(&table.data()[*at as usize * row..][..row]);
            } else {
                data.extend(std::iter::repeat_n(f32::NAN, row));
            }
        }
        Tensor::new(out, data)
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

/// The shape of `a` and `b` after broadcasting (see [`Add`]).
pub fn broadcast(op: &str, a: &Shape, b: &Shape) -> Result<Shape, Problem> {
    let from_left = a.batched && b.batched;
    pair(a, b, from_left).ok_or_else(|| mismatch(format!("`{op}` needs shapes that fit, got {a} and {b}")))
}

/// The common shape of `a` and `b`, axes paired from the left or from the right; None where they do not fit.
pub(super) fn pair(a: &Shape, b: &Shape, from_left: bool) -> Option<Shape> {
    let rank = a.rank().max(b.rank());
    let mut dims = Vec::with_capacity(rank);
    for at in 0..rank {
        match (aligned(a, rank, at, from_left), aligned(b, rank, at, from_left)) {
            (Side::Batch, Side::Batch | Side::Len(1)) | (Side::Len(1), Side::Batch) if at == 0 => {}
            (Side::Len(x), Side::Len(y)) if x == y || y == 1 => dims.push(x),
            (Side::Len(1), Side::Len(y)) => dims.push(y),
            _ => return None,
        }
    }
    Some(Shape { batched: a.batched || b.batched, dims })
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

/// For every axis of `out` how far one step goes in a row-major tensor of `shape`; 0 where it is broadcast.
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
