//! Names across files: which files a spec uses, what each defines, what each may see.
//!
//! A file sees its own definitions, those of the files that it uses (not theirs), then zoo/blocks.arch. Knows nothing of
//! graphs; the meaning of what is inside a definition is `build`'s.

mod hosted;
mod load;
mod parts;

use std::sync::Arc;

use indexmap::IndexMap;
use parts::Parts;

pub use hosted::Hosted;
pub use load::load;
pub(crate) use load::{MAX_BYTES, decode, read};

use crate::diag::nearest;
use crate::source::{FileId, Span};
use crate::syntax::tree;

/// Every file of a compilation. The spec is the first.
#[derive(Debug)]
pub struct Program {
    modules: Vec<Module>,
    /// zoo/blocks.arch
    blocks: ModuleId,
}

/// A file in a [`Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModuleId(usize);

/// One file: its tree and what it defines.
#[derive(Debug)]
pub struct Module {
    pub file: FileId,
    /// Of a text of archc's own, without its blocks and networks.
    pub tree: Arc<tree::File>,
    /// Those, where it is one.
    parts: Option<Arc<Parts>>,
    pub uses: Vec<ModuleId>,
    /// Blocks, networks and lets by name.
    pub definitions: IndexMap<String, Definition>,
}

/// Where something is defined.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    pub kind: Kind,
    place: Place,
    pub span: Span,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// One of the file's items.
    Item(usize),
    /// A part of a text of archc's own.
    Part(usize),
}

impl Module {
    /// What a definition of the file says.
    fn item(&self, definition: &Definition) -> &tree::Item {
        match (definition.place, &self.parts) {
            (Place::Part(at), Some(parts)) => parts.parts[at].item(),
            (Place::Item(at) | Place::Part(at), _) => &self.tree.items[at],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Block,
    Network,
    Let,
}

/// A block, or a network, and the file that it was written in.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    Block(ModuleId, &'a tree::Block),
    Network(ModuleId, &'a tree::Network),
    Let(ModuleId),
}

impl Program {
    pub const SPEC: ModuleId = ModuleId(0);

    pub fn module(&self, id: ModuleId) -> &Module {
        &self.modules[id.0]
    }

    pub fn modules(&self) -> impl Iterator<Item = ModuleId> {
        (0..self.modules.len()).map(ModuleId)
    }

    /// The files that `from` sees, its own first.
    fn seen(&self, from: ModuleId) -> impl Iterator<Item = ModuleId> {
        std::iter::once(from).chain(self.module(from).uses.iter().copied()).chain([self.blocks])
    }

    /// What `name` means in file `from`: its own definition, a used file's, one of zoo/blocks.arch.
    pub fn find(&self, from: ModuleId, name: &str) -> Option<Found<'_>> {
        self.seen(from).find_map(|id| self.own(id, name))
    }

    /// The network that `base NAME` means: the spec's own, one that it sees, one of the zoo.
    pub fn network(&self, name: &str) -> Option<(ModuleId, &tree::Network)> {
        let seen = self.find(Program::SPEC, name).into_iter();
        let zoo = self.modules().filter_map(|id| self.own(id, name));
        seen.chain(zoo).find_map(|found| match found {
            Found::Network(id, network) => Some((id, network)),
            _ => None,
        })
    }

    fn own(&self, id: ModuleId, name: &str) -> Option<Found<'_>> {
        let module = self.module(id);
        let definition = module.definitions.get(name)?;
        // to say what kind it is, nothing needs to be read
        if definition.kind == Kind::Let {
            return Some(Found::Let(id));
        }
        Some(match module.item(definition) {
            tree::Item::Block(block) => Found::Block(id, block),
            tree::Item::Network(network) => Found::Network(id, network),
            _ => Found::Let(id),
        })
    }

    /// Every name that `from` sees, for suggestions.
    pub fn visible(&self, from: ModuleId) -> Vec<&str> {
        self.seen(from).flat_map(|id| self.module(id).definitions.keys().map(String::as_str)).collect()
    }

    /// The spec's items of one kind.
    fn items<'a, T>(&'a self, pick: impl Fn(&'a tree::Item) -> Option<T>) -> impl Iterator<Item = T> {
        self.module(Program::SPEC).tree.items.iter().filter_map(pick)
    }

    /// The spec's base; None for a library.
    pub fn base(&self) -> Option<&tree::Base> {
        self.items(tree::Item::as_base).next()
    }

    pub fn edits(&self) -> impl Iterator<Item = &tree::Edit> {
        self.items(|item| if let tree::Item::Edit(edit) = item { Some(edit) } else { None })
    }

    pub fn params(&self) -> impl Iterator<Item = &tree::Param> {
        self.items(|item| if let tree::Item::Param(param) = item { Some(param) } else { None })
    }

    pub fn train(&self) -> Option<&tree::Train> {
        self.items(|item| if let tree::Item::Train(train) = item { Some(train) } else { None }).next()
    }

    /// The networks nearest in name among those that a base could name.
    pub fn nearest_networks(&self, name: &str) -> Vec<String> {
        let zoo = crate::zoo::networks();
        let own: Vec<&str> = self
            .visible(Program::SPEC)
            .into_iter()
            .filter(|name| matches!(self.find(Program::SPEC, name), Some(Found::Network(..))))
            .collect();
        let names = own.into_iter().chain(zoo.into_iter().map(|(name, _)| name));
        nearest(name, names).into_iter().map(str::to_string).collect()
    }
}
