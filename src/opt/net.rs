//! The network as passes and backends see it: fewer and plainer kinds of steps than the language has ops, each with an
//! epilogue, and weights as expressions of the tensors in the file.
//!
//! Logical axes stay as users write them ([N, C, H, W]); how values lie in memory is the plan's business.

use std::fmt;

use archc_base::{Act, Binary, Pool, Reduce, Resample, Window};

use super::Learn;
use crate::graph::{NodeId, path};
use crate::ops::Op;
use crate::ops::shape::Shape;
use crate::typed::Typed;

/// A node of a [`Net`], and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub usize);

/// A lowered network.
#[derive(Clone, Debug, Default)]
pub struct Net {
    nodes: Vec<Option<Node>>,
    pub inputs: Vec<(String, Id)>,
    pub outputs: Vec<(String, Id)>,
    /// What changes from step to step, of a network that is trained.
    pub states: Vec<State>,
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

/// One step: `after(before(kind(operands)) * gate + residual)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub kind: Kind,
    pub operands: Vec<Id>,
    /// What is done to the result before it is stored. Only where [`Kind::takes_epilogue`].
    pub epilogue: Epilogue,
    pub shape: Shape,
    /// The layers that it does the work of, the one that made it first.
    pub layers: Vec<NodeId>,
}

/// What follows a sum of products while it is at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Epilogue {
    pub before: Act,
    /// A factor for each channel of each image: [N, C] or [N, C, 1, 1]. Only where [`Kind::takes_gate`].
    pub gate: Option<Id>,
    /// A value of the same shape that is added.
    pub residual: Option<Id>,
    pub after: Act,
    pub squeeze: Squeeze,
}

/// Whether the mean of every channel over its pixels is taken while an image is stored. Only of [`Kind::Conv`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Squeeze {
    #[default]
    None,
    /// [`Kind::Means`] of the node are there besides its value.
    Also,
    /// The means are the node's value; the image itself is not kept.
    Only,
}

/// A tensor that is known when the network is loaded.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A tensor of a weight file: the layer that owns it, its index in the layer's tensors, its shape.
    Param { node: NodeId, index: usize, shape: Vec<usize> },
    /// The value of a batchless node of the graph: of parameters alone.
    Value { node: NodeId, shape: Vec<usize> },
}

impl Source {
    pub fn shape(&self) -> &[usize] {
        match self {
            Source::Param { shape, .. } | Source::Value { shape, .. } => shape,
        }
    }
}

/// A function of each channel: `x * scale[c] + shift[c]`.
#[derive(Clone, Debug, PartialEq)]
pub enum ChannelMap {
    /// Batch norm by its running statistics.
    Norm { weight: Source, bias: Source, mean: Source, var: Source, eps: f64 },
    /// What [`ChannelMap::Norm`] multiplies by.
    Factor { weight: Source, var: Source, eps: f64 },
    /// One factor a channel.
    Scale(Source),
    /// One number a channel that is added.
    Shift(Source),
}

/// The weights of a convolution or a linear map, as the backend packs them: output channel `k` of `weight` times the
/// scale of `maps`, their shift added to the bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    pub weight: Source,
    /// `weight` is [in, out] instead of [out, in].
    pub transposed: bool,
    pub bias: Option<Source>,
    pub maps: Vec<ChannelMap>,
    /// The input's columns are [C, H, W] in the file and come as [H, W, C].
    pub channels_last: Option<[usize; 3]>,
}

impl Weights {
    pub fn new(weight: Source, bias: Option<Source>) -> Weights {
        Weights { weight, transposed: false, bias, maps: vec![], channels_last: None }
    }
}

/// One linear map of a [`Kind::Excitation`], to `width` channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Excite {
    pub weights: Weights,
    pub width: usize,
    pub act: Act,
}

