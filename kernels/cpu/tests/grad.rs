//! Every kernel of training against a plain loop in f64, on every instruction set of this CPU: odd sizes, tails, pixels with
//! gaps, outputs full of NaN before the call, and the same bits on one, two, three and eight threads.

use archc_base::{Act, Loss, Pool, Reduce, Resample, Rule, ValueLoss, Window};
use archc_cpu::grad::{self, BatchNorm, Draw, Slots};
use archc_cpu::{ConvShape, Epilogue, Image, ImageMut, Isa, Map, Policy, Rows, RowsMut, Strided};

/// Reproducible noise in about [-1, 1].
struct Rng(u64);

impl Rng {
    fn float(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
}

fn rng(seed: u64) -> Rng {
    let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    rng.vec(8);
    rng
}

/// Asserts that `got` is within `tolerance` of `want`, relative to the largest magnitude of `want` (or 1).
fn close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1.0f64, |most, value| most.max(value.abs()));
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs() / scale;
        assert!(error <= tolerance, "{what}: [{at}] is {got}, not {want} (error {error:.1e})");
    }
}

/// Runs `f` on one, two, three and eight threads; the bits must be the same.
fn on_threads(what: &str, f: impl Fn() -> Vec<f32> + Sync) -> Vec<f32> {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(&f)
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        let same = one.iter().zip(run(threads)).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "other bits on {threads} threads: {what}");
    }
    one
}

/// Rows of `cols` values, `dist` apart, whose gaps hold NaN.
fn spaced(values: &[f32], cols: usize, dist: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; values.len() / cols.max(1) * dist];
    for (row, from) in out.chunks_exact_mut(dist).zip(values.chunks_exact(cols)) {
        row[..cols].copy_from_slice(from);
    }
    out
}

