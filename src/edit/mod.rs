//! The edits: each verb a file, applied one after another to the graph that the ones before it left behind.
//!
//! An edit happens whole or not at all: its changes are one patch. All selectors of a statement are resolved before it
//! changes anything. After each edit, what it cut off goes; what edits made and nothing takes is judged after the last
//! one. Knows shapes as far as they are known; whether they fit is checked after the last edit ([`crate::typed`]).

mod append;
mod around;
mod beside;
mod connect;
mod cut;
mod dilate;
mod freeze;
mod init;
mod input;
mod insert;
mod judge;
mod keeping;
mod output;
mod remove;
mod rename;
mod replace;
mod roles;
mod select;
mod set;
mod tie;
mod undone;
mod verb;
mod ways;

use std::borrow::Cow;
use std::ops::{Add, Sub};
use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::FxHashSet;

use crate::build::{Builder, Env, Globals, Naming, Value};
use crate::diag::{Code, Diagnostic, Diagnostics, Problem};
use crate::graph::{Base, Graph, Layer, NodeId, Patch, path};
use crate::ops::{Op, ParamDecl, Role};
use crate::resolve::{Found, Program};
use crate::source::Span;
use crate::syntax::tree::{Edit, Expr, ExprKind, LabelPart, New, Part, Segment, Selector, StepKind};
use undone::{Deed, History, Step};

pub use roles::name_roles;
pub use select::Target;
use verb::SHAPE;
pub use verb::Verb;

/// One line a verb, in the order of the manual.
pub static VERBS: &[Verb] = &[
    replace::VERB,
    insert::VERB,
    remove::VERB,
    around::VERB,
    connect::VERB,
    cut::VERB,
    append::APPEND,
    append::PREPEND,
    set::VERB,
    dilate::VERB,
    output::VERB,
    input::VERB,
    rename::VERB,
    tie::VERB,
    freeze::FREEZE,
    freeze::UNFREEZE,
    init::VERB,
];

/// What one edit did.
#[derive(Clone, Debug)]
pub struct Report {
    pub span: Span,
    /// The places that it worked on.
    pub matched: Vec<String>,
    /// The one place that new layers took.
    pub replaced: Option<String>,
    /// Where exactly, in words, where that is not plain.
    pub notes: Vec<Note>,
    /// Paths of layers that it made and that it took away.
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// Change of learned values, of multiply-adds a sample, and of values that layers put out a sample.
    pub parameters: i64,
    pub macs: i64,
    pub activations: i64,
}

impl Report {
    /// Counts what layers cost more, or less.
    fn count(&mut self, cost: Totals) {
        self.parameters += cost.parameters;
        self.macs += cost.macs;
        self.activations += cost.activations;
    }
}

/// Where exactly an edit worked: `before`, and the layer or scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub what: Cow<'static, str>,
    pub place: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.what, self.place)
    }
}

/// Why an edit did not happen.
enum Failure {
    /// The mistake is among the builder's problems.
    Reported,
    Problem(Box<Diagnostic>),
}

impl From<Box<Diagnostic>> for Failure {
    fn from(problem: Box<Diagnostic>) -> Failure {
        Failure::Problem(problem)
    }
}

type Outcome<T> = Result<T, Failure>;

/// What a verb works with.
struct Ctx<'a, 'b, 'p> {
    builder: &'b mut Builder<'a, 'p>,
    span: Span,
    matched: Vec<String>,
    /// The one place that new layers took.
    replaced: Option<String>,
    notes: Vec<Note>,
    /// What it did to layers that stay.
    deeds: Vec<Deed>,
}

/// Which edits the networks before and after are kept of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Those that are `preserving`.
    Preserving,
    All,
}

/// No more layers are kept, of all networks together.
const MAX_WATCHED: usize = 500_000;

