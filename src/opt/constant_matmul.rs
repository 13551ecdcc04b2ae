//! `matmul(x, W)` with a matrix W of parameters alone is `linear` with W transposed.

use crate::net::{Constant, Kind, Lies, Linear, Net, Node};

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let Some(Node { kind: Kind::Matmul(product), operands, shape, layers, .. }) = net.get(id) else { continue };
        let [x, w] = operands[..] else { continue };
        let Some(source) = net.constant(w).and_then(Constant::as_plain).cloned() else { continue };
        if product.scale != 1.0 || source.shape().len() != 2 || !shape.batched || shape.rank() < 2 {
            continue;
        }
        // a batchless or missing axis on the left would be broadcast, which linear does not do
        if net.node(x).shape.rank() != shape.rank() {
            continue;
        }
        let (shape, layers, of) = (shape.clone(), layers.clone(), net.node(w).layers.clone());
        let weight = net.add_constant(Constant::Tensor { source, lies: Lies::Transposed, maps: vec![] }, of);
        net.set(id, Node::new(Linear, vec![x, weight], shape, layers));
    }
}
