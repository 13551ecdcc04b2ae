//! Groups of channels.

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
        x_dist: i32,
        y_dist: i32,
        eps: f32,
        reserved: i32,
    }
}

pub(super) fn variants() -> Vec<Variant> {
    Dtype::STORED.map(|dtype| Variant::stored("group_norm", dtype)).into()
}

impl GroupNorm {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let variant = Variant::stored("group_norm", dtype);
        let grid = [(self.groups * self.n) as u32, 1, 1];
        Launch { variant, kernel: "group_norm", grid, block: [THREADS as u32, 1, 1], shared: 0 }
    }
}