/// Applies every edit. One that fails changes nothing, and the next is tried all the same.
/// `owed` is what other inputs than the declared ones change: the first edit makes up for it.
pub fn apply<'a>(
    program: &'a Program,
    globals: &Globals<'a>,
    graph: &mut Graph,
    mut owed: Totals,
    watched: Watched,
) -> Applied {
    let mut reports = vec![];
    let mut moves: Vec<Move> = vec![];
    let mut layers = 0;
    let mut problems = Diagnostics::new();
    let mut unknown: Option<Unknown> = None;
    // names that a failed edit would have made: that they are missing later is its fault
    let mut missing: FxHashSet<String> = FxHashSet::default();
    let mut history = History::default();
    for edit in program.edits() {
        let mut found = Diagnostics::new();
        let is_watched = edit.preserving.is_some() || watched == Watched::All;
        let before = is_watched.then(|| match moves.last() {
            // what the edit before this one left behind
            Some(last) if last.report + 1 == reports.len() => last.after.clone(),
            _ => Arc::new(graph.clone()),
        });
        let outcome = graph.patch(|patch| {
            patch.edit = Some(edit.span);
            let mut builder = Builder::new(program, patch, globals);
            builder.mistakes = problems.errors();
            let mut ctx = Ctx {
                builder: &mut builder,
                span: edit.span,
                matched: vec![],
                replaced: None,
                notes: vec![],
                deeds: vec![],
            };
            let verb = VERBS.iter().find(|verb| verb.name == edit.verb.value).expect("a verb of the grammar is listed");
            let outcome = (verb.apply)(&mut ctx, &edit.parts);
            let Ctx { matched, replaced, notes, deeds, .. } = ctx;
            let asked = std::mem::take(&mut builder.unknown);
            found.extend(std::mem::take(&mut builder.problems).map(|problem| blamed(problem, edit.span)));
            if unknown.is_none() && !asked.is_empty() {
                unknown = Some(Unknown { asked, graph: Graph::clone(patch) });
            }
            outcome?;
            if found.has_errors() {
                return Err(Failure::Reported);
            }
            if let Some(cycle) = patch.cycle() {
                let names: Vec<String> = cycle.iter().map(|id| path::display(&patch.node(*id).path)).collect();
                let message = format!("the network would run in a circle: {}", names.join(" -> "));
                return Err(Failure::Problem(Problem::new(Code::Cycle, message).at(edit.span)));
            }
            judge::sweep(patch, edit.span, &mut found);
            // later edits ask for shapes
            patch.infer();
            let gone: Vec<(NodeId, String)> =
                patch.removed().into_iter().map(|(id, path)| (id, path.to_string())).collect();
            let cost = std::mem::take(&mut owed) + Totals::of_changes(patch);
            let mut report = Report {
                span: edit.span,
                matched,
                replaced,
                notes,
                added: patch
                    .added()
                    .into_iter()
                    .filter(|id| !is_input(patch, *id))
                    .map(|id| patch.node(id).path.clone())
                    .collect(),
                removed: gone.iter().map(|(_, path)| path.clone()).collect(),
                parameters: 0,
                macs: 0,
                activations: 0,
            };
            report.count(cost);
            Ok((report, deeds, gone, std::mem::take(&mut patch.heirs)))
        });
        problems.extend(found);
        match outcome {
            Ok((report, deeds, gone, heirs)) => {
                let step = Step { edit: edit.span, deeds, gone: &gone, heirs: &heirs };
                history.record(graph, step, &mut problems);
                if let Some(before) = before {
                    layers += graph.len();
                    if layers > MAX_WATCHED {
                        let message = format!("networks of more than {MAX_WATCHED} layers would have to be compared");
                        let problem = Problem::new(Code::Limit, message);
                        problems.push(problem.hint("let fewer edits be `preserving`").at(edit.span));
                        break;
                    }
                    let after = Arc::new(graph.clone());
                    let (preserving, hint) = (edit.preserving, starts_as_nothing(program, edit));
                    moves.push(Move { report: reports.len(), before, after, preserving, hint });
                }
                reports.push(report);
            }
            Err(failure) => {
                if let Failure::Problem(problem) = failure {
                    let echoes = matches!(problem.problem.code, Code::NoMatch | Code::UnknownName)
                        && problem.problem.message.split('`').skip(1).step_by(2).any(|name| missing.contains(name));
                    if !echoes {
                        problems.push(blamed(*problem, edit.span));
                    }
                }
                missing.extend(names_of(edit));
            }
        }
        if globals.budget.is_spent() {
            break;
        }
    }
    // what an edit that failed would have taken is not to be blamed
    if reports.len() == program.edits().count()
        && let Err(found) = judge::judge(graph, &mut reports)
    {
        problems.extend(found);
    }
    Applied { reports, problems, unknown, moves }
}

