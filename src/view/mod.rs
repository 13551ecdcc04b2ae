//! A network as a picture: scopes are boxes that hold others, equal neighbours are one box, and what edits did is coloured.
//!
//! Network, difference or steps become a [`Picture`]: a tree of items and the values that flow between layers. What is
//! unfolded of it is a [`Scene`](scene), which `svg`, `dot` and `mermaid` draw; `html` takes the whole picture and makes
//! scenes in the browser. Every name of the user's is escaped where it is written.

mod dot;
mod fold;
mod html;
mod layout;
mod mermaid;
mod network;
mod scene;
mod steps;
mod svg;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;

use crate::diag::Problem;
use crate::outline::{Held, Place, Run, runs};
pub use fold::Depth;
pub use network::{Part, difference, network, spec};
pub use steps::{measured, planned};

/// More boxes directly inside one are drawn in groups, so that no layout takes long.
const CROWD: usize = 256;
/// The boxes of such a group.
const GROUP: usize = 64;

/// A format of pictures, by the ending of its files.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    pub name: &'static str,
    write: fn(&Picture, Depth) -> Result<String, Problem>,
}

/// One line a format.
pub static FORMATS: &[Format] = &[
    Format { name: "html", write: html::write },
    Format { name: "svg", write: svg::write },
    Format { name: "dot", write: dot::write },
    Format { name: "md", write: mermaid::write },
];

impl PartialEq for Format {
    fn eq(&self, other: &Format) -> bool {
        self.name == other.name
    }
}

impl Format {
    pub fn named(name: &str) -> Option<Format> {
        FORMATS.iter().find(|format| format.name == name).copied()
    }

    /// The picture as a file, unfolded as far as `depth` says.
    ///
    /// # Errors
    /// More boxes than can be laid out.
    pub fn write(self, picture: &Picture, depth: Depth) -> Result<String, Problem> {
        (self.write)(picture, depth)
    }
}

/// What a picture is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A network, and what edits did to it.
    Network,
    /// The difference of two.
    Difference,
    /// What executes.
    Steps,
}

/// What became of a layer or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Same,
    Added,
    Changed,
    /// It is there no more.
    Removed,
}

impl State {
    /// Said without colours.
    pub fn sign(self) -> &'static str {
        match self {
            State::Same => "",
            State::Added => "+",
            State::Changed => "~",
            State::Removed => "\u{2212}",
        }
    }

    fn name(self) -> &'static str {
        match self {
            State::Same => "same",
            State::Added => "added",
            State::Changed => "changed",
            State::Removed => "removed",
        }
    }
}

/// An edit, or a side of a difference: what the colours stand for.
#[derive(Clone, Debug)]
pub struct Mark {
    /// In a few letters: `line 6`.
    pub name: String,
    /// What it says.
    pub text: String,
    /// What it came to.
    pub result: String,
}

/// A tensor of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub name: String,
    pub shape: String,
    /// Where its values come from, or what became of them.
    pub fate: String,
}

/// A layer, or a step.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Dotted; nobody else has it.
    pub path: String,
    pub form: Form,
    /// The name of the op.
    pub op: String,
    /// The op with its arguments.
    pub text: String,
    /// What it was before, where that is another.
    pub was: Option<String>,
    pub shape: String,
    pub keys: Vec<Key>,
    pub parameters: u64,
    pub macs: u64,
    pub ms: Option<f64>,
    pub state: State,
    pub mark: Option<usize>,
    pub operands: Vec<Operand>,
}

/// A value that a layer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Which of the layers makes it.
    pub layer: usize,
    pub state: State,
    pub mark: Option<usize>,
}

/// A kind of box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Network,
    Scope,
    /// Equal neighbours.
    Run,
    /// Neighbours that are too many to be drawn one by one.
    Range,
    Layer,
    Input,
    Output,
    /// A layer that is not part of the picture, but takes or makes a value of it.
    Beside,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Form::Network => "network",
            Form::Scope => "scope",
            Form::Run => "run",
            Form::Range => "range",
            Form::Layer => "layer",
            Form::Input => "input",
            Form::Output => "output",
            Form::Beside => "beside",
        }
    }
}

/// A box, folded or not.
#[derive(Clone, Debug)]
pub struct Item {
    pub parent: Option<usize>,
    /// In the order of running.
    pub children: Vec<usize>,
    pub form: Form,
    /// As it is headed.
    pub label: String,
    /// The selector of it.
    pub place: String,
    /// The block that it is an instance of, or what else it is.
    pub kind: String,
    /// Of what is inside.
    pub layers: usize,
    pub parameters: u64,
    pub macs: u64,
    pub ms: Option<f64>,
    /// What comes out, where that is one value.
    pub shape: String,
    /// That of everything inside, where it is one; else `Same`.
    pub state: State,
    /// The marks of what is inside, of values too.
    pub marks: BTreeSet<usize>,
    /// The layer that it is.
    pub layer: Option<usize>,
}