fn dense(values: &[f32], cols: usize, dist: usize) -> Vec<f32> {
    values.chunks_exact(dist).flat_map(|row| row[..cols].iter().copied()).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// Runs a kernel that maps rows of dy to rows of dx, from one place to another and in place, and returns dx.
fn mapped(what: &str, dy: &[f32], cols: usize, f: impl Fn(Map) + Sync) -> Vec<f32> {
    let rows = dy.len() / cols;
    let dist = cols + 3;
    let from = spaced(dy, cols, dist);
    let apart = on_threads(what, || {
        let mut out = vec![f32::NAN; rows * (cols + 1)];
        f(Map::new(Rows::new(&from, rows, cols).spaced(dist), RowsMut::new(&mut out, rows, cols).spaced(cols + 1)));
        dense(&out, cols, cols + 1)
    });
    let mut out = from.clone();
    f(Map::in_place(RowsMut::new(&mut out, rows, cols).spaced(dist)));
    assert_eq!(dense(&out, cols, dist), apart, "in place: {what}");
    apart
}

const SHAPES: &[(usize, [usize; 2])] = &[(1, [7, 9]), (3, [12, 5]), (2, [14, 14])];

fn conv_shapes() -> Vec<ConvShape> {
    let shape = |[in_channels, out_channels]: [usize; 2], kernel, stride, padding, dilation, groups| ConvShape {
        in_channels,
        out_channels,
        window: Window { kernel, stride, padding, dilation },
        groups,
    };
    vec![
        shape([5, 7], [3, 3], [1, 1], [1; 4], [1, 1], 1),
        shape([5, 7], [3, 3], [2, 2], [1; 4], [1, 1], 1),
        shape([33, 17], [1, 1], [1, 1], [0; 4], [1, 1], 1),
        shape([20, 40], [1, 1], [2, 2], [0; 4], [1, 1], 1),
        shape([3, 20], [5, 5], [2, 2], [2; 4], [1, 1], 1),
        shape([3, 9], [5, 3], [1, 1], [2, 1, 2, 1], [1, 1], 1),
        shape([64, 48], [3, 3], [1, 1], [1; 4], [1, 1], 1),
        shape([18, 6], [3, 2], [1, 2], [1, 0, 2, 1], [1, 1], 1),
        shape([17, 19], [3, 3], [1, 1], [2; 4], [2, 2], 1),
        shape([6, 6], [3, 3], [2, 1], [3, 3, 3, 3], [1, 1], 1),
        shape([8, 12], [3, 3], [1, 1], [1; 4], [1, 1], 2),
        shape([32, 64], [3, 3], [2, 2], [1; 4], [1, 1], 4),
        shape([19, 19], [3, 3], [1, 1], [1; 4], [1, 1], 19),
        shape([19, 19], [3, 3], [2, 2], [1; 4], [1, 1], 19),
        shape([33, 33], [5, 5], [1, 1], [2; 4], [1, 1], 33),
    ]
}

/// Calls `f` with (y, x, weight) of every product that a convolution sums: places in dense NHWC images and [K, C, R, S].
fn products(shape: &ConvShape, [n, h, w]: [usize; 3], mut f: impl FnMut(usize, usize, usize)) {
    let [oh, ow] = shape.window.output([h, w]);
    let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    for pixel in 0..n * oh * ow {
        let (image, p, q) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
        for tap in 0..shape.window.kernel[0] * shape.window.kernel[1] {
            let (r, s) = (tap / shape.window.kernel[1], tap % shape.window.kernel[1]);
            let y = (p * shape.window.stride[0] + r * shape.window.dilation[0]).wrapping_sub(shape.window.padding[0]);
            let x = (q * shape.window.stride[1] + s * shape.window.dilation[1]).wrapping_sub(shape.window.padding[1]);
            if y >= h || x >= w {
                continue;
            }
            for k in 0..shape.out_channels {
                for c in 0..cg {
                    let from = ((image * h + y) * w + x) * shape.in_channels + k / kg * cg + c;
                    let weight = (k * cg + c) * shape.window.kernel[0] * shape.window.kernel[1] + tap;
                    f(pixel * shape.out_channels + k, from, weight);
                }
            }
        }
    }
}

#[test]
fn convolutions() {
    for (number, shape) in conv_shapes().into_iter().enumerate() {
        for (n, [h, w]) in SHAPES.iter().copied() {
            let [oh, ow] = shape.window.output([h, w]);
            let (c, k) = (shape.in_channels, shape.out_channels);
            let mut rng = rng(number as u64 + 1);
            let (x, dy, weights) = (rng.vec(n * h * w * c), rng.vec(n * oh * ow * k), rng.vec(shape.weight_len()));
            let residual = rng.vec(n * h * w * c);
            let (mut dx, mut dw) = (wide(&residual), vec![0.0; weights.len()]);
            products(&shape, [n, h, w], |y, from, weight| {
                dx[from] += f64::from(dy[y]) * f64::from(weights[weight]);
                dw[weight] += f64::from(dy[y]) * f64::from(x[from]);
            });
            let (dy_gaps, x_gaps) = (spaced(&dy, k, k + 5), spaced(&x, c, c + 2));
            let dy_image = Image::new(&dy_gaps, [n, oh, ow, k]).spaced(k + 5);
            let x_image = Image::new(&x_gaps, [n, h, w, c]).spaced(c + 2);
            for isa in Isa::all() {
                let what = format!("{shape:?} of {n} x {h} x {w} with {}", isa.name());
                for policy in [Policy::default(), Policy::Exact] {
                    let got = on_threads(&what, || {
                        let mut out = vec![f32::NAN; n * h * w * (c + 1)];
                        let to = ImageMut::new(&mut out, [n, h, w, c]).spaced(c + 1);
                        let residual = Some(Rows::new(&residual, n * h * w, c));
                        let epilogue = Epilogue { residual, ..Epilogue::default() };
                        grad::conv_data(isa, &shape, policy, &weights, dy_image, to, &epilogue);
                        dense(&out, c, c + 1)
                    });
                    close(&got, &dx, 3e-5, &format!("data of {what}"));
                }
                let got = on_threads(&what, || {
                    let mut out = vec![f32::NAN; weights.len()];
                    grad::conv_weight(isa, &shape, x_image, dy_image, &mut out);
                    out
                });
                close(&got, &dw, 1e-5, &format!("weight of {what}"));
            }
        }
    }
}

#[test]
fn linear_maps() {
    for (number, [rows, k, n]) in [[1, 3, 5], [7, 33, 10], [300, 65, 47], [5, 512, 1000]].into_iter().enumerate() {
        let mut rng = rng(number as u64 + 50);
        let (x, dy) = (rng.vec(rows * k), rng.vec(rows * n));
        let mut want = vec![0.0; n * k];
        for row in 0..rows {
            for j in 0..n {
                for i in 0..k {
                    want[j * k + i] += f64::from(dy[row * n + j]) * f64::from(x[row * k + i]);
                }
            }
        }
        let (x_gaps, dy_gaps) = (spaced(&x, k, k + 3), spaced(&dy, n, n + 1));
        for isa in Isa::all() {
            let what = format!("{rows} x {k} to {n} with {}", isa.name());
            let got = on_threads(&what, || {
                let mut out = vec![f32::NAN; n * k];
                let (x, dy) = (Rows::new(&x_gaps, rows, k).spaced(k + 3), Rows::new(&dy_gaps, rows, n).spaced(n + 1));
                grad::linear_weight(isa, x, dy, &mut out);
                out
            });
            close(&got, &want, 1e-5, &what);
        }
    }
}

#[test]
fn sums_of_columns() {
    for (number, [rows, cols]) in [[1, 1], [5, 3], [2000, 65], [9000, 7], [6, 700]].into_iter().enumerate() {
        let mut rng = rng(number as u64 + 80);
        let (x, dy, weight) = (rng.vec(rows * cols), rng.vec(rows * cols), rng.vec(cols));
        let eps = 1e-5f32;
        let mut want = [vec![0.0; cols], vec![0.0; cols], vec![0.0; cols]];
        for row in 0..rows {
            let range = row * cols..(row + 1) * cols;
            let own = wide(&x[range.clone()]);
            let mean = own.iter().sum::<f64>() / cols as f64;
            let var = own.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / cols as f64;
            for (col, d) in dy[range].iter().enumerate() {
                let d = f64::from(*d);
                want[0][col] += d;
                want[1][col] += d * own[col].min(0.0);
                want[2][col] += d * (own[col] - mean) / (var + f64::from(eps)).sqrt();
            }
        }
        let (x_gaps, dy_gaps) = (spaced(&x, cols, cols + 2), spaced(&dy, cols, cols + 1));
        let (x_rows, dy_rows) =
            (Rows::new(&x_gaps, rows, cols).spaced(cols + 2), Rows::new(&dy_gaps, rows, cols).spaced(cols + 1));
        for isa in Isa::all() {
            let what = format!("{rows} x {cols} with {}", isa.name());
            let run = |len: usize, f: &(dyn Fn(&mut [f32]) + Sync)| {
                on_threads(&what, || {
                    let mut out = vec![f32::NAN; len];
                    f(&mut out);
                    out
                })
            };
            close(&run(cols, &|out| grad::sums(isa, dy_rows, out)), &want[0], 1e-5, &what);
            close(&run(cols, &|out| grad::prelu_sums(isa, dy_rows, x_rows, out)), &want[1], 1e-5, &what);
            let total = [want[1].iter().sum::<f64>()];
            if cols > 1 {
                close(&run(1, &|out| grad::prelu_sums(isa, dy_rows, x_rows, out)), &total, 1e-4, &what);
            }
            let both = [want[2].clone(), want[0].clone()].concat();
            close(&run(2 * cols, &|out| grad::layer_norm_sums(isa, dy_rows, x_rows, eps, out)), &both, 3e-5, &what);
            // rows of their own
            let got = mapped(&what, &dy, cols, |io| grad::prelu_data(isa, io, x_rows, &weight));
            let slopes: Vec<f64> = (0..rows * cols)
                .map(|at| f64::from(dy[at]) * if x[at] > 0.0 { 1.0 } else { f64::from(weight[at % cols]) })
                .collect();
            close(&got, &slopes, 1e-6, &what);
        }
    }
}

/// `J^T dy` of a function of a row, by its formula.
fn by_rows(dy: &[f32], cols: usize, f: impl Fn(usize, &[f64]) -> Vec<f64>) -> Vec<f64> {
    dy.chunks_exact(cols).enumerate().flat_map(|(row, dy)| f(row, &wide(dy))).collect()
}

#[test]
fn norms_of_rows() {
    for (number, [rows, cols]) in [[1, 2], [5, 3], [70, 65], [3, 700]].into_iter().enumerate() {
        let mut rng = rng(number as u64 + 110);
        let (x, dy, weight) = (rng.vec(rows * cols), rng.vec(rows * cols), rng.vec(cols));
        let at = |row: usize| wide(&x[row * cols..(row + 1) * cols]);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let n = cols as f64;
        let eps = 1e-3f32;
        let layer = by_rows(&dy, cols, |row, dy| {
            let x = at(row);
            let mean = x.iter().sum::<f64>() / n;
            let rstd = 1.0 / (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n + f64::from(eps)).sqrt();
            let normed: Vec<f64> = x.iter().map(|v| (v - mean) * rstd).collect();
            let g: Vec<f64> = dy.iter().zip(&weight).map(|(d, w)| d * f64::from(*w)).collect();
            let (sum, product) = (g.iter().sum::<f64>() / n, dot(&g, &normed) / n);
            g.iter().zip(&normed).map(|(g, normed)| rstd * (g - sum - normed * product)).collect()
        });
        let softmax = |row: usize| {
            let x = at(row);
            let sum: f64 = x.iter().map(|v| v.exp()).sum();
            x.iter().map(|v| v.exp() / sum).collect::<Vec<f64>>()
        };
        let y: Vec<f32> = (0..rows).flat_map(|row| softmax(row).into_iter().map(|v| v as f32)).collect();
        let logs: Vec<f32> = (0..rows).flat_map(|row| softmax(row).into_iter().map(|v| v.ln() as f32)).collect();
        let soft = by_rows(&dy, cols, |row, dy| {
            let y = softmax(row);
            let product = dot(dy, &y);
            dy.iter().zip(&y).map(|(d, y)| y * (d - product)).collect()
        });
        let log = by_rows(&dy, cols, |row, dy| {
            let sum: f64 = dy.iter().sum();
            dy.iter().zip(softmax(row)).map(|(d, y)| d - y * sum).collect()
        });
        let unit = by_rows(&dy, cols, |row, dy| {
            let x = at(row);
            let norm = dot(&x, &x).sqrt();
            let product = dot(dy, &x) / norm.powi(3);
            dy.iter().zip(&x).map(|(d, x)| d / norm - x * product).collect()
        });
        let gaps = |values: &[f32]| spaced(values, cols, cols + 4);
        let (x_gaps, y_gaps, log_gaps) = (gaps(&x), gaps(&y), gaps(&logs));
        let view = |values| Rows::new(values, rows, cols).spaced(cols + 4);
        for isa in Isa::all() {
            let what = format!("{rows} x {cols} with {}", isa.name());
            let got = mapped(&what, &dy, cols, |io| grad::layer_norm_data(isa, io, view(&x_gaps), &weight, eps));
            close(&got, &layer, 1e-5, &format!("layer norm of {what}"));
            let got = mapped(&what, &dy, cols, |io| grad::softmax_data(isa, io, view(&y_gaps), false));
            close(&got, &soft, 1e-6, &format!("softmax of {what}"));
            let got = mapped(&what, &dy, cols, |io| grad::softmax_data(isa, io, view(&log_gaps), true));
            close(&got, &log, 1e-5, &format!("log softmax of {what}"));
            let got = mapped(&what, &dy, cols, |io| grad::normalize_data(isa, io, view(&x_gaps), 1e-12));
            close(&got, &unit, 1e-5, &format!("norm of {what}"));
        }
    }
}

#[test]
fn batch_norm() {
    for (number, [rows, cols]) in [[2, 1], [5, 3], [3000, 33], [49, 200]].into_iter().enumerate() {
        let mut rng = rng(number as u64 + 140);
        let mut x = rng.vec(rows * cols);
        // far from zero, where sums of squares would lose digits
        x.iter_mut().enumerate().for_each(|(at, value)| *value += (at % cols) as f32 * 3.0);
        let (dy, residual) = (rng.vec(rows * cols), rng.vec(rows * cols));
        let (weight, bias) = (rng.vec(cols), rng.vec(cols));
        let eps = 1e-5f32;
        let column = |col: usize| (0..rows).map(move |row| row * cols + col);
        let (mut stats, mut normed) = (vec![0.0; 2 * cols], vec![0.0; rows * cols]);
        for col in 0..cols {
            let mean = column(col).map(|at| f64::from(x[at])).sum::<f64>() / rows as f64;
            let var = column(col).map(|at| (f64::from(x[at]) - mean).powi(2)).sum::<f64>() / rows as f64;
            (stats[col], stats[cols + col]) = (mean, var);
            column(col).for_each(|at| normed[at] = (f64::from(x[at]) - mean) / (var + f64::from(eps)).sqrt());
        }
        let line = |at: usize| normed[at] * f64::from(weight[at % cols]) + f64::from(bias[at % cols]);
        let (x_gaps, dy_gaps) = (spaced(&x, cols, cols + 2), spaced(&dy, cols, cols + 1));
        let (x_rows, dy_rows) =
            (Rows::new(&x_gaps, rows, cols).spaced(cols + 2), Rows::new(&dy_gaps, rows, cols).spaced(cols + 1));
        let given: Vec<f32> = stats.iter().map(|value| *value as f32).collect();
        let norm = BatchNorm { stats: &given, weight: &weight, bias: &bias, eps };
        for isa in Isa::all() {
            let what = format!("{rows} x {cols} with {}", isa.name());
            let got = on_threads(&what, || {
                let mut out = vec![f32::NAN; 2 * cols];
                grad::batch_stats(isa, x_rows, &mut out);
                out
            });
            close(&got, &stats, 1e-6, &format!("statistics of {what}"));
            for after in [Act::None, Act::Relu, Act::Silu] {
                let got = mapped(&what, &x, cols, |io| {
                    let residual = Some(Rows::new(&residual, rows, cols));
                    grad::batch_norm(isa, io, &norm, &Epilogue { residual, after, ..Epilogue::default() });
                });
                let act = |v: f64| match after {
                    Act::Relu => v.max(0.0),
                    Act::Silu => v / (1.0 + (-v).exp()),
                    _ => v,
                };
                let want: Vec<f64> = (0..rows * cols).map(|at| act(line(at) + f64::from(residual[at]))).collect();
                close(&got, &want, 1e-4, &format!("{after:?} of {what}"));
            }
            for relu in [false, true] {
                // within rounding of its kink a relu may be either
                if relu && (0..rows * cols).any(|at| line(at).abs() < 1e-5) {
                    continue;
                }
                let d = |at: usize| if relu && line(at) <= 0.0 { 0.0 } else { f64::from(dy[at]) };
                let mut sums = vec![0.0; 2 * cols];
                for col in 0..cols {
                    sums[col] = column(col).map(|at| d(at) * normed[at]).sum();
                    sums[cols + col] = column(col).map(d).sum();
                }
                let got = on_threads(&what, || {
                    let mut out = vec![f32::NAN; 2 * cols];
                    grad::batch_norm_sums(isa, dy_rows, x_rows, &norm, relu, &mut out);
                    out
                });
                close(&got, &sums, 1e-4, &format!("sums of {what}"));
                let want: Vec<f64> = (0..rows * cols)
                    .map(|at| {
                        let col = at % cols;
                        let rstd = 1.0 / (stats[cols + col] + f64::from(eps)).sqrt();
                        let rest = (sums[cols + col] + normed[at] * sums[col]) / rows as f64;
                        f64::from(weight[col]) * rstd * (d(at) - rest)
                    })
                    .collect();
                let given: Vec<f32> = sums.iter().map(|value| *value as f32).collect();
                let got = mapped(&what, &dy, cols, |io| grad::batch_norm_data(isa, io, x_rows, &norm, &given, relu));
                close(&got, &want, 1e-4, &format!("data of {what}"));
            }
        }
        let (mut mean, mut var) = (vec![0.5f32; cols], vec![2.0f32; cols]);
        grad::running(&given, &mut mean, &mut var, 0.1, rows);
        let unbiased = rows as f64 / (rows as f64 - 1.0);
        let want = |at: usize| if at < cols { 0.45 + 0.1 * stats[at] } else { 1.8 + 0.1 * stats[at] * unbiased };
        close(&[mean, var].concat(), &(0..2 * cols).map(want).collect::<Vec<_>>(), 1e-6, "running statistics");
    }
}

#[test]
fn group_norm() {
    for (number, (groups, [n, h, w, c])) in
        [(1, [2, 3, 3, 5]), (4, [3, 5, 2, 12]), (33, [2, 4, 4, 33])].into_iter().enumerate()
    {
        let mut rng = rng(number as u64 + 170);
        let (x, dy, weight) = (rng.vec(n * h * w * c), rng.vec(n * h * w * c), rng.vec(c));
        let (eps, size, pixels) = (1e-3f32, c / groups, h * w);
        let (mut dx, mut sums) = (vec![0.0; x.len()], vec![0.0; 2 * c]);
        for image in 0..n {
            for group in 0..groups {
                let places: Vec<usize> =
                    (0..pixels * size).map(|at| (image * pixels + at / size) * c + group * size + at % size).collect();
                let count = places.len() as f64;
                let mean = places.iter().map(|at| f64::from(x[*at])).sum::<f64>() / count;
                let var = places.iter().map(|at| (f64::from(x[*at]) - mean).powi(2)).sum::<f64>() / count;
                let rstd = 1.0 / (var + f64::from(eps)).sqrt();
                let normed = |at: usize| (f64::from(x[at]) - mean) * rstd;
                let g = |at: usize| f64::from(dy[at]) * f64::from(weight[at % c]);
                let sum = places.iter().map(|at| g(*at)).sum::<f64>() / count;
                let product = places.iter().map(|at| g(*at) * normed(*at)).sum::<f64>() / count;
                for at in places {
                    dx[at] = rstd * (g(at) - sum - normed(at) * product);
                    sums[at % c] += f64::from(dy[at]) * normed(at);
                    sums[c + at % c] += f64::from(dy[at]);
                }
            }
        }
        let (x_gaps, dy_gaps) = (spaced(&x, c, c + 3), spaced(&dy, c, c + 1));
        let x_image = Image::new(&x_gaps, [n, h, w, c]).spaced(c + 3);
        let dy_image = Image::new(&dy_gaps, [n, h, w, c]).spaced(c + 1);
        let got = on_threads("group norm", || {
            let mut out = vec![f32::NAN; n * h * w * (c + 2)];
            let to = ImageMut::new(&mut out, [n, h, w, c]).spaced(c + 2);
            grad::group_norm_data(groups, eps, dy_image, x_image, &weight, to);
            dense(&out, c, c + 2)
        });
        close(&got, &dx, 1e-5, &format!("{groups} groups of {c}"));
        let got = on_threads("group norm", || {
            let mut out = vec![f32::NAN; 2 * c];
            grad::group_norm_sums(groups, eps, dy_image, x_image, &mut out);
            out
        });
        close(&got, &sums, 1e-5, &format!("sums of {groups} groups of {c}"));
    }
}

#[test]
fn activations() {
    let (rows, cols) = (9, 37);
    let mut rng = rng(200);
    // a rounded operand may lie on the other side of a kink
    let apart = |x: f32| match [-3.0, -1.0, -0.25, 0.0, 1.5, 2.0, 3.0f32].iter().any(|kink| (x - kink).abs() < 1e-3) {
        true => x + 0.01,
        false => x,
    };
    let x: Vec<f32> = rng.vec(rows * cols).iter().map(|value| apart(value * 5.0)).collect();
    let dy = rng.vec(rows * cols);
    let more = [Act::Clamp { lo: -1.0, hi: 1.5 }, Act::Elu(0.7), Act::Elu(-0.7), Act::LeakyRelu(0.1)];
    for act in Act::ALL.into_iter().map(|(_, act)| act).chain(more) {
        let seen = |x: &f32| if act.by_result() { act.apply(f64::from(*x)) as f32 } else { *x };
        let want: Vec<f64> = x.iter().zip(&dy).map(|(x, dy)| f64::from(*dy) * act.gradient(f64::from(*x))).collect();
        let gaps = spaced(&x.iter().map(seen).collect::<Vec<f32>>(), cols, cols + 2);
        for isa in Isa::all() {
            let what = format!("{act} with {}", isa.name());
            let got = mapped(&what, &dy, cols, |io| {
                grad::act_data(isa, act, io, Rows::new(&gaps, rows, cols).spaced(cols + 2));
            });
            close(&got, &want, 2e-5, &what);
        }
    }
}

#[test]
fn pooling() {
    let window = |kernel, stride, padding, dilation| Window { kernel, stride, padding, dilation };
    let windows = [
        window([2, 2], [2, 2], [0; 4], [1, 1]),
        window([3, 3], [2, 2], [1; 4], [1, 1]),
        window([3, 2], [1, 2], [1, 0, 1, 1], [1, 1]),
        window([2, 2], [1, 1], [0; 4], [2, 2]),
    ];
    for (number, window) in windows.into_iter().enumerate() {
        for (n, [h, w]) in SHAPES.iter().copied() {
            for (kind, c) in
                [(Pool::Max, 19), (Pool::Mean { count_padding: true }, 5), (Pool::Mean { count_padding: false }, 33)]
            {
                if kind != Pool::Max && window.dilation != [1, 1] {
                    continue;
                }
                let conv = ConvShape { window, ..ConvShape::new(1, 1, 1) };
                let [oh, ow] = window.output([h, w]);
                let mut rng = rng(number as u64 + 230);
                // few values, so that maxima have equals
                let x: Vec<f32> = rng.vec(n * h * w * c).iter().map(|value| (value * 4.0).round()).collect();
                let dy = rng.vec(n * oh * ow * c);
                let mut seen = vec![vec![]; n * oh * ow];
                products(&conv, [n, h, w], |y, from, _| seen[y].push(from));
                let mut want = vec![0.0; x.len()];
                for (y, places) in seen.iter().enumerate() {
                    for channel in 0..c {
                        let d = f64::from(dy[y * c + channel]);
                        let value = |from: usize| x[from * c + channel];
                        match kind {
                            Pool::Max => {
                                let most = places.iter().map(|at| value(*at)).fold(f32::NEG_INFINITY, f32::max);
                                let first = places.iter().find(|at| value(**at) == most).expect("a window");
                                want[first * c + channel] += d;
                            }
                            Pool::Mean { count_padding } => {
                                let all = window.taps();
                                let count = if count_padding { all } else { places.len() };
                                places.iter().for_each(|at| want[at * c + channel] += d / count as f64);
                            }
                        }
                    }
                }
                let (x_gaps, dy_gaps) = (spaced(&x, c, c + 2), spaced(&dy, c, c + 1));
                for isa in Isa::all() {
                    let what = format!("{kind:?} {window:?} of {n} x {h} x {w} x {c} with {}", isa.name());
                    let got = on_threads(&what, || {
                        let mut out = vec![f32::NAN; n * h * w * (c + 3)];
                        let to = ImageMut::new(&mut out, [n, h, w, c]).spaced(c + 3);
                        let dy = Image::new(&dy_gaps, [n, oh, ow, c]).spaced(c + 1);
                        let x = Image::new(&x_gaps, [n, h, w, c]).spaced(c + 2);
                        grad::pool_data(isa, kind, &window, dy, x, to);
                        dense(&out, c, c + 3)
                    });
                    close(&got, &want, 1e-5, &what);
                }
            }
        }
    }
    // parts of an image that overlap where its size is no multiple
    for (kind, [oh, ow]) in [(Reduce::Max, [3, 2]), (Reduce::Mean, [3, 4]), (Reduce::Mean, [1, 1])] {
        let [n, h, w, c] = [2, 7, 5, 18];
        let mut rng = rng(260);
        let (x, dy) = (rng.vec(n * h * w * c), rng.vec(n * oh * ow * c));
        let span = |at: usize, parts: usize, size: usize| at * size / parts..((at + 1) * size).div_ceil(parts);
        let mut want = vec![0.0; x.len()];
        for (at, d) in dy.iter().enumerate() {
            let (image, p, q, channel) = (at / (oh * ow * c), at / (ow * c) % oh, at / c % ow, at % c);
            let window: Vec<usize> = span(p, oh, h)
                .flat_map(|y| span(q, ow, w).map(move |x| ((image * h + y) * w + x) * c + channel))
                .collect();
            match kind {
                Reduce::Max => {
                    let most = window.iter().copied().max_by(|a, b| x[*a].total_cmp(&x[*b])).expect("a window");
                    want[most] += f64::from(*d);
                }
                Reduce::Mean => {
                    window.iter().for_each(|to| want[*to] += f64::from(*d) / window.len() as f64);
                }
            }
        }
        for isa in Isa::all() {
            let got = on_threads("adaptive", || {
                let mut out = vec![f32::NAN; x.len()];
                let (dy, x) = (Image::new(&dy, [n, oh, ow, c]), Image::new(&x, [n, h, w, c]));
                grad::adaptive_pool_data(isa, kind, dy, x, ImageMut::new(&mut out, [n, h, w, c]));
                out
            });
            close(&got, &want, 1e-5, &format!("{kind:?} to {oh} x {ow} with {}", isa.name()));
        }
    }
}

/// Resampling is linear, so that its backward is what makes `dy . resize(x) = resize_data(dy) . x` for every x: here for
/// each unit.
#[test]
fn resampling() {
    let [n, h, w, c] = [1, 4, 3, 5];
    for (_, mode) in Resample::ALL {
        for (scale, [oh, ow]) in [(None, [9, 7]), (Some([2.0, 1.5]), [8, 4]), (None, [2, 2])] {
            let dy = rng(290).vec(n * oh * ow * c);
            for isa in Isa::all() {
                let what = format!("{mode:?} to {oh} x {ow} with {}", isa.name());
                let mut want = vec![0.0; n * h * w * c];
                for (at, want) in want.iter_mut().enumerate() {
                    let mut unit = vec![0.0; n * h * w * c];
                    unit[at] = 1.0;
                    let mut y = vec![f32::NAN; n * oh * ow * c];
                    archc_cpu::resize(
                        isa,
                        mode,
                        scale,
                        Image::new(&unit, [n, h, w, c]),
                        ImageMut::new(&mut y, [n, oh, ow, c]),
                    );
                    *want = y.iter().zip(&dy).map(|(y, d)| f64::from(*y) * f64::from(*d)).sum();
                }
                let got = on_threads(&what, || {
                    let mut out = vec![f32::NAN; n * h * w * c];
                    grad::resize_data(
                        isa,
                        mode,
                        scale,
                        Image::new(&dy, [n, oh, ow, c]),
                        ImageMut::new(&mut out, [n, h, w, c]),
                    );
                    out
                });
                close(&got, &want, 1e-5, &what);
            }
        }
    }
}

#[test]
fn what_was_repeated_is_summed() {
    let shape = [3, 5, 4, 19];
    let len = shape.iter().product::<usize>();
    let strides = [5 * 4 * 19, 4 * 19, 19, 1];
    let mut rng = rng(320);
    let (dy, other) = (rng.vec(len), rng.vec(len));
    for marks in 0..16usize {
        let marks: Vec<bool> = (0..4).map(|axis| marks >> axis & 1 == 1).collect();
        let place = |at: usize| {
            let mut to = 0;
            for axis in 0..4 {
                if !marks[axis] {
                    to = to * shape[axis] + at / strides[axis] % shape[axis];
                }
            }
            to
        };
        let rest: usize = (0..4).filter(|axis| !marks[*axis]).map(|axis| shape[axis]).product();
        let (mut plain, mut times) = (vec![0.0; rest], vec![0.0; rest]);
        for at in 0..len {
            plain[place(at)] += f64::from(dy[at]);
            times[place(at)] += f64::from(dy[at]) * f64::from(other[at]);
        }
        let view = |data| Strided { data, strides: &strides };
        for isa in Isa::all() {
            let what = format!("{marks:?} with {}", isa.name());
            let run = |other: Option<Strided>| {
                on_threads(&what, || {
                    let mut out = vec![f32::NAN; rest];
                    grad::sum_to(isa, &shape, &marks, view(&dy), other, &mut out);
                    out
                })
            };
            close(&run(None), &plain, 1e-5, &what);
            close(&run(Some(view(&other))), &times, 1e-5, &format!("products, {what}"));
        }
        // the mean's backward is the other way round
        let small = &dy[..rest];
        let mut small_strides = [0; 4];
        let mut step = 1;
        for axis in (0..4).rev().filter(|axis| !marks[*axis]) {
            small_strides[axis] = step;
            step *= shape[axis];
        }
        let mut out = vec![f32::NAN; len];
        grad::mean_data(&shape, Strided { data: small, strides: &small_strides }, 0.25, &mut out, &strides);
        close(&out, &(0..len).map(|at| 0.25 * f64::from(small[place(at)])).collect::<Vec<_>>(), 1e-6, "mean");
        // maxima, of few values, share with their equals
        let x: Vec<f32> = other.iter().map(|value| (value * 3.0).round()).collect();
        let mut most = vec![f32::NEG_INFINITY; rest];
        (0..len).for_each(|at| most[place(at)] = most[place(at)].max(x[at]));
        let mut counts = vec![0.0; rest];
        (0..len).for_each(|at| counts[place(at)] += f64::from(u8::from(x[at] == most[place(at)])));
        let share = |at: usize| {
            let to = place(at);
            if x[at] == most[to] { f64::from(small[to]) / counts[to] } else { 0.0 }
        };
        let mut out = vec![f32::NAN; len];
        grad::max_data(&shape, &marks, small, view(&x), &most, &mut out);
        close(&out, &(0..len).map(share).collect::<Vec<_>>(), 1e-6, "maxima");
    }
    let mut table = vec![f32::NAN; 12];
    grad::gather_data(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], &[2.0, 0.0, 2.0], 3, &mut table);
    assert_eq!(table, [4.0, 5.0, 6.0, 0.0, 0.0, 0.0, 8.0, 10.0, 12.0, 0.0, 0.0, 0.0]);
    // indices that name nothing
    grad::gather_data(&[1.0; 9], &[-1.0, 4.0, f32::NAN], 3, &mut table);
    assert!(table.iter().all(|value| *value == 0.0));
}

