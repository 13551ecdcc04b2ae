//! Moves activations and additions into the epilogue of what computes their operand: `relu(conv(x) + y)` is one step.
//!
//! Of two operands of an addition a gated one takes the other as its residual, else the one computed last. Only values
//! without another use are swallowed, so that the other operand can never depend on the one that swallows it.

use super::{Epilogue, Id, Kind, Learn, Net};

pub(super) fn run(net: &mut Net) {
    let order = net.order();
    let mut position = vec![0; net.bound()];
    order.iter().enumerate().for_each(|(at, id)| position[id.0] = at);
    let mut counts = net.use_counts();
    for id in order {
        let node = net.node(id);
        if node.kind != Kind::Identity {
            continue;
        }
        let (x, epilogue) = (node.operands[0], node.epilogue);
        let mut ways: Vec<(Id, Epilogue)> = vec![(x, epilogue)];
        // x + y = y + x, as long as nothing is done to x alone
        if let (Some(y), None, super::Act::None) = (epilogue.residual, epilogue.gate, epilogue.before) {
            ways.push((y, Epilogue { residual: Some(x), ..epilogue }));
        }
        ways.sort_by_key(|(into, _)| {
            let below = net.node(*into);
            (below.epilogue.gate.is_none(), !costs(&below.kind), std::cmp::Reverse(position[into.0]))
        });
        for (into, epilogue) in ways {
            let below = net.node(into);
            if counts[into.0] != 1 || !below.kind.takes_epilogue() || below.shape != node.shape {
                continue;
            }
            if epilogue.gate.is_some() && !below.kind.takes_gate() {
                continue;
            }
            let Some(joined) = below.epilogue.then(&epilogue) else { continue };
            let mut fused = below.clone();
            fused.epilogue = joined;
            fused.layers.extend(&node.layers);
            *net.node_mut(id) = fused;
            net.remove(into);
            counts[into.0] = 0;
            break;
        }
    }
}

/// Sums of products, whose epilogues are free.
fn costs(kind: &Kind) -> bool {
    matches!(kind, Kind::Conv { .. } | Kind::ConvTranspose { .. } | Kind::Linear { .. })
        || matches!(kind, Kind::Learn(Learn::Conv { .. } | Learn::ConvData { .. } | Learn::Linear))
}
