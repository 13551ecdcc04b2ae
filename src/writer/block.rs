//! Scopes that are alike become one block, with parameters for what they differ in.

use indexmap::IndexMap;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Style;
use super::fold::fold_body;
use super::inline::inline;
use super::merge::{Merged, Source, merge};
use super::relate::{Found, Slot, parameters};
use super::text::Names;
use super::tree::{
    Body, Condition, Dim, Expr, Id, Item, Outer, Ref, Step, Stmt, each_guard, each_scope, measure_all, signature, walk,
};
use crate::graph::{Graph, NodeId, path};
use crate::ops::attr::Attr;
use crate::ops::shape::Shape;

/// A call of a block that needs more is longer than what it stands for.
const MAX_PARAMS: usize = 12;
/// A block that may lack more parts is two.
const MAX_GUARDS: usize = 4;
/// A scope is compared with no more others of its class.
const MAX_JOINS: usize = 8;
/// How often heights are set.
const MAX_ROUNDS: usize = 8;

/// A piece of the network that is written once.
pub struct Block {
    pub name: String,
    pub numbered: bool,
    /// Values of the network that it is given.
    pub values: Vec<String>,
    pub params: Vec<Param>,
    pub body: Body,
    /// Whether its name is that of a class of modules.
    pub has_class: bool,
}

pub struct Param {
    pub name: String,
    /// What is meant where a call does not say it.
    pub default: Option<Attr>,
}

/// A scope, as it is compared with others.
struct Instance {
    /// Which of the group's variants it is.
    variant: usize,
    literals: Vec<(Attr, Option<NodeId>)>,
    /// What it takes from outside by name.
    values: Vec<Ref>,
    /// What flows in.
    input: Option<NodeId>,
    /// Which scope it is, in the order in which they are met.
    place: usize,
}

/// A literal of a group.
struct Name {
    name: String,
    label: String,
    is_guard: bool,
}

/// Scopes that are alike, but for parts that some of them lack.
struct Group {
    class: Option<String>,
    /// The label of the first, for a name.
    label: String,
    numbered: bool,
    body: Body,
    names: Vec<Name>,
    /// Where each literal comes from in scopes that have the same parts.
    variants: Vec<Vec<Source>>,
    instances: Vec<Instance>,
}

/// Finds the loops and blocks of a network, from the innermost scopes outwards.
pub fn abstracted(graph: &Graph, root: &mut Body, next: &mut Id, names: &mut Names, style: Style) -> Vec<Block> {
    let mut made: Vec<Block> = vec![];
    let deepest = level(root);
    for level in 1..=deepest {
        let mut groups: IndexMap<(u64, Option<String>), Group> = IndexMap::new();
        let mut place = 0;
        each_scope(&mut root.stmts, &mut |stmt| {
            let label = stmt.label.text().unwrap_or_default();
            let Step::Scope { numbered, class, height, body } = &mut stmt.step else { return };
            if *height != level {
                return;
            }
            if style.loops {
                fold_body(body, next);
            }
            if style.blocks {
                let alike = signature(&mut body.stmts, Some((body.input, body.id)), Outer::InOrder, false);
                let alike = alike.wrapping_mul(4) + u64::from(*numbered) * 2 + u64::from(body.input.is_some());
                let group = groups.entry((alike, class.clone()));
                let group = group.or_insert_with(|| Group::new(class.clone(), label, *numbered, body));
                group.add(body, place);
            }
            place += 1;
        });
        let mut calls: FxHashMap<usize, Step> = FxHashMap::default();
        for group in joined(groups.into_values().collect(), next).into_iter().filter(Group::pays) {
            if let Some(block) = group.into_block(graph, made.len(), names, &mut calls) {
                made.push(block);
            }
        }
        let mut place = 0;
        each_scope(&mut root.stmts, &mut |stmt| {
            if matches!(stmt.step, Step::Scope { height, .. } if height == level) {
                if let Some(call) = calls.remove(&place) {
                    stmt.step = call;
                }
                place += 1;
            }
        });
    }
    if style.loops {
        fold_body(root, next);
    }
    inline(root, &mut made);
    made
}

