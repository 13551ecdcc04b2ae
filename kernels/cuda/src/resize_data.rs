//! Gradients of resampling.

use super::launch::eights;
use super::{Code, Dtype, Launch, Resize, Variant};

args! {
    use Code<archc_base::Resample>, Resize;

    const THREADS: usize = 256;
}

impl Resize {
    /// As the gradient of what was read: `x` is that of the result, `y` that of the image; sizes are those of the forward
    /// pass.
    pub fn launch_data(&self, dtype: Dtype) -> Launch {
        let pixels = self.n as usize * self.height as usize * self.width as usize;
        eights(Variant::stored("resize_data", dtype), "resize_data", pixels, self.c, THREADS)
    }
}
