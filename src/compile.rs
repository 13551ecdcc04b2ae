//! From a spec to a checked network: the stages one after another.

use std::path::Path;
use std::sync::Arc;

use crate::bind::{Bound, bind, bind_edited, bind_headers};
use crate::build::{self, Builder};
use crate::diag::{Code, Diagnostic, Diagnostics, Problem, render};
use crate::drift::{self, Moved};
use crate::edit::{self, Applied, Report, Watched};
use crate::graph::Graph;
use crate::io::atomic::reason;
use crate::io::open::plain_or_stream;
use crate::ops::constant::Input;
use crate::resolve::{self, Hosted};
use crate::settings::{Settings, classes};
use crate::source::{FileId, Sources};
use crate::syntax;
use crate::train::run::setup::{Given, setup};
use crate::train::{TrainSpec, frozen_at_random};
use crate::typed::{self, Typed};
use crate::weights::hub::Hub;
use crate::weights::{Downloads, WeightsSource};
use crate::zoo;

/// Deep nesting recurses; this is far more than the deepest that the limits allow.
const STACK: usize = 256 << 20;

/// A spec that passed every check.
#[derive(Debug)]
pub struct Compiled {
    /// The network before the edits.
    pub base: Typed,
    /// The network after them.
    pub typed: Typed,
    /// What each edit did, in order.
    pub reports: Vec<Report>,
    /// What the spec says beside the network: weights, preprocessing, labels.
    pub settings: Settings,
    /// What its `train` block says, where it has one.
    pub train: Option<TrainSpec>,
    /// The networks around the edits that are watched.
    pub moved: Vec<Moved>,
    pub warnings: Diagnostics,
}

impl Compiled {
    /// The network's tensors: the spec's own, or those of a file of the edited network; and a line on what became of each.
    /// `seed` is that of fresh tensors where the spec has none.
    ///
    /// # Errors
    /// A file that cannot be read, or does not fit; an edit that is `preserving` and moves the outputs.
    pub fn bind(
        &self,
        weights: Option<&Path>,
        seed: Option<u64>,
        downloads: &dyn Downloads,
    ) -> Result<(Bound, String), Diagnostics> {
        if let Some(path) = weights {
            let mut bound = bind_edited(&self.settings, &self.typed, path)?;
            bound.take(self.settings.weights.pretrained(downloads));
            let line = format!("weights: {} from {}", bound.ledger(), path.display());
            return Ok((bound, line));
        }
        let bound = bind(&self.settings, &self.base, &self.typed, seed, downloads);
        let mut bound = bound.map_err(|found| self.with_classes(found, downloads))?;
        // of the version whose weights were fetched
        bound.take(self.settings.weights.pretrained(downloads));
        drift::check(&self.settings, &self.base, &self.moved, seed, downloads)?;
        let line = match (&self.settings.weights, self.settings.weights_span) {
            (WeightsSource::Random { .. }, None) => {
                let (seed, ledger) = (seed.unwrap_or(0), bound.ledger().drawn());
                format!("weights: the spec names none, so they are random(seed = {seed}): {ledger}")
            }
            (WeightsSource::Random { .. }, Some(_)) => format!("weights: {}", bound.ledger().drawn()),
            _ => format!("weights: {}", bound.ledger()),
        };
        Ok((bound, line))
    }
}

impl Compiled {
    /// What was found wrong with weights, with a word on it where they do not fit because a hub's network has other classes.
    fn with_classes(&self, found: Diagnostics, downloads: &dyn Downloads) -> Diagnostics {
        let is_mismatch = |one: &Diagnostic| one.problem.code == Code::WeightsMismatch;
        if !found.iter().any(is_mismatch) {
            return found;
        }
        let (base, source) = (&self.settings.base, &self.settings.weights);
        let said = source.pretrained(downloads).ok().flatten().and_then(|said| said.classes);
        let (Some(theirs), Some(ours)) = (said, classes(&self.base)) else { return found };
        found.map(|mut one| {
            if is_mismatch(&one) && theirs != ours {
                one.problem = one.problem.note(format!("{source} tells {theirs} classes apart, `{base}` {ours}"));
            }
            Box::new(one)
        })
    }
}

/// What a text turned out to be.
#[derive(Debug)]
pub enum Outcome {
    Spec(Box<Compiled>),
    /// Definitions only, no base.
    Library,
}

