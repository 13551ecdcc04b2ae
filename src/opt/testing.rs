//! Small networks for tests, written a line a layer: `c = conv2d(4, kernel = 3) <- x`. The last line's value is the
//! network's output; `! a, b` at the end names others.

use crate::graph::{Graph, NewNode, NodeId};
use crate::ops::attr::{Arg, Attr};
use crate::ops::{self, Op};
use crate::source::{FileId, Span};
use crate::typed::{self, Typed};

/// # Panics
/// If the text is not right.
pub fn network(text: &str) -> Typed {
    let span = Span::new(FileId(0), 0, 0);
    let mut graph = Graph::new();
    graph
        .patch(|patch| {
            let mut last = NodeId::default();
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                if let Some(outputs) = line.strip_prefix('!') {
                    for name in outputs.split(',').map(str::trim) {
                        let id = patch.find(name).unwrap_or_else(|| panic!("no layer {name}"));
                        patch.set_output(name, id, None);
                    }
                    continue;
                }
                let (path, call) = line.split_once(" = ").expect("name = call");
                let (call, operands) = call.split_once("<-").unwrap_or((call, ""));
                let find = |name: &str| patch.find(name).unwrap_or_else(|| panic!("no layer {name}"));
                let operands = operands.split(',').map(str::trim).filter(|name| !name.is_empty()).map(find).collect();
                let op = op(call.trim());
                let input = matches!(op, Op::Input(_));
                last = patch.add(NewNode { path: path.trim().into(), op, operands, span });
                if input {
                    patch.add_input(path.trim(), last);
                }
            }
            patch.set_output(crate::graph::OWN_OUTPUT, last, None);
            Ok::<_, ()>(())
        })
        .expect("nothing in it fails");
    typed::check(graph, &[]).unwrap_or_else(|problems| panic!("{problems:?} in {text}"))
}

/// An op from its call.
pub fn op(call: &str) -> Op {
    let (name, args) = call.split_once('(').unwrap_or((call, ")"));
    let args = args.strip_suffix(')').expect("a call ends with a bracket");
    let args: Vec<Arg> = split(args).into_iter().map(arg).collect();
    let entry = ops::find(name).unwrap_or_else(|| panic!("no op {name}"));
    (entry.make)(&args).unwrap_or_else(|problem| panic!("{problem:?} in {call}"))
}

/// At commas outside of brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, vec![]);
    for (at, c) in text.char_indices() {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn arg(text: &str) -> Arg {
    match text.split_once('=') {
        Some((name, value)) => Arg { name: Some(name.trim().into()), value: value_of(value.trim()) },
        None => Arg { name: None, value: value_of(text) },
    }
}

fn value_of(text: &str) -> Attr {
    if let Some(list) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return Attr::List(split(list).into_iter().map(value_of).collect());
    }
    match (text, text.parse(), text.parse()) {
        ("none", ..) => Attr::None,
        ("true", ..) => Attr::Bool(true),
        ("false", ..) => Attr::Bool(false),
        (_, Ok(int), _) => Attr::Int(int),
        (_, _, Ok(float)) => Attr::Float(float),
        _ => Attr::Word(text.into()),
    }
}