/// What a node computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// The network's input of that number.
    Input(usize),
    /// A value of parameters alone.
    Constant(Source),
    /// The state of that number, as it is when the step runs.
    State(usize),
    /// A step of training.
    Learn(Learn),
    /// The operand itself (an activation or an addition is an epilogue of it).
    Identity,
    /// A second operand, [N, C] or [N, C, 1, 1], multiplies the channels of the first.
    Conv {
        window: Window,
        groups: usize,
        weights: Weights,
    },
    /// A depthwise convolution with its activation, then a pointwise one.
    Separable {
        window: Window,
        depthwise: Weights,
        act: Act,
        pointwise: Weights,
    },
    /// A convolution with its activation, then the maxima of `pool`.
    PooledConv {
        window: Window,
        weights: Weights,
        act: Act,
        pool: Window,
    },
    /// The channels' means of an image, as what computed it left them ([`Squeeze::Also`]).
    Means,
    /// Linear maps of [`Kind::Means`], one after another.
    Excitation {
        maps: Vec<Excite>,
    },
    ConvTranspose {
        window: Window,
        groups: usize,
        output_padding: [usize; 2],
        weights: Weights,
    },
    /// Over the last axis.
    Linear {
        weights: Weights,
    },
    /// Each channel (index of `axis`) scaled and shifted.
    Channels {
        axis: usize,
        maps: Vec<ChannelMap>,
    },
    /// Each channel (axis 1) below zero times its own slope; one slope for all where there is one.
    PRelu {
        slope: Source,
    },
    /// Mean 0 and variance 1 over `axis`, then weight and bias along it.
    LayerNorm {
        axis: usize,
        eps: f64,
        weight: Source,
        bias: Source,
    },
    GroupNorm {
        groups: usize,
        eps: f64,
        weight: Source,
        bias: Source,
    },
    Softmax {
        axis: usize,
        log: bool,
    },
    /// Divided by its Euclidean norm along `axis`, that being at least `eps`.
    Normalize {
        axis: usize,
        eps: f64,
    },
    Pool {
        pool: Pool,
        window: Window,
    },
    /// Output pixel (i, j) of [out_h, out_w] reads rows floor(i H / out_h) to ceil((i + 1) H / out_h), columns alike.
    AdaptivePool {
        reduce: Reduce,
    },
    /// Over some axes, which are left out or kept with length 1.
    Reduce {
        reduce: Reduce,
        axes: Vec<usize>,
    },
    /// Of two values under the language's stretching.
    Binary {
        op: Binary,
    },
    /// Of the last two axes; those before are stretched from the right. The result times `scale`.
    Matmul {
        scale: f32,
    },
    Concat {
        axis: usize,
    },
    /// Row-major order of the logical axes stays.
    Reshape,
    Permute {
        axes: Vec<usize>,
    },
    Slice {
        axis: usize,
        from: usize,
    },
    /// Zeros before each axis; how many after follows from the shape.
    Pad {
        before: Vec<usize>,
        value: f32,
    },
    /// Index i goes to (i + shift) mod length.
    Roll {
        shifts: Vec<(usize, usize)>,
    },
    /// Of queries, keys and values [N, T, heads * dim]: softmax(q k^T scale) v in each head.
    Attention {
        heads: usize,
        scale: f32,
    },
    /// Resampled; the scales (vertical, horizontal) where they, not the size, were stated.
    Resize {
        mode: Resample,
        scale: Option<[f64; 2]>,
    },
    /// An op that has no plainer form, by its own meaning.
    Op {
        op: Box<Op>,
        params: Vec<Source>,
    },
}

impl Kind {
    /// Whether the backend can do more to the result before it is stored.
    pub fn takes_epilogue(&self) -> bool {
        matches!(
            self,
            Kind::Identity
                | Kind::Conv { .. }
                | Kind::ConvTranspose { .. }
                | Kind::Linear { .. }
                | Kind::Channels { .. }
                | Kind::Binary { .. }
        ) || matches!(self, Kind::Learn(learn) if learn.takes_epilogue())
    }

    /// Whether it is a convolution of single pixels, all of them, all channels together.
    pub fn is_pointwise(&self) -> bool {
        let Kind::Conv { window, groups, .. } = self else { return false };
        window.kernel == [1, 1] && window.stride == [1, 1] && window.padding == [0; 4] && *groups == 1
    }

    /// Whether a gate may be among it.
    pub fn takes_gate(&self) -> bool {
        matches!(self, Kind::Identity | Kind::Conv { .. })
    }

