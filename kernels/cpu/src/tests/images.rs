//! Transposed convolution, pooling, group norm, resampling, movement and reductions.

use archc_base::{Act, Banded, Pool, Reduce, Resample, Window};

use super::*;

/// A value of a strided view in row-major order.
fn at(mut i: usize, shape: &[usize], strides: &[usize]) -> usize {
    let mut at = 0;
    for (n, s) in shape.iter().zip(strides).rev() {
        at += i % n * s;
        i /= n;
    }
    at
}

/// Runs on [n, h, w, c] with odd pixel strides and returns the dense output.
fn on_images(
    what: &str,
    rng: &mut Rng,
    x: &[f32],
    [n, h, w, c]: [usize; 4],
    [p, q, k]: [usize; 3],
    f: impl Fn(Image, ImageMut) + Sync,
) -> Vec<f32> {
    let (xd, yd) = (c + rng.pick(0, 3), k + rng.pick(0, 3));
    let mut wide = poison(n * h * w * xd);
    for (px, from) in wide.chunks_mut(xd).zip(x.chunks(c)) {
        px[..c].copy_from_slice(from);
    }
    on_threads(what, || {
        let mut y = poison(n * p * q * yd);
        f(Image { data: &wide, n, h, w, c, stride: xd }, ImageMut { data: &mut y, n, h: p, w: q, c: k, stride: yd });
        assert!(y.chunks(yd).all(|px| px[k..].iter().all(|v| v.is_nan())), "wrote between pixels: {what}");
        y.chunks(yd).flat_map(|px| px[..k].to_vec()).collect()
    })
}

#[test]
fn transposed_convolutions() {
    let plain = Window { stride: [2; 2], ..Window::square(3) };
    let base = ConvTransposeShape { in_channels: 5, out_channels: 7, window: plain, output_padding: [0; 2], groups: 1 };
    let cases = [
        base,
        ConvTransposeShape { window: Window { kernel: [2, 2], ..plain }, in_channels: 40, out_channels: 65, ..base },
        ConvTransposeShape { window: Window { padding: [1; 4], ..plain }, output_padding: [1; 2], ..base },
        ConvTransposeShape {
            window: Window { stride: [1, 3], kernel: [4, 5], padding: [2, 1, 0, 1], ..plain },
            ..base
        },
        ConvTransposeShape { window: Window { stride: [3, 3], kernel: [2, 1], ..plain }, ..base },
        ConvTransposeShape {
            window: Window { dilation: [2, 3], padding: [1, 2, 1, 2], stride: [2, 2], ..plain },
            ..base
        },
        ConvTransposeShape {
            window: Window { dilation: [2, 2], stride: [4, 3], ..plain },
            output_padding: [3, 1],
            ..base
        },
        ConvTransposeShape {
            window: Window { padding: [3, 3, 3, 3], kernel: [8, 7], ..plain },
            groups: 3,
            in_channels: 6,
            out_channels: 9,
            ..base
        },
        ConvTransposeShape {
            window: Window { kernel: [4, 4], padding: [1; 4], ..plain },
            groups: 8,
            in_channels: 8,
            out_channels: 8,
            ..base
        },
    ];
    for isa in Isa::all() {
        let mut rng = Rng::new(23);
        for shape in cases {
            let what = format!("{} {shape:?}", isa.name());
            let [n, h, w] = [2, 5, 6];
            let (c, k) = (shape.in_channels, shape.out_channels);
            let (cg, kg) = (c / shape.groups, k / shape.groups);
            let x = rng.vec(n * h * w * c);
            let (weights, bias) = (rng.vec(shape.weight_len()), rng.vec(k));
            let [p, q] = shape.output([h, w]);
            let packed = PackedConvTranspose::pack(isa, &shape, &weights);
            let epilogue = Epilogue::new(Some(&bias), Act::Silu);
            let got = on_images(&what, &mut rng, &x, [n, h, w, c], [p, q, k], |x, y| packed.run(x, y, &epilogue));
            let mut want = vec![0f64; n * p * q * k];
            for i in 0..n * h * w {
                for r in 0..shape.window.kernel[0] {
                    for s in 0..shape.window.kernel[1] {
                        let oy = (i / w % h * shape.window.stride[0] + r * shape.window.dilation[0])
                            .wrapping_sub(shape.window.padding[0]);
                        let ox = (i % w * shape.window.stride[1] + s * shape.window.dilation[1])
                            .wrapping_sub(shape.window.padding[1]);
                        if oy >= p || ox >= q {
                            continue;
                        }
                        for ch in 0..c {
                            for j in 0..kg {
                                let to = ch / cg * kg + j;
                                let w =
                                    weights[((ch * kg + j) * shape.window.kernel[0] + r) * shape.window.kernel[1] + s];
                                want[((i / (h * 6) * p + oy) * q + ox) * k + to] +=
                                    f64::from(x[i * c + ch]) * f64::from(w);
                            }
                        }
                    }
                }
            }
            for (i, v) in want.iter_mut().enumerate() {
                *v = Act::Silu.apply(*v + f64::from(bias[i % k]));
            }
            close(&got, &want, 3e-6, &what);
        }
    }
}

