//! `input name: [N, 14]`: one more input of the network, whose name is a value in the edits behind it.

use super::{Ctx, Outcome, SHAPE, Verb};
use crate::diag::{Code, Problem};
use crate::graph::{NewNode, path};
use crate::ops::constant::Input;
use crate::syntax::tree::Part;

pub(super) const VERB: Verb = Verb {
    name: "input",
    syntax: &["input name: [N, ..]"],
    meaning: "One more input of the network. Its name is a value in later edits, and what `archc run --input name=file` gives. \
        What no output needs in the end is an error.",
    example: "input meta: [N, 14]\ninsert { concat(in, (meta -> linear(64) -> relu)) } before fc\nreplace fc with linear(10)",
    apply,
};

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let [Part::Input(input)] = parts else { unreachable!("{SHAPE}") };
    let name = input.name.as_ref().expect(SHAPE);
    let patch = &ctx.builder.patch;
    if patch.is_taken(&name.value) {
        let what = if patch.inputs().contains_key(&name.value) { "an input" } else { "a" };
        let message = format!("there is {what} `{}` already", path::display(&name.value));
        return Err(Problem::new(Code::Duplicate, message).hint("choose another name").at(name.span).into());
    }
    let mut env = ctx.env("");
    let shape = ctx.builder.input_sizes(&mut env, input)?;
    let patch = &mut ctx.builder.patch;
    let last = patch.inputs().values().map(|id| patch.node(*id).rank).max().unwrap_or(0);
    patch.rank_from(last + 1);
    let op = Input { shape }.into();
    let id = patch.add(NewNode { path: name.value.clone(), op, operands: vec![], span: input.span });
    patch.add_input(&name.value, id);
    Ok(())
}
