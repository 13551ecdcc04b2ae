//! Fine-tuning. What a `train` block says is read and checked by [`check`]; the result, [`TrainSpec`], proves that every word
//! of it is known, of its type and in its range, and that there is something to train. A [`Trainer`] runs it.

mod check;
pub mod loss;
mod optimizer;
mod reach;
pub mod run;
mod schedule;
pub mod spec;
pub mod split;
pub mod stage;
#[cfg(test)]
mod tests;
mod trainer;

pub use check::check;
pub use optimizer::Optimizer;
pub use reach::frozen_at_random;
pub use schedule::{Progress, Schedule};
pub use spec::TrainSpec;
pub use trainer::{Config, Outcome, Snapshot, Targets, Trainer};
