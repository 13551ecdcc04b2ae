//! Rows, groups, reductions, products of two values, attention.

use archc_cuda::{Attention, Dtype, GroupNorm, Matmul, RANK, Reduce, Rows};
use archc_emu::Buffer;

use crate::support::{Random, Values, check, run, tolerance};

#[test]
fn rows_of_all_lengths() {
    for dtype in Dtype::STORED {
        for (rows, cols, gap) in [(6, 96, 0), (5, 7, 0), (9, 1, 3), (3, 1000, 8), (2, 1500, 0), (3, 2053, 4)] {
            let mut random = Random::new(4);
            let x: Vec<f32> = random.numbers(rows * cols).into_iter().map(|v| v * 4.0).collect();
            let (weight, bias) = (random.numbers(cols), random.numbers(cols));
            let (weights, biases) = (Buffer::of(&weight), Buffer::of(&bias));
            for kernel in ["layer_norm", "rms_norm", "normalize", "softmax", "log_softmax"] {
                let is_rms = kernel == "rms_norm";
                let on_device = Values::rows(dtype, &x, cols, cols + gap, 0);
                let y = Values::poison(dtype, (rows - 1) * (cols + gap) + cols, 0);
                let args = Rows {
                    x: on_device.address(),
                    y: y.address(),
                    weight: weights.address(),
                    bias: biases.address(),
                    rows: rows as i32,
                    cols: cols as i32,
                    x_stride: (cols + gap) as i32,
                    y_stride: (cols + gap) as i32,
                    eps: 1e-5,
                    about_zero: is_rms.into(),
                };
                run(&args.launch(dtype, if is_rms { "layer_norm" } else { kernel }), &args);
                let x = on_device.read_rows(cols, cols + gap);
                let want: Vec<f64> = x.chunks(cols).flat_map(|row| row_of(kernel, row, &weight, &bias)).collect();
                // log softmax of a single column is zero
                let what = format!("{kernel} {dtype:?} {rows} x {cols}");
                check(&what, &y.read_rows(cols, cols + gap), &want, 2.0 * tolerance(dtype));
            }
        }
    }
}

fn row_of(kernel: &str, row: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f64> {
    let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
    let mean = row.iter().sum::<f64>() / row.len() as f64;
    let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / row.len() as f64;
    let square = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
    let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-5);
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|v| (v - top).exp()).sum();
    let one = |(at, v): (usize, &f64)| match kernel {
        "layer_norm" => (v - mean) / (variance + 1e-5f32 as f64).sqrt() * f64::from(weight[at]) + f64::from(bias[at]),
        "rms_norm" => v / (square + 1e-5f32 as f64).sqrt() * f64::from(weight[at]) + f64::from(bias[at]),
        "normalize" => v / norm,
        "softmax" => (v - top).exp() / sum,
        _ => v - top - sum.ln(),
    };
    row.iter().enumerate().map(one).collect()
}

#[test]
fn groups_of_channels() {
    for dtype in Dtype::STORED {
        for (n, pixels, c, groups, gap) in [(2, 30, 24, 4, 0), (1, 7, 15, 5, 1), (3, 1, 8, 1, 0), (1, 300, 6, 6, 2)] {
            let mut random = Random::new(6);
            let x = random.numbers(n * pixels * c);
            let (weight, bias) = (random.numbers(c), random.numbers(c));
            let (weights, biases) = (Buffer::of(&weight), Buffer::of(&bias));
            let on_device = Values::rows(dtype, &x, c, c + gap, 0);
            let y = Values::poison(dtype, (n * pixels - 1) * (c + gap) + c, 0);
            let args = GroupNorm {
                x: on_device.address(),
                y: y.address(),
                weight: weights.address(),
                bias: biases.address(),
                n: n as i32,
                pixels: pixels as i32,
                c: c as i32,
                groups: groups as i32,
                x_stride: (c + gap) as i32,
                y_stride: (c + gap) as i32,
                eps: 1e-5,
                reserved: 0,
            };
            run(&args.launch(dtype), &args);
            let each = c / groups;
            let mut want = vec![0.0; n * pixels * c];
            for (image, group) in (0..n).flat_map(|image| (0..groups).map(move |group| (image, group))) {
                let places: Vec<usize> =
                    (0..pixels * each).map(|i| (image * pixels + i / each) * c + group * each + i % each).collect();
                let row: Vec<f32> = places.iter().map(|at| x[*at]).collect();
                let of = |values: &[f32]| places.iter().map(|at| values[at % c]).collect::<Vec<f32>>();
                for (at, v) in places.iter().zip(row_of("layer_norm", &row, &of(&weight), &of(&bias))) {
                    want[*at] = v;
                }
            }
            check(&format!("{dtype:?} {c} in {groups}"), &y.read_rows(c, c + gap), &want, tolerance(dtype));
        }
    }
}

