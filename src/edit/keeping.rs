//! `keeping`: which old tensors those of new layers are made of. What becomes of their values, and whether shapes fit, is
//! said after the last edit ([`crate::graph::adapt`]).

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::select::{self, Target};
use super::undone::{Deed, Mark};
use super::ways::Site;
use super::{Ctx, Outcome};
use crate::build::Value;
use crate::diag::{Code, Problem, Result, list, suggest};
use crate::graph::adapt::{self, Adapted};
use crate::graph::{Graph, NodeId, key, path};
use crate::source::Span;
use crate::syntax::tree::{End, Heir, How, HowKind, Index, Keeping, KeepingKind, Pick, Place, Spanned};

/// What a clause keeps of one place.
pub(super) struct Kept {
    keeping: Arc<Keeping>,
    /// The layers of the place that have tensors of the base.
    layers: Vec<Layer>,
    /// For each line of a body, the old layer that it names.
    named: Vec<Layer>,
}

/// A layer as it was, with its tensors of the base.
#[derive(Clone)]
struct Layer {
    id: NodeId,
    path: String,
    /// From the place on; None for a layer outside it.
    within: Option<String>,
    olds: Vec<(&'static str, Adapted)>,
}

impl Kept {
    /// Of a layer that stays.
    pub fn of_layer(ctx: &Ctx<'_, '_, '_>, keeping: &Keeping, id: NodeId) -> Outcome<Kept> {
        if let KeepingKind::Each(_) = keeping.kind {
            let problem =
                Problem::new(Code::BadEdit, "`set` has one layer at each place, so that nothing is to be paired");
            return Err(problem.hint("`keeping rows [..]`, without braces").at(keeping.span).into());
        }
        if let Some(owner) = ctx.builder.patch.node(id).tied {
            let shown = |id: NodeId| path::display(&ctx.builder.patch.node(id).path);
            let message = format!("`{}` uses the tensors of `{}`", shown(id), shown(owner));
            let hint = format!("keep them there: `set {} {{ .. }} keeping ..`", shown(ctx.builder.patch.owner(id)));
            return Err(Problem::new(Code::BadEdit, message).hint(hint).at(keeping.span).into());
        }
        let layer = Layer::new(ctx.builder.patch, id, "", keeping.span)?;
        if layer.olds.is_empty() {
            return Err(nothing(&path::display(&layer.path), keeping.span).into());
        }
        Ok(Kept { keeping: given(ctx, keeping)?.into(), layers: vec![layer], named: vec![] })
    }

    /// Of a place that goes.
    pub fn of_place(ctx: &Ctx<'_, '_, '_>, keeping: &Keeping, site: &Site) -> Outcome<Kept> {
        let graph: &Graph = ctx.builder.patch;
        let at = site.target.path(graph);
        let layers = site.nodes.iter().map(|id| Layer::new(graph, *id, &at, keeping.span));
        let layers: Vec<Layer> = layers
            .filter(|layer| layer.as_ref().map_or(true, |layer| !layer.olds.is_empty()))
            .collect::<Result<_>>()?;
        let named = match &keeping.kind {
            KeepingKind::Alike(_) if layers.is_empty() => return Err(nothing(&site.shown, keeping.span).into()),
            KeepingKind::Alike(_) => vec![],
            KeepingKind::Each(heirs) => heirs.iter().map(|heir| old_layer(ctx, heir, &at)).collect::<Outcome<_>>()?,
        };
        Ok(Kept { keeping: given(ctx, keeping)?.into(), layers, named })
    }

    /// Whether it takes over what a layer has, so that nothing of an earlier edit is lost with the layer.
    pub fn takes(&self, id: NodeId) -> bool {
        self.layers.iter().chain(&self.named).any(|layer| layer.id == id)
    }

