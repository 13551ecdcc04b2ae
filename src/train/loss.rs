//! The losses of a `train` block: the targets that each compares outputs with, the meaning of outputs that learned by it, and
//! the kernels' loss that it is.

use crate::data::{DataSource, Want};
use crate::diag::{Code, Problem};
use crate::io::results::Scores;
use crate::words::{CHANCE, Choices, Kind, choices};

choices! {
    /// The number that training makes small, with PyTorch's arguments and defaults.
    pub enum Loss {
        /// softmax and the negative logarithm of the class's share; `balanced` weighs a class by the inverse of how often it
        /// comes
        CrossEntropy = "cross_entropy" {
            label_smoothing: f64[CHANCE] = 0.0,
            class_weights: ClassWeights = ClassWeights::None,
        },
        /// a sigmoid and binary cross entropy a value
        BceWithLogits = "bce_with_logits" { target: Target = Target::Label },
        /// the mean of squared differences
        Mse = "mse" { target: Target = Target::Label },
        /// the mean of absolute differences
        L1 = "l1" { target: Target = Target::Label },
        /// squared below `delta`, straight above it
        Huber = "huber" { delta: f64[Kind::Positive] = 1.0, target: Target = Target::Label },
    }
}

choices! {
    /// How much each class counts.
    #[derive(Copy)]
    pub enum ClassWeights {
        /// all as much
        None = "none",
        /// by the inverse of how often it comes
        Balanced = "balanced",
    }
}

choices! {
    /// The other side of a loss's comparison with the outputs.
    #[derive(Copy)]
    pub enum Target {
        /// the sample's label
        Label = "label",
        /// the sample itself
        Image = "image",
    }
}

impl Loss {
    /// The loss as kernels know it. `class_weights` are those of cross entropy.
    pub fn kernel(&self, class_weights: Option<Vec<f32>>) -> archc_base::Loss {
        match *self {
            Loss::CrossEntropy { label_smoothing, .. } => {
                archc_base::Loss::CrossEntropy { smoothing: label_smoothing as f32, weights: class_weights }
            }
            Loss::BceWithLogits { .. } => archc_base::Loss::BceWithLogits,
            Loss::Mse { .. } => archc_base::Loss::Mse,
            Loss::L1 { .. } => archc_base::Loss::L1,
            Loss::Huber { delta, .. } => archc_base::Loss::Huber { delta: delta as f32 },
        }
    }

    pub fn target(&self) -> Target {
        match self {
            Loss::CrossEntropy { .. } => Target::Label,
            Loss::BceWithLogits { target }
            | Loss::Mse { target }
            | Loss::L1 { target }
            | Loss::Huber { target, .. } => *target,
        }
    }

    /// The target of a picture.
    ///
    /// # Errors
    /// If the data has nothing that the loss compares with.
    pub fn want(&self, data: &DataSource) -> Result<Want, Problem> {
        match (self, data) {
            (Loss::CrossEntropy { .. }, _) => Ok(Want::Classes),
            _ if self.target() == Target::Image => Ok(Want::Image),
            (_, DataSource::Csv { .. }) => Ok(Want::Numbers),
            (Loss::BceWithLogits { .. }, DataSource::Folder { .. }) => Ok(Want::OneHot),
            (Loss::Mse { .. } | Loss::L1 { .. } | Loss::Huber { .. }, DataSource::Folder { .. }) => {
                let loss = self.name();
                let message = format!("`{loss}` needs numbers to come near to, a folder has classes");
                Err(Problem::new(Code::Train, message)
                    .hint(format!("learn the picture itself: `loss {loss}(target = image)`"))
                    .hint("or classes: `loss cross_entropy`; or numbers from a table: `data csv(..)`"))
            }
        }
    }

    /// How outputs that learned by it give the probabilities of classes; None where they are numbers.
    pub fn scores(&self) -> Option<Scores> {
        match self {
            Loss::CrossEntropy { .. } => Some(Scores::Logits),
            Loss::BceWithLogits { .. } => Some(Scores::Sigmoids),
            Loss::Mse { .. } | Loss::L1 { .. } | Loss::Huber { .. } => None,
        }
    }
}
