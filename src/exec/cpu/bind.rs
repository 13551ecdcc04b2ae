//! Binds a step of a plan to its kernel: reads and packs its weights, works out its geometry.

use archc_base::{Act, Binary, Window};

use super::kernels::{
    ConvShape, ConvTransposeShape, Heads, Isa, Layout, PackedConv, PackedConvTranspose, PackedMat, PackedPooled,
    PackedSeparable, Policy, RawConv, Rows, Site, choose,
};
use super::memory::Slot;
use super::step::{Bound, Matmul, Pairs, Place, Work};
use crate::diag::Problem;
use crate::exec::Weights;
use crate::ops::shape::Shape;
use crate::opt::{Id, Kind, Learn};
use crate::plan::pairing::{Pairing, pairing};
use crate::plan::view::{IMAGE, Matrix};
use crate::plan::{self, Plan, Step, View};

/// At most so many rows may be multiplied with weights as they lie in the file; more are always worth packing for.
pub(super) const FEW_ROWS: usize = 8;

pub(super) fn bind(isa: Isa, policy: Policy, plan: &Plan, step: &Step, weights: &Weights) -> Result<Bound, Problem> {
    let mut acts = [Act::None; 2];
    let work = match &step.work {
        plan::Work::Copy => Work::Copy,
        plan::Work::Fill(value) => Work::Fill(*value),
        plan::Work::Node(id) => {
            let epilogue = &plan.net().node(*id).epilogue;
            acts = [epilogue.before, epilogue.after];
            node(isa, policy, plan, *id, step, weights)?
        }
    };
    let order = order(plan, step);
    let place = |view| match &work {
        Work::Learn(learn, _) => place(plan, view, &super::learn::order(learn, step, view)),
        _ => place(plan, view, &order),
    };
    let reads = step.reads.iter().map(place).collect();
    let [gate, means, residual] = [&step.gate, &step.means, &step.residual].map(|view| view.as_ref().map(place));
    let write = place(&step.write);
    Ok(Bound { work, reads, gate, means, residual, write, in_place: step.in_place, acts })
}

pub(super) fn place(plan: &Plan, view: &View, order: &[usize]) -> Place {
    Place {
        slot: Slot::new(plan, view),
        // an image of which only the means are written has more axes than they
        matrix: view.matrix(order).or_else(|| view.matrix(&IMAGE)).unwrap_or(Matrix { rows: 1, cols: 1, dist: 1 }),
        dims: view.dims.clone(),
        strides: view.strides.clone(),
    }
}

/// The order of axes in which a step goes through rows.
pub(super) fn order(plan: &Plan, step: &Step) -> Vec<usize> {
    let plan::Work::Node(id) = step.work else { return vec![] };
    let rank = step.write.dims.len();
    let with_last = |axis: usize| {
        let mut order = step.write.order();
        order.retain(|other| *other != axis);
        order.push(axis);
        order
    };
    match &plan.net().node(id).kind {
        Kind::Linear { .. } => with_last(rank - 1),
        Kind::LayerNorm { axis, .. }
        | Kind::Softmax { axis, .. }
        | Kind::Normalize { axis, .. }
        | Kind::Channels { axis, .. } => with_last(*axis),
        Kind::PRelu { .. } => with_last(1),
        Kind::Identity if step.gate.is_some() => IMAGE.to_vec(),
        Kind::Identity | Kind::Binary { .. } => step.write.order(),
        Kind::Attention { .. } => (0..rank).collect(),
        _ if rank == 4 => IMAGE.to_vec(),
        _ => (0..rank).collect(),
    }
}

