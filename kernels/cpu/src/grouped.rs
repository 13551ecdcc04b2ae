//! Convolution of few channels a group (2 to half a vector, as in ResNeXt): one vector of output channels spans
//! several groups, and for each input channel of a group a permutation brings every lane the value of its group.
//!
//! Formula   y[m][k] = epilogue(sum over taps, c of x[pixel(m, tap)][group(k) cg + c] * w[tap][c][k])
//! Layout    weights [vectors][taps][cg][N]
//! Tile      10 (AVX-512) or 6 output pixels x 1 vector; one load a tap and pixel, then a permutation and a FMA a channel
//! Roofline  permutations and FMAs go through different units, so that of the FMAs; merging groups into a dense
//!           product (`conv.rs`) would waste N / cg of them

use super::bf16::simd::{Halves, Task, Unit};
use super::conv::ConvShape;
use super::depthwise::window;
use super::direct::{Ending, Epilogue, Patches, Place};
use super::element::Element;
use super::par::{Aligned, Shared, ranges, scratch};
use super::simd::{Isa, Simd, ld, unroll};
use super::view::{Image, ImageMut};
use std::ops::Range;

/// Output pixels of a tile, at most.
const MAX_PX: usize = 10;

#[derive(Debug)]
pub(super) struct Grouped<T> {
    unit: Unit,
    shape: ConvShape,
    w: Aligned,
    /// `[cg][N]`: the lane of the window that lane `k` reads.
    lanes: Vec<u32>,
    /// Channels of input that belong to one vector of output.
    span: usize,
    zeros: Vec<T>,
}

impl<T: Element> Grouped<T> {
    /// Whether a vector of outputs holds whole groups, and their inputs fit in one vector.
    pub fn suits(isa: Isa, shape: &ConvShape) -> bool {
        let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
        let n = isa.lanes();
        shape.groups > 1 && kg * 2 <= n && n.is_multiple_of(kg) && cg * (n / kg) <= n
    }

    pub fn pack(unit: Unit, shape: &ConvShape, weights: &[f32]) -> Self {
        let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
        let (n, taps) = (unit.isa().lanes(), shape.window.kernel[0] * shape.window.kernel[1]);
        let vectors = shape.out_channels.div_ceil(n);
        let mut w = Aligned::zeros(vectors * taps * cg * n);
        for k in 0..shape.out_channels {
            for c in 0..cg {
                for tap in 0..taps {
                    let to = (((k / n) * taps + tap) * cg + c) * n + k % n;
                    w[to] = weights[(k * cg + c) * taps + tap];
                }
            }
        }
        let lanes = (0..cg).flat_map(|c| (0..n).map(move |k| (k / kg * cg + c) as u32)).collect();
        let zeros = vec![T::ZERO; shape.in_channels.next_multiple_of(n)];
        Grouped { unit, shape: *shape, w, lanes, span: n / kg * cg, zeros }
    }

    pub fn run<O: Element>(&self, x: Image<T>, y: ImageMut<O>, epilogue: &Epilogue<T>) {
        let rows = y.pixels();
        let taps = self.shape.window.kernel[0] * self.shape.window.kernel[1];
        let ending = Ending::of(epilogue);
        let shape = Shape {
            kernel: self,
            window: window(&self.shape, &x, [y.h, y.w], &self.zeros),
            taps,
            cg: self.shape.in_channels / self.shape.groups,
            epilogue,
            ending: &ending,
        };
        let (out, y_stride, per_image) = (Shared(y.data.as_mut_ptr()), y.stride, y.h * y.w);
        let px = if self.unit.isa().lanes() == 16 { MAX_PX } else { 6 };
        let tiles = rows.div_ceil(px);
        ranges(tiles, px * y.c * (2 + taps * shape.cg / 3), |range| {
            for t in range {
                let (m0, m1) = (rows * t / tiles, rows * (t + 1) / tiles);
                let at = out.at(m0 * y_stride);
                let pointers = (taps * px * 2).next_multiple_of(16);
                scratch(pointers + px * y.c, |s| {
                    let (ptrs, wide) = s.split_at_mut(pointers);
                    let ptrs = ptrs.as_mut_ptr().cast();
                    if !ending.more {
                        return self.unit.run(Tile { shape: &shape, ptrs, rows: m0..m1, y: at, y_stride });
                    }
                    let (sums, stride) = O::floats(at).map_or((wide.as_mut_ptr(), y.c), |at| (at, y_stride));
                    self.unit.run(Tile { shape: &shape, ptrs, rows: m0..m1, y: sums, y_stride: stride });
                    let place = Place { y: at, stride: y_stride, row: m0, rows: m1 - m0, col: 0, cols: y.c };
                    // SAFETY: the sums have just been written, and the rows are this task's.
                    unsafe { ending.finish(self.unit, epilogue, (sums, stride), &place, y.c, per_image) };
                });
            }
        });
    }
}

