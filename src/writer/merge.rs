//! Two scopes of one class that differ in some of their parts become one, whose parts are there for some of its calls: a
//! shortcut with a convolution, a squeeze-and-excitation, a residual.
//!
//! Statements of both are aligned; what only one has is guarded. Literals are tagged before, so that it can be told
//! afterwards which literal of either each literal of the result is.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use rustc_hash::FxHashMap;

use super::tree::{Body, Condition, Expr, Guard, Id, Item, Label, LabelPart, Outer, Ref, Step, Stmt, signature, walk};
use crate::graph::NodeId;
use crate::ops::attr::Attr;

/// No more pairs of statements are compared.
const MAX_PAIRS: usize = 10_000;

/// Where a literal of the result comes from, for one of the two.
#[derive(Clone, Debug)]
pub enum Source {
    /// Its literal of this number.
    Slot(usize),
    Fixed(Attr),
    /// Its statement is not there.
    Missing,
}

/// A merged scope, and where its literals come from in each.
pub struct Merged {
    pub body: Body,
    pub sources: [Vec<Source>; 2],
}

/// The scope that is both, where parts of them are alike.
pub fn merge(a: &Body, b: &Body, next: &mut Id) -> Option<Merged> {
    let (mut a, mut b) = (a.clone(), b.clone());
    let count = tag(&mut a, 0);
    tag(&mut b, count);
    let mut merging = Merging { next, ids: FxHashMap::default(), of_b: FxHashMap::default(), guards: vec![] };
    let mut body = merging.body(&a, &b)?;
    let Merging { of_b, guards, .. } = merging;
    let mut sources = [vec![], vec![]];
    walk(&mut body.stmts, body.input, &mut |item| {
        let (Item::Slot { value, .. } | Item::Guard { value, .. }) = item else { return };
        let Expr::Value(Attr::Int(tag)) = value else { unreachable!("literals are tagged") };
        let (of_a, of_b) = match usize::try_from(*tag) {
            Err(_) => {
                let guard = guards[tag.unsigned_abs() as usize - 1];
                (Source::Fixed(Attr::Bool(guard[0])), Source::Fixed(Attr::Bool(guard[1])))
            }
            Ok(tag) if tag < count => {
                let of_b = match of_b.get(&tag) {
                    Some(Source::Slot(tag)) => Source::Slot(tag - count),
                    Some(source) => source.clone(),
                    None => Source::Missing,
                };
                (Source::Slot(tag), of_b)
            }
            Ok(tag) => (Source::Missing, Source::Slot(tag - count)),
        };
        sources[0].push(of_a);
        sources[1].push(of_b);
    });
    Some(Merged { body, sources })
}

/// Replaces literals by their numbers, from `first` on, and gives the next one.
fn tag(body: &mut Body, first: usize) -> usize {
    let mut next = first;
    walk(&mut body.stmts, body.input, &mut |item| {
        if let Item::Slot { value, .. } | Item::Guard { value, .. } = item {
            *value = Expr::Value(Attr::Int(next as i64));
            next += 1;
        }
    });
    next
}

struct Merging<'a> {
    next: &'a mut Id,
    /// What values of `b` are in the result.
    ids: FxHashMap<Id, Id>,
    /// Where literals of `a` come from in `b`.
    of_b: FxHashMap<usize, Source>,
    /// Whether each new guard holds in `a`, in `b`.
    guards: Vec<[bool; 2]>,
}

/// What flows: in `a`, in `b`, in the result.
#[derive(Clone, Copy)]
struct Flow {
    a: Id,
    b: Id,
    both: Id,
}

/// A pair of statements that are one, or a statement of one of the two.
enum Aligned {
    Both(usize, usize),
    A(usize),
    B(usize),
}

