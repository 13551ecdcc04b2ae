//! Selectors: which places of the graph a text names. Resolved before a statement changes anything.

use std::cell::OnceCell;

use rustc_hash::FxHashSet;

use super::is_input;
use super::roles::{self, Meant};
use crate::build::{BindingKind, Builder, Env, Value};
use crate::diag::{At, Code, Problem, Result, SHOWN, count, list, suggest};
use crate::graph::{Graph, NodeId, Spot, path};
use crate::ops;
use crate::resolve::Program;
use crate::syntax::tree::{
    Expr, ExprKind, Index, Name, Place, Segment, Select, SelectKind, Selector, Spanned, StepKind,
};

/// A place: what a verb works on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Layer(NodeId),
    Scope(String),
    /// Every layer on a way from one place to another, in running order, and the paths of both as they are written.
    Range {
        nodes: Vec<NodeId>,
        first: String,
        last: String,
    },
}

/// Whether a verb works on places as they are named, or on the layers in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    Places,
    Layers,
}

impl Target {
    /// The path that stands for it: its own; a range's is that of its last place, a layer or a scope.
    pub fn path(&self, graph: &Graph) -> String {
        match self {
            Target::Layer(id) => graph.node(*id).path.clone(),
            Target::Scope(path) | Target::Range { last: path, .. } => path.clone(),
        }
    }

    /// As messages print it.
    pub fn display(&self, graph: &Graph) -> String {
        match self {
            Target::Range { first, last, .. } => format!("{}..={}", path::display(first), path::display(last)),
            _ => path::display(&self.path(graph)),
        }
    }

    /// Its layers, in running order.
    pub fn nodes(&self, graph: &Graph) -> Vec<NodeId> {
        match self {
            Target::Layer(id) => vec![*id],
            Target::Range { nodes, .. } => nodes.clone(),
            Target::Scope(scope) => graph.order_of(&graph.layers(scope).collect::<Vec<_>>()),
        }
    }
}

/// Every place that a selector names, each once, in running order.
pub fn select<'a>(builder: &mut Builder<'a, '_>, selector: &'a Selector, grain: Grain) -> Result<Vec<Target>> {
    let mut named: indexmap::IndexSet<Target> = indexmap::IndexSet::new();
    for one in &selector.include {
        named.extend(select_one(builder, one)?);
    }
    let mut places: Vec<Target> = named.into_iter().collect();
    if grain == Grain::Layers || !selector.except.is_empty() {
        places = subtract(builder, places, selector, grain)?;
        if places.is_empty() {
            return Err(Problem::new(Code::NoMatch, "nothing is left after `except`").at(selector.span));
        }
    }
    sort(builder.patch, &mut places);
    if let Some(expect) = &selector.expect
        && expect.value != places.len() as i64
    {
        let message = format!("expected {}, got {}", count(expect.value.max(0) as usize, "place"), places.len());
        let matched = places.iter().map(|place| place.display(builder.patch)).collect();
        return Err(Problem::new(Code::ExpectCount, message).row("matched", matched).at(expect.span));
    }
    Ok(places)
}

/// The labels of a place without patterns.
pub fn labels(place: &Place) -> Option<Vec<String>> {
    let label = |segment: &Spanned<Segment>| match &segment.value {
        Segment::Glob(glob) if !glob.contains('*') => Some(glob.clone()),
        Segment::Indices(indices) => match indices.as_slice() {
            [Index::At(at @ 0..)] => Some(at.to_string()),
            _ => None,
        },
        Segment::Glob(_) | Segment::Role(_) | Segment::Tap(_) => None,
    };
    place.segments.iter().map(label).collect()
}

/// Sorts places by their first layers in running order.
fn sort(graph: &Graph, places: &mut [Target]) {
    if places.len() < 2 {
        return;
    }
    let mut order = vec![usize::MAX; graph.bound()];
    graph.order().into_iter().enumerate().for_each(|(at, id)| order[id.index()] = at);
    places.sort_by_cached_key(|place| match place {
        Target::Layer(id) => Some(order[id.index()]),
        Target::Scope(scope) => graph.layers(scope).map(|id| order[id.index()]).min(),
        Target::Range { nodes, .. } => nodes.iter().map(|id| order[id.index()]).min(),
    });
}

