//! Depthwise convolution of bf16 images: each channel alone, multiplied in float32.
//!
//! Formula   y[m][c] = epilogue(sum over taps of x[pixel(m, tap)][c] * w[tap][c])
//! Layout    weights in float32, [taps][C padded to two vectors], even channels of two vectors before the odd ones: so
//!           the channels of a vector of pairs are split by a shift and a mask
//! Tile      7 output pixels of one row x 2 vectors of channels. With stride 1 and windows of 3, 5 or 7 columns each
//!           input pixel is read and split once a row of the window, for all outputs that it goes into
//! Ceiling   one load and two operations for a split beside two FMAs a tap and pixel; on large maps it is memory

use super::super::conv::ConvShape;
use super::super::depthwise::window;
use super::super::direct::{Ending, Window};
use super::super::math::Act;
use super::super::par::{Aligned, ranges, scratch};
use super::super::simd::{Simd, ld, unroll};
use super::super::view::{Image, ImageMut};
use super::direct::{Epilogue, Shared};
use super::simd::{F, Halves, Task, Unit, widen};
use super::tile::{Finish, Stored};
use half::bf16;

/// Output pixels of a tile.
const PX: usize = 7;

#[derive(Debug)]
pub(super) struct Depthwise {
    unit: Unit,
    shape: ConvShape,
    /// `[taps][padded]`, the channels of two vectors split.
    w: Aligned,
    padded: usize,
    zeros: Vec<bf16>,
}

impl Depthwise {
    /// One input and one output channel a group.
    pub fn pack(unit: Unit, shape: &ConvShape, weights: &[f32], scale: Option<&[f32]>) -> Self {
        let taps = shape.kernel[0] * shape.kernel[1];
        let (channels, n) = (shape.out_channels, unit.isa().lanes());
        let padded = channels.next_multiple_of(2 * n);
        let mut w = Aligned::zeros(taps * padded);
        for c in 0..channels {
            let at = c / (2 * n) * 2 * n + c % 2 * n + c % (2 * n) / 2;
            for tap in 0..taps {
                w[tap * padded + at] = weights[c * taps + tap] * scale.map_or(1.0, |s| s[c]);
            }
        }
        Depthwise { unit, shape: *shape, w, padded, zeros: vec![bf16::ZERO; padded] }
    }

    pub fn run<O: Stored>(&self, x: Image<bf16>, y: ImageMut<O>, epilogue: &Epilogue) {
        let taps = self.shape.kernel[0] * self.shape.kernel[1];
        let ending = epilogue.ending();
        let window = window(&self.shape, &x, [y.h, y.w], &self.zeros);
        let (out, y_dist, per_image) = (Shared(y.data.as_mut_ptr()), y.dist, y.h * y.w);
        let (in_row, width) = (y.w.div_ceil(PX), y.w);
        let kernel = Shape { window, channels: y.c, padded: self.padded, w: &self.w, epilogue, ending: &ending };
        let pointers = taps * PX * 2;
        ranges(y.n * y.h * in_row, PX * y.c * (2 + taps / 3), |range| {
            let sums = if ending.more { PX * y.c } else { 0 };
            scratch(pointers.next_multiple_of(16) + sums, |scratch| {
                let (ptrs, sums) = scratch.split_at_mut(pointers.next_multiple_of(16));
                for t in range {
                    let (row, t) = (t / in_row, t % in_row);
                    let (x0, x1) = (width * t / in_row, width * (t + 1) / in_row);
                    let (m0, pixels) = (row * width + x0, x1 - x0);
                    let (ptrs, y) = (ptrs.as_mut_ptr().cast(), out.at(m0 * y_dist));
                    let at = At { row, x0, pixels };
                    if ending.more {
                        let to = sums.as_mut_ptr();
                        self.unit.run(Tile { shape: &kernel, ptrs, at, y: to, y_dist: kernel.channels });
                        self.unit.run(finish(&kernel, to, (m0, pixels), per_image, (y, y_dist)));
                    } else {
                        self.unit.run(Tile { shape: &kernel, ptrs, at, y, y_dist });
                    }
                }
            });
        });
    }
}

