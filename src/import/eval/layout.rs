//! Making, moving and picking values.

use super::{Array, Call, Data, Dtype, Fail, Out, axes_of, axis_of, room, together, wrong};
use crate::import::trace::Arg;

pub fn eval(call: &Call<'_>, op: &str) -> Out<Vec<Array>> {
    let one = |array: Array| Ok(vec![array]);
    match op {
        "alias" | "detach" | "lift_fresh" | "detach_" => one(call.array("self")?),
        "contiguous" => {
            let x = call.array("self")?;
            one(if x.is_contiguous() { x } else { x.copy() })
        }
        "clone" | "lift_fresh_copy" | "detach_copy" => one(call.array("self")?.copy()),
        "to" | "_to_copy" | "type_as" | "float" | "double" | "int" | "bool" => {
            let x = call.array("self")?;
            let dtype = match op {
                "type_as" => Some(call.array("other")?.dtype()),
                "float" => Some(Dtype::F32),
                _ => call.dtype().or(match call.node.arg("other") {
                    Arg::Value(_) => Some(call.array("other")?.dtype()),
                    _ => None,
                }),
            };
            one(match dtype {
                Some(dtype) if dtype != x.dtype() => x.cast(dtype),
                _ => x,
            })
        }
        "dropout" | "native_dropout" | "feature_dropout" | "alpha_dropout" => {
            let x = call.optional("input")?;
            one(x.map_or_else(|| call.array("self"), Ok)?)
        }
        "zeros" | "ones" | "full" | "empty" | "new_zeros" | "new_ones" | "new_full" | "new_empty" => {
            let shape = call.sizes("size")?;
            let value = fill_value(call, op);
            let own = call.optional("self")?.map(|own| own.dtype());
            let dtype = call.dtype().or(own).unwrap_or(match call.node.arg("fill_value") {
                Arg::Int(_) if op == "full" => Dtype::Int,
                Arg::Bool(_) if op == "full" => Dtype::Bool,
                _ => Dtype::F32,
            });
            let len = room(&shape)?;
            one(Array::of(shape, vec![value; len], dtype))
        }
        "zeros_like" | "ones_like" | "full_like" | "empty_like" => {
            let x = call.array("self")?;
            let value = fill_value(call, op);
            room(x.shape())?;
            one(Array::of(x.shape(), vec![value; x.len()], call.dtype().unwrap_or(x.dtype())))
        }
        "scalar_tensor" => {
            let x = call.array("s")?;
            one(x.cast(call.dtype().unwrap_or(Dtype::F32)))
        }
        "fill_" | "zero_" => {
            let x = call.array("self")?;
            let value = if op == "zero_" { Array::int([], vec![0]) } else { call.array("value")? };
            put(&x, &value)?;
            one(x)
        }
        "copy_" => {
            let x = call.array("self")?;
            put(&x, &call.array("src")?)?;
            one(x)
        }
        "arange" => arange(call),
        "linspace" => {
            let (start, end, steps) = (call.float("start", 0.0), call.float("end", 0.0), call.int("steps", 0));
            let Ok(steps) = usize::try_from(steps) else { return wrong(format!("{steps} steps")) };
            room(&[steps])?;
            let step = (end - start) / steps.saturating_sub(1).max(1) as f64;
            // from both ends, as PyTorch
            let at = |at: usize| match at < steps / 2 {
                true => start + step * at as f64,
                false => end - step * (steps - 1 - at) as f64,
            };
            one(Array::of([steps], (0..steps).map(at).collect(), call.dtype().unwrap_or(Dtype::F32)))
        }
        "view" | "reshape" | "_unsafe_view" | "view_as" | "reshape_as" => {
            let x = call.array("self")?;
            let shape = match op {
                "view_as" | "reshape_as" => call.array("other")?.shape().iter().map(|len| *len as i64).collect(),
                _ => match call.ints("size").or_else(|| call.ints("shape")) {
                    Some(shape) => shape,
                    None => return wrong("it lacks its shape"),
                },
            };
            one(x.reshape(&resolve(&shape, x.len())?))
        }
        "flatten" => {
            let x = call.array("self")?;
            if x.rank() == 0 {
                return one(x.reshape(&[1]));
            }
            let (from, to) =
                (axis_of(call.int("start_dim", 0), x.rank())?, axis_of(call.int("end_dim", -1), x.rank())?);
            if from > to {
                return wrong("it ends before it begins");
            }
            let mut shape = x.shape()[..from].to_vec();
            shape.push(x.shape()[from..=to].iter().product());
            shape.extend(&x.shape()[to + 1..]);
            one(x.reshape(&shape))
        }
        "unflatten" => {
            let x = call.array("self")?;
            if x.rank() == 0 {
                return wrong("a number has no axis");
            }
            let axis = axis_of(call.int("dim", 0), x.rank())?;
            let Some(sizes) = call.ints("sizes") else { return wrong("it lacks `sizes`") };
            let mut shape = x.shape()[..axis].to_vec();
            shape.extend(resolve(&sizes, x.shape()[axis])?);
            shape.extend(&x.shape()[axis + 1..]);
            one(x.reshape(&shape))
        }
        "permute" => {
            let x = call.array("self")?;
            let order = axes_of(call.ints("dims"), x.rank())?;
            if order.len() != x.rank() {
                return wrong(format!("{:?} has other axes", x.shape()));
            }
            one(x.permute(&order))
        }
        "transpose" | "swapaxes" | "t" | "numpy_T" | "mT" => {
            let x = call.array("self")?;
            let mut order: Vec<usize> = (0..x.rank()).collect();
            if op == "numpy_T" {
                order.reverse();
            } else if x.rank() >= 2 {
                let (a, b) = match op {
                    "t" => (0, 1),
                    "mT" => (-1, -2),
                    _ => (
                        call.node.int("dim0").or(call.node.int("axis0")).unwrap_or(0),
                        call.node.int("dim1").or(call.node.int("axis1")).unwrap_or(1),
                    ),
                };
                order.swap(axis_of(a, x.rank())?, axis_of(b, x.rank())?);
            }
            one(x.permute(&order))
        }
        "movedim" => {
            let x = call.array("self")?;
            let (Some(from), Some(to)) = (call.ints("source"), call.ints("destination")) else {
                return wrong("it lacks axes");
            };
            one(x.permute(&moved(&from, &to, x.rank())?))
        }
        "unsqueeze" => {
            let x = call.array("self")?;
            let axis = axis_of(call.int("dim", 0), x.rank() + 1)?;
            one(x.unsqueeze(axis))
        }
        "squeeze" => {
            let x = call.array("self")?;
            let axes = match call.ints("dim") {
                Some(axes) => axes_of(Some(axes), x.rank())?,
                None => (0..x.rank()).collect(),
            };
            let kept = x.shape().iter().enumerate().filter(|(axis, len)| **len != 1 || !axes.contains(axis));
            let shape: Vec<usize> = kept.map(|(_, len)| *len).collect();
            one(x.reshape(&shape))
        }
        "expand" | "expand_as" | "broadcast_to" => {
            let x = call.array("self")?;
            let asked = match op {
                "expand_as" => call.array("other")?.shape().iter().map(|len| *len as i64).collect(),
                _ => call.ints("size").unwrap_or_default(),
            };
            one(expand(&x, &asked)?)
        }
        "select" => {
            let x = call.array("self")?;
            if x.rank() == 0 {
                return wrong("a number has no axis");
            }
            let axis = axis_of(call.int("dim", 0), x.rank())?;
            let at = axis_of(call.int("index", 0), x.shape()[axis])?;
            if at >= x.shape()[axis] {
                return wrong("an empty axis");
            }
            one(x.select(axis, at))
        }
        "slice" | "narrow" => {
            let x = call.array("self")?;
            if x.rank() == 0 {
                return wrong("a number has no axis");
            }
            let axis = axis_of(call.int("dim", 0), x.rank())?;
            let start = call.int("start", 0);
            let end = match op {
                "narrow" => Some(start.saturating_add(call.int("length", 0))),
                _ => call.node.int("end"),
            };
            let (from, to, step) = range(start, end, call.int("step", 1), x.shape()[axis])?;
            one(x.narrow(axis, from, to, step))
        }
        "unbind" => {
            let x = call.array("self")?;
            if x.rank() == 0 {
                return wrong("a number has no axis");
            }
            let axis = axis_of(call.int("dim", 0), x.rank())?;
            Ok((0..x.shape()[axis]).map(|at| x.select(axis, at)).collect())
        }
        "chunk" | "split" | "split_with_sizes" | "tensor_split" => {
            let x = call.array("self")?;
            if x.rank() == 0 {
                return wrong("a number has no axis");
            }
            let axis = axis_of(call.int("dim", 0), x.rank())?;
            let parts = parts(call, op, x.shape()[axis])?;
            Ok(parts.into_iter().map(|(from, to)| x.narrow(axis, from, to, 1)).collect())
        }
        "unfold" => {
            let x = call.array("self")?;
            if x.rank() == 0 {
                return wrong("a number has no axis");
            }
            let axis = axis_of(call.int("dimension", 0), x.rank())?;
            let (size, step) = (call.int("size", 0), call.int("step", 0));
            match (usize::try_from(size), usize::try_from(step)) {
                (Ok(size), Ok(step)) if size <= x.shape()[axis] && step > 0 => one(x.unfold(axis, size, step)),
                _ => wrong(format!("windows of {size} every {step} of {:?}", x.shape())),
            }
        }
        "cat" | "concat" | "concatenate" => {
            let parts = call.arrays("tensors")?;
            // what PyTorch passes over
            let parts: Vec<Array> = parts.into_iter().filter(|part| part.shape() != [0]).collect();
            let Some(first) = parts.first() else { return wrong("there is nothing to join") };
            if first.rank() == 0 {
                return wrong("numbers have no axis");
            }
            let axis = axis_of(call.int("dim", 0), first.rank())?;
            one(concat(&parts, axis)?)
        }
        "stack" => {
            let parts = call.arrays("tensors")?;
            let Some(first) = parts.first() else { return wrong("there is nothing to join") };
            let axis = axis_of(call.int("dim", 0), first.rank() + 1)?;
            if parts.iter().any(|part| part.shape() != first.shape()) {
                return wrong("shapes differ");
            }
            let parts: Vec<Array> = parts.iter().map(|part| part.unsqueeze(axis)).collect();
            one(concat(&parts, axis)?)
        }
        "repeat" | "tile" => {
            let x = call.array("self")?;
            let times = call.sizes(if op == "tile" { "dims" } else { "repeats" })?;
            let mut x = x;
            while x.rank() < times.len() {
                x = x.unsqueeze(0);
            }
            let missing = x.rank() - times.len();
            for (axis, times) in times.into_iter().enumerate() {
                if times != 1 {
                    let axis = axis + missing;
                    let mut shape = x.shape().to_vec();
                    shape[axis] = shape[axis].saturating_mul(times);
                    room(&shape)?;
                    x = if times == 0 { Array::of(shape, vec![], x.dtype()) } else { concat(&vec![x; times], axis)? };
                }
            }
            one(x)
        }
        "repeat_interleave" => {
            let x = call.array("self")?;
            let Some(times) = call.node.int("repeats").and_then(|times| usize::try_from(times).ok()) else {
                return Err(Fail::Unknown);
            };
            let (x, axis) = match call.node.int("dim") {
                Some(axis) if x.rank() > 0 => (x.clone(), axis_of(axis, x.rank())?),
                _ => (x.reshape(&[x.len()]), 0),
            };
            let wide = x.unsqueeze(axis + 1);
            let mut shape = wide.shape().to_vec();
            shape[axis + 1] = times;
            let mut joined = x.shape().to_vec();
            joined[axis] = joined[axis].saturating_mul(times);
            room(&joined)?;
            let Some(wide) = wide.expand(&shape) else { return wrong("it does not fit") };
            one(wide.reshape(&joined))
        }
        "meshgrid" => {
            let lines = call.arrays("tensors")?;
            let is_xy = call.node.text("indexing") == Some("xy");
            meshgrid(&lines, is_xy)
        }
        "flip" => {
            let x = call.array("self")?;
            let axes = axes_of(Some(call.ints("dims").unwrap_or_default()), x.rank())?;
            let mut index: Vec<Vec<usize>> = x.shape().iter().map(|len| (0..*len).collect()).collect();
            axes.iter().for_each(|axis| index[*axis].reverse());
            one(pick(&x, &index)?)
        }
        "roll" => {
            let x = call.array("self")?;
            let shifts = call.ints("shifts").unwrap_or_default();
            let axes = call.ints("dims").unwrap_or_default();
            if axes.is_empty() {
                let flat = x.reshape(&[x.len()]);
                let shift = shifts.first().copied().unwrap_or(0);
                return one(rolled(&flat, &[(0, shift)])?.reshape(x.shape()));
            }
            if shifts.len() != axes.len() || x.rank() == 0 {
                return wrong("shifts and axes differ in number");
            }
            let moves: Vec<(usize, i64)> = axes
                .iter()
                .zip(shifts)
                .map(|(axis, shift)| Ok((axis_of(*axis, x.rank())?, shift)))
                .collect::<Out<_>>()?;
            one(rolled(&x, &moves)?)
        }
        "index" => {
            let x = call.array("self")?;
            one(index(call, &x)?)
        }
        "index_select" => {
            let (x, rows) = (call.array("self")?, call.array("index")?);
            if x.rank() == 0 {
                return wrong("a number has no axis");
            }
            let axis = axis_of(call.int("dim", 0), x.rank())?;
            let mut index: Vec<Vec<usize>> = x.shape().iter().map(|len| (0..*len).collect()).collect();
            index[axis] = rows.to_int().into_iter().map(|row| inside(row, x.shape()[axis])).collect::<Out<_>>()?;
            one(pick(&x, &index)?)
        }
        "gather" => {
            let (x, rows) = (call.array("self")?, call.array("index")?);
            let axis = axis_of(call.int("dim", 0), x.rank())?;
            if rows.rank() != x.rank() || x.rank() == 0 {
                return wrong("ranks differ");
            }
            let rows_shape = rows.shape().to_vec();
            if rows_shape.iter().zip(x.shape()).enumerate().any(|(at, (a, b))| at != axis && a > b) {
                return wrong("the index reaches beyond its table");
            }
            let (values, places) = (x.to_f64(), rows.to_int());
            let strides = crate::import::trace::contiguous(x.shape());
            let mut result = Vec::with_capacity(places.len());
            let mut at = 0;
            let mut failed = None;
            each_index(&rows_shape, |index| {
                let row = inside(places[at], x.shape()[axis]);
                at += 1;
                match row {
                    Ok(row) => {
                        let place: usize = index
                            .iter()
                            .zip(&strides)
                            .enumerate()
                            .map(|(k, (i, s))| if k == axis { row * s } else { i * s })
                            .sum();
                        result.push(values[place]);
                    }
                    Err(error) => failed = Some(error),
                }
            });
            if let Some(error) = failed {
                return Err(error);
            }
            one(Array::of(rows_shape, result, x.dtype()))
        }
        "index_put_" | "index_put" => Err(Fail::Unknown),
        "where" => {
            let (condition, a, b) = (call.array("condition")?, call.array("self")?, call.array("other")?);
            let (a, b) = together(&a, &b)?;
            let (condition, a) = together(&condition, &a)?;
            let (a, b) = together(&a, &b)?;
            let dtype = a.dtype().max(b.dtype());
            let (conditions, a_values, b_values) = (condition.to_f64(), a.to_f64(), b.to_f64());
            let picked = conditions.iter().zip(a_values.iter().zip(&b_values));
            let picked = picked.map(|(condition, (a, b))| if *condition == 0.0 { *b } else { *a }).collect();
            one(Array::of(a.shape(), picked, dtype))
        }
        "masked_fill" => {
            let (x, mask, value) = (call.array("self")?, call.array("mask")?, call.array("value")?);
            let (x, mask) = together(&x, &mask)?;
            let Some(value) = value.to_f64().first().copied() else { return wrong("no value") };
            let values = x.to_f64().into_iter().zip(mask.to_f64());
            let values = values.map(|(x, mask)| if mask == 0.0 { x } else { value }).collect();
            one(Array::of(x.shape(), values, x.dtype()))
        }
        "one_hot" => {
            let x = call.array("self")?;
            let rows = x.to_int();
            let most = rows.iter().copied().max().unwrap_or(-1).saturating_add(1);
            let classes = call.int("num_classes", -1);
            let classes = if classes < 0 { most } else { classes };
            let Ok(classes) = usize::try_from(classes) else { return wrong("no classes") };
            let mut shape = x.shape().to_vec();
            shape.push(classes);
            let mut values = vec![0; room(&shape)?];
            for (at, row) in rows.into_iter().enumerate() {
                let row = usize::try_from(row).ok().filter(|row| *row < classes);
                let Some(row) = row else { return wrong("a class that is none") };
                values[at * classes + row] = 1;
            }
            one(Array::int(shape, values))
        }
        "tril" | "triu" => {
            let x = call.array("self")?;
            let diagonal = call.int("diagonal", 0);
            if x.rank() < 2 {
                return wrong("no matrix");
            }
            let mut values = x.to_f64();
            let mut at = 0;
            let rank = x.rank();
            each_index(x.shape(), |index| {
                let above = index[rank - 1] as i64 - index[rank - 2] as i64;
                let is_kept = if op == "tril" { above <= diagonal } else { above >= diagonal };
                if !is_kept {
                    values[at] = 0.0;
                }
                at += 1;
            });
            one(Array::of(x.shape(), values, x.dtype()))
        }
        "pad" | "constant_pad_nd" | "reflection_pad2d" | "replication_pad2d" => pad(call, op),
        _ => Err(Fail::Unknown),
    }
}

