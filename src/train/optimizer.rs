//! The optimizer of a `train` block as the rule of each update.

use super::TrainSpec;
use super::spec::Setting;
use crate::exec::cpu::kernels::grad::Rule;

/// What an `optimizer` line says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    pub lr: f64,
    pub weight_decay: f64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Sgd { momentum: f64, dampening: f64, nesterov: bool },
    Adam { betas: [f64; 2], eps: f64, amsgrad: bool, decoupled: bool },
    RmsProp { alpha: f64, eps: f64, momentum: f64, centered: bool },
}

impl Optimizer {
    /// As the `train` block says.
    pub fn new(spec: &TrainSpec) -> Optimizer {
        let choice = spec.choice("optimizer").expect("a checked block has an optimizer");
        let (float, bool) = (|name: &str| choice.float(name), |name: &str| choice.flag(name));
        let kind = match choice.name() {
            "adam" | "adamw" => {
                let betas = match choice.arg("betas") {
                    Some(Setting::Floats(betas)) => [betas[0], betas[1]],
                    _ => [0.9, 0.999],
                };
                let decoupled = choice.name() == "adamw";
                Kind::Adam { betas, eps: float("eps"), amsgrad: bool("amsgrad"), decoupled }
            }
            "rmsprop" => {
                let (alpha, eps, momentum) = (float("alpha"), float("eps"), float("momentum"));
                Kind::RmsProp { alpha, eps, momentum, centered: bool("centered") }
            }
            _ => Kind::Sgd { momentum: float("momentum"), dampening: float("dampening"), nesterov: bool("nesterov") },
        };
        Optimizer { lr: float("lr"), weight_decay: float("weight_decay"), kind }
    }

    /// The rule of update number `update`, from 1.
    pub fn rule(&self, update: u64) -> Rule {
        match self.kind {
            Kind::Sgd { momentum, dampening, nesterov } => {
                Rule::Sgd { momentum: momentum as f32, dampening: dampening as f32, nesterov, first: update == 1 }
            }
            Kind::Adam { betas, eps, amsgrad, decoupled } => {
                let corrections = betas.map(|beta| 1.0 - beta.powf(update as f64));
                Rule::Adam { betas: betas.map(|beta| beta as f32), eps: eps as f32, decoupled, amsgrad, corrections }
            }
            Kind::RmsProp { alpha, eps, momentum, centered } => {
                Rule::RmsProp { alpha: alpha as f32, eps: eps as f32, momentum: momentum as f32, centered }
            }
        }
    }
}