/// Takes what `except` names, and what lies inside it, out of the places.
fn subtract<'a>(
    builder: &mut Builder<'a, '_>,
    places: Vec<Target>,
    selector: &'a Selector,
    grain: Grain,
) -> Result<Vec<Target>> {
    let mut out = vec![];
    for one in &selector.except {
        out.extend(select_one(builder, one)?);
    }
    let without: FxHashSet<NodeId> = out.iter().flat_map(|place| place.nodes(builder.patch)).collect();
    let mut left: Vec<Target> = vec![];
    let mut seen: FxHashSet<NodeId> = FxHashSet::default();
    let mut hit = false;
    for place in places {
        let nodes = place.nodes(builder.patch);
        let kept: Vec<NodeId> = nodes.iter().copied().filter(|id| !without.contains(id)).collect();
        hit |= kept.len() < nodes.len();
        if grain == Grain::Layers {
            left.extend(kept.into_iter().filter(|id| seen.insert(*id)).map(Target::Layer));
        } else if kept.len() == nodes.len() {
            left.push(place);
        } else if !kept.is_empty() {
            let shown = place.display(builder.patch);
            let message = format!("`except` takes a part of `{shown}` away, not the whole of it");
            let problem = Problem::new(Code::Overlap, message);
            return Err(problem.hint(format!("name its layers: `{shown}.**`")).at(selector.span));
        }
    }
    if let (Some(first), false) = (selector.except.first(), hit) {
        let problem = Problem::new(Code::NoMatch, "`except` takes nothing away: it names none of the places before it");
        return Err(problem.at(first.span));
    }
    Ok(left)
}

pub(super) fn select_one<'a>(builder: &mut Builder<'a, '_>, one: &'a Select) -> Result<Vec<Target>> {
    let mut places = match &one.kind {
        SelectKind::All => layers(builder.patch).into_iter().map(Target::Layer).collect(),
        SelectKind::Place(place) => matches(builder, place)?,
        SelectKind::Range(first, last) => vec![range(builder, first, last)?],
    };
    if let Some(of) = &one.of {
        places = filter_kind(builder.patch, places, one, of)?;
    }
    if let Some(filter) = &one.filter {
        places = filter_where(builder, places, filter)?;
    }
    Ok(places)
}

/// Every layer; the inputs are none.
fn layers(graph: &Graph) -> Vec<NodeId> {
    graph.order().into_iter().filter(|id| !is_input(graph, *id)).collect()
}

/// The one place that a verb works on.
pub fn single(builder: &Builder<'_, '_>, place: &Place) -> Result<Target> {
    let graph: &Graph = builder.patch;
    let mut found = matches(builder, place)?;
    if found.len() > 1 {
        let shown: Vec<String> = found.iter().take(6).map(|place| place.display(graph)).collect();
        let problem = Problem::new(Code::ExpectCount, format!("one place is needed, got {}", found.len()));
        return Err(problem.note(format!("matched: {}", shown.join(", "))).at(place.span));
    }
    Ok(found.remove(0))
}

/// What a place matches, never nothing.
fn matches(builder: &Builder<'_, '_>, place: &Place) -> Result<Vec<Target>> {
    match place.segments.as_slice() {
        [Spanned { value: Segment::Tap(stride), span }] => Ok(vec![Target::Layer(builder.tap(*stride).at(*span)?)]),
        [Spanned { value: Segment::Tap(stride), span }, ..] => {
            let layer = path::display(&builder.patch.node(builder.tap(*stride).at(*span)?).path);
            let message = format!("`tap({stride})` is the layer `{layer}`, which holds no others");
            Err(Problem::new(Code::NoMatch, message).hint(format!("`tap({stride})` alone")).at(place.span))
        }
        [Spanned { value: Segment::Role(_), .. }, ..] => {
            let mut found = vec![];
            for one in roles::meant(builder.patch, place)? {
                match one {
                    Meant::Range(first, last) => found.push(range(builder, &first, &last)?),
                    Meant::Path(path) => found.extend(path_matches(builder, &path)?),
                }
            }
            Ok(found)
        }
        _ => path_matches(builder, place),
    }
}

