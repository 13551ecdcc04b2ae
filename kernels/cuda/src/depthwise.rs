//! Convolutions with one filter a channel.

use super::launch::{plain, strided};
use super::{Dtype, Epilogue, Launch, Stored, Sums, Variant, Window};

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
        window: Window,
        c: i32,
        x_stride: i32,
        y_stride: i32,
        /// Vectors of eight channels that a block keeps to; only with sums.
        beside: i32,
        reserved: i32,
    }
}

impl Depthwise {
    /// Leaves sums besides, which have an address when `sums.at` is set.
    #[must_use]
    pub fn with_sums(self) -> Depthwise {
        let vectors = (self.c + 7) / 8;
        // as many in each group, a warp's at most
        let beside = (vectors + (vectors + 31) / 32 - 1) / ((vectors + 31) / 32);
        let strips = self.window.out_height * ((self.window.out_width + STRIP as i32 - 1) / STRIP as i32);
        let deep = THREADS as i32 / beside;
        let sums = Sums { at: 0, parts: (strips + deep - 1) / deep, stride: Sums::stride(self.c) };
        Depthwise { sums, beside, ..self }
    }

    pub fn launch(&self, dtype: Dtype) -> Launch {
        let Window { n, out_height, out_width, r, s, stride_h, stride_w, dilation_h, dilation_w, .. } = self.window;
        let square = r == s && stride_h == stride_w && [dilation_h, dilation_w] == [1; 2];
        let kernel = match (r, stride_h) {
            (3, 1) if square => "depthwise_3x3",
            (3, 2) if square => "depthwise_3x3_by_2",
            (5, 1) if square => "depthwise_5x5",
            (5, 2) if square => "depthwise_5x5_by_2",
            _ => "depthwise",
        };
        let (variant, vectors) = (Variant::stored("depthwise", dtype), (self.c as usize).div_ceil(8));
        if self.sums.at != 0 {
            let blocks = n as usize * vectors.div_ceil(self.beside as usize) * self.sums.parts as usize;
            return plain(variant, kernel, [blocks as u32, 1, 1], [THREADS, 1]);
        }
        let strips = n as usize * out_height as usize * (out_width as usize).div_ceil(STRIP);
        strided(variant, kernel, strips * vectors, THREADS)
    }
}
