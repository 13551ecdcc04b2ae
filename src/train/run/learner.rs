//! What a run needs of whatever learns: steps, outputs, and a state that can be put away and taken up again bit for bit.
//! The run itself knows neither gradients nor optimisers.

use std::borrow::Cow;

use indexmap::IndexMap;

use crate::data::Targets;
use crate::diag::Problem;
use crate::tensor::Tensor;

/// Something that learns.
pub trait Learner {
    /// What changes with epoch `epoch`, from 0 on, such as layers that unfreeze. Called before the first step of the epoch, and
    /// again where a run goes on in the middle of it.
    ///
    /// # Errors
    /// If memory does not suffice.
    fn begin_epoch(&mut self, epoch: usize) -> Result<(), Problem>;

    /// Learns from a batch: `input` is [B, C, H, W], B at most the batch that it was made for.
    ///
    /// # Errors
    /// A loss that is not finite, with the layer of the first value that is not: then nothing was learned. A device that
    /// fails.
    fn step(&mut self, input: &Tensor, targets: &Targets) -> Result<Stepped, Problem> {
        let values = self.run_prefix(input)?;
        self.step_after(&values, targets)
    }

    /// The network's output in eval mode, with the averaged weights where weights are averaged.
    ///
    /// # Errors
    /// If the device fails.
    fn outputs(&mut self, input: &Tensor) -> Result<Tensor, Problem> {
        let values = self.run_prefix(input)?;
        self.outputs_after(&values)
    }

    /// The mean loss of outputs.
    fn loss(&self, outputs: &Tensor, targets: &Targets) -> f64;

    /// Everything that the next step depends on.
    ///
    /// # Errors
    /// If the device fails.
    fn state(&mut self) -> Result<State<'static>, Problem>;

    /// Takes up what [`Learner::state`] gave.
    ///
    /// # Errors
    /// If it is the state of another network or optimiser.
    fn restore(&mut self, state: State<'_>) -> Result<(), Problem>;

    /// The tensors of the edited network by key, as a file of weights holds them; averaged where weights are averaged.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    fn weights(&mut self) -> Result<State<'static>, Problem>;

    /// The keys of everything that is frozen throughout the run: tensors and statistics.
    fn frozen(&mut self) -> Vec<String>;

    /// The part of the network whose output is the same in every epoch for the same input; None where there is none.
    fn prefix(&self) -> Option<Prefix>;

    /// The values that flow out of [`Learner::prefix`], each [B, ..].
    ///
    /// # Errors
    /// If the device fails.
    fn run_prefix(&mut self, input: &Tensor) -> Result<Vec<Tensor>, Problem>;

    /// [`Learner::step`] from the values that flow out of the prefix.
    ///
    /// # Errors
    /// If the device fails.
    fn step_after(&mut self, values: &[Tensor], targets: &Targets) -> Result<Stepped, Problem>;

    /// [`Learner::outputs`] from the values that flow out of the prefix.
    ///
    /// # Errors
    /// If the device fails.
    fn outputs_after(&mut self, values: &[Tensor]) -> Result<Tensor, Problem>;
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stepped {
    /// The mean loss of the batch, before the step.
    pub loss: f64,
    /// The rate of tensors with factor 1.
    pub lr: f64,
}

/// Tensors by key.
pub type State<'a> = IndexMap<String, Kept<'a>>;

/// A tensor that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept<'a> {
    pub shape: Vec<usize>,
    pub values: Values<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Values<'a> {
    F32(Cow<'a, [f32]>),
    /// Counters.
    I64(Cow<'a, [i64]>),
}

impl<'a> Kept<'a> {
    pub fn f32(shape: &[usize], values: impl Into<Cow<'a, [f32]>>) -> Kept<'a> {
        Kept { shape: shape.to_vec(), values: Values::F32(values.into()) }
    }

    pub fn i64(shape: &[usize], values: impl Into<Cow<'a, [i64]>>) -> Kept<'a> {
        Kept { shape: shape.to_vec(), values: Values::I64(values.into()) }
    }

    /// The floats, where it holds some.
    pub fn floats(&self) -> Option<&[f32]> {
        match &self.values {
            Values::F32(values) => Some(values),
            Values::I64(_) => None,
        }
    }

    /// The counters, where it holds some.
    pub fn integers(&self) -> Option<&[i64]> {
        match &self.values {
            Values::I64(values) => Some(values),
            Values::F32(_) => None,
        }
    }
}

/// The part of a network before everything that learns or varies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The layers whose outputs flow out of it.
    pub layers: Vec<String>,
    /// How many layers it saves.
    pub len: usize,
    /// The shapes of a sample's values.
    pub shapes: Vec<Vec<usize>>,
    /// A digest of its layers and tensors.
    pub key: [u8; 32],
}
