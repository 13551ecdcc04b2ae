//! Which tensor of which layer comes from where: the strict match of the base's keys with the file's, and the ledger that
//! accounts for every tensor. Only headers are read here; values when the backend asks for them.

mod fold;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use fold::Sum;
use indexmap::{IndexMap, IndexSet};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use sha2::{Digest, Sha256};

use crate::diag::{Code, Diagnostic, Diagnostics, Problem, count};
use crate::exec::Tensors;
use crate::graph::adapt::Adapted;
use crate::graph::{Node, NodeId, key};
use crate::io::digest::hex;
use crate::merge::Merged;
use crate::ops::init::Init;
use crate::ops::{ParamDecl, Role};
use crate::plan::memory;
use crate::settings::Settings;
use crate::source::below;
use crate::typed::Typed;
use crate::weights::{
    Asked, DType, Data, Downloads, Format, Pretrained, Recipe, Store, Supply, TensorOut, WeightsSource, Whose,
    check_from, fill, fits, from_file, non_finite,
};

type FxIndexMap<K, V> = IndexMap<K, V, FxBuildHasher>;

/// A tensor of the base.
struct Known {
    /// How it is made of what the file has; None where it is drawn.
    file: Option<Recipe>,
    /// A layer of the edited network has it, or had.
    is_used: bool,
}

/// Every tensor of a network and its source.
pub struct Bound {
    typed: Typed,
    store: Option<Store>,
    /// The seed of fresh tensors.
    seed: u64,
    tensors: FxIndexMap<String, Tensor>,
    by_node: FxHashMap<(NodeId, usize), usize>,
    extra: HashMap<String, Store>,
    ledger: Ledger,
    /// What the spec says beside the network, and a hub where the spec does not.
    settings: Settings,
    /// What the hub says that is worth a line.
    remarks: Vec<String>,
    /// Why a hub says nothing.
    unsaid: Option<Problem>,
    /// Whether the file is the edited network's own, not the base's.
    is_own: bool,
    /// Tensors read so far that hold values which are not finite, and how many.
    non_finite: Mutex<BTreeMap<String, usize>>,
}

#[derive(Clone, Debug)]
struct Tensor {
    decl: ParamDecl,
    source: Source,
}

/// A tensor of another file that one of the network, or of the base, is filled with.
struct Filling<'a> {
    file: &'a str,
    key: &'a str,
    /// Of what it fills.
    shape: &'a [usize],
    name: &'a str,
}

impl Tensor {
    /// The tensors of other files, `from("file", "key")`, that this one, called `name`, needs.
    fn fillings<'a>(&'a self, name: &'a str) -> Vec<Filling<'a>> {
        let filled: Vec<(&Init, &ParamDecl, &str)> = match &self.source {
            Source::Fresh(init) => vec![(init, &self.decl, name)],
            Source::Drawn(key) => vec![(&self.decl.init, &self.decl, key)],
            Source::Adapted { old, how } => {
                let base = matches!(**old, Source::Drawn(_)).then(|| (&how.decl.init, &how.decl, how.key.as_str()));
                let fresh = how.has_new().then_some((&self.decl.init, &self.decl, name));
                base.into_iter().chain(fresh).collect()
            }
            Source::File(_) | Source::Computed(_) => vec![],
        };
        let of = |(init, decl, name): (&'a Init, &'a ParamDecl, &'a str)| match init {
            Init::From { file, key } => Some(Filling { file, key, shape: &decl.shape, name }),
            _ => None,
        };
        filled.into_iter().filter_map(of).collect()
    }
}

#[derive(Clone, Debug)]
enum Source {
    /// Made of what the file has.
    File(Recipe),
    Fresh(Init),
    /// Drawn for this key of the base, whatever its layer is called now.
    Drawn(String),
    /// A computed table or counter that the file does not carry.
    Computed(NodeId),
    /// Made of a tensor of the base, and of fresh values where some are new.
    Adapted {
        old: Box<Source>,
        how: Box<Adapted>,
    },
}

