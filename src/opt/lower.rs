//! Says every op of a typed graph in the kinds of a [`Net`]. What is frozen is in eval mode: dropout is the identity unless it
//! always draws, a batch norm its running statistics, attention its two matrix products, and its tensors are constants, so that
//! every pass holds for it. What learns is in training mode: its tensors are states, batch norms take the statistics of the batch and move
//! the running ones, dropout is drawn.

use std::ops::Range;

use archc_base::{Act, Binary as Of, Centre, Pool as Kernel, Reduce as By, Window};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::graph::NodeId;
use crate::net::*;
use crate::ops::attention;
use crate::ops::conv::Conv1d;
use crate::ops::dropout::Drops;
use crate::ops::layout::Border;
use crate::ops::linear::LinearWith;
use crate::ops::shape::Shape;
use crate::ops::unfold::{Fold, Unfold};
use crate::ops::{Op, Role};
use crate::philox::name_hash;
use crate::typed::Typed;

/// The graph's nodes that some output needs, and its inputs, in eval mode.
pub fn lower(typed: &Typed) -> Net {
    lowered(typed, &|_| true, true)
}

/// The same in training mode. A layer learns if it is not `frozen`; tied layers go with the owner of their tensors.
pub fn lower_training(typed: &Typed, frozen: &dyn Fn(NodeId) -> bool) -> Net {
    lowered(typed, frozen, false)
}

fn lowered(typed: &Typed, frozen: &dyn Fn(NodeId) -> bool, is_inference: bool) -> Net {
    let graph = typed.graph();
    let live = graph.live();
    let mut lower = Lower {
        typed,
        net: Net::default(),
        ids: FxHashMap::default(),
        node: NodeId::default(),
        frozen,
        is_inference,
        numbers: FxHashMap::default(),
        tensors: FxHashMap::default(),
        learned: FxHashSet::default(),
        clock: None,
        maps: FxHashMap::default(),
        wide: FxHashMap::default(),
    };
    lower.find_states(&live);
    lower.find_maps(&live);
    for (name, id) in graph.inputs() {
        let value = lower.net.add_input(name, typed.shape(*id).clone(), vec![*id]);
        lower.ids.insert(*id, value);
    }
    for id in typed.order() {
        let is_value = typed.shape(*id).batched || lower.learned.contains(id);
        if live.contains(id) && !lower.ids.contains_key(id) && is_value {
            lower.node = *id;
            let value = lower.op();
            lower.ids.insert(*id, value);
        }
    }
    let outputs = graph.outputs().iter().map(|(name, output)| (name.clone(), lower.value(output.node))).collect();
    lower.net.set_outputs(outputs);
    lower.net
}

struct Lower<'a> {
    typed: &'a Typed,
    net: Net,
    ids: FxHashMap<NodeId, Id>,
    /// The node that is lowered now.
    node: NodeId,
    frozen: &'a dyn Fn(NodeId) -> bool,
    /// Whether nothing is ever to learn, not even in a later step.
    is_inference: bool,
    /// The state of each tensor that changes, by its owner and index.
    numbers: FxHashMap<(NodeId, usize), usize>,
    /// The value of each state.
    tensors: FxHashMap<usize, Id>,
    /// Nodes whose value depends on a learned tensor.
    learned: FxHashSet<NodeId>,
    /// The input [`CLOCK`].
    clock: Option<Id>,
    /// By their operands, linear maps by rows of a weight, and the rows.
    maps: FxHashMap<Vec<NodeId>, Vec<(NodeId, Range<usize>)>>,
    /// By the same, the map that they are parts of.
    wide: FxHashMap<Vec<NodeId>, Id>,
}

