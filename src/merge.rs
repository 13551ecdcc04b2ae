//! Folding adapters into the layers that they lie beside, so that a network has the same outputs without them: a scope of
//! linear maps without bias, whose result is added to that of a linear layer of the same value, is a matrix that is added to
//! the layer's weight. In float64, rounded once.
//!
//! Knows nothing of specs and files: it says which layers go, and the values of the tensors that stay.

use std::collections::BTreeMap;
use std::ops::Range;

use rustc_hash::FxHashSet;

use crate::diag::{Code, Problem, count};
use crate::exec::Tensors;
use crate::graph::{Graph, NodeId, Scope, key, path};
use crate::ops::Op;
use crate::ops::attr::{Padding, Pair};
use crate::ops::conv::Conv2d;
use crate::typed::Typed;

/// What becomes of a network's layers and tensors.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// The layers that took something in, as messages print them.
    pub layers: Vec<String>,
    /// Paths of the layers that are gone.
    pub gone: FxHashSet<String>,
    /// New values of tensors, by their keys.
    pub values: BTreeMap<String, Vec<f32>>,
    /// The keys that are not there any more.
    pub without: FxHashSet<String>,
}

/// A scope that is folded into a layer.
struct Adapter {
    layer: NodeId,
    /// The node and the index of the tensor that takes it, and the rows of that.
    weight: (NodeId, usize),
    rows: Range<usize>,
    /// Its maps from the last to the first, and what their product is multiplied by.
    maps: Vec<NodeId>,
    scale: f64,
    /// Its layers, and the addition of its result.
    gone: Vec<NodeId>,
}

/// Folds every scope that the block `block` has made.
///
/// # Errors
/// If there is none, one is no such matrix, or a tensor cannot be read.
pub fn merge(typed: &Typed, tensors: &dyn Tensors, block: &str) -> Result<Merged, Problem> {
    let graph = typed.graph();
    let made = |scope: &Scope| scope.block.as_deref() == Some(block);
    let scopes: Vec<(String, &Scope)> = graph.scopes("").filter(|(_, scope)| made(scope)).collect();
    if scopes.is_empty() {
        return Err(Problem::new(Code::BadValue, format!("no layers of the network were made by a block `{block}`"))
            .hint("`--merge` names the block of adapters that were put beside linear layers, such as `lora`"));
    }
    let tied = tied(graph);
    let results: FxHashSet<NodeId> = scopes.iter().filter_map(|(_, scope)| scope.output).collect();
    let (mut adapters, mut wrong) = (vec![], vec![]);
    for (name, scope) in &scopes {
        match adapter(graph, name, scope, &results, &tied) {
            Ok(adapter) => adapters.push(adapter),
            Err(why) => wrong.push(format!("`{}`: {why}", path::display(name))),
        }
    }
    if !wrong.is_empty() {
        let problem = Problem::new(Code::BadEdit, format!("{} cannot be merged", count(wrong.len(), "adapter")));
        return Err(problem.list("why", wrong).hint("without `--merge` they are written as they are"));
    }
    let mut merged = Merged::default();
    let mut sums: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for adapter in &adapters {
        let (node, index) = adapter.weight;
        let name = key(&graph.node(node).path, typed.params(node)[index].name);
        let mut values = match sums.remove(&name) {
            Some(values) => values,
            None => tensors.read(node, index)?.into_iter().map(f64::from).collect(),
        };
        let product = product(typed, tensors, adapter)?;
        let from = product.len() / adapter.rows.len() * adapter.rows.start;
        values[from..].iter_mut().zip(&product).for_each(|(value, more)| *value += more);
        sums.insert(name, values);
        merged.layers.push(path::display(&graph.node(adapter.layer).path));
        for id in &adapter.gone {
            let own = &graph.node(*id).path;
            merged.without.extend(typed.params(*id).iter().map(|decl| key(own, decl.name)));
            merged.gone.insert(own.clone());
        }
    }
    let single = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    merged.values = sums.into_iter().map(|(name, values)| (name, single(values))).collect();
    Ok(merged)
}

