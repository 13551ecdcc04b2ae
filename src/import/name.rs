//! Paths: from drafts to a graph whose layers and scopes are called as the modules that ran them.
//!
//! A layer is called as its tensors' keys begin; a module that is one op is that op; any other op is called by its name in
//! the scope of its module. A module that runs again is a scope of its own, `NAME_1`, tied to the first.

use std::collections::{HashMap, HashSet};

use super::draft::{Draft, DraftId, Drafts, Place};
use super::lift::Lift;
use super::trace::Module;
use crate::diag::{Code, Problem};
use crate::graph::{Graph, NewNode, NodeId, OWN_OUTPUT, Role, RolePlace, Scope, path};
use crate::ops::Op;
use crate::ops::layout::Chunk;
use crate::source::{FileId, Span};

/// A graph with the draft of each of its nodes.
pub struct Named {
    pub graph: Graph,
    pub nodes: HashMap<DraftId, NodeId>,
}

/// Gives every node that an output needs its path.
///
/// # Errors
/// Names that the language cannot write.
pub fn name(lift: &Lift) -> Result<Named, Problem> {
    let outputs: Vec<DraftId> = lift.outputs.iter().map(|(_, id)| *id).collect();
    let mut live = lift.drafts.live(&outputs);
    lift.inputs.iter().for_each(|(_, id)| live[*id] = true);
    let paths = Namer::new(&lift.drafts, &live, lift)?.paths()?;
    // nothing here was written by anybody
    let span = Span::new(FileId(0), 0, 0);
    let mut graph = Graph::new();
    let mut nodes: HashMap<DraftId, NodeId> = HashMap::new();
    let scopes = scopes(&lift.drafts, &paths);
    graph.patch(|patch| {
        for (id, draft) in lift.drafts.nodes.iter().enumerate() {
            let Some(path) = paths.get(&id) else { continue };
            let operands = draft.ins.iter().map(|input| nodes[input]).collect();
            let node = patch.add(NewNode { path: path.clone(), op: draft.op.clone(), operands, span });
            if let Some(owner) = draft.tied {
                patch.tie(node, nodes[&owner]);
            }
            nodes.insert(id, node);
        }
        for (path, (block, numbered)) in scopes {
            let scope = Scope { block, numbered, input: None, output: None, additions: vec![], span };
            patch.add_scope(&path, scope);
        }
        let input = Some(&lift.inputs).filter(|inputs| inputs.len() == 1).map(|inputs| nodes[&inputs[0].1]);
        let output = lift.outputs.first().map(|(_, id)| nodes[id]);
        patch.add_scope("", Scope { block: None, numbered: false, input, output, additions: vec![], span });
        for (_, id) in &lift.inputs {
            patch.add_input(&paths[id], nodes[id]);
        }
        for (at, (name, id)) in lift.outputs.iter().enumerate() {
            patch.set_output(if at == 0 { OWN_OUTPUT } else { name }, nodes[id], None);
        }
        Ok::<(), Problem>(())
    })?;
    bound_scopes(&mut graph);
    if let Some(head) = head(lift, &paths) {
        let place = RolePlace { first: head, last: None };
        let role = Role { places: vec![place], is_list: false };
        graph.patch(|patch| {
            patch.set_role("head", role);
            Ok::<(), Problem>(())
        })?;
    }
    Ok(Named { graph, nodes })
}

/// The last layer with weights on the way to the own output, over ops without any: what tells classes apart.
fn head(lift: &Lift, paths: &HashMap<DraftId, String>) -> Option<String> {
    let mut at = lift.outputs.first()?.1;
    loop {
        let draft = &lift.drafts.nodes[at];
        match (&draft.op, &draft.place) {
            (Op::Linear(_) | Op::Conv2d(_), Place::Layer { .. }) => return paths.get(&at).cloned(),
            (_, Place::In { .. }) if draft.ins.len() == 1 => at = draft.ins[0],
            _ => return None,
        }
    }
}

