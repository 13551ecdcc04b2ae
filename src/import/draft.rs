//! A graph in the making: ops on each other's values, each with the module that ran it, before any has a path.

use super::array::Array;
use super::trace::Module;
use crate::diag::Problem;
use crate::ops::Op;
use crate::ops::shape::Shape;

/// A node of [`Drafts`], an index into them.
pub type DraftId = usize;

/// A node without a path.
#[derive(Clone, Debug)]
pub struct Draft {
    pub op: Op,
    pub ins: Vec<DraftId>,
    pub shape: Shape,
    pub place: Place,
    /// The node whose tensors it uses.
    pub tied: Option<DraftId>,
    pub content: Option<Content>,
}

/// Where a node will be.
#[derive(Clone, Debug)]
pub enum Place {
    /// At the path that its tensors' keys begin with; called by these modules, its own the last where it is one.
    Layer { path: String, modules: Vec<Module> },
    /// A parameter or buffer, at its key.
    Key(String),
    /// In the innermost of these modules, called by its op or by a name.
    In { modules: Vec<Module>, name: Option<&'static str> },
}

/// Where the tensor of a buffer comes from.
#[derive(Clone, Debug)]
pub enum Content {
    /// A tensor of the trace.
    Stored(usize),
    Folded(Array),
}

/// Nodes, none before one that it takes.
#[derive(Debug, Default)]
pub struct Drafts {
    pub nodes: Vec<Draft>,
}

impl Drafts {
    pub fn push(&mut self, op: Op, ins: Vec<DraftId>, place: Place) -> Result<DraftId, Problem> {
        let shapes: Vec<&Shape> = ins.iter().map(|id| &self.nodes[*id].shape).collect();
        let shape = op.infer(&shapes)?;
        self.nodes.push(Draft { op, ins, shape, place, tied: None, content: None });
        Ok(self.nodes.len() - 1)
    }

    pub fn shape(&self, id: DraftId) -> &Shape {
        &self.nodes[id].shape
    }

    /// Which nodes the outputs need.
    pub fn live(&self, outputs: &[DraftId]) -> Vec<bool> {
        let mut live = vec![false; self.nodes.len()];
        let mut stack = outputs.to_vec();
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut live[id], true) {
                stack.extend(&self.nodes[id].ins);
                // whoever is tied needs its owner's tensors, and they are somewhere
                stack.extend(self.nodes[id].tied);
            }
        }
        live
    }
}
