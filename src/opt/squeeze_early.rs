//! `mean(conv1x1(z)) = conv1x1(mean(z))`: a pointwise convolution is linear and the same at every pixel, so the mean of its
//! result is known before it runs. With that the gate of a squeeze-and-excitation at the end of a residual branch is known
//! too, and `conv1x1(z)` takes gate, residual and activation into its epilogue.
//!
//! Only where the convolution has no other readers than the mean and the gated value, nothing is done to its sums, and the
//! weights are no more numbers to read again than the image is to write and read again.

use archc_base::Reduce as By;

use super::squeeze::is_global_mean;
use crate::net::{Epilogue, Kind, Linear, Net, Node, Reduce};
use crate::ops::shape::Shape;

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let Some(node) = net.get(id) else { continue };
        let (Kind::Identity(_), Some(_), [conv]) = (&node.kind, node.epilogue.gate, &node.operands[..]) else {
            continue;
        };
        let conv = *conv;
        let below = net.node(conv);
        let (Kind::Conv(kind), [z, _]) = (&below.kind, &below.operands[..]) else { continue };
        let is_mean = |other: &_| is_global_mean(net, *other) == Some(conv);
        let Some(mean) = net.readers(conv).into_iter().find(is_mean) else { continue };
        // a residual that is the convolution itself is a third use
        let alone = net.uses(conv) == 2 && below.epilogue.is_none();
        let (z, depth) = (*z, net.node(*z).shape.dims[0]);
        let (_, height, width) = below.shape.as_image().expect("a convolution of images");
        let pays = depth <= 2 * height * width && height * width > 1;
        if !kind.is_pointwise() || !net.is_known(conv) || !alone || !pays || node.epilogue.is_rare() {
            continue;
        }
        // the map of the mean in place of the mean of the map
        let (below, old) = (below.clone(), net.node(mean).clone());
        let kept = old.shape.rank() == 4;
        let shape = if kept { Shape::image(depth, 1, 1) } else { Shape::batched([depth]) };
        let small = net.add(Node::new(Reduce { reduce: By::Mean, axes: vec![2, 3] }, vec![z], shape, old.layers));
        let kind = if kept { below.kind.clone() } else { Linear.into() };
        let mapped = Node::new(kind, vec![small, below.operands[1]], old.shape, below.layers.clone());
        net.set(mean, Node { epilogue: below.epilogue, ..mapped });
        // the convolution where its gated value was
        net.change(id, |node| {
            node.kind = below.kind;
            node.operands = below.operands;
            node.epilogue = Epilogue { bias: below.epilogue.bias, ..node.epilogue };
            node.layers.splice(0..0, below.layers);
        });
    }
}
