//! The network as an outline: its layers and scopes in the order of running, with neighbours that are equal together.
//!
//! Two scopes are equal where they hold the same layers: same labels, ops, arguments, shapes, wiring inside, origin, and
//! frozen or not. Neighbours are folded where one selector names them and nothing else: `layer1[1..3]`, `encoder_layer_*`.
//! Weights are not looked at. Nothing here prints.

use indexmap::IndexMap;
use rustc_hash::FxHashMap;

use crate::graph::{NodeId, path};
use crate::typed::Typed;

/// A layer or a scope, or several that are equal.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The labels of the places, in the order of running; never empty.
    pub labels: Vec<String>,
    /// The selector of the places, to be appended to the holder's: `layer1`, `[1..3]`, `encoder_layer_*`.
    pub place: String,
    pub holds: Holds,
}

#[derive(Clone, Debug)]
pub enum Holds {
    /// The layer at each of the places, those of every equal holder included.
    Layer(Vec<NodeId>),
    /// What is inside, and the path of the first place.
    Scope { path: String, entries: Vec<Entry> },
}

impl Entry {
    /// Every layer of every place.
    pub fn layers(&self) -> Vec<NodeId> {
        match &self.holds {
            Holds::Layer(ids) => ids.clone(),
            Holds::Scope { entries, .. } => entries.iter().flat_map(Entry::layers).collect(),
        }
    }

    fn inside(&self) -> &[Entry] {
        match &self.holds {
            Holds::Layer(_) => &[],
            Holds::Scope { entries, .. } => entries,
        }
    }
}

/// A layer or a scope, or neighbours that are equal, each by itself.
#[derive(Clone, Debug)]
pub struct Run<T> {
    /// The selector of the places, to be appended to the holder's.
    pub place: String,
    /// Never empty; several are scopes.
    pub places: Vec<Place<T>>,
}

/// A layer or a scope.
#[derive(Clone, Debug)]
pub struct Place<T> {
    pub label: String,
    pub holds: Held<T>,
}

#[derive(Clone, Debug)]
pub enum Held<T> {
    Layer(T),
    Scope { path: String, runs: Vec<Run<T>> },
}

/// The network's entries.
pub fn outline(typed: &Typed) -> Vec<Entry> {
    let layers = typed.order().iter().map(|id| (typed.graph().node(*id).path.as_str(), *id));
    runs(layers, |id, scope| kind(typed, id, scope)).into_iter().map(Entry::of).collect()
}

/// What lies at the paths, in their order. `kind` tells a layer apart from others, as it is seen from the scope that holds it.
/// A path that several have is the last one's; the others' are left out.
pub fn runs<'a, T: Copy>(
    layers: impl IntoIterator<Item = (&'a str, T)>,
    kind: impl Fn(T, &str) -> String,
) -> Vec<Run<T>> {
    let mut root = Level::new();
    for (path, layer) in layers {
        let mut level = &mut root;
        for label in path.split('.') {
            level = level.inside.entry(label).or_insert_with(Level::new);
        }
        level.layer = Some(layer);
    }
    let mut folding = Folding { kind, kinds: Kinds::default() };
    folding.runs("", &root).0
}

/// How many entries there are down to `depth` labels.
pub fn count(entries: &[Entry], depth: usize) -> usize {
    let inside = |entry: &Entry| match entry.inside() {
        [] => 1,
        _ if depth <= 1 => 1,
        inside => count(inside, depth - 1),
    };
    entries.iter().map(inside).sum()
}

/// How many labels deep the deepest entry lies.
pub fn depth(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| 1 + depth(entry.inside())).max().unwrap_or(0)
}

/// The labels directly inside a path, in the order in which the first layers below them run.
struct Level<'a, T> {
    layer: Option<T>,
    inside: IndexMap<&'a str, Level<'a, T>>,
}

impl<T> Level<'_, T> {
    fn new() -> Self {
        Level { layer: None, inside: IndexMap::new() }
    }
}

/// A number for each kind of layer, from the texts that tell them apart.
type Kinds = FxHashMap<String, usize>;

struct Folding<F> {
    kind: F,
    kinds: Kinds,
}

