//! Where a network's weights come from, as `weights ..` in a spec says it.

use std::fmt;

use super::hub::{Downloads, Hub, Pretrained};
use crate::diag::Problem;

/// The value of `weights ..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightsSource {
    /// A file, relative to the spec: safetensors, a sharded index, or a PyTorch checkpoint.
    File(String),
    /// `hf("owner/repo")` or `hf("owner/repo@revision")`.
    Hub(String),
    /// `random(seed = 0)`: every tensor as its layer's initialiser draws it.
    Random { seed: u64 },
}

impl WeightsSource {
    /// What a hub says of the network that the weights are of; None of other weights.
    ///
    /// # Errors
    /// Where that is not to be had.
    pub fn pretrained(&self, downloads: &dyn Downloads) -> Result<Option<Pretrained>, Problem> {
        match self {
            WeightsSource::Hub(repo) => Hub::from_env()?.pretrained(repo, downloads),
            WeightsSource::File(_) | WeightsSource::Random { .. } => Ok(None),
        }
    }
}

impl fmt::Display for WeightsSource {
    /// As a spec has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightsSource::File(path) => write!(f, "\"{path}\""),
            WeightsSource::Hub(repo) => write!(f, "hf(\"{repo}\")"),
            WeightsSource::Random { seed } => write!(f, "random(seed = {seed})"),
        }
    }
}