#[test]
fn pools() {
    let square = |k, s, p| Window { kernel: [k; 2], stride: [s; 2], padding: [p; 4], dilation: [1; 2] };
    // With the sizes of the output, of which the last are those of ceil mode.
    let cases = [
        (square(3, 2, 1), [5, 4]),
        (square(2, 2, 0), [5, 4]),
        (square(2, 2, 0), [5, 3]),
        (square(3, 2, 0), [5, 4]),
        (square(3, 3, 1), [4, 3]),
        (Window { kernel: [3, 2], stride: [1, 2], padding: [1, 0, 2, 1], dilation: [2, 3] }, [8, 3]),
    ];
    for isa in Isa::all() {
        let mut rng = Rng::new(29);
        for (shape, [p, q]) in cases {
            for kind in [Pool::Max, Pool::Mean { count_padding: true }, Pool::Mean { count_padding: false }] {
                if kind != Pool::Max && shape.dilation != [1, 1] {
                    continue;
                }
                let [n, h, w, c] = [2, 9, 7, 37];
                let what = format!("{} {kind:?} {shape:?}", isa.name());
                let x = rng.vec(n * h * w * c);
                let got = on_images(&what, &mut rng, &x, [n, h, w, c], [p, q, c], |x, y| pool(isa, kind, &shape, x, y));
                let mut want = Vec::new();
                for i in 0..n * p * q * c {
                    let (ch, ox, oy, image) = (i % c, i / c % q, i / c / q % p, i / c / q / p);
                    let (mut max, mut sum, mut inside, mut padded) = (f64::NEG_INFINITY, 0.0, 0.0, 0.0);
                    for r in 0..shape.kernel[0] {
                        for s in 0..shape.kernel[1] {
                            let (py, px) = (
                                oy * shape.stride[0] + r * shape.dilation[0],
                                ox * shape.stride[1] + s * shape.dilation[1],
                            );
                            if py < h + shape.padding[0] + shape.padding[2]
                                && px < w + shape.padding[1] + shape.padding[3]
                            {
                                padded += 1.0;
                            }
                            let (iy, ix) = (py.wrapping_sub(shape.padding[0]), px.wrapping_sub(shape.padding[1]));
                            if iy < h && ix < w {
                                let v = f64::from(x[((image * h + iy) * w + ix) * c + ch]);
                                max = max.max(v);
                                sum += v;
                                inside += 1.0;
                            }
                        }
                    }
                    want.push(match kind {
                        Pool::Max => max,
                        Pool::Mean { count_padding: true } => sum / padded,
                        Pool::Mean { count_padding: false } => sum / inside,
                    });
                }
                close(&got, &want, 1e-6, &what);
            }
        }
        for (size, [p, q], c) in
            [([7, 7], [1, 1], 130), ([9, 5], [3, 2], 3), ([3, 4], [7, 7], 20), ([40, 40], [1, 1], 5)]
        {
            for kind in [Pool::Max, Pool::MEAN] {
                let what = format!("{} adaptive {kind:?} {size:?} to {p} x {q}", isa.name());
                let [h, w] = size;
                let x = rng.vec(3 * h * w * c);
                let got =
                    on_images(&what, &mut rng, &x, [3, h, w, c], [p, q, c], |x, y| adaptive_pool(isa, kind, x, y));
                let mut want = Vec::new();
                for i in 0..3 * p * q * c {
                    let (ch, ox, oy, image) = (i % c, i / c % q, i / c / q % p, i / c / q / p);
                    let mut window = Vec::new();
                    for iy in oy * h / p..((oy + 1) * h).div_ceil(p) {
                        for ix in ox * w / q..((ox + 1) * w).div_ceil(q) {
                            window.push(f64::from(x[((image * h + iy) * w + ix) * c + ch]));
                        }
                    }
                    want.push(match kind {
                        Pool::Max => window.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v)),
                        Pool::Mean { .. } => window.iter().sum::<f64>() / window.len() as f64,
                    });
                }
                close(&got, &want, 1e-6, &what);
            }
        }
        let x = [1.0, f32::NAN, 3.0, 2.0];
        let mut y = [0.0];
        adaptive_pool(isa, Pool::Max, Image::new(&x, [1, 2, 2, 1]), ImageMut::new(&mut y, [1, 1, 1, 1]));
        assert!(y[0].is_nan(), "NaN wins a maximum");
    }
}

