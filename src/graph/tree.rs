//! The paths of a graph as a tree of labels: where each layer and scope is, and what lies inside it.
//!
//! Everything about one path costs its length, and everything about a scope what the scope holds, so that an edit of one
//! place does not look at the others.

use std::sync::Arc;

use indexmap::{IndexMap, IndexSet};
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::{NodeId, Scope, path};

pub(super) type FxIndexMap<K, V> = IndexMap<K, V, FxBuildHasher>;
pub(super) type FxIndexSet<T> = IndexSet<T, FxBuildHasher>;

/// A path of a graph: a layer, a scope, or a mere prefix of one. Valid until the graph changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spot(usize);

#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// The network itself, the empty path, is the first.
    entries: Vec<Entry>,
    unused: Vec<usize>,
    /// The scopes that begin with a node, end with it, or count it among their additions.
    mentions: FxHashMap<NodeId, FxIndexSet<usize>>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    label: Arc<str>,
    parent: usize,
    children: FxIndexMap<Arc<str>, usize>,
    /// Some label inside is a number as it is not counted: `007`.
    has_padded: bool,
    layer: Option<NodeId>,
    scope: Option<Box<Scope>>,
    /// How many layers lie at this path and inside it.
    layers: usize,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree { entries: vec![Entry::default()], unused: vec![], mentions: FxHashMap::default() }
    }
}

impl Tree {
    pub const ROOT: Spot = Spot(0);

    pub fn find(&self, path: &str) -> Option<Spot> {
        let mut at = 0;
        if !path.is_empty() {
            for label in path.split('.') {
                at = *self.entries[at].children.get(label)?;
            }
        }
        Some(Spot(at))
    }

    pub fn child(&self, spot: Spot, label: &str) -> Option<Spot> {
        self.entries[spot.0].children.get(label).map(|at| Spot(*at))
    }

    /// The labels directly inside, in no order that means anything.
    pub fn children(&self, spot: Spot) -> impl Iterator<Item = (&str, Spot)> {
        self.entries[spot.0].children.iter().map(|(label, at)| (&**label, Spot(*at)))
    }

    pub fn numbered(&self, spot: Spot, number: i64) -> Vec<(&str, Spot)> {
        let Entry { children, has_padded, .. } = &self.entries[spot.0];
        if *has_padded {
            let is_it = |label: &str| path::is_number(label) && label.parse() == Ok(number);
            return self.children(spot).filter(|(label, _)| is_it(label)).collect();
        }
        let found = children.get_key_value(number.to_string().as_str());
        found.map(|(label, at)| (&**label, Spot(*at))).into_iter().collect()
    }

    pub fn path(&self, spot: Spot) -> String {
        let mut labels = vec![];
        let mut at = spot.0;
        while at != 0 {
            labels.push(&*self.entries[at].label);
            at = self.entries[at].parent;
        }
        labels.reverse();
        labels.join(".")
    }

    pub fn layer(&self, spot: Spot) -> Option<NodeId> {
        self.entries[spot.0].layer
    }

    pub fn scope(&self, spot: Spot) -> Option<&Scope> {
        self.entries[spot.0].scope.as_deref()
    }

    /// How many layers lie at a path and inside it.
    pub fn layers(&self, spot: Spot) -> usize {
        self.entries[spot.0].layers
    }

    /// The path and all paths inside it, what holds others before them.
    pub fn within(&self, spot: Spot) -> impl Iterator<Item = Spot> {
        let mut stack = vec![spot.0];
        std::iter::from_fn(move || {
            let at = stack.pop()?;
            stack.extend(self.entries[at].children.values().rev());
            Some(Spot(at))
        })
    }

    /// The scopes that hold a path, the nearest first and the network last.
    pub fn holders(&self, spot: Spot) -> impl Iterator<Item = Spot> {
        let mut at = spot.0;
        std::iter::from_fn(move || {
            (at != 0).then(|| {
                at = self.entries[at].parent;
                Spot(at)
            })
        })
    }

    /// The scopes that begin with a node, end with it, or count it among their additions.
    pub fn mentions(&self, id: NodeId) -> Vec<Spot> {
        self.mentions.get(&id).into_iter().flatten().map(|at| Spot(*at)).collect()
    }

