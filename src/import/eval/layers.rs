//! Sums of products, normalisations, windows, resampling.

use super::layout::{each_index, pick};
use super::math::along;
use super::{Array, Call, Dtype, Fail, Out, room, together, work, wrong};
use crate::import::kernels::{self, Conv};
use crate::import::trace::{Arg, contiguous};

pub fn eval(call: &Call<'_>, op: &str) -> Out<Vec<Array>> {
    let one = |array: Array| Ok(vec![array]);
    match op {
        "conv2d" | "conv1d" | "convolution" if !call.bool("transposed", false) => one(conv(call)?),
        "conv_transpose2d" => one(conv_transpose(call)?),
        "linear" => {
            let (x, weight) = (call.array("input")?, call.array("weight")?);
            let bias = call.optional("bias")?.map(|bias| bias.to_f32());
            let (Some(features), [out, columns]) = (x.shape().last(), weight.shape()) else {
                return wrong(format!("weights {:?} for {:?}", weight.shape(), x.shape()));
            };
            if features != columns || bias.as_ref().is_some_and(|bias| bias.len() != *out) {
                return wrong(format!("weights {:?} for {:?}", weight.shape(), x.shape()));
            }
            let mut shape = x.shape().to_vec();
            shape.pop();
            shape.push(*out);
            room(&shape)?;
            let values = kernels::linear(&x.to_f32(), &weight.to_f32(), bias.as_deref(), *features);
            one(Array::f32(shape, values))
        }
        "addmm" => {
            let product = matmul(&call.array("mat1")?, &call.array("mat2")?)?;
            let (a, b) = together(&call.array("self")?, &product)?;
            let (alpha, beta) = (call.float("alpha", 1.0), call.float("beta", 1.0));
            let values = a.to_f64().into_iter().zip(b.to_f64()).map(|(a, b)| beta * a + alpha * b).collect();
            one(Array::of(a.shape(), values, Dtype::F32))
        }
        "matmul" | "mm" => {
            let other = if call.node.value("mat2").is_some() { "mat2" } else { "other" };
            one(matmul(&call.array("self")?, &call.array(other)?)?)
        }
        "bmm" => one(matmul(&call.array("self")?, &call.array("mat2")?)?),
        "einsum" => {
            let Some(equation) = call.node.text("equation") else { return wrong("it lacks its equation") };
            one(einsum(equation, &call.arrays("tensors")?)?)
        }
        "batch_norm" | "instance_norm" => one(batch_norm(call, op)?),
        "layer_norm" | "rms_norm" => one(layer_norm(call, op)?),
        "group_norm" => one(group_norm(call)?),
        "prelu" | "_prelu_kernel" => {
            let (x, slopes) = (call.array("self")?, call.array("weight")?.to_f64());
            let channels = x.shape().get(1).copied().unwrap_or(1);
            if slopes.len() != 1 && slopes.len() != channels {
                return wrong(format!("{} slopes for {:?}", slopes.len(), x.shape()));
            }
            let inner: usize = x.shape().iter().skip(2).product();
            let values = x.to_f64().into_iter().enumerate().map(|(at, value)| {
                let slope = if slopes.len() == 1 { slopes[0] } else { slopes[at / inner.max(1) % channels] };
                if value > 0.0 { value } else { slope * value }
            });
            one(Array::of(x.shape(), values.collect(), Dtype::F32))
        }
        "max_pool2d" | "max_pool2d_with_indices" | "avg_pool2d" | "avg_pool1d" | "max_pool1d" => one(pool(call, op)?),
        "adaptive_avg_pool2d" | "adaptive_avg_pool1d" | "adaptive_max_pool2d" | "_adaptive_avg_pool2d" => {
            one(adaptive(call, op)?)
        }
        "upsample_nearest2d"
        | "upsample_bilinear2d"
        | "upsample_bicubic2d"
        | "upsample_linear1d"
        | "upsample_nearest1d"
        | "_upsample_bicubic2d_aa"
        | "_upsample_bilinear2d_aa" => one(upsample(call, op)?),
        "scaled_dot_product_attention" => one(attention(call)?),
        "im2col" => one(im2col(call)?),
        "col2im" => one(col2im(call)?),
        "pixel_shuffle" | "pixel_unshuffle" => {
            let x = call.array("self")?;
            let factor = call.int("upscale_factor", call.int("downscale_factor", 0));
            let (Ok(r), &[n, c, h, w]) = (usize::try_from(factor), x.shape()) else { return wrong("no image") };
            if op == "pixel_shuffle" {
                if r == 0 || c % (r * r) != 0 {
                    return wrong(format!("{c} channels by {r}"));
                }
                let split = x.reshape(&[n, c / (r * r), r, r, h, w]).permute(&[0, 1, 4, 2, 5, 3]);
                return one(split.reshape(&[n, c / (r * r), h * r, w * r]));
            }
            if r == 0 || h % r != 0 || w % r != 0 {
                return wrong(format!("{h} x {w} by {r}"));
            }
            let split = x.reshape(&[n, c, h / r, r, w / r, r]).permute(&[0, 1, 3, 5, 2, 4]);
            one(split.reshape(&[n, c * r * r, h / r, w / r]))
        }
        "channel_shuffle" => {
            let x = call.array("self")?;
            let groups = usize::try_from(call.int("groups", 0)).unwrap_or(0);
            if x.rank() < 3 || groups == 0 || x.shape()[1] % groups != 0 {
                return wrong(format!("{:?} in {groups} groups", x.shape()));
            }
            let (n, c) = (x.shape()[0], x.shape()[1]);
            let inner = x.shape()[2..].iter().product();
            let split = x.reshape(&[n, groups, c / groups, inner]).permute(&[0, 2, 1, 3]);
            one(split.reshape(x.shape()))
        }
        _ => Err(Fail::Unknown),
    }
}

