//! Gradients of pooling.

use super::launch::{inputs, strided};
use super::{Code, Dtype, Launch, Stored, Variant};

args! {
    use Code<archc_base::Pool>;

    const THREADS: usize = 256;

    /// As [`Pool`](super::Pool), of which it is the gradient.
    pub struct PoolData {
        x: *const Stored,
        d: *const Stored,
        dx: *mut Stored,
        n: i32,
        height: i32,
        width: i32,
        c: i32,
        r: i32,
        s: i32,
        out_height: i32,
        out_width: i32,
        stride_h: i32,
        stride_w: i32,
        pad_top: i32,
        pad_left: i32,
        pad_bottom: i32,
        pad_right: i32,
        dilation_h: i32,
        dilation_w: i32,
        x_dist: i32,
        d_dist: i32,
        dx_dist: i32,
        mode: Code<archc_base::Pool>,
        adaptive: i32,
    }
}

pub(super) fn variants() -> Vec<Variant> {
    Dtype::STORED.map(|dtype| Variant::stored("pool_data", dtype)).into()
}

impl PoolData {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let work = inputs(self.n, self.height, self.width, self.c);
        strided(Variant::stored("pool_data", dtype), "pool_data", work, THREADS)
    }
}