fn fill_value(call: &Call<'_>, op: &str) -> f64 {
    if op.contains("full") { call.float("fill_value", 0.0) } else { f64::from(u8::from(op.contains("ones"))) }
}

fn put(x: &Array, value: &Array) -> Out<()> {
    let Some(value) = value.expand(x.shape()) else {
        return wrong(format!("{:?} does not fit into {:?}", value.shape(), x.shape()));
    };
    room(x.shape())?;
    // what is written may overlap what is read
    x.write(&value.copy());
    Ok(())
}

fn arange(call: &Call<'_>) -> Out<Vec<Array>> {
    let node = call.node;
    let is_float = ["start", "end", "step"].iter().any(|name| matches!(node.arg(name), Arg::Float(_)));
    let (start, end, step) = (call.float("start", 0.0), call.float("end", 0.0), call.float("step", 1.0));
    let count = ((end - start) / step).ceil();
    if step == 0.0 || !count.is_finite() || count > super::MAX_LEN as f64 {
        return wrong(format!("{start} to {end} in steps of {step}"));
    }
    let count = count.max(0.0) as usize;
    let dtype = call.dtype().unwrap_or(if is_float { Dtype::F32 } else { Dtype::Int });
    let values = (0..count).map(|at| start + at as f64 * step).collect();
    Ok(vec![Array::of([count], values, dtype)])
}

