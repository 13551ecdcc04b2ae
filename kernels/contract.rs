//! The contract between kernels/*.cu and whoever launches them: which variants of which files there are, what each kernel
//! takes, how it is launched. README.md beside this file says the same in words.
//!
//! Every kernel takes one struct by value, whose twin in C++ stands at the head of the kernel's file. Addresses are device
//! addresses as numbers, 0 for none; lengths and distances count elements. This file needs nothing but `std`: the runtime,
//! the emulator's build and the compile check all include it.

/// What values are stored as and multiplied in; sums are float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    F32,
    /// float32 in memory; operands of matrix products are rounded to 10 bits.
    Tf32,
    Bf16,
    F16,
}

impl Dtype {
    pub const ALL: [Dtype; 4] = [Dtype::F32, Dtype::Tf32, Dtype::Bf16, Dtype::F16];
    pub const STORED: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::F16];

    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::Tf32 => "tf32",
            Dtype::Bf16 => "bf16",
            Dtype::F16 => "f16",
        }
    }

    /// What it is in memory.
    pub fn stored(self) -> Dtype {
        if self == Dtype::Tf32 { Dtype::F32 } else { self }
    }

    /// Bytes of an element.
    pub fn size(self) -> usize {
        if self.stored() == Dtype::F32 { 4 } else { 2 }
    }

    /// Elements of 16 bytes.
    pub fn vector(self) -> usize {
        16 / self.size()
    }
}

/// A file compiled with some macros.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Variant {
    /// The file without `.cu`.
    pub file: &'static str,
    pub defines: Vec<(&'static str, String)>,
}

impl Variant {
    /// `file.value.value..`, unique among all variants.
    pub fn name(&self) -> String {
        self.defines.iter().fold(self.file.to_string(), |name, (_, value)| name + "." + value)
    }

    /// Whether it is for sm_90a alone.
    pub fn is_hopper(&self) -> bool {
        self.defines.iter().any(|(name, _)| *name == "HOPPER")
    }

    /// The kernels in it.
    pub fn kernels(&self) -> &'static [&'static str] {
        FILES.iter().find(|(file, _)| *file == self.file).expect("variants name files of the list").1
    }

    fn stored(file: &'static str, dtype: Dtype) -> Variant {
        Variant { file, defines: vec![("DTYPE", dtype.stored().name().into())] }
    }

    fn multiplied(file: &'static str, dtype: Dtype) -> Variant {
        Variant { file, defines: vec![("DTYPE", dtype.name().into())] }
    }
}

/// All files with their kernels.
pub const FILES: [(&str, &[&str]); 14] = [
    ("conv_igemm", &["conv_igemm"]),
    ("linear_rows", &["linear_rows"]),
    ("depthwise", &["depthwise", "depthwise_3x3", "depthwise_3x3_by_2", "depthwise_5x5", "depthwise_5x5_by_2"]),
    ("pool", &["pool"]),
    ("resize", &["resize"]),
    ("elementwise", &["map", "binary", "broadcast"]),
    ("copy", &["copy", "copy_few", "copy_tiles"]),
    ("fill", &["fill"]),
    ("rows", &["layer_norm", "normalize", "softmax", "log_softmax"]),
    ("group_norm", &["group_norm"]),
    ("reduce", &["reduce_columns", "reduce_rows"]),
    ("matmul", &["matmul"]),
    ("attention", &["attention"]),
    ("dropout", &["dropout"]),
];

/// Every variant that a launch can name.
pub fn variants() -> Vec<Variant> {
    let mut all = vec![];
    for dtype in Dtype::ALL {
        for tile in TILES {
            all.push(conv_variant(dtype, tile, dtype.vector()));
        }
        if dtype.size() == 2 {
            all.push(conv_variant(dtype, NARROW, 4));
            all.extend([HOPPER_LARGE, HOPPER_NARROW].map(|tile| conv_variant(dtype, tile, 8)));
            all.push(conv_variant(dtype, HOPPER_NARROW, 4));
        }
        all.push(conv_variant(dtype, SMALL, 1));
    }
    for dtype in Dtype::STORED {
        let files = [
            "linear_rows",
            "depthwise",
            "pool",
            "resize",
            "elementwise",
            "fill",
            "rows",
            "group_norm",
            "reduce",
            "dropout",
            "matmul",
        ];
        all.extend(files.map(|file| Variant::stored(file, dtype)));
        all.extend(Attention::DIMS.map(|dim| attention_variant(dtype, dim)));
    }
    for from in Dtype::STORED {
        all.extend(
            Dtype::STORED
                .iter()
                .filter(|to| from == **to || from == Dtype::F32 || **to == Dtype::F32)
                .map(|to| copy_variant(from, *to)),
        );
    }
    all
}