/// What a path matches, never nothing. One that ends in `**` means layers only.
fn path_matches(builder: &Builder<'_, '_>, place: &Place) -> Result<Vec<Target>> {
    let graph: &Graph = builder.patch;
    let ends_open = matches!(place.segments.last().map(|last| &last.value), Some(Segment::Glob(glob)) if glob == "**");
    let found = matching(graph, &place.segments, if ends_open { Grain::Layers } else { Grain::Places });
    match found.is_empty() {
        false => Ok(found),
        // to look for what may be meant takes as long as there are layers, and so many mistakes are not shown
        true if builder.mistakes >= SHOWN => Err(Problem::new(Code::NoMatch, "there is no such place").at(place.span)),
        true => Err(no_match(graph, place)),
    }
}

fn matching(graph: &Graph, segments: &[Spanned<Segment>], grain: Grain) -> Vec<Target> {
    let (mut layers, mut scopes) = (vec![], vec![]);
    walk(graph, segments, |spot, reached| {
        if reached < segments.len() {
            return;
        }
        if let Some(id) = graph.layer_at(spot).filter(|id| !is_input(graph, *id)) {
            layers.push(Target::Layer(id));
        }
        if grain == Grain::Places && graph.scope_at(spot).is_some() {
            scopes.push(Target::Scope(graph.path_at(spot)));
        }
    });
    sort(graph, &mut layers);
    layers.append(&mut scopes);
    layers
}

/// Calls `found` for every path of the network of which some first segments fit the whole, with the most that do.
///
/// Goes down the labels with the set of segments that those so far can stand for, and only where there are some: many
/// `**` cost no more than the depth of a path, and a path without globs is gone down straight.
fn walk(graph: &Graph, segments: &[Spanned<Segment>], mut found: impl FnMut(Spot, usize)) {
    let pattern = Pattern::new(segments);
    let mut stack: Vec<(Spot, Vec<usize>)> = vec![(graph.root(), pattern.begin())];
    while let Some((holder, states)) = stack.pop() {
        let highest = OnceCell::new();
        let highest = || *highest.get_or_init(|| highest_number(graph, holder));
        let next: Vec<(&str, Spot)> = match states.as_slice() {
            [only] => match pattern.steps.get(*only) {
                Some(Segment::Glob(glob)) if !glob.contains('*') => {
                    graph.child(holder, glob).map(|child| (glob.as_str(), child)).into_iter().collect()
                }
                Some(Segment::Indices(indices)) if matches!(indices.as_slice(), [Index::At(0..)]) => {
                    let [Index::At(number)] = indices.as_slice() else { unreachable!("it was looked at") };
                    graph.numbered(holder, *number)
                }
                _ => graph.children(holder).collect(),
            },
            _ => graph.children(holder).collect(),
        };
        for (label, child) in next {
            let states = pattern.step(&states, label, highest);
            if let Some(last) = states.last() {
                // a state says how many steps are behind
                if let Some(reached) = last.checked_sub(1) {
                    found(child, pattern.ends[reached]);
                }
                stack.push((child, states));
            }
        }
    }
}

/// Segments to be matched with one label after another.
struct Pattern<'a> {
    /// The segments, several `**` in a row as one.
    steps: Vec<&'a Segment>,
    /// How many segments are behind each step.
    ends: Vec<usize>,
}

