//! What a file of weights is: who wrote it, which network of the zoo it fits, and the base that reads it, ready to paste.
//!
//! Keys with shapes are the evidence. What is printed was loaded by the strict loader before, as a whole; where nothing loads, the
//! nearest network is named with what differs. Nothing in a file is executed, and of tensors only the headers are read.

mod catalogue;
mod layouts;
mod trial;
mod view;

use std::fmt;
use std::path::Path;

use rayon::prelude::*;
use regex_lite::Regex;
use serde_json::{Value, json};

pub use catalogue::Catalogue;
use catalogue::Network;
use layouts::{ORIGINS, Origin, Sign};
use trial::{Candidate, Loaded, Plan};
use view::{View, views};

use crate::compile::nameable;
use crate::diag::{Code, Diagnostics, Problem, and, count, joined, short};
use crate::graph::path;
use crate::weights::Store;

/// What was found of a file.
#[derive(Debug)]
pub struct Diagnosis {
    file: String,
    tensors: Vec<(String, Vec<usize>)>,
    /// Who wrote it, as far as can be told.
    origins: Vec<&'static Origin>,
    finding: Finding,
    /// The only network that was tried, where it was one alone.
    only: Option<&'static str>,
    warnings: Diagnostics,
}

#[derive(Debug)]
enum Finding {
    Fits(Box<Fit>),
    /// No network; the nearest, where one has something in common with it.
    Nothing(Option<Nearest>),
}

