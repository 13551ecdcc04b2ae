//! Batch norm by the statistics of the batch.

use archc_cuda::{ColumnMode, Columns, Dtype};

use super::channels::{columns, over};
use super::{Lower, OnCuda, Pending, ready};
use crate::diag::Problem;
use crate::net::{BatchNorm, BatchNormData, BatchNormSums, BatchStats, Running};

impl OnCuda for BatchStats {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let rows = to.rows(to.view(0));
        let args = Columns { x: to.address(0)?, x_stride: rows.stride, ..over(rows) };
        Ok(columns(to, args, "statistics", 2, ColumnMode::Statistics))
    }
}

impl OnCuda for Running {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        // only here it is known how many samples there are
        let count = (self.count * to.load.plan.batch()) as f64;
        let (mean, write) = (to.write(), &to.step.write);
        let args = archc_cuda::Running {
            stats: to.address(0)?,
            mean,
            variance: mean + 4 * write.strides[0] as u64,
            channels: write.dims[1] as i32,
            momentum: self.momentum,
            unbiased: (count / (count - 1.0).max(1.0)) as f32,
            reserved: 0,
        };
        Ok(vec![ready(args.launch(Dtype::F32), &args)])
    }
}

impl OnCuda for BatchNorm {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let [x, stats, weight, bias] = to.operands()?;
        let (from, y, epilogue) = (to.rows(to.view(0)), to.rows(&to.step.write), &to.node.epilogue);
        let args = archc_cuda::BatchNorm {
            x,
            y: to.write(),
            residual: to.beside(&to.step.residual)?,
            stats,
            weight,
            bias,
            rows: y.rows,
            cols: y.cols,
            x_stride: from.stride,
            y_stride: y.stride,
            residual_stride: to.step.residual.as_ref().map_or(0, |view| to.rows(view).stride),
            eps: self.eps,
            before: epilogue.before.into(),
            after: epilogue.after.into(),
        };
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }
}

impl OnCuda for BatchNormSums {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let [d, x, stats, weight, bias] = to.operands()?;
        let [d_stride, x_stride] = [0, 1].map(|at| to.rows(to.view(at)).stride);
        let (relu, eps) = (i32::from(self.relu), self.eps);
        let args = Columns { d, x, stats, weight, bias, d_stride, x_stride, relu, eps, ..over(to.rows(to.view(1))) };
        Ok(columns(to, args, "norm_sums", 2, ColumnMode::Norm))
    }
}

impl OnCuda for BatchNormData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let [d, x, stats, weight, bias, sums] = to.operands()?;
        let dx = to.rows(&to.step.write);
        let args = archc_cuda::BatchNormData {
            d,
            x,
            dx: to.write(),
            stats,
            weight,
            bias,
            sums,
            rows: dx.rows,
            cols: dx.cols,
            d_stride: to.rows(to.view(0)).stride,
            x_stride: to.rows(to.view(1)).stride,
            dx_stride: dx.stride,
            relu: i32::from(self.relu),
            eps: self.eps,
            reserved: 0,
        };
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }
}