/// One launch, but for its argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    pub variant: Variant,
    pub kernel: &'static str,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

/// Structs that a kernel takes by value.
///
/// # Safety
/// Only for `repr(C)` structs of numbers, the same as the kernel's.
pub unsafe trait Args: Copy {
    /// As `cuLaunchKernel` wants it.
    fn pointer(&self) -> *mut std::ffi::c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

/// Declares a kernel's struct.
macro_rules! args {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }
        // SAFETY: a repr(C) struct of numbers.
        unsafe impl Args for $name {}
    };
}

/// The highest rank.
pub const RANK: usize = 8;

args! {
    /// A function of one number; see the codes below and `activate` in common.cuh.
    Act { code: i32, a: f32, b: f32, }
}

#[rustfmt::skip]
impl Act {
    pub const NONE: Act = Act::plain(0);
    pub const RELU: Act = Act::plain(1);
    /// Infinite bounds are none.
    pub const fn clamp(lo: f32, hi: f32) -> Act { Act { code: 2, a: lo, b: hi } }
    pub const fn elu(alpha: f32) -> Act { Act { code: 3, a: alpha, b: 0.0 } }
    pub const fn leaky_relu(slope: f32) -> Act { Act { code: 4, a: slope, b: 0.0 } }
    pub const GELU: Act = Act::plain(5);
    pub const GELU_TANH: Act = Act::plain(6);
    pub const SILU: Act = Act::plain(7);
    pub const SIGMOID: Act = Act::plain(8);
    pub const TANH: Act = Act::plain(9);
    pub const HARD_SWISH: Act = Act::plain(10);
    pub const HARD_SIGMOID: Act = Act::plain(11);
    pub const SOFTPLUS: Act = Act::plain(12);
    pub const MISH: Act = Act::plain(13);
    pub const EXP: Act = Act::plain(14);
    /// `scale * x + shift`
    pub const fn linear(scale: f32, shift: f32) -> Act { Act { code: 15, a: scale, b: shift } }
    const fn plain(code: i32) -> Act { Act { code, a: 0.0, b: 0.0 } }
}

args! {
    /// `after(before(sum + bias[k]) * gate[n, k] + residual)`
    Epilogue {
        /// float32 [channels]
        bias: u64,
        /// Stored, [images, channels].
        gate: u64,
        /// Stored, the output's shape.
        residual: u64,
        /// From one image's gate to the next.
        gate_dist: i32,
        residual_image: i32,
        residual_row: i32,
        residual_pixel: i32,
        before: Act,
        after: Act,
    }
}

args! {
    /// A convolution of NHWC images, or a linear map (of rows that are images of one pixel).
    Conv {
        x: u64,
        /// [groups * k][w_dist] as [`pack_conv`] lays them out, on 16 bytes.
        w: u64,
        y: u64,
        /// With `splits` above 1: `splits * tiles * bm * bn` floats, and a zero for each tile that is zero again afterwards.
        partials: u64,
        counters: u64,
        epilogue: Epilogue,
        n: i32,
        height: i32,
        width: i32,
        /// Channels of a group, read and written.
        c: i32,
        k: i32,
        groups: i32,
        /// The window.
        r: i32,
        s: i32,
        out_height: i32,
        out_width: i32,
        stride_h: i32,
        stride_w: i32,
        /// Above and left; may be negative.
        pad_h: i32,
        pad_w: i32,
        dilation_h: i32,
        dilation_w: i32,
        x_image: i32,
        x_row: i32,
        x_pixel: i32,
        y_image: i32,
        y_row: i32,
        y_pixel: i32,
        w_dist: i32,
        splits: i32,
    }
}