/// Reads a file as a source text. `-` is standard input.
///
/// # Errors
/// If it cannot be read, is not UTF-8, or is too long.
pub fn open(sources: &mut Sources, path: &Path) -> Result<FileId, Problem> {
    if path.as_os_str() == "-" {
        let mut bytes = vec![];
        let limit = resolve::MAX_BYTES + 1;
        std::io::Read::read_to_end(&mut std::io::Read::take(std::io::stdin().lock(), limit), &mut bytes)
            .map_err(|error| Problem::new(Code::File, format!("cannot read standard input: {error}")))?;
        if bytes.len() as u64 > resolve::MAX_BYTES {
            let message = format!("standard input has more than {} bytes", resolve::MAX_BYTES);
            return Err(Problem::new(Code::File, message));
        }
        let text = resolve::decode(bytes)
            .map_err(|problem| Problem { message: format!("standard input {}", problem.message), ..problem })?;
        return Ok(sources.add("<stdin>", text, Some(Path::new("."))));
    }
    let text = resolve::read(sources, path, plain_or_stream).map_err(|problem| problem.hints(meant(path)))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(sources.add(path.display().to_string(), text, Some(dir)))
}

/// The spec `file` with another network as its base, and with another file of that network's weights. True where lines about
/// weights were left out, and no file given in their place.
///
/// # Errors
/// A path that no spec can have.
pub fn rebase(
    sources: &mut Sources,
    file: FileId,
    base: Option<&str>,
    weights: Option<&Path>,
) -> Result<(FileId, bool), Problem> {
    // a path that is given stands for itself, those of a spec start where it lies
    let weights = weights.map(|path| std::path::absolute(path).unwrap_or(path.to_path_buf()));
    let weights = weights.as_deref().map(nameable).transpose()?;
    let source = sources.file(file);
    let rebased = syntax::rebase(&source.text, base, weights);
    let (name, dir) = (source.name.clone(), source.dir.clone());
    Ok((sources.add(name, rebased.text, dir.as_deref()), rebased.lacks_weights))
}

/// The path as a spec can have it.
///
/// # Errors
/// Where it cannot: the language's texts are Unicode, and end with their lines.
pub fn nameable(path: &Path) -> Result<&str, Problem> {
    let refused = |why: &str| {
        let message = format!("a spec cannot name `{}`: {why}", path.display());
        Problem::new(Code::File, message).hint("give the file another name, or a link of another name beside it")
    };
    let name = path.to_str().ok_or_else(|| refused("its name is not Unicode"))?;
    syntax::quoted(name).map(|_| name).ok_or_else(|| refused("its name has several lines"))
}

/// What a path that cannot be read was likely to name beside a file: a network of the zoo.
fn meant(path: &Path) -> Option<String> {
    if path.exists() {
        return None;
    }
    let name = path.to_str()?;
    let is_network = zoo::file_of(name).is_some();
    is_network.then(|| {
        format!("a network of the zoo is the base of a spec, such as this one: `echo 'base {name}' | archc show -`")
    })
}

/// Compiles the spec `file`. `set` holds the values of `--set` options.
///
/// # Errors
/// Every independent mistake of the spec.
pub fn compile(sources: &mut Sources, file: FileId, set: &[(String, String)]) -> Result<Outcome, Diagnostics> {
    on_deep_stack(|| stages(sources, file, set, Files::Later, Watched::Preserving))
}

/// A network of the zoo as it is.
///
/// # Errors
/// Where a thread cannot be started.
///
/// # Panics
/// If the zoo has no such network, or it does not compile: a mistake of archc, which its tests find.
pub fn of_zoo(name: &str) -> Result<Compiled, Diagnostics> {
    let mut sources = Sources::new();
    let file = sources.add("<zoo>", format!("base {name}\n"), None);
    match compile(&mut sources, file, &[]) {
        Ok(Outcome::Spec(compiled)) => Ok(*compiled),
        Ok(Outcome::Library) => unreachable!("the text has a base"),
        Err(problems) if problems.iter().any(|one| one.problem.code == Code::Resource) => Err(problems),
        Err(problems) => panic!("the zoo's {name} does not compile:\n{}", render(&problems, &sources, false)),
    }
}

/// [`compile`], with the networks before and after every edit.
///
/// # Errors
/// Every independent mistake of the spec.
pub fn watch(sources: &mut Sources, file: FileId, set: &[(String, String)]) -> Result<Outcome, Diagnostics> {
    on_deep_stack(|| stages(sources, file, set, Files::Later, Watched::All))
}

/// [`compile`], with what the files that the spec names say of its network.
///
/// # Errors
/// Every independent mistake of the spec, and of those files.
pub fn check(
    sources: &mut Sources,
    file: FileId,
    set: &[(String, String)],
    files: Files,
) -> Result<Outcome, Diagnostics> {
    on_deep_stack(|| stages(sources, file, set, files, Watched::Preserving))
}

