//! Losses and their gradients, by PyTorch's definitions with the mean as reduction.
//!
//! Formulas in float64: outputs are few beside the values of a network.

use archc_base::{Loss, ValueLoss};

use super::super::par::{Shared, tasks};

/// A row's target: classes with their shares, none for a class that does not exist.
fn shares(target: &[f32]) -> [(usize, f64); 2] {
    let share = f64::from(target[2]);
    [(target[0] as usize, share), (target[1] as usize, 1.0 - share)]
}

/// The sum of the weights of the targets.
fn total(kind: &Loss, targets: &[f32]) -> f64 {
    let of = |target| shares(target).into_iter().map(|(class, share)| share * kind.class_weight(class)).sum::<f64>();
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

/// The mean loss of outputs `z`, in rows of `classes`.
pub fn loss(kind: &Loss, classes: usize, z: &[f32], targets: &[f32]) -> f32 {
    let (smoothing, weights) = match kind {
        Loss::CrossEntropy { smoothing, weights } => (f64::from(*smoothing), weights),
        Loss::OfValues(loss) => return mean(*loss, z, targets),
    };
    let (mut own, mut smooth) = (0.0, 0.0);
    for (row, target) in z.chunks_exact(classes).zip(targets.chunks_exact(3)) {
        let log = log_sum(row);
        for (class, share) in shares(target) {
            own += share * kind.class_weight(class) * (log - row.get(class).map_or(f64::NAN, |z| f64::from(*z)));
        }
        if smoothing > 0.0 {
            smooth += row.iter().enumerate().map(|(c, z)| kind.class_weight(c) * (log - f64::from(*z))).sum::<f64>();
        }
    }
    let by = total(kind, targets);
    let rows = if weights.is_some() { by } else { (z.len() / classes) as f64 };
    ((1.0 - smoothing) * own / by + smoothing / classes as f64 * smooth / rows) as f32
}

/// The gradient of [`loss`] by every output.
pub fn loss_data(kind: &Loss, classes: usize, z: &[f32], targets: &[f32], out: &mut [f32]) {
    assert!(out.len() == z.len(), "a gradient for each value");
    let (smoothing, weights) = match kind {
        Loss::CrossEntropy { smoothing, weights } => (f64::from(*smoothing), weights),
        Loss::OfValues(loss) => return mean_data(*loss, z, targets, out),
    };
    let by = total(kind, targets);
    let rows = if weights.is_some() { by } else { (z.len() / classes) as f64 };
    let all: f64 = (0..classes).map(|class| kind.class_weight(class)).sum();
    let chunks = z.chunks_exact(classes).zip(targets.chunks_exact(3)).zip(out.chunks_exact_mut(classes));
    for ((row, target), out) in chunks {
        let log = log_sum(row);
        let shares = shares(target);
        let own: f64 = shares.iter().map(|(class, share)| share * kind.class_weight(*class)).sum();
        for (class, (z, out)) in row.iter().zip(out).enumerate() {
            let p = (f64::from(*z) - log).exp();
            let given: f64 = shares.iter().filter(|(at, _)| *at == class).map(|(_, share)| share).sum();
            let weight = kind.class_weight(class);
            let hard = (1.0 - smoothing) / by * (p * own - given * weight);
            *out = (hard + smoothing / classes as f64 / rows * (p * all - weight)) as f32;
        }
    }
}

fn mean(loss: ValueLoss, z: &[f32], targets: &[f32]) -> f32 {
    assert!(z.len() == targets.len(), "a target for each value");
    let parts = z.len().div_ceil(GRAIN);
    let mut sums = vec![0f64; parts];
    {
        let sums = std::sync::Mutex::new(&mut sums);
        tasks(parts, |part| {
            let range = part * GRAIN..((part + 1) * GRAIN).min(z.len());
            let pairs = z[range.clone()].iter().zip(&targets[range]);
            let sum = pairs.map(|(z, t)| loss.value(f64::from(*z), f64::from(*t))).sum();
            sums.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[part] = sum;
        });
    }
    (sums.iter().sum::<f64>() / z.len() as f64) as f32
}

fn mean_data(loss: ValueLoss, z: &[f32], targets: &[f32], out: &mut [f32]) {
    let count = z.len() as f64;
    let base = Shared(out.as_mut_ptr());
    tasks(z.len().div_ceil(GRAIN), |part| {
        for i in part * GRAIN..((part + 1) * GRAIN).min(z.len()) {
            let gradient = loss.gradient(f64::from(z[i]), f64::from(targets[i]));
            // SAFETY: each task has its own values, which are as many as there are outputs.
            unsafe { *base.at(i) = (gradient / count) as f32 };
        }
    });
}
