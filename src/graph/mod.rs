//! The network as a graph: a node a layer, an edge an operand.
//!
//! A node has one output and one path that nobody else has. Scopes (what braces made) are kept beside the nodes: `at`,
//! `path:block` and automatic names need them. The graph changes only through [`Graph::patch`], whose commit checks the
//! invariants of what it changed: acyclic, operands complete, paths unique, nothing dangling. Shapes are inferred as nodes are made, with
//! holes where something does not fit; [`crate::typed`] reports the holes after the last edit.

pub mod adapt;
mod dump;
mod names;
mod order;
mod patch;
pub mod path;
mod roles;
mod taps;
#[cfg(test)]
mod tests;
mod tree;

use std::sync::{Arc, OnceLock};

use indexmap::IndexMap;
use petgraph::Direction;
use petgraph::stable_graph::{EdgeIndex, NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

pub use patch::{NewNode, Patch};
pub use roles::{Role, RolePlace, Roles, gone};
pub use taps::Map;
pub use tree::Spot;

use crate::diag::Calls;
use crate::ops::init::Init;
use crate::ops::shape::Shape;
use crate::ops::{Op, ParamDecl};
use crate::source::Span;
use names::Names;
use tree::{FxIndexSet, Tree};

/// A node of a [`Graph`]; stays valid while the node exists.
pub type NodeId = NodeIndex;

/// A layer.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its labels joined by dots, and the prefix of its keys.
    pub path: String,
    pub op: Op,
    /// The text that made it.
    pub span: Span,
    /// The statement that made it, where that was an edit.
    pub origin: Option<Span>,
    /// The edit that last touched it or its operands.
    pub touched: Option<Span>,
    /// The edit since which it does not fit what it takes, or its tensors of the base.
    pub broken: Option<Span>,
    /// The `set` that gave it another `init`, where it is of the base.
    pub refilled: Option<Span>,
    /// The calls of blocks that led to the text.
    pub calls: Calls,
    /// Its key prefix in the base's weight file, for a layer of the base.
    pub base: Option<Arc<Base>>,
    /// The node whose tensors it uses instead of its own.
    pub tied: Option<NodeId>,
    /// No gradient, statistics kept.
    pub frozen: bool,
    /// The tensors that `init` lines fill.
    pub inits: Vec<Filled>,
    /// The `keeping` clauses that make its tensors.
    pub kept: Vec<adapt::Kept>,
    /// Some arguments were changed by a `set`, so that shapes of its tensors may differ from the file's.
    pub reshaped: bool,
    /// Orders nodes that could run at the same time.
    pub rank: u64,
    /// None while something about it or before it does not fit.
    pub shape: Option<Shape>,
}

/// A tensor that an `init` line fills.
#[derive(Clone, Debug, PartialEq)]
pub struct Filled {
    /// Its name in the layer.
    pub tensor: &'static str,
    pub init: Init,
    /// The text that says how.
    pub span: Span,
}

/// What a layer of the base network had before the edits.
#[derive(Clone, Debug, PartialEq)]
pub struct Base {
    pub path: String,
    pub params: Vec<ParamDecl>,
    /// Multiply-adds of one sample.
    pub macs: u64,
}

/// What braces made.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The block or network that it is an instance of.
    pub block: Option<String>,
    /// Its unlabelled entries are numbered.
    pub numbered: bool,
    /// The value that its `in` is.
    pub input: Option<NodeId>,
    /// The value that its braces end with.
    pub output: Option<NodeId>,
    /// The additions of the residuals that its own braces hold.
    pub additions: Vec<NodeId>,
    pub span: Span,
}

/// One use of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// As operand number `slot` of a node.
    Operand { node: NodeId, slot: usize },
    /// As an output of the network.
    Output(String),
}

/// A named output of the network.
#[derive(Clone, Debug)]
pub struct Output {
    pub node: NodeId,
    /// The `output` statement; None for the network's own.
    pub span: Option<Span>,
}

/// A node and the shapes that it takes, None while one is not known.
pub struct Layer<'a> {
    pub node: &'a Node,
    pub ins: Option<Vec<&'a Shape>>,
}

impl Layer<'_> {
    /// Its tensors by PyTorch's names.
    pub fn params(&self) -> Option<Vec<ParamDecl>> {
        let ins = self.ins.as_deref()?;
        self.node.op.infer(ins).ok()?;
        Some(self.node.op.params(ins))
    }

    /// Multiply-adds of one sample.
    pub fn macs(&self) -> Option<u64> {
        Some(self.node.op.macs(self.ins.as_deref()?, self.node.shape.as_ref()?))
    }
}

/// The name of the network's own output.
pub const OWN_OUTPUT: &str = "output";

