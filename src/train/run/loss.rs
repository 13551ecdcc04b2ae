//! Losses of outputs, in float64 with PyTorch's formulas: what validation prints.

use archc_base::Loss;

use crate::data::Targets;
use crate::tensor::Tensor;

/// The mean loss of `outputs`, [B, ..].
pub fn loss(kind: &Loss, outputs: &Tensor, targets: &Targets) -> f64 {
    match (kind, targets) {
        (
            Loss::CrossEntropy { smoothing, weights },
            Targets::Classes(classes) | Targets::Mixed { first: classes, .. },
        ) => cross_entropy(outputs, classes, f64::from(*smoothing), weights.as_deref()),
        // numbers have no class, and classes no numbers: a checked run has neither
        (Loss::CrossEntropy { .. }, Targets::Values(_))
        | (Loss::OfValues(_), Targets::Classes(_) | Targets::Mixed { .. }) => f64::NAN,
        (Loss::OfValues(loss), Targets::Values(values)) => {
            let pairs = outputs.data().iter().zip(values.data());
            let sum: f64 = pairs.map(|(x, y)| loss.value(f64::from(*x), f64::from(*y))).sum();
            sum / outputs.len().max(1) as f64
        }
    }
}

fn cross_entropy(outputs: &Tensor, classes: &[usize], smoothing: f64, weights: Option<&[f32]>) -> f64 {
    let count = outputs.shape().get(1).copied().unwrap_or(1).max(1);
    let weight = |class: usize| weights.map_or(1.0, |weights| f64::from(weights[class]));
    let (mut sum, mut whole) = (0.0, 0.0);
    for (row, class) in outputs.data().chunks_exact(count).zip(classes) {
        let high = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f64 = row.iter().map(|value| f64::from(value - high).exp()).sum();
        let minus_log = |value: f32| total.ln() - f64::from(value - high);
        let spread: f64 = row.iter().enumerate().map(|(at, value)| weight(at) * minus_log(*value)).sum();
        sum += (1.0 - smoothing) * weight(*class) * minus_log(row[*class]) + smoothing / count as f64 * spread;
        whole += weight(*class);
    }
    sum / whole
}

#[cfg(test)]
mod tests {
    use archc_base::ValueLoss;

    use super::*;

    #[test]
    fn losses_are_pytorchs() {
        let outputs = Tensor::new([2, 3], vec![0.5, -1.0, 2.0, 1.5, 0.25, -0.75]);
        let classes = Targets::Classes(vec![2, 1]);
        let values = Targets::Values(Tensor::new([2, 3], vec![0.0, 1.0, 1.0, 0.0, 1.0, 0.0]));
        let weights = Some(vec![1.0, 2.0, 0.5]);
        // torch.nn.functional, float64
        let cases = [
            (Loss::CrossEntropy { smoothing: 0.0, weights: None }, &classes, 0.910_991_953),
            (Loss::CrossEntropy { smoothing: 0.1, weights }, &classes, 1.356_546_228),
            (ValueLoss::BceWithLogits.into(), &values, 0.846_415_064),
            (ValueLoss::Mse.into(), &values, 1.437_5),
            (ValueLoss::L1.into(), &values, 1.083_333_333),
            (ValueLoss::Huber { delta: 0.7 }.into(), &values, 0.516_666_667),
        ];
        for (kind, targets, wanted) in cases {
            let got = loss(&kind, &outputs, targets);
            assert!((got - wanted).abs() < 1e-6, "{kind:?}: {got}, not {wanted}");
        }
    }
}
