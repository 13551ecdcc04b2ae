//! `matmul(a, b) * s` as one product with a scale.

use archc_base::Act;

use crate::net::{Epilogue, Kind, Matmul, Net};

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let Some(node) = net.get(id) else { continue };
        let (Kind::Identity(_), [x]) = (&node.kind, &node.operands[..]) else { continue };
        let below = net.node(*x);
        let Kind::Matmul(Matmul { scale: first }) = below.kind else { continue };
        let Act::Linear { scale, shift: 0.0 } = node.epilogue.after else { continue };
        if net.uses(*x) != 1 || node.epilogue != Epilogue::act(node.epilogue.after) {
            continue;
        }
        let mut product = below.clone();
        product.kind = Matmul { scale: first * scale }.into();
        product.layers.extend(&node.layers);
        net.set(id, product);
    }
}