/// A network.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// An edge is an operand and has its number. None for a node that the patch at work took away: its id is its own
    /// until the commit, so that it can come back.
    nodes: StableDiGraph<Option<Slot>, usize>,
    len: usize,
    tree: Tree,
    names: Names,
    inputs: IndexMap<String, NodeId>,
    outputs: IndexMap<String, Output>,
    /// Layers that an edit made and that nothing takes yet. A later edit may; after the last they are judged.
    loose: FxIndexSet<NodeId>,
    roles: Roles,
    /// Above the rank of every node.
    next_rank: u64,
    /// The running order, as long as no edge changes.
    order: OnceLock<Vec<NodeId>>,
}

/// A node and what belongs to it alone.
#[derive(Clone, Debug)]
struct Slot {
    node: Node,
    /// The edges of what it takes, in order.
    operands: Vec<EdgeIndex>,
    /// The nodes tied to it.
    tied: FxIndexSet<NodeId>,
    /// How many outputs of the network it is.
    outputs: usize,
}

impl Graph {
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Runs `change` on a patch and keeps what it did, or nothing where it fails.
    pub fn patch<T, E>(&mut self, change: impl FnOnce(&mut Patch) -> Result<T, E>) -> Result<T, E> {
        let mut patch = Patch::new(std::mem::take(self));
        let result = change(&mut patch);
        *self = if result.is_ok() { patch.commit() } else { patch.undo() };
        result
    }

    /// Puts a new node at its path.
    fn put_layer(&mut self, id: NodeId) {
        let slot = self.nodes[id].as_ref().expect("the node is there");
        self.tree.put_layer(&slot.node.path, id);
    }

    fn slot(&self, id: NodeId) -> &Slot {
        self.nodes[id].as_ref().expect("the node is there")
    }

    /// Where an operand comes from.
    fn source(&self, operand: EdgeIndex) -> NodeId {
        self.nodes.edge_endpoints(operand).expect("an operand is an edge").0
    }

