//! Ops that move values without computing: reshaping, permuting, cutting, padding, rolling.

use super::attr::{Attr, FromAttr, Wanted};
use super::shape::Shape;
use super::{Operand, Operation, bad_value, eval, inner_axis, mismatch, op};
use crate::diag::{Problem, count};
use crate::tensor::Tensor;

op! {
    /// Joins all axes but the first, as `torch.flatten(x, 1)`: [N, C, H, W] to [N, C H W].
    pub struct Flatten = "flatten", First, aten ["flatten"] {}
}

impl Operation for Flatten {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        if ins[0].rank() < 2 {
            return Err(mismatch(format!("`flatten` needs two axes or more, got {}", ins[0])));
        }
        Ok(match ins[0].batched {
            true => Shape::batched([ins[0].len()]),
            false => Shape::fixed([ins[0].dims[0], product(&ins[0].dims[1..])]),
        })
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        ins[0].value.clone().reshape(out)
    }
}

op! {
    /// The same values, in the same order, under other axes, as `torch.reshape`: `reshape(512, 3, 3)`.
    ///
    /// Lists every axis but the batch; a value without batch lists all. One length may be -1: what is left.
    pub struct Reshape = "reshape", Gathered, aten ["reshape", "view", "_unsafe_view", "reshape_as", "unflatten", "unsqueeze", "squeeze"] {
        /// lengths of the axes after the batch; one may be -1
        shape: Vec<i64>,
    }
}

impl Operation for Reshape {
    fn check(&self) -> Result<(), Problem> {
        if let Some(len) = self.shape.iter().find(|len| **len < -1 || **len == 0) {
            return Err(bad_value(format!("`reshape` needs lengths of 1 or more, or one -1, got {len}"))
                .hint("the batch is not listed"));
        }
        if self.shape.iter().filter(|len| **len == -1).count() > 1 {
            return Err(bad_value("`reshape` needs one -1 at most, got several"));
        }
        Ok(())
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let have = ins[0].len();
        let known =
            self.shape.iter().filter(|len| **len >= 0).fold(1usize, |all, len| all.saturating_mul(*len as usize));
        let written = || format!("[{}]", self.shape.iter().map(i64::to_string).collect::<Vec<_>>().join(", "));
        let free = self.shape.contains(&-1);
        if free && !have.is_multiple_of(known.max(1)) {
            return Err(mismatch(format!("`reshape` to {} needs a multiple of {known} values, got {have}", written())));
        }
        if !free && have != known {
            return Err(mismatch(format!("`reshape` to {} needs {known} values, got {have}", written())));
        }
        let rest = have / known.max(1);
        let dims: Vec<usize> = self.shape.iter().map(|len| usize::try_from(*len).unwrap_or(rest)).collect();
        Ok(Shape { batched: ins[0].batched, dims })
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        ins[0].value.clone().reshape(out)
    }
}

op! {
    /// Puts the axes in another order, as `torch.permute`: axis i of the output is axis `axes[i]` of the input.
    /// `permute(0, 2, 3, 1)` makes [N, H, W, C] of [N, C, H, W].
    ///
    /// Lists every axis; the batch, 0, stays first.
    pub struct Permute = "permute", Gathered, aten ["permute", "transpose", "t", "movedim"] {
        /// the input's axes in their new order
        axes: Vec<i64>,
    }
}

impl Permute {
    /// The input's axis at each place, the batch counted, for an input of this shape.
    pub fn order(&self, input: &Shape) -> Result<Vec<usize>, Problem> {
        let rank = input.rank();
        let wrong = |what: String| mismatch(format!("`permute` needs every axis of {input} once, {what}"));
        if self.axes.len() != rank {
            return Err(wrong(format!("{rank} of them, got {}", self.axes.len())));
        }
        let mut order: Vec<usize> = vec![];
        for axis in &self.axes {
            let at = input.resolve_axis(*axis).map_err(|_| wrong(format!("got {axis}")))?;
            if order.contains(&at) {
                return Err(wrong(format!("got {axis} twice")));
            }
            order.push(at);
        }
        if input.batched && order.first() != Some(&0) {
            return Err(mismatch(format!(
                "`permute` of {input} needs 0, the batch, as first axis, got {}",
                self.axes[0]
            )));
        }
        Ok(order)
    }
}

