//! `remove T`: T's uses take T's input.

use super::replace::refuse_overlap;
use super::select::{Grain, select};
use super::ways::{LeadOut, Site, close_gaps};
use super::{Ctx, Outcome, SHAPE, Verb};
use crate::diag::{At, Code, Problem};
use crate::graph::OWN_OUTPUT;
use crate::syntax::tree::Part;

pub(super) const VERB: Verb = Verb {
    name: "remove",
    syntax: &["remove T"],
    meaning: "What used T's output takes T's input instead. What no output needs any more goes too.",
    example: "remove layer4[1]",
    apply,
};

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let [Part::Selector(selector)] = parts else { unreachable!("{SHAPE}") };
    let targets = select(ctx.builder, selector, Grain::Places)?;
    refuse_overlap(ctx, &targets, selector)?;
    for target in targets {
        let site = Site::new(ctx.builder.patch, target);
        ctx.matched.push(site.shown.clone());
        let named =
            ctx.builder.patch.outputs().iter().find(|(name, output)| *name != OWN_OUTPUT && site.holds(output.node));
        if let Some((name, output)) = named {
            let problem = Problem::new(Code::BadEdit, format!("the output `{name}` is taken at `{}`", site.shown));
            let problem = match output.span {
                Some(span) => problem.see(span, "it is named here"),
                None => problem,
            };
            return Err(problem.hint("take the output elsewhere, or leave the layer").at(selector.span).into());
        }
        let input = site.way_in(ctx.builder.patch).at(selector.span)?;
        let old = site.way_out_of_all(ctx.builder.patch).at(selector.span)?;
        let inside = |id| site.holds(id);
        let place = site.target.path(ctx.builder.patch);
        LeadOut { old, new: input, inside: &inside, place: &place, inclusive: false, named_outputs: false }
            .apply(ctx.builder.patch);
        close_gaps(ctx.builder.patch, &site, input);
        let scope = matches!(site.target, super::Target::Scope(_)).then_some(place);
        ctx.warn_undone(site.nodes.iter().copied());
        for id in site.nodes {
            ctx.builder.patch.remove(id);
        }
        if let Some(scope) = scope {
            ctx.builder.patch.remove_scope(&scope);
        }
    }
    Ok(())
}
