//! The network as a graph: a node a layer, an edge an operand.
//!
//! A node has one output and one path that nobody else has. Scopes (what braces made) are kept beside the nodes: `at`,
//! `path:block` and automatic names need them. The graph changes only through [`Graph::patch`], whose commit checks the
//! invariants: acyclic, operands complete, paths unique, nothing dangling. Shapes are inferred as nodes are made, with
//! holes where something does not fit; [`crate::typed`] reports the holes after the last edit.

mod dump;
mod patch;
pub mod path;

use indexmap::IndexMap;
use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::{EdgeRef, IntoEdgeReferences};

pub use patch::{NewNode, Patch};

use crate::ops::init::Init;
use crate::ops::shape::Shape;
use crate::ops::{Op, ParamDecl};
use crate::source::Span;

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
    /// Its key prefix in the base's weight file, for a layer of the base.
    pub base: Option<Base>,
    /// The node whose tensors it uses instead of its own.
    pub tied: Option<NodeId>,
    /// No gradient, statistics kept.
    pub frozen: bool,
    /// The tensors that `init` lines fill.
    pub inits: Vec<Filled>,
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

/// The name of the network's own output.
pub const OWN_OUTPUT: &str = "output";

/// A network.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: StableDiGraph<Node, usize>,
    by_path: rustc_hash::FxHashMap<String, NodeId>,
    scopes: IndexMap<String, Scope>,
    inputs: IndexMap<String, NodeId>,
    outputs: IndexMap<String, Output>,
}

impl Graph {
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Runs `change` on a patch and keeps what it did, or nothing where it fails.
    pub fn patch<T, E>(&mut self, change: impl FnOnce(&mut Patch) -> Result<T, E>) -> Result<T, E> {
        let mut patch = Patch::new(self.clone());
        let value = change(&mut patch)?;
        *self = patch.commit();
        Ok(value)
    }

    /// The graph to be changed in place, until [`Patch::commit`].
    pub(crate) fn into_patch(self) -> Patch {
        Patch::new(self)
    }

    /// # Panics
    /// If the node is gone.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.node_weight(id)
    }

    pub fn find(&self, path: &str) -> Option<NodeId> {
        self.by_path.get(path).copied()
    }

    pub fn len(&self) -> usize {
        self.nodes.node_count()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.node_count() == 0
    }

    /// The scopes by path, parents before what they hold. The network itself has the empty path.
    pub fn scopes(&self) -> &IndexMap<String, Scope> {
        &self.scopes
    }

    /// The inputs by name.
    pub fn inputs(&self) -> &IndexMap<String, NodeId> {
        &self.inputs
    }

    /// The outputs by name; the network's own is [`OWN_OUTPUT`].
    pub fn outputs(&self) -> &IndexMap<String, Output> {
        &self.outputs
    }

    /// What `id` takes, in order.
    pub fn operands(&self, id: NodeId) -> Vec<NodeId> {
        let mut edges: Vec<(usize, NodeId)> =
            self.nodes.edges_directed(id, Direction::Incoming).map(|edge| (*edge.weight(), edge.source())).collect();
        edges.sort_unstable();
        edges.into_iter().map(|(_, source)| source).collect()
    }

    /// Every use of the node's value, in the order of the graph.
    pub fn uses(&self, id: NodeId) -> Vec<Use> {
        let mut edges: Vec<(u64, NodeId, usize)> = self
            .nodes
            .edges_directed(id, Direction::Outgoing)
            .map(|edge| (self.nodes[edge.target()].rank, edge.target(), *edge.weight()))
            .collect();
        edges.sort_unstable();
        let outputs = self.outputs.iter().filter(|(_, output)| output.node == id);
        let operands = edges.into_iter().map(|(_, node, slot)| Use::Operand { node, slot });
        operands.chain(outputs.map(|(name, _)| Use::Output(name.clone()))).collect()
    }

    /// All nodes in the order in which the network runs, ties by rank (where they were written).
    pub fn order(&self) -> Vec<NodeId> {
        let bound = self.nodes.node_indices().map(|id| id.index() + 1).max().unwrap_or(0);
        let mut waiting = vec![0usize; bound];
        for edge in self.nodes.edge_references() {
            waiting[edge.target().index()] += 1;
        }
        let mut ready: std::collections::BTreeSet<(u64, NodeId)> = self
            .nodes
            .node_indices()
            .filter(|id| waiting[id.index()] == 0)
            .map(|id| (self.nodes[id].rank, id))
            .collect();
        let mut order = Vec::with_capacity(self.len());
        while let Some((_, id)) = ready.pop_first() {
            order.push(id);
            for edge in self.nodes.edges_directed(id, Direction::Outgoing) {
                let target = edge.target();
                waiting[target.index()] -= 1;
                if waiting[target.index()] == 0 {
                    ready.insert((self.nodes[target].rank, target));
                }
            }
        }
        order
    }

    /// All nodes, in no particular order.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.node_indices()
    }

    /// The node whose tensors `id` uses: itself, or what it is tied to.
    pub fn owner(&self, id: NodeId) -> NodeId {
        let mut at = id;
        while let Some(next) = self.nodes[at].tied {
            at = next;
        }
        at
    }

    /// The nodes that some output needs.
    pub fn live(&self) -> rustc_hash::FxHashSet<NodeId> {
        let mut live = rustc_hash::FxHashSet::default();
        let mut stack: Vec<NodeId> = self.outputs.values().map(|output| output.node).collect();
        while let Some(id) = stack.pop() {
            if live.insert(id) {
                stack.extend(self.nodes.neighbors_directed(id, Direction::Incoming));
            }
        }
        live
    }

    /// Whether `to` can be reached from `from` along operands; true for the node itself.
    pub fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        self.way(from, to).is_some()
    }

    /// The nodes on one shortest way from `from` to `to`, both included.
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
            for edge in self.nodes.edges_directed(id, Direction::Outgoing) {
                let target = edge.target();
                if target != from && !came.contains_key(&target) {
                    came.insert(target, id);
                    queue.push_back(target);
                }
            }
        }
        None
    }

    /// Shapes of the operands; None while one is not known.
    pub fn operand_shapes(&self, id: NodeId) -> Option<Vec<&Shape>> {
        self.operands(id).into_iter().map(|operand| self.nodes[operand].shape.as_ref()).collect()
    }

    /// The tensors of a node by PyTorch's names; None while its input is not known. Those of a tied node are listed
    /// too, though they belong to its owner.
    pub fn params(&self, id: NodeId) -> Option<Vec<ParamDecl>> {
        let ins = self.operand_shapes(id)?;
        let op = &self.nodes[id].op;
        op.infer(&ins).ok()?;
        Some(op.params(&ins))
    }

    /// Multiply-adds of the node for one sample; None while a shape is not known.
    pub fn macs(&self, id: NodeId) -> Option<u64> {
        let (ins, node) = (self.operand_shapes(id)?, &self.nodes[id]);
        Some(node.op.macs(&ins, node.shape.as_ref()?))
    }

    /// Whether nothing batched flows into it: a value of parameters alone.
    pub fn is_constant(&self, id: NodeId) -> bool {
        self.nodes[id].shape.as_ref().is_some_and(|shape| !shape.batched)
    }
}

/// The key of a tensor: the layer's path and the tensor's name in it.
pub fn key(path: &str, name: &str) -> String {
    if name.is_empty() { path.to_string() } else { format!("{path}.{name}") }
}
