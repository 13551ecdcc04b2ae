//! Which ops of a trace are layers: those whose tensors are called as archc calls them, after one path, and are nobody else's.

use std::collections::{HashMap, HashSet};

use crate::import::trace::{Kind, Trace, ValueId};

/// The layers of a trace.
#[derive(Debug, Default)]
pub struct Layers {
    /// The path by node.
    by_node: HashMap<usize, String>,
}

/// The arguments of an op that are a layer's tensors, with their names there.
fn tensors(op: &str) -> Option<&'static [(&'static str, &'static str)]> {
    Some(match op {
        "conv2d" | "conv1d" | "conv_transpose2d" | "linear" | "layer_norm" | "group_norm" => {
            &[("weight", "weight"), ("bias", "bias")]
        }
        "batch_norm" => {
            &[("weight", "weight"), ("bias", "bias"), ("running_mean", "running_mean"), ("running_var", "running_var")]
        }
        "rms_norm" | "prelu" => &[("weight", "weight")],
        _ => return None,
    })
}

impl Layers {
    pub fn of(trace: &Trace) -> Layers {
        let stored: HashMap<ValueId, usize> =
            trace.tensors.iter().enumerate().map(|(at, stored)| (stored.value, at)).collect();
        let mut found: HashMap<usize, String> = HashMap::new();
        // who else has a tensor: the path of its layers, or none
        let mut users: HashMap<usize, HashSet<Option<(String, String)>>> = HashMap::new();
        for (at, node) in trace.nodes.iter().enumerate() {
            let path = path(trace, at, &stored);
            for value in node.takes() {
                if let Some(tensor) = stored.get(&value) {
                    let user = path.clone().map(|path| (path, node.op().to_string()));
                    users.entry(*tensor).or_default().insert(user);
                }
            }
            if let Some(path) = path {
                found.insert(at, path);
            }
        }
        // the tensors inside each path
        let mut inside: HashMap<&str, Vec<usize>> = HashMap::new();
        for tensor in users.keys() {
            let mut path = trace.tensors[*tensor].key.as_str();
            while let Some((holder, _)) = path.rsplit_once('.') {
                inside.entry(holder).or_default().push(*tensor);
                path = holder;
            }
        }
        let is_own = |tensor: &usize| users.get(tensor).is_none_or(|users| users.len() == 1);
        let mut refused: HashSet<String> = HashSet::new();
        let mut of_path: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, path) in &found {
            let node = &trace.nodes[*at];
            let mut own: Vec<usize> = node.takes().filter_map(|value| stored.get(&value).copied()).collect();
            own.sort_unstable();
            // a layer that runs again has the same tensors
            if *of_path.entry(path).or_insert_with(|| own.clone()) != own {
                refused.insert(path.clone());
            }
            // a tensor at the layer's path that is not the layer's would lie inside it
            let others = inside.get(path.as_str()).into_iter().flatten().any(|tensor| !own.contains(tensor));
            if !own.iter().all(is_own) || others {
                refused.insert(path.clone());
            }
        }
        found.retain(|_, path| !refused.contains(path));
        Layers { by_node: found }
    }

    /// The path of the layer that a node is.
    pub fn path(&self, node: usize) -> Option<&str> {
        self.by_node.get(&node).map(String::as_str)
    }
}

/// What the keys of a node's tensors begin with, where they are a layer's.
fn path(trace: &Trace, at: usize, stored: &HashMap<ValueId, usize>) -> Option<String> {
    let node = &trace.nodes[at];
    let names = tensors(node.op())?;
    let mut path: Option<String> = None;
    let mut given = vec![];
    for (arg, name) in names {
        let Some(value) = node.value(arg) else { continue };
        let tensor = &trace.tensors[*stored.get(&value)?];
        let own = tensor.key.strip_suffix(name)?.strip_suffix('.')?;
        if path.get_or_insert_with(|| own.to_string()) != own {
            return None;
        }
        let is_statistic = name.starts_with("running");
        if (tensor.kind == Kind::Parameter) == is_statistic || tensor.kind == Kind::Constant {
            return None;
        }
        given.push(*name);
    }
    let has = |name: &str| given.contains(&name);
    let is_whole = match node.op() {
        // both or none
        "layer_norm" | "group_norm" => has("weight") && has("bias"),
        "batch_norm" => {
            has("weight") == has("bias")
                && has("running_mean")
                && has("running_var")
                && !node.bool("training").unwrap_or(false)
        }
        _ => has("weight"),
    };
    path.filter(|path| is_whole && !path.is_empty())
}