/// A shape with its one -1 worked out.
pub fn resolve(shape: &[i64], len: usize) -> Out<Vec<usize>> {
    let known = shape.iter().filter(|size| **size >= 0).try_fold(1usize, |all, size| all.checked_mul(*size as usize));
    let known = known.ok_or_else(|| Fail::Wrong(format!("the shape {shape:?}")))?;
    let free = shape.iter().filter(|size| **size < 0).count();
    let fits = match free {
        0 => known == len,
        1 => known > 0 && len.is_multiple_of(known),
        _ => false,
    };
    if !fits || shape.iter().any(|size| *size < -1) {
        return wrong(format!("{len} values do not fill {shape:?}"));
    }
    Ok(shape.iter().map(|size| usize::try_from(*size).unwrap_or(len / known.max(1))).collect())
}

/// The order of axes after some were moved.
pub fn moved(from: &[i64], to: &[i64], rank: usize) -> Out<Vec<usize>> {
    let (from, to) = (axes_of(Some(from.to_vec()), rank)?, axes_of(Some(to.to_vec()), rank)?);
    if from.len() != to.len() {
        return wrong("as many places as axes are needed");
    }
    let mut order: Vec<Option<usize>> = vec![None; rank];
    from.iter().zip(&to).for_each(|(from, to)| order[*to] = Some(*from));
    let mut rest = (0..rank).filter(|axis| !from.contains(axis));
    Ok(order.into_iter().map(|axis| axis.or_else(|| rest.next()).unwrap_or(0)).collect())
}

