//! Changes to a graph, all or none.

use std::ops::Deref;

use petgraph::Direction;
use petgraph::visit::EdgeRef;

use super::{Base, Graph, Node, NodeId, Output, Scope, Use, path};
use crate::ops::Op;
use crate::source::Span;

/// The distance between the ranks of layers as they are built, which leaves room for what edits put between them.
pub const RANK_STEP: u64 = 1 << 24;

/// A graph that is being changed. Reading goes through to the [`Graph`].
pub struct Patch {
    graph: Graph,
    next_rank: u64,
    /// What nodes that are made or changed now are marked with.
    pub edit: Option<Span>,
    /// Nodes taken away, and those that their weights passed to.
    pub heirs: Vec<(NodeId, NodeId)>,
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
        let next_rank = graph.nodes.node_weights().map(|node| node.rank).max().map_or(0, |rank| rank + RANK_STEP);
        Patch { graph, next_rank, edit: None, heirs: vec![] }
    }

    /// Makes what is added next run just after (or, with the rank of a later node, before) others of that rank.
    pub fn rank_from(&mut self, rank: u64) {
        self.next_rank = rank;
    }

    /// # Panics
    /// If the path is taken.
    pub fn add(&mut self, new: NewNode) -> NodeId {
        assert!(!self.is_taken(&new.path), "the caller picked a free path: {}", new.path);
        let shapes: Option<Vec<_>> = new.operands.iter().map(|id| self.graph.nodes[*id].shape.as_ref()).collect();
        let shape = shapes.and_then(|ins| new.op.infer(&ins).ok());
        let id = self.graph.nodes.add_node(Node {
            path: new.path.clone(),
            op: new.op,
            span: new.span,
            origin: self.edit,
            touched: self.edit,
            base: None,
            tied: None,
            frozen: false,
            inits: vec![],
            reshaped: false,
            rank: self.next_rank,
            shape,
        });
        self.next_rank += if self.edit.is_some() { 1 } else { RANK_STEP };
        for (slot, operand) in new.operands.into_iter().enumerate() {
            self.graph.nodes.add_edge(operand, id, slot);
        }
        self.graph.by_path.insert(new.path, id);
        id
    }

    /// Whether a node or a scope has this path.
    pub fn is_taken(&self, path: &str) -> bool {
        self.graph.by_path.contains_key(path) || self.graph.scopes.contains_key(path)
    }

    /// Lets one use take `to`.
    pub fn redirect(&mut self, one: &Use, to: NodeId) {
        match one {
            Use::Operand { node, slot } => {
                let edge = self
                    .graph
                    .nodes
                    .edges_directed(*node, Direction::Incoming)
                    .find(|edge| edge.weight() == slot)
                    .map(|edge| edge.id());
                let edge = edge.expect("the use exists");
                self.graph.nodes.remove_edge(edge);
                self.graph.nodes.add_edge(to, *node, *slot);
                self.graph.nodes[*node].touched = self.edit.or(self.graph.nodes[*node].touched);
            }
            Use::Output(name) => self.graph.outputs[name.as_str()].node = to,
        }
    }

    /// Changes a node's op; what it takes stays.
    pub fn set_op(&mut self, id: NodeId, op: Op) {
        let node = &mut self.graph.nodes[id];
        node.op = op;
        node.touched = self.edit.or(node.touched);
    }

    /// Everything about a node but its path, op and operands.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.graph.nodes[id]
    }

    /// Moves a node to another path.
    ///
    /// # Panics
    /// If that path is taken by another node.
    pub fn rename(&mut self, id: NodeId, to: &str) {
        let from = std::mem::replace(&mut self.graph.nodes[id].path, to.to_string());
        self.graph.by_path.remove(&from);
        assert!(self.graph.by_path.insert(to.to_string(), id).is_none(), "the path is free: {to}");
    }

    /// Takes a node away; its uses must be redirected before the commit. Weights that tied layers still need pass to the
    /// first of them.
    pub fn remove(&mut self, id: NodeId) {
        let Some(node) = self.graph.nodes.remove_node(id) else { return };
        self.graph.by_path.remove(&node.path);
        let mut tied: Vec<NodeId> =
            self.graph.ids().filter(|other| self.graph.nodes[*other].tied == Some(id)).collect();
        tied.sort_by_key(|other| self.graph.nodes[*other].rank);
        let Some((heir, rest)) = tied.split_first() else { return };
        for other in rest {
            self.graph.nodes[*other].tied = Some(*heir);
        }
        self.heirs.push((id, *heir));
        let heir = &mut self.graph.nodes[*heir];
        (heir.tied, heir.base, heir.inits) = (node.tied, node.base, node.inits);
    }

    pub fn add_scope(&mut self, path: &str, scope: Scope) {
        self.graph.scopes.insert(path.to_string(), scope);
    }

    pub fn scope_mut(&mut self, path: &str) -> Option<&mut Scope> {
        self.graph.scopes.get_mut(path)
    }

    /// The scopes by path, to be changed.
    pub fn scopes_mut(&mut self) -> impl Iterator<Item = (&str, &mut Scope)> {
        self.graph.scopes.iter_mut().map(|(path, scope)| (path.as_str(), scope))
    }

    /// Forgets a scope and those inside it; nodes are not touched.
    pub fn remove_scope(&mut self, scope: &str) {
        self.graph.scopes.retain(|other, _| !path::within(other, scope));
    }

    pub fn add_input(&mut self, name: &str, id: NodeId) {
        self.graph.inputs.insert(name.to_string(), id);
    }

    /// Takes an input from the list of inputs; its node is swept away where nothing needs it.
    pub fn drop_input(&mut self, name: &str) {
        self.graph.inputs.shift_remove(name);
    }

    /// Takes an output from the list of outputs.
    pub fn drop_output(&mut self, name: &str) {
        self.graph.outputs.shift_remove(name);
    }

    pub fn set_output(&mut self, name: &str, node: NodeId, span: Option<Span>) {
        self.graph.outputs.insert(name.to_string(), Output { node, span });
    }

    /// Remembers, for every node that there is, the path and tensors that a weight file of the base has.
    pub fn mark_base(&mut self) {
        for id in self.graph.nodes.node_indices().collect::<Vec<_>>() {
            let params = self.graph.params(id).unwrap_or_default();
            let path = self.graph.nodes[id].path.clone();
            let macs = self.graph.macs(id).unwrap_or(0);
            self.graph.nodes[id].base = Some(Base { path, params, macs });
        }
    }

    /// A copy of the graph as it is now.
    pub(crate) fn clone_graph(&self) -> Graph {
        self.graph.clone()
    }

    /// Infers every shape anew, with holes.
    pub fn infer(&mut self) {
        for id in self.graph.order() {
            let shape = self.graph.operand_shapes(id).and_then(|ins| self.graph.nodes[id].op.infer(&ins).ok());
            self.graph.nodes[id].shape = shape;
        }
    }

    /// A way around in a circle, where there is one.
    pub fn cycle(&self) -> Option<Vec<NodeId>> {
        let order = self.graph.order();
        if order.len() == self.graph.len() {
            return None;
        }
        let ordered: rustc_hash::FxHashSet<NodeId> = order.into_iter().collect();
        let mut rest: Vec<NodeId> = self.graph.ids().filter(|id| !ordered.contains(id)).collect();
        rest.sort_by_key(|id| self.graph.nodes[*id].rank);
        rest.iter().find_map(|id| {
            let next = self.graph.nodes.neighbors_directed(*id, Direction::Outgoing);
            next.filter_map(|next| self.graph.way(next, *id)).min_by_key(Vec::len)
        })
    }

    /// Takes away what no output needs, inputs apart, and scopes that are left empty. Returns the nodes taken away, in
    /// the order of the graph.
    pub fn sweep(&mut self) -> Vec<(NodeId, Node)> {
        let live = self.graph.live();
        let inputs: Vec<NodeId> = self.graph.inputs.values().copied().collect();
        let dead: Vec<NodeId> =
            self.graph.order().into_iter().filter(|id| !live.contains(id) && !inputs.contains(id)).collect();
        let mut gone = vec![];
        for id in dead {
            let node = self.graph.nodes[id].clone();
            self.remove(id);
            gone.push((id, node));
        }
        self.tidy_scopes();
        gone
    }

    /// Drops scopes without nodes, and references of scopes to nodes that are gone.
    pub fn tidy_scopes(&mut self) {
        let mut used: rustc_hash::FxHashSet<&str> = rustc_hash::FxHashSet::from_iter([""]);
        for node in self.graph.nodes.node_weights() {
            let mut at = path::parent(&node.path);
            while used.insert(at) {
                at = path::parent(at);
            }
        }
        let used: rustc_hash::FxHashSet<String> = used.into_iter().map(str::to_string).collect();
        let nodes = &self.graph.nodes;
        self.graph.scopes.retain(|path, scope| {
            scope.additions.retain(|id| nodes.contains_node(*id));
            scope.input = scope.input.filter(|id| nodes.contains_node(*id));
            scope.output = scope.output.filter(|id| nodes.contains_node(*id));
            used.contains(path)
        });
    }

    /// Checks the invariants and gives the graph back.
    ///
    /// # Panics
    /// If one does not hold.
    pub(crate) fn commit(self) -> Graph {
        for id in self.graph.ids() {
            let node = &self.graph.nodes[id];
            assert_eq!(self.graph.by_path.get(&node.path), Some(&id), "every path names its node: {}", node.path);
            let mut slots: Vec<usize> =
                self.graph.nodes.edges_directed(id, Direction::Incoming).map(|edge| *edge.weight()).collect();
            slots.sort_unstable();
            assert!(slots.iter().enumerate().all(|(at, slot)| at == *slot), "operands are complete: {}", node.path);
            assert!(
                node.tied.is_none_or(|tied| self.graph.nodes.contains_node(tied)),
                "a tie has an owner: {}",
                node.path
            );
        }
        assert_eq!(self.graph.order().len(), self.graph.len(), "the graph is acyclic");
        for (name, output) in &self.graph.outputs {
            assert!(self.graph.nodes.contains_node(output.node), "an output is a node: {name}");
        }
        self.graph
    }
}
