//! Lets the backward pass of a batch norm undo the relu that follows it: `(y > 0) dy` is not written, as the sign of y is
//! that of the normalised x, which both steps of the backward pass read anyway. So neither y nor the masked derivative is
//! read or written for it.
//!
//! Not where something is added before the relu: then the sign is another's, and the masked derivative flows into it too.

use archc_base::Act;

use super::{Id, Kind, Learn, Net};

pub(super) fn run(net: &mut Net) {
    let order = net.order();
    for id in &order {
        let node = net.node(*id);
        if node.kind != Kind::Learn(Learn::ActData { act: Act::Relu }) || !node.epilogue.is_none() {
            continue;
        }
        let (dy, y) = (node.operands[0], node.operands[1]);
        let norm = net.node(y);
        let ends_so = norm.epilogue.residual.is_none() && norm.epilogue.after == Act::Relu;
        if !matches!(norm.kind, Kind::Learn(Learn::BatchNorm { .. })) || !ends_so {
            continue;
        }
        let read = norm.operands.clone();
        let reads = |other: &Id| net.get(*other).is_some_and(|node| node.reads().any(|read| read == *id));
        let readers: Vec<Id> = order.iter().copied().filter(reads).collect();
        let undoes = |reader: &Id| {
            let node = net.node(*reader);
            let kind = matches!(node.kind, Kind::Learn(Learn::BatchNormSums { .. } | Learn::BatchNormData { .. }));
            let masked = node.reads().filter(|read| read == id).count();
            kind && masked == 1 && node.operands[0] == *id && node.operands[1..5] == read[..]
        };
        let is_output = net.outputs.iter().any(|(_, output)| output == id);
        if is_output || !readers.iter().all(undoes) {
            continue;
        }
        for reader in readers {
            let node = net.node_mut(reader);
            node.operands[0] = dy;
            if let Kind::Learn(Learn::BatchNormSums { relu, .. } | Learn::BatchNormData { relu, .. }) = &mut node.kind {
                *relu = true;
            }
        }
        net.remove(*id);
    }
}
