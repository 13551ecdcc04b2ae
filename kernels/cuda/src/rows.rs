//! Each row by itself.

use super::launch::{blocks, plain};
use super::{Dtype, Launch, Stored, Variant};

args! {
    const THREADS: usize = 256;

    /// Each row by itself; y may be x. Weight and bias are float32 `[cols]`, for the layer norm alone, and so is
    /// `about_zero`: 1 where the mean is taken as 0, which makes it an RMS norm.
    pub struct Rows {
        x: *const Stored,
        y: *mut Stored,
        weight: *const f32,
        bias: *const f32,
        rows: i32,
        cols: i32,
        x_stride: i32,
        y_stride: i32,
        eps: f32,
        about_zero: i32,
    }
}

impl Rows {
    /// Of `layer_norm`, `normalize`, `softmax` or `log_softmax`.
    pub fn launch(&self, dtype: Dtype, kernel: &'static str) -> Launch {
        // a warp a row, or a block a row
        let (threads, rows) = if self.cols <= 1024 { (128, 4) } else { (THREADS, 1) };
        let grid = blocks(self.rows as usize, rows);
        plain(Variant::stored("rows", dtype), kernel, grid, [32, threads / 32])
    }
}
