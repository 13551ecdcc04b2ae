//! From a graph to statements, scope by scope and layer by layer: which step takes what, in which order, under which
//! label. Blocks and loops are found later.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::{FxHashMap, FxHashSet};

use super::residual::{Unit, group};
use super::text::is_name;
use super::tree::{Arg, ArgValue, Body, Expr, Id, Label, Ref, Step, Stmt};
use crate::diag::{Code, Problem};
use crate::graph::{Graph, NodeId, OWN_OUTPUT, Spot, path};
use crate::ops::attr::{Attr, Positional};
use crate::ops::{self, Arity, Op};

/// Braces lie in each other no deeper.
const MAX_DEPTH: usize = 60;

/// A network as statements.
pub struct Plain {
    /// The inputs with the numbers of their values.
    pub inputs: Vec<(String, Id, NodeId)>,
    pub body: Body,
    /// The first number that is free.
    pub next: Id,
}

/// What lies directly inside of braces.
pub struct Entry {
    pub label: String,
    path: String,
    pub kind: EntryKind,
    id: Id,
    /// What it puts out, where that is one value.
    pub value: Option<NodeId>,
    /// The layers at it and inside it, in running order.
    pub nodes: Vec<NodeId>,
    /// Who takes which of its values: an entry of the same braces, or None for whatever lies elsewhere.
    pub readers: Vec<(NodeId, Option<usize>)>,
    /// Where in the running order it stands.
    place: usize,
}

pub enum EntryKind {
    Layer(NodeId),
    /// The parts of a `chunk` by their numbers.
    Chunk(Vec<(usize, NodeId)>),
    Scope(Spot),
}

/// Braces that are being written.
pub struct Braces {
    spot: Spot,
    pub entries: Vec<Entry>,
    /// The entry that holds a node.
    pub of: FxHashMap<NodeId, usize>,
    /// What flows in, and its number; into the branches of residuals, too, that are being written.
    inputs: Vec<(NodeId, Id)>,
}

/// Statements for a graph whose shapes are known. `residuals` says whether sums are written as residuals where they can
/// be.
///
/// # Errors
/// What the language has no words for.
pub fn plain(graph: &Graph, residuals: bool) -> Result<Plain, Problem> {
    let mut places = vec![usize::MAX; graph.bound()];
    for (place, id) in graph.order().iter().enumerate() {
        places[id.index()] = place;
    }
    let mut opened = FxHashSet::default();
    loop {
        let maker =
            Maker { graph, places: &places, next: 0, braces: vec![], residuals, opened, unreached: RefCell::default() };
        let (plain, more) = network(maker)?;
        if more.is_empty() {
            return Ok(plain);
        }
        opened = more;
    }
}

/// The statements of the network, and the scopes that have to be open, where these are more than there were.
fn network(mut maker: Maker<'_>) -> Result<(Plain, FxHashSet<Spot>), Problem> {
    let graph = maker.graph;
    let mut inputs = vec![];
    for (name, node) in graph.inputs() {
        if graph.node(*node).path != *name {
            return Err(unwritable(format!("the input `{name}` has the path `{}`", graph.node(*node).path)));
        }
        inputs.push((name.clone(), maker.id(), *node));
    }
    let Some(output) = graph.outputs().get(OWN_OUTPUT).map(|output| output.node) else {
        return Err(unwritable("it has no output of its own".into()));
    };
    // several inputs are known by their names alone
    let entry = |(name, id, node): &(String, Id, NodeId)| Entry {
        label: name.clone(),
        path: name.clone(),
        kind: EntryKind::Layer(*node),
        id: *id,
        value: Some(*node),
        nodes: vec![*node],
        readers: vec![],
        place: 0,
    };
    let entries: Vec<Entry> = inputs.iter().map(entry).collect();
    let of = entries.iter().enumerate().map(|(at, entry)| (entry.nodes[0], at)).collect();
    maker.braces.push(Braces { spot: graph.root(), entries, of, inputs: vec![] });
    let input = if let [(_, id, node)] = inputs.as_slice() { Some((*node, *id)) } else { None };
    let (_, body) = maker.scope(graph.root(), "", input, Some(output))?;
    let unreached = maker.unreached.take();
    let mut opened = if unreached.is_empty() { FxHashSet::default() } else { maker.opened };
    let before = opened.len();
    let is_asked = !unreached.is_empty();
    opened.extend(unreached);
    if is_asked && opened.len() == before {
        return Err(unwritable("a value is used where no name reaches it".into()));
    }
    Ok((Plain { inputs, body, next: maker.next }, opened))
}

