//! Convolution of all kinds.

use archc_base::{Act, Pool, Window};

use super::*;

/// [n, h, w, c] -> f64 [n, p, q, k], dense.
pub fn naive(shape: &ConvShape, x: &Image, w: &[f32]) -> Vec<f64> {
    let [p, q] = shape.window.output([x.h, x.w]);
    let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    let [kh, kw] = shape.window.kernel;
    let mut y = Vec::new();
    for n in 0..x.n {
        for oy in 0..p {
            for ox in 0..q {
                for k in 0..shape.out_channels {
                    let mut sum = 0f64;
                    for r in 0..kh {
                        for s in 0..kw {
                            let iy = (oy * shape.window.stride[0] + r * shape.window.dilation[0]) as isize
                                - shape.window.padding[0] as isize;
                            let ix = (ox * shape.window.stride[1] + s * shape.window.dilation[1]) as isize
                                - shape.window.padding[1] as isize;
                            if iy < 0 || ix < 0 || iy >= x.h as isize || ix >= x.w as isize {
                                continue;
                            }
                            let at = ((n * x.h + iy as usize) * x.w + ix as usize) * x.stride + k / kg * cg;
                            for c in 0..cg {
                                sum += f64::from(x.data[at + c]) * f64::from(w[((k * cg + c) * kh + r) * kw + s]);
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    y
}

pub struct Case {
    pub shape: ConvShape,
    pub size: [usize; 3],
}

pub fn case(n: usize, h: usize, w: usize, c: usize, k: usize, kernel: [usize; 2], groups: usize) -> Case {
    Case {
        shape: ConvShape { in_channels: c, out_channels: k, window: Window { kernel, ..Window::square(1) }, groups },
        size: [n, h, w],
    }
}

impl Case {
    fn stride(mut self, y: usize, x: usize) -> Self {
        self.shape.window.stride = [y, x];
        self
    }
    pub fn pad(mut self, padding: [usize; 4]) -> Self {
        self.shape.window.padding = padding;
        self
    }
    fn dilate(mut self, y: usize, x: usize) -> Self {
        self.shape.window.dilation = [y, x];
        self
    }

    /// Draws data, an epilogue and strides, runs the kernel and compares.
    pub fn check(&self, isa: Isa, algorithm: Algorithm, rng: &mut Rng) {
        let Case { shape, size: [n, h, w] } = self;
        let (c, k) = (shape.in_channels, shape.out_channels);
        let what = format!("{} {algorithm:?} {shape:?} {:?}", isa.name(), self.size);
        let (x_stride, y_stride, res_stride) = (c + rng.pick(0, 3), k + rng.pick(0, 3), k + rng.pick(0, 2));
        let data = rng.vec(n * h * w * x_stride);
        let x = Image { data: &data, n: *n, h: *h, w: *w, c, stride: x_stride };
        // Sums of about unit size, so that the tolerance means the same for all.
        let terms = shape.weight_len() / k;
        let weights: Vec<f32> = rng.vec(shape.weight_len()).iter().map(|w| w * 3.0 / (terms as f32).sqrt()).collect();
        let [p, q] = shape.window.output([*h, *w]);
        let pixels = n * p * q;
        let bias: Option<Vec<f32>> = (rng.pick(0, 2) > 0).then(|| rng.vec(k));
        let residual: Option<Vec<f32>> = (rng.pick(0, 1) == 0).then(|| rng.vec(pixels * res_stride));
        let gate: Option<Vec<f32>> = (rng.pick(0, 2) == 0).then(|| rng.vec(n * k));
        let acts = [Act::None, Act::Relu, Act::RELU6, Act::Silu, Act::HardSwish, Act::Clamp { lo: -0.5, hi: 0.7 }];
        let (before, after) = (acts[rng.pick(0, 5)], acts[rng.pick(0, 5)]);
        let before = if rng.pick(0, 1) == 0 { before } else { Act::None };
        let epilogue = Epilogue {
            bias: bias.as_deref(),
            before,
            gate: gate.as_deref(),
            residual: residual.as_deref().map(|data| Rows { data, rows: pixels, cols: k, stride: res_stride }),
            after,
        };
        let packed = PackedConv::pack_for(isa, shape, algorithm, &weights);
        let got = on_threads(&what, || {
            let mut out = poison(pixels * y_stride);
            packed.run(x, ImageMut { data: &mut out, n: *n, h: p, w: q, c: k, stride: y_stride }, &epilogue);
            if y_stride > k {
                assert!(
                    out.chunks(y_stride).all(|px| px[k..].iter().all(|v| v.is_nan())),
                    "wrote between pixels: {what}"
                );
            }
            out.chunks(y_stride).flat_map(|px| px[..k].to_vec()).collect()
        });
        let mut want = naive(shape, &x, &weights);
        for (i, v) in want.iter_mut().enumerate() {
            let (m, j) = (i / k, i % k);
            *v += bias.as_ref().map_or(0.0, |b| b[j].into());
            *v = before.apply(*v);
            *v *= gate.as_ref().map_or(1.0, |g| g[m / (p * q) * k + j].into());
            *v += residual.as_ref().map_or(0.0, |r| r[m * res_stride + j].into());
            *v = after.apply(*v);
        }
        // the larger tiles of Winograd's algorithm cancel more, and a bound after the sum hides how large it was
        let tolerance = if algorithm == Algorithm::Winograd4 { 8e-6 } else { 4e-6 };
        close(&got, &want, tolerance, &what);
        self.check_means(isa, &packed, x, &epilogue);
    }

    /// With factors of the input where the kernel takes them: the result again, its means beside it, and alone.
    fn check_means(&self, isa: Isa, packed: &PackedConv, x: Image, epilogue: &Epilogue) {
        let rng = &mut Rng::new(self.shape.out_channels as u64);
        let (shape, n, c, k) = (&self.shape, x.n, x.c, self.shape.out_channels);
        let what = format!("means, {} {shape:?} {:?}", isa.name(), self.size);
        let [p, q] = shape.window.output([x.h, x.w]);
        let pointwise = ConvShape::new(c, k, 1) == *shape;
        let factors = (pointwise && rng.pick(0, 1) == 0).then(|| rng.vec(n * c));
        let mut scaled = x.data.to_vec();
        for (i, pixel) in scaled.chunks_mut(x.stride).enumerate() {
            for (v, j) in pixel.iter_mut().zip(0..c) {
                *v *= factors.as_ref().map_or(1.0, |f| f[i / (x.h * x.w) * c + j]);
            }
        }
        let mut plain = poison(n * p * q * k);
        packed.run(Image { data: &scaled, ..x }, ImageMut::new(&mut plain, [n, p, q, k]), epilogue);
        let mut want = vec![0f64; n * k];
        for (i, v) in plain.iter().enumerate() {
            want[i / (p * q * k) * k + i % k] += f64::from(*v) / (p * q) as f64;
        }
        let stride = k + rng.pick(0, 3);
        let dense = |means: &[f32]| -> Vec<f32> { means.chunks(stride).flat_map(|row| row[..k].to_vec()).collect() };
        let got = on_threads(&what, || {
            let (mut image, mut means) = (poison(n * p * q * k), poison(n * stride));
            let y = Output::Both(
                ImageMut::new(&mut image, [n, p, q, k]),
                RowsMut { data: &mut means, rows: n, cols: k, stride },
            );
            packed.run_io(ConvIo { x: Input::Image(x), scale: factors.as_deref(), y }, epilogue);
            image.extend(dense(&means));
            image
        });
        let (image, means) = got.split_at(plain.len());
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(image), bits(&plain), "the image changes with its means: {what}");
        close(means, &want, 1e-6, &what);
        let got = on_threads(&what, || {
            let mut means = poison(n * stride);
            let y: Output = Output::Means(RowsMut { data: &mut means, rows: n, cols: k, stride });
            packed.run_io(ConvIo { x: Input::Image(x), scale: factors.as_deref(), y }, epilogue);
            dense(&means)
        });
        close(&got, &want, 1e-6, &what);
    }
}

fn cases() -> Vec<Case> {
    let sq = |k| [k, k];
    vec![
        // 1x1: tails of rows and columns, padding, strides
        case(1, 1, 1, 1, 1, sq(1), 1),
        case(1, 5, 7, 3, 5, sq(1), 1),
        case(2, 7, 7, 37, 33, sq(1), 1),
        case(1, 9, 5, 64, 100, sq(1), 1).stride(2, 2),
        case(1, 4, 4, 20, 17, sq(1), 1).pad([1, 2, 0, 1]),
        case(1, 30, 30, 96, 160, sq(1), 1),
        case(3, 15, 13, 48, 80, sq(1), 1),
        case(3, 5, 3, 512, 320, sq(1), 1),
        case(1, 7, 7, 700, 300, sq(1), 1),
        // windows
        case(1, 6, 9, 16, 32, sq(3), 1).pad([1; 4]),
        case(2, 8, 8, 18, 40, sq(3), 1).pad([1; 4]).stride(2, 2),
        case(1, 11, 10, 20, 31, [3, 5], 1).pad([0, 3, 2, 1]).stride(1, 2).dilate(2, 1),
        case(1, 12, 12, 24, 48, sq(3), 1).pad([4; 4]).dilate(4, 4),
        case(1, 4, 4, 16, 8, sq(7), 1).pad([3; 4]),
        case(1, 14, 14, 64, 260, sq(3), 1).pad([1; 4]),
        // few channels: stems
        case(2, 23, 21, 3, 64, sq(7), 1).pad([3; 4]).stride(2, 2),
        case(3, 19, 34, 3, 16, sq(3), 1).pad([1; 4]).stride(2, 2),
        case(2, 29, 31, 3, 96, sq(4), 1).stride(4, 4),
        case(2, 49, 50, 3, 40, sq(16), 1).stride(16, 16),
        case(1, 20, 25, 2, 33, [3, 5], 1).pad([2, 3, 0, 1]).stride(3, 3).dilate(1, 2),
        case(2, 5, 40, 15, 7, [1, 3], 1).pad([0, 2, 1, 0]).stride(2, 1),
        case(1, 3, 4, 3, 5, sq(3), 1).pad([5, 4, 6, 7]).stride(1, 5),
        case(1, 16, 16, 3, 10, sq(3), 1).pad([0, 0, 1, 1]).stride(2, 2),
        case(1, 16, 16, 1, 6, sq(5), 1),
        case(1, 9, 12, 4, 33, [4, 4], 1).stride(4, 4).dilate(2, 1),
        case(1, 9, 12, 4, 33, [2, 2], 1).dilate(1, 3),
        // depthwise
        case(1, 7, 7, 33, 33, sq(3), 33).pad([1; 4]),
        case(2, 9, 8, 100, 100, sq(3), 100).pad([1; 4]).stride(2, 2),
        case(1, 12, 11, 64, 64, sq(7), 64).pad([3; 4]),
        case(1, 12, 11, 7, 7, [1, 5], 7).pad([0, 2, 0, 2]).dilate(1, 2),
        case(1, 5, 5, 6, 18, sq(3), 6).pad([1; 4]),
        case(1, 5, 5, 6, 12, sq(3), 6).pad([1; 4]),
        case(1, 5, 5, 20, 640, sq(3), 20).pad([1; 4]),
        // groups: permuted, merged, wide
        case(1, 7, 6, 64, 64, sq(3), 16).pad([1; 4]),
        case(1, 7, 6, 72, 72, sq(3), 9).pad([1; 4]).stride(2, 2),
        case(1, 5, 6, 16, 8, sq(3), 4).pad([1; 4]),
        case(1, 5, 6, 12, 24, sq(3), 3).pad([1; 4]),
        case(1, 6, 6, 64, 64, sq(3), 4).pad([1; 4]),
        case(1, 6, 6, 96, 96, sq(3), 2).pad([1; 4]),
        case(1, 6, 6, 30, 20, sq(1), 10),
        case(1, 6, 6, 66, 10, sq(1), 2),
    ]
}

#[test]
fn convolutions_match_a_plain_loop() {
    for isa in Isa::all() {
        let mut rng = Rng::new(7);
        for case in cases() {
            for _ in 0..3 {
                case.check(isa, Algorithm::Direct, &mut rng);
            }
        }
    }
}

#[test]
fn stems_read_images_in_any_order_of_axes() {
    for isa in Isa::all() {
        let mut rng = Rng::new(31);
        let cases = cases().into_iter().filter(|case| {
            case.shape.groups == 1 && case.shape.in_channels <= FEW_CHANNELS && case.shape.window.kernel != [1, 1]
        });
        for Case { shape, size: [n, h, w] } in cases {
            let what = format!("{} {shape:?} {n} x {h} x {w}", isa.name());
            let (c, k) = (shape.in_channels, shape.out_channels);
            let [p, q] = shape.window.output([h, w]);
            let (x, weights, bias) = (rng.vec(n * h * w * c), rng.vec(shape.weight_len()), rng.vec(k));
            let packed = PackedConv::pack(isa, &shape, &weights);
            let epilogue = Epilogue::new(Some(&bias), Act::HardSwish);
            let run = |x: Input| {
                on_threads(&what, || {
                    let mut y = poison(n * p * q * k);
                    let out = Output::Image(ImageMut::new(&mut y, [n, p, q, k]));
                    packed.run_io(ConvIo { x, scale: None, y: out }, &epilogue);
                    y
                })
            };
            let want = run(Input::Image(Image::new(&x, [n, h, w, c])));
            // planes in the opposite order, pixels two apart, with room around
            let strides = [h * (2 * w + 1) + 2, n * (h * (2 * w + 1) + 2), 2 * w + 1, 2];
            let mut data = poison(c * strides[1]);
            for (i, v) in x.iter().enumerate() {
                let at = [i / (h * w * c), i % c, i / (w * c) % h, i / c % w];
                data[at.iter().zip(strides).map(|(i, stride)| i * stride).sum::<usize>()] = *v;
            }
            assert_eq!(run(Input::Planes(Planes { data: &data, dims: [n, c, h, w], strides })), want, "{what}");
        }
    }
}

#[test]
fn separable_convolutions_are_the_two_alone() {
    for isa in Isa::all() {
        let mut rng = Rng::new(23);
        let cases = [
            (case(1, 9, 8, 33, 33, [3, 3], 33).pad([1; 4]), 20, Act::Relu),
            (case(3, 15, 14, 96, 96, [5, 5], 96).pad([2; 4]).stride(2, 2), 40, Act::HardSwish),
            (case(2, 56, 41, 64, 64, [3, 3], 64).pad([1; 4]), 24, Act::RELU6),
            (case(1, 7, 7, 512, 512, [3, 3], 512).pad([1; 4]), 70, Act::None),
        ];
        for (Case { shape, size: [n, h, w] }, out, act) in cases {
            let what = format!("{} {shape:?} {n} x {h} x {w} to {out}", isa.name());
            let c = shape.out_channels;
            let [p, q] = shape.window.output([h, w]);
            let (x, deep, flat) = (rng.vec(n * h * w * c), rng.vec(shape.weight_len()), rng.vec(out * c));
            let (bias, last) = (rng.vec(c), rng.vec(out));
            let residual = rng.vec(n * p * q * out);
            let x = Image::new(&x, [n, h, w, c]);
            let rows = Rows::new(&residual, n * p * q, out);
            let epilogue =
                Epilogue { bias: Some(&last), residual: Some(rows), after: Act::Relu, ..Epilogue::default() };
            let mut hidden = poison(n * p * q * c);
            let depthwise = PackedConv::pack(isa, &shape, &deep);
            depthwise.run(x, ImageMut::new(&mut hidden, [n, p, q, c]), &Epilogue::new(Some(&bias), act));
            let mut want = poison(n * p * q * out);
            let pointwise = PackedConv::pack(isa, &ConvShape::new(c, out, 1), &flat);
            let hidden = Image::new(&hidden, [n, p, q, c]);
            pointwise.run(hidden, ImageMut::new(&mut want, [n, p, q, out]), &epilogue);
            let packed = PackedSeparable::pack(isa, &shape, &deep, Some(bias.clone()), act, out, &flat);
            let got = on_threads(&what, || {
                let mut y = poison(n * p * q * out);
                packed.run(x, ImageMut::new(&mut y, [n, p, q, out]), &epilogue);
                y
            });
            assert_eq!(got, want, "{what}");
        }
    }
}

#[test]
fn pooled_convolutions_are_the_two_alone() {
    for isa in Isa::all() {
        let mut rng = Rng::new(29);
        let pool = |kernel: usize, stride: usize, padding: usize| Window {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 4],
            dilation: [1; 2],
        };
        // the size of the result; ceil mode where the last window reaches beyond the image
        let cases = [
            (case(2, 61, 47, 3, 20, [7, 7], 1).pad([3; 4]).stride(2, 2), pool(3, 2, 1), [16, 12]),
            (case(1, 32, 30, 3, 64, [3, 3], 1), pool(3, 2, 0), [15, 14]),
            (case(1, 10, 9, 1, 5, [3, 3], 1).pad([1; 4]), pool(2, 2, 0), [5, 5]),
            (case(1, 40, 9, 4, 40, [3, 3], 1).pad([1; 4]), pool(2, 3, 0), [13, 3]),
        ];
        for (Case { shape, size: [n, h, w] }, pooling, [p, q]) in cases {
            let what = format!("{} {shape:?} {pooling:?}", isa.name());
            let (c, k) = (shape.in_channels, shape.out_channels);
            let [ch, cw] = shape.window.output([h, w]);
            let (x, weights, bias) = (rng.vec(n * h * w * c), rng.vec(shape.weight_len()), rng.vec(k));
            let x = Image::new(&x, [n, h, w, c]);
            let mut image = poison(n * ch * cw * k);
            let epilogue = Epilogue::new(Some(&bias), Act::Relu);
            PackedConv::pack(isa, &shape, &weights).run(x, ImageMut::new(&mut image, [n, ch, cw, k]), &epilogue);
            let mut want = poison(n * p * q * k);
            let image = Image::new(&image, [n, ch, cw, k]);
            super::super::pool(isa, Pool::Max, &pooling, image, ImageMut::new(&mut want, [n, p, q, k]));
            let packed = PackedPooled::pack(isa, &shape, &weights, Act::Relu, pooling);
            let got = on_threads(&what, || {
                let mut y = poison(n * p * q * k);
                packed.run(Input::Image(x), Some(&bias), ImageMut::new(&mut y, [n, p, q, k]));
                y
            });
            assert_eq!(got, want, "{what}");
        }
    }
}
