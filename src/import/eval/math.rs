//! Arithmetic, functions of single values, reductions.

use super::layout::each_index;
use super::{Array, Call, Data, Dtype, Fail, Out, axes_of, axis_of, room, together, wrong};
use crate::import::trace::Arg;

pub fn eval(call: &Call<'_>, op: &str) -> Out<Vec<Array>> {
    let one = |array: Array| Ok(vec![array]);
    if let Some(function) = function(call, op) {
        let x = call.array("self").or_else(|_| call.array("input"))?;
        // of whole numbers some functions stay whole
        let keeps = matches!(op, "abs" | "neg" | "floor" | "ceil" | "round" | "trunc" | "sign" | "relu" | "square");
        if x.dtype() == Dtype::Int && keeps {
            let values = x.to_int().into_iter().map(|value| match op {
                "abs" => value.saturating_abs(),
                "neg" => value.wrapping_neg(),
                "sign" => value.signum(),
                "relu" => value.max(0),
                "square" => value.wrapping_mul(value),
                _ => value,
            });
            return one(Array::int(x.shape(), values.collect()));
        }
        let dtype = if x.dtype().is_float() { x.dtype() } else { Dtype::F32 };
        return one(Array::of(x.shape(), x.to_f64().into_iter().map(function).collect(), dtype));
    }
    match op {
        "add" | "sub" | "rsub" | "mul" | "div" | "floor_divide" | "remainder" | "fmod" | "pow" | "maximum"
        | "minimum" | "atan2" | "true_divide" | "multiply" | "subtract" | "divide" => one(arithmetic(call, op)?),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "logical_and" | "logical_or" | "logical_xor" | "bitwise_and"
        | "bitwise_or" | "bitwise_xor" | "__and__" | "__or__" => one(compare(call, op)?),
        "logical_not" => {
            let x = call.array("self")?;
            one(Array::new(x.shape(), Data::Bool(x.to_f64().into_iter().map(|value| value == 0.0).collect())))
        }
        "bitwise_not" => {
            let x = call.array("self")?;
            one(match x.dtype() {
                Dtype::Bool => {
                    Array::new(x.shape(), Data::Bool(x.to_int().into_iter().map(|value| value == 0).collect()))
                }
                Dtype::Int => Array::int(x.shape(), x.to_int().into_iter().map(|value| !value).collect()),
                _ => return wrong("bits of floats"),
            })
        }
        "addcmul" | "addcdiv" => {
            let (x, a, b) = (call.array("self")?, call.array("tensor1")?, call.array("tensor2")?);
            let value = call.float("value", 1.0);
            let (a, b) = together(&a, &b)?;
            let join = |a: f64, b: f64| value * if op == "addcmul" { a * b } else { a / b };
            let joined = a.to_f64().into_iter().zip(b.to_f64()).map(|(a, b)| join(a, b)).collect();
            let joined = Array::of(a.shape(), joined, a.dtype().max(b.dtype()));
            let (x, joined) = together(&x, &joined)?;
            let sum = x.to_f64().into_iter().zip(joined.to_f64()).map(|(a, b)| a + b).collect();
            one(Array::of(x.shape(), sum, x.dtype().max(joined.dtype())))
        }
        "lerp" => Err(Fail::Unknown),
        "clamp" | "clamp_min" | "clamp_max" | "clip" => {
            let x = call.array("self")?;
            let (mut lo, mut hi) = (call.optional("min")?, call.optional("max")?);
            if op == "clamp_min" {
                hi = None;
            } else if op == "clamp_max" {
                lo = None;
            }
            let mut result = x;
            for (bound, is_low) in [(lo, true), (hi, false)] {
                let Some(bound) = bound else { continue };
                let (x, bound) = together(&result, &bound)?;
                let values = x.to_f64().into_iter().zip(bound.to_f64());
                let values = values.map(|(x, bound)| match x.is_nan() || bound.is_nan() {
                    true => f64::NAN,
                    false if is_low => x.max(bound),
                    false => x.min(bound),
                });
                result = Array::of(x.shape(), values.collect(), x.dtype());
            }
            one(result)
        }
        "sum" | "mean" | "prod" | "amax" | "amin" | "any" | "all" | "var" | "std" | "linalg_vector_norm" | "norm"
        | "logsumexp" => one(reduce(call, op)?),
        "max" | "min" => {
            let x = call.array("self")?;
            let better = |a: f64, b: f64| if op == "max" { a > b } else { a < b };
            if let Arg::Value(_) = call.node.arg("other") {
                return one(arithmetic(call, if op == "max" { "maximum" } else { "minimum" })?);
            }
            let Some(axis) = call.node.int("dim") else {
                if x.len() == 0 {
                    return wrong("nothing is largest");
                }
                let values = x.to_f64().into_iter();
                let best =
                    values.reduce(|best, value| if better(value, best) || value.is_nan() { value } else { best });
                return one(Array::of([], best.into_iter().collect(), x.dtype()));
            };
            let (values, places) = best_along(&x, axis, call.bool("keepdim", false), better)?;
            Ok(vec![values, places])
        }
        "argmax" | "argmin" => {
            let x = call.array("self")?;
            let better = |a: f64, b: f64| if op == "argmax" { a > b } else { a < b };
            let Some(axis) = call.node.int("dim") else { return Err(Fail::Unknown) };
            one(best_along(&x, axis, call.bool("keepdim", false), better)?.1)
        }
        "cumsum" | "cumprod" => {
            let x = call.array("self")?;
            let axis = axis_of(call.int("dim", 0), x.rank())?;
            let dtype = call.dtype().unwrap_or(x.dtype().max(Dtype::Int));
            let mut values = x.to_f64();
            along(x.shape(), axis, |lane| {
                let mut total = if op == "cumsum" { 0.0 } else { 1.0 };
                for at in lane {
                    if op == "cumsum" {
                        total += values[at]
                    } else {
                        total *= values[at]
                    }
                    values[at] = total;
                }
            });
            one(Array::of(x.shape(), values, dtype))
        }
        "softmax" | "_softmax" | "log_softmax" | "_log_softmax" => {
            let x = call.array("self")?;
            let axis = axis_of(call.int("dim", -1), x.rank())?;
            let mut values = x.to_f64();
            along(x.shape(), axis, |lane| {
                let lane: Vec<usize> = lane.collect();
                let max = lane.iter().map(|at| values[*at]).fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = lane.iter().map(|at| (values[*at] - max).exp()).sum();
                for at in lane {
                    let shifted = values[at] - max;
                    values[at] = if op.contains("log") { shifted - total.ln() } else { shifted.exp() / total };
                }
            });
            one(Array::of(x.shape(), values, float(x.dtype())))
        }
        "glu" => {
            let x = call.array("self")?;
            let axis = axis_of(call.int("dim", -1), x.rank())?;
            let len = x.shape().get(axis).copied().unwrap_or(1);
            if len % 2 != 0 || x.rank() == 0 {
                return wrong("an odd axis");
            }
            let (a, b) = (x.narrow(axis, 0, len / 2, 1), x.narrow(axis, len / 2, len, 1));
            let values = a.to_f64().into_iter().zip(b.to_f64()).map(|(a, b)| a / (1.0 + (-b).exp()));
            one(Array::of(a.shape(), values.collect(), x.dtype()))
        }
        "argsort" | "sort" => {
            let x = call.array("self")?;
            let axis = axis_of(call.int("dim", -1), x.rank())?;
            let descending = call.bool("descending", false);
            let values = x.to_f64();
            let mut sorted = values.clone();
            let mut places = vec![0i64; values.len()];
            along(x.shape(), axis, |lane| {
                let lane: Vec<usize> = lane.collect();
                let mut order: Vec<usize> = (0..lane.len()).collect();
                order.sort_by(|a, b| {
                    let order = values[lane[*a]].total_cmp(&values[lane[*b]]);
                    if descending { order.reverse() } else { order }
                });
                for (to, from) in lane.iter().zip(&order) {
                    sorted[*to] = values[lane[*from]];
                    places[*to] = *from as i64;
                }
            });
            let places = Array::int(x.shape(), places);
            Ok(if op == "sort" { vec![Array::of(x.shape(), sorted, x.dtype()), places] } else { vec![places] })
        }
        _ => Err(Fail::Unknown),
    }
}