/// A list of two, one number for both, or a default.
fn pair(call: &Call<'_>, name: &str, default: i64) -> Out<[usize; 2]> {
    let list = call.ints(name).filter(|list| !list.is_empty()).unwrap_or(vec![default]);
    let size = |value: i64| usize::try_from(value).or_else(|_| wrong(format!("`{name}` is {value}")));
    match list.as_slice() {
        [one] => Ok([size(*one)?; 2]),
        [a, b] => Ok([size(*a)?, size(*b)?]),
        _ => wrong(format!("`{name}` has {} numbers", list.len())),
    }
}

/// A line as an image one pixel high.
fn high(x: &Array) -> Array {
    x.unsqueeze(x.rank() - 1)
}

fn conv(call: &Call<'_>) -> Out<Array> {
    let (x, weight) = (call.array("input")?, call.array("weight")?);
    let bias = call.optional("bias")?.map(|bias| bias.to_f32());
    let is_line = weight.rank() == 3;
    let (x, weight) = if is_line && x.rank() == 3 { (high(&x), high(&weight)) } else { (x, weight) };
    let (&[n, c, h, w], &[out, each, kh, kw]) = (x.shape(), weight.shape()) else {
        return wrong(format!("weights {:?} for {:?}", weight.shape(), x.shape()));
    };
    // along a line the height has neither padding nor steps
    let along = |name: &str, default: i64, high: usize| -> Out<[usize; 2]> {
        let both = pair(call, name, default)?;
        Ok(if is_line { [high, both[1]] } else { both })
    };
    let (stride, dilation) = (along("stride", 1, 1)?, along("dilation", 1, 1)?);
    let groups = usize::try_from(call.int("groups", 1)).unwrap_or(0);
    let reach = [kh, kw].map(|kernel| kernel.saturating_sub(1));
    let span = [reach[0].checked_mul(dilation[0]), reach[1].checked_mul(dilation[1])];
    let [Some(tall), Some(wide)] = span else { return wrong("a window beyond bounds") };
    let (before, after) = match call.node.arg("padding") {
        Arg::Text(word) if word == "same" => {
            let before = [tall / 2, wide / 2];
            (before, [tall - before[0], wide - before[1]])
        }
        // TensorFlow's, where strides are counted and the odd pixel goes right and below
        Arg::Text(word) if word == "same_upper" => {
            let needed = [(0, h, tall), (1, w, wide)].map(|(axis, len, span)| {
                let out = len.div_ceil(stride[axis].max(1)).max(1);
                ((out - 1).saturating_mul(stride[axis]).saturating_add(span + 1)).saturating_sub(len)
            });
            let before = needed.map(|needed| needed / 2);
            (before, [needed[0] - before[0], needed[1] - before[1]])
        }
        Arg::Text(_) => ([0, 0], [0, 0]),
        _ => {
            let both = along("padding", 0, 0)?;
            (both, both)
        }
    };
    let fits = groups > 0 && c == each * groups && out % groups == 0 && stride[0] > 0 && stride[1] > 0;
    if !fits || kh == 0 || kw == 0 || bias.as_ref().is_some_and(|bias| bias.len() != out) {
        return wrong(format!("weights {:?} in {groups} groups for {:?}", weight.shape(), x.shape()));
    }
    let side = |axis: usize, len: usize, span: usize| {
        let room = len.checked_add(before[axis])?.checked_add(after[axis])?.checked_sub(span + 1)?;
        Some(room / stride[axis] + 1)
    };
    let (Some(oh), Some(ow)) = (side(0, h, tall), side(1, w, wide)) else {
        return wrong(format!("the window of {:?} is larger than {:?}", weight.shape(), x.shape()));
    };
    let shape = if is_line { vec![n, out, ow] } else { vec![n, out, oh, ow] };
    room(&[n, out, oh, ow])?;
    room(&[ow, each, kh, kw])?;
    work(&[n, out, oh, ow, each, kh, kw])?;
    let conv =
        Conv { input: [n, c, h, w], weight: [out, each, kh, kw], stride, before, dilation, groups, output: [oh, ow] };
    Ok(Array::f32(shape, kernels::conv2d(&x.to_f32(), &weight.to_f32(), bias.as_deref(), &conv)))
}