/// A network to be drawn.
#[derive(Clone, Debug)]
pub struct Picture {
    pub subject: Subject,
    pub title: String,
    /// Its size, in words.
    pub figures: String,
    pub marks: Vec<Mark>,
    pub layers: Vec<Layer>,
    /// The first is the network; what holds others comes before them.
    pub items: Vec<Item>,
    /// The item of each layer.
    pub of_layer: Vec<usize>,
    /// Of the slowest step.
    pub slowest: Option<f64>,
}

/// What a scope is.
pub struct Braces {
    pub block: String,
    /// The shape of the value that it ends with.
    pub shape: String,
}

impl Picture {
    /// The picture of layers, which stand in the order of running; `braces` says what a scope is.
    fn new(
        subject: Subject,
        title: String,
        figures: String,
        marks: Vec<Mark>,
        layers: Vec<Layer>,
        braces: impl Fn(&str) -> Option<Braces>,
    ) -> Picture {
        let root = Item {
            parent: None,
            children: vec![],
            form: Form::Network,
            label: title.clone(),
            place: String::new(),
            kind: String::new(),
            layers: 0,
            parameters: 0,
            macs: 0,
            ms: None,
            shape: String::new(),
            state: State::Same,
            marks: BTreeSet::new(),
            layer: None,
        };
        let slowest = layers.iter().filter_map(|layer| layer.ms).reduce(f64::max);
        let of_layer = vec![0; layers.len()];
        let mut picture = Picture { subject, title, figures, marks, layers, items: vec![root], of_layer, slowest };
        let kind = |id: usize, scope: &str| picture.kind(id, scope);
        // what stands at the borders has no place among the paths
        let is_inside = |layer: &&(usize, &Layer)| !matches!(layer.1.form, Form::Output | Form::Beside);
        let listed: Vec<(usize, &Layer)> = picture.layers.iter().enumerate().collect();
        let inside = listed.iter().filter(is_inside).map(|(id, layer)| (layer.path.as_str(), *id));
        let top = runs(inside, kind);
        let outside: Vec<usize> = listed.iter().filter(|layer| !is_inside(layer)).map(|(id, _)| *id).collect();
        let mut children = picture.grow_all(0, &top, &braces);
        for id in outside {
            let label = picture.layers[id].path.clone();
            children.push(picture.leaf(0, label.clone(), label, id));
        }
        picture.items[0].children = picture.grouped(0, children);
        picture.sum();
        picture
    }

    /// What tells a layer apart from another's in an equal scope.
    fn kind(&self, id: usize, scope: &str) -> String {
        let within = |path: &str| crate::graph::path::rest(path, scope).unwrap_or("..").to_string();
        let layer = &self.layers[id];
        let takes = |operand: &Operand| (within(&self.layers[operand.layer].path), operand.state, operand.mark);
        let takes: Vec<(String, State, Option<usize>)> = layer.operands.iter().map(takes).collect();
        let fates: Vec<&str> = layer.keys.iter().map(|key| key.fate.as_str()).collect();
        let Layer { text, shape, was, state, mark, .. } = layer;
        format!("{} {text} {shape} {was:?} {state:?} {mark:?} {fates:?} {takes:?}", within(&layer.path))
    }

    fn grow_all(&mut self, parent: usize, runs: &[Run<usize>], braces: &dyn Fn(&str) -> Option<Braces>) -> Vec<usize> {
        runs.iter().map(|run| self.grow_run(parent, run, braces)).collect()
    }

    fn grow_run(&mut self, parent: usize, run: &Run<usize>, braces: &dyn Fn(&str) -> Option<Braces>) -> usize {
        let (label, place) = self.named(parent, &run.place);
        if let [one] = run.places.as_slice() {
            return self.grow(parent, label, place, one, braces);
        }
        let id = self.item(parent, Form::Run, label, place);
        let children = run.places.iter().map(|one| {
            let own = crate::outline::own_selector(&self.holder_path(parent), &one.label);
            let (label, place) = self.named(parent, &own);
            self.grow(id, label, place, one, braces)
        });
        let children: Vec<usize> = children.collect();
        self.items[id].kind = self.items[children[0]].kind.clone();
        self.items[id].shape = children.last().map(|last| self.items[*last].shape.clone()).unwrap_or_default();
        self.items[id].children = children;
        id
    }

    fn grow(
        &mut self,
        parent: usize,
        label: String,
        place: String,
        one: &Place<usize>,
        braces: &dyn Fn(&str) -> Option<Braces>,
    ) -> usize {
        match &one.holds {
            Held::Layer(layer) => self.leaf(parent, label, place, *layer),
            Held::Scope { path, runs } => {
                let id = self.item(parent, Form::Scope, label, place);
                if let Some(said) = braces(path) {
                    // `se: se` is said once
                    self.items[id].kind = if said.block == one.label { String::new() } else { said.block };
                    self.items[id].shape = said.shape;
                }
                let children = self.grow_all(id, runs, braces);
                self.items[id].children = self.grouped(id, children);
                id
            }
        }
    }

