//! Drops what no output needs, and nothing that is kept from step to step. Inputs stay: they are what the caller passes.

use super::{Id, Kind, Net};

pub(super) fn run(net: &mut Net) {
    let mut live = vec![false; net.bound()];
    let mut stack: Vec<Id> = net.outputs.iter().chain(&net.inputs).map(|(_, id)| *id).collect();
    let keeps = |id: &Id| matches!(&net.node(*id).kind, Kind::Learn(learn) if learn.is_sink());
    stack.extend(net.order().into_iter().filter(keeps));
    while let Some(id) = stack.pop() {
        if !std::mem::replace(&mut live[id.0], true) {
            stack.extend(net.node(id).reads());
        }
    }
    for id in net.order().into_iter().filter(|id| !live[id.0]) {
        net.remove(id);
    }
}