fn node(isa: Isa, policy: Policy, plan: &Plan, id: Id, step: &Step, weights: &Weights) -> Result<Work, Problem> {
    let node = plan.net().node(id);
    let dims = &step.write.dims;
    let operand = |at: usize| &step.reads[at];
    Ok(match &node.kind {
        Kind::Conv { window, groups, weights: expression } => {
            let squeeze = node.epilogue.squeeze;
            let shape = conv_shape(window, operand(0).dims[1], dims[1], *groups);
            let channels = weights.channels(expression, dims[1])?;
            let raw = weights.read(&expression.weight)?;
            let [n, _, h, w] = operand(0).dims[..] else { unreachable!("images have four axes") };
            let algorithm = choose::<f32>(isa, &shape, &Site { batch: n, size: [h, w], policy });
            let packed = PackedConv::pack_for(isa, &shape, algorithm, &raw, channels.scale.as_deref());
            Work::Conv { packed, bias: channels.shift, squeeze }
        }
        Kind::Separable { window, depthwise, act, pointwise } => {
            let hidden = operand(0).dims[1];
            let shape = conv_shape(window, hidden, hidden, hidden);
            let (deep, flat) = (weights.channels(depthwise, hidden)?, weights.channels(pointwise, dims[1])?);
            let (deep_raw, flat_raw) = (weights.read(&depthwise.weight)?, weights.read(&pointwise.weight)?);
            let [deep_raw, flat_raw] = [(&deep_raw, &deep.scale), (&flat_raw, &flat.scale)]
                .map(|(weights, scale)| RawConv { weights, scale: scale.as_deref() });
            let packed = PackedSeparable::pack(isa, &shape, deep_raw, deep.shift, *act, dims[1], flat_raw);
            Work::Separable { packed, bias: flat.shift }
        }
        Kind::PooledConv { window, weights: expression, act, pool } => {
            let shape = conv_shape(window, operand(0).dims[1], dims[1], 1);
            let channels = weights.channels(expression, dims[1])?;
            let raw = weights.read(&expression.weight)?;
            let scale = channels.scale.as_deref();
            let packed = PackedPooled::pack(isa, &shape, &raw, scale, channels.shift, *act, *pool);
            Work::PooledConv { packed }
        }
        Kind::ConvTranspose { window, groups, output_padding, weights: expression } => {
            let shape = transposed_shape(window, *output_padding, operand(0).dims[1], dims[1], *groups);
            let channels = weights.channels(expression, dims[1])?;
            let raw = weights.read(&expression.weight)?;
            let packed = PackedConvTranspose::pack(isa, &shape, &raw, channels.scale.as_deref());
            Work::ConvTranspose { packed, bias: channels.shift }
        }
        Kind::Linear { weights: expression } => {
            let out = dims[dims.len() - 1];
            let channels = weights.channels(expression, out)?;
            let matrix = weights.matrix(expression, out, channels.scale.as_deref())?;
            // To pack weights pays for itself within some runs.
            if step.write.len() / out <= FEW_ROWS && policy != Policy::Fast {
                Work::Rows { weights: matrix, bias: channels.shift }
            } else {
                let packed = PackedMat::from_nk(isa, Rows::new(&matrix, out, matrix.len() / out));
                Work::Linear { packed, bias: channels.shift }
            }
        }
        Kind::Channels { axis, maps } => {
            let channels = weights.maps(None, maps, dims[*axis])?;
            let fill = |values: Option<Vec<f32>>, value| values.unwrap_or_else(|| vec![value; dims[*axis]]);
            Work::Channels { scale: fill(channels.scale, 1.0), shift: fill(channels.shift, 0.0) }
        }
        Kind::PRelu { slope } => Work::PRelu { slope: weights.read(slope)? },
        Kind::LayerNorm { eps, weight, bias, .. } => {
            Work::LayerNorm { weight: weights.read(weight)?, bias: weights.read(bias)?, eps: *eps as f32 }
        }
        Kind::GroupNorm { groups, eps, weight, bias } => Work::GroupNorm {
            groups: *groups,
            weight: weights.read(weight)?,
            bias: weights.read(bias)?,
            eps: *eps as f32,
        },
        Kind::Softmax { log: false, .. } => Work::Softmax,
        Kind::Softmax { log: true, .. } => Work::LogSoftmax,
        Kind::Normalize { eps, .. } => Work::Normalize { eps: *eps as f32 },
        Kind::Pool { pool, window } => Work::Pool { pool: *pool, window: *window },
        Kind::AdaptivePool { reduce } => Work::AdaptivePool { reduce: *reduce },
        Kind::Resize { mode, scale } => Work::Resize { mode: *mode, scale: *scale },
        Kind::Reduce { reduce, axes } => {
            let from = operand(0);
            // in the order in which the results lie
            let order = if from.dims.len() == dims.len() { step.write.order() } else { (0..from.dims.len()).collect() };
            let view = from.permuted(&order);
            let axes = order.iter().map(|axis| axes.contains(axis)).collect();
            Work::Reduce { reduce: *reduce, shape: view.dims, strides: view.strides, axes }
        }
        Kind::Binary { op } => Work::Binary(binary(plan, id, step, *op)),
        Kind::Matmul { scale } => Work::Matmul(matmul(step, *scale)),
        Kind::Attention { heads, scale } => {
            let (q, k) = (operand(0), operand(1));
            let shape =
                Heads { n: q.dims[0], heads: *heads, dim: q.dims[2] / heads, queries: q.dims[1], keys: k.dims[1] };
            Work::Attention { heads: shape, scale: *scale }
        }
        Kind::Op { op, .. } => {
            let batched = node.operands.iter().map(|operand| plan.net().node(*operand).shape.batched).collect();
            Work::Reference { op: op.clone(), params: weights.params(node.layers[0])?, batched }
        }
        Kind::Identity => Work::Identity,
        Kind::Learn(learn) => {
            let mut learn = learn.clone();
            // only here it is known how many samples there are
            if let Learn::Running { count, .. } = &mut learn {
                *count *= plan.batch();
            }
            // its weights are packed for one run
            let policy = if policy == Policy::Exact { policy } else { Policy::Runs(1) };
            Work::Learn(learn, policy)
        }
        Kind::Excitation { .. } => unreachable!("fused for other backends only"),
        Kind::Input(_)
        | Kind::State(_)
        | Kind::Constant(_)
        | Kind::Means
        | Kind::Concat { .. }
        | Kind::Reshape
        | Kind::Permute { .. }
        | Kind::Slice { .. }
        | Kind::Pad { .. }
        | Kind::Roll { .. } => unreachable!("the plan makes views and copies of these"),
    })
}