/// Which files that a spec names are looked into while it is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Files {
    /// None but sources: the others when they are used.
    Later,
    /// The headers of files of weights.
    Weights,
    /// The data of the `train` block too.
    All,
}

/// The places that a selector names in `graph`, which was compiled from the spec `file` with the same `set`. The spec's
/// names may stand in conditions.
///
/// # Errors
/// If it names none, or cannot be meant.
pub fn select(
    sources: &mut Sources,
    file: FileId,
    set: &[(String, String)],
    graph: &Graph,
    selector: &str,
) -> Result<Vec<edit::Target>, Diagnostics> {
    on_deep_stack(|| {
        let text = sources.add("<selector>", selector, None);
        let selector = syntax::parse_selector(text, selector)?;
        let (program, problems) = resolve::load(sources, file, &hosted);
        if problems.has_errors() {
            return Err(problems);
        }
        let (globals, problems) = build::globals(&program, set);
        if problems.has_errors() {
            return Err(problems);
        }
        edit::select_places(&program, &globals, graph, &selector)
    })
}

/// Which network a repository of the hub is of.
fn hosted(repo: &str) -> Result<Hosted, Problem> {
    let said = Hub::from_env()?.architecture(repo)?;
    Ok(Hosted { architecture: said.name, classes: said.classes, input: said.input })
}

fn on_deep_stack<T: Send>(stages: impl FnOnce() -> Result<T, Diagnostics> + Send) -> Result<T, Diagnostics> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, stages);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => {
                let message = format!("cannot start a thread with a stack of {} MB: {}", STACK >> 20, reason(&error));
                let problem = Problem::new(Code::Resource, message)
                    .hint("a larger limit of address space or of threads: `ulimit -v`, `ulimit -u`");
                Err(problem.anywhere().into())
            }
        }
    })
}

fn stages(
    sources: &mut Sources,
    file: FileId,
    set: &[(String, String)],
    files: Files,
    watched: Watched,
) -> Result<Outcome, Diagnostics> {
    let (program, mut problems) = resolve::load(sources, file, &hosted);
    if problems.has_errors() {
        return Err(problems);
    }
    let (globals, found) = build::globals(&program, set);
    problems.extend(found);
    let Some(base) = program.base() else {
        crate::train::check(&program, &globals, None, &mut problems);
        return if problems.has_errors() { Err(problems) } else { Ok(Outcome::Library) };
    };

    let mut graph = Graph::new();
    let mut unknown = Diagnostics::new();
    let info = graph.patch(|patch| {
        let mut builder = Builder::new(&program, patch, &globals);
        let info = build::build_base(&mut builder, base);
        problems.extend(std::mem::take(&mut builder.problems));
        unknown.extend(std::mem::take(&mut builder.unknown));
        let info = info?;
        if !builder.patch.outputs().is_empty() {
            patch.sweep();
            patch.mark_base();
            let mut builder = Builder::new(&program, patch, &globals);
            edit::name_roles(&mut builder, &info.roles)?;
        }
        Ok(info)
    });
    let info = problems.take(info);
    if problems.has_errors() {
        return Err(problems);
    }
    let info = info.expect("a base without errors");
    if !unknown.is_empty() {
        return Err(why_unknown(graph, unknown));
    }
    let base_typed = match typed::check(graph, &[]) {
        Ok(typed) => typed,
        Err(found) => {
            problems.extend(found);
            return Err(problems);
        }
    };

    let (settings, found) = Settings::new(sources, &program, base, &info, &base_typed);
    problems.extend(found);
    let Edited { reports, moved, typed } = match program.edits().next().is_some() || !info.recast.is_empty() {
        true => edited(&program, &globals, &base_typed, &info.recast, watched, &mut problems),
        false => Edited { reports: vec![], moved: vec![], typed: Some(base_typed.clone()) },
    };
    if globals.budget.is_spent() {
        return Err(problems);
    }
    let mut found = Diagnostics::new();
    let train = crate::train::check(&program, &globals, typed.as_ref(), &mut found);
    let train = train.filter(|_| !found.has_errors());
    problems.extend(found);
    if let Some(typed) = &typed {
        if let Some(problem) = typed::small_maps(typed) {
            problems.push(problem.at(settings.base_span).warning());
        }
        if !matches!(settings.weights, WeightsSource::Random { .. }) {
            problems.extend(typed::idle_inits(typed));
        }
        problems.take(settings.check_labels(&base_typed, typed));
        if files >= Files::Weights {
            let bound = bind_headers(&settings, &base_typed, typed);
            problems.extend(bound.map_or_else(|found| found, |bound| bound.warnings()));
        }
        if let (Files::All, Some(spec)) = (files, &train) {
            problems.extend(frozen_at_random(typed, &settings, spec));
            if let Err(found) = setup(spec, typed, &settings, &Given::default()) {
                problems.extend(found);
            }
        }
    }
    match typed {
        Some(typed) if !problems.has_errors() => Ok(Outcome::Spec(Box::new(Compiled {
            base: base_typed,
            typed,
            reports,
            settings,
            train,
            moved,
            warnings: problems,
        }))),
        _ => Err(problems),
    }
}

