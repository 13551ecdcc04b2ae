//! `matmul(x, W)` with a matrix W of parameters alone is `linear` with W transposed.

use super::{Epilogue, Kind, Net, Weights};

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let node = net.node(id);
        let (Kind::Matmul { scale }, [x, w]) = (&node.kind, node.operands.as_slice()) else { continue };
        let Kind::Constant(source) = &net.node(*w).kind else { continue };
        if *scale != 1.0 || source.shape().len() != 2 || !node.shape.batched || node.shape.rank() < 2 {
            continue;
        }
        // a batchless or missing axis on the left would be stretched, which linear does not do
        if net.node(*x).shape.rank() != node.shape.rank() {
            continue;
        }
        let weights = Weights { transposed: true, ..Weights::new(source.clone(), None) };
        let x = *x;
        let node = net.node_mut(id);
        node.kind = Kind::Linear { weights };
        node.operands = vec![x];
        node.epilogue = Epilogue::default();
    }
}
