//! Convolutions and linear maps.

use archc_base::Window;
use archc_cpu::{ConvShape, Epilogue, Image, ImageMut, Isa, Policy, Rows, grad};

use crate::support::{SHAPES, close, dense, on_threads, rng, spaced, wide};

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
pub fn products(shape: &ConvShape, [n, h, w]: [usize; 3], mut f: impl FnMut(usize, usize, usize)) {
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
