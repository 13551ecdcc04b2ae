//! Convolutions of every kind: tiles, packed weights, phases of transposed ones.

use super::{Dtype, Epilogue, Launch, Stored, Sums, Variant, Window};

args! {
    /// A convolution of NHWC images, or a linear map (of rows that are images of one pixel).
    pub struct Conv {
        x: *const Stored,
        /// `[groups * k][w_stride]`, on 16 bytes: a row has [`conv_row`] elements, taps before channels, those of a tap in whole
        /// loads, zeros in the gaps.
        w: *const Stored,
        y: *mut Stored,
        /// With `splits` above 1: `splits * tiles * bm * bn` floats, and a zero for each tile that is zero again afterwards.
        partials: *mut f32,
        counters: *mut u32,
        epilogue: Epilogue,
        /// [`Conv::sums`]; with them, `y` may be 0.
        sums: Sums,
        /// A factor for each channel that is read, stored, `[images][scale_stride]`; only of 1 x 1 convolutions of one group.
        scale: *const Stored,
        scale_stride: i32,
        reserved: i32,
        /// Padding above and left may be negative.
        window: Window,
        /// Channels of a group, read and written.
        c: i32,
        k: i32,
        groups: i32,
        x_image: i32,
        x_row: i32,
        x_pixel: i32,
        y_image: i32,
        y_row: i32,
        y_pixel: i32,
        w_stride: i32,
        splits: i32,
    }
}

pub(super) fn variants() -> Vec<Variant> {
    let mut all = vec![];
    for dtype in Dtype::ALL {
        all.extend(TILES.map(|tile| variant(dtype, tile, dtype.vector())));
        if dtype.size() == 2 {
            all.push(variant(dtype, NARROW, 4));
            all.push(gated(variant(dtype, NARROW, 4)));
            all.extend([HOPPER_LARGE, HOPPER_NARROW].map(|tile| variant(dtype, tile, 8)));
            all.push(variant(dtype, HOPPER_NARROW, 4));
        }
        all.push(variant(dtype, SMALL, 1));
        let pairs = [(NARROW, dtype.vector()), (SMALL, dtype.vector()), (SMALL, 1)];
        all.extend(pairs.map(|(tile, vec)| gated(variant(dtype, tile, vec))));
    }
    all
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

impl Tile {
    /// Cycles of the busiest multiprocessor for blocks of so many steps, whose depth is cut.
    ///
    /// An estimate to compare splits by: a step takes at least what its loads do, three of which are on their way; products
    /// at 60 % of the tensor cores' rate by mma.sync, or one a lane and cycle; a pass over the partial sums.
    fn cycles(self, dtype: Dtype, blocks: usize, steps: usize, splits: usize, processors: usize) -> f64 {
        let rate = match dtype {
            Dtype::F32 => 128.0,
            Dtype::Tf32 => 300.0,
            Dtype::Bf16 | Dtype::F16 => 600.0,
        };
        let share = (blocks * splits).div_ceil(processors) as f64;
        let step = (self.bm * self.bn * self.row / dtype.size()) as f64 / rate;
        let main = steps.div_ceil(splits) as f64 * (share * step).max(270.0);
        main + if splits == 1 { 0.0 } else { 1500.0 + 150.0 * splits as f64 }
    }
}

fn variant(dtype: Dtype, tile: Tile, vec: usize) -> Variant {
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

/// The same for a convolution with a factor for each channel that it reads.
fn gated(mut variant: Variant) -> Variant {
    variant.defines.push(("GATED", "1".into()));
    variant
}

/// How a convolution is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    pub tile: Tile,
    pub splits: usize,
}

impl Conv {
    /// How many channels a load takes: the widest that address, strides and groups allow. It decides how weights are
    /// packed.
    pub fn vec(&self, dtype: Dtype) -> usize {
        let fits = |vec: usize| {
            let bytes = vec * dtype.size();
            let strides =
                [self.x_image, self.x_row, self.x_pixel].iter().all(|stride| (*stride as usize).is_multiple_of(vec));
            (self.x as usize).is_multiple_of(bytes)
                && strides
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
            // what passes through registers leaves few for a large tile
            _ if self.scale != 0 => {
                if blocks(NARROW) >= processors {
                    NARROW
                } else {
                    SMALL
                }
            }
            // multiply-adds ask little of the caches and wait for shared memory: three narrow blocks on a multiprocessor hide
            // more of that than a large one
            _ if dtype == Dtype::F32 && blocks(NARROW) >= processors => NARROW,
            _ if self.k as usize > 64 && blocks(LARGE) >= processors => LARGE,
            _ if blocks(NARROW) >= processors => NARROW,
            _ => SMALL,
        };
        let steps = (self.w_stride as usize * dtype.size()).div_ceil(tile.row);
        // A split is worth a pass over its partial sums only with some steps of its own.
        let fill = (processors / blocks(tile).max(1)).min(steps / 8).clamp(1, 16);
        // as many as fill the device; of small tiles a second block a multiprocessor, which waits while the first one works
        let twice = (2 * processors / blocks(tile).max(1)).min(steps / 8).clamp(1, 16);
        let cost = |splits: &usize| tile.cycles(dtype, blocks(tile), steps, *splits, processors);
        let splits = if tile == SMALL { (fill..=twice).min_by(|a, b| cost(a).total_cmp(&cost(b))) } else { None };
        Choice { tile, splits: splits.unwrap_or(fill) }
    }

    /// [`Conv::choose`] for a device of compute capability 9.0, compiled for sm_90a.
    pub fn choose_for_hopper(&self, dtype: Dtype, processors: usize) -> Choice {
        let choice = self.choose(dtype, processors);
        let tile = match choice.tile {
            // wgmma would ask for a fence after what threads have written
            _ if dtype.size() != 2 || self.scale != 0 => return choice,
            LARGE => HOPPER_LARGE,
            NARROW => HOPPER_NARROW,
            _ => return choice,
        };
        Choice { tile, ..choice }
    }

    /// Pixels and channels in tiles, those of all groups together.
    fn tiles(&self, tile: Tile) -> [usize; 2] {
        [self.window.outputs().div_ceil(tile.bm), (self.k as usize).div_ceil(tile.bn) * self.groups as usize]
    }

    /// How many floats `partials` and how many 32-bit words `counters` need.
    pub fn workspace(&self, choice: Choice) -> [usize; 2] {
        let [x, y] = self.tiles(choice.tile);
        if choice.splits == 1 { [0, 0] } else { [choice.splits * x * y * choice.tile.bm * choice.tile.bn, x * y] }
    }

    /// How the sums of its result are cut, whatever the tile.
    pub fn sums(&self) -> Sums {
        let pixels = self.window.out_height * self.window.out_width;
        // images that begin amid a part
        let ends = i32::from(pixels % Sums::PART != 0);
        let parts = (pixels + ends * (Sums::PART - 2)) / Sums::PART + ends;
        Sums { at: 0, parts, stride: Sums::stride(self.groups * self.k) }
    }

    /// `self.splits` must be `choice.splits`.
    pub fn launch(&self, dtype: Dtype, choice: Choice) -> Launch {
        let tile = choice.tile;
        let [x, y] = self.tiles(tile);
        let plain = variant(dtype, tile, self.vec(dtype));
        Launch {
            variant: if self.scale == 0 { plain } else { gated(plain) },
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
