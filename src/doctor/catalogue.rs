//! The networks of the zoo as files see them: by the keys and shapes of their tensors.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::bind;
use crate::compile::{self, Compiled};
use crate::diag::{Code, Diagnostics, Problem, suggest};
use crate::graph::{Node, path};
use crate::settings::classes;
use crate::weights::Asked;
use crate::zoo;

/// Compiled networks, in the order of the zoo.
pub struct Catalogue {
    pub networks: Vec<Network>,
    /// The network whose forms alone they are, where one was asked for.
    pub only: Option<&'static str>,
    /// The shapes that each key has in some of them.
    shapes: FxHashMap<String, FxHashSet<Vec<usize>>>,
}

/// A network of the zoo with its default arguments, or as `archc export --fold` leaves it.
pub struct Network {
    pub name: &'static str,
    /// What it is given, `deploy = true`.
    pub given: Option<&'static str>,
    pub file: &'static zoo::File,
    /// The network itself, which few are asked for: see [`Network::compiled`].
    compiled: OnceLock<Option<Compiled>>,
    /// Its tensors, and how its maps are laid out.
    pub asked: Asked,
    /// Key and shape of each that a file must have, in running order.
    pub required: Vec<(String, Vec<usize>)>,
    /// How many classes it tells apart.
    pub classes: Option<usize>,
    /// Height and width of its first image.
    pub input: Option<[usize; 3]>,
    /// The layers that its role `head` names.
    pub heads: Vec<String>,
}

impl Catalogue {
    /// All networks of the zoo, or the one of that name.
    ///
    /// # Errors
    /// A name that the zoo has not; where a thread cannot be started.
    pub fn new(only: Option<&str>) -> Result<Catalogue, Diagnostics> {
        let mut named = zoo::networks();
        if let Some(only) = only {
            let unknown = || {
                let problem = Problem::new(Code::Usage, format!("the zoo has no network `{only}`"));
                let problem = problem.hints(suggest(only, named.iter().map(|(name, _)| *name)));
                problem.hint("`archc zoo` lists what there is").anywhere()
            };
            named = vec![*named.iter().find(|(name, _)| *name == only).ok_or_else(unknown)?];
        }
        let folded = named.iter().filter(|(name, file)| zoo::takes(file, name, "deploy")).copied();
        let folded = folded.map(|(name, file)| (name, file, Some("deploy = true")));
        let all: Vec<_> = named.iter().map(|(name, file)| (*name, *file, None)).chain(folded).collect();
        let new = |(name, file, given)| Network::new(name, file, given);
        let networks: Vec<Network> = all.into_par_iter().map(new).collect::<Result<_, Diagnostics>>()?;
        let mut shapes: FxHashMap<String, FxHashSet<Vec<usize>>> = FxHashMap::default();
        for (key, decl) in networks.iter().flat_map(|network| &network.asked.tensors) {
            shapes.entry(key.clone()).or_default().insert(decl.shape.clone());
        }
        let only = only.and_then(|_| named.first()).map(|(name, _)| *name);
        Ok(Catalogue { networks, only, shapes })
    }

    /// Whether some network has a tensor of this key and shape.
    pub fn knows(&self, key: &str, shape: &[usize]) -> bool {
        self.shapes.get(key).is_some_and(|shapes| shapes.contains(shape))
    }
}

impl Network {
    fn new(name: &'static str, file: &'static zoo::File, given: Option<&'static str>) -> Result<Network, Diagnostics> {
        let compiled = compile::of_zoo(&call(name, given))?;
        let typed = &compiled.base;
        let input = typed.graph().inputs().values().find_map(|id| typed.shape(*id).as_image());
        let heads = typed.graph().roles().get("head").map(|role| &role.places[..]).unwrap_or_default();
        let asked = bind::asked(typed, typed);
        Ok(Network {
            name,
            given,
            file,
            required: asked.required().map(|(key, decl)| (key.to_string(), decl.shape.clone())).collect(),
            asked,
            classes: classes(typed),
            input: input.map(|(channels, height, width)| [channels, height, width]),
            heads: heads.iter().map(|place| place.first.clone()).collect(),
            compiled: OnceLock::new(),
        })
    }

    /// The network itself, compiled once more: what files are compared with is a fraction of all that it holds, and of many
    /// hundreds one is used. None where a thread for it cannot be started.
    pub fn compiled(&self) -> Option<&Compiled> {
        self.compiled.get_or_init(|| compile::of_zoo(&call(self.name, self.given)).ok()).as_ref()
    }

    /// Whether a layer is the head's.
    pub fn is_head(&self, layer: &str) -> bool {
        self.heads.iter().any(|head| path::within(layer, head))
    }

    /// Whether another network has the same tensors but for its head.
    pub fn is_twin(&self, other: &Network) -> bool {
        fn body(network: &Network) -> BTreeSet<&(String, Vec<usize>)> {
            network.required.iter().filter(|(key, _)| !network.is_head(path::parent(key))).collect()
        }
        body(self) == body(other)
    }

    /// What it does otherwise than a twin, as far as outputs go.
    pub fn difference(&self, other: &Network) -> String {
        let (own, others) = (self.layers(), other.layers());
        let apart = own.iter().zip(&others).find(|(own, other)| own != other);
        let preprocess =
            |network: &Network| network.compiled().and_then(|compiled| compiled.settings.preprocess.clone());
        match apart {
            Some(((place, _), (path, _))) if place == path => format!("another `{}`", path::display(path)),
            Some((_, (path, _))) => format!("other layers from `{}` on", path::display(path)),
            None if own.len() != others.len() => "other layers at its end".into(),
            None if preprocess(self) != preprocess(other) => "pictures are prepared in another way".into(),
            None => "nothing but its name".into(),
        }
    }

    /// Each layer but inputs and head, with what it computes.
    fn layers(&self) -> Vec<(&str, String)> {
        let Some(Compiled { base: typed, .. }) = self.compiled() else { return vec![] };
        let graph = typed.graph();
        let nodes = typed.order().iter().map(|id| graph.node(*id));
        let nodes = nodes.filter(|node| node.op.name() != "input" && !self.is_head(&node.path));
        let does = |node: &Node| {
            // how fresh values are drawn is no matter for those of a file
            let attrs = node.op.attrs().into_iter().filter(|(name, _)| *name != "init");
            format!("{} {:?}", node.op.name(), attrs.collect::<Vec<_>>())
        };
        nodes.map(|node| (node.path.as_str(), does(node))).collect()
    }
}

/// A network with what it is given, as a spec calls it.
fn call(name: &str, given: Option<&str>) -> String {
    given.map_or(name.to_string(), |given| format!("{name}({given})"))
}