    /// # Panics
    /// If the node is gone.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.slot(id).node
    }

    pub fn get(&self, id: NodeId) -> Option<&Node> {
        Some(&self.nodes.node_weight(id)?.as_ref()?.node)
    }

    pub fn find(&self, path: &str) -> Option<NodeId> {
        self.tree.layer(self.tree.find(path)?)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Above the index of every node, for tables by node.
    pub fn bound(&self) -> usize {
        self.nodes.node_indices().next_back().map_or(0, |id| id.index() + 1)
    }

    /// Whether a node or a scope has this path.
    pub fn is_taken(&self, path: &str) -> bool {
        self.tree.find(path).is_some_and(|spot| self.tree.layer(spot).is_some() || self.tree.scope(spot).is_some())
    }

    /// A scope by its path. The network itself has the empty path.
    pub fn scope(&self, path: &str) -> Option<&Scope> {
        self.tree.scope(self.tree.find(path)?)
    }

    /// The scope at `path` and all inside it, by path, parents before what they hold.
    pub fn scopes(&self, path: &str) -> impl Iterator<Item = (String, &Scope)> {
        let within = self.tree.find(path).into_iter().flat_map(|spot| self.tree.within(spot));
        within.filter_map(|spot| Some((self.tree.path(spot), self.tree.scope(spot)?)))
    }

    /// The layers inside a scope, in no particular order.
    pub fn layers(&self, scope: &str) -> impl Iterator<Item = NodeId> {
        let within = self.tree.find(scope).into_iter().flat_map(|spot| self.tree.within(spot).skip(1));
        within.filter_map(|spot| self.tree.layer(spot))
    }

    /// The network itself, to walk its paths from.
    pub fn root(&self) -> Spot {
        Tree::ROOT
    }

    /// The labels directly inside a path, in no particular order.
    pub fn children(&self, spot: Spot) -> impl Iterator<Item = (&str, Spot)> {
        self.tree.children(spot)
    }

    /// A path and all paths inside it, what holds others before them.
    pub fn within(&self, spot: Spot) -> impl Iterator<Item = Spot> {
        self.tree.within(spot)
    }

    /// The number labels directly inside a path that are `number`.
    pub fn numbered(&self, spot: Spot, number: i64) -> Vec<(&str, Spot)> {
        self.tree.numbered(spot, number)
    }

    /// One label directly inside a path.
    pub fn child(&self, spot: Spot, label: &str) -> Option<Spot> {
        self.tree.child(spot, label)
    }

    /// Where a path is.
    pub fn spot(&self, path: &str) -> Option<Spot> {
        self.tree.find(path)
    }

    pub fn layer_at(&self, spot: Spot) -> Option<NodeId> {
        self.tree.layer(spot)
    }

    pub fn scope_at(&self, spot: Spot) -> Option<&Scope> {
        self.tree.scope(spot)
    }

    pub fn path_at(&self, spot: Spot) -> String {
        self.tree.path(spot)
    }

    /// The inputs by name.
    pub fn inputs(&self) -> &IndexMap<String, NodeId> {
        &self.inputs
    }

    /// The outputs by name; the network's own is [`OWN_OUTPUT`].
    pub fn outputs(&self) -> &IndexMap<String, Output> {
        &self.outputs
    }

    /// What parts of the network are for, by name.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// What `id` takes, in order.
    pub fn operands(&self, id: NodeId) -> Vec<NodeId> {
        self.slot(id).operands.iter().map(|operand| self.source(*operand)).collect()
    }

    /// Every use of the node's value, in the order of the graph.
    pub fn uses(&self, id: NodeId) -> Vec<Use> {
        let mut readers: Vec<(u64, NodeId, usize)> =
            self.readers(id).map(|(node, slot)| (self.node(node).rank, node, slot)).collect();
        readers.sort_unstable();
        let operands = readers.into_iter().map(|(_, node, slot)| Use::Operand { node, slot });
        operands.chain(self.output_names(id).map(|name| Use::Output(name.to_string()))).collect()
    }

    /// The nodes that take the node's value, and as which operand, in no particular order.
    pub fn readers(&self, id: NodeId) -> impl Iterator<Item = (NodeId, usize)> {
        self.nodes.edges_directed(id, Direction::Outgoing).map(|edge| (edge.target(), *edge.weight()))
    }

    /// The outputs of the network that are taken at the node.
    pub fn output_names(&self, id: NodeId) -> impl Iterator<Item = &str> {
        let outputs = if self.slot(id).outputs > 0 { Some(&self.outputs) } else { None };
        let taken = outputs.into_iter().flatten().filter(move |(_, output)| output.node == id);
        taken.map(|(name, _)| name.as_str())
    }

    /// All nodes, in no particular order.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.node_indices().filter(|id| self.nodes[*id].is_some())
    }

    /// The node whose tensors `id` uses: itself, or what it is tied to.
    pub fn owner(&self, id: NodeId) -> NodeId {
        let mut at = id;
        while let Some(next) = self.node(at).tied {
            at = next;
        }
        at
    }

    /// The nodes that use the tensors of `id` instead of their own.
    pub fn ties(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        self.slot(id).tied.iter().copied()
    }

    /// The nodes that some output needs.
    pub fn live(&self) -> rustc_hash::FxHashSet<NodeId> {
        let mut live = rustc_hash::FxHashSet::default();
        let mut stack: Vec<NodeId> = self.outputs.values().map(|output| output.node).collect();
        while let Some(id) = stack.pop() {
            if live.insert(id) {
                stack.extend(self.operands(id));
            }
        }
        live
    }

    /// The nodes on one shortest way from a node's readers back to it, itself last.
    pub fn circle(&self, id: NodeId) -> Option<Vec<NodeId>> {
        let mut came: rustc_hash::FxHashMap<NodeId, NodeId> = rustc_hash::FxHashMap::default();
        let mut queue = std::collections::VecDeque::from([id]);
        while let Some(at) = queue.pop_front() {
            for (reader, _) in self.readers(at) {
                if came.contains_key(&reader) {
                    continue;
                }
                came.insert(reader, at);
                if reader == id {
                    let before = |node: &NodeId| Some(came[node]).filter(|before| *before != id);
                    let mut circle: Vec<NodeId> = std::iter::successors(Some(id), before).collect();
                    circle.reverse();
                    return Some(circle);
                }
                queue.push_back(reader);
            }
        }
        None
    }

    /// The nodes on one shortest way along operands from `from` to `to`, both included.
    pub fn way(&self, from: NodeId, to: NodeId) -> Option<Vec<NodeId>> {
        let mut came: rustc_hash::FxHashMap<NodeId, NodeId> = rustc_hash::FxHashMap::default();
        let mut queue = std::collections::VecDeque::from([from]);
        while let Some(id) = queue.pop_front() {
            if id == to {
                let mut way = vec![to];
                while let Some(before) = came.get(way.last().expect("never empty")) {
                    way.push(*before);
                }
                way.reverse();
                return Some(way);
            }
            for (reader, _) in self.readers(id) {
                if reader != from && !came.contains_key(&reader) {
                    came.insert(reader, id);
                    queue.push_back(reader);
                }
            }
        }
        None
    }

    /// Shapes of the operands; None while one is not known.
    pub fn operand_shapes(&self, id: NodeId) -> Option<Vec<&Shape>> {
        self.slot(id).operands.iter().map(|operand| self.node(self.source(*operand)).shape.as_ref()).collect()
    }

    /// The node and the shapes that it takes.
    pub fn layer(&self, id: NodeId) -> Layer<'_> {
        Layer { node: self.node(id), ins: self.operand_shapes(id) }
    }

    /// The tensors of a node by PyTorch's names; None while its input is not known. Those of a tied node are listed
    /// too, though they belong to its owner.
    pub fn params(&self, id: NodeId) -> Option<Vec<ParamDecl>> {
        self.layer(id).params()
    }

    /// Multiply-adds of the node for one sample; None while a shape is not known.
    pub fn macs(&self, id: NodeId) -> Option<u64> {
        self.layer(id).macs()
    }

    /// Whether the tensors of a layer of the base have other shapes than there, although nothing asked for it. What a tied layer
    /// needs hangs on its owner.
    pub fn differs_from_base(&self, id: NodeId) -> bool {
        let node = self.node(id);
        let Some(base) = node.base.as_ref().filter(|_| node.tied.is_none() && !node.reshaped) else { return false };
        let is_other = |(new, old): (&ParamDecl, &ParamDecl)| new.shape != old.shape || new.name != old.name;
        self.params(id).is_some_and(|params| params.iter().zip(&base.params).any(is_other))
    }

    /// The edit that is to blame where a layer does not fit: since which it does not, else the one that last touched it, else the
    /// nearest one among what flows into it.
    pub fn to_blame(&self, id: NodeId) -> Option<Span> {
        self.node(id).broken.or_else(|| self.last_edit(id))
    }

    /// The edit that last touched the node, else the nearest one among what flows into it.
    pub fn last_edit(&self, id: NodeId) -> Option<Span> {
        let mut seen = rustc_hash::FxHashSet::from_iter([id]);
        let mut queue = std::collections::VecDeque::from([id]);
        while let Some(at) = queue.pop_front() {
            let touched = self.node(at).touched;
            if touched.is_some() {
                return touched;
            }
            queue.extend(self.operands(at).into_iter().filter(|operand| seen.insert(*operand)));
        }
        None
    }

    /// Whether nothing batched flows into it: a value of parameters alone.
    pub fn is_constant(&self, id: NodeId) -> bool {
        self.node(id).shape.as_ref().is_some_and(|shape| !shape.batched)
    }

    /// Says what a node puts out; what shapes are is the check's to say, which changes nothing else.
    pub(crate) fn set_shape(&mut self, id: NodeId, shape: Option<Shape>) {
        self.nodes[id].as_mut().expect("the node is there").node.shape = shape;
    }

    /// Checks the invariants of the whole graph.
    ///
    /// # Panics
    /// If one does not hold.
    pub(crate) fn check(&self) {
        self.ids().for_each(|id| self.check_node(id));
        assert_eq!(self.ids().count(), self.len, "nodes are counted");
        assert_eq!(self.order().len(), self.len, "the graph is acyclic");
        for (name, output) in &self.outputs {
            assert!(self.get(output.node).is_some(), "an output is a node: {name}");
        }
    }

    /// Checks what an edit could have broken about one node.
    fn check_node(&self, id: NodeId) {
        let Slot { node, operands, tied, .. } = self.slot(id);
        assert_eq!(self.find(&node.path), Some(id), "every path names its node: {}", node.path);
        for (slot, operand) in operands.iter().enumerate() {
            let is_whole = self.nodes.edge_endpoints(*operand).is_some_and(|(source, reader)| {
                reader == id && self.nodes[*operand] == slot && self.get(source).is_some()
            });
            assert!(is_whole, "operands are complete: {}", node.path);
        }
        let edges = self.nodes.edges_directed(id, Direction::Incoming).count();
        assert_eq!(edges, operands.len(), "every edge is an operand: {}", node.path);
        for edge in self.nodes.edges_directed(id, Direction::Outgoing) {
            let reader = self.nodes[edge.target()].as_ref();
            let takes = reader.is_some_and(|reader| reader.operands.get(*edge.weight()) == Some(&edge.id()));
            assert!(takes, "a use is an operand: {}", node.path);
        }
        let has_owner = |owner: NodeId| self.nodes[owner].as_ref().is_some_and(|owner| owner.tied.contains(&id));
        assert!(node.tied.is_none_or(has_owner), "a tie has an owner: {}", node.path);
        assert!(tied.iter().all(|other| self.node(*other).tied == Some(id)), "an owner has its ties: {}", node.path);
    }
}

/// The key of a tensor: the layer's path and the tensor's name in it.
pub fn key(path: &str, name: &str) -> String {
    if name.is_empty() { path.to_string() } else { format!("{path}.{name}") }
}
