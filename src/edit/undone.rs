//! What edits did to layers that stay, so that a later edit which takes it back is told of: `warning[undone]`. Layers
//! that an edit made bear its mark themselves ([`crate::graph::Node::origin`]).
//!
//! An edit that makes an exception (`freeze all except fc`, then `unfreeze layer4`) takes nothing back: a warning comes
//! where nothing is left of what the earlier edit did, or where an argument or a tensor is written twice by edits of
//! which the later is no exception to the earlier.

use indexmap::IndexMap;
use rustc_hash::FxHashMap;

use crate::diag::{Code, Diagnostics, Problem, and};
use crate::graph::{Graph, NodeId, OWN_OUTPUT, key, path};
use crate::source::Span;

/// What an edit changed of a layer that it did not make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The value of this argument.
    Argument(String),
    /// The values of this tensor.
    Tensor(&'static str),
    /// That this tensor is made of the old one.
    Kept(&'static str),
    Frozen,
    Trainable,
    /// Whose weights it uses.
    Tied,
}

impl Mark {
    /// Whether the other one takes it back.
    fn meets(&self, other: &Mark) -> bool {
        match (self, other) {
            (Mark::Frozen, Mark::Trainable) | (Mark::Trainable, Mark::Frozen) => true,
            // a tied layer has no tensors of its own that could have been filled
            (Mark::Tensor(_) | Mark::Kept(_), Mark::Tied) => true,
            // a clause goes on from what an earlier one made
            (Mark::Kept(_), Mark::Kept(_)) => false,
            (Mark::Kept(one), Mark::Tensor(other)) => one == other,
            (one, other) => one == other,
        }
    }

    fn done(&self) -> &'static str {
        match self {
            Mark::Argument(_) => "set",
            Mark::Tensor(_) => "filled",
            Mark::Kept(_) => "kept",
            Mark::Frozen => "frozen",
            Mark::Trainable => "unfrozen",
            Mark::Tied => "tied",
        }
    }
}

/// A part of what an edit does, that stands or falls as a whole.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// Marks of one kind on layers that stay.
    Marks(Vec<(NodeId, Mark)>),
    /// A layer or scope that moved.
    Moved { from: String, to: String },
    /// The network's own output was led to another layer.
    Cut,
}

/// What one successful edit came to.
pub(super) struct Step<'a> {
    pub edit: Span,
    pub deeds: Vec<Deed>,
    /// The layers that are no more, and their paths.
    pub gone: &'a [(NodeId, String)],
    /// Layers that are no more, and those that their tensors passed to.
    pub heirs: &'a [(NodeId, NodeId)],
}

/// The deeds of all edits so far.
#[derive(Default)]
pub(super) struct History {
    marked: Vec<Marked>,
    /// The marks of a layer, each with its entry among `marked`.
    by_node: FxHashMap<NodeId, Vec<(Mark, usize)>>,
    moved: Vec<(Span, String, String)>,
    cut: Option<(Span, NodeId, String)>,
}

struct Marked {
    edit: Span,
    /// How many marks are as the edit left them.
    left: usize,
}

/// Marks of an earlier edit that a later one takes back.
struct Lost {
    mark: Mark,
    /// The layers' paths, once each.
    layers: Vec<String>,
    marks: usize,
    /// The mark that took their place, where one did.
    over: Option<Mark>,
}

