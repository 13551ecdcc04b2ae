//! Backward of pooling and resampling: what each result was made of gets its share.
//!
//! A task is some channels of one image, so that windows may overlap. A maximum's gradient goes to the first value that
//! is as large, as in PyTorch.

use archc_base::{Pool, Resample, Window};

use super::super::par::{Shared, tasks};
use super::super::pool::{Axis, axes_of};
use super::super::resize::Taps;
use super::super::simd::{Isa, Simd, Task, lanes, ld, st};
use super::super::view::{Image, ImageMut};

/// The gradient by x of a pooling of windows.
pub fn pool_data(isa: Isa, kind: Pool, window: &Window, dy: Image, x: Image, dx: ImageMut) {
    run(isa, kind, axes_of(kind, window, [x.h, x.w]), window.dilation, dy, x, dx);
}

/// The gradient by x of an adaptive pooling.
pub fn adaptive_pool_data(isa: Isa, kind: Pool, dy: Image, x: Image, dx: ImageMut) {
    let axes = [Axis::Parts { size: x.h, parts: dy.h }, Axis::Parts { size: x.w, parts: dy.w }];
    run(isa, kind, axes, [1, 1], dy, x, dx);
}

fn run(isa: Isa, kind: Pool, axes: [Axis; 2], dilation: [usize; 2], dy: Image, x: Image, dx: ImageMut) {
    dy.check();
    x.check();
    dx.check();
    assert!(dy.c == x.c && dx.c == x.c && dy.n == x.n && dx.n == x.n, "images of other channels");
    assert!([dx.h, dx.w] == [x.h, x.w], "images of another size");
    let (out, stride) = (Shared(dx.data.as_mut_ptr()), dx.stride);
    // whole cache lines, more of them where there are tasks enough
    let wide = if x.n * x.c >= 128 * isa.lanes() { 4 * isa.lanes() } else { isa.lanes() };
    let strips = x.c.div_ceil(wide);
    tasks(x.n * strips, |task| {
        let (image, first) = (task / strips, task % strips * wide);
        let channels = wide.min(x.c - first);
        let dx = out.at(image * x.h * x.w * stride + first);
        isa.run(Windows { kind, axes, dilation, dy, x, image, first, channels, dx, stride });
    });
}

struct Windows<'a> {
    kind: Pool,
    axes: [Axis; 2],
    dilation: [usize; 2],
    dy: Image<'a>,
    x: Image<'a>,
    image: usize,
    first: usize,
    channels: usize,
    dx: *mut f32,
    stride: usize,
}

impl Task for Windows<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; spans lie inside the image, `dx` is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Windows { kind, axes, dilation, ref dy, ref x, image, first, channels, dx, stride } = self;
        // SAFETY: the caller's.
        unsafe {
            let clear = |rows: std::ops::Range<usize>| {
                for p in rows.start * x.w..rows.end * x.w {
                    lanes!(S, channels, |c, n| {
                        st::<S>(dx.add(p * stride + c), S::splat(0.0), n);
                    });
                }
            };
            // each row just before it gets its first share
            let mut cleared = 0;
            for p in 0..dy.h {
                let rows = axes[0].span(p);
                if rows.1 > cleared {
                    clear(cleared..rows.1);
                    cleared = rows.1;
                }
                for q in 0..dy.w {
                    let cols = axes[1].span(q);
                    let dy = dy.data.as_ptr().add(((image * dy.h + p) * dy.w + q) * dy.stride + first);
                    let x_at = x.data.as_ptr().add(image * x.h * x.w * x.stride + first);
                    lanes!(S, channels, |c, n| {
                        self.window::<S>(kind, [rows, cols], dilation, (dy.add(c), x_at.add(c), dx.add(c)), n);
                    });
                }
            }
            clear(cleared..x.h);
        }
    }
}

