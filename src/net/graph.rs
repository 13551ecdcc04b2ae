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
        // a node that depends on itself, which only a mistake makes, is no reason to go round for ever
        let mut entered = done.clone();
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
                } else if !std::mem::replace(&mut entered[id.0], true) {
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
            if node.epilogue.is_rare() && !node.kind.has_rare() {
                fail("takes no rare function");
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::net::{Identity, Softmax};

    fn shape() -> Shape {
        Shape::batched([4])
    }

    /// x, then as many functions of it in a row, the last of which is the output.
    fn line(count: usize) -> (Net, Vec<Id>) {
        let mut net = Net::default();
        let mut ids = vec![net.add_input("x", shape(), vec![])];
        for _ in 0..count {
            let last = ids[ids.len() - 1];
            ids.push(net.add(Node::new(Softmax { axis: 1, log: false }, vec![last], shape(), vec![])));
        }
        net.set_outputs(vec![("output".into(), ids[count])]);
        net.check("line");
        (net, ids)
    }

    #[test]
    fn what_nobody_reads_goes_with_all_that_it_alone_needed() {
        let (mut net, ids) = line(4);
        net.redirect(ids[3], ids[0]);
        assert!([1, 2, 3].iter().all(|at| net.get(ids[*at]).is_none()));
        assert_eq!(net.node(ids[4]).operands, [ids[0]]);
        assert_eq!((net.uses(ids[0]), net.uses(ids[4])), (1, 1));
        net.check("redirect");
        // an output that moves, and an input that nobody reads
        net.redirect(ids[4], ids[0]);
        assert_eq!(net.order(), [ids[0]]);
        assert!(net.is_output(ids[0]));
        net.check("redirect");
    }

    #[test]
    fn readers_are_those_of_the_node_that_is_there() {
        let (mut net, ids) = line(2);
        let twice = Epilogue { residual: Some(ids[1]), ..Epilogue::default() };
        net.set(ids[2], Node { epilogue: twice, ..Node::new(Identity, vec![ids[1]], shape(), vec![]) });
        assert_eq!((net.uses(ids[1]), net.readers(ids[1])), (2, vec![ids[2]]));
        assert_eq!(net.only_reader(ids[1]), Some(ids[2]));
        net.change(ids[2], |node| node.operands[0] = ids[0]);
        assert_eq!((net.uses(ids[1]), net.uses(ids[0])), (1, 2));
        net.check("change");
        // two of one are moved both
        net.change(ids[2], |node| node.operands[0] = ids[1]);
        net.redirect(ids[1], ids[0]);
        assert_eq!((net.get(ids[1]), net.uses(ids[0])), (None, 2));
        net.check("redirect");
    }

    #[test]
    fn sweeping_leaves_inputs_and_what_outputs_need() {
        let (mut net, ids) = line(1);
        let unused = net.add_input("unused", shape(), vec![]);
        let dead = net.add(Node::new(Identity, vec![unused], shape(), vec![]));
        net.sweep();
        assert_eq!((net.get(dead), net.uses(unused)), (None, 0));
        assert!([ids[0], ids[1], unused].iter().all(|id| net.get(*id).is_some()));
        net.check("sweep");
    }

    #[test]
    fn what_does_not_hold_is_found() {
        type Break = fn(&mut Node, &[Id]);
        let breaks: &[(&str, Break)] = &[
            ("depends on itself", |node, ids| node.operands[0] = ids[2]),
            ("takes no epilogue", |node, _| node.epilogue.after = archc_base::Act::Relu),
            ("takes no epilogue", |node, ids| node.epilogue.gate = Some(ids[0])),
            ("needs a bias", |node, ids| node.epilogue.bias = Some(ids[0])),
        ];
        for (what, broken) in breaks {
            let (mut net, ids) = line(3);
            net.change(ids[1], |node| broken(node, &ids));
            let message = catch_unwind(AssertUnwindSafe(|| net.check("a pass"))).expect_err("it does not hold");
            let message = message.downcast_ref::<String>().expect("a text");
            assert!(message.contains(what) && message.contains("a pass"), "{message}");
        }
    }
}
