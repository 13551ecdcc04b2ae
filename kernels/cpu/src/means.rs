//! Means of channels over the pixels of an image, summed while the image is written.
//!
//! Each block of rows (one task's, cut by sizes alone) sums what it has just stored, while that is in L1, in memory of its
//! own, apart for each image it touches; the blocks' sums are added in their order at the end. So the means are the same
//! bits on any number of threads, and no sum is longer than a block or than there are blocks.

use super::bf16::simd::{self, Halves, Unit, vectors};
use super::direct::Place;
use super::element::Element;
use super::par::{Shared, ranges, scratch};
use super::simd::{Isa, Simd, Task, lanes, ld, st};
use std::ops::Range;

/// Where means go: one row for each image.
#[derive(Clone, Copy)]
pub(super) struct Means {
    pub y: Shared,
    pub stride: usize,
}

/// The images whose means are taken.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub images: usize,
    /// Rows (pixels) of one image.
    pub rows: usize,
    /// What blocks are made of (rows, or tiles of several) in one image.
    pub units: usize,
    pub cols: usize,
}

/// The sums of every block.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    extent: Extent,
    /// Blocks follow one another through the images, so block + image is a number of its own for every pair that meets.
    parts: Shared,
}

/// Runs `work` with room for the sums of `blocks` blocks, block `b` having the units `units_of(b)`, then writes the means.
///
/// # Safety
/// `means` is valid for the extent and written by nobody else; `work` begins each block and adds all its rows and columns.
pub(super) unsafe fn with_means(
    isa: Isa,
    means: Means,
    extent: Extent,
    blocks: usize,
    units_of: impl Fn(usize) -> Range<usize> + Sync,
    work: impl FnOnce(Sums),
) {
    let Extent { images, rows, units, cols } = extent;
    scratch((blocks + images) * cols, |parts| {
        let parts = Shared(parts.as_mut_ptr());
        work(Sums { extent, parts });
        let chunks = cols.div_ceil(64);
        ranges(images * chunks, blocks.div_ceil(images) * 64, |range| {
            for i in range {
                let (image, col) = (i / chunks, i % chunks * 64);
                let first = (0..blocks).find(|b| units_of(*b).end > image * units).unwrap_or(blocks);
                let count = (first..blocks).take_while(|b| units_of(*b).start < (image + 1) * units).count();
                isa.run(Total {
                    parts: parts.at((first + image) * cols + col),
                    stride: cols,
                    count,
                    share: rows as f32,
                    y: means.y.at(image * means.stride + col),
                    cols: (cols - col).min(64),
                });
            }
        });
    });
}

impl Sums {
    /// Clears the sums of a block of `units` for the columns from `col` on.
    ///
    /// # Safety
    /// No other task has these columns of the block.
    pub unsafe fn begin(&self, block: usize, units: &Range<usize>, col: usize, cols: usize) {
        for image in units.start / self.extent.units..=(units.end - 1) / self.extent.units {
            // SAFETY: the caller's; the block meets the image.
            unsafe { std::slice::from_raw_parts_mut(self.at(block, image, col), cols) }.fill(0.0);
        }
    }

    /// Adds rows that were just written.
    ///
    /// # Safety
    /// As `begin`, and the rows are valid and belong to the block.
    pub unsafe fn add<O: Element>(&self, unit: Unit, block: usize, place: &Place<O>) {
        let mut row = place.row;
        let end = place.row + place.rows;
        while row < end {
            let image = row / self.extent.rows;
            let next = ((image + 1) * self.extent.rows).min(end);
            unit.run(Add {
                y: place.y.wrapping_add((row - place.row) * place.stride),
                stride: place.stride,
                rows: next - row,
                cols: place.cols,
                sum: self.at(block, image, place.col),
            });
            row = next;
        }
    }

    fn at(&self, block: usize, image: usize, col: usize) -> *mut f32 {
        self.parts.at((block + image) * self.extent.cols + col)
    }
}

/// Adds rows of y to sums.
struct Add<O> {
    y: *const O,
    stride: usize,
    rows: usize,
    cols: usize,
    sum: *mut f32,
}

impl<O: Element> simd::Task for Add<O> {
    const PAIRS: bool = O::TERMS > 1;

    /// # Safety
    /// As [`simd::Task::run`]; the rows and the sums are valid for `cols`.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        // SAFETY: the caller's.
        unsafe {
            vectors!(H, self.cols, |at, n| {
                let mut sum = O::get::<H>(self.y.add(at), n);
                for i in 1..self.rows {
                    sum = H::S::add(sum, O::get::<H>(self.y.add(i * self.stride + at), n));
                }
                st::<H::S>(self.sum.add(at), H::S::add(ld::<H::S>(self.sum.add(at), n), sum), n);
            });
        }
    }
}

/// Adds the sums of blocks and divides.
struct Total {
    parts: *const f32,
    stride: usize,
    count: usize,
    share: f32,
    y: *mut f32,
    cols: usize,
}

impl Task for Total {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; `count` rows of `cols` are valid.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's.
        unsafe {
            lanes!(S, self.cols, |at, n| {
                let mut sum = S::splat(0.0);
                for i in 0..self.count {
                    sum = S::add(sum, ld::<S>(self.parts.add(i * self.stride + at), n));
                }
                st::<S>(self.y.add(at), S::div(sum, S::splat(self.share)), n);
            });
        }
    }
}
