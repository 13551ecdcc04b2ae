//! The optimizer of a `train` block as the rule of each update.

use archc_base::Rule;

use super::TrainSpec;
use super::spec::Setting;

/// What an `optimizer` line says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    pub lr: f64,
    pub weight_decay: f64,
    /// Of the first update; [`Rule::at`] has the others.
    pub rule: Rule,
}

impl Optimizer {
    /// As the `train` block says.
    pub fn new(spec: &TrainSpec) -> Optimizer {
        let choice = spec.choice("optimizer").expect("a checked block has an optimizer");
        let (float, bool) = (|name: &str| choice.float(name) as f32, |name: &str| choice.flag(name));
        let rule = match choice.name() {
            "adam" | "adamw" => {
                let betas = match choice.arg("betas") {
                    Some(Setting::Floats(betas)) => [betas[0], betas[1]],
                    _ => [0.9, 0.999],
                };
                let (decoupled, corrections) = (choice.name() == "adamw", betas.map(|beta| 1.0 - beta));
                Rule::Adam { betas, eps: float("eps"), decoupled, amsgrad: bool("amsgrad"), corrections }
            }
            "rmsprop" => {
                let (alpha, eps, momentum) = (float("alpha"), float("eps"), float("momentum"));
                Rule::RmsProp { alpha, eps, momentum, centered: bool("centered") }
            }
            _ => {
                let (momentum, dampening) = (float("momentum"), float("dampening"));
                Rule::Sgd { momentum, dampening, nesterov: bool("nesterov"), first: true }
            }
        };
        Optimizer { lr: choice.float("lr"), weight_decay: choice.float("weight_decay"), rule }
    }
}
