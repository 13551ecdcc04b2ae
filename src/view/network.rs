//! Networks as pictures: what edits did to one, and what is different between two.

use indexmap::IndexMap;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Braces, Form, Key, Layer, Mark, Operand, Picture, State, Subject};
use crate::compare::{differing, layers, op_text, tensors, words};
use crate::compile::Compiled;
use crate::diag::{count, short};
use crate::edit::Report;
use crate::graph::{Node, NodeId, key, path};
use crate::ops::{Op, Role};
use crate::source::{Sources, Span};
use crate::syntax::joined;
use crate::typed::Typed;

/// What of a network is drawn: some of its layers, or all of it and what it puts out.
#[derive(Clone, Copy)]
pub struct Part<'a>(pub Option<&'a [NodeId]>);

impl Part<'_> {
    fn holds(self) -> impl Fn(&NodeId) -> bool {
        let only: Option<FxHashSet<NodeId>> = self.0.map(|only| only.iter().copied().collect());
        move |id| only.as_ref().is_none_or(|only| only.contains(id))
    }
}

/// A network as it is.
pub fn network(title: &str, typed: &Typed, part: Part) -> Picture {
    let mut drawing = Drawing::new(typed);
    let is_drawn = part.holds();
    for id in typed.order().iter().filter(|id| is_drawn(id)) {
        drawing.add(*id, State::Same, None);
    }
    drawing.join(|_, _| (State::Same, None));
    drawing.finish(title, part, vec![])
}

/// A spec's network with what its edits did: a mark an edit. Of a part, what is no more is not drawn.
pub fn spec(title: &str, sources: &Sources, compiled: &Compiled, part: Part) -> Picture {
    let Compiled { base, typed, reports, .. } = compiled;
    let is_drawn = part.holds();
    let edit_of = |span: Option<Span>| span.and_then(|span| edit_of(reports, span));
    let mut drawing = Drawing::new(typed);
    // the layers of the base by their paths there, and what became of them
    let heirs: FxHashMap<&str, NodeId> = typed
        .order()
        .iter()
        .filter_map(|id| typed.graph().node(*id).base.as_ref().map(|old| (old.path.as_str(), *id)))
        .collect();
    let removed_by = |gone: &str| reports.iter().position(|report| report.removed.iter().any(|one| one == gone));
    let gone: Vec<NodeId> =
        base.order().iter().copied().filter(|id| !heirs.contains_key(base.graph().node(*id).path.as_str())).collect();
    let mut replaced: FxHashMap<&str, NodeId> = FxHashMap::default();
    for id in &gone {
        replaced.insert(base.graph().node(*id).path.as_str(), *id);
    }
    let mut ghosts: Vec<NodeId> = vec![];
    for id in &gone {
        let at = base.graph().node(*id).path.as_str();
        let is_new = |id: NodeId| typed.graph().node(id).base.is_none();
        if part.0.is_none() && !typed.graph().find(at).is_some_and(is_new) {
            ghosts.push(*id);
        }
    }
    let mut waiting = Ghosts::new(base, ghosts, |id| heirs.get(base.graph().node(id).path.as_str()).copied());
    for id in typed.order().iter().filter(|id| is_drawn(id)) {
        let node = typed.graph().node(*id);
        let (state, mark, was) = match &node.base {
            None => match replaced.get(node.path.as_str()) {
                // a layer in the place of another
                Some(old) => {
                    let was = op_text(base.graph(), base.graph().node(*old));
                    (State::Changed, edit_of(node.origin.or(node.touched)), Some(was))
                }
                None => (State::Added, edit_of(node.origin.or(node.touched)), None),
            },
            Some(old) => {
                let old = base.graph().find(&old.path).expect("a layer of the base has its path there");
                match changed(base, old, typed, *id) {
                    None => (State::Same, None, None),
                    Some(was) => (State::Changed, edit_of(blame(node)), was),
                }
            }
        };
        let at = drawing.add(*id, state, mark);
        drawing.layers[at].was = was;
        for ghost in waiting.behind(Some(*id)) {
            let mark = removed_by(&base.graph().node(ghost).path);
            drawing.add_ghost(base, ghost, mark);
        }
    }
    for ghost in waiting.behind(None) {
        let mark = removed_by(&base.graph().node(ghost).path);
        drawing.add_ghost(base, ghost, mark);
    }
    let old_of = |id: NodeId| {
        let old = typed.graph().node(id).base.as_ref().map_or(typed.graph().node(id).path.as_str(), |old| &old.path);
        base.graph().find(old)
    };
    drawing.join(|from, to| {
        let (own, reader) = (typed.graph().node(from), typed.graph().node(to));
        let was_there = match (old_of(from), old_of(to)) {
            (Some(from), Some(to)) => base.graph().operands(to).contains(&from),
            _ => false,
        };
        if was_there {
            return (State::Same, None);
        }
        let mark = [own, reader].into_iter().find(|node| node.base.is_none());
        let span = mark.map_or(reader.touched, |node| node.origin.or(node.touched));
        (State::Added, edit_of(span))
    });
    drawing.join_ghosts(base, |id| heirs.get(base.graph().node(id).path.as_str()).copied());
    let text = |report: &Report| joined(sources.text(report.span));
    let marks = reports.iter().map(|report| Mark {
        name: format!("line {}", sources.line_column(report.span).0),
        text: text(report),
        result: result(report),
    });
    let marks = marks.collect();
    drawing.finish(title, part, marks)
}

