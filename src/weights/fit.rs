//! Whether the keys and shapes of a file are those of a network, all of them; and where they are not, the lines for the
//! base's braces that make them so. A line is offered only after it was tried.

use std::collections::BTreeMap;

use indexmap::{IndexMap, IndexSet};

use super::keymap::KeyMap;
use super::store::Store;
use crate::diag::{Code, Problem, nearest};
use crate::ops::{ParamDecl, Role};

/// Whose keys a file is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The base's, before the edits.
    Base,
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
}

impl Asked {
    /// All of these tensors, each taken over.
    pub fn all(tensors: IndexMap<String, ParamDecl>) -> Asked {
        let taken = tensors.keys().cloned().collect();
        Asked { tensors, taken }
    }

    /// The keys that nobody asks for, and `names` has not.
    pub fn absent(&self, names: &IndexMap<String, String>) -> Vec<String> {
        let is_absent = |(key, decl): &(&String, &ParamDecl)| {
            decl.role != Role::Computed && !self.taken.contains(*key) && !names.contains_key(*key)
        };
        self.tensors.iter().filter(is_absent).map(|(key, _)| key.clone()).collect()
    }
}

/// Compares the tensors that a network has with those of a file, by the names that `names` gives their keys.
///
/// # Errors
/// Every key that is unexpected; of those that are still taken over, every one that is missing or of another shape.
pub fn fits(
    asked: &Asked,
    names: &IndexMap<String, String>,
    store: &Store,
    whose: Whose,
) -> Result<(), Problem> {
    let fit = Fit { asked, store };
    let Faults { missing, unexpected, misshapen } = fit.faults(names);
    if missing.is_empty() && unexpected.is_empty() && misshapen.is_empty() {
        return Ok(());
    }
    let network = match whose {
        Whose::Base => "the base network",
        Whose::Edited => "the edited network",
    };
    let counts =
        format!("{} missing, {} unexpected, {} of another shape", missing.len(), unexpected.len(), misshapen.len());
    let lines = |what: &str, keys: &[&str]| keys.iter().map(|key| format!("{what}: {key}")).collect();
    let problem = Problem::new(Code::WeightsMismatch, format!("{} does not fit {network}: {counts}", store.describe()))
        .list("missing", lines("missing", &missing))
        .list("unexpected", lines("unexpected", &unexpected))
        .list("of another shape", misshapen.iter().map(|(_, line)| line.clone()).collect());
    if whose == Whose::Edited {
        return Err(problem
            .hint("`--weights` takes a file of the network's own keys, as `train` and `export` write it")
            .hint("name other files in the base's braces: `weights \"file.safetensors\"`"));
    }
    Err(problem.hints(fit.ways(names, &missing, &unexpected)))
}

struct Fit<'a> {
    asked: &'a Asked,
    store: &'a Store,
}

struct Faults<'n> {
    missing: Vec<&'n str>,
    unexpected: Vec<&'n str>,
    /// The key, and what is wrong with it.
    misshapen: Vec<(&'n str, String)>,
}