/// A tensor of a new layer that is made of one of the base.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptedTensor {
    pub key: String,
    /// Its key in the base.
    pub from: String,
    pub old_shape: Vec<usize>,
    pub shape: Vec<usize>,
    /// In words: `channels 0, 1, 2, mean`.
    pub how: String,
}

impl fmt::Display for AdaptedTensor {
    /// `conv1.weight [64, 3, 7, 7] -> [64, 4, 7, 7], channels 0, 1, 2, mean`; with the old key, where that is another.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdaptedTensor { key, from, old_shape, shape, how } = self;
        let from = if key == from { String::new() } else { format!(" from {from}") };
        write!(f, "{key}{from} {old_shape:?} -> {shape:?}, {how}")
    }
}

impl Source {
    /// What of the base's file it is made of.
    fn recipe(&self) -> Option<&Recipe> {
        match self {
            Source::File(recipe) => Some(recipe),
            Source::Adapted { old, .. } => old.recipe(),
            Source::Fresh(_) | Source::Drawn(_) | Source::Computed(_) => None,
        }
    }
}

/// The fate of every tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// From the file, shape unchanged.
    pub kept: Vec<String>,
    /// Made of tensors of the base by a `keeping` clause.
    pub adapted: Vec<AdaptedTensor>,
    /// In the file, and its layer is gone or tied.
    pub dropped: Vec<String>,
    /// Made or initialised by an edit.
    pub new: Vec<String>,
    /// Changed in shape by a `set`: fresh values.
    pub reshaped: Vec<String>,
    /// Ignored.
    pub unused: Vec<String>,
    /// The base's, not in the file, and not wanted any more.
    pub absent: Vec<String>,
}

impl fmt::Display for Ledger {
    /// `318 kept, 2 dropped (fc), 2 new (fc), 0 reshaped, 0 unused`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line("kept"))
    }
}

impl Ledger {
    /// The line of a base without a file of weights: nothing is kept, the base's own tensors are drawn.
    pub fn drawn(&self) -> String {
        self.line("drawn")
    }

    /// Each fate and the keys that have it. `kept` is what the base's own tensors are said to be.
    pub fn fates<'a>(&self, kept: &'a str) -> Vec<(&'a str, Vec<String>)> {
        let fates = [
            (kept, self.kept.clone()),
            ("adapted", self.adapted.iter().map(|tensor| tensor.key.clone()).collect()),
            ("dropped", self.dropped.clone()),
            ("new", self.new.clone()),
            ("reshaped", self.reshaped.clone()),
            ("unused", self.unused.clone()),
            ("absent", self.absent.clone()),
        ];
        // what few specs or files come to is said where there is some
        let is_said = |(name, keys): &(&str, Vec<String>)| !(["adapted", "absent"].contains(name) && keys.is_empty());
        fates.into_iter().filter(is_said).collect()
    }

    fn line(&self, kept: &str) -> String {
        let fates = self.fates(kept);
        let parts: Vec<String> = fates
            .iter()
            .map(|(name, keys)| match *name != kept && !keys.is_empty() {
                true => format!("{} {name} ({})", keys.len(), layers(keys)),
                false => format!("{} {name}", keys.len()),
            })
            .collect();
        parts.join(", ")
    }
}

/// The layers of some keys, the first few.
fn layers(keys: &[String]) -> String {
    let layer = |key: &String| match key.contains('.') {
        true => crate::graph::path::display(crate::graph::path::parent(key)),
        false => key.clone(),
    };
    let mut names: Vec<String> = keys.iter().map(layer).collect::<IndexSet<String>>().into_iter().collect();
    let more = names.len().saturating_sub(3);
    names.truncate(3);
    if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
}

