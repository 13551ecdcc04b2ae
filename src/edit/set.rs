//! `set T { attr = v, .. }`: changes arguments of the ops of layers.

use super::select::{Grain, Target, select};
use super::undone::{Deed, Mark};
use super::{Ctx, Outcome, SHAPE, Verb};
use crate::diag::{Code, Problem};
use crate::graph::path;
use crate::ops::attr::Arg;
use crate::syntax::tree::Part;

pub(super) const VERB: Verb = Verb {
    name: "set",
    syntax: &["set T { argument = value, .. }", "set P.argument = value"],
    meaning: "Changes arguments of the ops of layers. It is the one way to change the shape of a base layer's tensors: those \
        get fresh values and count as reshaped.",
    example: "set layer4[0].conv1, layer4[0].downsample[0] { stride = 1 }",
    apply,
};

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let [Part::Selector(selector), Part::Entries(entries)] = parts else { unreachable!("{SHAPE}") };
    let targets = select(ctx.builder, selector, Grain::Places)?;
    let mut env = ctx.env("");
    let mut changes = vec![];
    for (name, expr) in entries {
        let value = ctx.builder.eval(&mut env, expr)?;
        let Some(value) = value.to_attr() else {
            let problem = Problem::new(Code::TypeMismatch, format!("`{}` cannot be {}", name.value, value.kind()));
            return Err(problem.at(expr.span).into());
        };
        changes.push(Arg { name: Some(name.value.clone()), value });
    }
    let mut changed = false;
    let mut layers = vec![];
    for target in targets {
        let shown = target.display(ctx.builder.patch);
        let Target::Layer(id) = target else {
            let problem = Problem::new(Code::BadEdit, format!("`set` changes layers, and `{shown}` is a scope"));
            return Err(problem
                .hint(format!("name its layers: `set {shown}.**:conv2d {{ .. }}`"))
                .at(selector.span)
                .into());
        };
        ctx.matched.push(shown);
        let old = ctx.builder.patch.node(id).op.clone();
        let op = old.with_attrs(&changes).map_err(|found| {
            let span = found.arg.and_then(|at| entries.get(at)).map_or(ctx.span, |(name, expr)| {
                let of_name = matches!(found.problem.code, Code::UnknownArgument | Code::Duplicate);
                if of_name { name.span } else { expr.span }
            });
            let layer = path::display(&ctx.builder.patch.node(id).path);
            found.problem.note(format!("`{layer}` is a `{}`", old.name())).at(span)
        })?;
        changed |= op != old;
        ctx.builder.patch.set_op(id, op);
        ctx.builder.patch.node_mut(id).reshaped = true;
        layers.push(id);
    }
    // an argument is overwritten alone, so that each is a deed of its own
    for (name, _) in entries {
        let marks = layers.iter().map(|id| (*id, Mark::Argument(name.value.clone())));
        ctx.deeds.push(Deed::Marks(marks.collect()));
    }
    if !changed {
        let problem = Problem::new(Code::BadEdit, "this changes nothing: the arguments have these values already");
        return Err(problem.at(ctx.span).into());
    }
    Ok(())
}
