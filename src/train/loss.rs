//! The losses of a `train` block: their words, the targets that each compares outputs with, and the meaning of outputs that
//! learned by it. Formulas are those of [`archc_base::Loss`].

use archc_base::{Outputs, ValueLoss};

use crate::data::{DataSource, Want};
use crate::diag::{Code, Problem};
use crate::io::results::Scores;
use crate::words::{CHANCE, Choices, Kind, choices};

/// Declares the losses: cross entropy, and those of single values by name, word and argument, with the range that it has and
/// its default.
macro_rules! losses {
    ($($(#[doc = $doc:literal])* $Name:ident = $name:literal $({ $arg:ident: $range:expr, $default:literal })?,)*) => {
        choices! {
            /// The number that training makes small, with PyTorch's arguments and defaults.
            pub enum Loss {
                /// softmax and the negative logarithm of the class's share; `balanced` weighs a class by the inverse of how
                /// often it comes
                CrossEntropy = "cross_entropy" {
                    label_smoothing: f64[CHANCE] = 0.0,
                    class_weights: ClassWeights = ClassWeights::None,
                },
                $($(#[doc = $doc])* $Name = $name {
                    $($arg: f64[$range] = $default,)?
                    target: Target = Target::Label,
                },)*
            }
        }

        impl Loss {
            /// The loss as kernels know it. `weights` are those of the classes of cross entropy.
            pub fn kernel(&self, weights: Option<Vec<f32>>) -> archc_base::Loss {
                match *self {
                    Loss::CrossEntropy { label_smoothing, .. } => {
                        archc_base::Loss::CrossEntropy { smoothing: label_smoothing as f32, weights }
                    }
                    $(Loss::$Name { $($arg,)? .. } => ValueLoss::$Name $({ $arg: $arg as f32 })?.into(),)*
                }
            }

            pub fn target(&self) -> Target {
                match *self {
                    Loss::CrossEntropy { .. } => Target::Label,
                    $(Loss::$Name { target, .. } => target,)*
                }
            }
        }
    };
}

losses! {
    /// a sigmoid and binary cross entropy a value
    BceWithLogits = "bce_with_logits",
    /// the mean of squared differences
    Mse = "mse",
    /// the mean of absolute differences
    L1 = "l1",
    /// squared below `delta`, straight above it
    Huber = "huber" { delta: Kind::Positive, 1.0 },
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
    /// The target of an image.
    ///
    /// # Errors
    /// If the data has nothing that the loss compares with.
    pub fn want(&self, data: &DataSource) -> Result<Want, Problem> {
        match (self.kernel(None).outputs(), data) {
            (Outputs::Logits, _) => Ok(Want::Classes),
            _ if self.target() == Target::Image => Ok(Want::Image),
            (_, DataSource::Csv { .. }) => Ok(Want::Numbers),
            (Outputs::Sigmoids, DataSource::Folder { .. }) => Ok(Want::OneHot),
            (Outputs::Numbers, DataSource::Folder { .. }) => {
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
        match self.kernel(None).outputs() {
            Outputs::Logits => Some(Scores::Logits),
            Outputs::Sigmoids => Some(Scores::Sigmoids),
            Outputs::Numbers => None,
        }
    }
}