impl Merging<'_> {
    fn id(&mut self) -> Id {
        *self.next += 1;
        *self.next - 1
    }

    fn guard(&mut self, in_a: bool, of_side: bool, name: &str, input: Option<NodeId>) -> Guard {
        self.guards.push([in_a, !in_a]);
        let tag = -(self.guards.len() as i64);
        Guard { of_side, name: name.to_string(), input, condition: Condition::Holds(Expr::Value(Attr::Int(tag))) }
    }

    /// A guard of `a` holds in `b`, or not.
    fn fix(&mut self, guard: &Guard, holds: bool) {
        if let Condition::Holds(Expr::Value(Attr::Int(tag))) = guard.condition
            && let Ok(tag) = usize::try_from(tag)
        {
            self.of_b.insert(tag, Source::Fixed(Attr::Bool(holds)));
        }
    }

    fn body(&mut self, a: &Body, b: &Body) -> Option<Body> {
        if a.input.is_some() != b.input.is_some() {
            return None;
        }
        self.ids.insert(b.id, a.id);
        let stmts = self.stmts(&a.stmts, &b.stmts, Flow { a: a.id, b: b.id, both: a.id })?;
        Some(Body { input: a.input, id: a.id, stmts })
    }

    fn stmts(&mut self, a: &[Stmt], b: &[Stmt], mut flow: Flow) -> Option<Vec<Stmt>> {
        let mut merged = vec![];
        let (mut only_a, mut only_b): (Vec<&Stmt>, Vec<&Stmt>) = (vec![], vec![]);
        for aligned in align(a, b)? {
            match aligned {
                Aligned::A(at) => only_a.push(&a[at]),
                Aligned::B(at) => only_b.push(&b[at]),
                Aligned::Both(at, other) => {
                    self.gap(&mut merged, &only_a, &only_b, &mut flow)?;
                    (only_a, only_b) = (vec![], vec![]);
                    let stmt = self.pair(&a[at], &b[other], flow)?;
                    self.ids.insert(b[other].id, stmt.id);
                    if stmt.flows() {
                        flow = Flow { a: a[at].id, b: b[other].id, both: stmt.id };
                    }
                    merged.push(stmt);
                }
            }
        }
        self.gap(&mut merged, &only_a, &only_b, &mut flow)?;
        Some(merged)
    }

    /// Statements that only one of the two has, at one place.
    fn gap(&mut self, merged: &mut Vec<Stmt>, a: &[&Stmt], b: &[&Stmt], flow: &mut Flow) -> Option<()> {
        match (a, b) {
            ([], []) => {}
            // what is guarded already is not there
            ([Stmt { id, step: Step::When { guard, .. }, .. }], []) => {
                self.fix(guard, false);
                let mut stmt = a[0].clone();
                lead(&mut stmt, flow.a, flow.both);
                (flow.a, flow.both) = (*id, *id);
                merged.push(stmt);
            }
            ([Stmt { id, step: Step::When { guard, stmts }, label, .. }], b) => {
                self.fix(guard, true);
                let b: Vec<Stmt> = b.iter().map(|stmt| (*stmt).clone()).collect();
                let stmts = self.stmts(stmts, &b, *flow)?;
                let step = Step::When { guard: guard.clone(), stmts };
                merged.push(Stmt { id: *id, label: label.clone(), takes: None, step });
                let last = b.iter().rev().find(|stmt| stmt.flows())?.id;
                self.ids.insert(last, *id);
                *flow = Flow { a: *id, b: last, both: *id };
            }
            ([Stmt { id, label, takes, step: Step::Residual { main, side: None, when } }], b)
                if !b.is_empty() && when.as_ref().is_none_or(|when| !when.of_side) =>
            {
                // the main branch alone
                let when = match when {
                    Some(when) => {
                        self.fix(when, false);
                        when.clone()
                    }
                    None => self.guard(true, false, "skip", main.input),
                };
                let takes =
                    takes.as_ref().filter(|takes| **takes == Ref::Value(flow.a)).map(|_| Ref::Value(flow.both))?;
                let b: Vec<Stmt> = b.iter().map(|stmt| (*stmt).clone()).collect();
                let before = self.guards.len();
                let stmts = self.stmts(&main.stmts, &b, Flow { a: main.id, b: flow.b, both: main.id })?;
                if self.guards.len() > before + 2 {
                    return None;
                }
                let last = b.iter().rev().find(|stmt| stmt.flows())?.id;
                let main = Body { input: main.input, id: main.id, stmts };
                let step = Step::Residual { main, side: None, when: Some(when) };
                merged.push(Stmt { id: *id, label: label.clone(), takes: Some(takes), step });
                self.ids.insert(last, *id);
                *flow = Flow { a: *id, b: last, both: *id };
            }
            (run, []) => {
                let stmt = self.optional(run, true, *flow)?;
                if stmt.flows() {
                    flow.a = run.iter().rev().find(|stmt| stmt.flows())?.id;
                    flow.both = stmt.id;
                }
                merged.push(stmt);
            }
            ([], run) => {
                let stmt = self.optional(run, false, *flow)?;
                if stmt.flows() {
                    flow.b = run.iter().rev().find(|stmt| stmt.flows())?.id;
                    flow.both = stmt.id;
                }
                merged.push(stmt);
            }
            _ => return None,
        }
        Some(())
    }

    fn optional(&mut self, run: &[&Stmt], in_a: bool, flow: Flow) -> Option<Stmt> {
        let mut stmts: Vec<Stmt> = run.iter().map(|stmt| (*stmt).clone()).collect();
        let own = if in_a { flow.a } else { flow.b };
        for stmt in &mut stmts {
            lead(stmt, own, flow.both);
            if !in_a {
                self.translate(stmt)?;
            }
        }
        // values of a part that may be missing are not used elsewhere by name: whoever takes them would not be alike
        let name = format!("with_{}", name_of(&stmts[0]));
        let guard = self.guard(in_a, false, &name, None);
        Some(Stmt { id: self.id(), label: Label::new("", true), takes: None, step: Step::When { guard, stmts } })
    }

    /// Lets a statement of `b` take what its values are in the result.
    fn translate(&self, stmt: &mut Stmt) -> Option<()> {
        walk(std::slice::from_mut(stmt), None, &mut |item| {
            if let Item::Use(used) = item {
                *used = self.moved(used);
            }
        });
        Some(())
    }

    fn moved(&self, used: &Ref) -> Ref {
        let id = |id: &Id| self.ids.get(id).copied().unwrap_or(*id);
        match used {
            Ref::Value(of) => Ref::Value(id(of)),
            Ref::Part(of, part) => Ref::Part(id(of), *part),
            Ref::Inside(of, path) => Ref::Inside(id(of), path.clone()),
            Ref::External(at) => Ref::External(*at),
        }
    }

    /// One use of both, where they are the same.
    fn used(&self, a: &Ref, b: &Ref, flow: Flow) -> Option<Ref> {
        if *a == Ref::Value(flow.a) && *b == Ref::Value(flow.b) {
            return Some(Ref::Value(flow.both));
        }
        (*a == self.moved(b)).then(|| a.clone())
    }

    fn pair(&mut self, a: &Stmt, b: &Stmt, flow: Flow) -> Option<Stmt> {
        let takes = match (&a.takes, &b.takes) {
            (None, None) => None,
            (Some(a), Some(b)) => Some(self.used(a, b, flow)?),
            _ => return None,
        };
        let label = a.label.clone();
        let step = match (&a.step, &b.step) {
            (Step::Scope { numbered, class, height, body }, Step::Scope { body: other, .. }) => {
                let body = self.body(body, other)?;
                Step::Scope { numbered: *numbered, class: class.clone(), height: *height, body }
            }
            (
                Step::Residual { main, side, when },
                Step::Residual { main: other_main, side: other_side, when: other_when },
            ) => {
                let main = self.body(main, other_main)?;
                let mut when = when.clone();
                let side = match (side, other_side) {
                    (Some(side), Some(other)) => {
                        let side = self.body(side, other)?;
                        self.both_guards(&mut when, other_when.as_ref(), true)?;
                        Some(side)
                    }
                    (Some(side), None) => {
                        match (&when, other_when) {
                            (None, None) => when = Some(self.guard(true, true, "project", main.input)),
                            (Some(guard), None) if guard.of_side => self.fix(guard, false),
                            _ => return None,
                        }
                        Some(side.clone())
                    }
                    (None, Some(other)) => {
                        if when.is_some() || other_when.is_some() {
                            return None;
                        }
                        when = Some(self.guard(false, true, "project", main.input));
                        let mut other = other.clone();
                        for stmt in &mut other.stmts {
                            self.translate(stmt)?;
                        }
                        Some(other)
                    }
                    (None, None) => {
                        self.both_guards(&mut when, other_when.as_ref(), false)?;
                        None
                    }
                };
                Step::Residual { main, side, when }
            }
            _ => return self.exact(a, b, flow),
        };
        Some(Stmt { id: a.id, label, takes, step })
    }

    /// The guard of a residual that both have.
    fn both_guards(&mut self, when: &mut Option<Guard>, other: Option<&Guard>, of_side: bool) -> Option<()> {
        match (when, other) {
            (None, None) => Some(()),
            (Some(guard), None) if guard.of_side == of_side => {
                self.fix(guard, true);
                Some(())
            }
            _ => None,
        }
    }

    /// Statements that differ in literals alone.
    fn exact(&mut self, a: &Stmt, b: &Stmt, flow: Flow) -> Option<Stmt> {
        let (mut stmt, mut other) = (a.clone(), b.clone());
        let (mut slots, mut uses, mut ids) = (vec![], vec![], vec![]);
        walk(std::slice::from_mut(&mut other), None, &mut |item| match item {
            Item::Slot { value: Expr::Value(Attr::Int(tag)), .. }
            | Item::Guard { value: Expr::Value(Attr::Int(tag)), .. } => slots.push(*tag),
            Item::Use(used) => uses.push(used.clone()),
            Item::Define(id) => ids.push(id),
            _ => {}
        });
        let (mut slots, mut ids) = (slots.into_iter(), ids.into_iter());
        let mut pairs: Vec<(usize, i64)> = vec![];
        let mut mine: Vec<Ref> = vec![];
        walk(std::slice::from_mut(&mut stmt), None, &mut |item| match item {
            Item::Slot { value: Expr::Value(Attr::Int(tag)), .. }
            | Item::Guard { value: Expr::Value(Attr::Int(tag)), .. } => {
                if let (Ok(tag), Some(other)) = (usize::try_from(*tag), slots.next()) {
                    pairs.push((tag, other));
                }
            }
            Item::Use(used) => mine.push(used.clone()),
            Item::Define(id) => {
                if let Some(other) = ids.next() {
                    self.ids.insert(other, id);
                }
            }
            _ => {}
        });
        if slots.next().is_some() || ids.next().is_some() || mine.len() != uses.len() {
            return None;
        }
        let both: Vec<Ref> = mine.iter().zip(&uses).map(|(a, b)| self.used(a, b, flow)).collect::<Option<_>>()?;
        let mut both = both.into_iter();
        walk(std::slice::from_mut(&mut stmt), None, &mut |item| {
            if let Item::Use(used) = item {
                *used = both.next().expect("there are as many");
            }
        });
        for (tag, other) in pairs {
            self.of_b.insert(tag, Source::Slot(usize::try_from(other).ok()?));
        }
        Some(stmt)
    }
}