#[test]
fn group_norms() {
    for isa in Isa::all() {
        let mut rng = Rng::new(31);
        for (groups, c, [h, w]) in [(1, 3, [5, 5]), (4, 20, [6, 7]), (2, 64, [9, 3]), (32, 32, [4, 4]), (3, 99, [2, 5])]
        {
            let what = format!("{} {groups} groups of {c}", isa.name());
            let x: Vec<f32> = rng.vec(2 * h * w * c).iter().map(|v| v + 3.0).collect();
            let (weight, bias) = (rng.vec(c), rng.vec(c));
            let got = on_images(&what, &mut rng, &x, [2, h, w, c], [h, w, c], |x, y| {
                group_norm(isa, groups, x, Some(&weight), Some(&bias), 1e-5, Act::Relu, y);
            });
            let per = c / groups;
            let mut want = vec![0f64; x.len()];
            for n in 0..2 {
                for g in 0..groups {
                    let of: Vec<usize> =
                        (0..h * w * per).map(|i| (n * h * w + i / per) * c + g * per + i % per).collect();
                    let mean = of.iter().map(|&i| f64::from(x[i])).sum::<f64>() / of.len() as f64;
                    let var = of.iter().map(|&i| (f64::from(x[i]) - mean).powi(2)).sum::<f64>() / of.len() as f64;
                    for i in of {
                        let v = (f64::from(x[i]) - mean) / (var + 1e-5).sqrt();
                        want[i] = Act::Relu.apply(v * f64::from(weight[i % c]) + f64::from(bias[i % c]));
                    }
                }
            }
            close(&got, &want, 2e-6, &what);
        }
    }
}

#[test]
fn resampling() {
    for isa in Isa::all() {
        let mut rng = Rng::new(37);
        for (_, mode) in Resample::ALL {
            for (from, to, scale) in [
                ([5, 7], [10, 14], Some([2.0, 2.0])),
                ([5, 7], [12, 9], None),
                ([8, 8], [3, 4], None),
                ([6, 6], [9, 9], Some([1.6, 1.55])),
                ([1, 1], [4, 3], None),
                ([4, 4], [4, 4], None),
            ] {
                let ([h, w], [p, q], c) = (from, to, 19);
                let what = format!("{} {mode:?} {from:?} to {to:?}, scale {scale:?}", isa.name());
                let x = rng.vec(2 * h * w * c);
                let got =
                    on_images(&what, &mut rng, &x, [2, h, w, c], [p, q, c], |x, y| resize(isa, mode, scale, x, y));
                let taps = |axis: usize, i: usize, from: usize, to: usize| -> Vec<(usize, f64)> {
                    let ratio = scale.map_or(from as f64 / to as f64, |s| 1.0 / s[axis]);
                    let source = (i as f64 + 0.5) * ratio - 0.5;
                    let clamp = |i: f64| i.clamp(0.0, from as f64 - 1.0) as usize;
                    match mode {
                        Resample::Nearest => vec![(clamp((i as f64 * ratio + 1e-9).floor()), 1.0)],
                        Resample::Bilinear => {
                            let low = source.max(0.0).floor();
                            let t = source.max(0.0) - low;
                            vec![(clamp(low), 1.0 - t), (clamp(low + 1.0), t)]
                        }
                        Resample::Bicubic => (-1..3)
                            .map(|k| {
                                let pos = source.floor() + f64::from(k);
                                let d = (source - pos).abs();
                                let a = -0.75;
                                let weight = if d <= 1.0 {
                                    (a + 2.0) * d.powi(3) - (a + 3.0) * d.powi(2) + 1.0
                                } else {
                                    a * (d.powi(3) - 5.0 * d.powi(2) + 8.0 * d - 4.0)
                                };
                                (clamp(pos), weight)
                            })
                            .collect(),
                    }
                };
                let mut want = Vec::new();
                for i in 0..2 * p * q * c {
                    let (ch, ox, oy, n) = (i % c, i / c % q, i / c / q % p, i / c / q / p);
                    let mut sum = 0.0;
                    for &(iy, wy) in &taps(0, oy, h, p) {
                        for &(ix, wx) in &taps(1, ox, w, q) {
                            sum += wy * wx * f64::from(x[((n * h + iy) * w + ix) * c + ch]);
                        }
                    }
                    want.push(sum);
                }
                close(&got, &want, 1e-6, &what);
            }
        }
    }
}

