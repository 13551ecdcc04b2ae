//! `rename A to B`: changes a path, and so the keys. The base's file is still read by the old ones.

use super::select::{Target, single};
use super::undone::Deed;
use super::{Ctx, Outcome, SHAPE, Verb};
use crate::diag::{Code, Problem};
use crate::graph::{NodeId, Scope, path};
use crate::syntax::tree::{Index, Part, Place, Segment};

pub(super) const VERB: Verb = Verb {
    name: "rename",
    syntax: &["rename P to path"],
    meaning: "Changes a path, and so the keys that are written. The base's weight file is still read by the old keys.",
    example: "rename fc to head",
    apply,
};

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let [Part::Place(from), Part::Word(_), Part::Path(to)] = parts else { unreachable!("{SHAPE}") };
    let target = single(ctx.builder, from)?;
    let shown = target.display(ctx.builder.patch);
    ctx.matched.push(shown.clone());
    let old = target.path(ctx.builder.patch);
    let new = literal(to)?;
    if path::within(&new, &old) {
        let message = if new == old {
            format!("`{shown}` has that path already")
        } else {
            format!("`{shown}` cannot move into itself")
        };
        return Err(Problem::new(Code::BadEdit, message).at(to.span).into());
    }
    let patch = &mut ctx.builder.patch;
    if patch.is_taken(&new) {
        return Err(Problem::new(Code::Duplicate, format!("there is a `{}` already", path::display(&new)))
            .at(to.span)
            .into());
    }
    ctx.deeds.push(Deed::Moved { from: old.clone(), to: new.clone() });
    let within = patch.roles().ends().filter(|end| path::within(end, &old));
    let moves: Vec<(String, String)> =
        within.map(|end| (end.to_string(), format!("{new}{}", &end[old.len()..]))).collect();
    patch.move_roles(moves);
    // parents are made as needed; a layer cannot hold others
    let mut parent = path::parent(&new);
    let mut missing = vec![];
    while !parent.is_empty() {
        if patch.find(parent).is_some() {
            let problem =
                Problem::new(Code::BadEdit, format!("`{}` is a layer and cannot hold others", path::display(parent)));
            return Err(problem.at(to.span).into());
        }
        if patch.scope(parent).is_none() {
            missing.push(parent.to_string());
        }
        parent = path::parent(parent);
    }
    for scope in missing.into_iter().rev() {
        let span = to.span;
        patch.add_scope(
            &scope,
            Scope { block: None, numbered: false, input: None, output: None, additions: vec![], span },
        );
    }
    match target {
        Target::Layer(id) => patch.rename(id, &new),
        Target::Scope(_) => {
            let moved = |path: &str| format!("{new}{}", &path[old.len()..]);
            let nodes: Vec<NodeId> = patch.layers(&old).collect();
            for id in nodes {
                let to = moved(&patch.node(id).path);
                patch.rename(id, &to);
            }
            let scopes: Vec<(String, Scope)> =
                patch.scopes(&old).map(|(scope, data)| (moved(&scope), data.clone())).collect();
            patch.remove_scope(&old);
            for (at, scope) in scopes {
                patch.add_scope(&at, scope);
            }
        }
        Target::Range { .. } => unreachable!("a place is no range"),
    }
    Ok(())
}

/// A path without globs.
fn literal(place: &Place) -> Result<String, Box<crate::diag::Diagnostic>> {
    let mut labels: Vec<String> = vec![];
    for segment in &place.segments {
        match &segment.value {
            Segment::Glob(glob) if !glob.contains('*') => labels.push(glob.clone()),
            Segment::Indices(indices) => match indices.as_slice() {
                [Index::At(at @ 0..)] => labels.push(at.to_string()),
                _ => return Err(Problem::new(Code::BadEdit, "a new path has plain numbers").at(segment.span)),
            },
            Segment::Glob(_) => return Err(Problem::new(Code::BadEdit, "a new path has no `*`").at(segment.span)),
            Segment::Role(_) | Segment::Tap(_) => {
                return Err(Problem::new(Code::BadEdit, "a new path is made of labels")
                    .hint("`rename @head to classifier`: the role goes with it")
                    .at(segment.span));
            }
        }
    }
    Ok(labels.join("."))
}