args! {
    /// A linear map of at most [`LinearRows::MOST`] rows. Weights [outputs][w_dist]; rows count as images for the epilogue.
    LinearRows {
        x: u64,
        w: u64,
        y: u64,
        epilogue: Epilogue,
        rows: i32,
        inputs: i32,
        outputs: i32,
        x_dist: i32,
        w_dist: i32,
        y_dist: i32,
    }
}

args! {
    /// One filter a channel. Weights [r][s][c], stored.
    Depthwise {
        x: u64,
        w: u64,
        y: u64,
        epilogue: Epilogue,
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
        pad_h: i32,
        pad_w: i32,
        dilation_h: i32,
        dilation_w: i32,
        x_dist: i32,
        y_dist: i32,
    }
}

args! {
    /// Maxima or means of windows, PyTorch's.
    Pool {
        x: u64,
        y: u64,
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
        y_dist: i32,
        /// [`Pool::MAX`], ..
        mode: i32,
        /// Not 0: the windows are the parts of the image that adaptive pooling takes; the rest of the window is not read.
        adaptive: i32,
    }
}

args! {
    /// Resampling. Ratios are 1 / scale where the op states a scale, in / out where it states a size.
    Resize {
        x: u64,
        y: u64,
        ratio_h: f64,
        ratio_w: f64,
        n: i32,
        height: i32,
        width: i32,
        c: i32,
        out_height: i32,
        out_width: i32,
        x_dist: i32,
        y_dist: i32,
        /// [`Resize::NEAREST`], ..
        mode: i32,
        reserved: i32,
    }
}

args! {
    /// `after(before(prelu(x * scale[col] + shift[col])) + residual)`; y may be x.
    Map {
        x: u64,
        y: u64,
        /// float32 [cols], 0 for none.
        scale: u64,
        shift: u64,
        /// float32, one a column or one for all.
        slope: u64,
        residual: u64,
        rows: i32,
        cols: i32,
        x_dist: i32,
        y_dist: i32,
        residual_dist: i32,
        /// 1 or 0: what the column counts for in `slope`.
        slope_col: i32,
        before: Act,
        after: Act,
    }
}

args! {
    /// `after(before(a op b) + residual)`; y may be a. Row `i`, column `j` of b lies at
    /// `i / rows_each * b_outer + i % rows_each * b_row + j * b_col`.
    Binary {
        a: u64,
        b: u64,
        y: u64,
        residual: u64,
        rows: i32,
        cols: i32,
        a_dist: i32,
        y_dist: i32,
        residual_dist: i32,
        rows_each: i32,
        b_outer: i32,
        b_row: i32,
        b_col: i32,
        /// [`Binary::ADD`], ..
        op: i32,
        before: Act,
        after: Act,
    }
}

args! {
    /// As [`Binary`] for operands of any strides. Axes from the outermost; those beyond `rank` are not read.
    Broadcast {
        a: u64,
        b: u64,
        y: u64,
        residual: u64,
        rank: i32,
        op: i32,
        shape: [i32; RANK],
        a_strides: [i32; RANK],
        b_strides: [i32; RANK],
        y_strides: [i32; RANK],
        residual_strides: [i32; RANK],
        before: Act,
        after: Act,
    }
}

args! {
    /// The same numbers elsewhere, x of the variant's first dtype, y of its second.
    Copy_ {
        x: u64,
        y: u64,
        rank: i32,
        reserved: i32,
        shape: [i32; RANK],
        x_strides: [i32; RANK],
        y_strides: [i32; RANK],
    }
}

args! {
    /// One number everywhere.
    Fill { y: u64, rank: i32, value: f32, shape: [i32; RANK], y_strides: [i32; RANK], }
}

args! {
    /// Each row by itself; y may be x. Weight and bias are float32 [cols], for the layer norm alone.
    Rows {
        x: u64,
        y: u64,
        weight: u64,
        bias: u64,
        rows: i32,
        cols: i32,
        x_dist: i32,
        y_dist: i32,
        eps: f32,
        reserved: i32,
    }
}

