//! What has no kernel.

use super::{Lower, OnCuda, Pending};
use crate::diag::{Code, Problem};
use crate::net::{PooledConv, Reference, Separable};

impl OnCuda for Reference {
    fn launches(&self, _to: &Lower) -> Result<Vec<Pending>, Problem> {
        let message = format!("`{}` of values that depend on the input has no CUDA kernel", self.op.name());
        Err(Problem::new(Code::Resource, message).hint("`--device cpu` takes the CPU"))
    }
}

impl OnCuda for PooledConv {
    fn launches(&self, _to: &Lower) -> Result<Vec<Pending>, Problem> {
        unreachable!("fused for other backends only")
    }
}

impl OnCuda for Separable {
    fn launches(&self, _to: &Lower) -> Result<Vec<Pending>, Problem> {
        unreachable!("fused for other backends only")
    }
}
