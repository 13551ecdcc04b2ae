//! Copies between strided views, of bf16 or float32 on either side: `../movement.rs` with a conversion on the way.

use super::super::element::Element;
use super::super::formats::Takes;
use super::super::par::{Shared, ranges, scratch};
use super::super::simd::Simd;
use super::super::view::{Rows, RowsMut};
use super::super::walk::{Strided, Walk, check_distinct, check_view};
use super::simd::{Halves, Task, Unit, vectors};
use half::bf16;
use std::any::TypeId;

/// Copies a view of `shape` (rank up to 8) to a view of the same shape in `dst`, whose elements must be distinct.
pub fn copy<A, B: Takes<A>>(unit: Unit, shape: &[usize], src: Strided<A>, dst: &mut [B], dst_strides: &[usize]) {
    B::copy(unit, shape, src, dst, dst_strides);
}

pub(in super::super) fn copy_of<A: Element, B: Element>(
    unit: Unit,
    shape: &[usize],
    src: Strided<A>,
    dst: &mut [B],
    dst_strides: &[usize],
) {
    check_view(shape, src.strides, src.data.len());
    check_view(shape, dst_strides, dst.len());
    check_distinct(shape, dst_strides);
    if shape.contains(&0) {
        return;
    }
    let walk = Walk::by_first(shape, [dst_strides, src.strides]);
    let (from, to) = (Source(src.data.as_ptr()), Shared(dst.as_mut_ptr()));
    let (len, [to_step, from_step]) = walk.inner();
    let inner = walk.axes().count().saturating_sub(1);
    let contiguous = walk.axes().take(inner).position(|(_, [_, step])| step == 1);
    if to_step == 1 && from_step == 1 {
        // Long runs are cut, so that one run keeps all threads busy.
        let parts = (len >> 15).max(1);
        ranges(walk.outer() * parts, len / parts, |range| {
            for i in range {
                let ([t, f], a, z) = (walk.at(i / parts), len * (i % parts) / parts, len * (i % parts + 1) / parts);
                // both views were checked, and no two elements of the destination are the same
                unit.run(Run { from: from.at(f + a), to: to.at(t + a), len: z - a });
            }
        });
    } else if let Some(axis) = contiguous {
        let (width, [width_step, _]) = walk.axes().nth(axis).expect("an axis that was just found");
        let others = walk.without_inner_and(axis);
        let blocks = width.div_ceil(BLOCK);
        ranges(others.len() * blocks, BLOCK * len, |range| {
            for i in range {
                let ([t, f], j0) = (others.element(i / blocks), i % blocks * BLOCK);
                unit.run(Block {
                    from: from.at(f + j0),
                    from_step,
                    to: to.at(t + j0 * width_step),
                    to_step,
                    to_row: width_step,
                    len,
                    width: (width - j0).min(BLOCK),
                });
            }
        });
    } else {
        ranges(walk.outer(), len, |range| {
            walk.each(range, |[t, f]| {
                for i in 0..len {
                    // SAFETY: as above.
                    unsafe { *to.at(t + i * to_step) = B::down((*from.at(f + i * from_step)).up()) };
                }
            });
        });
    }
}

/// Elements of a block of a transposition along the axis that is contiguous in the source.
const BLOCK: usize = 64;

#[derive(Clone, Copy)]
struct Source<A>(*const A);
// SAFETY: it is only read.
unsafe impl<A: Sync> Send for Source<A> {}
// SAFETY: as above.
unsafe impl<A: Sync> Sync for Source<A> {}

impl<A> Source<A> {
    fn at(&self, offset: usize) -> *const A {
        self.0.wrapping_add(offset)
    }
}

/// `len` values that follow one another on both sides.
struct Run<A, B> {
    from: *const A,
    to: *mut B,
    len: usize,
}

impl<A: Element, B: Element> Task for Run<A, B> {
    const PAIRS: bool = A::TERMS > 1 || B::TERMS > 1;

    /// # Safety
    /// As [`Task::run`]; both are valid for `len` values, `to` is this task's and they do not overlap.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        let Run { from, to, len } = self;
        // SAFETY: the caller's.
        unsafe {
            if TypeId::of::<A>() == TypeId::of::<B>() {
                std::ptr::copy_nonoverlapping(from, to.cast(), len);
            } else {
                vectors!(H, len, |i, n| {
                    B::put::<H>(to.add(i), A::get::<H>(from.add(i), n), n);
                });
            }
        }
    }
}

/// `to[i * to_step + j * to_row] = from[i * from_step + j]`
struct Block<A, B> {
    from: *const A,
    from_step: usize,
    to: *mut B,
    to_step: usize,
    to_row: usize,
    /// How many `i`.
    len: usize,
    /// How many `j`, at most [`BLOCK`].
    width: usize,
}

