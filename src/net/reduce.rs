//! Means, sums and maxima over some axes, which are left out or kept with length 1, as `torch.mean`, `torch.sum` and `torch.amax`.

use std::fmt;

use super::{Backward, Id, Layout, Need, Net, Node, Order, Step};

/// `[x]`
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    pub reduce: archc_base::Reduce,
    pub axes: Vec<usize>,
}

/// `[dy]`: broadcast along the axes of a mean, divided by their length.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanData {
    pub axes: Vec<usize>,
}

/// `[dy, x, y]`: to the largest along the axes, shared by equals.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxData {
    pub axes: Vec<usize>,
}

impl Step for Reduce {
    fn name(&self) -> &'static str {
        match self.reduce {
            archc_base::Reduce::Mean => "mean",
            archc_base::Reduce::Sum => "sum",
            archc_base::Reduce::Max => "amax",
        }
    }

    fn layout(&self, node: &Node, net: &Net) -> Layout {
        let keeps = node.shape.rank() == net.node(node.operands[0]).shape.rank();
        let order = if keeps && node.shape.as_image().is_some() { Order::Image } else { Order::RowMajor };
        Layout::new(order, &[Need::Any])
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let x = back.node(y).operands[0];
        let (axes, shape) = (self.axes.clone(), back.shape(x));
        let dx = match self.reduce {
            archc_base::Reduce::Mean => back.add(MeanData { axes }, vec![dy], shape),
            archc_base::Reduce::Sum => {
                let count: usize = axes.iter().filter_map(|axis| shape.axis(*axis)).product();
                let dy = back.scaled(dy, count as f32);
                back.add(MeanData { axes }, vec![dy], shape)
            }
            archc_base::Reduce::Max => back.add(MaxData { axes }, vec![dy, x, y], shape),
        };
        back.give(x, dx);
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " over {:?}", self.axes)
    }
}

impl Step for MeanData {
    fn name(&self) -> &'static str {
        "mean_data"
    }

    fn layout(&self, node: &Node, _net: &Net) -> Layout {
        let order = if node.shape.rank() == 4 { Order::Image } else { Order::RowMajor };
        Layout::new(order, &[Need::Any])
    }
}

super::step::plain! {
    MaxData, "amax_data", |_own, _node| Layout::row_major(&[Need::RowMajor, Need::Any]);
}
