//! The gate of squeeze-and-excitation, or the means of an image.

use super::{Act, Dtype, Launch, Stored, Sums, Variant};

args! {
    const THREADS: usize = 512;
    const MOST_SAMPLES: usize = 4;

    /// `second(w2 first(w1 mean + b1) + b2)` of the means of each image's channels, `[n][y_stride]`; with fewer `maps`, what is
    /// left: `first(..)`, or the means. Weights `[out][stride]`, stored, rows on 16 bytes; biases float32.
    pub struct Excitation {
        sums: Sums,
        y: *mut Stored,
        w1: *const Stored,
        b1: *const f32,
        w2: *const Stored,
        b2: *const f32,
        n: i32,
        /// Of an image.
        pixels: i32,
        /// How many of a part, those of all images counted on; 0 where each image has all parts.
        part: i32,
        c: i32,
        /// What the first of two maps gives; else 0.
        hidden: i32,
        /// Channels of y.
        k: i32,
        w1_stride: i32,
        w2_stride: i32,
        y_stride: i32,
        /// Of a block, as [`Excitation::launch`] has it: samples and channels of y.
        samples: i32,
        chunk: i32,
        maps: i32,
        first: Act,
        second: Act,
    }
}

impl Excitation {
    /// What of channels and hidden values together a block has room for.
    pub const MOST_WIDTH: usize = 4096;

    /// Spreads it over so many multiprocessors.
    pub fn launch(&mut self, dtype: Dtype, processors: usize) -> Launch {
        let n = self.n as usize;
        let samples = n.div_ceil(processors).clamp(1, MOST_SAMPLES);
        let groups = n.div_ceil(samples);
        // every block computes the hidden values anew: with fewer outputs that is most of what it does
        let chunks = (processors / groups).clamp(1, (self.k as usize).div_ceil(64));
        let chunk = (self.k as usize).div_ceil(chunks).next_multiple_of(8);
        (self.samples, self.chunk) = (samples as i32, chunk as i32);
        let whole = |len: i32| (len as usize).next_multiple_of(8);
        let floats = if self.maps == 0 { 0 } else { samples * (whole(self.c) + whole(self.hidden)) };
        let grid = [(groups * (self.k as usize).div_ceil(chunk)) as u32, 1, 1];
        let variant = Variant::stored("excitation", dtype);
        Launch { variant, kernel: "excitation", grid, block: [THREADS as u32, 1, 1], shared: 4 * floats as u32 }
    }
}