/// Says of every scope which value flows in and which comes out, where that is one.
fn bound_scopes(graph: &mut Graph) {
    let order = graph.order();
    let mut ins: HashMap<String, HashSet<NodeId>> = HashMap::new();
    let mut outs: HashMap<String, HashSet<NodeId>> = HashMap::new();
    for id in &order {
        let own = graph.node(*id).path.clone();
        for operand in graph.operands(*id) {
            // a parameter feeds, and flows in nowhere
            let other = graph.node(operand).path.clone();
            let mut scope = path::holder(&own);
            while let Some(at) = scope.filter(|at| !at.is_empty() && !path::inside(&other, at)) {
                if !graph.is_constant(operand) {
                    ins.entry(at.to_string()).or_default().insert(operand);
                }
                scope = path::holder(at);
            }
            let mut scope = path::holder(&other);
            while let Some(at) = scope.filter(|at| !at.is_empty() && !path::inside(&own, at)) {
                outs.entry(at.to_string()).or_default().insert(operand);
                scope = path::holder(at);
            }
        }
    }
    for output in graph.outputs().values() {
        let path_of = graph.node(output.node).path.clone();
        let mut scope = path::holder(&path_of);
        while let Some(at) = scope.filter(|at| !at.is_empty()) {
            outs.entry(at.to_string()).or_default().insert(output.node);
            scope = path::holder(at);
        }
    }
    let only = |found: &HashMap<String, HashSet<NodeId>>, path: &str| {
        found.get(path).filter(|ids| ids.len() == 1).and_then(|ids| ids.iter().next().copied())
    };
    let paths: Vec<String> = graph.scopes("").map(|(path, _)| path).filter(|path| !path.is_empty()).collect();
    let result: Result<(), Problem> = graph.patch(|patch| {
        for path in &paths {
            patch.set_scope_input(path, only(&ins, path));
            patch.set_scope_output(path, only(&outs, path));
        }
        Ok(())
    });
    result.expect("it cannot fail");
}

/// Every prefix of a path, with the class of its module, and whether its entries are numbered.
fn scopes(drafts: &Drafts, paths: &HashMap<DraftId, String>) -> Vec<(String, (Option<String>, bool))> {
    let mut kinds: HashMap<&str, &str> = HashMap::new();
    for draft in &drafts.nodes {
        if let Place::Layer { modules, .. } | Place::In { modules, .. } = &draft.place {
            modules.iter().for_each(|module| {
                kinds.insert(&module.path, module.kind());
            });
        }
    }
    let mut found: Vec<String> = vec![];
    let mut seen: HashSet<&str> = HashSet::new();
    let mut ids: Vec<&DraftId> = paths.keys().collect();
    ids.sort();
    for id in ids {
        let mut at = path::parent(&paths[id]);
        while !at.is_empty() && seen.insert(at) {
            found.push(at.to_string());
            at = path::parent(at);
        }
    }
    found.sort_by_key(|path| path.matches('.').count());
    let is_part = |(id, path): (&DraftId, &String)| {
        matches!(drafts.nodes[*id].op, Op::Chunk(_)).then(|| path::parent(path).to_string())
    };
    let of_parts: HashSet<String> = paths.iter().filter_map(is_part).collect();
    let of = |path: &String| {
        // of a second call the first one's
        let label = path::last(path);
        let first = label.rsplit_once('_').filter(|(_, number)| path::is_number(number)).map(|(first, _)| first);
        let kind = kinds
            .get(path.as_str())
            .copied()
            .or_else(|| kinds.get(path::join(path::parent(path), first?).as_str()).copied());
        let is_container = matches!(kind, Some("Sequential" | "ModuleList" | "ModuleDict") | None);
        let is_numbered = kind == Some("Sequential") || of_parts.contains(path);
        (kind.filter(|_| !is_container).map(str::to_string), is_numbered)
    };
    found.iter().map(|path| (path.clone(), of(path))).collect()
}

/// A call of a module within calls, as a text that no other has.
type Call = String;

