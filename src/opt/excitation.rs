//! What becomes of an image's means before they are its gate is one step: linear maps with their activations, all of a
//! sample at once, as squeeze-and-excitation has them. Maps with nothing between them are as good as one, and of those there
//! may be two. Only where nothing else reads what lies between, and the weights are few: every part of the device that has
//! a share of the gate reads the first map's.

use archc_base::Act;

use crate::net::{Excitation, Excite, Id, Kind, Net, Node};

/// Weights of the first map and of both.
const FEW: usize = 256 << 10;
const MOST: usize = 1 << 20;

/// Channels and hidden values together.
const WIDE: usize = 4096;

pub(super) fn run(net: &mut Net) {
    for means in net.order() {
        if !matches!(net.get(means), Some(Node { kind: Kind::Means(_), .. })) {
            continue;
        }
        for first in net.readers(means) {
            let Some((maps, nodes)) = chain(net, means, first) else { continue };
            let last = net.node(*nodes.last().expect("a chain has a node"));
            let layers = nodes.iter().flat_map(|id| net.node(*id).layers.clone()).collect();
            let weights = maps.iter().flat_map(|(_, weights)| weights.clone());
            let operands = [means].into_iter().chain(weights).collect();
            let kind = Excitation { maps: maps.into_iter().map(|(map, _)| map).collect() };
            net.set(nodes[nodes.len() - 1], Node::new(kind, operands, last.shape.clone(), layers));
        }
    }
}

/// A map with its weight and, where it has one, its bias.
type Map = (Excite, Vec<Id>);

/// The linear maps from `first` on, each of which reads the one before and nothing else does, with the nodes that they are
/// in; None where they are no excitation.
fn chain(net: &Net, means: Id, first: Id) -> Option<(Vec<Map>, Vec<Id>)> {
    let (mut maps, mut nodes, mut last): (Vec<Map>, _, _) = (vec![], vec![], 0);
    let (mut from, mut at) = (means, first);
    loop {
        let node = net.node(at);
        let alone = node.operands[0] == from && node.epilogue.gate.is_none() && node.epilogue.residual.is_none();
        if !alone {
            break;
        }
        nodes.push(at);
        if let Some(map) = linear(net, at) {
            maps.push(map);
            last = nodes.len();
        } else if !matches!(node.kind, Kind::Reshape(_)) || net.node(from).shape.len() != node.shape.len() {
            nodes.pop();
            break;
        }
        let (Some(next), 1) = (net.only_reader(at), net.uses(at)) else { break };
        (from, at) = (at, next);
    }
    // a reshape after the last map stays
    nodes.truncate(last);
    let mut widths = vec![net.node(means).shape.len()];
    for (at, (map, _)) in maps.iter().enumerate() {
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
fn linear(net: &Net, id: Id) -> Option<Map> {
    let node = net.node(id);
    let epilogue = node.epilogue;
    let act = match (epilogue.before, epilogue.after) {
        (Act::None, act) | (act, Act::None) => act,
        _ => return None,
    };
    let is_pixel = node.shape.as_image().is_some_and(|(_, height, width)| height * width == 1);
    let maps = match &node.kind {
        Kind::Linear(_) => node.shape.rank() == 2,
        Kind::Conv(conv) => conv.is_pointwise() && is_pixel && node.operands.len() == 2,
        _ => false,
    };
    let weights = [node.operands.get(1).copied()?].into_iter().chain(epilogue.bias).collect();
    let map = Excite { width: node.shape.len(), act, bias: epilogue.bias.is_some() };
    (maps && net.is_known(id)).then_some((map, weights))
}
