//! Folds what scales and shifts each channel into the weights that make the channels:
//! `bn(conv(x, W, b)) = conv(x, s W, s b + t)`. The weights stay an expression; the backend evaluates it in float64 when it
//! packs. Only where the convolution's value has no other use and nothing comes between.

use super::{Kind, Net};

pub(super) fn run(net: &mut Net) {
    let mut counts = net.use_counts();
    for id in net.order() {
        let node = net.node(id);
        let Kind::Channels { axis, maps } = &node.kind else { continue };
        let (axis, maps, x) = (*axis, maps.clone(), node.operands[0]);
        let below = net.node(x);
        let makes_channels = match &below.kind {
            Kind::Conv { .. } | Kind::ConvTranspose { .. } => axis == 1,
            Kind::Linear { .. } => axis + 1 == below.shape.rank(),
            // one after the other is one
            Kind::Channels { axis: first, .. } => *first == axis,
            _ => false,
        };
        if !makes_channels || counts[x.0] != 1 || !below.epilogue.is_none() {
            continue;
        }
        let mut folded = below.clone();
        match &mut folded.kind {
            Kind::Conv { weights, .. } | Kind::ConvTranspose { weights, .. } | Kind::Linear { weights } => {
                weights.maps.extend(maps);
            }
            Kind::Channels { maps: first, .. } => first.extend(maps),
            _ => unreachable!("these kinds were asked for"),
        }
        folded.epilogue = node.epilogue;
        folded.layers.extend(&node.layers);
        folded.shape = node.shape.clone();
        *net.node_mut(id) = folded;
        net.remove(x);
        counts[x.0] = 0;
    }
}
