//! From a graph to units, scope by scope: what each module is made of, and what its `forward` does, line by line.
//!
//! A scope is a module that is called once: what it takes from outside are its arguments, and what is used outside is its
//! result. Scopes that run in turns with others hold their modules, and are run by the scope around them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use indexmap::{IndexMap, IndexSet};
use rustc_hash::{FxHashMap, FxHashSet};

use super::code::{Code, Piece, fill, identifier, is_attribute, quoted, text};
use super::ops::{Form, Layer, form};
use crate::diag::{Code as Error, Problem};
use crate::graph::{Graph, NodeId, OWN_OUTPUT, Spot, path};
use crate::ops::Op;
use crate::ops::shape::Shape;

/// Modules lie in each other no deeper.
const MAX_DEPTH: usize = 64;
/// Names for values that are on the way.
const NAMES: [&str; 8] = ["x", "y", "z", "u", "w", "s", "t", "r"];

/// A module as it is written.
#[derive(Clone, Debug)]
pub struct Unit {
    pub path: String,
    /// The block that made the scope.
    pub block: Option<String>,
    pub kind: Kind,
    pub items: Vec<Item>,
    pub steps: Vec<Step>,
    /// What it is given when it is called.
    pub takes: Vec<External>,
    /// The names of these.
    pub params: Vec<String>,
    /// The values that are used outside, and what they are called inside.
    pub gives: Vec<NodeId>,
    pub results: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A class with a `forward`.
    Module,
    /// `nn.Sequential`.
    Sequential,
    /// What holds modules and tensors that others use.
    Holder,
}

/// What a module has under its own name.
#[derive(Clone, Debug)]
pub struct Item {
    pub label: String,
    pub what: What,
    pub code: Code,
    /// The layer, where it is one.
    pub node: Option<NodeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Module,
    Parameter,
    Buffer { is_saved: bool },
}

/// A line of `forward`.
#[derive(Clone, Debug)]
pub struct Step {
    pub targets: Vec<String>,
    pub code: Code,
    /// The layer, where the line is one.
    pub node: Option<NodeId>,
    /// Whether that has a module.
    pub is_module: bool,
    /// The value that the line ends with.
    pub value: Option<NodeId>,
}

/// What a module takes from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum External {
    Value(NodeId),
    /// The module of a layer whose tensors a layer inside has.
    Module(NodeId),
}

/// A network as units.
pub struct Units {
    pub all: Vec<Unit>,
    /// The network itself.
    pub root: usize,
}

/// A module of a scope where it is called.
struct Called {
    /// The unit of it; None for one that is called once more.
    unit: Option<usize>,
    label: String,
    takes: Vec<External>,
    gives: Vec<NodeId>,
}

/// What lies directly inside a scope.
struct Entry {
    /// With dots where the scopes around it are open.
    label: String,
    kind: EntryKind,
    /// The layers at it and inside it, in running order.
    nodes: Vec<NodeId>,
    place: usize,
}

enum EntryKind {
    Layer(NodeId),
    /// The parts of a `chunk` by their numbers.
    Chunk(Vec<(usize, NodeId)>),
    Scope(Spot),
}

/// Units for a graph whose shapes are known.
///
/// # Errors
/// What PyTorch has no words for: a layer with others inside it, scopes that are nested too deep.
pub fn units(graph: &Graph) -> Result<Units, Problem> {
    let mut places = vec![usize::MAX; graph.bound()];
    for (place, id) in graph.order().iter().enumerate() {
        places[id.index()] = place;
    }
    let mut forms: FxHashMap<NodeId, Form> = FxHashMap::default();
    for id in graph.order() {
        forms.insert(id, form_of(graph, id)?);
    }
    let mut maker = Maker { graph, places, forms, opened: FxHashSet::default(), units: vec![] };
    let root = maker.scope(graph.root(), "", 0)?;
    Ok(Units { all: maker.units, root })
}

/// A graph that PyTorch has no words for.
fn unwritable(why: String) -> Problem {
    Problem::new(Error::Output, format!("the network cannot be written for PyTorch: {why}"))
}

fn form_of(graph: &Graph, id: NodeId) -> Result<Form, Problem> {
    let node = graph.node(id);
    let ins = graph.operand_shapes(id).expect("the shapes are known");
    let operands = graph.operands(id);
    let has_integers =
        |at: usize| operands.get(at).is_some_and(|operand| matches!(graph.node(*operand).op, Op::WindowIndex(_)));
    let out = node.shape.as_ref().expect("the shapes are known");
    form(Layer { op: &node.op, ins: &ins, out, is_frozen: node.frozen, has_integers: &has_integers })
        .map_err(|problem| problem.note(format!("`{}` is such a layer", path::display(&node.path))))
}