/// Sets the heights of scopes: more than those of what lies inside, and one for scopes of a class, so that these come at
/// once. Gives the highest.
fn level(root: &mut Body) -> usize {
    let mut of_class: FxHashMap<String, usize> = FxHashMap::default();
    for _ in 0..MAX_ROUNDS {
        let before = of_class.clone();
        let highest = set_heights(&mut root.stmts, &mut of_class);
        if of_class == before {
            return highest;
        }
    }
    // a class lies in itself
    set_heights_plain(&mut root.stmts)
}

fn set_heights(stmts: &mut [Stmt], of_class: &mut FxHashMap<String, usize>) -> usize {
    let mut highest = 0;
    for stmt in stmts {
        let own = match &mut stmt.step {
            Step::Scope { class, height, body, .. } => {
                let mut own = 1 + set_heights(&mut body.stmts, of_class);
                if let Some(class) = class {
                    let known = of_class.entry(class.clone()).or_default();
                    own = own.max(*known);
                    *known = own;
                }
                *height = own;
                own
            }
            Step::Residual { main, side, .. } => {
                let side = side.as_mut().map_or(0, |side| set_heights(&mut side.stmts, of_class));
                side.max(set_heights(&mut main.stmts, of_class))
            }
            _ => 0,
        };
        highest = highest.max(own);
    }
    highest
}

fn set_heights_plain(stmts: &mut [Stmt]) -> usize {
    let mut highest = 0;
    each_scope(stmts, &mut |stmt| {
        if let Step::Scope { height, body, .. } = &mut stmt.step {
            let mut inside = 0;
            each_scope(&mut body.stmts, &mut |stmt| {
                if let Step::Scope { height, .. } = stmt.step {
                    inside = inside.max(height);
                }
            });
            *height = inside + 1;
            highest = highest.max(*height);
        }
    });
    highest
}

/// Groups of one class as one where they differ in parts that some lack.
fn joined(groups: Vec<Group>, next: &mut Id) -> Vec<Group> {
    let mut joined: Vec<Group> = vec![];
    for group in groups {
        let mut rest = Some(group);
        for (tried, other) in joined.iter_mut().rev().enumerate() {
            let one = rest.as_ref().expect("it was not joined yet");
            if tried >= MAX_JOINS {
                break;
            }
            if let Some(both) = Group::join(other, one, next) {
                let two = rest.take().expect("it was not joined yet");
                other.become_both(two, both);
                break;
            }
        }
        joined.extend(rest);
    }
    joined
}

/// How two groups are one: whether the first of them is the second, and the scope that is both.
struct Both {
    swapped: bool,
    merged: Merged,
}

impl Group {
    fn new(class: Option<String>, label: String, numbered: bool, body: &mut Body) -> Group {
        let names = names_of(body);
        let variant = (0..names.len()).map(Source::Slot).collect();
        let body = body.clone();
        Group { class, label, numbered, body, names, variants: vec![variant], instances: vec![] }
    }

    fn add(&mut self, body: &mut Body, place: usize) {
        let mut instance = Instance { variant: 0, literals: vec![], values: vec![], input: body.input, place };
        let mut inside: FxHashSet<Id> = FxHashSet::from_iter([body.id]);
        walk(&mut body.stmts, body.input, &mut |item| match item {
            Item::Slot { value: Expr::Value(value), input, .. } => instance.literals.push((value.clone(), input)),
            Item::Define(id) => _ = inside.insert(id),
            Item::Use(used) => {
                let is_inside = match used {
                    Ref::Value(id) | Ref::Part(id, _) | Ref::Inside(id, _) => inside.contains(id),
                    Ref::External(_) => true,
                };
                if !is_inside && !instance.values.contains(used) {
                    instance.values.push(used.clone());
                }
            }
            _ => {}
        });
        self.instances.push(instance);
    }

    fn join(one: &Group, other: &Group, next: &mut Id) -> Option<Both> {
        let takes_none = |group: &Group| group.instances.iter().all(|instance| instance.values.is_empty());
        let may = one.class.is_some()
            && one.class == other.class
            && one.numbered == other.numbered
            && takes_none(one)
            && takes_none(other);
        if !may {
            return None;
        }
        let lines = |body: &Body| measure_all(&body.stmts).0;
        let apart = lines(&one.body) + lines(&other.body) + 1;
        for (swapped, a, b) in [(false, one, other), (true, other, one)] {
            let Some(merged) = merge(&a.body, &b.body, next) else { continue };
            let mut guards = 0;
            let mut body = merged.body.clone();
            each_guard(&mut body.stmts, &mut |_| guards += 1);
            if guards <= MAX_GUARDS && lines(&merged.body) < apart {
                return Some(Both { swapped, merged });
            }
        }
        None
    }