args! {
    /// Groups of channels of each image; weight and bias float32 [c].
    GroupNorm {
        x: u64,
        y: u64,
        weight: u64,
        bias: u64,
        n: i32,
        pixels: i32,
        c: i32,
        groups: i32,
        x_dist: i32,
        y_dist: i32,
        eps: f32,
        reserved: i32,
    }
}

args! {
    /// Over the inner axes, for each index of the outer ones; results dense in the order of the outer axes.
    Reduce {
        x: u64,
        y: u64,
        outer_rank: i32,
        inner_rank: i32,
        outer_shape: [i32; RANK],
        outer_strides: [i32; RANK],
        inner_shape: [i32; RANK],
        inner_strides: [i32; RANK],
        /// [`Reduce::MEAN`], [`Reduce::MAX`]
        op: i32,
        reserved: i32,
    }
}

args! {
    /// `y = scale * a b` for each matrix of a batch of `rank` axes. a [m][k], y [m][n].
    Matmul {
        a: u64,
        b: u64,
        y: u64,
        m: i32,
        n: i32,
        k: i32,
        a_dist: i32,
        /// Between the rows of b: [k][n], or [n][k] where `transposed` is not 0.
        b_dist: i32,
        y_dist: i32,
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

args! {
    /// `softmax(q k^T scale) v` in each head of each image; rows of q and y [n, queries], of k and v [n, keys], columns
    /// [heads, dim]. `dim` is at most [`Attention::MOST_DIM`].
    Attention {
        q: u64,
        k: u64,
        v: u64,
        y: u64,
        n: i32,
        heads: i32,
        dim: i32,
        queries: i32,
        keys: i32,
        q_dist: i32,
        k_dist: i32,
        v_dist: i32,
        y_dist: i32,
        scale: f32,
    }
}

args! {
    /// Zero with probability p, else `x / (1 - p)`; y may be x. Row `i`, column `j` has the number
    /// `i / rows_each * index_row + j * index_col` in the stream of `philox`.
    Dropout {
        x: u64,
        y: u64,
        /// Low and high half.
        seed: [u32; 2],
        stream: [u32; 2],
        rows: i32,
        cols: i32,
        x_dist: i32,
        y_dist: i32,
        rows_each: i32,
        index_row: i32,
        index_col: i32,
        p: f32,
    }
}

/// An output tile of `conv_igemm`: pixels x channels of a block, and into how many warps it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    pub bm: usize,
    pub bn: usize,
    pub warps_m: usize,
    pub warps_n: usize,
    /// Steps of the pipeline.
    pub stages: usize,
    /// Bytes of a row of a step.
    pub row: usize,
    /// By wgmma, which sm_90a alone has.
    pub hopper: bool,
}

pub const LARGE: Tile = Tile { bm: 128, bn: 128, warps_m: 2, warps_n: 4, stages: 4, row: 64, hopper: false };
pub const NARROW: Tile = Tile { bm: 128, bn: 64, warps_m: 2, warps_n: 2, stages: 4, row: 64, hopper: false };
pub const SMALL: Tile = Tile { bm: 64, bn: 64, warps_m: 2, warps_n: 2, stages: 4, row: 64, hopper: false };
pub const HOPPER_LARGE: Tile = Tile { bm: 128, bn: 128, warps_m: 8, warps_n: 1, stages: 3, row: 128, hopper: true };
pub const HOPPER_NARROW: Tile = Tile { bm: 128, bn: 64, warps_m: 8, warps_n: 1, stages: 3, row: 128, hopper: true };
pub const TILES: [Tile; 3] = [LARGE, NARROW, SMALL];

fn conv_variant(dtype: Dtype, tile: Tile, vec: usize) -> Variant {
    let defines = [
        ("BM", tile.bm),
        ("BN", tile.bn),
        ("WARPS_M", tile.warps_m),
        ("WARPS_N", tile.warps_n),
        ("VEC", vec),
        ("STAGES", tile.stages),
        ("ROW", tile.row),
    ];
    let mut variant = Variant::multiplied("conv_igemm", dtype);
    variant.defines.extend(defines.map(|(name, value)| (name, value.to_string())));
    if tile.hopper {
        variant.defines.push(("HOPPER", "1".into()));
    }
    variant
}

/// How a convolution is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    pub tile: Tile,
    pub splits: usize,
}