impl<'a> Pattern<'a> {
    fn new(segments: &'a [Spanned<Segment>]) -> Pattern<'a> {
        let mut pattern = Pattern { steps: vec![], ends: vec![] };
        for (segment, end) in segments.iter().zip(1..) {
            let again = is_any_depth(&segment.value) && pattern.steps.last().is_some_and(|last| is_any_depth(last));
            if again {
                pattern.ends.pop();
            } else {
                pattern.steps.push(&segment.value);
            }
            pattern.ends.push(end);
        }
        pattern
    }

    /// How many steps may be behind before any label.
    fn begin(&self) -> Vec<usize> {
        let mut states = vec![];
        self.enter(&mut states, 0);
        states
    }

    /// How many may be after one more label.
    fn step(&self, states: &[usize], label: &str, highest: impl Fn() -> i64) -> Vec<usize> {
        let mut next = vec![];
        for at in states {
            let Some(segment) = self.steps.get(*at) else { continue };
            let fits = match segment {
                _ if is_any_depth(segment) => {
                    self.enter(&mut next, *at);
                    continue;
                }
                Segment::Glob(glob) => glob_fits(glob.as_bytes(), label.as_bytes()),
                Segment::Indices(indices) if path::is_number(label) => {
                    label.parse().is_ok_and(|number| indices.iter().any(|index| index_fits(index, number, &highest)))
                }
                Segment::Indices(_) | Segment::Role(_) | Segment::Tap(_) => false,
            };
            if fits {
                self.enter(&mut next, at + 1);
            }
        }
        next
    }

    /// `**` stands for no label too. States come in rising order.
    fn enter(&self, states: &mut Vec<usize>, at: usize) {
        for state in [Some(at), self.steps.get(at).is_some_and(|step| is_any_depth(step)).then_some(at + 1)] {
            if let Some(state) = state.filter(|state| states.last().is_none_or(|last| last < state)) {
                states.push(state);
            }
        }
    }
}

/// The highest number among the entries of a scope, 0 where there is none.
fn highest_number(graph: &Graph, scope: Spot) -> i64 {
    let numbers = graph.children(scope).filter(|(label, _)| path::is_number(label));
    numbers.filter_map(|(label, _)| label.parse().ok()).max().unwrap_or(0)
}

fn is_any_depth(segment: &Segment) -> bool {
    matches!(segment, Segment::Glob(glob) if glob == "**")
}

pub(super) fn index_fits(index: &Index, number: i64, highest: &impl Fn() -> i64) -> bool {
    let from_end = |index: i64| if index < 0 { index.saturating_add(highest() + 1) } else { index };
    match *index {
        Index::All => true,
        Index::At(at) => from_end(at) == number,
        Index::Range { from, to, inclusive } => {
            let from = from.map_or(0, from_end);
            let to = to.map_or_else(|| highest() + 1, |to| from_end(to).saturating_add(i64::from(inclusive)));
            (from..to).contains(&number)
        }
    }
}

/// `*` stands for any text. At most the product of the lengths in steps.
fn glob_fits(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut text_at, mut star) = (0, 0, None);
    while text_at < text.len() {
        if glob.get(at) == Some(&b'*') {
            star = Some((at, text_at));
            at += 1;
        } else if glob.get(at) == Some(&text[text_at]) {
            at += 1;
            text_at += 1;
        } else if let Some((star_at, eaten)) = star {
            star = Some((star_at, eaten + 1));
            at = star_at + 1;
            text_at = eaten + 1;
        } else {
            return false;
        }
    }
    glob[at..].iter().all(|byte| *byte == b'*')
}

