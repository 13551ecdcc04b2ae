//! The check after the last edit: every shape known, every tensor of the base of the shape that its file has, every
//! layer with weights used. Holding a [`Typed`] proves it; nothing after it fails because of the user's program.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexSet;

use crate::diag::{Code, Diagnostics, Problem, Result, SHOWN};
use crate::graph::adapt::{self, Adapted};
use crate::graph::{Graph, Node, NodeId, path};
use crate::ops::attr::Attr;
use crate::ops::shape::Shape;
use crate::ops::{Op, ParamDecl, Role};
use crate::source::Span;

/// A graph whose shapes are known and fit. A clone shares it.
#[derive(Clone, Debug)]
pub struct Typed {
    graph: Arc<Graph>,
    order: Arc<[NodeId]>,
}

impl Typed {
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Every node in the order in which the network runs.
    pub fn order(&self) -> &[NodeId] {
        &self.order
    }

    pub fn shape(&self, id: NodeId) -> &Shape {
        self.graph.node(id).shape.as_ref().expect("a typed graph has every shape")
    }

    /// The node's tensors by PyTorch's names, its owner's where it is tied.
    pub fn params(&self, id: NodeId) -> Vec<ParamDecl> {
        self.graph.node(id).op.params(&self.operand_shapes(id))
    }

    /// Learned values of the node itself; 0 where it is tied.
    pub fn parameter_count(&self, id: NodeId) -> u64 {
        if self.graph.node(id).tied.is_some() {
            return 0;
        }
        let learned = self.params(id).into_iter().filter(|param| param.role == Role::Weight);
        learned.map(|param| param.shape.iter().product::<usize>() as u64).sum()
    }

    /// Multiply-adds of the node for one sample.
    pub fn macs(&self, id: NodeId) -> u64 {
        self.graph.node(id).op.macs(&self.operand_shapes(id), self.shape(id))
    }

    /// Learned values, and multiply-adds for one sample, of all layers.
    pub fn totals(&self) -> (u64, u64) {
        let sum = |of: &dyn Fn(NodeId) -> u64| self.order().iter().map(|id| of(*id)).sum();
        (sum(&|id| self.parameter_count(id)), sum(&|id| self.macs(id)))
    }

    /// The tensors of the node that its `keeping` clauses make of the base's, by name.
    pub fn adapted(&self, id: NodeId) -> BTreeMap<&'static str, Adapted> {
        self.adapt(id).expect("the check resolved every clause")
    }

    fn adapt(&self, id: NodeId) -> Result<BTreeMap<&'static str, Adapted>> {
        let node = self.graph.node(id);
        if node.kept.is_empty() || node.tied.is_some() {
            return Ok(BTreeMap::new());
        }
        let mut adapted = adapt::resolve(&node.path, &node.op, &self.params(id), &node.kept)?;
        // an `init` behind the clause wins
        adapted.retain(|name, _| !node.inits.iter().any(|filled| filled.tensor == *name));
        let is_filled = node.op.attrs().iter().any(|(name, value)| *name == "init" && *value != Attr::None);
        // an `init` that a block says is for a layer that is new
        let of = node.span;
        let is_said = self
            .graph
            .last_edit(id)
            .is_some_and(|edit| edit.file == of.file && (edit.start..edit.end).contains(&of.start));
        if let (true, Some(weight), Some(last)) = (is_filled && is_said, adapted.get("weight"), node.kept.last())
            && !weight.has_new()
        {
            let shown = path::display(&node.path);
            let message = format!("`init` fills nothing of `{shown}`: all of its `weight` is kept");
            let problem = Problem::new(Code::BadEdit, message).see(node.span, "made here");
            let hint = "leave `init` out, or say which rows or channels are `new`";
            return Err(problem.hint(hint).at(last.span));
        }
        Ok(adapted)
    }

    fn operand_shapes(&self, id: NodeId) -> Vec<&Shape> {
        self.graph.operand_shapes(id).expect("a typed graph has every shape")
    }
}

/// A `replace` of one place: its statement, and the place as it is written.
#[derive(Clone, Debug)]
pub struct Replaced {
    pub span: Span,
    pub place: String,
}

