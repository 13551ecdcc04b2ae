//! The network node by node through [`Op::eval`](crate::ops::Op::eval): slow, and right by definition. What executables
//! are tested against, and how values of parameters alone are computed at load.

use rustc_hash::FxHashMap;

use super::{Draw, Tensors};
use crate::diag::Problem;
use crate::graph::NodeId;
use crate::ops::{Op, Operand, Role};
use crate::philox::{Philox, name_hash};
use crate::tensor::Tensor;
use crate::typed::Typed;

/// The outputs for inputs by name, all with a batch of `batch`. Ops that draw at inference take the first draw, as an
/// [`Executable`](super::Executable) does that is not told another.
///
/// # Errors
/// If a tensor cannot be read.
///
/// # Panics
/// If an input is missing.
pub fn run(
    typed: &Typed,
    tensors: &dyn Tensors,
    batch: usize,
    inputs: &[(&str, &Tensor)],
) -> Result<Vec<(String, Tensor)>, Problem> {
    let graph = typed.graph();
    let mut values = FxHashMap::default();
    for (name, id) in graph.inputs() {
        let given = inputs.iter().find(|(other, _)| other == name);
        values.insert(*id, given.expect("every input is given").1.clone());
    }
    let live = graph.live();
    for id in typed.order().iter().filter(|id| live.contains(id)) {
        if !values.contains_key(id) {
            let value = node(typed, tensors, batch, *id, &values)?;
            values.insert(*id, value);
        }
    }
    Ok(graph.outputs().iter().map(|(name, output)| (name.clone(), values[&output.node].clone())).collect())
}

/// The value of a node of parameters alone; `values` keeps it and what it needed.
pub(super) fn constant(
    typed: &Typed,
    tensors: &dyn Tensors,
    id: NodeId,
    values: &mut FxHashMap<NodeId, Tensor>,
) -> Result<(), Problem> {
    let mut needed = rustc_hash::FxHashSet::from_iter([id]);
    let mut stack = vec![id];
    while let Some(at) = stack.pop() {
        stack.extend(typed.graph().operands(at).into_iter().filter(|operand| needed.insert(*operand)));
    }
    for id in typed.order().iter().filter(|id| needed.contains(id)) {
        if !values.contains_key(id) {
            let value = node(typed, tensors, 1, *id, values)?;
            values.insert(*id, value);
        }
    }
    Ok(())
}

/// Tensors of an op in the order of its declarations; what can be computed is not read.
fn params(typed: &Typed, tensors: &dyn Tensors, id: NodeId) -> Result<Vec<Tensor>, Problem> {
    let owner = typed.graph().owner(id);
    let declared = typed.params(id).into_iter().enumerate();
    declared
        .map(|(index, param)| match param.role {
            Role::Computed => Ok(Tensor::zeros(param.shape)),
            _ => Ok(Tensor::new(param.shape, tensors.read(owner, index)?)),
        })
        .collect()
}

fn node(
    typed: &Typed,
    tensors: &dyn Tensors,
    batch: usize,
    id: NodeId,
    values: &FxHashMap<NodeId, Tensor>,
) -> Result<Tensor, Problem> {
    let params = params(typed, tensors, id)?;
    let op = &typed.graph().node(id).op;
    let operands = typed.graph().operands(id);
    if let (Some(drops), true) = (op.drops(), op.draws_always()) {
        let philox =
            Philox::at_step(Draw::default().seed, name_hash(&typed.graph().node(id).path), Draw::default().sample);
        return Ok(drops.draw(&values[&operands[0]], &philox));
    }
    let ins: Vec<Operand> =
        operands.iter().map(|id| Operand { value: &values[id], batched: typed.shape(*id).batched }).collect();
    Ok(eval(op, &ins, &params, &typed.shape(id).concrete(batch)))
}

/// [`Op::eval`] with owned parameters.
fn eval(op: &Op, ins: &[Operand], params: &[Tensor], out: &[usize]) -> Tensor {
    op.eval(ins, &params.iter().collect::<Vec<_>>(), out)
}