/// Binds the edited network to the spec's own weights: the base's keys strictly, but for those whose values no layer takes
/// over any more, then what the edits did.
///
/// # Errors
/// A file that cannot be read; every key that is missing, unexpected or of another shape.
pub fn bind(
    settings: &Settings,
    base: &Typed,
    typed: &Typed,
    seed: Option<u64>,
    downloads: &dyn Downloads,
) -> Result<Bound, Diagnostics> {
    let at = |problem: Problem| match settings.weights_span {
        Some(span) => problem.at(span),
        None => problem.anywhere(),
    };
    let seed = match (&settings.weights, settings.weights_span) {
        (WeightsSource::Random { seed: own }, Some(_)) => *own,
        _ => seed.unwrap_or(0),
    };
    let mut problems = Diagnostics::new();
    let store = Store::open(&settings.weights, &settings.dir, downloads).map_err(at);
    let store = problems.take(store).flatten();
    let mut ledger = Ledger::default();
    // the base's own tensors by key
    let mut known: FxIndexMap<String, Known> = FxIndexMap::default();
    let asked = asked(base, typed);
    match &store {
        None => known.extend(asked.tensors.into_keys().map(|key| (key, Known { file: None, is_used: false }))),
        Some(store) => {
            let supply = settings.intake.apply(store, &asked).unwrap_or_else(|faults| {
                faults.into_iter().for_each(|fault| problems.push(settings.place(fault)));
                Supply::default()
            });
            // keys that a wrong line leaves as they are fit nothing
            let whose = Whose::Base { source: &settings.weights, intake: &settings.intake };
            if !problems.has_errors()
                && let Err(problem) = fits(&asked, &supply, store, whose)
            {
                problems.push(at(problem));
            }
            ledger.absent = asked.absent(&supply);
            ledger.unused = supply.unused;
            let known_of = |(name, recipe)| (name, Known { file: Some(recipe), is_used: false });
            known.extend(supply.tensors.into_iter().map(known_of));
        }
    }
    let mut bound = Bound::new(settings, typed, store, seed, ledger);
    for id in typed.order() {
        let node = typed.graph().node(*id);
        if node.tied.is_some() {
            continue;
        }
        let mut adapted = typed.adapted(*id);
        for (at, decl) in typed.params(*id).into_iter().enumerate() {
            let name = key(&node.path, decl.name);
            if let Some(how) = adapted.remove(decl.name)
                && let Some(source) = bound.adapt(&name, &decl, how, &mut known)
            {
                bound.add(*id, at, name, decl, source);
                continue;
            }
            let origin = node.base.as_ref().map(|base| key(&base.path, decl.name));
            let init = node.inits.iter().find(|own| own.tensor == decl.name).map(|own| own.init.clone());
            let found = origin.as_ref().and_then(|old| known.get_mut(old));
            let found = found.map(|known| {
                known.is_used = true;
                &*known
            });
            let source = match (&origin, init) {
                (Some(old), Some(init)) => {
                    // its value in the file is not used, and it counts as new
                    bound.ledger.dropped.extend(found.map(|_| old.clone()));
                    bound.ledger.new.push(name.clone());
                    Source::Fresh(init)
                }
                (Some(origin), None) if taken_over(node, &decl).is_some() => match found {
                    Some(Known { file: Some(file), .. }) => {
                        bound.ledger.kept.push(name.clone());
                        Source::File(file.clone())
                    }
                    Some(Known { file: None, .. }) => {
                        bound.ledger.kept.push(name.clone());
                        match decl.role {
                            Role::Computed => Source::Computed(*id),
                            _ => Source::Drawn(origin.clone()),
                        }
                    }
                    None => Source::Computed(*id),
                },
                (Some(_), None) => {
                    bound.ledger.reshaped.push(name.clone());
                    fresh(*id, &decl)
                }
                (None, init) => {
                    bound.ledger.new.push(name.clone());
                    init.map_or_else(|| fresh(*id, &decl), Source::Fresh)
                }
            };
            bound.add(*id, at, name, decl, source);
        }
    }
    bound.ledger.dropped.extend(known.into_iter().filter_map(|(name, known)| (!known.is_used).then_some(name)));
    bound.open_extra(&settings.dir, &mut problems);
    if problems.is_empty()
        && let Some(store) = &bound.store
    {
        bound.check_formats(store, &mut problems, at);
    }
    if problems.has_errors() { Err(problems) } else { Ok(bound) }
}

