//! `tie A to B`: A uses B's weights and has no keys of its own.

use rustc_hash::FxHashSet;

use super::select::{Target, single};
use super::undone::{Deed, Mark};
use super::{Ctx, Outcome, SHAPE, Verb};
use crate::diag::{Code, Problem, count};
use crate::graph::{Graph, NodeId, path};
use crate::syntax::tree::Part;

pub(super) const VERB: Verb = Verb {
    name: "tie",
    syntax: &["tie P to P"],
    meaning: "The first layer or scope uses the second one's weights and has no keys of its own; gradients add up. Their \
        tensors must have equal shapes.",
    example: "tie layer1[1].conv1 to layer1[0].conv1",
    apply,
};

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let [Part::Place(from), Part::Word(_), Part::Place(to)] = parts else { unreachable!("{SHAPE}") };
    let graph: &Graph = ctx.builder.patch;
    let (a, b) = (single(ctx.builder, from)?, single(ctx.builder, to)?);
    let (shown_a, shown_b) = (a.display(graph), b.display(graph));
    ctx.matched.extend([shown_a.clone(), shown_b.clone()]);
    let (own, theirs) = (with_weights(graph, &a), with_weights(graph, &b));
    let refuse = |message: String| Err(Problem::new(Code::BadEdit, message).at(ctx.span).into());
    if own.is_empty() {
        return refuse(format!("`{shown_a}` has no weights to tie"));
    }
    let shared: FxHashSet<NodeId> = theirs.iter().map(|(_, id)| *id).collect();
    if own.iter().any(|(_, id)| shared.contains(id)) {
        return refuse(format!("`{shown_a}` and `{shown_b}` overlap"));
    }
    if own.len() != theirs.len() {
        return refuse(format!(
            "`{shown_a}` has {} with weights, `{shown_b}` has {}",
            count(own.len(), "layer"),
            theirs.len()
        ));
    }
    let mut pairs: Vec<(NodeId, NodeId)> = vec![];
    for ((name, id), (other_name, other)) in own.iter().zip(&theirs) {
        let owner = graph.owner(*other);
        let (mine, its) = (graph.params(*id).unwrap_or_default(), graph.params(owner).unwrap_or_default());
        let fits =
            mine.len() == its.len() && mine.iter().zip(&its).all(|(a, b)| a.name == b.name && a.shape == b.shape);
        if !fits {
            let shapes = |params: &[crate::ops::ParamDecl]| {
                params.iter().map(|param| format!("{} {:?}", param.name, param.shape)).collect::<Vec<_>>().join(", ")
            };
            let inner =
                |whole: &str, name: &str| if name.is_empty() { whole.to_string() } else { format!("{whole}.{name}") };
            let message = format!(
                "`{}` and `{}` have weights of different shapes",
                inner(&shown_a, name),
                inner(&shown_b, other_name)
            );
            let problem = Problem::new(Code::ShapeMismatch, message);
            return Err(problem.note(format!("{} against {}", shapes(&mine), shapes(&its))).at(ctx.span).into());
        }
        if owner == *id {
            return refuse(format!("`{shown_b}` already uses the weights of `{shown_a}`"));
        }
        if graph.node(*id).tied.is_some() && graph.owner(*id) == owner {
            return refuse(format!("`{shown_a}` already uses the weights of `{shown_b}`"));
        }
        pairs.push((*id, owner));
    }
    ctx.deeds.push(Deed::Marks(pairs.iter().map(|(id, _)| (*id, Mark::Tied)).collect()));
    for (id, owner) in pairs {
        ctx.builder.patch.tie(id, owner);
    }
    Ok(())
}

/// The layers with weights, by their paths inside the place, in order.
fn with_weights(graph: &Graph, target: &Target) -> Vec<(String, NodeId)> {
    let scope = target.path(graph);
    let nodes = target.nodes(graph).into_iter().filter(|id| graph.params(*id).is_some_and(|params| !params.is_empty()));
    let named = nodes.map(|id| {
        let path = &graph.node(id).path;
        let inner = if path::inside(path, &scope) { path[scope.len()..].trim_start_matches('.') } else { "" };
        (inner.to_string(), id)
    });
    named.collect()
}
