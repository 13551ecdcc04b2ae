//! Drafts as a person would write them, with the same values: what PyTorch says in several ops and the language in one.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::draft::{Draft, DraftId};
use super::lift::Lift;
use crate::ops::Op;
use crate::ops::layout::{Chunk, Permute};
use crate::ops::norm::LayerNorm2d;
use crate::ops::shape::Shape;

/// A value of so many parts is no `chunk`.
const MOST_PARTS: usize = 8;

/// Makes drafts plainer.
pub fn tidy(lift: &mut Lift) {
    norms(lift);
    permutations(lift);
    reshapes(lift);
    chunks(lift);
    sums(lift);
}

/// Permutations of what was permuted: one, or none where the second takes the first back.
fn permutations(lift: &mut Lift) {
    let readers = readers(lift);
    let mut moved = Moved::default();
    for at in 0..lift.drafts.nodes.len() {
        let nodes = &mut lift.drafts.nodes;
        moved.follow(&mut nodes[at]);
        let Op::Permute(outer) = &nodes[at].op else { continue };
        let inner = nodes[at].ins[0];
        let Op::Permute(first) = &nodes[inner].op else { continue };
        let axes: Option<Vec<i64>> =
            outer.axes.iter().map(|axis| first.axes.get(usize::try_from(*axis).ok()?).copied()).collect();
        let (Some(axes), of) = (axes, nodes[inner].ins[0]) else { continue };
        if axes.iter().enumerate().all(|(at, axis)| at as i64 == *axis) {
            moved.is_now(lift, at, of);
        } else if readers[inner] == 1 {
            (nodes[at].op, nodes[at].ins) = (Permute { axes }.into(), vec![of]);
        }
    }
    moved.end(lift);
}

/// Reshapes of what was reshaped for nothing else: one, or none where the shape is again what it was.
fn reshapes(lift: &mut Lift) {
    let readers = readers(lift);
    let mut moved = Moved::default();
    for at in 0..lift.drafts.nodes.len() {
        let nodes = &mut lift.drafts.nodes;
        moved.follow(&mut nodes[at]);
        let Op::Reshape(op) = &nodes[at].op else { continue };
        let inner = nodes[at].ins[0];
        if !matches!(nodes[inner].op, Op::Reshape(_)) {
            continue;
        }
        let of = nodes[inner].ins[0];
        if nodes[of].shape == nodes[at].shape {
            moved.is_now(lift, at, of);
            continue;
        }
        let shape = Op::from(op.clone()).infer(&[&nodes[of].shape]);
        if readers[inner] == 1 && shape.is_ok_and(|shape| shape == nodes[at].shape) {
            nodes[at].ins[0] = of;
        }
    }
    moved.end(lift);
}

/// Nodes that are another one now, which has the same value.
#[derive(Default)]
struct Moved {
    to: HashMap<DraftId, DraftId>,
}

impl Moved {
    /// What a network takes stays apart from what it gives.
    fn is_now(&mut self, lift: &Lift, at: DraftId, other: DraftId) {
        if !matches!(lift.drafts.nodes[other].op, Op::Input(_)) || lift.outputs.iter().all(|(_, id)| *id != at) {
            self.to.insert(at, other);
        }
    }

    fn follow(&self, node: &mut Draft) {
        for input in &mut node.ins {
            *input = self.to.get(input).copied().unwrap_or(*input);
        }
    }

    fn end(self, lift: &mut Lift) {
        for (_, output) in &mut lift.outputs {
            *output = self.to.get(output).copied().unwrap_or(*output);
        }
        for value in lift.values.iter_mut().flatten() {
            value.id = self.to.get(&value.id).copied().unwrap_or(value.id);
        }
    }
}

/// How many nodes, of those that an output needs, and outputs take each node.
fn readers(lift: &Lift) -> Vec<usize> {
    let live = live(lift);
    let mut readers = vec![0usize; lift.drafts.nodes.len()];
    let alive = lift.drafts.nodes.iter().zip(&live).filter(|(_, live)| **live);
    alive.flat_map(|(node, _)| &node.ins).for_each(|id| readers[*id] += 1);
    lift.outputs.iter().for_each(|(_, id)| readers[*id] += 1);
    readers
}

/// Where a slice begins and ends, and the node.
type Part = (usize, usize, DraftId);

