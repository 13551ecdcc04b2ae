//! Attention of heads that are too long for the fused kernel.

use super::{Attention, Dtype, Launch, Variant};

args! {
    use Attention;

    const THREADS: usize = 128;
    const QUERIES: usize = 16;
    const SLAB: usize = 64;
}

/// A block for so many queries and columns of values.
pub(super) fn launch(of: &Attention, dtype: Dtype) -> Launch {
    let tiles = (of.queries as usize).div_ceil(QUERIES) * (of.value_dim as usize).div_ceil(SLAB);
    Launch {
        variant: Variant::stored("long_attention", dtype),
        kernel: "long_attention",
        grid: [(tiles * (of.heads * of.n) as usize) as u32, 1, 1],
        block: [THREADS as u32, 1, 1],
        shared: 0,
    }
}