/// As `torch.Tensor.expand`: -1 keeps a length.
pub fn expand(x: &Array, asked: &[i64]) -> Out<Array> {
    let Some(missing) = asked.len().checked_sub(x.rank()) else { return wrong("it has more axes") };
    let mut shape = vec![];
    for (at, len) in asked.iter().enumerate() {
        let own = at.checked_sub(missing).map(|at| x.shape()[at]);
        shape.push(match (usize::try_from(*len), own) {
            (Ok(len), _) => len,
            (Err(_), Some(own)) if *len == -1 => own,
            _ => return wrong(format!("the length {len}")),
        });
    }
    room(&shape)?;
    x.expand(&shape).ok_or_else(|| Fail::Wrong(format!("{:?} is not expanded to {shape:?}", x.shape())))
}

/// A slice as Python means it: from, to and step.
pub fn range(start: i64, end: Option<i64>, step: i64, len: usize) -> Out<(usize, usize, usize)> {
    let place = |at: i64| (if at < 0 { at.saturating_add(len as i64).max(0) } else { at.min(len as i64) }) as usize;
    let Ok(step) = usize::try_from(step) else { return wrong(format!("steps of {step}")) };
    if step == 0 {
        return wrong("steps of 0");
    }
    let from = place(start);
    let to = end.map_or(len, place).max(from);
    Ok((from, to, step))
}

