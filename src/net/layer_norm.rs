//! Mean 0 and variance 1 along an axis, as `torch.nn.LayerNorm`, or mean square 1, as `torch.nn.RMSNorm`.

use archc_base::Centre;

use super::{Backward, Id, Layout, Net, Node, Step};
use crate::ops::shape::Shape;

/// `[x, weight, bias]`: normalised over `axis`, then weight and bias along it.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    pub axis: usize,
    pub centre: Centre,
    pub eps: f32,
}

/// `[dy, x, weight]`
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNormData {
    pub axis: usize,
    pub centre: Centre,
    pub eps: f32,
}

/// `[dy, x]`: gradients of weight and bias, [2, C].
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNormSums {
    pub axis: usize,
    pub centre: Centre,
    pub eps: f32,
}

impl Step for LayerNorm {
    fn name(&self) -> &'static str {
        match self.centre {
            Centre::Mean => "layer_norm",
            Centre::Zero => "rms_norm",
        }
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::rows(0, self.axis, 1)
    }

    fn is_weight(&self, at: usize) -> bool {
        at > 0
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let [x, weight, bias] = back.node(y).operands[..] else { unreachable!("three operands") };
        let LayerNorm { axis, centre, eps } = *self;
        if back.needs(weight) {
            let both = Shape::fixed([2, back.shape(weight).dims[0]]);
            let sums = back.add(LayerNormSums { axis, centre, eps }, vec![dy, x], both);
            back.give_affine(sums, weight, bias);
        }
        if back.needs(x) {
            let dx = back.add(LayerNormData { axis, centre, eps }, vec![dy, x, weight], back.shape(x));
            back.give(x, dx);
        }
    }
}

super::step::plain! {
    LayerNormData, "layer_norm_data", |own, _node| Layout::rows(1, own.axis, 2), weights (2);
    LayerNormSums, "layer_norm_sums", |own, _node| Layout::rows(1, own.axis, 2).sums();
}
