//! `conv1x1(gated x)` reads x and the gate: the factors are applied to what the convolution reads, and the gated image is
//! never written. Only where nothing else reads it, and nothing else is done to it.

use crate::net::{Epilogue, Kind, Net};

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let Some(node) = net.get(id) else { continue };
        let (Kind::Conv(conv), [gated, _]) = (&node.kind, &node.operands[..]) else { continue };
        let gated = *gated;
        let below = net.node(gated);
        let (Kind::Identity(_), Some(gate)) = (&below.kind, below.epilogue.gate) else { continue };
        let alone = below.epilogue == (Epilogue { gate: Some(gate), ..Epilogue::default() });
        if !conv.is_pointwise() || !net.is_known(id) || net.uses(gated) != 1 || !alone {
            continue;
        }
        let (x, layers) = (below.operands[0], below.layers.clone());
        net.change(id, |node| {
            node.operands[0] = x;
            node.operands.push(gate);
            node.layers.splice(0..0, layers);
        });
    }
}