fn conv_transpose(call: &Call<'_>) -> Out<Array> {
    let (x, weight) = (call.array("input")?, call.array("weight")?);
    let bias = call.optional("bias")?.map(|bias| bias.to_f64());
    let (&[n, c, h, w], &[from, each, kh, kw]) = (x.shape(), weight.shape()) else { return wrong("no image") };
    let [stride, padding, extra, dilation] = [
        pair(call, "stride", 1)?,
        pair(call, "padding", 0)?,
        pair(call, "output_padding", 0)?,
        pair(call, "dilation", 1)?,
    ];
    let groups = usize::try_from(call.int("groups", 1)).unwrap_or(0);
    if groups == 0 || from != c || c % groups != 0 || kh == 0 || kw == 0 || h == 0 || w == 0 {
        return wrong(format!("weights {:?} for {:?}", weight.shape(), x.shape()));
    }
    let out = each * groups;
    let side = |len: usize, kernel: usize, axis: usize| {
        let [stride, padding, extra, dilation] = [stride, padding, extra, dilation].map(|both| both[axis] as i128);
        let size = (len as i128 - 1) * stride - 2 * padding + dilation * (kernel as i128 - 1) + extra + 1;
        usize::try_from(size).ok()
    };
    let (Some(oh), Some(ow)) = (side(h, kh, 0), side(w, kw, 1)) else { return wrong("nothing is left") };
    work(&[n, c, h, w, each, kh, kw])?;
    let mut sums = vec![0f64; room(&[n, out, oh, ow])?];
    if let Some(bias) = &bias {
        if bias.len() != out {
            return wrong("a bias of another length");
        }
        for (at, sum) in sums.iter_mut().enumerate() {
            *sum = bias[at / (oh * ow).max(1) % out];
        }
    }
    let (values, weight) = (x.to_f64(), weight.to_f64());
    let per_group = c / groups;
    for (at, value) in values.iter().enumerate() {
        let (sample, channel, y, x_at) = (at / (c * h * w), at / (h * w) % c, at / w % h, at % w);
        for k in 0..each {
            for r in 0..kh {
                let Some(to_y) = (y * stride[0] + r * dilation[0]).checked_sub(padding[0]).filter(|y| *y < oh) else {
                    continue;
                };
                for s in 0..kw {
                    let to_x = (x_at * stride[1] + s * dilation[1]).checked_sub(padding[1]).filter(|x| *x < ow);
                    let Some(to_x) = to_x else { continue };
                    let plane = sample * out + channel / per_group * each + k;
                    sums[(plane * oh + to_y) * ow + to_x] += value * weight[((channel * each + k) * kh + r) * kw + s];
                }
            }
        }
    }
    Ok(Array::of([n, out, oh, ow], sums, Dtype::F32))
}

/// As `torch.matmul`.
pub fn matmul(a: &Array, b: &Array) -> Out<Array> {
    if a.rank() == 0 || b.rank() == 0 {
        return wrong("numbers are no matrices");
    }
    let (a_wide, b_wide) = (
        if a.rank() == 1 { a.unsqueeze(0) } else { a.clone() },
        if b.rank() == 1 { b.unsqueeze(1) } else { b.clone() },
    );
    let split = |x: &Array| {
        let (outer, inner) = x.shape().split_at(x.rank() - 2);
        (outer.to_vec(), inner[0], inner[1])
    };
    let ((a_outer, m, k), (b_outer, k_too, n)) = (split(&a_wide), split(&b_wide));
    let outer = crate::import::array::broadcast(&a_outer, &b_outer);
    let (Some(outer), true) = (outer, k == k_too) else {
        return wrong(format!("{:?} times {:?}", a.shape(), b.shape()));
    };
    let count: usize = outer.iter().product();
    let shape = [outer.clone(), vec![m, n]].concat();
    let mut out = vec![0f32; room(&shape)?];
    let full = |x: &Array, tail: [usize; 2]| x.expand(&[outer.clone(), tail.to_vec()].concat());
    let (Some(left), Some(right)) = (full(&a_wide, [m, k]), full(&b_wide, [k, n])) else {
        return wrong(format!("{:?} times {:?}", a.shape(), b.shape()));
    };
    work(&[count, m, k, n])?;
    room(left.shape())?;
    room(right.shape())?;
    let (left, right) = (left.to_f32(), right.to_f32());
    if m * n > 0 {
        for at in 0..count {
            let (a, b) = (&left[at * m * k..][..m * k], &right[at * k * n..][..k * n]);
            kernels::matmul(a, b, [m, k, n], &mut out[at * m * n..][..m * n]);
        }
    }
    let mut shape = shape;
    if b.rank() == 1 {
        shape.pop();
    }
    if a.rank() == 1 {
        shape.remove(shape.len() - if b.rank() == 1 { 1 } else { 2 });
    }
    Ok(Array::f32(shape, out))
}