    fn become_both(&mut self, other: Group, both: Both) {
        let Both { swapped, merged } = both;
        let [of_a, of_b] = merged.sources;
        let (of_self, of_other) = if swapped { (of_b, of_a) } else { (of_a, of_b) };
        let through = |sources: &[Source], variant: &[Source]| -> Vec<Source> {
            let through = |source: &Source| match source {
                Source::Slot(at) => variant[*at].clone(),
                source => source.clone(),
            };
            sources.iter().map(through).collect()
        };
        let own = self.variants.len();
        self.variants = self.variants.iter().map(|variant| through(&of_self, variant)).collect();
        self.variants.extend(other.variants.iter().map(|variant| through(&of_other, variant)));
        let moved = other.instances.into_iter().map(|one| Instance { variant: one.variant + own, ..one });
        self.instances.extend(moved);
        self.body = merged.body;
        self.names = names_of(&mut self.body);
    }

    /// Whether a block is shorter than what it stands for, or says more.
    fn pays(&self) -> bool {
        let (lines, width) = measure_all(&self.body.stmts);
        match self.instances.len() {
            0 | 1 => false,
            // edits find the scopes of a class by its block
            2 if self.class.is_some() => lines > 2,
            _ if self.class.is_some() => lines > 1 || self.body.stmts.len() > 1,
            2 => lines > 3,
            _ => self.body.stmts.len() > 1 && (lines > 3 || width > 60),
        }
    }

    /// The literals with their values in all scopes, where they are there.
    fn slots(&self) -> Vec<Slot> {
        let slot = |(at, name): (usize, &Name)| {
            let literal = |one: &Instance| match &self.variants[one.variant][at] {
                Source::Slot(at) => (Some(one.literals[*at].0.clone()), one.literals[*at].1),
                Source::Fixed(value) => (Some(value.clone()), None),
                Source::Missing => (None, None),
            };
            let (values, inputs) = self.instances.iter().map(literal).unzip();
            let (name, label) = (name.name.clone(), name.label.clone());
            Slot { values, inputs, name, label, is_number_of_label: false }
        };
        self.names.iter().enumerate().map(slot).collect()
    }

    fn into_block(
        mut self,
        graph: &Graph,
        number: usize,
        names: &mut Names,
        calls: &mut FxHashMap<usize, Step>,
    ) -> Option<Block> {
        let shape = |id: NodeId| graph.node(id).shape.as_ref();
        let (guards, slots): (Vec<_>, Vec<_>) =
            self.slots().into_iter().zip(&self.names).partition(|(_, name)| name.is_guard);
        let slots: Vec<Slot> = slots.into_iter().map(|(slot, _)| slot).collect();
        let (exprs, mut found) = parameters(&slots, shape);
        let inputs: Vec<Option<NodeId>> = self.instances.iter().map(|one| one.input).collect();
        let sizes = Sizes { slots: &slots, exprs: &exprs, inputs: &inputs, shape: &shape };
        let mut inputs_of_guards = vec![];
        each_guard(&mut self.body.stmts, &mut |guard| inputs_of_guards.push(guard.input));
        let mut conditions = vec![];
        for ((slot, _), input) in guards.iter().zip(inputs_of_guards) {
            let sees_input = input.is_some() && input == self.body.input;
            conditions.push(condition(slot, &mut found, &sizes, sees_input));
        }
        if found.len() > MAX_PARAMS {
            return None;
        }
        let mut body = self.body;
        let given = self.instances.first()?.values.clone();
        let mut exprs = exprs.into_iter();
        walk(&mut body.stmts, body.input, &mut |item| match item {
            Item::Slot { value, .. } => *value = exprs.next().expect("each literal has its expression"),
            Item::Use(used) => {
                if let Some(at) = given.iter().position(|value| value == used) {
                    *used = Ref::External(at);
                }
            }
            _ => {}
        });
        let mut conditions = conditions.into_iter();
        each_guard(&mut body.stmts, &mut |guard| {
            guard.condition = conditions.next().expect("each guard has its condition");
        });
        let name = names.block(self.class.as_deref(), &self.label, &body);
        let mut own: FxHashSet<String> = FxHashSet::default();
        let values: Vec<String> = given.iter().map(|_| names.param("side", "", &mut own)).collect();
        let params: Vec<Param> = found
            .iter()
            .map(|one| Param { name: names.param(&one.name, &one.label, &mut own), default: default(one) })
            .collect();
        for (nth, instance) in self.instances.into_iter().enumerate() {
            let args = params.iter().zip(&found).map(|(param, one)| {
                // where the parameter says nothing any value does
                let any = || param.default.clone().or_else(|| one.values.iter().flatten().next().cloned());
                let value = one.values[nth].clone().or_else(any).unwrap_or(Attr::None);
                (param.name.clone(), Expr::Value(value))
            });
            let step = Step::Call { block: number, args: args.collect(), values: instance.values };
            calls.insert(instance.place, step);
        }
        Some(Block { name, numbered: self.numbered, values, params, body, has_class: self.class.is_some() })
    }
}

