//! `replace T with B [as name]`: B takes the place, and the path, of T.

use super::keeping::Kept;
use super::select::{Grain, Target, select};
use super::ways::{LeadOut, Site, close_gaps};
use super::{Ctx, Outcome, SHAPE, Verb, roles};
use crate::build::Same;
use crate::diag::{At, Code, Problem};
use crate::graph::{NodeId, path};
use crate::syntax::tree::{Part, Selector};

pub(super) const VERB: Verb = Verb {
    name: "replace",
    syntax: &["replace T with B [as name] [keeping ..]"],
    meaning: "B takes the place and the path of T, which is gone; of a range `a..=b` it takes the path of `b`. \
        With `as name` it is called otherwise. A chain of several layers becomes a `seq` there: `fc.0`, `fc.1`. In B, \
        `in` is what went into T, and every other path of the network is a value. Where T is a layer, `same` is its op \
        with its arguments, `same(out = 2)` with some changed. `keeping` makes tensors of B of those of T.",
    example: "replace fc with dropout(0.5) -> linear(10)",
    apply,
};

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let [Part::Selector(selector), Part::Word(_), Part::New(new)] = parts else { unreachable!("{SHAPE}") };
    let targets = select(ctx.builder, selector, Grain::Places)?;
    refuse_overlap(ctx, &targets, selector)?;
    let is_single = targets.len() == 1;
    // what is kept is looked up before anything changes
    let kept_of = |ctx: &Ctx<'a, '_, '_>, target: &Target| match &new.keeping {
        Some(keeping) => Kept::of_place(ctx, keeping, &Site::new(ctx.builder.patch, target.clone())).map(Some),
        None => Ok(None),
    };
    let kept: Vec<Option<Kept>> = targets.iter().map(|target| kept_of(ctx, target)).collect::<Outcome<_>>()?;
    for (target, kept) in targets.into_iter().zip(kept) {
        let site = Site::new(ctx.builder.patch, target);
        ctx.matched.push(site.shown.clone());
        ctx.replaced = Some(site.shown.clone()).filter(|_| is_single);
        let input = site.way_in(ctx.builder.patch).at(selector.span)?;
        let old = site.way_out_of_all(ctx.builder.patch).at(selector.span)?;
        let gone = site.target.path(ctx.builder.patch);
        let holder = site.holder(ctx.builder.patch);
        let rank = site.nodes.first().map_or(0, |id| ctx.builder.patch.node(*id).rank);
        let same = match &site.target {
            Target::Layer(id) => Some(ctx.builder.patch.node(*id).op.clone()),
            Target::Scope(_) | Target::Range { .. } => None,
        };
        // what a clause takes over is not undone
        let goes_on = |id: &NodeId| kept.as_ref().is_some_and(|kept| kept.takes(*id));
        ctx.warn_undone(site.nodes.iter().copied().filter(|id| !goes_on(id)));
        let roles = roles::held(ctx.builder.patch, &site);
        detach(ctx, &site, &gone);
        let at = new.name.as_ref().map_or(gone.clone(), |name| path::join(&holder, &name.value));
        if let Some(name) = new.name.as_ref().filter(|_| ctx.builder.patch.is_taken(&at)) {
            let problem = Problem::new(Code::Duplicate, format!("there is a `{}` already", path::display(&at)));
            return Err(problem.at(name.span).into());
        }
        let mut env = ctx.env(&holder);
        env.hidden = Some(gone);
        env.same = Some(Same { shown: site.shown.clone(), op: same }.into());
        ctx.builder.patch.rank_from(rank);
        let made = ctx.builder.patch.made();
        let result = ctx.make(&mut env, new, Some(&at), input)?;
        if let Some(kept) = kept {
            let made = ctx.builder.patch.made_since(made);
            kept.give(ctx, &at, &made)?;
        }
        let inside = |id| site.holds(id);
        LeadOut { old, new: result, inside: &inside, place: &at, inclusive: false, named_outputs: true }
            .apply(ctx.builder.patch);
        ctx.builder.patch.move_roles(roles.into_iter().map(|end| (end, at.clone())));
        close_gaps(ctx.builder.patch, &site, input);
        for id in site.nodes {
            ctx.builder.patch.remove(id);
        }
    }
    Ok(())
}

/// Frees the paths of what is replaced, so that B can have them. Scopes that hold the path `at` of the place stay, even
/// where nothing else is left in them.
fn detach(ctx: &mut Ctx<'_, '_, '_>, site: &Site, at: &str) {
    for (number, id) in site.nodes.iter().enumerate() {
        // no label holds a blank
        ctx.builder.patch.rename(*id, &format!("replaced {number}"));
    }
    if let Target::Scope(scope) = &site.target {
        ctx.builder.patch.remove_scope(scope);
    }
    ctx.builder.patch.tidy_scopes(at);
}

/// The places of one statement must not lie inside each other.
pub(super) fn refuse_overlap(ctx: &Ctx<'_, '_, '_>, targets: &[Target], selector: &Selector) -> Outcome<()> {
    let graph = &ctx.builder.patch;
    let mut seen = rustc_hash::FxHashMap::default();
    for target in targets {
        for id in target.nodes(graph) {
            if let Some(other) = seen.insert(id, target) {
                let message = format!("`{}` and `{}` overlap", other.display(graph), target.display(graph));
                let problem = Problem::new(Code::Overlap, message).hint("name one of them, or use two statements");
                return Err(problem.at(selector.span).into());
            }
        }
    }
    Ok(())
}