impl<F> Folding<F> {
    /// What lies directly inside a scope, and every layer below it in order.
    fn runs<T: Copy>(&mut self, at: &str, level: &Level<T>) -> (Vec<Run<T>>, Vec<T>)
    where
        F: Fn(T, &str) -> String,
    {
        let mut runs: Vec<(Vec<usize>, Vec<Place<T>>)> = vec![];
        let mut layers = vec![];
        for (label, inner) in &level.inside {
            let path = path::join(at, label);
            if let Some(layer) = inner.layer {
                layers.push(layer);
                runs.push((vec![], vec![Place { label: label.to_string(), holds: Held::Layer(layer) }]));
            }
            if inner.inside.is_empty() {
                continue;
            }
            let (inside, below) = self.runs(&path, inner);
            let kind = below.iter().map(|layer| self.number(*layer, &path)).collect();
            layers.extend(below);
            let place = Place { label: label.to_string(), holds: Held::Scope { path, runs: inside } };
            match runs.last_mut() {
                Some((of, run)) if *of == kind && follows(run, label) => run.push(place),
                _ => runs.push((kind, vec![place])),
            }
        }
        let labels: Vec<&str> = level.inside.keys().copied().collect();
        let folded = |(_, run): (Vec<usize>, Vec<Place<T>>)| match selector(at, &run, &labels) {
            Some(place) => vec![Run { place, places: run }],
            None => run.into_iter().map(|one| Run { place: own_selector(at, &one.label), places: vec![one] }).collect(),
        };
        (runs.into_iter().flat_map(folded).collect(), layers)
    }

    fn number<T>(&mut self, layer: T, scope: &str) -> usize
    where
        F: Fn(T, &str) -> String,
    {
        let next = self.kinds.len();
        *self.kinds.entry((self.kind)(layer, scope)).or_insert(next)
    }
}

/// The selector of one label, to be appended to the holder's.
pub fn own_selector(at: &str, label: &str) -> String {
    let shown = path::display(&path::join(at, label));
    let before = if at.is_empty() { 0 } else { path::display(at).len() };
    shown[before..].to_string()
}

impl Entry {
    fn of(run: Run<NodeId>) -> Entry {
        let labels = run.places.iter().map(|place| place.label.clone()).collect();
        let mut places = run.places.into_iter().map(|place| Holds::of(place.holds));
        let mut holds = places.next().expect("a run has places");
        for other in places {
            take(&mut holds, other);
        }
        Entry { labels, place: run.place, holds }
    }
}

impl Holds {
    fn of(held: Held<NodeId>) -> Holds {
        match held {
            Held::Layer(id) => Holds::Layer(vec![id]),
            Held::Scope { path, runs } => Holds::Scope { path, entries: runs.into_iter().map(Entry::of).collect() },
        }
    }
}

/// What tells a layer apart from another's, seen from a scope that holds it.
fn kind(typed: &Typed, id: NodeId, scope: &str) -> String {
    let graph = typed.graph();
    let within = |id: NodeId| path::rest(&graph.node(id).path, scope).unwrap_or("..");
    let node = graph.node(id);
    let operands: Vec<&str> = graph.operands(id).into_iter().map(within).collect();
    let (shape, made) = (typed.shape(id), node.origin.map(|span| (span.file, span.start)));
    let tied = node.tied.map(within);
    format!("{} {} {operands:?} {shape} {made:?} {tied:?} {}", within(id), node.op, node.frozen)
}

/// Whether a label's number is the one after the run's last.
fn follows<T>(run: &[Place<T>], label: &str) -> bool {
    let Some(last) = run.last() else { return false };
    let ((stem, number), (next_stem, next)) = (numbered(&last.label), numbered(label));
    let after = number.and_then(|number| number.checked_add(1));
    stem == next_stem && after.is_some() && after == next
}

/// The selector that names a run and nothing else beside it; None for a single place, and where there is none.
fn selector<T>(at: &str, run: &[Place<T>], labels: &[&str]) -> Option<String> {
    let [first, .., last] = run else { return None };
    let (stem, from) = numbered(&first.label);
    let (from, to) = (from?, numbered(&last.label).1?);
    if stem.is_empty() {
        // a number in brackets needs a name before it
        if at.is_empty() {
            return None;
        }
        let numbers = labels.iter().filter(|label| path::is_number(label)).count();
        let all = numbers == run.len();
        let bounds = if all { "*".to_string() } else { format!("{from}..{}", to.checked_add(1)?) };
        return Some(format!("[{bounds}]"));
    }
    let alike = labels.iter().filter(|label| label.starts_with(stem)).count();
    let is_plain = stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let dot = if at.is_empty() { "" } else { "." };
    (alike == run.len() && is_plain).then(|| format!("{dot}{stem}*"))
}