/// Slices that are all the parts of an axis, as long as each other.
fn chunks(lift: &mut Lift) {
    let live = live(lift);
    let drafts = &mut lift.drafts;
    // in the order of the network, so that the same file gives the same text
    let mut slices: IndexMap<(DraftId, usize, String), Vec<Part>> = IndexMap::new();
    for (id, node) in drafts.nodes.iter().enumerate().filter(|(id, _)| live[*id]) {
        let Op::Slice(slice) = &node.op else { continue };
        let Ok((axis, range)) = slice.range(&drafts.nodes[node.ins[0]].shape) else { continue };
        let place = format!("{:?}", node.place);
        slices.entry((node.ins[0], axis, place)).or_default().push((range.start, range.end, id));
    }
    for ((of, axis, _), mut parts) in slices {
        parts.sort_unstable();
        let shape = &drafts.nodes[of].shape;
        let (len, count) = (shape.axis(axis).unwrap_or(0), parts.len());
        let is_whole = (2..=MOST_PARTS).contains(&count)
            && len.is_multiple_of(count)
            && parts
                .iter()
                .enumerate()
                .all(|(at, (from, to, _))| *from == at * (len / count) && *to == (at + 1) * (len / count));
        if !is_whole {
            continue;
        }
        let rank = shape.dims.len() + usize::from(shape.batched);
        let axis = if axis + 1 == rank { -1 } else { axis as i64 };
        for (part, (_, _, id)) in parts.into_iter().enumerate() {
            drafts.nodes[id].op = Chunk { parts: count, axis, part: part as i64 }.into();
        }
    }
}

/// Sums begin with what took longer to compute, products with what differs from sample to sample.
fn sums(lift: &mut Lift) {
    let drafts = &mut lift.drafts;
    let mut depths: Vec<usize> = vec![];
    for at in 0..drafts.nodes.len() {
        let node = &drafts.nodes[at];
        let depth = node.ins.iter().map(|input| depths[*input] + 1).max().unwrap_or(0);
        depths.push(depth);
        let [a, b] = node.ins[..] else { continue };
        let batched = |id: DraftId| drafts.nodes[id].shape.batched;
        let is_better = match &node.op {
            Op::Add(_) => depths[b] > depths[a],
            Op::Mul(_) => batched(b) && !batched(a),
            _ => false,
        };
        let shapes: [&Shape; 2] = [&drafts.nodes[b].shape, &drafts.nodes[a].shape];
        if is_better && node.op.infer(&shapes).is_ok_and(|shape| shape == node.shape) {
            drafts.nodes[at].ins.swap(0, 1);
        }
    }
}

fn live(lift: &Lift) -> Vec<bool> {
    let outputs: Vec<DraftId> = lift.outputs.iter().map(|(_, id)| *id).collect();
    lift.drafts.live(&outputs)
}

/// Makes channels' norms of layer norms between two permutations, as ConvNeXt's are written in PyTorch.
fn norms(lift: &mut Lift) {
    let readers = readers(lift);
    let is_order =
        |node: &Draft, wanted: [i64; 4]| matches!(&node.op, Op::Permute(Permute { axes }) if *axes == wanted);
    let mut moved = Moved::default();
    for back in 0..lift.drafts.nodes.len() {
        let nodes = &mut lift.drafts.nodes;
        moved.follow(&mut nodes[back]);
        if !is_order(&nodes[back], [0, 3, 1, 2]) {
            continue;
        }
        let norm = nodes[back].ins[0];
        let Op::LayerNorm(layer_norm) = &nodes[norm].op else { continue };
        let front = nodes[norm].ins[0];
        let is_alone = readers[norm] == 1 && readers[front] == 1;
        if layer_norm.axis != -1 || !is_alone || !is_order(&nodes[front], [0, 2, 3, 1]) {
            continue;
        }
        let op = LayerNorm2d { eps: layer_norm.eps, init: None, affine: layer_norm.affine };
        let image = nodes[front].ins[0];
        if !nodes[image].shape.batched {
            continue;
        }
        let shape = nodes[back].shape.clone();
        let node = &mut nodes[norm];
        (node.op, node.ins, node.shape) = (op.into(), vec![image], shape);
        moved.to.insert(back, norm);
    }
    // what was between the permutations is nobody's value any more
    let norms: HashSet<DraftId> = moved.to.values().copied().collect();
    for value in &mut lift.values {
        if value.as_ref().is_some_and(|value| norms.contains(&value.id)) {
            *value = None;
        }
    }
    moved.end(lift);
}
