//! Fused attention.

use super::{Dtype, Launch, RANK, Stored, Variant};

args! {
    const THREADS: usize = 128;

    /// `softmax(q k^T scale + mask) v` in each head of each image; rows of q and y `[n, queries]`, of k and v `[n, keys]`,
    /// columns `[heads, dim]`, of v and y `[heads, value_dim]`.
    pub struct Attention {
        q: *const Stored,
        k: *const Stored,
        v: *const Stored,
        /// 0 for none.
        mask: *const Stored,
        y: *mut Stored,
        n: i32,
        heads: i32,
        dim: i32,
        value_dim: i32,
        queries: i32,
        keys: i32,
        q_stride: i32,
        k_stride: i32,
        v_stride: i32,
        y_stride: i32,
        /// How many images they have, which are repeated where the result has more.
        q_images: i32,
        k_images: i32,
        v_images: i32,
        scale: f32,
        /// How far apart the values of the mask are; 0 where they are the same.
        mask_head: i32,
        mask_query: i32,
        mask_key: i32,
        /// The axes that images are counted by, from the outermost; those beyond the rank are not read.
        before_rank: i32,
        before: [i32; RANK],
        mask_before: [i32; RANK],
    }
}

pub(super) fn variants() -> Vec<Variant> {
    Dtype::STORED.into_iter().flat_map(|dtype| Attention::DIMS.map(|dim| variant(dtype, dim))).collect()
}

fn variant(dtype: Dtype, dim: usize) -> Variant {
    let mut variant = Variant::stored("attention", dtype);
    variant.defines.push(("DIM", dim.to_string()));
    variant
}

impl Attention {
    const DIMS: [usize; 4] = [32, 64, 128, 256];

    pub fn launch(&self, dtype: Dtype) -> Launch {
        let longest = self.dim.max(self.value_dim) as usize;
        let Some(dim) = Attention::DIMS.into_iter().find(|dim| *dim >= longest) else {
            return super::long_attention::launch(self, dtype);
        };
        // long heads leave room for fewer queries or keys at a time
        let long = dim > 128;
        let queries = if long && dtype.size() == 4 { 16 } else { 64 };
        let grid = [((self.queries as usize).div_ceil(queries) * (self.heads * self.n) as usize) as u32, 1, 1];
        let shared = match dtype.size() {
            // queries, keys and values, and the weights of a tile
            4 => ((queries + 2 * 32) * (dim + 4) + queries * 32) * 4,
            // two tiles of keys and values; long queries beside them
            _ if long => (64 + 2 * 2 * 16) * (dim + 8) * 2,
            _ => 2 * 2 * 64 * (dim + 8) * 2,
        };
        Launch {
            variant: variant(dtype, dim),
            kernel: "attention",
            grid,
            block: [THREADS as u32, 1, 1],
            shared: shared as u32,
        }
    }
}
