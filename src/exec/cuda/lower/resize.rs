//! Images resampled.

use super::{Lower, OnCuda, Pending, ready};
use crate::diag::Problem;
use crate::net::{Resize, ResizeData};

/// Pixels of the operand for one of the result along each axis, by the scale where that was stated.
fn ratios(scale: Option<[f64; 2]>, from: &[usize], to: &[usize]) -> [f64; 2] {
    [0, 1].map(|axis| match scale {
        Some(scale) => 1.0 / scale[axis],
        None => from[axis + 2] as f64 / to[axis + 2] as f64,
    })
}

impl OnCuda for Resize {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let (from, out) = (&to.view(0).dims, &to.step.write.dims);
        let [ratio_h, ratio_w] = ratios(self.scale, from, out);
        let args = archc_cuda::Resize {
            x: to.address(0)?,
            y: to.write(),
            ratio_h,
            ratio_w,
            n: from[0] as i32,
            height: from[2] as i32,
            width: from[3] as i32,
            c: from[1] as i32,
            out_height: out[2] as i32,
            out_width: out[3] as i32,
            x_dist: to.rows(to.view(0)).dist,
            y_dist: to.rows(&to.step.write).dist,
            mode: self.mode.code(),
            reserved: 0,
        };
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }
}

impl OnCuda for ResizeData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let (out, from) = (&to.view(0).dims, &to.step.write.dims);
        let [ratio_h, ratio_w] = ratios(self.scale, from, out);
        let args = archc_cuda::ResizeData {
            d: to.address(0)?,
            dx: to.write(),
            ratio_h,
            ratio_w,
            n: from[0] as i32,
            height: from[2] as i32,
            width: from[3] as i32,
            c: from[1] as i32,
            out_height: out[2] as i32,
            out_width: out[3] as i32,
            d_dist: to.rows(to.view(0)).dist,
            dx_dist: to.rows(&to.step.write).dist,
            mode: self.mode.code(),
            reserved: 0,
        };
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }
}
