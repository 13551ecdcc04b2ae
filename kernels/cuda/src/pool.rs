//! Maxima and means of windows.

use super::launch::strided;
use super::{Code, Dtype, Launch, Stored, Variant};

args! {
    use Code<archc_base::Pool>;

    const THREADS: usize = 256;

    /// Maxima or means of windows, PyTorch's.
    pub struct Pool {
        x: *const Stored,
        y: *mut Stored,
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
        y_dist: i32,
        mode: Code<archc_base::Pool>,
        /// Not 0: the windows are the parts of the image that adaptive pooling takes; the rest of the window is not read.
        adaptive: i32,
    }
}

pub(super) fn variants() -> Vec<Variant> {
    Dtype::STORED.map(|dtype| Variant::stored("pool", dtype)).into()
}

impl Pool {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let pixels = self.n as usize * self.out_height as usize * self.out_width as usize;
        strided(Variant::stored("pool", dtype), "pool", pixels * (self.c as usize).div_ceil(8), THREADS)
    }
}