fn float(dtype: Dtype) -> Dtype {
    if dtype.is_float() { dtype } else { Dtype::F32 }
}

/// Functions of single values.
fn function(call: &Call<'_>, op: &str) -> Option<Box<dyn Fn(f64) -> f64>> {
    let number = |name: &str, default: f64| call.float(name, default);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let softplus = |x: f64| if x > 20.0 { x } else { x.exp().ln_1p() };
    Some(match op {
        "relu" => Box::new(|x: f64| if x.is_nan() { x } else { x.max(0.0) }),
        "relu6" => Box::new(|x: f64| x.clamp(0.0, 6.0)),
        "silu" => Box::new(move |x| x * sigmoid(x)),
        "sigmoid" => Box::new(sigmoid),
        "tanh" => Box::new(f64::tanh),
        "gelu" => match call.node.text("approximate").unwrap_or("none") {
            "tanh" => Box::new(|x| {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
            }),
            _ => Box::new(|x| archc_base::Act::Gelu.apply(x)),
        },
        "hardswish" => Box::new(|x: f64| x * (x + 3.0).clamp(0.0, 6.0) / 6.0),
        "hardsigmoid" => Box::new(|x: f64| (x + 3.0).clamp(0.0, 6.0) / 6.0),
        "hardtanh" => {
            let (lo, hi) = (number("min_val", -1.0), number("max_val", 1.0));
            Box::new(move |x: f64| x.max(lo).min(hi))
        }
        "leaky_relu" => {
            let slope = number("negative_slope", 0.01);
            Box::new(move |x| if x > 0.0 { x } else { slope * x })
        }
        "elu" => {
            let (alpha, scale, input) = (number("alpha", 1.0), number("scale", 1.0), number("input_scale", 1.0));
            Box::new(move |x: f64| if x > 0.0 { scale * x } else { scale * alpha * (x * input).exp_m1() })
        }
        "celu" => {
            let alpha = number("alpha", 1.0);
            Box::new(move |x: f64| if x > 0.0 { x } else { alpha * (x / alpha).exp_m1() })
        }
        "selu" => Box::new(|x: f64| {
            let (alpha, scale) = (1.673_263_242_354_377_2, 1.050_700_987_355_480_5);
            if x > 0.0 { scale * x } else { scale * alpha * x.exp_m1() }
        }),
        "softplus" => {
            let (beta, threshold) = (number("beta", 1.0), number("threshold", 20.0));
            Box::new(move |x: f64| if x * beta > threshold { x } else { (x * beta).exp().ln_1p() / beta })
        }
        "mish" => Box::new(move |x| x * softplus(x).tanh()),
        "softsign" => Box::new(|x: f64| x / (1.0 + x.abs())),
        "log_sigmoid" => Box::new(|x: f64| x.min(0.0) - (-x.abs()).exp().ln_1p()),
        "exp" => Box::new(f64::exp),
        "expm1" => Box::new(f64::exp_m1),
        "exp2" => Box::new(f64::exp2),
        "log" => Box::new(f64::ln),
        "log2" => Box::new(f64::log2),
        "log10" => Box::new(f64::log10),
        "log1p" => Box::new(f64::ln_1p),
        "sqrt" => Box::new(f64::sqrt),
        "rsqrt" => Box::new(|x: f64| 1.0 / x.sqrt()),
        "reciprocal" => Box::new(|x: f64| 1.0 / x),
        "square" => Box::new(|x| x * x),
        "abs" => Box::new(f64::abs),
        "neg" => Box::new(|x: f64| -x),
        "sin" => Box::new(f64::sin),
        "cos" => Box::new(f64::cos),
        "tan" => Box::new(f64::tan),
        "atan" => Box::new(f64::atan),
        "floor" => Box::new(f64::floor),
        "ceil" => Box::new(f64::ceil),
        "trunc" => Box::new(f64::trunc),
        "round" => Box::new(f64::round_ties_even),
        "sign" | "sgn" => Box::new(|x: f64| {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                0.0
            }
        }),
        "erf" => Box::new(|x| {
            let root = std::f64::consts::SQRT_2;
            // x / 2 (1 + erf(x / sqrt 2)) solved for erf
            if x == 0.0 { 0.0 } else { archc_base::Act::Gelu.apply(x * root) * 2.0 / (x * root) - 1.0 }
        }),
        _ => return None,
    })
}

