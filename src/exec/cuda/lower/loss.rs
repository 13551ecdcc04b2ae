//! Losses and their gradients.

use std::mem::offset_of;

use archc_cuda::LossEnd;

use super::{Lower, OnCuda, Pending, ready, scratch};
use crate::diag::Problem;
use crate::net::{Loss, LossData};

impl OnCuda for Loss {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let args = loss(to, &self.0)?;
        let bytes = 4 * args.partials(to.dtype);
        let end = args.end(to.dtype, to.write());
        let own = offset_of!(archc_cuda::Loss, partials);
        Ok(vec![
            scratch(args.launch(to.dtype), &args, &[(own, 0)], bytes),
            scratch(end.launch(to.dtype), &end, &[(offset_of!(LossEnd, loss) + own, 0)], bytes),
        ])
    }

    /// The target.
    fn reads_raw(&self, at: usize) -> bool {
        at == 1
    }
}

impl OnCuda for LossData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let args = archc_cuda::Loss { dz: to.write(), ..loss(to, &self.0)? };
        Ok(vec![ready(args.launch_data(to.dtype), &args)])
    }

    /// The target.
    fn reads_raw(&self, at: usize) -> bool {
        at == 1
    }
}

fn loss(to: &Lower, loss: &archc_base::Loss) -> Result<archc_cuda::Loss, Problem> {
    let z = to.view(0);
    let classes = z.dims[z.dims.len() - 1];
    let mut args = archc_cuda::Loss {
        z: to.address(0)?,
        targets: to.load.raw(to.view(1))?.0,
        rows: (z.len() / classes) as i32,
        classes: classes as i32,
        kind: loss.code(),
        ..archc_cuda::Loss::default()
    };
    match loss {
        archc_base::Loss::CrossEntropy { smoothing, weights } => {
            args.smoothing = *smoothing;
            args.weights = weights.as_ref().map_or(Ok(0), |weights| to.floats(weights))?;
        }
        archc_base::Loss::OfValues(loss) => args.parameter = loss.parameter(),
    }
    Ok(args)
}
