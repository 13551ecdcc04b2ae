//! Linear maps and their gradients: convolutions of images of one pixel.

use archc_base::Window;

use super::conv::{Image, chosen, columns_in_rows, conv, few_rows, fits_few_rows, weight_sums, with_weights};
use super::packing::Packing;
use super::{Lower, OnCuda, Pending};
use crate::diag::Problem;
use crate::net::{Linear, LinearData, LinearWeight};

impl OnCuda for Linear {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let (x, y) = (Image::of_rows(to.rows(to.view(0))), Image::of_rows(to.rows(&to.step.write)));
        if fits_few_rows(&y) {
            return few_rows(to, &rows(to, x, y)?, &to.weight(1)?, &columns_in_rows(x.c, y.c, to.dtype));
        }
        by(to, x, y, [x.c as i64, 1])
    }
}

impl OnCuda for LinearData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let (dy, dx) = (Image::of_rows(to.rows(to.view(0))), Image::of_rows(to.rows(&to.step.write)));
        by(to, dy, dx, [1, dx.c as i64])
    }
}

impl OnCuda for LinearWeight {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let [x, dy] = [0, 1].map(|at| Image::of_rows(to.rows(to.view(at))));
        weight_sums(to, x, dy, &Window::PIXEL, 1)
    }
}

/// Rows as a convolution; its weights are still to come.
fn rows(to: &Lower, x: Image, y: Image) -> Result<archc_cuda::Conv, Problem> {
    let epilogue = to.epilogue(|view| Image::of_rows(to.rows(view)))?;
    Ok(archc_cuda::Conv { x: to.address(0)?, y: to.write(), epilogue, ..conv(x, y, &Window::PIXEL, 1) })
}

/// By a weight whose outputs and inputs are so far apart.
fn by(to: &Lower, x: Image, y: Image, [outputs, inputs]: [i64; 2]) -> Result<Vec<Pending>, Problem> {
    let mut conv = rows(to, x, y)?;
    let pending = with_weights(to, &mut conv, &to.weight(1)?, |_, row| {
        Packing::new(vec![(y.c, outputs, row), (x.c, inputs, 1)], y.c * row)
    })?;
    Ok(pending.into_iter().chain([chosen(to, conv)?]).collect())
}
