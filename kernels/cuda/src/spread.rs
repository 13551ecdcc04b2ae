//! Repetitions of what was summed, sums over what was repeated, rows of tables.

use super::launch::{blocks, eights, len, plain, strided};
use super::{Dtype, Launch, RANK, Stored, Variant};

args! {
    const THREADS: usize = 256;

    /// `y = scale x`, x repeated where its strides are 0.
    pub struct Spread {
        x: *const Stored,
        y: *mut Stored,
        rank: i32,
        scale: f32,
        shape: [i32; RANK],
        x_strides: [i32; RANK],
        y_strides: [i32; RANK],
    }

    /// `y = scale x`, each row of x taken by `rows_each` rows of y.
    pub struct SpreadRows {
        x: *const Stored,
        y: *mut Stored,
        rows: i32,
        cols: i32,
        rows_each: i32,
        x_stride: i32,
        y_stride: i32,
        scale: f32,
    }

    /// The gradient of maxima over the inner axes; `d` and the maxima `y` are dense over the outer ones.
    pub struct MaxData {
        d: *const Stored,
        x: *const Stored,
        y: *const Stored,
        dx: *mut Stored,
        outer_rank: i32,
        inner_rank: i32,
        outer_shape: [i32; RANK],
        x_outer: [i32; RANK],
        dx_outer: [i32; RANK],
        inner_shape: [i32; RANK],
        x_inner: [i32; RANK],
        dx_inner: [i32; RANK],
    }

    /// Sums of `d`, times `x` where there is one, over the inner axes; [`SumTo::cut`] chooses the parts.
    pub struct SumTo {
        d: *const Stored,
        x: *const Stored,
        /// [`SumTo::partials`] floats.
        partials: *mut f32,
        outer_rank: i32,
        inner_rank: i32,
        outer_shape: [i32; RANK],
        d_outer: [i32; RANK],
        x_outer: [i32; RANK],
        inner_shape: [i32; RANK],
        d_inner: [i32; RANK],
        x_inner: [i32; RANK],
        /// Inner indices of a part.
        per: i32,
        reserved: i32,
    }

    /// Adds the parts of an [`SumTo`] into `y`, stored, or where that is 0 into `floats`.
    pub struct SumToEnd {
        partials: *const f32,
        y: *mut Stored,
        floats: *mut f32,
        parts: i32,
        outputs: i32,
    }

    /// Rows of a table, which is `d`, that `index` names; or, backward, rows of `d` added to the rows of a table. All dense and
    /// stored.
    pub struct Gather {
        d: *const Stored,
        index: *const Stored,
        y: *mut Stored,
        rows: i32,
        cols: i32,
        table: i32,
        reserved: i32,
    }
}

impl Spread {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        strided(Variant::stored("spread", dtype), "spread", len(&self.shape, self.rank), THREADS)
    }
}

impl SpreadRows {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        eights(Variant::stored("spread", dtype), "spread_rows", self.rows as usize, self.cols, THREADS)
    }
}

impl MaxData {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let grid = blocks(len(&self.outer_shape, self.outer_rank), 8);
        plain(Variant::stored("spread", dtype), "max_data", grid, [32, THREADS / 32])
    }
}

impl SumTo {
    fn outputs(&self) -> usize {
        len(&self.outer_shape, self.outer_rank)
    }

    fn inner(&self) -> usize {
        len(&self.inner_shape, self.inner_rank)
    }

    fn parts(&self) -> usize {
        self.inner().div_ceil(self.per as usize)
    }

    pub fn cut(&mut self, processors: usize) {
        let wanted = (4 * processors).div_ceil(self.outputs().div_ceil(32));
        let parts = wanted.min(self.inner().div_ceil(64)).clamp(1, 256);
        self.per = self.inner().div_ceil(parts) as i32;
    }

    pub fn partials(&self) -> usize {
        self.parts() * self.outputs()
    }

    pub fn launch(&self, dtype: Dtype) -> Launch {
        let variant = Variant::stored("spread", dtype);
        let stride = |strides: &[i32; RANK], rank: i32| if rank == 0 { 0 } else { strides[rank as usize - 1] };
        let along = stride(&self.d_inner, self.inner_rank) == 1;
        let beside = stride(&self.d_outer, self.outer_rank) == 1;
        let rows = along && !beside;
        let (kernel, each) = if rows { ("sum_to_rows", 8) } else { ("sum_to", 32) };
        let [x, ..] = blocks(self.outputs(), each);
        plain(variant, kernel, [x, self.parts() as u32, 1], [32, THREADS / 32])
    }

    /// The sum of the parts, stored or float32.
    pub fn end(&self, y: u64, floats: u64) -> SumToEnd {
        let (parts, outputs) = (self.parts() as i32, self.outputs() as i32);
        SumToEnd { partials: self.partials, y, floats, parts, outputs }
    }
}

impl SumToEnd {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        strided(Variant::stored("spread", dtype), "sum_to_end", self.outputs as usize, THREADS)
    }
}

impl Gather {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        strided(Variant::stored("spread", dtype), "gather", (self.rows * self.cols) as usize, THREADS)
    }

    pub fn launch_data(&self, dtype: Dtype) -> Launch {
        strided(Variant::stored("spread", dtype), "gather_data", (self.table * self.cols) as usize, THREADS)
    }
}
