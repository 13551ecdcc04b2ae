//! Gradients of group norms.

use super::launch::plain;
use super::{Dtype, Launch, Stored, Variant};

args! {
    const THREADS: usize = 256;

    /// A group norm's gradient, or its moments: a pair for each group of each image.
    pub struct GroupNormData {
        d: *const Stored,
        x: *const Stored,
        dx: *mut Stored,
        weight: *const f32,
        /// float32: mean and 1 / standard deviation of each group of each image.
        moments: *mut f32,
        n: i32,
        pixels: i32,
        c: i32,
        groups: i32,
        d_stride: i32,
        x_stride: i32,
        dx_stride: i32,
        eps: f32,
    }
}

impl GroupNormData {
    /// Of `group_moments` or `group_norm_data`.
    pub fn launch(&self, dtype: Dtype, kernel: &'static str) -> Launch {
        let grid = [(self.groups * self.n) as u32, 1, 1];
        plain(Variant::stored("group_norm_data", dtype), kernel, grid, [THREADS, 1])
    }
}
