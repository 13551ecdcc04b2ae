//! Images resampled.

use archc_base::{Banded, Resample};

use super::{Lower, OnCuda, Pending, ready};
use crate::diag::Problem;
use crate::net::{Antialias, Resize, ResizeData};

impl OnCuda for Resize {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let args = resize(to, self.mode, self.scale, [&to.view(0).dims, &to.step.write.dims])?;
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }
}

impl OnCuda for ResizeData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let args = resize(to, self.mode, self.scale, [&to.step.write.dims, &to.view(0).dims])?;
        Ok(vec![ready(args.launch_data(to.dtype), &args)])
    }
}

impl OnCuda for Antialias {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let (from, out) = (&to.view(0).dims, &to.step.write.dims);
        let [rows, columns] = self.matrices([from[2], from[3]], [out[2], out[3]]);
        let runs = |matrix: &Banded| {
            let words = matrix.runs().iter().flat_map(|(first, from)| [*first as u32, *from as u32]);
            to.words(&words.collect::<Vec<_>>())
        };
        let weights = |matrix: &Banded| {
            let values = matrix.weights().iter().map(|weight| *weight as f32);
            to.floats(&values.collect::<Vec<_>>())
        };
        let args = archc_cuda::Banded {
            x: to.address(0)?,
            y: to.write(),
            rows: runs(&rows)?,
            row_weights: weights(&rows)?,
            columns: runs(&columns)?,
            column_weights: weights(&columns)?,
            n: from[0] as i32,
            height: from[2] as i32,
            width: from[3] as i32,
            c: from[1] as i32,
            out_height: out[2] as i32,
            out_width: out[3] as i32,
            x_stride: to.rows(to.view(0)).stride,
            y_stride: to.rows(&to.step.write).stride,
        };
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }
}

/// What resamples images of size `from`, or gradients of such.
fn resize(
    to: &Lower,
    mode: Resample,
    scale: Option<[f64; 2]>,
    [from, out]: [&[usize]; 2],
) -> Result<archc_cuda::Resize, Problem> {
    // pixels of the image for one of the result, by the scale where that was stated
    let [ratio_h, ratio_w] = [0, 1].map(|axis| match scale {
        Some(scale) => 1.0 / scale[axis],
        None => from[axis + 2] as f64 / out[axis + 2] as f64,
    });
    Ok(archc_cuda::Resize {
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
        x_stride: to.rows(to.view(0)).stride,
        y_stride: to.rows(&to.step.write).stride,
        mode: mode.code(),
        reserved: 0,
    })
}