fn names_of(body: &mut Body) -> Vec<Name> {
    let mut names = vec![];
    walk(&mut body.stmts, body.input, &mut |item| match item {
        Item::Slot { name, label, .. } => {
            names.push(Name { name: name.to_string(), label: label.to_string(), is_guard: false });
        }
        Item::Guard { name, .. } => {
            names.push(Name { name: name.to_string(), label: String::new(), is_guard: true });
        }
        _ => {}
    });
    names
}

/// What sizes in a block are, and what flows into it.
struct Sizes<'a, 'g> {
    slots: &'a [Slot],
    exprs: &'a [Expr],
    inputs: &'a [Option<NodeId>],
    shape: &'a dyn Fn(NodeId) -> Option<&'g Shape>,
}

/// What decides whether a part is there: a comparison of sizes where one fits, else a parameter of its own. With
/// `sees_input` the condition is read where `in` is what flows into the block.
fn condition(slot: &Slot, found: &mut Vec<Found>, sizes: &Sizes<'_, '_>, sees_input: bool) -> Condition {
    let wanted: Vec<Option<bool>> =
        slot.values.iter().map(|value| Some(*value.as_ref()? == Attr::Bool(true))).collect();
    let fits = |holds: &dyn Fn(usize) -> bool, is: bool| {
        wanted.iter().enumerate().all(|(at, wanted)| wanted.is_none_or(|wanted| (holds(at) == is) == wanted))
    };
    let atoms = atoms(found, sizes, sees_input);
    for (at, (pair, differs)) in atoms.iter().enumerate() {
        for is in [true, false] {
            let one = |nth: usize| differs[nth];
            let listed = |pairs: Vec<(Expr, Expr)>| if is { Condition::Differ(pairs) } else { Condition::Equal(pairs) };
            if fits(&one, is) {
                return listed(vec![pair.clone()]);
            }
            for (other, also) in &atoms[at + 1..] {
                if fits(&|nth: usize| differs[nth] || also[nth], is) {
                    return listed(vec![pair.clone(), other.clone()]);
                }
            }
        }
    }
    let opposite = |value: &Option<Attr>| value.as_ref().map(|value| Attr::Bool(*value == Attr::Bool(false)));
    let opposites: Vec<Option<Attr>> = slot.values.iter().map(opposite).collect();
    if let Some(at) = found.iter().position(|one| one.values == slot.values) {
        return Condition::Holds(Expr::Param(at));
    }
    if let Some(at) = found.iter().position(|one| one.values == opposites) {
        return Condition::Not(Expr::Param(at));
    }
    found.push(Found { name: slot.name.clone(), label: String::new(), values: slot.values.clone() });
    Condition::Holds(Expr::Param(found.len() - 1))
}

/// A comparison, and whether its sides differ in each scope.
type Atom = ((Expr, Expr), Vec<bool>);

