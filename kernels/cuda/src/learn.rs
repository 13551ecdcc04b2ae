//! What training adds: derivatives, and sums over a batch.

use super::launch::{THREADS, blocks, len, strided};
use super::{Act, Args, Depthwise, Dtype, Launch, RANK, Variant};

/// Kernels whose numbers are float32 whatever is stored.
const FLOATS: [&str; 2] = ["weight_end", "update"];

const STORED: [&str; 10] = [
    "depthwise_grad",
    "columns",
    "batch_norm",
    "act_data",
    "rows_data",
    "group_norm_data",
    "pool_data",
    "resize_data",
    "spread",
    "loss",
];

pub(super) fn variants() -> Vec<Variant> {
    let mut all: Vec<Variant> = FLOATS.map(|file| Variant::stored(file, Dtype::F32)).into();
    for dtype in Dtype::STORED {
        all.extend(STORED.map(|file| Variant::stored(file, dtype)));
        let vector = dtype.vector();
        all.push(weight_variant(dtype, WeightTile::SMALL, vector));
        all.push(weight_variant(dtype, WeightTile::SMALL, 1));
        if dtype.size() == 2 {
            all.push(weight_variant(dtype, WeightTile::LARGE, vector));
            all.push(weight_variant(dtype, WeightTile::SMALL, 4));
        }
    }
    all
}

/// A tile of `conv_weight`: channels of dy x columns, and into how many warps it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WeightTile {
    side: usize,
    warps: [usize; 2],
}

impl WeightTile {
    const SMALL: WeightTile = WeightTile { side: 64, warps: [2, 2] };
    const LARGE: WeightTile = WeightTile { side: 128, warps: [2, 4] };
}

fn weight_variant(dtype: Dtype, tile: WeightTile, vec: usize) -> Variant {
    let mut variant = Variant::stored("conv_weight", dtype);
    let defines =
        [("BM", tile.side), ("BN", tile.side), ("WARPS_M", tile.warps[0]), ("WARPS_N", tile.warps[1]), ("VEC", vec)];
    variant.defines.extend(defines.map(|(name, value)| (name, value.to_string())));
    variant
}

args! {
    /// The derivative of a convolution's weights, or of a linear map's (of rows that are images of one pixel). `c` and `k` are
    /// the channels of a group. [`ConvWeight::cut`] chooses the parts.
    ConvWeight {
        x: u64,
        dy: u64,
        /// [`ConvWeight::partials`] floats.
        partials: u64,
        n: i32,
        height: i32,
        width: i32,
        c: i32,
        k: i32,
        groups: i32,
        r: i32,
        s: i32,
        out_height: i32,
        out_width: i32,
        stride_h: i32,
        stride_w: i32,
        pad_h: i32,
        pad_w: i32,
        dilation_h: i32,
        dilation_w: i32,
        x_dist: i32,
        dy_dist: i32,
        /// Pixels of a part; of a depthwise convolution lines.
        per: i32,
        reserved: i32,
    }
}

args! {
    /// Adds the parts of a [`ConvWeight`] into `dw`, `[k][c][taps]`, float32.
    WeightEnd {
        partials: u64,
        dw: u64,
        splits: i32,
        k: i32,
        c: i32,
        wide: i32,
        taps: i32,
        depthwise: i32,
    }
}

