//! Convolutions whose operands TMA brings (sm_90a): where they apply, their tiles, their maps.

use super::{Conv, Dtype, Epilogue, Launch, Stored, Sums, TensorMap, Variant, Window};

args! {
    const WARPS: usize = 8;
    const THREADS: usize = WARPS * 32 + 128;
    const ROW: usize = 128;
    const SLAB: usize = 64;

    /// A convolution of 16-bit values whose operands TMA brings; [`Conv::choose_tma`] fills it in.
    pub struct ConvTma {
        x: TensorMap,
        w: TensorMap,
        y: *mut Stored,
        epilogue: Epilogue,
        sums: Sums,
        /// Of the output.
        pixels: i32,
        k: i32,
        /// Steps of 64 channels a tap.
        steps_c: i32,
        window: Window,
        /// Whether `x` is a map of windows.
        windows: i32,
        /// Whether pixels of the output, and of the residual, lie one after another.
        plain: i32,
        y_image: i32,
        y_row: i32,
        y_pixel: i32,
    }
}

pub(super) fn variants() -> Vec<Variant> {
    let wide = Dtype::STORED.into_iter().filter(|dtype| dtype.size() == 2);
    wide.flat_map(|dtype| TmaTile::ALL.map(|tile| tile.variant(dtype))).collect()
}

/// An output tile of `conv_tma`: pixels x channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TmaTile {
    pub bm: usize,
    pub bn: usize,
    /// Steps of the ring.
    pub stages: usize,
    /// 2: the two warpgroups of a block take turns, each with a tile; 1: they share one.
    pub turns: usize,
}

impl TmaTile {
    pub const ALL: [TmaTile; 4] = [
        TmaTile { bm: 128, bn: 64, stages: 8, turns: 2 },
        TmaTile { bm: 128, bn: 128, stages: 6, turns: 2 },
        // of two that cost the same the one whose warpgroups read less of shared memory, first
        TmaTile { bm: 128, bn: 256, stages: 4, turns: 1 },
        TmaTile { bm: 256, bn: 128, stages: 4, turns: 1 },
    ];

    /// Bytes of shared memory: the ring, slabs of the epilogue, barriers.
    fn shared(self) -> usize {
        self.stages * (self.bm + self.bn) * ROW + WARPS * 16 * SLAB * 4 + 8 * (2 * self.stages + 2)
    }

    fn variant(self, dtype: Dtype) -> Variant {
        let defines = [("BM", self.bm), ("BN", self.bn), ("STAGES", self.stages), ("TURNS", self.turns), ("HOPPER", 1)];
        let mut variant = Variant::multiplied("conv_tma", dtype);
        variant.defines.extend(defines.map(|(name, value)| (name, value.to_string())));
        variant
    }

    /// Cycles of a multiprocessor for its share of `tiles` tiles of so many steps.
    ///
    /// An estimate to compare tiles by: 2048 products a cycle at 85 % of the tensor cores' rate, 32 bytes a cycle from the
    /// second cache, 900 cycles for a warp's slab of 16 x 64 sums.
    fn cycles(self, tiles: usize, steps: usize, processors: usize) -> f64 {
        let each = tiles.div_ceil(processors) as f64;
        let (bm, bn) = (self.bm as f64, self.bn as f64);
        let products = bm * bn * 64.0 / 2048.0 / 0.85;
        let bytes = (bm + bn) * 128.0 / 32.0;
        let main = steps as f64 * products.max(bytes);
        let store = 900.0 * bm / 128.0 * self.turns as f64 * bn / 64.0;
        match self.turns {
            1 => each * (main + store),
            _ => each * main.max((main + store) / 2.0) + store,
        }
    }
}

/// What a tensor map describes: 16-bit elements, in boxes whose rows are 64 channels, swizzled over 128 bytes, zeros
/// outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Boxes {
    pub at: u64,
    pub dtype: Dtype,
    pub rank: usize,
    /// Channels first.
    pub dims: [u64; 4],
    /// Bytes between neighbours along the second axis, the third, the fourth.
    pub strides: [u64; 3],
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Elements of a box along the axes after the channels.
    Tiled([u32; 2]),
    /// Windows of images [c, w, h, n]: so many first taps, of which those of an image lie between the corners, in width and
    /// height, so many pixels apart. The upper corner counts from the last pixel.
    Windows { lower: [i32; 2], upper: [i32; 2], steps: [u32; 2], pixels: u32 },
}

/// A launch of `conv_tma` whose maps are to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Tma {
    pub tile: TmaTile,
    pub launch: Launch,
    args: ConvTma,
    x: Boxes,
    w: Boxes,
}

impl Tma {
    /// The argument, with maps of the device's own.
    ///
    /// # Errors
    /// The device's.
    pub fn args<E>(&self, map: impl Fn(&Boxes) -> Result<TensorMap, E>) -> Result<ConvTma, E> {
        Ok(ConvTma { x: map(&self.x)?, w: map(&self.w)?, ..self.args })
    }
}

impl Conv {
    /// As a launch of `conv_tma`, where that can be and is likely the fastest on so many multiprocessors.
    pub fn choose_tma(&self, dtype: Dtype, processors: usize) -> Option<Tma> {
        let (x, steps) = (self.boxes(dtype)?, self.steps());
        // depth that is mostly zeros
        let dense = (self.w_stride as usize).div_ceil(64);
        if steps * 4 > dense * 5 {
            return None;
        }
        let cost = |tile: &TmaTile| tile.cycles(self.tma_tiles(*tile), steps, processors);
        let tile = TmaTile::ALL.into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
        // where tiles are few, smaller ones whose depth is split do better
        if self.tma_tiles(tile) * 5 < processors * 3 {
            return None;
        }
        Some(self.with_boxes(dtype, tile, processors, x))
    }

