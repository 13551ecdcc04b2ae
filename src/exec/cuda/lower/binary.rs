//! Functions of two values, and sums over what broadcasting repeats.

use std::mem::offset_of;

use archc_cuda::{Broadcast, SumToEnd};

use super::reduce::part;
use super::{Lower, OnCuda, Pending, axes, ready, rows, scratch};
use crate::diag::Problem;
use crate::net::{Binary, SumTo};
use crate::plan::geometry::{Pairing, Pairs};

impl OnCuda for Binary {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let Pairs { op, first, pairing, shape, strides } = to.step.geometry.pairs();
        let (epilogue, write, residual) = (&to.node.epilogue, &to.step.write, &to.step.residual);
        let ((a, before_a), (b, before_b)) = (to.address_as_stored(*first)?, to.address_as_stored(1 - first)?);
        let (y, residual_at, op) = (to.write(), to.beside(residual)?, op.code());
        let (before, after) = (epilogue.before.into(), epilogue.after.into());
        // the order in which the plan has paired them
        let order = write.order();
        let (cols, whole) = (shape.last().map_or(1, |cols| *cols as i32), shape.iter().product::<usize>() as i32);
        let count = whole / cols;
        // how far b moves by a row's place among those before the next outer one, by such a group, by a column
        let paired = match pairing {
            Pairing::Rows(matrix) => Some((count, [0, matrix.stride as i32, 1])),
            Pairing::Scalar => Some((1, [0, 0, 0])),
            Pairing::Row => Some((1, [0, 0, 1])),
            Pairing::Gate { rows_each } => Some((*rows_each as i32, [cols, 0, 1])),
            Pairing::Column => Some((count, [0, 1, 0])),
            Pairing::Broadcast => None,
        };
        let launch = if let Some((rows_each, [b_outer, b_row, b_col])) = paired {
            let args = archc_cuda::Binary {
                a,
                b,
                y,
                residual: residual_at,
                rows: count,
                cols,
                a_stride: rows(to.view(*first), &order).stride,
                y_stride: rows(write, &order).stride,
                residual_stride: residual.as_ref().map_or(0, |view| rows(view, &order).stride),
                rows_each,
                b_outer,
                b_row,
                b_col,
                op,
                before,
                after,
            };
            ready(args.launch(to.dtype), &args)
        } else {
            let args = Broadcast {
                a,
                b,
                y,
                residual: residual_at,
                rank: shape.len() as i32,
                op,
                shape: axes(shape),
                a_strides: axes(&strides[0]),
                b_strides: axes(&strides[1]),
                y_strides: axes(&write.permuted(&order).strides),
                residual_strides: residual.as_ref().map_or(axes(&[]), |view| axes(&view.permuted(&order).strides)),
                before,
                after,
            };
            ready(args.launch(to.dtype), &args)
        };
        Ok(before_a.into_iter().chain(before_b).chain([launch]).collect())
    }
}

impl OnCuda for SumTo {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let over = to.step.geometry.over();
        let other = to.step.reads.get(1);
        let own = |missing: bool, values: &[usize]| part(over, missing, values);
        let others = |missing: bool| other.map_or(vec![], |view| own(missing, &view.strides));
        let mut args = archc_cuda::SumTo {
            d: to.address(0)?,
            x: other.map_or(Ok(0), |_| to.address(1))?,
            partials: 0,
            outer_rank: own(false, &over.shape).len() as i32,
            inner_rank: own(true, &over.shape).len() as i32,
            outer_shape: axes(&own(false, &over.shape)),
            d_outer: axes(&own(false, &over.strides)),
            x_outer: axes(&others(false)),
            inner_shape: axes(&own(true, &over.shape)),
            d_inner: axes(&own(true, &over.strides)),
            x_inner: axes(&others(true)),
            per: 0,
            reserved: 0,
        };
        args.cut(to.processors());
        let bytes = 4 * args.partials();
        let is_stored = to.load.dtype_of(&to.step.write) == to.dtype.stored();
        let end = if is_stored { args.end(to.write(), 0) } else { args.end(0, to.write()) };
        Ok(vec![
            scratch(args.launch(to.dtype), &args, &[(offset_of!(archc_cuda::SumTo, partials), 0)], bytes),
            scratch(end.launch(to.dtype), &end, &[(offset_of!(SumToEnd, partials), 0)], bytes),
        ])
    }
}