impl Conv {
    /// How many channels a load takes: the widest that address, distances and groups allow. It decides how weights are
    /// packed.
    pub fn vec(&self, dtype: Dtype) -> usize {
        let fits = |vec: usize| {
            let bytes = vec * dtype.size();
            let distances =
                [self.x_image, self.x_row, self.x_pixel].iter().all(|dist| (*dist as usize).is_multiple_of(vec));
            (self.x as usize).is_multiple_of(bytes)
                && distances
                && (self.groups == 1 || (self.c as usize).is_multiple_of(vec))
        };
        // quarters pay where few channels would fill a small part of a full load
        match dtype.size() {
            2 if fits(8) && (self.c > 4 || !fits(4)) => 8,
            2 if fits(4) => 4,
            4 if fits(4) => 4,
            _ => 1,
        }
    }

    /// A tile and a number of splits for a device of so many multiprocessors.
    pub fn choose(&self, dtype: Dtype, processors: usize) -> Choice {
        let vec = self.vec(dtype);
        let blocks = |tile: Tile| {
            let [x, y] = self.tiles(tile);
            x * y
        };
        let tile = match vec {
            1 => SMALL,
            4 if dtype.size() == 2 => NARROW,
            _ if self.k as usize > 64 && blocks(LARGE) >= processors => LARGE,
            _ if blocks(NARROW) >= processors => NARROW,
            _ => SMALL,
        };
        let steps = (self.w_dist as usize * dtype.size()).div_ceil(tile.row);
        // A split is worth a pass over its partial sums only with some steps of its own.
        let splits = (processors / blocks(tile).max(1)).min(steps / 8).clamp(1, 16);
        Choice { tile, splits }
    }

    /// [`Conv::choose`] for a device of compute capability 9.0, compiled for sm_90a.
    pub fn choose_for_hopper(&self, dtype: Dtype, processors: usize) -> Choice {
        let choice = self.choose(dtype, processors);
        let tile = match choice.tile {
            _ if dtype.size() != 2 => return choice,
            LARGE => HOPPER_LARGE,
            NARROW => HOPPER_NARROW,
            _ => return choice,
        };
        Choice { tile, ..choice }
    }

    /// Pixels and channels in tiles, those of all groups together.
    fn tiles(&self, tile: Tile) -> [usize; 2] {
        let pixels = self.n as usize * self.out_height as usize * self.out_width as usize;
        [pixels.div_ceil(tile.bm), (self.k as usize).div_ceil(tile.bn) * self.groups as usize]
    }

    /// How many floats `partials` and how many 32-bit words `counters` need.
    pub fn workspace(&self, choice: Choice) -> [usize; 2] {
        let [x, y] = self.tiles(choice.tile);
        if choice.splits == 1 { [0, 0] } else { [choice.splits * x * y * choice.tile.bm * choice.tile.bn, x * y] }
    }

    /// `self.splits` must be `choice.splits`.
    pub fn launch(&self, dtype: Dtype, choice: Choice) -> Launch {
        let tile = choice.tile;
        let [x, y] = self.tiles(tile);
        Launch {
            variant: conv_variant(dtype, tile, self.vec(dtype)),
            kernel: "conv_igemm",
            grid: [(x * y) as u32, choice.splits as u32, 1],
            block: [(tile.warps_m * tile.warps_n * 32) as u32, 1, 1],
            shared: (tile.stages * (tile.bm + tile.bn) * tile.row) as u32,
        }
    }
}

/// Elements between rows of packed weights: `taps` times the channels in whole loads, up to 16 bytes.
pub fn conv_row(dtype: Dtype, vec: usize, c: usize, taps: usize) -> usize {
    (taps * c.next_multiple_of(vec)).next_multiple_of(dtype.vector())
}