/// What the edits came to.
pub struct Applied {
    /// Of the edits that happened.
    pub reports: Vec<Report>,
    pub problems: Diagnostics,
    pub unknown: Option<Unknown>,
    /// Of the edits that were watched.
    pub moves: Vec<Move>,
}

/// The networks before and after an edit.
pub struct Move {
    /// Which of the reports is its.
    pub report: usize,
    pub before: Arc<Graph>,
    pub after: Arc<Graph>,
    /// The word that promises equal outputs.
    pub preserving: Option<Span>,
    /// What would do where they are not.
    pub hint: Option<String>,
}

/// Shapes that the text of an edit asked for while they were not known.
pub struct Unknown {
    /// Where.
    pub asked: Diagnostics,
    /// The network with what the edit had made of it by then: something in it does not fit.
    pub graph: Graph,
}

/// The layers that a selector outside an edit names (an `lr` line), and the value of the expression beside it. The graph
/// stays as it is; conditions are evaluated in a patch of it.
///
/// # Errors
/// If it names nothing, or the expression does not evaluate.
pub fn select_layers<'a>(
    program: &'a Program,
    globals: &Globals<'a>,
    graph: &mut Graph,
    selector: &'a Selector,
    beside: Option<&'a Expr>,
) -> Result<(Vec<NodeId>, Option<Value<'a>>), Diagnostics> {
    let mut problems = Diagnostics::new();
    let selected = graph.patch(|patch| {
        let mut builder = Builder::new(program, patch, globals);
        let layers = problems.take(select::select(&mut builder, selector, select::Grain::Layers));
        let value = beside.map(|expr| builder.eval(&mut Env::file(Program::SPEC), expr)).transpose();
        let value = problems.take(value).flatten();
        problems.extend(std::mem::take(&mut builder.problems));
        let layers: Vec<NodeId> = layers
            .into_iter()
            .flatten()
            .filter_map(|target| if let Target::Layer(id) = target { Some(id) } else { None })
            .collect();
        Ok::<_, std::convert::Infallible>((layers, value))
    });
    let Ok(selected) = selected;
    if problems.has_errors() { Err(problems) } else { Ok(selected) }
}

/// The places that a selector names in a graph, in running order.
///
/// # Errors
/// If there are none, or the selector cannot be meant.
pub fn select_places<'a>(
    program: &'a Program,
    globals: &Globals<'a>,
    graph: &Graph,
    selector: &'a Selector,
) -> Result<Vec<Target>, Diagnostics> {
    // selecting changes nothing; the builder that evaluates conditions wants a patch
    let (places, problems) = graph.clone().patch(|patch| {
        let mut builder = Builder::new(program, patch, globals);
        let places = select::select(&mut builder, selector, select::Grain::Places)?;
        Ok::<_, Diagnostics>((places, std::mem::take(&mut builder.problems)))
    })?;
    if problems.has_errors() { Err(problems) } else { Ok(places) }
}

/// An input is no layer.
fn is_input(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id).op, Op::Input(_)) && graph.inputs().values().any(|input| *input == id)
}

/// A mistake inside a block that an edit calls is shown with the edit.
fn blamed(problem: Diagnostic, edit: Span) -> Box<Diagnostic> {
    let is_inside = problem.span.is_none_or(|span| edit.to(span) == edit && span.file == edit.file);
    let edit = if is_inside { problem.edit } else { problem.edit.or(Some(edit)) };
    problem.blame(edit)
}

