//! The shapes of what an op of ATen gives: worked out for sums of products, windows and functions, asked of the op itself on a single
//! expanded value for what only moves values.

use super::{Fail, Out, refuse};
use crate::import::array::{Array, Dtype, broadcast};
use crate::import::eval::{self, Call};
use crate::import::trace::{Arg, Node, Value, ValueId};

/// More values than these are not made to find out their number.
const MOST: usize = 1 << 26;

type Described = Vec<(Dtype, Vec<usize>)>;

/// What a node gives: types and shapes.
pub fn infer(node: &Node, values: &[Value]) -> Out<Described> {
    let shape = |name: &str| node.value(name).map(|value| values[value].shape.as_slice());
    let own = |name: &str| shape(name).ok_or_else(|| Fail::Refused(format!("it lacks `{name}`")));
    let float = |shape: Vec<usize>| Ok(vec![(Dtype::F32, shape)]);
    let sides = |name: &str, default: i64, count: usize| -> Out<Vec<usize>> {
        let list = node.ints(name).filter(|list| !list.is_empty()).unwrap_or(vec![default]);
        let list = if list.len() == 1 { vec![list[0]; count] } else { list };
        let sizes: Vec<usize> =
            list.iter().filter_map(|value| usize::try_from(*value).ok().filter(|value| *value < 1 << 31)).collect();
        if sizes.len() == count { Ok(sizes) } else { refuse(format!("`{name}` is {list:?}")) }
    };
    match node.op() {
        "conv2d" | "conv1d" => {
            let (x, weight) = (own("input")?, own("weight")?);
            let places = x.len().saturating_sub(2);
            if x.len() < 3 || weight.len() != x.len() {
                return refuse(format!("weights {weight:?} for {x:?}"));
            }
            let (stride, dilation) = (sides("stride", 1, places)?, sides("dilation", 1, places)?);
            let is_same = matches!(node.arg("padding"), Arg::Text(_));
            let padding = if is_same { vec![0; places] } else { sides("padding", 0, places)? };
            let mut out = vec![x[0], weight[0]];
            for axis in 0..places {
                if is_same {
                    out.push(x[axis + 2].div_ceil(stride[axis].max(1)));
                    continue;
                }
                let reach = weight[axis + 2].saturating_sub(1).saturating_mul(dilation[axis]) + 1;
                let padded = x[axis + 2] + 2 * padding[axis];
                if reach > padded || stride[axis] == 0 {
                    return refuse(format!("a window {weight:?} over {x:?}"));
                }
                out.push((padded - reach) / stride[axis] + 1);
            }
            float(out)
        }
        "conv_transpose2d" => {
            let (x, weight) = (own("input")?, own("weight")?);
            let (&[n, _, h, w], &[_, each, kh, kw]) = (x, weight) else {
                return refuse(format!("weights {weight:?} for {x:?}"));
            };
            let [stride, padding, extra, dilation] = [
                sides("stride", 1, 2)?,
                sides("padding", 0, 2)?,
                sides("output_padding", 0, 2)?,
                sides("dilation", 1, 2)?,
            ];
            let groups = node.int("groups").and_then(|groups| usize::try_from(groups).ok()).unwrap_or(1);
            let side = |len: usize, kernel: usize, axis: usize| {
                let size = (len as i128 - 1) * stride[axis] as i128 - 2 * padding[axis] as i128
                    + dilation[axis] as i128 * (kernel as i128 - 1)
                    + extra[axis] as i128
                    + 1;
                usize::try_from(size)
                    .ok()
                    .filter(|size| *size > 0)
                    .ok_or_else(|| Fail::Refused("nothing is left".into()))
            };
            float(vec![n, each.saturating_mul(groups), side(h, kh, 0)?, side(w, kw, 1)?])
        }
        "linear" => {
            let (x, weight) = (own("input")?, own("weight")?);
            let (Some(features), &[out, columns]) = (x.last(), weight) else {
                return refuse(format!("weights {weight:?}"));
            };
            if *features != columns {
                return refuse(format!("weights {weight:?} for {x:?}"));
            }
            float([&x[..x.len() - 1], &[out]].concat())
        }
        "matmul" => {
            let (a, b) = (own("self")?, own("other")?);
            float(matrices(a, b)?)
        }
        "batch_norm" | "layer_norm" | "rms_norm" | "group_norm" | "instance_norm" => float(own("input")?.to_vec()),
        "scaled_dot_product_attention" => {
            let (q, k, v) = (own("query")?, own("key")?, own("value")?);
            let rank = q.len();
            let fits = rank >= 2 && k.len() == rank && v.len() == rank && q[rank - 1] == k[rank - 1];
            if !fits || k[rank - 2] != v[rank - 2] {
                return refuse(format!("attention of {q:?}, {k:?} and {v:?}"));
            }
            float([&q[..rank - 1], &v[rank - 1..]].concat())
        }
        "max_pool2d" | "avg_pool2d" | "max_pool1d" | "avg_pool1d" => {
            let x = own("self")?;
            let places = x.len().saturating_sub(2);
            let kernel = sides("kernel_size", 0, places)?;
            let stride = if node.ints("stride").is_some_and(|list| !list.is_empty()) {
                sides("stride", 1, places)?
            } else {
                kernel.clone()
            };
            let (padding, dilation) = (sides("padding", 0, places)?, sides("dilation", 1, places)?);
            let ceil = node.bool("ceil_mode").unwrap_or(false);
            let mut out = x.get(..2).unwrap_or(&[]).to_vec();
            for axis in 0..places {
                if stride[axis] == 0 || kernel[axis] == 0 {
                    return refuse("a window of nothing");
                }
                let (len, pad, step) = (x[axis + 2] as i128, padding[axis] as i128, stride[axis] as i128);
                let room = len + 2 * pad - dilation[axis] as i128 * (kernel[axis] as i128 - 1) - 1;
                let mut count = (room + if ceil { step - 1 } else { 0 }).div_euclid(step) + 1;
                if ceil && (count - 1) * step >= len + pad {
                    count -= 1;
                }
                let count = usize::try_from(count).ok().filter(|count| *count > 0);
                out.push(count.ok_or_else(|| Fail::Refused(format!("a window larger than {x:?}")))?);
            }
            float(out)
        }
        "adaptive_avg_pool2d" | "adaptive_max_pool2d" => {
            let x = own("self")?;
            if x.len() != 4 {
                return refuse(format!("{x:?} is no image"));
            }
            float([&x[..2], &sides("output_size", 1, 2)?].concat())
        }
        "upsample_nearest2d"
        | "upsample_bilinear2d"
        | "upsample_bicubic2d"
        | "_upsample_bilinear2d_aa"
        | "_upsample_bicubic2d_aa" => {
            let x = own("input")?;
            let &[n, c, h, w] = x else { return refuse(format!("{x:?} is no image")) };
            if node.ints("output_size").is_some() {
                return float([&[n, c], &sides("output_size", 1, 2)?[..]].concat());
            }
            let factors = node.floats("scale_factors").unwrap_or_default();
            let &[tall, wide] = &factors[..] else { return refuse("no size") };
            float(vec![n, c, (h as f64 * tall).floor() as usize, (w as f64 * wide).floor() as usize])
        }
        "relu" | "relu6" | "silu" | "sigmoid" | "tanh" | "gelu" | "hardswish" | "hardsigmoid" | "leaky_relu"
        | "elu" | "celu" | "selu" | "softplus" | "mish" | "softsign" | "log_sigmoid" | "exp" | "log" | "sqrt"
        | "rsqrt" | "reciprocal" | "square" | "sin" | "cos" | "clamp" | "softmax" | "log_softmax" | "prelu" | "erf" => {
            float(own("self")?.to_vec())
        }
        "abs" | "neg" => {
            let value = node.value("self").ok_or_else(|| Fail::Refused("it lacks `self`".into()))?;
            Ok(vec![(values[value].dtype, values[value].shape.clone())])
        }
        // a number to the power of values, or values to that of a number
        "pow" if node.value("self").is_none() => float(own("exponent")?.to_vec()),
        "pow" if node.value("exponent").is_none() => float(own("self")?.to_vec()),
        "add" | "sub" | "mul" | "div" | "maximum" | "minimum" | "pow" if node.value("self").is_some() => {
            let other = if node.op() == "pow" { "exponent" } else { "other" };
            let (a, b) = (node.value("self"), node.value(other));
            let (Some(a), Some(b)) = (a, b) else { return refuse("it lacks an operand") };
            let (a, b) = (&values[a], &values[b]);
            let shape = broadcast(&a.shape, &b.shape);
            let shape = shape.ok_or_else(|| Fail::Refused(format!("{:?} and {:?} do not fit", a.shape, b.shape)))?;
            Ok(vec![(a.dtype.max(b.dtype), shape)])
        }
        _ => asked(node, values),
    }
}

