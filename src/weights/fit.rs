//! Whether the keys and shapes of a file are those of a network, all of them; and where they are not, the lines for the
//! base's braces that make them so. A line is offered only after it was tried.

use std::collections::BTreeMap;

use archc_base::Resample;
use indexmap::{IndexMap, IndexSet};

use super::intake::{Intake, Supply};
use super::lines::{IgnoreLine, Lines, MapLine, Need, ResizeLine};
use super::source::WeightsSource;
use super::store::Store;
use crate::diag::{Code, Problem, nearest};
use crate::graph::{key, path};
use crate::ops::{ParamDecl, Role};

/// Whose keys a file is compared with.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// The base's, before the edits: what the spec calls the file, and the lines of its braces.
    Base { source: &'a WeightsSource, intake: &'a Intake },
    /// The edited network's, as `--weights` gives them.
    Edited,
}

/// The tensors that a network asks a file for.
#[derive(Debug)]
pub struct Asked {
    /// All that the network has, by key.
    pub tensors: IndexMap<String, ParamDecl>,
    /// The keys of those whose values are taken over. The file may lack the others, or have them in any shape.
    pub taken: IndexSet<String>,
    /// Height and width of the maps that the network makes, in running order: how tables of positions are laid out.
    pub grids: Vec<(usize, usize)>,
}

impl Asked {
    /// All of these tensors, each taken over.
    pub fn all(tensors: IndexMap<String, ParamDecl>) -> Asked {
        let taken = tensors.keys().cloned().collect();
        Asked { tensors, taken, grids: vec![] }
    }

    /// The keys that nobody asks for, and the file has not.
    pub fn absent(&self, supply: &Supply) -> Vec<String> {
        let is_absent = |(key, decl): &(&String, &ParamDecl)| {
            decl.role != Role::Computed && !self.taken.contains(*key) && !supply.tensors.contains_key(*key)
        };
        self.tensors.iter().filter(is_absent).map(|(key, _)| key.clone()).collect()
    }
}

/// Compares the tensors that a network asks for with those that a file has for it.
///
/// # Errors
/// Every key that is unexpected; of those that are taken over, every one that is missing or of another shape.
pub fn fits(asked: &Asked, supply: &Supply, store: &Store, whose: Whose<'_>) -> Result<(), Problem> {
    let faults = Faults::of(asked, supply);
    if faults.count() == 0 {
        return Ok(());
    }
    let Faults { missing, unexpected, misshapen } = &faults;
    let network = match whose {
        Whose::Base { .. } => "the base network",
        Whose::Edited => "the edited network",
    };
    let counts =
        format!("{} missing, {} unexpected, {} of another shape", missing.len(), unexpected.len(), misshapen.len());
    let lines = |what: &str, keys: &[&str]| keys.iter().map(|key| format!("{what}: {key}")).collect();
    let fresh = fresh_layer(&faults, asked, supply);
    let misshapen = misshapen.iter().map(|key| {
        let (needs, has) = (&asked.tensors[*key].shape, supply.tensors[*key].shape());
        format!("{key}: needs {needs:?}, the file has {has:?}")
    });
    let problem = Problem::new(Code::WeightsMismatch, format!("{} does not fit {network}: {counts}", store.describe()))
        .list("missing", lines("missing", missing))
        .list("unexpected", lines("unexpected", unexpected))
        .list("of another shape", misshapen.collect());
    Err(match whose {
        Whose::Edited => problem
            .hint("`--weights` takes a file of the network's own keys, as `train` and `export` write it")
            .hint("name other files in the base's braces: `weights \"file.safetensors\"`"),
        Whose::Base { source, intake } => {
            problem.hints(Fit { asked, store, source, intake }.ways(&faults)).hints(fresh)
        }
    })
}

/// Where all that is wrong are the tensors of one linear layer, most often a head: the edit that makes it anew.
fn fresh_layer(faults: &Faults<'_>, asked: &Asked, supply: &Supply) -> Option<String> {
    let mut keys = faults.missing.iter().chain(&faults.misshapen);
    let layer = path::parent(keys.next()?);
    let is_linear = asked.tensors.get(&key(layer, "weight")).is_some_and(|decl| decl.shape.len() == 2);
    if !is_linear || layer.is_empty() || !faults.unexpected.is_empty() || keys.any(|key| path::parent(key) != layer) {
        return None;
    }
    let out = supply.tensors.get(&key(layer, "weight")).and_then(|weight| weight.shape().first().copied());
    let out = out.map_or_else(|| "..".to_string(), |out| out.to_string());
    let shown = path::display(layer);
    Some(format!("a file does not need what edits make anew: `replace {shown} with linear({out})`"))
}

struct Faults<'n> {
    missing: Vec<&'n str>,
    unexpected: Vec<&'n str>,
    misshapen: Vec<&'n str>,
}

