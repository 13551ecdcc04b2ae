//! Kernels on bf16: activations and weights in 16 bits, sums and epilogues in float32, rounded once when stored.
//!
//! Like the kernels beside them these know nothing of graphs, check sizes by `assert`, and give the same bits on any
//! number of threads. What a [`Unit`] computes differs from another's by the rounding of sums alone (and by subnormal
//! numbers, which the instructions for bf16 take as zero).
//!
//! | what | entry points |
//! |---|---|
//! | convolution | [`PackedConv::pack`] once, [`PackedConv::run`] with an [`Epilogue`] |
//! | linear layers | [`PackedMat::from_nk`] and [`PackedMat::run`]; [`linear`] for few rows |
//! | pooling | [`pool`], [`adaptive_pool`] |
//! | movement | [`copy`] between bf16 and float32 in any strides, [`fill`] |
//! | every kernel over rows | [`by_rows`], which widens and rounds around it |
//!
//! Results are bf16 or, where they are few and worth it (the logits), float32.

mod conv;
mod copy;
mod depthwise;
mod direct;
mod linear;
mod pool;
mod simd;
#[cfg(test)]
mod tests;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use conv::PackedConv;
pub use copy::{RowsIn, by_rows, copy, fill, round, widened};
pub use direct::Epilogue;
pub use linear::{PackedMat, linear};
pub use pool::{adaptive_pool, pool};
pub use simd::Unit;
pub use tile::Stored;

/// The pixel distance that a buffer of `channels` should have: `channels`, and a cache line more where equal lanes of
/// neighbouring pixels would fall on the same set of the L1 cache (a multiple of 2 KiB).
pub fn pixel_distance(channels: usize) -> usize {
    if channels > 0 && channels.is_multiple_of(1024) { channels + 32 } else { channels }
}
