//! An op that has no plainer form, by its own meaning.

use super::{Layout, Net, Node, Step};
use crate::ops::Op;

/// The op's operands, then its tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    pub op: Box<Op>,
}

impl Step for Reference {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::row_major(&[])
    }
}
