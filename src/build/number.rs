//! Arithmetic of the language: 64-bit integers that never wrap, floats, comparisons, and the functions of numbers.

use super::value::Value;
use crate::diag::{Code, Problem};
use crate::syntax::tree::{Binary, Unary};

type Outcome<'a> = Result<Value<'a>, Problem>;

/// The functions of numbers and lists, by name.
pub const FUNCTIONS: &[&str] = &["min", "max", "round", "ceil", "floor", "len", "sum", "zip", "make_divisible"];

pub fn unary<'a>(op: Unary, value: Value<'a>) -> Outcome<'a> {
    match (op, value) {
        (_, Value::Poison) => Ok(Value::Poison),
        (Unary::Neg, Value::Int(value)) => value.checked_neg().map(Value::Int).ok_or_else(overflow),
        (Unary::Neg, Value::Float(value)) => Ok(Value::Float(-value)),
        (Unary::Not, Value::Bool(value)) => Ok(Value::Bool(!value)),
        (Unary::Neg, value) => Err(wrong("`-` needs a number", &value)),
        (Unary::Not, value) => Err(wrong("`not` needs a boolean", &value)),
    }
}

/// Every operator but `and` and `or`, which stop early. Operands are not values of the network.
pub fn binary<'a>(op: Binary, left: Value<'a>, right: Value<'a>) -> Outcome<'a> {
    if left.is_poison() || right.is_poison() {
        return Ok(Value::Poison);
    }
    match op {
        Binary::Eq => equal(&left, &right).map(Value::Bool),
        Binary::Ne => equal(&left, &right).map(|equal| Value::Bool(!equal)),
        Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge => compare(op, &left, &right).map(Value::Bool),
        _ => arithmetic(op, &left, &right),
    }
}

fn arithmetic<'a>(op: Binary, left: &Value<'a>, right: &Value<'a>) -> Outcome<'a> {
    if let (Value::Int(left), Value::Int(right)) = (left, right) {
        return integers(op, *left, *right);
    }
    let (Some(x), Some(y)) = (left.as_float(), right.as_float()) else {
        let culprit = if left.as_float().is_none() { left } else { right };
        return Err(wrong(&format!("`{}` needs numbers", symbol(op)), culprit));
    };
    if y == 0.0 && matches!(op, Binary::Div | Binary::FloorDiv | Binary::Rem) {
        return Err(Problem::new(Code::Arithmetic, "division by zero"));
    }
    finite(match op {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div => x / y,
        Binary::FloorDiv => (x / y).floor(),
        Binary::Rem => x - y * (x / y).floor(),
        _ => x.powf(y),
    })
}

fn integers<'a>(op: Binary, left: i64, right: i64) -> Outcome<'a> {
    if right == 0 && matches!(op, Binary::Div | Binary::FloorDiv | Binary::Rem) {
        return Err(Problem::new(Code::Arithmetic, "division by zero"));
    }
    let value = match op {
        Binary::Add => left.checked_add(right),
        Binary::Sub => left.checked_sub(right),
        Binary::Mul => left.checked_mul(right),
        Binary::Div => {
            if left.checked_rem(right).is_some_and(|rest| rest != 0) {
                let problem = Problem::new(Code::Arithmetic, format!("{left} / {right} is not a whole number"));
                return Err(problem.hint(format!("`//` rounds down; `{left}.0 / {right}` is a fraction")));
            }
            left.checked_div(right)
        }
        Binary::FloorDiv => {
            let inexact = left.checked_rem(right).is_some_and(|rest| rest != 0);
            let below = inexact && (left < 0) != (right < 0);
            left.checked_div(right).map(|quotient| quotient - i64::from(below))
        }
        Binary::Rem => left.checked_rem(right).map(|rest| {
            let wraps = rest != 0 && (rest < 0) != (right < 0);
            if wraps { rest + right } else { rest }
        }),
        _ if right < 0 => return finite((left as f64).powf(right as f64)),
        _ => u32::try_from(right).ok().and_then(|right| left.checked_pow(right)),
    };
    value.map(Value::Int).ok_or_else(overflow)
}

fn equal(left: &Value<'_>, right: &Value<'_>) -> Result<bool, Problem> {
    Ok(match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::None, Value::None) => true,
        (Value::Str(left) | Value::Word(left), Value::Str(right) | Value::Word(right)) => left == right,
        (Value::Callable(left), Value::Callable(right)) => left.target.name() == right.target.name(),
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len()
                && left.iter().zip(right.iter()).try_fold(true, |all, (x, y)| equal(x, y).map(|one| all && one))?
        }
        (Value::Batch, _) | (_, Value::Batch) => {
            return Err(Problem::new(Code::TypeMismatch, "axis 0 is the batch, which is not a number"));
        }
        (Value::Node(_) | Value::Place(_), _) => return Err(wrong("`==` needs numbers, words or ops", left)),
        (_, Value::Node(_) | Value::Place(_)) => return Err(wrong("`==` needs numbers, words or ops", right)),
        _ => match (left.as_float(), right.as_float()) {
            (Some(left), Some(right)) => left == right,
            _ => false,
        },
    })
}

