//! The order in which a network runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::{Graph, NodeId};

impl Graph {
    /// All nodes in the order in which the network runs, ties by rank (where they were written). Fewer than all where
    /// the graph has a circle.
    pub fn order(&self) -> Vec<NodeId> {
        let all = || self.sorted(&self.ids().collect::<Vec<_>>(), self.bound(), |id| Some(id.index()));
        self.order.get_or_init(all).clone()
    }

    /// Some nodes in the order in which they would run alone.
    pub fn order_of(&self, ids: &[NodeId]) -> Vec<NodeId> {
        if ids.len() < 2 {
            return ids.to_vec();
        }
        let places: FxHashMap<NodeId, usize> = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        self.sorted(ids, ids.len(), |id| places.get(&id).copied())
    }

    /// Kahn's algorithm, of the nodes that are ready the one of the lowest rank first. `place` is a number below `bound`
    /// for each of `ids`, None for others.
    fn sorted(&self, ids: &[NodeId], bound: usize, place: impl Fn(NodeId) -> Option<usize>) -> Vec<NodeId> {
        let mut waiting = vec![0usize; bound];
        let mut ready = BinaryHeap::new();
        for id in ids {
            let operands = self.operands(*id).into_iter().filter(|operand| place(*operand).is_some()).count();
            waiting[place(*id).expect("it is one of the ids")] = operands;
            if operands == 0 {
                ready.push(Reverse((self.node(*id).rank, *id)));
            }
        }
        let mut order = Vec::with_capacity(ids.len());
        while let Some(Reverse((_, id))) = ready.pop() {
            order.push(id);
            for (reader, _) in self.readers(id) {
                let Some(at) = place(reader) else { continue };
                waiting[at] -= 1;
                if waiting[at] == 0 {
                    ready.push(Reverse((self.node(reader).rank, reader)));
                }
            }
        }
        order
    }
}
