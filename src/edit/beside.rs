//! `insert B [as name] beside T`: a parallel branch whose result is added to T's.

use super::select::{Grain, select};
use super::ways::{LeadOut, Site};
use super::{Ctx, Outcome};
use crate::diag::At;
use crate::graph::{NewNode, NodeId};
use crate::ops::join::Add;
use crate::syntax::tree::{New, Selector};

pub(super) fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, new: &'a New, selector: &'a Selector) -> Outcome<()> {
    for target in select(ctx.builder, selector, Grain::Places)? {
        let site = Site::new(ctx.builder.patch, target);
        ctx.matched.push(site.shown.clone());
        let input = site.way_in(ctx.builder.patch).at(selector.span)?;
        let out = site.way_out(ctx.builder.patch).at(selector.span)?;
        let holder = site.holder(ctx.builder.patch);
        let rank = ctx.builder.patch.node(out).rank;
        ctx.builder.patch.rank_from(rank + 1);
        let made = ctx.builder.patch.made();
        let mut env = ctx.env(&holder);
        ctx.builder.out = Some(out);
        let branch = ctx.put(&mut env, new, input)?;
        ctx.builder.out = None;
        let path = ctx.builder.patch.free_path(&holder, "add");
        let op = Add { number: None }.into();
        let sum = ctx.builder.patch.add(NewNode { path, op, operands: vec![out, branch], span: new.span });
        let fresh = ctx.builder.patch.made_since(made);
        let inside = |id: NodeId| site.holds(id) || fresh.contains(&id);
        let place = site.target.path(ctx.builder.patch);
        LeadOut { old: out, new: sum, inside: &inside, place: &place, inclusive: false, named_outputs: false }
            .apply(ctx.builder.patch);
    }
    Ok(())
}
