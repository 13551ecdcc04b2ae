//! Whether a network is that of a file: what is to be said of it beside its name (classes, input, the head that the file has
//! not), the lines that are still lacking, and the spec of all this, which the strict loader reads in the end.

use std::collections::BTreeSet;

use crate::bind::{asked, bind_headers};
use crate::compile::{self, Compiled, Files, Outcome};
use crate::graph::{OWN_OUTPUT, key, path};
use crate::source::Sources;
use crate::syntax::quoted;
use crate::weights::{Faults, Intake, Lines, Store, Trial, is_other_copy};

use super::catalogue::Network;
use super::layouts::TRUNK;
use super::view::View;

/// As many classes as a spec is printed with where the file has no head.
const CLASSES: usize = 10;

/// So many tensors are those of a network's first layers.
const FIRST: usize = 32;

/// A network that a file, read in one way, may be of.
pub struct Candidate<'a> {
    pub view: &'a View,
    pub network: &'a Network,
    /// How many of its tensors the file has, in the network's shapes.
    pub hits: usize,
    pub missing: Vec<&'a str>,
    pub misshapen: Vec<&'a str>,
    /// Keys of the file that the network has not.
    pub strange: Vec<&'a str>,
}

/// What a spec says beside the network's name and the file.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub classes: Option<usize>,
    /// Whether the network has the heads that it learned with beside its own.
    aux: bool,
    pub input: Option<[usize; 3]>,
    /// The layers that the file has not, and an edit makes.
    pub fresh: Vec<String>,
    /// Keys of biases that the file has not.
    pub unbiased: Vec<String>,
    /// Edits that make the network the one that the file was learned with.
    pub edits: Vec<&'static str>,
}

/// A spec that loads.
#[derive(Debug)]
pub struct Loaded {
    /// The base and the edits, ready to paste.
    pub spec: String,
    /// What becomes of the tensors.
    pub ledger: String,
}

impl<'a> Candidate<'a> {
    /// Compares keys and shapes; None where they have nothing in common.
    pub fn new(view: &'a View, network: &'a Network) -> Option<Candidate<'a>> {
        let has = |(name, shape): &&(String, Vec<usize>)| {
            view.supply.tensors.get(name).is_some_and(|own| own.shape() == shape)
        };
        // one whose first layers are all others is not worth going through
        network.required.iter().take(FIRST).find(has)?;
        let hits = network.required.iter().filter(has).count();
        let Faults { missing, unexpected, misshapen } = Faults::of(&network.asked, &view.supply);
        Some(Candidate { view, network, hits, missing, misshapen, strange: unexpected })
    }

    /// Whether another one is the same but for the head of its network, and what is not in the keys.
    pub fn is_twin(&self, other: &Candidate<'_>) -> bool {
        std::ptr::eq(self.view, other.view) && self.network.is_twin(other.network)
    }

    /// How much is wrong, in the order of what counts: a head that is not there, and tensors that the network has no place for; a
    /// copy that is not the one to take; tensors of the file that are left over; lines and arguments.
    pub fn cost(&self, plan: &Plan) -> [usize; 4] {
        let part = self.view.lines.part.as_deref().unwrap_or_default();
        let is_copy = is_other_copy(part) || is_other_copy(&self.view.prefix);
        let said =
            self.view.lines.texts().len() + usize::from(plan.classes.is_some()) + usize::from(plan.input.is_some());
        [
            plan.fresh.len() + self.strange.len(),
            usize::from(is_copy),
            self.strange.len() + self.view.supply.unused.len(),
            said,
        ]
    }

    /// The part of the network's tensors that the file has, of all that either has.
    pub fn closeness(&self) -> f64 {
        let strange = self.own_strange().count();
        self.hits as f64 / (self.hits + self.missing.len() + self.misshapen.len() + strange) as f64
    }

    /// Keys of the file that lie where the network has tensors, outside its head.
    pub fn own_strange(&self) -> impl Iterator<Item = &'a str> {
        let first = |key: &'a str| key.split('.').next().unwrap_or(key);
        let body = self.network.asked.tensors.keys().filter(|key| !self.network.is_head(path::parent(key)));
        let own: BTreeSet<&str> = body.map(|key| first(key)).collect();
        self.strange.iter().copied().filter(move |key| own.contains(first(key)))
    }

    /// What a spec would have to say; None where the network is another one.
    pub fn plan(&self) -> Option<Plan> {
        let is_trunk = |key: &&str| key.split('.').any(|name| TRUNK.contains(&name));
        if self.own_strange().next().is_some() || self.strange.iter().any(is_trunk) {
            return None;
        }
        let mut plan = Plan::default();
        for name in &self.misshapen {
            let (has, needs) = (self.view.supply.tensors[*name].shape(), &self.network.asked.tensors[*name].shape[..]);
            match (has, needs) {
                (&[1, rows, width], &[1, wanted, other]) if width == other => {
                    plan.input = plan.input.or(self.input(rows, wanted));
                }
                // tables of offsets, which may be resized
                (&[_, heads], &[_, other]) if heads == other && is_table(has) && is_table(needs) => {}
                (&[has, ref rest @ ..], &[needs, ref others @ ..])
                    if rest == others && Some(needs) == self.network.classes =>
                {
                    if plan.classes.is_some_and(|classes| classes != has) {
                        return None;
                    }
                    plan.classes = Some(has);
                }
                _ => return None,
            }
        }
        let has_weight = |name: &str| {
            let weight = key(path::parent(name), "weight");
            path::last(name) == "bias" && self.view.supply.tensors.contains_key(&weight)
        };
        let (unbiased, missing): (Vec<&str>, Vec<&str>) =
            self.missing.iter().copied().partition(|name| has_weight(name));
        if unbiased.len() > self.network.heads.len() {
            return None;
        }
        plan.unbiased = unbiased.into_iter().map(str::to_string).collect();
        plan.fresh = self.fresh(&missing)?;
        Some(plan)
    }

    /// The layers, or the scope, of missing tensors that are the head's.
    fn fresh(&self, missing: &[&str]) -> Option<Vec<String>> {
        let mut layers: Vec<&str> = vec![];
        for layer in missing.iter().map(|name| path::parent(name)) {
            if !layers.contains(&layer) {
                layers.push(layer);
            }
        }
        let heads = &self.network.heads;
        if layers.iter().all(|layer| heads.iter().any(|head| head == layer)) {
            return Some(layers.into_iter().map(str::to_string).collect());
        }
        // a classifier of several layers
        let mut scope = path::parent(heads.first()?);
        while !scope.is_empty() && !layers.iter().all(|layer| path::within(layer, scope)) {
            scope = path::parent(scope);
        }
        (!scope.is_empty()).then(|| vec![scope.to_string()])
    }

    /// The input for which the network has a table of so many rows.
    fn input(&self, rows: usize, wanted: usize) -> Option<[usize; 3]> {
        let [channels, height, width] = self.network.input?;
        let side = wanted.isqrt();
        let tokens = wanted - side * side;
        let places = rows.checked_sub(tokens)?;
        let new = places.isqrt();
        let is_whole = side > 0 && new > 0 && new * new == places && height == width && height % side == 0;
        is_whole.then(|| [channels, height / side * new, height / side * new])
    }

    /// Tries the file as the network, in the words of `plan`; with auxiliary heads first, where the file seems to have some.
    pub fn load(&self, plan: &Plan, store: &Store, file: &str) -> Option<Loaded> {
        let has_aux = self.strange.iter().any(|key| key.to_lowercase().starts_with("aux"));
        let with_aux = has_aux.then(|| Plan { aux: true, ..plan.clone() });
        let loaded = with_aux.and_then(|plan| self.load_as(&plan, store, file));
        loaded.or_else(|| self.load_as(plan, store, file))
    }

    fn load_as(&self, plan: &Plan, store: &Store, file: &str) -> Option<Loaded> {
        let network = self.network;
        let bare = compiled(&plan.spec(network, &[]), Files::Later)?;
        let output = bare.typed.graph().outputs().get(OWN_OUTPUT).map(|output| &bare.typed.shape(output.node).dims[..]);
        if !plan.fresh.is_empty() && output != Some(&[CLASSES]) {
            return None;
        }
        let (asked, intake) = (asked(&bare.base, &bare.typed), Intake::default());
        let way = Trial { asked: &asked, store, intake: &intake }.way(&self.view.lines).filter(|way| way.is_whole())?;
        let spec = plan.spec(network, &entries(file, &way.lines)?);
        let loaded = compiled(&spec, Files::Weights)?;
        let bound = bind_headers(&loaded.settings, &loaded.base, &loaded.typed).ok()?;
        Some(Loaded { spec, ledger: bound.ledger().to_string() })
    }
}