impl<'a> Ctx<'a, '_, '_> {
    /// The surroundings of an edit's text: the spec's names, paths of the network, layers going into `scope`.
    fn env(&self, scope: &str) -> Env<'a> {
        let mut env = Env::file(Program::SPEC);
        env.scope = scope.to_string();
        env.naming = Naming::ByOp;
        env.sees_paths = true;
        env
    }

    /// Makes the layers of `new` in the scope of `env`: under their own names, or all as `name`, where one is given.
    fn put(&mut self, env: &mut Env<'a>, new: &'a New, input: NodeId) -> Outcome<NodeId> {
        if let Some(keeping) = &new.keeping {
            let problem = Problem::new(Code::BadEdit, "nothing is replaced here whose tensors could be kept");
            return Err(problem.hint("`keeping` goes with `replace` and `set`").at(keeping.span).into());
        }
        let at = match &new.name {
            None => None,
            Some(name) => {
                let at = path::join(&env.scope, &name.value);
                if self.builder.patch.is_taken(&at) {
                    let problem = Problem::new(Code::Duplicate, format!("there is a `{}` already", path::display(&at)));
                    return Err(problem.at(name.span).into());
                }
                Some(at)
            }
        };
        self.make(env, new, at.as_deref(), input)
    }

    fn make(&mut self, env: &mut Env<'a>, new: &'a New, at: Option<&str>, input: NodeId) -> Outcome<NodeId> {
        self.builder.new_layers(env, new, at, input)?.ok_or(Failure::Reported)
    }
}

impl Ctx<'_, '_, '_> {
    /// Says which layers of earlier edits are about to go.
    fn warn_undone(&mut self, going: impl Iterator<Item = NodeId>) {
        let graph = &self.builder.patch;
        let made: Vec<(String, Span)> = going
            .filter_map(|id| Some((graph.node(id).path.clone(), graph.node(id).origin?)))
            .filter(|(_, origin)| *origin != self.span)
            .collect();
        warn_undone(&made, self.span, &mut self.builder.problems);
    }
}

/// A warning for each earlier edit of whose layers some go: their paths and who made them.
fn warn_undone(gone: &[(String, Span)], edit: Span, problems: &mut Diagnostics) {
    let mut undone: IndexMap<Span, (&str, usize)> = IndexMap::new();
    for (path, origin) in gone {
        undone.entry(*origin).or_insert((path, 0)).1 += 1;
    }
    for (origin, (first, count)) in &undone {
        let (first, more) = (path::display(first), count - 1);
        let message = match more {
            0 => format!("`{first}` was made by an earlier edit and is taken away again"),
            1 => format!("`{first}` and 1 more layer were made by an earlier edit and are taken away again"),
            _ => format!("`{first}` and {more} more layers were made by an earlier edit and are taken away again"),
        };
        problems.push(Problem::new(Code::Undone, message).see(*origin, "made here").at(edit).warning());
    }
}

/// What an edit would say whose block can start as nothing, and does not.
fn starts_as_nothing(program: &Program, edit: &Edit) -> Option<String> {
    let named = edit.parts.iter().filter_map(|part| if let Part::New(new) = part { Some(new) } else { None });
    let named = named.flat_map(|new| &new.chain.steps).filter_map(|step| match &step.kind {
        StepKind::Expr(Expr { kind: ExprKind::Name(name), .. }) => Some(name.as_str()),
        StepKind::Expr(Expr { kind: ExprKind::Call(name, _), .. }) => Some(name.value.as_str()),
        _ => None,
    });
    let can_start = |name: &&str| {
        let found = program.find(Program::SPEC, name);
        matches!(found, Some(Found::Block(_, block)) if block.params.iter().any(|param| param.name.value == "start"))
    };
    if let Some(name) = named.into_iter().find(can_start) {
        return Some(format!("`{name}(start = identity)` starts as nothing"));
    }
    let makes_layers = edit.parts.iter().any(|part| matches!(part, Part::New(_)));
    makes_layers.then(|| "a residual whose last layer has `init = zeros` starts as nothing".to_string())
}

