//! `set T { attr = v, .. }`: changes arguments of the ops of layers.

use super::keeping::Kept;
use super::select::{Grain, Target, select};
use super::undone::{Deed, Mark};
use super::{Ctx, Outcome, SHAPE, Verb};
use crate::diag::{Code, Problem};
use crate::graph::path;
use crate::syntax::tree::Part;

pub(super) const VERB: Verb = Verb {
    name: "set",
    syntax: &["set T { argument = value, .. } [keeping ..]", "set P.argument = value [keeping ..]"],
    meaning: "Changes arguments of the ops of layers. It is the one way to change the shape of a base layer's tensors: those \
        get fresh values and count as reshaped, unless `keeping` makes them of the old ones.",
    example: "set layer4[0].conv1, layer4[0].downsample[0] { stride = 1 }",
    apply,
};

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let (selector, entries, keeping) = match parts {
        [Part::Selector(selector), Part::Entries(entries)] => (selector, entries, None),
        [Part::Selector(selector), Part::Entries(entries), Part::Keeping(keeping)] => {
            (selector, entries, Some(keeping))
        }
        _ => unreachable!("{SHAPE}"),
    };
    let targets = select(ctx.builder, selector, Grain::Places)?;
    let changes: Vec<_> = entries.iter().map(|(name, expr)| (name.clone(), expr)).collect();
    let mut changed = false;
    let mut layers = vec![];
    for target in targets {
        let shown = target.display(ctx.builder.patch);
        let Target::Layer(id) = target else {
            let problem = Problem::new(Code::BadEdit, format!("`set` changes layers, and `{shown}` is a scope"));
            return Err(problem
                .hint(format!("name its layers: `set {shown}.**:conv2d {{ .. }}`"))
                .at(selector.span)
                .into());
        };
        ctx.matched.push(shown);
        let old = ctx.builder.patch.node(id).op.clone();
        let layer = path::display(&ctx.builder.patch.node(id).path);
        let mut env = ctx.env("");
        let op = ctx.builder.changed(&mut env, &old, &layer, &changes, ctx.span)?;
        let kept = keeping.map(|keeping| Kept::of_layer(ctx, keeping, id)).transpose()?;
        changed |= op != old;
        ctx.builder.patch.set_op(id, op);
        ctx.builder.patch.node_mut(id).reshaped = true;
        if let Some((name, _)) = entries.iter().find(|(name, _)| name.value == "init")
            && ctx.builder.patch.node(id).base.is_some()
        {
            ctx.builder.patch.node_mut(id).refilled = Some(name.span);
        }
        if let Some(kept) = kept {
            kept.give_to(ctx, id);
        }
        layers.push(id);
    }
    // an argument is overwritten alone, so that each is a deed of its own
    for (name, _) in entries {
        let marks = layers.iter().map(|id| (*id, Mark::Argument(name.value.clone())));
        ctx.deeds.push(Deed::Marks(marks.collect()));
    }
    // a clause may change what the arguments leave: the order of rows
    if !changed && keeping.is_none() {
        let problem = Problem::new(Code::BadEdit, "this changes nothing: the arguments have these values already");
        return Err(problem.at(ctx.span).into());
    }
    Ok(())
}
