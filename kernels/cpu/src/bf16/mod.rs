//! What bf16 needs beside the kernels that are generic over an [`Element`](super::Element): vectors of it, and ways between
//! bf16 and float32.
//!
//! Activations and weights have 16 bits, sums and epilogues are in float32, rounded once when stored. What a [`Unit`]
//! computes differs from another's by the rounding of sums alone (and by subnormal numbers, which the instructions for bf16
//! take as zero).
//!
//! | what | entry points |
//! |---|---|
//! | movement | [`copy`] between bf16 and float32 in any strides, [`fill`] |
//! | every kernel over rows | [`by_rows`], which widens and rounds around it |

mod copy;
pub(super) mod simd;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

pub use copy::{RowsIn, by_rows, copy, fill, round, widened};
pub(super) use copy::{by_rows_of, copy_of};
pub use simd::Unit;

/// The pixel stride that a buffer of `channels` should have: `channels`, and a cache line more where equal lanes of
/// neighbouring pixels would fall on the same set of the L1 cache (a multiple of 2 KiB).
pub fn pixel_stride(channels: usize) -> usize {
    if channels > 0 && channels.is_multiple_of(1024) { channels + 32 } else { channels }
}
