//! Images multiplied by banded matrices.

use super::launch::eights;
use super::{Dtype, Launch, Stored, Variant};

args! {
    const THREADS: usize = 256;

    /// `y = rows x columns^T` of every channel. Of each matrix there are its runs, two numbers for each output: the first input,
    /// and where its weights begin; behind the last output a line that says where they end.
    pub struct Banded {
        x: *const Stored,
        y: *mut Stored,
        rows: *const u32,
        row_weights: *const f32,
        columns: *const u32,
        column_weights: *const f32,
        n: i32,
        height: i32,
        width: i32,
        c: i32,
        out_height: i32,
        out_width: i32,
        x_stride: i32,
        y_stride: i32,
    }
}

impl Banded {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let pixels = self.n as usize * self.out_height as usize * self.out_width as usize;
        eights(Variant::stored("banded", dtype), "banded", pixels, self.c, THREADS)
    }
}
