//! Changes to a graph, all or none.

use std::collections::hash_map::Entry;
use std::ops::Deref;
use std::sync::OnceLock;

use indexmap::IndexMap;
use petgraph::stable_graph::EdgeIndex;
use rustc_hash::{FxHashMap, FxHashSet};

use super::tree::{FxIndexMap, FxIndexSet};
use super::{Base, Graph, Layer, Node, NodeId, Output, Role, Roles, Scope, Slot, Spot, Use, path};
use crate::diag::Calls;
use crate::ops::Op;
use crate::source::Span;

/// The distance between the ranks of layers as they are built, which leaves room for what edits put between them.
pub const RANK_STEP: u64 = 1 << 24;

/// A graph that is being changed. Reading goes through to the [`Graph`].
///
/// Remembers what was at each place that it changes. So taking the changes back, checking them and counting what they
/// cost takes as long as the changes are many, not as the graph is large.
pub struct Patch {
    graph: Graph,
    next_rank: u64,
    /// What nodes that are made or changed now are marked with.
    pub edit: Option<Span>,
    /// The calls that lead to nodes that are made now.
    pub calls: Calls,
    /// Nodes taken away, and those that their weights passed to.
    pub heirs: Vec<(NodeId, NodeId)>,
    before: Before,
    /// The nodes that were made, in order.
    made: Vec<NodeId>,
    /// The nodes whose shape may be another one now.
    stale: Vec<NodeId>,
    /// Scopes that may hold no layer, or count one among their additions that is gone.
    untidy: Vec<String>,
}

/// What was before the patch where it changed something.
#[derive(Default)]
struct Before {
    /// None for nodes that were not there.
    nodes: FxHashMap<NodeId, Option<Box<Was>>>,
    scopes: FxIndexMap<String, Option<Box<Scope>>>,
    ends: Option<(IndexMap<String, NodeId>, IndexMap<String, Output>)>,
    loose: Option<FxIndexSet<NodeId>>,
    roles: Option<Roles>,
    /// The running order, where an edge has changed.
    order: Option<OnceLock<Vec<NodeId>>>,
}

/// A node as it was, and what it took: edges that are gone do not say so.
struct Was {
    slot: Slot,
    operands: Vec<NodeId>,
}

/// A node to be made.
pub struct NewNode {
    pub path: String,
    pub op: Op,
    pub operands: Vec<NodeId>,
    pub span: Span,
}

impl Deref for Patch {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        &self.graph
    }
}

impl Patch {
    pub(super) fn new(graph: Graph) -> Patch {
        let next_rank = graph.next_rank;
        Patch {
            graph,
            next_rank,
            edit: None,
            calls: None,
            heirs: vec![],
            before: Before::default(),
            made: vec![],
            stale: vec![],
            untidy: vec![],
        }
    }

    /// Makes what is added next run just after (or, with the rank of a later node, before) others of that rank.
    pub fn rank_from(&mut self, rank: u64) {
        self.next_rank = rank;
    }

    /// Makes what is added next run after all that could run at the same time.
    pub fn rank_last(&mut self) {
        self.next_rank = (self.graph.next_rank + 1).saturating_sub(RANK_STEP);
    }

    /// # Panics
    /// If the path is taken.
    pub fn add(&mut self, new: NewNode) -> NodeId {
        assert!(!self.is_taken(&new.path), "the caller picked a free path: {}", new.path);
        let shapes: Option<Vec<_>> = new.operands.iter().map(|id| self.node(*id).shape.as_ref()).collect();
        let shape = shapes.and_then(|ins| new.op.infer(&ins).ok());
        let node = Node {
            path: new.path,
            op: new.op,
            span: new.span,
            origin: self.edit,
            touched: self.edit,
            broken: None,
            refilled: None,
            calls: self.calls.clone(),
            base: None,
            tied: None,
            frozen: false,
            inits: vec![],
            kept: vec![],
            reshaped: false,
            rank: self.next_rank,
            shape,
        };
        self.graph.next_rank = self.graph.next_rank.max(node.rank + RANK_STEP);
        self.next_rank += if self.edit.is_some() { 1 } else { RANK_STEP };
        let slot = Slot { node, operands: vec![], tied: Default::default(), outputs: 0 };
        let id = self.graph.nodes.add_node(Some(slot));
        self.before.nodes.insert(id, None);
        self.graph.put_layer(id);
        self.graph.len += 1;
        for (slot, operand) in new.operands.into_iter().enumerate() {
            let edge = self.add_edge(operand, id, slot);
            self.slot_mut(id).operands.push(edge);
        }
        self.forget_order();
        self.made.push(id);
        self.stale.push(id);
        id
    }