/// The type of a result: of tensors before numbers, and of those with axes before those without, as far as the kind is the same.
fn result_type(operands: [(&Array, bool); 2]) -> Dtype {
    let kind = |dtype: Dtype| match dtype {
        Dtype::Bool => 0,
        Dtype::Int => 1,
        _ => 2,
    };
    // a Python number ranks lowest, then what has no axes
    let rank = |(array, is_number): (&Array, bool)| match (is_number, array.rank()) {
        (true, _) => 0,
        (_, 0) => 1,
        _ => 2,
    };
    let [a, b] = operands;
    if rank(a) == rank(b) {
        return a.0.dtype().max(b.0.dtype());
    }
    let (strong, weak) = if rank(a) > rank(b) { (a, b) } else { (b, a) };
    if kind(weak.0.dtype()) <= kind(strong.0.dtype()) {
        return strong.0.dtype();
    }
    if weak.1 && weak.0.dtype().is_float() { Dtype::F32 } else { weak.0.dtype() }
}

/// Both operands, what they are broadcast to, and the result's type.
fn operands(call: &Call<'_>) -> Out<(Array, Array, Dtype)> {
    let (a_name, b_name) = match call.node.args.iter().any(|(name, _)| name == "exponent") {
        true => ("self", "exponent"),
        false => ("self", "other"),
    };
    let a = call.array(a_name).or_else(|_| call.array("input"))?;
    let b = call.array(b_name)?;
    let is_number = |name: &str| !matches!(call.node.arg(name), Arg::Value(_) | Arg::None);
    let dtype = result_type([(&a, is_number(a_name)), (&b, is_number(b_name))]);
    let (a, b) = together(&a, &b)?;
    Ok((a, b, dtype))
}

