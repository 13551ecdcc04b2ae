//! Functions of values, pairs and rows; attention.

use archc_base::{Act, Binary, Centre};

use super::*;

const POWERS: [Act; 5] = [Act::Pow(3.0), Act::Pow(-2.0), Act::Pow(0.3), Act::Pow(-41.5), Act::Pow(1e9)];

#[test]
fn activations_are_accurate() {
    // From the middle out to where they saturate.
    let xs: Vec<f32> = (0..40_001).map(|i| (i - 20_000) as f32 * 1e-3 * if i % 7 == 0 { 4.4 } else { 1.0 }).collect();
    let tiny: Vec<f32> = (1..1000).flat_map(|i| [i as f32 * 1e-6, i as f32 * -1e-6, i as f32 * 1e-20]).collect();
    // to the ends of float32
    let huge: Vec<f32> = (-126..127).flat_map(|i| [1.1f32.powi(9 * i), -1.3f32.powi(3 * i)]).collect();
    for isa in Isa::all() {
        for f in Act::ALL.into_iter().map(|(_, act)| act).chain(POWERS) {
            // products of the others overflow on the way
            for xs in [&xs, &tiny, &huge].into_iter().take(if f.is_rare() { 3 } else { 2 }) {
                let mut ys = poison(xs.len());
                unary(isa, f, Map::new(Rows::new(xs, 1, xs.len()), RowsMut::new(&mut ys, 1, xs.len())));
                for (&x, &y) in xs.iter().zip(&ys) {
                    let want = f.apply(x.into());
                    if want.is_nan() || want.abs() > f64::from(f32::MAX) || (want != 0.0 && want.abs() < 1e-37) {
                        continue;
                    }
                    let error = (f64::from(y) - want).abs();
                    // Where 1 + erf or 1 + tanh cancels, the error is that of the sum.
                    let limit = match f {
                        Act::Gelu | Act::GeluTanh => 3e-7 * want.abs() + 1.5e-7 * f64::from(x.abs()),
                        Act::HardSwish | Act::HardSigmoid | Act::Linear { .. } => 3e-7 * want.abs() + 4e-7,
                        // near their zeros what is left of x decides
                        Act::Sin | Act::Cos => 4e-7 * want.abs() + 6e-8,
                        Act::Pow(exponent) => (4e-7 + 5e-8 * f64::from(exponent.abs())) * want.abs() + 1e-37,
                        _ => 4e-7 * want.abs() + 1e-37,
                    };
                    assert!(error <= limit, "{} {f:?}({x}) is {y}, not {want}: {error:e}", isa.name());
                }
            }
        }
    }
}

#[test]
fn nan_and_infinity_go_through() {
    for isa in Isa::all() {
        for f in Act::ALL.into_iter().map(|(_, act)| act).chain(POWERS) {
            let xs = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0, -1.0];
            let mut ys = [0.0; 6];
            unary(isa, f, Map::new(Rows::new(&xs, 1, 6), RowsMut::new(&mut ys, 1, 6)));
            assert!(ys[0].is_nan() && ys[3].is_nan(), "{} {f:?}: {ys:?}", isa.name());
            for i in [1, 2, 4, 5] {
                let want = f.apply(xs[i].into());
                assert_eq!(ys[i].is_nan(), want.is_nan(), "{} {f:?}({})", isa.name(), xs[i]);
                if want.is_infinite() {
                    assert_eq!(f64::from(ys[i]), want, "{} {f:?}({})", isa.name(), xs[i]);
                } else if !want.is_nan() {
                    assert!((f64::from(ys[i]) - want).abs() < 1e-6, "{} {f:?}({}) is {}", isa.name(), xs[i], ys[i]);
                }
            }
        }
    }
}

/// As `torch.pow`.
#[test]
fn anything_to_the_power_of_zero_is_one() {
    for isa in Isa::all() {
        let xs = [f32::NAN, 0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, -3.5, 1e-42, 7.0, f32::NAN];
        let mut ys = poison(xs.len());
        unary(isa, Act::Pow(0.0), Map::new(Rows::new(&xs, 1, xs.len()), RowsMut::new(&mut ys, 1, xs.len())));
        assert_eq!(ys, vec![1.0; xs.len()], "{}", isa.name());
        assert!(xs.iter().all(|x| Act::Pow(0.0).apply(f64::from(*x)) == 1.0));
    }
}

#[test]
fn overflow_and_underflow_of_exp() {
    for isa in Isa::all() {
        let xs = [88.7, 88.8, 1000.0, -87.5, -100.0, -103.9, -104.1, -1000.0];
        let mut ys = [f32::NAN; 8];
        unary(isa, Act::Exp, Map::new(Rows::new(&xs, 1, 8), RowsMut::new(&mut ys, 1, 8)));
        for (x, y) in xs.into_iter().zip(ys) {
            let want = f64::from(x).exp() as f32;
            assert!(
                y == want || (y - want).abs() <= want * 4e-7 + 1.5e-45,
                "{} exp({x}) is {y}, not {want}",
                isa.name()
            );
        }
    }
}

