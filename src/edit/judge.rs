//! What no output needs: after each edit what it cut off, after the last one what edits made and nothing took. A body
//! may so make a side branch that a later edit uses.

use indexmap::IndexMap;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Report, Totals, warn_undone};
use crate::diag::{Code, Diagnostic, Diagnostics, Problem};
use crate::graph::{Graph, NodeId, Patch, path};
use crate::ops::Role;
use crate::source::Span;

/// Takes away what an edit cut off, and says what that undoes. What it made and nothing takes stays for the edits behind it.
pub(super) fn sweep(patch: &mut Patch, edit: Span, problems: &mut Diagnostics) {
    patch.keep_loose();
    let of =
        |id: &NodeId| Some((patch.node(*id).path.clone(), patch.node(*id).origin.filter(|origin| *origin != edit)?));
    let undone: Vec<(String, Span)> = patch.dead().iter().filter_map(of).collect();
    patch.sweep();
    warn_undone(&undone, edit, problems);
}

/// Takes away what reaches no output after the last edit, out of the report of the edit that made it.
///
/// # Errors
/// Of each edit the first layer with weights that is left so.
pub(super) fn judge(graph: &mut Graph, reports: &mut [Report]) -> Result<(), Diagnostics> {
    graph.patch(|patch| {
        patch.judge_loose();
        let dead = patch.dead();
        let mut lost: IndexMap<Span, Box<Diagnostic>> = IndexMap::new();
        for id in &dead {
            if let Some(origin) = patch.node(*id).origin.filter(|_| is_learned(patch, *id)) {
                lost.entry(origin).or_insert_with(|| unreachable(patch, *id, origin));
            }
        }
        let are_dead: FxHashSet<NodeId> = dead.iter().copied().collect();
        for id in patch.inputs().values() {
            let is_taken = patch.readers(*id).any(|(reader, _)| !are_dead.contains(&reader));
            let origin = patch.node(*id).origin.filter(|_| !is_taken && patch.output_names(*id).next().is_none());
            lost.extend(origin.map(|origin| (origin, untaken(patch, *id, origin))));
        }
        if !lost.is_empty() {
            let mut problems = Diagnostics::new();
            lost.into_values().for_each(|problem| problems.push(problem));
            return Err(problems);
        }
        account(patch, &dead, reports);
        patch.sweep();
        Ok(())
    })
}

/// Whether a layer has weights of its own.
fn is_learned(patch: &Patch, id: NodeId) -> bool {
    let has_weights = patch.params(id).is_some_and(|params| params.iter().any(|param| param.role == Role::Weight));
    has_weights && patch.node(id).tied.is_none()
}

fn unreachable(patch: &Patch, id: NodeId, origin: Span) -> Box<Diagnostic> {
    let node = patch.node(id);
    let message = format!("`{}` has weights and reaches no output", path::display(&node.path));
    let problem = Problem::new(Code::Unreachable, message);
    problem.hint("use its result, or leave it out").at(node.span).blame(Some(origin))
}

fn untaken(patch: &Patch, id: NodeId, origin: Span) -> Box<Diagnostic> {
    let node = patch.node(id);
    let problem = Problem::new(Code::Unreachable, format!("no output needs the input `{}`", node.path));
    let hint = format!("take it in a later edit, `concat(in, {})`, or leave it out", node.path);
    problem.hint(hint).at(node.span).blame(Some(origin))
}

/// What goes was never there for the edit that made it; a layer of the base that only it took goes with that edit.
fn account(patch: &Patch, dead: &[NodeId], reports: &mut [Report]) {
    let mut edits: FxHashMap<NodeId, Span> = FxHashMap::default();
    let mut lost: FxHashMap<Span, Lost> = FxHashMap::default();
    for id in dead.iter().rev() {
        let node = patch.node(*id);
        let readers = || patch.readers(*id).find_map(|(reader, _)| edits.get(&reader).copied());
        let Some(edit) = node.origin.or_else(readers) else { continue };
        edits.insert(*id, edit);
        let lost = lost.entry(edit).or_default();
        lost.cost = lost.cost + Totals::of_layer(&patch.layer(*id));
        match node.origin {
            Some(_) => drop(lost.made.insert(&node.path)),
            None => lost.gone.push(node.path.clone()),
        }
    }
    for report in reports {
        let Some(lost) = lost.remove(&report.span) else { continue };
        report.added.retain(|added| !lost.made.contains(added.as_str()));
        report.removed.extend(lost.gone.into_iter().rev());
        report.count(Totals::default() - lost.cost);
    }
}

/// What goes in the end of what an edit had made, or had kept.
#[derive(Default)]
struct Lost<'g> {
    made: FxHashSet<&'g str>,
    gone: Vec<String>,
    cost: Totals,
}