/// The ranges that an axis is split into.
pub fn parts(call: &Call<'_>, op: &str, len: usize) -> Out<Vec<(usize, usize)>> {
    let sizes: Vec<usize> = match op {
        "chunk" | "tensor_split" => {
            let count = call.node.int("chunks").or(call.node.int("sections")).unwrap_or(0);
            let Some(count) = usize::try_from(count).ok().filter(|count| *count > 0) else {
                return wrong(format!("{count} parts"));
            };
            if op == "tensor_split" && !len.is_multiple_of(count) {
                return Err(Fail::Unknown);
            }
            pieces(len, len.div_ceil(count).max(1))
        }
        _ => match call.node.arg("split_size") {
            Arg::Int(size) if *size > 0 => pieces(len, *size as usize),
            _ => call.sizes(if call.node.ints("split_sizes").is_some() { "split_sizes" } else { "split_size" })?,
        },
    };
    let mut from = 0usize;
    let mut ranges = vec![];
    for size in sizes {
        let to = from.saturating_add(size);
        ranges.push((from, to));
        from = to;
    }
    if from != len {
        return wrong(format!("parts of {from} do not fill {len}"));
    }
    Ok(ranges)
}

fn pieces(len: usize, size: usize) -> Vec<usize> {
    (0..len.div_ceil(size).max(1)).map(|at| size.min(len - at * size)).collect()
}