/// The shape of a product of matrices, as `torch.matmul`.
fn matrices(a: &[usize], b: &[usize]) -> Out<Vec<usize>> {
    let wrong = || Fail::Refused(format!("a product of {a:?} and {b:?}"));
    let (Some(k), Some(_)) = (a.last(), b.last()) else { return Err(wrong()) };
    let rows = if b.len() == 1 { b[0] } else { b[b.len() - 2] };
    if *k != rows {
        return Err(wrong());
    }
    let outer = |dims: &[usize]| dims[..dims.len().saturating_sub(2)].to_vec();
    let mut shape = broadcast(&outer(a), &outer(b)).ok_or_else(wrong)?;
    if a.len() > 1 {
        shape.push(a[a.len() - 2]);
    }
    if b.len() > 1 {
        shape.push(b[b.len() - 1]);
    }
    Ok(shape)
}

/// Asks the op itself, of values that are one each.
fn asked(node: &Node, values: &[Value]) -> Out<Described> {
    let most = node.takes().map(|value| values[value].shape.iter().product::<usize>()).fold(0, usize::saturating_add);
    if most > MOST {
        return refuse(format!("it takes {most} values"));
    }
    let get = |id: ValueId| {
        let value = &values[id];
        Array::of([], vec![1.0], value.dtype).expand(&value.shape)
    };
    match eval::eval(&Call { node, get: &get }) {
        Ok(results) => Ok(results.iter().map(|result| (result.dtype(), result.shape().to_vec())).collect()),
        Err(eval::Fail::Unknown) => Err(Fail::Unknown),
        Err(eval::Fail::Wrong(why)) => refuse(why),
    }
}