impl ConvWeight {
    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.c == 1 && self.k == 1
    }

    /// How many channels a load takes.
    fn vec(&self, dtype: Dtype) -> usize {
        let fits = |vec: usize| {
            let both = [(self.x, self.x_dist, self.c), (self.dy, self.dy_dist, self.k)];
            both.iter().all(|(at, dist, channels)| {
                (*at as usize).is_multiple_of(vec * dtype.size())
                    && (*dist as usize).is_multiple_of(vec)
                    && (self.groups == 1 || (*channels as usize).is_multiple_of(vec))
            })
        };
        match dtype.size() {
            2 if fits(8) && (self.c > 4 || !fits(4)) => 8,
            2 if fits(4) => 4,
            4 if fits(4) => 4,
            _ => 1,
        }
    }

    fn wide(&self, dtype: Dtype) -> usize {
        if self.is_depthwise() { 1 } else { (self.c as usize).next_multiple_of(self.vec(dtype)) }
    }

    fn taps(&self) -> usize {
        (self.r * self.s) as usize
    }

    fn tile(&self, dtype: Dtype) -> WeightTile {
        let columns = self.taps() * self.wide(dtype);
        let large = dtype.size() == 2 && self.vec(dtype) == 8 && self.k >= 128 && columns >= 128;
        if large { WeightTile::LARGE } else { WeightTile::SMALL }
    }

    fn tiles(&self, dtype: Dtype) -> usize {
        let side = self.tile(dtype).side;
        (self.k as usize).div_ceil(side) * (self.taps() * self.wide(dtype)).div_ceil(side) * self.groups as usize
    }

    /// Lines of dy where each channel has its filter, else pixels.
    fn depth(&self) -> usize {
        let lines = self.n as usize * self.out_height as usize;
        if self.is_depthwise() { lines } else { lines * self.out_width as usize }
    }

    /// Threads of a block of `depthwise_weight` beside each other, and blocks.
    fn across(&self) -> [usize; 2] {
        let vectors = (self.groups as usize).div_ceil(8);
        let across = vectors.next_power_of_two().min(32);
        [across, vectors.div_ceil(across)]
    }

    /// Floats of a part.
    fn each(&self, dtype: Dtype) -> usize {
        (self.groups * self.k) as usize * self.taps() * self.wide(dtype)
    }

    /// Cuts the depth into parts for a device of so many multiprocessors.
    pub fn cut(&mut self, dtype: Dtype, processors: usize) {
        let (blocks, least) = match self.is_depthwise() {
            true => (self.across()[1] * self.r as usize, 1),
            // some steps each
            false => (self.tiles(dtype), 8 * 32),
        };
        // parts that are read again cost time and room
        let most = ((64 << 20) / self.each(dtype).max(1)).clamp(1, 256);
        let parts = (2 * processors).div_ceil(blocks).min(self.depth() / least).clamp(1, most);
        self.per = self.depth().div_ceil(parts) as i32;
    }

    fn splits(&self) -> usize {
        self.depth().div_ceil(self.per as usize)
    }

    /// How many floats the partial sums take.
    pub fn partials(&self, dtype: Dtype) -> usize {
        self.splits() * self.each(dtype)
    }

    pub fn launch(&self, dtype: Dtype) -> Launch {
        if self.is_depthwise() {
            let [across, chunks] = self.across();
            let grid = [chunks as u32, self.r as u32, self.splits() as u32];
            let block = [across as u32, (THREADS / across) as u32, 1];
            let variant = Variant::stored("depthwise_grad", dtype);
            return Launch { variant, kernel: "depthwise_weight", grid, block, shared: 0 };
        }
        let tile = self.tile(dtype);
        let depth = if dtype.size() == 2 { 32 } else { 16 };
        Launch {
            variant: weight_variant(dtype, tile, self.vec(dtype)),
            kernel: "conv_weight",
            grid: [self.tiles(dtype) as u32, self.splits() as u32, 1],
            block: [(tile.warps[0] * tile.warps[1] * 32) as u32, 1, 1],
            shared: (3 * depth * 2 * tile.side * dtype.size()) as u32,
        }
    }

    /// The sum of the parts into `dw`.
    pub fn end(&self, dtype: Dtype, dw: u64) -> WeightEnd {
        let depthwise = self.is_depthwise();
        WeightEnd {
            partials: self.partials,
            dw,
            splits: self.splits() as i32,
            k: self.groups * self.k,
            c: if depthwise { 1 } else { self.c },
            wide: self.wide(dtype) as i32,
            taps: self.taps() as i32,
            depthwise: depthwise.into(),
        }
    }
}

impl WeightEnd {
    pub fn launch(&self) -> Launch {
        let work = (self.k * self.taps * self.wide) as usize;
        strided(Variant::stored("weight_end", Dtype::F32), "weight_end", work)
    }
}

