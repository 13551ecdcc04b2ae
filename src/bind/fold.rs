//! Sums of parallel convolutions, each as one: a sum of linear maps of one value is a linear map. RepVGG, Ding et al. 2021,
//! learns with branches beside each convolution and runs without them.
//!
//! A branch is a convolution, a batch norm in eval mode, the one behind the other, or the value itself. Knows a network and how
//! its tensors are read, nothing of files.

use rustc_hash::FxHashSet;

use crate::diag::{Code, Problem};
use crate::exec::Tensors;
use crate::graph::{Graph, NodeId, Use, path};
use crate::ops::Op;
use crate::ops::attr::{Padding, Pair};
use crate::typed::Typed;

/// What the convolution is called in the scope of its sum, as in timm.
const NAME: &str = "reparam_conv";

/// A sum that one convolution with a bias is, too.
#[derive(Clone, Debug)]
pub struct Sum {
    /// Of the convolution.
    pub path: String,
    /// Of its weight: [out, in / groups, kernel, kernel].
    pub shape: [usize; 4],
    branches: Vec<Branch>,
}

/// What one of the added values is, of the value that all of them begin with: that value itself where it is neither.
#[derive(Clone, Copy, Debug)]
struct Branch {
    conv: Option<NodeId>,
    norm: Option<NodeId>,
}

/// The sums of a network that one convolution is, too, in running order; the largest where one holds others.
///
/// # Errors
/// Where a scope has two of them, or a layer that is called as the convolution would be.
pub fn sums(typed: &Typed) -> Result<Vec<Sum>, Problem> {
    let graph = typed.graph();
    let shared: FxHashSet<NodeId> = graph.ids().filter_map(|id| graph.node(id).tied).collect();
    let mut inside: FxHashSet<NodeId> = FxHashSet::default();
    let mut sums: Vec<Sum> = vec![];
    // from the end, so that a sum comes before those that it holds
    for id in typed.order().iter().rev() {
        if inside.contains(id) || !is_sum(graph, *id) {
            continue;
        }
        let mut held = vec![];
        let Some(sum) = sum(typed, &shared, *id, &mut held) else { continue };
        if graph.is_taken(&sum.path) || sums.iter().any(|other| other.path == sum.path) {
            let message = format!("`{}` is taken already", path::display(&sum.path));
            let problem = Problem::new(Code::Duplicate, message);
            return Err(problem.hint("a sum of convolutions needs a scope of its own: `name: { .. }`"));
        }
        inside.extend(held);
        sums.push(sum);
    }
    sums.reverse();
    Ok(sums)
}

/// The sum that ends with the addition `end`, and the additions that it is made of.
fn sum(typed: &Typed, shared: &FxHashSet<NodeId>, end: NodeId, held: &mut Vec<NodeId>) -> Option<Sum> {
    let graph = typed.graph();
    let mut open = vec![end];
    let mut start = None;
    let mut branches = vec![];
    while let Some(add) = open.pop() {
        held.push(add);
        for operand in graph.operands(add) {
            // nothing is broadcast
            if typed.shape(operand) != typed.shape(end) {
                return None;
            }
            if is_sum(graph, operand) && is_used_once(graph, operand) {
                open.push(operand);
                continue;
            }
            let (branch, from) = branch(graph, shared, operand);
            if *start.get_or_insert(from) != from {
                return None;
            }
            branches.push(branch);
        }
    }
    let (channels, ..) = typed.shape(start?).as_image()?;
    let (out, ..) = typed.shape(end).as_image()?;
    // the convolutions have one stride and the same groups, and the middle of each window lies on the same pixel
    let mut like = None;
    let mut kernel = 0;
    for id in branches.iter().filter_map(|branch: &Branch| branch.conv) {
        let Op::Conv2d(conv) = &graph.node(id).op else { unreachable!("`branch` looked") };
        let side = conv.kernel.h;
        let is_centred = side % 2 == 1 && conv.kernel == Pair::both(side) && conv.dilation == Pair::both(1);
        let (stride, groups) = *like.get_or_insert((conv.stride, conv.groups));
        let is_alike = conv.stride == stride && conv.groups == groups;
        if !is_centred || conv.padding != Padding::Each(Pair::both(side / 2)) || !is_alike {
            return None;
        }
        kernel = kernel.max(side);
    }
    let (stride, groups) = like?;
    let has_bare = branches.iter().any(|branch| branch.conv.is_none());
    if has_bare && (stride != Pair::both(1) || channels != out) {
        return None;
    }
    let path = path::join(path::parent(&graph.node(end).path), NAME);
    Some(Sum { path, shape: [out, channels / groups, kernel, kernel], branches })
}

