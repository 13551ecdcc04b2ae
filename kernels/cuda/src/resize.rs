//! Resampling.

use super::launch::eights;
use super::{Code, Dtype, Launch, Stored, Variant};

args! {
    use Code<archc_base::Resample>;

    const THREADS: usize = 256;

    /// Resampling. Ratios are 1 / scale where the op states a scale, in / out where it states a size.
    pub struct Resize {
        x: *const Stored,
        y: *mut Stored,
        ratio_h: f64,
        ratio_w: f64,
        n: i32,
        height: i32,
        width: i32,
        c: i32,
        out_height: i32,
        out_width: i32,
        x_stride: i32,
        y_stride: i32,
        mode: Code<archc_base::Resample>,
        reserved: i32,
    }
}

impl Resize {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let pixels = self.n as usize * self.out_height as usize * self.out_width as usize;
        eights(Variant::stored("resize", dtype), "resize", pixels, self.c, THREADS)
    }
}
