//! Where numbers stop being numbers: the first layer whose output is NaN or infinite although its weights and the input are
//! finite. The network is run once more, by the same backend, with every layer's output kept, so that nothing is fused
//! away; a part of the layers at a time where all of them would take too much memory.

use super::{Backend, Draw, Executable, Tensors};
use crate::diag::{Code, Diagnostic, Problem};
use crate::graph::{NodeId, path};
use crate::tensor::Tensor;
use crate::typed::{self, Typed};

/// Values of all outputs that are kept at once.
const KEPT: usize = 1 << 26;

/// How many values are NaN or infinite.
pub fn non_finite(values: &[f32]) -> usize {
    values.iter().filter(|value| !value.is_finite()).count()
}

/// Warns of an output that is not finite for `inputs`, one sample of each by name, and names the first layer that made it
/// so. `whose` is what the sample is called; what is drawn is drawn again.
///
/// # Errors
/// If memory does not suffice, or the device fails.
pub fn blame(
    typed: &Typed,
    tensors: &dyn Tensors,
    backend: &dyn Backend,
    draw: Draw,
    inputs: &[(&str, &Tensor)],
    whose: &str,
) -> Result<Box<Diagnostic>, Problem> {
    for (name, tensor) in inputs {
        let found = non_finite(tensor.data());
        if found > 0 {
            let message = format!("the input `{name}` is not finite: {found} of {} values", tensor.len());
            return Ok(Problem::new(Code::NonFinite, message).note(format!("in {whose}")).anywhere().warning());
        }
    }
    let Some((id, found, of)) = first(typed, tensors, backend, draw, inputs)? else {
        let problem = Problem::new(Code::NonFinite, format!("the outputs are not finite for {whose}"));
        return Ok(problem.note("layer by layer all values are finite").anywhere().warning());
    };
    let node = typed.graph().node(id);
    let message = format!("the outputs are not finite, from `{}` on", path::display(&node.path));
    let mut problem = Problem::new(Code::NonFinite, message)
        .note(format!("{found} of its {of} values are NaN or infinite, for {whose}"));
    if let Some(negative) = negative_variances(typed, tensors, id)? {
        let plural = if negative == 1 { "value" } else { "values" };
        problem = problem
            .note(format!("its `running_var` has {negative} {plural} below 0, and a variance has none"))
            .hint("the weights are damaged, or not those of this network");
    }
    Ok(problem.at(node.span).warning())
}

/// Looks at the outputs of a batch, whose samples have `names` (their numbers where there are none): None where all are
/// finite, else [`blame`] for the first sample whose are not.
///
/// # Errors
/// If the network cannot be run once more.
pub fn look<'t>(
    typed: &Typed,
    tensors: &dyn Tensors,
    backend: &dyn Backend,
    draw: Draw,
    names: &[String],
    inputs: &[(&str, &Tensor)],
    outputs: impl Iterator<Item = &'t Tensor>,
) -> Result<Option<Box<Diagnostic>>, Problem> {
    let bad = outputs.filter_map(|tensor| {
        let size = tensor.len() / tensor.shape().first().copied().unwrap_or(1).max(1);
        tensor.data().iter().position(|value| !value.is_finite()).map(|at| at / size.max(1))
    });
    let Some(sample) = bad.min() else { return Ok(None) };
    let one: Vec<Tensor> = inputs.iter().map(|(_, tensor)| only(tensor, sample)).collect();
    let named: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, _)| *name).zip(&one).collect();
    let whose = names.get(sample).map_or_else(|| format!("sample {sample}"), |name| format!("`{name}`"));
    blame(typed, tensors, backend, draw, &named, &whose).map(Some)
}

/// One sample of a batch, as a batch of one.
fn only(tensor: &Tensor, sample: usize) -> Tensor {
    let mut shape = tensor.shape().to_vec();
    let size: usize = shape.iter().skip(1).product();
    shape[0] = 1;
    Tensor::new(shape, tensor.data()[sample * size..][..size].to_vec())
}

/// The first layer in running order whose output is not finite, how many values are not, and of how many.
fn first(
    typed: &Typed,
    tensors: &dyn Tensors,
    backend: &dyn Backend,
    draw: Draw,
    inputs: &[(&str, &Tensor)],
) -> Result<Option<(NodeId, usize, usize)>, Problem> {
    let (graph, live) = (typed.graph(), typed.graph().live());
    let layers: Vec<NodeId> = typed
        .order()
        .iter()
        .copied()
        .filter(|id| live.contains(id) && typed.shape(*id).batched && !graph.inputs().values().any(|input| input == id))
        .collect();
    let mut rest = layers.as_slice();
    while !rest.is_empty() {
        let mut kept = 0usize;
        let fits = |id: &&NodeId| {
            kept = kept.saturating_add(typed.shape(**id).dims.iter().product());
            kept <= KEPT
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (now, later) = rest.split_at(count);
        let probe = with_outputs(typed, now);
        let mut executable = Executable::new(&probe, tensors, backend, 1)?;
        executable.set_draw(draw);
        let outputs = executable.run(inputs)?;
        for (id, (_, tensor)) in now.iter().zip(&outputs) {
            let found = non_finite(tensor.data());
            if found > 0 {
                return Ok(Some((*id, found, tensor.len())));
            }
        }
        rest = later;
    }
    Ok(None)
}

/// The network with these layers as its outputs.
fn with_outputs(typed: &Typed, layers: &[NodeId]) -> Typed {
    let mut graph = typed.graph().clone();
    let Ok(()) = graph.patch(|patch| {
        let old: Vec<String> = patch.outputs().keys().cloned().collect();
        old.iter().for_each(|name| patch.drop_output(name));
        layers.iter().enumerate().for_each(|(at, id)| patch.set_output(&at.to_string(), *id, None));
        patch.sweep();
        Ok::<(), std::convert::Infallible>(())
    });
    typed::check(graph, &[]).expect("other outputs change no shape")
}

/// How many running variances of a batch norm are negative; None where all are as they should be.
fn negative_variances(typed: &Typed, tensors: &dyn Tensors, id: NodeId) -> Result<Option<usize>, Problem> {
    let Some(param) = typed.params(id).iter().position(|param| param.name == "running_var") else { return Ok(None) };
    let values = tensors.read(typed.graph().owner(id), param)?;
    let negative = values.iter().filter(|value| **value < 0.0).count();
    Ok((negative > 0).then_some(negative))
}