/// Checks the whole graph and reports every independent mistake. A layer behind a mistake is not reported again.
/// `replaced` lets a message say how to replace more.
pub fn check(mut graph: Graph, replaced: &[Replaced]) -> std::result::Result<Typed, Diagnostics> {
    let mut problems = Diagnostics::new();
    let order = graph.order();
    for id in &order {
        graph.set_shape(*id, None);
    }
    for id in &order {
        let Some(ins) = graph.operand_shapes(*id) else { continue };
        match graph.node(*id).op.infer(&ins) {
            // to say where a mistake comes from takes a look back, and further ones are not shown
            Err(_) if problems.errors() > SHOWN => problems.miss(),
            Err(problem) => {
                let ins: Vec<Shape> = ins.into_iter().cloned().collect();
                problems.push(shape_problem(&graph, *id, &ins, problem, replaced));
            }
            Ok(shape) => match changed_params(&graph, *id) {
                Some(problem) => problems.push(problem),
                None => graph.set_shape(*id, Some(shape)),
            },
        }
    }
    if problems.has_errors() {
        return Err(problems);
    }
    let typed = Typed { order: order.into(), graph: graph.into() };
    for id in typed.order() {
        problems.take(typed.adapt(*id));
        if let Some(problem) = tie_problem(&typed, *id) {
            problems.push(problem);
        }
    }
    if problems.has_errors() {
        return Err(problems);
    }
    if cfg!(debug_assertions) {
        typed.graph.check();
    }
    Ok(typed)
}

/// The convolutions that see a single pixel with padding around it, where there are some.
pub fn small_maps(typed: &Typed) -> Option<Problem> {
    let sees_one_pixel = |id: &NodeId| {
        let Op::Conv2d(conv) = &typed.graph().node(*id).op else { return false };
        let operand = typed.graph().operands(*id)[0];
        let map = typed.shape(operand).as_image().map(|(_, height, width)| (height, width));
        map == Some((1, 1)) && conv.kernel.h > 1 && conv.kernel.w > 1
    };
    let found: Vec<NodeId> = typed.order().iter().copied().filter(sees_one_pixel).collect();
    let first = path::display(&typed.graph().node(*found.first()?).path);
    let message = match found.len() - 1 {
        0 => format!("the map before `{first}` is a single pixel, and its kernel is larger"),
        more => format!("the maps before `{first}` and {more} more are a single pixel, and their kernels are larger"),
    };
    let problem = Problem::new(Code::SmallMap, message);
    Some(problem.hint("take strides out of the stem, or give `input` a larger size"))
}

/// Layers whose `init` a `set` changed, although their weights are those of the base as before.
pub fn idle_inits(typed: &Typed) -> Diagnostics {
    let mut found = Diagnostics::new();
    for id in typed.order() {
        let node = typed.graph().node(*id);
        let (Some(span), Some(base), None) = (node.refilled, &node.base, node.tied) else { continue };
        let is_weight = |param: &&ParamDecl| param.role == Role::Weight;
        let params = typed.params(*id);
        let (Some(new), Some(old)) = (params.iter().find(is_weight), base.params.iter().find(is_weight)) else {
            continue;
        };
        let is_filled = node.inits.iter().any(|filled| filled.tensor == new.name);
        if new.shape != old.shape || is_filled || !node.kept.is_empty() {
            continue;
        }
        let shown = path::display(&node.path);
        let message = format!("`init` fills nothing of `{shown}`: its `{}` is the file's", new.name);
        let init = node.op.attr("init").map_or_else(String::new, |init| init.to_string());
        let problem = Problem::new(Code::Undone, message).see(node.span, "made here");
        found.push(problem.hint(format!("`init {shown} with {init}` fills it")).at(span).warning());
    }
    found
}