/// Lets what takes `from` take `to`.
fn lead(stmt: &mut Stmt, from: Id, to: Id) {
    walk(std::slice::from_mut(stmt), None, &mut |item| {
        if let Item::Use(used) = item
            && *used == Ref::Value(from)
        {
            *used = Ref::Value(to);
        }
    });
}

/// What a statement is called where its part may be missing.
fn name_of(stmt: &Stmt) -> String {
    let text = stmt.label.text().unwrap_or_default();
    let letters: String = text.chars().filter(|c| c.is_ascii_alphabetic() || *c == '_').collect();
    match &stmt.step {
        _ if !letters.is_empty() => letters.trim_matches('_').to_string(),
        Step::Op { entry, .. } | Step::Chunk { entry, .. } => entry.name.to_string(),
        Step::Residual { .. } => "residual".to_string(),
        _ => "part".to_string(),
    }
}

/// A longest common sequence of statements that may be one.
fn align(a: &[Stmt], b: &[Stmt]) -> Option<Vec<Aligned>> {
    if a.len().checked_mul(b.len()).is_none_or(|pairs| pairs > MAX_PAIRS) {
        return None;
    }
    let (keys, others): (Vec<u64>, Vec<u64>) = (a.iter().map(key).collect(), b.iter().map(key).collect());
    // longest[i][j]: of what begins at i and j
    let mut longest = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i][j] = match keys[i] == others[j] {
                true => longest[i + 1][j + 1] + 1,
                false => longest[i + 1][j].max(longest[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut aligned = vec![];
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && keys[i] == others[j] {
            aligned.push(Aligned::Both(i, j));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || i < a.len() && longest[i + 1][j] >= longest[i][j + 1] {
            aligned.push(Aligned::A(i));
            i += 1;
        } else {
            aligned.push(Aligned::B(j));
            j += 1;
        }
    }
    Some(aligned)
}

/// What statements must have in common that may be one.
fn key(stmt: &Stmt) -> u64 {
    let mut hasher = DefaultHasher::new();
    let label = |hasher: &mut DefaultHasher| {
        stmt.label.is_auto.hash(hasher);
        if !stmt.label.is_auto {
            for part in &stmt.label.parts {
                match part {
                    LabelPart::Text(text) => text.hash(hasher),
                    LabelPart::Number(number) => format!("{number:?}").hash(hasher),
                }
            }
        }
    };
    match &stmt.step {
        Step::Scope { numbered, class, .. } => {
            label(&mut hasher);
            ("scope", numbered, class).hash(&mut hasher);
        }
        Step::Residual { .. } => "residual".hash(&mut hasher),
        _ => signature(std::slice::from_mut(&mut stmt.clone()), None, Outer::Any, false).hash(&mut hasher),
    }
    hasher.finish()
}
