//! Backward of convolutions with one filter a channel.

use super::launch::{columns, eights, plain};
use super::{ConvWeight, Depthwise, Dtype, Launch, Variant};

args! {
    use Depthwise, ConvWeight;

    const THREADS: usize = 256;
}

impl Depthwise {
    /// As the gradient of what was read: `x` is dy, `y` is dx, the window that of the forward pass.
    pub fn launch_data(&self, dtype: Dtype) -> Launch {
        eights(Variant::stored("depthwise_grad", dtype), "depthwise_data", self.window.outputs(), self.c, THREADS)
    }
}

impl ConvWeight {
    /// Threads of a block of `depthwise_weight` beside and below each other, and blocks.
    pub(super) fn across(&self) -> [usize; 3] {
        columns(self.groups, THREADS)
    }

    /// Of `depthwise_weight`.
    pub(super) fn launch_depthwise(&self, dtype: Dtype) -> Launch {
        let [across, beside, chunks] = self.across();
        let grid = [chunks as u32, self.window.r as u32, self.splits() as u32];
        let variant = Variant::stored("depthwise_grad", dtype);
        plain(variant, "depthwise_weight", grid, [across, beside])
    }
}