struct Namer<'a> {
    drafts: &'a Drafts,
    live: &'a [bool],
    inputs: HashMap<DraftId, &'a str>,
    taken: HashSet<String>,
    /// The next number to try after a name.
    numbers: HashMap<String, usize>,
    /// Paths of layers.
    layers: HashSet<&'a str>,
    /// Calls of which there is one node.
    single: HashSet<Call>,
    scopes: HashMap<Call, String>,
    /// The scopes of parts by what they are parts of, along which axis, into how many, and how they are called.
    chunks: HashMap<(DraftId, i64, usize, String), String>,
}

fn call(modules: &[Module]) -> Call {
    modules.iter().map(|module| format!("{}@{};", module.path, module.call)).collect()
}

impl<'a> Namer<'a> {
    fn new(drafts: &'a Drafts, live: &'a [bool], lift: &'a Lift) -> Result<Namer<'a>, Problem> {
        let mut namer = Namer {
            drafts,
            live,
            inputs: lift.inputs.iter().map(|(name, id)| (*id, name.as_str())).collect(),
            taken: HashSet::new(),
            numbers: HashMap::new(),
            layers: HashSet::new(),
            single: HashSet::new(),
            scopes: HashMap::new(),
            chunks: HashMap::new(),
        };
        let mut counts: HashMap<Call, (usize, &'a str)> = HashMap::new();
        let mut holders: HashSet<&'a str> = HashSet::new();
        for (id, draft) in namer.alive() {
            let (key, modules): (Option<&'a str>, &'a [Module]) = match &draft.place {
                Place::Key(_) if namer.inputs.contains_key(&id) => (None, &[]),
                Place::Key(key) => (Some(key), &[]),
                Place::Layer { path, modules } => {
                    (Some(path).filter(|_| draft.tied.is_none()).map(String::as_str), modules)
                }
                Place::In { modules, .. } => (None, modules),
            };
            for depth in 1..=modules.len() {
                counts.entry(call(&modules[..depth])).or_insert((0, &modules[depth - 1].path)).0 += 1;
            }
            if let Some(key) = key {
                if !namer.taken.insert(key.to_string()) {
                    let message = format!("two layers of the file are called `{}`", path::display(key));
                    return Err(Problem::new(Code::Import, message));
                }
                if let Place::Layer { .. } = draft.place {
                    namer.layers.insert(key);
                }
                let mut at = path::parent(key);
                while !at.is_empty() {
                    holders.insert(at);
                    at = path::parent(at);
                }
            }
        }
        if let Some(both) = namer.taken.iter().find(|path| holders.contains(path.as_str())) {
            let message = format!("`{}` is both a tensor or layer and a module that holds others", path::display(both));
            return Err(Problem::new(Code::Import, message).hint("rename one of them, and export the network again"));
        }
        namer.taken.extend(holders.iter().map(|path| path.to_string()));
        namer.single = counts
            .into_iter()
            .filter(|(_, (count, path))| *count == 1 && !holders.contains(path))
            .map(|(call, _)| call)
            .collect();
        Ok(namer)
    }

    fn alive(&self) -> impl Iterator<Item = (DraftId, &'a Draft)> + use<'a> {
        let live = self.live;
        self.drafts.nodes.iter().enumerate().filter(move |(id, _)| live[*id])
    }

    fn paths(mut self) -> Result<HashMap<DraftId, String>, Problem> {
        // scopes first, so that no op takes a scope's name
        for (_, draft) in self.alive() {
            if let Place::In { modules, .. } | Place::Layer { modules, .. } = &draft.place {
                self.scope(self.around(draft, modules));
            }
        }
        let mut paths = HashMap::new();
        for (id, draft) in self.alive() {
            let path = match &draft.place {
                Place::Key(_) if self.inputs.contains_key(&id) => {
                    let name = self.inputs[&id].to_string();
                    self.free(name)
                }
                Place::Key(key) => key.clone(),
                Place::Layer { path, .. } if draft.tied.is_none() => path.clone(),
                Place::Layer { path, modules } => {
                    let scope = self.scope(self.around(draft, modules));
                    self.free(path::join(&scope, path::last(path)))
                }
                Place::In { modules, name } => {
                    let around = self.around(draft, modules);
                    let scope = self.scope(around);
                    let own = match modules.get(around.len()) {
                        Some(module) => relative(module, around.last()),
                        None => name.unwrap_or(draft.op.name()),
                    };
                    match &draft.op {
                        Op::Chunk(chunk) => self.part(draft.ins[0], chunk, path::join(&scope, own)),
                        _ => self.free(path::join(&scope, own)),
                    }
                }
            };
            let wrong = |label: &str| {
                label.is_empty() || label.chars().any(|letter| "[]{}\"\\".contains(letter) || letter.is_control())
            };
            if path.split('.').any(wrong) {
                let shown: String = path.escape_debug().take(80).collect();
                return Err(Problem::new(Code::Import, format!("`{shown}` is no name that the language can write"))
                    .hint("rename the module or its tensor, and export the network again"));
            }
            paths.insert(id, path);
        }
        Ok(paths)
    }

    /// The modules in whose scope a node lies: all around it, but one that it is itself.
    fn around<'m>(&self, draft: &Draft, modules: &'m [Module]) -> &'m [Module] {
        let Some((last, before)) = modules.split_last() else { return modules };
        match &draft.place {
            Place::Layer { path, .. } if last.path == *path => before,
            Place::In { .. } if self.single.contains(&call(modules)) => before,
            _ => modules,
        }
    }

    /// The path of the scope of a call. A layer holds nothing: what lies in its module lies beside it.
    fn scope(&mut self, modules: &[Module]) -> String {
        let Some((last, before)) = modules.split_last() else { return String::new() };
        let key = call(modules);
        if let Some(path) = self.scopes.get(&key) {
            return path.clone();
        }
        let holder = self.scope(before);
        let wanted = path::join(&holder, relative(last, before.last()));
        let path = if self.layers.contains(last.path.as_str()) || self.layers.contains(wanted.as_str()) {
            holder
        } else if last.call == 0 {
            self.take(wanted.clone());
            wanted
        } else {
            let path = self.free(wanted);
            self.take(path.clone());
            path
        };
        self.scopes.insert(key, path.clone());
        path
    }

    /// The path of a part of a value: its number in a scope that holds all of them.
    fn part(&mut self, of: DraftId, chunk: &Chunk, wanted: String) -> String {
        let key = (of, chunk.axis, chunk.parts, wanted);
        let known = self.chunks.get(&key).cloned().filter(|scope| {
            // the same part once more is of another `chunk`
            !self.taken.contains(&path::join(scope, &chunk.part.to_string()))
        });
        let scope = known.unwrap_or_else(|| self.free(key.3.clone()));
        let path = path::join(&scope, &chunk.part.to_string());
        self.taken.insert(path.clone());
        self.chunks.insert(key, scope);
        path
    }

    fn take(&mut self, path: String) {
        let mut at = path.as_str();
        let mut all = vec![];
        while !at.is_empty() {
            all.push(at.to_string());
            at = path::parent(at);
        }
        self.taken.extend(all);
    }

    /// The first of a path, the path and `_1`, `_2` .. that nothing has.
    fn free(&mut self, wanted: String) -> String {
        if self.taken.insert(wanted.clone()) {
            return wanted;
        }
        let mut number = self.numbers.get(&wanted).copied().unwrap_or(1);
        let path = loop {
            let path = format!("{wanted}_{number}");
            number += 1;
            if self.taken.insert(path.clone()) {
                break path;
            }
        };
        self.numbers.insert(wanted, number);
        path
    }
}

/// A module's path within the one around it.
fn relative<'m>(module: &'m Module, around: Option<&Module>) -> &'m str {
    let inside = around.and_then(|around| module.path.strip_prefix(around.path.as_str())?.strip_prefix('.'));
    inside.unwrap_or(&module.path)
}
