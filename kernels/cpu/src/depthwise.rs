//! Depthwise convolution: each channel alone.
//!
//! Formula   y[m][c] = epilogue(sum over taps of x[pixel(m, tap)][c] * w[tap][c])
//! Layout    weights [taps][C padded to a vector]; channels are the lanes
//! Tile      7 output pixels of one row x 3 (AVX-512) or 1 vectors of channels; all pixels of a block of rows before the
//!           next channels, so that the rows of a window stay in L1 from one output row to the next. Taps left or right of
//!           the image read a row of zeros; above and below they are left out
//! Roofline  FMAs: windows 3 or 5 wide load each column of a row once, others once a tap; on maps beyond L2 it is memory

use super::act::{Fun, HardSwish};
use super::bf16::simd::{F, Halves, Task, Unit};
use super::conv::ConvShape;
use super::direct::{Ending, Epilogue, Patches, Place};
use super::element::Element;
use super::means::{Extent, Means, Sums, with_means};
use super::par::{Aligned, Shared, blocks, scratch, tasks};
use super::simd::{Simd, unroll};
use super::view::{Image, ImageMut};
use std::ops::Range;

/// Output pixels of a tile.
const PX: usize = 7;

/// Tiles whose sums are kept in float32 until they are finished.
const WIDE: usize = 8;

#[derive(Debug)]
pub(super) struct Depthwise<T> {
    unit: Unit,
    shape: ConvShape,
    /// `[taps][padded]`, in float32 whatever the images are.
    w: Aligned,
    padded: usize,
    zeros: Vec<T>,
}

impl<T: Element> Depthwise<T> {
    /// One input and one output channel a group.
    pub fn pack(unit: Unit, shape: &ConvShape, weights: &[f32]) -> Self {
        let taps = shape.window.kernel[0] * shape.window.kernel[1];
        let channels = shape.out_channels;
        let padded = channels.next_multiple_of(unit.isa().lanes());
        let mut w = Aligned::zeros(taps * padded);
        for c in 0..channels {
            for tap in 0..taps {
                w[tap * padded + c] = weights[c * taps + tap];
            }
        }
        Depthwise { unit, shape: *shape, w, padded, zeros: vec![T::ZERO; padded] }
    }

    /// Convolves `x` into `y`; the means of y's channels go to `means`.
    pub fn run<O: Element>(&self, x: Image<T>, y: ImageMut<O>, means: Option<Means>, epilogue: &Epilogue<T>) {
        let ending = Ending::of_swish(epilogue);
        let call = self.call(&x, [y.h, y.w], epilogue, &ending);
        let (out, y_stride) = (Shared(y.data.as_mut_ptr()), y.stride);
        let (tiles, chunks) = (call.tiles(), call.chunks());
        // Windows overlap, so that small blocks of rows read much twice; but few are not dealt evenly.
        let blocks = blocks(tiles, call.cost() / 2);
        let spans = if blocks < 8 { chunks.min(2) } else { 1 };
        let range = |b: usize| tiles * b / blocks..tiles * (b + 1) / blocks;
        let all = |sums: Option<Sums>| {
            tasks(blocks * spans, |task| {
                let (span, block) = (task / blocks, task % blocks);
                let sums = sums.as_ref().map(|sums| (sums, block));
                let chunks = chunks * span / spans..chunks * (span + 1) / spans;
                // SAFETY: the views were checked; these channels of the block and its sums are this task's.
                unsafe { call.run(range(block), chunks, out, y_stride, sums) };
            });
        };
        let Some(means) = means else { return all(None) };
        let extent = Extent { images: y.n, rows: y.h * y.w, units: y.h * y.w, cols: y.c };
        let pixels = |b: usize| call.pixels(&range(b));
        // SAFETY: the caller checked the means; every block begins its sums and adds all its tiles.
        unsafe { with_means(self.unit.isa(), means, extent, blocks, pixels, |sums| all(Some(sums))) }
    }

