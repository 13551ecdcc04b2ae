//! `max_pool(act(conv(x)))` is one step for an image x of few channels, as a network's input is: the convolution's result
//! is then much larger than what goes in and what comes out, and is never written. Only where nothing else reads it.

use archc_base::Pool;

use super::{Epilogue, Kind, Net};

/// Channels for which the convolution's cost is less than that of its result.
const FEW: usize = 15;

/// Rows of windows that a backend keeps.
const ROWS: usize = 8;

pub(super) fn run(net: &mut Net) {
    let counts = net.use_counts();
    for id in net.order() {
        let node = net.node(id);
        let Kind::Pool { pool: Pool::Max, window: pool } = &node.kind else { continue };
        let (pool, conv) = (*pool, node.operands[0]);
        let below = net.node(conv);
        let (Kind::Conv { window, groups: 1, weights }, [x]) = (&below.kind, &below.operands[..]) else { continue };
        let Some((channels, ..)) = net.node(*x).shape.as_image() else { continue };
        let act = below.epilogue.after;
        let alone = below.epilogue == Epilogue { after: act, ..Epilogue::default() };
        let windows =
            window.kernel[1] > 1 && window.dilation[1] == 1 && pool.dilation == [1, 1] && pool.kernel[0] <= ROWS;
        if counts[conv.0] != 1 || channels > FEW || !alone || !windows {
            continue;
        }
        let kind = Kind::PooledConv { window: *window, weights: weights.clone(), act, pool };
        let below = below.clone();
        let node = net.node_mut(id);
        node.kind = kind;
        node.operands = below.operands;
        node.layers.splice(0..0, below.layers);
        net.remove(conv);
    }
}