impl<'n> Faults<'n> {
    fn of(asked: &'n Asked, supply: &'n Supply) -> Faults<'n> {
        let is_missing = |(key, decl): &(&String, &ParamDecl)| {
            decl.role != Role::Computed && asked.taken.contains(*key) && !supply.tensors.contains_key(*key)
        };
        let missing = asked.tensors.iter().filter(is_missing).map(|(key, _)| key.as_str()).collect();
        let names = || supply.tensors.keys().map(String::as_str);
        let unexpected = names().filter(|key| !asked.tensors.contains_key(*key)).collect();
        let is_misshapen = |key: &&str| {
            let decl = asked.tensors.get(*key).filter(|_| asked.taken.contains(*key));
            decl.is_some_and(|decl| decl.shape != supply.tensors[*key].shape())
        };
        Faults { missing, unexpected, misshapen: names().filter(is_misshapen).collect() }
    }

    fn count(&self) -> usize {
        self.missing.len() + self.unexpected.len() + self.misshapen.len()
    }
}

/// What is looked for when a file does not fit.
struct Fit<'a> {
    asked: &'a Asked,
    store: &'a Store,
    source: &'a WeightsSource,
    intake: &'a Intake,
}

/// Lines that were tried, and what they leave.
struct Way {
    lines: Lines,
    /// What the file's keys begin with, where a line takes it off.
    prefix: Option<String>,
    missing: usize,
    unexpected: usize,
    misshapen: usize,
}

impl Fit<'_> {
    /// What is likely meant: a part of the file, a prefix to take off, keys to ignore, tables to resize, a key to rename.
    fn ways(&self, faults: &Faults<'_>) -> Vec<String> {
        let parts = self.parts(faults);
        if !parts.is_empty() {
            return parts;
        }
        if let Some(way) = self.way(&Lines::default()).filter(|way| !way.lines.is_empty()) {
            let what = match &way.prefix {
                Some(prefix) => format!("the file's keys begin with `{prefix}`"),
                None if way.lines.ignores.is_empty() => "tables of positions can be resized".into(),
                None => "the network does without these keys".into(),
            };
            return vec![format!("{what}: `{}`{}", way.lines, way.rest())];
        }
        let Faults { missing, unexpected, .. } = faults;
        let near = missing.first().and_then(|key| Some((key, *nearest(key, unexpected.iter().copied()).first()?)));
        let rename = |(key, near)| format!("`map \"..\" to \"..\"` renames keys, such as `{near}` to `{key}`");
        near.map(rename).into_iter().collect()
    }

    /// The parts of the file that bring at least half of what is missing, each with the lines that it needs.
    fn parts(&self, faults: &Faults<'_>) -> Vec<String> {
        if self.intake.part().is_some() || faults.missing.is_empty() {
            return vec![];
        }
        let mut ways: Vec<(&str, Way)> = vec![];
        for part in self.store.parts().iter().take(MOST_PARTS) {
            let lines = Lines { part: Some(part.clone()), ..Lines::default() };
            let way = self.way(&lines).filter(|way| way.missing * 2 <= faults.missing.len());
            ways.extend(way.map(|way| (part.as_str(), way)));
        }
        // of those that fit as well the order stays, that of their sizes and names
        ways.sort_by_key(|(part, way)| (is_other_copy(part), way.missing + way.misshapen));
        let several = ways.len() > 1;
        let hint = |(nth, (part, way)): (usize, &(&str, Way))| {
            let what = match (several, nth) {
                (false, _) => "the weights are a part of the file",
                (true, 0) => "the file holds several sets of weights, say which",
                (true, _) => "or",
            };
            let lines = if way.lines.to_string().is_empty() { String::new() } else { format!("; {}", way.lines) };
            format!("{what}: `weights {} part \"{part}\"{lines}`{}", self.source, way.rest())
        };
        ways.iter().enumerate().map(hint).collect()
    }

    /// What is to be added to `lines` so that as much as possible fits; None where the lines themselves do not work.
    fn way(&self, lines: &Lines) -> Option<Way> {
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
            lines.ignores = self.ignores(&mapped, &left.unexpected, lines.part.as_deref().or(self.intake.part()));
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
    fn tried(&self, lines: &Lines) -> Option<Supply> {
        self.intake.with(lines).ok()?.apply(self.store, self.asked).ok()
    }

    /// The prefix that most keys of the network have in the file, where at least half of what is missing comes by it.
    fn prefix(&self, supply: &Supply, faults: &Faults<'_>) -> Option<String> {
        // how many tensors each prefix brings, in the order of the file
        let mut found: IndexMap<&str, usize> = IndexMap::new();
        for key in &faults.unexpected {
            for (at, _) in key.match_indices('.') {
                let Some(decl) = self.asked.tensors.get(&key[at + 1..]) else { continue };
                if decl.shape == supply.tensors[*key].shape() {
                    *found.entry(&key[..=at]).or_default() += 1;
                }
            }
        }
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

impl Way {
    /// `, which leaves 1 missing`
    fn rest(&self) -> String {
        let counts = [(self.missing, "missing"), (self.unexpected, "unexpected"), (self.misshapen, "of another shape")];
        let rest = counts.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}"));
        let rest = rest.collect::<Vec<String>>().join(", ");
        if rest.is_empty() { String::new() } else { format!(", which leaves {rest}") }
    }
}

/// Nobody writes a page of lines, and a string of the language holds no quotes.
fn is_good<'p>(mut patterns: impl ExactSizeIterator<Item = &'p String>) -> bool {
    patterns.len() <= MOST_LINES && patterns.all(|pattern| !pattern.contains('"'))
}

