//! Lines for a base's braces that make a file's tensors a network's: what its keys begin with, keys to ignore, tables to resize.
//! All of it is tried on the file; nothing is known here of spec or zoo.

use std::collections::BTreeMap;

use archc_base::Resample;
use indexmap::IndexMap;

use super::fit::Asked;
use super::intake::{Intake, Supply};
use super::lines::{IgnoreLine, Lines, MapLine, Need, ResizeLine};
use super::store::Store;
use crate::syntax::quoted;

/// What is wrong with the tensors that a file has for a network, by the network's names.
pub struct Faults<'n> {
    pub missing: Vec<&'n str>,
    pub unexpected: Vec<&'n str>,
    pub misshapen: Vec<&'n str>,
}

impl<'n> Faults<'n> {
    pub fn of(asked: &'n Asked, supply: &'n Supply) -> Faults<'n> {
        let missing = asked.required().map(|(key, _)| key).filter(|key| !supply.tensors.contains_key(*key)).collect();
        let names = || supply.tensors.keys().map(String::as_str);
        let unexpected = names().filter(|key| !asked.tensors.contains_key(*key)).collect();
        let is_misshapen = |key: &&str| {
            let decl = asked.tensors.get(*key).filter(|_| asked.taken.contains(*key));
            decl.is_some_and(|decl| decl.shape != supply.tensors[*key].shape())
        };
        Faults { missing, unexpected, misshapen: names().filter(is_misshapen).collect() }
    }

    pub fn count(&self) -> usize {
        self.missing.len() + self.unexpected.len() + self.misshapen.len()
    }
}

/// A file, and a network that it may have the tensors of.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    pub asked: &'a Asked,
    pub store: &'a Store,
    /// The lines that stand already.
    pub intake: &'a Intake,
}

impl Trial<'_> {
    /// What is to be added to `lines` so that as much as possible fits; None where the lines themselves do not work.
    pub fn way(&self, lines: &Lines) -> Option<Way> {
        let mut lines = lines.clone();
        let supply = self.tried(&lines)?;
        let prefix = self.prefix(&supply, &Faults::of(self.asked, &supply));
        if let Some(prefix) = &prefix {
            lines.maps.push(MapLine::renaming(&format!("{}(.*)", regex_lite::escape(prefix)), "$1"));
        }
        let mapped = self.tried(&lines)?;
        let left = Faults::of(self.asked, &mapped);
        // keys that may still be wanted under another name are not for ignoring
        if left.missing.is_empty() || prefix.is_some() || lines.part.is_some() {
            let part = lines.part.as_deref().or(self.intake.part());
            let ignores = self.ignores(&mapped, &left.unexpected, part);
            lines.ignores.extend(ignores);
        }
        lines.resizes = self.resizes(&mapped, &left.misshapen);
        let supply = match self.tried(&lines) {
            Some(supply) => supply,
            // not every table can be resized
            None => {
                lines.resizes = vec![];
                self.tried(&lines)?
            }
        };
        let Faults { missing, unexpected, misshapen } = Faults::of(self.asked, &supply);
        let (missing, unexpected, misshapen) = (missing.len(), unexpected.len(), misshapen.len());
        Some(Way { lines, prefix, missing, unexpected, misshapen })
    }

    /// What the file has for the network with further lines, None where these do not work.
    pub fn tried(&self, lines: &Lines) -> Option<Supply> {
        self.intake.with(lines).ok()?.apply(self.store, self.asked).ok()
    }

    /// The prefix that most keys of the network have in the file, where at least half of what is missing comes by it.
    fn prefix(&self, supply: &Supply, faults: &Faults<'_>) -> Option<String> {
        let keys = faults.unexpected.iter().map(|key| (*key, supply.tensors[*key].shape()));
        let is_wanted =
            |key: &str, shape: &[usize]| self.asked.tensors.get(key).is_some_and(|decl| decl.shape == shape);
        let mut found = prefixes(keys, is_wanted);
        let missing = faults.missing.len();
        found.retain(|_, count| *count * 2 >= missing && missing > 0);
        let most = found.values().max().copied()?;
        let best = found.into_iter().filter(|(_, count)| *count == most).map(|(prefix, _)| prefix);
        // of two that bring as much: the network that learns by gradient, and the average that is meant to be used
        best.min_by_key(|prefix| is_other_copy(prefix)).map(str::to_string)
    }

    /// Patterns of these keys of a part and no others, as short as they can be.
    fn ignores(&self, supply: &Supply, unexpected: &[&str], part: Option<&str>) -> Vec<IgnoreLine> {
        let part = part.map_or_else(String::new, |part| format!("{part}."));
        // by each prefix that ends in a dot: whether a key that is wanted has it, as the file or as the maps have it
        let mut is_wanted: BTreeMap<&str, bool> = BTreeMap::new();
        for (name, recipe) in supply.tensors.iter().filter(|(name, _)| self.asked.tensors.contains_key(*name)) {
            let keys = recipe.keys().into_iter().filter_map(|key| key.strip_prefix(&part));
            for key in keys.chain([name.as_str()]) {
                for (at, _) in key.match_indices('.') {
                    is_wanted.insert(&key[..=at], true);
                }
            }
        }
        let mut patterns: Vec<String> = vec![];
        for key in unexpected {
            let mut prefixes = key.match_indices('.').map(|(at, _)| &key[..=at]);
            let pattern = match prefixes.find(|prefix| !is_wanted.contains_key(prefix)) {
                Some(prefix) => regex_lite::escape(prefix) + ".*",
                None => regex_lite::escape(key),
            };
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
        let ignore = |regex| IgnoreLine { regex, need: Need::Must };
        if is_good(patterns.iter()) { patterns.into_iter().map(ignore).collect() } else { vec![] }
    }

    /// Lines for tables of these names and no others.
    fn resizes(&self, supply: &Supply, misshapen: &[&str]) -> Vec<ResizeLine> {
        let is_table = |name: &&&str| {
            let (has, needs) = (supply.tensors[**name].shape(), &self.asked.tensors[**name].shape);
            has.len() == needs.len()
                && has.last() == needs.last()
                && (has.len() == 2 || (has.len() == 3 && has[0] == 1))
        };
        let mut patterns: IndexMap<String, Resample> = IndexMap::new();
        let tables: Vec<&&str> = misshapen.iter().filter(is_table).collect();
        for name in &tables {
            // those of many layers have one last word
            let last = name.rsplit('.').next().unwrap_or(name);
            let alike = tables.iter().filter(|other| other.rsplit('.').next() == Some(last)).count();
            let pattern = match alike {
                1 => regex_lite::escape(name),
                _ => format!(r".*\.{}", regex_lite::escape(last)),
            };
            // as timm resizes them
            let by = if supply.tensors[**name].shape().len() == 2 { Resample::Bilinear } else { Resample::Bicubic };
            patterns.insert(pattern, by);
        }
        let resize = |(regex, by)| ResizeLine { regex, by, from: None };
        let is_good = is_good(patterns.keys());
        if is_good { patterns.into_iter().map(resize).collect() } else { vec![] }
    }
}