/// Says how far the path leads, and what is nearest there.
fn no_match(graph: &Graph, place: &Place) -> Box<crate::diag::Diagnostic> {
    if let Some(input) = labels(place).map(|labels| labels.join(".")).filter(|name| graph.inputs().contains_key(name)) {
        let problem = Problem::new(Code::NoMatch, format!("`{input}` is an input, which is no layer"));
        return problem
            .hint(format!("it is a value: `concat(in, {input})`; `prepend` puts layers behind it"))
            .at(place.span);
    }
    if let Some(problem) = names_a_tensor(graph, place) {
        return problem;
    }
    let (len, holder) = furthest(graph, &place.segments);
    let rest = &place.segments[len..];
    let missing = rest.iter().find(|segment| !is_any_depth(&segment.value)).unwrap_or(&rest[0]);
    let shown = path::display(&holder);
    let labels = children(graph, &holder);
    let Segment::Glob(text) = &missing.value else {
        let numbers: Vec<i64> = labels.iter().filter_map(|label| label.parse().ok()).collect();
        let problem = Problem::new(Code::NoMatch, format!("`{shown}` has no such entry"));
        return match (numbers.iter().min(), numbers.iter().max()) {
            (Some(min), Some(max)) => problem.hint(format!("its entries are {min} to {max}")).at(missing.span),
            _ => problem.hint(format!("`{shown}` has no numbered entries")).at(missing.span),
        };
    };
    let is_pattern = place.segments[..len].iter().any(|segment| match &segment.value {
        Segment::Glob(glob) => glob.contains('*'),
        Segment::Indices(indices) => !matches!(indices.as_slice(), [Index::At(_)]),
        Segment::Role(_) | Segment::Tap(_) => false,
    });
    let holders = if is_pattern { matching(graph, &place.segments[..len], Grain::Places) } else { vec![] };
    if holders.len() > 1 {
        // all of them are to blame, not the first
        let scopes: FxHashSet<String> = holders.iter().map(|holder| holder.path(graph)).collect();
        let mut inside: indexmap::IndexSet<&str> = indexmap::IndexSet::new();
        for id in layers(graph) {
            let path = &graph.node(id).path;
            let held = path.match_indices('.').filter(|(at, _)| scopes.contains(&path[..*at]));
            inside.extend(held.map(|(at, _)| path::first_inside(path, &path[..at])));
        }
        let is_open = len == 1 && matches!(&place.segments[0].value, Segment::Glob(glob) if glob == "**");
        let message = match is_open {
            true => format!("nothing in the network is called `{text}`"),
            false => format!("none of the {} places before it has a `{text}`", holders.len()),
        };
        let problem = Problem::new(Code::NoMatch, message);
        let near = suggest(text, meant(text, inside.iter().copied()));
        // all names of the network say nothing of this place
        let known = || if is_open { None } else { names(&inside.into_iter().collect::<Vec<_>>()) };
        return problem.hints(near.or_else(known)).at(missing.span);
    }
    let owner = if holder.is_empty() { "the network".to_string() } else { format!("`{shown}`") };
    let problem = Problem::new(Code::NoMatch, format!("{owner} has no `{text}`"));
    if let Some(hint) = suggest(text, meant(text, labels.iter().map(String::as_str))) {
        return problem.hint(hint).at(place.span);
    }
    // the same label elsewhere is the likeliest meaning
    let elsewhere: Vec<String> = layers(graph)
        .into_iter()
        .map(|id| graph.node(id).path.clone())
        .filter(|other| other.split('.').any(|label| label == text))
        .take(3)
        .map(|other| path::display(&other))
        .collect();
    if !elsewhere.is_empty() {
        return problem.hint(format!("there is {}", list(&elsewhere))).at(place.span);
    }
    if labels.is_empty() {
        return problem.hint(format!("{owner} is a layer")).at(place.span);
    }
    problem.hints(names(&labels)).at(place.span)
}

/// The labels that a name may mean: a number is none of the names that are misspelt.
fn meant<'a>(text: &str, labels: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let is_number = path::is_number(text);
    labels.filter(move |label| is_number || !path::is_number(label))
}

/// The first of the labels that there are.
fn names<T: AsRef<str>>(labels: &[T]) -> Option<String> {
    let known = labels.iter().take(12).map(|label| format!("`{}`", label.as_ref())).collect::<Vec<_>>().join(", ");
    let more = if labels.len() > 12 { " .." } else { "" };
    (!labels.is_empty()).then(|| format!("there is {known}{more}"))
}

/// The most segments, not all, that fit some place, and the first place that they fit; none, and the network, where not
/// even the first fits.
fn furthest(graph: &Graph, segments: &[Spanned<Segment>]) -> (usize, String) {
    // `**` fits everywhere, which says nothing of how far the path leads
    let named = segments.iter().rposition(|segment| !is_any_depth(&segment.value)).unwrap_or(0);
    let mut best = 0;
    let (mut layers, mut scopes) = (vec![], vec![]);
    walk(graph, &segments[..named], |spot, reached| {
        let layer = graph.layer_at(spot).filter(|id| !is_input(graph, *id));
        if reached < best || (layer.is_none() && graph.scope_at(spot).is_none()) {
            return;
        }
        if reached > best {
            (best, layers, scopes) = (reached, vec![], vec![]);
        }
        match layer {
            Some(id) => layers.push(Target::Layer(id)),
            None => scopes.push(Target::Scope(graph.path_at(spot))),
        }
    });
    sort(graph, &mut layers);
    let first = layers.first().or_else(|| scopes.first()).map(|place| place.path(graph));
    (best, first.unwrap_or_default())
}

