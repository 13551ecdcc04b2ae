//! Lowering in training mode: tensors that are learned are values, batch norms take the statistics of the batch and move
//! the running ones, noise is drawn. What is frozen is lowered as in eval mode, so that every pass holds for it.

use rustc_hash::FxHashMap;

use super::lower::Lower;
use super::{Grain, Id, Kind, Learn, Net, State, Weights};
use crate::graph::NodeId;
use crate::ops::shape::Shape;
use crate::ops::{Op, Role};
use crate::philox::name_hash;
use crate::typed::Typed;

/// The input that noise depends on, where there is any: seed, then step, each as four numbers of 16 bits, the lowest
/// first. So a net in training is a function of its inputs and states alone.
pub const CLOCK: &str = "clock";

/// The graph's nodes that some output needs, and its inputs, in training mode. A layer is learned if it is not `frozen`;
/// tied layers go with the owner of their tensors.
pub fn lower_training(typed: &Typed, frozen: &dyn Fn(NodeId) -> bool) -> Net {
    let mut states = vec![];
    let graph = typed.graph();
    let live = graph.live();
    let owners = typed.order().iter().filter(|id| live.contains(id)).map(|id| graph.owner(*id));
    let mut seen = rustc_hash::FxHashSet::default();
    let learned: Vec<NodeId> = owners.filter(|id| seen.insert(*id) && !frozen(*id)).collect();
    for role in [Role::Weight, Role::Statistic] {
        for node in &learned {
            for (index, param) in typed.params(*node).into_iter().enumerate().filter(|(_, param)| param.role == role) {
                states.push(State { node: *node, index, shape: param.shape, learned: role == Role::Weight });
            }
        }
    }
    let numbers = states.iter().enumerate().map(|(at, state)| ((state.node, state.index), at)).collect();
    // values of parameters alone that are learned are values too
    let mut depends = rustc_hash::FxHashSet::default();
    for id in typed.order().iter().filter(|id| live.contains(id)) {
        let learns = !frozen(graph.owner(*id)) && typed.params(*id).iter().any(|param| param.role == Role::Weight);
        if learns || graph.operands(*id).iter().any(|operand| depends.contains(operand)) {
            depends.insert(*id);
        }
    }
    let training = Training { numbers, depends, frozen, ids: FxHashMap::default(), clock: None };
    let mut net = super::lower::run(typed, Some(training));
    net.states = states;
    net
}

/// What lowering needs to know in training mode.
pub(super) struct Training<'a> {
    numbers: FxHashMap<(NodeId, usize), usize>,
    /// Nodes whose value depends on a learned tensor.
    depends: rustc_hash::FxHashSet<NodeId>,
    frozen: &'a dyn Fn(NodeId) -> bool,
    /// The value of each state.
    ids: FxHashMap<usize, Id>,
    /// The input that noise is drawn by.
    clock: Option<Id>,
}

impl Training<'_> {
    /// Whether a node without a batch is a value all the same.
    pub(super) fn is_value(&self, node: NodeId) -> bool {
        self.depends.contains(&node)
    }
}

