//! Means and maxima of windows, and their gradients.

use archc_base::{Pool as Of, Window};

use super::{Lower, OnCuda, Pending, ready};
use crate::diag::Problem;
use crate::net::{AdaptivePool, AdaptivePoolData, Pool, PoolData};
use crate::plan::View;

impl OnCuda for Pool {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        pooled(to, self.pool, Some(&self.window))
    }
}

impl OnCuda for AdaptivePool {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        pooled(to, self.pool, None)
    }
}

impl OnCuda for PoolData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        pooled_data(to, self.pool, Some(&self.window))
    }
}

impl OnCuda for AdaptivePoolData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        pooled_data(to, self.pool, None)
    }
}

/// By a window, or adaptive without one.
fn pooled(to: &Lower, pool: Of, window: Option<&Window>) -> Result<Vec<Pending>, Problem> {
    let (from, out) = (to.view(0), &to.step.write);
    let args = archc_cuda::Pool {
        x: to.address(0)?,
        y: to.write(),
        window: over(window, from, out),
        c: from.dims[1] as i32,
        x_stride: to.rows(from).stride,
        y_stride: to.rows(out).stride,
        mode: pool.code(),
        adaptive: window.is_none().into(),
    };
    Ok(vec![ready(args.launch(to.dtype), &args)])
}

fn pooled_data(to: &Lower, pool: Of, window: Option<&Window>) -> Result<Vec<Pending>, Problem> {
    let ([d, x], out, from) = (to.operands()?, to.view(0), to.view(1));
    let args = archc_cuda::PoolData {
        x,
        d,
        dx: to.write(),
        window: over(window, from, out),
        c: from.dims[1] as i32,
        x_stride: to.rows(from).stride,
        d_stride: to.rows(out).stride,
        dx_stride: to.rows(&to.step.write).stride,
        mode: pool.code(),
        adaptive: window.is_none().into(),
        reserved: 0,
    };
    Ok(vec![ready(args.launch(to.dtype), &args)])
}

/// The window from images to images; only their sizes count where there is none.
fn over(window: Option<&Window>, from: &View, out: &View) -> archc_cuda::Window {
    let size = |view: &View| [view.dims[2], view.dims[3]];
    archc_cuda::Window::new(from.dims[0], size(from), size(out), window.unwrap_or(&Window::PIXEL))
}
