//! Gradients of pooling.

use super::launch::eights;
use super::{Code, Dtype, Launch, Stored, Variant, Window};

args! {
    use Code<archc_base::Pool>;

    const THREADS: usize = 256;

    /// As [`Pool`](super::Pool), of which it is the gradient.
    pub struct PoolData {
        x: *const Stored,
        d: *const Stored,
        dx: *mut Stored,
        window: Window,
        c: i32,
        x_stride: i32,
        d_stride: i32,
        dx_stride: i32,
        mode: Code<archc_base::Pool>,
        adaptive: i32,
        reserved: i32,
    }
}

impl PoolData {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        eights(Variant::stored("pool_data", dtype), "pool_data", self.window.inputs(), self.c, THREADS)
    }
}
