//! `conv1x1(act(depthwise(x)))` is one step where nothing else reads what lies between, so that the hidden image, several
//! times as wide as what goes in and comes out, need not be written. Only where the weights are few, or few beside the
//! image: they are read again for every part of it.

use archc_base::{Act, Window};

use super::{Epilogue, Id, Kind, Net, Squeeze, Weights};

/// Weights of which each part of the smallest image may read all: 960 x 160, MobileNet's last but one block.
const FEW_WEIGHTS: usize = 160 << 10;

pub(super) fn run(net: &mut Net) {
    let counts = net.use_counts();
    for id in net.order() {
        let node = net.node(id);
        let ([hidden], Kind::Conv { weights, .. }) = (&node.operands[..], &node.kind) else { continue };
        let (hidden, pointwise) = (*hidden, weights.clone());
        let plain = node.epilogue.squeeze == Squeeze::None && node.epilogue.gate.is_none();
        if !node.kind.is_pointwise() || !plain || counts[hidden.0] != 1 {
            continue;
        }
        let Some((window, depthwise, act)) = depthwise(net, hidden) else { continue };
        let Some((out, height, width)) = node.shape.as_image() else { continue };
        let (channels, ..) = net.node(hidden).shape.as_image().expect("a convolution of images");
        if height * width < 2 * out && channels * out > FEW_WEIGHTS {
            continue;
        }
        let below = net.node(hidden).clone();
        let node = net.node_mut(id);
        node.kind = Kind::Separable { window, depthwise, act, pointwise };
        node.operands = below.operands;
        node.layers.splice(0..0, below.layers);
        net.remove(hidden);
    }
}

/// A depthwise convolution after which there is at most an activation.
fn depthwise(net: &Net, id: Id) -> Option<(Window, Weights, Act)> {
    let node = net.node(id);
    let (Kind::Conv { window, groups, weights }, [x]) = (&node.kind, &node.operands[..]) else { return None };
    let (from, to) = (net.node(*x).shape.as_image()?.0, node.shape.as_image()?.0);
    let act = node.epilogue.after;
    let each = *groups > 1 && *groups == from && *groups == to;
    let alone = node.epilogue == Epilogue { after: act, ..Epilogue::default() };
    (each && alone).then(|| (*window, weights.clone(), act))
}