#[test]
fn noise() {
    let (n, pixels, cols) = (3, 10, 7);
    let x = rng(350).vec(n * pixels * cols);
    let number = |at: u64| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 24) as f32;
    let block = |at: u64| [0, 1, 2, 3].map(|lane| number(4 * at + lane));
    for (each, p) in [(1, 0.5f32), (cols, 0.3), (cols * pixels, 0.25), (cols, 0.0), (cols, 1.0)] {
        let draw = Draw { block: &block, p, rows_each: pixels, each };
        let got = mapped("noise", &x, cols, |io| grad::noise(io, &draw));
        let want: Vec<f64> = (0..x.len())
            .map(|at| {
                let (sample, own) = (at / (pixels * cols), at % (pixels * cols));
                let draw = match each {
                    1 => sample,
                    each if each == cols => sample * cols + own % cols,
                    _ => at,
                };
                if number(draw as u64) < p { 0.0 } else { f64::from(x[at]) / (1.0 - f64::from(p)) }
            })
            .collect();
        close(&got, &want, 1e-6, &format!("{each} draws with p = {p}"));
    }
}

#[test]
fn losses() {
    let (rows, classes) = (7, 11);
    let mut rng = rng(380);
    let z: Vec<f32> = rng.vec(rows * classes).iter().map(|value| value * 4.0).collect();
    let weights: Vec<f32> = rng.vec(classes).iter().map(|value| value.abs() + 0.1).collect();
    let mixed: Vec<f32> =
        (0..rows).flat_map(|row| [(row * 3 % classes) as f32, (row * 5 % classes) as f32, 0.7]).collect();
    let values: Vec<f32> = rng.vec(rows * classes).iter().map(|value| value.abs()).collect();
    let cross = |z: &[f64], smoothing: f64, weight: &dyn Fn(usize) -> f64| {
        let (mut sum, mut whole) = (0.0, 0.0);
        for (row, target) in z.chunks_exact(classes).zip(mixed.chunks_exact(3)) {
            let total = row.iter().map(|z| z.exp()).sum::<f64>().ln();
            let spread: f64 = row.iter().enumerate().map(|(class, z)| weight(class) * (total - z)).sum();
            for (class, share) in [(target[0], f64::from(target[2])), (target[1], 1.0 - f64::from(target[2]))] {
                let class = class as usize;
                sum += share
                    * ((1.0 - smoothing) * weight(class) * (total - row[class]) + smoothing / classes as f64 * spread);
                whole += share * weight(class);
            }
        }
        sum / whole
    };
    let each = |z: &[f64], f: &dyn Fn(f64, f64) -> f64| {
        z.iter().zip(&values).map(|(z, t)| f(*z, f64::from(*t))).sum::<f64>() / z.len() as f64
    };
    type Plain<'a> = Box<dyn Fn(&[f64]) -> f64 + 'a>;
    let kinds: Vec<(Loss, Plain)> = vec![
        (Loss::CrossEntropy { smoothing: 0.0, weights: None }, Box::new(|z| cross(z, 0.0, &|_| 1.0))),
        (
            Loss::CrossEntropy { smoothing: 0.25, weights: Some(weights.clone()) },
            Box::new(|z| cross(z, 0.25, &|class| f64::from(weights[class]))),
        ),
        (ValueLoss::BceWithLogits.into(), Box::new(|z| each(z, &|z, t| (1.0 + z.exp()).ln() - z * t))),
        (ValueLoss::Mse.into(), Box::new(|z| each(z, &|z, t| (z - t).powi(2)))),
        (ValueLoss::L1.into(), Box::new(|z| each(z, &|z, t| (z - t).abs()))),
        (
            ValueLoss::Huber { delta: 0.5 }.into(),
            Box::new(|z| {
                each(z, &|z, t| {
                    let d = (z - t).abs();
                    if d < 0.5 { 0.5 * d * d } else { 0.5 * (d - 0.25) }
                })
            }),
        ),
    ];
    for (kind, f) in &kinds {
        let targets = if matches!(kind, Loss::CrossEntropy { .. }) { &mixed } else { &values };
        let wide_z = wide(&z);
        close(&[grad::loss(kind, classes, &z, targets)], &[f(&wide_z)], 1e-6, &format!("{kind:?}"));
        let got = on_threads("loss", || {
            let mut out = vec![f32::NAN; z.len()];
            grad::loss_data(kind, classes, &z, targets, &mut out);
            out
        });
        let h = 1e-5;
        let want: Vec<f64> = (0..z.len())
            .map(|at| {
                let moved = |by: f64| {
                    let mut z = wide_z.clone();
                    z[at] += by;
                    f(&z)
                };
                (moved(h) - moved(-h)) / (2.0 * h)
            })
            .collect();
        let most = want.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        let scaled: Vec<f32> = got.iter().map(|value| *value / most as f32).collect();
        close(&scaled, &want.iter().map(|value| value / most).collect::<Vec<_>>(), 1e-5, &format!("{kind:?}"));
    }
}