/// A label as what stands before its last number, and that number as it is counted.
fn numbered(label: &str) -> (&str, Option<usize>) {
    let stem = label.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &label[stem.len()..];
    let is_counted = digits == "0" || !digits.starts_with('0');
    (stem, if is_counted { digits.parse().ok() } else { None })
}

/// Adds the layers of an equal entry to those of the first.
fn take(first: &mut Holds, other: Holds) {
    match (first, other) {
        (Holds::Layer(ids), Holds::Layer(more)) => ids.extend(more),
        (Holds::Scope { entries, .. }, Holds::Scope { entries: more, .. }) => {
            for (entry, other) in entries.iter_mut().zip(more) {
                take(&mut entry.holds, other.holds);
            }
        }
        _ => unreachable!("equal scopes hold the same entries"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outline as text: a line an entry, with the number of its layers.
    fn lines(entries: &[Entry], holder: &str, text: &mut String) {
        for entry in entries {
            let place = format!("{holder}{}", entry.place);
            *text += &format!("{place} x {}, {} layers\n", entry.labels.len(), entry.layers().len());
            lines(entry.inside(), &place, text);
        }
    }

    fn shown(network: &str) -> String {
        let compiled = crate::compile::of_zoo(network).unwrap_or_else(|_| panic!("{network} compiles"));
        let mut text = String::new();
        lines(&outline(&compiled.typed), "", &mut text);
        text
    }

    #[test]
    fn equal_neighbours_are_one_entry() {
        let text = shown("resnet34");
        for line in ["layer1[*] x 3, 21 layers", "layer2[0] x 1, 9 layers", "layer3[1..6] x 5, 35 layers"] {
            assert!(text.lines().any(|other| other == line), "{line}:\n{text}");
        }
        assert!(text.contains("layer3[1..6].conv2 x 1, 5 layers\n"), "{text}");
        let vit = shown("vit_b_16");
        assert!(vit.contains("encoder.layers.encoder_layer_* x 12, "), "{vit}");
    }

    #[test]
    fn what_no_selector_names_stays_apart() {
        let scope = |label: &str| Place {
            label: label.into(),
            holds: Held::<NodeId>::Scope { path: label.into(), runs: vec![] },
        };
        let place = |run: [&str; 2], holder: &str, labels: &[&str]| selector(holder, &run.map(scope), labels);
        assert_eq!(place(["0", "1"], "layer1", &["0", "1"]), Some("[*]".into()));
        assert_eq!(place(["1", "2"], "layer1", &["0", "1", "2"]), Some("[1..3]".into()));
        assert_eq!(place(["0", "1"], "", &["0", "1"]), None);
        // a largest number has none after it, and one that is not counted no place in a run
        let largest = [(usize::MAX - 1).to_string(), usize::MAX.to_string()];
        assert_eq!(place([&largest[0], &largest[1]], "layer1", &["0", &largest[0], &largest[1]]), None);
        assert!(!follows(&[scope(&largest[1])], "0") && !follows(&[scope("00")], "01"));
        // `b*` would name `bend`, too
        assert_eq!(place(["b0", "b1"], "", &["b0", "b1", "bend"]), None);
        assert_eq!(place(["b0", "b1"], "a", &["a", "b0", "b1"]), Some(".b*".into()));
    }

    #[test]
    fn what_differs_stays_apart() {
        // channels grow from layer to layer
        let text = shown("densenet121");
        assert!(!text.contains('*') && !text.contains(".."), "{text}");
    }

    #[test]
    fn every_layer_is_there_once() {
        for network in ["resnet50", "swin_t", "efficientnet_b0", "vit_b_16", "maxvit_t"] {
            let compiled = crate::compile::of_zoo(network).unwrap_or_else(|_| panic!("{network} compiles"));
            let mut layers: Vec<NodeId> = outline(&compiled.typed).iter().flat_map(Entry::layers).collect();
            let mut order = compiled.typed.order().to_vec();
            layers.sort_unstable();
            order.sort_unstable();
            assert_eq!(layers, order, "{network}");
        }
    }
}