/// `torch.einsum` of one or two tensors, each letter once in each.
fn einsum(equation: &str, tensors: &[Array]) -> Out<Array> {
    let equation: String = equation.chars().filter(|letter| !letter.is_whitespace()).collect();
    let Some((inputs, output)) = equation.split_once("->") else { return Err(Fail::Unknown) };
    let inputs: Vec<Vec<char>> = inputs.split(',').map(|letters| letters.chars().collect()).collect();
    let output: Vec<char> = output.chars().collect();
    if inputs.len() != tensors.len()
        || inputs.iter().flatten().chain(&output).any(|letter| !letter.is_ascii_alphabetic())
    {
        return Err(Fail::Unknown);
    }
    let mut letters: Vec<(char, usize)> = vec![];
    for (names, tensor) in inputs.iter().zip(tensors) {
        if names.len() != tensor.rank() {
            return wrong("an equation for other axes");
        }
        for (at, (name, len)) in names.iter().zip(tensor.shape()).enumerate() {
            if names[..at].contains(name) {
                return Err(Fail::Unknown);
            }
            match letters.iter().find(|(known, _)| known == name) {
                Some((_, known)) if known != len => return wrong(format!("`{name}` has two lengths")),
                Some(_) => {}
                None => letters.push((*name, *len)),
            }
        }
    }
    let len_of = |name: char| letters.iter().find(|(known, _)| *known == name).map(|(_, len)| *len);
    let Some(shape) = output.iter().map(|name| len_of(*name)).collect::<Option<Vec<usize>>>() else {
        return wrong("an axis out of nothing");
    };
    let summed: Vec<char> = letters.iter().map(|(name, _)| *name).filter(|name| !output.contains(name)).collect();
    let inner: Vec<usize> = summed.iter().filter_map(|name| len_of(*name)).collect();
    work(&[&shape[..], &inner].concat())?;
    let views: Vec<(Vec<f64>, Vec<usize>, Vec<usize>)> = inputs
        .iter()
        .zip(tensors)
        .map(|(names, tensor)| {
            let strides = contiguous(tensor.shape());
            let step = |name: &char| names.iter().position(|own| own == name).map_or(0, |at| strides[at]);
            (tensor.to_f64(), output.iter().map(step).collect(), summed.iter().map(step).collect())
        })
        .collect();
    let mut result = Vec::with_capacity(room(&shape)?);
    each_index(&shape, |index| {
        let bases: Vec<usize> =
            views.iter().map(|(_, outer, _)| index.iter().zip(outer).map(|(at, step)| at * step).sum()).collect();
        let mut total = 0.0;
        each_index(&inner, |index| {
            let mut product = 1.0;
            for ((values, _, steps), base) in views.iter().zip(&bases) {
                product *= values[base + index.iter().zip(steps).map(|(at, step)| at * step).sum::<usize>()];
            }
            total += product;
        });
        result.push(total);
    });
    Ok(Array::of(shape, result, Dtype::F32))
}

/// A value for each channel, or a default.
fn by_channel(call: &Call<'_>, name: &str, channels: usize) -> Out<Option<Vec<f64>>> {
    let found = call.optional(name)?.map(|array| array.to_f64());
    match found {
        Some(values) if values.len() != channels => {
            wrong(format!("{} values of `{name}` for {channels}", values.len()))
        }
        found => Ok(found),
    }
}

fn batch_norm(call: &Call<'_>, op: &str) -> Out<Array> {
    let x = call.array("input")?;
    let Some(channels) = x.shape().get(1).copied() else { return wrong("it needs channels") };
    let eps = call.float("eps", 1e-5);
    let [weight, bias, mean, variance] = [
        by_channel(call, "weight", channels)?,
        by_channel(call, "bias", channels)?,
        by_channel(call, "running_mean", channels)?,
        by_channel(call, "running_var", channels)?,
    ];
    let inner: usize = x.shape()[2..].iter().product();
    let mut values = x.to_f64();
    let by_sample = op == "instance_norm";
    let own = call.bool("training", false) || call.bool("use_input_stats", false) || mean.is_none();
    let samples = x.shape()[0];
    for channel in 0..channels {
        let groups: Vec<Vec<usize>> = match by_sample {
            true => (0..samples).map(|sample| vec![sample]).collect(),
            false => vec![(0..samples).collect()],
        };
        for group in groups {
            let places = || {
                group
                    .iter()
                    .flat_map(|sample| (sample * channels + channel) * inner..(sample * channels + channel + 1) * inner)
            };
            let (center, spread) = match (&mean, &variance) {
                (Some(mean), Some(variance)) if !own => (mean[channel], variance[channel]),
                _ => {
                    let count = (group.len() * inner).max(1) as f64;
                    let center = places().map(|at| values[at]).sum::<f64>() / count;
                    (center, places().map(|at| (values[at] - center).powi(2)).sum::<f64>() / count)
                }
            };
            let scale = weight.as_ref().map_or(1.0, |weight| weight[channel]) / (spread + eps).sqrt();
            let shift = bias.as_ref().map_or(0.0, |bias| bias[channel]);
            for at in places() {
                values[at] = (values[at] - center) * scale + shift;
            }
        }
    }
    Ok(Array::of(x.shape(), values, Dtype::F32))
}

