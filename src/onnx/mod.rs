//! ONNX: its messages, and a network as one. The network is written op by op as it was checked, before any rewrite of archc's own,
//! so that layers, paths and keys are those that the spec has; what training alone needs is left out.
//!
//! ```text
//! Typed + Bound --build--> nodes, and initializers without their values --write--> file, tensor by tensor
//! ```
//!
//! The batch is a symbol, `N`: no shape that is written depends on its size.

mod build;
mod ops;
mod preprocess;
pub mod proto;
#[cfg(test)]
mod tests;
mod write;

use std::path::Path;

use archc_base::DType;

use crate::diag::{Code, Problem};
use crate::exec::Tensors;
use crate::io::preprocess::Preprocess;
use crate::typed::Typed;

/// The oldest and the newest operator set that a file may have.
pub const OPSETS: std::ops::RangeInclusive<i64> = 13..=25;

/// How a network is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// The version of ONNX's operators.
    pub opset: i64,
    /// Whether batch norms go into the convolutions and linear maps before them.
    pub fold: bool,
    /// The number format of the tensors that are written; what is computed stays float32.
    pub dtype: DType,
    /// Whether tensors go into a file beside; where none, those of a network above a gigabyte do.
    pub external_data: Option<bool>,
    /// Takes pictures, uint8 [N, height, width, 3], and prepares them so; the network's own inputs where none.
    pub preprocess: Option<Preprocess>,
    /// What the file says of itself, by name.
    pub metadata: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Options {
        Options { opset: 20, fold: false, dtype: DType::F32, external_data: None, preprocess: None, metadata: vec![] }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub nodes: usize,
    pub tensors: usize,
    /// Whether the tensors lie in a file beside.
    pub is_external: bool,
}

/// Writes a network as ONNX.
///
/// # Errors
/// An op that the operator set cannot say; weights that cannot be read; a file that cannot be written.
pub fn export(typed: &Typed, tensors: &dyn Tensors, path: &Path, options: &Options) -> Result<Written, Problem> {
    if !OPSETS.contains(&options.opset) {
        let (from, to) = (OPSETS.start(), OPSETS.end());
        let message = format!("archc writes opsets {from} to {to} of ONNX, got {}", options.opset);
        return Err(Problem::new(Code::Usage, message));
    }
    let network = build::build(typed, options)?;
    write::write(&network, typed, tensors, path, options)
}
