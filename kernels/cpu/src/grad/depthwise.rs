//! Backward of depthwise convolutions: channels are the lanes, taps one after another.
//!
//! Formula   dw[c, r, s] = sum of dy[p, c] * x[p stride + (r, s) dilation - pad, c]; dx[i, c] = sum over the windows p and
//!           taps (r, s) that see i of dy[p, c] * w[c, r, s]

use super::super::conv::ConvShape;
use super::super::par::{Shared, ranges, scratch, tasks};
use super::super::simd::{Isa, Simd, Task, ld, st};
use super::super::view::{Image, ImageMut};

/// As [`conv_weight`](super::conv_weight), which has checked the sizes.
pub(super) fn weight(isa: Isa, shape: &ConvShape, x: Image, dy: Image, dw: &mut [f32]) {
    let taps = shape.window.kernel[0] * shape.window.kernel[1];
    let (lanes, lines) = (isa.lanes(), dy.n * dy.h);
    let strips = x.c.div_ceil(lanes);
    let parts = lines.min(64 / strips.min(64)).clamp(1, 16);
    scratch(strips * parts * taps * lanes, |partial| {
        let base = Shared(partial.as_mut_ptr());
        tasks(strips * parts, |task| {
            let (strip, part) = (task / parts, task % parts);
            // SAFETY: each task has its own part of the scratch.
            let sums = unsafe { std::slice::from_raw_parts_mut(base.at(task * taps * lanes), taps * lanes) };
            sums.fill(0.0);
            let lines = lines * part / parts..lines * (part + 1) / parts;
            isa.run(Weight { shape, x, dy, lines, first: strip * lanes, sums });
        });
        for c in 0..x.c {
            for tap in 0..taps {
                let at = |part: usize| partial[((c / lanes * parts + part) * taps + tap) * lanes + c % lanes];
                dw[c * taps + tap] = (0..parts).map(at).sum();
            }
        }
    });
}

struct Weight<'a> {
    shape: &'a ConvShape,
    x: Image<'a>,
    dy: Image<'a>,
    /// Of all images.
    lines: std::ops::Range<usize>,
    /// The first channel.
    first: usize,
    /// [taps][lanes]
    sums: &'a mut [f32],
}

impl Task for Weight<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the views were checked.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Weight { shape, x, dy, lines, first, sums } = self;
        let n = S::N.min(x.c - first);
        let [kh, kw] = shape.window.kernel;
        // SAFETY: taps outside the image are left out, the others lie inside it.
        unsafe {
            for line in lines {
                let (image, p) = (line / dy.h, line % dy.h);
                for r in 0..kh {
                    let iy = (p * shape.window.stride[0] + r * shape.window.dilation[0])
                        .wrapping_sub(shape.window.padding[0]);
                    if iy >= x.h {
                        continue;
                    }
                    let row = x.data.as_ptr().add((image * x.h + iy) * x.w * x.stride + first);
                    let dys = dy.data.as_ptr().add(line * dy.w * dy.stride + first);
                    for s in 0..kw {
                        // two sums, as each waits for the last
                        let mut acc = [S::splat(0.0); 2];
                        let shift = s * shape.window.dilation[1];
                        let from = shape.window.padding[1].saturating_sub(shift).div_ceil(shape.window.stride[1]);
                        let end = (x.w + shape.window.padding[1])
                            .saturating_sub(shift)
                            .div_ceil(shape.window.stride[1])
                            .min(dy.w);
                        for q in from..end {
                            let ix = q * shape.window.stride[1] + shift - shape.window.padding[1];
                            let v = ld::<S>(row.add(ix * x.stride), n);
                            acc[q % 2] = S::fma(v, ld::<S>(dys.add(q * dy.stride), n), acc[q % 2]);
                        }
                        let at = sums.as_mut_ptr().add((r * kw + s) * S::N);
                        S::store(at, S::add(S::load(at), S::add(acc[0], acc[1])));
                    }
                }
            }
        }
    }
}

/// The gradient by x.
pub(super) fn data(isa: Isa, shape: &ConvShape, weights: &[f32], dy: Image, dx: ImageMut) {
    let taps = shape.window.kernel[0] * shape.window.kernel[1];
    let c = dx.c;
    // [taps][channels]
    scratch(taps * c, |packed| {
        for (channel, own) in weights.chunks_exact(taps).take(c).enumerate() {
            own.iter().enumerate().for_each(|(tap, w)| packed[tap * c + channel] = *w);
        }
        let (packed, base, stride, h, w) = (&*packed, Shared(dx.data.as_mut_ptr()), dx.stride, dx.h, dx.w);
        ranges(dx.n * h, w * c * taps, |lines| {
            for line in lines {
                isa.run(Line { shape, w: packed, dy, line, size: [h, w], c, dx: base.at(line * w * stride), stride });
            }
        });
    });
}

struct Line<'a> {
    shape: &'a ConvShape,
    w: &'a [f32],
    dy: Image<'a>,
    line: usize,
    size: [usize; 2],
    c: usize,
    dx: *mut f32,
    stride: usize,
}

impl Task for Line<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the views were checked, and the line of dx is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Line { shape, w, dy, line, size: [h, width], c, dx, stride } = self;
        let [kh, kw] = shape.window.kernel;
        let (image, iy) = (line / h, line % h);
        // which window sees position `i` by tap `t`
        let window = |i: usize, t: usize, axis: usize, count: usize| {
            let at = (i + shape.window.padding[axis]).checked_sub(t * shape.window.dilation[axis])?;
            (at.is_multiple_of(shape.window.stride[axis]) && at / shape.window.stride[axis] < count)
                .then(|| at / shape.window.stride[axis])
        };
        // SAFETY: windows are those that exist.
        unsafe {
            for ix in 0..width {
                let mut at = 0;
                while at < c {
                    let n = S::N.min(c - at);
                    let mut sum = S::splat(0.0);
                    for r in 0..kh {
                        let Some(p) = window(iy, r, 0, dy.h) else { continue };
                        for s in 0..kw {
                            let Some(q) = window(ix, s, 1, dy.w) else { continue };
                            let d = ld::<S>(dy.data.as_ptr().add(((image * dy.h + p) * dy.w + q) * dy.stride + at), n);
                            sum = S::fma(d, ld::<S>(w.as_ptr().add((r * kw + s) * c + at), n), sum);
                        }
                    }
                    st::<S>(dx.add(ix * stride + at), sum, n);
                    at += n;
                }
            }
        }
    }
}