fn finish<O>(
    s: &Shape,
    x: *mut f32,
    (m0, rows): (usize, usize),
    per_image: usize,
    (y, y_dist): (*mut O, usize),
) -> Finish<O> {
    let clamped = s.clamps();
    Finish {
        x,
        x_dist: s.channels,
        rows,
        cols: s.channels,
        before: if clamped { Act::None } else { s.epilogue.before },
        res: s.epilogue.residual.map_or(std::ptr::null(), |res| res.at(m0)),
        res_dist: s.epilogue.residual.map_or(0, |res| res.dist),
        after: if clamped { Act::None } else { s.epilogue.after },
        gate: s.epilogue.gate.map_or(std::ptr::null(), |gate| gate.as_ptr()),
        gate_dist: s.channels,
        gate_row: m0,
        gate_rows: per_image,
        y,
        y_dist,
    }
}

struct Shape<'a> {
    window: Window<bf16>,
    channels: usize,
    padded: usize,
    w: &'a [f32],
    epilogue: &'a Epilogue<'a>,
    ending: &'a Ending,
}
// SAFETY: the pointers inside are only read.
unsafe impl Sync for Shape<'_> {}

impl Shape<'_> {
    /// Whether the tile itself does the activation.
    fn clamps(&self) -> bool {
        self.ending.simple && (!self.ending.more || self.epilogue.residual.is_none())
    }
}

/// Up to [`PX`] output pixels of one row.
#[derive(Clone, Copy)]
struct At {
    /// Rows of all images are counted.
    row: usize,
    x0: usize,
    pixels: usize,
}

/// All channels of some pixels.
struct Tile<'a, O> {
    shape: &'a Shape<'a>,
    /// Room for `taps * PX` pointers.
    ptrs: *mut *const bf16,
    at: At,
    y: *mut O,
    y_dist: usize,
}

impl<O: Stored> Task for Tile<'_, O> {
    /// # Safety
    /// As [`Task::run`]; the views were checked, and the pixels of y are this task's.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        let window = &self.shape.window;
        let sliding = window.stride[1] == 1 && window.dilation[1] == 1;
        // SAFETY: the caller's.
        unsafe {
            match window.kernel[1] {
                3 if sliding => self.sliding::<H, 3>(),
                5 if sliding => self.sliding::<H, 5>(),
                7 if sliding => self.sliding::<H, 7>(),
                _ => self.by_taps::<H>(),
            }
        }
    }
}