#[test]
fn pairs_of_all_kinds() {
    for isa in Isa::all() {
        let mut rng = Rng::new(11);
        for (rows, cols) in [(1, 1), (6, 3), (40, 17), (12, 64), (3, 5000), (700, 100)] {
            for &(_, op) in Binary::ALL {
                let what = format!("{} {op:?} {rows} x {cols}", isa.name());
                let (xd, yd, bd) = (cols + rng.pick(0, 2), cols + rng.pick(0, 2), cols + rng.pick(0, 1));
                let away = |v: f32| v + if v < 0.0 { -0.5 } else { 0.5 };
                let x: Vec<f32> = rng.vec(rows * xd).into_iter().map(away).collect();
                let b: Vec<f32> = rng.vec(rows * bd).into_iter().map(away).collect();
                let each = rows.div_ceil(2);
                let operands = [
                    Operand::Rows(Rows { data: &b, rows, cols, stride: bd }),
                    Operand::Scalar(0.75),
                    Operand::Row(&b[..cols]),
                    Operand::Gate { data: &b, rows_each: each },
                    Operand::Column(&b[..rows]),
                ];
                for (operand, f) in operands.into_iter().zip([Act::None, Act::Silu, Act::Relu, Act::None, Act::Tanh]) {
                    let got = on_threads(&what, || {
                        let mut y = poison(rows * yd);
                        let io = Map::new(
                            Rows { data: &x, rows, cols, stride: xd },
                            RowsMut { data: &mut y, rows, cols, stride: yd },
                        );
                        binary(isa, op, io, operand, f);
                        y.chunks(yd).flat_map(|r| r[..cols].to_vec()).collect()
                    });
                    let want: Vec<f64> = (0..rows * cols)
                        .map(|i| {
                            let (r, c) = (i / cols, i % cols);
                            let b = match operand {
                                Operand::Rows(_) => b[r * bd + c],
                                Operand::Scalar(v) => v,
                                Operand::Row(row) => row[c],
                                Operand::Gate { data, .. } => data[r / each * cols + c],
                                Operand::Column(column) => column[r],
                            };
                            f.apply(op.apply(x[r * xd + c].into(), b.into()))
                        })
                        .collect();
                    close(&got, &want, 1e-6, &what);
                }
                // In place gives the same.
                let mut y: Vec<f32> = x.chunks(xd).flat_map(|r| r[..cols].to_vec()).collect();
                binary(isa, op, Map::in_place(RowsMut::new(&mut y, rows, cols)), Operand::Scalar(0.75), Act::None);
                let want: Vec<f64> =
                    (0..rows * cols).map(|i| op.apply(x[i / cols * xd + i % cols].into(), 0.75)).collect();
                close(&y, &want, 1e-6, &what);
            }
        }
    }
}

#[test]
fn broadcasts_of_any_strides() {
    let mut rng = Rng::new(13);
    for isa in Isa::all() {
        for _ in 0..60 {
            let rank = rng.pick(0, 5);
            let shape: Vec<usize> = (0..rank).map(|_| rng.pick(1, 6)).collect();
            let mut strides = [vec![], vec![]];
            for s in &mut strides {
                *s = (0..rank).map(|_| rng.pick(0, 9)).collect();
                if rank > 0 && rng.pick(0, 1) == 0 {
                    s[rank - 1] = 1;
                }
            }
            let a = rng.vec(300);
            let what = format!("{} {shape:?} {strides:?}", isa.name());
            let len: usize = shape.iter().product();
            let got = on_threads(&what, || {
                let mut y = poison(len);
                let [sa, sb] = [0, 1].map(|i| Strided { data: &a, strides: &strides[i] });
                broadcast(isa, Binary::Sub, &shape, sa, sb, &mut y, Act::None);
                y
            });
            let at = |mut i: usize, strides: &[usize]| {
                let mut at = 0;
                for (n, s) in shape.iter().zip(strides).rev() {
                    at += i % n * s;
                    i /= n;
                }
                f64::from(a[at])
            };
            let want: Vec<f64> = (0..len).map(|i| at(i, &strides[0]) - at(i, &strides[1])).collect();
            close(&got, &want, 1e-6, &what);
        }
    }
}