impl Depthwise {
    /// As the derivative by what was read: `x` is dy, `y` is dx, the window that of the forward pass.
    pub fn launch_data(&self, dtype: Dtype) -> Launch {
        let pixels = self.n as usize * self.out_height as usize * self.out_width as usize;
        strided(Variant::stored("depthwise_grad", dtype), "depthwise_data", pixels * (self.c as usize).div_ceil(8))
    }
}

/// Threads beside each other, below each other, and blocks beside each other, for eight columns a thread.
fn columns(cols: i32) -> [usize; 3] {
    let vectors = (cols as usize).div_ceil(8);
    let across = vectors.next_power_of_two().min(32);
    [across, THREADS / across, vectors.div_ceil(across)]
}

args! {
    /// Sums over the rows of `d`, or of `x` for statistics; [`Columns::cut`] chooses the parts.
    Columns {
        d: u64,
        x: u64,
        /// [`Columns::partials`] floats.
        partials: u64,
        /// float32 `[2][cols]`, `[cols]`, `[cols]`, of a batch norm.
        stats: u64,
        weight: u64,
        bias: u64,
        /// float32: mean and 1 / standard deviation of each group of `size` columns of `rows_each` rows.
        moments: u64,
        rows: i32,
        cols: i32,
        d_dist: i32,
        x_dist: i32,
        rows_each: i32,
        groups: i32,
        size: i32,
        relu: i32,
        eps: f32,
        per: i32,
    }
}

args! {
    /// What the parts of [`Columns`] come to, float32.
    ColumnEnd {
        partials: u64,
        y: u64,
        x: u64,
        stats: u64,
        parts: i32,
        kinds: i32,
        cols: i32,
        /// [`ColumnEnd::PLAIN`], ..
        mode: i32,
        rows: i32,
        eps: f32,
    }
}

impl Columns {
    pub fn cut(&mut self, processors: usize) {
        let [_, beside, chunks] = columns(self.cols);
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
        let [across, beside, chunks] = columns(self.cols);
        let grid = [chunks as u32, self.parts() as u32, 1];
        let block = [across as u32, beside as u32, 1];
        Launch { variant: Variant::stored("columns", dtype), kernel, grid, block, shared: 0 }
    }

    pub fn end(&self, y: u64, kinds: usize, mode: i32) -> ColumnEnd {
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
    pub const PLAIN: i32 = 0;
    pub const STATISTICS: i32 = 1;
    pub const NORM: i32 = 2;
    /// One slope for all columns.
    pub const SLOPE: i32 = 3;

    pub fn launch(&self, dtype: Dtype) -> Launch {
        let variant = Variant::stored("columns", dtype);
        if self.mode == ColumnEnd::SLOPE {
            return Launch { variant, kernel: "slope_end", grid: [1; 3], block: [256, 1, 1], shared: 0 };
        }
        let grid = blocks(self.cols as usize, 32);
        Launch { variant, kernel: "column_end", grid, block: [32, 8, 1], shared: 0 }
    }
}

args! {
    /// Moves running statistics towards those of a batch.
    Running {
        stats: u64,
        mean: u64,
        variance: u64,
        channels: i32,
        momentum: f32,
        /// What makes a biased variance an unbiased one.
        unbiased: f32,
        reserved: i32,
    }
}

impl Running {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let variant = Variant::stored("columns", dtype);
        Launch {
            variant,
            kernel: "running",
            grid: blocks(self.channels as usize, THREADS),
            block: [256, 1, 1],
            shared: 0,
        }
    }
}

args! {
    /// `after((x - mean) rstd weight + bias + residual)`; y may be x.
    BatchNorm {
        x: u64,
        y: u64,
        residual: u64,
        stats: u64,
        weight: u64,
        bias: u64,
        rows: i32,
        cols: i32,
        x_dist: i32,
        y_dist: i32,
        residual_dist: i32,
        eps: f32,
        after: Act,
        reserved: i32,
    }
}

args! {
    /// The derivative of a batch norm by x; dx may be d. `sums` are those of `norm_sums`.
    BatchNormData {
        d: u64,
        x: u64,
        dx: u64,
        stats: u64,
        weight: u64,
        bias: u64,
        sums: u64,
        rows: i32,
        cols: i32,
        d_dist: i32,
        x_dist: i32,
        dx_dist: i32,
        relu: i32,
        eps: f32,
        reserved: i32,
    }
}

