//! A network of steps. Who reads a value is kept up to date with every change, and a value that nobody reads any more is
//! gone; [`Net::check`] holds the rest of what passes may rely on.

use super::epilogue::{Epilogue, Squeeze};
use super::{Accepts, Constant, Input, Kind, Stored};
use crate::graph::NodeId;
use crate::ops::shape::Shape;

/// A node of a [`Net`], and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub usize);

/// One step: `after(before(kind(operands) + bias) * gate + residual)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub kind: Kind,
    pub operands: Vec<Id>,
    /// What is done to the result before it is stored. Only what the kind [accepts](super::Step::accepts).
    pub epilogue: Epilogue,
    pub shape: Shape,
    /// The layers that it does the work of, the one that made it first.
    pub layers: Vec<NodeId>,
}

/// A tensor that a network in training changes: tensor `index` of the layer `node`, which owns it.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub node: NodeId,
    pub index: usize,
    pub shape: Vec<usize>,
    /// By a gradient; else a running statistic.
    pub learned: bool,
}

/// A lowered network.
#[derive(Clone, Debug, Default)]
pub struct Net {
    nodes: Vec<Option<Node>>,
    /// The nodes that read each value, one that does so twice twice.
    readers: Vec<Vec<Id>>,
    inputs: Vec<(String, Id)>,
    outputs: Vec<(String, Id)>,
    /// What changes from step to step, of a network that is trained.
    pub states: Vec<State>,
}

impl Node {
    pub fn new(kind: impl Into<Kind>, operands: Vec<Id>, shape: Shape, layers: Vec<NodeId>) -> Node {
        Node { kind: kind.into(), operands, epilogue: Epilogue::default(), shape, layers }
    }

    /// Everything it reads: operands, then bias, gate and residual.
    pub fn reads(&self) -> impl Iterator<Item = Id> + '_ {
        let Epilogue { bias, gate, residual, .. } = self.epilogue;
        self.operands.iter().copied().chain(bias).chain(gate).chain(residual)
    }

    fn reads_mut(&mut self) -> impl Iterator<Item = &mut Id> {
        let Epilogue { bias, gate, residual, .. } = &mut self.epilogue;
        self.operands.iter_mut().chain(bias).chain(gate).chain(residual)
    }
}

impl Net {
    /// # Panics
    /// If it reads what is not there.
    pub fn add(&mut self, node: Node) -> Id {
        let id = Id(self.nodes.len());
        for read in node.reads() {
            assert!(self.nodes[read.0].is_some(), "{} is read after its removal", read.0);
            self.readers[read.0].push(id);
        }
        self.nodes.push(Some(node));
        self.readers.push(vec![]);
        id
    }

    /// One more input.
    pub fn add_input(&mut self, name: impl Into<String>, shape: Shape, layers: Vec<NodeId>) -> Id {
        let id = self.add(Node::new(Input(self.inputs.len()), vec![], shape, layers));
        self.inputs.push((name.into(), id));
        id
    }

    /// # Panics
    /// If the node was removed.
    pub fn node(&self, id: Id) -> &Node {
        self.nodes[id.0].as_ref().expect("the node is still there")
    }

    pub fn get(&self, id: Id) -> Option<&Node> {
        self.nodes.get(id.0)?.as_ref()
    }

    /// Puts `node` in place of what `id` is; what nobody reads any more goes.
    ///
    /// # Panics
    /// If `id` was removed, or the node reads what is not there.
    pub fn set(&mut self, id: Id, node: Node) {
        for read in node.reads() {
            assert!(self.nodes[read.0].is_some(), "{} is read after its removal", read.0);
            self.readers[read.0].push(id);
        }
        let old = self.nodes[id.0].replace(node).expect("the node is still there");
        self.forget(id, &old);
    }

    /// [`Net::set`] of what `change` makes of the node.
    pub fn change(&mut self, id: Id, change: impl FnOnce(&mut Node)) {
        let mut node = self.node(id).clone();
        change(&mut node);
        self.set(id, node);
    }

    /// Lets everything that reads `from` read `to`, which does not depend on it; `from` goes.
    pub fn redirect(&mut self, from: Id, to: Id) {
        for reader in std::mem::take(&mut self.readers[from.0]) {
            let node = self.nodes[reader.0].as_mut().expect("who reads is there");
            // a node that reads it twice is listed twice
            if let Some(read) = node.reads_mut().find(|read| **read == from) {
                *read = to;
                self.readers[to.0].push(reader);
            }
        }
        self.outputs.iter_mut().filter(|(_, id)| *id == from).for_each(|(_, id)| *id = to);
        self.release(from);
    }

    /// Removes the nodes that no output needs and nothing that is kept from step to step, but inputs.
    pub fn sweep(&mut self) {
        // operands come after who reads them
        for id in self.order().into_iter().rev() {
            if self.get(id).is_some() {
                self.release(id);
            }
        }
    }

    fn forget(&mut self, reader: Id, old: &Node) {
        for read in old.reads() {
            let readers = &mut self.readers[read.0];
            let at = readers.iter().position(|other| *other == reader).expect("who reads is listed");
            readers.swap_remove(at);
            self.release(read);
        }
    }