/// [`bind`] before anything runs. What a hub holds is supposed to fit: it is asked when the network runs.
///
/// # Errors
/// Those of [`bind`], as far as files on this machine are concerned.
pub fn bind_headers(settings: &Settings, base: &Typed, typed: &Typed) -> Result<Bound, Diagnostics> {
    if !matches!(settings.weights, WeightsSource::Hub(_)) {
        return bind(settings, base, typed, None, &());
    }
    let mut settings = settings.clone();
    settings.weights = WeightsSource::Random { seed: 0 };
    bind(&settings, base, typed, None, &())
}

/// Binds the edited network to a file of its own keys, strictly, as `--weights FILE` does.
pub fn bind_edited(settings: &Settings, typed: &Typed, path: &Path) -> Result<Bound, Diagnostics> {
    let fail = |problem: Problem| Diagnostics::from(problem.anywhere());
    let store = Store::open_file(path).map_err(fail)?;
    let supply = Supply::whole(&store);
    fits(&Asked::all(keys(typed)), &supply, &store, Whose::Edited).map_err(fail)?;
    let mut bound = Bound::new(settings, typed, Some(store), 0, Ledger::default());
    bound.is_own = true;
    for id in typed.order() {
        let node = typed.graph().node(*id);
        if node.tied.is_some() {
            continue;
        }
        for (at, decl) in typed.params(*id).into_iter().enumerate() {
            let name = key(&node.path, decl.name);
            let source = match supply.tensors.get(&name) {
                Some(recipe) => {
                    bound.ledger.kept.push(name.clone());
                    Source::File(recipe.clone())
                }
                None => Source::Computed(*id),
            };
            bound.add(*id, at, name, decl, source);
        }
    }
    Ok(bound)
}

/// What the edited network `typed` asks a file of `base` for.
pub fn asked(base: &Typed, typed: &Typed) -> Asked {
    Asked { tensors: keys(base), taken: taken(typed), grids: grids(base) }
}

/// The tensors that a file of the network must have, and those that it may.
pub fn keys(typed: &Typed) -> IndexMap<String, ParamDecl> {
    let mut keys = IndexMap::new();
    for id in typed.order() {
        let node = typed.graph().node(*id);
        if node.tied.is_none() {
            keys.extend(typed.params(*id).into_iter().map(|decl| (key(&node.path, decl.name), decl)));
        }
    }
    keys
}

/// The keys of the base's tensors whose values a network takes over, as they are or adapted.
fn taken(typed: &Typed) -> IndexSet<String> {
    let mut keys = IndexSet::new();
    for id in typed.order() {
        let node = typed.graph().node(*id);
        if node.tied.is_none() {
            let mut adapted = typed.adapted(*id);
            let of = |decl: ParamDecl| match adapted.remove(decl.name) {
                Some(how) => Some(how.key),
                None => taken_over(node, &decl),
            };
            keys.extend(typed.params(*id).into_iter().filter_map(of));
        }
    }
    keys
}

/// The key of the base's tensor whose values this one of the edited network takes over; None where it gets others.
fn taken_over(node: &Node, decl: &ParamDecl) -> Option<String> {
    let base = node.base.as_ref()?;
    let is_filled = node.inits.iter().any(|own| own.tensor == decl.name);
    let is_same = base.params.iter().any(|old| old.name == decl.name && old.shape == decl.shape);
    (is_same && !is_filled).then(|| key(&base.path, decl.name))
}

/// Height and width of the maps that a network makes, in running order.
fn grids(typed: &Typed) -> Vec<(usize, usize)> {
    let sizes = typed.order().iter().filter_map(|id| typed.shape(*id).as_image());
    sizes.map(|(_, height, width)| (height, width)).collect::<IndexSet<_>>().into_iter().collect()
}