/// Filters as PyTorch's `upsample_antialias` has them, and what the transposes make of them.
#[test]
fn antialiased_resampling() {
    let filter = |mode: Resample, d: f64| match (mode, d.abs()) {
        (Resample::Bilinear, d) => (1.0 - d).max(0.0),
        (_, d) if d < 1.0 => 1.5 * d.powi(3) - 2.5 * d.powi(2) + 1.0,
        (_, d) if d < 2.0 => -0.5 * d.powi(3) + 2.5 * d.powi(2) - 4.0 * d + 2.0,
        _ => 0.0,
    };
    for isa in Isa::all() {
        let mut rng = Rng::new(38);
        for mode in [Resample::Bilinear, Resample::Bicubic] {
            for (from, to, scale) in [
                ([5, 7], [10, 14], Some([2.0, 2.0])),
                ([13, 9], [3, 4], None),
                ([6, 11], [4, 3], Some([0.7, 0.3])),
                ([1, 1], [4, 3], None),
                ([9, 2], [1, 5], None),
                ([4, 4], [4, 4], None),
            ] {
                let ([h, w], [p, q], c) = (from, to, 19);
                let what = format!("{} antialiased {mode:?} {from:?} to {to:?}, scale {scale:?}", isa.name());
                let matrix = |axis: usize| {
                    let ratio = scale.map_or(from[axis] as f64 / to[axis] as f64, |s: [f64; 2]| 1.0 / s[axis]);
                    let weight =
                        |o: usize, i: usize| filter(mode, (i as f64 + 0.5 - (o as f64 + 0.5) * ratio) / ratio.max(1.0));
                    let total = |o: usize| (0..from[axis]).map(|i| weight(o, i)).sum::<f64>();
                    let row = |o: usize| (0..from[axis]).map(|i| weight(o, i) / total(o)).collect::<Vec<f64>>();
                    (Banded::antialiased(mode, ratio, from[axis], to[axis]), (0..to[axis]).map(row).collect::<Vec<_>>())
                };
                let ((rows, down), (columns, across)) = (matrix(0), matrix(1));
                let (x, d) = (rng.vec(2 * h * w * c), rng.vec(2 * p * q * c));
                let y = on_images(&what, &mut rng, &x, [2, h, w, c], [p, q, c], |x, y| {
                    banded(isa, &rows, &columns, x, y);
                });
                let (back, turned) = (rows.transposed(), columns.transposed());
                let dx = on_images(&what, &mut rng, &d, [2, p, q, c], [h, w, c], |d, dx| {
                    banded(isa, &back, &turned, d, dx);
                });
                let (mut want, mut want_d) = (vec![0.0; y.len()], vec![0.0; dx.len()]);
                for n in 0..2 {
                    for (o, i) in (0..p).flat_map(|o| (0..h).map(move |i| (o, i))) {
                        for (oo, ii) in (0..q).flat_map(|oo| (0..w).map(move |ii| (oo, ii))) {
                            let weight = down[o][i] * across[oo][ii];
                            for ch in 0..c {
                                let (to, from) = (((n * p + o) * q + oo) * c + ch, ((n * h + i) * w + ii) * c + ch);
                                want[to] += weight * f64::from(x[from]);
                                want_d[from] += weight * f64::from(d[to]);
                            }
                        }
                    }
                }
                close(&y, &want, 1e-6, &what);
                close(&dx, &want_d, 1e-6, &what);
            }
        }
    }
}