/// The names that an edit would have made.
fn names_of(edit: &Edit) -> Vec<String> {
    let of = |part: &Part| match part {
        Part::New(new) => names_of_new(new),
        Part::Name(name) => vec![name.value.clone()],
        Part::Input(input) => input.name.iter().map(|name| name.value.clone()).collect(),
        Part::Path(place) => match place.segments.last().map(|last| &last.value) {
            Some(Segment::Glob(name)) => vec![name.clone()],
            Some(Segment::Indices(_) | Segment::Role(_) | Segment::Tap(_)) | None => vec![],
        },
        Part::Selector(_) | Part::Place(_) | Part::Expr(_) | Part::Entries(_) | Part::Keeping(_) | Part::Word(_) => {
            vec![]
        }
    };
    edit.parts.iter().flat_map(of).collect()
}

fn names_of_new(new: &New) -> Vec<String> {
    let mut names: Vec<String> = new.name.iter().map(|name| name.value.clone()).collect();
    for step in &new.chain.steps {
        if let StepKind::Expr(expr) = &step.kind {
            match &expr.kind {
                ExprKind::Name(name) => names.push(name.clone()),
                ExprKind::Call(name, _) => names.push(name.value.clone()),
                _ => {}
            }
        }
        if let Some(label) = &step.label
            && let [LabelPart::Text(text)] = label.parts.as_slice()
        {
            names.push(text.clone());
        }
    }
    names
}

/// Sums over layers, as far as shapes are known.
#[derive(Clone, Copy, Default)]
pub struct Totals {
    parameters: i64,
    macs: i64,
    activations: i64,
}

impl Totals {
    /// Inputs are no layers, and count for nothing.
    pub fn of(graph: &Graph) -> Totals {
        graph.ids().fold(Totals::default(), |totals, id| totals + Totals::of_layer(&graph.layer(id)))
    }

    /// What a patch adds to them.
    fn of_changes(patch: &Patch) -> Totals {
        let of = |layer: Option<Layer<'_>>| layer.map_or_else(Totals::default, |layer| Totals::of_layer(&layer));
        patch.changes().fold(Totals::default(), |totals, (was, is)| totals + of(is) - of(was))
    }

    fn of_layer(layer: &Layer<'_>) -> Totals {
        let node = layer.node;
        if matches!(node.op, Op::Input(_)) {
            return Totals::default();
        }
        let params = layer.params();
        let activations = node.shape.as_ref().map_or(0, |shape| shape.len() as i64);
        // a layer of the base costs what it did there until an edit makes up for an input that does not fit it
        let fits = |base: &Base| {
            let shapes = |params: &[ParamDecl]| params.iter().map(|param| param.shape.clone()).collect::<Vec<_>>();
            params.as_deref().is_some_and(|params| shapes(params) == shapes(&base.params))
        };
        let base = node.base.as_ref().filter(|base| !node.reshaped && !fits(base));
        let (params, macs) = match base {
            Some(base) => (base.params.clone(), Some(base.macs)),
            None => (params.unwrap_or_default(), layer.macs()),
        };
        let learned = params.into_iter().filter(|param| param.role == Role::Weight && node.tied.is_none());
        let parameters = learned.map(|param| param.shape.iter().product::<usize>() as i64).sum();
        Totals { parameters, macs: macs.unwrap_or(0) as i64, activations }
    }
}

impl Add for Totals {
    type Output = Totals;
    fn add(self, other: Totals) -> Totals {
        Totals {
            parameters: self.parameters + other.parameters,
            macs: self.macs + other.macs,
            activations: self.activations + other.activations,
        }
    }
}

impl Sub for Totals {
    type Output = Totals;
    fn sub(self, other: Totals) -> Totals {
        Totals {
            parameters: self.parameters - other.parameters,
            macs: self.macs - other.macs,
            activations: self.activations - other.activations,
        }
    }
}
