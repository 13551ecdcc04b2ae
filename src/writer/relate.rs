//! How literals that differ from one place to another hang together: which are always the same, which follow from others
//! or from the shape of what flows in, and which need a name.

use crate::graph::NodeId;
use crate::ops::attr::Attr;
use crate::ops::shape::Shape;

pub use super::tree::Expr;
use super::tree::{Dim, Id};

/// One literal of a text that is written several times.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its value each time; None where its statement is missing.
    pub values: Vec<Option<Attr>>,
    /// What flows into the innermost braces each time.
    pub inputs: Vec<Option<NodeId>>,
    /// The argument's name and the label of its layer.
    pub name: String,
    pub label: String,
    pub is_number_of_label: bool,
}

/// A literal that needs a name.
#[derive(Clone, Debug)]
pub struct Found {
    pub name: String,
    pub label: String,
    pub values: Vec<Option<Attr>>,
}

/// What literals of a block are in terms of its parameters, and those.
pub fn parameters<'g>(slots: &[Slot], shape: impl Fn(NodeId) -> Option<&'g Shape>) -> (Vec<Expr>, Vec<Found>) {
    let mut found: Vec<Found> = vec![];
    let exprs = slots.iter().map(|slot| {
        if let Some(value) = constant(&slot.values) {
            return Expr::Value(value.clone());
        }
        let sizes = if counts(&slot.name) { sizes(slot, &shape) } else { vec![] };
        if let Some((dim, _)) = sizes.iter().find(|(_, sizes)| relation(&slot.values, sizes) == Some(Relation::Same)) {
            return Expr::In(*dim);
        }
        if let Some(at) = found.iter().position(|one| agrees(&one.values, &slot.values)) {
            merge(&mut found[at].values, &slot.values);
            return Expr::Param(at);
        }
        let of_input = sizes.iter().take(1).map(|(dim, sizes)| (Expr::In(*dim), sizes));
        let of_params = found.iter().enumerate().map(|(at, one)| (Expr::Param(at), &one.values));
        for (base, values) in of_input.chain(of_params) {
            if let Some(relation) = relation(&slot.values, values) {
                return relation.of(base);
            }
        }
        found.push(Found { name: slot.name.clone(), label: slot.label.clone(), values: slot.values.clone() });
        Expr::Param(found.len() - 1)
    });
    let exprs = exprs.collect();
    (exprs, found)
}

/// What literals of a loop's rounds are.
pub struct Rounds {
    pub exprs: Vec<Expr>,
    /// The first number that the variable has, where rounds are counted.
    pub from: i64,
    /// Values that each round has of its own; none where rounds are counted.
    pub rows: Vec<Found>,
}

/// What literals are in the rounds of a loop whose variable is `var`; `fresh` gives the numbers of further ones.
pub fn rounds(slots: &[Slot], var: Id, mut fresh: impl FnMut() -> Id) -> (Rounds, Vec<Id>) {
    let first_number = |slot: &Slot| match (&slot.values[0], counting(&slot.values, 1)) {
        (Some(Attr::Int(first)), true) if slot.is_number_of_label => Some(*first),
        _ => None,
    };
    let from = slots.iter().find_map(first_number).unwrap_or(0).clamp(0, 1 << 20);
    let counted: Option<Vec<Expr>> = slots.iter().map(|slot| by_count(slot, var, from)).collect();
    if let Some(exprs) = counted {
        return (Rounds { exprs, from, rows: vec![] }, vec![]);
    }
    let mut rows: Vec<Found> = vec![];
    let mut vars: Vec<Id> = vec![];
    let exprs = slots.iter().map(|slot| {
        if let Some(value) = constant(&slot.values) {
            return Expr::Value(value.clone());
        }
        if let Some(at) = rows.iter().position(|row| row.values == slot.values) {
            return Expr::Var(vars[at]);
        }
        let base = rows.iter().zip(&vars).find_map(|(row, var)| Some((relation(&slot.values, &row.values)?, *var)));
        if let (Some((relation, var)), false) = (base, slot.is_number_of_label) {
            return relation.of(Expr::Var(var));
        }
        rows.push(Found { name: slot.name.clone(), label: slot.label.clone(), values: slot.values.clone() });
        vars.push(fresh());
        Expr::Var(vars[vars.len() - 1])
    });
    let exprs = exprs.collect();
    (Rounds { exprs, from: 0, rows }, vars)
}

