//! Pretrained and fresh tensors: files of weights, the lines that say what becomes of their tensors, initialisers, and writing.
//!
//! A [`Store`] is an opened file whose tensors are read when asked for, from any thread. It knows keys, shapes and number
//! formats, and nothing of graphs: what belongs to which layer is settled by whoever binds the two.

mod archive;
mod dtype;
mod export;
mod file;
mod finite;
mod fit;
mod header;
pub mod hub;
mod index;
mod init;
mod intake;
mod join;
mod keymap;
mod lines;
mod pattern;
mod pickle;
mod pytorch;
mod recipe;
mod resize;
mod source;
mod store;
mod ways;

pub use dtype::DType;
pub use export::{Data, FORMATS, Format, TensorOut, write_safetensors};
pub use finite::non_finite;
pub use fit::{Asked, Whose, fits};
pub use hub::{Downloads, Pretrained, is_permissive};
pub use init::{check_from, fill, from_file};
pub use intake::{Intake, Supply};
pub use lines::{Fault, IgnoreLine, JoinLine, Line, Lines, MapLine, Need, ResizeLine};
pub use recipe::{Change, Recipe};
pub use source::WeightsSource;
pub use store::{Entry, Store, TensorInfo};
pub use ways::{Faults, MOST_PARTS, Trial, Way, is_other_copy, prefixes};

#[cfg(test)]
pub(crate) mod samples;
