//! Fine-tuning. What a `train` block says is read and checked by [`check`]; the result, [`TrainSpec`], proves that every word
//! of it is known, of its type and in its range, and that there is something to train. A [`Trainer`] runs it.

mod check;
#[cfg(test)]
mod gradients;
mod optimizer;
mod reach;
pub mod run;
mod schedule;
pub mod spec;
pub mod split;
pub mod stage;
mod trainer;

use indexmap::IndexMap;

pub use check::check;
pub use optimizer::Optimizer;
pub use reach::frozen_at_random;
pub use schedule::{Progress, Schedule};
use spec::{Call, Setting};
pub use trainer::{Config, Outcome, Snapshot, Targets, Trainer};

use crate::graph::NodeId;
use crate::source::Span;

/// A checked `train` block, complete with defaults.
#[derive(Clone, Debug)]
pub struct TrainSpec {
    words: IndexMap<&'static str, Vec<Choice>>,
    values: IndexMap<&'static str, Setting>,
    factors: Vec<(NodeId, f64)>,
    thaws: Vec<(NodeId, usize)>,
}

/// `sgd(lr = 0.01)` with every argument.
#[derive(Clone, Debug)]
pub struct Choice {
    call: &'static Call,
    args: IndexMap<&'static str, Setting>,
    pub span: Span,
}

impl TrainSpec {
    /// What `data`, `loss`, `optimizer` or `schedule` says; None for a word that is no choice of one.
    pub fn choice(&self, word: &str) -> Option<&Choice> {
        self.words.get(word)?.first()
    }

    /// What `augment` says, in order.
    pub fn augment(&self) -> &[Choice] {
        self.words.get("augment").map_or(&[], Vec::as_slice)
    }

    /// What `epochs`, `batch` or `seed` says.
    pub fn value(&self, word: &str) -> Option<&Setting> {
        self.values.get(word)
    }

    /// The learning rate's factor for the tensors of a layer.
    pub fn factor(&self, id: NodeId) -> f64 {
        self.factors.iter().find(|(other, _)| *other == id).map_or(1.0, |(_, factor)| *factor)
    }

    /// The frozen layers that learn after so many epochs.
    pub fn thaws(&self) -> &[(NodeId, usize)] {
        &self.thaws
    }
}

impl Choice {
    pub fn name(&self) -> &'static str {
        self.call.name
    }

    /// An argument that is a float.
    ///
    /// # Panics
    /// If it is none.
    pub fn float(&self, name: &str) -> f64 {
        match self.arg(name) {
            Some(Setting::Float(value)) => *value,
            other => unreachable!("`{name}` of `{}` is a float, not {other:?}", self.name()),
        }
    }

    /// Whether an argument is true.
    pub fn flag(&self, name: &str) -> bool {
        self.arg(name) == Some(&Setting::Bool(true))
    }

    /// An argument as given, else its default.
    pub fn arg(&self, name: &str) -> Option<&Setting> {
        self.args.get(name)
    }
}
