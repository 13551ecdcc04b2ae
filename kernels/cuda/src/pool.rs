//! Maxima and means of windows.

use super::launch::eights;
use super::{Code, Dtype, Launch, Stored, Variant, Window};

args! {
    use Code<archc_base::Pool>;

    const THREADS: usize = 256;

    /// Maxima or means of windows, PyTorch's.
    pub struct Pool {
        x: *const Stored,
        y: *mut Stored,
        window: Window,
        c: i32,
        x_stride: i32,
        y_stride: i32,
        mode: Code<archc_base::Pool>,
        /// Not 0: the windows are the parts of the image that adaptive pooling takes; the rest of the window is not read.
        adaptive: i32,
    }
}

impl Pool {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        eights(Variant::stored("pool", dtype), "pool", self.window.outputs(), self.c, THREADS)
    }
}
