//! Products of matrices.

use archc_base::Act;

use super::*;

fn naive(a: impl Fn(usize, usize) -> f32, b: impl Fn(usize, usize) -> f32, [m, k, n]: [usize; 3]) -> Vec<f64> {
    let dot = |i, j| (0..k).map(|t| f64::from(a(i, t)) * f64::from(b(t, j))).sum();
    (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| dot(i, j)).collect()
}

const SIZES: [[usize; 3]; 10] = [
    [1, 1, 1],
    [1, 7, 5],
    [1, 130, 1000],
    [3, 33, 31],
    [4, 512, 10],
    [6, 100, 64],
    [13, 64, 33],
    [14, 1, 32],
    [29, 200, 70],
    [197, 64, 197],
];

#[test]
fn packed_and_plain_linear_layers_match() {
    for isa in Isa::all() {
        let mut rng = Rng::new(3);
        for [m, k, n] in SIZES {
            let what = format!("{} {m} x {k} x {n}", isa.name());
            let (a_stride, w_stride, y_stride) = (k + rng.pick(0, 3), k + rng.pick(0, 3), n + rng.pick(0, 3));
            let shrink = 3.0 / (k as f32).sqrt();
            let a = rng.vec(m * a_stride);
            let w: Vec<f32> = rng.vec(n * w_stride).iter().map(|v| v * shrink).collect();
            let (bias, res, gate) = (rng.vec(n), rng.vec(m * n), rng.vec(n));
            let a_rows = Rows { data: &a, rows: m, cols: k, stride: a_stride };
            let w_rows = Rows { data: &w, rows: n, cols: k, stride: w_stride };
            for (before, after, with_res, with_gate) in [
                (Act::None, Act::None, false, false),
                (Act::None, Act::Relu, true, false),
                (Act::Gelu, Act::None, true, false),
                (Act::None, Act::Silu, false, true),
            ] {
                let epilogue = Epilogue {
                    bias: Some(&bias),
                    before,
                    residual: with_res.then(|| Rows::new(&res, m, n)),
                    after,
                    gate: with_gate.then_some(&gate[..]),
                };
                let mut want = naive(|i, t| a[i * a_stride + t], |t, j| w[j * w_stride + t], [m, k, n]);
                for (i, v) in want.iter_mut().enumerate() {
                    *v = before.apply(*v + f64::from(bias[i % n]))
                        * if with_gate { f64::from(gate[i % n]) } else { 1.0 };
                    *v = after.apply(*v + if with_res { f64::from(res[i]) } else { 0.0 });
                }
                let kn: Vec<f32> = (0..k * n).map(|i| w[i % n * w_stride + i / n]).collect();
                let from_nk = PackedMat::from_nk(isa, w_rows);
                let from_kn = PackedMat::from_kn(isa, Rows::new(&kn, k, n));
                let dense =
                    |out: Vec<f32>| -> Vec<f32> { out.chunks(y_stride).flat_map(|r| r[..n].to_vec()).collect() };
                for packed in [&from_nk, &from_kn] {
                    let got = on_threads(&what, || {
                        let mut out = poison(m * y_stride);
                        packed.run(a_rows, RowsMut { data: &mut out, rows: m, cols: n, stride: y_stride }, &epilogue);
                        dense(out)
                    });
                    close(&got, &want, 4e-6, &what);
                }
                let got = on_threads(&what, || {
                    let mut out = poison(m * y_stride);
                    linear(
                        isa,
                        a_rows,
                        w_rows,
                        RowsMut { data: &mut out, rows: m, cols: n, stride: y_stride },
                        &epilogue,
                    );
                    dense(out)
                });
                close(&got, &want, 4e-6, &what);
            }
        }
    }
}

#[test]
fn batched_products_match() {
    for isa in Isa::all() {
        let mut rng = Rng::new(5);
        for [m, k, n] in SIZES {
            for (count, layout, shared) in [(1, Layout::Kn, false), (3, Layout::Nk, false), (17, Layout::Kn, true)] {
                let what = format!("{} {count} of {m} x {k} x {n} {layout:?}", isa.name());
                let (b_rows, b_cols) = if layout == Layout::Kn { (k, n) } else { (n, k) };
                // Rows of one matrix lie between those of the others, as heads do.
                let (a, b) = (rng.vec(m * count * k), rng.vec(b_rows * count * b_cols));
                let (b_stride, b_batch) = if shared { (b_cols, 0) } else { (count * b_cols, b_cols) };
                let got = on_threads(&what, || {
                    let mut out = poison(count * m * n);
                    matmul(
                        isa,
                        count,
                        Batch { data: &a, rows: m, cols: k, stride: count * k, batch: k },
                        Batch { data: &b, rows: b_rows, cols: b_cols, stride: b_stride, batch: b_batch },
                        layout,
                        BatchMut { data: &mut out, rows: m, cols: n, stride: n, batch: m * n },
                        0.125,
                    );
                    out
                });
                for i in 0..count {
                    let at = |t: usize, j: usize| if layout == Layout::Kn { (t, j) } else { (j, t) };
                    let right = |t, j| {
                        let (row, col) = at(t, j);
                        b[i * b_batch + row * b_stride + col]
                    };
                    let want = naive(|r, t| a[(r * count + i) * k + t] * 0.125, right, [m, k, n]);
                    close(&got[i * m * n..][..m * n], &want, 4e-6, &what);
                }
            }
        }
    }
}
