//! Batch norm by the statistics of the batch, and its gradient.

use super::launch::{columns, plain};
use super::{Act, Dtype, Launch, Stored, Variant};

args! {
    const THREADS: usize = 256;

    /// `after(before((x - mean) rstd weight + bias) + residual)`; y may be x.
    pub struct BatchNorm {
        x: *const Stored,
        y: *mut Stored,
        residual: *const Stored,
        /// float32 `[2][cols]`, `[cols]`, `[cols]`.
        stats: *const f32,
        weight: *const f32,
        bias: *const f32,
        rows: i32,
        cols: i32,
        x_stride: i32,
        y_stride: i32,
        residual_stride: i32,
        eps: f32,
        before: Act,
        after: Act,
    }

    /// The gradient of what a batch norm reads; dx may be d. `sums` are those of `norm_sums`.
    pub struct BatchNormData {
        d: *const Stored,
        x: *const Stored,
        dx: *mut Stored,
        stats: *const f32,
        weight: *const f32,
        bias: *const f32,
        sums: *const f32,
        rows: i32,
        cols: i32,
        d_stride: i32,
        x_stride: i32,
        dx_stride: i32,
        relu: i32,
        eps: f32,
        reserved: i32,
    }
}

impl BatchNorm {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        down(dtype, "batch_norm", self.rows, self.cols)
    }
}

impl BatchNormData {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        down(dtype, "batch_norm_data", self.rows, self.cols)
    }
}

fn down(dtype: Dtype, kernel: &'static str, rows: i32, cols: i32) -> Launch {
    let [across, beside, chunks] = columns(cols, THREADS);
    let grid = [chunks as u32, (rows as usize).div_ceil(4 * beside).clamp(1, 4096) as u32, 1];
    plain(Variant::stored("batch_norm", dtype), kernel, grid, [across, beside])
}