struct Shape<'a, T> {
    kernel: &'a Grouped<T>,
    window: Patches<T>,
    taps: usize,
    cg: usize,
    epilogue: &'a Epilogue<'a, T>,
    ending: &'a Ending,
}
// SAFETY: the pointers inside are only read.
unsafe impl<T: Sync> Sync for Shape<'_, T> {}

/// All channels of up to [`MAX_PX`] output pixels.
struct Tile<'a, T, O> {
    shape: &'a Shape<'a, T>,
    /// Room for the pointers of all taps and pixels.
    ptrs: *mut *const T,
    rows: Range<usize>,
    y: *mut O,
    y_stride: usize,
}

impl<T: Element, O: Element> Task for Tile<'_, T, O> {
    const PAIRS: bool = T::TERMS > 1 || O::TERMS > 1;

    /// # Safety
    /// As [`Task::run`]; the views were checked, and the rows of y are this task's.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        // SAFETY: the caller's.
        unsafe { if H::S::N == 16 { self.pixels::<H, MAX_PX>() } else { self.pixels::<H, 6>() } }
    }
}

impl<T: Element, O: Element> Tile<'_, T, O> {
    /// # Safety
    /// As `run`; there are at most `PX` pixels.
    #[inline(always)]
    unsafe fn pixels<H: Halves, const PX: usize>(self) {
        let s = self.shape;
        let rows = self.rows.len();
        let conv = &s.kernel.shape;
        // SAFETY: pixels, taps and channels stay within the checked sizes. Pixels that are missing repeat the last
        // one and are not stored.
        unsafe {
            s.window.pointers(0, self.rows.start, rows, self.ptrs);
            let at: [usize; PX] = std::array::from_fn(|i| i.min(rows - 1));
            for v in 0..conv.out_channels.div_ceil(H::S::N) {
                let outs = (conv.out_channels - v * H::S::N).min(H::S::N);
                let from = v * s.kernel.span;
                let ins = (conv.in_channels - from).min(s.kernel.span);
                let mut w = s.kernel.w.as_ptr().add(v * s.taps * s.cg * H::S::N);
                let mut acc = [H::S::splat(0.0); PX];
                if let Some(bias) = s.epilogue.bias {
                    let b = ld::<H::S>(bias.as_ptr().add(v * H::S::N), outs);
                    unroll!(I < PX, {
                        acc[I] = b;
                    });
                }
                for tap in 0..s.taps {
                    let ptrs = self.ptrs.add(tap * rows);
                    let mut x = [H::S::splat(0.0); PX];
                    unroll!(I < PX, {
                        x[I] = T::get::<H>((*ptrs.add(at[I])).add(from), ins);
                    });
                    for c in 0..s.cg {
                        let idx = H::S::lanes(s.kernel.lanes.as_ptr().add(c * H::S::N));
                        let wv = H::S::load(w);
                        unroll!(I < PX, {
                            acc[I] = H::S::fma(H::S::permute(x[I], idx), wv, acc[I]);
                        });
                        w = w.add(H::S::N);
                    }
                }
                let (lo, hi) = (H::S::splat(s.ending.lo), H::S::splat(s.ending.hi));
                unroll!(I < PX, {
                    if I < rows {
                        let mut value = acc[I];
                        if let (true, Some(res)) = (s.ending.simple, s.epilogue.residual) {
                            value = H::S::add(value, T::get::<H>(res.at(self.rows.start + I).add(v * H::S::N), outs));
                        }
                        O::put::<H>(
                            self.y.add(I * self.y_stride + v * H::S::N),
                            H::S::min(hi, H::S::max(lo, value)),
                            outs,
                        );
                    }
                });
            }
        }
    }
}