impl<O: Stored> Tile<'_, O> {
    /// Windows of `S` columns that move by one pixel.
    ///
    /// # Safety
    /// As `run`.
    #[inline(always)]
    unsafe fn sliding<H: Halves, const S: usize>(&self) {
        let (s, window, At { row, x0, pixels }) = (self.shape, &self.shape.window, self.at);
        let (image, oy) = (row / window.out[0], row % window.out[0]);
        let top = (oy * window.stride[0]) as isize - window.padding[0];
        let left = x0 as isize - window.padding[1];
        let n = 2 * H::S::N;
        // SAFETY: only pixels inside the image are read; channels stay within the sizes, weights are padded.
        unsafe {
            for c0 in (0..s.channels).step_by(n) {
                let left_channels = (s.channels - c0).min(n);
                let mut acc = [[H::S::splat(0.0); 2]; PX];
                for r in 0..window.kernel[0] {
                    let iy = top + (r * window.dilation[0]) as isize;
                    if iy < 0 || iy >= window.h as isize {
                        continue;
                    }
                    let start = (image * window.h + iy as usize) * window.row_dist + c0;
                    let line = window.x.wrapping_add(start);
                    let w = s.w.as_ptr().add(r * S * s.padded + c0);
                    let mut wv = [[H::S::splat(0.0); 2]; S];
                    unroll!(T <7 S, {
                        wv[T] = [H::S::load(w.add(T * s.padded)), H::S::load(w.add(T * s.padded + H::S::N))];
                    });
                    unroll!(I < PX + S - 1, {
                        let ix = left + I as isize;
                        let inside = ix >= 0 && ix < window.w as isize;
                        let p = if inside { line.wrapping_add(ix as usize * window.dist) } else { window.zeros };
                        let x = if left_channels == n { H::pairs(p) } else { H::pairs_n(p, left_channels) };
                        let (even, odd) = (H::even(x), H::odd(x));
                        unroll!(T <7 S, {
                            let o = I.wrapping_sub(T);
                            if o < PX {
                                let o = o % PX;
                                acc[o][0] = H::S::fma(even, wv[T][0], acc[o][0]);
                                acc[o][1] = H::S::fma(odd, wv[T][1], acc[o][1]);
                            }
                        });
                    });
                }
                self.store::<H>(&acc, c0, left_channels, pixels);
            }
        }
    }

    /// Any windows, through a table of pointers.
    ///
    /// # Safety
    /// As `run`.
    #[inline(always)]
    unsafe fn by_taps<H: Halves>(&self) {
        let (s, window, At { row, x0, pixels }) = (self.shape, &self.shape.window, self.at);
        let n = 2 * H::S::N;
        // SAFETY: as above; pixels that are missing repeat the last one and are not stored.
        unsafe {
            window.pointers(0, row * window.out[1] + x0, pixels, self.ptrs);
            let at: [usize; PX] = std::array::from_fn(|i| i.min(pixels - 1));
            for c0 in (0..s.channels).step_by(n) {
                let left = (s.channels - c0).min(n);
                let mut acc = [[H::S::splat(0.0); 2]; PX];
                for tap in 0..window.kernel[0] * window.kernel[1] {
                    let ptrs = self.ptrs.add(tap * pixels);
                    let w = s.w.as_ptr().add(tap * s.padded + c0);
                    let wv = [H::S::load(w), H::S::load(w.add(H::S::N))];
                    unroll!(I <7 PX, {
                        let p = (*ptrs.add(at[I])).add(c0);
                        let x = if left == n { H::pairs(p) } else { H::pairs_n(p, left) };
                        acc[I][0] = H::S::fma(H::even(x), wv[0], acc[I][0]);
                        acc[I][1] = H::S::fma(H::odd(x), wv[1], acc[I][1]);
                    });
                }
                self.store::<H>(&acc, c0, left, pixels);
            }
        }
    }

    /// # Safety
    /// As `run`.
    #[inline(always)]
    unsafe fn store<H: Halves>(&self, acc: &[[F<H>; 2]; PX], c0: usize, n: usize, pixels: usize) {
        let s = self.shape;
        let first = self.at.row * s.window.out[1] + self.at.x0;
        // SAFETY: channels and pixels stay within the sizes.
        unsafe {
            let [lo, hi] = if s.clamps() { [s.ending.lo, s.ending.hi] } else { [f32::NEG_INFINITY, f32::INFINITY] };
            let (lo, hi) = (H::S::splat(lo), H::S::splat(hi));
            let lanes = [n.min(H::S::N), n.saturating_sub(H::S::N)];
            let mut bias = [H::S::splat(0.0); 2];
            if let Some(b) = s.epilogue.bias {
                bias[0] = ld::<H::S>(b.as_ptr().add(c0), lanes[0]);
                if lanes[1] > 0 {
                    bias[1] = ld::<H::S>(b.as_ptr().add(c0 + H::S::N), lanes[1]);
                }
            }
            unroll!(I <7 PX, {
                if I < pixels {
                    let values = H::zip(acc[I][0], acc[I][1]);
                    for (j, value) in values.into_iter().enumerate().filter(|(j, _)| lanes[*j] > 0) {
                        let (c, n) = (c0 + j * H::S::N, lanes[j]);
                        let mut v = H::S::add(value, bias[j]);
                        if let (false, Some(res)) = (s.ending.more, s.epilogue.residual) {
                            v = H::S::add(v, widen::<H>(res.at(first + I).add(c), n));
                        }
                        let v = H::S::min(hi, H::S::max(lo, v));
                        O::put::<H>(self.y.add(I * self.y_dist + c), v, n);
                    }
                }
            });
        }
    }
}
