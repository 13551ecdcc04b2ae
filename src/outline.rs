//! The network as an outline: its layers and scopes in the order of running, with neighbours that are equal as one entry.
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

/// The network's entries.
pub fn outline(typed: &Typed) -> Vec<Entry> {
    let mut root = Level::default();
    for id in typed.order() {
        let mut level = &mut root;
        for label in typed.graph().node(*id).path.split('.') {
            level = level.inside.entry(label).or_default();
        }
        level.layer = Some(*id);
    }
    entries(typed, "", &root, &mut Kinds::default())
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
#[derive(Default)]
struct Level<'a> {
    layer: Option<NodeId>,
    inside: IndexMap<&'a str, Level<'a>>,
}

/// A number for each kind of layer, from the texts that tell them apart.
type Kinds = FxHashMap<String, usize>;

fn entries(typed: &Typed, at: &str, level: &Level, kinds: &mut Kinds) -> Vec<Entry> {
    let mut runs: Vec<(Vec<usize>, Vec<Entry>)> = vec![];
    for (label, inner) in &level.inside {
        let path = path::join(at, label);
        if let Some(id) = inner.layer {
            runs.push((vec![], vec![Entry::new(label, Holds::Layer(vec![id]), at)]));
        }
        if inner.inside.is_empty() {
            continue;
        }
        let inside = entries(typed, &path, inner, kinds);
        let kind = kind(typed, &path, &inside, kinds);
        let entry = Entry::new(label, Holds::Scope { path, entries: inside }, at);
        match runs.last_mut() {
            Some((of, run)) if *of == kind && follows(run, label) => run.push(entry),
            _ => runs.push((kind, vec![entry])),
        }
    }
    let labels: Vec<&str> = level.inside.keys().copied().collect();
    let folded = |(_, run): (Vec<usize>, Vec<Entry>)| match selector(&run, &labels) {
        Some(place) => vec![fold(run, place)],
        None => run,
    };
    runs.into_iter().flat_map(folded).collect()
}

impl Entry {
    fn new(label: &str, holds: Holds, at: &str) -> Entry {
        let shown = path::display(&path::join(at, label));
        let before = if at.is_empty() { 0 } else { path::display(at).len() };
        Entry { labels: vec![label.to_string()], place: shown[before..].to_string(), holds }
    }
}

/// What tells the scope's layers apart from another's, in order.
fn kind(typed: &Typed, scope: &str, inside: &[Entry], kinds: &mut Kinds) -> Vec<usize> {
    let graph = typed.graph();
    let within = |id: NodeId| path::rest(&graph.node(id).path, scope).unwrap_or("..");
    let layers = inside.iter().flat_map(Entry::layers);
    let text = |id: NodeId| {
        let node = graph.node(id);
        let operands: Vec<&str> = graph.operands(id).into_iter().map(within).collect();
        let (shape, made) = (typed.shape(id), node.origin.map(|span| (span.file, span.start)));
        let tied = node.tied.map(within);
        format!("{} {} {operands:?} {shape} {made:?} {tied:?} {}", within(id), node.op, node.frozen)
    };
    layers
        .map(|id| {
            let next = kinds.len();
            *kinds.entry(text(id)).or_insert(next)
        })
        .collect()
}

/// Whether a label's number is the one after the run's last.
fn follows(run: &[Entry], label: &str) -> bool {
    let Some(last) = run.last().and_then(|entry| entry.labels.last()) else { return false };
    let ((stem, number), (next_stem, next)) = (numbered(last), numbered(label));
    let after = number.and_then(|number| number.checked_add(1));
    stem == next_stem && after.is_some() && after == next
}

/// The selector that names a run and nothing else beside it; None for a single place, and where there is none.
fn selector(run: &[Entry], labels: &[&str]) -> Option<String> {
    let [first, .., last] = run else { return None };
    let (stem, from) = numbered(&first.labels[0]);
    let (from, to) = (from?, numbered(&last.labels[0]).1?);
    if stem.is_empty() {
        // a number in brackets needs a name before it
        if !first.place.starts_with('[') {
            return None;
        }
        let numbers = labels.iter().filter(|label| path::is_number(label)).count();
        let all = numbers == run.len();
        let bounds = if all { "*".to_string() } else { format!("{from}..{}", to.checked_add(1)?) };
        return Some(format!("[{bounds}]"));
    }
    let alike = labels.iter().filter(|label| label.starts_with(stem)).count();
    let is_plain = stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let dot = if first.place.starts_with('.') { "." } else { "" };
    (alike == run.len() && is_plain).then(|| format!("{dot}{stem}*"))
}

/// A label as what stands before its last number, and that number as it is counted.
fn numbered(label: &str) -> (&str, Option<usize>) {
    let stem = label.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &label[stem.len()..];
    let is_counted = digits == "0" || !digits.starts_with('0');
    (stem, if is_counted { digits.parse().ok() } else { None })
}

/// Equal entries as one.
fn fold(run: Vec<Entry>, place: String) -> Entry {
    let mut run = run.into_iter();
    let mut first = run.next().expect("a run has entries");
    for other in run {
        first.labels.extend(other.labels.iter().cloned());
        take(&mut first.holds, other.holds);
    }
    first.place = place;
    first
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
        let scope = |label: &str, place: &str| Entry {
            labels: vec![label.into()],
            place: place.into(),
            holds: Holds::Scope { path: label.into(), entries: vec![] },
        };
        let place = |run: [&str; 2], holder: &str, labels: &[&str]| {
            let at = |label: &str| if holder.is_empty() { label.to_string() } else { format!("[{label}]") };
            selector(&run.map(|label| scope(label, &at(label))), labels)
        };
        assert_eq!(place(["0", "1"], "layer1", &["0", "1"]), Some("[*]".into()));
        assert_eq!(place(["1", "2"], "layer1", &["0", "1", "2"]), Some("[1..3]".into()));
        assert_eq!(place(["0", "1"], "", &["0", "1"]), None);
        // a largest number has none after it, and one that is not counted no place in a run
        let largest = [(usize::MAX - 1).to_string(), usize::MAX.to_string()];
        assert_eq!(place([&largest[0], &largest[1]], "layer1", &["0", &largest[0], &largest[1]]), None);
        assert!(!follows(&[scope(&largest[1], "")], "0") && !follows(&[scope("00", "")], "01"));
        // `b*` would name `bend`, too
        assert_eq!(selector(&[scope("b0", "b0"), scope("b1", "b1")], &["b0", "b1", "bend"]), None);
        assert_eq!(selector(&[scope("b0", ".b0"), scope("b1", ".b1")], &["a", "b0", "b1"]), Some(".b*".into()));
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
