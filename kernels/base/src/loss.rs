//! Losses, by PyTorch's definitions with the mean as reduction. One of single values is an entry of `values!`, from which
//! the kernels of every device are made.

use std::mem::discriminant;

use crate::formula::{abs, choose, exp, log1p, max, sigmoid, sign};

/// A measure of how far outputs are from their targets. The result is one number, the mean over the batch as PyTorch takes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Loss {
    /// Of logits [N, C] and targets [N, 3]: two classes and the share of the first. Class weights, if any, count as in
    /// `torch.nn.CrossEntropyLoss`: the mean is by their sum.
    CrossEntropy { smoothing: f32, weights: Option<Vec<f32>> },
    /// The mean of a function of an output and its target.
    OfValues(ValueLoss),
}

/// The meaning of outputs that were learned by a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Logits of classes, of which one is right.
    Logits,
    /// Logits of classes, each right or not by itself.
    Sigmoids,
    /// Numbers.
    Numbers,
}

/// A formula of an output and its target, and its gradient by the output, as texts of C++ but for the precision: the names of
/// their variables and the expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formulas {
    /// The output and the target.
    pub variables: [&'static str; 2],
    /// The parameter, if there is one.
    pub parameter: Option<&'static str>,
    pub value: &'static str,
    pub gradient: &'static str,
}

/// Declares the losses of single values: `Name { parameter = one to test with } (output, target) -> meaning`, and the
/// [formulas](crate::formula) of value and gradient.
macro_rules! values {
    ($(
        $(#[$doc:meta])*
        $Name:ident $({ $parameter:ident = $example:literal })? ($z:ident, $t:ident) -> $outputs:ident {
            value: $value:expr,
            gradient: $gradient:expr,
        }
    )*) => {
        /// A function of an output and its target.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum ValueLoss { $($(#[$doc])* $Name $({ $parameter: f32 })?,)* }

        impl Loss {
            /// One of each, with the name by which CUDA code knows it.
            pub const ALL: &[(&str, Loss)] = &[
                ("CrossEntropy", Loss::CrossEntropy { smoothing: 0.0, weights: None }),
                $((stringify!($Name), Loss::OfValues(ValueLoss::$Name $({ $parameter: $example })?)),)*
            ];
        }

        impl ValueLoss {
            /// The loss of one output `z` with target `t`.
            pub fn value(self, z: f64, t: f64) -> f64 {
                match self {
                    $(ValueLoss::$Name $({ $parameter })? => {
                        $(let $parameter = f64::from($parameter);)?
                        let ($z, $t) = (z, t);
                        $value
                    })*
                }
            }

            /// The gradient of [`ValueLoss::value`] by `z`; 0 at a kink.
            pub fn gradient(self, z: f64, t: f64) -> f64 {
                match self {
                    $(ValueLoss::$Name $({ $parameter })? => {
                        $(let $parameter = f64::from($parameter);)?
                        let ($z, $t) = (z, t);
                        $gradient
                    })*
                }
            }

            /// Both as texts.
            pub fn formulas(self) -> Formulas {
                match self {
                    $(ValueLoss::$Name { .. } => Formulas {
                        variables: [stringify!($z), stringify!($t)],
                        parameter: [$(Some(stringify!($parameter)),)? None][0],
                        value: stringify!($value),
                        gradient: stringify!($gradient),
                    },)*
                }
            }

            /// The parameter, 0 where there is none.
            pub fn parameter(self) -> f32 {
                match self {
                    $(ValueLoss::$Name $({ $parameter })? => [$($parameter,)? 0.0][0],)*
                }
            }

            fn outputs(self) -> Outputs {
                match self {
                    $(ValueLoss::$Name { .. } => Outputs::$outputs,)*
                }
            }
        }
    };
}

values! {
    /// As `torch.nn.BCEWithLogitsLoss`.
    BceWithLogits (z, t) -> Sigmoids {
        value: max(z, 0.0) - z * t + log1p(exp(-abs(z))),
        gradient: sigmoid(z) - t,
    }
    /// As `torch.nn.MSELoss`.
    Mse (z, t) -> Numbers {
        value: (z - t) * (z - t),
        gradient: 2.0 * (z - t),
    }
    /// As `torch.nn.L1Loss`.
    L1 (z, t) -> Numbers {
        value: abs(z - t),
        gradient: sign(z - t),
    }
    /// Half the square up to `delta`, straight above it, as `torch.nn.HuberLoss`.
    Huber { delta = 1.0 } (z, t) -> Numbers {
        value: choose(abs(z - t) > delta, delta * (abs(z - t) - 0.5 * delta), 0.5 * (z - t) * (z - t)),
        gradient: choose(abs(z - t) > delta, delta * sign(z - t), z - t),
    }
}

impl Loss {
    /// Its place in [`Loss::ALL`].
    pub fn code(&self) -> i32 {
        crate::place(Loss::ALL, |other| match (self, other) {
            (Loss::OfValues(loss), Loss::OfValues(other)) => discriminant(loss) == discriminant(other),
            _ => discriminant(self) == discriminant(other),
        })
    }

    /// The meaning of outputs that were learned by it.
    pub fn outputs(&self) -> Outputs {
        match self {
            Loss::CrossEntropy { .. } => Outputs::Logits,
            Loss::OfValues(loss) => loss.outputs(),
        }
    }

    /// How much a class counts; not at all where there are weights and it has none.
    pub fn class_weight(&self, class: usize) -> f64 {
        match self {
            Loss::CrossEntropy { weights: Some(weights), .. } => weights.get(class).map_or(0.0, |w| f64::from(*w)),
            Loss::CrossEntropy { weights: None, .. } | Loss::OfValues(_) => 1.0,
        }
    }
}

impl From<ValueLoss> for Loss {
    fn from(loss: ValueLoss) -> Loss {
        Loss::OfValues(loss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_those_of_the_losses() {
        let h = 1e-5;
        for (name, loss) in Loss::ALL {
            let Loss::OfValues(loss) = loss else { continue };
            for z in [-2.5, -0.4, 0.3, 1.9, 4.0] {
                let want = (loss.value(z + h, 0.2) - loss.value(z - h, 0.2)) / (2.0 * h);
                let got = loss.gradient(z, 0.2);
                assert!((got - want).abs() < 1e-8, "{name} at {z}: {got}, not {want}");
            }
        }
        assert_eq!(ValueLoss::L1.gradient(0.2, 0.2), 0.0);
    }

    #[test]
    fn codes_are_places_in_the_list() {
        for (place, (name, loss)) in Loss::ALL.iter().enumerate() {
            assert_eq!(loss.code(), place as i32, "{name}");
        }
        assert_eq!(Loss::from(ValueLoss::Huber { delta: 3.0 }).code(), Loss::ALL.len() as i32 - 1);
    }

    #[test]
    fn classes_count_by_their_weights() {
        let weighted = Loss::CrossEntropy { smoothing: 0.1, weights: Some(vec![0.5, 2.0]) };
        assert_eq!([0, 1, 2].map(|class| weighted.class_weight(class)), [0.5, 2.0, 0.0]);
        assert_eq!(Loss::ALL[0].1.class_weight(7), 1.0);
    }
}
