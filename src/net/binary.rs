//! Functions of two values under the language's broadcasting, and sums over what it repeats.

use archc_base::Binary as Of;

use super::{Accepts, Backward, Id, Layout, Need, Net, Node, Order, Step};

/// `[a, b]`
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    pub op: Of,
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
            Of::Add => "add",
            Of::Sub => "sub",
            Of::Mul => "mul",
            Of::Div => "div",
            Of::DivFrom => "div_from",
            Of::Max => "maximum",
            Of::Min => "minimum",
            Of::Above => "above",
            Of::Below => "below",
            Of::SubFrom => "sub_from",
            Of::Prelu => "prelu",
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
        let whole = back.shape(y);
        // what dy counts for in each operand's gradient: dy times a value, and a sign
        let (dy, [by_a, by_b], sign) = match self.op {
            Of::Mul => (dy, [Some(b), Some(a)], 1.0),
            Of::Div => (back.add(Binary { op: Of::Div }, vec![dy, b], whole), [None, Some(y)], -1.0),
            Of::Max | Of::Min => {
                let op = if self.op == Of::Max { Of::Above } else { Of::Below };
                let mut share = |operands: [Id; 2]| Some(back.add(Binary { op }, operands.into(), whole.clone()));
                (dy, [share([a, b]), share([b, a])], 1.0)
            }
            Of::Sub => (dy, [None, None], -1.0),
            _ => (dy, [None, None], 1.0),
        };
        let from_left = back.shape(a).batched && back.shape(b).batched;
        for (operand, by, sign) in [(a, by_a, 1.0), (b, by_b, sign)] {
            if back.needs(operand) {
                let summed = back.sum_to(dy, by, &back.shape(operand), from_left);
                let gradient = back.scaled(summed, sign);
                back.give(operand, gradient);
            }
        }
    }
}

super::step::plain! {
    SumTo, "sum_to", |_own, _node| Layout::row_major(&[Need::Any, Need::Any]);
}
