//! What values are kept in between steps.
//!
//! In a plan of reduced precision what is large is reduced, as memory traffic and multiplications are what it saves
//! there; what is small stays float32, as reducing it would save nothing and cost accuracy: vectors of a sample (pooled
//! features, the squeeze of a gate, logits), values of parameters alone, and the network's inputs and outputs.

use archc_base::DType;

use super::View;
use crate::net::{Id, Kind, Net};

/// Which values of a batch a plan of reduced precision reduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduced {
    /// Those that are large, and no outputs.
    Large,
    /// All.
    Batched,
}

/// Whether a value of these sizes, batch first, is worth reducing.
pub(super) fn is_large(dims: &[usize]) -> bool {
    dims.len() > 2 && dims[1..].iter().filter(|len| **len > 1).count() > 1
}

/// Which values are outputs of the network, if only under another shape.
pub(super) fn outputs(net: &Net) -> Vec<bool> {
    let mut is_output = vec![false; net.bound()];
    for (_, id) in net.outputs() {
        let mut id: Id = *id;
        is_output[id.0] = true;
        while let Kind::Reshape(_) | Kind::Permute(_) = net.node(id).kind {
            id = net.node(id).operands[0];
            is_output[id.0] = true;
        }
    }
    is_output
}

impl super::Plan {
    /// The number format of a view's values.
    pub fn dtype(&self, view: &View) -> DType {
        match view.place {
            super::Place::Buffer(buffer) => self.buffers[buffer].dtype,
            _ => DType::F32,
        }
    }
}
