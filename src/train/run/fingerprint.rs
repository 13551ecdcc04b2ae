//! Everything that a run is a function of, in parts, so that a run goes on only with what it was begun with, and what has
//! changed is named: the spec and each file that it uses, parameters, options, weights, classes, samples.

use indexmap::{IndexMap, IndexSet};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::samples::Samples;
use super::{Job, RunFolder};
use crate::bind::Bound;
use crate::diag::{Code, Problem};
use crate::io::digest::hex;
use crate::source::{FileId, Sources};
use crate::syntax;

/// The parts; of texts, networks and tensors their SHA-256.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The version of archc, which is told and not compared.
    archc: String,
    /// The spec, then each file that it uses, by name.
    sources: Vec<(String, String)>,
    /// Of the same, what counts of their texts: a comment does not. None of a run of an older archc.
    #[serde(default)]
    meanings: Vec<String>,
    /// The values of `--set`.
    parameters: IndexMap<String, String>,
    /// Whatever else is given, by a name that can be told.
    pub options: IndexMap<String, String>,
    /// The edited network and how pictures are prepared for it: it differs alone where archc's own networks do.
    network: String,
    /// The tensors that files give: what the files are called, and the digest.
    weights: Option<(String, String)>,
    pub classes: Vec<String>,
    /// [`Samples::digest`].
    pub samples: String,
}

impl Fingerprint {
    /// Of a spec, its parameters and its weights; options, classes and samples are the job's.
    ///
    /// # Errors
    /// If weights cannot be read.
    pub fn new(
        sources: &Sources,
        spec: FileId,
        set: &[(String, String)],
        bound: &Bound,
    ) -> Result<Fingerprint, Problem> {
        let dir = sources.file(spec).dir.clone().unwrap_or_default();
        let name = |name: &str| {
            std::path::Path::new(name).strip_prefix(&dir).map_or(name.into(), |below| below.display().to_string())
        };
        let own = || sources.files().filter(|source| !source.builtin);
        Ok(Fingerprint {
            archc: env!("CARGO_PKG_VERSION").into(),
            meanings: own().map(|source| sha256(&syntax::meaning(&source.text))).collect(),
            sources: own().map(|source| (name(&source.name), sha256(&source.text))).collect(),
            parameters: set.iter().cloned().collect(),
            options: IndexMap::new(),
            network: sha256(&bound.typed().graph().to_string()),
            weights: bound.digest_of_files()?,
            classes: vec![],
            samples: String::new(),
        })
    }

    /// Adds what is the job's own.
    pub(super) fn of_job(mut self, job: &Job, samples: &Samples) -> Fingerprint {
        self.options.insert("batch".into(), job.batch.to_string());
        self.options.insert("seed".into(), job.recipe.seed.to_string());
        let preprocess = job.recipe.preprocess.as_ref().map_or("none".into(), ToString::to_string);
        self.options.insert("preprocessing".into(), preprocess.trim_start_matches("preprocess: ").into());
        self.classes.clone_from(&job.classes);
        self.samples = samples.digest();
        self
    }

    /// What is other in the texts of `now`.
    fn changed_sources(&self, now: &Fingerprint) -> Vec<String> {
        let meant = |one: &Fingerprint| -> Option<Vec<(String, String)>> {
            let names = one.sources.iter().map(|(name, _)| name.clone());
            (one.meanings.len() == one.sources.len()).then(|| names.zip(one.meanings.iter().cloned()).collect())
        };
        match (meant(self), meant(now)) {
            (Some(old), Some(new)) => sources(&old, &new),
            _ => sources(&self.sources, &now.sources),
        }
    }

    /// What is other in `now`, a phrase each, but for the samples.
    fn differences(&self, now: &Fingerprint) -> Vec<String> {
        let mut found = self.changed_sources(now);
        values("the parameter `", "`", "the spec's own", (&self.parameters, &now.parameters), &mut found);
        values("the ", "", "not given", (&self.options, &now.options), &mut found);
        if found.is_empty() && self.network != now.network {
            found.push(match self.archc == now.archc {
                true => "the network is built in another way".into(),
                false => format!("archc {} builds another network of the spec than archc {}", now.archc, self.archc),
            });
        }
        match (&self.weights, &now.weights) {
            (Some((old, was)), Some((new, is))) if was != is => {
                let short = |digest: &str| digest.get(..16).unwrap_or(digest).to_string();
                let (was, is) = (short(was), short(is));
                found.push(match old == new {
                    true => format!("the weights in `{old}` have changed: their sha256 was {was}.., is {is}.."),
                    false => {
                        format!("the weights were those of `{old}` (sha256 {was}..), are those of `{new}` ({is}..)")
                    }
                });
            }
            (Some((old, _)), None) => found.push(format!("the weights were those of `{old}`, are drawn at random")),
            (None, Some((new, _))) => found.push(format!("the weights were drawn at random, are those of `{new}`")),
            _ => {}
        }
        classes(&self.classes, &now.classes, &mut found);
        found
    }