fn arithmetic(call: &Call<'_>, op: &str) -> Out<Array> {
    let (a, b, dtype) = operands(call)?;
    let alpha = call.float("alpha", 1.0);
    let mode = call.node.text("rounding_mode");
    let is_whole = dtype == Dtype::Int && alpha.fract() == 0.0;
    let divides = matches!(op, "div" | "true_divide" | "divide") && mode.is_none();
    if is_whole && !divides && op != "atan2" {
        let overflow = || Fail::Wrong("a whole number beyond 64 bits".into());
        let zero = || Fail::Wrong("a division of whole numbers by 0".into());
        let alpha = alpha as i64;
        let join = |a: i64, b: i64| -> Out<i64> {
            let floor =
                |a: i64, b: i64| a.checked_div_euclid(b).map(|q| if b < 0 && a.rem_euclid(b) != 0 { q - 1 } else { q });
            match op {
                "add" => b.checked_mul(alpha).and_then(|b| a.checked_add(b)).ok_or_else(overflow),
                "sub" | "subtract" => b.checked_mul(alpha).and_then(|b| a.checked_sub(b)).ok_or_else(overflow),
                "rsub" => a.checked_mul(alpha).and_then(|a| b.checked_sub(a)).ok_or_else(overflow),
                "mul" | "multiply" => a.checked_mul(b).ok_or_else(overflow),
                "maximum" => Ok(a.max(b)),
                "minimum" => Ok(a.min(b)),
                "pow" => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)).ok_or_else(overflow),
                "fmod" => a.checked_rem(b).ok_or_else(zero),
                "div" | "divide" if mode == Some("trunc") => a.checked_div(b).ok_or_else(zero),
                "div" | "divide" | "floor_divide" => floor(a, b).ok_or_else(zero),
                "remainder" => {
                    let quotient = floor(a, b).ok_or_else(zero)?;
                    quotient.checked_mul(b).and_then(|product| a.checked_sub(product)).ok_or_else(overflow)
                }
                _ => Err(Fail::Unknown),
            }
        };
        let values = a.to_int().into_iter().zip(b.to_int()).map(|(a, b)| join(a, b)).collect::<Out<Vec<i64>>>()?;
        return Ok(Array::int(a.shape(), values));
    }
    // a number beside float32 is one itself
    let rounded = |array: &Array| -> Vec<f64> {
        let values = array.to_f64();
        if dtype == Dtype::F32 { values.into_iter().map(|value| f64::from(value as f32)).collect() } else { values }
    };
    let join = |a: f64, b: f64| match op {
        "add" => a + alpha * b,
        "sub" | "subtract" => a - alpha * b,
        "rsub" => b - alpha * a,
        "mul" | "multiply" => a * b,
        "div" | "true_divide" | "divide" => match mode {
            Some("floor") => (a / b).floor(),
            Some("trunc") => (a / b).trunc(),
            _ => a / b,
        },
        "floor_divide" => (a / b).floor(),
        "remainder" => a - b * (a / b).floor(),
        "fmod" => a % b,
        "pow" => a.powf(b),
        "maximum" if a.is_nan() || b.is_nan() => f64::NAN,
        "minimum" if a.is_nan() || b.is_nan() => f64::NAN,
        "maximum" => a.max(b),
        "minimum" => a.min(b),
        _ => a.atan2(b),
    };
    let dtype = if divides || op == "atan2" { float(dtype) } else { dtype };
    let values = rounded(&a).into_iter().zip(rounded(&b)).map(|(a, b)| join(a, b)).collect();
    Ok(Array::of(a.shape(), values, dtype))
}

