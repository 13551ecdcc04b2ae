//! Decides how every value lies in memory, and with that which steps there are.
//!
//! A kernel names the order of axes that it needs ([`needs`]); a value that lies otherwise is copied once for all who
//! need that order. Its result lies in the order that comes naturally: channels-last for images, that of the operand
//! for what works on rows or single numbers.

use archc_base::DType;
use rustc_hash::FxHashMap;

use super::dtype::{is_large, outputs};
use super::pairing::{Pairing, pairing};
use super::{Buffer, Options, Place, Plan, Reduced, Step, View, Work, learn, slices};
use crate::graph::NodeId;
use crate::opt::{Id, Kind, Net, Source, Squeeze};
use crate::plan::view::IMAGE;

/// What a kernel can read.
pub(super) enum Need {
    /// Any view.
    Any,
    /// A matrix with whatever order of axes it has.
    Own,
    /// A matrix with this order of axes.
    Order(Vec<usize>),
    /// A matrix whose columns are this axis.
    Rows(usize),
    /// Row-major without gaps.
    Plain,
    /// Matrices of the last two axes, whose rows have no gaps.
    Left,
    /// The same, or their columns.
    Right,
}

pub(super) struct Layout<'a> {
    pub(super) net: &'a Net,
    options: &'a Options<'a>,
    /// Where each value lies, once it is computed.
    views: Vec<Option<View>>,
    /// Where the means of each value lie, whose computation leaves them.
    means: Vec<Option<View>>,
    /// The concatenation that a value is written into, and where along its channels.
    parts: Vec<Option<(Id, usize)>>,
    /// Concatenations whose buffer exists although not all parts are written.
    begun: Vec<Option<View>>,
    copies: FxHashMap<(View, Vec<usize>), View>,
    /// Values that the network gives out.
    is_output: Vec<bool>,
    /// Where each state lies, and the derivatives that are written where they are kept.
    pub(super) states: Vec<View>,
    pub(super) kept: Vec<Option<View>>,
    steps: Vec<Step>,
    buffers: Vec<Buffer>,
    constants: Vec<Source>,
}

/// Steps and buffers, without lives and offsets.
pub(super) fn lay_out(net: Net, options: &Options) -> Plan {
    let (buffers, states) = learn::states(&net);
    let kept = learn::kept(&net, &states);
    let mut layout = Layout {
        net: &net,
        options,
        views: vec![None; net.bound()],
        means: vec![None; net.bound()],
        parts: find_parts(&net),
        begun: vec![None; net.bound()],
        copies: FxHashMap::default(),
        is_output: outputs(&net),
        states,
        kept,
        steps: vec![],
        buffers,
        constants: vec![],
    };
    for id in net.order() {
        let view = layout.place(id);
        layout.views[id.0] = Some(view);
    }
    let outputs = net.outputs.iter().map(|(name, id)| (name.clone(), layout.view(*id))).collect();
    let dims = |id: Id| net.node(id).shape.concrete(options.batch);
    let inputs = net.inputs.iter().map(|(name, id)| (name.clone(), dims(*id))).collect();
    let Layout { steps, buffers, constants, states, .. } = layout;
    let segments = slices::whole(&steps);
    Plan { batch: options.batch, steps, segments, buffers, arena: 0, constants, inputs, outputs, states, net }
}

/// Which values can be written where a concatenation of channels wants them, the largest concatenations first.
fn find_parts(net: &Net) -> Vec<Option<(Id, usize)>> {
    let mut parts = vec![None; net.bound()];
    let is_image = |id: Id| net.node(id).shape.as_image().is_some();
    let mut concats: Vec<Id> = net.order();
    concats.retain(|id| matches!(net.node(*id).kind, Kind::Concat { axis: 1 }) && is_image(*id));
    concats.sort_by_key(|id| std::cmp::Reverse((net.node(*id).shape.len(), id.0)));
    for concat in concats {
        let operands = &net.node(concat).operands;
        let mut at = 0;
        for operand in operands {
            let node = net.node(*operand);
            let once = operands.iter().filter(|other| *other == operand).count() == 1;
            let writes = writes_images(&node.kind) && is_image(*operand);
            if once && writes && parts[operand.0].is_none() {
                parts[operand.0] = Some((concat, at));
            }
            at += node.shape.axis(1).unwrap_or(0);
        }
    }
    parts
}