struct Maker<'g> {
    graph: &'g Graph,
    /// Where in the running order each node stands.
    places: Vec<usize>,
    forms: FxHashMap<NodeId, Form>,
    /// Scopes whose layers run in turns with those of others.
    opened: FxHashSet<Spot>,
    units: Vec<Unit>,
}

impl Maker<'_> {
    fn is_tensor(&self, id: NodeId) -> bool {
        matches!(self.forms[&id], Form::Parameter(_) | Form::Buffer { .. })
    }

    /// The node whose value this one's is: what `identity` gives is what it takes, and tied tensors are those of their owner.
    fn source(&self, id: NodeId) -> NodeId {
        let mut at = id;
        loop {
            at = match self.forms[&at] {
                Form::Same => self.graph.operands(at)[0],
                Form::Parameter(_) | Form::Buffer { .. } if self.graph.node(at).tied.is_some() => self.graph.owner(at),
                _ => return at,
            };
        }
    }

    /// The values that a node takes.
    fn operands(&self, id: NodeId) -> Vec<NodeId> {
        match self.forms[&id] {
            Form::Same => vec![],
            _ => self.graph.operands(id).into_iter().map(|operand| self.source(operand)).collect(),
        }
    }

    /// The layer whose module a layer is applied by, where that is another one.
    fn module(&self, id: NodeId) -> Option<NodeId> {
        let is_layer = matches!(self.forms[&id], Form::Layer { .. });
        (is_layer && self.graph.node(id).tied.is_some()).then(|| self.graph.owner(id))
    }

    /// Makes the unit of a scope, after those inside it.
    fn scope(&mut self, spot: Spot, scope: &str, depth: usize) -> Result<usize, Problem> {
        if depth > MAX_DEPTH {
            return Err(Problem::new(Error::Limit, format!("scopes are nested more than {MAX_DEPTH} deep"))
                .note(format!("`{}` is", path::display(scope))));
        }
        let entries = loop {
            let entries = self.entries(spot, scope)?;
            match self.order(&entries) {
                Ok(order) => {
                    let mut slots: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
                    break order.into_iter().map(|at| slots[at].take().expect("once each")).collect::<Vec<Entry>>();
                }
                Err(stuck) => {
                    let before = self.opened.len();
                    for at in &stuck {
                        if let EntryKind::Scope(spot) = entries[*at].kind {
                            self.opened.insert(spot);
                        }
                    }
                    if self.opened.len() == before {
                        let names: Vec<String> = stuck.iter().take(3).map(|at| entries[*at].label.clone()).collect();
                        return Err(unwritable(format!("`{}` take each other's values", names.join("` and `"))));
                    }
                }
            }
        };
        let mut inner: Vec<Option<Called>> = vec![];
        for entry in &entries {
            let EntryKind::Scope(spot) = entry.kind else {
                inner.push(None);
                continue;
            };
            let again = self.again(scope, entry, &entries, &inner);
            inner.push(Some(match again {
                Some(called) => called,
                None => {
                    let unit = self.scope(spot, &path::join(scope, &entry.label), depth + 1)?;
                    let Unit { takes, gives, .. } = &self.units[unit];
                    let (takes, gives) = (takes.clone(), gives.clone());
                    Called { unit: Some(unit), label: entry.label.clone(), takes, gives }
                }
            }));
        }
        let inside: FxHashSet<NodeId> = entries.iter().flat_map(|entry| entry.nodes.iter().copied()).collect();
        let (takes, gives) = self.borders(spot, &entries, &inside);
        let mut unit = match self.sequence(spot, &entries, &inner, &takes, &gives) {
            Some(items) => Unit {
                kind: Kind::Sequential,
                items,
                steps: vec![],
                params: vec!["x".into()],
                results: vec!["x".into()],
                path: scope.to_string(),
                block: self.block(spot),
                takes,
                gives,
            },
            None => self.module_unit(spot, scope, &entries, &inner, takes, gives)?,
        };
        unit.items = self.nested(unit.items, scope);
        self.units.push(unit);
        Ok(self.units.len() - 1)
    }

    /// Items whose labels are paths in units that hold them.
    fn nested(&mut self, items: Vec<Item>, scope: &str) -> Vec<Item> {
        let mut out: Vec<Item> = vec![];
        let mut groups: IndexMap<String, Vec<Item>> = IndexMap::new();
        for item in items {
            match item.label.split_once('.') {
                None => out.push(item),
                Some((first, rest)) => {
                    let (first, rest) = (first.to_string(), rest.to_string());
                    if !groups.contains_key(&first) {
                        // the place of the first stands for all
                        out.push(Item { label: first.clone(), what: What::Module, code: vec![], node: None });
                    }
                    groups.entry(first).or_default().push(Item { label: rest, ..item });
                }
            }
        }
        for (first, inside) in groups {
            let path = path::join(scope, &first);
            let mut items = self.nested(inside, &path);
            if items.iter().all(|item| path::is_number(&item.label)) {
                items.sort_by_key(|item| item.label.parse::<u64>().unwrap_or(u64::MAX));
            }
            let (takes, params, gives, results, steps) = Default::default();
            let kind = Kind::Holder;
            self.units.push(Unit { path, block: None, kind, items, steps, takes, params, gives, results });
            let place = out.iter_mut().find(|item| item.label == first).expect("it has its place");
            place.code = vec![Piece::Unit(self.units.len() - 1)];
        }
        out
    }

    fn block(&self, spot: Spot) -> Option<String> {
        self.graph.scope_at(spot).and_then(|scope| scope.block.clone())
    }

    /// A scope that is another one of the same braces applied once more: its layers are tied to those, one for one, and take
    /// what those take.
    fn again(&self, scope: &str, entry: &Entry, entries: &[Entry], inner: &[Option<Called>]) -> Option<Called> {
        let graph = self.graph;
        let own = path::join(scope, &entry.label);
        let first = *entry.nodes.first()?;
        let suffix = graph.node(first).path.strip_prefix(&own)?;
        let of = graph.node(graph.node(first).tied?).path.strip_suffix(suffix)?;
        let at = (0..inner.len()).find(|at| path::join(scope, &entries[*at].label) == of)?;
        let called = inner[at].as_ref().filter(|called| called.unit.is_some())?;
        let owner = &entries[at];
        let mut copies: FxHashMap<NodeId, NodeId> = FxHashMap::default();
        for id in &entry.nodes {
            let node = graph.node(*id);
            let tied = node.tied?;
            if graph.node(tied).path.strip_prefix(of)? != node.path.strip_prefix(&own)?
                || node.op != graph.node(tied).op
            {
                return None;
            }
            copies.insert(tied, *id);
        }
        if copies.len() != owner.nodes.len() {
            return None;
        }
        // what flows in may be another value, but the same in all places
        for tied in &owner.nodes {
            let id = *copies.get(tied)?;
            let (theirs, ours) = (graph.operands(*tied), graph.operands(id));
            for (their, our) in theirs.into_iter().zip(ours) {
                let (their, our) = (self.source(their), self.source(our));
                let is_tensor = self.is_tensor(their) && their == our;
                if !is_tensor && *copies.entry(their).or_insert(our) != our {
                    return None;
                }
            }
        }
        let copy = |id: &NodeId| copies.get(id).copied().or_else(|| self.is_tensor(*id).then_some(*id));
        let takes = called.takes.iter().map(|one| match one {
            External::Value(id) => copy(id).map(External::Value),
            External::Module(id) => Some(External::Module(*id)),
        });
        let takes: Vec<External> = takes.collect::<Option<_>>()?;
        let gives: Vec<NodeId> = called.gives.iter().map(copy).collect::<Option<_>>()?;
        let is_given = |id: &NodeId| {
            let is_read = graph.readers(*id).any(|(reader, _)| !entry.nodes.contains(&reader));
            let is_used = is_read || graph.output_names(*id).next().is_some();
            !is_used || self.is_tensor(*id) || gives.contains(&self.source(*id))
        };
        if !entry.nodes.iter().all(is_given) {
            return None;
        }
        Some(Called { unit: None, label: owner.label.clone(), takes, gives })
    }

    /// What lies directly inside a scope, what is open left out and its own entries in its place.
    fn entries(&self, spot: Spot, scope: &str) -> Result<Vec<Entry>, Problem> {
        let graph = self.graph;
        let mut entries: Vec<Entry> = vec![];
        let mut open = vec![(String::new(), spot)];
        while let Some((prefix, spot)) = open.pop() {
            for (label, child) in graph.children(spot) {
                let label = path::join(&prefix, label);
                if self.opened.contains(&child) {
                    open.push((label, child));
                    continue;
                }
                let mut nodes: Vec<NodeId> = graph.within(child).filter_map(|spot| graph.layer_at(spot)).collect();
                nodes.sort_by_key(|id| self.places[id.index()]);
                let kind = match graph.layer_at(child) {
                    Some(_) if nodes.len() > 1 => {
                        let path = path::display(&path::join(scope, &label));
                        return Err(unwritable(format!("`{path}` is a layer, and others lie inside it"))
                            .hint("`rename` one of them"));
                    }
                    Some(id) => EntryKind::Layer(id),
                    None => match self.chunk_parts(child) {
                        Some(parts) => EntryKind::Chunk(parts),
                        None => EntryKind::Scope(child),
                    },
                };
                let Some(first) = nodes.first() else { continue };
                let active = nodes.iter().find(|id| !graph.is_constant(**id)).unwrap_or(first);
                let place = self.places[active.index()];
                entries.push(Entry { label, kind, nodes, place });
            }
        }
        // children come in no particular order
        entries.sort_by(|one, other| (one.place, &one.label).cmp(&(other.place, &other.label)));
        Ok(entries)
    }

    /// The parts of a scope that `chunk` makes.
    fn chunk_parts(&self, spot: Spot) -> Option<Vec<(usize, NodeId)>> {
        let graph = self.graph;
        let mut parts: Vec<(usize, NodeId)> = vec![];
        for (label, child) in graph.children(spot) {
            let id = graph.layer_at(child)?;
            let Op::Chunk(chunk) = &graph.node(id).op else { return None };
            if label != chunk.part.to_string() {
                return None;
            }
            parts.push((chunk.part as usize, id));
        }
        parts.sort_unstable();
        let alike = |id: NodeId| {
            let Op::Chunk(chunk) = &graph.node(id).op else { unreachable!("each is one") };
            (chunk.parts, chunk.axis, graph.operands(id))
        };
        let first = alike(parts.first()?.1);
        parts.iter().all(|(_, id)| alike(*id) == first).then_some(parts)
    }

    /// The entries in an order in which each finds what it takes, or those that wait for each other.
    fn order(&self, entries: &[Entry]) -> Result<Vec<usize>, Vec<usize>> {
        let mut of: FxHashMap<NodeId, usize> = FxHashMap::default();
        for (at, entry) in entries.iter().enumerate() {
            of.extend(entry.nodes.iter().map(|id| (*id, at)));
        }
        let mut before: Vec<FxHashSet<usize>> = vec![];
        for (at, entry) in entries.iter().enumerate() {
            // tensors are there whenever they are asked for
            let takes = entry.nodes.iter().flat_map(|id| self.operands(*id)).filter(|id| !self.is_tensor(*id));
            before.push(takes.filter_map(|id| of.get(&id).copied()).filter(|other| *other != at).collect());
        }
        let mut waiting: Vec<usize> = before.iter().map(FxHashSet::len).collect();
        let mut after: Vec<Vec<usize>> = vec![vec![]; entries.len()];
        for (at, before) in before.iter().enumerate() {
            before.iter().for_each(|other| after[*other].push(at));
        }
        let key = |at: usize| Reverse((entries[at].place, at));
        let mut ready: BinaryHeap<_> = (0..entries.len()).filter(|at| waiting[*at] == 0).map(key).collect();
        let mut order = vec![];
        while let Some(Reverse((_, at))) = ready.pop() {
            order.push(at);
            for reader in &after[at] {
                waiting[*reader] -= 1;
                if waiting[*reader] == 0 {
                    ready.push(key(*reader));
                }
            }
        }
        if order.len() == entries.len() {
            return Ok(order);
        }
        // what lies behind a circle waits too, and is in none
        let mut is_stuck: Vec<bool> = waiting.iter().map(|waits| *waits > 0).collect();
        let stuck_readers = |at: usize, is_stuck: &[bool]| after[at].iter().any(|reader| is_stuck[*reader]);
        while let Some(free) = (0..entries.len()).find(|at| is_stuck[*at] && !stuck_readers(*at, &is_stuck)) {
            is_stuck[free] = false;
        }
        Err((0..entries.len()).filter(|at| is_stuck[*at]).collect())
    }

    /// What a scope takes from outside and what is used outside, what flows first.
    fn borders(&self, spot: Spot, entries: &[Entry], inside: &FxHashSet<NodeId>) -> (Vec<External>, Vec<NodeId>) {
        let said = self.graph.scope_at(spot);
        let mut takes: IndexSet<External> = IndexSet::new();
        let mut nodes: Vec<NodeId> = entries.iter().flat_map(|entry| entry.nodes.iter().copied()).collect();
        nodes.sort_by_key(|id| self.places[id.index()]);
        for id in &nodes {
            let values = self.operands(*id).into_iter().map(External::Value);
            let modules = self.module(*id).map(External::Module);
            for external in values.chain(modules) {
                let (External::Value(of) | External::Module(of)) = external;
                if !inside.contains(&of) {
                    takes.insert(external);
                }
            }
        }
        let mut gives: IndexSet<NodeId> = IndexSet::new();
        let is_root = spot == self.graph.root();
        for id in nodes.iter().filter(|_| !is_root) {
            let read = self.graph.readers(*id).any(|(reader, _)| !inside.contains(&reader));
            let source = self.source(*id);
            if (read || self.graph.output_names(*id).next().is_some())
                && inside.contains(&source)
                && !self.is_tensor(source)
            {
                gives.insert(source);
            }
        }
        if let Some(output) = said.and_then(|scope| scope.output).map(|output| self.source(output))
            && let Some(at) = gives.get_index_of(&output)
        {
            gives.move_index(at, 0);
        }
        if let Some(input) = said.and_then(|scope| scope.input).map(|input| External::Value(self.source(input)))
            && let Some(at) = takes.get_index_of(&input)
        {
            takes.move_index(at, 0);
        }
        if is_root {
            takes = self.graph.inputs().values().map(|id| External::Value(*id)).collect();
        }
        (takes.into_iter().collect(), gives.into_iter().collect())
    }

    /// The items of `nn.Sequential`, where a scope is a chain of modules: each takes what the one before it gives, and
    /// nothing else.
    fn sequence(
        &self,
        spot: Spot,
        entries: &[Entry],
        inner: &[Option<Called>],
        takes: &[External],
        gives: &[NodeId],
    ) -> Option<Vec<Item>> {
        let ([External::Value(input)], [output]) = (takes, gives) else { return None };
        if spot == self.graph.root() {
            return None;
        }
        let mut flow = *input;
        let mut items = vec![];
        for (entry, called) in entries.iter().zip(inner) {
            let is_name = is_attribute(&entry.label) || path::is_number(&entry.label);
            if !is_name {
                return None;
            }
            let mut node = None;
            let code = match (&entry.kind, called) {
                (EntryKind::Scope(_), Some(Called { unit: Some(unit), takes, gives, .. })) => {
                    let ([External::Value(takes)], [gives]) = (&takes[..], &gives[..]) else { return None };
                    if *takes != flow {
                        return None;
                    }
                    flow = *gives;
                    vec![Piece::Unit(*unit)]
                }
                (EntryKind::Layer(id), _) => {
                    node = Some(*id);
                    if self.graph.node(*id).tied.is_some() && !matches!(self.forms[id], Form::Function { .. }) {
                        return None;
                    }
                    let operands = self.graph.operands(*id);
                    if operands.len() != 1 || self.source(operands[0]) != flow {
                        return None;
                    }
                    flow = self.source(*id);
                    match &self.forms[id] {
                        Form::Layer { new, call } if is_plain_call(call) => new.clone().into(),
                        Form::Function { module: Some(module), .. } => module.clone().into(),
                        Form::Function { code, .. } => apply(code),
                        Form::Part { code, part } => apply(&[code.clone(), text(format!("[{part}]"))].concat()),
                        Form::Same => text("nn.Identity()"),
                        Form::Layer { .. } | Form::Parameter(_) | Form::Buffer { .. } | Form::Input => return None,
                    }
                }
                (EntryKind::Chunk(_) | EntryKind::Scope(_), _) => return None,
            };
            items.push(Item { label: entry.label.clone(), what: What::Module, code, node });
        }
        (flow == *output).then_some(items)
    }

    /// A unit with a `forward` of its own.
    fn module_unit(
        &self,
        spot: Spot,
        scope: &str,
        entries: &[Entry],
        inner: &[Option<Called>],
        takes: Vec<External>,
        gives: Vec<NodeId>,
    ) -> Result<Unit, Problem> {
        let graph = self.graph;
        let is_root = spot == graph.root();
        let mut items = vec![];
        for (entry, called) in entries.iter().zip(inner) {
            let label = entry.label.clone();
            match (&entry.kind, called) {
                (EntryKind::Scope(_), Some(Called { unit: Some(unit), .. })) => {
                    items.push(Item { label, what: What::Module, code: vec![Piece::Unit(*unit)], node: None });
                }
                (EntryKind::Layer(id), _) if graph.node(*id).tied.is_none() => {
                    let node = Some(*id);
                    match &self.forms[id] {
                        Form::Layer { new, .. } => {
                            items.push(Item { label, what: What::Module, code: new.clone().into(), node });
                        }
                        Form::Parameter(code) => {
                            items.push(Item { label, what: What::Parameter, code: code.clone(), node });
                        }
                        Form::Buffer { code, is_saved } => {
                            let what = What::Buffer { is_saved: *is_saved };
                            items.push(Item { label, what, code: code.clone(), node });
                        }
                        Form::Function { .. } | Form::Same | Form::Part { .. } | Form::Input => {}
                    }
                }
                _ => {}
            }
        }
        let mut forward = Forward::new(self, scope, &takes, is_root);
        // a value lives as long as something takes it
        for (at, (entry, called)) in entries.iter().zip(inner).enumerate() {
            let used: Vec<NodeId> = match called {
                Some(called) => {
                    let values = called.takes.iter();
                    values.filter_map(|one| if let External::Value(id) = one { Some(*id) } else { None }).collect()
                }
                None => entry.nodes.iter().flat_map(|id| self.operands(*id)).collect(),
            };
            used.into_iter().for_each(|id| _ = forward.last.insert(id, at));
        }
        let results: Vec<NodeId> = match is_root {
            true => graph.outputs().values().map(|output| self.source(output.node)).collect(),
            false => gives.clone(),
        };
        results.iter().for_each(|id| _ = forward.last.insert(*id, usize::MAX));
        for (at, (entry, called)) in entries.iter().zip(inner).enumerate() {
            forward.entry(at, entry, called.as_ref());
        }
        let names: Vec<String> = results.iter().map(|id| forward.value(*id)).collect();
        let results = match is_root {
            false => names,
            true => match graph.outputs().keys().map(String::as_str).collect::<Vec<_>>()[..] {
                [OWN_OUTPUT] => names,
                ref outputs => {
                    let pairs = outputs.iter().zip(&names).map(|(key, name)| format!("{}: {name}", quoted(key)));
                    vec![format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))]
                }
            },
        };
        let kind = if gives.is_empty() && !is_root { Kind::Holder } else { Kind::Module };
        Ok(Unit {
            path: scope.to_string(),
            block: self.block(spot),
            kind,
            items,
            // what nothing takes is not computed
            steps: if kind == Kind::Holder { vec![] } else { forward.steps },
            params: forward.params,
            takes,
            gives,
            results,
        })
    }
}

