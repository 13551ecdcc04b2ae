//! Runs of statements that differ in literals alone become loops.

use rustc_hash::FxHashMap;

use super::relate::{Slot, rounds};
use super::tree::{Body, Expr, For, Id, Item, Label, Outer, Over, Ref, Step, Stmt, measure_all, signature, walk};
use crate::graph::NodeId;

/// A round has no more statements.
const MAX_PERIOD: usize = 16;
/// A row of a loop has no more values.
const MAX_VARS: usize = 8;

/// Writes runs inside of braces as loops.
pub fn fold_body(body: &mut Body, next: &mut Id) {
    let stmts = std::mem::take(&mut body.stmts);
    body.stmts = fold(stmts, body.input, Some(body.id), next);
}

/// A run of statements: `rounds` times `period` of them.
struct Run {
    period: usize,
    rounds: usize,
    saved: usize,
    looped: For,
    id: Id,
}

/// Writes runs as loops. `flow` flows into the first statement.
fn fold(mut stmts: Vec<Stmt>, input: Option<NodeId>, flow: Option<Id>, next: &mut Id) -> Vec<Stmt> {
    for stmt in &mut stmts {
        if let Step::Residual { main, side, .. } = &mut stmt.step {
            fold_body(main, next);
            side.iter_mut().for_each(|side| fold_body(side, next));
        }
    }
    if stmts.len() < 2 {
        return stmts;
    }
    let keys: Vec<u64> = stmts.iter_mut().map(key).collect();
    let uses = Uses::of(&mut stmts, flow);
    let mut folded: Vec<Stmt> = vec![];
    let mut at = 0;
    while at < stmts.len() {
        let longest = MAX_PERIOD.min((stmts.len() - at) / 2);
        let periods = (1..=longest).filter(|period| keys[at..at + period] == keys[at + period..at + 2 * period]);
        let mut best: Option<Run> = None;
        for period in periods.collect::<Vec<_>>() {
            let Some(run) = run(&mut stmts, &keys, &uses, at, period, input, next) else { continue };
            if best.as_ref().is_none_or(|best| run.saved > best.saved) {
                best = Some(run);
            }
        }
        match best {
            Some(run) => {
                let Run { period, rounds, looped, id, .. } = run;
                folded.push(Stmt { id, label: Label::new("", true), takes: None, step: Step::For(looped) });
                at += period * rounds;
            }
            None => {
                folded.push(stmts[at].clone());
                at += 1;
            }
        }
    }
    folded
}

/// What statements have in common that differ in literals, in numbers of labels and in what they take.
fn key(stmt: &mut Stmt) -> u64 {
    signature(std::slice::from_mut(stmt), None, Outer::Any, true)
}

/// Where values are used, by the places of statements.
struct Uses {
    /// What flows into each statement, and out of the last.
    flow: Vec<Option<Id>>,
    last: FxHashMap<Id, usize>,
    /// The last use of what lies inside.
    last_inside: FxHashMap<Id, usize>,
}

impl Uses {
    fn of(stmts: &mut [Stmt], flow: Option<Id>) -> Uses {
        let mut uses = Uses { flow: vec![flow], last: FxHashMap::default(), last_inside: FxHashMap::default() };
        for (at, stmt) in stmts.iter_mut().enumerate() {
            walk(std::slice::from_mut(stmt), None, &mut |item| {
                if let Item::Use(used) = item {
                    match used {
                        Ref::Value(id) => _ = uses.last.insert(*id, at),
                        Ref::Part(id, _) | Ref::Inside(id, _) => _ = uses.last_inside.insert(*id, at),
                        Ref::External(_) => {}
                    }
                }
            });
            let before = uses.flow[at];
            uses.flow.push(if stmt.flows() { Some(stmt.id) } else { before });
        }
        uses
    }

    /// Whether what the statements of a round make is used in it alone, but for what flows out of it, which the next
    /// round may use, or anything where there is none.
    fn stay(&self, stmts: &[Stmt], round: std::ops::Range<usize>, is_last: bool) -> bool {
        let out = self.flow[round.end];
        let length = round.len();
        stmts[round.clone()].iter().all(|stmt| {
            let ends_before = |uses: &FxHashMap<Id, usize>, end: usize| uses.get(&stmt.id).is_none_or(|at| *at < end);
            let end = match Some(stmt.id) == out {
                true if is_last => usize::MAX,
                true => round.end + length,
                false => round.end,
            };
            ends_before(&self.last, end) && ends_before(&self.last_inside, round.end)
        })
    }
}