    /// What all tiles of a run have in common.
    pub fn call<'a>(
        &'a self,
        x: &Image<T>,
        out: [usize; 2],
        epilogue: &'a Epilogue<'a, T>,
        ending: &'a Ending,
    ) -> Call<'a, T> {
        Call {
            unit: self.unit,
            window: window(&self.shape, x, out, &self.zeros),
            images: x.n,
            taps: self.shape.window.kernel[0] * self.shape.window.kernel[1],
            channels: self.shape.out_channels,
            padded: self.padded,
            w: &self.w,
            epilogue,
            ending,
        }
    }
}

/// One run of a layer. Its tiles are counted through the rows of all images.
pub(super) struct Call<'a, T> {
    unit: Unit,
    window: Patches<T>,
    images: usize,
    taps: usize,
    channels: usize,
    padded: usize,
    w: &'a [f32],
    epilogue: &'a Epilogue<'a, T>,
    ending: &'a Ending,
}
// SAFETY: the pointers inside are only read.
unsafe impl<T: Sync> Sync for Call<'_, T> {}

impl<T: Element> Call<'_, T> {
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

    /// Channels that are computed together: as many as registers hold, with the weights of a window row.
    fn chunk(&self) -> usize {
        match (self.unit.isa().lanes(), self.window.kernel[1]) {
            (16, 1..=3) => 3 * 16,
            (16, _) => 2 * 16,
            (lanes, _) => lanes,
        }
    }

    /// How many times that is.
    pub fn chunks(&self) -> usize {
        self.channels.div_ceil(self.chunk())
    }

    /// Computes some chunks of channels of tiles; pixel `p` goes to `y.at(p * y_stride)`. What is stored is added to the sums
    /// of a block.
    ///
    /// # Safety
    /// The views that the call was made of, and these pixels of y, are valid; nobody else has these channels of those
    /// pixels, nor of the block.
    pub unsafe fn run<O: Element>(
        &self,
        tiles: Range<usize>,
        chunks: Range<usize>,
        y: Shared<O>,
        y_stride: usize,
        sums: Option<(&Sums, usize)>,
    ) {
        let pixels = self.pixels(&tiles);
        for chunk in chunks {
            let col = chunk * self.chunk();
            let cols = self.chunk().min(self.channels - col);
            let place = |pixels: &Range<usize>| {
                let y = y.at(pixels.start * y_stride + col);
                Place { y, stride: y_stride, row: pixels.start, rows: pixels.len(), col, cols }
            };
            // SAFETY: these channels of the pixels are the caller's.
            unsafe {
                if !self.ending.more {
                    self.unit.run(Tiles { call: self, tiles: tiles.clone(), col, cols, y: y.at(col), y_stride });
                } else if let Some(floats) = O::floats(y.at(col)) {
                    self.unit.run(Tiles { call: self, tiles: tiles.clone(), col, cols, y: floats, y_stride });
                    let first = floats.wrapping_add(pixels.start * y_stride);
                    self.finish((first, y_stride), &place(&pixels));
                } else {
                    // some pixels at a time, so that their sums stay in L1
                    for first in tiles.clone().step_by(WIDE) {
                        let tiles = first..(first + WIDE).min(tiles.end);
                        let pixels = self.pixels(&tiles);
                        scratch(pixels.len() * cols, |wide| {
                            let first = wide.as_mut_ptr();
                            let y = first.wrapping_sub(pixels.start * cols);
                            self.unit.run(Tiles { call: self, tiles, col, cols, y, y_stride: cols });
                            self.finish((first, cols), &place(&pixels));
                        });
                    }
                }
                if let Some((sums, block)) = sums {
                    sums.begin(block, &pixels, col, cols);
                    sums.add(self.unit, block, &place(&pixels));
                }
            }
        }
    }

    /// # Safety
    /// As `run`; the sums of these pixels and channels have been computed.
    unsafe fn finish<O: Element>(&self, sums: (*mut f32, usize), place: &Place<O>) {
        let per_image = self.window.out[0] * self.window.out[1];
        // SAFETY: the caller's.
        unsafe { self.ending.finish(self.unit, self.epilogue, sums, place, self.channels, per_image) };
    }
}

