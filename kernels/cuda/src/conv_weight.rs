//! The gradient of the weights of convolutions and linear maps, in parts.

use super::{Dtype, Launch, Stored, Variant, WeightEnd, Window};

args! {
    const STAGES: usize = 3;

    /// The gradient of a convolution's weights, or of a linear map's (of rows that are images of one pixel). `c` and `k` are
    /// the channels of a group. [`ConvWeight::cut`] chooses the parts.
    pub struct ConvWeight {
        x: *const Stored,
        dy: *const Stored,
        /// [`ConvWeight::partials`] floats.
        partials: *mut f32,
        window: Window,
        c: i32,
        k: i32,
        groups: i32,
        x_stride: i32,
        dy_stride: i32,
        /// Pixels of a part; of a depthwise convolution lines.
        per: i32,
        reserved: i32,
    }
}

pub(super) fn variants() -> Vec<Variant> {
    let mut all = vec![];
    for dtype in Dtype::STORED {
        all.extend([dtype.vector(), 1].map(|vec| weight_variant(dtype, WeightTile::SMALL, vec)));
        if dtype.size() == 2 {
            all.push(weight_variant(dtype, WeightTile::LARGE, dtype.vector()));
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

impl ConvWeight {
    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.c == 1 && self.k == 1
    }

    /// How many channels a load takes.
    fn vec(&self, dtype: Dtype) -> usize {
        let fits = |vec: usize| {
            let both = [(self.x, self.x_stride, self.c), (self.dy, self.dy_stride, self.k)];
            both.iter().all(|(at, stride, channels)| {
                (*at as usize).is_multiple_of(vec * dtype.size())
                    && (*stride as usize).is_multiple_of(vec)
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

    fn tile(&self, dtype: Dtype) -> WeightTile {
        let columns = self.window.taps() * self.wide(dtype);
        let large = dtype.size() == 2 && self.vec(dtype) == 8 && self.k >= 128 && columns >= 128;
        if large { WeightTile::LARGE } else { WeightTile::SMALL }
    }

    fn tiles(&self, dtype: Dtype) -> usize {
        let side = self.tile(dtype).side;
        (self.k as usize).div_ceil(side) * (self.window.taps() * self.wide(dtype)).div_ceil(side) * self.groups as usize
    }

    /// Lines of dy where each channel has its filter, else pixels.
    fn depth(&self) -> usize {
        let lines = self.window.n as usize * self.window.out_height as usize;
        if self.is_depthwise() { lines } else { lines * self.window.out_width as usize }
    }

    /// Floats of a part.
    fn each(&self, dtype: Dtype) -> usize {
        (self.groups * self.k) as usize * self.window.taps() * self.wide(dtype)
    }

    /// Cuts the depth into parts for a device of so many multiprocessors.
    pub fn cut(&mut self, dtype: Dtype, processors: usize) {
        let (blocks, least) = match self.is_depthwise() {
            true => (self.across()[2] * self.window.r as usize, 1),
            // some steps each
            false => (self.tiles(dtype), 8 * 32),
        };
        // parts that are read again cost time and room
        let most = ((64 << 20) / self.each(dtype).max(1)).clamp(1, 256);
        let parts = (2 * processors).div_ceil(blocks).min(self.depth() / least).clamp(1, most);
        self.per = self.depth().div_ceil(parts) as i32;
    }

    pub(super) fn splits(&self) -> usize {
        self.depth().div_ceil(self.per as usize)
    }

    /// How many floats the partial sums take.
    pub fn partials(&self, dtype: Dtype) -> usize {
        self.splits() * self.each(dtype)
    }

    pub fn launch(&self, dtype: Dtype) -> Launch {
        if self.is_depthwise() {
            return self.launch_depthwise(dtype);
        }
        let tile = self.tile(dtype);
        let depth = if dtype.size() == 2 { 32 } else { 16 };
        Launch {
            variant: weight_variant(dtype, tile, self.vec(dtype)),
            kernel: "conv_weight",
            grid: [self.tiles(dtype) as u32, self.splits() as u32, 1],
            block: [(tile.warps[0] * tile.warps[1] * 32) as u32, 1, 1],
            shared: (STAGES * depth * 2 * tile.side * dtype.size()) as u32,
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
            taps: self.window.taps() as i32,
            depthwise: depthwise.into(),
        }
    }
}
