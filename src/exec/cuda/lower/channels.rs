//! One factor and one number a channel, and sums of columns.

use std::mem::offset_of;

use archc_cuda::{ColumnEnd, ColumnMode, Map};

use super::identity::map;
use super::{Lower, OnCuda, Pending, Rows, scratch};
use crate::diag::Problem;
use crate::net::{Channels, Sums};

impl OnCuda for Channels {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let [_, scale, shift] = to.operands()?;
        Ok(vec![map(to, Map { scale, shift, ..Map::default() })?])
    }
}

impl OnCuda for Sums {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let rows = to.rows(to.view(0));
        let args = archc_cuda::Columns { d: to.address(0)?, d_stride: rows.stride, ..over(rows) };
        Ok(columns(to, args, "sums", 1, ColumnMode::Plain))
    }
}

/// Sums over the rows of a matrix.
pub(super) fn over(matrix: Rows) -> archc_cuda::Columns {
    let Rows { rows, cols, .. } = matrix;
    archc_cuda::Columns { rows, cols, rows_each: 1, groups: 1, size: 1, ..archc_cuda::Columns::default() }
}

/// The launches of sums, `kinds` of them for each column.
pub(super) fn columns(
    to: &Lower,
    mut args: archc_cuda::Columns,
    kernel: &'static str,
    kinds: usize,
    mode: ColumnMode,
) -> Vec<Pending> {
    args.cut(to.processors());
    let bytes = 4 * args.partials(kinds);
    let end = args.end(to.write(), kinds, mode);
    vec![
        scratch(args.launch(to.dtype, kernel), &args, &[(offset_of!(archc_cuda::Columns, partials), 0)], bytes),
        scratch(end.launch(to.dtype), &end, &[(offset_of!(ColumnEnd, partials), 0)], bytes),
    ]
}