fn fresh(id: NodeId, decl: &ParamDecl) -> Source {
    if decl.role == Role::Computed { Source::Computed(id) } else { Source::Fresh(decl.init.clone()) }
}

impl Bound {
    /// Of no tensor yet.
    fn new(settings: &Settings, typed: &Typed, store: Option<Store>, seed: u64, ledger: Ledger) -> Bound {
        Bound {
            settings: settings.clone(),
            remarks: vec![],
            unsaid: None,
            typed: typed.clone(),
            store,
            seed,
            tensors: FxIndexMap::default(),
            by_node: FxHashMap::default(),
            extra: HashMap::new(),
            ledger,
            is_own: false,
            non_finite: Mutex::default(),
        }
    }

    fn add(&mut self, id: NodeId, at: usize, name: String, decl: ParamDecl, source: Source) {
        let (index, _) = self.tensors.insert_full(name, Tensor { decl, source });
        self.by_node.insert((id, at), index);
    }

    /// The source of a tensor that is made of one of the base. None where that could be computed and is not in the file.
    fn adapt(
        &mut self,
        name: &str,
        decl: &ParamDecl,
        how: Adapted,
        known: &mut FxIndexMap<String, Known>,
    ) -> Option<Source> {
        let known = known.get_mut(&how.key).filter(|known| known.file.is_some() || decl.role != Role::Computed)?;
        known.is_used = true;
        let old = match &known.file {
            Some(file) => Source::File(file.clone()),
            None => Source::Drawn(how.key.clone()),
        };
        self.ledger.adapted.push(AdaptedTensor {
            key: name.to_string(),
            from: how.key.clone(),
            old_shape: how.decl.shape.clone(),
            shape: decl.shape.clone(),
            how: how.how(),
        });
        Some(Source::Adapted { old: old.into(), how: how.into() })
    }

    /// Opens the files that `from("file", "key")` names, and looks whether they hold the tensors that are to be filled.
    fn open_extra(&mut self, dir: &Path, problems: &mut Diagnostics) {
        let mut stores: HashMap<String, Result<Store, Problem>> = HashMap::new();
        let mut owners: Vec<(usize, NodeId)> = self.by_node.iter().map(|((id, _), index)| (*index, *id)).collect();
        owners.sort_unstable();
        for (index, id) in owners {
            let (name, tensor) = self.tensors.get_index(index).expect("an index of this map");
            let node = self.typed.graph().node(id);
            let line = node.inits.iter().find(|filled| filled.tensor == tensor.decl.name).map(|filled| filled.span);
            for Filling { file, key, shape, name } in tensor.fillings(name) {
                let store = stores.entry(file.to_string()).or_insert_with(|| Store::open_file(&below(dir, file)));
                let found = match store {
                    Ok(store) => check_from(store, key, shape, name),
                    Err(problem) => Err(problem.clone()),
                };
                if let Err(problem) = found {
                    // an argument of the layer has no line of its own
                    problems.push(match line {
                        Some(line) => problem.at(line),
                        None => problem.at(node.span).blame(node.origin),
                    });
                }
            }
        }
        self.extra = stores.into_iter().filter_map(|(file, store)| Some((file, store.ok()?))).collect();
    }

    /// Tensors of the file that are kept, in a number format that nothing can be made of.
    fn check_formats(&self, store: &Store, problems: &mut Diagnostics, at: impl Fn(Problem) -> Box<Diagnostic>) {
        for tensor in self.tensors.values() {
            if let Some(recipe) = tensor.source.recipe()
                && let Err(problem) = recipe.check(store)
            {
                problems.push(at(problem));
            }
        }
    }

    /// Takes what a hub says of the network's pictures and classes.
    pub fn take(&mut self, said: Result<Option<Pretrained>, Problem>) {
        match said {
            Ok(Some(said)) => (self.settings, self.remarks) = self.settings.with(said, &self.typed),
            Ok(None) => {}
            Err(problem) => self.unsaid = Some(problem),
        }
    }

