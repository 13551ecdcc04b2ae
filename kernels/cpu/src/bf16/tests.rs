//! Every kernel against a plain loop in f64 on inputs and weights rounded to bf16, on every unit of this CPU: odd sizes,
//! tails, outputs full of NaN before the call, and the same bits on one, two and three threads.
//!
//! Results in bf16 are within half a unit of the last place of the exact ones (2^-8 of a value at most) and the error of float32
//! sums; results in float32 within the latter.

use super::super::tests::{Rng, close, on_threads, poison};
use super::super::{
    Algorithm, ConvShape, Convolved, Element, Epilogue, Image, ImageMut, Map, PackedConv, PackedMat, Rows, RowsMut,
    Strided, adaptive_pool, linear, pool, unary,
};
use super::*;
use archc_base::{Act, Pool, Window};
use half::bf16;

/// Rounding a result, relative to the largest one.
const ROUNDING: f64 = 1.0 / 256.0 + 4e-6;
const SUMS: f64 = 4e-6;

fn halves(rng: &mut Rng, len: usize) -> Vec<bf16> {
    rng.vec(len).into_iter().map(bf16::from_f32).collect()
}

fn exact(value: bf16) -> f64 {
    f64::from(value.to_f32())
}

fn wide(values: &[bf16]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

/// A kernel's output before the call: NaN in either type.
fn poisoned<O: Element>(len: usize) -> Vec<O> {
    poison(len).into_iter().map(O::down).collect()
}

/// The first `cols` of each `stride`, and that nothing else was written.
fn picked<O: Element>(out: &[O], cols: usize, stride: usize, what: &str) -> Vec<f32> {
    let up = |row: &[O]| row.iter().map(|value| value.up()).collect::<Vec<_>>();
    for row in out.chunks(stride) {
        assert!(up(&row[cols..]).iter().all(|value| value.is_nan()), "wrote between rows: {what}");
    }
    out.chunks(stride).flat_map(|row| up(&row[..cols])).collect()
}

/// [n, h, w, c] -> f64 [n, p, q, k], dense.
fn naive(shape: &ConvShape, x: &Image<bf16>, weight: impl Fn(usize) -> f64) -> Vec<f64> {
    let [p, q] = shape.window.output([x.h, x.w]);
    let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    let [kh, kw] = shape.window.kernel;
    let mut y = Vec::new();
    for at in 0..x.n * p * q * shape.out_channels {
        let (k, ox, oy, n) = (
            at % shape.out_channels,
            at / shape.out_channels % q,
            at / shape.out_channels / q % p,
            at / shape.out_channels / q / p,
        );
        let mut sum = 0f64;
        for (r, s) in (0..kh).flat_map(|r| (0..kw).map(move |s| (r, s))) {
            let iy = (oy * shape.window.stride[0] + r * shape.window.dilation[0]) as isize
                - shape.window.padding[0] as isize;
            let ix = (ox * shape.window.stride[1] + s * shape.window.dilation[1]) as isize
                - shape.window.padding[1] as isize;
            if iy < 0 || ix < 0 || iy >= x.h as isize || ix >= x.w as isize {
                continue;
            }
            let from = ((n * x.h + iy as usize) * x.w + ix as usize) * x.stride + k / kg * cg;
            for c in 0..cg {
                sum += exact(x.data[from + c]) * weight(((k * cg + c) * kh + r) * kw + s);
            }
        }
        y.push(sum);
    }
    y
}

struct Case {
    shape: ConvShape,
    size: [usize; 3],
}

fn case(size: [usize; 3], c: usize, k: usize, kernel: [usize; 2], groups: usize) -> Case {
    Case {
        shape: ConvShape { in_channels: c, out_channels: k, window: Window { kernel, ..Window::square(1) }, groups },
        size,
    }
}

impl Case {
    fn stride(mut self, y: usize, x: usize) -> Self {
        self.shape.window.stride = [y, x];
        self
    }
    fn pad(mut self, padding: [usize; 4]) -> Self {
        self.shape.window.padding = padding;
        self
    }
    fn dilate(mut self, y: usize, x: usize) -> Self {
        self.shape.window.dilation = [y, x];
        self
    }

    /// Draws data, an epilogue and strides, runs the kernel and compares.
    fn check<O: Element + Convolved<bf16>>(&self, unit: Unit, algorithm: Algorithm, rng: &mut Rng, tolerance: f64) {
        let Case { shape, size: [n, h, w] } = self;
        let (c, k) = (shape.in_channels, shape.out_channels);
        let what = format!("{unit:?} {shape:?} {:?}", self.size);
        let (x_stride, y_stride, res_stride) = (c + rng.pick(0, 3), k + rng.pick(0, 3), k + rng.pick(0, 2));
        let data = halves(rng, n * h * w * x_stride);
        let x = Image { data: &data[..], n: *n, h: *h, w: *w, c, stride: x_stride };
        let terms = shape.weight_len() / k;
        let weights: Vec<f32> = rng.vec(shape.weight_len()).iter().map(|w| w * 3.0 / (terms as f32).sqrt()).collect();
        let [p, q] = shape.window.output([*h, *w]);
        let pixels = n * p * q;
        let bias: Option<Vec<f32>> = (rng.pick(0, 2) > 0).then(|| rng.vec(k));
        let residual: Option<Vec<bf16>> = (rng.pick(0, 1) == 0).then(|| halves(rng, pixels * res_stride));
        let gate: Option<Vec<f32>> = (rng.pick(0, 2) == 0).then(|| rng.vec(n * k));
        let acts = [Act::None, Act::Relu, Act::RELU6, Act::Silu, Act::HardSwish, Act::Clamp { lo: -0.5, hi: 0.7 }];
        let (before, after) = (acts[rng.pick(0, 5)], acts[rng.pick(0, 5)]);
        let before = if rng.pick(0, 1) == 0 { before } else { Act::None };
        let epilogue = Epilogue {
            bias: bias.as_deref(),
            before,
            residual: residual.as_deref().map(|data| Rows { data, rows: pixels, cols: k, stride: res_stride }),
            after,
            gate: gate.as_deref(),
        };
        let packed = PackedConv::<bf16>::pack_for(unit, shape, algorithm, &weights);
        let got = on_threads(&what, || {
            let mut out = poisoned::<O>(pixels * y_stride);
            packed.run(x, ImageMut { data: &mut out[..], n: *n, h: p, w: q, c: k, stride: y_stride }, &epilogue);
            picked(&out, k, y_stride, &what)
        });
        // what is multiplied in float32 has weights in float32
        let floats = !packed.kernel().starts_with("direct");
        let mut want = naive(shape, &x, |at| {
            let value = weights[at];
            if floats { value.into() } else { exact(bf16::from_f32(value)) }
        });
        for (i, v) in want.iter_mut().enumerate() {
            let (m, j) = (i / k, i % k);
            *v += bias.as_ref().map_or(0.0, |b| b[j].into());
            *v = before.apply(*v);
            *v *= gate.as_ref().map_or(1.0, |g| g[m / (p * q) * k + j].into());
            *v += residual.as_ref().map_or(0.0, |r| exact(r[m * res_stride + j]));
            *v = after.apply(*v);
        }
        close(&got, &want, tolerance, &what);
    }
}

fn cases() -> Vec<Case> {
    let sq = |k| [k, k];
    vec![
        // 1x1: tails of rows and columns, odd depths, padding, strides
        case([1, 1, 1], 1, 1, sq(1), 1),
        case([3, 5, 7], 3, 5, sq(1), 1),
        case([2, 7, 7], 37, 33, sq(1), 1),
        case([1, 9, 5], 64, 100, sq(1), 1).stride(2, 2),
        case([1, 4, 4], 20, 17, sq(1), 1).pad([1, 2, 0, 1]),
        case([1, 30, 30], 96, 160, sq(1), 1),
        case([1, 7, 7], 1201, 300, sq(1), 1),
        // windows
        case([3, 6, 9], 16, 32, sq(3), 1).pad([1; 4]),
        case([2, 8, 8], 19, 40, sq(3), 1).pad([1; 4]).stride(2, 2),
        case([1, 11, 10], 20, 31, [3, 5], 1).pad([0, 3, 2, 1]).stride(1, 2).dilate(2, 1),
        case([1, 12, 12], 24, 48, sq(3), 1).pad([4; 4]).dilate(4, 4),
        case([1, 4, 4], 16, 8, sq(7), 1).pad([3; 4]),
        case([1, 14, 14], 64, 260, sq(3), 1).pad([1; 4]),
        // few channels
        case([2, 23, 21], 3, 64, sq(7), 1).pad([3; 4]).stride(2, 2),
        case([1, 16, 16], 3, 10, sq(3), 1).pad([0, 0, 1, 1]).stride(2, 2),
        case([1, 16, 16], 1, 6, sq(5), 1),
        case([1, 9, 12], 4, 33, [4, 4], 1).stride(4, 4).dilate(2, 1),
        case([1, 9, 12], 4, 33, [2, 2], 1).dilate(1, 3),
        // depthwise: sliding windows, tables
        case([1, 7, 7], 33, 33, sq(3), 33).pad([1; 4]),
        case([3, 9, 17], 70, 70, sq(3), 70).pad([1; 4]),
        case([1, 5, 4], 40, 40, sq(5), 40).pad([2; 4]),
        case([2, 9, 8], 100, 100, sq(3), 100).pad([1; 4]).stride(2, 2),
        case([1, 12, 11], 64, 64, sq(7), 64).pad([3; 4]),
        case([1, 12, 11], 7, 7, [1, 5], 7).pad([0, 2, 0, 2]).dilate(1, 2),
        case([1, 12, 11], 7, 7, [3, 3], 7).pad([2, 1, 2, 1]).dilate(2, 1),
        // groups: merged, wide
        case([1, 5, 5], 6, 18, sq(3), 6).pad([1; 4]),
        case([1, 7, 6], 64, 64, sq(3), 16).pad([1; 4]),
        case([1, 5, 6], 12, 24, sq(3), 3).pad([1; 4]),
        case([1, 6, 6], 96, 96, sq(3), 2).pad([1; 4]),
        case([1, 6, 6], 30, 20, sq(1), 10),
        case([1, 6, 6], 66, 10, sq(1), 2),
    ]
}

#[test]
fn convolutions_match_a_plain_loop() {
    for unit in Unit::all() {
        let mut rng = Rng::new(7);
        for case in cases() {
            for _ in 0..2 {
                case.check::<bf16>(unit, Algorithm::Direct, &mut rng, ROUNDING);
            }
            case.check::<f32>(unit, Algorithm::Direct, &mut rng, SUMS);
        }
    }
}

/// Where V and U are in bf16 each term is rounded twice on the way, to half of 2^-8, and outputs sum 9 points of four terms:
/// in all a few units of 2^-8 of the largest output.
#[test]
fn winograd_matches_a_plain_loop() {
    for unit in Unit::all() {
        let mut rng = Rng::new(23);
        for case in cases() {
            let ConvShape { in_channels, groups, window, .. } = case.shape;
            let Window { kernel, stride, dilation, .. } = window;
            if kernel != [3, 3] || stride != [1, 1] || dilation != [1, 1] || groups == in_channels {
                continue;
            }
            let inside = if unit.has_dots() { 8.0 / 256.0 } else { 0.0 };
            case.check::<bf16>(unit, Algorithm::Winograd2, &mut rng, ROUNDING + inside);
            case.check::<f32>(unit, Algorithm::Winograd2, &mut rng, SUMS + inside);
            case.check::<bf16>(unit, Algorithm::Winograd4, &mut rng, ROUNDING + 1e-4);
            case.check::<f32>(unit, Algorithm::Winograd4, &mut rng, 1e-4);
        }
    }
}

#[test]
fn linear_layers_match_a_plain_loop() {
    let mut rng = Rng::new(3);
    for unit in Unit::all() {
        for (m, k, n) in [(1, 5, 7), (3, 130, 33), (8, 64, 1000), (9, 33, 40), (100, 257, 70)] {
            let what = format!("{unit:?} {m} x {k} x {n}");
            let (a, w) = (halves(&mut rng, m * k), halves(&mut rng, n * k));
            let (wide_a, bias) = (wide(&a), rng.vec(n));
            let want: Vec<f64> = (0..m * n)
                .map(|at| {
                    let (i, j) = (at / n, at % n);
                    let sum: f64 = (0..k).map(|t| exact(a[i * k + t]) * exact(w[j * k + t])).sum();
                    (sum + f64::from(bias[j])).max(0.0)
                })
                .collect();
            let packed = PackedMat::<bf16>::from_nk(unit, Rows::new(&wide(&w), n, k));
            let epilogue = Epilogue { bias: Some(&bias), after: Act::Relu, ..Epilogue::default() };
            let got = on_threads(&what, || {
                let mut out = poisoned::<bf16>(m * n);
                packed.run(Rows::new(&a[..], m, k), RowsMut::new(&mut out[..], m, n), &epilogue);
                wide(&out)
            });
            close(&got, &want, ROUNDING, &what);
            let got = on_threads(&what, || {
                let mut out = poison(m * n);
                packed.run_wide(Rows::new(&wide_a, m, k), RowsMut::new(&mut out[..], m, n), &epilogue);
                out
            });
            close(&got, &want, SUMS, &what);
            let floats = super::super::Epilogue::new(Some(&bias), Act::Relu);
            let got = on_threads(&what, || {
                let mut out = poison(m * n);
                linear(unit, Rows::new(&wide_a, m, k), Rows::new(&w[..], n, k), RowsMut::new(&mut out, m, n), &floats);
                out
            });
            close(&got, &want, SUMS, &what);
        }
    }
}

#[test]
fn pools_are_those_of_float32_rounded() {
    let mut rng = Rng::new(11);
    let shape = Window { kernel: [3, 2], stride: [2, 1], padding: [1, 0, 1, 1], dilation: [1, 1] };
    for unit in Unit::all() {
        for c in [1, 16, 37, 100] {
            let mut data = halves(&mut rng, 2 * 9 * 8 * c);
            data[c / 2] = bf16::NAN;
            let floats = wide(&data);
            let (x, wide_x) = (Image::new(&data[..], [2, 9, 8, c]), Image::new(&floats[..], [2, 9, 8, c]));
            for kind in [Pool::Max, Pool::Mean { count_padding: true }, Pool::Mean { count_padding: false }] {
                let sizes = [[2, 5, 8, c], [2, 3, 2, c], [2, 1, 1, c]];
                for (at, size) in sizes.into_iter().enumerate() {
                    let len = size.iter().product();
                    let (mut want, mut got, mut rounded) = (poison(len), poison(len), poisoned::<bf16>(len));
                    let (want_y, got_y) = (ImageMut::new(&mut want[..], size), ImageMut::new(&mut got[..], size));
                    let rounded_y = ImageMut::new(&mut rounded[..], size);
                    if at == 0 {
                        super::super::pool(unit.isa(), kind, &shape, wide_x, want_y);
                        pool(unit, kind, &shape, x, got_y);
                        pool(unit, kind, &shape, x, rounded_y);
                    } else {
                        super::super::adaptive_pool(unit.isa(), kind, wide_x, want_y);
                        adaptive_pool(unit, kind, x, got_y);
                        adaptive_pool(unit, kind, x, rounded_y);
                    }
                    let same = |a: &[f32], b: &[f32]| {
                        a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan())
                    };
                    assert!(same(&want, &got), "{unit:?} {kind:?} {size:?}");
                    let nearest: Vec<f32> = want.iter().map(|v| bf16::from_f32(*v).to_f32()).collect();
                    assert!(same(&nearest, &wide(&rounded)), "{unit:?} {kind:?} {size:?}");
                }
            }
        }
    }
}