#[test]
fn norms_and_softmax_of_rows() {
    for isa in Isa::all() {
        let mut rng = Rng::new(17);
        for (rows, cols) in [(1, 1), (5, 3), (7, 16), (40, 33), (9, 197), (3, 1000), (300, 96)] {
            let what = format!("{} {rows} x {cols}", isa.name());
            let (xd, yd) = (cols + rng.pick(0, 2), cols + rng.pick(0, 2));
            // A mean far from zero, so that one pass would not do.
            let x: Vec<f32> = rng.vec(rows * xd).iter().map(|v| v * 2.0 + 5.0).collect();
            let (w, b) = (rng.vec(cols), rng.vec(cols));
            let run = |f: &(dyn Fn(Map) + Sync)| {
                let out = on_threads(&what, || {
                    let mut y = poison(rows * yd);
                    f(Map::new(
                        Rows { data: &x, rows, cols, stride: xd },
                        RowsMut { data: &mut y, rows, cols, stride: yd },
                    ));
                    y.chunks(yd).flat_map(|r| r[..cols].to_vec()).collect()
                });
                let mut y: Vec<f32> = x.chunks(xd).flat_map(|r| r[..cols].to_vec()).collect();
                f(Map::in_place(RowsMut::new(&mut y, rows, cols)));
                assert!(y.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits()), "in place differs: {what}");
                out
            };
            let by_row = |f: &dyn Fn(&[f64]) -> Vec<f64>| -> Vec<f64> {
                x.chunks(xd).flat_map(|r| f(&r[..cols].iter().map(|&v| v.into()).collect::<Vec<_>>())).collect()
            };
            let want = by_row(&|r| {
                let mean = r.iter().sum::<f64>() / cols as f64;
                let var = r.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / cols as f64;
                let norm = |i: usize| (r[i] - mean) / (var + 1e-3).sqrt() * f64::from(w[i]) + f64::from(b[i]);
                (0..cols).map(|i| Act::Gelu.apply(norm(i))).collect()
            });
            close(
                &run(&|io| layer_norm(isa, io, Centre::Mean, Some(&w), Some(&b), 1e-3, Act::Gelu)),
                &want,
                2e-6,
                &what,
            );
            let want = by_row(&|r| {
                let square = r.iter().map(|v| v * v).sum::<f64>() / cols as f64;
                (0..cols).map(|i| r[i] / (square + 1e-3).sqrt() * f64::from(w[i])).collect()
            });
            close(&run(&|io| layer_norm(isa, io, Centre::Zero, Some(&w), None, 1e-3, Act::None)), &want, 2e-6, &what);
            let want = by_row(&|r| {
                let norm = r.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
                r.iter().map(|v| v / norm).collect()
            });
            close(&run(&|io| l2_normalize(isa, io, 1e-12)), &want, 1e-6, &what);
            let soft = |r: &[f64]| {
                let max = r.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v));
                let sum: f64 = r.iter().map(|v| (v - max).exp()).sum();
                r.iter().map(|v| v - max - sum.ln()).collect::<Vec<_>>()
            };
            close(&run(&|io| log_softmax(isa, io)), &by_row(&soft), 1e-6, &what);
            let want = by_row(&|r| soft(r).iter().map(|v| v.exp()).collect());
            close(&run(&|io| softmax(isa, io)), &want, 1e-6, &what);
            let want =
                by_row(&|r| (0..cols).map(|i| Act::Relu.apply(r[i] * f64::from(w[i]) + f64::from(b[i]))).collect());
            close(&run(&|io| scale_shift(isa, io, &w, &b, Act::Relu)), &want, 1e-6, &what);
        }
        let mut bad = [1.0, f32::NAN, 2.0];
        softmax(isa, Map::in_place(RowsMut::new(&mut bad, 1, 3)));
        assert!(bad.iter().all(|v| v.is_nan()), "NaN does not vanish in a softmax");
    }
}