impl Operation for Permute {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let order = self.order(ins[0])?;
        let inner = &order[usize::from(ins[0].batched)..];
        Ok(Shape { batched: ins[0].batched, dims: inner.iter().filter_map(|axis| ins[0].axis(*axis)).collect() })
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let x = ins[0].value;
        let order: Vec<usize> = self.axes.iter().map(|axis| eval::axis_of(*axis, x)).collect();
        let mut source = vec![0; order.len()];
        eval::build(out, |index| {
            for (at, axis) in index.iter().zip(&order) {
                source[*axis] = *at;
            }
            eval::at(x, &source)
        })
    }
}

op! {
    /// Cuts an axis into equal parts, as `torch.chunk`: `let a, b = in -> chunk(2)`. The axis must be divisible by `parts`.
    ///
    /// Each part is a layer of its own.
    pub struct Chunk = "chunk", First, aten ["chunk", "split", "split_with_sizes", "unbind"] {
        /// number of parts
        parts: usize,
        /// the axis that is cut; -1 is the last
        axis: i64 = "1",
        /// which part this layer is, from 0; set by archc
        part: i64 = "0",
    }
}

impl Operation for Chunk {
    fn check(&self) -> Result<(), Problem> {
        if usize::try_from(self.part).is_ok_and(|part| part < self.parts) {
            return Ok(());
        }
        Err(bad_value(format!("`part` of `chunk` needs a number from 0 to {}, got {}", self.parts - 1, self.part)))
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let axis = inner_axis("chunk", ins[0], self.axis)?;
        let len = ins[0].axis(axis).unwrap_or(1);
        if !len.is_multiple_of(self.parts) {
            return Err(mismatch(format!(
                "`chunk` needs an axis divisible by {} parts, got {len} (axis {axis} of {})",
                self.parts, ins[0]
            )));
        }
        Ok(ins[0].with_axis(axis, len / self.parts))
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let axis = eval::axis_of(self.axis, ins[0].value);
        shifted(ins[0].value, out, axis, self.part as usize * out[axis])
    }
}

op! {
    /// The part of an axis from `from` up to and without `to`, as `x[.., from:to]` in Python: negative places count from
    /// the end, and what lies beyond it is cut off. `slice(1, 0, 64)` is the first 64 channels. The axis is never the
    /// batch; an empty part is an error.
    pub struct Slice = "slice", All, aten ["slice", "select", "narrow"] {
        /// the axis that is cut; -1 is the last
        axis: i64,
        /// where the part begins
        from: i64 = "0",
        /// where it ends; at the end of the axis where none
        to: Option<i64> = "none",
    }
}

impl Slice {
    /// The axis, the batch counted, and the range taken of it.
    pub fn range(&self, input: &Shape) -> Result<(usize, std::ops::Range<usize>), Problem> {
        let axis = inner_axis("slice", input, self.axis)?;
        let len = input.axis(axis).unwrap_or(1) as i64;
        let place = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at.min(len) } as usize;
        let range = place(self.from)..self.to.map_or(len as usize, place);
        if range.is_empty() {
            let to = self.to.map_or("the end".to_string(), |to| to.to_string());
            return Err(mismatch(format!(
                "`slice` needs a part with something in it, got {} to {to} of the {len} of axis {axis} of {input}",
                self.from
            )));
        }
        Ok((axis, range))
    }
}

impl Operation for Slice {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (axis, range) = self.range(ins[0])?;
        Ok(ins[0].with_axis(axis, range.len()))
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let shape = ins[0].shape();
        let (axis, range) = self.range(&shape).expect("the shape was inferred");
        shifted(ins[0].value, out, axis, range.start)
    }
}

