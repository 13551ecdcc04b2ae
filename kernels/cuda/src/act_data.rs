//! Gradients of functions of one value.

use super::act::Gradients;
use super::launch::eights;
use super::{Act, Backward, Dtype, Launch, Variant};

args! {
    use Gradients;

    const THREADS: usize = 256;

    /// The gradient of a function of one number, told by y where [`archc_base::Act::by_result`], else by x.
    pub struct ActData {
        io: Backward,
        /// float32, one a column or one for all: that of prelu instead, told by x; 0 for none.
        slope: *const f32,
        /// 1 or 0: what the column counts for in `slope`.
        slope_col: i32,
        act: Act,
    }
}

impl ActData {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        eights(Variant::stored("act_data", dtype), "act_data", self.io.rows as usize, self.io.cols, THREADS)
    }
}
