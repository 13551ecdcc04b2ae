//! Layer norm, group norm and division by the norm, with their gradients.

use std::mem::offset_of;

use archc_base::Centre;
use archc_cuda::{Backward, ColumnEnd, ColumnMode, Columns, Rows, RowsData};

use super::channels::over;
use super::identity::backward;
use super::{Lower, OnCuda, Pending, ready, scratch};
use crate::diag::Problem;
use crate::net::{
    GroupNorm, GroupNormData, GroupNormSums, LayerNorm, LayerNormData, LayerNormSums, Normalize, NormalizeData,
};

/// A kernel of rows.
pub(super) fn rows(to: &Lower, kernel: &'static str, given: Rows) -> Result<Vec<Pending>, Problem> {
    let (x, y) = (to.rows(to.view(0)), to.rows(&to.step.write));
    let args = Rows {
        x: to.address(0)?,
        y: to.write(),
        rows: y.rows,
        cols: y.cols,
        x_stride: x.stride,
        y_stride: y.stride,
        ..given
    };
    Ok(vec![ready(args.launch(to.dtype, kernel), &args)])
}

/// The gradient of a kernel of rows.
pub(super) fn rows_data(to: &Lower, kernel: &'static str, given: RowsData) -> Result<Vec<Pending>, Problem> {
    let args = RowsData { io: backward(to)?, ..given };
    Ok(vec![ready(args.launch(to.dtype, kernel), &args)])
}

fn about_zero(centre: Centre) -> i32 {
    (centre == Centre::Zero).into()
}

impl OnCuda for LayerNorm {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let [_, weight, bias] = to.operands()?;
        rows(
            to,
            "layer_norm",
            Rows { weight, bias, eps: self.eps, about_zero: about_zero(self.centre), ..Rows::default() },
        )
    }
}

impl OnCuda for LayerNormData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let (weight, about_zero) = (to.address(2)?, about_zero(self.centre));
        rows_data(to, "layer_norm_data", RowsData { weight, eps: self.eps, about_zero, ..RowsData::default() })
    }
}

impl OnCuda for LayerNormSums {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let x = to.rows(to.view(1));
        let (rows, cols, seen_stride) = (x.rows, x.cols, x.stride);
        let io = Backward { seen: to.address(1)?, rows, cols, seen_stride, ..Backward::default() };
        let moments = RowsData { io, eps: self.eps, about_zero: about_zero(self.centre), ..RowsData::default() };
        let bytes = 8 * rows as usize;
        let launch = moments.launch(to.dtype, "row_moments");
        let first = scratch(launch, &moments, &[(offset_of!(RowsData, moments), 0)], bytes);
        normed_sums(to, first, Columns { size: cols, ..over(x) })
    }
}

impl OnCuda for Normalize {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        rows(to, "normalize", Rows { eps: self.eps, ..Rows::default() })
    }
}

impl OnCuda for NormalizeData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        rows_data(to, "normalize_data", RowsData { eps: self.eps, ..RowsData::default() })
    }
}

impl OnCuda for GroupNorm {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let [x, weight, bias] = to.operands()?;
        let dims = &to.step.write.dims;
        let args = archc_cuda::GroupNorm {
            x,
            y: to.write(),
            weight,
            bias,
            n: dims[0] as i32,
            pixels: (dims[2] * dims[3]) as i32,
            c: dims[1] as i32,
            groups: self.groups as i32,
            x_stride: to.rows(to.view(0)).stride,
            y_stride: to.rows(&to.step.write).stride,
            eps: self.eps,
            reserved: 0,
        };
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }
}

impl OnCuda for GroupNormData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let norm = group_norm(to, self.groups, self.eps)?;
        let (weight, dx_stride) = (to.address(2)?, to.rows(&to.step.write).stride);
        let args = archc_cuda::GroupNormData { dx: to.write(), weight, dx_stride, ..norm };
        let data = with_moments(to, &args, "group_norm_data");
        Ok(vec![with_moments(to, &norm, "group_moments"), data])
    }
}

impl OnCuda for GroupNormSums {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let norm = group_norm(to, self.groups, self.eps)?;
        let (groups, size) = (norm.groups, norm.c / norm.groups);
        let args = Columns { rows_each: norm.pixels, groups, size, ..over(to.rows(to.view(1))) };
        normed_sums(to, with_moments(to, &norm, "group_moments"), args)
    }
}

/// The gradient of a group norm, but for where it goes.
fn group_norm(to: &Lower, groups: usize, eps: f32) -> Result<archc_cuda::GroupNormData, Problem> {
    let dims = &to.view(1).dims;
    Ok(archc_cuda::GroupNormData {
        d: to.address(0)?,
        x: to.address(1)?,
        n: dims[0] as i32,
        pixels: (dims[2] * dims[3]) as i32,
        c: dims[1] as i32,
        groups: groups as i32,
        d_stride: to.rows(to.view(0)).stride,
        x_stride: to.rows(to.view(1)).stride,
        eps,
        ..archc_cuda::GroupNormData::default()
    })
}

/// A kernel that leaves the moments of groups at the start of scratch memory, or finds them there.
fn with_moments(to: &Lower, norm: &archc_cuda::GroupNormData, kernel: &'static str) -> Pending {
    let bytes = 8 * (norm.n * norm.groups) as usize;
    let moments = offset_of!(archc_cuda::GroupNormData, moments);
    scratch(norm.launch(to.dtype, kernel), norm, &[(moments, 0)], bytes)
}

/// Sums of `d n` and of `d`, n being x normalised by the moments that `first` leaves.
fn normed_sums(to: &Lower, first: Pending, args: Columns) -> Result<Vec<Pending>, Problem> {
    let [d_stride, x_stride] = [0, 1].map(|at| to.rows(to.view(at)).stride);
    let mut args = Columns { d: to.address(0)?, x: to.address(1)?, d_stride, x_stride, ..args };
    args.cut(to.processors());
    let before = first.scratch.bytes.next_multiple_of(16);
    let bytes = before + 4 * args.partials(2);
    let end = args.end(to.write(), 2, ColumnMode::Plain);
    let fields = [(offset_of!(Columns, moments), 0), (offset_of!(Columns, partials), before)];
    Ok(vec![
        first,
        scratch(args.launch(to.dtype, "normed_sums"), &args, &fields, bytes),
        scratch(end.launch(to.dtype), &end, &[(offset_of!(ColumnEnd, partials), before)], bytes),
    ])
}