impl<A: Element, B: Element> Task for Block<A, B> {
    const PAIRS: bool = A::TERMS > 1 || B::TERMS > 1;

    /// # Safety
    /// As [`Task::run`]; both sides are valid for `len` x `width`, and the destination is this task's.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        let mut line = [B::down(0.0); BLOCK];
        // SAFETY: the caller's.
        unsafe {
            for i in 0..self.len {
                let (from, to) = (self.from.wrapping_add(i * self.from_step), self.to.wrapping_add(i * self.to_step));
                Run { from, to: line.as_mut_ptr(), len: self.width }.run::<H>();
                for (j, value) in line.iter().enumerate().take(self.width) {
                    *to.wrapping_add(j * self.to_row) = *value;
                }
            }
        }
    }
}

/// One number everywhere.
pub fn fill<T: Element>(to: &mut [T], value: f32) {
    let (len, to, value) = (to.len(), Shared(to.as_mut_ptr()), T::down(value));
    let parts = len.div_ceil(1 << 16);
    ranges(parts, 1 << 15, |range| {
        for at in range.start << 16..(range.end << 16).min(len) {
            // SAFETY: each part is one task's.
            unsafe { *to.at(at) = value };
        }
    });
}

/// A kernel over rows of float32 on rows of bf16 (or float32): some rows at a time are widened, which stay in L2, given to
/// `f` in place with the number of the first, and rounded.
pub fn by_rows<A, B: Takes<A>>(unit: Unit, x: RowsIn<A>, y: RowsMut<B>, f: impl Fn(usize, RowsMut) + Sync) {
    B::by_rows(unit, x, y, &f);
}

pub(in super::super) fn by_rows_of<A: Element, B: Element>(
    unit: Unit,
    x: RowsIn<A>,
    y: RowsMut<B>,
    f: &(dyn Fn(usize, RowsMut) + Sync),
) {
    y.check();
    let (rows, cols, to, stride) = (y.rows, y.cols, Shared(y.data.as_mut_ptr()), y.stride);
    let (from, from_stride) = match x {
        RowsIn::Other(x) => {
            x.check();
            assert!(x.rows == rows && x.cols == cols, "rows of another shape than those written");
            (Source(x.data.as_ptr()), x.stride)
        }
        RowsIn::Same => {
            assert!(TypeId::of::<A>() == TypeId::of::<B>(), "in place there is one type");
            (Source(to.at(0).cast_const().cast()), stride)
        }
    };
    if rows == 0 || cols == 0 {
        return;
    }
    let per = (WIDE / cols).max(1);
    ranges(rows.div_ceil(per), 4 * per * cols, |range| {
        for block in range {
            let (first, count) = (block * per, per.min(rows - block * per));
            scratch(count * cols, |wide| {
                for (i, wide) in wide.chunks_exact_mut(cols).enumerate() {
                    unit.run(Run { from: from.at((first + i) * from_stride), to: wide.as_mut_ptr(), len: cols });
                }
                f(first, RowsMut::new(wide, count, cols));
                for (i, wide) in wide.chunks_exact(cols).enumerate() {
                    unit.run(Run { from: wide.as_ptr(), to: to.at((first + i) * stride), len: cols });
                }
            });
        }
    });
}

/// Calls `f` with the rows in float32.
pub fn widened(unit: Unit, x: Rows<bf16>, f: impl FnOnce(Rows)) {
    let mut f = Some(f);
    widened_for(unit, x, &mut |rows| {
        if let Some(f) = f.take() {
            f(rows);
        }
    });
}

fn widened_for(unit: Unit, x: Rows<bf16>, f: &mut dyn FnMut(Rows)) {
    x.check();
    scratch(x.rows * x.cols, |wide| {
        for (i, wide) in wide.chunks_exact_mut(x.cols.max(1)).enumerate() {
            // the view was checked, and the scratch memory is this thread's
            unit.run(Run { from: x.at(i), to: wide.as_mut_ptr(), len: x.cols });
        }
        f(Rows::new(wide, x.rows, x.cols));
    });
}

/// Floats that are worked on at a time.
const WIDE: usize = 8 << 10;

/// Where the rows come from.
pub enum RowsIn<'a, A> {
    Other(Rows<'a, A>),
    /// From where they are written.
    Same,
}

/// `to = from`, rounded.
pub fn round(from: &[f32]) -> Vec<bf16> {
    use rayon::prelude::*;
    let mut to = vec![bf16::ZERO; from.len()];
    let part = 1 << 16;
    to.par_chunks_mut(part).zip(from.par_chunks(part)).for_each(|(to, from)| {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = bf16::from_f32(*from));
    });
    to
}
