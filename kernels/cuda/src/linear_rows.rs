//! Linear maps of a few rows.

use super::launch::{blocks, plain};
use super::{Dtype, Epilogue, Launch, Stored, Variant};

args! {
    const WARPS: usize = 8;

    /// A linear map of at most [`LinearRows::MOST`] rows. Weights `[outputs][w_stride]`; rows count as images for the epilogue.
    pub struct LinearRows {
        x: *const Stored,
        w: *const Stored,
        y: *mut Stored,
        epilogue: Epilogue,
        rows: i32,
        inputs: i32,
        outputs: i32,
        x_stride: i32,
        w_stride: i32,
        y_stride: i32,
    }
    impl LinearRows {
        const MOST: usize = 8;
    }
}

impl LinearRows {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let grid = blocks(self.outputs as usize, WARPS);
        plain(Variant::stored("linear_rows", dtype), "linear_rows", grid, [WARPS * 32, 1])
    }
}
