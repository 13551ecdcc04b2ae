//! Depthwise convolution: each channel alone.
//!
//! Formula   y[m][c] = epilogue(sum over taps of x[pixel(m, tap)][c] * w[tap][c])
//! Layout    weights [taps][C padded to a vector]; channels are the lanes
//! Tile      7 output pixels of one row x 3 (AVX-512) or 1 vectors of channels; all channels of 7 pixels before the next 7,
//!           so that all streams are sequential. Where the windows cross the left or right edge, taps on the padding
//!           read a row of zeros through a table of pointers; above and below they are left out
//! Ceiling   one load a FMA; on maps beyond L2 it is memory that decides

use super::conv::ConvShape;
use super::direct::{Ending, Epilogue, Place, Window};
use super::means::{Extent, Means, Sums, with_means};
use super::par::{Aligned, Shared, blocks, scratch, tasks};
use super::simd::{Isa, Simd, Task, ld, st, unroll};
use super::view::{Image, ImageMut};
use std::ops::Range;

/// Output pixels of a tile.
const PX: usize = 7;

#[derive(Debug)]
pub(super) struct Depthwise {
    isa: Isa,
    shape: ConvShape,
    /// `[taps][padded]`
    w: Aligned,
    padded: usize,
    zeros: Aligned,
}

impl Depthwise {
    /// One input and one output channel a group.
    pub fn pack(isa: Isa, shape: &ConvShape, weights: &[f32], scale: Option<&[f32]>) -> Self {
        let taps = shape.kernel[0] * shape.kernel[1];
        let channels = shape.out_channels;
        let padded = channels.next_multiple_of(isa.lanes());
        let mut w = Aligned::zeros(taps * padded);
        for c in 0..channels {
            for tap in 0..taps {
                w[tap * padded + c] = weights[c * taps + tap] * scale.map_or(1.0, |s| s[c]);
            }
        }
        Depthwise { isa, shape: *shape, w, padded, zeros: Aligned::zeros(padded) }
    }

    /// Convolves `x` into `y`; the means of y's channels go to `means`.
    pub fn run(&self, x: Image, y: ImageMut, means: Option<Means>, epilogue: &Epilogue) {
        let ending = Ending::of(epilogue);
        let call = self.call(&x, [y.h, y.w], epilogue, &ending);
        let (out, y_dist) = (Shared(y.data.as_mut_ptr()), y.dist);
        let (tiles, blocks) = (call.tiles(), blocks(call.tiles(), call.cost()));
        let range = |b: usize| tiles * b / blocks..tiles * (b + 1) / blocks;
        let all = |sums: Option<Sums>| {
            tasks(blocks, |block| {
                let sums = sums.as_ref().map(|sums| (sums, block));
                // SAFETY: the views were checked; the block and its sums are this task's.
                unsafe { call.run(range(block), out, y_dist, sums) };
            });
        };
        let Some(means) = means else { return all(None) };
        let extent = Extent { images: y.n, rows: y.h * y.w, units: y.h * y.w, cols: y.c };
        let pixels = |b: usize| call.pixels(&range(b));
        // SAFETY: the caller checked the means; every block begins its sums and adds all its tiles.
        unsafe { with_means(self.isa, means, extent, blocks, pixels, |sums| all(Some(sums))) }
    }

    /// What all tiles of a run have in common.
    pub fn call<'a>(&'a self, x: &Image, out: [usize; 2], epilogue: &'a Epilogue<'a>, ending: &'a Ending) -> Call<'a> {
        Call {
            isa: self.isa,
            window: window(&self.shape, x, out, &self.zeros),
            images: x.n,
            taps: self.shape.kernel[0] * self.shape.kernel[1],
            channels: self.shape.out_channels,
            padded: self.padded,
            w: &self.w,
            epilogue,
            ending,
        }
    }
}

/// One run of a layer. Its tiles are counted through the rows of all images.
pub(super) struct Call<'a> {
    isa: Isa,
    window: Window,
    images: usize,
    taps: usize,
    channels: usize,
    padded: usize,
    w: &'a [f32],
    epilogue: &'a Epilogue<'a>,
    ending: &'a Ending,
}
// SAFETY: the pointers inside are only read.
unsafe impl Sync for Call<'_> {}

