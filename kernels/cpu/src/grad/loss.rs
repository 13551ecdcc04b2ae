//! Losses and their derivatives, by PyTorch's definitions with the mean as reduction.
//!
//! Formulas in float64: what they are taken of is small beside a network.

use super::super::par::{Shared, tasks};

/// Which loss.
#[derive(Clone, Debug, PartialEq)]
pub enum LossKind {
    /// Rows of logits; targets [rows, 3]: two classes and the share of the first.
    CrossEntropy {
        classes: usize,
        smoothing: f32,
        weights: Option<Vec<f32>>,
    },
    BceWithLogits,
    Mse,
    L1,
    Huber {
        delta: f32,
    },
}

impl LossKind {
    fn weight(&self, class: usize) -> f64 {
        match self {
            LossKind::CrossEntropy { weights: Some(weights), .. } => weights.get(class).map_or(0.0, |w| f64::from(*w)),
            _ => 1.0,
        }
    }

    /// The loss of one value, and its derivative.
    fn value(&self, z: f64, t: f64) -> (f64, f64) {
        let d = z - t;
        match self {
            LossKind::BceWithLogits => (z.max(0.0) - z * t + (-z.abs()).exp().ln_1p(), 1.0 / (1.0 + (-z).exp()) - t),
            LossKind::Mse => (d * d, 2.0 * d),
            LossKind::L1 => (d.abs(), if d == 0.0 { 0.0 } else { d.signum() }),
            LossKind::Huber { delta } => {
                let delta = f64::from(*delta);
                match d.abs() <= delta {
                    true => (0.5 * d * d, d),
                    false => (delta * (d.abs() - 0.5 * delta), delta * d.signum()),
                }
            }
            LossKind::CrossEntropy { .. } => unreachable!("goes by rows"),
        }
    }
}

/// A row's target: classes with their shares, none for a class that does not exist.
fn shares(target: &[f32]) -> [(usize, f64); 2] {
    let share = f64::from(target[2]);
    [(target[0] as usize, share), (target[1] as usize, 1.0 - share)]
}

/// The sum of the weights of the targets.
fn total(kind: &LossKind, targets: &[f32]) -> f64 {
    let of = |target| shares(target).into_iter().map(|(class, share)| share * kind.weight(class)).sum::<f64>();
    targets.chunks_exact(3).map(of).sum()
}

/// The logarithm of the sum of exponentials of a row.
fn log_sum(row: &[f32]) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|z| f64::from(z - max).exp()).sum();
    f64::from(max) + sum.ln()
}

/// Values of a task.
const GRAIN: usize = 16 << 10;

/// The mean loss of outputs `z`.
pub fn loss(kind: &LossKind, z: &[f32], targets: &[f32]) -> f32 {
    if let LossKind::CrossEntropy { classes, smoothing, weights } = kind {
        let (mut own, mut smooth) = (0.0, 0.0);
        for (row, target) in z.chunks_exact(*classes).zip(targets.chunks_exact(3)) {
            let log = log_sum(row);
            for (class, share) in shares(target) {
                own += share * kind.weight(class) * (log - row.get(class).map_or(f64::NAN, |z| f64::from(*z)));
            }
            if *smoothing > 0.0 {
                smooth += row.iter().enumerate().map(|(c, z)| kind.weight(c) * (log - f64::from(*z))).sum::<f64>();
            }
        }
        let by = total(kind, targets);
        let rows = if weights.is_some() { by } else { (z.len() / classes) as f64 };
        let smoothing = f64::from(*smoothing);
        return ((1.0 - smoothing) * own / by + smoothing / *classes as f64 * smooth / rows) as f32;
    }
    assert!(z.len() == targets.len(), "a target for each value");
    let parts = z.len().div_ceil(GRAIN);
    let mut sums = vec![0f64; parts];
    {
        let sums = std::sync::Mutex::new(&mut sums);
        tasks(parts, |part| {
            let range = part * GRAIN..((part + 1) * GRAIN).min(z.len());
            let pairs = z[range.clone()].iter().zip(&targets[range]);
            let sum = pairs.map(|(z, t)| kind.value(f64::from(*z), f64::from(*t)).0).sum();
            sums.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[part] = sum;
        });
    }
    (sums.iter().sum::<f64>() / z.len() as f64) as f32
}

/// The derivative of [`loss`] by every output.
pub fn loss_data(kind: &LossKind, z: &[f32], targets: &[f32], out: &mut [f32]) {
    assert!(out.len() == z.len(), "a derivative for each value");
    if let LossKind::CrossEntropy { classes, smoothing, weights } = kind {
        let by = total(kind, targets);
        let rows = if weights.is_some() { by } else { (z.len() / classes) as f64 };
        let (smoothing, classes) = (f64::from(*smoothing), *classes);
        let all: f64 = (0..classes).map(|class| kind.weight(class)).sum();
        let chunks = z.chunks_exact(classes).zip(targets.chunks_exact(3)).zip(out.chunks_exact_mut(classes));
        for ((row, target), out) in chunks {
            let log = log_sum(row);
            let shares = shares(target);
            let own: f64 = shares.iter().map(|(class, share)| share * kind.weight(*class)).sum();
            for (class, (z, out)) in row.iter().zip(out).enumerate() {
                let p = (f64::from(*z) - log).exp();
                let given: f64 = shares.iter().filter(|(at, _)| *at == class).map(|(_, share)| share).sum();
                let weight = kind.weight(class);
                let hard = (1.0 - smoothing) / by * (p * own - given * weight);
                *out = (hard + smoothing / classes as f64 / rows * (p * all - weight)) as f32;
            }
        }
        return;
    }
    let count = z.len() as f64;
    let base = Shared(out.as_mut_ptr());
    tasks(z.len().div_ceil(GRAIN), |part| {
        for i in part * GRAIN..((part + 1) * GRAIN).min(z.len()) {
            let slope = kind.value(f64::from(z[i]), f64::from(targets[i])).1;
            // SAFETY: each task has its own values, which are as many as there are outputs.
            unsafe { *base.at(i) = (slope / count) as f32 };
        }
    });
}