    /// What the spec says beside the network, and the hub that its weights are of where the spec does not.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the hub says that is worth a line each.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub fn typed(&self) -> &Typed {
        &self.typed
    }

    /// The keys and shapes of all tensors that a file of these weights has, in running order.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let tensors = self.tensors.iter().filter(|(_, tensor)| tensor.decl.is_exported);
        tensors.map(|(key, tensor)| (key.as_str(), tensor.decl.shape.as_slice()))
    }

    /// Refuses weights that cannot be held: all of them packed, and the largest once more while it is read.
    pub fn check_memory(&self) -> Result<(), Problem> {
        let bytes = |tensor: &Tensor| tensor.decl.shape.iter().fold(4usize, |all, dim| all.saturating_mul(*dim));
        let all = self.tensors.values().fold(0usize, |all, tensor| all.saturating_add(bytes(tensor)));
        let largest = self.tensors.values().map(bytes).max().unwrap_or(0);
        let (needed, free) = (all.saturating_add(largest), memory::available());
        if needed <= free {
            return Ok(());
        }
        let message = format!("the weights need {}", memory::gigabytes(needed));
        Err(Problem::new(Code::Resource, message)
            .note(format!("{} are available", memory::gigabytes(free)))
            .hint("make the largest layers smaller, or run on a machine with more memory"))
    }

    /// What the file says of itself, such as class names.
    pub fn metadata(&self) -> IndexMap<String, String> {
        self.store.as_ref().map(|store| store.metadata().clone()).unwrap_or_default()
    }

    /// Reads every tensor of the files now, as the files have them, so that these may change or go while a run lasts.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn hold(&mut self) -> Result<(), Problem> {
        for (name, tensor) in &self.tensors {
            if let Some((recipe, store)) = tensor.source.recipe().zip(self.store.as_mut()) {
                recipe.keys().into_iter().try_for_each(|key| store.hold(key))?;
            }
            for Filling { file, key, .. } in tensor.fillings(name) {
                self.extra.get_mut(file).map_or(Ok(()), |store| store.hold(key))?;
            }
        }
        Ok(())
    }

    /// Whether the file is the edited network's own, not the base's.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// What messages call the file of weights, where there is one.
    pub fn file(&self) -> Option<String> {
        self.store.as_ref().map(|store| store.describe().to_string())
    }

    /// The files that tensors are read from, and of what repository they are, where they are of a hub.
    pub fn files(&self) -> Vec<(PathBuf, Option<String>)> {
        let mut extra: Vec<&Store> = self.extra.values().collect();
        extra.sort_by_key(|store| store.describe());
        let mut files: Vec<(PathBuf, Option<String>)> = vec![];
        for store in self.store.iter().chain(extra) {
            let is_hub = !store.files().iter().any(|file| file.display().to_string() == store.describe());
            let repo = is_hub.then(|| store.describe().to_string());
            let new = store.files().iter().filter(|file| !files.iter().any(|(known, _)| known == *file));
            let new: Vec<_> = new.map(|file| (file.clone(), repo.clone())).collect();
            files.extend(new);
        }
        files
    }

    fn values(&self, name: &str, tensor: &Tensor) -> Result<Vec<f32>, Problem> {
        match &tensor.source {
            Source::File(recipe) => {
                let store = self.store.as_ref().expect("a tensor of a file has its store");
                let values = recipe.read(store)?;
                self.look(name, &values);
                Ok(values)
            }
            Source::Fresh(init) => self.filled(init, &tensor.decl.shape, name),
            Source::Drawn(key) => self.filled(&tensor.decl.init, &tensor.decl.shape, key),
            Source::Adapted { old, how } => {
                let base = Tensor { decl: how.decl.clone(), source: (**old).clone() };
                let values = self.values(&how.key, &base)?;
                how.apply(values, || self.filled(&tensor.decl.init, &tensor.decl.shape, name))
            }
            Source::Computed(id) => Ok(self.computed(*id, tensor)),
        }
    }

    /// What an initialiser fills the tensor `name` with.
    fn filled(&self, init: &Init, shape: &[usize], name: &str) -> Result<Vec<f32>, Problem> {
        match init {
            Init::From { file, key } => {
                let store = self.extra.get(file).expect("the files were opened");
                from_file(store, key, shape, name)
            }
            init => fill(init, shape, self.seed, name),
        }
    }

    /// Remembers a tensor whose values are not finite.
    fn look(&self, name: &str, values: &[f32]) {
        if let Some(count) = non_finite(values) {
            let mut found = self.non_finite.lock().unwrap_or_else(PoisonError::into_inner);
            found.insert(name.to_string(), count);
        }
    }

    /// A table that its op computes; counters begin at zero.
    fn computed(&self, id: NodeId, tensor: &Tensor) -> Vec<f32> {
        let node = self.typed.graph().node(id);
        let shape = self.typed.shape(id);
        if tensor.decl.name.is_empty() && crate::ops::makes_constant(node.op.name()) {
            return node.op.eval(&[], &[], &shape.concrete(1)).into_data();
        }
        vec![0.0; tensor.decl.shape.iter().product()]
    }

    /// What is worth a warning of the files, and the tensors read so far that hold values which are not finite.
    pub fn warnings(&self) -> Diagnostics {
        let found = self.non_finite.lock().unwrap_or_else(PoisonError::into_inner);
        let mut diagnostics = Diagnostics::new();
        let mut stores: Vec<&Store> = self.store.iter().chain(self.extra.values()).collect();
        stores.sort_by_key(|store| store.describe());
        for problem in stores.into_iter().flat_map(Store::warnings).chain(&self.unsaid) {
            diagnostics.push(problem.clone().anywhere().warning());
        }
        if !found.is_empty() {
            let of = self.store.as_ref().map_or("the weights", |store| store.describe());
            let message = format!("{of} holds values that are not finite, in {}", count(found.len(), "tensor"));
            let lines = found.iter().map(|(name, values)| format!("{name}: {}", count(*values, "value"))).collect();
            diagnostics.push(Problem::new(Code::NonFinite, message).list("such tensors", lines).anywhere().warning());
        }
        diagnostics
    }

    /// The values of a tensor by its key, and whether it is a counter or a table of integers.
    ///
    /// # Errors
    /// If it cannot be read.
    ///
    /// # Panics
    /// If the network has no such key.
    pub fn read_key(&self, key: &str) -> Result<(Vec<f32>, bool), Problem> {
        let tensor = self.tensors.get(key).expect("a key of the network");
        Ok((self.values(key, tensor)?, is_integer(key, tensor)))
    }

    /// What files the network's tensors come from, and the SHA-256 of these tensors with their keys; None where all are
    /// drawn.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn digest_of_files(&self) -> Result<Option<(String, String)>, Problem> {
        use rayon::prelude::*;
        let is_stored =
            |(name, tensor): &(&String, &Tensor)| tensor.source.recipe().is_some() || !tensor.fillings(name).is_empty();
        let stored = self.tensors.par_iter().filter(is_stored);
        let digest = |(name, tensor): (&String, &Tensor)| -> Result<[u8; 32], Problem> {
            let mut digest = Sha256::new_with_prefix(name);
            digest.update([0]);
            digest.update(bytemuck::cast_slice::<f32, u8>(&self.values(name, tensor)?));
            Ok(digest.finalize().into())
        };
        let digests: Vec<[u8; 32]> = stored.map(digest).collect::<Result<_, _>>()?;
        if digests.is_empty() {
            return Ok(None);
        }
        let stores = self.store.iter().chain(self.extra.values());
        let mut names: Vec<String> = stores.map(|store| store.describe().to_string()).collect();
        names.sort();
        let whole = Sha256::digest(digests.concat());
        Ok(Some((names.join("`, `"), hex(whole))))
    }

    /// The sums of parallel convolutions that one convolution is, too.
    ///
    /// # Errors
    /// Where there is none, or what it would be called is taken.
    pub fn sums(&self) -> Result<Vec<Sum>, Problem> {
        let sums = fold::sums(&self.typed)?;
        if sums.is_empty() {
            let problem = Problem::new(Code::Output, "there is nothing to fold: no parallel convolutions are added");
            return Err(problem.hint("it is for networks such as `repvgg_a2`"));
        }
        Ok(sums)
    }

    /// The numbers of a layer's tensors.
    fn indices(&self, id: NodeId) -> impl Iterator<Item = usize> + '_ {
        (0..).map_while(move |param| self.by_node.get(&(id, param)).copied())
    }

    /// Writes every tensor under its key, as a PyTorch user expects them, and one convolution for each of `sums` in place of
    /// what it sums; of a network that was merged those that are left. Gives the number of tensors.
    pub fn export(
        &self,
        path: &Path,
        format: Format,
        dtype: &DType,
        metadata: &IndexMap<String, String>,
        sums: &[Sum],
        merged: &Merged,
    ) -> Result<usize, Problem> {
        use rayon::prelude::*;
        let gone: FxHashSet<usize> = sums.iter().flat_map(Sum::layers).flat_map(|id| self.indices(id)).collect();
        let stays = |(at, (name, tensor)): &(usize, (&String, &Tensor))| {
            tensor.decl.is_exported && !gone.contains(at) && !merged.without.contains(*name)
        };
        let kept: Vec<(&String, &Tensor)> =
            self.tensors.iter().enumerate().filter(stays).map(|(_, entry)| entry).collect();
        let read = |(name, tensor): &(&String, &Tensor)| match merged.values.get(*name) {
            Some(values) => Ok(values.clone()),
            None => self.values(name, tensor),
        };
        let values: Vec<Vec<f32>> = kept.par_iter().map(read).collect::<Result<_, _>>()?;
        let made: Vec<(Vec<f32>, Vec<f32>)> =
            sums.par_iter().map(|sum| sum.values(&self.typed, self)).collect::<Result<_, _>>()?;
        let named: Vec<[String; 2]> =
            sums.iter().map(|sum| ["weight", "bias"].map(|name| key(&sum.path, name))).collect();
        let counters: Vec<Option<Vec<i64>>> = kept
            .iter()
            .zip(&values)
            .map(|((name, tensor), values)| {
                is_integer(name, tensor).then(|| values.iter().map(|value| *value as i64).collect())
            })
            .collect();
        let mut out: Vec<TensorOut<'_>> = kept
            .iter()
            .zip(values.iter().zip(&counters))
            .map(|((key, tensor), (values, counter))| {
                let data = match counter {
                    Some(counter) => Data::I64(counter),
                    None => floats(values, dtype),
                };
                TensorOut { key, shape: &tensor.decl.shape, data }
            })
            .collect();
        for ((sum, [weight, bias]), values) in sums.iter().zip(&named).zip(&made) {
            out.push(TensorOut { key: weight, shape: &sum.shape, data: floats(&values.0, dtype) });
            out.push(TensorOut { key: bias, shape: &sum.shape[..1], data: floats(&values.1, dtype) });
        }
        (format.write)(path, &out, metadata)?;
        Ok(out.len())
    }
}

/// Values that are written in the format `dtype`.
fn floats<'a>(values: &'a [f32], dtype: &DType) -> Data<'a> {
    match dtype {
        DType::F16 => Data::AsF16(values),
        DType::BF16 => Data::AsBF16(values),
        _ => Data::F32(values),
    }
}

fn is_integer(key: &str, tensor: &Tensor) -> bool {
    tensor.decl.role == Role::Computed && !key.ends_with("relative_coords_table")
}

impl Tensors for Bound {
    fn read(&self, node: NodeId, param: usize) -> Result<Vec<f32>, Problem> {
        let index = self.by_node.get(&(node, param)).expect("the node owns its tensors");
        let (name, tensor) = self.tensors.get_index(*index).expect("an index of this map");
        self.values(name, tensor)
    }
}