#[test]
fn copies_of_any_strides() {
    let mut rng = Rng::new(41);
    let mut cases: Vec<(Vec<usize>, Vec<usize>)> = vec![
        (vec![2, 3, 56, 50], vec![0, 2, 3, 1]),
        (vec![2, 56, 50, 3], vec![0, 3, 1, 2]),
        (vec![64, 40, 40], vec![1, 2, 0]),
        (vec![33, 47], vec![1, 0]),
        (vec![300, 300], vec![0, 1]),
        (vec![], vec![]),
        (vec![2, 0, 3], vec![2, 1, 0]),
    ];
    for _ in 0..80 {
        let rank = rng.pick(1, 6);
        let mut order: Vec<usize> = (0..rank).collect();
        for i in 0..rank {
            order.swap(i, rng.pick(i, rank - 1));
        }
        cases.push(((0..rank).map(|_| rng.pick(1, 6)).collect(), order));
    }
    for (shape, order) in cases {
        let what = format!("{shape:?} in order {order:?}");
        // The destination is dense in the given order; the source has gaps.
        let rank = shape.len();
        let (mut from, mut to) = (vec![0; rank], vec![0; rank]);
        let (mut source, mut dense) = (1, 1);
        for axis in (0..rank).rev() {
            from[axis] = source;
            source *= shape[axis] + if axis + 1 == rank { rng.pick(0, 2) } else { 0 };
            to[order[axis]] = dense;
            dense *= shape[order[axis]];
        }
        let x = rng.vec(source.max(1));
        let got = on_threads(&what, || {
            let mut y = poison(dense);
            copy(&shape, Strided { data: &x, strides: &from }, &mut y, &to);
            y
        });
        let mut want = vec![0f64; dense];
        for i in 0..dense {
            want[at(i, &shape, &to)] = f64::from(x[at(i, &shape, &from)]);
        }
        close(&got, &want, 0.0, &what);
    }
}

#[test]
fn reductions_over_any_axes() {
    for isa in Isa::all() {
        let mut rng = Rng::new(47);
        for round in 0..60 {
            let rank = rng.pick(1, 5);
            let shape: Vec<usize> = (0..rank).map(|_| rng.pick(1, 9) * rng.pick(1, 3)).collect();
            let axes: Vec<bool> = (0..rank).map(|_| rng.pick(0, 1) == 0).collect();
            // Any order of axes, so that the contiguous one may be kept or reduced.
            let mut strides = vec![0; rank];
            let mut len = 1 + usize::from(round % 4 == 0);
            let turn = rng.pick(0, rank - 1);
            for i in 0..rank {
                let axis = (i + turn) % rank;
                strides[axis] = len;
                len *= shape[axis];
            }
            let x = rng.vec(len);
            let kind = [Reduce::Mean, Reduce::Max, Reduce::Sum][round % 3];
            let what = format!("{} {kind:?} {shape:?} {strides:?} {axes:?}", isa.name());
            let kept: Vec<usize> = (0..rank).filter(|&a| !axes[a]).map(|a| shape[a]).collect();
            let outputs: usize = kept.iter().product();
            let got = on_threads(&what, || {
                let mut y = poison(outputs);
                reduce(isa, kind, &shape, Strided { data: &x, strides: &strides }, &axes, &mut y);
                y
            });
            let mut groups = vec![Vec::new(); outputs];
            for i in 0..shape.iter().product() {
                let (mut rest, mut to, mut step) = (i, 0, 1);
                for axis in (0..rank).rev() {
                    if !axes[axis] {
                        to += rest % shape[axis] * step;
                        step *= shape[axis];
                    }
                    rest /= shape[axis];
                }
                groups[to].push(f64::from(x[at(i, &shape, &strides)]));
            }
            let want: Vec<f64> = groups
                .iter()
                .map(|g| match kind {
                    Reduce::Mean => g.iter().sum::<f64>() / g.len() as f64,
                    Reduce::Sum => g.iter().sum(),
                    Reduce::Max => g.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v)),
                })
                .collect();
            close(&got, &want, 2e-6, &what);
        }
    }
}
