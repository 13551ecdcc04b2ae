//! What is different between two checked networks: layers by path, tensors by key, each as aspects in words.
//! Knows nothing of how differences are shown.

use indexmap::IndexMap;

use crate::graph::{Graph, Node, key, path};
use crate::ops::attr::FromAttr;
use crate::typed::Typed;

/// What a layer or tensor is, in words; things of one kind have the same aspects in the same order.
pub type Aspects = Vec<String>;

/// Each layer by path: op, shape, what it takes, whether it learns.
pub fn layers(typed: &Typed) -> IndexMap<String, Aspects> {
    let graph = typed.graph();
    let mut layers: IndexMap<String, Aspects> = IndexMap::new();
    for id in typed.order() {
        let node = graph.node(*id);
        let from: Vec<String> =
            graph.operands(*id).iter().map(|operand| path::display(&graph.node(*operand).path)).collect();
        let from = if from.is_empty() { String::new() } else { format!("of {}", from.join(", ")) };
        let learns = match (typed.params(*id).is_empty(), node.frozen) {
            (true, _) => "",
            (false, true) => "frozen",
            (false, false) => "trainable",
        };
        let aspects = vec![op_text(graph, node), typed.shape(*id).to_string(), from, learns.into()];
        layers.insert(path::display(&node.path), aspects);
    }
    for (name, output) in graph.outputs() {
        layers.insert(format!("output `{name}`"), vec![path::display(&graph.node(output.node).path)]);
    }
    layers
}

/// Each tensor by key: its shape, and where its values come from.
pub fn tensors(typed: &Typed) -> IndexMap<String, Aspects> {
    let mut tensors = IndexMap::new();
    for id in typed.order() {
        let node = typed.graph().node(*id);
        if node.tied.is_some() {
            continue;
        }
        let mut adapted = typed.adapted(*id);
        for param in typed.params(*id) {
            if let Some(how) = adapted.remove(param.name) {
                let source = format!("from the base's {}, {}", how.key, how.how());
                tensors.insert(key(&node.path, param.name), vec![format!("{:?}", param.shape), source]);
                continue;
            }
            let init = node.inits.iter().find(|filled| filled.tensor == param.name);
            let kept = node
                .base
                .as_ref()
                .filter(|base| base.params.iter().any(|old| old.name == param.name && old.shape == param.shape));
            let own = key(&node.path, param.name);
            let source = match (init, kept) {
                (Some(filled), _) => format!("filled with {}", filled.init.to_attr()),
                (None, Some(base)) if key(&base.path, param.name) == own => "from the base".to_string(),
                (None, Some(base)) => format!("from the base's {}", key(&base.path, param.name)),
                (None, None) => "fresh".to_string(),
            };
            tensors.insert(own, vec![format!("{:?}", param.shape), source]);
        }
    }
    tensors
}

/// Named things that differ.
#[derive(Default)]
pub struct Changes {
    pub only_a: Vec<(String, Aspects)>,
    pub only_b: Vec<(String, Aspects)>,
    pub changed: Vec<(String, Aspects, Aspects)>,
}

impl Changes {
    pub fn of(a: &IndexMap<String, Aspects>, b: &IndexMap<String, Aspects>) -> Changes {
        let mut changes = Changes::default();
        for (name, old) in a {
            match b.get(name) {
                None => changes.only_a.push((name.clone(), old.clone())),
                Some(new) if new != old => changes.changed.push((name.clone(), old.clone(), new.clone())),
                Some(_) => {}
            }
        }
        let added = b.iter().filter(|(name, _)| !a.contains_key(*name));
        changes.only_b.extend(added.map(|(name, new)| (name.clone(), new.clone())));
        changes
    }

    pub fn is_empty(&self) -> bool {
        self.only_a.is_empty() && self.only_b.is_empty() && self.changed.is_empty()
    }
}

/// The aspects of the one that are not the other's.
pub fn differing(one: &Aspects, other: &Aspects) -> Aspects {
    one.iter().zip(other).filter(|(one, other)| one != other).map(|(one, _)| one.clone()).collect()
}

/// The op with its arguments, and whose weights it uses where they are not its own.
pub fn op_text(graph: &Graph, node: &Node) -> String {
    match node.tied {
        None => node.op.to_string(),
        Some(owner) => format!("{}, tied to {}", node.op, path::display(&graph.node(owner).path)),
    }
}

/// Aspects as a text.
pub fn words(aspects: &Aspects) -> String {
    let said: Vec<&str> = aspects.iter().map(String::as_str).filter(|aspect| !aspect.is_empty()).collect();
    if said.is_empty() { "-".into() } else { said.join(" ") }
}
