//! `output name = T`: one more named output, taken at T, or made of it by layers of its own. It stays with its layer.

use super::select::single;
use super::ways::Site;
use super::{Ctx, Outcome, SHAPE, Verb};
use crate::diag::{At, Code, Problem};
use crate::graph::{NodeId, OWN_OUTPUT, path};
use crate::syntax::tree::{Name, New, Part, Step};

pub(super) const VERB: Verb = Verb {
    name: "output",
    syntax: &["output name = P", "output name = P -> B"],
    meaning: "One more named output, taken at P, or made of it by layers of its own: an auxiliary head, a second head, a feature \
        pyramid. Those are in the scope `name`; a single layer or block is `name` itself. The network's own output is called \
        `output`.",
    example: "output features = avgpool\noutput aux = layer3 -> fcn_head(21)",
    apply,
};

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let (name, place, branch) = match parts {
        [Part::Name(name), Part::Place(place)] => (name, place, None),
        [Part::Name(name), Part::Place(place), Part::New(branch)] => (name, place, Some(branch)),
        _ => unreachable!("{SHAPE}"),
    };
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
    let value = match branch {
        Some(branch) => make(ctx, name, branch, value)?,
        None => value,
    };
    ctx.builder.patch.set_output(&name.value, value, Some(ctx.span));
    Ok(())
}

/// The layers of an output's own, at the path that is its name.
fn make<'a>(ctx: &mut Ctx<'a, '_, '_>, name: &Name, branch: &'a New, value: NodeId) -> Outcome<NodeId> {
    let at = &name.value;
    if ctx.builder.patch.is_taken(at) {
        let problem = Problem::new(Code::Duplicate, format!("there is a `{}` already", path::display(at)));
        return Err(problem.hint("the layers of an output have its name: choose another one").at(name.span).into());
    }
    if let [Step { label: Some(label), .. }] = branch.chain.steps.as_slice() {
        let message = format!("a single layer takes the name of its output, `{at}`");
        return Err(Problem::new(Code::BadEdit, message).hint("leave its label out").at(label.span).into());
    }
    ctx.builder.patch.rank_last();
    let mut env = ctx.env("");
    ctx.make(&mut env, branch, Some(at), value)
}
