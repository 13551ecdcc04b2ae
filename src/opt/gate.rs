//! `mul(x, g)` of an image x and one factor for each of its channels is `identity(x)` with a gate, which `fuse` may join
//! with what comes before and after.

use archc_base::Binary;

use super::{Kind, Net};

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let node = net.node(id);
        let (Kind::Binary { op: Binary::Mul }, [x, gate]) = (&node.kind, node.operands.as_slice()) else {
            continue;
        };
        let (x, gate) = (*x, *gate);
        let Some((channels, height, width)) = node.shape.as_image() else { continue };
        let factors = &net.node(gate).shape;
        let each = factors.batched && matches!(factors.dims[..], [c] | [c, 1, 1] if c == channels);
        if height * width == 1 || net.node(x).shape != node.shape || !each {
            continue;
        }
        let node = net.node_mut(id);
        node.kind = Kind::Identity;
        node.operands = vec![x];
        node.epilogue.gate = Some(gate);
    }
}