/// Whether a module is called with its operand and nothing else happens.
fn is_plain_call(call: &[Piece]) -> bool {
    matches!(call, [Piece::Own, Piece::Text(open), Piece::In(0), Piece::Text(close)] if open == "(" && close == ")")
}

/// A function as a module.
fn apply(code: &[Piece]) -> Code {
    let inside = fill(code, &["x".to_string()], "");
    [text("Apply(lambda x: "), inside, text(")")].concat()
}

/// `forward` while it is being written.
struct Forward<'m, 'g> {
    maker: &'m Maker<'g>,
    scope: &'m str,
    params: Vec<String>,
    steps: Vec<Step>,
    names: FxHashMap<NodeId, String>,
    modules: FxHashMap<NodeId, String>,
    /// The entry that uses a value last.
    last: FxHashMap<NodeId, usize>,
}

impl<'m, 'g> Forward<'m, 'g> {
    fn new(maker: &'m Maker<'g>, scope: &'m str, takes: &[External], is_root: bool) -> Forward<'m, 'g> {
        let (names, modules, last) = Default::default();
        let mut forward = Forward { maker, scope, params: vec![], steps: vec![], names, modules, last };
        for external in takes {
            match external {
                External::Value(id) if is_root => {
                    let inputs = maker.graph.inputs();
                    let name = inputs.iter().find(|(_, input)| *input == id).map_or("x", |(name, _)| name);
                    let mut name = identifier(name);
                    while ["self", "torch", "nn", "F", "math", "attention"].contains(&name.as_str())
                        || forward.params.contains(&name)
                    {
                        name.push('_');
                    }
                    forward.names.insert(*id, name.clone());
                    forward.params.push(name);
                }
                External::Value(id) => {
                    let name = forward.fresh(usize::MAX);
                    forward.names.insert(*id, name.clone());
                    forward.params.push(name);
                }
                External::Module(id) => {
                    let number = forward.modules.len();
                    let name = if number == 0 { "shared".to_string() } else { format!("shared_{}", number + 1) };
                    forward.modules.insert(*id, name.clone());
                    forward.params.push(name);
                }
            }
        }
        forward
    }

