//! The same numbers elsewhere: the plan makes views and copies of these.

use std::fmt;

use super::{Backward, Id, Layout, Net, Node, Step};

/// The operands side by side along an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat {
    pub axis: usize,
}

/// The row-major order of the logical axes stays.
#[derive(Clone, Debug, PartialEq)]
pub struct Reshape;

/// Axis i of the result is axis `axes[i]` of the operand.
#[derive(Clone, Debug, PartialEq)]
pub struct Permute {
    pub axes: Vec<usize>,
}

/// The indices from `from` on; how many follows from the shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    pub axis: usize,
    pub from: usize,
}

/// Numbers before each axis; how many after follows from the shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    pub before: Vec<usize>,
    pub value: f32,
}

/// Index i goes to (i + shift) mod length.
#[derive(Clone, Debug, PartialEq)]
pub struct Roll {
    pub shifts: Vec<(usize, usize)>,
}

/// The axes of a permutation's inverse.
pub fn inverse(axes: &[usize]) -> Vec<usize> {
    let mut back = vec![0; axes.len()];
    axes.iter().enumerate().for_each(|(to, from)| back[*from] = to);
    back
}

macro_rules! movements {
    ($($kind:ident $name:literal)*) => {
        $(impl Step for $kind {
            fn name(&self) -> &'static str {
                $name
            }

            fn layout(&self, _node: &Node, _net: &Net) -> Layout {
                Layout::row_major(&[])
            }

            fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
                self.moved_back(back, y, dy);
            }

            fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.shown(f)
            }
        })*
    };
}
movements! { Concat "concat" Reshape "reshape" Permute "permute" Slice "slice" Pad "pad" Roll "roll" }

impl Concat {
    fn moved_back(&self, back: &mut Backward, y: Id, dy: Id) {
        let (operands, whole, axis) = (back.node(y).operands.clone(), back.shape(y), self.axis);
        let mut from = 0;
        for operand in operands {
            let shape = back.shape(operand);
            // of an axis that is not the batch
            let len = shape.concrete(1)[axis];
            if back.needs(operand) {
                let part = back.add(Slice { axis, from }, vec![dy], whole.with_axis(axis, len));
                let part = back.sum_to(part, None, &shape, false);
                back.give(operand, part);
            }
            from += len;
        }
    }

    fn shown(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " along {}", self.axis)
    }
}

impl Reshape {
    fn moved_back(&self, back: &mut Backward, y: Id, dy: Id) {
        let x = back.node(y).operands[0];
        let dx = back.add(Reshape, vec![dy], back.shape(x));
        back.give(x, dx);
    }

    fn shown(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl Permute {
    fn moved_back(&self, back: &mut Backward, y: Id, dy: Id) {
        let x = back.node(y).operands[0];
        let dx = back.add(Permute { axes: inverse(&self.axes) }, vec![dy], back.shape(x));
        back.give(x, dx);
    }

    fn shown(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {:?}", self.axes)
    }
}

impl Slice {
    fn moved_back(&self, back: &mut Backward, y: Id, dy: Id) {
        let x = back.node(y).operands[0];
        back.give_part(x, self.axis, self.from, dy);
    }

    fn shown(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " from {} along {}", self.from, self.axis)
    }
}

impl Pad {
    fn moved_back(&self, back: &mut Backward, y: Id, dy: Id) {
        let x = back.node(y).operands[0];
        let shape = back.shape(x);
        let (mut dx, lens) = (dy, shape.concrete(1));
        for (axis, from) in self.before.iter().copied().enumerate().skip(usize::from(shape.batched)) {
            let wide = back.shape(dx);
            if wide.axis(axis) != Some(lens[axis]) {
                dx = back.add(Slice { axis, from }, vec![dx], wide.with_axis(axis, lens[axis]));
            }
        }
        back.give(x, dx);
    }

    fn shown(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {:?}", self.before)
    }
}

impl Roll {
    fn moved_back(&self, back: &mut Backward, y: Id, dy: Id) {
        let x = back.node(y).operands[0];
        let shape = back.shape(x);
        let lens = shape.concrete(1);
        let shifts = self.shifts.iter().map(|(axis, shift)| (*axis, (lens[*axis] - shift) % lens[*axis])).collect();
        let dx = back.add(Roll { shifts }, vec![dy], shape);
        back.give(x, dx);
    }

    fn shown(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {:?}", self.shifts)
    }
}