    pub fn put_layer(&mut self, path: &str, id: NodeId) {
        let Spot(at) = self.make(path);
        self.entries[at].layer = Some(id);
        self.count(at, |layers| layers + 1);
    }

    pub fn take_layer(&mut self, path: &str) {
        let Some(Spot(at)) = self.find(path) else { return };
        if self.entries[at].layer.take().is_some() {
            self.count(at, |layers| layers - 1);
            self.prune(at);
        }
    }

    /// Puts a scope at a path, or takes the one there away.
    pub fn set_scope(&mut self, path: &str, scope: Option<Scope>) {
        let spot = if scope.is_some() { Some(self.make(path)) } else { self.find(path) };
        let Some(Spot(at)) = spot else { return };
        if let Some(old) = self.entries[at].scope.take() {
            for id in mentioned(&old) {
                self.forget_mention(id, at);
            }
        }
        if let Some(scope) = scope {
            for id in mentioned(&scope) {
                self.mentions.entry(id).or_default().insert(at);
            }
            self.entries[at].scope = Some(Box::new(scope));
        }
        self.prune(at);
    }

    /// Changes what a scope says, where there is one.
    pub fn change_scope(&mut self, spot: Spot, change: impl FnOnce(&mut Scope)) {
        let Some(mut scope) = self.entries[spot.0].scope.take() else { return };
        let before = (scope.input, scope.output, scope.additions.len());
        change(&mut scope);
        for id in [before.0, before.1].into_iter().flatten() {
            if scope.input != Some(id) && scope.output != Some(id) && !scope.additions.contains(&id) {
                self.forget_mention(id, spot.0);
            }
        }
        let added = scope.additions.get(before.2..).unwrap_or(&[]);
        for id in scope.input.iter().chain(&scope.output).chain(added) {
            self.mentions.entry(*id).or_default().insert(spot.0);
        }
        self.entries[spot.0].scope = Some(scope);
    }

    /// Lets no scope mention a node any more.
    pub fn forget_node(&mut self, id: NodeId) {
        self.mentions.remove(&id);
    }

    fn forget_mention(&mut self, id: NodeId, at: usize) {
        if let Some(scopes) = self.mentions.get_mut(&id) {
            scopes.swap_remove(&at);
            if scopes.is_empty() {
                self.mentions.remove(&id);
            }
        }
    }

    /// The path's entry, made with those before it where there is none.
    fn make(&mut self, path: &str) -> Spot {
        let mut at = 0;
        for label in path.split('.').filter(|_| !path.is_empty()) {
            at = match self.entries[at].children.get(label) {
                Some(child) => *child,
                None => {
                    let name: Arc<str> = label.into();
                    let entry = Entry { label: name.clone(), parent: at, ..Entry::default() };
                    let child = match self.unused.pop() {
                        Some(child) => {
                            self.entries[child] = entry;
                            child
                        }
                        None => {
                            self.entries.push(entry);
                            self.entries.len() - 1
                        }
                    };
                    self.entries[at].has_padded |= path::is_number(label) && label.len() > 1 && label.starts_with('0');
                    self.entries[at].children.insert(name, child);
                    child
                }
            };
        }
        Spot(at)
    }

    fn count(&mut self, mut at: usize, change: impl Fn(usize) -> usize) {
        loop {
            self.entries[at].layers = change(self.entries[at].layers);
            if at == 0 {
                return;
            }
            at = self.entries[at].parent;
        }
    }

    /// Takes entries away that hold nothing.
    fn prune(&mut self, mut at: usize) {
        while at != 0 {
            let entry = &self.entries[at];
            if entry.layer.is_some() || entry.scope.is_some() || !entry.children.is_empty() {
                return;
            }
            let Entry { label, parent, .. } = std::mem::take(&mut self.entries[at]);
            self.entries[parent].children.swap_remove(&label);
            self.unused.push(at);
            at = parent;
        }
    }
}

fn mentioned(scope: &Scope) -> impl Iterator<Item = NodeId> {
    scope.input.into_iter().chain(scope.output).chain(scope.additions.iter().copied())
}
