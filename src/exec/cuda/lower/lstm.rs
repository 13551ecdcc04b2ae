//! The recurrence of LSTMs, and its gradient.

use archc_cuda::Launch;

use super::packing::Packing;
use super::{Lower, OnCuda, Pending, ready};
use crate::diag::{Code, Problem};
use crate::net::{LstmScan, LstmScanData};
use crate::plan::geometry::Steps;

impl OnCuda for LstmScan {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let Steps { outer, steps, inner } = to.step.geometry.steps();
        let (pairs, hidden) = (to.step.reads.len() / 2, to.view(1).dims[1]);
        let mut args = archc_cuda::LstmScan {
            y: to.write(),
            y_stride: to.rows(&to.step.write).stride,
            directions: pairs as i32,
            sequences: (outer * inner) as i32,
            steps: steps as i32,
            inner: inner as i32,
            hidden: hidden as i32,
            reverse: self.reverse.into(),
            ..archc_cuda::LstmScan::default()
        };
        let mut pending = vec![];
        for pair in 0..pairs {
            // [4, unit, k] as [k, unit, 4]
            let axes = vec![(hidden, 1, 4 * hidden), (hidden, hidden as i64, 4), (4, (hidden * hidden) as i64, 1)];
            let packing = Packing::new(axes, 4 * hidden * hidden);
            let (weight, packed) = to.pack(&to.weight(2 * pair + 1)?, &packing)?;
            args.weight[pair] = weight;
            args.gates[pair] = to.address(2 * pair)?;
            args.gates_stride[pair] = to.rows(to.view(2 * pair)).stride;
            pending.extend(packed);
        }
        let launch = fitting(args.launch(to.dtype, to.processors()), hidden)?;
        pending.push(ready(launch, &args));
        Ok(pending)
    }
}

impl OnCuda for LstmScanData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let Steps { outer, steps, inner } = to.step.geometry.steps();
        let hidden = to.view(2).dims[1];
        let as_it_is = Packing::new(vec![(4 * hidden, hidden as i64, hidden), (hidden, 1, 1)], 4 * hidden * hidden);
        let (weight, packed) = to.pack(&to.weight(2)?, &as_it_is)?;
        let mut args = archc_cuda::LstmScanData {
            d: to.address(0)?,
            sums: to.address(1)?,
            weight,
            dx: to.write(),
            d_stride: to.rows(to.view(0)).stride,
            sums_stride: to.rows(to.view(1)).stride,
            dx_stride: to.rows(&to.step.write).stride,
            sequences: (outer * inner) as i32,
            steps: steps as i32,
            inner: inner as i32,
            hidden: hidden as i32,
            reverse: self.reverse.into(),
            ..archc_cuda::LstmScanData::default()
        };
        let launch = fitting(args.launch(to.dtype, to.processors()), hidden)?;
        Ok(packed.into_iter().chain([ready(launch, &args)]).collect())
    }
}

/// A launch, where a block has room for the states of a sequence.
fn fitting(launch: Option<Launch>, hidden: usize) -> Result<Launch, Problem> {
    launch.ok_or_else(|| {
        let message =
            format!("`lstm_scan` of {hidden} hidden features has no CUDA kernel: their states fill its memory");
        Problem::new(Code::Resource, message).hint("up to 4096 hidden features, or `--device cpu`")
    })
}
