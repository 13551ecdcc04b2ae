//! Drops what no output needs. Inputs stay: they are what the caller passes.

use super::{Id, Net};

pub(super) fn run(net: &mut Net) {
    let mut live = vec![false; net.bound()];
    let mut stack: Vec<Id> = net.outputs.iter().chain(&net.inputs).map(|(_, id)| *id).collect();
    while let Some(id) = stack.pop() {
        if !std::mem::replace(&mut live[id.0], true) {
            stack.extend(net.node(id).reads());
        }
    }
    for id in net.order().into_iter().filter(|id| !live[id.0]) {
        net.remove(id);
    }
}
