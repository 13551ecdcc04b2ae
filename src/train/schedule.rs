//! Learning rates as functions of the step alone, so that a resumed run goes on as an unbroken one.

use std::f64::consts::PI;

use super::{Choice, TrainSpec};

/// How the rate changes, in epochs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    shape: Shape,
    /// Epochs that lead linearly up to the rate.
    warmup: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Constant,
    Step { size: f64, gamma: f64 },
    Cosine { eta_min: f64 },
    OneCycle { pct_start: f64, div_factor: f64, final_div_factor: f64 },
    Polynomial { power: f64 },
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    pub steps_per_epoch: u64,
    pub epochs: u64,
}

impl Schedule {
    /// As the `train` block says.
    pub fn new(spec: &TrainSpec) -> Schedule {
        let Some(choice) = spec.choice("schedule") else { return Schedule { shape: Shape::Constant, warmup: 0.0 } };
        let shape = match choice.name() {
            "step" => Shape::Step { size: choice.float("step_size"), gamma: choice.float("gamma") },
            "cosine" => Shape::Cosine { eta_min: choice.float("eta_min") },
            "one_cycle" => Shape::OneCycle {
                pct_start: choice.float("pct_start"),
                div_factor: choice.float("div_factor"),
                final_div_factor: choice.float("final_div_factor"),
            },
            "polynomial" => Shape::Polynomial { power: choice.float("power") },
            _ => Shape::Constant,
        };
        Schedule { shape, warmup: Choice::arg(choice, "warmup").map_or(0.0, |_| choice.float("warmup")) }
    }

    /// The rate of the step that comes next, for an optimizer's rate `lr`.
    pub fn rate(&self, lr: f64, at: Progress) -> f64 {
        let each = at.steps_per_epoch.max(1) as f64;
        let (epoch, epochs) = (at.step as f64 / each, at.epochs as f64);
        // the first step learns a little, the last of the warm-up at the whole rate
        let warm = (at.step + 1) as f64 / each;
        if warm < self.warmup {
            return lr * warm / self.warmup;
        }
        let share = ((epoch - self.warmup) / (epochs - self.warmup).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        match self.shape {
            Shape::Constant => lr,
            Shape::Step { size, gamma } => lr * gamma.powf((epoch / size + 1e-9).floor()),
            Shape::Cosine { eta_min } => eta_min + (lr - eta_min) * 0.5 * (1.0 + (PI * share).cos()),
            Shape::Polynomial { power } => lr * (1.0 - share).powf(power),
            Shape::OneCycle { pct_start, div_factor, final_div_factor } => {
                let (step, total) = (at.step as f64, each * epochs);
                let (turn, end) = (pct_start * total - 1.0, total - 1.0);
                let between = |from: f64, to: f64, share: f64| to + (from - to) / 2.0 * (1.0 + (PI * share).cos());
                let start = lr / div_factor;
                match step <= turn {
                    true => between(start, lr, step / turn),
                    false => between(lr, start / final_div_factor, ((step - turn) / (end - turn)).min(1.0)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(shape: Shape, warmup: f64, steps: &[u64]) -> Vec<f64> {
        let schedule = Schedule { shape, warmup };
        steps.iter().map(|step| schedule.rate(0.1, Progress { step: *step, steps_per_epoch: 10, epochs: 4 })).collect()
    }

    fn close(got: &[f64], want: &[f64]) {
        assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-9), "{got:?}, not {want:?}");
    }

    #[test]
    fn rates_are_those_of_pytorch() {
        let step = Shape::Step { size: 1.0, gamma: 0.5 };
        close(&rates(step, 0.0, &[0, 9, 10, 39]), &[0.1, 0.1, 0.05, 0.0125]);
        let cosine = Shape::Cosine { eta_min: 0.02 };
        // CosineAnnealingLR(T_max = 40, eta_min = 0.02)
        close(&rates(cosine, 0.0, &[0, 10, 20, 40]), &[0.1, 0.088_284_271_247, 0.06, 0.02]);
        // OneCycleLR(max_lr = 0.1, total_steps = 40)
        let cycle = Shape::OneCycle { pct_start: 0.3, div_factor: 25.0, final_div_factor: 1e4 };
        close(&rates(cycle, 0.0, &[0, 11, 25, 39]), &[0.004, 0.1, 0.050_000_2, 4e-7]);
        close(&rates(Shape::Polynomial { power: 2.0 }, 0.0, &[0, 20]), &[0.1, 0.025]);
    }

    #[test]
    fn warm_up_is_linear() {
        close(&rates(Shape::Constant, 1.0, &[0, 4, 9, 10]), &[0.01, 0.05, 0.1, 0.1]);
        close(&rates(Shape::Cosine { eta_min: 0.0 }, 2.0, &[9, 30, 40]), &[0.05, 0.05, 0.0]);
    }
}
