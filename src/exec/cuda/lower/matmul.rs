//! Products of matrices of activations.

use super::{Lower, OnCuda, Pending, axes, ready};
use crate::diag::Problem;
use crate::net::Matmul;
use crate::plan::geometry::Products;

impl OnCuda for Matmul {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let Products { levels, leading, sizes, transposed } = to.step.geometry.products();
        let ((a, first), (b, second)) = (to.address_as_stored(0)?, to.address_as_stored(1)?);
        let [m, k, n] = sizes.map(|size| size as i32);
        let [a_stride, b_stride, y_stride] = leading.map(|stride| stride as i32);
        let strides = |of: usize| axes(&levels.iter().map(|(_, strides)| strides[of]).collect::<Vec<_>>());
        let args = archc_cuda::Matmul {
            a,
            b,
            y: to.write(),
            m,
            n,
            k,
            a_stride,
            b_stride,
            y_stride,
            transposed: i32::from(*transposed),
            scale: self.scale,
            rank: levels.len() as i32,
            shape: axes(&levels.iter().map(|(count, _)| *count).collect::<Vec<_>>()),
            a_strides: strides(0),
            b_strides: strides(1),
            y_strides: strides(2),
            reserved: 0,
        };
        Ok(first.into_iter().chain(second).chain([ready(args.launch(to.dtype), &args)]).collect())
    }
}