fn compare(call: &Call<'_>, op: &str) -> Out<Array> {
    let (a, b, dtype) = operands(call)?;
    if op.contains("bitwise") || op.starts_with("__") {
        let join = |a: i64, b: i64| match op {
            "bitwise_and" | "__and__" => a & b,
            "bitwise_or" | "__or__" => a | b,
            _ => a ^ b,
        };
        let values: Vec<i64> = a.to_int().into_iter().zip(b.to_int()).map(|(a, b)| join(a, b)).collect();
        return match dtype {
            Dtype::Bool => Ok(Array::new(a.shape(), Data::Bool(values.into_iter().map(|value| value != 0).collect()))),
            Dtype::Int => Ok(Array::int(a.shape(), values)),
            _ => wrong("bits of floats"),
        };
    }
    let join = |a: f64, b: f64| match op {
        "eq" => a == b,
        "ne" => a != b,
        "lt" => a < b,
        "le" => a <= b,
        "gt" => a > b,
        "ge" => a >= b,
        "logical_and" => a != 0.0 && b != 0.0,
        "logical_or" => a != 0.0 || b != 0.0,
        _ => (a != 0.0) != (b != 0.0),
    };
    let values = a.to_f64().into_iter().zip(b.to_f64()).map(|(a, b)| join(a, b)).collect();
    Ok(Array::new(a.shape(), Data::Bool(values)))
}

/// Calls `visit` with the places of each line of values along an axis.
pub fn along(shape: &[usize], axis: usize, mut visit: impl FnMut(std::iter::StepBy<std::ops::Range<usize>>)) {
    let len = shape.get(axis).copied().unwrap_or(1);
    let inner: usize = shape.get(axis + 1..).unwrap_or(&[]).iter().product();
    let outer: usize = shape.iter().take(axis).product();
    for block in 0..outer {
        for at in 0..inner {
            let from = block * len * inner + at;
            visit((from..from + len * inner).step_by(inner.max(1)));
        }
    }
}

