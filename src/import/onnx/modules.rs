//! Which modules of the source a node lies in: as PyTorch's exporters write it, in its metadata or in its name.

use crate::import::trace::Module;
use crate::onnx::proto::Node;

/// More modules than these lie around no node.
const MAX_DEPTH: usize = 64;

/// The modules around a node, the network itself left out, the innermost last.
pub fn of(node: &Node) -> Vec<Module> {
    let entry = |key: &str| node.metadata_props.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
    let scopes = entry("pkg.torch.onnx.name_scopes").and_then(list);
    let classes = entry("pkg.torch.onnx.class_hierarchy").and_then(list);
    match (scopes, classes) {
        (Some(scopes), Some(classes)) if scopes.len() == classes.len() => {
            // the first is the network, the last the node itself
            let inner = scopes.iter().zip(&classes).take(scopes.len().saturating_sub(1));
            let named = inner.filter(|(path, _)| !path.is_empty()).take(MAX_DEPTH);
            named.map(|(path, class)| module(path, class)).collect()
        }
        _ => of_name(&node.name),
    }
}

/// A second call of a module has `@1` at its path.
fn module(path: &str, class: &str) -> Module {
    let (path, call) = match path.rsplit_once('@') {
        Some((path, call)) => (path, call.parse().unwrap_or(0)),
        None => (path, 0),
    };
    Module { path: path.to_string(), class: class.to_string(), call }
}

/// Python's list of texts.
fn list(text: &str) -> Option<Vec<String>> {
    let mut letters = text.trim().strip_prefix('[')?.strip_suffix(']')?.chars();
    let mut texts = vec![];
    while let Some(letter) = letters.next() {
        if letter != '\'' && letter != '"' {
            continue;
        }
        let mut text = String::new();
        loop {
            match letters.next()? {
                '\\' => text.push(letters.next()?),
                end if end == letter => break,
                other => text.push(other),
            }
        }
        texts.push(text);
    }
    Some(texts)
}

/// Of a name such as `/layer1/layer1.0/conv1/Conv`, which the older exporter writes: a child of a list repeats its list's name. Classes
/// are not said there; what runs its children itself is a list of them.
fn of_name(name: &str) -> Vec<Module> {
    let Some(rest) = name.strip_prefix('/') else { return vec![] };
    let mut parts: Vec<&str> = rest.split('/').collect();
    parts.pop();
    if parts.len() > MAX_DEPTH || parts.iter().any(|part| part.is_empty()) {
        return vec![];
    }
    let mut modules: Vec<Module> = vec![];
    for part in parts {
        let around = modules.last().map_or("", |module| module.path.as_str());
        // the last name, with the numbers behind it
        let is_number = |label: &str| label.chars().all(|letter| letter.is_ascii_digit());
        let start = around
            .rmatch_indices('.')
            .map(|(at, _)| at + 1)
            .chain([0])
            .find(|at| !is_number(around[*at..].split('.').next().unwrap_or("")));
        let tail = &around[start.unwrap_or(0)..];
        let inner = part.strip_prefix(tail).and_then(|rest| rest.strip_prefix('.'));
        let path = match inner {
            Some(inner) if !tail.is_empty() => {
                let path = format!("{around}.{inner}");
                if let Some(last) = modules.last_mut() {
                    last.class = "torch.nn.modules.container.Sequential".into();
                }
                path
            }
            _ if around.is_empty() => part.to_string(),
            _ => format!("{around}.{part}"),
        };
        modules.push(module(&path, "torch.nn.modules.container.ModuleDict"));
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::Entry;

    fn shown(node: &Node) -> Vec<String> {
        of(node).iter().map(|module| format!("{}: {} {}", module.path, module.kind(), module.call)).collect()
    }

    #[test]
    fn modules_are_those_of_the_metadata() {
        let entry = |key: &str, value: &str| Entry { key: format!("pkg.torch.onnx.{key}"), value: value.into() };
        let node = Node {
            metadata_props: vec![
                entry("name_scopes", "['', 'layer1', \"layer1.0@1\", 'conv2d_1']"),
                entry(
                    "class_hierarchy",
                    "['m.Net', 'torch.nn.modules.container.Sequential', 'm.Block', 'aten.conv2d.default']",
                ),
            ],
            ..Node::default()
        };
        assert_eq!(shown(&node), ["layer1: Sequential 0", "layer1.0: Block 1"]);
    }

    #[test]
    fn modules_are_those_of_the_name_where_nothing_else_says_them() {
        let named = |name: &str| shown(&Node { name: name.into(), ..Node::default() });
        let paths = ["layer1: Sequential 0", "layer1.0: ModuleDict 0", "layer1.0.conv1: ModuleDict 0"];
        assert_eq!(named("/layer1/layer1.0/conv1/Conv"), paths);
        assert_eq!(
            named("/blocks.0/mlp/fc1/MatMul"),
            ["blocks.0: ModuleDict 0", "blocks.0.mlp: ModuleDict 0", "blocks.0.mlp.fc1: ModuleDict 0"]
        );
        assert_eq!(named("/features/features.0/features.0.0/Conv")[2], "features.0.0: ModuleDict 0");
        assert_eq!(named("/Relu"), Vec::<String>::new());
        assert_eq!(named("Conv_0"), Vec::<String>::new());
    }
}