/// What is different between two networks.
pub fn difference(titles: (&str, &str), a: &Compiled, b: &Compiled) -> Picture {
    const ONLY_A: usize = 0;
    const ONLY_B: usize = 1;
    const CHANGED: usize = 2;
    let (old, new) = (&a.typed, &b.typed);
    let (old_layers, new_layers) = (layers(old), layers(new));
    let (old_tensors, new_tensors) = (tensors(old), tensors(new));
    let mut drawing = Drawing::new(new);
    let ghosts = old.order().iter().copied().filter(|id| new.graph().find(&old.graph().node(*id).path).is_none());
    let same_path = |id: NodeId| new.graph().find(&old.graph().node(id).path);
    let mut waiting = Ghosts::new(old, ghosts.collect(), same_path);
    let mut counts = [0; 3];
    for id in new.order() {
        let node = new.graph().node(*id);
        let name = path::display(&node.path);
        let (state, mark, was) = match (old_layers.get(&name), old.graph().find(&node.path)) {
            (Some(before), Some(twin)) => {
                // what it takes is drawn
                let now = &new_layers[&name];
                let aspects = |all: &Vec<String>| vec![all[0].clone(), all[1].clone(), all[3].clone()];
                let (before, now) = (aspects(before), aspects(now));
                let mut was = differing(&before, &now);
                for param in old.params(twin) {
                    let own = key(&node.path, param.name);
                    if let (Some(before), Some(now)) = (old_tensors.get(&own), new_tensors.get(&own))
                        && before != now
                    {
                        was.push(format!("{} {}", param.name, words(&differing(before, now))));
                    }
                }
                if was.is_empty() {
                    (State::Same, None, None)
                } else {
                    was.retain(|aspect| !aspect.is_empty());
                    (State::Changed, Some(CHANGED), Some(was.join(", ")))
                }
            }
            _ => (State::Added, Some(ONLY_B), None),
        };
        counts[ONLY_B] += usize::from(state == State::Added);
        counts[CHANGED] += usize::from(state == State::Changed);
        let at = drawing.add(*id, state, mark);
        drawing.layers[at].was = was.filter(|was| !was.is_empty());
        for ghost in waiting.behind(Some(*id)) {
            counts[ONLY_A] += 1;
            drawing.add_ghost(old, ghost, Some(ONLY_A));
        }
    }
    for ghost in waiting.behind(None) {
        counts[ONLY_A] += 1;
        drawing.add_ghost(old, ghost, Some(ONLY_A));
    }
    drawing.join(|from, to| {
        let twin = |id: NodeId| old.graph().find(&new.graph().node(id).path);
        let was_there =
            matches!((twin(from), twin(to)), (Some(from), Some(to)) if old.graph().operands(to).contains(&from));
        if was_there { (State::Same, None) } else { (State::Added, Some(ONLY_B)) }
    });
    drawing.join_ghosts(old, same_path);
    drawing.outputs();
    let sides = [format!("only in {}", titles.0), format!("only in {}", titles.1), "in both, and different".into()];
    let names = ["removed", "added", "changed"];
    let marks = sides.into_iter().zip(names).zip(counts);
    let marks = marks.map(|((text, name), number)| Mark { name: name.into(), text, result: count(number, "layer") });
    let (figures, marks) = (drawing.figures(), marks.collect());
    drawing.picture(Subject::Difference, &format!("{} \u{2192} {}", titles.0, titles.1), figures, marks)
}

/// The report of the edit that a text belongs to.
fn edit_of(reports: &[Report], span: Span) -> Option<usize> {
    let holds = |report: &Report| {
        let own = report.span;
        own.file == span.file && (own.start..=own.end).contains(&span.start) && span.end <= own.end
    };
    reports.iter().position(|report| report.span == span).or_else(|| reports.iter().position(holds))
}

