//! Resampling of images: nearest, bilinear, bicubic, as PyTorch's `interpolate` with `align_corners = false`.
//!
//! [`Resample::taps`] has the formulas. Channels are the lanes.

use archc_base::Resample;

use super::par::{Shared, ranges};
use super::simd::{Isa, Simd, Task, lanes, ld, st};
use super::view::{Image, ImageMut};

/// Resamples `x` to the size of `y`; `scale` (y, x) where the op states a scale, none where it states a size.
pub fn resize(isa: Isa, mode: Resample, scale: Option<[f64; 2]>, x: Image, y: ImageMut) {
    x.check();
    y.check();
    assert!(x.n == y.n && x.c == y.c, "images of other channels");
    if y.pixels() == 0 {
        return;
    }
    assert!(x.h > 0 && x.w > 0, "an image without pixels");
    let ratio = |axis: usize, from: usize, to: usize| match scale {
        Some(scale) => 1.0 / scale[axis],
        None => from as f64 / to as f64,
    };
    let (ry, rx) = (ratio(0, x.h, y.h), ratio(1, x.w, y.w));
    let (out, stride, [h, w]) = (Shared(y.data.as_mut_ptr()), y.stride, [y.h, y.w]);
    let taps = match mode {
        Resample::Nearest => 1,
        Resample::Bilinear => 4,
        Resample::Bicubic => 16,
    };
    ranges(y.n * h, w * x.c * (1 + taps), |rows| {
        for row in rows {
            let ys = Taps::new(mode, row % h, ry, x.h, h);
            for ox in 0..w {
                let xs = Taps::new(mode, ox, rx, x.w, w);
                let y = out.at((row * w + ox) * stride);
                isa.run(Pixel { x: &x, first: row / h * x.h * x.w, ys: &ys, xs: &xs, y });
            }
        }
    });
}

/// The input positions and weights of one output position, along one axis.
pub(super) struct Taps {
    pub n: usize,
    pub at: [usize; 4],
    pub weight: [f32; 4],
}

impl Taps {
    pub fn new(mode: Resample, at: usize, ratio: f64, from: usize, to: usize) -> Self {
        let taps = mode.taps(at, ratio, from, to);
        Taps { n: taps.n, at: taps.at, weight: taps.weight.map(|weight| weight as f32) }
    }
}

struct Pixel<'a> {
    x: &'a Image<'a>,
    /// The first pixel of the image.
    first: usize,
    ys: &'a Taps,
    xs: &'a Taps,
    y: *mut f32,
}

impl Task for Pixel<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the taps lie inside the image, and the pixel is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Pixel { x, first, ys, xs, y } = self;
        // SAFETY: the caller's.
        unsafe {
            lanes!(S, x.c, |c, n| {
                let mut sum = S::splat(0.0);
                for i in 0..ys.n {
                    let row = x.data.as_ptr().add((first + ys.at[i] * x.w) * x.stride + c);
                    let mut line = ld::<S>(row.add(xs.at[0] * x.stride), n);
                    if xs.n > 1 {
                        line = S::mul(line, S::splat(xs.weight[0]));
                    }
                    for j in 1..xs.n {
                        line = S::fma(ld::<S>(row.add(xs.at[j] * x.stride), n), S::splat(xs.weight[j]), line);
                    }
                    sum = if ys.n == 1 { line } else { S::fma(line, S::splat(ys.weight[i]), sum) };
                }
                st::<S>(y.add(c), sum, n);
            });
        }
    }
}