/// Lines that were tried, and what they leave.
pub struct Way {
    pub lines: Lines,
    /// What the file's keys begin with, where a line takes it off.
    pub prefix: Option<String>,
    pub missing: usize,
    pub unexpected: usize,
    pub misshapen: usize,
}

impl Way {
    /// Whether nothing is left to be mended.
    pub fn is_whole(&self) -> bool {
        self.missing + self.unexpected + self.misshapen == 0
    }

    /// `, which leaves 1 missing`
    pub fn rest(&self) -> String {
        let counts = [(self.missing, "missing"), (self.unexpected, "unexpected"), (self.misshapen, "of another shape")];
        let rest = counts.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}"));
        let rest = rest.collect::<Vec<String>>().join(", ");
        if rest.is_empty() { String::new() } else { format!(", which leaves {rest}") }
    }
}

/// How many tensors each prefix brings: of the keys that are known behind it, with their shapes. In the order of `keys`.
pub fn prefixes<'k, 's>(
    keys: impl Iterator<Item = (&'k str, &'s [usize])>,
    is_known: impl Fn(&str, &[usize]) -> bool,
) -> IndexMap<&'k str, usize> {
    let mut found: IndexMap<&str, usize> = IndexMap::new();
    for (key, shape) in keys {
        for (at, _) in key.match_indices('.') {
            if is_known(&key[at + 1..], shape) {
                *found.entry(&key[..=at]).or_default() += 1;
            }
        }
    }
    found
}

/// Nobody writes a page of lines, and a string of the language ends with its line.
fn is_good<'p>(mut patterns: impl ExactSizeIterator<Item = &'p String>) -> bool {
    patterns.len() <= MOST_LINES && patterns.all(|pattern| quoted(pattern).is_some())
}

const MOST_LINES: usize = 8;
/// A file of more parts than these holds the state of an optimizer.
pub const MOST_PARTS: usize = 8;

/// Parts of the names of copies that are not to be loaded where there is another: MoCo's momentum encoder, DINO's student.
const OTHER_COPIES: [&str; 4] = ["encoder_k", "momentum", "student", "_ema"];

/// Whether a part or a prefix of this name holds a copy of weights that lie in the file under another name, too.
pub fn is_other_copy(name: &str) -> bool {
    OTHER_COPIES.iter().any(|other| name.contains(other))
}