/// What the edits did, and the network that they make, where it fits.
struct Edited {
    reports: Vec<Report>,
    moved: Vec<Moved>,
    typed: Option<Typed>,
}

/// Applies the edits to the base whose inputs `recast` changes.
fn edited<'a>(
    program: &'a resolve::Program,
    globals: &build::Globals<'a>,
    base: &Typed,
    recast: &[(String, Vec<i64>)],
    watched: Watched,
    problems: &mut Diagnostics,
) -> Edited {
    let mut graph = base.graph().clone();
    let mut owed = edit::Totals::default();
    if !recast.is_empty() {
        recast_inputs(&mut graph, recast);
        owed = edit::Totals::of(&graph) - edit::Totals::of(base.graph());
    }
    let Applied { reports, problems: found, unknown, moves } = edit::apply(program, globals, &mut graph, owed, watched);
    problems.extend(found);
    if globals.budget.is_spent() {
        return Edited { reports, moved: vec![], typed: None };
    }
    if let (Some(unknown), false) = (unknown, problems.has_errors()) {
        problems.extend(why_unknown(unknown.graph, unknown.asked));
    }
    let edits_fit = !problems.has_errors();
    match typed::check(graph, &replaced(&reports)) {
        Ok(typed) => {
            let moved = if edits_fit { typed_moves(moves) } else { vec![] };
            for one in &moved {
                problems.take(one.check_shapes());
            }
            Edited { reports, moved, typed: Some(typed) }
        }
        Err(found) => {
            // after an edit that failed, shapes may be wrong only because it is missing
            if edits_fit || reports.len() == program.edits().count() {
                problems.extend(found);
            }
            Edited { reports, moved: vec![], typed: None }
        }
    }
}

/// The networks around edits, checked as they were then.
fn typed_moves(moves: Vec<edit::Move>) -> Vec<Moved> {
    let check = |graph: &Arc<Graph>| typed::check(Graph::clone(graph), &[]).ok();
    let mut moved: Vec<Moved> = vec![];
    let mut last: Option<Arc<Graph>> = None;
    for edit::Move { report, before, after, preserving, hint } in moves {
        let before = match moved.last().filter(|_| last.is_some_and(|last| Arc::ptr_eq(&last, &before))) {
            // what the edit before left behind
            Some(last) => last.after.clone(),
            None => check(&before),
        };
        moved.push(Moved { report, before, after: check(&after), preserving, hint });
        last = Some(after);
    }
    moved
}

/// What does not fit before the places that ask for a shape; those places themselves where everything fits.
fn why_unknown(graph: Graph, asked: Diagnostics) -> Diagnostics {
    let place = asked.iter().next().and_then(|first| first.span);
    match typed::check(graph, &[]) {
        Ok(_) => asked,
        Err(found) => {
            let mut causes = Diagnostics::new();
            for cause in found.iter() {
                let mut cause = cause.clone();
                cause.problem.related.extend(place.map(|place| (place, "asks for a shape that depends on it".into())));
                causes.push(Box::new(cause));
            }
            causes
        }
    }
}

/// Gives inputs the channels that the spec asks for. The layers' tensors are those of the declared ones by now, so that
/// an edit must make up for it.
fn recast_inputs(graph: &mut Graph, inputs: &[(String, Vec<i64>)]) {
    let Ok(()) = graph.patch(|patch| {
        for (name, shape) in inputs {
            if let Some(id) = patch.inputs().get(name).copied() {
                patch.set_op(id, Input { shape: shape.clone() }.into());
            }
        }
        patch.infer();
        Ok::<(), std::convert::Infallible>(())
    });
}

/// The `replace` statements of one place.
fn replaced(reports: &[Report]) -> Vec<typed::Replaced> {
    let of = |report: &Report| Some(typed::Replaced { span: report.span, place: report.replaced.clone()? });
    reports.iter().filter_map(of).collect()
}

/// The spec of a program, for messages about it as a whole.
pub fn not_a_spec(sources: &Sources, file: FileId) -> Problem {
    let name = &sources.file(file).name;
    Problem::new(Code::Base, format!("{name} has no base: it is a library of definitions"))
        .hint("begin with `base resnet50`, or another network of `archc zoo`")
}
