//! Whether the keys and shapes of a file are those of a network, all of them; and where they are not, the lines for the
//! base's braces that make them so. A line is offered only after it was tried.

use indexmap::{IndexMap, IndexSet};

use super::intake::{Intake, Supply};
use super::lines::Lines;
use super::source::WeightsSource;
use super::store::Store;
use super::ways::{Faults, MOST_PARTS, Trial, Way, is_other_copy};
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

    /// The tensors that a file must have.
    pub fn required(&self) -> impl Iterator<Item = (&str, &ParamDecl)> {
        let tensors = self.tensors.iter().map(|(key, decl)| (key.as_str(), decl));
        tensors.filter(|(key, decl)| decl.role != Role::Computed && self.taken.contains(*key))
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
            let (ways, is_mended) = Fit { trial: Trial { asked, store, intake }, source }.ways(&faults);
            let is_file = matches!(source, WeightsSource::File(_));
            let elsewhere = (is_file && !is_mended && fresh.is_none())
                .then(|| format!("`archc doctor {}` says which network it fits, and by which lines", store.describe()));
            problem.hints(ways).hints(fresh).hints(elsewhere)
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

/// What is looked for when a file does not fit.
struct Fit<'a> {
    trial: Trial<'a>,
    source: &'a WeightsSource,
}

impl Fit<'_> {
    /// What is likely meant: a part of the file, a prefix to take off, keys to ignore, tables to resize, a key to rename. And
    /// whether nothing else is wrong then.
    fn ways(&self, faults: &Faults<'_>) -> (Vec<String>, bool) {
        let (parts, is_mended) = self.parts(faults);
        if !parts.is_empty() {
            return (parts, is_mended);
        }
        if let Some(way) = self.trial.way(&Lines::default()).filter(|way| !way.lines.is_empty()) {
            let what = match &way.prefix {
                Some(prefix) => format!("the file's keys begin with `{prefix}`"),
                None if way.lines.ignores.is_empty() => "tables of positions can be resized".into(),
                None => "the network does without these keys".into(),
            };
            return (vec![format!("{what}: `{}`{}", way.lines, way.rest())], way.is_whole());
        }
        let Faults { missing, unexpected, .. } = faults;
        let near = missing.first().and_then(|key| Some((key, *nearest(key, unexpected.iter().copied()).first()?)));
        let rename = |(key, near)| format!("`map \"..\" to \"..\"` renames keys, such as `{near}` to `{key}`");
        (near.map(rename).into_iter().collect(), false)
    }

    /// The parts of the file that bring at least half of what is missing, each with the lines that it needs, and whether one
    /// of them fits.
    fn parts(&self, faults: &Faults<'_>) -> (Vec<String>, bool) {
        if self.trial.intake.part().is_some() || faults.missing.is_empty() {
            return (vec![], false);
        }
        let mut ways: Vec<(&str, Way)> = vec![];
        for part in self.trial.store.parts().iter().take(MOST_PARTS) {
            let lines = Lines { part: Some(part.clone()), ..Lines::default() };
            let way = self.trial.way(&lines).filter(|way| way.missing * 2 <= faults.missing.len());
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
        (ways.iter().enumerate().map(hint).collect(), ways.iter().any(|(_, way)| way.is_whole()))
    }
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
            let hints = problem(&network, &file, true).hints;
            assert_eq!(hints[0], *hint);
            // where the line does not mend all of it, another network may be meant
            let is_mended = !hint.contains("which leaves") && !hint.contains("renames keys");
            let elsewhere: Vec<&str> = hints[1..].iter().filter_map(|hint| hint.split(' ').nth(1)).collect();
            assert_eq!(elsewhere, if is_mended { vec![] } else { vec!["doctor"] }, "{hints:?}");
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
