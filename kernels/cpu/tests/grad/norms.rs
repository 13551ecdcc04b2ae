//! Norms, softmax, and sums of columns.

use archc_base::{Act, Centre};
use archc_cpu::grad::{self, BatchNorm};
use archc_cpu::{Epilogue, Image, ImageMut, Isa, Rows};

use crate::support::{close, dense, mapped, on_threads, rng, spaced, wide};

#[test]
fn sums_of_columns() {
    for (number, [rows, cols]) in [[1, 1], [5, 3], [2000, 65], [9000, 7], [6, 700]].into_iter().enumerate() {
        let mut rng = rng(number as u64 + 80);
        let (x, dy, weight) = (rng.vec(rows * cols), rng.vec(rows * cols), rng.vec(cols));
        let eps = 1e-5f32;
        let mut want = [0; 4].map(|_| vec![0.0; cols]);
        for row in 0..rows {
            let range = row * cols..(row + 1) * cols;
            let own = wide(&x[range.clone()]);
            let mean = own.iter().sum::<f64>() / cols as f64;
            let var = own.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / cols as f64;
            let square = own.iter().map(|v| v * v).sum::<f64>() / cols as f64;
            for (col, d) in dy[range].iter().enumerate() {
                let d = f64::from(*d);
                want[0][col] += d;
                want[1][col] += d * own[col].min(0.0);
                want[2][col] += d * (own[col] - mean) / (var + f64::from(eps)).sqrt();
                want[3][col] += d * own[col] / (square + f64::from(eps)).sqrt();
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
            for (centre, by_weight) in [(Centre::Mean, &want[2]), (Centre::Zero, &want[3])] {
                let both = [by_weight.clone(), want[0].clone()].concat();
                let got = run(2 * cols, &|out| grad::layer_norm_sums(isa, dy_rows, x_rows, centre, eps, out));
                close(&got, &both, 3e-5, &format!("{centre:?} of {what}"));
            }
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
        let centres = [Centre::Mean, Centre::Zero];
        let layers = centres.map(|centre| {
            by_rows(&dy, cols, |row, dy| {
                let x = at(row);
                let is_mean = f64::from(u8::from(centre == Centre::Mean));
                let mean = is_mean * x.iter().sum::<f64>() / n;
                let rstd = 1.0 / (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n + f64::from(eps)).sqrt();
                let normed: Vec<f64> = x.iter().map(|v| (v - mean) * rstd).collect();
                let g: Vec<f64> = dy.iter().zip(&weight).map(|(d, w)| d * f64::from(*w)).collect();
                let (sum, product) = (is_mean * g.iter().sum::<f64>() / n, dot(&g, &normed) / n);
                g.iter().zip(&normed).map(|(g, normed)| rstd * (g - sum - normed * product)).collect()
            })
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
            for (centre, layer) in centres.into_iter().zip(&layers) {
                let data = |io: archc_cpu::Map| grad::layer_norm_data(isa, io, view(&x_gaps), &weight, centre, eps);
                close(&mapped(&what, &dy, cols, data), layer, 1e-5, &format!("{centre:?} norm of {what}"));
            }
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