/// The text that changed a layer of the base.
fn blame(node: &Node) -> Option<Span> {
    let filled = node.inits.last().map(|filled| filled.span);
    let kept = node.kept.last().map(|kept| kept.span);
    node.touched.or(node.refilled).or(filled).or(kept)
}

/// Whether a layer is not what it was in the base, but for what it takes; and what it was, where words say so.
fn changed(base: &Typed, old: NodeId, typed: &Typed, id: NodeId) -> Option<Option<String>> {
    let (before, now) = (base.graph().node(old), typed.graph().node(id));
    let (text, text_now) = (op_text(base.graph(), before), op_text(typed.graph(), now));
    let was = match before.path == now.path {
        true => text.clone(),
        false => format!("{text} at {}", path::display(&before.path)),
    };
    if text != text_now || before.path != now.path {
        return Some(Some(was));
    }
    let shapes = |typed: &Typed, id: NodeId| -> Vec<Vec<usize>> {
        typed.params(id).into_iter().map(|param| param.shape).collect()
    };
    let learns = |typed: &Typed, id: NodeId| typed.parameter_count(id) > 0 && !typed.graph().node(id).frozen;
    if learns(base, old) != learns(typed, id) {
        return Some(Some(if now.frozen { "trainable".into() } else { "frozen".into() }));
    }
    let is_refilled = !now.inits.is_empty() || !now.kept.is_empty();
    (is_refilled || shapes(base, old) != shapes(typed, id)).then_some(None)
}

/// What an edit came to, in words.
fn result(report: &Report) -> String {
    let mut parts = vec![];
    for (number, what) in [(report.added.len(), "added"), (report.removed.len(), "removed")] {
        if number > 0 {
            parts.push(format!("{} {what}", count(number, "layer")));
        }
    }
    if report.parameters != 0 {
        let sign = if report.parameters < 0 { "\u{2212}" } else { "+" };
        parts.push(format!("{sign}{} parameters", amount(report.parameters.unsigned_abs())));
    }
    if parts.is_empty() { count(report.matched.len(), "place") } else { parts.join(", ") }
}

/// A number in few letters: `2.36 M`.
pub(super) fn amount(number: u64) -> String {
    let (value, unit) = match number {
        1_000_000_000.. => (number as f64 / 1e9, " G"),
        1_000_000.. => (number as f64 / 1e6, " M"),
        1_000.. => (number as f64 / 1e3, " k"),
        _ => return number.to_string(),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$}{unit}")
}

/// Layers that are no more, in their order, until all that they took has come.
struct Ghosts {
    waiting: Vec<NodeId>,
    come: FxHashSet<NodeId>,
    /// How much each of them waits for.
    owed: FxHashMap<NodeId, usize>,
    /// What of the network lets a ghost go on, and what of the ghosts does.
    by_heir: FxHashMap<NodeId, Vec<NodeId>>,
    by_ghost: FxHashMap<NodeId, Vec<NodeId>>,
}

impl Ghosts {
    fn new(base: &Typed, ghosts: Vec<NodeId>, heir: impl Fn(NodeId) -> Option<NodeId>) -> Ghosts {
        let own: FxHashSet<NodeId> = ghosts.iter().copied().collect();
        let mut this = Ghosts {
            waiting: ghosts,
            come: FxHashSet::default(),
            owed: FxHashMap::default(),
            by_heir: FxHashMap::default(),
            by_ghost: FxHashMap::default(),
        };
        for ghost in &this.waiting {
            for operand in base.graph().operands(*ghost) {
                let by = match heir(operand) {
                    Some(heir) => this.by_heir.entry(heir).or_default(),
                    None if own.contains(&operand) => this.by_ghost.entry(operand).or_default(),
                    None => continue,
                };
                by.push(*ghost);
                *this.owed.entry(*ghost).or_default() += 1;
            }
        }
        this
    }

    /// Those that can stand behind a layer; all that are left behind the last.
    fn behind(&mut self, layer: Option<NodeId>) -> Vec<NodeId> {
        let Some(layer) = layer else {
            let mut left = std::mem::take(&mut self.waiting);
            left.retain(|id| !self.come.contains(id));
            return left;
        };
        let mut ready = vec![];
        let mut freed = self.by_heir.remove(&layer).unwrap_or_default();
        while !freed.is_empty() {
            let mut next = vec![];
            for ghost in freed {
                let owed = self.owed.get_mut(&ghost).expect("it waits");
                *owed -= 1;
                if *owed == 0 {
                    self.come.insert(ghost);
                    ready.push(ghost);
                    next.extend(self.by_ghost.remove(&ghost).unwrap_or_default());
                }
            }
            freed = next;
        }
        ready
    }
}