fn layer_norm(call: &Call<'_>, op: &str) -> Out<Array> {
    let x = call.array("input")?;
    let normalized = call.sizes("normalized_shape")?;
    let size: usize = normalized.iter().product();
    if size == 0 || !x.shape().ends_with(&normalized) {
        return wrong(format!("{normalized:?} of {:?}", x.shape()));
    }
    let (weight, bias) = (by_channel(call, "weight", size)?, by_channel(call, "bias", size)?);
    // PyTorch's default of an RMS norm is what float32 tells from 1
    let eps = call.float("eps", if op == "rms_norm" { f64::from(f32::EPSILON) } else { 1e-5 });
    let mut values = x.to_f64();
    for row in values.chunks_exact_mut(size) {
        let center = if op == "rms_norm" { 0.0 } else { row.iter().sum::<f64>() / size as f64 };
        let spread = row.iter().map(|value| (value - center).powi(2)).sum::<f64>() / size as f64;
        let scale = 1.0 / (spread + eps).sqrt();
        for (at, value) in row.iter_mut().enumerate() {
            *value = (*value - center) * scale * weight.as_ref().map_or(1.0, |weight| weight[at])
                + bias.as_ref().map_or(0.0, |bias| bias[at]);
        }
    }
    Ok(Array::of(x.shape(), values, Dtype::F32))
}

fn group_norm(call: &Call<'_>) -> Out<Array> {
    let x = call.array("input")?;
    let groups = usize::try_from(call.int("num_groups", 0)).unwrap_or(0);
    let Some(channels) = x.shape().get(1).copied() else { return wrong("it needs channels") };
    if groups == 0 || channels % groups != 0 {
        return wrong(format!("{channels} channels in {groups} groups"));
    }
    let (weight, bias) = (by_channel(call, "weight", channels)?, by_channel(call, "bias", channels)?);
    let eps = call.float("eps", 1e-5);
    let inner: usize = x.shape()[2..].iter().product();
    let size = channels / groups * inner;
    let mut values = x.to_f64();
    for (group, part) in values.chunks_exact_mut(size.max(1)).enumerate() {
        let center = part.iter().sum::<f64>() / size as f64;
        let spread = part.iter().map(|value| (value - center).powi(2)).sum::<f64>() / size as f64;
        let scale = 1.0 / (spread + eps).sqrt();
        for (at, value) in part.iter_mut().enumerate() {
            let channel = group % groups * (channels / groups) + at / inner.max(1);
            *value = (*value - center) * scale * weight.as_ref().map_or(1.0, |weight| weight[channel])
                + bias.as_ref().map_or(0.0, |bias| bias[channel]);
        }
    }
    Ok(Array::of(x.shape(), values, Dtype::F32))
}

fn pool(call: &Call<'_>, op: &str) -> Out<Array> {
    let is_line = op.ends_with("1d");
    let x = call.array("self")?;
    if x.rank() < 2 {
        return wrong("no image");
    }
    let x = if is_line { high(&x) } else { x };
    if x.rank() < 3 {
        return wrong("no image");
    }
    let (outer, inner) = x.shape().split_at(x.rank() - 2);
    let (h, w, planes) = (inner[0], inner[1], outer.iter().product::<usize>());
    let along = |name: &str, default: i64, high: usize| -> Out<[usize; 2]> {
        let both = pair(call, name, default)?;
        Ok(if is_line { [high, both[1]] } else { both })
    };
    let kernel = along("kernel_size", 1, 1)?;
    let stride = match call.ints("stride") {
        Some(list) if !list.is_empty() => along("stride", 1, 1)?,
        _ => kernel,
    };
    let (padding, dilation) = (along("padding", 0, 0)?, along("dilation", 1, 1)?);
    let ceil = call.bool("ceil_mode", false);
    let counts_padding = call.bool("count_include_pad", true);
    let divisor = call.node.int("divisor_override");
    if kernel.contains(&0) || stride.contains(&0) || dilation.contains(&0) {
        return wrong("a window of nothing");
    }
    let side = |axis: usize, len: usize| -> Option<usize> {
        let [kernel, stride, padding, dilation] = [kernel, stride, padding, dilation].map(|both| both[axis] as i128);
        let room = len as i128 + 2 * padding - dilation * (kernel - 1) - 1 + if ceil { stride - 1 } else { 0 };
        let mut count = room.div_euclid(stride) + 1;
        if ceil && (count - 1) * stride >= len as i128 + padding {
            count -= 1;
        }
        usize::try_from(count).ok()
    };
    let (Some(oh), Some(ow)) = (side(0, h), side(1, w)) else { return wrong("the window is larger than the image") };
    work(&[planes, oh, ow, kernel[0], kernel[1]])?;
    let mut result = Vec::with_capacity(room(&[planes, oh, ow])?);
    let values = x.to_f64();
    let is_max = op.starts_with("max");
    for plane in 0..planes {
        for oy in 0..oh {
            for ox in 0..ow {
                let start = [(oy * stride[0]) as i64 - padding[0] as i64, (ox * stride[1]) as i64 - padding[1] as i64];
                let (mut best, mut sum, mut count) = (f64::NEG_INFINITY, 0.0, 0usize);
                for r in 0..kernel[0] {
                    for s in 0..kernel[1] {
                        let (y, x_at) = (start[0] + (r * dilation[0]) as i64, start[1] + (s * dilation[1]) as i64);
                        if (0..h as i64).contains(&y) && (0..w as i64).contains(&x_at) {
                            let value = values[(plane * h + y as usize) * w + x_at as usize];
                            if value > best || value.is_nan() {
                                best = value;
                            }
                            sum += value;
                            count += 1;
                        }
                    }
                }
                let reach = |axis: usize, len: usize| {
                    let end = (start[axis] + kernel[axis] as i64).min((len + padding[axis]) as i64);
                    end - start[axis]
                };
                let all = reach(0, h) * reach(1, w);
                let by = divisor.unwrap_or(if counts_padding { all } else { count as i64 });
                result.push(if is_max { best } else { sum / by as f64 });
            }
        }
    }
    let tail = if is_line { vec![ow] } else { vec![oh, ow] };
    let outer = outer.to_vec();
    Ok(Array::of([outer, tail].concat(), result, Dtype::F32))
}

