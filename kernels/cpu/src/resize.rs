//! Resampling of images: nearest, bilinear, bicubic, as PyTorch's `interpolate` with `align_corners = false`.
//!
//! Output pixel `i` lies at `(i + 1/2) ratio - 1/2` of the input, `ratio` being 1 / scale where a scale was given and
//! in / out where a size was; nearest takes `floor(i ratio)`, in f32 as PyTorch does. Channels are the lanes.

use super::par::{Shared, ranges};
use super::simd::{Isa, Simd, Task, lanes, ld, st};
use super::view::{Image, ImageMut};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resample {
    Nearest,
    Bilinear,
    /// Cubic convolution with A = -0.75.
    Bicubic,
}

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
    let (out, dist, [h, w]) = (Shared(y.data.as_mut_ptr()), y.dist, [y.h, y.w]);
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
                let y = out.at((row * w + ox) * dist);
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
    pub fn new(mode: Resample, i: usize, ratio: f64, from: usize, to: usize) -> Self {
        let source = ratio * (i as f64 + 0.5) - 0.5;
        match mode {
            Resample::Nearest => {
                let at = if from == to { i } else { (i as f32 * ratio as f32).floor() as usize };
                Taps { n: 1, at: [at.min(from - 1); 4], weight: [1.0, 0.0, 0.0, 0.0] }
            }
            Resample::Bilinear => {
                let source = source.max(0.0);
                let low = (source as usize).min(from - 1);
                let t = source - low as f64;
                let high = (low + 1).min(from - 1);
                Taps { n: 2, at: [low, high, 0, 0], weight: [(1.0 - t) as f32, t as f32, 0.0, 0.0] }
            }
            Resample::Bicubic => {
                const A: f64 = -0.75;
                let near = |t: f64| ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
                let far = |t: f64| ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A;
                let low = source.floor();
                let t = source - low;
                let at = std::array::from_fn(|k| (low as i64 + k as i64 - 1).clamp(0, from as i64 - 1) as usize);
                let weight = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)].map(|w| w as f32);
                Taps { n: 4, at, weight }
            }
        }
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
                    let row = x.data.as_ptr().add((first + ys.at[i] * x.w) * x.dist + c);
                    let mut line = ld::<S>(row.add(xs.at[0] * x.dist), n);
                    if xs.n > 1 {
                        line = S::mul(line, S::splat(xs.weight[0]));
                    }
                    for j in 1..xs.n {
                        line = S::fma(ld::<S>(row.add(xs.at[j] * x.dist), n), S::splat(xs.weight[j]), line);
                    }
                    sum = if ys.n == 1 { line } else { S::fma(line, S::splat(ys.weight[i]), sum) };
                }
                st::<S>(y.add(c), sum, n);
            });
        }
    }
}
