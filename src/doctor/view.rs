//! The ways to read a file: one of its parts, what its keys begin with taken off, a layout's rules applied. Each is lines of a
//! base's braces, and the tensors that these make of the file.

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
            for rule in layout.rules {
                lines = with(store, lines, rule);
            }
            views.extend(tried(store, &lines).map(|supply| View { lines, prefix, layout: Some(layout), supply }));
        }
    }
    let shapes = supply.tensors.iter().map(|(key, recipe)| (key.as_str(), recipe.shape()));
    let mut found: Vec<(&str, usize)> =
        prefixes(shapes, |key, shape| catalogue.knows(key, shape)).into_iter().collect();
    found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for prefix in std::iter::once("").chain(found.iter().take(MOST_PREFIXES).map(|(prefix, _)| *prefix)) {
        let lines = without(&lines, prefix);
        views.extend(tried(store, &lines).map(|supply| View { lines, prefix: prefix.into(), layout: None, supply }));
    }
    views
}

/// The tensors that lines make of the file; None where one of them does nothing.
fn tried(store: &Store, lines: &Lines) -> Option<Supply> {
    Intake::new(lines).ok()?.apply(store, &Asked::all(Default::default())).ok()
}

/// The prefixes behind which a layout's signs are seen.
fn behind(layout: &Layout, supply: &Supply) -> Vec<String> {
    let keys = || supply.tensors.keys();
    let Some((first, others)) = layout.signs.split_first() else { return vec![] };
    let Ok(first) = Regex::new(&format!(r"\A(|.*?\.)(?:{first})\z")) else { return vec![] };
    let mut prefixes: Vec<String> = vec![];
    for groups in keys().filter_map(|key| first.captures(key)) {
        let prefix = groups[1].to_string();
        if !prefixes.contains(&prefix) {
            prefixes.push(prefix);
        }
    }
    let is_seen = |prefix: &String, sign: &&str| {
        let sign = Regex::new(&format!(r"\A{}(?:{sign})\z", regex_lite::escape(prefix)));
        sign.is_ok_and(|sign| keys().any(|key| sign.is_match(key)))
    };
    prefixes.retain(|prefix| others.iter().all(|sign| is_seen(prefix, sign)));
    prefixes.truncate(MOST_PREFIXES);
    prefixes
}

/// The lines, and one that takes a prefix off.
fn without(lines: &Lines, prefix: &str) -> Lines {
    let mut lines = lines.clone();
    if !prefix.is_empty() {
        lines.maps.push(MapLine::renaming(&format!("{}(.*)", regex_lite::escape(prefix)), "$1"));
    }
    lines
}

/// The lines, and that of a rule where it does something for the file.
fn with(store: &Store, lines: Lines, rule: &Rule) -> Lines {
    let mut more = lines.clone();
    match *rule {
        Rule::Map(from, to) => more.maps.push(MapLine::renaming(from, to)),
        Rule::Permute(from, to, axes) => {
            let changes = vec![Change::Permute(axes.to_vec())];
            more.maps.push(MapLine { changes, ..MapLine::renaming(from, to) });
        }
        Rule::Lead(from, to, axes) => {
            let (Some(supply), Ok(regex)) = (tried(store, &lines), Regex::new(&format!(r"\A(?:{from})\z"))) else {
                return lines;
            };
            let Some((_, recipe)) = supply.tensors.iter().find(|(key, _)| regex.is_match(key)) else { return lines };
            let shape = std::iter::repeat_n(1, axes).chain(recipe.shape().iter().copied()).map(Some).collect();
            more.maps.push(MapLine { changes: vec![Change::Reshape(shape)], ..MapLine::renaming(from, to) });
        }
        Rule::Join(from, to, order) => {
            let order = order.iter().map(|word| word.to_string()).collect();
            more.joins.push(JoinLine { from: from.into(), to: to.into(), order });
        }
        Rule::Ignore(regex) => more.ignores.push(IgnoreLine { regex: regex.into(), need: Need::Must }),
    }
    if tried(store, &more).is_some() { more } else { lines }
}
