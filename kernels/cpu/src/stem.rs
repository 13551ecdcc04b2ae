//! Convolution of images of few channels: a network's first.
//!
//! Formula   that of `conv.rs`
//! Input     in any order of axes. A task copies the rows that its outputs see into a frame, channel by channel with zeros
//!           around, which stays in L1 or L2: so neither the layout of the input nor its edges cost a step or a branch
//! Tile      MR pixels of one output row x 2 vectors (14 x 32 with AVX-512). What a term takes for neighbouring pixels is
//!           `step` floats apart in the frame, so that one pointer serves all of a tile's pixels, and a table of offsets
//!           says where it goes from term to term
//! Roofline  FMAs: per term, MR broadcasts and 2 loads for 2 MR FMAs

use archc_base::Window;

use super::bf16::simd::{Halves, Unit};
use super::conv::ConvShape;
use super::element::{Element, words};
use super::par::scratch;
use super::simd::{NO_KERNELS, PORTABLE, Portable, Simd, unroll};
use super::tile::{Kernel, Tile, begin, end};
use std::ops::Range;

/// Channels up to which this is the kernel.
pub const FEW_CHANNELS: usize = 15;

/// Whether it is for convolutions of images of `T` of this shape: it knows no pairs of bf16.
pub(super) fn suits<T: Element>(shape: &ConvShape) -> bool {
    T::HAS_STEM && shape.groups == 1 && shape.in_channels <= FEW_CHANNELS && shape.window.kernel != [1, 1]
}

/// Whether convolutions of float32 images of this shape may read them in any order of axes.
pub fn reads_planes(shape: &ConvShape) -> bool {
    suits::<f32>(shape)
}

/// Images in any order of axes: value `[n, c, h, w]` is at the sum of each index times its stride.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a, T = f32> {
    pub data: &'a [T],
    /// `[n, c, h, w]`
    pub dims: [usize; 4],
    pub strides: [usize; 4],
}

impl<T> Planes<'_, T> {
    pub(super) fn check(&self) {
        let last: usize = self.dims.iter().zip(self.strides).map(|(dim, stride)| dim.saturating_sub(1) * stride).sum();
        assert!(self.dims.contains(&0) || last < self.data.len(), "planes beyond their buffer");
    }
}

/// The windows of a convolution over [`Planes`].
#[derive(Clone, Copy)]
pub(super) struct Windows<T> {
    x: *const T,
    dims: [usize; 4],
    strides: [usize; 4],
    out: [usize; 2],
    shape: ConvShape,
    /// Values of a row of the frame.
    row: usize,
    /// Pixels of a tile.
    tile: usize,
}

// SAFETY: the pointer is only read.
unsafe impl<T: Sync> Sync for Windows<T> {}

/// Some rows of windows, in the memory of a task.
#[derive(Clone, Copy)]
pub(super) struct Frame<T> {
    x: *const T,
    /// Values from one output row to the next.
    line: usize,
    /// The first output row, counted over all images.
    first: usize,
    /// Pixels of an output row.
    pub width: usize,
    /// How far apart the pixels of an output row are.
    pub step: usize,
    pub offsets: *const u32,
}

impl<T: Element> Windows<T> {
    /// The planes were checked.
    pub fn new(unit: Unit, shape: &ConvShape, x: &Planes<T>) -> Windows<T> {
        let [_, _, h, w] = x.dims;
        Windows {
            x: x.data.as_ptr(),
            dims: x.dims,
            strides: x.strides,
            out: shape.window.output([h, w]),
            shape: *shape,
            row: w + shape.window.padding[1] + shape.window.padding[3],
            tile: T::tile_rows(unit),
        }
    }

    /// Pixels of an output row.
    pub fn width(&self) -> usize {
        self.out[1]
    }

    /// Output rows of one image.
    pub fn height(&self) -> usize {
        self.out[0]
    }

    /// Calls `f` with the frame of some output rows of one image, counted over all images.
    ///
    /// # Safety
    /// The planes are valid.
    pub unsafe fn with_frame<R>(&self, lines: Range<usize>, f: impl FnOnce(Frame<T>) -> R) -> R {
        let channels = self.shape.in_channels;
        let Window { kernel, stride, dilation, .. } = self.shape.window;
        let (image, top) = (lines.start / self.out[0], lines.start % self.out[0] * stride[0]);
        let rows = (lines.len() - 1) * stride[0] + (kernel[0] - 1) * dilation[0] + 1;
        let terms = kernel[0] * kernel[1] * channels;
        // Tiles reach beyond the end of a row: into the next, or beyond the last into what is never used.
        let beyond = self.tile * stride[1];
        scratch(terms + words::<T>(rows * channels * self.row + beyond), |memory| {
            let (offsets, frame) = memory.split_at_mut(terms);
            let frame: &mut [T] = bytemuck::cast_slice_mut(frame);
            let offsets = offsets.as_mut_ptr().cast::<u32>();
            for r in 0..kernel[0] {
                for s in 0..kernel[1] {
                    for c in 0..channels {
                        let at = (r * dilation[0] * channels + c) * self.row + s * dilation[1];
                        let at = u32::try_from(at).expect("a frame of a few rows");
                        // SAFETY: one number for each term, of the size of a float.
                        unsafe { *offsets.add((r * kernel[1] + s) * channels + c) = at };
                    }
                }
            }
            for (i, out) in frame[..rows * channels * self.row].chunks_exact_mut(self.row).enumerate() {
                // SAFETY: the caller's.
                unsafe { self.fill(image, top + i / channels, i % channels, out) };
            }
            let line = stride[0] * channels * self.row;
            let (x, width, step) = (frame.as_ptr(), self.out[1], stride[1]);
            f(Frame { x, line, first: lines.start, width, step, offsets })
        })
    }

