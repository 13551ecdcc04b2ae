//! `linear(flatten(x), W)` of an image x is `linear(flatten(permute(x, channels last)), W')` with the columns of W in that
//! order: images lie channels-last, so the weights are reordered once instead of the numbers every time.

use crate::net::{Constant, Kind, Lies, Net, Node, Permute};
use crate::ops::shape::Shape;

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let Some(node) = net.get(id) else { continue };
        let (Kind::Linear(_), [flat, weight]) = (&node.kind, &node.operands[..]) else { continue };
        let (flat, weight) = (*flat, *weight);
        let Some(Constant::Tensor { source, lies: Lies::Rows, maps }) = net.constant(weight) else { continue };
        let Kind::Reshape(_) = net.node(flat).kind else { continue };
        let image = net.node(flat).operands[0];
        let Some((c, h, w)) = net.node(image).shape.as_image() else { continue };
        let flattens = net.node(flat).shape == Shape::batched([c * h * w]);
        // one pixel or one channel: nothing to reorder
        if !flattens || net.uses(flat) != 1 || c == 1 || h * w == 1 {
            continue;
        }
        let lies = Lies::ChannelsLast([c, h, w]);
        let constant = Constant::Tensor { source: source.clone(), lies, maps: maps.clone() };
        let weight = net.add_constant(constant, net.node(weight).layers.clone());
        let layers = net.node(flat).layers.clone();
        let axes = Permute { axes: vec![0, 2, 3, 1] };
        let permuted = net.add(Node::new(axes, vec![image], Shape::batched([h, w, c]), layers));
        net.change(flat, |flat| flat.operands[0] = permuted);
        net.change(id, |linear| linear.operands[1] = weight);
    }
}