impl Lower<'_> {
    fn is_frozen(&self, node: NodeId) -> bool {
        self.training.as_ref().is_none_or(|training| (training.frozen)(self.typed.graph().owner(node)))
    }

    /// Tensor `index` of the node that is lowered now, as a value.
    fn state(&mut self, index: usize) -> Id {
        let owner = self.typed.graph().owner(self.node);
        let shape = Shape::fixed(self.typed.params(self.node)[index].shape.clone());
        let training = self.training.as_mut().expect("only in training");
        let number = training.numbers[&(owner, index)];
        if let Some(id) = training.ids.get(&number) {
            return *id;
        }
        let id = self.add(Kind::State(number), vec![], shape);
        self.training.as_mut().expect("only in training").ids.insert(number, id);
        id
    }

    fn learn(&mut self, learn: Learn, operands: Vec<Id>, out: Shape) -> Id {
        self.add(Kind::Learn(learn), operands, out)
    }

    /// The node in training mode, where that differs.
    pub(super) fn training(&mut self, op: &Op, ins: &[Id], out: &Shape) -> Option<Id> {
        self.training.as_ref()?;
        if self.is_frozen(self.node) {
            // backward needs its inside too, where something learned flows into it
            return match op {
                Op::MultiHeadAttention(attention) if self.training.as_ref()?.depends.contains(&self.node) => {
                    Some(self.attention_spelt_out(attention.heads, None, ins[0], out))
                }
                _ => None,
            };
        }
        let image = |ins: &[Id], lower: &Self| lower.net.node(ins[0]).shape.clone();
        let x = ins.first().copied();
        match op {
            Op::Dropout(drop) => Some(self.noise(x?, drop.p, Grain::Value, out)),
            Op::Dropout2d(drop) => Some(self.noise(x?, drop.p, Grain::Channel, out)),
            Op::StochasticDepth(depth) => Some(self.noise(x?, depth.p, Grain::Sample, out)),
            Op::Parameter(_) => Some(self.state(0)),
            Op::Conv2d(conv) => {
                let window = conv.window(&image(ins, self));
                let operands = self.with_weights(x?, conv.bias);
                Some(self.learn(Learn::Conv { window, groups: conv.groups }, operands, out.clone()))
            }
            Op::ConvTranspose2d(conv) => {
                let window = conv.window();
                let output_padding = conv.output_padding.0.sides();
                let operands = self.with_weights(x?, conv.bias);
                let learn = Learn::ConvTranspose { window, groups: conv.groups, output_padding };
                Some(self.learn(learn, operands, out.clone()))
            }
            Op::Linear(linear) => {
                let operands = self.with_weights(x?, linear.bias);
                Some(self.learn(Learn::Linear, operands, out.clone()))
            }
            Op::BatchNorm2d(norm) => {
                let (channels, height, width) = out.as_image().expect("the shape was inferred");
                let stats = self.learn(Learn::BatchStats, vec![x?], Shape::fixed([2, channels]));
                let owner = self.typed.graph().owner(self.node);
                let state = self.training.as_ref().expect("only in training").numbers[&(owner, 2)];
                let (momentum, count) = (norm.momentum as f32, height * width);
                self.learn(Learn::Running { state, momentum, count }, vec![stats], Shape::fixed([2, channels]));
                let operands = vec![x?, stats, self.state(0), self.state(1)];
                Some(self.learn(Learn::BatchNorm { eps: norm.eps as f32 }, operands, out.clone()))
            }
            Op::LayerNorm(norm) => Some(self.layer_norm_learned(out.rank() - 1, norm.eps, x?, out)),
            Op::LayerNorm2d(norm) => Some(self.layer_norm_learned(1, norm.eps, x?, out)),
            Op::GroupNorm(norm) => {
                let learn = Learn::GroupNorm { groups: norm.groups, eps: norm.eps as f32 };
                let weights = [self.state(0), self.state(1)];
                if out.as_image().is_some() {
                    return Some(self.learn(learn, vec![x?, weights[0], weights[1]], out.clone()));
                }
                let line = Shape::image(out.dims[0], out.dims[1..].iter().product(), 1);
                let line_in = self.add(Kind::Reshape, vec![x?], line.clone());
                let normed = self.learn(learn, vec![line_in, weights[0], weights[1]], line);
                Some(self.add(Kind::Reshape, vec![normed], out.clone()))
            }
            Op::Prelu(_) => {
                let slope = self.state(0);
                Some(self.learn(Learn::PRelu, vec![x?, slope], out.clone()))
            }
            Op::MultiHeadAttention(attention) => {
                Some(self.attention_spelt_out(attention.heads, Some(attention.dropout), x?, out))
            }
            _ => None,
        }
    }

    fn with_weights(&mut self, x: Id, bias: bool) -> Vec<Id> {
        let mut operands = vec![x, self.state(0)];
        operands.extend(bias.then(|| self.state(1)));
        operands
    }

    fn layer_norm_learned(&mut self, axis: usize, eps: f64, x: Id, out: &Shape) -> Id {
        let operands = vec![x, self.state(0), self.state(1)];
        self.learn(Learn::LayerNorm { axis, eps: eps as f32 }, operands, out.clone())
    }

    fn noise(&mut self, x: Id, p: f64, grain: Grain, out: &Shape) -> Id {
        // by the layer's path, so that a draw does not depend on what else there is
        let stream = name_hash(&self.typed.graph().node(self.node).path);
        let clock = self.clock();
        self.learn(Learn::Noise { p, grain, stream }, vec![x, clock], out.clone())
    }

    /// The input [`CLOCK`].
    fn clock(&mut self) -> Id {
        if let Some(id) = self.training.as_ref().and_then(|training| training.clock) {
            return id;
        }
        let number = self.net.inputs.len();
        let id = self.add(Kind::Input(number), vec![], Shape::fixed([8]));
        self.net.inputs.push((CLOCK.into(), id));
        self.training.as_mut().expect("only in training").clock = Some(id);
        id
    }

    /// Attention spelt out, so that what backward needs of it are values. `dropout` is none where it is frozen.
    fn attention_spelt_out(&mut self, heads: usize, dropout: Option<f64>, x: Id, out: &Shape) -> Id {
        let (tokens, features) = (out.dims[0], out.dims[1]);
        let linear = |lower: &mut Self, first: usize, x: Id, out: Shape| match dropout {
            Some(_) => {
                let operands = vec![x, lower.state(first), lower.state(first + 1)];
                lower.learn(Learn::Linear, operands, out)
            }
            None => {
                let weights = Weights::new(lower.param(first), Some(lower.param(first + 1)));
                lower.add(Kind::Linear { weights }, vec![x], out)
            }
        };
        let all = linear(self, 0, x, out.with_axis(2, 3 * features));
        let [q, k, v] = [0, 1, 2].map(|part| {
            let part = self.add(Kind::Slice { axis: 2, from: part * features }, vec![all], out.clone());
            let split = Shape::batched([tokens, heads, features / heads]);
            self.add(Kind::Reshape, vec![part], split)
        });
        let by_head = Shape::batched([heads, tokens, features / heads]);
        let [q, v] = [q, v].map(|part| self.add(Kind::Permute { axes: vec![0, 2, 1, 3] }, vec![part], by_head.clone()));
        let k = self.add(
            Kind::Permute { axes: vec![0, 2, 3, 1] },
            vec![k],
            Shape::batched([heads, features / heads, tokens]),
        );
        let scale = 1.0 / ((features / heads) as f32).sqrt();
        let square = Shape::batched([heads, tokens, tokens]);
        let scores = self.add(Kind::Matmul { scale }, vec![q, k], square.clone());
        let mut shares = self.add(Kind::Softmax { axis: 3, log: false }, vec![scores], square.clone());
        if let Some(dropout) = dropout.filter(|p| *p > 0.0) {
            shares = self.noise(shares, dropout, Grain::Value, &square);
        }
        let mixed = self.add(Kind::Matmul { scale: 1.0 }, vec![shares, v], by_head);
        let beside = Shape::batched([tokens, heads, features / heads]);
        let mixed = self.add(Kind::Permute { axes: vec![0, 2, 1, 3] }, vec![mixed], beside);
        let mixed = self.add(Kind::Reshape, vec![mixed], out.clone());
        linear(self, 2, mixed, out.clone())
    }
}
