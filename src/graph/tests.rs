//! Patches: what they do to little of a graph must be what doing it to the whole would give.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Graph, NewNode, NodeId, OWN_OUTPUT, Patch, Scope, path};
use crate::ops::attr::{Arg, Attr};
use crate::ops::constant::Input;
use crate::ops::{self, Op};
use crate::source::{FileId, Span};

fn span() -> Span {
    Span::new(FileId(0), 0, 0)
}

fn op(name: &str) -> Op {
    let args = if name == "linear" { vec![linear(8)] } else { vec![] };
    (ops::find(name).expect("an op").make)(&args).expect("the arguments fit")
}

fn linear(out: i64) -> Arg {
    Arg { name: Some("out".into()), value: Attr::Int(out) }
}

fn add(patch: &mut Patch, path: &str, op: Op, operands: &[NodeId]) -> NodeId {
    patch.add(NewNode { path: path.into(), op, operands: operands.to_vec(), span: span() })
}

fn scope(input: NodeId, output: NodeId) -> Scope {
    Scope { block: None, numbered: false, input: Some(input), output: Some(output), additions: vec![], span: span() }
}

/// x -> a.relu -> a.b.relu -> .. -> y, each layer in scopes of its own, and an addition over all of it.
fn network(layers: usize) -> Graph {
    let mut graph = Graph::new();
    let made: Result<(), ()> = graph.patch(|patch| {
        let x = add(patch, "x", Input { shape: vec![8] }.into(), &[]);
        patch.add_input("x", x);
        let mut last = x;
        for at in 0..layers {
            let place = format!("s{}.{at}", at % 3);
            let next = add(patch, &format!("{place}.linear"), op("linear"), &[last]);
            patch.add_scope(&place, scope(last, next));
            last = next;
        }
        let sum = add(patch, "add", op("add"), &[last, x]);
        patch.add_scope("", scope(x, sum));
        patch.add_addition("", sum);
        patch.set_output(OWN_OUTPUT, sum, None);
        Ok(())
    });
    made.expect("nothing in it fails");
    graph
}

/// Everything that a graph is, as text.
fn all_of(graph: &Graph) -> String {
    let mut scopes: Vec<String> = graph
        .scopes("")
        .map(|(path, scope)| format!("{path}: {:?} {:?} {:?}", scope.input, scope.output, scope.additions))
        .collect();
    scopes.sort_unstable();
    let nodes = graph.order().into_iter().map(|id| format!("{id:?} {:?} {:?}", graph.node(id), graph.uses(id)));
    format!("{graph}{}\n{}\n{:?}", nodes.collect::<Vec<_>>().join("\n"), scopes.join("\n"), graph.inputs())
}

/// One random change; `pick` says of what.
fn change(patch: &mut Patch, kind: u8, pick: usize) {
    let order = patch.order();
    let id = order[pick % order.len()];
    let is_input = matches!(patch.node(id).op, Op::Input(_));
    match kind {
        // a layer on every edge out of another
        0 => {
            let holder = path::parent(&patch.node(id).path).to_string();
            let path = patch.free_path(&holder, "relu");
            let uses = patch.uses(id);
            patch.rank_from(patch.node(id).rank + 1);
            let new = add(patch, &path, op("relu"), &[id]);
            uses.iter().for_each(|one| patch.redirect(one, new));
            patch.begin_scopes(id, new, |_, _| true);
        }
        // a layer goes, its uses take what it took
        1 if !is_input => {
            let input = patch.operands(id)[0];
            patch.uses(id).iter().for_each(|one| patch.redirect(one, input));
            patch.bound_scopes(id, input);
            patch.remove(id);
        }
        2 if !is_input => {
            let to = patch.free_path("moved.to", "layer");
            patch.rename(id, &to);
        }
        3 if matches!(patch.node(id).op, Op::Linear(_)) => {
            let wider = patch.node(id).op.with_attrs(&[linear(16)]).expect("it has that argument");
            patch.set_op(id, wider);
        }
        4 => {
            let (one, other) = (order[0], id);
            let is_free = patch.node(other).tied.is_none() && patch.owner(one) != other;
            if one != other && is_free {
                patch.tie(other, one);
            }
        }
        5 => patch.set_output("other", id, None),
        6 if patch.outputs().len() > 1 => patch.drop_output("other"),
        // what the last output needs stays, the rest is dead
        7 => patch.set_output(OWN_OUTPUT, id, None),
        8 => {
            let path = patch.node(id).path.clone();
            let scopes = path.split_once('.').map_or("", |(first, _)| first).to_string();
            if !scopes.is_empty() {
                patch.remove_scope(&scopes);
            }
        }
        _ => patch.node_mut(id).frozen = true,
    }
}

