//! ATen ops computed one by one, as PyTorch defines them: what does not depend on the network's input is folded by this, and
//! what was imported is compared with it. Written from PyTorch's definitions, not from archc's ops, so that a slip in
//! translating shows.

mod layers;
mod layout;
mod math;

pub use layers::{attend, matmul};
pub use layout::{moved, parts, range};

use super::array::{Array, Data, Dtype, broadcast};
use super::trace::{Arg, Node, ValueId};

/// Why an op gives nothing.
#[derive(Debug)]
pub enum Fail {
    /// It is not known here.
    Unknown,
    Wrong(String),
}

type Out<T> = Result<T, Fail>;

/// No value is longer than this.
pub const MAX_LEN: usize = 1 << 30;
/// No op takes more steps than this.
const MAX_WORK: usize = 1 << 42;

fn wrong<T>(what: impl Into<String>) -> Out<T> {
    Err(Fail::Wrong(what.into()))
}

/// An op with its operands.
pub struct Call<'a> {
    pub node: &'a Node,
    /// Values by id.
    pub get: &'a dyn Fn(ValueId) -> Option<Array>,
}

/// What an op gives, in the order of its outputs.
///
/// # Errors
/// An op that is not known, or operands that it cannot take.
pub fn eval(call: &Call<'_>) -> Out<Vec<Array>> {
    let op = call.node.op();
    for family in [layout::eval, math::eval, layers::eval] {
        match family(call, op) {
            Err(Fail::Unknown) => {}
            known => return known,
        }
    }
    // an op that works in place is the other one, and then writes
    let Some(plain) = op.strip_suffix('_').filter(|plain| !plain.is_empty()) else { return Err(Fail::Unknown) };
    for family in [layout::eval, math::eval, layers::eval] {
        match family(call, plain) {
            Err(Fail::Unknown) => {}
            Err(other) => return Err(other),
            Ok(results) => {
                let (Some(result), Some(own)) =
                    (results.first(), call.array("self").or_else(|_| call.array("input")).ok())
                else {
                    return wrong("it gives nothing");
                };
                let Some(result) = result.expand(own.shape()) else {
                    return wrong(format!("{:?} does not fit into {:?}", result.shape(), own.shape()));
                };
                own.write(&result);
                return Ok(vec![own]);
            }
        }
    }
    Err(Fail::Unknown)
}

/// Number of values, within bounds.
fn room(shape: &[usize]) -> Out<usize> {
    let len = shape.iter().try_fold(1usize, |all, len| all.checked_mul(*len)).filter(|len| *len <= MAX_LEN);
    len.ok_or_else(|| Fail::Wrong(format!("{shape:?} is more than {MAX_LEN} values")))
}

impl Call<'_> {
    /// A tensor that must be given.
    fn array(&self, name: &str) -> Out<Array> {
        self.optional(name)?.ok_or_else(|| Fail::Wrong(format!("it lacks `{name}`")))
    }

    fn optional(&self, name: &str) -> Out<Option<Array>> {
        match self.node.arg(name) {
            Arg::Value(value) => match (self.get)(*value) {
                Some(array) => Ok(Some(array)),
                None => wrong(format!("the value of `{name}` is not known")),
            },
            // a number where a tensor may stand
            Arg::Int(value) => Ok(Some(Array::int([], vec![*value]))),
            Arg::Bool(value) => Ok(Some(Array::new([], Data::Bool(vec![*value])))),
            Arg::Float(value) => Ok(Some(Array::f32([], vec![*value as f32]))),
            _ => Ok(None),
        }
    }

    fn arrays(&self, name: &str) -> Out<Vec<Array>> {
        let Some(values) = self.node.values(name) else { return wrong(format!("it lacks `{name}`")) };
        values
            .into_iter()
            .map(|value| value.and_then(|value| (self.get)(value)).ok_or(Fail::Wrong(format!("`{name}` is not known"))))
            .collect()
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.node.int(name).unwrap_or(default)
    }

    fn float(&self, name: &str, default: f64) -> f64 {
        self.node.float(name).unwrap_or(default)
    }

    fn bool(&self, name: &str, default: bool) -> bool {
        self.node.bool(name).unwrap_or(default)
    }

    fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.node.ints(name)
    }

    /// The type that is asked for.
    fn dtype(&self) -> Option<Dtype> {
        if let Arg::Dtype(dtype) = self.node.arg("dtype") { Some(*dtype) } else { None }
    }

    /// Lengths of 0 or more.
    fn sizes(&self, name: &str) -> Out<Vec<usize>> {
        let Some(list) = self.ints(name) else { return wrong(format!("it lacks `{name}`")) };
        list.iter()
            .map(|len| usize::try_from(*len).or_else(|_| wrong(format!("`{name}` has the length {len}"))))
            .collect()
    }
}

/// Refuses what would not end.
fn work(factors: &[usize]) -> Out<()> {
    let steps = factors.iter().try_fold(1usize, |all, factor| all.checked_mul(*factor));
    match steps {
        Some(steps) if steps <= MAX_WORK => Ok(()),
        _ => wrong("it is more than can be computed"),
    }
}

/// An axis, counted from the end where negative.
fn axis_of(axis: i64, rank: usize) -> Out<usize> {
    let at = if axis < 0 { axis + rank as i64 } else { axis };
    match usize::try_from(at) {
        Ok(at) if at < rank => Ok(at),
        // a number may be asked for its axis 0
        Ok(0) if rank == 0 => Ok(0),
        _ => wrong(format!("there is no axis {axis} of {rank}")),
    }
}

/// `axes`, each once; all of them where there are none.
fn axes_of(axes: Option<Vec<i64>>, rank: usize) -> Out<Vec<usize>> {
    let axes = axes.filter(|axes| !axes.is_empty() && rank > 0);
    let Some(axes) = axes else { return Ok((0..rank).collect()) };
    let mut found = vec![];
    for axis in axes {
        let at = axis_of(axis, rank)?;
        if found.contains(&at) {
            return wrong(format!("axis {axis} is named twice"));
        }
        found.push(at);
    }
    Ok(found)
}

/// Both of one shape.
fn together(a: &Array, b: &Array) -> Out<(Array, Array)> {
    let shape = broadcast(a.shape(), b.shape());
    let expanded = shape.and_then(|shape| Some((a.expand(&shape)?, b.expand(&shape)?)));
    let Some((a, b)) = expanded else {
        return wrong(format!("{:?} and {:?} do not fit", a.shape(), b.shape()));
    };
    room(a.shape())?;
    Ok((a, b))
}
