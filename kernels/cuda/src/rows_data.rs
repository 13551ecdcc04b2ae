//! Gradients of what works on rows.

use super::launch::{blocks, plain};
use super::{Backward, Dtype, Launch, Variant};

args! {
    const THREADS: usize = 256;

    /// Each row by itself, told by x, or y of a softmax. `about_zero` as in [`Rows`](super::Rows).
    pub struct RowsData {
        io: Backward,
        weight: *const f32,
        moments: *mut f32,
        eps: f32,
        about_zero: i32,
    }
}

impl RowsData {
    /// Of one of the file's kernels.
    pub fn launch(&self, dtype: Dtype, kernel: &'static str) -> Launch {
        let grid = blocks(self.io.rows as usize, THREADS / 32);
        plain(Variant::stored("rows_data", dtype), kernel, grid, [32, THREADS / 32])
    }
}
