//! `append B [as name]` at the network's output, `prepend B [as name]` at its input, in the outermost scope.

use super::{Ctx, Outcome};
use crate::diag::{Code, Problem};
use crate::graph::{NodeId, OWN_OUTPUT, Use};
use crate::syntax::tree::New;

pub(super) fn append<'a>(ctx: &mut Ctx<'a, '_, '_>, new: &'a New) -> Outcome<()> {
    let old = ctx.builder.patch.outputs()[OWN_OUTPUT].node;
    ctx.matched.push(crate::graph::path::display(&ctx.builder.patch.node(old).path));
    let last = ctx.builder.patch.ids().map(|id| ctx.builder.patch.node(id).rank).max().unwrap_or(0);
    ctx.builder.patch.rank_from(last + 1);
    let mut env = ctx.env("");
    let result = ctx.put(&mut env, new, old)?;
    ctx.builder.patch.set_output(OWN_OUTPUT, result, None);
    if let Some(network) = ctx.builder.patch.scope_mut("") {
        network.output = Some(result);
    }
    Ok(())
}

pub(super) fn prepend<'a>(ctx: &mut Ctx<'a, '_, '_>, new: &'a New) -> Outcome<()> {
    let inputs: Vec<(String, NodeId)> =
        ctx.builder.patch.inputs().iter().map(|(name, id)| (name.clone(), *id)).collect();
    let [(name, input)] = inputs.as_slice() else {
        let names: Vec<&str> = inputs.iter().map(|(name, _)| name.as_str()).collect();
        let message = format!("the network has {} inputs, `prepend` needs one", inputs.len());
        let problem = Problem::new(Code::SeveralWays, message);
        return Err(problem
            .hint(format!("`insert .. after` one of {}", crate::diag::list(&names)))
            .at(new.span)
            .into());
    };
    ctx.matched.push(name.clone());
    let rank = ctx.builder.patch.node(*input).rank;
    ctx.builder.patch.rank_from(rank + 1);
    let known: Vec<NodeId> = ctx.builder.patch.ids().collect();
    let mut env = ctx.env("");
    let result = ctx.put(&mut env, new, *input)?;
    for one in ctx.builder.patch.uses(*input) {
        if matches!(&one, Use::Operand { node, .. } if known.contains(node)) {
            ctx.builder.patch.redirect(&one, result);
        }
    }
    for (path, scope) in ctx.builder.patch.scopes_mut() {
        let is_new =
            scope.span.file == new.span.file && scope.span.start >= new.span.start && scope.span.end <= new.span.end;
        if !path.is_empty() && scope.input == Some(*input) && !is_new {
            scope.input = Some(result);
        }
    }
    Ok(())
}