fn best_along(x: &Array, axis: i64, keep: bool, better: impl Fn(f64, f64) -> bool) -> Out<(Array, Array)> {
    let axis = axis_of(axis, x.rank())?;
    let values = x.to_f64();
    if x.shape().get(axis) == Some(&0) {
        return wrong("nothing is largest");
    }
    let (mut best, mut places) = (vec![], vec![]);
    along(x.shape(), axis, |lane| {
        let (mut top, mut place) = (f64::NAN, 0);
        for (k, at) in lane.enumerate() {
            if k == 0 || better(values[at], top) || (values[at].is_nan() && !top.is_nan()) {
                (top, place) = (values[at], k as i64);
            }
        }
        best.push(top);
        places.push(place);
    });
    let mut shape = x.shape().to_vec();
    if !shape.is_empty() {
        if keep {
            shape[axis] = 1;
        } else {
            shape.remove(axis);
        }
    }
    Ok((Array::of(shape.clone(), best, x.dtype()), Array::int(shape, places)))
}

fn reduce(call: &Call<'_>, op: &str) -> Out<Array> {
    let x = call.array("self")?;
    let axes = axes_of(call.ints("dim"), x.rank())?;
    let keep = call.bool("keepdim", false);
    let mut wide = x.shape().to_vec();
    axes.iter().for_each(|axis| wide[*axis] = 1);
    let len: usize = wide.iter().product();
    let strides = crate::import::trace::contiguous(&wide);
    let count = x.len() / len.max(1);
    let order = match op {
        "linalg_vector_norm" => call.float("ord", 2.0),
        "norm" => call.float("p", 2.0),
        _ => 2.0,
    };
    let is_norm = op.ends_with("norm");
    if is_norm && !(order == 1.0 || order == 2.0 || order == f64::INFINITY) {
        return Err(Fail::Unknown);
    }
    let start = match op {
        "prod" | "all" => 1.0,
        "amax" => f64::NEG_INFINITY,
        "amin" => f64::INFINITY,
        _ => 0.0,
    };
    let mut results = vec![start; room(&wide)?];
    let mut means = vec![0.0; len];
    let values = x.to_f64();
    let place = |index: &[usize]| -> usize {
        index.iter().zip(&wide).zip(&strides).map(|((at, len), stride)| if *len == 1 { 0 } else { at * stride }).sum()
    };
    if matches!(op, "var" | "std" | "logsumexp") {
        let mut at = 0;
        each_index(x.shape(), |index| {
            means[place(index)] += values[at] / count.max(1) as f64;
            at += 1;
        });
    }
    let mut at = 0;
    each_index(x.shape(), |index| {
        let (value, to) = (values[at], place(index));
        at += 1;
        let sum = &mut results[to];
        *sum = match op {
            "prod" => *sum * value,
            "amax" => {
                if value > *sum || value.is_nan() {
                    value
                } else {
                    *sum
                }
            }
            "amin" => {
                if value < *sum || value.is_nan() {
                    value
                } else {
                    *sum
                }
            }
            "any" => f64::from(u8::from(*sum != 0.0 || value != 0.0)),
            "all" => f64::from(u8::from(*sum != 0.0 && value != 0.0)),
            "var" | "std" => *sum + (value - means[to]).powi(2),
            "logsumexp" => *sum + (value - means[to]).exp(),
            _ if is_norm && order == 2.0 => *sum + value * value,
            _ if is_norm && order == 1.0 => *sum + value.abs(),
            _ if is_norm => sum.max(value.abs()),
            _ => *sum + value,
        };
    });
    // unbiased by default
    let correction = call.float("correction", if call.bool("unbiased", true) { 1.0 } else { 0.0 });
    let divisor = (count as f64 - correction).max(0.0);
    for (result, mean) in results.iter_mut().zip(&means) {
        *result = match op {
            "mean" => *result / count as f64,
            "var" => *result / divisor,
            "std" => (*result / divisor).sqrt(),
            "logsumexp" => result.ln() + mean,
            _ if is_norm && order == 2.0 => result.sqrt(),
            _ => *result,
        };
    }
    let dtype = match op {
        "any" | "all" => Dtype::Bool,
        "sum" | "prod" if x.dtype() == Dtype::Bool => Dtype::Int,
        "sum" | "prod" | "amax" | "amin" => x.dtype(),
        _ => float(x.dtype()),
    };
    let dtype = call.dtype().unwrap_or(dtype);
    let shape: Vec<usize> = match keep {
        true => wide,
        false => x.shape().iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, len)| *len).collect(),
    };
    Ok(Array::of(shape, results, dtype))
}