/// A path whose last label is a tensor of layers: places are layers and scopes.
fn names_a_tensor(graph: &Graph, place: &Place) -> Option<Box<crate::diag::Diagnostic>> {
    let (last, before) = place.segments.split_last()?;
    let Segment::Glob(name) = &last.value else { return None };
    let is_owner = |id: &NodeId| {
        let params = graph.params(*id).unwrap_or_default();
        params.iter().any(|param| param.name == name || param.name.ends_with(&format!(".{name}")))
    };
    let holders = if before.is_empty() { vec![] } else { matching(graph, before, Grain::Places) };
    let owners: Vec<NodeId> = holders
        .into_iter()
        .filter_map(|holder| if let Target::Layer(id) = holder { Some(id) } else { None })
        .filter(is_owner)
        .collect();
    let first = graph.node(*owners.first()?);
    let shown = path::display(&first.path);
    let message = format!("`{name}` is a tensor of `{shown}`, and places are layers and scopes");
    let is_open = matches!(before, [Spanned { value: Segment::Glob(glob), .. }] if glob == "**");
    let is_one_op = owners.iter().all(|id| graph.node(*id).op.name() == first.op.name());
    let hint = match owners.len() {
        2.. if is_open && is_one_op => format!("name the layers that hold it: `**:{}`", first.op.name()),
        2.. => format!("name the layers that hold it: `{shown}` and {} more", owners.len() - 1),
        _ => format!("name the layer that holds it: `{shown}`"),
    };
    Some(Problem::new(Code::NoMatch, message).hint(hint).at(place.span))
}

/// The labels directly inside a scope, in running order.
fn children(graph: &Graph, scope: &str) -> Vec<String> {
    let mut inside: Vec<Target> = graph.layers(scope).filter(|id| !is_input(graph, *id)).map(Target::Layer).collect();
    sort(graph, &mut inside);
    let labels = inside.iter().map(|layer| path::first_inside(&layer.path(graph), scope).to_string());
    labels.collect::<indexmap::IndexSet<String>>().into_iter().collect()
}

/// `first..=last`: every layer on a way between them.
fn range(builder: &Builder<'_, '_>, first: &Place, last: &Place) -> Result<Target> {
    let graph: &Graph = builder.patch;
    let (from, to) = (single(builder, first)?, single(builder, last)?);
    let (from_nodes, to_nodes) = (from.nodes(graph), to.nodes(graph));
    let forward = reach(graph, &from_nodes, uses);
    let backward = reach(graph, &to_nodes, Graph::operands);
    let between = |id: &NodeId| forward.contains(id) && backward.contains(id);
    let ends: FxHashSet<NodeId> = from_nodes.iter().chain(&to_nodes).copied().collect();
    if !forward.iter().any(between) {
        let message = format!("there is no way from `{}` to `{}`", from.display(graph), to.display(graph));
        let problem = Problem::new(Code::NoMatch, message);
        let onward = reach(graph, &to_nodes, uses);
        let turned = from_nodes.iter().any(|id| onward.contains(id));
        let hint = format!("the other way around: `{}..={}`", to.display(graph), from.display(graph));
        let problem = if turned { problem.hint(hint) } else { problem };
        return Err(problem.at(first.span.to(last.span)));
    }
    let nodes: Vec<NodeId> = graph.order().into_iter().filter(|id| between(id) || ends.contains(id)).collect();
    let first = if let Target::Range { first, .. } = &from { first.clone() } else { from.path(graph) };
    Ok(Target::Range { nodes, first, last: to.path(graph) })
}

/// The layers that take a node's value.
fn uses(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    graph.readers(id).map(|(node, _)| node).collect()
}

/// Everything that can be reached from the nodes by `next`, themselves included.
fn reach(graph: &Graph, from: &[NodeId], next: impl Fn(&Graph, NodeId) -> Vec<NodeId>) -> FxHashSet<NodeId> {
    let mut seen: FxHashSet<NodeId> = from.iter().copied().collect();
    let mut stack = from.to_vec();
    while let Some(id) = stack.pop() {
        stack.extend(next(graph, id).into_iter().filter(|id| seen.insert(*id)));
    }
    seen
}

