//! Values zeroed at random, as `torch.nn.Dropout`, `Dropout2d` and stochastic depth in training mode.

use super::{Backward, Id, Layout, Need, Net, Node, Order, Step};

/// The input that dropout depends on, where there is any: seed, then step, each as four numbers of 16 bits, the lowest
/// first. So a net in training is a function of its inputs and states alone.
pub const CLOCK: &str = "clock";

/// `[x, clock]`: zeroed with probability `p`, else divided by 1 - p. `stream` names the draw; backward is the same of dy.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout {
    pub p: f64,
    pub grain: Grain,
    pub stream: u64,
}

/// What is zeroed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// Every value alone.
    Value,
    /// The channels of every sample.
    Channel,
    /// Every sample.
    Sample,
}

impl Step for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn layout(&self, node: &Node, _net: &Net) -> Layout {
        // draws are counted pixel by pixel
        let order = if node.shape.rank() == 4 { Order::Image } else { Order::RowMajor };
        Layout::new(order, &[Need::Matrix]).with_gaps().in_place()
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let [x, clock] = back.node(y).operands[..] else { unreachable!("two operands") };
        // the same draw
        let dx = back.add(self.clone(), vec![dy, clock], back.shape(x));
        back.give(x, dx);
    }
}
