//! Losses and optimizers.

use super::launch::{THREADS, blocks, strided};
use super::{Args, Dtype, Launch, Variant};

args! {
    /// A loss, or its derivative: outputs stored and dense, targets float32.
    Loss {
        z: u64,
        targets: u64,
        dz: u64,
        /// [`Loss::partials`] floats.
        partials: u64,
        /// float32, one a class; 0 for none.
        weights: u64,
        rows: i32,
        /// Values of a row.
        classes: i32,
        /// [`Loss::CROSS_ENTROPY`], ..
        kind: i32,
        smoothing: f32,
        delta: f32,
        reserved: i32,
    }
}

args! {
    /// The loss of the parts that a [`Loss`] left: one float.
    LossEnd { loss: Loss, y: u64, parts: i32, reserved: i32, }
}

impl Loss {
    pub const CROSS_ENTROPY: i32 = 0;
    pub const BCE: i32 = 1;
    pub const MSE: i32 = 2;
    pub const L1: i32 = 3;
    pub const HUBER: i32 = 4;

    fn start(&self, dtype: Dtype, [rows, values]: [&'static str; 2], most: usize) -> Launch {
        let (kernel, grid) = match self.kind {
            Loss::CROSS_ENTROPY => (rows, blocks(self.rows as usize, 8)),
            _ => {
                let [x, ..] = blocks(self.rows as usize * self.classes as usize, 4 * THREADS);
                (values, [x.min(most as u32), 1, 1])
            }
        };
        Launch { variant: Variant::stored("loss", dtype), kernel, grid, block: [32, 8, 1], shared: 0 }
    }

    pub fn launch(&self, dtype: Dtype) -> Launch {
        self.start(dtype, ["cross_entropy", "value_loss"], 256)
    }

    pub fn launch_data(&self, dtype: Dtype) -> Launch {
        self.start(dtype, ["cross_entropy_data", "value_loss_data"], 1 << 16)
    }

    pub fn partials(&self, dtype: Dtype) -> usize {
        2 * self.launch(dtype).grid[0] as usize
    }

    pub fn end(&self, dtype: Dtype, y: u64) -> LossEnd {
        LossEnd { loss: *self, y, parts: self.launch(dtype).grid[0] as i32, reserved: 0 }
    }
}

impl LossEnd {
    pub fn launch(&self, dtype: Dtype) -> Launch {
        let variant = Variant::stored("loss", dtype);
        Launch { variant, kernel: "loss_end", grid: [1; 3], block: [32, 8, 1], shared: 0 }
    }
}

args! {
    /// One step of an optimizer over the states `from` to `to`, float32.
    Update {
        states: u64,
        derivatives: u64,
        first: u64,
        second: u64,
        third: u64,
        average: u64,
        /// One for each [`Update::LINE`] numbers; 0 for 1 everywhere.
        factors: u64,
        /// float64, of all derivatives; 0 where nothing is clipped.
        norm: u64,
        from: i32,
        to: i32,
        learned: i32,
        /// [`Update::SGD`], ..
        rule: i32,
        nesterov: i32,
        decoupled: i32,
        amsgrad: i32,
        centered: i32,
        /// Whether there is a momentum.
        moving: i32,
        /// Whether it begins with these derivatives.
        begins: i32,
        /// Whether the derivatives are sums, which begin again at 0.
        sums: i32,
        keep: f32,
        take: f32,
        keep_second: f32,
        eps: f32,
        root: f32,
        momentum: f32,
        kept_average: f32,
        rate: f64,
        corrected: f64,
        decay: f64,
        scale: f64,
        most: f64,
    }
}

impl Update {
    pub const SGD: i32 = 0;
    pub const ADAM: i32 = 1;
    pub const RMSPROP: i32 = 2;
    pub const LINE: usize = 16;

    pub fn launch(&self) -> Launch {
        strided(Variant::stored("update", Dtype::F32), "update", (self.to - self.from) as usize)
    }
}

args! {
    /// The norm of numbers, float64, by way of [`Norm::PARTS`] partial sums.
    Norm { x: u64, partials: u64, norm: u64, len: i32, parts: i32, }
}

impl Norm {
    pub const PARTS: usize = 256;

    /// `squares`, then `norm_of`.
    pub fn launches(&self) -> [Launch; 2] {
        let variant = || Variant::stored("update", Dtype::F32);
        let grid = [self.parts as u32, 1, 1];
        [
            Launch { variant: variant(), kernel: "squares", grid, block: [256, 1, 1], shared: 0 },
            Launch { variant: variant(), kernel: "norm_of", grid: [1; 3], block: [32, 1, 1], shared: 0 },
        ]
    }
}

args! {
    /// `y += x`
    Accumulate { x: u64, y: u64, len: i32, reserved: i32, }
}

impl Accumulate {
    pub fn launch(&self) -> Launch {
        strided(Variant::stored("update", Dtype::F32), "accumulate", self.len as usize)
    }
}