/// A network that cannot be written as text.
pub fn unwritable(why: String) -> Problem {
    Problem::new(Code::Output, format!("the network cannot be written as text: {why}"))
}

struct Maker<'g> {
    graph: &'g Graph,
    /// Where in the running order each node stands.
    places: &'g [usize],
    next: Id,
    /// The braces that are open, the innermost last.
    braces: Vec<Braces>,
    residuals: bool,
    /// Scopes whose layers run in turns with those of others: what lies in them is written in the braces around them, under
    /// labels that are paths.
    opened: FxHashSet<Spot>,
    /// Scopes that have to be, as something in them is used beside them and they have no name.
    unreached: RefCell<Vec<Spot>>,
}

impl Maker<'_> {
    fn id(&mut self) -> Id {
        self.next += 1;
        self.next - 1
    }

    /// The braces of a scope that end with `output`, and whether their entries are numbered.
    fn scope(
        &mut self,
        spot: Spot,
        scope: &str,
        input: Option<(NodeId, Id)>,
        output: Option<NodeId>,
    ) -> Result<(bool, Body), Problem> {
        if self.braces.len() > MAX_DEPTH {
            return Err(Problem::new(Code::Limit, format!("scopes are nested more than {MAX_DEPTH} deep"))
                .note(format!("`{}` is", path::display(scope))));
        }
        let (braces, order) = loop {
            let braces = self.entries(spot, scope, input)?;
            match self.order(&braces) {
                Ok(order) => break (braces, order),
                Err(stuck) => {
                    let spots = stuck.iter().filter_map(|at| match braces.entries[*at].kind {
                        EntryKind::Scope(spot) => Some(spot),
                        _ => None,
                    });
                    let before = self.opened.len();
                    self.opened.extend(spots);
                    if self.opened.len() == before {
                        let names = stuck.iter().map(|at| path::display(&braces.entries[*at].path));
                        let names: Vec<String> = names.take(3).collect();
                        return Err(unwritable(format!("`{}` take each other's values", names.join("` and `"))));
                    }
                }
            }
        };
        let numbered = self.is_numbered(spot, &braces, &order);
        self.braces.push(braces);
        let (units, autos) = self.units(&order, numbered, scope);
        let mut stmts = self.stmts(&units, &autos)?;
        self.end_with(&mut stmts, output)?;
        if scope.is_empty() {
            let further = self.graph.outputs().iter().filter(|(name, _)| *name != OWN_OUTPUT);
            for (name, output) in further.map(|(name, output)| (name.clone(), output.node)).collect::<Vec<_>>() {
                let value = self.resolve(output)?;
                stmts.push(self.unlabelled(Step::Output { name, value }, None));
            }
        }
        self.braces.pop();
        let id = match input {
            Some((_, id)) => id,
            None => self.id(),
        };
        Ok((numbered, Body { input: input.map(|(node, _)| node), id, stmts }))
    }

    fn unlabelled(&mut self, step: Step, takes: Option<Ref>) -> Stmt {
        Stmt { id: self.id(), label: Label::new("", true), takes, step }
    }

    /// Lets statements end with a value.
    fn end_with(&mut self, stmts: &mut Vec<Stmt>, output: Option<NodeId>) -> Result<(), Problem> {
        let Some(output) = output else { return Ok(()) };
        let value = self.resolve(output)?;
        let last = stmts.iter().rev().find(|stmt| stmt.flows()).map(|stmt| Ref::Value(stmt.id));
        if last.as_ref() != Some(&value) {
            let bare = self.unlabelled(Step::Bare(value), None);
            stmts.push(bare);
        }
        Ok(())
    }

    /// What lies directly inside a scope.
    fn entries(&mut self, spot: Spot, scope: &str, input: Option<(NodeId, Id)>) -> Result<Braces, Problem> {
        let graph = self.graph;
        let mut entries: Vec<Entry> = vec![];
        let mut of: FxHashMap<NodeId, usize> = FxHashMap::default();
        let mut children: Vec<(String, Spot)> = vec![];
        let mut open = vec![(String::new(), spot)];
        while let Some((prefix, spot)) = open.pop() {
            for (label, child) in graph.children(spot) {
                let label = path::join(&prefix, label);
                if self.opened.contains(&child) {
                    open.push((label, child));
                } else if !scope.is_empty() || !graph.inputs().contains_key(&label) {
                    children.push((label, child));
                }
            }
        }
        for (label, child) in children {
            let label = label.as_str();
            let path = path::join(scope, label);
            let mut nodes: Vec<NodeId> = graph.within(child).filter_map(|spot| graph.layer_at(spot)).collect();
            nodes.sort_by_key(|id| self.places[id.index()]);
            let kind = match graph.layer_at(child) {
                Some(_) if nodes.len() > 1 => {
                    let path = path::display(&path);
                    return Err(unwritable(format!("`{path}` is a layer, and others lie inside it")));
                }
                Some(id) => EntryKind::Layer(id),
                None => match chunk_parts(graph, child) {
                    Some(parts) => EntryKind::Chunk(parts),
                    None => EntryKind::Scope(child),
                },
            };
            if nodes.is_empty() {
                continue;
            }
            let active = nodes.iter().find(|id| !graph.is_constant(**id)).unwrap_or(&nodes[0]);
            let place = self.places[active.index()];
            let label = label.to_string();
            entries.push(Entry { label, path, kind, id: 0, value: None, nodes, readers: vec![], place });
        }
        // children come in no particular order
        entries.sort_by_key(|entry| entry.place);
        for (at, entry) in entries.iter_mut().enumerate() {
            entry.id = self.id();
            of.extend(entry.nodes.iter().map(|id| (*id, at)));
        }
        for (at, entry) in entries.iter_mut().enumerate() {
            for id in &entry.nodes {
                let ties = graph.ties(*id).map(|tied| of.get(&tied).copied());
                let takes = graph.readers(*id).map(|(reader, _)| of.get(&reader).copied());
                let elsewhere = graph.output_names(*id).map(|_| None);
                let readers = takes.chain(ties).chain(elsewhere).filter(|reader| *reader != Some(at));
                entry.readers.extend(readers.map(|reader| (*id, reader)));
            }
            entry.value = match &entry.kind {
                EntryKind::Layer(id) => Some(*id),
                EntryKind::Chunk(_) => None,
                EntryKind::Scope(spot) => {
                    let said = graph.scope_at(*spot).and_then(|scope| scope.output);
                    let used = || entry.readers.iter().map(|(id, _)| *id).max_by_key(|id| self.places[id.index()]);
                    let said = said.filter(|id| of.get(id) == Some(&at));
                    said.or_else(used).or(entry.nodes.last().copied())
                }
            };
        }
        Ok(Braces { spot, entries, of, inputs: input.into_iter().collect() })
    }

    /// The entries in an order in which each finds what it takes, or those that wait for each other.
    fn order(&self, braces: &Braces) -> Result<Vec<usize>, Vec<usize>> {
        let mut waiting = vec![0usize; braces.entries.len()];
        let mut after: Vec<Vec<usize>> = vec![vec![]; braces.entries.len()];
        for (at, entry) in braces.entries.iter().enumerate() {
            let mut readers: Vec<usize> = entry.readers.iter().filter_map(|(_, reader)| *reader).collect();
            readers.sort_unstable();
            readers.dedup();
            readers.iter().for_each(|reader| waiting[*reader] += 1);
            after[at] = readers;
        }
        let place = |at: usize| Reverse((braces.entries[at].place, at));
        let mut ready: BinaryHeap<_> = (0..waiting.len()).filter(|at| waiting[*at] == 0).map(place).collect();
        let mut order = vec![];
        while let Some(Reverse((_, at))) = ready.pop() {
            order.push(at);
            for reader in &after[at] {
                waiting[*reader] -= 1;
                if waiting[*reader] == 0 {
                    ready.push(place(*reader));
                }
            }
        }
        if order.len() == waiting.len() {
            return Ok(order);
        }
        // what lies behind a circle waits too, and is in none
        let mut is_stuck: Vec<bool> = waiting.iter().map(|waits| *waits > 0).collect();
        let mut readers: Vec<usize> =
            after.iter().map(|after| after.iter().filter(|at| is_stuck[**at]).count()).collect();
        let mut before: Vec<Vec<usize>> = vec![vec![]; waiting.len()];
        for (at, after) in after.iter().enumerate() {
            after.iter().for_each(|reader| before[*reader].push(at));
        }
        let mut free: Vec<usize> = (0..waiting.len()).filter(|at| is_stuck[*at] && readers[*at] == 0).collect();
        while let Some(at) = free.pop() {
            is_stuck[at] = false;
            for source in &before[at] {
                readers[*source] -= 1;
                if readers[*source] == 0 && is_stuck[*source] {
                    free.push(*source);
                }
            }
        }
        Err((0..waiting.len()).filter(|at| is_stuck[*at]).collect())
    }

    /// Whether the labels are those that `seq` gives.
    fn is_numbered(&self, spot: Spot, braces: &Braces, order: &[usize]) -> bool {
        if spot == self.graph.root() || order.is_empty() {
            return false;
        }
        let label = |at: usize| &braces.entries[at].label;
        let fits = order.iter().enumerate().filter(|(nth, at)| *label(**at) == nth.to_string()).count();
        let is_said = self.graph.scope_at(spot).is_some_and(|scope| scope.numbered);
        fits == order.len() || is_said && 2 * fits >= order.len()
    }

    /// Groups entries to residuals, and says which labels the language gives by itself.
    fn units(&self, order: &[usize], numbered: bool, scope: &str) -> (Vec<Unit>, Vec<bool>) {
        let braces = self.braces.last().expect("the caller opened them");
        let mut refused: FxHashSet<usize> = FxHashSet::default();
        // sums whose label a residual would not give are no residuals; that may move other labels
        for round in 0.. {
            let may = self.residuals && !numbered && round < 4;
            let input = braces.inputs.first().map(|(node, _)| *node);
            let units = match may {
                true => group(self.graph, braces, order, input, &refused),
                false => order.iter().map(|at| Unit::One(*at)).collect(),
            };
            let mut naming = Naming { taken: FxHashSet::default(), numbers: FxHashMap::default(), next: 0, numbered };
            if scope.is_empty() {
                naming.taken.extend(self.graph.inputs().keys().cloned());
            }
            let mut autos = vec![false; braces.entries.len()];
            let before = refused.len();
            self.label(&units, &mut naming, &mut autos, &mut refused);
            if refused.len() == before {
                return (units, autos);
            }
        }
        unreachable!("the loop ends where nothing is refused")
    }

    fn label(&self, units: &[Unit], naming: &mut Naming, autos: &mut [bool], refused: &mut FxHashSet<usize>) {
        let braces = self.braces.last().expect("the caller opened them");
        for unit in units {
            let at = match unit {
                Unit::One(at) => *at,
                Unit::Residual { add, main, side, .. } => {
                    self.label(main, naming, autos, refused);
                    self.label(side, naming, autos, refused);
                    *add
                }
            };
            let entry = &braces.entries[at];
            autos[at] = naming.gives(&entry.label, self.auto_name(entry));
            if !autos[at] && matches!(unit, Unit::Residual { .. }) {
                refused.insert(at);
            }
        }
    }

    /// What the language calls an unlabelled layer; None for a scope.
    fn auto_name(&self, entry: &Entry) -> Option<String> {
        match &entry.kind {
            EntryKind::Layer(id) => Some(match self.graph.node(*id).tied {
                Some(owner) => path::last(&self.graph.node(owner).path).to_string(),
                None => self.graph.node(*id).op.name().to_string(),
            }),
            EntryKind::Chunk(_) => Some("chunk".to_string()),
            EntryKind::Scope(_) => None,
        }
    }

    fn stmts(&mut self, units: &[Unit], autos: &[bool]) -> Result<Vec<Stmt>, Problem> {
        let mut stmts = vec![];
        for unit in units {
            let stmt = match unit {
                Unit::One(at) => self.stmt(*at, autos[*at])?,
                Unit::Residual { add, main, side, input, ends } => {
                    let takes = Some(self.resolve(*input)?);
                    let main = self.branch(main, autos, *input, ends[0])?;
                    let side = match side.is_empty() {
                        true => None,
                        false => Some(self.branch(side, autos, *input, ends[1])?),
                    };
                    let entry = self.entry(*add);
                    let label = Label::new(&entry.label, true);
                    Stmt { id: entry.id, label, takes, step: Step::Residual { main, side, when: None } }
                }
            };
            stmts.push(stmt);
        }
        Ok(stmts)
    }

    fn branch(&mut self, units: &[Unit], autos: &[bool], input: NodeId, end: NodeId) -> Result<Body, Problem> {
        let id = self.id();
        // the entries stay those of the braces around it
        self.braces.last_mut().expect("a branch lies in braces").inputs.push((input, id));
        let mut stmts = self.stmts(units, autos)?;
        self.end_with(&mut stmts, Some(end))?;
        self.braces.last_mut().expect("a branch lies in braces").inputs.pop();
        Ok(Body { input: Some(input), id, stmts })
    }

    fn entry(&self, at: usize) -> &Entry {
        &self.braces.last().expect("braces are open").entries[at]
    }

    fn stmt(&mut self, at: usize, is_auto: bool) -> Result<Stmt, Problem> {
        let entry = self.entry(at);
        let (id, label, value) = (entry.id, Label::new(&entry.label, is_auto), entry.value);
        let (takes, step) = match &entry.kind {
            EntryKind::Layer(node) => self.layer(*node)?,
            EntryKind::Chunk(parts) => {
                let node = parts[0].1;
                let Op::Chunk(chunk) = &self.graph.node(node).op else { unreachable!("they are parts of a chunk") };
                let axis = Expr::Value(Attr::Int(chunk.axis));
                let parts = chunk.parts;
                let entry = ops::find("chunk").expect("an op");
                (Some(self.resolve(self.graph.operands(node)[0])?), Step::Chunk { entry, parts, axis })
            }
            EntryKind::Scope(spot) => {
                let (spot, path) = (*spot, entry.path.clone());
                let input = self.scope_input(at);
                let takes = input.map(|input| self.resolve(input)).transpose()?;
                match self.tied_scope(at, input) {
                    Some(of) => (takes, Step::Tied { of }),
                    None => {
                        let input = input.map(|input| (input, self.id()));
                        let (numbered, body) = self.scope(spot, &path, input, value)?;
                        let class = self.graph.scope_at(spot).and_then(|scope| scope.block.clone());
                        (takes, Step::Scope { numbered, class, height: 0, body })
                    }
                }
            }
        };
        Ok(Stmt { id, label, takes, step })
    }

    fn layer(&self, id: NodeId) -> Result<(Option<Ref>, Step), Problem> {
        let node = self.graph.node(id);
        let operands: Vec<Ref> =
            self.graph.operands(id).into_iter().map(|operand| self.resolve(operand)).collect::<Result<_, _>>()?;
        let shown = || path::display(&node.path);
        if let Some(owner) = node.tied {
            let ([takes], Some(of)) = (operands.as_slice(), self.place(owner)) else {
                return Err(unwritable(format!("`{}` is tied and takes several values", shown())));
            };
            return Ok((Some(takes.clone()), Step::Tied { of }));
        }
        let attrs = node.op.attrs();
        let sign = match node.op.name() {
            "add" => "+",
            "sub" => "-",
            "mul" => "*",
            "div" => "/",
            _ => "",
        };
        if !sign.is_empty() {
            let attr = |name: &str| attrs.iter().find(|(attr, _)| *attr == name).map(|(_, value)| value.clone());
            let number = attr("number").filter(|number| *number != Attr::None).map(Expr::Value);
            let swapped = number.is_some() && attr("swapped") == Some(Attr::Bool(true));
            return Ok((None, Step::Infix { sign, operands, number, swapped }));
        }
        let entry = ops::find(node.op.name()).expect("every op is in the manual");
        let args = attrs.into_iter().enumerate().map(|(nth, (name, value))| Arg {
            name,
            value: match value {
                Attr::List(list)
                    if nth == 0 && entry.positional == Positional::Gathered
                        || matches!(node.op, Op::Parameter(_) | Op::Buffer(_)) && name == "shape" =>
                {
                    ArgValue::Each(list.into_iter().map(Expr::Value).collect())
                }
                value => ArgValue::One(Expr::Value(value)),
            },
        });
        let args = args.collect();
        if ops::OPERAND_OPS.contains(&entry.name) {
            return Ok((None, Step::Op { entry, args, operands }));
        }
        match (node.op.arity(), operands.as_slice()) {
            (Arity::Exactly(0), _) if ops::makes_constant(entry.name) => {
                Ok((None, Step::Op { entry, args, operands: vec![] }))
            }
            (_, [takes]) if !matches!(node.op, Op::Chunk(_)) => {
                Ok((Some(takes.clone()), Step::Op { entry, args, operands: vec![] }))
            }
            _ => Err(unwritable(format!("`{}` is a `{}` that no call makes", shown(), entry.name))),
        }
    }

    /// What flows into a scope.
    fn scope_input(&self, at: usize) -> Option<NodeId> {
        let entry = self.entry(at);
        let EntryKind::Scope(spot) = &entry.kind else { return None };
        let inside: FxHashSet<NodeId> = entry.nodes.iter().copied().collect();
        let taken = entry.nodes.iter().flat_map(|id| self.graph.operands(*id)).filter(|id| !inside.contains(id));
        let said = self.graph.scope_at(*spot).and_then(|scope| scope.input);
        let taken: Vec<NodeId> = taken.collect();
        said.filter(|said| taken.contains(said)).or_else(|| taken.into_iter().find(|id| !self.graph.is_constant(*id)))
    }

    /// The scope of which another one is a copy with the same tensors.
    fn tied_scope(&self, at: usize, input: Option<NodeId>) -> Option<Ref> {
        let entry = self.entry(at);
        let graph = self.graph;
        let first = entry.nodes.first()?;
        let suffix = graph.node(*first).path.strip_prefix(&entry.path)?;
        let of = graph.node(graph.node(*first).tied?).path.strip_suffix(suffix)?.to_string();
        let scope = graph.scope(&of)?;
        let output = scope.output?;
        let mut copies: FxHashMap<NodeId, NodeId> = FxHashMap::default();
        copies.extend(scope.input.zip(input));
        for id in &entry.nodes {
            let owner = graph.node(*id).tied?;
            let suffix = graph.node(*id).path.strip_prefix(&entry.path)?;
            if graph.node(owner).path.strip_prefix(&of)? != suffix {
                return None;
            }
            copies.insert(owner, *id);
        }
        let is_copied = |id: &NodeId| {
            let owner = graph.node(*id).tied.expect("each has one");
            let wanted = graph.operands(owner).into_iter().map(|id| copies.get(&id).copied().unwrap_or(id));
            wanted.eq(graph.operands(*id))
        };
        let is_whole = graph.layers(&of).count() == entry.nodes.len() && entry.nodes.iter().all(is_copied);
        if !is_whole || copies.get(&output).copied() != entry.value {
            return None;
        }
        self.place_of(&of, graph.layers(&of).next()?)
    }

    /// A value as it is reached from the innermost braces.
    fn resolve(&self, node: NodeId) -> Result<Ref, Problem> {
        for braces in self.braces.iter().rev() {
            if let Some((_, id)) = braces.inputs.iter().rev().find(|(input, _)| *input == node) {
                return Ok(Ref::Value(*id));
            }
            let Some(at) = braces.of.get(&node) else { continue };
            let entry = &braces.entries[*at];
            if entry.value == Some(node) {
                return Ok(Ref::Value(entry.id));
            }
            if let EntryKind::Chunk(parts) = &entry.kind {
                let part = parts.iter().find(|(_, id)| *id == node).expect("the entry holds it").0;
                return Ok(Ref::Part(entry.id, part));
            }
            return Ok(self.inside(braces, entry, &self.graph.node(node).path));
        }
        unreachable!("the root holds every node")
    }

    /// A layer as a place.
    fn place(&self, node: NodeId) -> Option<Ref> {
        self.place_of(&self.graph.node(node).path, node)
    }

    /// The place at `path`, which is or holds `node`.
    fn place_of(&self, path: &str, node: NodeId) -> Option<Ref> {
        let braces = self.braces.iter().rev().find(|braces| braces.of.contains_key(&node))?;
        let entry = &braces.entries[braces.of[&node]];
        path::within(path, &entry.path).then(|| self.inside(braces, entry, path))
    }

    fn inside(&self, braces: &Braces, entry: &Entry, path: &str) -> Ref {
        // a path begins with a name
        if !is_name(entry.label.split('.').next().unwrap_or_default()) {
            let spot = if let EntryKind::Scope(spot) = entry.kind { spot } else { braces.spot };
            self.unreached.borrow_mut().push(spot);
        }
        Ref::Inside(entry.id, path[entry.path.len()..].trim_start_matches('.').to_string())
    }
}

