//! `matmul(a, b) * s` as one product with a scale.

use archc_base::Act;

use super::{Kind, Net};

pub(super) fn run(net: &mut Net) {
    let counts = net.use_counts();
    for id in net.order() {
        let node = net.node(id);
        let (Kind::Identity, [x]) = (&node.kind, node.operands.as_slice()) else { continue };
        let before = net.get(*x).map(|below| &below.kind);
        let Some(Kind::Matmul { scale: first }) = before else { continue };
        let (true, None, Act::None) = (counts[x.0] == 1, node.epilogue.residual, node.epilogue.before) else {
            continue;
        };
        let Act::Linear { scale, shift: 0.0 } = node.epilogue.after else { continue };
        let (x, scale) = (*x, first * scale);
        let mut product = net.node(x).clone();
        product.kind = Kind::Matmul { scale };
        product.layers.extend(node.layers.clone());
        *net.node_mut(id) = product;
        net.remove(x);
    }
}