    /// Row `y` of one channel of an image's frame.
    ///
    /// # Safety
    /// The planes are valid.
    unsafe fn fill(&self, image: usize, y: usize, channel: usize, out: &mut [T]) {
        let [_, _, h, w] = self.dims;
        let [top, left, ..] = self.shape.window.padding;
        if y < top || y - top >= h {
            return out.fill(T::ZERO);
        }
        let at = image * self.strides[0] + channel * self.strides[1] + (y - top) * self.strides[2];
        let (x, apart) = (self.x.wrapping_add(at), self.strides[3]);
        let (before, rest) = out.split_at_mut(left);
        let (inside, after) = rest.split_at_mut(w);
        before.fill(T::ZERO);
        after.fill(T::ZERO);
        if apart == 1 {
            // SAFETY: a row of the image.
            inside.copy_from_slice(unsafe { std::slice::from_raw_parts(x, w) });
        } else {
            for (i, v) in inside.iter_mut().enumerate() {
                // SAFETY: as above.
                *v = unsafe { *x.add(i * apart) };
            }
        }
    }
}

impl<T> Frame<T> {
    /// What the first term of a pixel, counted over all images, takes.
    pub fn at(&self, pixel: usize) -> *const T {
        let (line, x) = (pixel / self.width, pixel % self.width);
        self.x.wrapping_add((line - self.first) * self.line + x * self.step)
    }
}

/// Empty for formats without stems, so that their kernels are not compiled.
macro_rules! table {
    ($kernel:ident, $($step:literal)*) => {
        const {
            if T::HAS_STEM {
                &[$([$kernel::<T, O, $step, 1> as Kernel<T, O>, $kernel::<T, O, $step, 2> as Kernel<T, O>]),*]
            } else {
                &[] as &[[Kernel<T, O>; 2]]
            }
        }
    };
}

/// The kernel of `vectors` (1 or 2) vectors of columns, for pixels `step` apart.
pub(super) fn kernel<T: Element, O: Element>(unit: Unit, step: usize, vectors: usize) -> Kernel<T, O> {
    let table = match (unit.isa().name(), O::has_dots(unit)) {
        // results in bf16 are rounded by the instructions that come with the products of pairs
        #[cfg(target_arch = "x86_64")]
        ("avx512", true) => table!(dots, 0 1 2 4),
        #[cfg(target_arch = "x86_64")]
        ("avx512", false) => table!(avx512, 0 1 2 4),
        #[cfg(target_arch = "x86_64")]
        ("avx2", _) => table!(avx2, 0 1 2 4),
        _ if PORTABLE => table!(portable, 0 1 2 4),
        _ => unreachable!("{NO_KERNELS}"),
    };
    let row = match step {
        1 => 1,
        2 => 2,
        4 => 3,
        _ => 0,
    };
    table[row][vectors - 1]
}

macro_rules! entry {
    ($name:ident, $halves:ty, $features:literal) => {
        /// # Safety
        /// That of [`stem`], and these features.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $name<T: Element, O: Element, const STEP: usize, const NV: usize>(t: &Tile<T, O>) {
            // SAFETY: the features are enabled here; the rest is the caller's.
            unsafe { stem::<$halves, T, O, { <<$halves as Halves>::S as Simd>::MR }, STEP, NV>(t) }
        }
    };
}
entry!(dots, super::bf16::x86::Dots, "avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,avx2,fma");
entry!(avx512, super::x86::Avx512, "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma");
entry!(avx2, super::x86::Avx2, "avx2,fma");

/// # Safety
/// That of [`stem`].
unsafe fn portable<T: Element, O: Element, const STEP: usize, const NV: usize>(t: &Tile<T, O>) {
    // SAFETY: the caller's.
    unsafe { stem::<Portable, T, O, { <Portable as Simd>::MR }, STEP, NV>(t) }
}

/// # Safety
/// The CPU must have the instruction set of `H`. `t` is as `tile.rs` says, but for its rows: there is one pointer, and
/// `offsets` has `taps * c` numbers, at each of which `MR` values `STEP` apart (`step` where that is 0) can be read from there;
/// `rows` rows are stored.
#[inline(always)]
unsafe fn stem<H: Halves, T: Element, O: Element, const MR: usize, const STEP: usize, const NV: usize>(t: &Tile<T, O>) {
    let lanes = H::S::N;
    // SAFETY: terms, pixels and columns stay within the sizes that the caller answers for.
    unsafe {
        let mut acc = begin::<H, T, O, MR, NV>(t);
        let mut w = t.w;
        let from = *t.ptrs;
        for term in 0..t.taps * t.c {
            let x = from.add(*t.offsets.add(term) as usize);
            let mut wv = [T::terms::<H>(w); NV];
            unroll!(J <4 NV, {
                wv[J] = T::terms::<H>(w.add(J * lanes));
            });
            let mut next = x;
            unroll!(I < MR, {
                if STEP == 0 && I != 0 {
                    next = next.wrapping_add(t.step);
                }
                let x = T::spread_one::<H>(if STEP == 0 { next } else { x.add(I * STEP) });
                unroll!(J <4 NV, {
                    acc[I][J] = T::fma::<H>(x, wv[J], acc[I][J]);
                });
            });
            w = w.add(2 * lanes);
        }
        end::<H, T, O, MR, NV>(t, acc, t.rows);
    }
}
