//! `append B [as name]` at the network's output, `prepend B [as name]` at its input, in the outermost scope.

use super::{Ctx, Outcome, SHAPE, Verb};
use crate::diag::{Code, Problem};
use crate::graph::{OWN_OUTPUT, Use};
use crate::syntax::tree::Part;

pub(super) const APPEND: Verb = Verb {
    name: "append",
    syntax: &["append B [as name]"],
    meaning: "Puts B after the network's output, in the outermost scope.",
    example: "append softmax",
    apply: append,
};

pub(super) const PREPEND: Verb = Verb {
    name: "prepend",
    syntax: &["prepend B [as name]"],
    meaning: "Puts B after the network's input, in the outermost scope.",
    example: "prepend batch_norm2d as normalise",
    apply: prepend,
};

fn append<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let [Part::New(new)] = parts else { unreachable!("{SHAPE}") };
    let old = ctx.builder.patch.outputs()[OWN_OUTPUT].node;
    ctx.matched.push(crate::graph::path::display(&ctx.builder.patch.node(old).path));
    ctx.builder.patch.rank_last();
    let mut env = ctx.env("");
    let result = ctx.put(&mut env, new, old)?;
    ctx.builder.patch.set_output(OWN_OUTPUT, result, None);
    ctx.builder.patch.set_scope_output("", Some(result));
    Ok(())
}

fn prepend<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let [Part::New(new)] = parts else { unreachable!("{SHAPE}") };
    let inputs = ctx.builder.patch.inputs();
    // inputs that edits add are beside the network's own
    let own = ctx.builder.patch.scope("").and_then(|scope| scope.input);
    let Some((name, input)) = inputs.iter().find(|(_, id)| Some(**id) == own) else {
        let names: Vec<&str> = inputs.keys().map(String::as_str).collect();
        let message = format!("the network has {} inputs, `prepend` needs one", inputs.len());
        let problem = Problem::new(Code::SeveralWays, message);
        return Err(problem
            .hint(format!("`insert .. before` the layers that take {}", crate::diag::list(&names)))
            .at(new.span)
            .into());
    };
    let (name, input) = (name.clone(), &input.clone());
    ctx.matched.push(name);
    let rank = ctx.builder.patch.node(*input).rank;
    ctx.builder.patch.rank_from(rank + 1);
    let made = ctx.builder.patch.made();
    let mut env = ctx.env("");
    let result = ctx.put(&mut env, new, *input)?;
    // what the new layers themselves take stays
    let fresh = ctx.builder.patch.made_since(made);
    for one in ctx.builder.patch.uses(*input) {
        if matches!(&one, Use::Operand { node, .. } if !fresh.contains(node)) {
            ctx.builder.patch.redirect(&one, result);
        }
    }
    ctx.builder.patch.begin_scopes(*input, result, |path, scope| {
        let is_new =
            scope.span.file == new.span.file && scope.span.start >= new.span.start && scope.span.end <= new.span.end;
        !path.is_empty() && !is_new
    });
    Ok(())
}