impl Call<'_> {
    pub fn tiles(&self) -> usize {
        self.images * self.window.out[0] * self.in_row()
    }

    /// Tiles of a row.
    fn in_row(&self) -> usize {
        self.window.out[1].div_ceil(PX)
    }

    /// Units of work of a tile: a tap is about a third of a load and a store.
    pub fn cost(&self) -> usize {
        PX * self.channels * (2 + self.taps / 3)
    }

    /// The pixels of tiles, counted over all images.
    pub fn pixels(&self, tiles: &Range<usize>) -> Range<usize> {
        let (in_row, width) = (self.in_row(), self.window.out[1]);
        let first = |t: usize| t / in_row * width + width * (t % in_row) / in_row;
        first(tiles.start)..first(tiles.end)
    }

    /// Computes tiles; pixel `p` goes to `y.at(p * y_dist)`. What is stored is added to the sums of a block.
    ///
    /// # Safety
    /// The views that the call was made of, and these pixels of y, are valid; nobody else has those pixels, nor the block.
    pub unsafe fn run(&self, tiles: Range<usize>, y: Shared, y_dist: usize, sums: Option<(&Sums, usize)>) {
        let per_image = self.window.out[0] * self.window.out[1];
        if let Some((sums, block)) = sums {
            // SAFETY: the block is the caller's.
            unsafe { sums.begin(block, &self.pixels(&tiles), 0, self.channels) };
        }
        scratch(self.taps * PX * 2, |ptrs| {
            let ptrs = ptrs.as_mut_ptr().cast();
            for t in tiles {
                let range = self.pixels(&(t..t + 1));
                let (in_row, width) = (self.in_row(), self.window.out[1]);
                self.isa.run(Tiles { shape: self, ptrs, tiles: t..t + 1, in_row, width, y, y_dist });
                let place = || {
                    let y = y.at(range.start * y_dist);
                    Place { y, dist: y_dist, row: range.start, rows: range.len(), col: 0, cols: self.channels }
                };
                // SAFETY: the tile has just been written, and is the caller's.
                unsafe {
                    if self.ending.more {
                        self.ending.finish(self.isa, self.epilogue, place(), self.channels, per_image);
                    }
                    if let Some((sums, block)) = sums {
                        sums.add(block, &place());
                    }
                }
            }
        });
    }
}

/// The windows of `shape` over `x`.
pub(super) fn window<T>(shape: &ConvShape, x: &Image<T>, out: [usize; 2], zeros: &[T]) -> Window<T> {
    Window {
        x: x.data.as_ptr(),
        h: x.h,
        w: x.w,
        dist: x.dist,
        row_dist: x.w * x.dist,
        out,
        kernel: shape.kernel,
        stride: shape.stride,
        dilation: shape.dilation,
        padding: [shape.padding[0] as isize, shape.padding[1] as isize],
        zeros: zeros.as_ptr(),
    }
}

/// Some tiles: all channels of up to [`PX`] output pixels of one row.
struct Tiles<'a> {
    shape: &'a Call<'a>,
    /// Room for `taps * PX` pointers.
    ptrs: *mut *const f32,
    tiles: Range<usize>,
    /// Tiles in one row.
    in_row: usize,
    /// Pixels in one row.
    width: usize,
    y: Shared,
    y_dist: usize,
}

impl Task for Tiles<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the views were checked, and the rows of y are this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (s, window) = (self.shape, &self.shape.window);
        for t in self.tiles.clone() {
            let (row, t) = (t / self.in_row, t % self.in_row);
            let (x0, x1) = (self.width * t / self.in_row, self.width * (t + 1) / self.in_row);
            let pixels = x1 - x0;
            let first = row * self.width + x0;
            // The windows of the tile, from the left edge of the first to the right edge of the last.
            let left = (x0 * window.stride[1]) as isize - window.padding[1];
            let right = left + ((pixels - 1) * window.stride[1] + (window.kernel[1] - 1) * window.dilation[1]) as isize;
            let taps = if left >= 0 && right < window.w as isize {
                let (n, oy) = (row / window.out[0], row % window.out[0]);
                let top = (oy * window.stride[0]) as isize - window.padding[0];
                let dy = window.dilation[0];
                let above = ((-top).max(0) as usize).div_ceil(dy).min(window.kernel[0]);
                let below = (window.h as isize - top).max(0) as usize;
                let rows = (above, below.div_ceil(dy).clamp(above, window.kernel[0]));
                let start = ((n * window.h) as isize + top) * window.row_dist as isize + left * window.dist as isize;
                Taps::Regular { base: window.x.wrapping_offset(start), rows }
            } else {
                // SAFETY: there is room for `PX` pointers a tap.
                unsafe { window.pointers(0, first, pixels, self.ptrs) };
                Taps::Table(self.ptrs)
            };
            let tile = Tile { shape: s, taps, first, pixels, y: self.y.at(first * self.y_dist), y_dist: self.y_dist };
            // SAFETY: pixels, taps and channels stay within the checked sizes; weights are padded to whole vectors.
            unsafe {
                let mut c = 0;
                while c + 3 * S::N <= s.channels && S::N == 16 {
                    tile.channels::<S, 3>(c, 3 * S::N);
                    c += 3 * S::N;
                }
                while c + 2 * S::N <= s.channels && S::N == 16 {
                    tile.channels::<S, 2>(c, 2 * S::N);
                    c += 2 * S::N;
                }
                while c < s.channels {
                    tile.channels::<S, 1>(c, (s.channels - c).min(S::N));
                    c += S::N;
                }
            }
        }
    }
}

