//! Where a network's weights come from, as `weights ..` in a spec says it. Only the description.

use std::fmt;

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
