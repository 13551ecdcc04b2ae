//! The vocabulary that archc shares with its kernels: each concept is one type here, with its formula, its source and, where
//! that is natural, a plain evaluation in float64.
//!
//! The crate depends on nothing and knows nothing of graphs, memory, instruction sets or devices. A plain evaluation is the
//! reference: ops compute with it where no kernel is asked for, and every kernel is tested against it.

mod act;

pub use act::Act;
