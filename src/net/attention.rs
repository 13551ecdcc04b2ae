//! Attention of all heads side by side (Vaswani et al. 2017).

use super::{Layout, Need, Net, Node, Order, Step};

/// `[q, k, v]`, each [N, T, heads * dim]: softmax(q k^T scale) v in each head.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    pub heads: usize,
    pub scale: f32,
}

impl Step for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::new(Order::RowMajor, &[Need::Matrix; 3])
    }
}
