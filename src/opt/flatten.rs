//! `linear(flatten(x), W)` of an image x is `linear(flatten(permute(x, channels last)), W')` with the columns of W in that
//! order: images lie channels-last, so the weights are reordered once instead of the numbers every time.

use super::{Epilogue, Kind, Net, Node};
use crate::ops::shape::Shape;

pub(super) fn run(net: &mut Net) {
    let counts = net.use_counts();
    for id in net.order() {
        let node = net.node(id);
        let Kind::Linear { weights } = &node.kind else { continue };
        let flat = node.operands[0];
        let Some(Kind::Reshape) = net.get(flat).map(|flat| &flat.kind) else { continue };
        let image = net.node(flat).operands[0];
        let Some((c, h, w)) = net.node(image).shape.as_image() else { continue };
        let flattens = net.node(flat).shape == Shape::batched([c * h * w]);
        // one pixel or one channel: nothing to reorder
        if !flattens || counts[flat.0] != 1 || weights.transposed || c == 1 || h * w == 1 {
            continue;
        }
        let layers = net.node(flat).layers.clone();
        let shape = Shape::batched([h, w, c]);
        let kind = Kind::Permute { axes: vec![0, 2, 3, 1] };
        let permuted = net.add(Node { kind, operands: vec![image], epilogue: Epilogue::default(), shape, layers });
        net.node_mut(flat).operands[0] = permuted;
        if let Kind::Linear { weights } = &mut net.node_mut(id).kind {
            weights.channels_last = Some([c, h, w]);
        }
    }
}