impl<'a> Fit<'a> {
    /// `names`: from the network's name to the file's key.
    fn faults<'n>(&self, names: &'n IndexMap<String, String>) -> Faults<'n>
    where
        'a: 'n,
    {
        let is_missing = |(key, decl): &(&String, &ParamDecl)| {
            decl.role != Role::Computed && self.asked.taken.contains(*key) && !names.contains_key(*key)
        };
        let missing = self.asked.tensors.iter().filter(is_missing).map(|(key, _)| key.as_str()).collect();
        let unexpected = names.keys().filter(|key| !self.asked.tensors.contains_key(*key)).map(String::as_str).collect();
        let misshapen = names.iter().filter_map(|(name, file)| {
            let decl = self.asked.tensors.get(name)?;
            let shape = self.shape(file);
            (self.asked.taken.contains(name) && decl.shape != shape)
                .then(|| (name.as_str(), format!("{name}: needs {:?}, the file has {shape:?}", decl.shape)))
        });
        Faults { missing, unexpected, misshapen: misshapen.collect() }
    }

    fn shape(&self, file: &str) -> &[usize] {
        self.store.tensors().get(file).map_or(&[], |info| &info.shape)
    }

    /// What is likely meant: a prefix to take off, keys to ignore, a key to rename.
    fn ways(&self, names: &IndexMap<String, String>, missing: &[&str], unexpected: &[&str]) -> Vec<String> {
        let prefix = self.prefix(names, missing, unexpected);
        let map = prefix.as_ref().map(|prefix| (format!("{}(.*)", regex_lite::escape(prefix)), "$1".to_string()));
        let Some(mapped) = renamed(names, map.as_ref(), &[]) else { return vec![] };
        let left = self.faults(&mapped);
        // keys that may still be wanted under another name are not for ignoring
        let ignores =
            if left.missing.is_empty() || prefix.is_some() { self.ignores(&mapped, &left.unexpected) } else { vec![] };
        if (map.is_some() || !ignores.is_empty())
            && let Some(tried) = renamed(names, map.as_ref(), &ignores)
        {
            return vec![self.offer(prefix.as_deref(), map.as_ref(), &ignores, &self.faults(&tried))];
        }
        let near = missing.first().and_then(|key| Some((key, *nearest(key, unexpected.iter().copied()).first()?)));
        let rename = |(key, near)| format!("`map \"..\" to \"..\"` renames keys, such as `{near}` to `{key}`");
        near.map(rename).into_iter().collect()
    }

    /// The lines, and what they leave.
    fn offer(
        &self,
        prefix: Option<&str>,
        map: Option<&(String, String)>,
        ignores: &[String],
        left: &Faults<'_>,
    ) -> String {
        let quoted = |text: &str| format!("\"{text}\"");
        let map = map.map(|(from, to)| format!("map {} to {}", quoted(from), quoted(to)));
        let lines: Vec<String> =
            map.into_iter().chain(ignores.iter().map(|pattern| format!("ignore {}", quoted(pattern)))).collect();
        let what = match prefix {
            Some(prefix) => format!("the file's keys begin with `{prefix}`"),
            None => "the network does without these keys".into(),
        };
        let mut rest = vec![];
        for (count, kind) in [
            (left.missing.len(), "missing"),
            (left.unexpected.len(), "unexpected"),
            (left.misshapen.len(), "of another shape"),
        ] {
            if count > 0 {
                rest.push(format!("{count} {kind}"));
            }
        }
        let rest = if rest.is_empty() { String::new() } else { format!(", which leaves {}", rest.join(", ")) };
        format!("{what}: `{}`{rest}", lines.join("; "))
    }

    /// The prefix that most keys of the network have in the file, where at least half of what is missing comes by it.
    fn prefix(&self, names: &IndexMap<String, String>, missing: &[&str], unexpected: &[&str]) -> Option<String> {
        // how many tensors each prefix brings, in the order of the file
        let mut found: IndexMap<&str, usize> = IndexMap::new();
        for key in unexpected {
            let file = names.get(*key).map_or(*key, String::as_str);
            for (at, _) in key.match_indices('.') {
                let Some(decl) = self.asked.tensors.get(&key[at + 1..]) else { continue };
                if decl.shape == self.shape(file) {
                    *found.entry(&key[..=at]).or_default() += 1;
                }
            }
        }
        found.retain(|_, count| *count * 2 >= missing.len() && !missing.is_empty());
        let most = found.values().max().copied()?;
        let best = found.into_iter().filter(|(_, count)| *count == most).map(|(prefix, _)| prefix);
        // of two that bring as much: the network that learns by gradient, and the average that is meant to be used
        best.min_by_key(|prefix| OTHER_COPIES.iter().any(|other| prefix.contains(other))).map(str::to_string)
    }

    /// Patterns of these keys and no others, as short as they can be.
    fn ignores(&self, names: &IndexMap<String, String>, unexpected: &[&str]) -> Vec<String> {
        // by each prefix that ends in a dot: whether a key that is wanted has it, as the file or as the maps have it
        let mut is_wanted: BTreeMap<&str, bool> = BTreeMap::new();
        for (name, file) in names.iter().filter(|(name, _)| self.asked.tensors.contains_key(*name)) {
            for key in [name, file] {
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
        // nobody writes a page of lines, and a string of the language holds no quotes
        let is_good = patterns.len() <= MOST_LINES && patterns.iter().all(|pattern| !pattern.contains('"'));
        if is_good { patterns } else { vec![] }
    }
}

const MOST_LINES: usize = 8;

/// Parts of the names of copies that are not to be loaded where there is another: MoCo's momentum encoder, DINO's student.
const OTHER_COPIES: [&str; 4] = ["encoder_k", "momentum", "student", "_ema"];

/// The keys by the names that further lines give them; None where these do not work.
fn renamed(
    names: &IndexMap<String, String>,
    map: Option<&(String, String)>,
    ignores: &[String],
) -> Option<IndexMap<String, String>> {
    let maps = map.map(|(from, to)| (from.as_str(), to.as_str()));
    let keymap = KeyMap::new(maps, ignores.iter().map(String::as_str)).ok()?;
    let mapped = keymap.apply(names.keys().map(String::as_str)).ok()?;
    Some(mapped.names.into_iter().filter_map(|(name, old)| Some((name, names.get(&old)?.clone()))).collect())
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

    fn problem(network: &[&str], file: &[&str], whose: Whose) -> Problem {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let tensors: Vec<Sample> = file.iter().map(|key| Sample::f32(key, &[1], &[1.0])).collect();
        std::fs::write(&path, samples::safetensors(&tensors)).unwrap();
        let store = Store::open_file(&path).unwrap();
        let names = store.tensors().keys().map(|key| (key.clone(), key.clone())).collect();
        fits(&asked(network), &names, &store, whose).unwrap_err()
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
            assert_eq!(problem(&network, &file, Whose::Base).hints, [*hint]);
        }
        let told = problem(&network, &["module.fc.weight"], Whose::Edited);
        assert!(told.hints.iter().all(|hint| !hint.contains("map")), "{:?}", told.hints);
    }

    #[test]
    fn long_lists_are_cut_and_kept() {
        let keys: Vec<String> = (0..30).map(|i| format!("layer{i}.weight")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let told = problem(&keys, &["x.a", "x.b"], Whose::Base);
        assert!(told.message.ends_with("30 missing, 2 unexpected, 0 of another shape"), "{}", told.message);
        let notes: Vec<String> = told.all_notes().map(|note| note.into_owned()).collect();
        assert_eq!(notes.len(), 8 + 1 + 2);
        assert_eq!(notes[8], "22 more missing; `--verbose` lists them");
        assert_eq!(told.in_full().notes.len(), 32);
    }
}