/// Three updates beside PyTorch's formulas in f64.
#[test]
fn updates() {
    let len = 1037;
    let (lr, decay, scale) = (0.01, 0.02, 0.5f32);
    let steps = 3;
    type Plain = fn(usize, f64, f64, &mut [f64; 3]) -> f64;
    // what is subtracted of a weight, rate and all, of (step from 1 on, gradient with decay, weight, moments)
    type Rules<'a> = &'a (dyn Fn(usize) -> Rule + Sync);
    let cases: [(&str, Rules, Plain, bool); 6] = [
        (
            "sgd",
            &|_| Rule::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false, first: false },
            |_, d, _, _| 0.01 * d,
            false,
        ),
        (
            "momentum",
            &|step| Rule::Sgd { momentum: 0.9, dampening: 0.1, nesterov: false, first: step == 1 },
            |step, d, _, m| {
                m[0] = if step == 1 { d } else { 0.9 * m[0] + 0.9 * d };
                0.01 * m[0]
            },
            false,
        ),
        (
            "nesterov",
            &|step| Rule::Sgd { momentum: 0.9, dampening: 0.0, nesterov: true, first: step == 1 },
            |step, d, _, m| {
                m[0] = if step == 1 { d } else { 0.9 * m[0] + d };
                0.01 * (d + 0.9 * m[0])
            },
            false,
        ),
        (
            "adam",
            &|step| Rule::Adam {
                betas: [0.9, 0.99],
                eps: 1e-8,
                decoupled: false,
                amsgrad: true,
                corrections: [1.0 - 0.9f64.powi(step as i32), 1.0 - 0.99f64.powi(step as i32)],
            },
            |step, d, _, m| {
                m[0] = 0.9 * m[0] + 0.1 * d;
                m[1] = 0.99 * m[1] + 0.01 * d * d;
                m[2] = m[2].max(m[1]);
                let root = (m[2] / (1.0 - 0.99f64.powi(step as i32))).sqrt();
                0.01 / (1.0 - 0.9f64.powi(step as i32)) * m[0] / (root + 1e-8)
            },
            false,
        ),
        (
            "adamw",
            &|step| Rule::Adam {
                betas: [0.9, 0.99],
                eps: 1e-8,
                decoupled: true,
                amsgrad: false,
                corrections: [1.0 - 0.9f64.powi(step as i32), 1.0 - 0.99f64.powi(step as i32)],
            },
            |step, d, w, m| {
                m[0] = 0.9 * m[0] + 0.1 * d;
                m[1] = 0.99 * m[1] + 0.01 * d * d;
                let root = (m[1] / (1.0 - 0.99f64.powi(step as i32))).sqrt();
                0.01 * 0.02 * w + 0.01 / (1.0 - 0.9f64.powi(step as i32)) * m[0] / (root + 1e-8)
            },
            true,
        ),
        (
            "rmsprop",
            &|_| Rule::RmsProp { alpha: 0.9, eps: 1e-8, momentum: 0.5, centered: true },
            |_, d, _, m| {
                m[0] = 0.9 * m[0] + 0.1 * d * d;
                m[1] = 0.9 * m[1] + 0.1 * d;
                m[2] = 0.5 * m[2] + d / ((m[0] - m[1] * m[1]).sqrt() + 1e-8);
                0.01 * m[2]
            },
            false,
        ),
    ];
    for (name, rule, plain, decoupled) in cases {
        let mut rng = rng(410);
        let start = rng.vec(len);
        // no gradient near zero, where a quotient of moments has no digits
        let g: Vec<Vec<f32>> =
            (0..steps).map(|_| rng.vec(len).iter().map(|v| v + 0.2f32.copysign(*v)).collect()).collect();
        let mut want = wide(&start);
        let mut kept = vec![[0.0; 3]; len];
        for (step, g) in g.iter().enumerate() {
            for (at, w) in want.iter_mut().enumerate() {
                let d = f64::from(g[at]) * f64::from(scale) + if decoupled { 0.0 } else { decay * *w };
                *w -= plain(step + 1, d, *w, &mut kept[at]);
            }
        }
        for isa in Isa::all() {
            let got = on_threads(name, || {
                let mut weights = start.clone();
                let mut moments = vec![vec![0.0f32; len]; rule(1).moments()];
                for (step, g) in g.iter().enumerate() {
                    let moments = moments.iter_mut().map(Vec::as_mut_slice).collect();
                    let slots = Slots { weights: &mut weights, gradients: g, moments };
                    grad::update(isa, rule(step + 1), lr, decay, scale, slots);
                }
                weights
            });
            close(&got, &want, 5e-6, &format!("{name} with {}", isa.name()));
        }
    }
    let values = rng(440).vec(200_001);
    let want: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
    assert!((grad::norm_squared(&values) - want).abs() < 1e-9 * want);
}