/// Comparisons that may decide: a parameter with what it mostly is, the channels that flow in with those that flow out.
fn atoms(found: &[Found], sizes: &Sizes<'_, '_>, sees_input: bool) -> Vec<Atom> {
    let mut atoms: Vec<Atom> = vec![];
    for (at, one) in found.iter().enumerate() {
        let usual = if one.name == "stride" { Some(Attr::Int(1)) } else { default(one) };
        let Some(usual @ Attr::Int(_)) = usual else { continue };
        // a call that lacks what the parameter is for says its default, or anything
        if one.values.iter().any(Option::is_none) && default(one).as_ref() != Some(&usual) {
            continue;
        }
        let differs = one.values.iter().map(|value| value.as_ref().is_some_and(|value| *value != usual)).collect();
        atoms.push(((Expr::Param(at), Expr::Value(usual)), differs));
    }
    if !sees_input {
        return atoms;
    }
    let shapes: Option<Vec<&Shape>> = sizes.inputs.iter().map(|input| (sizes.shape)((*input)?)).collect();
    let Some(shapes) = shapes else { return atoms };
    let is_image = shapes.iter().all(|shape| shape.as_image().is_some());
    let dim = if is_image { Dim::Channels } else { Dim::Features };
    let flows_in: Option<Vec<i64>> =
        shapes.iter().map(|shape| Some(if is_image { shape.as_image()?.0 } else { shape.last()? } as i64)).collect();
    let Some(flows_in) = flows_in else { return atoms };
    let outs = sizes.slots.iter().zip(sizes.exprs).filter(|(slot, expr)| slot.name == "out" && has_no_input(expr));
    let mut seen: Vec<&Expr> = vec![];
    for (slot, expr) in outs {
        let values: Option<Vec<i64>> = slot
            .values
            .iter()
            .map(|value| if let Some(Attr::Int(value)) = value { Some(*value) } else { None })
            .collect();
        let Some(values) = values.filter(|_| !seen.contains(&expr)) else { continue };
        seen.push(expr);
        let differs = values.iter().zip(&flows_in).map(|(value, flows)| value != flows).collect();
        atoms.push(((Expr::In(dim), expr.clone()), differs));
    }
    // what flows out comes last
    atoms.reverse();
    atoms
}

fn has_no_input(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) | Expr::Param(_) => true,
        Expr::In(_) | Expr::Var(_) | Expr::First(..) => false,
        Expr::Times(_, of) | Expr::Over(of, _) | Expr::Plus(of, _) | Expr::Power(_, of) => has_no_input(of),
    }
}

/// What most calls say, where it goes without saying.
fn default(found: &Found) -> Option<Attr> {
    let mut counts: Vec<(&Attr, usize)> = vec![];
    for value in found.values.iter().flatten() {
        match counts.iter_mut().find(|(other, _)| *other == value) {
            Some((_, count)) => *count += 1,
            None => counts.push((value, 1)),
        }
    }
    let (most, count) = counts.iter().max_by_key(|(_, count)| *count)?;
    // what a parameter with a default is may not be a word unless the default is one
    let are_words = counts.iter().any(|(value, _)| matches!(value, Attr::Word(_) | Attr::Str(_)));
    let counts_channels = matches!(found.name.as_str(), "out" | "groups" | "shape");
    let is_usual = if counts_channels { matches!(most, Attr::Int(1)) } else { 2 * count >= found.values.len() };
    (is_usual && !are_words && counts.len() < 8).then(|| (*most).clone())
}

/// The last part of a class's name, as names of blocks are written: `BasicBlock` is `basic_block`.
pub fn snake(class: &str) -> String {
    let class = class.rsplit(['.', ':']).next().unwrap_or(class);
    let mut text = String::new();
    let chars: Vec<char> = class.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| chars.get(at));
        let begins = c.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase() || chars.get(at + 1).is_some_and(|next| next.is_ascii_lowercase())
            });
        if begins && !text.ends_with('_') {
            text.push('_');
        }
        text.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    }
    text.trim_matches('_').to_string()
}

/// A name for scopes without a class: their label, without numbers.
pub fn plain_name(label: &str, body: &Body) -> String {
    let letters = label.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
    let is_name =
        letters.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_') && !path::is_number(label);
    if is_name {
        return snake(letters);
    }
    // of a numbered scope: what it begins with
    let first = body.stmts.iter().find_map(first_word);
    first.map_or_else(|| "unit".to_string(), |first| format!("{first}_unit"))
}

fn first_word(stmt: &Stmt) -> Option<String> {
    match &stmt.step {
        Step::Op { entry, .. } => Some(entry.name.trim_end_matches("2d").to_string()),
        Step::Residual { .. } => Some("residual".to_string()),
        _ => None,
    }
}