    /// A name that no value has which is used after the entry `at`.
    fn fresh(&self, at: usize) -> String {
        let is_free = |name: &str| {
            let mut holders = self.names.iter().filter(|(_, held)| *held == name).map(|(id, _)| *id);
            let is_live = |id: NodeId| at == usize::MAX || self.last.get(&id).is_some_and(|last| *last > at);
            !holders.any(is_live) && !self.modules.values().any(|held| held == name)
        };
        let numbered = (1..).map(|number| format!("x{number}"));
        let all = NAMES.iter().map(|name| name.to_string()).chain(numbered);
        all.into_iter().find(|name| is_free(name)).expect("numbers do not end")
    }

    /// Names a value that is made at the entry `at`.
    fn name(&mut self, id: NodeId, at: usize, name: String) {
        // who had the name is used no more
        self.names.retain(|_, held| *held != name);
        self.names.insert(id, name);
        self.last.entry(id).or_insert(at);
    }

    /// A value as an expression.
    fn value(&self, id: NodeId) -> String {
        match self.names.get(&id) {
            Some(name) => name.clone(),
            None => self.reach(id),
        }
    }

    /// A module, or a tensor, that lies inside this one.
    fn reach(&self, id: NodeId) -> String {
        let whole = &self.maker.graph.node(id).path;
        let inside = path::rest(whole, self.scope).unwrap_or(whole);
        let what = match self.maker.forms[&id] {
            Form::Parameter(_) => What::Parameter,
            Form::Buffer { is_saved, .. } => What::Buffer { is_saved },
            _ => What::Module,
        };
        attribute("self", inside, what)
    }

