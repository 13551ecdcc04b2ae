//! One number everywhere.

use super::launch::{len, strided};
use super::{Dtype, Launch, RANK, Stored, Variant};

args! {
    const THREADS: usize = 256;

    /// One number everywhere.
    pub struct Fill {
        y: *mut Stored,
        rank: i32,
        value: f32,
        shape: [i32; RANK],
        y_strides: [i32; RANK],
    }
}

impl Fill {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        strided(Variant::stored("fill", dtype), "fill", len(&self.shape, self.rank), THREADS)
    }
}
