//! Folds what scales and shifts each channel into the weights that make the channels:
//! `bn(conv(x, W, b)) = conv(x, s W, s b + t)`. The weights stay an expression; the backend evaluates it in float64 when it
//! packs. Only where the convolution's value has no other use, nothing comes between, and its weights are known.

use crate::net::{Constant, Id, Kind, Lies, Net};

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let Some(node) = net.get(id) else { continue };
        let Kind::Channels(channels) = &node.kind else { continue };
        let (axis, x, scale) = (channels.axis, node.operands[0], node.operands[1]);
        let below = net.node(x);
        let makes_channels = match &below.kind {
            Kind::Conv(_) | Kind::ConvTranspose(_) => axis == 1,
            Kind::Linear(_) => axis + 1 == below.shape.rank(),
            // one after the other is one
            Kind::Channels(first) => first.axis == axis,
            _ => false,
        };
        if !makes_channels || !net.is_known(x) || net.uses(x) != 1 || !below.epilogue.is_none() {
            continue;
        }
        let maps = net.constant(scale).expect("lowering makes constants of both").maps().to_vec();
        let (mut folded, outer) = (below.clone(), node.clone());
        let groups = match &folded.kind {
            Kind::ConvTranspose(conv) => Some(conv.groups),
            _ => None,
        };
        let with_maps = |net: &mut Net, id: Id| {
            let mut constant = net.constant(id).expect("it is known").then(&maps);
            if let (Constant::Tensor { lies, .. }, Some(groups)) = (&mut constant, groups) {
                *lies = Lies::Inward { groups };
            }
            net.add_constant(constant, net.node(id).layers.clone())
        };
        if let Kind::Channels(_) = folded.kind {
            folded.operands[1] = with_maps(net, folded.operands[1]);
            folded.operands[2] = with_maps(net, folded.operands[2]);
        } else {
            folded.operands[1] = with_maps(net, folded.operands[1]);
            let bias = folded.epilogue.bias.unwrap_or_else(|| {
                let none = Constant::Shift { bias: None, maps: vec![], channels: net.node(scale).shape.len() };
                net.add_constant(none, outer.layers.clone())
            });
            folded.epilogue.bias = Some(with_maps(net, bias));
        }
        folded.epilogue = crate::net::Epilogue { bias: folded.epilogue.bias, ..outer.epilogue };
        folded.layers.extend(&outer.layers);
        folded.shape = outer.shape;
        net.set(id, folded);
    }
}