fn padded(values: &[i32]) -> [i32; RANK] {
    std::array::from_fn(|axis| values.get(axis).copied().unwrap_or(0))
}

fn offsets(shape: &[i32], strides: &[i32]) -> Vec<usize> {
    let mut all = vec![0];
    for (len, stride) in shape.iter().zip(strides) {
        all = all.iter().flat_map(|at| (0..*len).map(move |i| at + (i * stride) as usize)).collect();
    }
    all
}

/// Lengths and strides of axes.
type Axes = (&'static [i32], &'static [i32]);

#[test]
fn reductions() {
    let cases: [(Axes, Axes); 5] = [
        // images to channels, channels last, with gaps
        ((&[3, 70], &[49 * 72, 1]), (&[7, 7], &[7 * 72, 72])),
        // the last axis
        ((&[5, 6], &[66, 11]), (&[11], &[1])),
        // a middle axis
        ((&[2, 9], &[90, 1]), (&[10], &[9])),
        // everything, and nothing
        ((&[], &[]), (&[4, 5], &[5, 1])),
        ((&[4, 5], &[5, 1]), (&[], &[])),
    ];
    for dtype in Dtype::STORED {
        for ((outer, outer_strides), (inner, inner_strides)) in cases {
            let (outside, inside) = (offsets(outer, outer_strides), offsets(inner, inner_strides));
            let x = Random::new(3).numbers(outside.iter().max().unwrap() + inside.iter().max().unwrap() + 1);
            let (on_device, y) = (Values::of(dtype, &x), Values::poison(dtype, outside.len(), 0));
            for (_, op) in archc_base::Reduce::ALL {
                let args = Reduce {
                    x: on_device.address(),
                    y: y.address(),
                    outer_rank: outer.len() as i32,
                    inner_rank: inner.len() as i32,
                    outer_shape: padded(outer),
                    outer_strides: padded(outer_strides),
                    inner_shape: padded(inner),
                    inner_strides: padded(inner_strides),
                    op: op.code(),
                    reserved: 0,
                };
                run(&args.launch(dtype), &args);
                let of = |out: &usize| {
                    let values = inside.iter().map(|at| f64::from(x[out + at]));
                    match op {
                        archc_base::Reduce::Mean => values.sum::<f64>() / inside.len() as f64,
                        archc_base::Reduce::Sum => values.sum(),
                        archc_base::Reduce::Max => values.fold(f64::NEG_INFINITY, f64::max),
                    }
                };
                let want: Vec<f64> = outside.iter().map(of).collect();
                check(&format!("{dtype:?} {outer:?} {inner:?} {op:?}"), &y.read(), &want, tolerance(dtype));
            }
        }
    }
}

#[test]
fn products_of_two_values() {
    for dtype in Dtype::STORED {
        for (batch, m, n, k, transposed) in
            [(3, 5, 7, 11, 0), (2, 70, 65, 33, 1), (1, 1, 130, 16, 0), (2, 64, 64, 1, 1)]
        {
            let mut random = Random::new(7);
            let (a, b) = (random.numbers(batch * m * k), random.numbers(k * n));
            let [a_values, b_values] = [&a, &b].map(|values| Values::of(dtype, values));
            let y = Values::poison(dtype, batch * m * n, 0);
            let args = Matmul {
                a: a_values.address(),
                b: b_values.address(),
                y: y.address(),
                m: m as i32,
                n: n as i32,
                k: k as i32,
                a_stride: k as i32,
                b_stride: if transposed == 1 { k } else { n } as i32,
                y_stride: n as i32,
                transposed,
                scale: 0.5,
                rank: 2,
                shape: padded(&[batch as i32, 1]),
                a_strides: padded(&[(m * k) as i32, 0]),
                // the same b for all
                b_strides: padded(&[0, 0]),
                y_strides: padded(&[(m * n) as i32, 0]),
                reserved: 0,
            };
            run(&args.launch(dtype), &args);
            let mut want = vec![];
            for row in a.chunks(k) {
                for j in 0..n {
                    let b = |i: usize| if transposed == 1 { b[j * k + i] } else { b[i * n + j] };
                    want.push(0.5 * (0..k).map(|i| f64::from(row[i]) * f64::from(b(i))).sum::<f64>());
                }
            }
            check(&format!("{dtype:?} {m} x {n} x {k}"), &y.read(), &want, tolerance(dtype));
        }
    }
}