/// `:conv2d` keeps layers of that op, `:bottleneck` scopes made by that block.
fn filter_kind(graph: &Graph, places: Vec<Target>, one: &Select, of: &Name) -> Result<Vec<Target>> {
    let is_op = ops::find(&of.value).is_some();
    let blocks = || graph.within(graph.root()).filter_map(|spot| graph.scope_at(spot)?.block.as_deref());
    // no block is called as an op
    let is_block = !is_op && blocks().any(|block| block == of.value);
    let is_of = |place: &Target| match place {
        Target::Layer(id) => graph.node(*id).op.name() == of.value,
        Target::Scope(scope) => graph.scope(scope).is_some_and(|scope| scope.block.as_ref() == Some(&of.value)),
        Target::Range { .. } => false,
    };
    // `**:bottleneck` means scopes, which `**` alone leaves out
    let candidates = match &one.kind {
        SelectKind::Place(place) if is_block => {
            let paths = roles::meant(graph, place)?.into_iter().filter_map(|one| match one {
                Meant::Path(path) => Some(path),
                Meant::Range(..) => None,
            });
            paths.flat_map(|path| matching(graph, &path.segments, Grain::Places)).collect()
        }
        SelectKind::All if is_block => {
            graph.scopes("").map(|(scope, _)| scope).filter(|scope| !scope.is_empty()).map(Target::Scope).collect()
        }
        SelectKind::Range(..) if is_op => {
            places.iter().flat_map(|place| place.nodes(graph)).map(Target::Layer).collect()
        }
        _ => places,
    };
    let found: Vec<Target> = candidates.into_iter().filter(is_of).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    if is_op || is_block {
        let what = if is_op { "layers" } else { "scopes" };
        let problem = Problem::new(Code::NoMatch, format!("none of the {what} here is a `{}`", of.value));
        return Err(problem.at(one.span));
    }
    let names = ops::MANUAL.iter().map(|entry| entry.name).chain(blocks());
    let problem = Problem::new(Code::UnknownName, format!("`{}` is no op, and no block of this network", of.value));
    Err(problem.hints(suggest(&of.value, names)).at(of.span))
}

