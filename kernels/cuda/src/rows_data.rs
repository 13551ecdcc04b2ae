//! Gradients of what works on rows.

use super::launch::blocks;
use super::{Dtype, Launch, Stored, Variant};

args! {
    const THREADS: usize = 256;

    /// Each row by itself; dx may be d.
    pub struct RowsData {
        d: *const Stored,
        /// x, or y of a softmax.
        seen: *const Stored,
        dx: *mut Stored,
        weight: *const f32,
        moments: *mut f32,
        rows: i32,
        cols: i32,
        d_dist: i32,
        seen_dist: i32,
        dx_dist: i32,
        eps: f32,
    }
}

pub(super) fn variants() -> Vec<Variant> {
    Dtype::STORED.map(|dtype| Variant::stored("rows_data", dtype)).into()
}

impl RowsData {
    /// Of one of the file's kernels.
    pub fn launch(&self, dtype: Dtype, kernel: &'static str) -> Launch {
        let grid = blocks(self.rows as usize, THREADS / 32);
        Launch {
            variant: Variant::stored("rows_data", dtype),
            kernel,
            grid,
            block: [32, THREADS as u32 / 32, 1],
            shared: 0,
        }
    }
}
