//! The optimizers of a `train` block, and the rule of each update.

use archc_base::Rule;

use crate::words::choices;

choices! {
    /// How a gradient changes a tensor, with PyTorch's arguments and defaults.
    #[derive(Copy)]
    pub enum Optimizer {
        /// torch.optim.SGD
        Sgd = "sgd" {
            lr: f64 = 1e-3,
            momentum: f64 = 0.0,
            dampening: f64 = 0.0,
            weight_decay: f64 = 0.0,
            nesterov: bool = false,
        },
        /// torch.optim.Adam
        Adam = "adam" {
            lr: f64 = 1e-3,
            betas: (f64, f64) = (0.9, 0.999),
            eps: f64 = 1e-8,
            weight_decay: f64 = 0.0,
            amsgrad: bool = false,
        },
        /// torch.optim.AdamW
        AdamW = "adamw" {
            lr: f64 = 1e-3,
            betas: (f64, f64) = (0.9, 0.999),
            eps: f64 = 1e-8,
            weight_decay: f64 = 1e-2,
            amsgrad: bool = false,
        },
        /// torch.optim.RMSprop
        RmsProp = "rmsprop" {
            lr: f64 = 1e-2,
            alpha: f64 = 0.99,
            eps: f64 = 1e-8,
            weight_decay: f64 = 0.0,
            momentum: f64 = 0.0,
            centered: bool = false,
        },
    }
}

impl Optimizer {
    /// The rule of the first update; [`Rule::at`] has the others.
    pub fn rule(&self) -> Rule {
        let adam = |(b1, b2): (f64, f64), eps: f64, amsgrad: bool, decoupled: bool| {
            let betas = [b1, b2];
            let corrections = betas.map(|beta| 1.0 - beta);
            Rule::Adam { betas, eps: eps as f32, decoupled, amsgrad, corrections }
        };
        match *self {
            Optimizer::Sgd { momentum, dampening, nesterov, .. } => {
                Rule::Sgd { momentum: momentum as f32, dampening: dampening as f32, nesterov, first: true }
            }
            Optimizer::Adam { betas, eps, amsgrad, .. } => adam(betas, eps, amsgrad, false),
            Optimizer::AdamW { betas, eps, amsgrad, .. } => adam(betas, eps, amsgrad, true),
            Optimizer::RmsProp { alpha, eps, momentum, centered, .. } => {
                Rule::RmsProp { alpha: alpha as f32, eps: eps as f32, momentum: momentum as f32, centered }
            }
        }
    }

    /// The learning rate that a schedule changes.
    pub fn lr(&self) -> f64 {
        let (Optimizer::Sgd { lr, .. }
        | Optimizer::Adam { lr, .. }
        | Optimizer::AdamW { lr, .. }
        | Optimizer::RmsProp { lr, .. }) = self;
        *lr
    }

    pub fn weight_decay(&self) -> f64 {
        let (Optimizer::Sgd { weight_decay, .. }
        | Optimizer::Adam { weight_decay, .. }
        | Optimizer::AdamW { weight_decay, .. }
        | Optimizer::RmsProp { weight_decay, .. }) = self;
        *weight_decay
    }
}