/// `where` sees the arguments of a layer's op; a layer whose op lacks one of the names does not match.
fn filter_where<'a>(builder: &mut Builder<'a, '_>, places: Vec<Target>, filter: &'a Expr) -> Result<Vec<Target>> {
    let mut names = vec![];
    collect_names(filter, &mut names);
    let is_attr = |name: &str| ops::MANUAL.iter().any(|entry| entry.args.iter().any(|arg| arg.name == name));
    let mut found = vec![];
    let mut attrs_here: indexmap::IndexSet<&'static str> = indexmap::IndexSet::new();
    for place in places {
        let Target::Layer(id) = place else { continue };
        let mut env = Env::file(Program::SPEC);
        for (name, value) in builder.patch.node(id).op.attrs() {
            attrs_here.insert(name);
            env.bind(name, Value::from(value.simplified()), BindingKind::Let);
        }
        if names.iter().any(|(name, _)| is_attr(name) && env.lookup(name).is_none()) {
            continue;
        }
        match builder.eval(&mut env, filter)? {
            Value::Bool(true) => found.push(Target::Layer(id)),
            Value::Bool(false) | Value::Poison => {}
            other => {
                let message = format!("a condition is true or false, got {}", other.describe());
                return Err(Problem::new(Code::TypeMismatch, message).at(filter.span));
            }
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let compared_to: Vec<&str> = vec!["same", "none", "nearest", "bilinear", "bicubic", "tanh"];
    let unknown = names.iter().find(|(name, _)| {
        !attrs_here.contains(name)
            && !compared_to.contains(name)
            && builder.program.find(Program::SPEC, name).is_none()
            && ops::find(name).is_none()
    });
    if let Some((name, span)) = unknown {
        let problem = Problem::new(Code::UnknownArgument, format!("none of these layers has an argument `{name}`"));
        return Err(problem.hints(suggest(name, attrs_here.iter().copied())).at(*span));
    }
    Err(Problem::new(Code::NoMatch, "no layer fits this condition").at(filter.span))
}

/// The bare names of an expression.
fn collect_names<'a>(expr: &'a Expr, names: &mut Vec<(&'a str, crate::source::Span)>) {
    match &expr.kind {
        ExprKind::Name(name) => names.push((name, expr.span)),
        ExprKind::Unary(_, of) => collect_names(of, names),
        ExprKind::Binary(_, left, right) => [left, right].into_iter().for_each(|side| collect_names(side, names)),
        ExprKind::Index(of, index) => [of, index].into_iter().for_each(|side| collect_names(side, names)),
        ExprKind::List(list) => list.iter().for_each(|item| collect_names(item, names)),
        ExprKind::Paren(chain) => {
            for step in &chain.steps {
                if let StepKind::Expr(expr) = &step.kind {
                    collect_names(expr, names);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(segments: &[&str]) -> Vec<Spanned<Segment>> {
        let span = crate::source::Span::new(crate::source::FileId(0), 0, 0);
        let segment = |text: &&str| match text.parse() {
            Ok(index) => Segment::Indices(vec![Index::At(index), Index::At(-1)]),
            Err(_) => Segment::Glob((*text).to_string()),
        };
        segments.iter().map(|text| Spanned { value: segment(text), span }).collect()
    }

    /// How many of the first segments fit the whole of some labels, the most that do.
    fn prefix_that_fits(segments: &[&str], labels: &[&str], highest: i64) -> Option<usize> {
        let segments = pattern(segments);
        let pattern = Pattern::new(&segments);
        let states = labels.iter().fold(pattern.begin(), |states, label| pattern.step(&states, label, || highest));
        states.last().map(|last| pattern.ends[last - 1])
    }

    fn fits_whole(segments: &[&str], labels: &[&str], highest: i64) -> bool {
        prefix_that_fits(segments, labels, highest) == Some(segments.len())
    }

    /// By trying every way, as the meaning of a pattern is defined.
    fn fits_by_trying(segments: &[&str], labels: &[&str], at: usize, highest: i64) -> bool {
        let Some((first, rest)) = segments.split_first() else { return at == labels.len() };
        if *first == "**" {
            return (at..=labels.len()).any(|next| fits_by_trying(rest, labels, next, highest));
        }
        let Some(label) = labels.get(at) else { return false };
        let one = match first.parse::<i64>() {
            Ok(index) => label.parse() == Ok(index) || label.parse() == Ok(highest),
            Err(_) => glob_fits(first.as_bytes(), label.as_bytes()),
        };
        one && fits_by_trying(rest, labels, at + 1, highest)
    }

    #[test]
    fn many_stars_on_a_deep_path_are_matched_at_once() {
        let deep = ["a"; 40];
        // trying every way would take 40 over 11 ways, two thousand million
        for (last, fits) in [("a", true), ("b", false)] {
            let segments: Vec<&str> = [["**", "a"]; 10].concat().into_iter().chain(["**", last]).collect();
            assert_eq!(fits_whole(&segments, &deep, 0), fits);
        }
        assert!(fits_whole(&["**"; 100_000], &deep, 0));
        assert!(!fits_whole(&["*"; 100_000], &deep, 0));
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_fits_what_trying_every_way_finds(
            segments in proptest::collection::vec(proptest::sample::select(&["**", "*", "a", "a*", "0", "1"][..]), 1..6),
            labels in proptest::collection::vec(proptest::sample::select(&["a", "ab", "0", "1", "2"][..]), 1..6),
        ) {
            let wanted = fits_by_trying(&segments, &labels, 0, 2);
            proptest::prop_assert_eq!(fits_whole(&segments, &labels, 2), wanted);
            let longest = (1..=segments.len()).rev().find(|len| fits_by_trying(&segments[..*len], &labels, 0, 2));
            proptest::prop_assert_eq!(prefix_that_fits(&segments, &labels, 2), longest);
        }
    }

    #[test]
    fn globs_stand_for_any_text() {
        let cases = [
            ("*", "relu", true),
            ("layer*", "layer4", true),
            ("*_1", "add_1", true),
            ("a*b*c", "axxbyc", true),
            ("a*b", "ab_", false),
        ];
        for (glob, text, fits) in cases {
            assert_eq!(glob_fits(glob.as_bytes(), text.as_bytes()), fits, "{glob} on {text}");
        }
    }

    #[test]
    fn indices_count_from_the_highest_number() {
        assert!(index_fits(&Index::At(-1), 5, &|| 5) && !index_fits(&Index::At(-1), 4, &|| 5));
        let range = Index::Range { from: Some(1), to: None, inclusive: false };
        assert!(index_fits(&range, 5, &|| 5) && !index_fits(&range, 0, &|| 5));
        let closed = Index::Range { from: Some(0), to: Some(2), inclusive: true };
        assert!(index_fits(&closed, 2, &|| 5) && !index_fits(&closed, 3, &|| 5));
    }
}
