//! What becomes of an image's means before they are its gate is one step: linear maps with their activations, all of a
//! sample at once, as squeeze-and-excitation has them. Maps with nothing between them are as good as one, and of those there
//! may be two. Only where nothing else reads what lies between, and the weights are few: every part of the device that has
//! a share of the gate reads the first map's.

use archc_base::Act;

use super::{Epilogue, Excite, Id, Kind, Net, Weights};

/// Weights of the first map and of both.
const FEW: usize = 256 << 10;
const MOST: usize = 1 << 20;

/// Channels and hidden values together.
const WIDE: usize = 4096;

pub(super) fn run(net: &mut Net) {
    let counts = net.use_counts();
    let mut readers: Vec<Vec<Id>> = vec![vec![]; net.bound()];
    for id in net.order() {
        net.node(id).reads().for_each(|read| readers[read.0].push(id));
    }
    for means in net.order() {
        if net.get(means).is_none_or(|node| node.kind != Kind::Means) {
            continue;
        }
        for first in readers[means.0].clone() {
            let Some((maps, nodes)) = chain(net, &counts, &readers, means, first) else { continue };
            let (last, between) = nodes.split_last().expect("a chain has a node");
            let layers = nodes.iter().flat_map(|id| net.node(*id).layers.clone()).collect();
            between.iter().for_each(|id| net.remove(*id));
            let node = net.node_mut(*last);
            node.kind = Kind::Excitation { maps };
            node.operands = vec![means];
            node.epilogue = Epilogue::default();
            node.layers = layers;
        }
    }
}

/// The linear maps from `first` on, each of which reads the one before and nothing else does, with the nodes that they are
/// in; None where they are no excitation.
fn chain(net: &Net, counts: &[usize], readers: &[Vec<Id>], means: Id, first: Id) -> Option<(Vec<Excite>, Vec<Id>)> {
    let (mut maps, mut nodes, mut last) = (vec![], vec![], 0);
    let (mut from, mut at) = (means, first);
    loop {
        let node = net.node(at);
        let alone = node.operands == [from] && node.epilogue.gate.is_none() && node.epilogue.residual.is_none();
        if !alone {
            break;
        }
        nodes.push(at);
        if let Some(map) = linear(net, at) {
            maps.push(map);
            last = nodes.len();
        } else if node.kind != Kind::Reshape || net.node(from).shape.len() != node.shape.len() {
            nodes.pop();
            break;
        }
        let ([next], 1) = (&readers[at.0][..], counts[at.0]) else { break };
        (from, at) = (at, *next);
    }
    // a reshape after the last map stays
    nodes.truncate(last);
    let mut widths = vec![net.node(means).shape.len()];
    for (at, map) in maps.iter().enumerate() {
        if map.act != Act::None || at + 1 == maps.len() {
            widths.push(map.width);
        }
    }
    let weights: Vec<usize> = widths.windows(2).map(|pair| pair[0] * pair[1]).collect();
    let few = matches!(weights[..], [one] if one <= MOST)
        || matches!(weights[..], [first, second] if first <= FEW && first + second <= MOST);
    (few && widths[..widths.len() - 1].iter().sum::<usize>() <= WIDE).then_some((maps, nodes))
}

/// A linear map of all features of a sample, or a convolution of one pixel.
fn linear(net: &Net, id: Id) -> Option<Excite> {
    let node = net.node(id);
    let Epilogue { before, after, .. } = node.epilogue;
    let act = match (before, after) {
        (Act::None, act) | (act, Act::None) => act,
        _ => return None,
    };
    let is_pixel = node.shape.as_image().is_some_and(|(_, height, width)| height * width == 1);
    let weights: &Weights = match &node.kind {
        Kind::Linear { weights } if node.shape.rank() == 2 => weights,
        Kind::Conv { weights, .. } if node.kind.is_pointwise() && is_pixel => weights,
        _ => return None,
    };
    let features = node.shape.len();
    Some(Excite { weights: weights.clone(), width: features, act })
}
