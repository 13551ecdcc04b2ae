//! Linear maps over the last axis, as `torch.nn.functional.linear`.

use super::{Accepts, Backward, Id, Layout, Need, Net, Node, Order, Step};

/// `[x, weight]`, the weight [out, in] or with axes of length 1 behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear;

/// `[dy, weight]`: the gradient of what a linear map reads.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearData;

/// `[x, dy]`: the gradient of a linear map's weight.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearWeight;

impl Step for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn layout(&self, node: &Node, _net: &Net) -> Layout {
        Layout::rows(0, node.shape.rank() - 1, 1)
    }

    fn accepts(&self) -> Accepts {
        Accepts::Sum
    }

    fn is_weight(&self, at: usize) -> bool {
        at == 1
    }

    fn reuse(&self, node: &Node, _net: &Net) -> usize {
        node.shape.len() / node.shape.last().unwrap_or(1)
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let [x, weight] = back.node(y).operands[..] else { unreachable!("two operands") };
        if back.needs(weight) {
            let dw = back.add(LinearWeight, vec![x, dy], back.shape(weight));
            back.give(weight, dw);
        }
        back.give_bias(y, back.shape(y).rank() - 1, dy);
        if back.needs(x) {
            let dx = back.add(LinearData, vec![dy, weight], back.shape(x));
            back.give(x, dx);
        }
    }
}

super::step::plain! {
    LinearData, "linear_data", |_own, node| Layout::rows(0, node.shape.rank() - 1, 1), weights (1);
    LinearWeight, "linear_weight", |_own, _node| Layout::new(Order::RowMajor, &[Need::Matrix, Need::Matrix]).sums();
}
