//! Learning rates as functions of the step alone, so that a resumed run goes on as an unbroken one.

use std::f64::consts::PI;

use crate::words::{CHANCE, Kind, choices};

choices! {
    /// How the rate changes over the epochs. So many epochs of `warmup` lead linearly up to it.
    #[derive(Copy)]
    pub enum Schedule {
        /// always the optimizer's rate
        Constant = "constant" { warmup: f64 = 0.0 },
        /// times `gamma` after every `step_size` epochs
        Step = "step" { step_size: f64[Kind::Positive], gamma: f64 = 0.1, warmup: f64 = 0.0 },
        /// half a cosine from the optimizer's rate down to `eta_min`
        Cosine = "cosine" { eta_min: f64 = 0.0, warmup: f64 = 0.0 },
        /// up to the optimizer's rate and down again, as torch.optim.lr_scheduler.OneCycleLR
        OneCycle = "one_cycle" {
            pct_start: f64[CHANCE] = 0.3,
            div_factor: f64[Kind::Positive] = 25.0,
            final_div_factor: f64[Kind::Positive] = 1e4,
        },
        /// (1 - progress) to the power, down to 0
        Polynomial = "polynomial" { power: f64[Kind::Positive] = 1.0, warmup: f64 = 0.0 },
    }
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
    fn warmup(&self) -> f64 {
        match *self {
            Schedule::Constant { warmup }
            | Schedule::Step { warmup, .. }
            | Schedule::Cosine { warmup, .. }
            | Schedule::Polynomial { warmup, .. } => warmup,
            Schedule::OneCycle { .. } => 0.0,
        }
    }

    /// The rate of the step that comes next, for an optimizer's rate `lr`.
    pub fn rate(&self, lr: f64, at: Progress) -> f64 {
        let each = at.steps_per_epoch.max(1) as f64;
        let (epoch, epochs) = (at.step as f64 / each, at.epochs as f64);
        // the first step learns a little, the last of the warm-up at the whole rate
        let (warm, warmup) = ((at.step + 1) as f64 / each, self.warmup());
        if warm < warmup {
            return lr * warm / warmup;
        }
        let share = ((epoch - warmup) / (epochs - warmup).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        match *self {
            Schedule::Constant { .. } => lr,
            Schedule::Step { step_size, gamma, .. } => lr * gamma.powf((epoch / step_size + 1e-9).floor()),
            Schedule::Cosine { eta_min, .. } => eta_min + (lr - eta_min) * 0.5 * (1.0 + (PI * share).cos()),
            Schedule::Polynomial { power, .. } => lr * (1.0 - share).powf(power),
            Schedule::OneCycle { pct_start, div_factor, final_div_factor } => {
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

    fn rates(schedule: Schedule, steps: &[u64]) -> Vec<f64> {
        steps.iter().map(|step| schedule.rate(0.1, Progress { step: *step, steps_per_epoch: 10, epochs: 4 })).collect()
    }

    fn close(got: &[f64], want: &[f64]) {
        assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-9), "{got:?}, not {want:?}");
    }

    #[test]
    fn rates_are_those_of_pytorch() {
        let step = Schedule::Step { step_size: 1.0, gamma: 0.5, warmup: 0.0 };
        close(&rates(step, &[0, 9, 10, 39]), &[0.1, 0.1, 0.05, 0.0125]);
        let cosine = Schedule::Cosine { eta_min: 0.02, warmup: 0.0 };
        // CosineAnnealingLR(T_max = 40, eta_min = 0.02)
        close(&rates(cosine, &[0, 10, 20, 40]), &[0.1, 0.088_284_271_247, 0.06, 0.02]);
        // OneCycleLR(max_lr = 0.1, total_steps = 40)
        let cycle = Schedule::OneCycle { pct_start: 0.3, div_factor: 25.0, final_div_factor: 1e4 };
        close(&rates(cycle, &[0, 11, 25, 39]), &[0.004, 0.1, 0.050_000_2, 4e-7]);
        close(&rates(Schedule::Polynomial { power: 2.0, warmup: 0.0 }, &[0, 20]), &[0.1, 0.025]);
    }

    #[test]
    fn warm_up_is_linear() {
        close(&rates(Schedule::Constant { warmup: 1.0 }, &[0, 4, 9, 10]), &[0.01, 0.05, 0.1, 0.1]);
        close(&rates(Schedule::Cosine { eta_min: 0.0, warmup: 2.0 }, &[9, 30, 40]), &[0.05, 0.05, 0.0]);
    }
}
