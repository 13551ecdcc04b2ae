//! Products of two values.

use super::launch::{len, plain};
use super::{Dtype, Launch, RANK, Stored, Variant};

args! {
    const THREADS: usize = 256;
    const SIDE: usize = 64;

    /// `y = scale * a b` for each matrix of a batch of `rank` axes. a `[m][k]`, y `[m][n]`.
    pub struct Matmul {
        a: *const Stored,
        b: *const Stored,
        y: *mut Stored,
        m: i32,
        n: i32,
        k: i32,
        a_stride: i32,
        /// Between the rows of b: `[k][n]`, or `[n][k]` where `transposed` is not 0.
        b_stride: i32,
        y_stride: i32,
        transposed: i32,
        scale: f32,
        rank: i32,
        shape: [i32; RANK],
        a_strides: [i32; RANK],
        b_strides: [i32; RANK],
        y_strides: [i32; RANK],
        reserved: i32,
    }
}

impl Matmul {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let tiles: usize = [self.m, self.n].iter().map(|len| (*len as usize).div_ceil(SIDE)).product();
        let grid = [(tiles * len(&self.shape, self.rank)) as u32, 1, 1];
        plain(Variant::stored("matmul", dtype), "matmul", grid, [THREADS, 1])
    }
}
