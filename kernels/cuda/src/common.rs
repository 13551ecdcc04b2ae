//! What every kernel shares: activations, the epilogue, sums.

use super::{Code, Stored};

args! {
    use Code<archc_base::Act>;

    const RANK: usize = super::RANK;

    /// A function of one number, `activate` in common.cuh: its code and its parameters.
    pub struct Act {
        code: Code<archc_base::Act>,
        a: f32,
        b: f32,
    }

    /// `after(before(sum + bias[k]) * gate[n, k] + residual)`
    pub struct Epilogue {
        /// float32 `[channels]`
        bias: *const f32,
        /// Stored, `[images, channels]`.
        gate: *const Stored,
        /// Stored, the output's shape.
        residual: *const Stored,
        /// From one image's gate to the next.
        gate_dist: i32,
        residual_image: i32,
        residual_row: i32,
        residual_pixel: i32,
        before: Act,
        after: Act,
    }

    /// Where a convolution leaves the sums of every channel over the pixels of each image, by parts: those of part p of image
    /// i are `dist` floats from `(i * parts + p) * dist` on, on 16 bytes. An address of 0 is "not wanted".
    pub struct Sums {
        at: *mut f32,
        parts: i32,
        dist: i32,
    }
    impl Sums {
        /// Pixels of a convolution's part; those of all images count on, so that an image's first and last may have fewer.
        const PART: i32 = 16;
    }
}

impl From<archc_base::Act> for Act {
    fn from(act: archc_base::Act) -> Act {
        let [a, b] = act.parameters();
        Act { code: act.code(), a, b }
    }
}

impl Sums {
    pub(super) fn dist(channels: i32) -> i32 {
        (channels + 3) / 4 * 4
    }

    /// Floats for so many images.
    pub fn floats(&self, n: usize) -> usize {
        n * self.parts as usize * self.dist as usize
    }
}
