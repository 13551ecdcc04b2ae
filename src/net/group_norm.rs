//! Mean 0 and variance 1 of groups of channels in each sample, as `torch.nn.GroupNorm`.

use super::{Backward, Id, Layout, Net, Node, Step};
use crate::ops::shape::Shape;

/// `[x, weight, bias]`
#[derive(Clone, Debug, PartialEq)]
pub struct GroupNorm {
    pub groups: usize,
    pub eps: f32,
}

/// `[dy, x, weight]`
#[derive(Clone, Debug, PartialEq)]
pub struct GroupNormData {
    pub groups: usize,
    pub eps: f32,
}

/// `[dy, x]`: gradients of weight and bias, [2, C].
#[derive(Clone, Debug, PartialEq)]
pub struct GroupNormSums {
    pub groups: usize,
    pub eps: f32,
}

impl Step for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout { gaps: false, ..Layout::images(1) }
    }

    fn is_weight(&self, at: usize) -> bool {
        at > 0
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let [x, weight, bias] = back.node(y).operands[..] else { unreachable!("three operands") };
        let GroupNorm { groups, eps } = *self;
        if back.needs(weight) {
            let both = Shape::fixed([2, back.shape(weight).dims[0]]);
            let sums = back.add(GroupNormSums { groups, eps }, vec![dy, x], both);
            back.give_affine(sums, weight, bias);
        }
        if back.needs(x) {
            let dx = back.add(GroupNormData { groups, eps }, vec![dy, x, weight], back.shape(x));
            back.give(x, dx);
        }
    }
}

super::step::plain! {
    GroupNormData, "group_norm_data", |_own, _node| Layout { gaps: false, ..Layout::images(2) }, weights (2);
    GroupNormSums, "group_norm_sums", |_own, _node| Layout::images(2).sums();
}
