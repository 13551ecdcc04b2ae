//! Means, sums and maxima over axes.

use super::launch::{blocks, len, plain};
use super::{Code, Dtype, Launch, RANK, Stored, Variant};

args! {
    use Code<archc_base::Reduce>;

    const THREADS: usize = 256;

    /// Over the inner axes, for each index of the outer ones; results dense in the order of the outer axes.
    pub struct Reduce {
        x: *const Stored,
        y: *mut Stored,
        outer_rank: i32,
        inner_rank: i32,
        outer_shape: [i32; RANK],
        outer_strides: [i32; RANK],
        inner_shape: [i32; RANK],
        inner_strides: [i32; RANK],
        op: Code<archc_base::Reduce>,
        reserved: i32,
    }
}

impl Reduce {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let outputs = len(&self.outer_shape, self.outer_rank);
        let variant = Variant::stored("reduce", dtype);
        let stride = |strides: &[i32; RANK], rank: i32| if rank == 0 { 0 } else { strides[rank as usize - 1] };
        let along = stride(&self.inner_strides, self.inner_rank) == 1;
        let beside = stride(&self.outer_strides, self.outer_rank) == 1;
        if along && !beside {
            return plain(variant, "reduce_rows", blocks(outputs, 8), [32, THREADS / 32]);
        }
        plain(variant, "reduce_columns", blocks(outputs, 32), [32, THREADS / 32])
    }
}