/// The tensor of shape `out` whose index 0 along `axis` is `x`'s index `start`.
fn shifted(x: &Tensor, out: &[usize], axis: usize, start: usize) -> Tensor {
    let mut source = vec![];
    eval::build(out, |index| {
        source.clear();
        source.extend_from_slice(index);
        source[axis] += start;
        eval::at(x, &source)
    })
}

op! {
    /// Widens a value at its borders, as `torch.nn.functional.pad`: pairs (before, after) from the last axis on, so for
    /// [N, C, H, W] `pad(left, right, top, bottom)`. The batch is never padded.
    ///
    /// What is put there are zeros, or `value`; with `reflect` the values inside of the border, mirrored at it (d c b | a b c d),
    /// with `replicate` the border's own (a a a | a b c d), with `circular` those of the other end (b c d | a b c d).
    pub struct Pad = "pad", Gathered, aten ["pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"] {
        /// how many values are put, in pairs before and after an axis, the last axis first
        sizes: Vec<i64>,
        /// `constant`, `reflect`, `replicate` or `circular`
        mode: Border = "constant",
        /// the number that `constant` puts there
        value: f64 = "0.0",
    }
}

/// Where the values come from that are put around others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Border {
    Constant,
    Reflect,
    Replicate,
    Circular,
}

