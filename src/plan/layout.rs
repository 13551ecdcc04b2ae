//! Decides how every value lies in memory, and with that which steps there are.
//!
//! A kind says the order of axes that its kernels need ([`Layout`](crate::net::Layout)); a value that lies otherwise is
//! copied once for all who need that order. Its result lies in the order that comes naturally: channels-last for images,
//! that of the operand for what works on rows or single numbers.
//!
//! What is learned lies in one buffer, its gradients in another of the same layout, so that an optimizer goes over both
//! once. Gradients are written there by what computes them, where that is possible.

use archc_base::DType;
use rustc_hash::FxHashMap;

use super::dtype::{is_large, outputs};
use super::geometry::{Pairing, pairing};
use super::states;
use super::{Buffer, Options, Place, Plan, Reduced, Step, View, Work, slices};
use crate::graph::NodeId;
use crate::net::{Constant, Id, Kind, Need, Net, Node, Order, Squeeze};
use crate::plan::view::IMAGE;

struct Layout<'a> {
    net: &'a Net,
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
    /// Where each state lies, and the gradients that are written where they are kept.
    states: Vec<View>,
    kept: Vec<Option<View>>,
    steps: Vec<Step>,
    buffers: Vec<Buffer>,
    constants: Vec<Constant>,
}

/// Steps and buffers, without lives and offsets.
pub(super) fn lay_out(net: Net, options: &Options) -> Plan {
    let (buffers, states) = states::lay_out(&net);
    let kept = states::kept(&net, &states);
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
    let outputs = net.outputs().iter().map(|(name, id)| (name.clone(), layout.view(*id))).collect();
    let dims = |id: Id| net.node(id).shape.concrete(options.batch);
    let inputs = net.inputs().iter().map(|(name, id)| (name.clone(), dims(*id))).collect();
    let Layout { steps, buffers, constants, states, .. } = layout;
    let segments = slices::whole(&steps);
    Plan { batch: options.batch, steps, segments, buffers, arena: 0, constants, inputs, outputs, states, net }
}

/// Which values can be written where a concatenation of channels wants them, the largest concatenations first.
fn find_parts(net: &Net) -> Vec<Option<(Id, usize)>> {
    let mut parts = vec![None; net.bound()];
    let is_image = |id: Id| net.node(id).shape.as_image().is_some();
    let mut concats: Vec<Id> = net.order();
    let of_channels = |id: Id| matches!(&net.node(id).kind, Kind::Concat(concat) if concat.axis == 1);
    concats.retain(|id| of_channels(*id) && is_image(*id));
    concats.sort_by_key(|id| std::cmp::Reverse((net.node(*id).shape.len(), id.0)));
    for concat in concats {
        let operands = &net.node(concat).operands;
        let mut at = 0;
        for operand in operands {
            let node = net.node(*operand);
            let once = operands.iter().filter(|other| *other == operand).count() == 1;
            let writes = (of_channels(*operand) || node.kind.layout(node, net).gaps) && is_image(*operand);
            if once && writes && parts[operand.0].is_none() {
                parts[operand.0] = Some((concat, at));
            }
            at += node.shape.axis(1).unwrap_or(0);
        }
    }
    parts
}