/// The loop that statements from `at` on make whose rounds have `period` of them, where it is shorter than they are.
fn run(
    stmts: &mut [Stmt],
    keys: &[u64],
    uses: &Uses,
    at: usize,
    period: usize,
    input: Option<NodeId>,
    next: &mut Id,
) -> Option<Run> {
    let round = |nth: usize| at + nth * period..at + (nth + 1) * period;
    let mut alike = |nth: usize| {
        let range = round(nth);
        let flow = uses.flow[range.start];
        signature(&mut stmts[range], None, Outer::Same { flow }, true)
    };
    let first = alike(0);
    let mut count = 1;
    while round(count).end <= keys.len() && keys[round(count)] == keys[round(0)] && alike(count) == first {
        count += 1;
    }
    // a round whose values are used further on can only be the last
    let ends = (0..count).find(|nth| !uses.stay(stmts, round(*nth), false)).unwrap_or(count - 1);
    count = (ends + 1).min(count);
    while count > 1 && !uses.stay(stmts, round(count - 1), true) {
        count -= 1;
    }
    if count < 2 {
        return None;
    }
    // rounds before the last are used by the next alone
    let slots = slots(&mut stmts[at..at + count * period], period, input);
    let (var, carry) = (*next, *next + 1);
    *next += 2;
    let (rounds, vars) = rounds(&slots, var, || {
        *next += 1;
        *next - 1
    });
    if vars.len() > MAX_VARS {
        return None;
    }
    let mut inside: Vec<Stmt> = stmts[round(0)].to_vec();
    let flow = uses.flow[at];
    let mut exprs = rounds.exprs.into_iter();
    walk(&mut inside, input, &mut |item| match item {
        Item::Slot { value, .. } | Item::Number(value) => {
            *value = exprs.next().expect("every round has the same literals");
        }
        Item::Use(used) if flow.is_some_and(|flow| *used == Ref::Value(flow)) => *used = Ref::Value(carry),
        _ => {}
    });
    let over = if vars.is_empty() {
        Over::Range { var, from: rounds.from, count: count as i64 }
    } else {
        let literal = |row: usize, nth: usize| {
            Expr::Value(rounds.rows[row].values[nth].clone().expect("no round lacks a statement"))
        };
        let rows = (0..count).map(|nth| (0..vars.len()).map(|row| literal(row, nth)).collect()).collect();
        let names = rounds.rows.iter().map(|row| row.name.clone());
        Over::Rows { vars: vars.iter().copied().zip(names).collect(), rows }
    };
    // what flows out of the last round flows out of the loop
    let out = uses.flow[at + count * period];
    let made = stmts[round(count - 1)].iter().any(|stmt| Some(stmt.id) == out);
    let id = match out.filter(|_| made) {
        Some(out) => out,
        None => {
            *next += 1;
            *next - 1
        }
    };
    let looped = For { over, carry, stmts: fold(inside, input, Some(carry), next) };
    let before = measure_all(&stmts[at..at + count * period]);
    let looped = Stmt { id, label: Label::new("", true), takes: None, step: Step::For(looped) };
    let after = measure_all(std::slice::from_ref(&looped));
    let Step::For(looped) = looped.step else { unreachable!("it was made one") };
    let saved = before.0.checked_sub(after.0).filter(|saved| *saved > 0)?;
    Some(Run { period, rounds: count, saved, looped, id })
}

/// The literals of rounds, each with its values in all of them.
fn slots(stmts: &mut [Stmt], period: usize, input: Option<NodeId>) -> Vec<Slot> {
    let mut slots: Vec<Slot> = vec![];
    for (nth, round) in stmts.chunks_mut(period).enumerate() {
        let mut at = 0;
        walk(round, input, &mut |item| {
            let (value, name, label, inner, of_label) = match item {
                Item::Slot { value, name, label, input } => (value, name, label, input, false),
                Item::Number(value) => (value, "number", "", None, true),
                _ => return,
            };
            let Expr::Value(value) = value else { unreachable!("a literal") };
            if nth == 0 {
                let (name, label) = (name.to_string(), label.to_string());
                slots.push(Slot { values: vec![], inputs: vec![], name, label, is_number_of_label: of_label });
            }
            slots[at].values.push(Some(value.clone()));
            slots[at].inputs.push(inner);
            at += 1;
        });
    }
    slots
}