fn down(dtype: Dtype, kernel: &'static str, rows: i32, cols: i32) -> Launch {
    let [across, beside, chunks] = columns(cols);
    let grid = [chunks as u32, (rows as usize).div_ceil(4 * beside).clamp(1, 4096) as u32, 1];
    let block = [across as u32, beside as u32, 1];
    Launch { variant: Variant::stored("batch_norm", dtype), kernel, grid, block, shared: 0 }
}

impl BatchNorm {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        down(dtype, "batch_norm", self.rows, self.cols)
    }
}

impl BatchNormData {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        down(dtype, "batch_norm_data", self.rows, self.cols)
    }
}

args! {
    /// The derivative of a function of one value; dx may be d.
    ActData {
        d: u64,
        seen: u64,
        dx: u64,
        slope: u64,
        rows: i32,
        cols: i32,
        d_dist: i32,
        seen_dist: i32,
        dx_dist: i32,
        slope_col: i32,
        act: Act,
        reserved: i32,
    }
}

impl ActData {
    /// Of `act_data` or `prelu_data`.
    pub fn launch(&self, dtype: Dtype, kernel: &'static str) -> Launch {
        let work = self.rows as usize * (self.cols as usize).div_ceil(8);
        strided(Variant::stored("act_data", dtype), kernel, work)
    }
}

args! {
    /// Each row by itself; dx may be d.
    RowsData {
        d: u64,
        seen: u64,
        dx: u64,
        weight: u64,
        moments: u64,
        rows: i32,
        cols: i32,
        d_dist: i32,
        seen_dist: i32,
        dx_dist: i32,
        eps: f32,
    }
}

impl RowsData {
    /// Of one of the file's kernels.
    pub fn launch(&self, dtype: Dtype, kernel: &'static str) -> Launch {
        let grid = blocks(self.rows as usize, 8);
        Launch { variant: Variant::stored("rows_data", dtype), kernel, grid, block: [32, 8, 1], shared: 0 }
    }
}

args! {
    /// A group norm's derivative, or its moments: a pair for each group of each image.
    GroupNormData {
        d: u64,
        x: u64,
        dx: u64,
        weight: u64,
        moments: u64,
        n: i32,
        pixels: i32,
        c: i32,
        groups: i32,
        d_dist: i32,
        x_dist: i32,
        dx_dist: i32,
        eps: f32,
    }
}

impl GroupNormData {
    /// Of `group_moments` or `group_norm_data`.
    pub fn launch(&self, dtype: Dtype, kernel: &'static str) -> Launch {
        let grid = [(self.groups * self.n) as u32, 1, 1];
        Launch { variant: Variant::stored("group_norm_data", dtype), kernel, grid, block: [256, 1, 1], shared: 0 }
    }
}

args! {
    /// As [`Pool`](super::Pool), of which it is the derivative.
    PoolData {
        x: u64,
        d: u64,
        dx: u64,
        n: i32,
        height: i32,
        width: i32,
        c: i32,
        r: i32,
        s: i32,
        out_height: i32,
        out_width: i32,
        stride_h: i32,
        stride_w: i32,
        pad_top: i32,
        pad_left: i32,
        pad_bottom: i32,
        pad_right: i32,
        dilation_h: i32,
        dilation_w: i32,
        x_dist: i32,
        d_dist: i32,
        dx_dist: i32,
        mode: i32,
        adaptive: i32,
    }
}

fn inputs(n: i32, height: i32, width: i32, c: i32) -> usize {
    n as usize * height as usize * width as usize * (c as usize).div_ceil(8)
}

impl PoolData {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let work = inputs(self.n, self.height, self.width, self.c);
        strided(Variant::stored("pool_data", dtype), "pool_data", work)
    }
}

args! {
    /// As [`Resize`](super::Resize), of which it is the derivative: `d` is of its output, `dx` of its input.
    ResizeData {
        d: u64,
        dx: u64,
        ratio_h: f64,
        ratio_w: f64,
        n: i32,
        height: i32,
        width: i32,
        c: i32,
        out_height: i32,
        out_width: i32,
        d_dist: i32,
        dx_dist: i32,
        mode: i32,
        reserved: i32,
    }
}

