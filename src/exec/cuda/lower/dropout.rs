//! Values zeroed at random.

use super::{Lower, OnCuda, Pending, ready};
use crate::diag::Problem;
use crate::net::{Dropout, Grain};

impl OnCuda for Dropout {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let (x, y) = (to.rows(to.view(0)), to.rows(&to.step.write));
        let each = y.rows / to.step.write.dims[0] as i32;
        let [rows_each, index_row, index_col] = match self.grain {
            Grain::Value => [1, y.cols, 1],
            Grain::Channel => [each, y.cols, 1],
            Grain::Sample => [each, 1, 0],
        };
        let args = archc_cuda::Dropout {
            x: to.address(0)?,
            y: to.write(),
            seed: [0; 2],
            stream: [self.stream as u32, (self.stream >> 32) as u32],
            clock: to.load.raw(to.view(1))?.0,
            rows: y.rows,
            cols: y.cols,
            x_stride: x.stride,
            y_stride: y.stride,
            period: if self.alike { each } else { y.rows },
            rows_each,
            index_row,
            index_col,
            p: self.p as f32,
            reserved: 0,
        };
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }

    /// The clock.
    fn reads_raw(&self, at: usize) -> bool {
        at == 1
    }
}
