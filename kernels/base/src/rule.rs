//! Optimizers: what an update makes of a weight, as PyTorch's `torch.optim` does.

use std::mem::discriminant;

/// How a gradient changes a weight in one update.
///
/// The gradient g is with decay added; m, v and u are numbers that are kept for each weight, r is the learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// `m = momentum m + (1 - dampening) g`, then `w -= r m`, or `r (g + momentum m)` with Nesterov's. `first`: m begins as g.
    Sgd { momentum: f32, dampening: f32, nesterov: bool, first: bool },
    /// `m += (1 - b1) (g - m)`, `v = b2 v + (1 - b2) g^2`, then `w -= r m / c1 / (sqrt(v / c2) + eps)` (Kingma and Ba
    /// 2015), with the `corrections` c = 1 - beta^update. Amsgrad takes the largest v so far. `decoupled` decay shrinks the
    /// weight itself (AdamW, Loshchilov and Hutter 2019).
    Adam { betas: [f64; 2], eps: f32, decoupled: bool, amsgrad: bool, corrections: [f64; 2] },
    /// `v = alpha v + (1 - alpha) g^2`, then `w -= r g / (sqrt(v) + eps)`; `centered` takes the square of the mean
    /// gradient off v, and `momentum` u collects what the weight is moved by.
    RmsProp { alpha: f32, eps: f32, momentum: f32, centered: bool },
}

impl Rule {
    /// One of each, with the name by which CUDA code knows it.
    pub const ALL: [(&str, Rule); 3] = [
        ("Sgd", Rule::Sgd { momentum: 0.9, dampening: 0.0, nesterov: false, first: true }),
        (
            "Adam",
            Rule::Adam { betas: [0.9, 0.999], eps: 1e-8, decoupled: false, amsgrad: false, corrections: [0.1, 0.001] },
        ),
        ("RmsProp", Rule::RmsProp { alpha: 0.99, eps: 1e-8, momentum: 0.0, centered: false }),
    ];

    /// Its place in [`Rule::ALL`].
    pub fn code(&self) -> i32 {
        crate::place(&Rule::ALL, |other| discriminant(other) == discriminant(self))
    }

    /// The rule of update number `update`, from 1.
    pub fn at(self, update: u64) -> Rule {
        match self {
            Rule::Sgd { momentum, dampening, nesterov, .. } => {
                Rule::Sgd { momentum, dampening, nesterov, first: update == 1 }
            }
            Rule::Adam { betas, eps, decoupled, amsgrad, .. } => {
                let corrections = betas.map(|beta| 1.0 - beta.powf(update as f64));
                Rule::Adam { betas, eps, decoupled, amsgrad, corrections }
            }
            Rule::RmsProp { .. } => self,
        }
    }

    /// Numbers that are kept for each weight.
    pub fn moments(&self) -> usize {
        match self {
            Rule::Sgd { momentum, .. } => usize::from(*momentum != 0.0),
            Rule::Adam { amsgrad, .. } => 2 + usize::from(*amsgrad),
            Rule::RmsProp { momentum, centered, .. } => 1 + usize::from(*centered) + usize::from(*momentum != 0.0),
        }
    }
}