const MOST_LINES: usize = 8;
/// A file of more parts than these holds the state of an optimizer.
const MOST_PARTS: usize = 8;

/// Parts of the names of copies that are not to be loaded where there is another: MoCo's momentum encoder, DINO's student.
const OTHER_COPIES: [&str; 4] = ["encoder_k", "momentum", "student", "_ema"];

fn is_other_copy(name: &str) -> bool {
    OTHER_COPIES.iter().any(|other| name.contains(other))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, Sample};
    use super::*;
    use crate::ops::init::Init;

    /// A network of these required keys, each of one value.
    fn asked(keys: &[&str]) -> Asked {
        let decl = |key: &&str| (key.to_string(), ParamDecl::weight("weight", [1], Init::Zeros));
        Asked::all(keys.iter().map(decl).collect())
    }

    fn problem(network: &[&str], file: &[&str], is_base: bool) -> Problem {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let tensors: Vec<Sample> = file.iter().map(|key| Sample::f32(key, &[1], &[1.0])).collect();
        std::fs::write(&path, samples::safetensors(&tensors)).unwrap();
        let store = Store::open_file(&path).unwrap();
        let (source, intake) = (WeightsSource::File("a.safetensors".into()), Intake::default());
        let whose = if is_base { Whose::Base { source: &source, intake: &intake } } else { Whose::Edited };
        fits(&asked(network), &Supply::whole(&store), &store, whose).unwrap_err()
    }

    #[test]
    fn lines_are_offered_that_were_tried() {
        let network = ["conv.weight", "bn.weight", "fc.weight"];
        let with = |prefix: &str| network.map(|key| format!("{prefix}{key}"));
        let cases: &[(Vec<String>, &str)] = &[
            (with("module.").into(), r#"the file's keys begin with `module.`: `map "module\.(.*)" to "$1"`"#),
            (
                with("state_dict.module._orig_mod.").into(),
                r#"the file's keys begin with `state_dict.module._orig_mod.`: `map "state_dict\.module\._orig_mod\.(.*)" to "$1"`"#,
            ),
            // MoCo: the momentum encoder comes first, and the head is another one
            (
                [
                    "encoder_k.conv.weight",
                    "encoder_k.bn.weight",
                    "encoder_q.conv.weight",
                    "encoder_q.bn.weight",
                    "queue",
                ]
                .map(String::from)
                .into(),
                r#"the file's keys begin with `encoder_q.`: `map "encoder_q\.(.*)" to "$1"; ignore "encoder_k\..*"; ignore "queue"`, which leaves 1 missing"#,
            ),
            (
                [&with("state_dict.")[..], &["optimizer.state.0.exp_avg".into(), "epoch".into()]].concat(),
                r#"the file's keys begin with `state_dict.`: `map "state_dict\.(.*)" to "$1"; ignore "optimizer\..*"; ignore "epoch"`"#,
            ),
            (
                [&with("")[..], &["aux1.fc.weight".into(), "aux2.fc.weight".into(), "aux1.conv.weight".into()]]
                    .concat(),
                r#"the network does without these keys: `ignore "aux1\..*"; ignore "aux2\..*"`"#,
            ),
            // beside keys that are wanted, the exact ones
            (
                [&with("")[..], &["fc.scale".into(), "fc.more.a".into(), "fc.more.b".into()]].concat(),
                r#"the network does without these keys: `ignore "fc\.scale"; ignore "fc\.more\..*"`"#,
            ),
            (
                ["conv.weight", "bn.weight", "fcc.weight"].map(String::from).into(),
                "`map \"..\" to \"..\"` renames keys, such as `fcc.weight` to `fc.weight`",
            ),
        ];
        for (file, hint) in cases {
            let file: Vec<&str> = file.iter().map(String::as_str).collect();
            assert_eq!(problem(&network, &file, true).hints, [*hint]);
        }
        let told = problem(&network, &["module.fc.weight"], false);
        assert!(told.hints.iter().all(|hint| !hint.contains("map")), "{:?}", told.hints);
    }

    #[test]
    fn long_lists_are_cut_and_kept() {
        let keys: Vec<String> = (0..30).map(|i| format!("layer{i}.weight")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let told = problem(&keys, &["x.a", "x.b"], true);
        assert!(told.message.ends_with("30 missing, 2 unexpected, 0 of another shape"), "{}", told.message);
        let notes: Vec<String> = told.all_notes().map(|note| note.into_owned()).collect();
        assert_eq!(notes.len(), 8 + 1 + 2);
        assert_eq!(notes[8], "22 more missing; `--verbose` lists them");
        assert_eq!(told.in_full().notes.len(), 32);
    }
}