impl Windows<'_> {
    /// Adds the share of one window: `n` lanes of dy, of the image x and of dx.
    ///
    /// # Safety
    /// As `run`; the window lies inside the image.
    #[inline(always)]
    unsafe fn window<S: Simd>(
        &self,
        kind: Pool,
        [rows, cols]: [(usize, usize, usize); 2],
        dilation: [usize; 2],
        (dy, x_at, dx): (*const f32, *const f32, *mut f32),
        n: usize,
    ) {
        let (x, stride) = (&self.x, self.stride);
        // SAFETY: the caller's.
        unsafe {
            let zero = S::splat(0.0);
            let mut d = ld::<S>(dy, n);
            match kind {
                Pool::Max => {
                    let mut max = S::splat(f32::NEG_INFINITY);
                    // not `step_by`, which divides
                    let mut iy = rows.0;
                    while iy < rows.1 {
                        let mut ix = cols.0;
                        while ix < cols.1 {
                            max = S::max(ld::<S>(x_at.add((iy * x.w + ix) * x.stride), n), max);
                            ix += dilation[1];
                        }
                        iy += dilation[0];
                    }
                    let mut iy = rows.0;
                    while iy < rows.1 {
                        let mut ix = cols.0;
                        while ix < cols.1 {
                            let at = iy * x.w + ix;
                            let below = S::gt(max, ld::<S>(x_at.add(at * x.stride), n));
                            let to = dx.add(at * stride);
                            st::<S>(to, S::add(ld::<S>(to, n), S::select(below, zero, d)), n);
                            // whoever comes first has it all
                            d = S::select(below, d, zero);
                            ix += dilation[1];
                        }
                        iy += dilation[0];
                    }
                }
                Pool::Mean { count_padding } => {
                    let inside = (rows.1 - rows.0) * (cols.1 - cols.0);
                    let count = if count_padding { rows.2 * cols.2 } else { inside };
                    d = S::div(d, S::splat(count.max(1) as f32));
                    for iy in rows.0..rows.1 {
                        for ix in cols.0..cols.1 {
                            let to = dx.add((iy * x.w + ix) * stride);
                            st::<S>(to, S::add(ld::<S>(to, n), d), n);
                        }
                    }
                }
            }
        }
    }
}

/// The gradient by x of a resampling.
pub fn resize_data(isa: Isa, mode: Resample, scale: Option<[f64; 2]>, dy: Image, dx: ImageMut) {
    dy.check();
    dx.check();
    assert!(dy.c == dx.c && dy.n == dx.n && dx.h > 0 && dx.w > 0, "images of other channels");
    let (h, w, c, stride) = (dx.h, dx.w, dx.c, dx.stride);
    let ratio = |axis: usize, from: usize, to: usize| match scale {
        Some(scale) => 1.0 / scale[axis],
        None => from as f64 / to as f64,
    };
    let taps = |axis: usize, from: usize, to: usize| -> Vec<Taps> {
        (0..to).map(|i| Taps::new(mode, i, ratio(axis, from, to), from, to)).collect()
    };
    let (ys, xs) = (taps(0, h, dy.h), taps(1, w, dy.w));
    let out = Shared(dx.data.as_mut_ptr());
    let strips = c.div_ceil(isa.lanes());
    tasks(dy.n * strips, |task| {
        let (image, first) = (task / strips, task % strips * isa.lanes());
        let channels = isa.lanes().min(c - first);
        let dx = out.at(image * h * w * stride + first);
        isa.run(Scatter { dy, image, first, channels, ys: &ys, xs: &xs, dx, size: [h, w], stride });
    });
}

struct Scatter<'a> {
    dy: Image<'a>,
    image: usize,
    first: usize,
    channels: usize,
    ys: &'a [Taps],
    xs: &'a [Taps],
    dx: *mut f32,
    size: [usize; 2],
    stride: usize,
}

impl Task for Scatter<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; taps lie inside the image, `dx` is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Scatter { dy, image, first, channels: n, ys, xs, dx, size: [h, w], stride } = self;
        // SAFETY: the caller's.
        unsafe {
            for p in 0..h * w {
                st::<S>(dx.add(p * stride), S::splat(0.0), n);
            }
            for (p, ys) in ys.iter().enumerate() {
                for (q, xs) in xs.iter().enumerate() {
                    let d = ld::<S>(dy.data.as_ptr().add(((image * dy.h + p) * dy.w + q) * dy.stride + first), n);
                    for i in 0..ys.n {
                        for j in 0..xs.n {
                            let to = dx.add((ys.at[i] * w + xs.at[j]) * stride);
                            st::<S>(to, S::fma(d, S::splat(ys.weight[i] * xs.weight[j]), ld::<S>(to, n)), n);
                        }
                    }
                }
            }
        }
    }
}