impl Border {
    const NAMES: [(&'static str, Border); 4] = [
        ("constant", Border::Constant),
        ("reflect", Border::Reflect),
        ("replicate", Border::Replicate),
        ("circular", Border::Circular),
    ];

    /// How many values may be put before or after an axis of `len`.
    fn most(self, len: usize) -> usize {
        match self {
            Border::Constant => usize::MAX,
            Border::Reflect => (len - 1).min(MAX_MIRRORED),
            Border::Replicate => MAX_MIRRORED,
            Border::Circular => len,
        }
    }

    /// The place on an axis of `len` whose value stands at `at`, which may lie beyond it; None where that is none of its.
    pub fn source(self, at: i64, len: usize) -> Option<usize> {
        let last = len as i64 - 1;
        let at = match self {
            Border::Constant => at,
            Border::Reflect if at > last => 2 * last - at,
            Border::Reflect => at.abs(),
            Border::Replicate => at.clamp(0, last),
            Border::Circular => at.rem_euclid(len as i64),
        };
        usize::try_from(at).ok().filter(|at| *at < len)
    }
}

/// As many values are mirrored or repeated at a border at most: each is a move of its own.
const MAX_MIRRORED: usize = 256;

impl FromAttr for Border {
    const KIND: &'static str = "word";
    fn from_attr(attr: &Attr) -> Result<Border, Wanted> {
        let word = if let Attr::Word(word) = attr { word.as_str() } else { "" };
        let known = Border::NAMES.iter().find(|(name, _)| *name == word).map(|(_, border)| *border);
        known.ok_or(Wanted::value("one of `constant` `reflect` `replicate` `circular`"))
    }
    fn to_attr(&self) -> Attr {
        let (name, _) = Border::NAMES.iter().find(|(_, border)| border == self).expect("every border has a name");
        Attr::Word((*name).into())
    }
}

impl Pad {
    /// The values put before and after each axis, the batch counted, for an input of this shape.
    pub fn each_axis(&self, input: &Shape) -> Result<Vec<(usize, usize)>, Problem> {
        if self.sizes.len() > 2 * input.dims.len() {
            return Err(mismatch(format!(
                "`pad` of {input} needs {} numbers at most, got {}",
                2 * input.dims.len(),
                self.sizes.len()
            )));
        }
        let size = |at: i64| usize::try_from(at).unwrap_or(0);
        let mut each = vec![(0, 0); input.rank()];
        for (sizes, pair) in each.iter_mut().rev().zip(self.sizes.chunks_exact(2)) {
            *sizes = (size(pair[0]), size(pair[1]));
        }
        for (axis, (before, after)) in each.iter().enumerate() {
            let most = self.mode.most(input.axis(axis).unwrap_or(1));
            if let Some(size) = [*before, *after].into_iter().find(|size| *size > most) {
                let mode = self.mode.to_attr();
                return Err(mismatch(format!(
                    "`pad` with mode = {mode} of {input} needs numbers up to {most} along axis {axis}, got {size}"
                )));
            }
        }
        Ok(each)
    }
}

impl Operation for Pad {
    fn check(&self) -> Result<(), Problem> {
        if self.sizes.is_empty() || !self.sizes.len().is_multiple_of(2) {
            return Err(bad_value(format!("`pad` needs pairs of numbers, got {}", count(self.sizes.len(), "number")))
                .hint("pad(left, right, top, bottom)"));
        }
        if let Some(size) = self.sizes.iter().find(|size| **size < 0) {
            return Err(bad_value(format!("`pad` needs numbers of 0 or more, got {size}")).hint("`slice` cuts off"));
        }
        if self.mode != Border::Constant && self.value != 0.0 {
            let mode = self.mode.to_attr();
            return Err(bad_value(format!("`pad` with mode = {mode} takes no `value`, got {}", self.value)));
        }
        Ok(())
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let each = self.each_axis(ins[0])?;
        let inner = &each[usize::from(ins[0].batched)..];
        let dims = ins[0].dims.iter().zip(inner);
        let dims = dims.map(|(len, (before, after))| len.saturating_add(*before).saturating_add(*after));
        Ok(Shape { batched: ins[0].batched, dims: dims.collect() })
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let x = ins[0].value;
        let each = self.each_axis(&ins[0].shape()).expect("the shape was inferred");
        let mut source = vec![0; out.len()];
        eval::build(out, |index| {
            for (axis, (at, (before, _))) in index.iter().zip(&each).enumerate() {
                match self.mode.source(*at as i64 - *before as i64, x.shape()[axis]) {
                    Some(at) => source[axis] = at,
                    None => return self.value as f32,
                }
            }
            eval::at(x, &source)
        })
    }
}

op! {
    /// Moves values along axes, as `torch.roll`: what leaves at one end comes in at the other. `roll(-3, axes = [1, 2])`.
    pub struct Roll = "roll", First, aten ["roll"] {
        /// by how much: one number for all axes, or one for each
        shift: Vec<i64>,
        /// the axes, never the batch
        axes: Vec<i64>,
    }
}

impl Roll {
    /// By how much each axis, the batch counted, moves: from 0 up to its length.
    pub fn each_axis(&self, input: &Shape) -> Result<Vec<usize>, Problem> {
        let mut each: Vec<Option<usize>> = vec![None; input.rank()];
        let one = self.shift.len() == 1;
        for (k, axis) in self.axes.iter().enumerate() {
            let at = inner_axis("roll", input, *axis)?;
            let shift = self.shift.get(if one { 0 } else { k }).copied().unwrap_or(0);
            let shift = shift.rem_euclid(input.axis(at).unwrap_or(1).max(1) as i64) as usize;
            if each[at].replace(shift).is_some() {
                return Err(bad_value(format!("`roll` needs different axes, got axis {at} twice")));
            }
        }
        Ok(each.into_iter().map(|shift| shift.unwrap_or(0)).collect())
    }
}

impl Operation for Roll {
    fn check(&self) -> Result<(), Problem> {
        if self.axes.is_empty() {
            return Err(bad_value("`roll` needs an axis or more, got none"));
        }
        if self.shift.len() != 1 && self.shift.len() != self.axes.len() {
            return Err(bad_value(format!(
                "`roll` of {} axes needs one shift or {}, got {}",
                self.axes.len(),
                self.axes.len(),
                self.shift.len()
            )));
        }
        Ok(())
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        self.each_axis(ins[0])?;
        Ok(ins[0].clone())
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let each = self.each_axis(&ins[0].shape()).expect("the shape was inferred");
        let mut source = vec![0; out.len()];
        eval::build(out, |index| {
            for (axis, at) in index.iter().enumerate() {
                source[axis] = (at + out[axis] - each[axis]) % out[axis];
            }
            eval::at(ins[0].value, &source)
        })
    }
}

/// Number of values of these axes.
fn product(dims: &[usize]) -> usize {
    dims.iter().fold(1, |all: usize, dim| all.saturating_mul(*dim))
}
