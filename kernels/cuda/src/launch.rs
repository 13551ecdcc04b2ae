//! Launches of everything but convolutions.

use super::{
    Attention, Binary, Broadcast, Copy_, Depthwise, Dropout, Dtype, Excitation, Fill, GroupNorm, Launch, LinearRows,
    Map, Matmul, Pool, RANK, Reduce, Resize, Rows, Sums, Variant,
};

pub(super) fn blocks(threads: usize, each: usize) -> [u32; 3] {
    [threads.div_ceil(each).max(1) as u32, 1, 1]
}

pub(super) const THREADS: usize = 256;

/// A grid of at most so many blocks; the kernels that go on in strides of the grid are meant.
pub(super) fn strided(variant: Variant, kernel: &'static str, work: usize) -> Launch {
    let [x, ..] = blocks(work, THREADS);
    Launch { variant, kernel, grid: [x.min(1 << 16), 1, 1], block: [THREADS as u32, 1, 1], shared: 0 }
}

impl LinearRows {
    pub const MOST: usize = 8;

    pub fn launch(&self, dtype: Dtype) -> Launch {
        let grid = blocks(self.outputs as usize, 8);
        Launch {
            variant: Variant::stored("linear_rows", dtype),
            kernel: "linear_rows",
            grid,
            block: [256, 1, 1],
            shared: 0,
        }
    }
}

impl Sums {
    /// Pixels of a convolution's part; those of all images count on, so that an image's first and last may have fewer.
    pub const PART: i32 = 16;

    pub(super) fn dist(channels: i32) -> i32 {
        (channels + 3) / 4 * 4
    }

    /// Floats for so many images.
    pub fn floats(&self, n: usize) -> usize {
        n * self.parts as usize * self.dist as usize
    }
}

impl Depthwise {
    /// Leaves sums besides, which have an address when `sums.at` is set.
    #[must_use]
    pub fn with_sums(self) -> Depthwise {
        let vectors = (self.c + 7) / 8;
        // as many in each group, a warp's at most
        let beside = (vectors + (vectors + 31) / 32 - 1) / ((vectors + 31) / 32);
        let strips = self.out_height * ((self.out_width + Depthwise::STRIP as i32 - 1) / Depthwise::STRIP as i32);
        let deep = THREADS as i32 / beside;
        let sums = Sums { at: 0, parts: (strips + deep - 1) / deep, dist: Sums::dist(self.c) };
        Depthwise { sums, beside, ..self }
    }

    pub fn launch(&self, dtype: Dtype) -> Launch {
        let same = |pairs: [[i32; 2]; 3]| pairs.iter().all(|[a, b]| a == b);
        let square =
            same([[self.r, self.s], [self.stride_h, self.stride_w], [self.dilation_h, 1]]) && self.dilation_w == 1;
        let kernel = match (self.r, self.stride_h) {
            (3, 1) if square => "depthwise_3x3",
            (3, 2) if square => "depthwise_3x3_by_2",
            (5, 1) if square => "depthwise_5x5",
            (5, 2) if square => "depthwise_5x5_by_2",
            _ => "depthwise",
        };
        let (variant, vectors) = (Variant::stored("depthwise", dtype), (self.c as usize).div_ceil(8));
        if self.sums.at != 0 {
            let blocks = self.n as usize * vectors.div_ceil(self.beside as usize) * self.sums.parts as usize;
            return Launch { variant, kernel, grid: [blocks as u32, 1, 1], block: [THREADS as u32, 1, 1], shared: 0 };
        }
        let strips = self.n as usize * self.out_height as usize * (self.out_width as usize).div_ceil(Depthwise::STRIP);
        strided(variant, kernel, strips * vectors)
    }

    /// Neighbouring outputs of a thread.
    const STRIP: usize = 4;
}

impl Excitation {
    /// What of channels and hidden values together a block has room for.
    pub const MOST_WIDTH: usize = 4096;
    const MOST_SAMPLES: usize = 4;