/// What an op says about its operands, with the places that made them so.
fn shape_problem(
    graph: &Graph,
    id: NodeId,
    ins: &[Shape],
    problem: Problem,
    replaced: &[Replaced],
) -> Box<crate::diag::Diagnostic> {
    let node = graph.node(id);
    let op = node.op.name();
    // a layer that is written in the edit itself is known by its label there
    let is_written = |edit: Span| edit.to(node.span) == edit && !path::is_number(path::last(&node.path));
    let named = match node.origin.is_some_and(is_written) {
        true => format!("`{}`", path::last(&node.path)),
        false => format!("`{}`", path::display(&node.path)),
    };
    let mut problem = problem;
    // the op speaks of itself; the user knows the layer by its path
    if path::last(&node.path) != op {
        problem.message = problem.message.replacen(&format!("`{op}`"), &named, 1);
    }
    let operands = graph.operands(id);
    if problem.label.is_none() {
        let names = operands.iter().map(|operand| format!("`{}`", path::display(&graph.node(*operand).path)));
        // one that is taken several times is named once
        let names: Vec<String> = names.collect::<IndexSet<String>>().into_iter().collect();
        if !names.is_empty() {
            problem.label = Some(format!("takes the output of {}", names.join(" and ")));
        }
    }
    for (operand, shape) in operands.iter().zip(ins) {
        let source = source_of_shape(graph, *operand);
        let made = graph.node(source);
        if made.span != node.span {
            let label = if flattens(graph, source) {
                problem.hints.extend(widen(graph, id, source, replaced));
                "made it flat here".to_string()
            } else if source == *operand {
                format!("`{}` makes {shape}", path::display(&made.path))
            } else {
                format!("`{}` made it {}", path::display(&made.path), made.shape.as_ref().unwrap_or(shape))
            };
            problem = problem.see(made.span, label);
        }
    }
    let blame = graph.to_blame(id);
    with_calls(node, problem.at(node.span).blame(blame))
}

/// The calls that made the layer, where these are to blame and no edit behind them is.
fn with_calls(node: &Node, problem: Box<crate::diag::Diagnostic>) -> Box<crate::diag::Diagnostic> {
    if problem.edit.is_none_or(|edit| node.origin == Some(edit)) { problem.called(&node.calls) } else { problem }
}

/// Whether a layer makes a row of numbers of an image.
fn flattens(graph: &Graph, id: NodeId) -> bool {
    let is_image =
        |operand: &NodeId| graph.node(*operand).shape.as_ref().is_some_and(|shape| shape.as_image().is_some());
    let is_flat = graph.node(id).shape.as_ref().is_some_and(|shape| shape.batched && shape.dims.len() == 1);
    is_flat && graph.operands(id).first().is_some_and(is_image)
}

/// A layer that needs an image got a row: where it came with a `replace`, more could be replaced, from the pooling on.
/// Only what would fit is offered.
fn widen(graph: &Graph, id: NodeId, flatten: NodeId, replaced: &[Replaced]) -> Option<String> {
    let node = graph.node(id);
    let replaced = replaced.iter().find(|replaced| Some(replaced.span) == node.origin)?;
    let before = *graph.operands(flatten).first()?;
    let is_pool = |id: NodeId| graph.node(id).op.name().contains("pool");
    let (first, what) = match (is_pool(flatten), is_pool(before)) {
        (true, _) => (flatten, "the pooling"),
        (_, true) => (before, "the pooling and the flatten"),
        _ => (flatten, "the flatten"),
    };
    let image = graph.node(*graph.operands(first).first()?).shape.as_ref()?;
    node.op.infer(&[image]).ok()?;
    let first = path::display(&graph.node(first).path);
    let last = replaced.place.rsplit_once("..=").map_or(replaced.place.as_str(), |(_, last)| last);
    Some(format!("replace {what} too: `replace {first}..={last} with {{ .. }}`"))
}

/// Goes back from `id` over layers that keep the shape of what they take.
fn source_of_shape(graph: &Graph, id: NodeId) -> NodeId {
    let mut at = id;
    loop {
        let operands = graph.operands(at);
        match operands.as_slice() {
            [one] if graph.node(*one).shape == graph.node(at).shape => at = *one,
            _ => return at,
        }
    }
}