/// Whether the kind computes images, and can leave gaps between their pixels.
fn writes_images(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Identity
            | Kind::Conv { .. }
            | Kind::Separable { .. }
            | Kind::PooledConv { .. }
            | Kind::ConvTranspose { .. }
            | Kind::Channels { .. }
            | Kind::PRelu { .. }
            | Kind::Pool { .. }
            | Kind::AdaptivePool { .. }
            | Kind::Resize { .. }
            | Kind::Concat { axis: 1 }
    ) || matches!(kind, Kind::Learn(learn) if learn::writes_images(learn))
}

impl Layout<'_> {
    pub(super) fn view(&self, id: Id) -> View {
        self.views[id.0].clone().expect("operands come first")
    }

    /// Emits the steps of a node, and says where its value lies.
    fn place(&mut self, id: Id) -> View {
        let node = self.net.node(id);
        let dims = node.shape.concrete(self.options.batch);
        let image = dims.len() == 4 && node.shape.batched;
        let last = dims.len().saturating_sub(1);
        match &node.kind {
            Kind::Input(number) => View::plain(Place::Input(*number), &dims),
            Kind::Constant(source) => self.constant(source),
            Kind::State(state) => self.states[*state].clone(),
            Kind::Learn(learn) => self.learn(id, learn),
            Kind::Permute { axes } => self.view(node.operands[0]).permuted(axes),
            Kind::Slice { axis, from } => self.view(node.operands[0]).sliced(*axis, *from, dims[*axis]),
            Kind::Reshape => {
                let view = self.view(node.operands[0]);
                view.reshaped(&dims).unwrap_or_else(|| {
                    let copy = self.conform(&view, &Need::Plain, &node.layers);
                    copy.reshaped(&dims).expect("a plain value takes any shape")
                })
            }
            Kind::Concat { axis } => self.concat(id, *axis, &dims),
            Kind::Pad { before, value } => {
                let from = self.view(node.operands[0]);
                let write = self.output(id, &from.order(), &[], true);
                self.step(Work::Fill(*value), vec![], write.clone(), &node.layers);
                let mut inner = write.clone();
                for (axis, before) in before.iter().enumerate() {
                    inner = inner.sliced(axis, *before, from.dims[axis]);
                }
                self.step(Work::Copy, vec![from], inner, &node.layers);
                write
            }
            Kind::Roll { shifts } => {
                let from = self.view(node.operands[0]);
                let write = self.output(id, &from.order(), &[], true);
                self.roll(from, write.clone(), shifts, &node.layers);
                write
            }
            Kind::Means => {
                let means = self.means[node.operands[0].0].as_ref().expect("the operand leaves its means");
                means.reshaped(&dims).expect("as many as there are channels")
            }
            Kind::Conv { .. } => {
                let order = if image { IMAGE.to_vec() } else { (0..dims.len()).collect() };
                self.compute(id, &[self.window_need(id), Need::Plain], Some(order))
            }
            Kind::PooledConv { .. } => self.compute(id, &[self.window_need(id)], Some(IMAGE.to_vec())),
            Kind::Separable { .. }
            | Kind::ConvTranspose { .. }
            | Kind::Pool { .. }
            | Kind::AdaptivePool { .. }
            | Kind::Resize { .. } => self.compute(id, &[Need::Order(IMAGE.to_vec())], Some(IMAGE.to_vec())),
            Kind::GroupNorm { .. } => self.compute(id, &[Need::Order(IMAGE.to_vec())], Some(IMAGE.to_vec())),
            Kind::Linear { .. } => self.compute(id, &[Need::Rows(last)], None),
            Kind::LayerNorm { axis, .. } | Kind::Softmax { axis, .. } | Kind::Normalize { axis, .. } => {
                self.compute(id, &[Need::Rows(*axis)], None)
            }
            Kind::Channels { axis, .. } => self.compute(id, &[Need::Rows(*axis)], None),
            Kind::PRelu { .. } => self.compute(id, &[Need::Rows(1)], None),
            Kind::Identity if node.epilogue.gate.is_some() => {
                self.compute(id, &[Need::Order(IMAGE.to_vec())], Some(IMAGE.to_vec()))
            }
            Kind::Identity => self.compute(id, &[Need::Own], None),
            Kind::Attention { .. } => {
                let rows = || Need::Order((0..dims.len()).collect());
                self.compute(id, &[rows(), rows(), rows()], Some((0..dims.len()).collect()))
            }
            Kind::Binary { .. } => {
                let whole = node.operands.iter().find(|operand| self.view(**operand).dims == dims);
                let order = match whole {
                    Some(operand) => self.view(*operand).order(),
                    None if image => IMAGE.to_vec(),
                    None => (0..dims.len()).collect(),
                };
                let needs = node.operands.iter().map(|operand| match whole {
                    Some(whole) if whole == operand => Need::Order(order.clone()),
                    _ => Need::Any,
                });
                let needs: Vec<Need> = needs.collect();
                self.compute(id, &needs, Some(order))
            }
            Kind::Matmul { .. } => {
                let order = self.wanted_order(id).unwrap_or((0..dims.len()).collect());
                self.compute(id, &[Need::Left, Need::Right], Some(order))
            }
            Kind::Excitation { .. } => self.compute(id, &[Need::Plain], Some((0..dims.len()).collect())),
            Kind::Reduce { .. } => {
                let keep = node.shape.rank() == self.view(node.operands[0]).dims.len();
                let order = if keep && image { IMAGE.to_vec() } else { (0..dims.len()).collect() };
                self.compute(id, &[Need::Any], Some(order))
            }
            Kind::Op { .. } => {
                let needs: Vec<Need> = node.operands.iter().map(|_| Need::Plain).collect();
                self.compute(id, &needs, Some((0..dims.len()).collect()))
            }
        }
    }

    /// One step that reads the operands as `needs` says and writes in `order`, or in that of the first operand.
    pub(super) fn compute(&mut self, id: Id, needs: &[Need], order: Option<Vec<usize>>) -> View {
        let node = self.net.node(id);
        let layers = &node.layers;
        let reads: Vec<View> = node
            .operands
            .iter()
            .zip(needs)
            .map(|(operand, need)| self.conform(&self.view(*operand), need, layers))
            .collect();
        let order = order.unwrap_or_else(|| match needs[0] {
            Need::Rows(axis) => with_last(&reads[0], axis),
            _ => reads[0].order(),
        });
        let single =
            matches!(node.kind, Kind::Identity | Kind::Channels { .. } | Kind::PRelu { .. } | Kind::Binary { .. })
                || matches!(&node.kind, Kind::Learn(learn) if learn.is_single());
        // of a convolution it has the pixels of the image, also where only their means are kept
        let added = if matches!(node.kind, Kind::Conv { .. }) { IMAGE.to_vec() } else { order.clone() };
        let residual =
            node.epilogue.residual.map(|residual| self.conform(&self.view(residual), &Need::Order(added), layers));
        let gate = node.epilogue.gate.map(|gate| self.conform(&self.view(gate), &Need::Plain, layers));
        let seen: Vec<&View> = reads.iter().chain(&gate).chain(&residual).collect();
        let gaps = match node.kind {
            Kind::Binary { .. } => self.pairs(id, &reads, &order) != Pairing::Broadcast,
            _ => writes_images(&node.kind),
        };
        let write = self.output(id, &order, &seen, gaps);
        let in_place = single && gaps && reads[0].dims == write.dims;
        let means = (node.epilogue.squeeze == Squeeze::Also)
            .then(|| self.fresh(&write.dims[..2], &[0, 1], false, DType::F32, true));
        self.means[id.0] = means.clone();
        let (work, layers) = (Work::Node(id), layers.clone());
        self.steps.push(Step { work, reads, gate, residual, write: write.clone(), means, in_place, layers });
        write
    }

    /// What a convolution needs of its image.
    fn window_need(&self, id: Id) -> Need {
        let node = self.net.node(id);
        let (window, groups) = match &node.kind {
            Kind::Conv { window, groups, .. } => (window, *groups),
            Kind::PooledConv { window, .. } => (window, 1),
            _ => unreachable!("the caller has seen a convolution"),
        };
        let x = self.view(node.operands[0]);
        let few = groups == 1 && x.dims[1] <= self.options.few_channels && window.kernel != [1, 1];
        let float = match x.place {
            Place::Buffer(buffer) => self.buffers[buffer].dtype == DType::F32,
            _ => true,
        };
        if few && float { Need::Any } else { Need::Order(IMAGE.to_vec()) }
    }

    /// How the second operand of a binary node pairs with the first.
    fn pairs(&self, id: Id, reads: &[View], order: &[usize]) -> Pairing {
        let node = self.net.node(id);
        let dims = node.shape.concrete(self.options.batch);
        let Some(first) = reads.iter().position(|view| view.dims == dims) else { return Pairing::Broadcast };
        let from_left = node.operands.iter().all(|operand| self.net.node(*operand).shape.batched);
        pairing(&reads[1 - first].stretched(&dims, from_left), order)
    }

    /// Where node `id` writes, its axes in `order`: a part of a concatenation, or a buffer of its own.
    fn output(&mut self, id: Id, order: &[usize], reads: &[&View], gaps: bool) -> View {
        if let Some(view) = &self.kept[id.0] {
            return view.clone();
        }
        if let Some((concat, at)) = self.parts[id.0].take() {
            let whole = self.begin(concat);
            let len = self.net.node(id).shape.axis(1).expect("parts are images");
            let part = whole.sliced(1, at, len);
            let apart = reads.iter().all(|view| view.place != part.place);
            if apart && part.matrix(order).is_some() && gaps {
                return part;
            }
        }
        let shape = &self.net.node(id).shape;
        let (dims, batched) = (shape.concrete(self.options.batch), shape.batched);
        let is_kept = !batched || (self.is_output[id.0] && self.options.reduced == Reduced::Large);
        let dtype = if is_kept { DType::F32 } else { self.dtype(&dims) };
        self.fresh(&dims, order, gaps, dtype, batched)
    }

    /// What a value of these sizes is kept in.
    fn dtype(&self, dims: &[usize]) -> DType {
        let is_reduced = self.options.reduced == Reduced::Batched || is_large(dims);
        if is_reduced { self.options.dtype } else { DType::F32 }
    }

    fn fresh(&mut self, dims: &[usize], order: &[usize], gaps: bool, dtype: DType, batched: bool) -> View {
        let pixels = gaps && order == IMAGE && dims[2] * dims[3] > 1;
        let dist = if pixels { (self.options.pixel_distance)(dims[1]) } else { 0 };
        let view = View::spaced(Place::Buffer(self.buffers.len()), dims, order, dist);
        let sample = batched.then(|| view.strides[0]);
        self.buffers.push(Buffer { dtype, offset: 0, len: view.span().end, sample, life: (0, 0) });
        view
    }

    /// The buffer of a concatenation, made when its first part is.
    fn begin(&mut self, concat: Id) -> View {
        if let Some(view) = &self.begun[concat.0] {
            return view.clone();
        }
        let view = self.output(concat, &IMAGE, &[], true);
        self.begun[concat.0] = Some(view.clone());
        view
    }

    fn concat(&mut self, id: Id, axis: usize, dims: &[usize]) -> View {
        let node = self.net.node(id);
        let mut parts: Vec<View> = vec![];
        for operand in &node.operands {
            let view = self.view(*operand);
            let mut part = dims.to_vec();
            part[axis] = view.dims[axis];
            // a first axis of 1 is stretched to the batch
            parts.push(view.stretched(&part, true));
        }
        if self.begun[id.0].is_none()
            && self.parts[id.0].is_none()
            && let Some(view) = neighbours(&parts, axis, dims)
        {
            return view;
        }
        let write = match &self.begun[id.0] {
            Some(view) => view.clone(),
            None => {
                let first = parts.iter().max_by_key(|part| part.len()).expect("a concatenation has operands");
                let order = first.order();
                self.output(id, &order, &[], true)
            }
        };
        let mut at = 0;
        for part in parts {
            let target = write.sliced(axis, at, part.dims[axis]);
            at += part.dims[axis];
            if part == target
                || (part.place == target.place && part.offset == target.offset && part.same_layout(&target))
            {
                continue;
            }
            let from = if part.place == target.place { self.copy(&part, &part.order(), &node.layers) } else { part };
            self.step(Work::Copy, vec![from], target, &node.layers);
        }
        write
    }

    fn roll(&mut self, from: View, to: View, shifts: &[(usize, usize)], layers: &[NodeId]) {
        let Some(((axis, shift), rest)) = shifts.split_first() else {
            self.step(Work::Copy, vec![from], to, layers);
            return;
        };
        let len = from.dims[*axis];
        if *shift == 0 {
            return self.roll(from, to, rest, layers);
        }
        let kept = len - shift;
        self.roll(from.sliced(*axis, 0, kept), to.sliced(*axis, *shift, kept), rest, layers);
        self.roll(from.sliced(*axis, kept, *shift), to.sliced(*axis, 0, *shift), rest, layers);
    }

    fn constant(&mut self, source: &Source) -> View {
        let number = self.constants.iter().position(|other| other == source).unwrap_or_else(|| {
            self.constants.push(source.clone());
            self.constants.len() - 1
        });
        View::plain(Place::Constant(number), source.shape())
    }

    /// The view, or a copy of it that a kernel with this need can read.
    fn conform(&mut self, view: &View, need: &Need, layers: &[NodeId]) -> View {
        let rank = view.dims.len();
        let order = match need {
            Need::Any => return view.clone(),
            Need::Plain if view.is_plain() => return view.clone(),
            Need::Plain => (0..rank).collect(),
            Need::Own if view.matrix(&view.order()).is_some() => return view.clone(),
            Need::Own => view.order(),
            Need::Order(order) if view.matrix(order).is_some() => return view.clone(),
            Need::Order(order) => order.clone(),
            Need::Rows(axis) => {
                let order = with_last(view, *axis);
                if view.matrix(&order).is_some() {
                    return view.clone();
                }
                order
            }
            Need::Left | Need::Right => {
                let dense = |axis: usize| view.strides[axis] == 1 || view.dims[axis] == 1;
                if dense(rank - 1) || (matches!(need, Need::Right) && dense(rank - 2)) {
                    return view.clone();
                }
                (0..rank).collect()
            }
        };
        self.copy(view, &order, layers)
    }

    fn copy(&mut self, view: &View, order: &[usize], layers: &[NodeId]) -> View {
        let key = (view.clone(), order.to_vec());
        if let Some(copy) = self.copies.get(&key) {
            return copy.clone();
        }
        let (dtype, batched) = match view.place {
            Place::Buffer(buffer) => (self.buffers[buffer].dtype, self.buffers[buffer].sample.is_some()),
            Place::Input(number) => {
                let batched = self.net.node(self.net.inputs[number].1).shape.batched;
                let all = self.options.reduced == Reduced::Batched;
                (if batched || !all { self.dtype(&view.dims) } else { DType::F32 }, batched)
            }
            Place::Constant(_) => (DType::F32, false),
        };
        let copy = self.fresh(&view.dims, order, order == IMAGE, dtype, batched);
        self.step(Work::Copy, vec![view.clone()], copy.clone(), layers);
        self.copies.insert(key, copy.clone());
        copy
    }

    pub(super) fn step(&mut self, work: Work, reads: Vec<View>, write: View, layers: &[NodeId]) {
        let layers = layers.to_vec();
        self.steps.push(Step { work, reads, gate: None, residual: None, write, means: None, in_place: false, layers });
    }

    /// The order in which the only reader of a value would have to copy it: a permutation that is then reshaped.
    fn wanted_order(&self, id: Id) -> Option<Vec<usize>> {
        let reader = self.only_reader(id)?;
        let Kind::Permute { axes } = &self.net.node(reader).kind else { return None };
        let next = self.only_reader(reader)?;
        // the rows of a product may lie among its innermost batch of matrices, and nowhere else
        let rank = axes.len();
        let mut swapped: Vec<usize> = (0..rank).collect();
        if rank >= 3 {
            swapped.swap(rank - 3, rank - 2);
        }
        (matches!(self.net.node(next).kind, Kind::Reshape) && *axes == swapped).then_some(swapped)
    }

    fn only_reader(&self, id: Id) -> Option<Id> {
        let mut readers = (0..self.net.bound()).filter_map(|at| {
            let reads = self.net.get(Id(at))?.reads().filter(|read| *read == id).count();
            (reads > 0).then_some(Id(at))
        });
        let reader = readers.next()?;
        let output = self.net.outputs.iter().any(|(_, output)| *output == id);
        (readers.next().is_none() && !output).then_some(reader)
    }
}

/// The order of the view with `axis` as the innermost.
fn with_last(view: &View, axis: usize) -> Vec<usize> {
    let mut order = view.order();
    order.retain(|other| *other != axis);
    order.push(axis);
    order
}

/// Parts that already lie next to each other along `axis`, as one view.
fn neighbours(parts: &[View], axis: usize, dims: &[usize]) -> Option<View> {
    let first = parts.first()?;
    let mut at = first.offset;
    for part in parts {
        let same_strides = (0..dims.len())
            .all(|other| part.strides[other] == first.strides[other] || (dims[other] == 1 && other != axis));
        if part.place != first.place || part.offset != at || !same_strides || part.strides[axis] == 0 {
            return None;
        }
        at += part.dims[axis] * part.strides[axis];
    }
    Some(View { dims: dims.to_vec(), ..first.clone() })
}
