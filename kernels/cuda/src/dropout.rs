//! Dropout.

use super::launch::eights;
use super::{Dtype, Launch, Stored, Variant};

args! {
    const THREADS: usize = 256;

    /// Zero with probability p, else `x / (1 - p)`; y may be x. Row `i`, column `j` has the number
    /// `i % period / rows_each * index_row + j * index_col` in the stream of `philox`.
    pub struct Dropout {
        x: *const Stored,
        y: *mut Stored,
        /// Low and high half.
        seed: [u32; 2],
        stream: [u32; 2],
        /// float32 `[8]`: seed and step that change from launch to launch, each as four numbers of 16 bits, the lowest
        /// first. The step is mixed into the stream.
        clock: *const f32,
        rows: i32,
        cols: i32,
        x_stride: i32,
        y_stride: i32,
        /// Rows after which draws begin again.
        period: i32,
        rows_each: i32,
        index_row: i32,
        index_col: i32,
        p: f32,
        reserved: i32,
    }
}

impl Dropout {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        eights(Variant::stored("dropout", dtype), "dropout", self.rows as usize, self.cols, THREADS)
    }
}
