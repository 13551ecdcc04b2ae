//! Lets the backward pass of a batch norm undo the relu that follows it: `(y > 0) dy` is not written, as the sign of y is
//! that of the normalised x, which both steps of the backward pass read anyway. So neither y nor the masked gradient is read
//! or written for it.
//!
//! Not where something is added before the relu: then the sign is another's, and the masked gradient flows into it too.

use archc_base::Act;

use crate::net::{Id, Kind, Net};

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let Some(node) = net.get(id) else { continue };
        let Kind::ActData(data) = &node.kind else { continue };
        if data.act != Act::Relu || !node.epilogue.is_none() {
            continue;
        }
        let (dy, y) = (node.operands[0], node.operands[1]);
        let norm = net.node(y);
        if !matches!(norm.kind, Kind::BatchNorm(_)) || !norm.epilogue.is_act() || norm.epilogue.after != Act::Relu {
            continue;
        }
        let undoes = |reader: &Id| {
            let node = net.node(*reader);
            let kind = matches!(node.kind, Kind::BatchNormSums(_) | Kind::BatchNormData(_));
            let masked = node.reads().filter(|read| *read == id).count();
            kind && masked == 1 && node.operands[0] == id && node.operands[1..5] == norm.operands[..]
        };
        let readers = net.readers(id);
        if net.is_output(id) || !readers.iter().all(undoes) {
            continue;
        }
        for reader in readers {
            net.change(reader, |node| {
                node.operands[0] = dy;
                match &mut node.kind {
                    Kind::BatchNormSums(sums) => sums.relu = true,
                    Kind::BatchNormData(data) => data.relu = true,
                    _ => unreachable!("these kinds were asked for"),
                }
            });
        }
    }
}
