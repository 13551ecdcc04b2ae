//! What norms of rows are taken about.

/// What a norm subtracts from a row before it divides by the root of the mean square of what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Centre {
    /// The mean, as `torch.nn.LayerNorm`.
    Mean,
    /// Nothing, as `torch.nn.RMSNorm`.
    Zero,
}
