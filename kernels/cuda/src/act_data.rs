//! Gradients of functions of one value.

use super::act::Gradients;
use super::launch::strided;
use super::{Act, Dtype, Launch, Stored, Variant};

args! {
    use Gradients;

    const THREADS: usize = 256;

    /// The gradient of a function of one value; dx may be d.
    pub struct ActData {
        d: *const Stored,
        /// x, or y where the gradient is told by that.
        seen: *const Stored,
        dx: *mut Stored,
        /// float32, one a column or one for all.
        slope: *const f32,
        rows: i32,
        cols: i32,
        d_dist: i32,
        seen_dist: i32,
        dx_dist: i32,
        /// 1 or 0: what the column counts for in `slope`.
        slope_col: i32,
        act: Act,
        reserved: i32,
    }
}

pub(super) fn variants() -> Vec<Variant> {
    Dtype::STORED.map(|dtype| Variant::stored("act_data", dtype)).into()
}

impl ActData {
    /// Of `act_data` or `prelu_data`.
    pub fn launch(&self, dtype: Dtype, kernel: &'static str) -> Launch {
        let work = self.rows as usize * (self.cols as usize).div_ceil(8);
        strided(Variant::stored("act_data", dtype), kernel, work, THREADS)
    }
}
