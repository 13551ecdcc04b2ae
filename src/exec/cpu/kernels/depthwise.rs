//! Depthwise convolution: each channel alone.
//!
//! Formula   y[m][c] = epilogue(sum over taps of x[pixel(m, tap)][c] * w[tap][c])
//! Layout    weights [taps][C padded to a vector]; channels are the lanes
//! Tile      6 output pixels x 4 (AVX-512) or 2 vectors of channels; all channels of 6 pixels before the next 6, so that
//!           all streams are sequential. Taps on the padding read a row of zeros
//! Ceiling   one load a FMA; on maps beyond L2 it is memory that decides

use super::conv::ConvShape;
use super::direct::{Ending, Epilogue, Place, Window};
use super::par::{Aligned, Shared, ranges, scratch};
use super::simd::{Isa, Simd, Task, unroll};
use super::view::{Image, ImageMut};
use std::ops::Range;

/// Output pixels of a tile.
const PX: usize = 6;

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

    pub fn run(&self, x: Image, y: ImageMut, epilogue: &Epilogue) {
        let rows = y.pixels();
        let taps = self.shape.kernel[0] * self.shape.kernel[1];
        let ending = Ending::of(epilogue);
        let window = window(&self.shape, &x, [y.h, y.w], &self.zeros);
        let (out, y_dist, per_image) = (Shared(y.data.as_mut_ptr()), y.dist, y.h * y.w);
        let tiles = rows.div_ceil(PX);
        let kernel = Shape { window, taps, channels: y.c, padded: self.padded, w: &self.w, epilogue, ending: &ending };
        // A tap is about a third of a load and a store.
        ranges(tiles, PX * y.c * (2 + taps / 3), |range| {
            for t in range {
                let (m0, m1) = (rows * t / tiles, rows * (t + 1) / tiles);
                scratch(taps * PX * 2, |ptrs| {
                    let at = out.at(m0 * y_dist);
                    self.isa.run(Tile { shape: &kernel, ptrs: ptrs.as_mut_ptr().cast(), rows: m0..m1, y: at, y_dist });
                });
                if ending.more {
                    let place =
                        Place { y: out.at(m0 * y_dist), dist: y_dist, row: m0, rows: m1 - m0, col: 0, cols: y.c };
                    // SAFETY: the tile has just been written, and is this task's.
                    unsafe { ending.finish(self.isa, epilogue, place, y.c, per_image) };
                }
            }
        });
    }
}

/// The windows of `shape` over `x`.
pub(super) fn window(shape: &ConvShape, x: &Image, out: [usize; 2], zeros: &[f32]) -> Window {
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

struct Shape<'a> {
    window: Window,
    taps: usize,
    channels: usize,
    padded: usize,
    w: &'a [f32],
    epilogue: &'a Epilogue<'a>,
    ending: &'a Ending,
}
// SAFETY: the pointers inside are only read.
unsafe impl Sync for Shape<'_> {}

/// All channels of up to [`PX`] output pixels.
struct Tile<'a> {
    shape: &'a Shape<'a>,
    /// Room for `taps * PX` pointers.
    ptrs: *mut *const f32,
    rows: Range<usize>,
    y: *mut f32,
    y_dist: usize,
}

impl Task for Tile<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the views were checked, and the rows of y are this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let s = self.shape;
        let rows = self.rows.len();
        // SAFETY: pixels, taps and channels stay within the checked sizes; weights are padded to whole vectors.
        unsafe {
            s.window.pointers(0, self.rows.start, rows, self.ptrs);
            let mut c = 0;
            while c + 4 * S::N <= s.channels && S::N == 16 {
                self.channels::<S, 4>(c, 4 * S::N);
                c += 4 * S::N;
            }
            while c + 2 * S::N <= s.channels {
                self.channels::<S, 2>(c, 2 * S::N);
                c += 2 * S::N;
            }
            while c < s.channels {
                self.channels::<S, 1>(c, (s.channels - c).min(S::N));
                c += S::N;
            }
        }
    }
}

impl Tile<'_> {
    /// `n` channels from `c0` on: those of `NV` vectors, or of a part of one.
    ///
    /// # Safety
    /// As `run`, with the pointers written.
    #[inline(always)]
    unsafe fn channels<S: Simd, const NV: usize>(&self, c0: usize, n: usize) {
        let s = self.shape;
        let rows = self.rows.len();
        // SAFETY: `run`'s; pixels that are missing repeat the last one and are not stored.
        unsafe {
            let at: [usize; PX] = std::array::from_fn(|i| i.min(rows - 1));
            let mut acc = [[S::splat(0.0); NV]; PX];
            unroll!(J <4 NV, {
                if let Some(bias) = s.epilogue.bias {
                    let b = if n == NV * S::N {
                        S::load(bias.as_ptr().add(c0 + J * S::N))
                    } else {
                        S::load_n(bias.as_ptr().add(c0), n)
                    };
                    unroll!(I <6 PX, {
                        acc[I][J] = b;
                    });
                }
            });
            for tap in 0..s.taps {
                let w = s.w.as_ptr().add(tap * s.padded + c0);
                let ptrs = self.ptrs.add(tap * rows);
                let mut wv = [S::splat(0.0); NV];
                unroll!(J <4 NV, {
                    wv[J] = S::load(w.add(J * S::N));
                });
                if n == NV * S::N {
                    unroll!(I <6 PX, {
                        let x = (*ptrs.add(at[I])).add(c0);
                        unroll!(J <4 NV, {
                            acc[I][J] = S::fma(S::load(x.add(J * S::N)), wv[J], acc[I][J]);
                        });
                    });
                } else {
                    unroll!(I <6 PX, {
                        let x = (*ptrs.add(at[I])).add(c0);
                        acc[I][0] = S::fma(S::load_n(x, n), wv[0], acc[I][0]);
                    });
                }
            }
            let (lo, hi) = (S::splat(s.ending.lo), S::splat(s.ending.hi));
            unroll!(I <6 PX, {
                if I < rows {
                    let y = self.y.add(I * self.y_dist + c0);
                    unroll!(J <4 NV, {
                        let n = if n == NV * S::N { S::N } else { n };
                        let mut v = acc[I][J];
                        if let (true, Some(res)) = (s.ending.simple, s.epilogue.residual) {
                            v = S::add(v, S::load_n(res.at(self.rows.start + I).add(c0 + J * S::N), n));
                        }
                        v = S::min(hi, S::max(lo, v));
                        if n == S::N {
                            S::store(y.add(J * S::N), v);
                        } else {
                            S::store_n(y.add(J * S::N), v, n);
                        }
                    });
                }
            });
        }
    }
}
