//! `cut after T`, `cut before T`: T's output, or input, becomes the network's output.

use super::select::single;
use super::undone::Deed;
use super::ways::Site;
use super::{Ctx, Outcome, SHAPE, Verb};
use crate::diag::{At, Code, Problem};
use crate::graph::OWN_OUTPUT;
use crate::syntax::tree::Part;

pub(super) const VERB: Verb = Verb {
    name: "cut",
    syntax: &["cut after P", "cut before P"],
    meaning: "P's output (or its input) becomes the network's output. What no longer reaches an output goes.",
    example: "cut before avgpool",
    apply,
};

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let [Part::Word(side), Part::Place(place)] = parts else { unreachable!("{SHAPE}") };
    let before = side.value == "before";
    let graph = &ctx.builder.patch;
    let site = Site::new(graph, single(ctx.builder, place)?);
    ctx.matched.push(site.shown.clone());
    let value = if before { site.way_in(graph) } else { site.way_out(graph) }.at(place.span)?;
    if graph.outputs()[OWN_OUTPUT].node == value {
        let problem = Problem::new(
            Code::BadEdit,
            format!("the network ends {} `{}` already", if before { "before" } else { "with" }, site.shown),
        );
        return Err(problem.at(ctx.span).into());
    }
    if graph.inputs().values().any(|input| *input == value) {
        let problem = Problem::new(Code::BadEdit, "this cut leaves nothing of the network");
        return Err(problem.hint(format!("`cut after {}` keeps it", site.shown)).at(ctx.span).into());
    }
    ctx.deeds.push(Deed::Cut);
    ctx.builder.patch.set_output(OWN_OUTPUT, value, None);
    ctx.builder.patch.set_scope_output("", Some(value));
    Ok(())
}