/// A literal by the number of its round, `from` the first.
fn by_count(slot: &Slot, var: Id, from: i64) -> Option<Expr> {
    if let Some(value) = constant(&slot.values) {
        return Some(Expr::Value(value.clone()));
    }
    let values = &slot.values;
    let plus = |of: Expr, more: i64| if more == 0 { of } else { Expr::Plus(Box::new(of), more) };
    if let (Some(Attr::Int(first)), true) = (&values[0], slot.is_number_of_label) {
        return counting(values, 1).then(|| plus(Expr::Var(var), first.saturating_sub(from)));
    }
    if slot.is_number_of_label {
        return None;
    }
    // of two rounds anything follows a rule
    if values.len() < 3 {
        return None;
    }
    if let (Some(first), Some(rest)) = (&values[0], constant(&values[1..])) {
        let literal = |value: &Attr| Box::new(Expr::Value(value.clone()));
        return Some(Expr::First(var, literal(first), literal(rest)));
    }
    let numbers = integers(values)?;
    let numbers: Vec<i64> = numbers.into_iter().collect::<Option<_>>()?;
    let step = numbers[1].checked_sub(numbers[0])?;
    if step > 0 && counting(values, step) {
        let scaled = if step == 1 { Expr::Var(var) } else { Expr::Times(step, Box::new(Expr::Var(var))) };
        let start = numbers[0].checked_sub(step.checked_mul(from)?)?;
        return (start >= 0).then(|| plus(scaled, start));
    }
    let doubles = numbers[0] > 0 && numbers.windows(2).all(|pair| pair[0].checked_mul(2) == Some(pair[1]));
    (doubles && numbers.len() < 32).then(|| Expr::Power(numbers[0], Box::new(plus(Expr::Var(var), -from))))
}

/// The value that all have which are there.
fn constant(values: &[Option<Attr>]) -> Option<&Attr> {
    let mut there = values.iter().flatten();
    let first = there.next()?;
    there.all(|other| other == first).then_some(first)
}

/// Whether the values are integers, each `step` more than the one before.
fn counting(values: &[Option<Attr>], step: i64) -> bool {
    values.windows(2).all(|pair| match pair {
        [Some(Attr::Int(one)), Some(Attr::Int(next))] => one.checked_add(step) == Some(*next),
        _ => false,
    })
}

fn integers(values: &[Option<Attr>]) -> Option<Vec<Option<i64>>> {
    let integer = |value: &Option<Attr>| match value {
        Some(Attr::Int(value)) => Some(Some(*value)),
        None => Some(None),
        _ => None,
    };
    values.iter().map(integer).collect()
}

/// Whether one parameter may be both, as far as they are there at once.
fn agrees(one: &[Option<Attr>], other: &[Option<Attr>]) -> bool {
    let mut both = one.iter().zip(other).filter_map(|(one, other)| Some((one.as_ref()?, other.as_ref()?))).peekable();
    both.peek().is_some() && both.all(|(one, other)| one == other)
}

fn merge(into: &mut [Option<Attr>], other: &[Option<Attr>]) {
    for (into, other) in into.iter_mut().zip(other) {
        if into.is_none() {
            into.clone_from(other);
        }
    }
}

/// How integers follow from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Same,
    Times(i64),
    Over(i64),
}

impl Relation {
    fn of(self, base: Expr) -> Expr {
        match self {
            Relation::Same => base,
            Relation::Times(factor) => Expr::Times(factor, Box::new(base)),
            Relation::Over(divisor) => Expr::Over(Box::new(base), divisor),
        }
    }
}

/// How `values` follow from `base`, wherever they are there.
fn relation(values: &[Option<Attr>], base: &[Option<Attr>]) -> Option<Relation> {
    let (values, base) = (integers(values)?, integers(base)?);
    let mut pairs = vec![];
    for (value, base) in values.into_iter().zip(base) {
        let Some(value) = value else { continue };
        pairs.push((value, base?));
    }
    let (value, of) = *pairs.iter().max_by_key(|(_, of)| *of)?;
    // what is the same everywhere follows from nothing
    if value <= 0 || of <= 0 || pairs.iter().all(|(_, other)| *other == of) {
        return None;
    }
    if pairs.iter().all(|(value, of)| value == of) {
        return Some(Relation::Same);
    }
    let factor = value / of;
    if factor > 1 && pairs.iter().all(|(value, of)| of.checked_mul(factor) == Some(*value)) {
        return Some(Relation::Times(factor));
    }
    // half of a kernel is its padding, rounded down; other parts come out even
    [of / value, 2].into_iter().filter(|divisor| *divisor > 1).find_map(|divisor| {
        let is_part = |(value, of): &(i64, i64)| {
            of.div_euclid(divisor) == *value && (divisor == 2 || of.rem_euclid(divisor) == 0)
        };
        pairs.iter().all(is_part).then_some(Relation::Over(divisor))
    })
}