    /// How many nodes were made so far, for [`Patch::made_since`].
    pub fn made(&self) -> usize {
        self.made.len()
    }

    /// The nodes that were made since.
    pub fn made_since(&self, made: usize) -> FxHashSet<NodeId> {
        self.made[made..].iter().copied().collect()
    }

    /// The first of `name`, `name_1`, `name_2` .. that is free in a scope.
    pub fn free_path(&mut self, scope: &str, name: &str) -> String {
        let first = path::join(scope, name);
        if !self.is_taken(&first) {
            return first;
        }
        let mut names = std::mem::take(&mut self.graph.names);
        let free = names.free(&first, |path| self.is_taken(path));
        self.graph.names = names;
        free
    }

    /// Lets one use take `to`.
    pub fn redirect(&mut self, one: &Use, to: NodeId) {
        match one {
            Use::Operand { node, slot } => {
                let old = self.slot_mut(*node).operands[*slot];
                self.drop_edge(old);
                let new = self.add_edge(to, *node, *slot);
                let edit = self.edit;
                let reader = self.slot_mut(*node);
                reader.operands[*slot] = new;
                reader.node.touched = edit.or(reader.node.touched);
                self.stale.push(*node);
                self.forget_order();
            }
            Use::Output(name) => {
                let span = self.graph.outputs.get(name).and_then(|output| output.span);
                self.set_output(name, to, span);
            }
        }
    }

    /// Changes a node's op; what it takes stays.
    pub fn set_op(&mut self, id: NodeId, op: Op) {
        let edit = self.edit;
        let node = &mut self.slot_mut(id).node;
        node.op = op;
        node.touched = edit.or(node.touched);
        self.stale.push(id);
    }

