//! The ways to read a file: one of its parts, what its keys begin with taken off, a layout's rules applied. Each is lines of a
//! base's braces, and the tensors that these make of the file.

use indexmap::IndexSet;
use regex_lite::Regex;

use super::catalogue::Catalogue;
use super::layouts::{LAYOUTS, Layout, Rule};
use crate::weights::{
    Asked, Change, IgnoreLine, Intake, JoinLine, Lines, MOST_PARTS, MapLine, Need, Store, Supply, prefixes,
};

/// A file read in one way.
#[derive(Debug)]
pub struct View {
    pub lines: Lines,
    /// What the keys begin with, where the lines take it off.
    pub prefix: String,
    /// The layout whose rules are among the lines; None for the names of the zoo itself.
    pub layout: Option<&'static Layout>,
    pub supply: Supply,
}

/// Prefixes beyond these are those of single layers.
const MOST_PREFIXES: usize = 6;

/// All ways that a file may be meant, its parts before the whole.
pub fn views(store: &Store, catalogue: &Catalogue) -> Vec<View> {
    let parts = store.parts().iter().take(MOST_PARTS).cloned().map(Some);
    parts.chain([None]).flat_map(|part| views_of(store, catalogue, part)).collect()
}

fn views_of(store: &Store, catalogue: &Catalogue, part: Option<String>) -> Vec<View> {
    let lines = Lines { part, ..Lines::default() };
    let Some(supply) = tried(store, &lines) else { return vec![] };
    let mut views = vec![];
    for layout in LAYOUTS {
        for prefix in behind(layout, &supply) {
            let mut lines = without(&lines, &prefix);
            let Some(mut supply) = tried(store, &lines) else { continue };
            for rule in layout.rules {
                if let Some(more) = with(&lines, &supply, rule)
                    && let Some(made) = tried(store, &more)
                {
                    (lines, supply) = (more, made);
                }
            }
            views.extend(is_said(&lines).then_some(View { lines, prefix, layout: Some(layout), supply }));
        }
    }
    let shapes = supply.tensors.iter().map(|(key, recipe)| (key.as_str(), recipe.shape()));
    let mut found: Vec<(&str, usize)> =
        prefixes(shapes, |key, shape| catalogue.knows(key, shape)).into_iter().collect();
    found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for prefix in std::iter::once("").chain(found.iter().take(MOST_PREFIXES).map(|(prefix, _)| *prefix)) {
        let lines = without(&lines, prefix);
        let supply = tried(store, &lines).filter(|_| is_said(&lines));
        views.extend(supply.map(|supply| View { lines, prefix: prefix.into(), layout: None, supply }));
    }
    views
}

/// The tensors that lines make of the file; None where one of them does nothing.
fn tried(store: &Store, lines: &Lines) -> Option<Supply> {
    Intake::new(lines).ok()?.apply(store, &Asked::all(Default::default())).ok()
}

/// The prefixes behind which all of a layout's signs are seen, in the order of the file.
fn behind(layout: &Layout, supply: &Supply) -> IndexSet<String> {
    let of = |sign: &&str| -> IndexSet<String> {
        let Ok(sign) = Regex::new(&format!(r"\A(|.*?\.)(?:{sign})\z")) else { return IndexSet::new() };
        supply.tensors.keys().filter_map(|key| Some(sign.captures(key)?[1].to_string())).collect()
    };
    let mut signs = layout.signs.iter();
    let mut prefixes = signs.next().map(of).unwrap_or_default();
    for sign in signs {
        if prefixes.is_empty() {
            break;
        }
        let others = of(sign);
        prefixes.retain(|prefix| others.contains(prefix));
    }
    prefixes.truncate(MOST_PREFIXES);
    prefixes
}

/// Whether a spec can hold the lines: keys may be of several lines, and its texts are of one.
fn is_said(lines: &Lines) -> bool {
    let part = lines.part.as_deref().unwrap_or_default();
    !part.contains('\n') && lines.texts().iter().all(|line| !line.contains('\n'))
}

/// The lines, and one that takes a prefix off.
fn without(lines: &Lines, prefix: &str) -> Lines {
    let mut lines = lines.clone();
    if !prefix.is_empty() {
        lines.maps.push(MapLine::renaming(&format!("{}(.*)", regex_lite::escape(prefix)), "$1"));
    }
    lines
}

/// The lines, and that of a rule; None where it does nothing for the tensors that the lines make.
fn with(lines: &Lines, supply: &Supply, rule: &Rule) -> Option<Lines> {
    let (Rule::Map(regex, _)
    | Rule::Lead(regex, ..)
    | Rule::Permute(regex, ..)
    | Rule::Join(regex, ..)
    | Rule::Ignore(regex)) = *rule;
    let whole = Regex::new(&format!(r"\A(?:{regex})\z")).ok()?;
    let (_, first) = supply.tensors.iter().find(|(name, _)| whole.is_match(name))?;
    let mut more = lines.clone();
    match *rule {
        Rule::Map(from, to) => more.maps.push(MapLine::renaming(from, to)),
        Rule::Permute(from, to, axes) => {
            let changes = vec![Change::Permute(axes.to_vec())];
            more.maps.push(MapLine { changes, ..MapLine::renaming(from, to) });
        }
        Rule::Lead(from, to, axes) => {
            let shape = std::iter::repeat_n(1, axes).chain(first.shape().iter().copied()).map(Some).collect();
            more.maps.push(MapLine { changes: vec![Change::Reshape(shape)], ..MapLine::renaming(from, to) });
        }
        Rule::Join(from, to, order) => {
            let order = order.iter().map(|word| word.to_string()).collect();
            more.joins.push(JoinLine { from: from.into(), to: to.into(), order });
        }
        Rule::Ignore(regex) => more.ignores.push(IgnoreLine { regex: regex.into(), need: Need::Must }),
    }
    Some(more)
}