    fn item(&mut self, parent: usize, form: Form, label: String, place: String) -> usize {
        self.items.push(Item {
            parent: Some(parent),
            children: vec![],
            form,
            label,
            place,
            kind: String::new(),
            layers: 0,
            parameters: 0,
            macs: 0,
            ms: None,
            shape: String::new(),
            state: State::Same,
            marks: BTreeSet::new(),
            layer: None,
        });
        self.items.len() - 1
    }

    fn leaf(&mut self, parent: usize, label: String, place: String, id: usize) -> usize {
        let layer = &self.layers[id];
        let (form, op, shape) = (layer.form, layer.op.clone(), layer.shape.clone());
        let item = self.item(parent, form, label, place);
        self.items[item].kind = op;
        self.items[item].shape = shape;
        self.items[item].layer = Some(id);
        self.of_layer[id] = item;
        item
    }

    /// Label and place of what `selector` names in an item: a number is headed by what it counts.
    fn named(&self, parent: usize, selector: &str) -> (String, String) {
        let holder = &self.items[parent];
        let label = match selector.starts_with('[') {
            true => format!("{}{selector}", holder.label),
            false => selector.trim_start_matches('.').to_string(),
        };
        (label, format!("{}{selector}", holder.place))
    }

    /// Whether the item is the network or not is all that a selector inside it asks.
    fn holder_path(&self, item: usize) -> String {
        if self.items[item].place.is_empty() { String::new() } else { "_".into() }
    }

    /// The children of an item, in groups where they are many.
    fn grouped(&mut self, parent: usize, mut children: Vec<usize>) -> Vec<usize> {
        while children.len() > CROWD {
            let mut groups = vec![];
            for some in children.chunks(GROUP) {
                let (first, last) = (&self.items[some[0]], &self.items[some[some.len() - 1]]);
                let end = |label: &str, at: usize| label.split(" .. ").nth(at).unwrap_or(label).to_string();
                let (first, last) = (end(&first.label, 0), end(&last.label, 1));
                let label = if some.len() == 1 { first } else { format!("{first} .. {last}") };
                let id = self.item(parent, Form::Range, label, self.items[parent].place.clone());
                for child in some {
                    self.items[*child].parent = Some(id);
                }
                self.items[id].children = some.to_vec();
                groups.push(id);
            }
            children = groups;
        }
        children
    }

    /// Adds up what is inside of each item.
    fn sum(&mut self) {
        let mut order = vec![0];
        let mut at = 0;
        while let Some(id) = order.get(at) {
            order.extend(self.items[*id].children.iter().copied());
            at += 1;
        }
        for id in order.into_iter().rev() {
            let mut item = self.items[id].clone();
            if let Some(layer) = item.layer.map(|layer| &self.layers[layer]) {
                item.layers = usize::from(layer.form == Form::Layer);
                item.parameters = layer.parameters;
                item.macs = layer.macs;
                item.ms = layer.ms;
                item.state = layer.state;
                let of_values = layer.operands.iter().filter_map(|operand| operand.mark);
                item.marks = layer.mark.into_iter().chain(of_values).collect();
            }
            let mut states = BTreeSet::new();
            for child in &item.children {
                let child = &self.items[*child];
                item.layers += child.layers;
                item.parameters += child.parameters;
                item.macs += child.macs;
                item.ms = match (item.ms, child.ms) {
                    (Some(ms), Some(more)) => Some(ms + more),
                    (ms, more) => ms.or(more),
                };
                item.marks.extend(&child.marks);
                states.insert(child.state);
            }
            if states.len() == 1 && item.marks.len() < 2 {
                item.state = states.first().copied().unwrap_or(State::Same);
            }
            self.items[id] = item;
        }
    }

    /// The layers inside an item, in order.
    fn leaves(&self, item: usize) -> Vec<usize> {
        let mut leaves = vec![];
        let mut stack = vec![item];
        while let Some(id) = stack.pop() {
            leaves.extend(self.items[id].layer);
            stack.extend(self.items[id].children.iter().rev());
        }
        leaves
    }

    /// What the colours of an item are of: a sign, and the one mark where there is one.
    fn tag(&self, item: &Item) -> Option<String> {
        let marks: Vec<&str> = item.marks.iter().map(|mark| self.marks[*mark].name.as_str()).collect();
        let is_painted = item.state != State::Same || (item.layer.is_none() && !marks.is_empty());
        let names = if marks.len() > 3 { format!("{} edits", marks.len()) } else { marks.join(", ") };
        let names =
            if self.subject == Subject::Difference && item.state == State::Same { "differs" } else { names.as_str() };
        is_painted.then(|| format!("{} {names}", item.state.sign()).trim().to_string())
    }
}
