//! Says every op of a typed graph in the kinds of a [`Net`], eval mode: dropout is the identity, a batch norm its running
//! statistics, attention its two matrix products. An op without a plainer form stays itself ([`Kind::Op`]).

use rustc_hash::FxHashMap;

use super::{Act, Arithmetic, ChannelMap, Epilogue, Id, Kind, Net, Node, Source, Weights, Window};
use crate::graph::NodeId;
use crate::ops::Op;
use crate::ops::attr::Pair;
use crate::ops::shape::Shape;
use crate::typed::Typed;

/// The graph's nodes that some output needs, and its inputs.
pub fn lower(typed: &Typed) -> Net {
    let graph = typed.graph();
    let live = graph.live();
    let mut lower = Lower { typed, net: Net::default(), ids: FxHashMap::default(), node: NodeId::default() };
    for (number, (name, id)) in graph.inputs().iter().enumerate() {
        lower.node = *id;
        let value = lower.add(Kind::Input(number), vec![], typed.shape(*id).clone());
        lower.ids.insert(*id, value);
        lower.net.inputs.push((name.clone(), value));
    }
    for id in typed.order() {
        if live.contains(id) && !lower.ids.contains_key(id) && typed.shape(*id).batched {
            lower.node = *id;
            let value = lower.op();
            lower.ids.insert(*id, value);
        }
    }
    for (name, output) in graph.outputs() {
        let value = lower.value(output.node);
        lower.net.outputs.push((name.clone(), value));
    }
    lower.net
}

struct Lower<'a> {
    typed: &'a Typed,
    net: Net,
    ids: FxHashMap<NodeId, Id>,
    /// The node that is lowered now.
    node: NodeId,
}

impl Lower<'_> {
    fn add(&mut self, kind: Kind, operands: Vec<Id>, shape: Shape) -> Id {
        self.net.add(Node { kind, operands, epilogue: Epilogue::default(), shape, layers: vec![self.node] })
    }

    /// The value of a node of the graph; one of parameters alone becomes a constant.
    fn value(&mut self, node: NodeId) -> Id {
        if let Some(id) = self.ids.get(&node) {
            return *id;
        }
        let shape = self.typed.shape(node).clone();
        let source = Source::Value { node, shape: shape.dims.clone() };
        let kind = Kind::Constant(source);
        let id =
            self.net.add(Node { kind, operands: vec![], epilogue: Epilogue::default(), shape, layers: vec![node] });
        self.ids.insert(node, id);
        id
    }

    /// Tensor `index` of the node that is lowered now.
    fn param(&self, index: usize) -> Source {
        let shape = self.typed.params(self.node)[index].shape.clone();
        Source::Param { node: self.typed.graph().owner(self.node), index, shape }
    }

    fn weights(&self, bias: bool) -> Weights {
        Weights::new(self.param(0), bias.then(|| self.param(1)))
    }

    fn op(&mut self) -> Id {
        let typed = self.typed;
        let graph = typed.graph();
        let out = typed.shape(self.node).clone();
        let nodes = graph.operands(self.node);
        let ins: Vec<Id> = nodes.iter().map(|node| self.value(*node)).collect();
        match &graph.node(self.node).op {
            Op::Conv2d(conv) => {
                let input = typed.shape(nodes[0]);
                let geometry = conv.geometry(input).expect("the shape was inferred");
                let window = window(
                    conv.kernel,
                    conv.stride,
                    conv.dilation,
                    [geometry.pad_top, geometry.pad_left],
                    [geometry.height, geometry.width],
                    [geometry.out_height, geometry.out_width],
                );
                let weights = self.weights(conv.bias);
                self.add(Kind::Conv { window, groups: conv.groups, weights }, ins, out)
            }
            Op::Linear(linear) => {
                let weights = self.weights(linear.bias);
                self.add(Kind::Linear { weights }, ins, out)
            }
            Op::Add(add) => match add.number {
                Some(number) => self.map(ins[0], Act::Linear { scale: 1.0, shift: number as f32 }),
                None => self.binary(Arithmetic::Add, &ins, out),
            },
            op => {
                let params = (0..typed.params(self.node).len()).map(|index| self.param(index)).collect();
                self.add(Kind::Op { op: Box::new(op.clone()), params }, ins, out)
            }
        }
    }

    /// A function of each number.
    fn map(&mut self, x: Id, act: Act) -> Id {
        let shape = self.net.node(x).shape.clone();
        let id = self.add(Kind::Identity, vec![x], shape);
        self.net.node_mut(id).epilogue.after = act;
        id
    }

    fn binary(&mut self, op: Arithmetic, ins: &[Id], out: Shape) -> Id {
        let shape = |id: Id| &self.net.node(id).shape;
        if op == Arithmetic::Add && ins.iter().all(|id| *shape(*id) == out) {
            let id = self.add(Kind::Identity, vec![ins[0]], out);
            self.net.node_mut(id).epilogue.residual = Some(ins[1]);
            return id;
        }
        // a value of parameters alone that varies along one axis
        let swapped: Vec<Id> = if op == Arithmetic::Sub { ins.to_vec() } else { vec![ins[1], ins[0]] };
        for pair in [ins, &swapped] {
            if let Some((axis, source)) = self.channels(pair[0], pair[1], &out) {
                let map = match op {
                    Arithmetic::Add => ChannelMap::Shift(source),
                    Arithmetic::Mul => ChannelMap::Scale(source),
                    Arithmetic::Sub => continue,
                };
                return self.add(Kind::Channels { axis, maps: vec![map] }, vec![pair[0]], out);
            }
        }
        self.add(Kind::Binary { op }, ins.to_vec(), out)
    }

    /// The one axis of `x` along which the constant `c` varies, where `x` has the shape of the result.
    fn channels(&self, x: Id, c: Id, out: &Shape) -> Option<(usize, Source)> {
        let Kind::Constant(source) = &self.net.node(c).kind else { return None };
        let dims = source.shape();
        let long: Vec<usize> = (0..dims.len()).filter(|axis| dims[*axis] != 1).collect();
        let [axis] = long.as_slice() else { return None };
        // paired from the right
        let axis = (out.rank() + axis).checked_sub(dims.len())?;
        (self.net.node(x).shape == *out && axis > 0).then(|| (axis, source.clone()))
    }
}

/// A window with the padding below and right that gives just the output that there is.
fn window(
    kernel: Pair,
    stride: Pair,
    dilation: Pair,
    [top, left]: [usize; 2],
    [height, width]: [usize; 2],
    [out_height, out_width]: [usize; 2],
) -> Window {
    let after = |len: usize, out: usize, kernel: usize, stride: usize, dilation: usize, before: usize| {
        let reach = (out - 1) * stride + (kernel - 1) * dilation + 1;
        reach.saturating_sub(len + before)
    };
    let bottom = after(height, out_height, kernel.h, stride.h, dilation.h, top);
    let right = after(width, out_width, kernel.w, stride.w, dilation.w, left);
    Window {
        kernel: [kernel.h, kernel.w],
        stride: [stride.h, stride.w],
        padding: [top, left, bottom, right],
        dilation: [dilation.h, dilation.w],
    }
}
