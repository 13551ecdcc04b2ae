//! Ops that change nothing in eval mode: dropout, which is random in training and, where it is asked for, always; and `identity`.

use super::shape::Shape;
use super::{Operand, Operation, bad_value, mismatch, op};
use crate::diag::Problem;
use crate::philox::{Philox, unit};
use crate::tensor::Tensor;

op! {
    /// The value itself, as `torch.nn.Identity`. Any shape.
    pub struct Identity = "identity", First, aten [] {}
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
    ///
    /// With `always = true` values are zeroed at inference too, and where the layer is frozen (MC dropout: Gal and Ghahramani
    /// 2016); the value then needs a batch, [N, ..]. `archc run --samples 20` runs the network 20 times and prints mean and
    /// standard deviation; without it a run takes the first of these samples, and so do `eval`, `plan --drift` and the
    /// evaluation of a run of training. `set **:dropout { always = true }` turns on those that a network has.
    ///
    /// A sample depends on `--seed` (0), on its number and on the layer's path. At inference it is one draw for the whole batch,
    /// so that what comes out of a picture depends neither on the pictures beside it nor on `--batch`. A file of weights
    /// cannot say that a dropout always draws, as it has no tensors; the module that `export --to pytorch` writes does.
    pub struct Dropout = "dropout", First, aten ["dropout", "native_dropout"] {
        /// probability of a zero, from 0 to 1
        p: f64 = "0.5",
        /// whether values are zeroed at inference too
        always: bool = "false",
    }
}

op! {
    /// `dropout` of whole channels of [N, C, H, W], as `torch.nn.Dropout2d` (Tompson et al. 2014).
    pub struct Dropout2d = "dropout2d", First, aten ["feature_dropout"] {
        /// probability of a zero, from 0 to 1
        p: f64 = "0.5",
        /// whether channels are zeroed at inference too, as `dropout` says
        always: bool = "false",
    }
}

op! {
    /// `dropout` of whole samples, as `torchvision.ops.StochasticDepth` in mode `row` (Huang et al. 2016): put before the
    /// addition of a residual, it skips the residual's main branch. [N, ..], any rank.
    pub struct StochasticDepth = "stochastic_depth", First, aten [] {
        /// probability of a zero, from 0 to 1
        p: f64,
        /// whether branches are skipped at inference too, as `dropout` says: all pictures of a batch alike
        always: bool = "false",
    }
}

/// Which values are zeroed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// Every value alone.
    Value,
    /// The channels of every sample.
    Channel,
    /// Every sample.
    Sample,
}

/// How an op zeroes values at random.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drops {
    /// The probability of a zero.
    pub p: f64,
    pub grain: Grain,
    /// At inference too.
    pub always: bool,
}

impl Drops {
    /// The plain reference of a draw at inference: `x`, of a batch, by the random words of `philox`. All samples are drawn alike:
    /// a value is zeroed where the number of it, or of its channel, is below p among uniform ones. Values are numbered row by
    /// row, those of an image pixel by pixel.
    pub fn draw(&self, x: &Tensor, philox: &Philox) -> Tensor {
        let dims = &x.shape()[1..];
        let each: usize = dims.iter().product();
        let number = |at: usize| match (self.grain, dims) {
            (Grain::Sample, _) => 0,
            (Grain::Channel, &[_, height, width]) => at / (height * width),
            (Grain::Value, &[channels, height, width]) => at % (height * width) * channels + at / (height * width),
            _ => at,
        };
        let kept = |at: usize| {
            let number = number(at) as u64;
            unit(philox.block(number / 4)[(number % 4) as usize]) >= self.p as f32
        };
        let value =
            |(at, x): (usize, &f32)| if kept(at % each) { (f64::from(*x) / (1.0 - self.p)) as f32 } else { 0.0 };
        Tensor::new(x.shape(), x.data().iter().enumerate().map(value).collect())
    }
}

/// Ops that zero values in training, and at inference where they always do: how, and of what shapes.
macro_rules! random {
    ($($Name:ident = $word:literal, $grain:ident: |$x:ident| $fits:expr;)*) => {
        $(impl Operation for $Name {
            fn check(&self) -> Result<(), Problem> {
                probability("p", $word, self.p)
            }

            fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
                let $x = ins[0];
                $fits?;
                if self.always && !ins[0].batched {
                    let message = concat!("`", $word, "(always = true)` needs a batch, [N, ..], got ");
                    return Err(mismatch(format!("{message}{}", ins[0])));
                }
                Ok(ins[0].clone())
            }

            fn drops(&self) -> Option<Drops> {
                Some(Drops { p: self.p, grain: Grain::$grain, always: self.always })
            }

            fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], _out: &[usize]) -> Tensor {
                ins[0].value.clone()
            }
        })*
    };
}

random! {
    Dropout = "dropout", Value: |_x| Ok::<(), Problem>(());
    Dropout2d = "dropout2d", Channel: |x| super::conv::image(x, "dropout2d");
    StochasticDepth = "stochastic_depth", Sample: |x| match x.batched {
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
