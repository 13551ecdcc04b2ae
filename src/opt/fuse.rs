//! Moves activations and additions into the epilogue of what computes their operand: `relu(conv(x) + y)` is one step.
//!
//! Functions that are rare go into steps of single values alone, whose kernels know all.
//!
//! Of two operands of an addition a gated one takes the other as its residual, else the one computed last. Only values
//! without another use are swallowed, so that the other operand can never depend on the one that swallows it.

use archc_base::Act;

use crate::net::{Accepts, Epilogue, Id, Kind, Net};

pub(super) fn run(net: &mut Net) {
    let order = net.order();
    let mut position = vec![0; net.bound()];
    order.iter().enumerate().for_each(|(at, id)| position[id.0] = at);
    for id in order {
        let Some(node) = net.get(id) else { continue };
        let Kind::Identity(_) = node.kind else { continue };
        let (x, epilogue) = (node.operands[0], node.epilogue);
        let mut ways: Vec<(Id, Epilogue)> = vec![(x, epilogue)];
        // x + y = y + x, as long as nothing is done to x alone
        if let (Some(y), None, Act::None) = (epilogue.residual, epilogue.gate, epilogue.before) {
            ways.push((y, Epilogue { residual: Some(x), ..epilogue }));
        }
        ways.sort_by_key(|(into, _)| {
            let below = net.node(*into);
            (below.epilogue.gate.is_none(), !costs(&below.kind), std::cmp::Reverse(position[into.0]))
        });
        let fits = |(into, epilogue): &(Id, Epilogue)| {
            let below = net.node(*into);
            let takes = match below.kind.accepts() {
                Accepts::Nothing => false,
                Accepts::Sum => epilogue.gate.is_none(),
                Accepts::Gate => epilogue.gate.is_none() || net.is_known(*into),
            };
            let joined = below.epilogue.then(epilogue)?;
            let has = below.kind.has_rare() || !joined.is_rare();
            (takes && has && net.uses(*into) == 1 && below.shape == node.shape).then_some((*into, joined))
        };
        if let Some((into, joined)) = ways.iter().find_map(fits) {
            let mut fused = net.node(into).clone();
            fused.epilogue = joined;
            fused.layers.extend(&node.layers);
            net.set(id, fused);
        }
    }
}

/// Sums of products, whose epilogues are free.
fn costs(kind: &Kind) -> bool {
    matches!(kind, Kind::Conv(_) | Kind::ConvData(_) | Kind::ConvTranspose(_) | Kind::Linear(_))
}