impl History {
    /// Takes in what an edit did, and says what it took back.
    pub fn record(&mut self, graph: &Graph, step: Step<'_>, problems: &mut Diagnostics) {
        for (gone, heir) in step.heirs {
            let marks = self.by_node.remove(gone).unwrap_or_default();
            let (passed, rest): (Vec<_>, Vec<_>) =
                marks.into_iter().partition(|(mark, _)| matches!(mark, Mark::Tensor(_) | Mark::Kept(_)));
            self.by_node.insert(*gone, rest);
            self.by_node.entry(*heir).or_default().extend(passed);
        }
        self.lose_layers(&step, problems);
        if !step.gone.is_empty() {
            let is_there = |path: &str| graph.is_taken(path);
            for (edit, _, to) in self.moved.extract_if(.., |(_, _, to)| !is_there(to)) {
                let message = format!("{} was renamed by an earlier edit and is taken away", quoted(&to));
                problems.push(warning(message, edit, "renamed", step.edit));
            }
        }
        let mut again: Vec<(Span, Lost)> = vec![];
        for deed in step.deeds {
            match deed {
                Deed::Marks(marks) => again.extend(self.mark(graph, step.edit, marks)),
                Deed::Moved { from, to } => self.rename(graph, step.edit, from, to, problems),
                Deed::Cut => self.cut(graph, step.edit, problems),
            }
        }
        for (earlier, names, one) in by_edit(again) {
            let are = if one.is_plural(&names) { "are" } else { "is" };
            let fate = match (&one.mark, &one.over) {
                (Mark::Tensor(_) | Mark::Kept(_), Some(Mark::Tied)) => "tied to another layer's",
                (Mark::Frozen, _) => "unfrozen again",
                (Mark::Trainable, _) => "frozen again",
                (Mark::Argument(_), _) => "set again",
                (Mark::Kept(_), _) => "filled",
                (Mark::Tensor(_), _) => "filled again",
                (Mark::Tied, _) => "tied again",
            };
            let message = format!("{} by an earlier edit and {are} {fate}", one.done(&names));
            problems.push(warning(message, earlier, one.mark.done(), step.edit));
        }
    }

    /// What was done to layers that are no more.
    fn lose_layers(&mut self, step: &Step<'_>, problems: &mut Diagnostics) {
        let mut lost: IndexMap<usize, Lost> = IndexMap::new();
        for (id, path) in step.gone {
            for (mark, by) in self.by_node.remove(id).unwrap_or_default() {
                self.marked[by].left -= 1;
                note(&mut lost, by, mark, path, None);
            }
        }
        // what is gone does not learn, and what takes its place does: an `unfreeze` keeps its sense. That a layer goes whose
        // tensors were made of old ones is said of the layer
        let is_told = |mark: &Mark| !matches!(mark, Mark::Trainable | Mark::Kept(_));
        lost.retain(|by, one| self.marked[*by].left == 0 && is_told(&one.mark));
        let lost = lost.into_iter().map(|(by, one)| (self.marked[by].edit, one)).collect();
        for (earlier, names, one) in by_edit(lost) {
            let fate = if one.layers.len() == 1 { "the layer is" } else { "the layers are" };
            let message = format!("{} by an earlier edit, and {fate} taken away", one.done(&names));
            problems.push(warning(message, earlier, one.mark.done(), step.edit));
        }
    }

    /// Puts the marks of one deed on their layers, and gives those of earlier edits that this takes back.
    fn mark(&mut self, graph: &Graph, edit: Span, marks: Vec<(NodeId, Mark)>) -> Vec<(Span, Lost)> {
        let own = self.marked.len();
        self.marked.push(Marked { edit, left: 0 });
        let mut lost: IndexMap<usize, Lost> = IndexMap::new();
        let mut is_exception = true;
        for (id, mark) in marks {
            let held = self.by_node.entry(id).or_default();
            // tied layers name the tensors that they share once each
            if held.iter().any(|(old, by)| *by == own && *old == mark) {
                continue;
            }
            let path = &graph.node(id).path;
            let mut over = 0;
            for (old, by) in held.extract_if(.., |(old, _)| old.meets(&mark)) {
                self.marked[by].left -= 1;
                note(&mut lost, by, old, path, Some(&mark));
                over += 1;
            }
            is_exception &= over > 0;
            held.push((mark, own));
            self.marked[own].left += 1;
        }
        lost.retain(|by, one| {
            let is_written = matches!(one.mark, Mark::Argument(_) | Mark::Tensor(_) | Mark::Kept(_));
            self.marked[*by].left == 0 || (is_written && !is_exception)
        });
        lost.into_iter().map(|(by, one)| (self.marked[by].edit, one)).collect()
    }

