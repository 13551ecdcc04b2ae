//! Which sums are residuals: two branches that begin with one value and meet in an addition, and between them nothing
//! that anything else takes.

use indexmap::IndexMap;
use rustc_hash::{FxHashMap, FxHashSet};

use super::plain::{Braces, EntryKind};
use crate::graph::{Graph, NodeId};
use crate::ops::Op;

/// A residual of more entries is written as a sum, and so is one that lies in more others: reading either takes a look back
/// for each addition.
const MAX_ENTRIES: usize = 2_000;
const MAX_NESTED: usize = 16;

/// Entries that are written together, by their numbers.
pub enum Unit {
    One(usize),
    Residual {
        /// The addition.
        add: usize,
        main: Vec<Unit>,
        /// Empty where the input itself is added.
        side: Vec<Unit>,
        /// What flows into both.
        input: NodeId,
        /// What they end with.
        ends: [NodeId; 2],
    },
}

/// A residual, its branches in no units yet.
struct Found {
    /// Where its first entry stands.
    start: usize,
    main: Vec<usize>,
    side: Vec<usize>,
    input: NodeId,
    ends: [NodeId; 2],
}

/// The entries of `order`, with residuals where they can be, but for the additions in `refused`. `input` flows into the first.
pub fn group(
    graph: &Graph,
    braces: &Braces,
    order: &[usize],
    input: Option<NodeId>,
    refused: &FxHashSet<usize>,
) -> Vec<Unit> {
    group_inside(graph, braces, order, input, refused, 0)
}

fn group_inside(
    graph: &Graph,
    braces: &Braces,
    order: &[usize],
    input: Option<NodeId>,
    refused: &FxHashSet<usize>,
    depth: usize,
) -> Vec<Unit> {
    let places: FxHashMap<usize, usize> = order.iter().enumerate().map(|(place, at)| (*at, place)).collect();
    let mut units = vec![];
    let mut end = order.len();
    while end > 0 {
        let at = order[end - 1];
        let may = depth < MAX_NESTED && !refused.contains(&at);
        let found = if may { find(graph, braces, order, &places, end - 1, input) } else { None };
        match found {
            Some(found) => {
                let inside =
                    |order: &[usize]| group_inside(graph, braces, order, Some(found.input), refused, depth + 1);
                let (main, side) = (inside(&found.main), inside(&found.side));
                units.push(Unit::Residual { add: at, main, side, input: found.input, ends: found.ends });
                end = found.start;
            }
            None => {
                units.push(Unit::One(at));
                end -= 1;
            }
        }
    }
    units.reverse();
    units
}

/// A side of a residual.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Main,
    Side,
}

/// The residual that ends with the addition at `end`, where there is one.
fn find(
    graph: &Graph,
    braces: &Braces,
    order: &[usize],
    places: &FxHashMap<usize, usize>,
    end: usize,
    input: Option<NodeId>,
) -> Option<Found> {
    let end_at = end;
    let entry = &braces.entries[order[end]];
    let EntryKind::Layer(add) = entry.kind else { return None };
    let node = graph.node(add);
    let Op::Add(sum) = &node.op else { return None };
    let is_named = entry.label == "add" || entry.label.starts_with("add_");
    let operands = graph.operands(add);
    let ([main_end, side_end], None, None, true) = (operands.as_slice(), sum.number, node.tied, is_named) else {
        return None;
    };
    let (main_end, side_end) = (*main_end, *side_end);
    // what the branches take and do not make: whether the main one does, whether the side one does
    let mut pending: IndexMap<NodeId, [bool; 2]> = IndexMap::new();
    let take = |pending: &mut IndexMap<NodeId, [bool; 2]>, id: NodeId, side: Side| {
        pending.entry(id).or_default()[side as usize] = true;
    };
    take(&mut pending, main_end, Side::Main);
    take(&mut pending, side_end, Side::Side);
    let place_of = |id: &NodeId| braces.of.get(id).and_then(|at| places.get(at)).copied();
    let mut branches: [Vec<usize>; 2] = [vec![], vec![]];
    let mut at = end;
    let begin = loop {
        let Some(before) = at.checked_sub(1) else { break None };
        if end - before > MAX_ENTRIES {
            return None;
        }
        let here: Vec<NodeId> = pending.keys().copied().filter(|id| place_of(id) == Some(before)).collect();
        let sides = here.iter().fold([false; 2], |sides, id| [0, 1].map(|side| sides[side] | pending[id][side]));
        let side = match sides {
            [true, true] => break if let [one] = here.as_slice() { Some(*one) } else { return None },
            [false, false] => break None,
            [true, false] => Side::Main,
            [false, true] => Side::Side,
        };
        here.iter().for_each(|id| _ = pending.swap_remove(id));
        let entry = order[before];
        let nodes = &braces.entries[entry].nodes;
        let operands = nodes.iter().flat_map(|id| graph.operands(*id).into_iter().chain(graph.node(*id).tied));
        for operand in operands.filter(|id| braces.of.get(id) != Some(&entry)) {
            take(&mut pending, operand, side);
        }
        branches[side as usize].push(entry);
        at = before;
    };
    let begin = begin.or_else(|| {
        let both: Vec<NodeId> = pending.iter().filter(|(_, sides)| **sides == [true; 2]).map(|(id, _)| *id).collect();
        match both.as_slice() {
            [one] => Some(*one),
            several => input.filter(|input| several.contains(input)),
        }
    })?;
    // a value inside a scope, or a part of a chunk, does not flow
    let flows =
        !graph.is_constant(begin) && braces.of.get(&begin).is_none_or(|at| braces.entries[*at].value == Some(begin));
    branches.iter_mut().for_each(|branch| branch.reverse());
    let [main, side] = branches;
    let is_end = |branch: &[usize], end: NodeId| braces.of.get(&end).is_some_and(|at| branch.contains(at));
    let ends = is_end(&main, main_end) && if side.is_empty() { side_end == begin } else { is_end(&side, side_end) };
    let stays = |branch: &[usize], end: NodeId| {
        let inside: FxHashSet<usize> = branch.iter().copied().collect();
        branch.iter().flat_map(|at| &braces.entries[*at].readers).all(|(id, reader)| match reader {
            Some(reader) => inside.contains(reader) || *reader == order[end_at] && *id == end,
            None => false,
        })
    };
    if !flows || !ends || !stays(&main, main_end) || !stays(&side, side_end) {
        return None;
    }
    Some(Found { start: at, main, side, input: begin, ends: [main_end, side_end] })
}