/// A base layer whose tensors would no longer have the shapes of the file, although no `set` asked for it.
fn changed_params(graph: &Graph, id: NodeId) -> Option<Box<crate::diag::Diagnostic>> {
    let node = graph.node(id);
    // what a tied layer needs is looked at when its owner's shapes are known too
    let base = node.base.as_ref().filter(|_| node.tied.is_none())?;
    if node.reshaped {
        return None;
    }
    let params = graph.params(id)?;
    let differs = |(new, old): &(&ParamDecl, &ParamDecl)| new.shape != old.shape || new.name != old.name;
    let (new, old) = params.iter().zip(&base.params).find(differs)?;
    let operands = graph.operands(id);
    let got = operands.first().and_then(|operand| graph.node(*operand).shape.as_ref());
    let axis = new.shape.iter().zip(&old.shape).position(|(new, old)| new != old).unwrap_or(0);
    let (wanted, given) = (old.shape.get(axis).copied().unwrap_or(0), new.shape.get(axis).copied().unwrap_or(0));
    let is_image = got.is_some_and(|shape| shape.as_image().is_some());
    let unit = if is_image && node.op.name() != "linear" { "channels" } else { "features" };
    let groups = match &node.op {
        Op::Conv2d(conv) if axis == 1 => conv.groups,
        _ => 1,
    };
    let named = path::display(&node.path);
    let message = format!("`{named}` needs {} {unit}, got {}", wanted * groups, given * groups);
    let mut problem = Problem::new(Code::ShapeMismatch, message)
        .note(format!("its pretrained `{}` is {:?}, this input would need {:?}", new.name, old.shape, new.shape));
    if let (Some(operand), Some(shape)) = (operands.first(), got) {
        problem = problem.label(format!("takes {shape} from `{}`", path::display(&graph.node(*operand).path)));
        let source = source_of_shape(graph, *operand);
        if graph.node(source).span != node.span {
            let label = format!("`{}` makes {shape}", path::display(&graph.node(source).path));
            problem = problem.see(graph.node(source).span, label);
        }
    }
    if let Op::Conv2d(conv) = &node.op
        && operands.first().is_some_and(|operand| graph.inputs().values().any(|input| input == operand))
    {
        let kept = match (wanted, given) {
            (3, 4) => "[0, 1, 2, mean]",
            (3, 1) => "[sum]",
            _ => "repeat",
        };
        problem = problem.hint(format!("its values go on: `replace {named} with same keeping channels {kept}`"));
        let crate::ops::attr::Pair { h, w } = conv.kernel;
        let kernel = if h == w { h.to_string() } else { format!("({h}, {w})") };
        problem =
            problem.hint(format!("a fresh layer: `replace {named} with conv2d({}, kernel = {kernel}, ..)`", conv.out));
    }
    let blame = graph.to_blame(id);
    Some(with_calls(node, problem.at(node.span).blame(blame)))
}

/// A tied layer whose tensors would have other shapes than its owner's.
fn tie_problem(typed: &Typed, id: NodeId) -> Option<Box<crate::diag::Diagnostic>> {
    let graph = typed.graph();
    graph.node(id).tied?;
    let owner = graph.owner(id);
    let (own, theirs) = (typed.params(id), typed.params(owner));
    let differs = |at: &usize| {
        let of = |params: &[ParamDecl]| params.get(*at).map(|param| (param.name, param.shape.clone()));
        of(&own) != of(&theirs)
    };
    let at = (0..own.len().max(theirs.len())).find(differs)?;
    let (node, other) = (graph.node(id), graph.node(owner));
    let message = match (own.get(at), theirs.get(at)) {
        (Some(own), Some(theirs)) if own.name == theirs.name => format!(
            "`{}` cannot use the weights of `{}`: its `{}` is {:?}, theirs is {:?}",
            path::display(&node.path),
            path::display(&other.path),
            own.name,
            own.shape,
            theirs.shape
        ),
        (own, theirs) => {
            let (lacks, has) = if own.is_some() { (other, node) } else { (node, other) };
            let param = own.or(theirs).expect("one of them has a tensor more");
            format!(
                "`{}` cannot use the weights of `{}`: `{}` has a `{}`, and `{}` has none",
                path::display(&node.path),
                path::display(&other.path),
                path::display(&has.path),
                param.name,
                path::display(&lacks.path)
            )
        }
    };
    let problem = Problem::new(Code::ShapeMismatch, message).see(other.span, "the weights are made here");
    Some(with_calls(node, problem.at(node.span).blame(node.touched.or(other.touched))))
}
