//! Ops that change nothing in eval mode: dropout, which is random in training, and `identity`.

use super::shape::Shape;
use super::{Operand, Operation, bad_value, mismatch, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

op! {
    /// The value itself, as `torch.nn.Identity`. Any shape.
    pub struct Identity = "identity", First {}
}

impl Operation for Identity {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        Ok(ins[0].clone())
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], _out: &[usize]) -> Tensor {
        ins[0].value.clone()
    }
}

op! {
    /// In training, values are zeroed with probability p and the others divided by 1 - p, as `torch.nn.Dropout`
    /// (Srivastava et al. 2014); otherwise the value itself. Any shape.
    pub struct Dropout = "dropout", First {
        /// probability of a zero, from 0 to 1
        p: f64 = "0.5",
    }
}

op! {
    /// `dropout` of whole channels of [N, C, H, W], as `torch.nn.Dropout2d` (Tompson et al. 2014).
    pub struct Dropout2d = "dropout2d", First {
        /// probability of a zero, from 0 to 1
        p: f64 = "0.5",
    }
}

op! {
    /// `dropout` of whole samples, as `torchvision.ops.StochasticDepth` in mode `row` (Huang et al. 2016): put before the
    /// addition of a residual, it skips the residual's main branch. [N, ..], any rank.
    pub struct StochasticDepth = "stochastic_depth", First {
        /// probability of a zero, from 0 to 1
        p: f64,
    }
}

/// Ops that are random in training and change nothing in eval mode: of what shapes.
macro_rules! random {
    ($($Name:ident = $word:literal: |$x:ident| $fits:expr;)*) => {
        $(impl Operation for $Name {
            fn check(&self) -> Result<(), Problem> {
                probability("p", $word, self.p)
            }

            fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
                let $x = ins[0];
                $fits?;
                Ok(ins[0].clone())
            }

            fn is_random(&self) -> bool {
                true
            }

            fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], _out: &[usize]) -> Tensor {
                ins[0].value.clone()
            }
        })*
    };
}

random! {
    Dropout = "dropout": |_x| Ok::<(), Problem>(());
    Dropout2d = "dropout2d": |x| super::conv::image(x, "dropout2d");
    StochasticDepth = "stochastic_depth": |x| match x.batched {
        true => Ok(()),
        false => Err(mismatch(format!("`stochastic_depth` needs a batch, [N, ..], got {x}"))),
    };
}

/// Refuses what is no probability.
pub(super) fn probability(name: &str, op: &str, p: f64) -> Result<(), Problem> {
    if (0.0..=1.0).contains(&p) {
        return Ok(());
    }
    Err(bad_value(format!("`{name}` of `{op}` needs a probability from 0 to 1, got {p}")))
}