#[test]
fn attention_of_several_heads() {
    for dtype in Dtype::STORED {
        // masks: none, one for all, of each head and query of every second image, the same for all keys
        for (n, heads, [dim, value_dim], queries, keys, gap, mask) in [
            (2, 3, [32, 32], 50, 50, 0, 0),
            (1, 2, [64, 64], 197, 197, 0, 1),
            (1, 1, [20, 20], 5, 70, 4, 1),
            (2, 1, [128, 128], 65, 9, 0, 0),
            (4, 3, [7, 5], 64, 64, 1, 2),
            (3, 2, [64, 17], 66, 150, 0, 3),
            (1, 1, [17, 17], 3, 1, 0, 0),
            (2, 2, [200, 40], 20, 37, 0, 2),
            (1, 1, [256, 256], 65, 33, 3, 0),
            (2, 2, [300, 70], 18, 35, 1, 2),
            (1, 1, [9, 261], 5, 40, 0, 1),
        ] {
            let mut random = Random::new(11);
            let (cols, value_cols) = (heads * dim, heads * value_dim);
            // queries of half as many images, which are repeated
            let q_images = if n % 2 == 0 { n / 2 } else { n };
            let q: Vec<f32> = random.numbers(q_images * queries * cols).into_iter().map(|v| v * 2.0).collect();
            let (k, v) = (random.numbers(n * keys * cols), random.numbers(n * keys * value_cols));
            let (stride, value_stride) = (cols + gap, value_cols + gap);
            let [q_values, k_values] = [&q, &k].map(|values| Values::rows(dtype, values, cols, stride, 0));
            let v_values = Values::rows(dtype, &v, value_cols, value_stride, 0);
            let y = Values::poison(dtype, (n * queries - 1) * value_stride + value_cols, 0);
            let scale = 1.0 / (dim as f32).sqrt();
            let (before, [mask_head, mask_query, mask_key]) = match mask {
                0 | 1 => (vec![], [0, keys, 1]),
                2 => (vec![(n / 2, 0), (2, heads * queries * keys)], [queries * keys, keys, 1]),
                _ => (vec![(n, heads * queries)], [queries, 1, 0]),
            };
            let mut added = random.numbers(n * heads * queries * keys);
            // a query that sees only the last key
            if mask == 2 && keys > 1 {
                added[..keys - 1].fill(f32::NEG_INFINITY);
            }
            let mask_values = Values::of(dtype, &added);
            let axes = |of: fn(&(usize, usize)) -> usize| {
                let mut axes = [1; RANK];
                axes.iter_mut().zip(&before).for_each(|(axis, pair)| *axis = of(pair) as i32);
                axes
            };
            let args = Attention {
                q: q_values.address(),
                k: k_values.address(),
                v: v_values.address(),
                mask: if mask == 0 { 0 } else { mask_values.address() },
                y: y.address(),
                n: n as i32,
                heads: heads as i32,
                dim: dim as i32,
                value_dim: value_dim as i32,
                queries: queries as i32,
                keys: keys as i32,
                q_stride: stride as i32,
                k_stride: stride as i32,
                v_stride: value_stride as i32,
                y_stride: value_stride as i32,
                q_images: q_images as i32,
                k_images: n as i32,
                v_images: n as i32,
                scale,
                mask_head: mask_head as i32,
                mask_query: mask_query as i32,
                mask_key: mask_key as i32,
                before_rank: before.len() as i32,
                before: axes(|(len, _)| *len),
                mask_before: axes(|(_, stride)| *stride),
            };
            run(&args.launch(dtype), &args);
            let added = mask_values.read();
            let mut want = vec![0.0; n * queries * value_cols];
            for (image, head) in (0..n).flat_map(|image| (0..heads).map(move |head| (image, head))) {
                let at = |row: usize, d: usize| row * cols + head * dim + d;
                let of = if before.len() == 2 { image % 2 } else { image };
                let start = head * mask_head + before.last().map_or(0, |(_, stride)| of * stride);
                for query in 0..queries {
                    let (row, of_q) = (image * queries + query, image % q_images * queries + query);
                    let scores: Vec<f64> = (0..keys)
                        .map(|key| {
                            let products =
                                (0..dim).map(|d| f64::from(q[at(of_q, d)]) * f64::from(k[at(image * keys + key, d)]));
                            let more = added[start + query * mask_query + key * mask_key];
                            products.sum::<f64>() * f64::from(scale) + if mask == 0 { 0.0 } else { f64::from(more) }
                        })
                        .collect();
                    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = scores.iter().map(|score| (score - top).exp()).sum();
                    for d in 0..value_dim {
                        let from = |key: usize| v[(image * keys + key) * value_cols + head * value_dim + d];
                        let parts = scores
                            .iter()
                            .enumerate()
                            .map(|(key, score)| (score - top).exp() / sum * f64::from(from(key)));
                        want[row * value_cols + head * value_dim + d] = parts.sum();
                    }
                }
            }
            // weights are rounded to the storage type before the second product
            let what = format!("{dtype:?} {heads} heads of {dim}, {queries} x {keys}, mask {mask}");
            check(&what, &y.read_rows(value_cols, value_stride), &want, 2.0 * tolerance(dtype));
        }
    }
}