/// Where the taps of a tile lie.
enum Taps {
    /// `[taps][pixels]`
    Table(*const *const f32),
    /// At even distances from the first tap of the first pixel; window rows from, to are inside the image.
    Regular { base: *const f32, rows: (usize, usize) },
}

struct Tile<'a> {
    shape: &'a Call<'a>,
    taps: Taps,
    /// The first pixel, counted over all images.
    first: usize,
    pixels: usize,
    y: *mut f32,
    y_dist: usize,
}

impl Tile<'_> {
    /// `n` channels from `c0` on: those of `NV` vectors, or of a part of one.
    ///
    /// # Safety
    /// As `run`, with the pointers written.
    #[inline(always)]
    unsafe fn channels<S: Simd, const NV: usize>(&self, c0: usize, n: usize) {
        let (s, window) = (self.shape, &self.shape.window);
        // SAFETY: `run`'s; pixels that are missing repeat the last one and are not stored.
        unsafe {
            let at: [usize; PX] = std::array::from_fn(|i| i.min(self.pixels - 1));
            let mut acc = [[S::splat(0.0); NV]; PX];
            if let Some(bias) = s.epilogue.bias {
                unroll!(J <4 NV, {
                    let b = lanes_at::<S, NV>(bias.as_ptr().add(c0), J, n);
                    unroll!(I <7 PX, {
                        acc[I][J] = b;
                    });
                });
            }
            let w = s.w.as_ptr().add(c0);
            match self.taps {
                Taps::Table(ptrs) => {
                    for tap in 0..s.taps {
                        let ptrs = ptrs.add(tap * self.pixels);
                        let x: [*const f32; PX] = std::array::from_fn(|i| (*ptrs.add(at[i])).add(c0));
                        tap_of::<S, NV>(&mut acc, x, w.add(tap * s.padded), n);
                    }
                }
                Taps::Regular { base, rows } => {
                    let step = window.stride[1] * window.dist;
                    for r in rows.0..rows.1 {
                        let row = base.wrapping_add(r * window.dilation[0] * window.row_dist + c0);
                        for tap in 0..window.kernel[1] {
                            let from = row.wrapping_add(tap * window.dilation[1] * window.dist);
                            let x: [*const f32; PX] = std::array::from_fn(|i| from.wrapping_add(at[i] * step));
                            tap_of::<S, NV>(&mut acc, x, w.add((r * window.kernel[1] + tap) * s.padded), n);
                        }
                    }
                }
            }
            let (lo, hi) = (S::splat(s.ending.lo), S::splat(s.ending.hi));
            unroll!(I <7 PX, {
                if I < self.pixels {
                    let y = self.y.add(I * self.y_dist + c0);
                    unroll!(J <4 NV, {
                        let n = if n == NV * S::N { S::N } else { n };
                        let mut v = acc[I][J];
                        if let (true, Some(res)) = (s.ending.simple, s.epilogue.residual) {
                            v = S::add(v, ld::<S>(res.at(self.first + I).add(c0 + J * S::N), n));
                        }
                        st::<S>(y.add(J * S::N), S::min(hi, S::max(lo, v)), n);
                    });
                }
            });
        }
    }
}

/// Vector `j` of `n` floats (all of `NV` vectors, or a part of one).
///
/// # Safety
/// The CPU must have the instruction set of `S`; `p` is valid for `n` floats.
#[inline(always)]
unsafe fn lanes_at<S: Simd, const NV: usize>(p: *const f32, j: usize, n: usize) -> S::F {
    // SAFETY: the caller's.
    unsafe { if n == NV * S::N { S::load(p.add(j * S::N)) } else { S::load_n(p, n) } }
}

/// Adds one tap of all pixels.
///
/// # Safety
/// The CPU must have the instruction set of `S`; pointers are valid for `n` floats, `w` for `NV` vectors.
#[inline(always)]
unsafe fn tap_of<S: Simd, const NV: usize>(acc: &mut [[S::F; NV]; PX], x: [*const f32; PX], w: *const f32, n: usize) {
    // SAFETY: the caller's.
    unsafe {
        let mut wv = [S::splat(0.0); NV];
        unroll!(J <4 NV, {
            wv[J] = S::load(w.add(J * S::N));
        });
        unroll!(I <7 PX, {
            unroll!(J <4 NV, {
                acc[I][J] = S::fma(lanes_at::<S, NV>(x[I], J, n), wv[J], acc[I][J]);
            });
        });
    }
}
