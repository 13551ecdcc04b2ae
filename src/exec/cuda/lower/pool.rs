//! Means and maxima of windows, and their gradients.

use archc_base::Window;

use super::{Lower, OnCuda, Pending, ready};
use crate::diag::Problem;
use crate::net::{AdaptivePool, AdaptivePoolData, Pool, PoolData};

impl OnCuda for Pool {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        pooled(to, self.pool, Some(&self.window))
    }
}

impl OnCuda for AdaptivePool {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        pooled(to, self.reduce.into(), None)
    }
}

impl OnCuda for PoolData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        pooled_data(to, self.pool, Some(&self.window))
    }
}

impl OnCuda for AdaptivePoolData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        pooled_data(to, self.reduce.into(), None)
    }
}

/// By a window, or adaptive without one.
fn pooled(to: &Lower, pool: archc_base::Pool, window: Option<&Window>) -> Result<Vec<Pending>, Problem> {
    let (from, out) = (&to.view(0).dims, &to.step.write.dims);
    let [pad_top, pad_left, pad_bottom, pad_right] = window.unwrap_or(&Window::PIXEL).padding.map(|pad| pad as i32);
    let [[r, s], [stride_h, stride_w], [dilation_h, dilation_w]] = sides(window.unwrap_or(&Window::PIXEL));
    let args = archc_cuda::Pool {
        x: to.address(0)?,
        y: to.write(),
        n: from[0] as i32,
        height: from[2] as i32,
        width: from[3] as i32,
        c: from[1] as i32,
        r,
        s,
        out_height: out[2] as i32,
        out_width: out[3] as i32,
        stride_h,
        stride_w,
        pad_top,
        pad_left,
        pad_bottom,
        pad_right,
        dilation_h,
        dilation_w,
        x_dist: to.rows(to.view(0)).dist,
        y_dist: to.rows(&to.step.write).dist,
        mode: pool.code(),
        adaptive: i32::from(window.is_none()),
    };
    Ok(vec![ready(args.launch(to.dtype), &args)])
}

fn pooled_data(to: &Lower, pool: archc_base::Pool, window: Option<&Window>) -> Result<Vec<Pending>, Problem> {
    let [d, x] = to.operands()?;
    let (out, from) = (&to.view(0).dims, &to.view(1).dims);
    let [pad_top, pad_left, pad_bottom, pad_right] = window.unwrap_or(&Window::PIXEL).padding.map(|pad| pad as i32);
    let [[r, s], [stride_h, stride_w], [dilation_h, dilation_w]] = sides(window.unwrap_or(&Window::PIXEL));
    let args = archc_cuda::PoolData {
        x,
        d,
        dx: to.write(),
        n: from[0] as i32,
        height: from[2] as i32,
        width: from[3] as i32,
        c: from[1] as i32,
        r,
        s,
        out_height: out[2] as i32,
        out_width: out[3] as i32,
        stride_h,
        stride_w,
        pad_top,
        pad_left,
        pad_bottom,
        pad_right,
        dilation_h,
        dilation_w,
        x_dist: to.rows(to.view(1)).dist,
        d_dist: to.rows(to.view(0)).dist,
        dx_dist: to.rows(&to.step.write).dist,
        mode: pool.code(),
        adaptive: i32::from(window.is_none()),
    };
    Ok(vec![ready(args.launch(to.dtype), &args)])
}

/// Kernel, stride and dilation, as kernels count.
fn sides(window: &Window) -> [[i32; 2]; 3] {
    [window.kernel, window.stride, window.dilation].map(|pair| pair.map(|len| len as i32))
}
