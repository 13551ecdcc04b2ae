//! `f(permute(x)) = permute(f(x))` for what works on single numbers, so that `f` meets what computes `x`. A residual is
//! permuted back; that is a view, and often undoes a permutation that was there.

use super::{Epilogue, Kind, Net, Node};

pub(super) fn run(net: &mut Net) {
    let mut counts = net.use_counts();
    for id in net.order() {
        let node = net.node(id);
        let (Kind::Identity | Kind::Channels { .. }, [permuted]) = (&node.kind, node.operands.as_slice()) else {
            continue;
        };
        let below = net.node(*permuted);
        let Kind::Permute { axes } = &below.kind else { continue };
        let x = below.operands[0];
        if counts[permuted.0] != 1 || counts[x.0] != 1 || !net.node(x).kind.takes_epilogue() {
            continue;
        }
        if node.epilogue.residual == Some(*permuted) {
            continue;
        }
        let (permuted, axes, inner) = (*permuted, axes.clone(), net.node(x).shape.clone());
        let outer = net.node(id).clone();
        let residual = outer.epilogue.residual.map(|residual| {
            let mut back = vec![0; axes.len()];
            axes.iter().enumerate().for_each(|(to, from)| back[*from] = to);
            let layers = net.node(permuted).layers.clone();
            let kind = Kind::Permute { axes: back };
            let shape = inner.clone();
            let node = Node { kind, operands: vec![residual], epilogue: Epilogue::default(), shape, layers };
            net.add(node)
        });
        let kind = match outer.kind {
            Kind::Channels { axis, maps } => Kind::Channels { axis: axes[axis], maps },
            kind => kind,
        };
        let layers = net.node(permuted).layers.clone();
        let epilogue = Epilogue { residual, ..outer.epilogue };
        let first = net.add(Node { kind, operands: vec![x], epilogue, shape: inner, layers: outer.layers.clone() });
        let node = net.node_mut(id);
        *node = Node {
            kind: Kind::Permute { axes },
            operands: vec![first],
            epilogue: Epilogue::default(),
            shape: outer.shape,
            layers,
        };
        net.remove(permuted);
        counts.resize(net.bound(), 1);
        counts[first.0] = 1;
    }
}