/// Whether a shape is that of relative positions, [(2 * w - 1) ** 2, heads].
fn is_table(shape: &[usize]) -> bool {
    let side = shape[0].isqrt();
    side * side == shape[0] && side % 2 == 1
}

impl Plan {
    /// The spec, with further entries of the base's braces.
    fn spec(&self, network: &Network, entries: &[String]) -> String {
        let classes = self.classes.map(|classes| format!("classes = {classes}"));
        let aux = self.aux.then(|| "aux = true".into());
        let args: Vec<String> = classes.into_iter().chain(aux).chain(network.given.map(str::to_string)).collect();
        let args = if args.is_empty() { String::new() } else { format!("({})", args.join(", ")) };
        let input = self.input.map(|[channels, height, width]| format!("input [N, {channels}, {height}, {width}]"));
        let entries: Vec<&String> = input.iter().chain(entries).collect();
        let name = network.name;
        let mut text = match entries.as_slice() {
            [] => format!("base {name}{args}\n"),
            [entry] => format!("base {name}{args} {{ {entry} }}\n"),
            entries => {
                let lines: String = entries.iter().map(|entry| format!("    {entry}\n")).collect();
                format!("base {name}{args} {{\n{lines}}}\n")
            }
        };
        for place in &self.fresh {
            let op = network.compiled().and_then(|compiled| {
                let graph = compiled.base.graph();
                graph.find(place).map(|id| graph.node(id).op.name())
            });
            let is_linear = op.is_none_or(|op| op == "linear");
            let new = if is_linear { format!("linear({CLASSES})") } else { format!("same(out = {CLASSES})") };
            text += &format!("replace {} with {new}\n", path::display(place));
        }
        for edit in &self.edits {
            text += &format!("{edit}\n");
        }
        for name in &self.unbiased {
            text += &format!("init {}.bias with zeros\n", path::display(path::parent(name)));
        }
        text
    }
}

/// `weights "file" part "part"`, and the lines; None where a name of the file's own cannot be written.
fn entries(file: &str, lines: &Lines) -> Option<Vec<String>> {
    let file = quoted(file)?;
    let part = match &lines.part {
        Some(part) => format!(" part {}", quoted(part)?),
        None => String::new(),
    };
    Some(std::iter::once(format!("weights {file}{part}")).chain(lines.texts()).collect())
}

fn compiled(spec: &str, files: Files) -> Option<Compiled> {
    let mut sources = Sources::new();
    let file = sources.add("<doctor>", spec, None);
    match compile::check(&mut sources, file, &[], files) {
        Ok(Outcome::Spec(compiled)) => Some(*compiled),
        Ok(Outcome::Library) | Err(_) => None,
    }
}
