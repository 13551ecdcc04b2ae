//! Gradients of resampling.

use super::launch::{inputs, strided};
use super::{Code, Dtype, Launch, Stored, Variant};

args! {
    use Code<archc_base::Resample>;

    const THREADS: usize = 256;

    /// As [`Resize`](super::Resize), of which it is the gradient: `d` is of its output, `dx` of its input.
    pub struct ResizeData {
        d: *const Stored,
        dx: *mut Stored,
        ratio_h: f64,
        ratio_w: f64,
        n: i32,
        height: i32,
        width: i32,
        c: i32,
        out_height: i32,
        out_width: i32,
        d_dist: i32,
        dx_dist: i32,
        mode: Code<archc_base::Resample>,
        reserved: i32,
    }
}

pub(super) fn variants() -> Vec<Variant> {
    Dtype::STORED.map(|dtype| Variant::stored("resize_data", dtype)).into()
}

impl ResizeData {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let work = inputs(self.n, self.height, self.width, self.c);
        strided(Variant::stored("resize_data", dtype), "resize_data", work, THREADS)
    }
}
