//! `connect A to B with add | concat`: a long skip connection.

use super::select::single;
use super::ways::{Site, lead_in};
use super::{Ctx, Outcome, SHAPE, Verb};
use crate::diag::{At, Code, Problem};
use crate::graph::{NewNode, path};
use crate::ops;
use crate::ops::attr::{Arg, Attr};
use crate::syntax::tree::Part;

pub(super) const VERB: Verb = Verb {
    name: "connect",
    syntax: &["connect P to P with add", "connect P to P with concat"],
    meaning: "A long skip connection: the first place's output is added to what goes into the second one, or put beside it on \
        axis 1 (the second place's own input first).",
    example: "connect layer1[0] to layer1[1].conv2 with add",
    apply,
};

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let [Part::Place(from), Part::Word(_), Part::Place(to), Part::Word(_), Part::Word(with)] = parts else {
        unreachable!("{SHAPE}")
    };
    let graph = &ctx.builder.patch;
    let source = Site::new(graph, single(ctx.builder, from)?);
    let target = Site::new(graph, single(ctx.builder, to)?);
    ctx.matched.extend([source.shown.clone(), target.shown.clone()]);
    let value = source.way_out(graph).at(from.span)?;
    let input = target.way_in(graph).at(to.span)?;
    let circle = target.nodes.iter().find_map(|id| graph.way(*id, value));
    if let Some(circle) = circle {
        let names: Vec<String> = circle.iter().take(8).map(|id| path::display(&graph.node(*id).path)).collect();
        let more = if circle.len() > 8 { " -> .." } else { "" };
        let message = format!("`{}` comes after `{}`: the network would run in a circle", source.shown, target.shown);
        let problem = Problem::new(Code::Cycle, message).note(format!("{}{more} -> {}", names.join(" -> "), names[0]));
        return Err(problem.at(ctx.span).into());
    }
    let args = match with.value.as_str() {
        "add" => vec![],
        "concat" => vec![Arg { name: Some("axis".into()), value: Attr::Int(1) }],
        other => unreachable!("{SHAPE}: `{other}`"),
    };
    let op = (ops::find(&with.value).expect("both are ops").make)(&args).expect("the arguments fit");
    let holder = target.holder(graph);
    let path = ctx.builder.patch.free_path(&holder, &with.value);
    let rank = ctx.builder.patch.node(target.nodes[0]).rank;
    ctx.builder.patch.rank_from(rank.saturating_sub(1 << 20));
    let joined = ctx.builder.patch.add(NewNode { path, op, operands: vec![input, value], span: ctx.span });
    lead_in(ctx.builder.patch, &target, input, joined);
    Ok(())
}