impl Lower<'_> {
    /// Numbers the tensors that change, those that are learned first.
    fn find_states(&mut self, live: &FxHashSet<NodeId>) {
        let (typed, graph) = (self.typed, self.typed.graph());
        let owners = typed.order().iter().filter(|id| live.contains(id)).map(|id| graph.owner(*id));
        let mut seen = FxHashSet::default();
        let is_carried = |id: NodeId| matches!(graph.node(id).op, Op::Buffer(_));
        let learning: Vec<NodeId> =
            owners.filter(|id| seen.insert(*id) && !(self.frozen)(*id) && !is_carried(*id)).collect();
        for role in [Role::Weight, Role::Statistic] {
            for node in &learning {
                let own = typed.params(*node).into_iter().enumerate().filter(|(_, param)| param.role == role);
                for (index, param) in own {
                    self.numbers.insert((*node, index), self.net.states.len());
                    let learned = role == Role::Weight;
                    self.net.states.push(State { node: *node, index, shape: param.shape, learned });
                }
            }
        }
        for id in typed.order().iter().filter(|id| live.contains(id)) {
            let own = || typed.params(*id).iter().any(|param| param.role == Role::Weight);
            let learns = !(self.frozen)(graph.owner(*id)) && own();
            if learns || graph.operands(*id).iter().any(|operand| self.learned.contains(operand)) {
                self.learned.insert(*id);
            }
        }
    }

    fn find_maps(&mut self, live: &FxHashSet<NodeId>) {
        let graph = self.typed.graph();
        for id in self.typed.order().iter().filter(|id| live.contains(id)) {
            let Op::LinearWith(linear) = &graph.node(*id).op else { continue };
            let operands = graph.operands(*id);
            let rows = linear.range(self.typed.shape(operands[1]).dims[0]);
            self.maps.entry(operands).or_default().push((*id, rows));
        }
    }

    fn is_frozen(&self) -> bool {
        (self.frozen)(self.typed.graph().owner(self.node))
    }

    fn add(&mut self, kind: impl Into<Kind>, operands: Vec<Id>, shape: Shape) -> Id {
        self.net.add(Node::new(kind, operands, shape, vec![self.node]))
    }

    /// The value of a node of the graph; one of parameters alone becomes a constant.
    fn value(&mut self, node: NodeId) -> Id {
        if let Some(id) = self.ids.get(&node) {
            return *id;
        }
        let shape = self.typed.shape(node).dims.clone();
        let graph = self.typed.graph();
        let source = match graph.node(node).op {
            Op::Parameter(_) | Op::Buffer(_) => Source::Param { node: graph.owner(node), index: 0, shape },
            _ => Source::Value { node, shape },
        };
        let id = self.net.add_constant(Constant::plain(source), vec![node]);
        self.ids.insert(node, id);
        id
    }

    fn source(&self, index: usize) -> Source {
        let shape = self.typed.params(self.node)[index].shape.clone();
        Source::Param { node: self.typed.graph().owner(self.node), index, shape }
    }

    /// Tensor `index` of the node that is lowered now.
    fn tensor(&mut self, index: usize) -> Id {
        let owner = self.typed.graph().owner(self.node);
        let Some(number) = self.numbers.get(&(owner, index)).copied() else {
            return self.net.add_constant(Constant::plain(self.source(index)), vec![self.node]);
        };
        if let Some(id) = self.tensors.get(&number) {
            return *id;
        }
        let shape = Shape::fixed(self.typed.params(self.node)[index].shape.clone());
        let id = self.add(Stored(number), vec![], shape);
        self.tensors.insert(number, id);
        id
    }

    /// A step with tensor 0 as its weight and, where it has one, tensor 1 as its bias.
    fn with_weight(&mut self, kind: impl Into<Kind>, x: Id, bias: bool, out: Shape) -> Id {
        self.with_weights(kind, x, [0, 1], bias, out)
    }

    fn with_weights(
        &mut self,
        kind: impl Into<Kind>,
        x: Id,
        [weight, bias]: [usize; 2],
        has_bias: bool,
        out: Shape,
    ) -> Id {
        let operands = vec![x, self.tensor(weight)];
        let bias = has_bias.then(|| self.bias(bias));
        let node = Node::new(kind, operands, out, vec![self.node]);
        self.net.add(Node { epilogue: Epilogue::bias(bias), ..node })
    }

    fn bias(&mut self, index: usize) -> Id {
        let id = self.tensor(index);
        self.as_bias(id)
    }

    fn as_bias(&mut self, id: Id) -> Id {
        let Some(source) = self.net.constant(id).and_then(Constant::as_plain).cloned() else { return id };
        // what scales and shifts channels is folded into it
        let channels = source.shape().iter().product();
        self.net.add_constant(Constant::Shift { bias: Some(source), maps: vec![], channels }, vec![self.node])
    }

    fn channels(&mut self, axis: usize, map: ChannelMap, x: Id, out: Shape) -> Id {
        let channels = out.concrete(1)[axis];
        let maps = vec![map];
        let scale = self.net.add_constant(Constant::Scale { maps: maps.clone(), channels }, vec![self.node]);
        let shift = self.net.add_constant(Constant::Shift { bias: None, maps, channels }, vec![self.node]);
        self.add(Channels { axis }, vec![x, scale, shift], out)
    }

    fn op(&mut self) -> Id {
        let typed = self.typed;
        let graph = typed.graph();
        let out = typed.shape(self.node).clone();
        let nodes = graph.operands(self.node);
        let ins: Vec<Id> = nodes.iter().map(|node| self.value(*node)).collect();
        let op = &graph.node(self.node).op;
        if let Some(function) = op.activation() {
            return self.map(ins[0], function);
        }
        if let Some(drops) = op.drops() {
            return self.dropout(ins[0], drops, out);
        }
        // the shape of the first operand, in full for images
        let input = nodes.first().map(|node| typed.shape(*node).clone()).unwrap_or(Shape::fixed([]));
        let axis = |axis: i64| input.resolve_axis(axis).expect("the shape was inferred");
        match op {
            Op::Identity(_) => self.add(Identity, ins, out),
            Op::Parameter(_) => self.tensor(0),
            Op::Conv2d(conv) => {
                let kind = Conv { window: conv.window(&input), groups: conv.groups };
                self.on_images(ins[0], out, |own, x, out| own.with_weight(kind, x, conv.bias, out))
            }
            Op::Conv2dWith(conv) => {
                let with = conv.with(typed.shape(nodes[1])).expect("the shape was inferred");
                let kind = Conv { window: with.window(&input), groups: conv.groups };
                let bias = ins.get(2).map(|bias| self.as_bias(*bias));
                let node = Node::new(kind, ins[..2].to_vec(), out, vec![self.node]);
                self.net.add(Node { epilogue: Epilogue::bias(bias), ..node })
            }
            Op::Conv1d(conv) => self.conv1d(conv, ins[0], &input, out),
            Op::Unfold(unfold) => self.on_images(ins[0], out, |own, x, out| own.unfold(unfold, x, out)),
            Op::Fold(fold) => self.fold(fold, ins[0], out),
            Op::ConvTranspose2d(conv) => {
                let (window, output_padding) = (conv.window(), conv.output_padding.0.sides());
                let kind = ConvTranspose { window, groups: conv.groups, output_padding };
                self.on_images(ins[0], out, |own, x, out| own.with_weight(kind, x, conv.bias, out))
            }
            Op::Linear(linear) => self.with_weight(Linear, ins[0], linear.bias, out),
            Op::LinearWith(linear) => self.linear_with(linear, &nodes, &ins, out),
            Op::BatchNorm2d(norm) => self.batch_norm(1, norm.affine, norm.eps, norm.momentum, ins[0], out),
            Op::BatchNorm1d(norm) => {
                self.batch_norm(axis(norm.axis), norm.affine, norm.eps, norm.momentum, ins[0], out)
            }
            Op::LayerNorm(norm) => self.layer_norm(Centre::Mean, axis(norm.axis), norm.affine, norm.eps, ins[0], out),
            Op::LayerNorm2d(norm) => self.layer_norm(Centre::Mean, 1, norm.affine, norm.eps, ins[0], out),
            Op::RmsNorm(norm) => self.layer_norm(Centre::Zero, axis(norm.axis), norm.affine, norm.eps, ins[0], out),
            Op::GroupNorm(norm) => self.group_norm(norm.groups, norm.affine, norm.eps, ins[0], out),
            Op::InstanceNorm2d(norm) => {
                let groups = out.axis(1).expect("the shape was inferred");
                self.group_norm(groups, norm.affine, norm.eps, ins[0], out)
            }
            Op::Exp(exp) => {
                let scale = exp.base.map_or(1.0, f64::ln) as f32;
                let exponent = self.map(ins[0], Act::Linear { scale, shift: 0.0 });
                self.map(exponent, Act::Exp)
            }
            Op::Prelu(_) => {
                let slope = self.tensor(0);
                self.add(PRelu, vec![ins[0], slope], out)
            }
            Op::Softmax(softmax) => self.add(Softmax { axis: axis(softmax.axis), log: false }, ins, out),
            Op::LogSoftmax(softmax) => self.add(Softmax { axis: axis(softmax.axis), log: true }, ins, out),
            Op::Glu(glu) => {
                let (axis, len) = (axis(glu.axis), out.axis(axis(glu.axis)).expect("the shape was inferred"));
                let half = |lower: &mut Self, from| lower.add(Slice { axis, from }, ins.clone(), out.clone());
                let (value, gate) = (half(self, 0), half(self, len));
                let gate = self.map(gate, Act::Sigmoid);
                self.add(Binary { op: Of::Mul }, vec![value, gate], out)
            }
            Op::Normalize(normalize) => self.add(Normalize { axis: axis(normalize.axis), eps: 1e-12 }, ins, out),
            Op::Attention(attention) => self.attention(attention, &ins, out),
            Op::LstmScan(scan) => self.add(LstmScan { reverse: scan.reverse }, ins, out),
            Op::MaxPool2d(pool) => self.on_each_image(Pool { pool: Kernel::Max, window: pool.window() }, ins[0], out),
            Op::AvgPool2d(pool) => {
                let count_padding = pool.count_include_pad;
                self.on_each_image(Pool { pool: Kernel::Mean { count_padding }, window: pool.window() }, ins[0], out)
            }
            Op::AdaptiveAvgPool2d(_) => self.adaptive_pool(Kernel::MEAN, By::Mean, ins[0], out),
            Op::AdaptiveMaxPool2d(_) => self.adaptive_pool(Kernel::Max, By::Max, ins[0], out),
            Op::GlobalAvgPool2d(_) => self.over_pixels(By::Mean, ins[0], out),
            Op::GlobalMaxPool2d(_) => self.over_pixels(By::Max, ins[0], out),
            Op::Mean(mean) => {
                let axes = mean.axis.iter().map(|at| axis(*at)).collect();
                self.add(Reduce { reduce: By::Mean, axes }, ins, out)
            }
            Op::Sum(sum) => {
                let axes = sum.axis.iter().map(|at| axis(*at)).collect();
                self.add(Reduce { reduce: By::Sum, axes }, ins, out)
            }
            Op::Var(var) => {
                let axes: Vec<usize> = var.axis.iter().map(|at| axis(*at)).collect();
                let count: usize = axes.iter().filter_map(|axis| input.axis(*axis)).product();
                let divisor = count as f64 - f64::from(u8::from(var.unbiased));
                let kept = axes.iter().fold(input.clone(), |shape, axis| shape.with_axis(*axis, 1));
                let mean = self.add(Reduce { reduce: By::Mean, axes: axes.clone() }, ins.clone(), kept);
                let apart = self.add(Binary { op: Of::Sub }, vec![ins[0], mean], input);
                let squares = self.map(apart, Act::Square);
                let sum = self.add(Reduce { reduce: By::Sum, axes }, vec![squares], out);
                self.map(sum, Act::Linear { scale: (1.0 / divisor) as f32, shift: 0.0 })
            }
            Op::VectorNorm(norm) => {
                let axes = norm.axis.iter().map(|at| axis(*at)).collect();
                let squares = self.map(ins[0], Act::Square);
                let sum = self.add(Reduce { reduce: By::Sum, axes }, vec![squares], out);
                self.map(sum, Act::Length)
            }
            Op::Amax(amax) => {
                let axes = amax.axis.iter().map(|at| axis(*at)).collect();
                self.add(Reduce { reduce: By::Max, axes }, ins, out)
            }
            Op::Upsample(upsample) => {
                let (mode, scale) = (upsample.mode, upsample.scale.map(|scale| [scale; 2]));
                match upsample.antialias {
                    true => self.on_each_image(Antialias { mode, scale, transposed: false }, ins[0], out),
                    false => self.on_each_image(Resize { mode, scale }, ins[0], out),
                }
            }
            Op::PixelShuffle(shuffle) => self.on_images(ins[0], out, |own, x, out| {
                let r = shuffle.r;
                let (c, h, w) = out.as_images().expect("the shape was inferred");
                let [h, w] = [h / r, w / r];
                let before = out.dims.len() - 3;
                let with = |last: &[usize]| Shape { batched: out.batched, dims: [&out.dims[..before], last].concat() };
                let split = own.add(Reshape, vec![x], with(&[c, r, r, h, w]));
                let moved = own.add(Permute { axes: vec![0, 1, 4, 2, 5, 3] }, vec![split], with(&[c, h, r, w, r]));
                own.add(Reshape, vec![moved], out)
            }),
            Op::ChannelShuffle(shuffle) => {
                let (groups, dims) = (shuffle.groups, out.dims.clone());
                let with = |first: usize, second: usize| {
                    let dims = [first, second].into_iter().chain(dims[1..].iter().copied());
                    Shape::batched(dims.collect::<Vec<_>>())
                };
                let split = self.add(Reshape, ins, with(groups, dims[0] / groups));
                let axes = [0, 2, 1].into_iter().chain(3..out.rank() + 1).collect();
                let moved = self.add(Permute { axes }, vec![split], with(dims[0] / groups, groups));
                self.add(Reshape, vec![moved], out)
            }
            Op::Flatten(_) | Op::Reshape(_) => self.add(Reshape, ins, out),
            Op::Permute(permute) => {
                let axes = permute.order(&input).expect("the shape was inferred");
                self.add(Permute { axes }, ins, out)
            }
            Op::Chunk(chunk) => {
                let axis = axis(chunk.axis);
                let from = chunk.part.unsigned_abs() as usize * out.axis(axis).expect("the shape was inferred");
                self.add(Slice { axis, from }, ins, out)
            }
            Op::Slice(slice) => {
                let (axis, range) = slice.range(&input).expect("the shape was inferred");
                self.add(Slice { axis, from: range.start }, ins, out)
            }
            Op::Pad(pad) => {
                let each = pad.each_axis(&input).expect("the shape was inferred");
                if pad.mode != Border::Constant {
                    return self.extend(ins[0], input, pad.mode, &each);
                }
                let before = each.into_iter().map(|(before, _)| before).collect();
                self.add(Pad { before, value: pad.value as f32 }, ins, out)
            }
            Op::Roll(roll) => {
                let each = roll.each_axis(&input).expect("the shape was inferred");
                let shifts = each.into_iter().enumerate().filter(|(_, shift)| *shift != 0).collect();
                self.add(Roll { shifts }, ins, out)
            }
            Op::Concat(concat) => {
                let axis = out.resolve_axis(concat.axis).expect("the shape was inferred");
                self.add(Concat { axis }, ins, out)
            }
            Op::Matmul(_) => self.add(Matmul { scale: 1.0 }, ins, out),
            Op::Gather(_) => self.add(Gather, ins, out),
            Op::Add(add) => match add.number {
                Some(number) => self.map(ins[0], Act::Linear { scale: 1.0, shift: number as f32 }),
                None => self.binary(Of::Add, &ins, out),
            },
            Op::Mul(mul) => match mul.number {
                Some(number) => self.map(ins[0], Act::Linear { scale: number as f32, shift: 0.0 }),
                None => self.binary(Of::Mul, &ins, out),
            },
            Op::Sub(sub) => match (sub.number, sub.swapped) {
                (Some(number), false) => self.map(ins[0], Act::Linear { scale: 1.0, shift: -number as f32 }),
                (Some(number), true) => self.map(ins[0], Act::Linear { scale: -1.0, shift: number as f32 }),
                (None, false) => self.binary(Of::Sub, &ins, out),
                (None, true) => self.binary(Of::Sub, &[ins[1], ins[0]], out),
            },
            Op::Div(div) => match (div.number, div.swapped) {
                (Some(number), false) => self.map(ins[0], Act::Linear { scale: (1.0 / number) as f32, shift: 0.0 }),
                (Some(number), true) => self.map(ins[0], Act::Over(number as f32)),
                (None, false) => self.binary(Of::Div, &ins, out),
                (None, true) => self.binary(Of::Div, &[ins[1], ins[0]], out),
            },
            Op::Maximum(_) => self.binary(Of::Max, &ins, out),
            Op::Minimum(_) => self.binary(Of::Min, &ins, out),
            Op::Input(_)
            | Op::Buffer(_)
            | Op::Constant(_)
            | Op::WindowIndex(_)
            | Op::WindowCoords(_)
            | Op::WindowMask(_) => {
                unreachable!("it has no operands: an input is there already, the others are constants")
            }
            op => unreachable!("`{}` is no activation, and has no line here", op.name()),
        }
    }

    /// A step on images [N, C, H, W]; a value without batch [C, H, W] is one of them.
    fn on_images(&mut self, x: Id, out: Shape, step: impl FnOnce(&mut Self, Id, Shape) -> Id) -> Id {
        let shape = self.net.node(x).shape.clone();
        if shape.batched || shape.rank() == 4 {
            return step(self, x, out);
        }
        let one = |shape: &Shape| Shape::fixed([&[1][..], &shape.dims].concat());
        let x = self.add(Reshape, vec![x], one(&shape));
        let found = step(self, x, one(&out));
        self.add(Reshape, vec![found], out)
    }

    /// [`Lower::on_images`] of a kind that has no weights.
    fn on_each_image(&mut self, kind: impl Into<Kind>, x: Id, out: Shape) -> Id {
        self.on_images(x, out, |own, x, out| own.add(kind, vec![x], out))
    }

    /// A convolution of images that are one pixel high.
    fn conv1d(&mut self, conv: &Conv1d, x: Id, input: &Shape, out: Shape) -> Id {
        let (image, two) = (Conv1d::image(input).expect("the shape was inferred"), conv.of_images());
        let window = two.window(&image);
        let x = self.add(Reshape, vec![x], image);
        let (channels, len) = (out.dims[out.dims.len() - 2], out.dims[out.dims.len() - 1]);
        let before = &out.dims[..out.dims.len() - 2];
        let high = Shape { batched: out.batched, dims: [before, &[channels, 1, len]].concat() };
        let mut weight = self.tensor(0);
        let Shape { batched, dims } = self.net.node(weight).shape.clone();
        let shape = Shape { batched, dims: [&dims[..2], &[1], &dims[2..]].concat() };
        weight = match self.net.constant(weight).and_then(Constant::as_plain) {
            // passes look into a constant, and not behind a step
            Some(Source::Param { node, index, .. }) => {
                let source = Source::Param { node: *node, index: *index, shape: shape.dims };
                self.net.add_constant(Constant::plain(source), vec![self.node])
            }
            _ => self.add(Reshape, vec![weight], shape),
        };
        let bias = conv.bias.then(|| self.bias(1));
        let kind = Conv { window, groups: conv.groups };
        let found = self.on_images(x, high, |own, x, high| {
            let node = Node::new(kind, vec![x, weight], high, vec![own.node]);
            own.net.add(Node { epilogue: Epilogue::bias(bias), ..node })
        });
        self.add(Reshape, vec![found], out)
    }

    /// Windows by convolutions that each pick a pixel: of a window's rows, then of its columns.
    fn unfold(&mut self, unfold: &Unfold, x: Id, out: Shape) -> Id {
        let input = self.net.node(x).shape.clone();
        let (mut x, window) = (x, unfold.windows().window(&input));
        let at = unfold.windows().geometry(&input).expect("the shape was inferred");
        let mut channels = at.channels;
        for (axis, [height, width]) in
            [[at.out_height, at.width], [at.out_height, at.out_width]].into_iter().enumerate()
        {
            let (own, weight) = self.picks(&window, axis, channels);
            let groups = channels;
            channels *= window.kernel[axis];
            x = self.add(Conv { window: own, groups }, vec![x, weight], input.with_last(&[channels, height, width]));
        }
        self.add(Reshape, vec![x], out)
    }

    /// The transpose of [`Lower::unfold`], step for step.
    fn fold(&mut self, fold: &Fold, x: Id, out: Shape) -> Id {
        let (window, at) =
            (fold.windows().window(&out), fold.windows().geometry(&out).expect("the shape was inferred"));
        let [rows, columns] = window.kernel;
        let mut channels = at.channels * rows * columns;
        // of a value without batch that has no axis for the number of images there is one
        let image = if out.rank() == 4 { out.clone() } else { Shape::fixed([&[1][..], &out.dims].concat()) };
        let mut x = self.add(Reshape, vec![x], image.with_last(&[channels, at.out_height, at.out_width]));
        let steps = [(1, [at.out_height, at.width], at.out_width), (0, [at.height, at.width], at.out_height)];
        for (axis, [height, width], count) in steps {
            channels /= window.kernel[axis];
            let (own, weight) = self.picks(&window, axis, channels);
            let reach = (count - 1) * own.stride[axis] + (own.kernel[axis] - 1) * own.dilation[axis] + 1;
            let mut output_padding = [0; 2];
            // what no window covers is cut off, or stays 0
            output_padding[axis] = [height, width][axis] + own.padding[axis] + own.padding[axis + 2] - reach;
            let kind = ConvTranspose { window: own, groups: channels, output_padding };
            x = self.add(kind, vec![x, weight], image.with_last(&[channels, height, width]));
        }
        if image == out { x } else { self.add(Reshape, vec![x], out) }
    }

    /// One axis of a window, and a weight by which each of its taps is an output of its own.
    fn picks(&mut self, window: &Window, axis: usize, groups: usize) -> (Window, Id) {
        let mut own = Window::PIXEL;
        (own.kernel[axis], own.stride[axis]) = (window.kernel[axis], window.stride[axis]);
        own.dilation[axis] = window.dilation[axis];
        (own.padding[axis], own.padding[axis + 2]) = (window.padding[axis], window.padding[axis + 2]);
        let source = Source::OneHot { groups, taps: own.kernel };
        (own, self.net.add_constant(Constant::plain(source), vec![self.node]))
    }

    /// Widens a value by values of its own: along each axis parts of it side by side.
    fn extend(&mut self, x: Id, shape: Shape, mode: Border, each: &[(usize, usize)]) -> Id {
        let (mut x, mut shape) = (x, shape);
        for (axis, (before, after)) in each.iter().copied().enumerate().filter(|(_, sizes)| *sizes != (0, 0)) {
            let len = shape.axis(axis).expect("the shape was inferred");
            let places = |range: Range<usize>| range.map(|at| at as i64 - before as i64);
            let sources =
                |range: Range<usize>| places(range).filter_map(|at| mode.source(at, len)).collect::<Vec<usize>>();
            let mut parts = vec![];
            for run in runs(&sources(0..before)) {
                parts.push(self.add(Slice { axis, from: run.start }, vec![x], shape.with_axis(axis, run.len())));
            }
            parts.push(x);
            for run in runs(&sources(before + len..before + len + after)) {
                parts.push(self.add(Slice { axis, from: run.start }, vec![x], shape.with_axis(axis, run.len())));
            }
            shape = shape.with_axis(axis, before + len + after);
            x = self.add(Concat { axis }, parts, shape.clone());
        }
        x
    }

    /// Tensors of this index as a norm's factors and as what it adds, or 1 and 0 where it has none.
    fn affine(&mut self, tensors: [Option<usize>; 2], channels: usize) -> [Id; 2] {
        let none = [Constant::Scale { maps: vec![], channels }, Constant::Shift { bias: None, maps: vec![], channels }];
        let mut none = none.into_iter();
        tensors.map(|tensor| {
            let none = none.next().expect("two of each");
            match tensor {
                Some(index) => self.tensor(index),
                None => self.net.add_constant(none, vec![self.node]),
            }
        })
    }

    /// By the running statistics, or in training by those of the batch, which move them. Statistics are taken of images:
    /// what has channels along another axis becomes one of as many pixels as it has places.
    fn batch_norm(&mut self, axis: usize, affine: bool, eps: f64, momentum: f64, x: Id, out: Shape) -> Id {
        let first = if affine { 2 } else { 0 };
        if self.is_frozen() {
            let [mean, var] = [first, first + 1].map(|index| self.source(index));
            let affine = affine.then(|| [0, 1].map(|index| self.source(index)));
            return self.channels(axis, ChannelMap::Norm { affine, mean, var, eps }, x, out);
        }
        let channels = out.axis(axis).expect("the shape was inferred");
        let count = out.len() / channels;
        let turned = axis != 1;
        let (line, image) = (Shape::batched([channels, count]), Shape::image(channels, count, 1));
        let mut image_in = x;
        if turned {
            image_in = self.add(Permute { axes: vec![0, 2, 1] }, vec![image_in], line.clone());
        }
        let image = if out.as_image().is_some() { out.clone() } else { image };
        if out.as_image().is_none() {
            image_in = self.add(Reshape, vec![image_in], image.clone());
        }
        let both = Shape::fixed([2, channels]);
        let stats = self.add(BatchStats, vec![image_in], both.clone());
        let state = self.numbers[&(self.typed.graph().owner(self.node), first)];
        let running = Running { state, momentum: momentum as f32, count };
        self.add(running, vec![stats], both);
        let [weight, bias] = self.affine([affine.then_some(0), affine.then_some(1)], channels);
        let normed = self.add(BatchNorm { eps: eps as f32 }, vec![image_in, stats, weight, bias], image);
        match (out.as_image().is_some(), turned) {
            (true, _) => normed,
            (false, false) => self.add(Reshape, vec![normed], out),
            (false, true) => {
                let normed = self.add(Reshape, vec![normed], line);
                self.add(Permute { axes: vec![0, 2, 1] }, vec![normed], out)
            }
        }
    }

    fn layer_norm(&mut self, centre: Centre, axis: usize, affine: bool, eps: f64, x: Id, out: Shape) -> Id {
        let features = out.axis(axis).expect("the shape was inferred");
        let shift = affine.then_some(1).filter(|_| centre == Centre::Mean);
        let [weight, bias] = self.affine([affine.then_some(0), shift], features);
        self.add(LayerNorm { axis, centre, eps: eps as f32 }, vec![x, weight, bias], out)
    }

    fn group_norm(&mut self, groups: usize, affine: bool, eps: f64, x: Id, out: Shape) -> Id {
        let kind = GroupNorm { groups, eps: eps as f32 };
        let [weight, bias] = self.affine([affine.then_some(0), affine.then_some(1)], out.dims[0]);
        if out.as_image().is_some() {
            return self.add(kind, vec![x, weight, bias], out);
        }
        // whatever follows the channels is one line of pixels
        let line = Shape::image(out.dims[0], out.dims[1..].iter().product(), 1);
        let line_in = self.add(Reshape, vec![x], line.clone());
        let normed = self.add(kind, vec![line_in, weight, bias], line);
        self.add(Reshape, vec![normed], out)
    }

    /// One window over the whole image is a mean or maximum of all pixels.
    fn adaptive_pool(&mut self, pool: Kernel, reduce: By, x: Id, out: Shape) -> Id {
        match out.as_images() {
            Some((_, 1, 1)) => self.over_pixels(reduce, x, out),
            _ => self.on_each_image(AdaptivePool { pool }, x, out),
        }
    }

    /// Of the last two axes.
    fn over_pixels(&mut self, reduce: By, x: Id, out: Shape) -> Id {
        let rank = self.net.node(x).shape.rank();
        self.add(Reduce { reduce, axes: vec![rank - 2, rank - 1] }, vec![x], out)
    }

    /// A draw, or where it is frozen and does not always draw the operand.
    fn dropout(&mut self, x: Id, drops: Drops, out: Shape) -> Id {
        let Drops { p, grain, always } = drops;
        if self.is_frozen() && !(always && p > 0.0) {
            return self.add(Identity, vec![x], out);
        }
        // by the layer's path, so that a draw does not depend on what else there is
        let stream = name_hash(&self.typed.graph().node(self.node).path);
        let clock = match self.clock {
            Some(clock) => clock,
            None => self.net.add_input(CLOCK, Shape::fixed([8]), vec![self.node]),
        };
        self.clock = Some(clock);
        // at inference a sample's values do not depend on its place in the batch
        self.add(Dropout { p, grain, stream, alike: self.is_inference }, vec![x, clock], out)
    }

    /// A linear map by rows of a weight that is a value. Where others take the other rows of it for the same operand, all
    /// are one map, of which each is a part.
    fn linear_with(&mut self, linear: &LinearWith, nodes: &[NodeId], ins: &[Id], out: Shape) -> Id {
        let axis = out.rank() - 1;
        let all = self.net.node(ins[1]).shape.dims[0];
        let rows = linear.range(all);
        let others = self.maps.get(nodes).cloned().unwrap_or_default();
        if others.len() < 2 || !covers(&others, all) {
            let mut parts = ins[1..].to_vec();
            for id in parts.iter_mut().filter(|_| rows.len() < all) {
                let shape = self.net.node(*id).shape.with_axis(0, rows.len());
                *id = self.add(Slice { axis: 0, from: rows.start }, vec![*id], shape);
            }
            return self.linear_by(ins[0], &parts, out, vec![self.node]);
        }
        let wide = match self.wide.get(nodes) {
            Some(wide) => *wide,
            None => {
                let layers = others.iter().map(|(node, _)| *node).collect();
                let wide = self.linear_by(ins[0], &ins[1..], out.with_axis(axis, all), layers);
                self.wide.insert(nodes.to_vec(), wide);
                wide
            }
        };
        self.add(Slice { axis, from: rows.start }, vec![wide], out)
    }

    /// A linear map by values: `[weight]` or `[weight, bias]`.
    fn linear_by(&mut self, x: Id, by: &[Id], out: Shape, layers: Vec<NodeId>) -> Id {
        let bias = by.get(1).map(|bias| self.as_bias(*bias));
        let node = Node::new(Linear, vec![x, by[0]], out, layers);
        self.net.add(Node { epilogue: Epilogue::bias(bias), ..node })
    }

    fn attention(&mut self, op: &attention::Attention, ins: &[Id], out: Shape) -> Id {
        let [q, k, v] = [0, 1, 2].map(|at| ins[at]);
        let [dim, keys] = {
            let dims = &self.net.node(k).shape.dims;
            [dims[dims.len() - 1] / op.heads, dims[dims.len() - 2]]
        };
        let scale = op.scale(dim) as f32;
        // backward needs its inside, where something learned flows into it
        if self.is_frozen() && !self.learned.contains(&self.node) {
            return self.add(Attention { heads: op.heads, scale }, ins.to_vec(), out);
        }
        let scores = op.scores(&out, keys);
        let (k, v) = (self.by_head(k, op.heads, true), self.by_head(v, op.heads, false));
        let q = self.by_head(q, op.heads, false);
        let mut shares = self.add(Matmul { scale }, vec![q, k], scores.clone());
        if let Some(mask) = ins.get(3) {
            shares = self.binary(Of::Add, &[shares, *mask], scores.clone());
        }
        shares = self.add(Softmax { axis: scores.rank() - 1, log: false }, vec![shares], scores.clone());
        if op.dropout > 0.0 && !self.is_frozen() {
            let drops = Drops { p: op.dropout, grain: Grain::Value, always: false };
            shares = self.dropout(shares, drops, scores.clone());
        }
        let value_dim = out.last().expect("the shape was inferred") / op.heads;
        let mixed = self.add(Matmul { scale: 1.0 }, vec![shares, v], scores.with_axis(scores.rank() - 1, value_dim));
        if op.heads == 1 {
            return mixed;
        }
        let (rank, mut beside) = (out.rank(), out.clone());
        beside.dims.pop();
        beside.dims.extend([op.heads, value_dim]);
        let mut axes: Vec<usize> = (0..=rank).collect();
        axes.swap(rank - 2, rank - 1);
        let mixed = self.add(Permute { axes }, vec![mixed], beside);
        self.add(Reshape, vec![mixed], out)
    }

    /// [.., L, heads * dim] as [.., heads, L, dim], or transposed [.., heads, dim, L]; of one head without its axis.
    fn by_head(&mut self, x: Id, heads: usize, transposed: bool) -> Id {
        let (mut x, mut shape) = (x, self.net.node(x).shape.clone());
        let rank = shape.rank();
        let mut axes: Vec<usize> = (0..rank).collect();
        if heads == 1 {
            if !transposed {
                return x;
            }
            axes.swap(rank - 2, rank - 1);
        } else {
            let dim = shape.dims.pop().expect("the shape was inferred") / heads;
            shape.dims.extend([heads, dim]);
            x = self.add(Reshape, vec![x], shape.clone());
            axes.truncate(rank - 2);
            axes.extend(if transposed { [rank - 1, rank, rank - 2] } else { [rank - 1, rank - 2, rank] });
        }
        let first = usize::from(shape.batched);
        let dims = axes[first..].iter().map(|axis| shape.dims[axis - first]).collect();
        self.add(Permute { axes }, vec![x], Shape { batched: shape.batched, dims })
    }

    /// A function of each number.
    fn map(&mut self, x: Id, act: Act) -> Id {
        let shape = self.net.node(x).shape.clone();
        let node = Node::new(Identity, vec![x], shape, vec![self.node]);
        self.net.add(Node { epilogue: Epilogue::act(act), ..node })
    }

    fn binary(&mut self, op: Of, ins: &[Id], out: Shape) -> Id {
        let shape = |id: Id| &self.net.node(id).shape;
        if op == Of::Add && ins.iter().all(|id| *shape(*id) == out) {
            let epilogue = Epilogue { residual: Some(ins[1]), ..Epilogue::default() };
            return self.net.add(Node { epilogue, ..Node::new(Identity, vec![ins[0]], out, vec![self.node]) });
        }
        // a value of parameters alone that varies along one axis
        let commutes = op.swapped() == Some(op);
        let swapped: Vec<Id> = if commutes { vec![ins[1], ins[0]] } else { ins.to_vec() };
        for pair in [ins, &swapped] {
            if let Some((axis, source)) = self.along(pair[0], pair[1], &out) {
                let map = match op {
                    Of::Add => ChannelMap::Shift(source),
                    Of::Mul => ChannelMap::Scale(source),
                    _ => continue,
                };
                return self.channels(axis, map, pair[0], out);
            }
        }
        // the larger operand first, as far as that is the same
        let turned = commutes && *shape(ins[0]) != out && *shape(ins[1]) == out;
        self.add(Binary { op }, if turned { swapped } else { ins.to_vec() }, out)
    }

    /// The one axis of `x` along which the constant `c` varies, where `x` has the shape of the result.
    fn along(&self, x: Id, c: Id, out: &Shape) -> Option<(usize, Source)> {
        let source = self.net.constant(c)?.as_plain()?;
        let dims = source.shape();
        let long: Vec<usize> = (0..dims.len()).filter(|axis| dims[*axis] != 1).collect();
        let [axis] = long.as_slice() else { return None };
        // paired from the right
        let axis = (out.rank() + axis).checked_sub(dims.len())?;
        (self.net.node(x).shape == *out && axis > 0).then(|| (axis, source.clone()))
    }
}

/// Whether these rows are all of `len`, each once.
fn covers(parts: &[(NodeId, Range<usize>)], len: usize) -> bool {
    let mut ranges: Vec<&Range<usize>> = parts.iter().map(|(_, rows)| rows).collect();
    ranges.sort_by_key(|rows| rows.start);
    let mut end = 0;
    ranges.iter().all(|rows| rows.start == std::mem::replace(&mut end, rows.end)) && end == len
}

/// Indices as rising runs.
fn runs(places: &[usize]) -> Vec<Range<usize>> {
    places.chunk_by(|a, b| a + 1 == *b).map(|run| run[0]..run[run.len() - 1] + 1).collect()
}
