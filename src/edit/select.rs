//! Selectors: which places of the graph a text names. Resolved before a statement changes anything.

use std::collections::HashMap;

use rustc_hash::FxHashSet;

use crate::build::{BindingKind, Builder, Env, Value};
use crate::diag::{Code, Problem, Result, list, suggest};
use crate::graph::{Graph, NodeId, Use, path};
use crate::ops;
use crate::resolve::Program;
use crate::syntax::tree::{
    Expr, ExprKind, Index, Name, Place, Segment, Select, SelectKind, Selector, Spanned, StepKind,
};

/// A place: what a verb works on.
#[derive(Clone, Debug, PartialEq)]
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
            Target::Scope(scope) => {
                graph.order().into_iter().filter(|id| path::inside(&graph.node(*id).path, scope)).collect()
            }
        }
    }
}

/// Every place that a selector names, each once, in running order.
pub fn select<'a>(builder: &mut Builder<'a, '_>, selector: &'a Selector, grain: Grain) -> Result<Vec<Target>> {
    let mut places: Vec<Target> = vec![];
    for one in &selector.include {
        for place in select_one(builder, one)? {
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    if grain == Grain::Layers || !selector.except.is_empty() {
        places = subtract(builder, places, selector, grain)?;
        if places.is_empty() {
            return Err(Problem::new(Code::NoMatch, "nothing is left after `except`").at(selector.span));
        }
    }
    let order: HashMap<NodeId, usize> =
        builder.patch.order().into_iter().enumerate().map(|(at, id)| (id, at)).collect();
    places.sort_by_cached_key(|place| match place {
        Target::Layer(id) => order.get(id).copied(),
        place => place.nodes(builder.patch).iter().filter_map(|id| order.get(id).copied()).min(),
    });
    if let Some(expect) = &selector.expect
        && expect.value != places.len() as i64
    {
        let message = format!("expected {} places, got {}", expect.value, places.len());
        let shown: Vec<String> = places.iter().take(8).map(|place| place.display(builder.patch)).collect();
        let more = places.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let problem = Problem::new(Code::ExpectCount, message);
        return Err(problem.note(format!("matched: {}{more}", shown.join(", "))).at(expect.span));
    }
    Ok(places)
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

fn select_one<'a>(builder: &mut Builder<'a, '_>, one: &'a Select) -> Result<Vec<Target>> {
    let mut places = match &one.kind {
        SelectKind::All => layers(builder.patch).into_iter().map(Target::Layer).collect(),
        SelectKind::Place(place) => matches(builder.patch, place)?,
        SelectKind::Range(first, last) => vec![range(builder.patch, first, last)?],
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
    graph.order().into_iter().filter(|id| !graph.inputs().values().any(|input| input == id)).collect()
}

/// The one place that a verb works on.
pub fn single(graph: &Graph, place: &Place) -> Result<Target> {
    let mut found = matches(graph, place)?;
    if found.len() > 1 {
        let shown: Vec<String> = found.iter().take(6).map(|place| place.display(graph)).collect();
        let problem = Problem::new(Code::ExpectCount, format!("one place is needed, got {}", found.len()));
        return Err(problem.note(format!("matched: {}", shown.join(", "))).at(place.span));
    }
    Ok(found.remove(0))
}

/// What a path matches, never nothing. One that ends in `**` means layers only.
fn matches(graph: &Graph, place: &Place) -> Result<Vec<Target>> {
    let ends_open = matches!(place.segments.last().map(|last| &last.value), Some(Segment::Glob(glob)) if glob == "**");
    let found = matching(graph, &place.segments, if ends_open { Grain::Layers } else { Grain::Places });
    if found.is_empty() { Err(no_match(graph, place)) } else { Ok(found) }
}

fn matching(graph: &Graph, segments: &[Spanned<Segment>], grain: Grain) -> Vec<Target> {
    let highest = highest_numbers(graph);
    let fits = |candidate: &str| prefix_that_fits(segments, candidate, &highest) == Some(segments.len());
    let mut found: Vec<Target> =
        layers(graph).into_iter().filter(|id| fits(&graph.node(*id).path)).map(Target::Layer).collect();
    if grain == Grain::Places {
        let scopes = graph.scopes().keys().filter(|scope| !scope.is_empty() && fits(scope));
        found.extend(scopes.cloned().map(Target::Scope));
    }
    found
}

/// The highest number among the entries of each scope.
fn highest_numbers(graph: &Graph) -> HashMap<String, i64> {
    let mut highest = HashMap::new();
    let nodes = graph.ids().map(|id| graph.node(id).path.as_str());
    for candidate in nodes.chain(graph.scopes().keys().map(String::as_str)) {
        let label = path::last(candidate);
        if let (true, Ok(number)) = (path::is_number(label), label.parse::<i64>()) {
            let entry = highest.entry(path::parent(candidate).to_string()).or_insert(number);
            *entry = number.max(*entry);
        }
    }
    highest
}

/// How many of the first segments fit the whole of `candidate`: the longest such prefix of the pattern.
///
/// Walks the pattern once with the set of label counts that its segments so far can stand for, so that many `**` cost
/// no more than labels times labels.
fn prefix_that_fits(pattern: &[Spanned<Segment>], candidate: &str, highest: &HashMap<String, i64>) -> Option<usize> {
    // where each label starts, and where one would start behind the last
    let starts: Vec<usize> = std::iter::once(0)
        .chain(candidate.match_indices('.').map(|(dot, _)| dot + 1))
        .chain([candidate.len() + 1])
        .collect();
    let labels = starts.len() - 1;
    let label = |at: usize| &candidate[starts[at]..starts[at + 1] - 1];
    let mut reached = vec![false; labels + 1];
    reached[0] = true;
    let mut fits = None;
    for (segment, at) in pattern.iter().zip(1..) {
        let Some(first) = reached.iter().position(|reached| *reached) else { break };
        if is_any_depth(&segment.value) {
            reached[first..].fill(true);
        } else {
            for end in (first..=labels).rev() {
                reached[end] = end > first && reached[end - 1] && {
                    let text = label(end - 1);
                    match &segment.value {
                        Segment::Glob(glob) => glob_fits(glob.as_bytes(), text.as_bytes()),
                        Segment::Indices(indices) if path::is_number(text) => text.parse().is_ok_and(|number| {
                            let holder = candidate[..starts[end - 1]].strip_suffix('.').unwrap_or("");
                            let top = highest.get(holder).copied().unwrap_or(0);
                            indices.iter().any(|index| index_fits(index, number, top))
                        }),
                        Segment::Indices(_) => false,
                    }
                };
            }
        }
        if reached[labels] {
            fits = Some(at);
        }
    }
    fits
}

fn is_any_depth(segment: &Segment) -> bool {
    matches!(segment, Segment::Glob(glob) if glob == "**")
}

fn index_fits(index: &Index, number: i64, highest: i64) -> bool {
    let from_end = |index: i64| if index < 0 { index.saturating_add(highest + 1) } else { index };
    match *index {
        Index::All => true,
        Index::At(at) => from_end(at) == number,
        Index::Range { from, to, inclusive } => {
            let from = from.map_or(0, from_end);
            let to = to.map_or(highest + 1, |to| from_end(to).saturating_add(i64::from(inclusive)));
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
    let (len, holder) = furthest(graph, &place.segments);
    let missing = &place.segments[len];
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
    let owner = if holder.is_empty() { "the network".to_string() } else { format!("`{shown}`") };
    let problem = Problem::new(Code::NoMatch, format!("{owner} has no `{text}`"));
    if let Some(hint) = suggest(text, labels.iter().map(String::as_str)) {
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
    let known = labels.iter().take(12).map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
    let more = if labels.len() > 12 { " .." } else { "" };
    problem.hint(format!("there is {known}{more}")).at(place.span)
}

/// The most segments, not all, that fit some place, and the first place that they fit; none, and the network, where not
/// even the first fits.
fn furthest(graph: &Graph, segments: &[Spanned<Segment>]) -> (usize, String) {
    let highest = highest_numbers(graph);
    let nodes = layers(graph).into_iter().map(|id| graph.node(id).path.as_str());
    let scopes = graph.scopes().keys().map(String::as_str).filter(|scope| !scope.is_empty());
    let mut best = (0, "");
    for candidate in nodes.chain(scopes) {
        let len = prefix_that_fits(&segments[..segments.len() - 1], candidate, &highest).unwrap_or(0);
        if len > best.0 {
            best = (len, candidate);
        }
    }
    (best.0, best.1.to_string())
}

/// The labels directly inside a scope, in running order.
fn children(graph: &Graph, scope: &str) -> Vec<String> {
    let mut labels: indexmap::IndexSet<String> = indexmap::IndexSet::new();
    for id in layers(graph) {
        let node = &graph.node(id).path;
        if path::inside(node, scope) {
            labels.insert(path::first_inside(node, scope).to_string());
        }
    }
    labels.into_iter().collect()
}

/// `first..=last`: every layer on a way between them.
fn range(graph: &Graph, first: &Place, last: &Place) -> Result<Target> {
    let (from, to) = (single(graph, first)?, single(graph, last)?);
    let (from_nodes, to_nodes) = (from.nodes(graph), to.nodes(graph));
    let forward = reach(graph, &from_nodes, uses);
    let backward = reach(graph, &to_nodes, Graph::operands);
    let between = |id: &NodeId| forward.contains(id) && backward.contains(id);
    if !graph.ids().any(|id| between(&id)) {
        let message = format!("there is no way from `{}` to `{}`", from.display(graph), to.display(graph));
        let problem = Problem::new(Code::NoMatch, message);
        let turned = reach(graph, &to_nodes, uses).iter().any(|id| from_nodes.contains(id));
        let hint = format!("the other way around: `{}..={}`", to.display(graph), from.display(graph));
        let problem = if turned { problem.hint(hint) } else { problem };
        return Err(problem.at(first.span.to(last.span)));
    }
    let is_end = |id: &NodeId| from_nodes.contains(id) || to_nodes.contains(id);
    let nodes: Vec<NodeId> = graph.order().into_iter().filter(|id| between(id) || is_end(id)).collect();
    Ok(Target::Range { nodes, first: from.path(graph), last: to.path(graph) })
}

/// The layers that take a node's value.
fn uses(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    let uses = graph.uses(id).into_iter();
    uses.filter_map(|one| if let Use::Operand { node, .. } = one { Some(node) } else { None }).collect()
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
    let blocks: Vec<&str> = graph.scopes().values().filter_map(|scope| scope.block.as_deref()).collect();
    let is_block = blocks.contains(&of.value.as_str());
    let is_of = |place: &Target| match place {
        Target::Layer(id) => graph.node(*id).op.name() == of.value,
        Target::Scope(scope) => graph.scopes()[scope].block.as_deref() == Some(&of.value),
        Target::Range { .. } => false,
    };
    // `**:bottleneck` means scopes, which `**` alone leaves out
    let candidates = match &one.kind {
        SelectKind::Place(place) if is_block => matching(graph, &place.segments, Grain::Places),
        SelectKind::All if is_block => {
            graph.scopes().keys().filter(|scope| !scope.is_empty()).cloned().map(Target::Scope).collect()
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
    let names = ops::MANUAL.iter().map(|entry| entry.name).chain(blocks);
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

    fn fits_whole(segments: &[&str], candidate: &str, highest: &HashMap<String, i64>) -> bool {
        prefix_that_fits(&pattern(segments), candidate, highest) == Some(segments.len())
    }

    /// By trying every way, as the meaning of a pattern is defined.
    fn fits_by_trying(segments: &[&str], labels: &[&str], at: usize, highest: &HashMap<String, i64>) -> bool {
        let Some((first, rest)) = segments.split_first() else { return at == labels.len() };
        if *first == "**" {
            return (at..=labels.len()).any(|next| fits_by_trying(rest, labels, next, highest));
        }
        let Some(label) = labels.get(at) else { return false };
        let one = match first.parse::<i64>() {
            Ok(index) => label.parse() == Ok(index) || label.parse() == Ok(highest[&labels[..at].join(".")]),
            Err(_) => glob_fits(first.as_bytes(), label.as_bytes()),
        };
        one && fits_by_trying(rest, labels, at + 1, highest)
    }

    #[test]
    fn many_stars_on_a_deep_path_are_matched_at_once() {
        let deep = vec!["a"; 40].join(".");
        let highest = HashMap::new();
        // trying every way would take 40 over 11 ways, two thousand million
        for (last, fits) in [("a", true), ("b", false)] {
            let segments: Vec<&str> = [["**", "a"]; 10].concat().into_iter().chain(["**", last]).collect();
            assert_eq!(fits_whole(&segments, &deep, &highest), fits);
        }
        assert!(fits_whole(&["**"; 100_000], &deep, &highest));
        assert!(!fits_whole(&["*"; 100_000], &deep, &highest));
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_fits_what_trying_every_way_finds(
            segments in proptest::collection::vec(proptest::sample::select(&["**", "*", "a", "a*", "0", "1"][..]), 1..6),
            labels in proptest::collection::vec(proptest::sample::select(&["a", "ab", "0", "1", "2"][..]), 1..6),
        ) {
            let prefixes = (0..labels.len()).map(|len| (labels[..len].join("."), 2));
            let highest: HashMap<String, i64> = prefixes.collect();
            let candidate = labels.join(".");
            let wanted = fits_by_trying(&segments, &labels, 0, &highest);
            proptest::prop_assert_eq!(fits_whole(&segments, &candidate, &highest), wanted);
            let longest = (1..=segments.len()).rev().find(|len| fits_by_trying(&segments[..*len], &labels, 0, &highest));
            proptest::prop_assert_eq!(prefix_that_fits(&pattern(&segments), &candidate, &highest), longest);
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
        assert!(index_fits(&Index::At(-1), 5, 5) && !index_fits(&Index::At(-1), 4, 5));
        let range = Index::Range { from: Some(1), to: None, inclusive: false };
        assert!(index_fits(&range, 5, 5) && !index_fits(&range, 0, 5));
        let closed = Index::Range { from: Some(0), to: Some(2), inclusive: true };
        assert!(index_fits(&closed, 2, 5) && !index_fits(&closed, 3, 5));
    }
}