    /// As it is shown in steps and snapshots.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Input(_) => "input",
            Kind::Constant(_) => "constant",
            Kind::State(_) => "state",
            Kind::Learn(learn) => learn.name(),
            Kind::Identity => "identity",
            Kind::Conv { .. } => "conv2d",
            Kind::Separable { .. } => "separable_conv2d",
            Kind::PooledConv { .. } => "pooled_conv2d",
            Kind::Means => "means",
            Kind::Excitation { .. } => "excitation",
            Kind::ConvTranspose { .. } => "conv_transpose2d",
            Kind::Linear { .. } => "linear",
            Kind::Channels { .. } => "channels",
            Kind::PRelu { .. } => "prelu",
            Kind::LayerNorm { .. } => "layer_norm",
            Kind::GroupNorm { .. } => "group_norm",
            Kind::Softmax { log: false, .. } => "softmax",
            Kind::Softmax { log: true, .. } => "log_softmax",
            Kind::Normalize { .. } => "normalize",
            Kind::Pool { pool: Pool::Max, .. } => "max_pool2d",
            Kind::Pool { pool: Pool::Mean { .. }, .. } => "avg_pool2d",
            Kind::AdaptivePool { reduce: Reduce::Mean } => "adaptive_avg_pool2d",
            Kind::AdaptivePool { reduce: Reduce::Max } => "adaptive_max_pool2d",
            Kind::Reduce { reduce: Reduce::Mean, .. } => "mean",
            Kind::Reduce { reduce: Reduce::Max, .. } => "amax",
            Kind::Binary { op: Binary::Add } => "add",
            Kind::Binary { op: Binary::Sub } => "sub",
            Kind::Binary { op: Binary::Mul } => "mul",
            Kind::Binary { op: Binary::SubFrom } => "sub_from",
            Kind::Binary { op: Binary::Prelu } => "prelu",
            Kind::Matmul { .. } => "matmul",
            Kind::Concat { .. } => "concat",
            Kind::Reshape => "reshape",
            Kind::Permute { .. } => "permute",
            Kind::Slice { .. } => "slice",
            Kind::Pad { .. } => "pad",
            Kind::Roll { .. } => "roll",
            Kind::Attention { .. } => "attention",
            Kind::Resize { .. } => "upsample",
            Kind::Op { op, .. } => op.name(),
        }
    }
}

impl Epilogue {
    pub fn is_none(&self) -> bool {
        *self == Epilogue::default()
    }

    /// One epilogue that does what `self` and then `next` do; None where it takes two.
    pub fn then(&self, next: &Epilogue) -> Option<Epilogue> {
        let join = |first: Act, second: Act| match (first, second) {
            (Act::None, act) | (act, Act::None) => Some(act),
            _ => None,
        };
        let maps = |epilogue: &Epilogue| epilogue.gate.is_none() && epilogue.residual.is_none();
        if self.squeeze != Squeeze::None {
            return None;
        }
        match (maps(self), maps(next)) {
            (true, true) => {
                let (own, next) = (join(self.before, self.after)?, join(next.before, next.after)?);
                Some(Epilogue { after: join(own, next)?, ..Epilogue::default() })
            }
            (true, false) => Some(Epilogue { before: join(join(self.before, self.after)?, next.before)?, ..*next }),
            (false, true) => Some(Epilogue { after: join(self.after, join(next.before, next.after)?)?, ..*self }),
            (false, false) => {
                let gated = self.residual.is_none() && self.after == Act::None;
                let added = next.gate.is_none() && next.before == Act::None;
                (gated && added).then_some(Epilogue { before: self.before, gate: self.gate, ..*next })
            }
        }
    }
}

impl Node {
    /// Everything it reads: operands, then gate and residual.
    pub fn reads(&self) -> impl Iterator<Item = Id> + '_ {
        self.operands.iter().copied().chain(self.epilogue.gate).chain(self.epilogue.residual)
    }
}

impl Net {
    pub fn add(&mut self, node: Node) -> Id {
        self.nodes.push(Some(node));
        Id(self.nodes.len() - 1)
    }

    /// # Panics
    /// If the node was removed.
    pub fn node(&self, id: Id) -> &Node {
        self.nodes[id.0].as_ref().expect("the node is still there")
    }

    /// # Panics
    /// If the node was removed.
    pub fn node_mut(&mut self, id: Id) -> &mut Node {
        self.nodes[id.0].as_mut().expect("the node is still there")
    }

    pub fn get(&self, id: Id) -> Option<&Node> {
        self.nodes.get(id.0)?.as_ref()
    }

    pub fn remove(&mut self, id: Id) {
        self.nodes[id.0] = None;
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

    /// How often each value is read, outputs counted.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.nodes.len()];
        for node in self.nodes.iter().flatten() {
            node.reads().for_each(|read| counts[read.0] += 1);
        }
        self.outputs.iter().for_each(|(_, id)| counts[id.0] += 1);
        counts
    }

    /// Lets everything that reads `from` read `to`.
    pub fn redirect(&mut self, from: Id, to: Id) {
        for node in self.nodes.iter_mut().flatten() {
            let Epilogue { gate, residual, .. } = &mut node.epilogue;
            let reads = node.operands.iter_mut().chain(gate).chain(residual);
            reads.filter(|read| **read == from).for_each(|read| *read = to);
        }
        self.outputs.iter_mut().filter(|(_, id)| *id == from).for_each(|(_, id)| *id = to);
    }

    /// As text, a line a node: `%3 = conv2d 3x3 scaled by bn1 + %1, relu <- %2 : [N, 64, 56, 56]`.
    pub fn dump(&self, typed: &Typed) -> String {
        let dump = Dump { net: self, typed };
        dump.to_string()
    }
}

