//! Losses, by PyTorch's definitions with the mean as reduction.

use std::mem::discriminant;

/// What is made small. The result is one number, the mean over the batch as PyTorch takes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Loss {
    /// Of logits [N, C] and targets [N, 3]: two classes and the share of the first. Class weights, if any, count as in
    /// `torch.nn.CrossEntropyLoss`: the mean is by their sum.
    CrossEntropy { smoothing: f32, weights: Option<Vec<f32>> },
    /// `max(z, 0) - z t + ln(1 + e^-|z|)`, as `torch.nn.BCEWithLogitsLoss`.
    BceWithLogits,
    /// `(z - t)^2`, as `torch.nn.MSELoss`.
    Mse,
    /// `|z - t|`, as `torch.nn.L1Loss`.
    L1,
    /// Half the square up to `delta`, straight above it, as `torch.nn.HuberLoss`.
    Huber { delta: f32 },
}

impl Loss {
    /// One of each, with the name by which CUDA code knows it.
    pub const ALL: [(&str, Loss); 5] = [
        ("CrossEntropy", Loss::CrossEntropy { smoothing: 0.0, weights: None }),
        ("BceWithLogits", Loss::BceWithLogits),
        ("Mse", Loss::Mse),
        ("L1", Loss::L1),
        ("Huber", Loss::Huber { delta: 1.0 }),
    ];

    /// Its place in [`Loss::ALL`].
    pub fn code(&self) -> i32 {
        crate::place(&Loss::ALL, |other| discriminant(other) == discriminant(self))
    }

    /// How much a class counts; not at all where there are weights and it has none.
    pub fn class_weight(&self, class: usize) -> f64 {
        match self {
            Loss::CrossEntropy { weights: Some(weights), .. } => weights.get(class).map_or(0.0, |w| f64::from(*w)),
            _ => 1.0,
        }
    }

    /// The loss of one output `z` with target `t`.
    ///
    /// # Panics
    /// For [`Loss::CrossEntropy`], which is of rows.
    pub fn value(&self, z: f64, t: f64) -> f64 {
        let d = z - t;
        match self {
            Loss::BceWithLogits => z.max(0.0) - z * t + (-z.abs()).exp().ln_1p(),
            Loss::Mse => d * d,
            Loss::L1 => d.abs(),
            Loss::Huber { delta } if d.abs() > f64::from(*delta) => {
                f64::from(*delta) * (d.abs() - 0.5 * f64::from(*delta))
            }
            Loss::Huber { .. } => 0.5 * d * d,
            Loss::CrossEntropy { .. } => unreachable!("cross entropy is of rows"),
        }
    }

    /// The gradient of [`Loss::value`] by `z`; 0 at the kink of `l1`.
    ///
    /// # Panics
    /// For [`Loss::CrossEntropy`], which is of rows.
    pub fn gradient(&self, z: f64, t: f64) -> f64 {
        let d = z - t;
        match self {
            Loss::BceWithLogits => 1.0 / (1.0 + (-z).exp()) - t,
            Loss::Mse => 2.0 * d,
            Loss::L1 if d == 0.0 => 0.0,
            Loss::L1 => d.signum(),
            Loss::Huber { delta } if d.abs() > f64::from(*delta) => f64::from(*delta) * d.signum(),
            Loss::Huber { .. } => d,
            Loss::CrossEntropy { .. } => unreachable!("cross entropy is of rows"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_those_of_the_losses() {
        let h = 1e-5;
        for (name, loss) in &Loss::ALL[1..] {
            for z in [-2.5, -0.4, 0.3, 1.9, 4.0] {
                let want = (loss.value(z + h, 0.2) - loss.value(z - h, 0.2)) / (2.0 * h);
                let got = loss.gradient(z, 0.2);
                assert!((got - want).abs() < 1e-8, "{name} at {z}: {got}, not {want}");
            }
        }
    }

    #[test]
    fn classes_count_by_their_weights() {
        let weighted = Loss::CrossEntropy { smoothing: 0.1, weights: Some(vec![0.5, 2.0]) };
        assert_eq!([0, 1, 2].map(|class| weighted.class_weight(class)), [0.5, 2.0, 0.0]);
        assert_eq!(Loss::ALL[0].1.class_weight(7), 1.0);
    }
}