/// Finds how a scope can be folded, or says why it cannot. `results` are the values that all such scopes end with.
fn adapter(
    graph: &Graph,
    name: &str,
    scope: &Scope,
    results: &FxHashSet<NodeId>,
    tied: &FxHashSet<NodeId>,
) -> Result<Adapter, String> {
    let shown = |id: NodeId| format!("`{}`", path::display(&graph.node(id).path));
    let (Some(input), Some(output)) = (scope.input, scope.output) else {
        return Err("it takes or makes no value".into());
    };
    let mut gone: Vec<NodeId> = graph.layers(name).collect();
    let inside: FxHashSet<NodeId> = gone.iter().copied().collect();
    let (mut maps, mut scale, mut at) = (vec![], 1.0, output);
    while at != input {
        if !inside.contains(&at) {
            return Err(format!("it also takes {}", shown(at)));
        }
        let op = &graph.node(at).op;
        match op {
            Op::Linear(linear) if !linear.bias => maps.push(at),
            Op::Conv2d(conv) if !conv.bias && is_pointwise(conv) => maps.push(at),
            Op::Linear(_) | Op::Conv2d(_) => {
                return Err(format!("{} has a bias, or looks at more than one pixel", shown(at)));
            }
            Op::Mul(mul) if mul.number.is_some() => scale *= mul.number.unwrap_or(1.0),
            op if op.draws_always() => return Err(format!("{} draws at inference, which no weight does", shown(at))),
            Op::Identity(_) | Op::Dropout(_) | Op::Dropout2d(_) | Op::StochasticDepth(_) => {}
            _ => return Err(format!("{} is no linear map", shown(at))),
        }
        at = graph.operands(at)[0];
    }
    if maps.is_empty() {
        return Err("it has no linear map".into());
    }
    for id in &gone {
        if *id != output && graph.readers(*id).any(|(reader, _)| !inside.contains(&reader)) {
            return Err(format!("{} is used outside of it", shown(*id)));
        }
        if graph.output_names(*id).next().is_some() {
            return Err(format!("{} is an output of the network", shown(*id)));
        }
        if tied.contains(id) {
            return Err(format!("{} is tied to another layer", shown(*id)));
        }
    }
    let readers: Vec<NodeId> = graph.readers(output).map(|(reader, _)| reader).collect();
    let &[addition] = &readers[..] else { return Err("its result is not added to one value".into()) };
    if !matches!(&graph.node(addition).op, Op::Add(add) if add.number.is_none()) {
        return Err("its result is not added to that of a layer".into());
    }
    gone.push(addition);
    // what is added before it may be of another adapter beside the same layer
    let (mut before, mut layer) = (addition, output);
    loop {
        let operands = graph.operands(before);
        let Some(other) = operands.iter().copied().find(|operand| *operand != layer && !results.contains(operand))
        else {
            return Err("its result is added to none of a layer".into());
        };
        let used = graph.readers(other).count() + graph.output_names(other).count();
        if used != 1 {
            return Err(format!("{} is used without it, too", shown(other)));
        }
        let joined = matches!(&graph.node(other).op, Op::Add(add) if add.number.is_none())
            && graph.operands(other).iter().any(|operand| results.contains(operand));
        (before, layer) = (other, other);
        if !joined {
            break;
        }
    }
    let operands = graph.operands(layer);
    let first = operands.first().ok_or_else(|| format!("{} is no linear layer", shown(layer)))?;
    let of = |id: NodeId| matches!(graph.node(id).op, Op::Conv2d(_));
    if *first != input {
        return Err(format!("it takes {}, and {} takes {}", shown(input), shown(layer), shown(*first)));
    }
    if maps.iter().any(|map| of(*map) != of(layer)) {
        return Err(format!("it and {} are not both convolutions", shown(layer)));
    }
    let (weight, rows) = match &graph.node(layer).op {
        Op::Linear(linear) => ((layer, 0), 0..linear.out),
        Op::Conv2d(conv) if is_pointwise(conv) => {
            if strides(graph, &maps) != conv.stride {
                return Err(format!("it and {} have other strides", shown(layer)));
            }
            ((layer, 0), 0..conv.out)
        }
        Op::LinearWith(linear) => {
            let weight = operands[1];
            let all = graph.node(weight).shape.as_ref().and_then(|shape| shape.dims.first().copied()).unwrap_or(0);
            let rows = linear.range(all);
            if !matches!(graph.node(weight).op, Op::Parameter(_)) {
                return Err(format!("{}, the weight of {}, is computed", shown(weight), shown(layer)));
            }
            for (reader, slot) in graph.readers(weight).filter(|(reader, _)| *reader != layer) {
                let apart = match &graph.node(reader).op {
                    Op::LinearWith(other) if slot == 1 => {
                        let other = other.range(all);
                        other.end <= rows.start || rows.end <= other.start
                    }
                    _ => false,
                };
                if !apart {
                    return Err(format!("{} uses the same weights as {}", shown(reader), shown(layer)));
                }
            }
            ((weight, 0), rows)
        }
        _ => return Err(format!("{} is no linear layer", shown(layer))),
    };
    if tied.contains(&weight.0) {
        return Err(format!("{} is tied to another layer", shown(weight.0)));
    }
    Ok(Adapter { layer, weight, rows, maps, scale, gone })
}

/// The layers whose tensors several have.
fn tied(graph: &Graph) -> FxHashSet<NodeId> {
    graph.ids().filter(|id| graph.owner(*id) != *id).flat_map(|id| [id, graph.owner(id)]).collect()
}

/// A convolution that is a matrix at every pixel.
fn is_pointwise(conv: &Conv2d) -> bool {
    let one = Pair::both(1);
    conv.kernel == one && conv.groups == 1 && matches!(conv.padding, Padding::Same | Padding::Each(Pair { h: 0, w: 0 }))
}

/// The strides of convolutions one after another.
fn strides(graph: &Graph, maps: &[NodeId]) -> Pair {
    maps.iter().fold(Pair::both(1), |all, map| match &graph.node(*map).op {
        Op::Conv2d(conv) => Pair { h: all.h.saturating_mul(conv.stride.h), w: all.w.saturating_mul(conv.stride.w) },
        _ => all,
    })
}

/// The matrix that an adapter is, row-major.
fn product(typed: &Typed, tensors: &dyn Tensors, adapter: &Adapter) -> Result<Vec<f64>, Problem> {
    let matrix = |map: NodeId| -> Result<(Vec<f64>, usize), Problem> {
        let values = tensors.read(map, 0)?.into_iter().map(f64::from).collect();
        Ok((values, typed.params(map)[0].shape[1]))
    };
    let (first, rest) = adapter.maps.split_first().expect("an adapter has a map");
    let (mut left, mut inner) = matrix(*first)?;
    for map in rest {
        let (right, cols) = matrix(*map)?;
        let mut next = vec![0.0; left.len() / inner * cols];
        for (row, to) in left.chunks_exact(inner).zip(next.chunks_exact_mut(cols)) {
            for (factor, from) in row.iter().zip(right.chunks_exact(cols)) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
            }
        }
        (left, inner) = (next, cols);
    }
    left.iter_mut().for_each(|value| *value *= adapter.scale);
    Ok(left)
}
