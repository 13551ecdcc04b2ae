//! `residual around T [project auto]`: T's input is added to T's output.

use super::select::{Grain, select};
use super::ways::{LeadOut, Site};
use super::{Ctx, Outcome, SHAPE, Verb};
use crate::diag::{At, Code, Problem};
use crate::graph::{Graph, NewNode, NodeId, Scope, path};
use crate::ops::attr::{Padding, Pair};
use crate::ops::conv::Conv2d;
use crate::ops::join::Add;
use crate::ops::shape::Shape;
use crate::syntax::tree::Part;

pub(super) const VERB: Verb = Verb {
    name: "residual",
    syntax: &["residual around T [project auto]"],
    meaning: "Adds T's input to T's output, in a layer `add` of the scope that holds T. Where their shapes differ, `project \
        auto` makes a convolution and a norm, `project`, that fit the input to the output; without it a difference is \
        an error.",
    example: "residual around layer2 project auto",
    apply,
};

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let [Part::Word(_), Part::Selector(selector), project @ ..] = parts else { unreachable!("{SHAPE}") };
    let project = !project.is_empty();
    for target in select(ctx.builder, selector, Grain::Places)? {
        let site = Site::new(ctx.builder.patch, target);
        ctx.matched.push(site.shown.clone());
        let input = site.way_in(ctx.builder.patch).at(selector.span)?;
        let out = site.way_out(ctx.builder.patch).at(selector.span)?;
        let holder = site.holder(ctx.builder.patch);
        let graph = &ctx.builder.patch;
        let shapes = (graph.node(input).shape.clone(), graph.node(out).shape.clone());
        let rank = graph.node(out).rank;
        ctx.builder.patch.rank_from(rank + 1);
        let side = match shapes {
            (Some(from), Some(to)) if from != to => {
                if !project {
                    let message = format!("`{}` takes {from} and makes {to}, which cannot be added", site.shown);
                    let problem = Problem::new(Code::ShapeMismatch, message);
                    let problem = match projection(&from, &to) {
                        Ok(_) => problem.hint("`project auto` makes a projection for the shortcut"),
                        Err(_) => problem,
                    };
                    return Err(problem.at(selector.span).into());
                }
                let conv = projection(&from, &to).map_err(|mut problem| {
                    problem.message = format!("no projection around `{}`: {}", site.shown, problem.message);
                    problem.at(selector.span)
                })?;
                make_projection(ctx, conv, input, &holder)
            }
            (Some(_), Some(_)) => input,
            _ => {
                let problem =
                    Problem::new(Code::ShapeUnknown, format!("the shapes around `{}` are not known here", site.shown));
                return Err(misfit(ctx.builder.patch, problem).at(selector.span).into());
            }
        };
        let path = ctx.builder.patch.free_path(&holder, "add");
        let op = Add { number: None }.into();
        let sum = ctx.builder.patch.add(NewNode { path, op, operands: vec![out, side], span: ctx.span });
        let place = site.target.path(ctx.builder.patch);
        let inside = |id: NodeId| site.holds(id) || id == sum;
        LeadOut { old: out, new: sum, inside: &inside, place: &place, inclusive: false, named_outputs: false }
            .apply(ctx.builder.patch);
    }
    Ok(())
}

/// Adds the first layer that does not fit what it takes, after which shapes are not known.
fn misfit(graph: &Graph, problem: Problem) -> Problem {
    let why = |id: &NodeId| graph.node(*id).op.infer(&graph.operand_shapes(*id)?).err().map(|why| (*id, why));
    let Some((id, why)) = graph.order().iter().find_map(why) else { return problem };
    let node = graph.node(id);
    let problem = problem.note(format!("`{}` does not fit: {}", path::display(&node.path), why.message));
    match graph.to_blame(id) {
        Some(edit) => problem.see(edit, "because of this edit").hint("mend that first, in an edit above this one"),
        None => problem,
    }
}

/// The 1x1 convolution that turns one image shape into the other; its stride must be whole.
fn projection(from: &Shape, to: &Shape) -> Result<Conv2d, Problem> {
    let (Some((_, height, width)), Some((channels, to_height, to_width))) = (from.as_image(), to.as_image()) else {
        return Err(Problem::new(Code::ShapeMismatch, format!("it needs two [N, C, H, W], got {from} and {to}")));
    };
    let stride = |from: usize, to: usize| {
        let stride = from.div_ceil(to.max(1));
        (stride >= 1 && (from - 1) / stride + 1 == to).then_some(stride)
    };
    let (Some(h), Some(w)) = (stride(height, to_height), stride(width, to_width)) else {
        let message = format!("no whole stride leads from {height} x {width} to {to_height} x {to_width}");
        return Err(Problem::new(Code::ShapeMismatch, message));
    };
    Ok(Conv2d {
        out: channels,
        kernel: Pair::both(1),
        stride: Pair { h, w },
        padding: Padding::Each(Pair::both(0)),
        dilation: Pair::both(1),
        groups: 1,
        bias: false,
        init: None,
    })
}

/// `project: seq { conv2d(..); batch_norm2d }`
fn make_projection(ctx: &mut Ctx<'_, '_, '_>, conv: Conv2d, input: NodeId, holder: &str) -> NodeId {
    let at = ctx.builder.patch.free_path(holder, "project");
    let span = ctx.span;
    let patch = &mut ctx.builder.patch;
    let conv = patch.add(NewNode { path: path::join(&at, "0"), op: conv.into(), operands: vec![input], span });
    let norm = (crate::ops::find("batch_norm2d").expect("an op").make)(&[]).expect("its arguments have defaults");
    let norm = patch.add(NewNode { path: path::join(&at, "1"), op: norm, operands: vec![conv], span });
    let scope = Scope { block: None, numbered: true, input: Some(input), output: Some(norm), additions: vec![], span };
    patch.add_scope(&at, scope);
    norm
}
