//! `f(permute(x)) = permute(f(x))` for what works on single numbers, so that `f` meets what computes `x`. A residual is
//! permuted back; that is a view, and often undoes a permutation that was there.

use crate::net::{Accepts, Channels, Epilogue, Kind, Net, Node, Permute, inverse};

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let Some(outer) = net.get(id) else { continue };
        if !matches!(outer.kind, Kind::Identity(_) | Kind::Channels(_)) {
            continue;
        }
        let permuted = outer.operands[0];
        let Kind::Permute(Permute { axes }) = &net.node(permuted).kind else { continue };
        let (axes, x) = (axes.clone(), net.node(permuted).operands[0]);
        if net.uses(permuted) != 1 || net.uses(x) != 1 || net.node(x).kind.accepts() == Accepts::Nothing {
            continue;
        }
        let (outer, inner) = (outer.clone(), net.node(x).shape.clone());
        let layers = net.node(permuted).layers.clone();
        let residual = outer.epilogue.residual.map(|residual| {
            let back = Permute { axes: inverse(&axes) };
            net.add(Node::new(back, vec![residual], inner.clone(), layers.clone()))
        });
        let mut operands = outer.operands.clone();
        operands[0] = x;
        let kind = match outer.kind {
            Kind::Channels(Channels { axis }) => Channels { axis: axes[axis] }.into(),
            kind => kind,
        };
        let epilogue = Epilogue { residual, ..outer.epilogue };
        let first = net.add(Node { epilogue, ..Node::new(kind, operands, inner, outer.layers) });
        net.set(id, Node::new(Permute { axes }, vec![first], outer.shape, layers));
    }
}