    /// Gives the one layer's tensors to `id`.
    pub fn give_to(self, ctx: &mut Ctx<'_, '_, '_>, id: NodeId) {
        if let (KeepingKind::Alike(hows), [layer]) = (&self.keeping.kind, self.layers.as_slice()) {
            give(ctx, id, layer, hows.as_slice().into(), self.keeping.span);
        }
    }

    /// Gives the tensors to the layers `made` that the path `at` has now.
    pub fn give(self, ctx: &mut Ctx<'_, '_, '_>, at: &str, made: &FxHashSet<NodeId>) -> Outcome<()> {
        let graph: &Graph = ctx.builder.patch;
        // where a shape is not known yet, there may be tensors
        let has_tensors =
            |id: &NodeId| graph.node(*id).tied.is_none() && graph.params(*id).is_none_or(|params| !params.is_empty());
        let fresh: Vec<NodeId> = graph.order_of(&made.iter().copied().filter(has_tensors).collect::<Vec<_>>());
        let pairs = match &self.keeping.kind {
            KeepingKind::Alike(hows) => {
                let hows: Arc<[How]> = hows.as_slice().into();
                let pairs = self.alike(graph, at, &fresh, made)?;
                pairs.into_iter().map(|(id, layer)| (id, layer, hows.clone(), self.keeping.span)).collect()
            }
            KeepingKind::Each(heirs) => self.each(graph, at, heirs, &fresh)?,
        };
        for (id, layer, hows, span) in pairs {
            give(ctx, id, &layer, hows, span);
        }
        Ok(())
    }

    /// A layer takes the tensors of the one that had its name; the only one those of the only one.
    fn alike(
        &self,
        graph: &Graph,
        at: &str,
        fresh: &[NodeId],
        made: &FxHashSet<NodeId>,
    ) -> Outcome<Vec<(NodeId, Layer)>> {
        if let ([layer], [id]) = (self.layers.as_slice(), fresh) {
            return Ok(vec![(*id, layer.clone())]);
        }
        let old = |id: &NodeId| {
            let within = path::rest(&graph.node(*id).path, at)?;
            self.layers.iter().find(|layer| layer.within.as_deref() == Some(within))
        };
        let pairs: Vec<(NodeId, Layer)> = fresh.iter().filter_map(|id| Some((*id, old(id)?.clone()))).collect();
        if pairs.is_empty() {
            let shown = |paths: Vec<&String>| match paths.is_empty() {
                true => "none".to_string(),
                false => paths.into_iter().map(|at| format!("`{}`", path::display(at))).collect::<Vec<_>>().join(", "),
            };
            let problem = Problem::new(Code::BadEdit, "no new layer with tensors has the name of an old one")
                .note(format!("old: {}", shown(self.layers.iter().map(|layer| &layer.path).collect())))
                .note(format!("new: {}", shown(fresh.iter().map(|id| &graph.node(*id).path).collect())));
            // a norm without tensors that could have some
            let bare = graph.order_of(&made.iter().copied().collect::<Vec<_>>());
            let bare = bare.into_iter().find_map(|id| adapt::with_tensors(&graph.node(id).op));
            let problem = match (bare, fresh) {
                (Some(hint), _) => problem.hint(hint),
                (None, []) => problem,
                (None, _) => problem.hint("say which: `keeping { new = old }`"),
            };
            return Err(problem.at(self.keeping.span).into());
        }
        Ok(pairs)
    }

