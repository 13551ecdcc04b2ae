//! The sum of the parts of a [`ConvWeight`](super::ConvWeight), in the weights' own layout.

use super::launch::strided;
use super::{Dtype, Launch, Variant};

args! {
    const THREADS: usize = 256;

    /// Adds the parts of a [`ConvWeight`](super::ConvWeight) into `dw`, `[k][c][taps]`, float32.
    pub struct WeightEnd {
        partials: *const f32,
        dw: *mut f32,
        splits: i32,
        k: i32,
        c: i32,
        wide: i32,
        taps: i32,
        depthwise: i32,
    }
}

pub(super) fn variants() -> Vec<Variant> {
    vec![Variant::stored("weight_end", Dtype::F32)]
}

impl WeightEnd {
    pub fn launch(&self) -> Launch {
        let work = (self.k * self.taps * self.wide) as usize;
        strided(Variant::stored("weight_end", Dtype::F32), "weight_end", work, THREADS)
    }
}
