//! Drops what hands on its operand as it is: `x` for `identity(x)`. Lowering makes such nodes of dropout, stochastic
//! depth and identity in eval mode.

use crate::net::{Kind, Net};

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let Some(node) = net.get(id) else { continue };
        if matches!(node.kind, Kind::Identity(_)) && node.epilogue.is_none() {
            net.redirect(id, node.operands[0]);
        }
    }
}
