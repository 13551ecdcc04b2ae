//! What is made small.

use super::{Layout, Net, Node, Step};

/// `[output, target]`: one number.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss(pub archc_base::Loss);

/// `[output, target]`: the gradient of the output.
#[derive(Clone, Debug, PartialEq)]
pub struct LossData(pub archc_base::Loss);

impl Step for Loss {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::row_major(&[])
    }
}

impl Step for LossData {
    fn name(&self) -> &'static str {
        "loss_data"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::row_major(&[])
    }
}
