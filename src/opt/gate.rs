//! `mul(x, g)` of an image x and one factor for each of its channels is `identity(x)` with a gate, which `fuse` may join
//! with what comes before and after.

use crate::net::{Epilogue, Identity, Kind, Net, Node};

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let Some(node) = net.get(id) else { continue };
        let Kind::Binary(binary) = &node.kind else { continue };
        let [x, gate] = node.operands[..] else { continue };
        let Some((channels, height, width)) = node.shape.as_image() else { continue };
        let factors = &net.node(gate).shape;
        let each = factors.batched && matches!(factors.dims[..], [c] | [c, 1, 1] if c == channels);
        let is_product = binary.op == archc_base::Binary::Mul && node.epilogue.is_none();
        if !is_product || height * width == 1 || net.node(x).shape != node.shape || !each {
            continue;
        }
        let epilogue = Epilogue { gate: Some(gate), ..Epilogue::default() };
        let gated = Node::new(Identity, vec![x], node.shape.clone(), node.layers.clone());
        net.set(id, Node { epilogue, ..gated });
    }
}