/// Arrays side by side along an axis.
pub fn concat(parts: &[Array], axis: usize) -> Out<Array> {
    let first = &parts[0];
    let mut shape = first.shape().to_vec();
    shape[axis] = 0;
    let mut dtype = first.dtype();
    for part in parts {
        if part.rank() != shape.len()
            || part.shape().iter().zip(&shape).enumerate().any(|(at, (a, b))| at != axis && a != b)
        {
            return wrong(format!("{:?} and {:?} are not joined along axis {axis}", first.shape(), part.shape()));
        }
        shape[axis] += part.shape()[axis];
        dtype = dtype.max(part.dtype());
    }
    room(&shape)?;
    let result = Array::of(shape.clone(), vec![0.0; shape.iter().product()], dtype);
    let mut from = 0;
    for part in parts {
        let to = from + part.shape()[axis];
        result.narrow(axis, from, to, 1).write(part);
        from = to;
    }
    Ok(result)
}

fn meshgrid(lines: &[Array], is_xy: bool) -> Out<Vec<Array>> {
    let mut lens: Vec<usize> = lines.iter().map(Array::len).collect();
    if lines.iter().any(|line| line.rank() > 1) {
        return wrong("a grid is made of lines");
    }
    let mut order: Vec<usize> = (0..lines.len()).collect();
    if is_xy && lines.len() >= 2 {
        lens.swap(0, 1);
        order.swap(0, 1);
    }
    room(&lens)?;
    let grid = |at: usize| {
        let axis = order.iter().position(|line| *line == at).unwrap_or(0);
        let mut shape = vec![1; lens.len()];
        shape[axis] = lens[axis];
        let line = lines[at].reshape(&shape);
        line.expand(&lens).map(|grid| grid.copy()).ok_or_else(|| Fail::Wrong("a grid".into()))
    };
    (0..lines.len()).map(grid).collect()
}

