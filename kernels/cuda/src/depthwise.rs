//! Convolutions with one filter a channel.

use super::launch::strided;
use super::{Dtype, Epilogue, Launch, Stored, Sums, Variant};

args! {
    const THREADS: usize = 256;
    const STRIP: usize = 4;

    /// One filter a channel. Weights `[r][s][c]`, stored.
    pub struct Depthwise {
        x: *const Stored,
        w: *const Stored,
        y: *mut Stored,
        epilogue: Epilogue,
        /// [`Depthwise::with_sums`]; with them, `y` may be 0.
        sums: Sums,
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
        /// Vectors of eight channels that a block keeps to; only with sums.
        beside: i32,
        reserved: i32,
    }
}

pub(super) fn variants() -> Vec<Variant> {
    Dtype::STORED.map(|dtype| Variant::stored("depthwise", dtype)).into()
}

impl Depthwise {
    /// Leaves sums besides, which have an address when `sums.at` is set.
    #[must_use]
    pub fn with_sums(self) -> Depthwise {
        let vectors = (self.c + 7) / 8;
        // as many in each group, a warp's at most
        let beside = (vectors + (vectors + 31) / 32 - 1) / ((vectors + 31) / 32);
        let strips = self.out_height * ((self.out_width + STRIP as i32 - 1) / STRIP as i32);
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
        let strips = self.n as usize * self.out_height as usize * (self.out_width as usize).div_ceil(STRIP);
        strided(variant, kernel, strips * vectors, THREADS)
    }
}
