//! A convolution of few channels (a network's first) and the maxima of its windows, as one.
//!
//! Tasks     bands of output rows. A task computes rows of the convolution one after another into a ring of as many as a
//!           window has, and takes the maxima of the windows that are complete; so the convolution's image, the largest of
//!           a network, is never in memory. Rows that two bands need are computed twice: one in 29 for a ResNet
//! Roofline  that of the convolution

use archc_base::{Act, Window};

use super::bf16::simd::Unit;
use super::conv::{ConvShape, Input, PackedConv};
use super::direct::Epilogue;
use super::par::{Shared, scratch, tasks};
use super::simd::{Isa, Simd, Task, lanes, ld, st};
use super::stem::{self, Frame, Windows};
use super::view::ImageMut;

/// A convolution with the windows over its result.
#[derive(Debug)]
pub struct PackedPooled {
    isa: Isa,
    conv: PackedConv,
    act: Act,
    pool: Window,
}

/// Output rows of a band.
const BAND: usize = 14;

/// Rows of a window, at most.
const MOST: usize = 8;

impl PackedPooled {
    /// Whether there is a kernel for this convolution and these windows.
    pub fn suits(shape: &ConvShape, pool: &Window) -> bool {
        stem::suits::<f32>(shape) && pool.dilation == [1, 1] && pool.kernel[0] <= MOST
    }

    pub fn pack(isa: Isa, shape: &ConvShape, weights: &[f32], act: Act, pool: Window) -> Self {
        assert!(Self::suits(shape, &pool), "another kind of convolution or of windows");
        let conv = PackedConv::pack(isa, shape, weights);
        PackedPooled { isa, conv, act, pool }
    }

    /// The size of the windows' image that `y` has decides about ceil mode.
    pub fn run(&self, x: Input, bias: Option<&[f32]>, y: ImageMut) {
        let shape = self.conv.shape();
        let x = x.planes();
        y.check();
        let [n, in_channels, h, w] = x.dims;
        assert!(in_channels == shape.in_channels && y.c == shape.out_channels && n == y.n, "images of other channels");
        let [h, w] = shape.window.output([h, w]);
        let epilogue = Epilogue::new(bias, self.act);
        epilogue.check(n * h * w, y.c, n);
        let (c, isa) = (y.c, self.isa);
        let [kernel, stride, padding] =
            [self.pool.kernel, self.pool.stride, [self.pool.padding[0], self.pool.padding[1]]];
        let inside = |i: usize, axis: usize, size: usize| {
            let (from, to) = ((i * stride[axis]).saturating_sub(padding[axis]), i * stride[axis] + kernel[axis]);
            (from.min(size), to.saturating_sub(padding[axis]).min(size))
        };
        let bands = y.h.div_ceil(BAND);
        let (out, y_h, y_w, y_stride) = (Shared(y.data.as_mut_ptr()), y.h, y.w, y.stride);
        let row_len = w * c;
        let windows = Windows::new(Unit::from(isa), shape, &x);
        tasks(n * bands, |task| {
            let (image, band) = (task / bands, task % bands);
            let band = y_h * band / bands..y_h * (band + 1) / bands;
            let (first, last) = (inside(band.start, 0, h).0, inside(band.end - 1, 0, h).1);
            let maxima = |frame: Option<Frame<f32>>, ring: &mut [f32]| {
                let ring = Shared(ring.as_mut_ptr());
                let slot = |row: usize| ring.at(row % kernel[0] * row_len);
                // rows below are in the ring
                let mut done = 0;
                for oy in band {
                    let (from, to) = inside(oy, 0, h);
                    for row in done.max(from)..to {
                        let frame = frame.expect("there are rows");
                        let pixel = (image * h + row) * w;
                        let to = Shared(slot(row).wrapping_sub(pixel * c));
                        // SAFETY: the row is one of the image's, and the ring is this task's.
                        unsafe { self.conv.stem_rows(frame, [n * h * w, n], pixel..pixel + w, (to, c), &epilogue) };
                    }
                    done = done.max(to);
                    let mut rows = [std::ptr::null(); MOST];
                    (from..to).for_each(|row| rows[row - from] = slot(row).cast_const());
                    for ox in 0..y_w {
                        let (x0, x1) = inside(ox, 1, w);
                        let y = out.at(((image * y_h + oy) * y_w + ox) * y_stride);
                        isa.run(Maxima { rows: &rows[..to - from], from: x0 * c, pixels: x1 - x0, channels: c, y });
                    }
                }
            };
            scratch(kernel[0] * row_len, |ring| {
                if first >= last || w == 0 {
                    return maxima(None, ring);
                }
                let lines = image * h + first..image * h + last;
                // SAFETY: the planes were checked.
                unsafe { windows.with_frame(lines, |frame| maxima(Some(frame), ring)) };
            });
        });
    }
}

/// The maxima of one window; NaN wins.
struct Maxima<'a> {
    rows: &'a [*const f32],
    /// Where the window begins in each row.
    from: usize,
    pixels: usize,
    channels: usize,
    y: *mut f32,
}

impl Task for Maxima<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the window is inside the rows, and y is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's.
        unsafe {
            lanes!(S, self.channels, |c, n| {
                let mut max = S::splat(f32::NEG_INFINITY);
                for row in self.rows {
                    for i in 0..self.pixels {
                        let v = ld::<S>(row.add(self.from + i * self.channels + c), n);
                        max = S::select(S::is_nan(v), v, S::max(v, max));
                    }
                }
                st::<S>(self.y.add(c), max, n);
            });
        }
    }
}