    /// Everything about a node but its path, op, operands and tie.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.slot_mut(id).node
    }

    /// Lets a node use the tensors of another one.
    pub fn tie(&mut self, id: NodeId, owner: NodeId) {
        self.set_tied(id, Some(owner));
    }

    fn set_tied(&mut self, id: NodeId, owner: Option<NodeId>) {
        let old = std::mem::replace(&mut self.slot_mut(id).node.tied, owner);
        if let Some(old) = old.filter(|old| self.graph.get(*old).is_some()) {
            self.slot_mut(old).tied.swap_remove(&id);
        }
        if let Some(owner) = owner {
            self.slot_mut(owner).tied.insert(id);
        }
    }

    /// Moves a node to another path.
    ///
    /// # Panics
    /// If that path is taken by another node.
    pub fn rename(&mut self, id: NodeId, to: &str) {
        assert!(self.find(to).is_none(), "the path is free: {to}");
        let from = std::mem::replace(&mut self.slot_mut(id).node.path, to.to_string());
        self.free(&from);
        self.graph.tree.put_layer(to, id);
    }

    /// Takes a node away; its uses must be redirected before the commit. Weights that tied layers still need pass to the
    /// first of them.
    pub fn remove(&mut self, id: NodeId) {
        if self.get(id).is_none() {
            return;
        }
        while let Some(operand) = self.slot_mut(id).operands.pop() {
            self.drop_edge(operand);
        }
        let Some(Slot { node, tied, .. }) = self.graph.nodes[id].take() else { return };
        self.graph.len -= 1;
        self.forget_order();
        self.free(&node.path);
        // the commit looks at what still takes its value
        let readers: Vec<NodeId> = self.graph.readers(id).map(|(reader, _)| reader).collect();
        readers.into_iter().for_each(|reader| self.touch(reader));
        if let Some(owner) = node.tied.filter(|owner| self.graph.get(*owner).is_some()) {
            self.slot_mut(owner).tied.swap_remove(&id);
        }
        for spot in self.graph.tree.mentions(id) {
            self.change_scope(spot, |scope| {
                scope.input = scope.input.filter(|input| *input != id);
                scope.output = scope.output.filter(|output| *output != id);
            });
            self.untidy.push(self.graph.tree.path(spot));
        }
        self.graph.tree.forget_node(id);
        let mut tied: Vec<NodeId> = tied.into_iter().collect();
        tied.sort_by_key(|other| self.node(*other).rank);
        if let Some((heir, rest)) = tied.split_first() {
            for other in rest {
                self.set_tied(*other, Some(*heir));
            }
            self.set_tied(*heir, node.tied);
            self.heirs.push((id, *heir));
            let heir = &mut self.slot_mut(*heir).node;
            (heir.base, heir.inits, heir.kept) = (node.base, node.inits, node.kept);
        }
    }

    pub fn add_scope(&mut self, path: &str, scope: Scope) {
        self.set_scope(path, Some(scope));
        self.untidy.push(path.to_string());
    }

    /// Says which value a scope's `in` is.
    pub fn set_scope_input(&mut self, path: &str, input: Option<NodeId>) {
        if let Some(spot) = self.graph.tree.find(path) {
            self.change_scope(spot, |scope| scope.input = input);
        }
    }

    /// Says which value a scope's braces end with.
    pub fn set_scope_output(&mut self, path: &str, output: Option<NodeId>) {
        if let Some(spot) = self.graph.tree.find(path) {
            self.change_scope(spot, |scope| scope.output = output);
        }
    }

    /// Counts a node among the additions of a scope's own residuals.
    pub fn add_addition(&mut self, path: &str, addition: NodeId) {
        if let Some(spot) = self.graph.tree.find(path) {
            self.change_scope(spot, |scope| scope.additions.push(addition));
        }
    }

    /// Scopes that began with `old` begin with `new`, as far as `picks` takes them.
    pub fn begin_scopes(&mut self, old: NodeId, new: NodeId, picks: impl Fn(&str, &Scope) -> bool) {
        for spot in self.graph.tree.mentions(old) {
            let Some(scope) = self.graph.tree.scope(spot) else { continue };
            if scope.input == Some(old) && picks(&self.graph.tree.path(spot), scope) {
                self.change_scope(spot, |scope| scope.input = Some(new));
            }
        }
    }

    /// Scopes that began or ended with `old` begin or end with `new`.
    pub fn bound_scopes(&mut self, old: NodeId, new: NodeId) {
        for spot in self.graph.tree.mentions(old) {
            self.change_scope(spot, |scope| {
                for end in [&mut scope.input, &mut scope.output] {
                    *end = end.map(|id| if id == old { new } else { id });
                }
            });
        }
    }

    /// Forgets a scope and those inside it; nodes are not touched.
    pub fn remove_scope(&mut self, scope: &str) {
        let scopes: Vec<String> = self.graph.scopes(scope).map(|(path, _)| path).collect();
        scopes.iter().rev().for_each(|path| self.set_scope(path, None));
    }

    pub fn add_input(&mut self, name: &str, id: NodeId) {
        self.keep_ends();
        self.graph.inputs.insert(name.to_string(), id);
    }

    /// Takes an input from the list of inputs; its node is swept away where nothing needs it.
    pub fn drop_input(&mut self, name: &str) {
        self.keep_ends();
        if let Some(id) = self.graph.inputs.shift_remove(name) {
            self.touch(id);
        }
    }

    /// Takes an output from the list of outputs.
    pub fn drop_output(&mut self, name: &str) {
        self.keep_ends();
        if let Some(output) = self.graph.outputs.shift_remove(name) {
            self.slot_mut(output.node).outputs -= 1;
        }
    }

    pub fn set_output(&mut self, name: &str, node: NodeId, span: Option<Span>) {
        self.keep_ends();
        if let Some(old) = self.graph.outputs.insert(name.to_string(), Output { node, span }) {
            self.slot_mut(old.node).outputs -= 1;
        }
        self.slot_mut(node).outputs += 1;
    }

    /// Says what places of the network are for.
    pub fn set_role(&mut self, name: &str, role: Role) {
        self.before.roles.get_or_insert_with(|| self.graph.roles.clone());
        self.graph.roles.set(name, role);
    }

    /// Lets roles go with their places, from a path to another one.
    pub fn move_roles(&mut self, moves: impl IntoIterator<Item = (String, String)>) {
        for (from, to) in moves.into_iter().filter(|(from, to)| from != to) {
            self.before.roles.get_or_insert_with(|| self.graph.roles.clone());
            self.graph.roles.lead(&from, &to);
        }
    }

    /// Remembers, for every node that there is, the path and tensors that a weight file of the base has.
    pub fn mark_base(&mut self) {
        for id in self.graph.ids().collect::<Vec<_>>() {
            let params = self.graph.params(id).unwrap_or_default();
            let macs = self.graph.macs(id).unwrap_or(0);
            let node = &mut self.slot_mut(id).node;
            node.base = Some(Base { path: node.path.clone(), params, macs }.into());
        }
    }

    /// Infers the shapes that may be other ones now, with holes.
    pub fn infer(&mut self) {
        if self.stale.is_empty() {
            return;
        }
        let mut stale = vec![false; self.graph.bound()];
        std::mem::take(&mut self.stale).into_iter().for_each(|id| stale[id.index()] = true);
        for id in self.graph.order().into_iter() {
            if !stale[id.index()] {
                continue;
            }
            // what a layer costs hangs on what it takes, so it is touched even where its own shape stays
            self.touch(id);
            let ins = self.graph.operand_shapes(id);
            let are_known = ins.is_some();
            let shape = ins.and_then(|ins| self.node(id).op.infer(&ins).ok());
            let fits = !are_known || (shape.is_some() && !self.graph.differs_from_base(id));
            let broken = if fits { None } else { self.node(id).broken.or(self.edit) };
            self.slot_mut(id).node.broken = broken;
            if shape != self.node(id).shape {
                self.graph.readers(id).for_each(|(reader, _)| stale[reader.index()] = true);
                self.slot_mut(id).node.shape = shape;
            }
        }
    }

    /// A way around in a circle, where there is one.
    pub fn cycle(&self) -> Option<Vec<NodeId>> {
        let order = self.graph.order();
        if order.len() == self.graph.len() {
            return None;
        }
        let ordered: FxHashSet<NodeId> = order.into_iter().collect();
        let mut left: FxHashSet<NodeId> = self.graph.ids().filter(|id| !ordered.contains(id)).collect();
        // what lies behind all circles is in none
        let readers = |id: NodeId| self.graph.readers(id).filter(|(reader, _)| !ordered.contains(reader)).count();
        let mut waiting: FxHashMap<NodeId, usize> = left.iter().map(|id| (*id, readers(*id))).collect();
        let mut behind: Vec<NodeId> = left.iter().copied().filter(|id| waiting[id] == 0).collect();
        while let Some(id) = behind.pop() {
            left.remove(&id);
            for operand in self.graph.operands(id) {
                let Some(waits) = waiting.get_mut(&operand) else { continue };
                *waits -= 1;
                if *waits == 0 {
                    behind.push(operand);
                }
            }
        }
        let mut rest: Vec<NodeId> = left.into_iter().collect();
        rest.sort_by_key(|id| self.node(*id).rank);
        rest.iter().find_map(|id| self.graph.circle(*id))
    }

    /// Layers that the patch made and that nothing takes are no dead ends yet: a later edit may take them.
    pub fn keep_loose(&mut self) {
        let is_tip = |id: &NodeId| {
            self.graph.get(*id).is_some()
                && self.graph.slot(*id).outputs == 0
                && self.graph.readers(*id).next().is_none()
        };
        let is_input = |id: &NodeId| self.graph.inputs.values().any(|input| input == id);
        let fresh = self.made.iter().filter(|id| is_tip(id) && !is_input(id));
        let loose: FxIndexSet<NodeId> = self.graph.loose.iter().filter(|id| is_tip(id)).chain(fresh).copied().collect();
        if loose != self.graph.loose {
            self.set_loose(loose);
        }
    }

    /// From now on what nothing takes is dead, whoever made it.
    pub fn judge_loose(&mut self) {
        let loose = std::mem::take(&mut self.graph.loose);
        for id in &loose {
            if self.graph.get(*id).is_some() {
                self.touch(*id);
            }
        }
        self.before.loose.get_or_insert(loose);
    }

    fn set_loose(&mut self, loose: FxIndexSet<NodeId>) {
        let before = std::mem::replace(&mut self.graph.loose, loose);
        self.before.loose.get_or_insert(before);
    }

    /// What no output needs any more, inputs apart, in the order of the graph.
    pub fn dead(&self) -> Vec<NodeId> {
        let inputs: FxHashSet<NodeId> = self.graph.inputs.values().copied().collect();
        let is_end =
            |id: NodeId| self.graph.slot(id).outputs > 0 || inputs.contains(&id) || self.graph.loose.contains(&id);
        let touched = self.before.nodes.keys().copied().filter(|id| self.get(*id).is_some());
        let mut stack: Vec<NodeId> =
            touched.filter(|id| self.graph.readers(*id).next().is_none() && !is_end(*id)).collect();
        let mut dead: FxHashSet<NodeId> = FxHashSet::default();
        let mut uses: FxHashMap<NodeId, usize> = FxHashMap::default();
        while let Some(id) = stack.pop() {
            dead.insert(id);
            for operand in self.graph.operands(id) {
                let left = uses.entry(operand).or_insert_with(|| self.graph.readers(operand).count());
                *left -= 1;
                if *left == 0 && !is_end(operand) {
                    stack.push(operand);
                }
            }
        }
        if dead.is_empty() { vec![] } else { self.graph.order().into_iter().filter(|id| dead.contains(id)).collect() }
    }

    /// Takes away what no output needs, inputs apart, and scopes that are left empty. Before the patch there was nothing
    /// of that kind.
    pub fn sweep(&mut self) {
        let dead = self.dead();
        if !dead.is_empty() {
            let order = self.graph.order();
            dead.iter().for_each(|id| self.remove(*id));
            // what goes is needed by nothing that stays, whose order is what it was
            let left: Vec<NodeId> = order.into_iter().filter(|id| self.graph.get(*id).is_some()).collect();
            self.graph.order = OnceLock::from(left);
        }
        self.tidy_scopes("");
    }

    /// Drops scopes without nodes, and references of scopes to nodes that are gone. Scopes that hold the path `kept`
    /// stay, for the time being, even where they are empty.
    pub fn tidy_scopes(&mut self, kept: &str) {
        for path in std::mem::take(&mut self.untidy) {
            let Some(spot) = self.graph.tree.find(&path) else { continue };
            if self.graph.tree.layers(spot) == 0 && !path.is_empty() {
                if path::inside(kept, &path) {
                    self.untidy.push(path);
                } else {
                    self.remove_scope(&path);
                }
                continue;
            }
            let Some(scope) = self.graph.tree.scope(spot) else { continue };
            if scope.additions.iter().any(|id| self.graph.get(*id).is_none()) {
                let left: Vec<NodeId> =
                    scope.additions.iter().copied().filter(|id| self.graph.get(*id).is_some()).collect();
                self.change_scope(spot, |scope| scope.additions = left);
            }
        }
    }

    /// The nodes that the patch made.
    pub fn added(&self) -> Vec<NodeId> {
        let made: FxHashSet<NodeId> = self.made.iter().copied().filter(|id| self.get(*id).is_some()).collect();
        if made.is_empty() { vec![] } else { self.order().into_iter().filter(|id| made.contains(id)).collect() }
    }

    /// The nodes that it took away, in the order in which the network ran, and their paths.
    pub fn removed(&self) -> Vec<(NodeId, &str)> {
        let order = self.before.order.iter().filter_map(OnceLock::get).flatten();
        let path = |id: &NodeId| {
            let was = self.before.nodes.get(id)?.as_ref().filter(|_| self.get(*id).is_none())?;
            Some((*id, was.slot.node.path.as_str()))
        };
        order.filter_map(path).collect()
    }

    /// Every layer that the patch changed in any way, as it was and as it is.
    pub fn changes(&self) -> impl Iterator<Item = (Option<Layer<'_>>, Option<Layer<'_>>)> {
        self.before.nodes.iter().map(|(id, was)| {
            let shape_before = |operand: &NodeId| match self.before.nodes.get(operand) {
                Some(was) => was.as_ref()?.slot.node.shape.as_ref(),
                None => self.node(*operand).shape.as_ref(),
            };
            let was = was
                .as_ref()
                .map(|was| Layer { node: &was.slot.node, ins: was.operands.iter().map(shape_before).collect() });
            (was, self.get(*id).map(|_| self.graph.layer(*id)))
        })
    }

    /// Checks the invariants that the patch could have broken and gives the graph back.
    ///
    /// # Panics
    /// If one does not hold.
    pub(super) fn commit(mut self) -> Graph {
        let (there, mut gone): (Vec<NodeId>, Vec<NodeId>) =
            self.before.nodes.keys().copied().partition(|id| self.get(*id).is_some());
        there.into_iter().for_each(|id| self.graph.check_node(id));
        gone.sort_unstable_by(|a, b| b.cmp(a));
        gone.into_iter().for_each(|id| drop(self.graph.nodes.remove_node(id)));
        assert_eq!(self.graph.order().len(), self.graph.len(), "the graph is acyclic");
        for (name, output) in self.before.ends.iter().flat_map(|_| &self.graph.outputs) {
            assert!(self.graph.get(output.node).is_some(), "an output is a node: {name}");
        }
        if cfg!(debug_assertions) {
            self.graph.check();
        }
        self.graph
    }

    /// Takes every change back.
    pub(super) fn undo(mut self) -> Graph {
        let graph = &mut self.graph;
        for id in self.before.nodes.keys() {
            if let Some(slot) = graph.nodes[*id].take() {
                graph.tree.take_layer(&slot.node.path);
                graph.names.give_back(&slot.node.path);
                for operand in slot.operands {
                    graph.nodes.remove_edge(operand);
                }
            }
        }
        self.made.iter().rev().for_each(|id| drop(graph.nodes.remove_node(*id)));
        for path in self.before.scopes.keys() {
            graph.tree.set_scope(path, None);
            graph.names.give_back(path);
        }
        for (id, was) in self.before.nodes {
            let Some(was) = was else { continue };
            let Was { mut slot, operands } = *was;
            let edges = operands.into_iter().enumerate();
            slot.operands = edges.map(|(at, operand)| graph.nodes.add_edge(operand, id, at)).collect();
            graph.tree.put_layer(&slot.node.path, id);
            graph.nodes[id] = Some(slot);
        }
        for (path, before) in self.before.scopes {
            graph.tree.set_scope(&path, before.map(|scope| *scope));
        }
        if let Some((inputs, outputs)) = self.before.ends {
            (graph.inputs, graph.outputs) = (inputs, outputs);
        }
        if let Some(loose) = self.before.loose {
            graph.loose = loose;
        }
        if let Some(roles) = self.before.roles {
            graph.roles = roles;
        }
        graph.len = graph.nodes.node_count();
        if let Some(order) = self.before.order {
            graph.order = order;
        }
        self.graph
    }

    /// Remembers what a node was before it changes.
    fn touch(&mut self, id: NodeId) {
        if let Entry::Vacant(was) = self.before.nodes.entry(id) {
            let slot = self.graph.nodes[id].clone();
            was.insert(slot.map(|slot| Box::new(Was { slot, operands: self.graph.operands(id) })));
        }
    }

    fn slot_mut(&mut self, id: NodeId) -> &mut Slot {
        self.touch(id);
        self.graph.nodes[id].as_mut().expect("the node is there")
    }

    /// An edge changes, and the running order with it.
    fn forget_order(&mut self) {
        let order = std::mem::take(&mut self.graph.order);
        self.before.order.get_or_insert(order);
    }

    fn keep_ends(&mut self) {
        self.before.ends.get_or_insert_with(|| (self.graph.inputs.clone(), self.graph.outputs.clone()));
    }

    fn add_edge(&mut self, operand: NodeId, reader: NodeId, slot: usize) -> EdgeIndex {
        self.touch(operand);
        self.graph.nodes.add_edge(operand, reader, slot)
    }

    /// Takes an edge away; its reader must have been touched.
    fn drop_edge(&mut self, operand: EdgeIndex) {
        self.touch(self.graph.source(operand));
        self.graph.nodes.remove_edge(operand);
    }

    fn keep_scope(&mut self, path: &str) {
        if !self.before.scopes.contains_key(path) {
            self.before.scopes.insert(path.to_string(), self.graph.scope(path).cloned().map(Box::new));
        }
    }

    fn set_scope(&mut self, path: &str, scope: Option<Scope>) {
        self.keep_scope(path);
        if scope.is_none() {
            self.graph.names.give_back(path);
        }
        self.graph.tree.set_scope(path, scope);
    }

    fn change_scope(&mut self, spot: Spot, change: impl FnOnce(&mut Scope)) {
        self.keep_scope(&self.graph.tree.path(spot));
        self.graph.tree.change_scope(spot, change);
    }

    /// A path of a layer is free again; the scopes that held it may be empty now.
    fn free(&mut self, layer: &str) {
        if let Some(spot) = self.graph.tree.find(layer) {
            let holders = self.graph.tree.holders(spot).filter(|holder| self.graph.tree.layers(*holder) == 1);
            self.untidy.extend(holders.map(|holder| self.graph.tree.path(holder)));
        }
        self.graph.tree.take_layer(layer);
        self.graph.names.give_back(layer);
    }
}
