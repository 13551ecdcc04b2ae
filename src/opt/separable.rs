//! `conv1x1(act(depthwise(x)))` is one step where nothing else reads what lies between, so that the hidden image, several
//! times as wide as what goes in and comes out, need not be written. Only where the weights are few, or few beside the
//! image: they are read again for every part of it.

use crate::net::{Id, Kind, Net, Separable, Squeeze};

/// Weights of which each part of the smallest image may read all: 960 x 160, MobileNet's last but one block.
const FEW_WEIGHTS: usize = 160 << 10;

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let Some(node) = net.get(id) else { continue };
        let (Kind::Conv(conv), [hidden, weight]) = (&node.kind, &node.operands[..]) else { continue };
        let (hidden, weight) = (*hidden, *weight);
        let plain = node.epilogue.squeeze == Squeeze::None && node.epilogue.gate.is_none();
        if !conv.is_pointwise() || !plain || net.uses(hidden) != 1 || !is_depthwise(net, hidden) {
            continue;
        }
        let Some((out, height, width)) = node.shape.as_image() else { continue };
        let below = net.node(hidden).clone();
        let (channels, ..) = below.shape.as_image().expect("a convolution of images");
        if (height * width < 2 * out && channels * out > FEW_WEIGHTS) || !net.is_known(id) || !net.is_known(hidden) {
            continue;
        }
        let Kind::Conv(depthwise) = below.kind else { unreachable!("a convolution was asked for") };
        net.change(id, |node| {
            node.kind = Separable { window: depthwise.window, act: below.epilogue.after }.into();
            node.operands = vec![below.operands[0], below.operands[1], weight];
            node.operands.extend(below.epilogue.bias);
            node.layers.splice(0..0, below.layers);
        });
    }
}

/// A depthwise convolution after which there is at most an activation.
fn is_depthwise(net: &Net, id: Id) -> bool {
    let node = net.node(id);
    let (Kind::Conv(conv), [x, _]) = (&node.kind, &node.operands[..]) else { return false };
    let (Some((from, ..)), Some((to, ..))) = (net.node(*x).shape.as_image(), node.shape.as_image()) else {
        return false;
    };
    conv.groups > 1 && conv.groups == from && conv.groups == to && node.epilogue.is_act()
}
