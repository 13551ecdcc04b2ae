//! One factor and one number a channel, and sums of each channel.

use super::{Accepts, Backward, Constant, Id, Layout, Net, Node, Step};

/// `[x, scale, shift]`: each channel, an index of `axis`, scaled and shifted.
#[derive(Clone, Debug, PartialEq)]
pub struct Channels {
    pub axis: usize,
}

/// `[dy]`: sums over all but `axis`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sums {
    pub axis: usize,
}

impl Step for Channels {
    fn name(&self) -> &'static str {
        "channels"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::rows(0, self.axis, 1).with_gaps().in_place()
    }

    fn accepts(&self) -> Accepts {
        Accepts::Sum
    }

    fn is_weight(&self, at: usize) -> bool {
        at > 0
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let [x, scale, _] = back.node(y).operands[..] else { unreachable!("three operands") };
        let channels = back.shape(scale).len();
        let layers = back.node(y).layers.clone();
        let none = back.constant(Constant::Shift { bias: None, maps: vec![], channels }, layers);
        let dx = back.add(self.clone(), vec![dy, scale, none], back.shape(x));
        back.give(x, dx);
    }
}

super::step::plain! {
    Sums, "sums", |own, _node| Layout::rows(0, own.axis, 1).sums();
}
