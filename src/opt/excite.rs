//! `conv1x1(gated x)` reads x and the gate: the factors are applied to what the convolution reads, and the gated image is
//! never written. Only where nothing else reads it, and nothing else is done to it.

use super::{Epilogue, Kind, Net};

pub(super) fn run(net: &mut Net) {
    let counts = net.use_counts();
    for id in net.order() {
        let node = net.node(id);
        let [gated] = node.operands[..] else { continue };
        if !node.kind.is_pointwise() || counts[gated.0] != 1 {
            continue;
        }
        let below = net.node(gated);
        let Some(gate) = below.epilogue.gate else { continue };
        if below.kind != Kind::Identity || below.epilogue != (Epilogue { gate: Some(gate), ..Epilogue::default() }) {
            continue;
        }
        let (x, layers) = (below.operands[0], below.layers.clone());
        let node = net.node_mut(id);
        node.operands = vec![x, gate];
        node.layers.splice(0..0, layers);
        net.remove(gated);
    }
}
