//! Pooling: maxima and means of windows.
//!
//! Formula   PyTorch's: padding counts as -inf in a maximum; a mean divides by the window's size clipped to the padded
//!           image (or to the image itself, without `count_padding`); NaN wins a maximum
//! Layout    NHWC of float32 or bf16, maxima and sums in float32; channels are the lanes; a large window is summed by rows first, which keeps the error small

use archc_base::{Pool, Window};

use super::bf16::simd::{Halves, Task, Unit, vectors};
use super::element::Element;
use super::formats::Sums;
use super::par::{Shared, ranges};
use super::simd::Simd;
use super::view::{Image, ImageMut};

/// Pools windows; the size of the output (ceil mode or not) is that of the image written.
pub fn pool<T, O: Sums<T>>(unit: impl Into<Unit>, kind: Pool, window: &Window, x: Image<T>, y: ImageMut<O>) {
    O::pool(unit.into(), kind, window, x, y);
}

pub(super) fn pool_of<T: Element, O: Element>(unit: Unit, kind: Pool, window: &Window, x: Image<T>, y: ImageMut<O>) {
    run(unit, kind, axes_of(kind, window, [x.h, x.w]), window.dilation, x, y);
}

/// The places of `window` over an image of `size`.
pub(super) fn axes_of(kind: Pool, window: &Window, size: [usize; 2]) -> [Axis; 2] {
    let Window { kernel, stride, padding, dilation } = *window;
    assert!(window.is_valid(), "kernel, stride and dilation are positive");
    assert!(kind == Pool::Max || dilation == [1, 1], "only a maximum may be dilated");
    [0, 1].map(|axis| Axis::Windows {
        size: size[axis],
        kernel: kernel[axis],
        stride: stride[axis],
        before: padding[axis],
        after: padding[axis + 2],
        dilation: dilation[axis],
    })
}

/// Pools the whole image in as many windows as `y` has pixels: from `i * h / p` to `(i + 1) * h / p`, rounded outwards.
/// One pixel is the whole image.
pub fn adaptive_pool<T, O: Sums<T>>(unit: impl Into<Unit>, kind: Pool, x: Image<T>, y: ImageMut<O>) {
    O::adaptive_pool(unit.into(), kind, x, y);
}

pub(super) fn adaptive_pool_of<T: Element, O: Element>(unit: Unit, kind: Pool, x: Image<T>, y: ImageMut<O>) {
    let axes = [Axis::Parts { size: x.h, parts: y.h }, Axis::Parts { size: x.w, parts: y.w }];
    run(unit, kind, axes, [1, 1], x, y);
}

/// The windows along one axis.
#[derive(Clone, Copy)]
pub(super) enum Axis {
    Windows { size: usize, kernel: usize, stride: usize, before: usize, after: usize, dilation: usize },
    Parts { size: usize, parts: usize },
}

/// From, to (exclusive), and the length with what lies on the padding.
pub(super) type Span = (usize, usize, usize);

impl Axis {
    pub(super) fn span(self, i: usize) -> Span {
        match self {
            Axis::Windows { size, kernel, stride, before, after, dilation } => {
                // In coordinates of the padded image.
                let start = i * stride;
                let end = (start + (kernel - 1) * dilation + 1).min(before + size + after).max(start);
                let skipped = before.saturating_sub(start).div_ceil(dilation) * dilation;
                let from = start + skipped - before;
                let to = end.saturating_sub(before).min(size);
                (from.min(to), to, end - start)
            }
            Axis::Parts { size, parts } => {
                let (from, to) = (i * size / parts, ((i + 1) * size).div_ceil(parts));
                (from, to, to - from)
            }
        }
    }
}

fn run<T: Element, O: Element>(
    unit: Unit,
    kind: Pool,
    axes: [Axis; 2],
    dilation: [usize; 2],
    x: Image<T>,
    y: ImageMut<O>,
) {
    x.check();
    y.check();
    assert!(x.n == y.n && x.c == y.c, "images of other channels");
    // Few pixels (global pooling): cut the channels as well, into cache lines.
    let parts = if y.pixels() < 64 { y.c.div_ceil(64).max(1) } else { 1 };
    let cost = x.pixels().div_ceil(y.pixels().max(1)).max(2) * y.c.div_ceil(parts);
    let (out, stride, [h, w], pixels) = (Shared(y.data.as_mut_ptr()), y.stride, [y.h, y.w], y.pixels());
    ranges(pixels * parts, cost, |range| {
        for i in range {
            let (pixel, part) = (i / parts, i % parts);
            let (rows, cols) = (axes[0].span(pixel / w % h), axes[1].span(pixel % w));
            let (c0, c1) = if parts == 1 { (0, x.c) } else { (part * 64, (part * 64 + 64).min(x.c)) };
            unit.run(Pixel {
                x: &x,
                first: pixel / (w * h) * x.h * x.w,
                rows,
                cols,
                dilation,
                kind,
                channels: (c0, c1 - c0),
                y: out.at(pixel * stride + c0),
            });
        }
    });
}

struct Pixel<'a, T, O> {
    x: &'a Image<'a, T>,
    /// The first pixel of the image.
    first: usize,
    rows: Span,
    cols: Span,
    dilation: [usize; 2],
    kind: Pool,
    /// First and number.
    channels: (usize, usize),
    y: *mut O,
}

impl<T: Element, O: Element> Task for Pixel<'_, T, O> {
    const PAIRS: bool = T::TERMS > 1 || O::TERMS > 1;

    /// # Safety
    /// As [`Task::run`]; the spans lie inside the image, and y is this task's.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        let (rows, cols) = (self.rows, self.cols);
        let (c0, channels) = self.channels;
        let stride = self.x.stride;
        // SAFETY: the caller's.
        unsafe {
            let x = self.x.data.as_ptr().wrapping_add(c0);
            match self.kind {
                Pool::Max => {
                    vectors!(H, channels, |c, n| {
                        let mut max = H::S::splat(f32::NEG_INFINITY);
                        for iy in (rows.0..rows.1).step_by(self.dilation[0]) {
                            let row = x.wrapping_add((self.first + iy * self.x.w) * stride + c);
                            for ix in (cols.0..cols.1).step_by(self.dilation[1]) {
                                let v = T::get::<H>(row.wrapping_add(ix * stride), n);
                                max = H::S::select(H::S::is_nan(v), v, H::S::max(v, max));
                            }
                        }
                        O::put::<H>(self.y.add(c), max, n);
                    });
                }
                Pool::Mean { count_padding } => {
                    let inside = (rows.1 - rows.0) * (cols.1 - cols.0);
                    let count = if count_padding { rows.2 * cols.2 } else { inside };
                    let share = H::S::splat(if inside == 0 { 0.0 } else { count as f32 });
                    vectors!(H, channels, |c, n| {
                        let mut sum = H::S::splat(0.0);
                        for iy in rows.0..rows.1 {
                            let row = x.wrapping_add((self.first + iy * self.x.w) * stride + c);
                            let mut line = H::S::splat(0.0);
                            for ix in cols.0..cols.1 {
                                line = H::S::add(line, T::get::<H>(row.wrapping_add(ix * stride), n));
                            }
                            sum = H::S::add(sum, line);
                        }
                        let mean = if inside == 0 { sum } else { H::S::div(sum, share) };
                        O::put::<H>(self.y.add(c), mean, n);
                    });
                }
            }
        }
    }
}
