//! Backward of group norm: over the channels of a group and the pixels of an image. Sums in float64, a group a task.

use super::super::par::{Shared, tasks};
use super::super::view::{Image, ImageMut};

/// Mean and 1 / standard deviation of one group of one image.
fn moments(x: &Image, image: usize, channels: std::ops::Range<usize>, eps: f32) -> (f64, f64) {
    let count = (x.h * x.w * channels.len()) as f64;
    let each = |f: &dyn Fn(f64) -> f64| -> f64 {
        let pixels = image * x.h * x.w..(image + 1) * x.h * x.w;
        pixels.map(|p| x.data[p * x.stride..][channels.clone()].iter().map(|v| f(f64::from(*v))).sum::<f64>()).sum()
    };
    let mean = each(&|v| v) / count;
    let var = each(&|v| (v - mean) * (v - mean)) / count;
    (mean, 1.0 / (var + f64::from(eps)).sqrt())
}

/// The gradient by x.
pub fn group_norm_data(groups: usize, eps: f32, dy: Image, x: Image, weight: &[f32], dx: ImageMut) {
    check(groups, &dy, &x);
    dx.check();
    assert!(dx.n == x.n && dx.c == x.c && [dx.h, dx.w] == [x.h, x.w] && weight.len() >= x.c, "images of another shape");
    let size = x.c / groups;
    let (base, stride, pixels) = (Shared(dx.data.as_mut_ptr()), dx.stride, x.h * x.w);
    tasks(x.n * groups, |task| {
        let (image, first) = (task / groups, task % groups * size);
        let (mean, rstd) = moments(&x, image, first..first + size, eps);
        let (mut sum, mut product) = (0.0, 0.0);
        let at = |p: usize, c: usize| {
            let g = f64::from(dy.data[p * dy.stride + c]) * f64::from(weight[c]);
            (g, (f64::from(x.data[p * x.stride + c]) - mean) * rstd)
        };
        for p in image * pixels..(image + 1) * pixels {
            for c in first..first + size {
                let (g, normed) = at(p, c);
                sum += g;
                product += g * normed;
            }
        }
        let count = (pixels * size) as f64;
        for p in image * pixels..(image + 1) * pixels {
            for c in first..first + size {
                let (g, normed) = at(p, c);
                let v = rstd * (g - sum / count - normed * product / count);
                // SAFETY: these channels of this image are this task's, and lie inside dx.
                unsafe { *base.at(p * stride + c) = v as f32 };
            }
        }
    });
}

/// Gradients of weight and bias, into `out` [2, C].
pub fn group_norm_sums(groups: usize, eps: f32, dy: Image, x: Image, out: &mut [f32]) {
    check(groups, &dy, &x);
    assert!(out.len() >= 2 * x.c, "too small an output");
    let (size, pixels, channels) = (x.c / groups, x.h * x.w, x.c);
    let base = Shared(out.as_mut_ptr());
    tasks(groups, |group| {
        let first = group * size;
        let mut sums = vec![[0f64; 2]; size];
        for image in 0..x.n {
            let (mean, rstd) = moments(&x, image, first..first + size, eps);
            for p in image * pixels..(image + 1) * pixels {
                for (at, sums) in sums.iter_mut().enumerate() {
                    let d = f64::from(dy.data[p * dy.stride + first + at]);
                    sums[0] += d * (f64::from(x.data[p * x.stride + first + at]) - mean) * rstd;
                    sums[1] += d;
                }
            }
        }
        for (at, sums) in sums.into_iter().enumerate() {
            for (kind, sum) in sums.into_iter().enumerate() {
                // SAFETY: these channels are this task's, and lie inside `out`.
                unsafe { *base.at(kind * channels + first + at) = sum as f32 };
            }
        }
    });
}

fn check(groups: usize, dy: &Image, x: &Image) {
    dy.check();
    x.check();
    assert!(dy.n == x.n && dy.c == x.c && [dy.h, dy.w] == [x.h, x.w], "images of another shape");
    assert!(groups > 0 && x.c.is_multiple_of(groups), "groups divide the channels");
}