    fn rename(&mut self, graph: &Graph, edit: Span, from: String, to: String, problems: &mut Diagnostics) {
        let mut kept = vec![];
        for (earlier, first, last) in std::mem::take(&mut self.moved) {
            if path::inside(&last, &from) {
                let last = format!("{to}{}", &last[from.len()..]);
                kept.push((earlier, first, last));
                continue;
            }
            // a path that something else has by now was made free for it, as where two layers change names
            if last != from || (first != to && graph.is_taken(&first)) {
                kept.push((earlier, first, last));
                continue;
            }
            let message = format!("{} was renamed by an earlier edit and is renamed again", quoted(&last));
            problems.push(warning(message, earlier, "renamed", edit));
        }
        self.moved = kept;
        self.moved.push((edit, from, to));
    }

    /// A cut before another one leaves nothing of it.
    fn cut(&mut self, graph: &Graph, edit: Span, problems: &mut Diagnostics) {
        let output = graph.outputs()[OWN_OUTPUT].node;
        let path = graph.node(output).path.clone();
        if let Some((earlier, node, end)) = self.cut.replace((edit, output, path))
            && graph.get(node).is_none_or(|node| node.path != end)
        {
            let message = format!("the network was cut at {} by an earlier edit and is cut before it", quoted(&end));
            problems.push(warning(message, earlier, "cut", edit));
        }
    }
}

impl Lost {
    fn is_plural(&self, names: &[String]) -> bool {
        if names.is_empty() { self.marks > 1 } else { names.len() > 1 }
    }

    /// `` `dilation` of `layer4[0].conv2` was set ``; `names` are the arguments.
    fn done(&self, names: &[String]) -> String {
        let first = quoted(&self.layers[0]);
        let (subject, of, unit, all) = match &self.mark {
            Mark::Argument(_) => (format!("{} of {first}", and(names)), "of ", "layer", self.layers.len()),
            Mark::Tensor(name) | Mark::Kept(name) => (quoted(&key(&self.layers[0], name)), "", "tensor", self.marks),
            _ => (first, "", "layer", self.layers.len()),
        };
        let more = match all - 1 {
            0 => String::new(),
            1 => format!(" and {of}1 more {unit}"),
            more => format!(" and {of}{more} more {unit}s"),
        };
        let was = if self.is_plural(names) { "were" } else { "was" };
        format!("{subject}{more} {was} {}", self.mark.done())
    }
}

/// The losses, those of several arguments that one statement set on the same layers as one, with the arguments' names.
fn by_edit(mut lost: Vec<(Span, Lost)>) -> Vec<(Span, Vec<String>, Lost)> {
    lost.sort_by_key(|(earlier, _)| (earlier.file, earlier.start));
    let mut found: Vec<(Span, Vec<String>, Lost)> = vec![];
    for (earlier, one) in lost {
        let name = if let Mark::Argument(name) = &one.mark { Some(name.clone()) } else { None };
        match found.last_mut() {
            Some((edit, names, other)) if *edit == earlier && name.is_some() && other.layers == one.layers => {
                names.extend(name)
            }
            _ => found.push((earlier, name.into_iter().collect(), one)),
        }
    }
    found
}

fn note(lost: &mut IndexMap<usize, Lost>, by: usize, mark: Mark, path: &str, over: Option<&Mark>) {
    let one = lost.entry(by).or_insert_with(|| Lost { mark, layers: vec![], marks: 0, over: over.cloned() });
    one.marks += 1;
    if one.layers.last().is_none_or(|last| last != path) {
        one.layers.push(path.to_string());
    }
}

fn quoted(at: &str) -> String {
    format!("`{}`", path::display(at))
}

fn warning(message: String, earlier: Span, done: &str, edit: Span) -> Box<crate::diag::Diagnostic> {
    Problem::new(Code::Undone, message).see(earlier, format!("{done} here")).at(edit).warning()
}