/// Packs weights for loads of `vec` channels: `weight(k, c, tap)` to rows of [`conv_row`] elements, taps before
/// channels, zeros in the gaps.
pub fn pack_conv(
    dtype: Dtype,
    vec: usize,
    [k, c, taps]: [usize; 3],
    weight: impl Fn(usize, usize, usize) -> f32,
) -> Vec<f32> {
    let (row, wide) = (conv_row(dtype, vec, c, taps), c.next_multiple_of(vec));
    let mut packed = vec![0.0; k * row];
    for (k, row) in packed.chunks_exact_mut(row.max(1)).enumerate() {
        for tap in 0..taps {
            for c in 0..c {
                row[tap * wide + c] = weight(k, c, tap);
            }
        }
    }
    packed
}

/// One phase of a transposed convolution along one axis: outputs `first`, `first + stride`, .. as a convolution of
/// stride 1 with the taps `taps` of the window (in this order), so far apart and so much padding before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    pub first: usize,
    pub count: usize,
    pub taps: Vec<usize>,
    pub dilation: i32,
    pub padding: i32,
}

/// The phases of a transposed convolution along an axis with `out` outputs.
pub fn phases(kernel: usize, stride: usize, padding: usize, dilation: usize, out: usize) -> Vec<Phase> {
    let gcd = {
        let (mut a, mut b) = (stride, dilation);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let one = |first: usize| {
        // output o reads input i through tap t where o + padding = i * stride + t * dilation; later taps read earlier inputs
        let mut taps: Vec<usize> =
            (0..kernel).filter(|tap| (first + padding).abs_diff(tap * dilation).is_multiple_of(stride)).collect();
        taps.reverse();
        let input = |tap: usize| ((first + padding) as i32 - (tap * dilation) as i32) / stride as i32;
        let padding = taps.first().map_or(0, |tap| -input(*tap));
        Phase { first, count: (out - first).div_ceil(stride), taps, dilation: (dilation / gcd) as i32, padding }
    };
    (0..stride.min(out)).map(one).collect()
}

fn blocks(threads: usize, each: usize) -> [u32; 3] {
    [threads.div_ceil(each).max(1) as u32, 1, 1]
}

const THREADS: usize = 256;

/// A grid of at most so many blocks; the kernels that go on in strides of the grid are meant.
fn strided(variant: Variant, kernel: &'static str, work: usize) -> Launch {
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

impl Depthwise {
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
        let strips = self.n as usize * self.out_height as usize * (self.out_width as usize).div_ceil(Depthwise::STRIP);
        strided(Variant::stored("depthwise", dtype), kernel, strips * (self.c as usize).div_ceil(8))
    }

    /// Neighbouring outputs of a thread.
    const STRIP: usize = 4;
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

fn len(shape: &[i32; RANK], rank: i32) -> usize {
    shape[..rank as usize].iter().map(|len| *len as usize).product()
}

impl Broadcast {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        strided(Variant::stored("elementwise", dtype), "broadcast", len(&self.shape, self.rank))
    }
}

fn copy_variant(from: Dtype, to: Dtype) -> Variant {
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

fn attention_variant(dtype: Dtype, dim: usize) -> Variant {
    let mut variant = Variant::stored("attention", dtype);
    variant.defines.push(("DIM", dim.to_string()));
    variant
}

impl Attention {
    pub const MOST_DIM: usize = 128;
    const DIMS: [usize; 3] = [32, 64, 128];

    /// # Panics
    /// If `dim` is above [`Attention::MOST_DIM`].
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let dim =
            *Attention::DIMS.iter().find(|dim| **dim >= self.dim as usize).expect("heads of at most 128 channels");
        let grid = [((self.queries as usize).div_ceil(64) * (self.heads * self.n) as usize) as u32, 1, 1];
        // queries, keys and values; for float32 also the weights of a tile
        let shared = match dtype.size() {
            4 => ((64 + 2 * 32) * (dim + 4) + 64 * 32) * 4,
            _ => (64 + 2 * 64) * (dim + 8) * 2,
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