    fn module(&self, label: &str) -> String {
        attribute("self", label, What::Module)
    }

    fn entry(&mut self, at: usize, entry: &Entry, called: Option<&Called>) {
        let maker = self.maker;
        match (&entry.kind, called) {
            (EntryKind::Scope(_), Some(called)) => {
                if called.gives.is_empty() {
                    return;
                }
                let args: Vec<String> = called
                    .takes
                    .iter()
                    .map(|one| match one {
                        External::Value(id) => self.value(*id),
                        External::Module(id) => self.modules.get(id).cloned().unwrap_or_else(|| self.reach(*id)),
                    })
                    .collect();
                let code = text(format!("{}({})", self.module(&called.label), args.join(", ")));
                let names = self.results(
                    at,
                    &called.gives,
                    called.takes.iter().find_map(|one| match one {
                        External::Value(id) => Some(*id),
                        External::Module(_) => None,
                    }),
                );
                let value = called.gives.first().copied().filter(|_| called.gives.len() == 1);
                self.steps.push(Step { targets: names, code, node: None, is_module: true, value });
            }
            (EntryKind::Chunk(parts), _) => {
                let first = parts[0].1;
                let Form::Part { code, .. } = &maker.forms[&first] else { unreachable!("a part of a chunk") };
                let operands: Vec<String> = maker.operands(first).iter().map(|id| self.value(*id)).collect();
                let code = fill(code, &operands, "");
                let Op::Chunk(chunk) = &maker.graph.node(first).op else { unreachable!("a part of a chunk") };
                let input = maker.graph.operands(first)[0];
                let letters = self.letters(input, chunk.parts, at);
                let mut targets = vec!["_".to_string(); chunk.parts];
                let mut held: Vec<(NodeId, String)> = vec![];
                for (part, id) in parts {
                    let name = match &letters {
                        Some(letters) => letters[*part].clone(),
                        None => self.fresh_beside(at, &held),
                    };
                    targets[*part] = name.clone();
                    held.push((*id, name));
                }
                for (id, name) in held {
                    self.name(id, at, name);
                }
                self.steps.push(Step { targets, code, node: Some(first), is_module: false, value: Some(first) });
            }
            (EntryKind::Layer(id), _) => {
                let operands: Vec<NodeId> = maker.operands(*id);
                let values: Vec<String> = operands.iter().map(|id| self.value(*id)).collect();
                let code = match &maker.forms[id] {
                    Form::Layer { call, .. } => {
                        let own = match maker.module(*id) {
                            Some(owner) => self.modules.get(&owner).cloned().unwrap_or_else(|| self.reach(owner)),
                            None => self.module(&entry.label),
                        };
                        fill(call, &values, &own)
                    }
                    Form::Function { code, .. } => fill(code, &values, ""),
                    Form::Part { code, part } => [fill(code, &values, ""), text(format!("[{part}]"))].concat(),
                    Form::Parameter(_) | Form::Buffer { .. } | Form::Same | Form::Input => return,
                };
                let names = self.results(at, &[*id], operands.first().copied());
                let is_module = matches!(maker.forms[id], Form::Layer { .. });
                self.steps.push(Step { targets: names, code, node: Some(*id), is_module, value: Some(*id) });
            }
            (EntryKind::Scope(_), None) => unreachable!("a scope has its unit"),
        }
    }