/// The parts of a scope that `chunk` makes.
fn chunk_parts(graph: &Graph, spot: Spot) -> Option<Vec<(usize, NodeId)>> {
    let mut parts: Vec<(usize, NodeId)> = vec![];
    for (label, child) in graph.children(spot) {
        let id = graph.layer_at(child)?;
        let Op::Chunk(chunk) = &graph.node(id).op else { return None };
        if label != chunk.part.to_string() || graph.node(id).tied.is_some() {
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

/// The labels that the language gives.
struct Naming {
    taken: FxHashSet<String>,
    /// The next number to try behind each name.
    numbers: FxHashMap<String, usize>,
    next: usize,
    numbered: bool,
}

impl Naming {
    /// Takes a label, and says whether an unlabelled entry of this name has it.
    fn gives(&mut self, label: &str, name: Option<String>) -> bool {
        let number = self.next;
        self.next += 1;
        let given = match name {
            _ if self.numbered => Some(number.to_string()),
            Some(name) if !self.taken.contains(&name) => Some(name),
            Some(name) => {
                let next = self.numbers.entry(name.clone()).or_insert(1);
                while self.taken.contains(&format!("{name}_{next}")) {
                    *next += 1;
                }
                Some(format!("{name}_{next}"))
            }
            None => None,
        };
        self.taken.insert(label.to_string());
        given.as_deref() == Some(label)
    }
}
