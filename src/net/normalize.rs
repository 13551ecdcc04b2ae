//! Division by the Euclidean norm along an axis, as `torch.nn.functional.normalize`.

use super::{Backward, Id, Layout, Net, Node, Step};

/// `[x]`: divided by its norm along `axis`, that being at least `eps`.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalize {
    pub axis: usize,
    pub eps: f32,
}

/// `[dy, x]`
#[derive(Clone, Debug, PartialEq)]
pub struct NormalizeData {
    pub axis: usize,
    pub eps: f32,
}

impl Step for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::rows(0, self.axis, 1)
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let x = back.node(y).operands[0];
        let Normalize { axis, eps } = *self;
        let dx = back.add(NormalizeData { axis, eps }, vec![dy, x], back.shape(x));
        back.give(x, dx);
    }
}

super::step::plain! {
    NormalizeData, "normalize_data", |own, _node| Layout::rows(1, own.axis, 2);
}