proptest! {
    #[test]
    fn a_patch_does_what_work_on_the_whole_graph_would(
        edits in proptest::collection::vec(
            (proptest::collection::vec((0..10u8, 0..64usize), 1..6), any::<bool>()), 1..8,
        ),
    ) {
        let mut graph = network(12);
        for (changes, fails) in edits {
            let before = all_of(&graph);
            let paths: BTreeSet<String> = graph.ids().map(|id| graph.node(id).path.clone()).collect();
            let nodes: BTreeSet<NodeId> = graph.ids().collect();
            let outcome: Result<(), ()> = graph.patch(|patch| {
                for (kind, pick) in changes {
                    change(patch, kind, pick);
                }
                patch.sweep();
                patch.infer();
                let gone: BTreeSet<String> = patch.removed().iter().map(|(_, path)| path.to_string()).collect();
                assert!(gone.is_subset(&paths), "only what was there is gone");
                assert_eq!(patch.removed().len(), nodes.iter().filter(|id| patch.get(**id).is_none()).count());
                if fails { Err(()) } else { Ok(()) }
            });
            if outcome.is_err() {
                prop_assert_eq!(all_of(&graph), before);
                continue;
            }
            graph.check();
            let mut live = graph.live();
            live.extend(graph.inputs().values());
            prop_assert_eq!(live.len(), graph.len());
            for id in graph.order() {
                let ins = graph.operand_shapes(id);
                let shape = ins.and_then(|ins| graph.node(id).op.infer(&ins).ok());
                prop_assert_eq!(&graph.node(id).shape, &shape);
            }
            for (scope, data) in graph.scopes("").filter(|(scope, _)| !scope.is_empty()) {
                prop_assert!(graph.layers(&scope).next().is_some(), "`{}` is empty", scope);
                let ends = data.input.iter().chain(&data.output).chain(&data.additions);
                prop_assert!(ends.into_iter().all(|id| graph.get(*id).is_some()), "`{}` ends nowhere", scope);
            }
        }
    }
}

#[test]
fn some_layers_alone_run_in_the_order_of_all() {
    let graph = network(30);
    let order = graph.order();
    let some: Vec<NodeId> = graph.layers("s1").collect();
    let wanted: Vec<NodeId> = order.into_iter().filter(|id| some.contains(id)).collect();
    assert_eq!(graph.order_of(&some), wanted);
}

#[test]
fn automatic_names_fill_what_is_free() {
    let mut graph = network(1);
    let names = |graph: &mut Graph, gone: &[&str], count: usize| -> Vec<String> {
        let made: Result<Vec<String>, ()> = graph.patch(|patch| {
            for path in gone {
                let id = patch.find(path).expect("it is there");
                patch.uses(id).iter().for_each(|one| patch.redirect(one, patch.operands(id)[0]));
                patch.remove(id);
            }
            let mut names = vec![];
            for _ in 0..count {
                let last = patch.outputs()[OWN_OUTPUT].node;
                let path = patch.free_path("", "relu");
                let id = add(patch, &path, op("relu"), &[last]);
                patch.set_output(OWN_OUTPUT, id, None);
                names.push(path);
            }
            Ok(names)
        });
        made.expect("nothing in it fails")
    };
    assert_eq!(names(&mut graph, &[], 4), ["relu", "relu_1", "relu_2", "relu_3"]);
    assert_eq!(names(&mut graph, &["relu_1", "relu_3"], 3), ["relu_1", "relu_3", "relu_4"]);
    assert_eq!(names(&mut graph, &["relu"], 2), ["relu", "relu_5"]);
}
