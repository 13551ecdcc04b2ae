//! Kinds that passes make for other backends only.

use super::{Lower, OnCuda, Pending};
use crate::diag::Problem;
use crate::net::{PooledConv, Separable};

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
