//! Rows of a table.

use archc_cuda::Dtype;

use super::{Lower, OnCuda, Pending, ready};
use crate::diag::{Code, Problem};
use crate::net::{Gather, GatherData};
use crate::plan::View;

impl OnCuda for Gather {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let args = gathered(to, to.view(0))?;
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }
}

impl OnCuda for GatherData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let args = gathered(to, &to.step.write)?;
        Ok(vec![ready(args.launch_data(to.dtype), &args)])
    }
}

fn gathered(to: &Lower, table: &View) -> Result<archc_cuda::Gather, Problem> {
    if to.dtype.stored() != Dtype::F32 {
        let message = "`gather` of values that depend on the input has no CUDA kernel in reduced precision";
        return Err(Problem::new(Code::Resource, message).hint("`--dtype f32`, or `--device cpu`"));
    }
    let [d, index] = to.operands()?;
    Ok(archc_cuda::Gather {
        d,
        index,
        y: to.write(),
        rows: to.view(1).len() as i32,
        cols: table.dims[1..].iter().product::<usize>() as i32,
        table: table.dims[0] as i32,
        reserved: 0,
    })
}
