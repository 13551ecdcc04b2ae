//! `init S with I`: fills the weight (a norm's scale) and zeroes the bias; one tensor is named by its key.

use super::roles::{self, Meant};
use super::select::{self, Grain, Target, select};
use super::undone::{Deed, Mark};
use super::{Ctx, Outcome, SHAPE, Verb};
use crate::diag::{Code, Problem};
use crate::graph::{Filled, Graph, NodeId, key};
use crate::ops::attr::FromAttr;
use crate::ops::init::Init;
use crate::ops::{ParamDecl, Role};
use crate::syntax::tree::{Part, SelectKind, Selector};

pub(super) const VERB: Verb = Verb {
    name: "init",
    syntax: &["init S with I"],
    meaning: "Fills the weight (of a norm: the scale) and zeroes the bias; one tensor is named by its key. I is \
        `kaiming_normal`, `kaiming_uniform`, `xavier_uniform`, `zeros`, `ones`, `constant(v)`, `normal(std)`, \
        `trunc_normal(std)`, `uniform(bound)`, `identity` or `from(\"other.safetensors\", \"key\")`. Tensors of the \
        base count as new then.",
    example: "init fc.bias with constant(-4.6)",
    apply,
};

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let [Part::Selector(selector), Part::Word(_), Part::Expr(with)] = parts else { unreachable!("{SHAPE}") };
    let mut env = ctx.env("");
    env.sees_paths = false;
    let value = ctx.builder.eval(&mut env, with)?;
    let attr = value.to_attr().ok_or_else(|| {
        Problem::new(Code::TypeMismatch, format!("an initialiser is needed, got {}", value.kind())).at(with.span)
    })?;
    let init = Init::from_attr(&attr)
        .map_err(|wanted| Problem::new(Code::BadValue, format!("`init` needs {wanted}, got {attr}")).at(with.span))?;
    if let Some((id, param)) = one_tensor(ctx.builder.patch, selector) {
        let name = param.name;
        ctx.matched.push(key(&ctx.builder.patch.node(id).path, name));
        refuse(ctx.builder.patch, id, &param, &init).map_err(|problem| problem.at(with.span))?;
        let mark = set(ctx, id, Filled { tensor: name, init, span: with.span });
        ctx.deeds.push(Deed::Marks(vec![mark]));
        return Ok(());
    }
    let targets = select(ctx.builder, selector, Grain::Layers)?;
    let mut marks = vec![];
    for target in targets {
        let Target::Layer(id) = target else { continue };
        let params = ctx.builder.patch.params(id).unwrap_or_default();
        let learned: Vec<ParamDecl> = params.into_iter().filter(|param| param.role == Role::Weight).collect();
        if learned.is_empty() {
            continue;
        }
        ctx.matched.push(target.display(ctx.builder.patch));
        for param in learned {
            let init = if is_bias(param.name) { Init::Zeros } else { init.clone() };
            refuse(ctx.builder.patch, id, &param, &init).map_err(|problem| problem.at(with.span))?;
            marks.push(set(ctx, id, Filled { tensor: param.name, init, span: with.span }));
        }
    }
    if marks.is_empty() {
        return Err(Problem::new(Code::BadEdit, "none of these layers has weights").at(selector.span).into());
    }
    ctx.deeds.push(Deed::Marks(marks));
    Ok(())
}

fn is_bias(name: &str) -> bool {
    name == "bias" || name.ends_with("_bias") || name.ends_with(".bias")
}

fn set(ctx: &mut Ctx<'_, '_, '_>, id: NodeId, filled: Filled) -> (NodeId, Mark) {
    let owner = ctx.builder.patch.owner(id);
    let mark = Mark::Tensor(filled.tensor);
    let inits = &mut ctx.builder.patch.node_mut(owner).inits;
    inits.retain(|other| other.tensor != filled.tensor);
    inits.push(filled);
    (owner, mark)
}

/// The tensor whose key the selector spells out, where it does and no layer has that path.
fn one_tensor(graph: &Graph, selector: &Selector) -> Option<(NodeId, ParamDecl)> {
    let [one] = selector.include.as_slice() else { return None };
    let (SelectKind::Place(place), None, None) = (&one.kind, &one.of, &one.filter) else { return None };
    let meant = roles::meant(graph, place).ok()?;
    let [Meant::Path(place)] = meant.as_slice() else { return None };
    let labels = select::labels(place)?;
    // `attn.out_proj.weight`: the name in the layer may have two labels
    (1..labels.len()).rev().find_map(|split| {
        let id = graph.find(&labels[..split].join("."))?;
        let name = labels[split..].join(".");
        let param = graph.params(id)?.into_iter().find(|param| param.name == name)?;
        Some((id, param))
    })
}

/// `identity` is for square convolutions, linears and norms.
fn refuse(graph: &Graph, id: NodeId, param: &ParamDecl, init: &Init) -> Result<(), Problem> {
    if *init != Init::Identity {
        return Ok(());
    }
    let fits = match param.shape.as_slice() {
        [_] => true,
        [out, inputs] => out == inputs,
        [out, inputs, h, w] => out == inputs && h % 2 == 1 && w % 2 == 1,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let shown = crate::graph::path::display(&graph.node(id).path);
    let message = format!(
        "`identity` is for square weights with odd windows, `{}` of `{shown}` is {:?}",
        param.name, param.shape
    );
    Err(Problem::new(Code::BadValue, message))
}
