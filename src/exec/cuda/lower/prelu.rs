//! Slopes below zero.

use archc_cuda::{ColumnMode, Columns, Map};

use super::channels::{columns, over};
use super::identity::{backward, map};
use super::{Lower, OnCuda, Pending, ready};
use crate::diag::Problem;
use crate::net::{PRelu, PReluData, PReluSums};

/// Slope number `at` among the operands, and 1 where it is one a column, else 0.
fn slopes(to: &Lower, at: usize) -> Result<(u64, i32), Problem> {
    Ok((to.address(at)?, i32::from(to.view(at).dims[0] > 1)))
}

impl OnCuda for PRelu {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let (slope, slope_col) = slopes(to, 1)?;
        Ok(vec![map(to, Map { slope, slope_col, ..Map::default() })?])
    }
}

impl OnCuda for PReluData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let (slope, slope_col) = slopes(to, 2)?;
        let args = archc_cuda::ActData { io: backward(to)?, slope, slope_col, ..archc_cuda::ActData::default() };
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }
}

impl OnCuda for PReluSums {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let [d, x] = to.operands()?;
        let [d_stride, x_stride] = [0, 1].map(|at| to.rows(to.view(at)).stride);
        let args = Columns { d, x, d_stride, x_stride, ..over(to.rows(to.view(1))) };
        let mode = if to.step.write.dims[0] == 1 { ColumnMode::Slope } else { ColumnMode::Plain };
        Ok(columns(to, args, "slope_sums", 1, mode))
    }
}