fn adaptive(call: &Call<'_>, op: &str) -> Out<Array> {
    let is_line = op.ends_with("1d");
    let x = call.array("self")?;
    let x = if is_line && x.rank() > 1 { high(&x) } else { x };
    if x.rank() < 3 {
        return wrong("no image");
    }
    let (outer, inner) = x.shape().split_at(x.rank() - 2);
    let (h, w, planes) = (inner[0], inner[1], outer.iter().product::<usize>());
    let [oh, ow] = if is_line { [1, pair(call, "output_size", 1)?[1]] } else { pair(call, "output_size", 1)? };
    let values = x.to_f64();
    let mut result = Vec::with_capacity(room(&[planes, oh, ow])?);
    let window = |at: usize, len: usize, parts: usize| at * len / parts..((at + 1) * len).div_ceil(parts);
    for plane in 0..planes {
        for oy in 0..oh {
            for ox in 0..ow {
                let (rows, columns) = (window(oy, h, oh), window(ox, w, ow));
                let pixels = rows.clone().flat_map(|y| columns.clone().map(move |x| (y, x)));
                let pixels = pixels.map(|(y, x)| values[(plane * h + y) * w + x]);
                let count = (rows.len() * columns.len()) as f64;
                result.push(if op.contains("max") {
                    pixels.fold(f64::NEG_INFINITY, f64::max)
                } else {
                    pixels.sum::<f64>() / count
                });
            }
        }
    }
    let tail = if is_line { vec![ow] } else { vec![oh, ow] };
    let outer = outer.to_vec();
    Ok(Array::of([outer, tail].concat(), result, Dtype::F32))
}

/// The weights of the pixels that make a pixel of the output.
type Mix = Vec<(usize, f64)>;

fn mixes(from: usize, to: usize, scale: Option<f64>, mode: &str, corners: bool) -> Vec<Mix> {
    let ratio = match (corners, scale) {
        (true, _) if to > 1 => (from as f64 - 1.0) / (to as f64 - 1.0),
        (true, _) => 0.0,
        (false, Some(scale)) if scale > 0.0 => 1.0 / scale,
        _ => from as f64 / to as f64,
    };
    let clamp = |at: f64| at.clamp(0.0, from as f64 - 1.0) as usize;
    let place = |at: usize| if corners { at as f64 * ratio } else { (at as f64 + 0.5) * ratio - 0.5 };
    let cubic = |t: f64, a: f64| {
        let t = t.abs();
        if t <= 1.0 {
            ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0
        } else if t < 2.0 {
            ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a
        } else {
            0.0
        }
    };
    let mix = |at: usize| -> Mix {
        match mode {
            "nearest" => vec![(clamp((at as f64 * ratio).floor()), 1.0)],
            "linear" => {
                let at = place(at).max(0.0);
                let low = at.floor();
                vec![(clamp(low), 1.0 - (at - low)), (clamp(low + 1.0), at - low)]
            }
            "cubic" => {
                let at = place(at);
                let low = at.floor();
                (-1..3).map(|k| (clamp(low + k as f64), cubic(at - low - k as f64, -0.75))).collect()
            }
            // antialiased: the kernel is as wide as a step of the output
            _ => {
                let wide = ratio.max(1.0);
                let (reach, a) = if mode == "linear_aa" { (wide, 0.0) } else { (2.0 * wide, -0.5) };
                let center = ratio * (at as f64 + 0.5);
                let (lo, hi) =
                    ((center - reach + 0.5).floor().max(0.0), (center + reach + 0.5).floor().min(from as f64));
                let mut mix: Mix = vec![];
                for pixel in lo as usize..hi as usize {
                    let t = (pixel as f64 - center + 0.5) / wide;
                    let weight = if mode == "linear_aa" { (1.0 - t.abs()).max(0.0) } else { cubic(t, a) };
                    mix.push((pixel, weight));
                }
                let total: f64 = mix.iter().map(|(_, weight)| weight).sum();
                mix.iter_mut().for_each(|(_, weight)| *weight /= total);
                mix
            }
        }
    };
    (0..to).map(mix).collect()
}

