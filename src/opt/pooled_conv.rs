//! `max_pool(act(conv(x)))` is one step for an image x of few channels, as a network's input is: the convolution's result
//! is then much larger than what goes in and what comes out, and is never written. Only where nothing else reads it.

use crate::net::{Epilogue, Kind, Net, PooledConv};

/// Channels for which the convolution's cost is less than that of its result.
const FEW: usize = 15;

/// Rows of windows that a backend keeps.
const ROWS: usize = 8;

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let Some(node) = net.get(id) else { continue };
        let Kind::Pool(maxima) = &node.kind else { continue };
        let (pool, conv) = (maxima.window, node.operands[0]);
        let below = net.node(conv);
        let (Kind::Conv(kind), [x, _]) = (&below.kind, &below.operands[..]) else { continue };
        let Some((channels, ..)) = net.node(*x).shape.as_image() else { continue };
        let window = kind.window;
        let windows =
            window.kernel[1] > 1 && window.dilation[1] == 1 && pool.dilation == [1, 1] && pool.kernel[0] <= ROWS;
        let fits = maxima.pool == archc_base::Pool::Max && kind.groups == 1 && channels <= FEW && windows;
        if !fits || net.uses(conv) != 1 || !below.epilogue.is_act() || !net.is_known(conv) {
            continue;
        }
        let below = below.clone();
        net.change(id, |node| {
            node.kind = PooledConv { window, act: below.epilogue.after, pool }.into();
            node.operands = below.operands;
            node.epilogue = Epilogue::bias(below.epilogue.bias);
            node.layers.splice(0..0, below.layers);
        });
    }
}