    /// Refuses to go on in `folder`, whose run was begun with `self`, with something else. `listed` are the samples that it
    /// was begun with, where that is known.
    ///
    /// # Errors
    /// If anything differs: the problem names what.
    pub(super) fn check(
        &self,
        now: &Fingerprint,
        listed: Option<&Samples>,
        samples: &Samples,
        folder: &RunFolder,
    ) -> Result<(), Problem> {
        let mut found = self.differences(now);
        if self.samples != now.samples {
            found.extend(match listed {
                Some(listed) => listed.differences(samples),
                None => vec!["the samples have changed".into()],
            });
        }
        let mut found = found.into_iter();
        let Some(first) = found.next() else { return Ok(()) };
        let message = format!("the run in `{}` was begun with something else: {first}", folder.path().display());
        let mut problem = Problem::new(Code::Input, message);
        for difference in found.by_ref().take(SHOWN) {
            problem = problem.note(difference);
        }
        let more = found.count();
        if more > 0 {
            problem = problem.note(format!("and {more} more"));
        }
        problem = problem.hint("put back what has changed, or begin a new run in another folder: `--out`");
        let is_specs = !self.changed_sources(now).is_empty() || self.parameters != now.parameters;
        if is_specs && folder.spec().is_file() {
            problem = problem.hint(format!(
                "what it was begun with begins a new one: `archc train {} --out ..`",
                folder.spec().display()
            ));
        }
        Err(problem)
    }
}

/// How many differences are named beside the first.
const SHOWN: usize = 8;

fn sha256(text: &str) -> String {
    hex(Sha256::digest(text))
}

/// The spec is the first of both; the others go by name, which the folder that archc was started in may change, so that it
/// counts only where contents differ.
fn sources(old: &[(String, String)], new: &[(String, String)]) -> Vec<String> {
    let digests = |sources: &[(String, String)]| sources.iter().map(|(_, digest)| digest.clone()).collect::<Vec<_>>();
    if digests(old) == digests(new) {
        return vec![];
    }
    let mut found = vec![];
    if old.first().map(|(_, digest)| digest) != new.first().map(|(_, digest)| digest) {
        found.push("the spec has changed".to_string());
    }
    let rest = |sources: &[(String, String)]| sources.iter().skip(1).cloned().collect::<IndexMap<_, _>>();
    let (old, new) = (rest(old), rest(new));
    for (name, digest) in &old {
        match new.get(name) {
            Some(now) if now != digest => found.push(format!("`{name}`, which the spec uses, has changed")),
            Some(_) => {}
            None => found.push(format!("`{name}` is used no more")),
        }
    }
    found.extend(new.keys().filter(|name| !old.contains_key(*name)).map(|name| format!("`{name}` is used since")));
    if found.is_empty() {
        found.push("the spec uses its files in another order".into());
    }
    found
}

fn values(
    before: &str,
    behind: &str,
    none: &str,
    (old, new): (&IndexMap<String, String>, &IndexMap<String, String>),
    found: &mut Vec<String>,
) {
    let names: IndexSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let of = |values: &IndexMap<String, String>| values.get(name).cloned().unwrap_or_else(|| none.into());
        if old.get(name) != new.get(name) {
            found.push(format!("{before}{name}{behind} was {}, is {}", of(old), of(new)));
        }
    }
}

fn classes(old: &[String], new: &[String], found: &mut Vec<String>) {
    if old.len() == new.len() {
        let pairs = old.iter().zip(new).enumerate().filter(|(_, (old, new))| old != new);
        found.extend(pairs.map(|(at, (old, new))| format!("class {at} was `{old}`, is `{new}`")));
        return;
    }
    found.extend(old.iter().filter(|name| !new.contains(name)).map(|name| format!("the class `{name}` is gone")));
    found.extend(new.iter().filter(|name| !old.contains(name)).map(|name| format!("the class `{name}` is new")));
}
