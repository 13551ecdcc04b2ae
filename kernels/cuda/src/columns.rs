//! Sums over the rows of a matrix, and what is made of them.

use super::launch::{blocks, columns, plain};
use super::{Dtype, Launch, Stored, Variant};

codes! {
    /// What the sums of columns come to.
    pub enum ColumnMode {
        Plain,
        Statistics,
        Norm,
        /// One slope for all columns.
        Slope,
    }
}

args! {
    use ColumnMode;

    const THREADS: usize = 256;

    /// Sums over the rows of `d`, or of `x` for statistics; [`Columns::cut`] chooses the parts.
    pub struct Columns {
        d: *const Stored,
        x: *const Stored,
        /// [`Columns::partials`] floats.
        partials: *mut f32,
        /// float32 `[2][cols]`, `[cols]`, `[cols]`, of a batch norm.
        stats: *const f32,
        weight: *const f32,
        bias: *const f32,
        /// float32: mean and 1 / standard deviation of each group of `size` columns of `rows_each` rows.
        moments: *const f32,
        rows: i32,
        cols: i32,
        d_stride: i32,
        x_stride: i32,
        rows_each: i32,
        groups: i32,
        size: i32,
        relu: i32,
        eps: f32,
        /// Rows of a part.
        per: i32,
    }

    /// What the parts of [`Columns`] come to, float32.
    pub struct ColumnEnd {
        partials: *const f32,
        /// `[cols]`, or `[2][cols]`.
        y: *mut f32,
        /// The first row, for statistics.
        x: *const Stored,
        stats: *const f32,
        parts: i32,
        kinds: i32,
        cols: i32,
        mode: ColumnMode,
        /// In all.
        rows: i32,
        eps: f32,
    }

    /// Moves running statistics towards those of a batch.
    pub struct Running {
        stats: *const f32,
        mean: *mut f32,
        variance: *mut f32,
        channels: i32,
        momentum: f32,
        /// What makes a biased variance an unbiased one.
        unbiased: f32,
        reserved: i32,
    }
}

impl Columns {
    pub fn cut(&mut self, processors: usize) {
        let [_, beside, chunks] = columns(self.cols, THREADS);
        let rows = self.rows as usize;
        let parts = (4 * processors).div_ceil(chunks).min(rows.div_ceil(4 * beside)).clamp(1, 1024);
        self.per = rows.div_ceil(parts) as i32;
    }

    fn parts(&self) -> usize {
        (self.rows as usize).div_ceil(self.per as usize)
    }

    pub fn partials(&self, kinds: usize) -> usize {
        self.parts() * kinds * self.cols as usize
    }

    /// Of `sums`, `statistics`, `norm_sums`, `normed_sums` or `slope_sums`.
    pub fn launch(&self, dtype: Dtype, kernel: &'static str) -> Launch {
        let [across, beside, chunks] = columns(self.cols, THREADS);
        let grid = [chunks as u32, self.parts() as u32, 1];
        plain(Variant::stored("columns", dtype), kernel, grid, [across, beside])
    }

    pub fn end(&self, y: u64, kinds: usize, mode: ColumnMode) -> ColumnEnd {
        ColumnEnd {
            partials: self.partials,
            y,
            x: self.x,
            stats: self.stats,
            parts: self.parts() as i32,
            kinds: kinds as i32,
            cols: self.cols,
            mode,
            rows: self.rows,
            eps: self.eps,
        }
    }
}

impl ColumnEnd {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let variant = Variant::stored("columns", dtype);
        if self.mode == ColumnMode::Slope {
            return plain(variant, "slope_end", [1; 3], [THREADS, 1]);
        }
        let grid = blocks(self.cols as usize, 32);
        plain(variant, "column_end", grid, [32, THREADS / 32])
    }
}

impl Running {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let variant = Variant::stored("columns", dtype);
        plain(variant, "running", blocks(self.channels as usize, THREADS), [THREADS, 1])
    }
}