    /// The pairs that a body names.
    fn each(&self, graph: &Graph, at: &str, heirs: &[Heir], fresh: &[NodeId]) -> Outcome<Vec<Pair>> {
        let mut pairs: Vec<Pair> = vec![];
        for (heir, layer) in heirs.iter().zip(&self.named) {
            let id = new_layer(graph, heir, at, fresh)?;
            if let Some((.., first)) = pairs.iter().find(|(other, ..)| *other == id) {
                let problem = Problem::new(Code::Duplicate, format!("`{}` is given twice", written(&heir.new)));
                return Err(problem.see(*first, "first given here").at(heir.new.span).into());
            }
            let hows = match heir.hows.as_slice() {
                [] => [How { value: HowKind::Weights, span: heir.span }].into(),
                hows => hows.into(),
            };
            pairs.push((id, layer.clone(), hows, heir.span));
        }
        Ok(pairs)
    }
}

/// A new layer, the old one, and how the tensors of the one become those of the other.
type Pair = (NodeId, Layer, Arc<[How]>, Span);

impl Layer {
    fn new(graph: &Graph, id: NodeId, at: &str, span: Span) -> Result<Layer> {
        let node = graph.node(graph.owner(id));
        let base = node.base.iter().flat_map(|base| base.params.iter().map(|decl| (key(&base.path, decl.name), decl)));
        let mut olds: Vec<(&'static str, Adapted)> =
            base.map(|(key, decl)| (decl.name, Adapted::of_base(key, decl.clone()))).collect();
        if !node.kept.is_empty() {
            let shown = path::display(&node.path);
            let Some(params) = graph.params(graph.owner(id)) else {
                let message = format!("what `{shown}` keeps is not known here: the shapes before it do not fit yet");
                return Err(Problem::new(Code::ShapeMismatch, message).at(span));
            };
            let made = adapt::resolve(&node.path, &node.op, &params, &node.kept)?;
            olds.retain(|(name, _)| !made.contains_key(name));
            olds.extend(made);
        }
        // what `init` fills holds nothing of the base any more
        olds.retain(|(name, _)| !node.inits.iter().any(|filled| filled.tensor == *name));
        let path = graph.node(id).path.clone();
        Ok(Layer { id, within: path::rest(&path, at).map(str::to_string), path, olds })
    }
}

fn give(ctx: &mut Ctx<'_, '_, '_>, id: NodeId, layer: &Layer, hows: Arc<[How]>, span: Span) {
    let names: Vec<&'static str> = layer.olds.iter().map(|(name, _)| *name).collect();
    let named = |name: &&'static str| {
        let mut only =
            hows.iter().filter_map(|how| if let HowKind::Tensor(one) = how.value { Some(one) } else { None });
        only.clone().next().is_none() || only.any(|one| one == *name)
    };
    let marks = names.into_iter().filter(named).map(|name| (id, Mark::Kept(name))).collect();
    ctx.deeds.push(Deed::Marks(marks));
    let kept = adapt::Kept { path: layer.path.clone(), olds: layer.olds.clone(), hows, span };
    ctx.builder.patch.node_mut(id).kept.push(kept);
}

/// The clause with the numbers that its names stand for.
fn given(ctx: &Ctx<'_, '_, '_>, keeping: &Keeping) -> Outcome<Keeping> {
    let mut keeping = keeping.clone();
    let hows: Vec<&mut How> = match &mut keeping.kind {
        KeepingKind::Alike(hows) => hows.iter_mut().collect(),
        KeepingKind::Each(heirs) => heirs.iter_mut().flat_map(|heir| &mut heir.hows).collect(),
    };
    for how in hows {
        let words = match &how.value {
            HowKind::Rows(_) => "`new`",
            _ => "`mean`, `sum`, `zeros`, `new`",
        };
        let (HowKind::Rows(picks) | HowKind::Channels(picks)) = &mut how.value else { continue };
        let mut numbers = vec![];
        for Spanned { value, span } in std::mem::take(picks) {
            let number = |name: &str| match ctx.builder.of_spec(name) {
                Some(Value::Int(number)) => Ok(number),
                Some(other) => {
                    let message = format!("`{name}` is {}, and a whole number is needed", other.describe());
                    Err(Problem::new(Code::TypeMismatch, message).at(span))
                }
                None => {
                    let message = format!("expected an index, a range or {words}, got `{name}`");
                    let problem = Problem::new(Code::UnknownName, message);
                    Err(problem.hint("a `param` or a `let` of the spec may stand there").at(span))
                }
            };
            let end = |end: Option<End>| match end {
                Some(End::Named(name)) => number(&name).map(Some),
                Some(End::Number(number)) => Ok(Some(number)),
                None => Ok(None),
            };
            match value {
                Pick::Named(name) => match ctx.builder.of_spec(&name) {
                    Some(Value::List(list)) => {
                        for one in list.iter() {
                            let Value::Int(number) = one else {
                                let message = format!("`{name}` needs whole numbers, and holds {}", one.describe());
                                return Err(Problem::new(Code::TypeMismatch, message).at(span).into());
                            };
                            numbers.push(Spanned { value: Pick::Old(Index::At(*number)), span });
                        }
                    }
                    _ => numbers.push(Spanned { value: Pick::Old(Index::At(number(&name)?)), span }),
                },
                Pick::Between { from, to, inclusive } => {
                    let index = Index::Range { from: end(from)?, to: end(to)?, inclusive };
                    numbers.push(Spanned { value: Pick::Old(index), span });
                }
                value => numbers.push(Spanned { value, span }),
            }
        }
        if numbers.is_empty() {
            return Err(Problem::new(Code::BadValue, "these brackets pick nothing").at(how.span).into());
        }
        *picks = numbers;
    }
    Ok(keeping)
}

/// The old layer that a line of a body names, in the place or anywhere.
fn old_layer(ctx: &Ctx<'_, '_, '_>, heir: &Heir, at: &str) -> Outcome<Layer> {
    let graph: &Graph = ctx.builder.patch;
    let inside = select::labels(&heir.old).and_then(|labels| graph.find(&path::join(at, &labels.join("."))));
    let target = match inside {
        Some(id) => Target::Layer(id),
        None => select::single(ctx.builder, &heir.old)?,
    };
    let Target::Layer(id) = target else {
        let shown = target.display(graph);
        let problem = Problem::new(Code::BadEdit, format!("`{shown}` is a scope, and a layer is needed"));
        return Err(problem.at(heir.old.span).into());
    };
    let layer = Layer::new(graph, id, at, heir.old.span)?;
    if layer.olds.is_empty() {
        return Err(nothing(&path::display(&layer.path), heir.old.span).into());
    }
    Ok(layer)
}

/// The new layer that a line of a body names: from the place on, or by its whole path.
fn new_layer(graph: &Graph, heir: &Heir, at: &str, fresh: &[NodeId]) -> Outcome<NodeId> {
    let found = select::labels(&heir.new).and_then(|labels| {
        let written = labels.join(".");
        let paths = [path::join(at, &written), path::join(path::parent(at), &written)];
        paths.iter().find_map(|path| graph.find(path).filter(|id| fresh.contains(id)))
    });
    if let Some(id) = found {
        return Ok(id);
    }
    let names: Vec<String> = fresh
        .iter()
        .map(|id| &graph.node(*id).path)
        .map(|path| path::rest(path, at).filter(|inside| !inside.is_empty()).unwrap_or(path))
        .map(path::display)
        .collect();
    let written = written(&heir.new);
    let message = format!("this edit makes no layer `{written}` with tensors");
    let hint = suggest(&written, names.iter().map(String::as_str));
    let hint = hint.or_else(|| (!names.is_empty()).then(|| format!("it makes {}", list(&names))));
    Err(Problem::new(Code::NoMatch, message).hints(hint).at(heir.new.span).into())
}

/// A place as it is displayed; of one with patterns, what they say is left out.
fn written(place: &Place) -> String {
    select::labels(place).map_or_else(|| "*".to_string(), |labels| path::display(&labels.join(".")))
}

fn nothing(shown: &str, span: Span) -> Box<crate::diag::Diagnostic> {
    let message = format!("`{shown}` has no tensors of the base that could be kept");
    Problem::new(Code::BadEdit, message).at(span)
}
