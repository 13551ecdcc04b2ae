//! A depthwise convolution with its activation, then a pointwise one, without the image between them.

use std::fmt;

use archc_base::{Act, Window};

use super::{Accepts, Layout, Net, Node, Step, conv};

/// `[x, depthwise weight, pointwise weight]`, or with the depthwise bias behind them; the bias of the epilogue is that of the
/// pointwise convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct Separable {
    pub window: Window,
    pub act: Act,
}

impl Step for Separable {
    fn name(&self) -> &'static str {
        "separable_conv2d"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::images(1)
    }

    fn accepts(&self) -> Accepts {
        Accepts::Sum
    }

    fn is_weight(&self, at: usize) -> bool {
        at > 0
    }

    fn reuse(&self, node: &Node, net: &Net) -> usize {
        conv::pixels(&self.window, node, net)
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [h, w] = self.window.kernel;
        write!(f, " {h}x{w}, {}, then 1x1", self.act)
    }
}
