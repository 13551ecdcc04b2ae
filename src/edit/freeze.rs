//! `freeze S`, `unfreeze S`: no gradient, and batch norm inside keeps its running statistics.

use super::select::{Grain, Target, select};
use super::undone::{Deed, Mark};
use super::{Ctx, Outcome, SHAPE, Verb};
use crate::diag::{Code, Problem, and};
use crate::graph::path;
use crate::ops::Op;
use crate::syntax::tree::{Part, Selector};

pub(super) const FREEZE: Verb = Verb {
    name: "freeze",
    syntax: &["freeze S"],
    meaning: "No gradient for these layers, and batch norms among them keep their running statistics. What a later edit makes \
        is trainable.",
    example: "freeze all except fc",
    apply: |ctx, parts| {
        let [Part::Selector(target)] = parts else { unreachable!("{SHAPE}") };
        apply(ctx, target, Change::Freeze)
    },
};

pub(super) const UNFREEZE: Verb = Verb {
    name: "unfreeze",
    syntax: &["unfreeze S"],
    meaning: "Takes a `freeze` back.",
    example: "freeze all\nunfreeze layer4, fc",
    apply: |ctx, parts| {
        let [Part::Selector(target)] = parts else { unreachable!("{SHAPE}") };
        apply(ctx, target, Change::Unfreeze)
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Freeze,
    Unfreeze,
}

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, selector: &'a Selector, change: Change) -> Outcome<()> {
    let frozen = change == Change::Freeze;
    // the places as they are named, for the plan; layers to work on
    let targets = select(ctx.builder, selector, Grain::Layers)?;
    let mut changed = false;
    let mut has_weights = false;
    let mut shared: Vec<String> = vec![];
    let mut marks = vec![];
    for target in targets {
        let Target::Layer(id) = target else { continue };
        let with_params = ctx.builder.patch.params(id).is_none_or(|params| !params.is_empty());
        if with_params {
            ctx.matched.push(Target::Layer(id).display(ctx.builder.patch));
        }
        has_weights |= with_params;
        // parameters of their own paths, by the last name
        for operand in ctx.builder.patch.operands(id) {
            let node = ctx.builder.patch.node(operand);
            let name = path::last(&node.path);
            if matches!(node.op, Op::Parameter(_)) && !shared.iter().any(|other| other == name) {
                shared.push(name.to_string());
            }
        }
        if with_params && ctx.builder.patch.node(id).frozen != frozen {
            changed = true;
            marks.push((id, if frozen { Mark::Frozen } else { Mark::Trainable }));
        }
        ctx.builder.patch.node_mut(id).frozen = frozen;
    }
    ctx.deeds.push(Deed::Marks(marks));
    let problem = match (has_weights, changed) {
        (false, _) if !shared.is_empty() => {
            let verb = if frozen { "freeze" } else { "unfreeze" };
            let named: Vec<String> = shared.iter().map(|name| format!("**.{name}")).collect();
            Problem::new(Code::BadEdit, "these layers have no weights of their own")
                .note(format!("they compute with {}", and(&shared)))
                .hint(format!("for all that compute with these: `{verb} {}`", named.join(", ")))
        }
        (false, _) => Problem::new(Code::BadEdit, "none of these layers has weights"),
        (_, false) => {
            let state = if frozen { "frozen" } else { "trainable" };
            Problem::new(Code::BadEdit, format!("these layers are {state} already"))
        }
        _ => return Ok(()),
    };
    Err(problem.at(selector.span).into())
}
