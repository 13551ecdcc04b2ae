//! Losses and their gradients.

use super::launch::{blocks, plain};
use super::{Code, Dtype, Launch, Stored, Variant};

args! {
    use Code<archc_base::Loss>, archc_base::ValueLoss;

    const THREADS: usize = 256;

    /// A loss, or its gradient: outputs stored and dense, targets float32.
    pub struct Loss {
        z: *const Stored,
        targets: *const f32,
        dz: *mut Stored,
        /// [`Loss::partials`] floats, `[blocks][2]`: sums of the loss, of the targets and of smoothing.
        partials: *mut f32,
        /// float32, one a class; 0 for none.
        weights: *const f32,
        rows: i32,
        /// Values of a row.
        classes: i32,
        kind: Code<archc_base::Loss>,
        smoothing: f32,
        /// Of a loss of single values.
        parameter: f32,
        reserved: i32,
    }

    /// The loss of the parts that a [`Loss`] left: one float.
    pub struct LossEnd {
        loss: Loss,
        y: *mut f32,
        parts: i32,
        reserved: i32,
    }
}

impl Loss {
    fn start(&self, dtype: Dtype, [rows, values]: [&'static str; 2], most: usize) -> Launch {
        let (kernel, grid) = match archc_base::Loss::ALL[self.kind as usize].1 {
            archc_base::Loss::CrossEntropy { .. } => (rows, blocks(self.rows as usize, 8)),
            archc_base::Loss::OfValues(_) => {
                let [x, ..] = blocks(self.rows as usize * self.classes as usize, 4 * THREADS);
                (values, [x.min(most as u32), 1, 1])
            }
        };
        plain(Variant::stored("loss", dtype), kernel, grid, [32, THREADS / 32])
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
        plain(variant, "loss_end", [1; 3], [32, THREADS / 32])
    }
}