pub(super) fn transposed_shape(
    window: &Window,
    output_padding: [usize; 2],
    in_channels: usize,
    out_channels: usize,
    groups: usize,
) -> ConvTransposeShape {
    ConvTransposeShape { in_channels, out_channels, window: *window, output_padding, groups }
}

pub(super) fn conv_shape(window: &Window, in_channels: usize, out_channels: usize, groups: usize) -> ConvShape {
    ConvShape { in_channels, out_channels, window: *window, groups }
}

fn binary(plan: &Plan, id: Id, step: &Step, op: Binary) -> Pairs {
    let dims = &step.write.dims;
    let order = step.write.order();
    let operands = &plan.net().node(id).operands;
    let shape = |at: usize| -> &Shape { &plan.net().node(operands[at]).shape };
    let from_left = shape(0).batched && shape(1).batched;
    let views: Vec<View> = step.reads.iter().map(|view| view.stretched(dims, from_left)).collect();
    let whole = |at: &usize| step.reads[*at].dims == *dims && step.reads[*at].matrix(&order).is_some();
    let found = (0..2).find(whole);
    let first = found.unwrap_or(0);
    let pairing = if found.is_some() { pairing(&views[1 - first], &order) } else { Pairing::Broadcast };
    let op = if first == 0 { op } else { op.swapped().expect("the net has sums, differences and products") };
    let lie = |view: &View| view.permuted(&order).strides;
    let strides = [lie(&views[first]), lie(&views[1 - first])];
    Pairs { op, first, pairing, shape: order.iter().map(|axis| dims[*axis]).collect(), strides }
}

fn matmul(step: &Step, scale: f32) -> Matmul {
    let out = &step.write;
    let rank = out.dims.len();
    let stretch = |view: &View| {
        // the last two axes are the matrix, those before are stretched
        let mut dims = out.dims.clone();
        dims[rank - 2..].copy_from_slice(&view.dims[view.dims.len() - 2..]);
        view.stretched(&dims, false)
    };
    let (a, b) = (stretch(&step.reads[0]), stretch(&step.reads[1]));
    let sizes = [a.dims[rank - 2], a.dims[rank - 1], b.dims[rank - 1]];
    let kn = b.strides[rank - 1] == 1 || b.dims[rank - 1] == 1;
    let (layout, b_dist) = if kn { (Layout::Kn, b.strides[rank - 2]) } else { (Layout::Nk, b.strides[rank - 1]) };
    // of a single row the distance says nothing, and may be less than a row is long
    let dist = |stride: usize, rows: usize, cols: usize| if rows == 1 { stride.max(cols) } else { stride };
    let (b_rows, b_cols) = if kn { (sizes[1], sizes[2]) } else { (sizes[2], sizes[1]) };
    let dists = [
        dist(a.strides[rank - 2], sizes[0], sizes[1]),
        dist(b_dist, b_rows, b_cols),
        dist(out.strides[rank - 2], sizes[0], sizes[2]),
    ];
    let steps_of = |axis: usize| [a.strides[axis], b.strides[axis], out.strides[axis]];
    let axes: Vec<usize> = (0..rank - 2).filter(|axis| out.dims[*axis] != 1).collect();
    // From the innermost batch axis on, axes that go on evenly in all three are one.
    let mut levels: Vec<(usize, [usize; 3])> = vec![];
    for axis in axes.into_iter().rev() {
        let steps = steps_of(axis);
        match levels.last_mut() {
            Some((count, inner)) if (0..3).all(|at| steps[at] == inner[at] * *count) => *count *= out.dims[axis],
            _ => levels.push((out.dims[axis], steps)),
        }
    }
    levels.reverse();
    if levels.is_empty() {
        levels.push((1, [0; 3]));
    }
    Matmul { levels, dists, sizes, layout, scale }
}
