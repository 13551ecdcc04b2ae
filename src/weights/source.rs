//! Where a network's weights come from, as `weights ..` in a spec says it. Only the description.

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