impl Layout<'_> {
    fn view(&self, id: Id) -> View {
        self.views[id.0].clone().expect("operands come first")
    }

    /// Emits the steps of a node, and says where its value lies.
    fn place(&mut self, id: Id) -> View {
        let node = self.net.node(id);
        let dims = node.shape.concrete(self.options.batch);
        match &node.kind {
            Kind::Input(input) => View::plain(Place::Input(input.0), &dims),
            Kind::Constant(constant) => self.constant(constant),
            Kind::State(state) => self.states[state.0].clone(),
            Kind::Permute(permute) => self.view(node.operands[0]).permuted(&permute.axes),
            Kind::Slice(slice) => self.view(node.operands[0]).sliced(slice.axis, slice.from, dims[slice.axis]),
            Kind::Reshape(_) => {
                let view = self.view(node.operands[0]);
                view.reshaped(&dims).unwrap_or_else(|| {
                    let copy = self.conform(&view, Need::RowMajor, &[], &node.layers);
                    copy.reshaped(&dims).expect("a plain value takes any shape")
                })
            }
            Kind::Concat(concat) => self.concat(id, concat.axis, &dims),
            Kind::Pad(pad) => {
                let from = self.view(node.operands[0]);
                let write = self.output(id, &from.order(), &[], true);
                self.step(Work::Fill(pad.value), vec![], write.clone(), &node.layers);
                let mut inner = write.clone();
                for (axis, before) in pad.before.iter().enumerate() {
                    inner = inner.sliced(axis, *before, from.dims[axis]);
                }
                self.step(Work::Copy, vec![from], inner, &node.layers);
                write
            }
            Kind::Roll(roll) => {
                let from = self.view(node.operands[0]);
                let write = self.output(id, &from.order(), &[], true);
                self.roll(from, write.clone(), &roll.shifts, &node.layers);
                write
            }
            Kind::Means(_) => {
                let means = self.means[node.operands[0].0].as_ref().expect("the operand leaves its means");
                means.reshaped(&dims).expect("as many as there are channels")
            }
            Kind::Gradient(gradient) => {
                let (from, to) = (self.view(node.operands[0]), states::gradient(&self.states[gradient.state]));
                if self.kept[node.operands[0].0].is_none() {
                    self.step(Work::Copy, vec![from], to.clone(), &node.layers);
                }
                to
            }
            Kind::Running(running) => {
                let mean = self.states[running.state].clone();
                let channels = mean.dims[0];
                let strides = vec![self.states[running.state + 1].offset - mean.offset, 1];
                let write = View { dims: vec![2, channels], strides, ..mean };
                let from = self.view(node.operands[0]);
                self.step(Work::Node(id), vec![from], write.clone(), &node.layers);
                write
            }
            _ => self.compute(id),
        }
    }

    /// One step that reads its operands as its kind needs them.
    fn compute(&mut self, id: Id) -> View {
        let node = self.net.node(id);
        let layers = &node.layers;
        let layout = node.kind.layout(node, self.net);
        let order = self.order(id, &layout.order);
        let mut reads: Vec<View> = vec![];
        for (at, operand) in node.operands.iter().enumerate() {
            let view = self.view(*operand);
            let need = layout.needs.get(at).copied().unwrap_or(Need::RowMajor);
            let need = if need == Need::Window && self.reads_any(node, &view) { Need::Any } else { need };
            reads.push(self.conform(&view, need, &order, layers));
        }
        let epilogue = node.epilogue;
        let beside = |own: &mut Self, read: Option<Id>, need: Need| {
            read.map(|read| own.conform(&own.view(read), need, &order, layers))
        };
        let residual = beside(self, epilogue.residual, Need::Matrix);
        let gate = beside(self, epilogue.gate, Need::RowMajor);
        let bias = beside(self, epilogue.bias, Need::RowMajor);
        let seen: Vec<&View> = reads.iter().chain(&gate).chain(&residual).collect();
        let gaps = match node.kind {
            Kind::Binary(_) => self.pairs(id, &reads, &order) != Pairing::Broadcast,
            _ => layout.gaps,
        };
        let plain: Vec<usize> = (0..node.shape.rank()).collect();
        // row-major values of another rank than what they are made from
        let in_order = layout.in_order && order.len() == plain.len();
        let write = self.output(id, if in_order { &order } else { &plain }, &seen, gaps);
        let in_place = layout.in_place && gaps && reads[0].dims == write.dims;
        let of_means = if self.options.reduced == Reduced::Batched { self.options.dtype } else { DType::F32 };
        let means =
            (epilogue.squeeze == Squeeze::Also).then(|| self.fresh(&write.dims[..2], &[0, 1], false, of_means, true));
        self.means[id.0] = means.clone();
        let step =
            Step { reads, bias, gate, residual, means, in_place, order, ..Step::new(Work::Node(id), write, layers) };
        let write = step.write.clone();
        self.steps.push(step);
        write
    }

    /// The order of axes in which a node goes through its values.
    fn order(&self, id: Id, order: &Order) -> Vec<usize> {
        let node = self.net.node(id);
        match order {
            Order::Image => IMAGE.to_vec(),
            Order::As { of, last } => {
                let mut order = self.view(node.operands[*of]).order();
                if let Some(last) = last {
                    order.retain(|axis| axis != last);
                    order.push(*last);
                }
                order
            }
            Order::Wanted => self.wanted_order(id).unwrap_or((0..node.shape.rank()).collect()),
            // sums have fewer axes than what they are sums of
            Order::RowMajor => {
                let rank = node.operands.first().map_or(0, |operand| self.net.node(*operand).shape.rank());
                (0..rank.max(node.shape.rank())).collect()
            }
        }
    }

    /// Whether a convolution of `node` can read an image as it lies.
    fn reads_any(&self, node: &Node, x: &View) -> bool {
        let (window, groups) = match &node.kind {
            Kind::Conv(conv) => (conv.window, conv.groups),
            Kind::PooledConv(conv) => (conv.window, 1),
            _ => return false,
        };
        let few = groups == 1 && x.dims[1] <= self.options.few_channels && window.kernel != [1, 1];
        let float = match x.place {
            Place::Buffer(buffer) => self.buffers[buffer].dtype == DType::F32,
            _ => true,
        };
        few && float && self.net.constant(node.operands[1]).is_some()
    }

    /// How the second operand of a binary node pairs with the first.
    fn pairs(&self, id: Id, reads: &[View], order: &[usize]) -> Pairing {
        let node = self.net.node(id);
        let dims = node.shape.concrete(self.options.batch);
        let Some(first) = reads.iter().position(|view| view.dims == dims) else { return Pairing::Broadcast };
        let from_left = node.operands.iter().all(|operand| self.net.node(*operand).shape.batched);
        pairing(&reads[1 - first].broadcast(&dims, from_left), order)
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
        let stride = if pixels { (self.options.pixel_stride)(dims[1]) } else { 0 };
        let view = View::spaced(Place::Buffer(self.buffers.len()), dims, order, stride);
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
            // a first axis of 1 is broadcast to the batch
            parts.push(view.broadcast(&part, true));
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

    fn constant(&mut self, constant: &Constant) -> View {
        let number = self.constants.iter().position(|other| other == constant).unwrap_or_else(|| {
            self.constants.push(constant.clone());
            self.constants.len() - 1
        });
        View::plain(Place::Constant(number), &constant.shape())
    }

    /// The view, or a copy of it that a kernel with this need can read.
    fn conform(&mut self, view: &View, need: Need, order: &[usize], layers: &[NodeId]) -> View {
        let rank = view.dims.len();
        let dense = |axis: usize| view.strides[axis] == 1 || view.dims[axis] == 1;
        let (fits, order) = match need {
            Need::Any => return view.clone(),
            Need::RowMajor => (view.is_plain(), (0..rank).collect()),
            Need::Matrix | Need::Window => (view.matrix(order).is_some(), order.to_vec()),
            Need::Left => (dense(rank - 1), (0..rank).collect()),
            Need::Right => (dense(rank - 1) || dense(rank - 2), (0..rank).collect()),
        };
        if fits { view.clone() } else { self.copy(view, &order, layers) }
    }

    fn copy(&mut self, view: &View, order: &[usize], layers: &[NodeId]) -> View {
        let key = (view.clone(), order.to_vec());
        if let Some(copy) = self.copies.get(&key) {
            return copy.clone();
        }
        let (dtype, batched) = match view.place {
            Place::Buffer(buffer) => (self.buffers[buffer].dtype, self.buffers[buffer].sample.is_some()),
            Place::Input(number) => {
                let batched = self.net.node(self.net.inputs()[number].1).shape.batched;
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

    fn step(&mut self, work: Work, reads: Vec<View>, write: View, layers: &[NodeId]) {
        self.steps.push(Step { reads, ..Step::new(work, write, layers) });
    }

    /// The order in which the only reader of a value would have to copy it: a permutation that is then reshaped.
    fn wanted_order(&self, id: Id) -> Option<Vec<usize>> {
        let reader = self.net.only_reader(id)?;
        let Kind::Permute(permute) = &self.net.node(reader).kind else { return None };
        let next = self.net.only_reader(reader)?;
        // the rows of a product may lie among its innermost batch of matrices, and nowhere else
        let rank = permute.axes.len();
        let mut swapped: Vec<usize> = (0..rank).collect();
        if rank >= 3 {
            swapped.swap(rank - 3, rank - 2);
        }
        (matches!(self.net.node(next).kind, Kind::Reshape(_)) && permute.axes == swapped).then_some(swapped)
    }
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
