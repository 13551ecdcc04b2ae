//! Says every op of a typed graph in the kinds of a [`Net`], eval mode: dropout is the identity, a batch norm its running
//! statistics, attention its two matrix products. An op without a plainer form stays itself ([`Kind::Op`]).

use archc_base::{Act, Binary, Pool, Reduce};
use rustc_hash::FxHashMap;

use super::lower_training::Training;
use super::{ChannelMap, Epilogue, Id, Kind, Net, Node, Source, Weights};
use crate::graph::NodeId;
use crate::ops::Op;
use crate::ops::shape::Shape;
use crate::typed::Typed;

/// The graph's nodes that some output needs, and its inputs.
pub fn lower(typed: &Typed) -> Net {
    run(typed, None)
}

pub(super) fn run(typed: &Typed, training: Option<Training>) -> Net {
    let graph = typed.graph();
    let live = graph.live();
    let mut lower = Lower { typed, net: Net::default(), ids: FxHashMap::default(), node: NodeId::default(), training };
    for (number, (name, id)) in graph.inputs().iter().enumerate() {
        lower.node = *id;
        let value = lower.add(Kind::Input(number), vec![], typed.shape(*id).clone());
        lower.ids.insert(*id, value);
        lower.net.inputs.push((name.clone(), value));
    }
    for id in typed.order() {
        let is_value = lower.training.as_ref().is_some_and(|training| training.is_value(*id));
        if live.contains(id) && !lower.ids.contains_key(id) && (typed.shape(*id).batched || is_value) {
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

pub(super) struct Lower<'a> {
    pub(super) typed: &'a Typed,
    pub(super) net: Net,
    ids: FxHashMap<NodeId, Id>,
    /// The node that is lowered now.
    pub(super) node: NodeId,
    pub(super) training: Option<Training<'a>>,
}

impl Lower<'_> {
    pub(super) fn add(&mut self, kind: Kind, operands: Vec<Id>, shape: Shape) -> Id {
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
    pub(super) fn param(&self, index: usize) -> Source {
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
        let op = &graph.node(self.node).op;
        if let Some(value) = self.training(op, &ins, &out) {
            return value;
        }
        if op.is_random() || matches!(op, Op::Identity(_)) {
            return self.add(Kind::Identity, ins, out);
        }
        if let Some(function) = op.activation() {
            return self.map(ins[0], function);
        }
        // the shape of the first operand, in full for images
        let input = nodes.first().map(|node| typed.shape(*node).clone()).unwrap_or(Shape::fixed([]));
        let axis = |axis: i64| input.resolve_axis(axis).expect("the shape was inferred");
        match op {
            Op::Conv2d(conv) => {
                let window = conv.window(&input);
                let weights = self.weights(conv.bias);
                self.add(Kind::Conv { window, groups: conv.groups, weights }, ins, out)
            }
            Op::Linear(linear) => {
                let weights = self.weights(linear.bias);
                self.add(Kind::Linear { weights }, ins, out)
            }
            Op::BatchNorm2d(norm) => {
                let [weight, bias, mean, var] = [0, 1, 2, 3].map(|index| self.param(index));
                let maps = vec![ChannelMap::Norm { weight, bias, mean, var, eps: norm.eps }];
                self.add(Kind::Channels { axis: 1, maps }, ins, out)
            }
            Op::LayerNorm(norm) => self.layer_norm(input.rank() - 1, norm.eps, ins, out),
            Op::LayerNorm2d(norm) => self.layer_norm(1, norm.eps, ins, out),
            Op::GroupNorm(norm) => {
                let (weight, bias) = (self.param(0), self.param(1));
                let kind = Kind::GroupNorm { groups: norm.groups, eps: norm.eps, weight, bias };
                if out.as_image().is_some() {
                    return self.add(kind, ins, out);
                }
                // whatever follows the channels is one line of pixels
                let line = Shape::image(out.dims[0], out.dims[1..].iter().product(), 1);
                let line_in = self.add(Kind::Reshape, ins, line.clone());
                let normed = self.add(kind, vec![line_in], line);
                self.add(Kind::Reshape, vec![normed], out)
            }
            Op::Prelu(_) => {
                let slope = self.param(0);
                self.add(Kind::PRelu { slope }, ins, out)
            }
            Op::Softmax(softmax) => {
                let axis = axis(softmax.axis);
                self.add(Kind::Softmax { axis, log: false }, ins, out)
            }
            Op::LogSoftmax(softmax) => {
                let axis = axis(softmax.axis);
                self.add(Kind::Softmax { axis, log: true }, ins, out)
            }
            Op::Normalize(normalize) => {
                let axis = axis(normalize.axis);
                self.add(Kind::Normalize { axis, eps: 1e-12 }, ins, out)
            }
            Op::MultiHeadAttention(attention) => self.attention(attention.heads, ins[0], out),
            Op::MaxPool2d(pool) => self.add(Kind::Pool { pool: Pool::Max, window: pool.window() }, ins, out),
            Op::AvgPool2d(pool) => {
                let count_padding = pool.count_include_pad;
                self.add(Kind::Pool { pool: Pool::Mean { count_padding }, window: pool.window() }, ins, out)
            }
            Op::AdaptiveAvgPool2d(_) => self.adaptive_pool(Reduce::Mean, ins, out),
            Op::AdaptiveMaxPool2d(_) => self.adaptive_pool(Reduce::Max, ins, out),
            Op::GlobalAvgPool2d(_) => self.add(Kind::Reduce { reduce: Reduce::Mean, axes: vec![2, 3] }, ins, out),
            Op::GlobalMaxPool2d(_) => self.add(Kind::Reduce { reduce: Reduce::Max, axes: vec![2, 3] }, ins, out),
            Op::Mean(mean) => {
                let axes = mean.axis.iter().map(|at| axis(*at)).collect();
                self.add(Kind::Reduce { reduce: Reduce::Mean, axes }, ins, out)
            }
            Op::Amax(amax) => {
                let axes = amax.axis.iter().map(|at| axis(*at)).collect();
                self.add(Kind::Reduce { reduce: Reduce::Max, axes }, ins, out)
            }
            Op::Upsample(upsample) => {
                let mode = upsample.mode;
                self.add(Kind::Resize { mode, scale: upsample.scale.map(|scale| [scale; 2]) }, ins, out)
            }
            Op::PixelShuffle(shuffle) => {
                let (r, dims) = (shuffle.r, out.dims.clone());
                let split = Shape::batched([dims[0], r, r, dims[1] / r, dims[2] / r]);
                let split = self.add(Kind::Reshape, ins, split);
                let moved = Shape::batched([dims[0], dims[1] / r, r, dims[2] / r, r]);
                let moved = self.add(Kind::Permute { axes: vec![0, 1, 4, 2, 5, 3] }, vec![split], moved);
                self.add(Kind::Reshape, vec![moved], out)
            }
            Op::ChannelShuffle(shuffle) => {
                let (groups, dims) = (shuffle.groups, out.dims.clone());
                let with = |first: usize, second: usize| {
                    let dims = [first, second].into_iter().chain(dims[1..].iter().copied());
                    Shape::batched(dims.collect::<Vec<_>>())
                };
                let split = self.add(Kind::Reshape, ins, with(groups, dims[0] / groups));
                let axes = [0, 2, 1].into_iter().chain(3..out.rank() + 1).collect();
                let moved = self.add(Kind::Permute { axes }, vec![split], with(dims[0] / groups, groups));
                self.add(Kind::Reshape, vec![moved], out)
            }
            Op::ConvTranspose2d(conv) => {
                let window = conv.window();
                let (groups, output_padding) = (conv.groups, conv.output_padding.0.sides());
                let weights = self.weights(conv.bias);
                self.add(Kind::ConvTranspose { window, groups, output_padding, weights }, ins, out)
            }
            Op::Flatten(_) | Op::Reshape(_) => self.add(Kind::Reshape, ins, out),
            Op::Permute(permute) => {
                let axes = permute.order(&input).expect("the shape was inferred");
                self.add(Kind::Permute { axes }, ins, out)
            }
            Op::Chunk(chunk) => {
                let axis = axis(chunk.axis);
                let from = chunk.part.unsigned_abs() as usize * out.axis(axis).expect("the shape was inferred");
                self.add(Kind::Slice { axis, from }, ins, out)
            }
            Op::Slice(slice) => {
                let (axis, range) = slice.range(&input).expect("the shape was inferred");
                self.add(Kind::Slice { axis, from: range.start }, ins, out)
            }
            Op::Pad(pad) => {
                let each = pad.each_axis(&input).expect("the shape was inferred");
                let before = each.into_iter().map(|(before, _)| before).collect();
                self.add(Kind::Pad { before, value: 0.0 }, ins, out)
            }
            Op::Roll(roll) => {
                let each = roll.each_axis(&input).expect("the shape was inferred");
                let shifts = each.into_iter().enumerate().filter(|(_, shift)| *shift != 0).collect();
                self.add(Kind::Roll { shifts }, ins, out)
            }
            Op::Concat(concat) => {
                let axis = out.resolve_axis(concat.axis).expect("the shape was inferred");
                self.add(Kind::Concat { axis }, ins, out)
            }
            Op::Matmul(_) => self.add(Kind::Matmul { scale: 1.0 }, ins, out),
            Op::Add(add) => match add.number {
                Some(number) => self.map(ins[0], Act::Linear { scale: 1.0, shift: number as f32 }),
                None => self.binary(Binary::Add, &ins, out),
            },
            Op::Mul(mul) => match mul.number {
                Some(number) => self.map(ins[0], Act::Linear { scale: number as f32, shift: 0.0 }),
                None => self.binary(Binary::Mul, &ins, out),
            },
            Op::Sub(sub) => match (sub.number, sub.swapped) {
                (Some(number), false) => self.map(ins[0], Act::Linear { scale: 1.0, shift: -number as f32 }),
                (Some(number), true) => self.map(ins[0], Act::Linear { scale: -1.0, shift: number as f32 }),
                (None, false) => self.binary(Binary::Sub, &ins, out),
                (None, true) => self.binary(Binary::Sub, &[ins[1], ins[0]], out),
            },
            op => {
                let params = (0..typed.params(self.node).len()).map(|index| self.param(index)).collect();
                self.add(Kind::Op { op: Box::new(op.clone()), params }, ins, out)
            }
        }
    }

    fn layer_norm(&mut self, axis: usize, eps: f64, ins: Vec<Id>, out: Shape) -> Id {
        let (weight, bias) = (self.param(0), self.param(1));
        self.add(Kind::LayerNorm { axis, eps, weight, bias }, ins, out)
    }

    /// One window over the whole image is a mean or maximum of all pixels.
    fn adaptive_pool(&mut self, reduce: Reduce, ins: Vec<Id>, out: Shape) -> Id {
        let kind = match out.as_image() {
            Some((_, 1, 1)) => Kind::Reduce { reduce, axes: vec![2, 3] },
            _ => Kind::AdaptivePool { reduce },
        };
        self.add(kind, ins, out)
    }

    /// Queries, keys and values side by side, their attention, and the map of its result.
    fn attention(&mut self, heads: usize, x: Id, out: Shape) -> Id {
        let [into, into_bias, onto, onto_bias] = [0, 1, 2, 3].map(|index| self.param(index));
        let features = out.last().expect("the shape was inferred");
        let all = out.with_axis(2, 3 * features);
        let all = self.add(Kind::Linear { weights: Weights::new(into, Some(into_bias)) }, vec![x], all);
        let parts =
            [0, 1, 2].map(|part| self.add(Kind::Slice { axis: 2, from: part * features }, vec![all], out.clone()));
        let scale = 1.0 / ((features / heads) as f32).sqrt();
        let attended = self.add(Kind::Attention { heads, scale }, parts.to_vec(), out.clone());
        self.add(Kind::Linear { weights: Weights::new(onto, Some(onto_bias)) }, vec![attended], out)
    }

    /// A function of each number.
    fn map(&mut self, x: Id, act: Act) -> Id {
        let shape = self.net.node(x).shape.clone();
        let id = self.add(Kind::Identity, vec![x], shape);
        self.net.node_mut(id).epilogue.after = act;
        id
    }

    fn binary(&mut self, op: Binary, ins: &[Id], out: Shape) -> Id {
        let shape = |id: Id| &self.net.node(id).shape;
        if op == Binary::Add && ins.iter().all(|id| *shape(*id) == out) {
            let id = self.add(Kind::Identity, vec![ins[0]], out);
            self.net.node_mut(id).epilogue.residual = Some(ins[1]);
            return id;
        }
        // a value of parameters alone that varies along one axis
        let swapped: Vec<Id> = if op == Binary::Sub { ins.to_vec() } else { vec![ins[1], ins[0]] };
        for pair in [ins, &swapped] {
            if let Some((axis, source)) = self.channels(pair[0], pair[1], &out) {
                let map = match op {
                    Binary::Add => ChannelMap::Shift(source),
                    Binary::Mul => ChannelMap::Scale(source),
                    Binary::Sub | Binary::SubFrom | Binary::Prelu => continue,
                };
                return self.add(Kind::Channels { axis, maps: vec![map] }, vec![pair[0]], out);
            }
        }
        // the larger operand first, as far as that is the same
        let turned = op != Binary::Sub && *shape(ins[0]) != out && *shape(ins[1]) == out;
        self.add(Kind::Binary { op }, if turned { swapped } else { ins.to_vec() }, out)
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
