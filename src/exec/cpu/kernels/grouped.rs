//! Convolution of few channels a group (2 to half a vector, as in ResNeXt): one vector of output channels spans
//! several groups, and for each input channel of a group a permutation brings every lane the value of its group.
//!
//! Formula   y[m][k] = epilogue(sum over taps, c of x[pixel(m, tap)][group(k) cg + c] * w[tap][c][k])
//! Layout    weights [vectors][taps][cg][N]
//! Tile      10 (AVX-512) or 6 output pixels x 1 vector; one load a tap and pixel, then a permutation and a FMA a channel
//! Ceiling   permutations and FMAs go through different units, so that of the FMAs; merging groups into a dense
//!           product (`conv.rs`) would waste N / cg of them

use super::conv::ConvShape;
use super::depthwise::window;
use super::direct::{Ending, Epilogue, Place, Window};
use super::par::{Aligned, Shared, ranges, scratch};
use super::simd::{Isa, Simd, Task, ld, st, unroll};
use super::view::{Image, ImageMut};
use std::ops::Range;

/// Output pixels of a tile, at most.
const MAX_PX: usize = 10;

#[derive(Debug)]
pub(super) struct Grouped {
    isa: Isa,
    shape: ConvShape,
    w: Aligned,
    /// `[cg][N]`: the lane of the window that lane `k` reads.
    lanes: Vec<u32>,
    /// Channels of input that belong to one vector of output.
    span: usize,
    zeros: Aligned,
}

impl Grouped {
    /// Whether a vector of outputs holds whole groups, and their inputs fit in one vector.
    pub fn suits(isa: Isa, shape: &ConvShape) -> bool {
        let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
        let n = isa.lanes();
        shape.groups > 1 && kg * 2 <= n && n.is_multiple_of(kg) && cg * (n / kg) <= n
    }

    pub fn pack(isa: Isa, shape: &ConvShape, weights: &[f32], scale: Option<&[f32]>) -> Self {
        let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
        let (n, taps) = (isa.lanes(), shape.kernel[0] * shape.kernel[1]);
        let vectors = shape.out_channels.div_ceil(n);
        let mut w = Aligned::zeros(vectors * taps * cg * n);
        for k in 0..shape.out_channels {
            for c in 0..cg {
                for tap in 0..taps {
                    let to = (((k / n) * taps + tap) * cg + c) * n + k % n;
                    w[to] = weights[(k * cg + c) * taps + tap] * scale.map_or(1.0, |s| s[k]);
                }
            }
        }
        let lanes = (0..cg).flat_map(|c| (0..n).map(move |k| (k / kg * cg + c) as u32)).collect();
        let zeros = Aligned::zeros(shape.in_channels.next_multiple_of(n));
        Grouped { isa, shape: *shape, w, lanes, span: n / kg * cg, zeros }
    }

    pub fn run(&self, x: Image, y: ImageMut, epilogue: &Epilogue) {
        let rows = y.pixels();
        let taps = self.shape.kernel[0] * self.shape.kernel[1];
        let ending = Ending::of(epilogue);
        let shape = Shape {
            kernel: self,
            window: window(&self.shape, &x, [y.h, y.w], &self.zeros),
            taps,
            cg: self.shape.in_channels / self.shape.groups,
            epilogue,
            ending: &ending,
        };
        let (out, y_dist, per_image) = (Shared(y.data.as_mut_ptr()), y.dist, y.h * y.w);
        let px = if self.isa.lanes() == 16 { MAX_PX } else { 6 };
        let tiles = rows.div_ceil(px);
        ranges(tiles, px * y.c * (2 + taps * shape.cg / 3), |range| {
            for t in range {
                let (m0, m1) = (rows * t / tiles, rows * (t + 1) / tiles);
                let at = out.at(m0 * y_dist);
                scratch(taps * px * 2, |ptrs| {
                    self.isa.run(Tile { shape: &shape, ptrs: ptrs.as_mut_ptr().cast(), rows: m0..m1, y: at, y_dist });
                });
                if ending.more {
                    let place = Place { y: at, dist: y_dist, row: m0, rows: m1 - m0, col: 0, cols: y.c };
                    // SAFETY: the tile has just been written, and is this task's.
                    unsafe { ending.finish(self.isa, epilogue, place, y.c, per_image) };
                }
            }
        });
    }
}

struct Shape<'a> {
    kernel: &'a Grouped,
    window: Window,
    taps: usize,
    cg: usize,
    epilogue: &'a Epilogue<'a>,
    ending: &'a Ending,
}
// SAFETY: the pointers inside are only read.
unsafe impl Sync for Shape<'_> {}

/// All channels of up to [`MAX_PX`] output pixels.
struct Tile<'a> {
    shape: &'a Shape<'a>,
    /// Room for the pointers of all taps and pixels.
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
        // SAFETY: the caller's.
        unsafe { if S::N == 16 { self.pixels::<S, MAX_PX>() } else { self.pixels::<S, 6>() } }
    }
}

impl Tile<'_> {
    /// # Safety
    /// As `run`; there are at most `PX` pixels.
    #[inline(always)]
    unsafe fn pixels<S: Simd, const PX: usize>(self) {
        let s = self.shape;
        let rows = self.rows.len();
        let conv = &s.kernel.shape;
        // SAFETY: pixels, taps and channels stay within the checked sizes. Pixels that are missing repeat the last
        // one and are not stored.
        unsafe {
            s.window.pointers(0, self.rows.start, rows, self.ptrs);
            let at: [usize; PX] = std::array::from_fn(|i| i.min(rows - 1));
            for v in 0..conv.out_channels.div_ceil(S::N) {
                let outs = (conv.out_channels - v * S::N).min(S::N);
                let from = v * s.kernel.span;
                let ins = (conv.in_channels - from).min(s.kernel.span);
                let mut w = s.kernel.w.as_ptr().add(v * s.taps * s.cg * S::N);
                let mut acc = [S::splat(0.0); PX];
                if let Some(bias) = s.epilogue.bias {
                    let b = ld::<S>(bias.as_ptr().add(v * S::N), outs);
                    unroll!(I < PX, {
                        acc[I] = b;
                    });
                }
                for tap in 0..s.taps {
                    let ptrs = self.ptrs.add(tap * rows);
                    let mut x = [S::splat(0.0); PX];
                    unroll!(I < PX, {
                        x[I] = ld::<S>((*ptrs.add(at[I])).add(from), ins);
                    });
                    for c in 0..s.cg {
                        let idx = S::lanes(s.kernel.lanes.as_ptr().add(c * S::N));
                        let wv = S::load(w);
                        unroll!(I < PX, {
                            acc[I] = S::fma(S::permute(x[I], idx), wv, acc[I]);
                        });
                        w = w.add(S::N);
                    }
                }
                let (lo, hi) = (S::splat(s.ending.lo), S::splat(s.ending.hi));
                unroll!(I < PX, {
                    if I < rows {
                        let mut value = acc[I];
                        if let (true, Some(res)) = (s.ending.simple, s.epilogue.residual) {
                            value = S::add(value, ld::<S>(res.at(self.rows.start + I).add(v * S::N), outs));
                        }
                        st::<S>(self.y.add(I * self.y_dist + v * S::N), S::min(hi, S::max(lo, value)), outs);
                    }
                });
            }
        }
    }
}
