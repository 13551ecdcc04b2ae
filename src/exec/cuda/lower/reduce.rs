//! Means, sums and maxima over axes.

use archc_cuda::{Spread, SpreadRows};

use super::{Lower, OnCuda, Pending, axes, ready};
use crate::diag::Problem;
use crate::net::{MaxData, MeanData, Reduce};
use crate::plan::geometry::Over;

/// What `values` says of the axes that the result lacks, or of the others; not of those of length 1.
pub(super) fn part(over: &Over, missing: bool, values: &[usize]) -> Vec<usize> {
    let own = over.missing.iter().zip(&over.shape).zip(values);
    own.filter(|((own, len), _)| **own == missing && **len != 1).map(|(_, value)| *value).collect()
}

impl OnCuda for Reduce {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let over = to.step.geometry.over();
        let [(outer_shape, outer_strides), (inner_shape, inner_strides)] =
            [false, true].map(|missing| joined(over, missing));
        let args = archc_cuda::Reduce {
            x: to.address(0)?,
            y: to.write(),
            outer_rank: outer_shape.len() as i32,
            inner_rank: inner_shape.len() as i32,
            outer_shape: axes(&outer_shape),
            outer_strides: axes(&outer_strides),
            inner_shape: axes(&inner_shape),
            inner_strides: axes(&inner_strides),
            op: self.reduce.code(),
            reserved: 0,
        };
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }
}

/// Lengths and strides of axes that the result lacks, or of the others; neighbours in memory as one.
fn joined(over: &Over, missing: bool) -> (Vec<usize>, Vec<usize>) {
    let mut joined: Vec<(usize, usize)> = vec![];
    for (len, stride) in over.axes(missing).filter(|(len, _)| *len != 1) {
        match joined.last_mut() {
            Some(last) if last.1 == len * stride => *last = (last.0 * len, stride),
            _ => joined.push((len, stride)),
        }
    }
    joined.into_iter().unzip()
}

impl OnCuda for MeanData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let (over, write) = (to.step.geometry.over(), &to.step.write);
        let (x, y, scale) = (to.address(0)?, to.write(), 1.0 / over.each() as f32);
        let [strides, dims] = [&over.strides, &write.dims];
        let is_pooled = over.missing == [false, false, true, true] && (strides[1] == 1 || dims[1] == 1);
        if is_pooled && write.matrix(&to.step.order).is_some() {
            let rows = to.rows(write);
            let args = SpreadRows {
                x,
                y,
                rows: rows.rows,
                cols: rows.cols,
                rows_each: over.each() as i32,
                x_stride: strides[0] as i32,
                y_stride: rows.stride,
                scale,
            };
            return Ok(vec![ready(args.launch(to.dtype), &args)]);
        }
        let order = write.order();
        let in_order = |values: &[usize]| axes(&order.iter().map(|axis| values[*axis]).collect::<Vec<_>>());
        let args = Spread {
            x,
            y,
            rank: dims.len() as i32,
            scale,
            shape: in_order(dims),
            x_strides: in_order(strides),
            y_strides: in_order(&write.strides),
        };
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }
}

impl OnCuda for MaxData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let over = to.step.geometry.over();
        let [d, x, y] = to.operands()?;
        let own = |missing: bool, values: &[usize]| axes(&part(over, missing, values));
        let rank = |missing: bool| part(over, missing, &over.shape).len() as i32;
        let strides = &to.step.write.strides;
        let args = archc_cuda::MaxData {
            d,
            x,
            y,
            dx: to.write(),
            outer_rank: rank(false),
            inner_rank: rank(true),
            outer_shape: own(false, &over.shape),
            x_outer: own(false, &over.strides),
            dx_outer: own(false, strides),
            inner_shape: own(true, &over.shape),
            x_inner: own(true, &over.strides),
            dx_inner: own(true, strides),
        };
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }
}