/// Calls `visit` with every index, row by row.
pub fn each_index(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        visit(&index);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// The values at the places of each axis.
pub fn pick(x: &Array, places: &[Vec<usize>]) -> Out<Array> {
    let shape: Vec<usize> = places.iter().map(Vec::len).collect();
    room(&shape)?;
    let strides = crate::import::trace::contiguous(x.shape());
    let values = x.to_f64();
    let mut result = Vec::with_capacity(shape.iter().product());
    each_index(&shape, |index| {
        let at: usize = index.iter().zip(places).zip(&strides).map(|((at, places), stride)| places[*at] * stride).sum();
        result.push(values[at]);
    });
    if x.dtype() == Dtype::Int {
        // beyond 2^53 floats are not exact
        let exact = x.to_int();
        let mut result = vec![];
        each_index(&shape, |index| {
            let at: usize =
                index.iter().zip(places).zip(&strides).map(|((at, places), stride)| places[*at] * stride).sum();
            result.push(exact[at]);
        });
        return Ok(Array::int(shape, result));
    }
    Ok(Array::of(shape, result, x.dtype()))
}

fn rolled(x: &Array, moves: &[(usize, i64)]) -> Out<Array> {
    let mut places: Vec<Vec<usize>> = x.shape().iter().map(|len| (0..*len).collect()).collect();
    for (axis, shift) in moves {
        let places = &mut places[*axis];
        if !places.is_empty() {
            let by = shift.rem_euclid(places.len() as i64) as usize;
            places.rotate_right(by);
        }
    }
    pick(x, &places)
}

fn inside(row: i64, len: usize) -> Out<usize> {
    let at = if row < 0 { row.saturating_add(len as i64) } else { row };
    usize::try_from(at)
        .ok()
        .filter(|at| *at < len)
        .ok_or_else(|| Fail::Wrong(format!("there is no place {row} of {len}")))
}

/// `x[i, j, ..]` with tensors for indices, which are broadcast together.
fn index(call: &Call<'_>, x: &Array) -> Out<Array> {
    let Some(values) = call.node.values("indices") else { return wrong("it lacks `indices`") };
    let mut lists: Vec<Option<Array>> = vec![];
    for value in values {
        let list =
            value.map(|value| (call.get)(value).ok_or(Fail::Wrong("an index is not known".into()))).transpose()?;
        match list {
            // places that are true
            Some(mask) if mask.dtype() == Dtype::Bool => {
                let mut places: Vec<Vec<i64>> = vec![vec![]; mask.rank()];
                let flags = mask.to_int();
                let mut at = 0;
                each_index(mask.shape(), |index| {
                    if flags[at] != 0 {
                        places.iter_mut().zip(index).for_each(|(places, at)| places.push(*at as i64));
                    }
                    at += 1;
                });
                lists.extend(places.into_iter().map(|places| Some(Array::int([places.len()], places))));
            }
            other => lists.push(other),
        }
    }
    if lists.len() > x.rank() {
        return wrong(format!("{} indices of {:?}", lists.len(), x.shape()));
    }
    lists.resize(x.rank(), None);
    let given: Vec<usize> = (0..lists.len()).filter(|axis| lists[*axis].is_some()).collect();
    let Some((first, last)) = given.first().zip(given.last()) else { return Ok(x.clone()) };
    let mut common: Vec<usize> = vec![];
    for list in lists.iter().flatten() {
        common = crate::import::array::broadcast(&common, list.shape())
            .ok_or_else(|| Fail::Wrong("indices do not fit together".into()))?;
    }
    room(&common)?;
    let mut rows: Vec<Option<Vec<usize>>> = vec![];
    for (axis, list) in lists.iter().enumerate() {
        rows.push(match list {
            Some(list) => {
                let list = list.expand(&common).ok_or_else(|| Fail::Wrong("indices do not fit together".into()))?;
                Some(list.to_int().into_iter().map(|row| inside(row, x.shape()[axis])).collect::<Out<_>>()?)
            }
            None => None,
        });
    }
    // where the axes with indices are neighbours, theirs stand in their place, else in front
    let at = if given.len() == last - first + 1 { *first } else { 0 };
    let before: Vec<usize> = (0..x.rank()).filter(|axis| rows[*axis].is_none() && *axis < at).collect();
    let after: Vec<usize> = (0..x.rank()).filter(|axis| rows[*axis].is_none() && *axis >= at).collect();
    let lens = |axes: &[usize]| axes.iter().map(|axis| x.shape()[*axis]).collect::<Vec<_>>();
    let shape: Vec<usize> = [lens(&before), common.clone(), lens(&after)].concat();
    room(&shape)?;
    let strides = crate::import::trace::contiguous(x.shape());
    let mut places = Vec::with_capacity(shape.iter().product());
    each_index(&shape, |index| {
        let (head, rest) = index.split_at(before.len());
        let (middle, tail) = rest.split_at(common.len());
        let row = middle.iter().zip(&common).fold(0, |row, (at, len)| row * len + at);
        let mut place = 0;
        for (axis, at) in before.iter().zip(head).chain(after.iter().zip(tail)) {
            place += at * strides[*axis];
        }
        for (rows, stride) in rows.iter().zip(&strides) {
            if let Some(rows) = rows {
                place += rows[row] * stride;
            }
        }
        places.push(place);
    });
    Ok(match x.dtype() {
        Dtype::Int => {
            let values = x.to_int();
            Array::int(shape, places.into_iter().map(|at| values[at]).collect())
        }
        Dtype::Bool => {
            let values = x.to_int();
            Array::new(shape, Data::Bool(places.into_iter().map(|at| values[at] != 0).collect()))
        }
        Dtype::F32 => {
            let values = x.to_f32();
            Array::f32(shape, places.into_iter().map(|at| values[at]).collect())
        }
        Dtype::F64 => {
            let values = x.to_f64();
            Array::of(shape, places.into_iter().map(|at| values[at]).collect(), Dtype::F64)
        }
    })
}

fn pad(call: &Call<'_>, op: &str) -> Out<Vec<Array>> {
    let x = call.array("self")?;
    let Some(sizes) = call.ints("pad").or_else(|| call.ints("padding")) else { return wrong("it lacks `pad`") };
    let mode = match op {
        "reflection_pad2d" => "reflect",
        "replication_pad2d" => "replicate",
        "constant_pad_nd" => "constant",
        _ => call.node.text("mode").unwrap_or("constant"),
    };
    let value = call.float("value", 0.0);
    if sizes.len() % 2 != 0 || sizes.len() > 2 * x.rank() {
        return wrong(format!("{} sizes for {:?}", sizes.len(), x.shape()));
    }
    let mut shape = x.shape().to_vec();
    let mut starts = vec![0i64; x.rank()];
    for (k, pair) in sizes.chunks_exact(2).enumerate() {
        let axis = x.rank() - 1 - k;
        let len = (shape[axis] as i64).saturating_add(pair[0]).saturating_add(pair[1]);
        shape[axis] = usize::try_from(len).or_else(|_| wrong(format!("{len} places are left")))?;
        starts[axis] = pair[0];
    }
    let mut result = Vec::with_capacity(room(&shape)?);
    let (values, strides) = (x.to_f64(), crate::import::trace::contiguous(x.shape()));
    let mut failed = false;
    each_index(&shape, |index| {
        let mut place = Some(0);
        for (axis, at) in index.iter().enumerate() {
            let (at, len) = (*at as i64 - starts[axis], x.shape()[axis] as i64);
            let at = match mode {
                "reflect" if at < 0 => -at,
                "reflect" if at >= len => 2 * (len - 1) - at,
                "replicate" => at.clamp(0, len - 1),
                "circular" => at.rem_euclid(len.max(1)),
                _ => at,
            };
            if (0..len).contains(&at) {
                place = place.map(|place| place + at as usize * strides[axis]);
            } else {
                failed |= mode != "constant";
                place = None;
            }
        }
        result.push(place.map_or(value, |place: usize| values[place]));
    });
    if failed || !["constant", "reflect", "replicate", "circular"].contains(&mode) {
        return wrong(format!("padding of {sizes:?} in mode {mode}"));
    }
    Ok(vec![Array::of(shape, result, x.dtype())])
}