    /// With a tile of one's choice; none where it cannot be.
    pub fn tma(&self, dtype: Dtype, tile: TmaTile, processors: usize) -> Option<Tma> {
        Some(self.with_boxes(dtype, tile, processors, self.boxes(dtype)?))
    }

    /// Steps of 64 channels.
    fn steps(&self) -> usize {
        self.window.taps() * (self.c as usize).div_ceil(64)
    }

    fn tma_tiles(&self, tile: TmaTile) -> usize {
        self.window.outputs().div_ceil(tile.bm) * (self.k as usize).div_ceil(tile.bn)
    }

    fn with_boxes(&self, dtype: Dtype, tile: TmaTile, processors: usize, mut x: Boxes) -> Tma {
        match &mut x.kind {
            Kind::Tiled(lens) => lens[0] = tile.bm as u32,
            Kind::Windows { pixels, .. } => *pixels = tile.bm as u32,
        }
        let (c, taps) = ((self.c as u64).next_multiple_of(8), self.window.taps() as u64);
        let w = Boxes {
            at: self.w,
            dtype,
            rank: 3,
            dims: [c, taps, self.k as u64, 1],
            strides: [c * 2, self.w_stride as u64 * 2, 0],
            kind: Kind::Tiled([1, tile.bn as u32]),
        };
        let Epilogue { residual, residual_image, residual_row, residual_pixel, .. } = self.epilogue;
        let (height, width) = (self.window.out_height, self.window.out_width);
        let one_after_another = |image: i32, row: i32, pixel: i32| {
            (height == 1 || row == width * pixel) && (self.window.n == 1 || image == height * width * pixel)
        };
        let y_plain = one_after_another(self.y_image, self.y_row, self.y_pixel);
        let residual_plain = residual == 0 || one_after_another(residual_image, residual_row, residual_pixel);
        let args = ConvTma {
            x: TensorMap::default(),
            w: TensorMap::default(),
            y: self.y,
            epilogue: self.epilogue,
            sums: self.sums,
            pixels: self.window.n * height * width,
            k: self.k,
            steps_c: (self.c + 63) / 64,
            window: self.window,
            windows: matches!(x.kind, Kind::Windows { .. }).into(),
            plain: (y_plain && residual_plain).into(),
            y_image: self.y_image,
            y_row: self.y_row,
            y_pixel: self.y_pixel,
        };
        let launch = Launch {
            variant: tile.variant(dtype),
            kernel: "conv_tma",
            grid: [self.tma_tiles(tile).min(processors) as u32, 1, 1],
            block: [THREADS as u32, 1, 1],
            shared: tile.shared() as u32,
        };
        Tma { tile, launch, args, x, w }
    }

    /// A map of the left side, but for the pixels of a box; none where a map cannot say it.
    fn boxes(&self, dtype: Dtype) -> Option<Boxes> {
        let aligned = dtype.size() == 2 && self.vec(dtype) == 8 && self.w.is_multiple_of(16) && self.w_stride % 8 == 0;
        if !aligned || self.groups != 1 || self.window.taps() == 0 || self.scale != 0 {
            return None;
        }
        let distance = |len: i32| len as u64 * 2;
        if let Some(pixel) = self.rows() {
            let (dims, strides) = ([self.c as u64, self.window.inputs() as u64, 1, 1], [distance(pixel), 0, 0]);
            return Some(Boxes { at: self.x, dtype, rank: 2, dims, strides, kind: Kind::Tiled([0, 1]) });
        }
        // outputs of an image are as many as there are windows between the corners
        let axis = |out: i32, stride: i32, pad: i32, len: i32| (-pad, (out - 1) * stride - pad - (len - 1));
        let Window { n, height, width, out_height, out_width, .. } = self.window;
        let Window { r, s, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w, .. } = self.window;
        let (left, right) = axis(out_width, stride_w, pad_left, width);
        let (above, below) = axis(out_height, stride_h, pad_top, height);
        let last_tap = [(s - 1) * dilation_w, (r - 1) * dilation_h];
        let fits = [left, right, above, below].iter().all(|corner| (-128..128).contains(corner))
            && [stride_w, stride_h].iter().all(|stride| (1..=8).contains(stride))
            && last_tap.iter().all(|last| (0..256).contains(last))
            && self.x_pixel > 0
            && self.x_row > 0
            && self.x_row % self.x_pixel == 0
            && self.x_image % self.x_row == 0;
        fits.then(|| Boxes {
            at: self.x,
            dtype,
            rank: 4,
            dims: [self.c, width, height, n].map(|len| len as u64),
            strides: [self.x_pixel, self.x_row, self.x_image].map(distance),
            kind: Kind::Windows {
                lower: [left, above],
                upper: [right, below],
                steps: [stride_w as u32, stride_h as u32],
                pixels: 0,
            },
        })
    }

    /// The stride of pixels, where each output reads one pixel and they lie evenly.
    fn rows(&self) -> Option<i32> {
        let Window { n, height, width, out_height, out_width, r, s, stride_h, stride_w, pad_top, pad_left, .. } =
            self.window;
        let is_pixel = [r, s, stride_h, stride_w] == [1; 4] && [pad_top, pad_left] == [0; 2];
        if !is_pixel || [out_height, out_width] != [height, width] {
            return None;
        }
        let axes = [(width, self.x_pixel), (height, self.x_row), (n, self.x_image)];
        let mut long = axes.iter().filter(|(len, _)| *len > 1);
        let Some((len, pixel)) = long.next() else { return Some((self.c + 7) / 8 * 8) };
        let mut next = len * pixel;
        for (len, distance) in long {
            if *distance != next {
                return None;
            }
            next *= len;
        }
        Some(*pixel)
    }
}