    /// Names for values that are made at an entry; the first that of the operand, where that is used no more.
    fn results(&mut self, at: usize, made: &[NodeId], first: Option<NodeId>) -> Vec<String> {
        let reused = first.and_then(|id| self.names.get(&id).map(|name| (id, name.clone()))).filter(|(id, name)| {
            let is_plain = NAMES.contains(&name.as_str()) || name.starts_with('x');
            is_plain && self.last.get(id).is_none_or(|last| *last <= at)
        });
        let mut held: Vec<(NodeId, String)> = vec![];
        for id in made {
            let name = match &reused {
                Some((_, name)) if held.is_empty() => name.clone(),
                _ => self.fresh_beside(at, &held),
            };
            held.push((*id, name));
        }
        let names = held.iter().map(|(_, name)| name.clone()).collect();
        for (id, name) in held {
            self.name(id, at, name);
        }
        names
    }

    /// [`Forward::fresh`], and none of those that are given away already.
    fn fresh_beside(&self, at: usize, held: &[(NodeId, String)]) -> String {
        let is_given = |name: &str| held.iter().any(|(_, given)| given == name);
        let first = self.fresh(at);
        if !is_given(&first) {
            return first;
        }
        let is_free = |name: &str| {
            let live =
                |(id, held): (&NodeId, &String)| held == name && self.last.get(id).is_some_and(|last| *last > at);
            !is_given(name) && !self.names.iter().any(live) && !self.modules.values().any(|held| held == name)
        };
        let numbered = (1..).map(|number| format!("x{number}"));
        let all = NAMES.iter().map(|name| name.to_string()).chain(numbered);
        all.into_iter().find(|name| is_free(name)).expect("numbers do not end")
    }

