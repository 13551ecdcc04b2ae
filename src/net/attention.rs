//! Attention of all heads side by side (Vaswani et al. 2017).

use std::fmt;

use super::{Layout, Need, Net, Node, Order, Step};

/// `[q, k, v]`, [.., L, heads * dim], [.., S, heads * dim] and [.., S, heads * value dim]: softmax(q k^T scale) v in each
/// head. `[q, k, v, mask]`: the mask is added to the scores [.., heads, L, S], or [.., L, S] of one head, to which it is
/// broadcast from the right. In training it is spelt out.
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
        Layout::new(Order::RowMajor, &[Need::Matrix, Need::Matrix, Need::Matrix, Need::RowMajor])
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " of {} heads * {}", self.heads, self.scale)
    }
}