/// The windows of `shape` over `x`.
pub(super) fn window<T>(shape: &ConvShape, x: &Image<T>, out: [usize; 2], zeros: &[T]) -> Patches<T> {
    Patches {
        x: x.data.as_ptr(),
        h: x.h,
        w: x.w,
        pixel_stride: x.stride,
        row_stride: x.w * x.stride,
        out,
        kernel: shape.window.kernel,
        stride: shape.window.stride,
        dilation: shape.window.dilation,
        padding: [shape.window.padding[0] as isize, shape.window.padding[1] as isize],
        zeros: zeros.as_ptr(),
    }
}

/// Some channels of some tiles; a tile is up to [`PX`] output pixels of one row.
struct Tiles<'a, T, O> {
    call: &'a Call<'a, T>,
    tiles: Range<usize>,
    col: usize,
    /// At most three vectors (AVX-512) or one.
    cols: usize,
    /// The first of these channels of the first pixel of all.
    y: *mut O,
    y_stride: usize,
}

impl<T: Element, O: Element> Task for Tiles<'_, T, O> {
    const PAIRS: bool = T::TERMS > 1 || O::TERMS > 1;

    /// # Safety
    /// As [`Task::run`]; the views were checked, and these channels of the rows are this task's.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        // SAFETY: the caller's; weights are padded to whole vectors.
        unsafe {
            match self.cols.div_ceil(H::S::N) {
                1 => self.each::<H, 1>(),
                2 if H::S::N == 16 => self.each::<H, 2>(),
                3 if H::S::N == 16 => self.each::<H, 3>(),
                _ => unreachable!("more channels than a chunk has"),
            }
        }
    }
}

impl<T: Element, O: Element> Tiles<'_, T, O> {
    /// # Safety
    /// As `run`.
    #[inline(always)]
    unsafe fn each<H: Halves, const NV: usize>(&self) {
        let window = &self.call.window;
        let [height, width] = window.out;
        let in_row = self.call.in_row();
        let (mut row, mut t) = (self.tiles.start / in_row, self.tiles.start % in_row);
        let (mut n, mut oy) = (row / height, row % height);
        let even = width == in_row * PX;
        for _ in self.tiles.clone() {
            let x0 = if even { t * PX } else { width * t / in_row };
            let x1 = if even { x0 + PX } else { width * (t + 1) / in_row };
            let (top, left) = (
                (oy * window.stride[0]) as isize - window.padding[0],
                (x0 * window.stride[1]) as isize - window.padding[1],
            );
            let start =
                ((n * window.h) as isize + top) * window.row_stride as isize + left * window.pixel_stride as isize;
            let (dy, below) = (window.dilation[0], (window.h as isize - top).max(0) as usize);
            let above = ((-top).max(0) as usize).div_ceil(dy).min(window.kernel[0]);
            let tile = Tile {
                call: self.call,
                base: window.x.wrapping_offset(start).wrapping_add(self.col),
                left,
                rows: above..below.div_ceil(dy).clamp(above, window.kernel[0]),
                first: row * width + x0,
                pixels: x1 - x0,
                col: self.col,
                cols: self.cols,
                y: self.y.wrapping_add((row * width + x0) * self.y_stride),
                y_stride: self.y_stride,
            };
            let full = tile.pixels == PX && self.cols == NV * H::S::N && window.dilation[1] == 1;
            // SAFETY: the caller's; the tile lies in the output.
            unsafe {
                let columns = window.kernel[1] + (PX - 1) * window.stride[1];
                let inside = left >= 0 && left as usize + columns <= window.w;
                let sums = match (window.kernel[1], window.stride[1]) {
                    (3, 1) if full && inside => tile.fixed::<H, NV, 3, 1, true>(),
                    (3, 1) if full => tile.fixed::<H, NV, 3, 1, false>(),
                    (3, 2) if full && inside => tile.fixed::<H, NV, 3, 2, true>(),
                    (3, 2) if full => tile.fixed::<H, NV, 3, 2, false>(),
                    (5, 1) if full && inside && NV < 3 => tile.fixed::<H, NV, 5, 1, true>(),
                    (5, 1) if full && NV < 3 => tile.fixed::<H, NV, 5, 1, false>(),
                    (5, 2) if full && inside && NV < 3 => tile.fixed::<H, NV, 5, 2, true>(),
                    (5, 2) if full && NV < 3 => tile.fixed::<H, NV, 5, 2, false>(),
                    _ => tile.any::<H, NV>(),
                };
                tile.store::<H, NV>(sums);
            }
            t += 1;
            if t == in_row {
                (t, row, oy) = (0, row + 1, oy + 1);
                if oy == height {
                    (oy, n) = (0, n + 1);
                }
            }
        }
    }
}

