//! Products of the last two axes, as `torch.matmul`; those before are broadcast from the right.

use std::fmt;

use super::{Backward, Id, Layout, Linear, LinearWeight, Need, Net, Node, Order, Permute, Step};
use crate::ops::shape::Shape;

/// `[a, b]`: the result times `scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct Matmul {
    pub scale: f32,
}

impl Step for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::new(Order::Wanted, &[Need::Left, Need::Right])
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let [a, b] = back.node(y).operands[..] else { unreachable!("two operands") };
        let (a_shape, b_shape, scale) = (back.shape(a), back.shape(b), self.scale);
        if !b_shape.batched && b_shape.rank() == 2 {
            // a linear map
            if back.needs(b) {
                let db = back.add(LinearWeight, vec![dy, a], b_shape);
                let db = back.scaled(db, scale);
                back.give(b, db);
            }
            if back.needs(a) {
                let da = back.add(Linear, vec![dy, b], a_shape);
                let da = back.scaled(da, scale);
                back.give(a, da);
            }
            return;
        }
        let whole = back.shape(dy);
        let rank = whole.rank();
        let with = |rows: usize, cols: usize| whole.with_axis(rank - 2, rows).with_axis(rank - 1, cols);
        let [m, k] = last_two(&a_shape);
        let [_, n] = last_two(&b_shape);
        if back.needs(a) {
            let transposed = transposed(back, b);
            let da = back.add(Matmul { scale }, vec![dy, transposed], with(m, k));
            let da = back.sum_to(da, None, &a_shape, false);
            back.give(a, da);
        }
        if back.needs(b) {
            let transposed = transposed(back, a);
            let db = back.add(Matmul { scale }, vec![transposed, dy], with(k, n));
            let db = back.sum_to(db, None, &b_shape, false);
            back.give(b, db);
        }
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scale == 1.0 { Ok(()) } else { write!(f, " * {}", self.scale) }
    }
}

/// The last two axes exchanged.
fn transposed(back: &mut Backward, x: Id) -> Id {
    let shape = back.shape(x);
    let rank = shape.rank();
    let mut axes: Vec<usize> = (0..rank).collect();
    axes.swap(rank - 1, rank - 2);
    let [rows, cols] = last_two(&shape);
    back.add(Permute { axes }, vec![x], shape.with_axis(rank - 2, cols).with_axis(rank - 1, rows))
}

fn last_two(shape: &Shape) -> [usize; 2] {
    let dims = shape.concrete(1);
    [dims[dims.len() - 2], dims[dims.len() - 1]]
}
