//! Values zeroed at random, as `torch.nn.Dropout`, `Dropout2d` and stochastic depth in training mode.

use super::{Backward, Id, Layout, Need, Net, Node, Order, Step};
pub use crate::ops::dropout::Grain;

/// The input that dropout depends on, where there is any, as [`clock`] makes it. So a net that draws is a function of its
/// inputs and states alone. No input of a user's has that name, as labels have no dots.
pub const CLOCK: &str = "dropout.clock";

/// What [`CLOCK`] reads at a step of training, or a sample at inference: seed, then step, each as four numbers of 16 bits, the
/// lowest first.
pub fn clock(seed: u64, step: u64) -> [f32; 8] {
    let part = |at: usize| (if at < 4 { seed } else { step } >> (16 * (at % 4))) & 0xffff;
    std::array::from_fn(|at| part(at) as f32)
}

/// `[x, clock]`: zeroed with probability `p`, else divided by 1 - p. `stream` names the draw; backward is the same of dy.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout {
    pub p: f64,
    pub grain: Grain,
    pub stream: u64,
    /// Whether every sample of the batch is drawn alike, and not for itself.
    pub alike: bool,
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