fn upsample(call: &Call<'_>, op: &str) -> Out<Array> {
    let is_line = op.ends_with("1d");
    let x = call.array("input").or_else(|_| call.array("self"))?;
    let x = if is_line && x.rank() > 1 { high(&x) } else { x };
    let &[n, c, h, w] = x.shape() else { return wrong("no image") };
    let factors = call.node.floats("scale_factors").filter(|list| !list.is_empty());
    let scale = |axis: usize| {
        let list = factors.as_ref()?;
        if is_line { if axis == 0 { Some(1.0) } else { list.first().copied() } } else { list.get(axis).copied() }
    };
    let size = call.ints("output_size").filter(|list| !list.is_empty());
    let side = |axis: usize, len: usize| -> Out<usize> {
        if is_line && axis == 0 {
            return Ok(1);
        }
        let asked = size.as_ref().and_then(|list| list.get(if is_line { 0 } else { axis }).copied());
        let len = asked.map_or_else(|| (len as f64 * scale(axis).unwrap_or(1.0)).floor(), |len| len as f64);
        if (1.0..1e9).contains(&len) { Ok(len as usize) } else { wrong(format!("an image of {len} pixels")) }
    };
    let (oh, ow) = (side(0, h)?, side(1, w)?);
    if h == 0 || w == 0 {
        return wrong("no image");
    }
    room(&[n, c, oh, ow])?;
    let mode = match op {
        _ if op.contains("nearest") => "nearest",
        "_upsample_bicubic2d_aa" => "cubic_aa",
        "_upsample_bilinear2d_aa" => "linear_aa",
        _ if op.contains("bicubic") => "cubic",
        _ => "linear",
    };
    let corners = call.bool("align_corners", false);
    // a size that was asked for counts, not the factor that led to it
    let factor = |axis: usize| if size.is_some() { None } else { scale(axis) };
    let rows = mixes(h, oh, factor(0), mode, corners);
    let columns = mixes(w, ow, factor(1), mode, corners);
    let values = x.to_f64();
    let mut result = Vec::with_capacity(n * c * oh * ow);
    for plane in values.chunks_exact(h * w) {
        let mut lines = vec![0.0; h * ow];
        for y in 0..h {
            for (ox, mix) in columns.iter().enumerate() {
                lines[y * ow + ox] = mix.iter().map(|(at, weight)| plane[y * w + at] * weight).sum();
            }
        }
        for mix in &rows {
            for ox in 0..ow {
                result.push(mix.iter().map(|(at, weight)| lines[at * ow + ox] * weight).sum());
            }
        }
    }
    let shape = if is_line { vec![n, c, ow] } else { vec![n, c, oh, ow] };
    Ok(Array::of(shape, result, Dtype::F32))
}

fn attention(call: &Call<'_>) -> Out<Array> {
    let (q, mut k, mut v) = (call.array("query")?, call.array("key")?, call.array("value")?);
    if q.rank() < 2 || k.rank() != q.rank() || v.rank() != q.rank() {
        return wrong("queries, keys and values of different ranks");
    }
    let rank = q.rank();
    if call.bool("enable_gqa", false) && rank >= 3 {
        let repeat = |x: &Array| -> Out<Array> {
            let (own, all) = (x.shape()[rank - 3], q.shape()[rank - 3]);
            if own == 0 || all % own != 0 {
                return wrong("heads that do not divide");
            }
            let mut places: Vec<Vec<usize>> = x.shape().iter().map(|len| (0..*len).collect()).collect();
            places[rank - 3] = (0..all).map(|head| head * own / all).collect();
            pick(x, &places)
        };
        (k, v) = (repeat(&k)?, repeat(&v)?);
    }
    let dim = q.shape()[rank - 1];
    let scale = call.node.float("scale").unwrap_or(1.0 / (dim as f64).sqrt());
    let (queries, keys) = (q.shape()[rank - 2], k.shape()[rank - 2]);
    let mut mask = call.optional("attn_mask")?;
    // where it is true a key is seen
    if let Some(seen) = mask.as_ref().filter(|mask| mask.dtype() == Dtype::Bool) {
        let bias = seen.to_f64().into_iter().map(|seen| if seen == 0.0 { f64::NEG_INFINITY } else { 0.0 });
        mask = Some(Array::of(seen.shape(), bias.collect(), Dtype::F32));
    }
    if call.bool("is_causal", false) {
        room(&[queries, keys])?;
        let seen = |at: usize| if at % keys > at / keys { f64::NEG_INFINITY } else { 0.0 };
        mask = Some(Array::of([queries, keys], (0..queries * keys).map(seen).collect(), Dtype::F32));
    }
    attend(&q, &k, &v, mask.as_ref(), scale)
}