struct Tile<'a, T, O> {
    call: &'a Call<'a, T>,
    /// The first tap of the first pixel, inside the image or not.
    base: *const T,
    /// Its column.
    left: isize,
    /// The rows of the window that lie inside the image.
    rows: Range<usize>,
    /// The first pixel, counted over all images.
    first: usize,
    pixels: usize,
    col: usize,
    cols: usize,
    y: *mut O,
    y_stride: usize,
}

impl<T: Element, O: Element> Tile<'_, T, O> {
    /// Sums of windows `KW` wide at the stride `SX`, no pixel and no lane missing: each column of a row is loaded once. Where all are
    /// `INSIDE` the image, without asking each.
    ///
    /// # Safety
    /// As `Tiles::run`, with a tile of the output.
    #[inline(always)]
    unsafe fn fixed<H: Halves, const NV: usize, const KW: usize, const SX: usize, const INSIDE: bool>(
        &self,
    ) -> [[F<H>; NV]; PX] {
        let (s, window) = (self.call, &self.call.window);
        // SAFETY: `run`'s; only columns inside the image are read.
        unsafe {
            let mut acc = self.bias::<H, NV>();
            for r in self.rows.clone() {
                let from = self.base.wrapping_add(r * window.dilation[0] * window.row_stride);
                let w = s.w.as_ptr().add(r * KW * s.padded + self.col);
                let mut wv = [[H::S::splat(0.0); NV]; KW];
                unroll!(T <7 KW, {
                    unroll!(J <4 NV, {
                        wv[T][J] = H::S::load(w.add(T * s.padded + J * H::S::N));
                    });
                });
                unroll!(Q <17 KW + (PX - 1) * SX, {
                    if INSIDE || ((self.left + Q as isize) as usize) < window.w {
                        let from = from.wrapping_add(Q * window.pixel_stride);
                        unroll!(J <4 NV, {
                            let x = T::get::<H>(from.add(J * H::S::N), H::S::N);
                            unroll!(T <7 KW, {
                                let i = Q.wrapping_sub(T);
                                if i.is_multiple_of(SX) && i / SX < PX {
                                    acc[i / SX][J] = H::S::fma(x, wv[T][J], acc[i / SX][J]);
                                }
                            });
                        });
                    }
                });
            }
            acc
        }
    }

    /// Sums of any windows.
    ///
    /// # Safety
    /// As `fixed`.
    #[inline(always)]
    unsafe fn any<H: Halves, const NV: usize>(&self) -> [[F<H>; NV]; PX] {
        let (s, window) = (self.call, &self.call.window);
        // SAFETY: `run`'s; pixels that are missing repeat the last one and are not stored.
        unsafe {
            let mut acc = self.bias::<H, NV>();
            let step = window.stride[1] * window.pixel_stride;
            let tap_stride = window.dilation[1] * window.pixel_stride;
            let zeros = window.zeros.add(self.col);
            for r in self.rows.clone() {
                let mut from = self.base.wrapping_add(r * window.dilation[0] * window.row_stride);
                let mut w = s.w.as_ptr().add(r * window.kernel[1] * s.padded + self.col);
                let mut at = self.left;
                for _ in 0..window.kernel[1] {
                    let mut wv = [H::S::splat(0.0); NV];
                    unroll!(J <4 NV, {
                        wv[J] = H::S::load(w.add(J * H::S::N));
                    });
                    unroll!(I <7 PX, {
                        let i = if I < self.pixels { I } else { self.pixels - 1 };
                        let inside = ((at + (i * window.stride[1]) as isize) as usize) < window.w;
                        let x = if inside { from.wrapping_add(i * step) } else { zeros };
                        unroll!(J <4 NV, {
                            acc[I][J] = H::S::fma(self.lanes::<H, T>(x, J), wv[J], acc[I][J]);
                        });
                    });
                    from = from.wrapping_add(tap_stride);
                    at += window.dilation[1] as isize;
                    w = w.wrapping_add(s.padded);
                }
            }
            acc
        }
    }

    /// What sums begin with.
    ///
    /// # Safety
    /// As `fixed`.
    #[inline(always)]
    unsafe fn bias<H: Halves, const NV: usize>(&self) -> [[F<H>; NV]; PX] {
        // SAFETY: the caller's.
        unsafe {
            let mut bias = [H::S::splat(0.0); NV];
            if let Some(values) = self.call.epilogue.bias {
                unroll!(J <4 NV, {
                    bias[J] = self.lanes::<H, f32>(values.as_ptr().add(self.col), J);
                });
            }
            [bias; PX]
        }
    }

    /// Ends and stores the sums.
    ///
    /// # Safety
    /// As `fixed`.
    #[inline(always)]
    unsafe fn store<H: Halves, const NV: usize>(&self, acc: [[F<H>; NV]; PX]) {
        let s = self.call;
        // SAFETY: the caller's.
        unsafe {
            let (lo, hi) = (H::S::splat(s.ending.lo), H::S::splat(s.ending.hi));
            let mut acc = acc;
            if let (true, Some(res)) = (s.ending.simple, s.epilogue.residual) {
                unroll!(I <7 PX, {
                    if I < self.pixels {
                        let res = res.at(self.first + I).add(self.col);
                        unroll!(J <4 NV, {
                            acc[I][J] = H::S::add(acc[I][J], self.lanes::<H, T>(res, J));
                        });
                    }
                });
            }
            if s.ending.swish {
                unroll!(I <7 PX, {
                    unroll!(J <4 NV, {
                        acc[I][J] = HardSwish().eval::<H::S>(acc[I][J]);
                    });
                });
            }
            unroll!(I <7 PX, {
                if I < self.pixels {
                    let y = self.y.add(I * self.y_stride);
                    unroll!(J <4 NV, {
                        let n = (self.cols - J * H::S::N).min(H::S::N);
                        O::put::<H>(y.add(J * H::S::N), H::S::min(hi, H::S::max(lo, acc[I][J])), n);
                    });
                }
            });
        }
    }

    /// Vector `j` of the channels.
    ///
    /// # Safety
    /// The CPU must have the instruction set of `H`; `p` is valid for `cols` values, more than `j` vectors.
    #[inline(always)]
    unsafe fn lanes<H: Halves, E: Element>(&self, p: *const E, j: usize) -> F<H> {
        // SAFETY: the caller's.
        unsafe { E::get::<H>(p.add(j * H::S::N), (self.cols - j * H::S::N).min(H::S::N)) }
    }
}