    /// Spreads it over so many multiprocessors.
    pub fn launch(&mut self, dtype: Dtype, processors: usize) -> Launch {
        let n = self.n as usize;
        let samples = n.div_ceil(processors).clamp(1, Excitation::MOST_SAMPLES);
        let groups = n.div_ceil(samples);
        // every block computes the hidden values anew: with fewer outputs that is most of what it does
        let chunks = (processors / groups).clamp(1, (self.k as usize).div_ceil(64));
        let chunk = (self.k as usize).div_ceil(chunks).next_multiple_of(8);
        (self.samples, self.chunk) = (samples as i32, chunk as i32);
        let whole = |len: i32| (len as usize).next_multiple_of(8);
        let floats = if self.maps == 0 { 0 } else { samples * (whole(self.c) + whole(self.hidden)) };
        let grid = [(groups * (self.k as usize).div_ceil(chunk)) as u32, 1, 1];
        let variant = Variant::stored("excitation", dtype);
        Launch { variant, kernel: "excitation", grid, block: [512, 1, 1], shared: 4 * floats as u32 }
    }
}

impl Pool {
    pub const MAX: i32 = 0;
    /// Padding counts.
    pub const MEAN: i32 = 1;
    /// Padding does not count.
    pub const MEAN_INSIDE: i32 = 2;

    pub fn launch(&self, dtype: Dtype) -> Launch {
        let pixels = self.n as usize * self.out_height as usize * self.out_width as usize;
        strided(Variant::stored("pool", dtype), "pool", pixels * (self.c as usize).div_ceil(8))
    }
}

impl Resize {
    pub const NEAREST: i32 = 0;
    pub const BILINEAR: i32 = 1;
    pub const BICUBIC: i32 = 2;

    pub fn launch(&self, dtype: Dtype) -> Launch {
        let pixels = self.n as usize * self.out_height as usize * self.out_width as usize;
        strided(Variant::stored("resize", dtype), "resize", pixels * (self.c as usize).div_ceil(8))
    }
}

impl Map {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let work = self.rows as usize * (self.cols as usize).div_ceil(8);
        strided(Variant::stored("elementwise", dtype), "map", work)
    }
}

impl Binary {
    pub const ADD: i32 = 0;
    pub const SUB: i32 = 1;
    /// `b - a`
    pub const SUB_FROM: i32 = 2;
    pub const MUL: i32 = 3;

    pub fn launch(&self, dtype: Dtype) -> Launch {
        let work = self.rows as usize * (self.cols as usize).div_ceil(8);
        strided(Variant::stored("elementwise", dtype), "binary", work)
    }
}

pub(super) fn len(shape: &[i32; RANK], rank: i32) -> usize {
    shape[..rank as usize].iter().map(|len| *len as usize).product()
}

impl Broadcast {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        strided(Variant::stored("elementwise", dtype), "broadcast", len(&self.shape, self.rank))
    }
}

pub(super) fn copy_variant(from: Dtype, to: Dtype) -> Variant {
    let (from, to) = (from.stored().name(), to.stored().name());
    Variant { file: "copy", defines: vec![("DTYPE", from.into()), ("TO", to.into())] }
}

impl Copy_ {
    /// Axes may come in any order; the copy goes through them by y's distances, largest first, and joins neighbours.
    pub fn launch(&mut self, from: Dtype, to: Dtype) -> Launch {
        self.tidy();
        let variant = copy_variant(from, to);
        let rank = self.rank as usize;
        // where x runs along another axis than y
        let inner = (0..rank).find(|axis| self.x_strides[*axis] == 1).filter(|axis| *axis + 1 < rank);
        let Some(inner) = inner.filter(|axis| self.shape[*axis] >= 8) else {
            return strided(variant, "copy", len(&self.shape, self.rank));
        };
        self.swap_to_second(inner);
        if self.shape[rank - 1] < 8 {
            return strided(variant, "copy_few", len(&self.shape, self.rank - 1));
        }
        let tiles = |axis: usize| (self.shape[axis] as usize).div_ceil(32);
        let count = tiles(rank - 2) * tiles(rank - 1) * len(&self.shape, self.rank - 2);
        Launch { variant, kernel: "copy_tiles", grid: [count as u32, 1, 1], block: [32, 8, 1], shared: 0 }
    }

    /// [`Copy_::launch`] that also sets `zeros` numbers after those of y's last axis to 0; none where it would be another
    /// kernel than the one that can.
    pub fn launch_with_zeros(&mut self, from: Dtype, to: Dtype, zeros: usize) -> Option<Launch> {
        let launch = self.launch(from, to);
        if launch.kernel != "copy_few" || self.y_strides[self.rank as usize - 1] != 1 {
            return None;
        }
        self.zeros = zeros as i32;
        Some(launch)
    }