/// What the value `end` is of the value that it is made of, and that value.
fn branch(graph: &Graph, shared: &FxHashSet<NodeId>, end: NodeId) -> (Branch, NodeId) {
    let mut at = end;
    let mut take = |is: fn(&Op) -> bool| {
        let (id, node) = (at, graph.node(at));
        if !is(&node.op) || !is_used_once(graph, id) || node.tied.is_some() || shared.contains(&id) {
            return None;
        }
        at = graph.operands(id)[0];
        Some(id)
    };
    let norm = take(|op| matches!(op, Op::BatchNorm2d(_)));
    let conv = take(|op| matches!(op, Op::Conv2d(_)));
    (Branch { conv, norm }, at)
}

fn is_sum(graph: &Graph, id: NodeId) -> bool {
    matches!(&graph.node(id).op, Op::Add(add) if add.number.is_none())
}

/// Whether one layer takes the value, once, and no output is it.
fn is_used_once(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.uses(id).as_slice(), [Use::Operand { .. }])
}

impl Sum {
    /// The layers whose tensors are those of the convolution then.
    pub fn layers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.branches.iter().flat_map(|branch| [branch.conv, branch.norm]).flatten()
    }

    /// The convolution's weight and bias, added up in float64.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn values(&self, typed: &Typed, tensors: &dyn Tensors) -> Result<(Vec<f32>, Vec<f32>), Problem> {
        let [out, inner, kernel, _] = self.shape;
        let mut weight = vec![0.0f64; self.shape.iter().product()];
        let mut bias = vec![0.0f64; out];
        for branch in &self.branches {
            let (scale, shift) = affine(typed, tensors, branch.norm, out)?;
            let (values, added, side) = linear(typed, tensors, branch.conv, [out, inner])?;
            let margin = (kernel - side) / 2;
            for (k, plane) in values.chunks(inner * side * side).enumerate() {
                for (at, value) in plane.iter().enumerate() {
                    let (c, y, x) = (at / (side * side), at / side % side, at % side);
                    let to = ((k * inner + c) * kernel + y + margin) * kernel + x + margin;
                    weight[to] += scale[k] * f64::from(*value);
                }
                bias[k] += scale[k] * f64::from(added[k]) + shift[k];
            }
        }
        let single = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        Ok((single(weight), single(bias)))
    }
}

/// Weight, bias and size of the window of a convolution, of 1 x 1 and the identity where there is none.
fn linear(
    typed: &Typed,
    tensors: &dyn Tensors,
    conv: Option<NodeId>,
    [out, inner]: [usize; 2],
) -> Result<(Vec<f32>, Vec<f32>, usize), Problem> {
    let Some(id) = conv else {
        let mut weight = vec![0.0; out * inner];
        // channel k is number k % inner of its group
        (0..out).for_each(|k| weight[k * inner + k % inner] = 1.0);
        return Ok((weight, vec![0.0; out], 1));
    };
    let Op::Conv2d(conv) = &typed.graph().node(id).op else { unreachable!("`branch` looked") };
    let bias = if conv.bias { tensors.read(id, 1)? } else { vec![0.0; out] };
    Ok((tensors.read(id, 0)?, bias, conv.kernel.h))
}

/// What a batch norm multiplies each channel by, and what it adds to it.
fn affine(
    typed: &Typed,
    tensors: &dyn Tensors,
    norm: Option<NodeId>,
    channels: usize,
) -> Result<(Vec<f64>, Vec<f64>), Problem> {
    let Some(id) = norm else { return Ok((vec![1.0; channels], vec![0.0; channels])) };
    let Op::BatchNorm2d(norm) = &typed.graph().node(id).op else { unreachable!("`branch` looked") };
    let (gamma, beta) = (tensors.read(id, 0)?, tensors.read(id, 1)?);
    let (mean, variance) = (tensors.read(id, 2)?, tensors.read(id, 3)?);
    let deviations = variance.iter().map(|variance| (f64::from(*variance) + norm.eps).sqrt());
    let scale: Vec<f64> =
        gamma.iter().zip(deviations).map(|(gamma, deviation)| f64::from(*gamma) / deviation).collect();
    let moved = mean.iter().zip(&scale).map(|(mean, scale)| f64::from(*mean) * scale);
    let shift = beta.iter().zip(moved).map(|(beta, moved)| f64::from(*beta) - moved).collect();
    Ok((scale, shift))
}
