//! The vocabulary that archc shares with its kernels: each concept is one type here, with its formula, its source and, where
//! that is natural, a plain evaluation in float64.
//!
//! The crate depends on nothing and knows nothing of graphs, memory, instruction sets or devices. A plain evaluation is the
//! reference: ops compute with it where no kernel is asked for, and kernels are tested against it.

mod act;
mod binary;
mod centre;
mod dtype;
mod formula;
mod loss;
mod pool;
mod resample;
mod rule;
mod window;

pub use act::Act;
pub use binary::Binary;
pub use centre::Centre;
pub use dtype::DType;
pub use loss::{Formulas, Loss, Outputs, ValueLoss};
pub use pool::{Pool, Reduce};
pub use resample::{Banded, Resample, Taps};
pub use rule::Rule;
pub use window::Window;

/// The code of a value: its place in a list that has it.
fn place<T>(list: &[(&str, T)], is: impl Fn(&T) -> bool) -> i32 {
    list.iter().position(|(_, value)| is(value)).expect("the list has one of each") as i32
}
