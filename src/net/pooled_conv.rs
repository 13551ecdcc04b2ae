//! A convolution with its activation, then the maxima of windows, without the image between them.

use std::fmt;

use archc_base::{Act, Window};

use super::{Layout, Need, Net, Node, Order, Step, conv};

/// `[x, weight]`
#[derive(Clone, Debug, PartialEq)]
pub struct PooledConv {
    pub window: Window,
    pub act: Act,
    pub pool: Window,
}

impl Step for PooledConv {
    fn name(&self) -> &'static str {
        "pooled_conv2d"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::new(Order::Image, &[Need::Window]).with_gaps()
    }

    fn is_weight(&self, at: usize) -> bool {
        at == 1
    }

    fn reuse(&self, node: &Node, net: &Net) -> usize {
        conv::pixels(&self.window, node, net)
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([h, w], [pool_h, pool_w]) = (self.window.kernel, self.pool.kernel);
        write!(f, " {h}x{w}, {}, maxima of {pool_h}x{pool_w}", self.act)
    }
}
