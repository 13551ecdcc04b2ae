//! Functions of two values under the language's broadcasting, and sums over what it repeats.

use super::{Accepts, Backward, Id, Layout, Need, Net, Node, Order, Step};

/// `[a, b]`
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    pub op: archc_base::Binary,
}

/// `[dy, x]` multiplied, or `[dy]` alone, then summed over what broadcasting to the shape of dy repeats.
#[derive(Clone, Debug, PartialEq)]
pub struct SumTo {
    /// Whether axes pair from the left, as those of two batched values do, or from the right.
    pub from_left: bool,
}

impl Step for Binary {
    fn name(&self) -> &'static str {
        match self.op {
            archc_base::Binary::Add => "add",
            archc_base::Binary::Sub => "sub",
            archc_base::Binary::Mul => "mul",
            archc_base::Binary::SubFrom => "sub_from",
            archc_base::Binary::Prelu => "prelu",
        }
    }

    fn layout(&self, node: &Node, net: &Net) -> Layout {
        let whole = node.operands.iter().position(|operand| {
            let shape = &net.node(*operand).shape;
            *shape == node.shape
        });
        let order = match whole {
            Some(of) => Order::As { of, last: None },
            None if node.shape.as_image().is_some() => Order::Image,
            None => Order::RowMajor,
        };
        let need =
            |operand: &Id| if whole.is_some_and(|at| node.operands[at] == *operand) { Need::Matrix } else { Need::Any };
        let needs: Vec<Need> = node.operands.iter().map(need).collect();
        Layout::new(order, &needs).in_place()
    }

    fn accepts(&self) -> Accepts {
        Accepts::Sum
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let [a, b] = back.node(y).operands[..] else { unreachable!("two operands") };
        let (a_shape, b_shape) = (back.shape(a), back.shape(b));
        let from_left = a_shape.batched && b_shape.batched;
        let is_product = self.op == archc_base::Binary::Mul;
        if back.needs(a) {
            let da = back.sum_to(dy, is_product.then_some(b), &a_shape, from_left);
            back.give(a, da);
        }
        if back.needs(b) {
            let db = back.sum_to(dy, is_product.then_some(a), &b_shape, from_left);
            let db = back.scaled(db, if self.op == archc_base::Binary::Sub { -1.0 } else { 1.0 });
            back.give(b, db);
        }
    }
}

super::step::plain! {
    SumTo, "sum_to", |_own, _node| Layout::row_major(&[Need::Any, Need::Any]);
}
