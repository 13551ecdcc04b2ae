//! Pooling of bf16 images; the windows are those of `../pool.rs`, sums and means are in float32.

use super::super::par::ranges;
use super::super::pool::{Axis, Pool, PoolShape, Span, axes_of};
use super::super::simd::Simd;
use super::super::view::{Image, ImageMut};
use super::direct::Shared;
use super::simd::{Halves, Task, Unit};
use super::tile::Stored;
use half::bf16;

/// Pools windows of `shape`.
pub fn pool<O: Stored>(unit: Unit, kind: Pool, shape: &PoolShape, x: Image<bf16>, y: ImageMut<O>) {
    run(unit, kind, axes_of(kind, shape, [x.h, x.w]), shape.dilation, x, y);
}

/// Pools the whole image in as many windows as `y` has pixels.
pub fn adaptive_pool<O: Stored>(unit: Unit, kind: Pool, x: Image<bf16>, y: ImageMut<O>) {
    let axes = [Axis::Parts { size: x.h, parts: y.h }, Axis::Parts { size: x.w, parts: y.w }];
    run(unit, kind, axes, [1, 1], x, y);
}

fn run<O: Stored>(unit: Unit, kind: Pool, axes: [Axis; 2], dilation: [usize; 2], x: Image<bf16>, y: ImageMut<O>) {
    x.check();
    y.check();
    assert!(x.n == y.n && x.c == y.c, "images of other channels");
    // Few pixels (global pooling): cut the channels as well, into cache lines.
    let parts = if y.pixels() < 64 { y.c.div_ceil(64).max(1) } else { 1 };
    let cost = x.pixels().div_ceil(y.pixels().max(1)).max(2) * y.c.div_ceil(parts);
    let (out, dist, [h, w], pixels) = (Shared(y.data.as_mut_ptr()), y.dist, [y.h, y.w], y.pixels());
    ranges(pixels * parts, cost, |range| {
        for i in range {
            let (pixel, part) = (i / parts, i % parts);
            let (rows, cols) = (axes[0].span(pixel / w % h), axes[1].span(pixel % w));
            let (c0, c1) = if parts == 1 { (0, x.c) } else { (part * 64, (part * 64 + 64).min(x.c)) };
            unit.run(Window {
                x: &x,
                first: pixel / (w * h) * x.h * x.w,
                rows,
                cols,
                dilation,
                kind,
                channels: (c0, c1 - c0),
                y: out.at(pixel * dist + c0),
            });
        }
    });
}

struct Window<'a, O> {
    x: &'a Image<'a, bf16>,
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

impl<O: Stored> Task for Window<'_, O> {
    /// # Safety
    /// As [`Task::run`]; the spans lie inside the image, and y is this task's.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        let (rows, cols, width) = (self.rows, self.cols, 2 * H::S::N);
        let (c0, channels) = self.channels;
        let dist = self.x.dist;
        let inside = (rows.1 - rows.0) * (cols.1 - cols.0);
        // SAFETY: the caller's.
        unsafe {
            let x = self.x.data.as_ptr().wrapping_add(c0);
            for c in (0..channels).step_by(width) {
                let n = (channels - c).min(width);
                let row = |iy: usize| x.wrapping_add((self.first + iy * self.x.w) * dist + c);
                let mut total = match self.kind {
                    Pool::Max => [H::S::splat(f32::NEG_INFINITY); 2],
                    Pool::Mean { .. } => [H::S::splat(0.0); 2],
                };
                for iy in (rows.0..rows.1).step_by(self.dilation[0]) {
                    let row = row(iy);
                    // a row of a mean is summed by itself, which keeps the error of large windows small
                    let mut line = if self.kind == Pool::Max { total } else { [H::S::splat(0.0); 2] };
                    for ix in (cols.0..cols.1).step_by(self.dilation[1]) {
                        let p = row.wrapping_add(ix * dist);
                        let v = if n == width { H::pairs(p) } else { H::pairs_n(p, n) };
                        let v = [H::even(v), H::odd(v)];
                        for half in 0..2 {
                            line[half] = match self.kind {
                                Pool::Max => {
                                    H::S::select(H::S::is_nan(v[half]), v[half], H::S::max(v[half], line[half]))
                                }
                                Pool::Mean { .. } => H::S::add(line[half], v[half]),
                            };
                        }
                    }
                    total = match self.kind {
                        Pool::Max => line,
                        Pool::Mean { .. } => [H::S::add(total[0], line[0]), H::S::add(total[1], line[1])],
                    };
                }
                if let Pool::Mean { count_include_pad } = self.kind
                    && inside > 0
                {
                    let count = if count_include_pad { rows.2 * cols.2 } else { inside };
                    let count = H::S::splat(count as f32);
                    total = [H::S::div(total[0], count), H::S::div(total[1], count)];
                }
                let values = H::zip(total[0], total[1]);
                O::put::<H>(self.y.add(c), values[0], n.min(H::S::N));
                if n > H::S::N {
                    O::put::<H>(self.y.add(c + H::S::N), values[1], n - H::S::N);
                }
            }
        }
    }
}
