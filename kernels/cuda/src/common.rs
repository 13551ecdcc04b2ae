//! What every kernel shares: activations, the epilogue, sums.

use super::Stored;

codes! {
    /// The functions that [`Act`] names; `activate` in common.cuh has them.
    pub enum ActCode {
        None,
        Relu,
        /// Between `a` and `b`.
        Clamp,
        /// `a * (e^x - 1)` below 0.
        Elu,
        /// `a * x` below 0.
        LeakyRelu,
        Gelu,
        GeluTanh,
        Silu,
        Sigmoid,
        Tanh,
        HardSwish,
        HardSigmoid,
        Softplus,
        Mish,
        Exp,
        /// `a * x + b`
        Linear,
    }
}

args! {
    use ActCode;

    const RANK: usize = super::RANK;

    /// A function of one number; see the codes below and `activate` in common.cuh.
    pub struct Act {
        code: ActCode,
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

#[rustfmt::skip]
impl Act {
    pub const NONE: Act = Act::plain(ActCode::None);
    pub const RELU: Act = Act::plain(ActCode::Relu);
    /// Infinite bounds are none.
    pub const fn clamp(lo: f32, hi: f32) -> Act { Act { code: ActCode::Clamp, a: lo, b: hi } }
    pub const fn elu(alpha: f32) -> Act { Act { code: ActCode::Elu, a: alpha, b: 0.0 } }
    pub const fn leaky_relu(slope: f32) -> Act { Act { code: ActCode::LeakyRelu, a: slope, b: 0.0 } }
    pub const GELU: Act = Act::plain(ActCode::Gelu);
    pub const GELU_TANH: Act = Act::plain(ActCode::GeluTanh);
    pub const SILU: Act = Act::plain(ActCode::Silu);
    pub const SIGMOID: Act = Act::plain(ActCode::Sigmoid);
    pub const TANH: Act = Act::plain(ActCode::Tanh);
    pub const HARD_SWISH: Act = Act::plain(ActCode::HardSwish);
    pub const HARD_SIGMOID: Act = Act::plain(ActCode::HardSigmoid);
    pub const SOFTPLUS: Act = Act::plain(ActCode::Softplus);
    pub const MISH: Act = Act::plain(ActCode::Mish);
    pub const EXP: Act = Act::plain(ActCode::Exp);
    /// `scale * x + shift`
    pub const fn linear(scale: f32, shift: f32) -> Act { Act { code: ActCode::Linear, a: scale, b: shift } }
    const fn plain(code: ActCode) -> Act { Act { code, a: 0.0, b: 0.0 } }
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