/// A net with the graph that its sources are named by.
struct Dump<'a> {
    net: &'a Net,
    typed: &'a Typed,
}

impl Dump<'_> {
    fn source(&self, source: &Source) -> String {
        match source {
            Source::Param { node, index, .. } => {
                let name = self.typed.params(*node)[*index].name;
                crate::graph::key(&path::display(&self.typed.graph().node(*node).path), name)
            }
            Source::Value { node, .. } => path::display(&self.typed.graph().node(*node).path),
        }
    }

    fn maps(&self, maps: &[ChannelMap]) -> String {
        let one = |map: &ChannelMap| match map {
            ChannelMap::Norm { weight, .. } => {
                let key = self.source(weight);
                format!(", normalised by {}", key.strip_suffix(".weight").unwrap_or(&key))
            }
            ChannelMap::Scale(source) | ChannelMap::Factor { weight: source, .. } => {
                format!(", scaled by {}", self.source(source))
            }
            ChannelMap::Shift(source) => format!(", shifted by {}", self.source(source)),
        };
        maps.iter().map(one).collect()
    }

    fn weights(&self, weights: &Weights) -> String {
        let mut text = format!(" {}", self.source(&weights.weight));
        if weights.transposed {
            text += " transposed";
        }
        if weights.channels_last.is_some() {
            text += " channels last";
        }
        if weights.bias.is_some() {
            text += " + bias";
        }
        text + &self.maps(&weights.maps)
    }
}

impl fmt::Display for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // numbered in running order, so that passes which only remove leave a readable difference
        let order = self.net.order();
        for id in &order {
            let node = self.net.node(*id);
            write!(f, "%{} = {}", id.0, node.kind.name())?;
            match &node.kind {
                Kind::Conv { window, groups, weights } | Kind::ConvTranspose { window, groups, weights, .. } => {
                    write!(f, " {}x{}", window.kernel[0], window.kernel[1])?;
                    if *groups > 1 {
                        write!(f, " in {groups} groups")?;
                    }
                    write!(f, "{}", self.weights(weights))?;
                }
                Kind::Linear { weights } => write!(f, "{}", self.weights(weights))?,
                Kind::Separable { window: Window { kernel: [h, w], .. }, depthwise, act, pointwise } => {
                    write!(f, " {h}x{w}{}, {act}, then{}", self.weights(depthwise), self.weights(pointwise))?;
                }
                Kind::PooledConv { window: Window { kernel: [h, w], .. }, weights, act, pool } => {
                    write!(
                        f,
                        " {h}x{w}{}, {act}, maxima of {}x{}",
                        self.weights(weights),
                        pool.kernel[0],
                        pool.kernel[1]
                    )?;
                }
                Kind::Excitation { maps } => {
                    for (at, Excite { weights, act, .. }) in maps.iter().enumerate() {
                        write!(f, "{}{}", if at == 0 { "" } else { ", then" }, self.weights(weights))?;
                        if *act != Act::None {
                            write!(f, ", {act}")?;
                        }
                    }
                }
                Kind::Channels { maps, .. } => write!(f, "{}", self.maps(maps))?,
                Kind::Constant(source) => write!(f, " {}", self.source(source))?,
                Kind::State(at) | Kind::Learn(Learn::Gradient { state: at } | Learn::Running { state: at, .. }) => {
                    let State { node, index, shape, .. } = &self.net.states[*at];
                    let source = Source::Param { node: *node, index: *index, shape: shape.clone() };
                    write!(f, " {}", self.source(&source))?;
                }
                Kind::Permute { axes } => write!(f, " {axes:?}")?,
                Kind::Matmul { scale } if *scale != 1.0 => write!(f, " * {scale}")?,
                _ => {}
            }
            let Epilogue { before, gate, residual, after, squeeze } = node.epilogue;
            if before != Act::None {
                write!(f, ", {}", before)?;
            }
            if let Some(gate) = gate {
                write!(f, ", * %{}", gate.0)?;
            }
            if let Some(residual) = residual {
                write!(f, ", + %{}", residual.0)?;
            }
            if after != Act::None {
                write!(f, ", {}", after)?;
            }
            match squeeze {
                Squeeze::None => {}
                Squeeze::Also => write!(f, ", means beside it")?,
                Squeeze::Only => write!(f, ", means of it")?,
            }
            if !node.operands.is_empty() {
                let operands: Vec<String> = node.operands.iter().map(|id| format!("%{}", id.0)).collect();
                write!(f, " <- {}", operands.join(", "))?;
            }
            writeln!(f, " : {}", node.shape)?;
        }
        for (name, id) in &self.net.outputs {
            writeln!(f, "{name} -> %{}", id.0)?;
        }
        Ok(())
    }
}
