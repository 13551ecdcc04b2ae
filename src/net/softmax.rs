//! Exponentials along an axis divided by their sum, or their logarithm, as `torch.softmax` and `torch.log_softmax`.

use super::{Backward, Id, Layout, Net, Node, Step};

/// `[x]`
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    pub axis: usize,
    pub log: bool,
}

/// `[dy, y]`
#[derive(Clone, Debug, PartialEq)]
pub struct SoftmaxData {
    pub axis: usize,
    pub log: bool,
}

impl Step for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::rows(0, self.axis, 1)
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let x = back.node(y).operands[0];
        let Softmax { axis, log } = *self;
        let dx = back.add(SoftmaxData { axis, log }, vec![dy, y], back.shape(x));
        back.give(x, dx);
    }
}

super::step::plain! {
    SoftmaxData, "softmax_data", |own, _node| Layout::rows(1, own.axis, 2);
}
