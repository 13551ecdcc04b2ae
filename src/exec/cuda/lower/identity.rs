//! Activations, additions and gates.

use archc_base::Act;
use archc_cuda::{Backward, Binary, Map};

use super::{Lower, OnCuda, Pending, ready};
use crate::diag::Problem;
use crate::net::{ActData, Identity};

impl OnCuda for Identity {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        match to.step.gate {
            Some(_) => gated(to),
            None => Ok(vec![map(to, Map::default())?]),
        }
    }
}

/// A function of each number, with the step's epilogue.
pub(super) fn map(to: &Lower, given: Map) -> Result<Pending, Problem> {
    let (x, y, residual) = (to.rows(to.view(0)), to.rows(&to.step.write), &to.step.residual);
    let map = Map {
        x: to.address(0)?,
        y: to.write(),
        residual: to.beside(residual)?,
        rows: y.rows,
        cols: y.cols,
        x_stride: x.stride,
        y_stride: y.stride,
        residual_stride: residual.as_ref().map_or(0, |view| to.rows(view).stride),
        before: to.node.epilogue.before.into(),
        after: to.node.epilogue.after.into(),
        ..given
    };
    Ok(ready(map.launch(to.dtype), &map))
}

/// An image times a factor for each channel of each sample.
fn gated(to: &Lower) -> Result<Vec<Pending>, Problem> {
    let (epilogue, residual) = (&to.node.epilogue, &to.step.residual);
    let (x, y) = (to.rows(to.view(0)), to.rows(&to.step.write));
    let mut args = Binary {
        a: to.address(0)?,
        b: to.beside(&to.step.gate)?,
        y: to.write(),
        residual: to.beside(residual)?,
        rows: y.rows,
        cols: y.cols,
        a_stride: x.stride,
        y_stride: y.stride,
        residual_stride: residual.as_ref().map_or(0, |view| to.rows(view).stride),
        rows_each: y.rows / to.step.write.dims[0] as i32,
        b_outer: y.cols,
        b_row: 0,
        b_col: 1,
        op: archc_base::Binary::Mul.code(),
        before: Act::None.into(),
        after: epilogue.after.into(),
    };
    let mut launches = vec![];
    if epilogue.before != Act::None {
        // the activation before the gate goes where the result will be
        let before = Map {
            x: args.a,
            y: args.y,
            rows: y.rows,
            cols: y.cols,
            x_stride: x.stride,
            y_stride: y.stride,
            after: epilogue.before.into(),
            ..Map::default()
        };
        launches.push(ready(before.launch(to.dtype), &before));
        (args.a, args.a_stride) = (args.y, args.y_stride);
    }
    launches.push(ready(args.launch(to.dtype), &args));
    Ok(launches)
}

impl OnCuda for ActData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let args = archc_cuda::ActData { io: backward(to)?, act: self.act.into(), ..archc_cuda::ActData::default() };
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }
}

/// The rows of a gradient: of operand 0, where operand 1 is what is seen of the forward pass.
pub(super) fn backward(to: &Lower) -> Result<Backward, Problem> {
    let dx = to.rows(&to.step.write);
    Ok(Backward {
        d: to.address(0)?,
        seen: to.address(1)?,
        dx: to.write(),
        rows: dx.rows,
        cols: dx.cols,
        d_stride: to.rows(to.view(0)).stride,
        seen_stride: to.rows(to.view(1)).stride,
        dx_stride: dx.stride,
        reserved: 0,
    })
}
