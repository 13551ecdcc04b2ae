//! The face of the library: from a spec to a network that runs, learns or is written out.
//!
//! Every type here owns what it needs, so that none has a lifetime; what is large is shared. Nothing here prints, ends the
//! process or reads the command line: what is worth a line is handed to whoever asks.

mod doctor;
mod error;
mod exporter;
mod model;
mod reproduce;
mod session;
mod spec;
mod trainer;

pub use doctor::doctor;
pub use error::{Error, Message, Place};
pub use exporter::{Exporter, Onnx};
pub use model::{Model, Options};
pub use reproduce::{Compared, Likeness, Reproduced, reproduce};
pub use session::{Inputs, Outputs, Samples, Session};
pub use spec::Spec;
pub use trainer::{Results, Start, Trained, Trainer};
