//! `output name = T`: one more named output, taken at T. It stays with its layer.

use super::select::single;
use super::ways::Site;
use super::{Ctx, Outcome, SHAPE, Verb};
use crate::diag::{At, Code, Problem};
use crate::graph::OWN_OUTPUT;
use crate::syntax::tree::Part;

pub(super) const VERB: Verb = Verb {
    name: "output",
    syntax: &["output name = P"],
    meaning: "One more named output, taken at P. The network's own is called `output`.",
    example: "output features = avgpool",
    apply,
};

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let [Part::Name(name), Part::Place(place)] = parts else { unreachable!("{SHAPE}") };
    let graph = &ctx.builder.patch;
    let site = Site::new(graph, single(ctx.builder, place)?);
    ctx.matched.push(site.shown.clone());
    if let Some(output) = graph.outputs().get(&name.value) {
        let message = match name.value == OWN_OUTPUT {
            true => "`output` is the network's own output".to_string(),
            false => format!("there is an output `{}` already", name.value),
        };
        let problem = Problem::new(Code::Duplicate, message);
        let problem = match output.span {
            Some(span) => problem.see(span, "named here"),
            None => problem.hint("`cut` changes it; choose another name for a further one"),
        };
        return Err(problem.at(name.span).into());
    }
    let value = site.way_out(graph).at(place.span)?;
    ctx.builder.patch.set_output(&name.value, value, Some(ctx.span));
    Ok(())
}