impl ResizeData {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let work = inputs(self.n, self.height, self.width, self.c);
        strided(Variant::stored("resize_data", dtype), "resize_data", work)
    }
}

args! {
    /// `y = scale x`, x repeated where its strides are 0.
    Spread {
        x: u64,
        y: u64,
        rank: i32,
        scale: f32,
        shape: [i32; RANK],
        x_strides: [i32; RANK],
        y_strides: [i32; RANK],
    }
}

args! {
    /// `y = scale x`, each row of x taken by `rows_each` rows of y.
    SpreadRows {
        x: u64,
        y: u64,
        rows: i32,
        cols: i32,
        rows_each: i32,
        x_dist: i32,
        y_dist: i32,
        scale: f32,
    }
}

args! {
    /// The derivative of maxima over the inner axes; `d` and the maxima `y` are dense over the outer ones.
    MaxData {
        d: u64,
        x: u64,
        y: u64,
        dx: u64,
        outer_rank: i32,
        inner_rank: i32,
        outer_shape: [i32; RANK],
        x_outer: [i32; RANK],
        dx_outer: [i32; RANK],
        inner_shape: [i32; RANK],
        x_inner: [i32; RANK],
        dx_inner: [i32; RANK],
    }
}

args! {
    /// Sums of `d`, times `x` where there is one, over the inner axes; [`Unstretch::cut`] chooses the parts.
    Unstretch {
        d: u64,
        x: u64,
        /// [`Unstretch::partials`] floats.
        partials: u64,
        outer_rank: i32,
        inner_rank: i32,
        outer_shape: [i32; RANK],
        d_outer: [i32; RANK],
        x_outer: [i32; RANK],
        inner_shape: [i32; RANK],
        d_inner: [i32; RANK],
        x_inner: [i32; RANK],
        per: i32,
        reserved: i32,
    }
}

args! {
    /// Adds the parts of an [`Unstretch`] into `y`, stored, or where that is 0 into `floats`.
    UnstretchEnd {
        partials: u64,
        y: u64,
        floats: u64,
        parts: i32,
        outputs: i32,
    }
}

args! {
    /// Rows of a table, which is `d`, that `index` names; or, backward, rows of `d` added to the rows of a table. All dense and
    /// stored.
    Gather {
        d: u64,
        index: u64,
        y: u64,
        rows: i32,
        cols: i32,
        table: i32,
        reserved: i32,
    }
}

impl Spread {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        strided(Variant::stored("spread", dtype), "spread", len(&self.shape, self.rank))
    }
}

impl SpreadRows {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let work = self.rows as usize * (self.cols as usize).div_ceil(8);
        strided(Variant::stored("spread", dtype), "spread_rows", work)
    }
}

impl MaxData {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let grid = blocks(len(&self.outer_shape, self.outer_rank), 8);
        Launch { variant: Variant::stored("spread", dtype), kernel: "max_data", grid, block: [32, 8, 1], shared: 0 }
    }
}

impl Unstretch {
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
        let (kernel, each) = if rows { ("unstretch_rows", 8) } else { ("unstretch", 32) };
        let [x, ..] = blocks(self.outputs(), each);
        Launch { variant, kernel, grid: [x, self.parts() as u32, 1], block: [32, 8, 1], shared: 0 }
    }

    /// The sum of the parts, stored or float32.
    pub fn end(&self, y: u64, floats: u64) -> UnstretchEnd {
        let (parts, outputs) = (self.parts() as i32, self.outputs() as i32);
        UnstretchEnd { partials: self.partials, y, floats, parts, outputs }
    }
}

impl UnstretchEnd {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        strided(Variant::stored("spread", dtype), "unstretch_end", self.outputs as usize)
    }
}

impl Gather {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        strided(Variant::stored("spread", dtype), "gather", (self.rows * self.cols) as usize)
    }

    pub fn launch_data(&self, dtype: Dtype) -> Launch {
        strided(Variant::stored("spread", dtype), "gather_data", (self.table * self.cols) as usize)
    }
}