fn compare(op: Binary, left: &Value<'_>, right: &Value<'_>) -> Result<bool, Problem> {
    let order = match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        _ => match (left.as_float(), right.as_float()) {
            (Some(left), Some(right)) => left.partial_cmp(&right),
            (None, _) => return Err(wrong(&format!("`{}` needs numbers", symbol(op)), left)),
            _ => return Err(wrong(&format!("`{}` needs numbers", symbol(op)), right)),
        },
    };
    Ok(order.is_some_and(|order| match op {
        Binary::Lt => order.is_lt(),
        Binary::Le => order.is_le(),
        Binary::Gt => order.is_gt(),
        _ => order.is_ge(),
    }))
}

/// Calls one of [`FUNCTIONS`].
pub fn call<'a>(name: &str, args: Vec<Value<'a>>) -> Outcome<'a> {
    if args.iter().any(Value::is_poison) {
        return Ok(Value::Poison);
    }
    match (name, args.as_slice()) {
        ("min" | "max", [Value::List(list)]) => extreme(name, list),
        ("min" | "max", [_, _, ..]) => extreme(name, &args),
        ("round", [value]) => rounded(name, value, f64::round_ties_even),
        ("ceil", [value]) => rounded(name, value, f64::ceil),
        ("floor", [value]) => rounded(name, value, f64::floor),
        ("len", [Value::List(list)]) => Ok(Value::Int(list.len() as i64)),
        ("sum", [Value::List(list)]) => {
            list.iter().try_fold(Value::Int(0), |sum, value| arithmetic(Binary::Add, &sum, value))
        }
        ("zip", [_, _, ..]) => zip(&args),
        ("make_divisible", [value, divisor]) => make_divisible(value, divisor),
        _ => {
            let usage = match name {
                "min" | "max" => "two or more numbers, or a list",
                "len" | "sum" => "a list",
                "zip" => "two or more lists",
                "make_divisible" => "a number and an integer",
                _ => "a number",
            };
            Err(Problem::new(Code::TypeMismatch, format!("`{name}` takes {usage}")))
        }
    }
}

fn extreme<'a>(name: &str, values: &[Value<'a>]) -> Outcome<'a> {
    let Some((first, rest)) = values.split_first() else {
        return Err(Problem::new(Code::BadValue, format!("`{name}` of an empty list")));
    };
    compare(Binary::Lt, first, first)?;
    let op = if name == "min" { Binary::Lt } else { Binary::Gt };
    let mut best = first;
    for value in rest {
        if compare(op, value, best)? {
            best = value;
        }
    }
    Ok(best.clone())
}

fn rounded<'a>(name: &str, value: &Value<'a>, round: impl Fn(f64) -> f64) -> Outcome<'a> {
    match value {
        Value::Int(value) => Ok(Value::Int(*value)),
        Value::Float(value) => whole(round(*value)),
        other => Err(wrong(&format!("`{name}` needs a number"), other)),
    }
}

fn zip<'a>(lists: &[Value<'a>]) -> Outcome<'a> {
    let mut columns: Vec<&[Value<'a>]> = vec![];
    for list in lists {
        match list {
            Value::List(list) => columns.push(list),
            other => return Err(wrong("`zip` needs lists", other)),
        }
    }
    let len = columns.iter().map(|list| list.len()).min().unwrap_or(0);
    if let Some(other) = columns.iter().find(|list| list.len() != len) {
        let message = format!("`zip` needs lists of one length, got {len} and {}", other.len());
        return Err(Problem::new(Code::BadValue, message));
    }
    let rows = (0..len).map(|at| Value::List(columns.iter().map(|list| list[at].clone()).collect()));
    Ok(Value::List(rows.collect()))
}

/// The nearest multiple of `divisor` that is not more than a tenth below the value: torchvision's `_make_divisible`.
fn make_divisible<'a>(value: &Value<'a>, divisor: &Value<'a>) -> Outcome<'a> {
    let (Some(number), Value::Int(divisor @ 1..)) = (value.as_float(), divisor) else {
        return Err(Problem::new(Code::TypeMismatch, "`make_divisible` needs a number and an integer of 1 or more"));
    };
    let step = *divisor as f64;
    let nearest = (((number + step / 2.0) / step).floor() * step).max(step);
    whole(if nearest < 0.9 * number { nearest + step } else { nearest })
}

fn whole<'a>(value: f64) -> Outcome<'a> {
    if value.abs() < i64::MAX as f64 { Ok(Value::Int(value as i64)) } else { Err(overflow()) }
}

fn finite<'a>(value: f64) -> Outcome<'a> {
    if value.is_finite() {
        return Ok(Value::Float(value));
    }
    Err(Problem::new(Code::Arithmetic, "the result is not a finite number"))
}

fn overflow() -> Problem {
    Problem::new(Code::Arithmetic, "the result does not fit 64 bits")
}

fn wrong(wanted: &str, got: &Value<'_>) -> Problem {
    Problem::new(Code::TypeMismatch, format!("{wanted}, got {}", got.describe()))
}

pub fn symbol(op: Binary) -> &'static str {
    match op {
        Binary::Or => "or",
        Binary::And => "and",
        Binary::Eq => "==",
        Binary::Ne => "!=",
        Binary::Lt => "<",
        Binary::Le => "<=",
        Binary::Gt => ">",
        Binary::Ge => ">=",
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::FloorDiv => "//",
        Binary::Rem => "%",
        Binary::Pow => "**",
    }
}