    /// The letters of a label as names of its parts: `qkv` is taken apart as q, k and v.
    fn letters(&self, whole: NodeId, parts: usize, at: usize) -> Option<Vec<String>> {
        let label = path::last(&self.maker.graph.node(whole).path);
        let letters: Vec<String> = label.chars().map(|c| c.to_string()).collect();
        let is_free = |name: &String| {
            let live =
                |(id, held): (&NodeId, &String)| held == name && self.last.get(id).is_some_and(|last| *last > at);
            !self.names.iter().any(live)
        };
        let fits = letters.len() == parts
            && (1..parts).all(|nth| !letters[..nth].contains(&letters[nth]))
            && letters.iter().all(|letter| letter.chars().all(|c| c.is_ascii_lowercase()) && is_free(letter));
        fits.then_some(letters)
    }
}

/// What lies at `inside` of a module.
pub fn attribute(of: &str, inside: &str, what: What) -> String {
    let labels: Vec<&str> = inside.split('.').collect();
    let names = |label: &&&str| is_attribute(label) || path::is_number(label);
    if labels.iter().all(|label| is_attribute(label)) {
        return format!("{of}.{inside}");
    }
    if labels.iter().filter(names).count() == labels.len() {
        return match what {
            What::Module if labels.len() == 1 => format!("getattr({of}, {})", quoted(inside)),
            What::Module => format!("{of}.get_submodule({})", quoted(inside)),
            What::Parameter => format!("{of}.get_parameter({})", quoted(inside)),
            What::Buffer { .. } => format!("{of}.get_buffer({})", quoted(inside)),
        };
    }
    let mut text = of.to_string();
    let last = labels.len() - 1;
    for (at, label) in labels.iter().enumerate() {
        let table = match what {
            _ if at < last => "_modules",
            What::Module => "_modules",
            What::Parameter => "_parameters",
            What::Buffer { .. } => "_buffers",
        };
        text += &if is_attribute(label) { format!(".{label}") } else { format!(".{table}[{}]", quoted(label)) };
    }
    text
}

/// The shape of a value as a comment shows it.
pub fn shape_of(graph: &Graph, id: NodeId) -> &Shape {
    graph.node(id).shape.as_ref().expect("the shapes are known")
}

#[cfg(test)]
mod tests {
    use super::super::code::code;
    use super::*;

    #[test]
    fn modules_are_reached_by_any_label() {
        let cases = [
            ("conv1", What::Module, "self.conv1"),
            ("0", What::Module, "getattr(self, \"0\")"),
            ("blocks.0", What::Module, "self.get_submodule(\"blocks.0\")"),
            ("train", What::Module, "self._modules[\"train\"]"),
            ("q v", What::Parameter, "self._parameters[\"q v\"]"),
            ("a.class", What::Buffer { is_saved: true }, "self.a._buffers[\"class\"]"),
        ];
        for (label, what, wanted) in cases {
            assert_eq!(attribute("self", label, what), wanted);
        }
    }

    #[test]
    fn a_call_of_the_module_alone_is_plain() {
        assert!(is_plain_call(&code("{m}({0})", &[])));
        assert!(!is_plain_call(&code("{m}({0}.transpose(1, 2)).transpose(1, 2)", &[])));
    }
}
