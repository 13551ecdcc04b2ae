//! `insert B [as name] before T`, `after T`, `at T`.

use super::select::{Grain, Target, select};
use super::ways::{LeadOut, Site, lead_in};
use super::{Ctx, Note, Outcome, SHAPE, Verb, beside};
use crate::diag::{At, Code, Problem};
use crate::graph::{NodeId, Use, path};
use crate::syntax::tree::{New, Part, Selector};

pub(super) const VERB: Verb = Verb {
    name: "insert",
    syntax: &[
        "insert B [as name] before T",
        "insert B [as name] after T",
        "insert B [as name] at T",
        "insert B [as name] beside T",
    ],
    meaning: "`before` and `after` put B on every edge into or out of T. `at` puts it inside T: where T holds one residual, \
        at the end of its main branch, just before the addition; in any other scope at its end; for a layer it is \
        the same as `after`. `beside` makes a parallel branch: B takes T's input, and its result is added to T's \
        output, which B knows as `out`. Several places get a fresh copy each.",
    example: "insert se(reduction = 16) at layer*[-1]",
    apply: |ctx, parts| {
        let [Part::New(new), Part::Word(side), Part::Selector(target)] = parts else { unreachable!("{SHAPE}") };
        match side.value.as_str() {
            "before" => each(ctx, new, target, before),
            "after" => each(ctx, new, target, after),
            "at" => each(ctx, new, target, at),
            "beside" => beside::apply(ctx, new, target),
            other => unreachable!("{SHAPE}: `{other}`"),
        }
    },
};

type Put = for<'a> fn(&mut Ctx<'a, '_, '_>, &'a New, &Site, &Selector) -> Outcome<()>;

/// Puts B once for each place.
fn each<'a>(ctx: &mut Ctx<'a, '_, '_>, new: &'a New, selector: &'a Selector, put: Put) -> Outcome<()> {
    for target in select(ctx.builder, selector, Grain::Places)? {
        let site = Site::new(ctx.builder.patch, target);
        ctx.matched.push(site.shown.clone());
        put(ctx, new, &site, selector)?;
    }
    Ok(())
}

fn before<'a>(ctx: &mut Ctx<'a, '_, '_>, new: &'a New, site: &Site, selector: &Selector) -> Outcome<()> {
    let input = site.way_in(ctx.builder.patch).at(selector.span)?;
    let first = site.nodes.first().map_or(0, |id| ctx.builder.patch.node(*id).rank);
    ctx.builder.patch.rank_from(first.saturating_sub(1 << 20));
    let mut env = ctx.env(&site.holder(ctx.builder.patch));
    let result = ctx.put(&mut env, new, input)?;
    lead_in(ctx.builder.patch, site, input, result);
    Ok(())
}

fn after<'a>(ctx: &mut Ctx<'a, '_, '_>, new: &'a New, site: &Site, selector: &Selector) -> Outcome<()> {
    let scope = site.holder(ctx.builder.patch);
    put_after(ctx, new, site, selector, &scope, false)
}

/// Puts B on every edge out of the place, in the scope `scope`.
fn put_after<'a>(
    ctx: &mut Ctx<'a, '_, '_>,
    new: &'a New,
    site: &Site,
    selector: &Selector,
    scope: &str,
    inclusive: bool,
) -> Outcome<()> {
    let old = site.way_out(ctx.builder.patch).at(selector.span)?;
    let made = ctx.builder.patch.made();
    let rank = ctx.builder.patch.node(old).rank;
    ctx.builder.patch.rank_from(rank + 1);
    let mut env = ctx.env(scope);
    let result = ctx.put(&mut env, new, old)?;
    // what B takes from `old` itself stays
    let fresh = ctx.builder.patch.made_since(made);
    let inside = |id: NodeId| site.holds(id) || fresh.contains(&id);
    let place = site.target.path(ctx.builder.patch);
    LeadOut { old, new: result, inside: &inside, place: &place, inclusive, named_outputs: false }
        .apply(ctx.builder.patch);
    Ok(())
}

fn at<'a>(ctx: &mut Ctx<'a, '_, '_>, new: &'a New, site: &Site, selector: &Selector) -> Outcome<()> {
    match &site.target {
        Target::Range { .. } => {
            let problem =
                Problem::new(Code::BadEdit, format!("`at` needs a layer or a scope, got the range `{}`", site.shown));
            Err(problem.hint("`before` and `after` take a range").at(selector.span).into())
        }
        Target::Layer(id) => {
            let holder = site.holder(ctx.builder.patch);
            let is_addition = ctx.builder.patch.scope(&holder).is_some_and(|scope| scope.additions.contains(id));
            if is_addition {
                return before_addition(ctx, new, *id, &holder);
            }
            ctx.notes.push(Note { what: "after the layer".into(), place: site.shown.clone() });
            after(ctx, new, site, selector)
        }
        Target::Scope(scope) => {
            let additions = ctx.builder.patch.scope(scope).map_or_else(Vec::new, |scope| scope.additions.clone());
            match additions.as_slice() {
                [] => {
                    ctx.notes.push(Note { what: "at the end of".into(), place: site.shown.clone() });
                    put_after(ctx, new, site, selector, scope, true)
                }
                [one] => before_addition(ctx, new, *one, scope),
                several => {
                    let names: Vec<String> =
                        several.iter().map(|id| path::display(&ctx.builder.patch.node(*id).path)).collect();
                    let message = format!("`{}` holds {} residuals, one must be named", site.shown, several.len());
                    let problem = Problem::new(Code::SeveralWays, message);
                    Err(problem
                        .hint(format!("name the addition: {}", crate::diag::list(&names)))
                        .at(selector.span)
                        .into())
                }
            }
        }
    }
}

/// At the end of a residual's main branch, just before the addition.
fn before_addition<'a>(ctx: &mut Ctx<'a, '_, '_>, new: &'a New, addition: NodeId, scope: &str) -> Outcome<()> {
    let node = ctx.builder.patch.node(addition);
    let place = path::display(&node.path);
    ctx.notes.push(Note { what: "at the end of the main branch, before".into(), place });
    let main = ctx.builder.patch.operands(addition)[0];
    let rank = ctx.builder.patch.node(main).rank;
    ctx.builder.patch.rank_from(rank + 1);
    let mut env = ctx.env(scope);
    let result = ctx.put(&mut env, new, main)?;
    ctx.builder.patch.redirect(&Use::Operand { node: addition, slot: 0 }, result);
    Ok(())
}