    /// Sorts axes by y's distances and joins those that are one.
    fn tidy(&mut self) {
        let mut axes: Vec<[i32; 3]> = (0..self.rank as usize)
            .map(|axis| [self.shape[axis], self.x_strides[axis], self.y_strides[axis]])
            .filter(|[len, ..]| *len != 1)
            .collect();
        axes.sort_by_key(|[_, _, y]| std::cmp::Reverse(*y));
        let mut joined: Vec<[i32; 3]> = vec![];
        for [len, x, y] in axes {
            match joined.last_mut() {
                Some(last) if last[1] == x * len && last[2] == y * len => *last = [last[0] * len, x, y],
                _ => joined.push([len, x, y]),
            }
        }
        if joined.is_empty() {
            joined.push([1, 1, 1]);
        }
        self.rank = joined.len() as i32;
        for (axis, [len, x, y]) in joined.into_iter().enumerate() {
            (self.shape[axis], self.x_strides[axis], self.y_strides[axis]) = (len, x, y);
        }
    }

    /// Moves an axis to the last place but one; the others keep their order.
    fn swap_to_second(&mut self, axis: usize) {
        let second = self.rank as usize - 2;
        for values in [&mut self.shape, &mut self.x_strides, &mut self.y_strides] {
            values[axis..=second].rotate_left(1);
        }
    }
}

impl Fill {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        strided(Variant::stored("fill", dtype), "fill", len(&self.shape, self.rank))
    }
}

impl Rows {
    /// Of `layer_norm`, `normalize`, `softmax` or `log_softmax`.
    pub fn launch(&self, dtype: Dtype, kernel: &'static str) -> Launch {
        // a warp a row, or a block a row
        let (threads, rows) = if self.cols <= 1024 { (128, 4) } else { (256, 1) };
        let grid = blocks(self.rows as usize, rows);
        Launch { variant: Variant::stored("rows", dtype), kernel, grid, block: [32, threads / 32, 1], shared: 0 }
    }
}

impl GroupNorm {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let variant = Variant::stored("group_norm", dtype);
        let grid = [(self.groups * self.n) as u32, 1, 1];
        Launch { variant, kernel: "group_norm", grid, block: [256, 1, 1], shared: 0 }
    }
}

impl Reduce {
    pub const MEAN: i32 = 0;
    pub const MAX: i32 = 1;

    pub fn launch(&self, dtype: Dtype) -> Launch {
        let outputs = len(&self.outer_shape, self.outer_rank);
        let variant = Variant::stored("reduce", dtype);
        let stride = |strides: &[i32; RANK], rank: i32| if rank == 0 { 0 } else { strides[rank as usize - 1] };
        let along = stride(&self.inner_strides, self.inner_rank) == 1;
        let beside = stride(&self.outer_strides, self.outer_rank) == 1;
        if along && !beside {
            return Launch { variant, kernel: "reduce_rows", grid: blocks(outputs, 8), block: [32, 8, 1], shared: 0 };
        }
        Launch { variant, kernel: "reduce_columns", grid: blocks(outputs, 32), block: [32, 8, 1], shared: 0 }
    }
}

impl Matmul {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let tiles: usize = [self.m, self.n].iter().map(|len| (*len as usize).div_ceil(64)).product();
        let grid = [(tiles * len(&self.shape, self.rank)) as u32, 1, 1];
        Launch { variant: Variant::stored("matmul", dtype), kernel: "matmul", grid, block: [256, 1, 1], shared: 0 }
    }
}

pub(super) fn attention_variant(dtype: Dtype, dim: usize) -> Variant {
    let mut variant = Variant::stored("attention", dtype);
    variant.defines.push(("DIM", dim.to_string()));
    variant
}

impl Attention {
    pub const MOST_DIM: usize = 256;
    pub(super) const DIMS: [usize; 4] = [32, 64, 128, 256];

    /// # Panics
    /// If `dim` is above [`Attention::MOST_DIM`].
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let dim =
            *Attention::DIMS.iter().find(|dim| **dim >= self.dim as usize).expect("heads of at most 256 channels");
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
        let variant = attention_variant(dtype, dim);
        Launch { variant, kernel: "attention", grid, block: [128, 1, 1], shared: shared as u32 }
    }
}

impl Dropout {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let work = self.rows as usize * (self.cols as usize).div_ceil(8);
        strided(Variant::stored("dropout", dtype), "dropout", work)
    }
}
