//! Each channel (axis 1) below zero times its own slope, as `torch.nn.PReLU`; one slope for all where there is one.

use super::{Backward, Id, Layout, Net, Node, Step};

/// `[x, slope]`
#[derive(Clone, Debug, PartialEq)]
pub struct PRelu;

/// `[dy, x, slope]`
#[derive(Clone, Debug, PartialEq)]
pub struct PReluData;

/// `[dy, x]`: the gradient of each slope.
#[derive(Clone, Debug, PartialEq)]
pub struct PReluSums;

impl Step for PRelu {
    fn name(&self) -> &'static str {
        "prelu"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::rows(0, 1, 1).with_gaps().in_place()
    }

    fn is_weight(&self, at: usize) -> bool {
        at == 1
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let [x, slope] = back.node(y).operands[..] else { unreachable!("two operands") };
        if back.needs(slope) {
            let sums = back.add(PReluSums, vec![dy, x], back.shape(slope));
            back.give(slope, sums);
        }
        if back.needs(x) {
            let dx = back.add(PReluData, vec![dy, x, slope], back.shape(x));
            back.give(x, dx);
        }
    }
}

super::step::plain! {
    PReluData, "prelu_data", |_own, _node| Layout::rows(1, 1, 2).with_gaps().in_place(), weights (2);
    PReluSums, "prelu_sums", |_own, _node| Layout::rows(1, 1, 2).sums();
}