/// Whether an argument counts channels, features or places, as axes of a shape do.
fn counts(name: &str) -> bool {
    !matches!(name, "kernel" | "stride" | "padding" | "dilation" | "axis" | "axes" | "label" | "parts" | "scale")
}

/// The axes of what flows into the innermost braces, where it has the same ones each time. What counts most comes first.
fn sizes<'g>(slot: &Slot, shape: impl Fn(NodeId) -> Option<&'g Shape>) -> Vec<(Dim, Vec<Option<Attr>>)> {
    let shapes: Vec<Option<&Shape>> = slot.inputs.iter().map(|input| shape((*input)?)).collect();
    let is_known = |(shape, value): (&Option<&Shape>, &Option<Attr>)| shape.is_some() || value.is_none();
    let rank = shapes.iter().flatten().next().map_or(0, |shape| shape.dims.len());
    let alike = shapes.iter().flatten().all(|shape| shape.batched && shape.dims.len() == rank);
    if rank == 0 || !alike || !shapes.iter().zip(&slot.values).all(is_known) {
        return vec![];
    }
    let along = |axis: usize| shapes.iter().map(|shape| Some(Attr::Int((*shape)?.dims[axis] as i64))).collect();
    match rank {
        3 => vec![(Dim::Channels, along(0)), (Dim::Width, along(2)), (Dim::Height, along(1))],
        rank => {
            let others = (0..rank - 1).map(|axis| (Dim::Axis(axis + 1), along(axis)));
            std::iter::once((Dim::Features, along(rank - 1))).chain(others).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(name: &str, values: &[i64]) -> Slot {
        let values: Vec<Option<Attr>> = values.iter().map(|value| Some(Attr::Int(*value))).collect();
        let inputs = vec![None; values.len()];
        Slot { values, inputs, name: name.into(), label: String::new(), is_number_of_label: false }
    }

    fn of_block(slots: &[(&str, &[i64])]) -> (Vec<Expr>, usize) {
        let slots: Vec<Slot> = slots.iter().map(|(name, values)| slot(name, values)).collect();
        let (exprs, found) = parameters(&slots, |_| None);
        (exprs, found.len())
    }

    #[test]
    fn what_follows_from_a_parameter_is_none() {
        let times = |factor, param| Expr::Times(factor, Box::new(Expr::Param(param)));
        let over = |param, divisor| Expr::Over(Box::new(Expr::Param(param)), divisor);
        type Case<'a> = (&'a [(&'a str, &'a [i64])], Vec<Expr>, usize);
        let cases: &[Case<'_>] = &[
            (&[("out", &[64, 64])], vec![Expr::Value(Attr::Int(64))], 0),
            (&[("out", &[64, 128]), ("out", &[64, 128])], vec![Expr::Param(0), Expr::Param(0)], 1),
            (&[("out", &[64, 128]), ("out", &[256, 512])], vec![Expr::Param(0), times(4, 0)], 1),
            (&[("out", &[256, 512]), ("out", &[64, 128])], vec![Expr::Param(0), over(0, 4)], 1),
            // odd kernels and their padding
            (&[("kernel", &[3, 5, 1]), ("padding", &[1, 2, 0])], vec![Expr::Param(0), over(0, 2)], 1),
            // no rule
            (&[("out", &[64, 128]), ("out", &[10, 11])], vec![Expr::Param(0), Expr::Param(1)], 2),
            (&[("out", &[7, 9]), ("out", &[3, 5])], vec![Expr::Param(0), Expr::Param(1)], 2),
        ];
        for (slots, exprs, params) in cases {
            assert_eq!(of_block(slots), (exprs.clone(), *params), "{slots:?}");
        }
    }

    #[test]
    fn rounds_are_counted_where_they_follow_a_rule() {
        let var = || Box::new(Expr::Var(0));
        let int = |value| Box::new(Expr::Value(Attr::Int(value)));
        let cases: &[(&[i64], Option<Expr>)] = &[
            (&[5, 5, 5], Some(*int(5))),
            (&[2, 1, 1], Some(Expr::First(0, int(2), int(1)))),
            (&[0, 1, 2], Some(Expr::Var(0))),
            (&[8, 12, 16], Some(Expr::Plus(Box::new(Expr::Times(4, var())), 8))),
            (&[64, 128, 256], Some(Expr::Power(64, var()))),
            (&[64, 128], None),
            (&[3, 4, 6], None),
        ];
        for (values, wanted) in cases {
            let (rounds, vars) = rounds(&[slot("out", values)], 0, || 1);
            assert_eq!(vars.len(), usize::from(wanted.is_none()), "{values:?}");
            assert_eq!(rounds.exprs, [wanted.clone().unwrap_or(Expr::Var(1))], "{values:?}");
        }
    }
}