/// Layers on their way into a picture.
struct Drawing<'a> {
    typed: &'a Typed,
    layers: Vec<Layer>,
    /// The nodes of the network, and those of another that are no more.
    of_node: IndexMap<NodeId, usize>,
    of_ghost: IndexMap<NodeId, usize>,
    ghosts_of: Option<&'a Typed>,
    tensors: IndexMap<String, Vec<String>>,
}

impl<'a> Drawing<'a> {
    fn new(typed: &'a Typed) -> Drawing<'a> {
        let (of_node, of_ghost) = (IndexMap::new(), IndexMap::new());
        Drawing { typed, layers: vec![], of_node, of_ghost, ghosts_of: None, tensors: tensors(typed) }
    }

    fn add(&mut self, id: NodeId, state: State, mark: Option<usize>) -> usize {
        let mut layer = layer(self.typed, id, state, mark);
        for own in &mut layer.keys {
            if let Some([_, fate]) = self.tensors.get(&own.name).map(Vec::as_slice) {
                own.fate.clone_from(fate);
            }
        }
        self.layers.push(layer);
        self.of_node.insert(id, self.layers.len() - 1);
        self.layers.len() - 1
    }

    fn add_ghost(&mut self, base: &'a Typed, id: NodeId, mark: Option<usize>) {
        let mut layer = layer(base, id, State::Removed, mark);
        for own in &mut layer.keys {
            own.fate = "dropped".into();
        }
        self.ghosts_of = Some(base);
        self.layers.push(layer);
        self.of_ghost.insert(id, self.layers.len() - 1);
    }

    /// Says what each layer takes, and what became of the value between two.
    fn join(&mut self, between: impl Fn(NodeId, NodeId) -> (State, Option<usize>)) {
        for (id, at) in &self.of_node {
            let mut operands: Vec<Operand> = vec![];
            for operand in self.typed.graph().operands(*id) {
                let Some(layer) = self.of_node.get(&operand) else { continue };
                let (state, mark) = between(operand, *id);
                let operand = Operand { layer: *layer, state, mark };
                if !operands.contains(&operand) {
                    operands.push(operand);
                }
            }
            self.layers[*at].operands = operands;
        }
    }

    /// The values that layers took which are no more, or that these made.
    fn join_ghosts(&mut self, base: &Typed, heir: impl Fn(NodeId) -> Option<NodeId>) {
        let place = |id: NodeId| match self.of_ghost.get(&id) {
            Some(ghost) => Some((*ghost, true)),
            None => heir(id).and_then(|id| self.of_node.get(&id)).map(|at| (*at, false)),
        };
        let mut found = vec![];
        for id in base.order() {
            for operand in base.graph().operands(*id) {
                if let (Some((from, gone)), Some((to, also))) = (place(operand), place(*id))
                    && (gone || also)
                {
                    let mark = self.layers[if gone { from } else { to }].mark;
                    found.push((to, Operand { layer: from, state: State::Removed, mark }));
                }
            }
        }
        for (to, operand) in found {
            if !self.layers[to].operands.contains(&operand) {
                self.layers[to].operands.push(operand);
            }
        }
    }

    /// What the network puts out, a box each.
    fn outputs(&mut self) {
        for (name, output) in self.typed.graph().outputs() {
            let from = self.of_node[&output.node];
            let shape = self.layers[from].shape.clone();
            let operands = vec![Operand { layer: from, state: State::Same, mark: None }];
            self.layers.push(border(Form::Output, name, shape, operands));
        }
    }

    /// What the layers take of others, and these of them.
    fn beside(&mut self) {
        let graph = self.typed.graph();
        let drawn: Vec<(NodeId, usize)> = self.of_node.iter().map(|(id, at)| (*id, *at)).collect();
        let mut before: IndexMap<NodeId, usize> = IndexMap::new();
        let mut behind: IndexMap<NodeId, Vec<Operand>> = IndexMap::new();
        for (id, at) in drawn {
            for operand in graph.operands(id).into_iter().filter(|operand| !self.of_node.contains_key(operand)) {
                let from = *before.entry(operand).or_insert_with(|| {
                    let shown = path::display(&graph.node(operand).path);
                    let shape = self.typed.shape(operand).to_string();
                    self.layers.push(border(Form::Beside, &shown, shape, vec![]));
                    self.layers.len() - 1
                });
                self.layers[at].operands.push(Operand { layer: from, state: State::Same, mark: None });
            }
            let value = Operand { layer: at, state: State::Same, mark: None };
            let readers: FxHashSet<NodeId> = graph.readers(id).map(|(reader, _)| reader).collect();
            let mut readers: Vec<NodeId> =
                readers.into_iter().filter(|reader| !self.of_node.contains_key(reader)).collect();
            readers.sort_unstable();
            for reader in readers {
                behind.entry(reader).or_default().push(value);
            }
            for name in graph.output_names(id) {
                let shape = self.layers[at].shape.clone();
                self.layers.push(border(Form::Output, name, shape, vec![value]));
            }
        }
        for (reader, values) in behind {
            let shown = path::display(&graph.node(reader).path);
            let shape = self.typed.shape(reader).to_string();
            self.layers.push(border(Form::Beside, &shown, shape, values));
        }
    }

    /// The picture of a network, or a part of it with the marks that are in it.
    fn finish(mut self, title: &str, part: Part, mut marks: Vec<Mark>) -> Picture {
        let mut figures = self.figures();
        if part.0.is_some() {
            self.beside();
            figures += &format!(", of {}", count(self.typed.order().len(), "layer"));
            let mut used: Vec<usize> = self.layers.iter().flat_map(marks_of).collect();
            used.sort_unstable();
            used.dedup();
            let place = |mark: Option<usize>| mark.and_then(|mark| used.binary_search(&mark).ok());
            for layer in &mut self.layers {
                layer.mark = place(layer.mark);
                layer.operands.iter_mut().for_each(|operand| operand.mark = place(operand.mark));
            }
            marks = used.iter().map(|mark| marks[*mark].clone()).collect();
        } else {
            self.outputs();
        }
        self.picture(Subject::Network, title, figures, marks)
    }

    fn figures(&self) -> String {
        let drawn = || self.of_node.keys();
        let parameters: u64 = drawn().map(|id| self.typed.parameter_count(*id)).sum();
        let macs: u64 = drawn().map(|id| self.typed.macs(*id)).sum();
        let layers = count(self.of_node.len(), "layer");
        format!("{layers}, {} parameters, {} multiply-adds", amount(parameters), amount(macs))
    }

    fn picture(self, subject: Subject, title: &str, figures: String, marks: Vec<Mark>) -> Picture {
        let Drawing { typed, layers, ghosts_of, .. } = self;
        Picture::new(subject, title.into(), figures, marks, layers, |path| {
            braces(typed, path).or_else(|| braces(ghosts_of?, path))
        })
    }
}

fn marks_of(layer: &Layer) -> Vec<usize> {
    layer.mark.into_iter().chain(layer.operands.iter().filter_map(|operand| operand.mark)).collect()
}

/// What the scope at a path is.
pub(super) fn braces(typed: &Typed, path: &str) -> Option<Braces> {
    let scope = typed.graph().scope(path)?;
    let block = scope.block.clone().unwrap_or_else(|| if scope.numbered { "seq".into() } else { String::new() });
    let shape = scope.output.filter(|id| typed.graph().get(*id).is_some()).map(|id| typed.shape(id).to_string());
    Some(Braces { block, shape: shape.unwrap_or_default() })
}

/// A layer as it is, without what it takes.
pub(super) fn layer(typed: &Typed, id: NodeId, state: State, mark: Option<usize>) -> Layer {
    let node = typed.graph().node(id);
    let is_input = typed.graph().inputs().values().any(|input| *input == id);
    let is_own = node.tied.is_none();
    let keys = typed.params(id).into_iter().filter(|param| is_own && param.role != Role::Computed);
    let keys = keys.map(|param| Key {
        name: key(&node.path, param.name),
        shape: format!("{:?}", param.shape),
        fate: String::new(),
    });
    Layer {
        path: node.path.clone(),
        form: if is_input { Form::Input } else { Form::Layer },
        op: op_name(&node.op),
        // a constant may have many values
        text: short(&op_text(typed.graph(), node)).into_owned(),
        was: None,
        shape: typed.shape(id).to_string(),
        keys: keys.collect(),
        parameters: typed.parameter_count(id),
        macs: typed.macs(id),
        ms: None,
        state,
        mark,
        operands: vec![],
    }
}

fn op_name(op: &Op) -> String {
    op.name().to_string()
}

/// What stands at the border of a picture.
fn border(form: Form, name: &str, shape: String, operands: Vec<Operand>) -> Layer {
    Layer {
        path: name.to_string(),
        form,
        op: String::new(),
        text: String::new(),
        was: None,
        shape,
        keys: vec![],
        parameters: 0,
        macs: 0,
        ms: None,
        state: State::Same,
        mark: None,
        operands,
    }
}