#[test]
fn numbers_are_rounded_to_the_nearest_and_nan_stays() {
    let mut rng = Rng::new(5);
    let mut values = vec![
        0.0,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
        1.0 + 1.0 / 256.0,
        1.0 + 3.0 / 256.0,
        -3.4e38,
    ];
    values.extend((0..1000).map(|_| f32::from_bits(rng.bits() as u32)).filter(|v| v.is_normal()));
    for unit in Unit::all() {
        for len in [values.len(), 33, 7] {
            let mut got = poisoned::<bf16>(len);
            copy(unit, &[len], Strided { data: &values[..len], strides: &[1] }, &mut got, &[1]);
            for (value, got) in values.iter().zip(&got) {
                let want = bf16::from_f32(*value);
                assert!(want.to_bits() == got.to_bits() || want.is_nan() && got.is_nan(), "{unit:?} {value:e}: {got}");
            }
        }
    }
}

#[test]
fn copies_of_any_strides() {
    let mut rng = Rng::new(9);
    for unit in Unit::all() {
        for (shape, from, to) in [
            ([2, 3, 5, 7], [105, 35, 7, 1], [120, 1, 24, 3]),
            ([2, 70, 5, 7], [2450, 1, 490, 70], [2450, 35, 7, 1]),
            ([1, 4, 6, 9], [300, 1, 45, 5], [300, 1, 54, 6]),
            ([3, 2, 4, 5], [0, 10, 0, 2], [40, 20, 5, 1]),
        ] {
            let len = |strides: [usize; 4]| 1 + (0..4).map(|axis| (shape[axis] - 1) * strides[axis]).sum::<usize>();
            let data = halves(&mut rng, len(from));
            let floats = wide(&data);
            let (mut a, mut b, mut c) = (poisoned::<bf16>(len(to)), poisoned::<bf16>(len(to)), poison(len(to)));
            copy(unit, &shape, Strided { data: &data[..], strides: &from }, &mut a, &to);
            copy(unit, &shape, Strided { data: &floats[..], strides: &from }, &mut b, &to);
            copy(unit, &shape, Strided { data: &data[..], strides: &from }, &mut c, &to);
            let mut want = poison(len(to));
            super::super::copy(&shape, Strided { data: &floats, strides: &from }, &mut want, &to);
            for (i, want) in want.iter().enumerate() {
                for got in [a[i].to_f32(), b[i].to_f32(), c[i]] {
                    assert!(
                        got == *want || got.is_nan() && want.is_nan(),
                        "{unit:?} {shape:?} [{i}]: {got}, not {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn kernels_over_rows_see_all_rows_once() {
    let mut rng = Rng::new(21);
    for unit in Unit::all() {
        for (rows, cols, stride) in [(1, 1, 1), (300, 37, 40), (3, 9000, 9000)] {
            let x = halves(&mut rng, rows * stride);
            let want: Vec<f32> = x.iter().map(|v| bf16::from_f32(v.to_f32().max(0.0)).to_f32()).collect();
            let apply = |_: usize, wide: RowsMut| unary(unit.isa(), Act::Relu, Map::in_place(wide));
            let mut y = poisoned::<bf16>(rows * stride);
            let from = RowsIn::Other(Rows { data: &x[..], rows, cols, stride });
            by_rows(unit, from, RowsMut { data: &mut y[..], rows, cols, stride }, apply);
            let mut same = x.clone();
            by_rows::<bf16, bf16>(unit, RowsIn::Same, RowsMut { data: &mut same[..], rows, cols, stride }, apply);
            for row in 0..rows {
                let range = row * stride..row * stride + cols;
                assert_eq!(wide(&y[range.clone()]), want[range.clone()]);
                assert_eq!(wide(&same[range.clone()]), want[range]);
            }
        }
    }
}
