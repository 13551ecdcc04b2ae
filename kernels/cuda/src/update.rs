//! Optimizers over everything that is learned at once.

use super::launch::{plain, strided};
use super::{Code, Dtype, Launch, Variant};

args! {
    use Code<archc_base::Rule>;

    const THREADS: usize = 256;

    /// One step of an optimizer over the states `from` to `to`, float32.
    pub struct Update {
        states: *mut f32,
        gradients: *mut f32,
        first: *mut f32,
        second: *mut f32,
        third: *mut f32,
        average: *mut f32,
        /// One for each [`Update::LINE`] numbers; 0 for 1 everywhere.
        factors: *const f32,
        /// float64, of all gradients; 0 where nothing is clipped.
        norm: *const f64,
        /// The states that this launch changes, of which the first `learned` are learned.
        from: i32,
        to: i32,
        learned: i32,
        rule: Code<archc_base::Rule>,
        nesterov: i32,
        decoupled: i32,
        amsgrad: i32,
        centered: i32,
        /// Whether there is a momentum.
        moving: i32,
        /// Whether it begins with these gradients.
        begins: i32,
        /// Whether the gradients are sums, which begin again at 0.
        sums: i32,
        /// Momentum, or the share of the first moment that is kept.
        keep: f32,
        /// What is added to it.
        take: f32,
        keep_second: f32,
        eps: f32,
        /// `1 / sqrt(1 - beta2^step)`
        root: f32,
        /// Of what moves the weights of rmsprop.
        momentum: f32,
        kept_average: f32,
        rate: f64,
        /// The rate, divided by `1 - beta1^step`.
        corrected: f64,
        decay: f64,
        scale: f64,
        most: f64,
    }
    impl Update {
        /// Numbers that share a factor of the rate.
        const LINE: usize = 16;
    }

    /// The norm of numbers, float64, by way of [`Norm::PARTS`] partial sums.
    pub struct Norm {
        x: *const f32,
        partials: *mut f64,
        norm: *mut f64,
        len: i32,
        parts: i32,
    }

    /// `y += x`
    pub struct Accumulate {
        x: *const f32,
        y: *mut f32,
        len: i32,
        reserved: i32,
    }
}

pub(super) fn variants() -> Vec<Variant> {
    vec![Variant::stored("update", Dtype::F32)]
}

impl Update {
    pub fn launch(&self) -> Launch {
        strided(Variant::stored("update", Dtype::F32), "update", (self.to - self.from) as usize, THREADS)
    }
}

impl Norm {
    pub const PARTS: usize = 256;

    /// `squares`, then `norm_of`.
    pub fn launches(&self) -> [Launch; 2] {
        let variant = || Variant::stored("update", Dtype::F32);
        let grid = [self.parts as u32, 1, 1];
        [plain(variant(), "squares", grid, [THREADS, 1]), plain(variant(), "norm_of", [1; 3], [32, 1])]
    }
}

impl Accumulate {
    pub fn launch(&self) -> Launch {
        strided(Variant::stored("update", Dtype::F32), "accumulate", self.len as usize, THREADS)
    }
}
