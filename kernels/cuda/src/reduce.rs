//! Means and maxima over axes.

use super::launch::{blocks, len};
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

pub(super) fn variants() -> Vec<Variant> {
    Dtype::STORED.map(|dtype| Variant::stored("reduce", dtype)).into()
}

impl Reduce {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let outputs = len(&self.outer_shape, self.outer_rank);
        let variant = Variant::stored("reduce", dtype);
        let stride = |strides: &[i32; RANK], rank: i32| if rank == 0 { 0 } else { strides[rank as usize - 1] };
        let along = stride(&self.inner_strides, self.inner_rank) == 1;
        let beside = stride(&self.outer_strides, self.outer_rank) == 1;
        if along && !beside {
            return Launch {
                variant,
                kernel: "reduce_rows",
                grid: blocks(outputs, 8),
                block: [32, THREADS as u32 / 32, 1],
                shared: 0,
            };
        }
        Launch {
            variant,
            kernel: "reduce_columns",
            grid: blocks(outputs, 32),
            block: [32, THREADS as u32 / 32, 1],
            shared: 0,
        }
    }
}