    /// Removes a node that nobody needs, and what it alone needed.
    fn release(&mut self, id: Id) {
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            let Some(node) = self.get(id) else { continue };
            let kept = matches!(node.kind, Kind::Input(_)) || node.kind.is_sink();
            if kept || self.uses(id) > 0 {
                continue;
            }
            let old = self.nodes[id.0].take().expect("it was just seen");
            for read in old.reads() {
                let readers = &mut self.readers[read.0];
                let at = readers.iter().position(|other| *other == id).expect("who reads is listed");
                readers.swap_remove(at);
                stack.push(read);
            }
        }
    }

    /// How often a value is read, outputs counted.
    pub fn uses(&self, id: Id) -> usize {
        self.readers[id.0].len() + self.outputs.iter().filter(|(_, output)| *output == id).count()
    }

    /// The nodes that read a value, each once.
    pub fn readers(&self, id: Id) -> Vec<Id> {
        let mut readers = self.readers[id.0].clone();
        readers.sort_unstable();
        readers.dedup();
        readers
    }

    /// The one node that reads a value, unless it is an output as well.
    pub fn only_reader(&self, id: Id) -> Option<Id> {
        let [reader] = self.readers(id)[..] else { return None };
        (!self.is_output(id)).then_some(reader)
    }

    pub fn is_output(&self, id: Id) -> bool {
        self.outputs.iter().any(|(_, output)| *output == id)
    }

    /// The constant that a value is, if it is one.
    pub fn constant(&self, id: Id) -> Option<&Constant> {
        match &self.node(id).kind {
            Kind::Constant(constant) => Some(constant),
            _ => None,
        }
    }

    /// Whether all weights of a node, its bias among them, are constants.
    pub fn is_known(&self, id: Id) -> bool {
        let node = self.node(id);
        let weights = node.operands.iter().enumerate().filter(|(at, _)| node.kind.is_weight(*at)).map(|(_, read)| read);
        weights.chain(&node.epilogue.bias).all(|read| self.constant(*read).is_some())
    }

    /// A new constant; `layers` are those that it is a tensor of.
    pub fn add_constant(&mut self, constant: Constant, layers: Vec<NodeId>) -> Id {
        let shape = Shape::fixed(constant.shape());
        self.add(Node::new(constant, vec![], shape, layers))
    }

    pub fn inputs(&self) -> &[(String, Id)] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[(String, Id)] {
        &self.outputs
    }

    pub fn set_outputs(&mut self, outputs: Vec<(String, Id)>) {
        self.outputs = outputs;
    }

    /// Numbers that ids stay below.
    pub fn bound(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes, operands before what reads them; otherwise as they were added.
    pub fn order(&self) -> Vec<Id> {
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut done = vec![false; self.nodes.len()];
        // Iterative, so that a network of any depth fits the stack.
        let mut stack: Vec<(Id, bool)> = vec![];
        for start in (0..self.nodes.len()).filter(|at| self.nodes[*at].is_some()) {
            stack.push((Id(start), false));
            while let Some((id, ready)) = stack.pop() {
                if done[id.0] {
                    continue;
                }
                if ready {
                    done[id.0] = true;
                    order.push(id);
                } else {
                    stack.push((id, true));
                    let reads: Vec<Id> = self.node(id).reads().filter(|read| !done[read.0]).collect();
                    stack.extend(reads.into_iter().rev().map(|read| (read, false)));
                }
            }
        }
        order
    }

    /// Checks what every pass must keep; `after` names the one that ran last.
    ///
    /// # Panics
    /// If something does not hold, which is a mistake of that pass.
    pub fn check(&self, after: &str) {
        let mut place = vec![usize::MAX; self.nodes.len()];
        let order = self.order();
        order.iter().enumerate().for_each(|(at, id)| place[id.0] = at);
        let mut reads = vec![0; self.nodes.len()];
        for id in &order {
            let node = self.node(*id);
            let fail = |what: &str| panic!("after `{after}`: %{} = {}: {what}", id.0, node.kind.name());
            for read in node.reads() {
                reads[read.0] += 1;
                match self.get(read) {
                    None => fail("reads what is not there"),
                    Some(_) if place[read.0] >= place[id.0] => fail("depends on itself"),
                    Some(_) => {}
                }
            }
            let Epilogue { bias, gate, residual, squeeze, .. } = node.epilogue;
            let accepts = node.kind.accepts();
            if accepts == Accepts::Nothing && !node.epilogue.is_none() {
                fail("takes no epilogue");
            }
            if gate.is_some() && accepts != Accepts::Gate {
                fail("takes no gate");
            }
            if squeeze != Squeeze::None && !matches!(node.kind, Kind::Conv(_)) {
                fail("leaves no means");
            }
            if bias.is_some_and(|bias| self.node(bias).shape.batched || self.node(bias).shape.rank() != 1) {
                fail("needs a bias of one number a channel");
            }
            if residual.is_some_and(|residual| squeeze != Squeeze::Only && self.node(residual).shape != node.shape) {
                fail("needs a residual of its shape");
            }
            if let Kind::Means(_) = node.kind
                && self.node(node.operands[0]).epilogue.squeeze != Squeeze::Also
            {
                fail("its operand leaves no means");
            }
        }
        let kept = self.readers.iter().map(Vec::len);
        assert!(kept.eq(reads), "after `{after}`: readers are not those that read");
        let named = self.inputs.iter().chain(&self.outputs);
        assert!(named.clone().all(|(_, id)| self.get(*id).is_some()), "after `{after}`: an input or output is gone");
    }

    /// The state that a value is, if it is one.
    pub fn state(&self, id: Id) -> Option<usize> {
        match self.node(id).kind {
            Kind::State(Stored(state)) => Some(state),
            _ => None,
        }
    }
}
