//! A network in two: the prefix that gives the same values for the same input in every step, and the rest that learns.
//!
//! The prefix is everything that is frozen, or has nothing to freeze, is not random, and takes nothing else. Its layers keep
//! their nodes in both graphs, so that tensors are found under the same names.

use rustc_hash::FxHashSet;
use sha2::{Digest, Sha256};

use crate::diag::Problem;
use crate::exec::Tensors;
use crate::graph::{Graph, NewNode, NodeId, path};
use crate::ops::constant::Input;
use crate::ops::{Op, Role};
use crate::typed::{self, Typed};

/// The two parts.
pub struct Split {
    /// From the network's inputs to the values that flow out of it, as outputs `0`, `1` ..
    pub prefix: Typed,
    /// From these values, as inputs, to the network's outputs.
    pub rest: Typed,
    /// The inputs of `rest` that the prefix makes, in the order of its outputs.
    pub names: Vec<String>,
    /// The layers that make them.
    pub layers: Vec<String>,
    /// Their shapes, without the batch.
    pub shapes: Vec<Vec<usize>>,
}

/// Splits a network; None where nothing but inputs comes before what learns or varies.
pub fn split(typed: &Typed) -> Option<Split> {
    let graph = typed.graph();
    let mut fixed: FxHashSet<NodeId> = FxHashSet::default();
    for id in typed.order() {
        let node = graph.node(*id);
        let is_carried = matches!(node.op, Op::Buffer(_));
        let is_still = typed.params(*id).is_empty() || is_carried || graph.node(graph.owner(*id)).frozen;
        if is_still && !node.op.is_random() && graph.operands(*id).iter().all(|operand| fixed.contains(operand)) {
            fixed.insert(*id);
        }
    }
    let is_output = |id: NodeId| graph.outputs().values().any(|output| output.node == id);
    let is_input = |id: NodeId| graph.inputs().values().any(|input| *input == id);
    let leaves = |id: NodeId| {
        graph.uses(id).iter().any(|one| match one {
            crate::graph::Use::Operand { node, .. } => !fixed.contains(node),
            crate::graph::Use::Output(_) => false,
        })
    };
    // values without a batch are of parameters alone, and cheap: the rest makes them itself
    let cut: Vec<NodeId> = typed
        .order()
        .iter()
        .copied()
        .filter(|id| fixed.contains(id) && typed.shape(*id).batched && !is_input(*id) && leaves(*id))
        .collect();
    let ties = typed.order().iter().any(|id| graph.node(*id).tied.is_some_and(|owner| fixed.contains(&owner)));
    let has_weights = fixed.iter().any(|id| !typed.params(*id).is_empty());
    if cut.is_empty() || !has_weights || ties || typed.order().iter().any(|id| is_output(*id) && fixed.contains(id)) {
        return None;
    }
    let (rest, names) = rest(typed, &cut);
    // what takes a picture beside the prefix's values would need both kept
    if rest.inputs().len() != names.len() {
        return None;
    }
    Some(Split {
        prefix: typed::check(prefix(graph, &cut), &[]).ok()?,
        rest: typed::check(rest, &[]).ok()?,
        names,
        layers: cut.iter().map(|id| path::display(&graph.node(*id).path)).collect(),
        shapes: cut.iter().map(|id| typed.shape(*id).dims.clone()).collect(),
    })
}

impl Split {
    /// How many layers of the prefix compute something.
    pub fn count(&self) -> usize {
        self.prefix.order().len() - self.prefix.graph().inputs().len()
    }

    /// A digest of the prefix's layers and tensors.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn key(&self, tensors: &dyn Tensors) -> Result<[u8; 32], Problem> {
        let mut digest = Sha256::new();
        digest.update(self.prefix.graph().to_string());
        for id in self.prefix.order() {
            if self.prefix.graph().node(*id).tied.is_some() {
                continue;
            }
            for (index, param) in self.prefix.params(*id).into_iter().enumerate() {
                if param.role != Role::Computed {
                    digest.update(bytemuck::cast_slice::<f32, u8>(&tensors.read(*id, index)?));
                }
            }
        }
        Ok(digest.finalize().into())
    }
}

fn prefix(graph: &Graph, cut: &[NodeId]) -> Graph {
    let mut graph = graph.clone();
    let Ok(()) = graph.patch(|patch| {
        let old: Vec<String> = patch.outputs().keys().cloned().collect();
        old.iter().for_each(|name| patch.drop_output(name));
        for (at, id) in cut.iter().enumerate() {
            patch.set_output(&at.to_string(), *id, None);
        }
        patch.sweep();
        Ok::<(), std::convert::Infallible>(())
    });
    graph
}

/// The rest, and the names of the inputs that take the place of the cut values.
fn rest(typed: &Typed, cut: &[NodeId]) -> (Graph, Vec<String>) {
    let mut graph = typed.graph().clone();
    let mut names = vec![];
    let Ok(()) = graph.patch(|patch| {
        for id in cut {
            let shape = typed.shape(*id).dims.iter().map(|size| *size as i64).collect();
            let mut name = String::new();
            for number in 0.. {
                name = format!("prefix_{number}");
                if !patch.is_taken(&name) {
                    break;
                }
            }
            let span = patch.node(*id).span;
            // as early as what it stands for
            let rank = patch.node(*id).rank;
            patch.rank_from(rank);
            let input = NewNode { path: name.clone(), op: Input { shape }.into(), operands: vec![], span };
            let input = patch.add(input);
            for one in patch.uses(*id) {
                patch.redirect(&one, input);
            }
            patch.add_input(&name, input);
            names.push(name);
        }
        let inputs: Vec<(String, NodeId)> = patch.inputs().iter().map(|(name, id)| (name.clone(), *id)).collect();
        let live = patch.live();
        for (name, id) in inputs {
            if !live.contains(&id) {
                patch.drop_input(&name);
            }
        }
        patch.sweep();
        Ok::<(), std::convert::Infallible>(())
    });
    (graph, names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{self, Outcome};
    use crate::source::Sources;

    /// The layers that end the prefix of a network whose body is `body`, all frozen but `head`.
    fn ends(body: &str) -> Vec<String> {
        let text = format!(
            "network n() {{ input x: [N, 3, 4, 4]; {body}; flatten; head: linear(2) }}\nbase n\nfreeze all except head\n"
        );
        let mut sources = Sources::new();
        let file = sources.add("split.arch", text, None);
        let Ok(Outcome::Spec(compiled)) = compile::compile(&mut sources, file, &[]) else { panic!("{body}") };
        split(&compiled.typed).expect("a prefix").layers
    }

    #[test]
    fn only_what_is_random_or_learns_ends_the_prefix() {
        assert_eq!(ends("conv: conv2d(4, kernel = 1); relu"), ["flatten"]);
        assert_eq!(ends("conv: conv2d(4, kernel = 1); identity; relu"), ["flatten"]);
        assert_eq!(ends("conv: conv2d(4, kernel = 1); dropout; relu"), ["conv"]);
        assert_eq!(ends("conv: conv2d(4, kernel = 1); dropout(0.2, always = true); relu"), ["conv"]);
    }
}