#[test]
fn attention_matches_the_formula() {
    for isa in Isa::all() {
        let mut rng = Rng::new(19);
        // masks: none, one for all, of each head and query, of every second image, the same for all keys
        for (n, heads, dim, value_dim, queries, keys, mask) in [
            (1, 1, 1, 1, 1, 1, 0),
            (2, 3, 33, 33, 17, 29, 0),
            (1, 2, 64, 64, 197, 197, 1),
            (3, 4, 20, 5, 50, 7, 2),
            (1, 1, 8, 70, 60, 3000, 1),
            (6, 3, 17, 17, 9, 9, 3),
            (2, 2, 300, 11, 5, 40, 4),
        ] {
            let shape = Heads { n, heads, dim, value_dim, queries, keys };
            let what = format!("{} {shape:?} mask {mask}", isa.name());
            let (cols, value_cols) = (heads * dim, heads * value_dim);
            // Keys and values in one buffer, side by side.
            let wide = cols + value_cols;
            // Queries of half as many images, which are repeated.
            let q_images = if n % 2 == 0 { n / 2 } else { n };
            let (q, kv) = (rng.vec(q_images * queries * (cols + 1)), rng.vec(n * keys * wide));
            let (before, [by_head, by_query, by_key]): (Vec<(usize, usize)>, [usize; 3]) = match mask {
                0 | 1 => (vec![(n, 0)], [0, keys, 1]),
                2 => (vec![(n, 0)], [queries * keys, keys, 1]),
                3 => (vec![(n / 2, 0), (2, queries * keys)], [0, keys, 1]),
                _ => (vec![(n, heads * queries)], [queries, 1, 0]),
            };
            let added = rng.vec(n * heads * queries * keys);
            let mask = (mask > 0).then_some(Mask {
                data: &added,
                before: &before,
                head: by_head,
                query: by_query,
                key: by_key,
            });
            let got = on_threads(&what, || {
                let mut y = poison(n * queries * (value_cols + 2));
                attention(
                    isa,
                    &shape,
                    0.3,
                    Rows { data: &q, rows: q_images * queries, cols, stride: cols + 1 },
                    Rows { data: &kv, rows: n * keys, cols, stride: wide },
                    Rows { data: &kv[cols..], rows: n * keys, cols: value_cols, stride: wide },
                    mask,
                    RowsMut { data: &mut y, rows: n * queries, cols: value_cols, stride: value_cols + 2 },
                );
                y.chunks(value_cols + 2).flat_map(|r| r[..value_cols].to_vec()).collect()
            });
            let mut want = vec![0f64; n * queries * value_cols];
            for i in 0..n * queries {
                for h in 0..heads {
                    let row = |j: usize| (i / queries * keys + j) * wide;
                    let score = |j: usize| -> f64 {
                        let terms = (0..dim).map(|d| {
                            let of = i % (q_images * queries);
                            f64::from(q[of * (cols + 1) + h * dim + d]) * f64::from(kv[row(j) + h * dim + d])
                        });
                        let mut at = h * by_head + i % queries * by_query + j * by_key;
                        let mut image = i / queries;
                        for (len, stride) in before.iter().rev() {
                            at += image % len * stride;
                            image /= len;
                        }
                        terms.sum::<f64>() * 0.3 + mask.map_or(0.0, |_| f64::from(added[at]))
                    };
                    let e: Vec<f64> = (0..keys).map(|j| score(j).exp()).collect();
                    let sum: f64 = e.iter().sum();
                    for (j, e) in e.iter().enumerate() {
                        for d in 0..value_dim {
                            want[i * value_cols + h * value_dim + d] +=
                                e / sum * f64::from(kv[row(j) + cols + h * value_dim + d]);
                        }
                    }
                }
            }
            close(&got, &want, 3e-6, &what);
        }
    }
}

#[test]
fn gates_match_a_plain_loop() {
    for isa in Isa::all() {
        let mut rng = Rng::new(17);
        for [n, each, cols] in [[1, 5, 3], [2, 9, 33], [3, 20, 64], [2, 3, 2100]] {
            for (before, after) in [(Act::None, Act::Relu), (Act::None, Act::Silu), (Act::HardSwish, Act::None)] {
                let (rows, stride) = (n * each, cols + rng.pick(0, 2));
                let what = format!("{} {n} x {each} x {cols} {before:?} {after:?}", isa.name());
                let (x, gate, residual) = (rng.vec(rows * stride), rng.vec(n * cols), rng.vec(rows * stride));
                let with = rng.pick(0, 1) == 0;
                let residual = with.then_some(Rows { data: &residual, rows, cols, stride });
                let gated_by = Gated { before, gate: &gate, rows_each: each, residual, after };
                let dense = |y: &[f32]| -> Vec<f32> { y.chunks(stride).flat_map(|row| row[..cols].to_vec()).collect() };
                let got = on_threads(&what, || {
                    let mut y = poison(rows * stride);
                    let from = Rows { data: &x, rows, cols, stride };
                    gated(isa, Map::new(from, RowsMut { data: &mut y, rows, cols, stride }), gated_by);
                    dense(&y)
                });
                let mut own = x.clone();
                gated(isa, Map::in_place(RowsMut { data: &mut own, rows, cols, stride }), gated_by);
                let at = |i: usize| {
                    let (row, col) = (i / cols, i % cols);
                    let v = before.apply(f64::from(x[row * stride + col])) * f64::from(gate[row / each * cols + col]);
                    after.apply(v + residual.map_or(0.0, |r| f64::from(r.data[row * stride + col])))
                };
                let want: Vec<f64> = (0..rows * cols).map(at).collect();
                close(&got, &want, 2e-6, &what);
                assert_eq!(dense(&own), got, "in place: {what}");
            }
        }
    }
}