/// A network that loads from the file.
#[derive(Debug)]
struct Fit {
    network: &'static str,
    /// What it is given.
    given: Option<&'static str>,
    /// How the file calls the layers.
    layout: String,
    plan: Plan,
    loaded: Loaded,
    /// Networks that load by the same words, each with what it differs in.
    twins: Vec<(&'static str, String)>,
    /// Why this one of them, where something says so.
    evidence: Option<&'static str>,
    /// Where in the file the same tensors lie once more.
    copies: Vec<String>,
    note: Option<&'static str>,
}

#[derive(Debug)]
struct Nearest {
    network: &'static str,
    has: usize,
    of: usize,
    missing: Vec<String>,
    misshapen: Vec<String>,
    unexpected: Vec<String>,
}

/// All keys of a file have at most so many bytes; with copies and an optimizer's state those of the largest have a tenth.
const MOST_KEYS: usize = 1 << 20;
/// Networks that have less in common with a file are not worth naming.
const LEAST_CLOSE: f64 = 0.1;
/// Kinds of networks that are tried before a file is said to fit nothing.
const MOST_TRIED: usize = 24;

/// Looks what the file at `path` is. The path is written into the base as it is given.
///
/// # Errors
/// A file that cannot be read, or holds no weights.
pub fn diagnose(path: &Path, catalogue: &Catalogue) -> Result<Diagnosis, Problem> {
    let file = nameable(path)?;
    let store = readable(path)?;
    let views = views(&store, catalogue);
    let pairs: Vec<(&View, &Network)> =
        views.iter().flat_map(|view| catalogue.networks.iter().map(move |network| (view, network))).collect();
    let candidates: Vec<Candidate<'_>> =
        pairs.into_par_iter().filter_map(|(view, network)| Candidate::new(view, network)).collect();
    let origins = origins(&store);
    let finding = match fit(&candidates, &store, file, &origins) {
        Some(fit) => Finding::Fits(Box::new(fit)),
        None => Finding::Nothing(nearest(&candidates)),
    };
    let mut warnings = Diagnostics::new();
    store.warnings().iter().for_each(|problem| warnings.push(problem.clone().anywhere().warning()));
    let tensors = store.tensors().iter().map(|(key, info)| (key.clone(), info.shape.clone())).collect();
    Ok(Diagnosis { file: file.into(), tensors, origins, finding, only: catalogue.only, warnings })
}

/// Opens a file that may be of a network: what [`diagnose`] refuses, before the catalogue is made.
///
/// # Errors
/// A file that cannot be read, or holds no weights.
pub fn readable(path: &Path) -> Result<Store, Problem> {
    nameable(path)?;
    let store = Store::open_file(path)?;
    if store.tensors().keys().map(String::len).sum::<usize>() > MOST_KEYS {
        let message = format!(
            "`{}` holds {}: no network of the zoo is of so many",
            path.display(),
            count(store.tensors().len(), "tensor")
        );
        return Err(Problem::new(Code::Limit, message).hint("save the weights of one network alone"));
    }
    if store.tensors().is_empty() {
        let message = format!("`{}` holds no tensors", path.display());
        return Err(
            Problem::new(Code::WeightsFile, message).hint("save weights: `save_file(model.state_dict(), file)`")
        );
    }
    if is_optimizer(&store) {
        let message = format!("`{}` holds the state of an optimizer, and no weights", path.display());
        return Err(Problem::new(Code::WeightsFile, message)
            .hint("the weights are in another file, or were not saved: `torch.save(model.state_dict(), file)`"));
    }
    Ok(store)
}

/// The cheapest candidate that loads, or the one of its twins that is meant.
fn fit(candidates: &[Candidate<'_>], store: &Store, file: &str, origins: &[&'static Origin]) -> Option<Fit> {
    let edits = |network: &Network| -> Vec<&'static str> {
        let edits = origins.iter().flat_map(|origin| origin.edits);
        edits.filter(|(begins, _)| network.name.starts_with(begins)).map(|(_, edit)| *edit).collect()
    };
    let plan = |candidate: &Candidate<'_>| {
        let mut plan = candidate.plan()?;
        plan.edits = edits(candidate.network);
        Some(plan)
    };
    let mut plans: Vec<(&Candidate<'_>, Plan)> =
        candidates.iter().filter_map(|candidate| Some((candidate, plan(candidate)?))).collect();
    plans.sort_by_cached_key(|(candidate, plan)| candidate.cost(plan));
    let mut failed: Vec<&Candidate<'_>> = vec![];
    for (cheapest, _) in &plans {
        if failed.len() == MOST_TRIED {
            break;
        }
        if failed.iter().any(|other| cheapest.is_twin(other)) {
            continue;
        }
        let twins: Vec<&(&Candidate<'_>, Plan)> = plans.iter().filter(|(other, _)| cheapest.is_twin(other)).collect();
        let load = |(candidate, plan): &(&Candidate<'_>, Plan)| candidate.load(plan, store, file);
        let tried: Vec<Option<Loaded>> = twins.par_iter().map(|twin| load(twin)).collect();
        let mut loaded: Vec<_> =
            twins.into_iter().zip(tried).filter_map(|(twin, loaded)| Some((twin, loaded?))).collect();
        if loaded.is_empty() {
            failed.push(cheapest);
            continue;
        }
        let names: Vec<&str> = loaded.iter().map(|((candidate, _), _)| candidate.network.name).collect();
        let evidence = evidence(&names, store, file, origins);
        let ((candidate, plan), own) = loaded.remove(evidence.map_or(0, |(at, _)| at));
        let differs = |((other, _), _): &(&(&Candidate<'_>, Plan), Loaded)| {
            (other.network.name, candidate.network.difference(other.network))
        };
        let layout = candidate.view.layout;
        return Some(Fit {
            network: candidate.network.name,
            given: candidate.network.given,
            layout: match layout {
                Some(layout) => layout.name.into(),
                None => format!("the keys of {}", candidate.network.file.keys.name()),
            },
            plan: plan.clone(),
            loaded: own,
            twins: loaded.iter().map(differs).collect(),
            evidence: evidence.map(|(_, why)| why).filter(|_| !loaded.is_empty()),
            copies: copies(candidate, &plans),
            note: layout.and_then(|layout| layout.note),
        });
    }
    None
}

/// Where else in the file tensors of the candidate's network lie, as many of them.
fn copies(candidate: &Candidate<'_>, plans: &[(&Candidate<'_>, Plan)]) -> Vec<String> {
    let (part, prefix) = (&candidate.view.lines.part, &candidate.view.prefix);
    let mut places: Vec<String> = vec![];
    for (other, _) in plans {
        let (other_part, other_prefix) = (&other.view.lines.part, &other.view.prefix);
        let is_same = std::ptr::eq(other.network, candidate.network) && other.hits == candidate.hits;
        // the whole of a file has the same tensors as its parts, under longer keys
        if !is_same || (other_part, other_prefix) == (part, prefix) || (part.is_some() && other_part.is_none()) {
            continue;
        }
        let place = match other_part {
            Some(name) if other_part != part => format!("`part \"{name}\"`"),
            _ => format!("`{other_prefix}`"),
        };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// Which of some networks is meant, and what says so.
fn evidence(names: &[&str], store: &Store, file: &str, origins: &[&'static Origin]) -> Option<(usize, &'static str)> {
    let arch = store.entries().iter().find(|entry| entry.name == "arch").and_then(|entry| entry.text.as_deref());
    if let Some(at) = names.iter().position(|name| Some(*name) == arch) {
        return Some((at, "the file's `arch`"));
    }
    let plain = file.to_lowercase().replace(['-', '.', ' '], "_");
    let is_named = |(_, name): &(usize, &&str)| plain.contains(name.trim_start_matches("timm_"));
    let longest = names.iter().enumerate().filter(is_named).max_by_key(|(_, name)| name.len());
    if let Some((at, _)) = longest {
        return Some((at, "the file's path"));
    }
    let mut learned = origins.iter().flat_map(|origin| origin.learned);
    let at = learned.find_map(|begins| names.iter().position(|name| name.starts_with(begins)));
    at.map(|at| (at, "how it learned"))
}

fn nearest(candidates: &[Candidate<'_>]) -> Option<Nearest> {
    let best = candidates.iter().max_by(|one, other| {
        // the first of equals
        one.closeness().total_cmp(&other.closeness()).then(std::cmp::Ordering::Greater)
    })?;
    if best.closeness() < LEAST_CLOSE {
        return None;
    }
    let shapes = |name: &&str| {
        let (needs, has) = (&best.network.asked.tensors[*name].shape, best.view.supply.tensors[*name].shape());
        format!("{name}: needs {needs:?}, the file has {has:?}")
    };
    Some(Nearest {
        network: best.network.name,
        has: best.hits,
        of: best.network.required.len(),
        missing: best.missing.iter().map(|name| name.to_string()).collect(),
        misshapen: best.misshapen.iter().map(shapes).collect(),
        unexpected: best.own_strange().map(str::to_string).collect(),
    })
}

/// Who wrote the file, by what lies in it.
fn origins(store: &Store) -> Vec<&'static Origin> {
    let keys: Vec<&str> = store.tensors().keys().map(String::as_str).collect();
    let is_seen = |sign: &Sign| match sign {
        Sign::Entry(name) => store.entries().iter().any(|entry| entry.name == *name),
        Sign::Key(regex) => {
            let regex = Regex::new(&format!(r"\A(?:|.*\.)(?:{regex})\z"));
            regex.is_ok_and(|regex| keys.iter().any(|key| regex.is_match(key)))
        }
    };
    let is_of = |origin: &&Origin| origin.signs.iter().all(is_seen);
    ORIGINS.iter().filter(is_of).collect()
}

/// Whether every tensor is one of those that optimizers keep.
fn is_optimizer(store: &Store) -> bool {
    const KEPT: [&str; 10] = [
        "step",
        "exp_avg",
        "exp_avg_sq",
        "max_exp_avg_sq",
        "momentum_buffer",
        "square_avg",
        "grad_avg",
        "acc_delta",
        "sum",
        "exp_inf",
    ];
    let is_kept = |key: &String| key.contains("state.") && KEPT.contains(&path::last(key));
    store.tensors().keys().all(is_kept)
}

impl Diagnosis {
    /// The network of the zoo that the file fits; None where there is none.
    pub fn network(&self) -> Option<&str> {
        match &self.finding {
            Finding::Fits(fit) => Some(fit.network),
            Finding::Nothing(_) => None,
        }
    }

    /// The base with the edits that it needs, ready to paste; the file was loaded by it. None where no network fits.
    pub fn spec(&self) -> Option<&str> {
        match &self.finding {
            Finding::Fits(fit) => Some(&fit.loaded.spec),
            Finding::Nothing(_) => None,
        }
    }

    /// What is worth a warning of a file that can be read.
    pub fn warnings(&self) -> &Diagnostics {
        &self.warnings
    }

    /// The spec with what is known of the file in comments.
    ///
    /// # Errors
    /// Where no network fits: the nearest, and what differs.
    pub fn report(&self) -> Result<String, Problem> {
        let fit = match &self.finding {
            Finding::Fits(fit) => fit,
            Finding::Nothing(nearest) => return Err(self.fits_nothing(nearest.as_ref())),
        };
        let mut lines = vec![format!("{}: {}", self.file, self.size())];
        let written = match self.origins.as_slice() {
            [] => String::new(),
            origins => format!(", written by {}", names_of(origins)),
        };
        lines.push(format!("{}{written}", fit.layout));
        lines.push(fit.says());
        if !fit.twins.is_empty() {
            lines.push(match fit.evidence {
                Some(why) => format!("{why} says which; these have the same keys and shapes:"),
                None => "these have the same keys and shapes, so that the file does not say which it is of:".into(),
            });
            lines.extend(fit.twins.iter().map(|(name, differs)| format!("  {name}: {differs}")));
        }
        lines.extend(
            (!fit.copies.is_empty()).then(|| format!("the same tensors lie once more under {}", all(&fit.copies))),
        );
        lines.extend(fit.note.map(str::to_string));
        lines.push(fit.loaded.ledger.clone());
        let comments: String = lines.iter().map(|line| format!("# {}\n", crate::diag::one_line(line))).collect();
        Ok(comments + &fit.loaded.spec)
    }

    /// `320 tensors, 25.61 million values`
    fn size(&self) -> String {
        format!("{}, {} values", count(self.tensors.len(), "tensor"), millions(self.values()))
    }

    fn values(&self) -> u64 {
        let values = |shape: &[usize]| shape.iter().fold(1u64, |all, size| all.saturating_mul(*size as u64));
        self.tensors.iter().fold(0, |all, (_, shape)| all.saturating_add(values(shape)))
    }

    fn fits_nothing(&self, nearest: Option<&Nearest>) -> Problem {
        let message = match self.only {
            Some(network) => format!("`{}` does not fit {network}", self.file),
            None => format!("`{}` fits no network of the zoo", self.file),
        };
        let mut problem = Problem::new(Code::WeightsMismatch, message).note(format!("it holds {}", self.size()));
        if !self.origins.is_empty() {
            problem = problem.note(format!("it is written by {}", names_of(&self.origins)));
        }
        let tensors = self.tensors.iter().map(|(key, shape)| format!("{} {shape:?}", short(key))).collect();
        let problem = match nearest {
            None if self.only.is_some() => problem.note("they have no more than a few keys and shapes in common"),
            None => problem.note("no network has more than a few of its keys and shapes"),
            Some(Nearest { network, has, of, missing, misshapen, unexpected }) => {
                let keys = |what: &str, keys: &[String]| keys.iter().map(|key| format!("{what}: {key}")).collect();
                let has = match self.only {
                    Some(_) => format!("it has {has} of the network's {of} tensors"),
                    None => format!("the nearest is `{network}`: the file has {has} of its {of} tensors"),
                };
                problem
                    .note(has)
                    .list("of another shape", misshapen.clone())
                    .list("missing", keys("missing", missing))
                    .list("unexpected", keys("unexpected", unexpected))
            }
        };
        let problem =
            problem.list("tensors", tensors).hint("a network of your own may have any keys: `archc explain network`");
        problem.hint(match self.only {
            Some(_) => "without `--network` all networks of the zoo are tried",
            None => {
                "`archc zoo` lists the networks that there are; `--network NAME` says what differs from one of them"
            }
        })
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let (fit, nearest) = match &self.finding {
            Finding::Fits(fit) => (Some(fit), None),
            Finding::Nothing(nearest) => (None, nearest.as_ref()),
        };
        let tensor = |(key, shape): &(String, Vec<usize>)| json!({ "key": key, "shape": shape });
        json!({
            "file": self.file,
            "tensors": self.tensors.iter().map(tensor).collect::<Vec<Value>>(),
            "values": self.values(),
            "origins": self.origins.iter().map(|origin| origin.name).collect::<Vec<_>>(),
            "fit": fit.map(|fit| fit.json()),
            "nearest": nearest.map(Nearest::json),
        })
    }
}

impl Fit {
    /// `resnet50 of 37 classes, without its head`
    fn says(&self) -> String {
        let mut text = format!("fits {}", self.network);
        if let Some(given) = self.given {
            text += &format!("({given}), as `archc export --fold` leaves it");
        }
        if let Some([_, height, width]) = self.plan.input {
            text += &format!(" for pictures of {height} x {width}");
        }
        if !self.plan.fresh.is_empty() {
            let places: Vec<String> = self.plan.fresh.iter().map(|place| path::display(place)).collect();
            text += &format!("; the file has no {}: say how many classes yours has", joined(&places, "and"));
        }
        if !self.plan.unbiased.is_empty() {
            text += &format!("; the file has no {}, which is as one of zeros", and(&self.plan.unbiased));
        }
        text
    }

    fn json(&self) -> Value {
        let twin = |(network, differs): &(&str, String)| json!({ "network": network, "differs": differs });
        json!({
            "network": self.network,
            "given": self.given,
            "layout": self.layout,
            "spec": self.loaded.spec,
            "ledger": self.loaded.ledger,
            "classes": self.plan.classes,
            "input": self.plan.input,
            "without": self.plan.fresh,
            "same_keys": self.twins.iter().map(twin).collect::<Vec<Value>>(),
            "chosen_by": self.evidence,
            "note": self.note,
        })
    }
}

impl Nearest {
    fn json(&self) -> Value {
        let Nearest { network, has, of, missing, misshapen, unexpected } = self;
        json!({
            "network": network,
            "has": has,
            "of": of,
            "missing": missing,
            "of_another_shape": misshapen,
            "unexpected": unexpected,
        })
    }
}

fn names_of(origins: &[&Origin]) -> String {
    all(&origins.iter().map(|origin| origin.name).collect::<Vec<_>>())
}

/// `a, b and c`
fn all<T: ToString>(names: &[T]) -> String {
    joined(&names.iter().map(T::to_string).collect::<Vec<String>>(), "and")
}

fn millions(number: u64) -> String {
    if number < 100_000 { number.to_string() } else { format!("{:.2} million", number as f64 / 1e6) }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.report() {
            Ok(report) => f.write_str(&report),
            Err(problem) => f.write_str(&problem.message),
        }
    }
}
