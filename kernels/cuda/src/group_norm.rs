//! Groups of channels.

use super::launch::plain;
use super::{Dtype, Launch, Stored, Variant};

args! {
    const THREADS: usize = 256;

    /// Groups of channels of each image; weight and bias float32 `[c]`.
    pub struct GroupNorm {
        x: *const Stored,
        y: *mut Stored,
        weight: *const f32,
        bias: *const f32,
        n: i32,
        pixels: i32,
        c: i32,
        groups: i32,
        x_stride: i32,
        y_stride: i32,
        eps: f32,
        reserved: i32,
    }
}

impl GroupNorm {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let variant = Variant::stored("group_norm", dtype);
        let grid = [(self.groups * self.n) as u32, 1, 1];
        plain(variant, "group_norm", grid, [THREADS, 1])
    }
}