/// softmax(q k^T scale + mask) v
pub fn attend(q: &Array, k: &Array, v: &Array, mask: Option<&Array>, scale: f64) -> Out<Array> {
    let rank = k.rank();
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(rank - 1, rank - 2);
    let scores = matmul(q, &k.permute(&order))?;
    let mut values: Vec<f64> = scores.to_f64().into_iter().map(|value| value * scale).collect();
    if let Some(mask) = mask {
        let Some(mask) = mask.expand(scores.shape()) else { return wrong(format!("a mask {:?}", mask.shape())) };
        values.iter_mut().zip(mask.to_f64()).for_each(|(value, mask)| *value += mask);
    }
    along(scores.shape(), scores.rank() - 1, |lane| {
        let lane: Vec<usize> = lane.collect();
        let max = lane.iter().map(|at| values[*at]).fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = lane.iter().map(|at| (values[*at] - max).exp()).sum();
        lane.into_iter().for_each(|at| values[at] = (values[at] - max).exp() / total);
    });
    let weights = Array::of(scores.shape(), values, Dtype::F32);
    matmul(&weights, v)
}

/// The window of im2col: kernel, dilation, padding, stride.
fn window(call: &Call<'_>) -> Out<[[usize; 2]; 4]> {
    let window = [
        pair(call, "kernel_size", 1)?,
        pair(call, "dilation", 1)?,
        pair(call, "padding", 0)?,
        pair(call, "stride", 1)?,
    ];
    if window[0].contains(&0) || window[3].contains(&0) {
        return wrong("a window of nothing");
    }
    Ok(window)
}

/// How many windows lie along each axis.
fn counts([kernel, dilation, padding, stride]: [[usize; 2]; 4], size: [usize; 2]) -> Out<[usize; 2]> {
    let count = |axis: usize| {
        let reach = dilation[axis].checked_mul(kernel[axis] - 1)?.checked_add(1)?;
        let room = size[axis].checked_add(padding[axis].checked_mul(2)?)?.checked_sub(reach)?;
        Some(room / stride[axis] + 1)
    };
    match [count(0), count(1)] {
        [Some(rows), Some(columns)] => Ok([rows, columns]),
        _ => wrong("the window is larger than the image"),
    }
}

fn im2col(call: &Call<'_>) -> Out<Array> {
    let x = call.array("self")?;
    let &[n, c, h, w] = x.shape() else { return wrong("no image") };
    let all @ [kernel, dilation, padding, stride] = window(call)?;
    let [rows, columns] = counts(all, [h, w])?;
    let shape = [n, c * kernel[0] * kernel[1], rows * columns];
    let values = x.to_f64();
    let mut result = Vec::with_capacity(room(&shape)?);
    each_index(&[n, c, kernel[0], kernel[1], rows, columns], |index| {
        let &[n, channel, r, s, oy, ox] = index else { return };
        let y = (oy * stride[0] + r * dilation[0]).checked_sub(padding[0]).filter(|y| *y < h);
        let x_at = (ox * stride[1] + s * dilation[1]).checked_sub(padding[1]).filter(|x| *x < w);
        result.push(y.zip(x_at).map_or(0.0, |(y, x_at)| values[((n * c + channel) * h + y) * w + x_at]));
    });
    Ok(Array::of(shape, result, Dtype::F32))
}

fn col2im(call: &Call<'_>) -> Out<Array> {
    let x = call.array("self")?;
    let &[n, rows_all, count] = x.shape() else { return wrong("no columns") };
    let [h, w] = pair(call, "output_size", 1)?;
    let all @ [kernel, dilation, padding, stride] = window(call)?;
    let [rows, columns] = counts(all, [h, w])?;
    let taps = kernel[0] * kernel[1];
    if rows_all % taps != 0 || rows * columns != count {
        return wrong(format!("{:?} is not made of these windows", x.shape()));
    }
    let c = rows_all / taps;
    let values = x.to_f64();
    let mut sums = vec![0.0; room(&[n, c, h, w])?];
    let mut at = 0;
    each_index(&[n, c, kernel[0], kernel[1], rows, columns], |index| {
        let &[n, channel, r, s, oy, ox] = index else { return };
        let y = (oy * stride[0] + r * dilation[0]).checked_sub(padding[0]).filter(|y| *y < h);
        let x_at = (ox * stride[1] + s * dilation[1]).checked_sub(padding[1]).filter(|x| *x < w);
        if let Some((y, x_at)) = y.zip(x_at) {
            sums[((n * c + channel) * h + y) * w + x_at] += values[at];
        }
        at += 1;
    });
    Ok(Array::of([n, c, h, w], sums, Dtype::F32))
}
