//! `mean(conv1x1(z)) = conv1x1(mean(z))`: a pointwise convolution is linear and the same at every pixel, so the mean of its
//! result is known before it runs. With that the gate of a squeeze-and-excitation at the end of a residual branch is known
//! too, and `conv1x1(z)` takes gate, residual and activation into its epilogue.
//!
//! Only where the convolution has no other readers than the mean and the gated value, nothing is done to its sums, and the
//! weights are no more numbers to read again than the image is to write and read again.

use archc_base::Reduce;

use super::{Epilogue, Id, Kind, Net, Node, squeeze::is_global_mean};
use crate::ops::shape::Shape;

pub(super) fn run(net: &mut Net) {
    let mut counts = net.use_counts();
    for id in net.order() {
        let node = net.node(id);
        let (Kind::Identity, Some(_), [conv]) = (&node.kind, node.epilogue.gate, node.operands.as_slice()) else {
            continue;
        };
        let conv = *conv;
        let (Some(weights), Some(mean)) = (pointwise(net, conv), mean_of(net, conv)) else { continue };
        // a residual that is the convolution itself is a third use
        if counts[conv.0] != 2 || !net.node(conv).epilogue.is_none() {
            continue;
        }
        let z = net.node(conv).operands[0];
        let depth = net.node(z).shape.dims[0];
        let (_, height, width) = net.node(conv).shape.as_image().expect("a convolution of images");
        if depth > 2 * height * width || height * width == 1 {
            continue;
        }
        // the map of the mean in place of the mean of the map
        let kept = net.node(mean).shape.rank() == 4;
        let shape = if kept { Shape::image(depth, 1, 1) } else { Shape::batched([depth]) };
        let kind = Kind::Reduce { reduce: Reduce::Mean, axes: vec![2, 3] };
        let layers = net.node(mean).layers.clone();
        let small = net.add(Node { kind, operands: vec![z], epilogue: Epilogue::default(), shape, layers });
        let mapped = net.node(conv).clone();
        let node = net.node_mut(mean);
        node.kind = if kept { mapped.kind.clone() } else { Kind::Linear { weights } };
        node.operands = vec![small];
        node.layers = mapped.layers.clone();
        // the convolution where its gated value was
        let node = net.node_mut(id);
        node.kind = mapped.kind;
        node.operands = mapped.operands;
        node.layers.splice(0..0, mapped.layers);
        net.remove(conv);
        counts.resize(net.bound(), 1);
        counts[conv.0] = 0;
        counts[z.0] += 1;
    }
}

/// The weights of a convolution that maps every pixel alone, all channels together.
fn pointwise(net: &Net, id: Id) -> Option<super::Weights> {
    let node = net.node(id);
    let plain = node.kind.is_pointwise() && node.operands.len() == 1;
    let Kind::Conv { weights, .. } = &node.kind else { return None };
    plain.then(|| weights.clone())
}

fn mean_of(net: &Net, id: Id) -> Option<Id> {
    net.order().into_iter().find(|other| is_global_mean(net, *other) == Some(id))
}
