//! Backward of convolutions with one filter a channel.

use super::launch::strided;
use super::{ConvWeight, Depthwise, Dtype, Launch, Variant};

args! {
    use Depthwise, ConvWeight;

    const THREADS: usize = 256;
}

pub(super) fn variants() -> Vec<Variant> {
    Dtype::STORED.map(|dtype| Variant::stored("depthwise_grad", dtype)).into()
}

impl Depthwise {
    /// As the gradient of what was read: `x` is dy, `y` is dx, the window that of the forward pass.
    pub fn launch_data(&self, dtype: Dtype) -> Launch {
        let pixels = self.n as usize * self.out_height as usize * self.out_width as usize;
        strided(
            Variant::stored("depthwise_grad", dtype),
            "depthwise_data",
            pixels * (self.c as usize).div_ceil(8),
            THREADS,
        )
    }
}

impl ConvWeight {
    /// Threads of a block of `depthwise_weight` beside each other, and blocks.
    pub(super) fn across(&self) -> [usize; 2] {
        let vectors = (self.groups as usize).div_ceil(8);
        let across = vectors.next_power_of_two().min(32);
        [across, vectors.div_ceil(across)]
    }

    /// Of `depthwise_weight`.
    pub(super) fn launch_depthwise(&self, dtype: Dtype) -> Launch {
        let [across, chunks] = self.across();
        let grid = [chunks as u32, self.r as u32, self.splits() as u32];
        let block = [across as u32, (THREADS / across) as u32, 1];
        let variant = Variant::stored("depthwise_grad", dtype);
        Launch { variant, kernel: "depthwise_weight", grid, block, shared: 0 }
    }
}
