//! Which layers a run can teach anything: those that the loss reaches. The loss is computed on the network's own output,
//! so that a layer of which only another named output takes anything gets no gradient. Also which frozen layers hold
//! nothing but random values. Knows the network alone, not the data.

use rustc_hash::FxHashSet;

use super::TrainSpec;
use super::check::has_weights;
use crate::diag::{Code, Diagnostics, Problem, and};
use crate::graph::adapt::Adapted;
use crate::graph::{Graph, Node, NodeId, OWN_OUTPUT, path};
use crate::ops::Role;
use crate::ops::init::Init;
use crate::settings::Settings;
use crate::typed::Typed;

/// Places that a message names before it counts the rest.
const SHOWN: usize = 8;

/// The error of layers that would learn if the loss reached them; None where it reaches all.
pub(super) fn unreached(typed: &Typed, unfreezes: &[(NodeId, usize)]) -> Option<Problem> {
    let graph = typed.graph();
    let output = graph.outputs().get(OWN_OUTPUT)?.node;
    let reached = reached(graph, output);
    // gradients of a tied layer are its owner's
    let taught: FxHashSet<NodeId> = reached.iter().map(|id| graph.owner(*id)).collect();
    let unfrozen: FxHashSet<NodeId> = unfreezes.iter().map(|(id, _)| *id).collect();
    let learns = |id: &NodeId| has_weights(typed, *id) && (!graph.node(*id).frozen || unfrozen.contains(id));
    let (heard, deaf): (Vec<NodeId>, Vec<NodeId>) =
        typed.order().iter().copied().filter(learns).partition(|id| taught.contains(id));
    if deaf.is_empty() {
        return None;
    }
    let paths = |ids: &[NodeId]| -> Vec<String> { ids.iter().map(|id| graph.node(*id).path.clone()).collect() };
    let places = cover(&paths(&deaf), &paths(&heard));
    let end = graph.node(output);
    let loss_at = path::display(&end.path);
    let problem = Problem::new(Code::Train, format!("the loss does not reach {}", shown(&places)))
        .see(end.span, format!("the loss is computed on the network's own output, that of `{loss_at}`"));
    Some(match deaf.iter().any(|id| unfrozen.contains(id)) {
        true => problem.hint("take these layers out of the `unfreeze` line"),
        false => problem.hint(format!("leave out of the training what cannot learn: `freeze {}`", places.join(", "))),
    })
}

/// The output's layer and everything that flows into it.
fn reached(graph: &Graph, output: NodeId) -> FxHashSet<NodeId> {
    let mut reached = FxHashSet::default();
    let mut stack = vec![output];
    while let Some(id) = stack.pop() {
        if reached.insert(id) {
            stack.extend(graph.operands(id));
        }
    }
    reached
}

/// Warns of frozen layers whose values are random: those of a base without weights, and those that an edit made.
pub fn frozen_at_random(typed: &Typed, settings: &Settings, spec: &TrainSpec) -> Diagnostics {
    let mut warnings = Diagnostics::new();
    let graph = typed.graph();
    let unfrozen: FxHashSet<NodeId> = spec.unfreezes().iter().map(|(id, _)| *id).collect();
    // what the loss does not reach gives nothing to what learns
    let heard = graph.outputs().get(OWN_OUTPUT).map_or_else(FxHashSet::default, |own| reached(graph, own.node));
    let stays = |id: &NodeId| {
        let node = graph.node(*id);
        node.frozen && node.tied.is_none() && !unfrozen.contains(id) && heard.contains(id)
    };
    let random: Vec<&Node> =
        typed.order().iter().filter(|id| stays(id) && is_random(typed, **id)).map(|id| graph.node(*id)).collect();
    let (base, made): (Vec<&Node>, Vec<&Node>) = random.into_iter().partition(|node| node.base.is_some());
    if settings.weights_span.is_none() && !base.is_empty() {
        let plural = if base.len() == 1 { "layer is" } else { "layers are" };
        let message = format!("{} {plural} frozen with random weights", base.len());
        let problem = Problem::new(Code::Train, message)
            .label("no weights are given")
            .note("what learns behind them gets features of nothing")
            .hint(format!("give the base its weights: `base {} {{ weights \"file.safetensors\" }}`", settings.base))
            .hint("or let them learn: leave out the `freeze`");
        warnings.push(problem.at(settings.base_span).warning());
    }
    if let Some(first) = made.first() {
        let paths: Vec<String> = made.iter().map(|node| path::display(&node.path)).collect();
        let plural = if made.len() == 1 { "is" } else { "are" };
        let problem = Problem::new(Code::Train, format!("{} {plural} frozen with random weights", shown(&paths)))
            .note("a layer that an edit makes has no pretrained weights")
            .hint("`freeze` before that edit: what a later edit makes is trainable");
        warnings.push(problem.at(first.origin.unwrap_or(first.span)).warning());
    }
    warnings
}

/// Whether a weight of the layer is drawn, and no `init` line says how.
fn is_random(typed: &Typed, id: NodeId) -> bool {
    let node = typed.graph().node(id);
    let adapted = typed.adapted(id);
    typed.params(id).iter().filter(|param| adapted.get(param.name).is_none_or(Adapted::has_new)).any(|param| {
        let is_drawn =
            !matches!(param.init, Init::Zeros | Init::Ones | Init::Constant(_) | Init::Identity | Init::From { .. });
        param.role == Role::Weight && is_drawn && !node.inits.iter().any(|filled| filled.tensor == param.name)
    })
}

/// The fewest places that hold all of `deaf` and none of `heard`.
fn cover(deaf: &[String], heard: &[String]) -> Vec<String> {
    let mut places: Vec<String> = vec![];
    for layer in deaf {
        if places.iter().any(|place| path::within(layer, place)) {
            continue;
        }
        let ends = layer.match_indices('.').map(|(at, _)| at).chain([layer.len()]);
        let prefixes = ends.map(|end| &layer[..end]);
        let mut free = prefixes.filter(|place| !heard.iter().any(|other| path::within(other, place)));
        places.push(free.next().unwrap_or(layer).to_string());
    }
    places.iter().map(|place| path::display(place)).collect()
}

fn shown(places: &[String]) -> String {
    match places.len().checked_sub(SHOWN) {
        Some(more @ 1..) => {
            let names: Vec<String> = places.iter().take(SHOWN).map(|place| format!("`{place}`")).collect();
            format!("{} and {more} more", names.join(", "))
        }
        _ => and(places),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_as_large_as_can_be() {
        let paths = |text: &str| -> Vec<String> { text.split(' ').map(str::to_string).collect() };
        let deaf = paths("layer4.0.conv1 layer4.1.conv2 layer3.1.conv2 fc");
        assert_eq!(cover(&deaf, &paths("layer3.0.conv1 layer3.1.conv1")), ["layer4", "layer3[1].conv2", "fc"]);
        assert_eq!(shown(&paths("a b")), "`a` and `b`");
        assert_eq!(shown(&paths("a b c d e f g h i j")), "`a`, `b`, `c`, `d`, `e`, `f`, `g`, `h` and 2 more");
    }
}
