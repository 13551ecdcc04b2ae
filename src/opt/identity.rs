//! Drops what hands on its operand as it is: `x` for `identity(x)`. Lowering makes such nodes of dropout, stochastic
//! depth and identity in eval mode.

use super::{Kind, Net};

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let node = net.node(id);
        if node.kind == Kind::Identity && node.epilogue.is_none() {
            let operand = node.operands[0];
            net.redirect(id, operand);
            net.remove(id);
        }
    }
}
