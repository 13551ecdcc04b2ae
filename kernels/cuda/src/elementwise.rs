//! Functions of single values and of pairs.

use super::act::AllValues;
use super::launch::{eights, len, strided};
use super::{Act, Code, Dtype, Launch, RANK, Stored, Variant};

args! {
    use Code<archc_base::Binary>, archc_base::Binary, AllValues;

    const THREADS: usize = 256;

    /// `after(before(prelu(x * scale[col] + shift[col])) + residual)`; y may be x.
    pub struct Map {
        x: *const Stored,
        y: *mut Stored,
        /// float32 `[cols]`, 0 for none.
        scale: *const f32,
        shift: *const f32,
        /// float32, one a column or one for all.
        slope: *const f32,
        residual: *const Stored,
        rows: i32,
        cols: i32,
        x_stride: i32,
        y_stride: i32,
        residual_stride: i32,
        /// 1 or 0: what the column counts for in `slope`.
        slope_col: i32,
        before: Act,
        after: Act,
    }

    /// `after(before(a op b) + residual)`; y may be a. Row `i`, column `j` of b lies at
    /// `i / rows_each * b_outer + i % rows_each * b_row + j * b_col`.
    pub struct Binary {
        a: *const Stored,
        b: *const Stored,
        y: *mut Stored,
        residual: *const Stored,
        rows: i32,
        cols: i32,
        a_stride: i32,
        y_stride: i32,
        residual_stride: i32,
        rows_each: i32,
        b_outer: i32,
        b_row: i32,
        b_col: i32,
        op: Code<archc_base::Binary>,
        before: Act,
        after: Act,
    }

    /// As [`Binary`] for operands of any strides. Axes from the outermost; those beyond `rank` are not read.
    pub struct Broadcast {
        a: *const Stored,
        b: *const Stored,
        y: *mut Stored,
        residual: *const Stored,
        rank: i32,
        op: Code<archc_base::Binary>,
        shape: [i32; RANK],
        a_strides: [i32; RANK],
        b_strides: [i32; RANK],
        y_strides: [i32; RANK],
        residual_strides: [i32; RANK],
        before: Act,
        after: Act,
    }
}

impl Map {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        eights(Variant::stored("elementwise", dtype), "map", self.rows as usize, self.cols, THREADS)
    }
}

impl Binary {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        eights(Variant::stored("elementwise", dtype), "binary", self.rows as usize, self.cols, THREADS)
    }
}

impl Broadcast {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        strided(Variant::stored("elementwise", dtype), "broadcast", len(&self.shape, self.rank), THREADS)
    }
}
