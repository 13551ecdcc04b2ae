//! Moving data: permutations, slices, repetitions, and pieces of shuffles and rolls.
//!
//! All are copies between two strided views of one shape ([`copy`]): runs where both are contiguous along an axis, else
//! a transposition in blocks of 16 x 16, so that both sides use whole cache lines.

use super::par::{Shared, ranges};
use super::walk::{Strided, Walk, check_distinct, check_view};

/// Copies a view of `shape` (rank up to 8) to a view of the same shape in `dst`, whose elements must be distinct.
/// A permutation is a copy with permuted strides; a repeated axis has stride 0 in `src`.
pub fn copy(shape: &[usize], src: Strided, dst: &mut [f32], dst_strides: &[usize]) {
    check_view(shape, src.strides, src.data.len());
    check_view(shape, dst_strides, dst.len());
    check_distinct(shape, dst_strides);
    if shape.contains(&0) {
        return;
    }
    let walk = Walk::by_first(shape, [dst_strides, src.strides]);
    let (from, to) = (src.data, Shared(dst.as_mut_ptr()));
    let (len, [to_step, from_step]) = walk.inner();
    // to be transposed with the last axis; one channel in a wider buffer is contiguous along the last axis itself
    let inner = walk.axes().count().saturating_sub(1);
    let contiguous = walk.axes().take(inner).position(|(_, [_, step])| step == 1);
    if to_step == 1 && from_step == 1 {
        // Long runs are cut, so that one run keeps all threads busy.
        let parts = (len >> 15).max(1);
        ranges(walk.outer() * parts, len / parts, |range| {
            if parts > 1 {
                for i in range {
                    let ([t, f], a, z) = (walk.at(i / parts), len * (i % parts) / parts, len * (i % parts + 1) / parts);
                    // SAFETY: both views were checked, and no two elements of the destination are the same.
                    unsafe { std::ptr::copy_nonoverlapping(from[f + a..f + z].as_ptr(), to.at(t + a), z - a) };
                }
            } else {
                walk.each(range, |[t, f]| {
                    // SAFETY: as above.
                    unsafe { run(from.as_ptr().wrapping_add(f), to.at(t), len) };
                });
            }
        });
    } else if let Some(axis) = contiguous {
        let (width, [width_step, _]) = walk.axes().nth(axis).expect("an axis that was just found");
        let others = walk.without_inner_and(axis);
        let blocks = width.div_ceil(16);
        ranges(others.len() * blocks, 16 * len, |range| {
            for i in range {
                let ([t, f], j0) = (others.element(i / blocks), i % blocks * 16);
                let block = Block {
                    from: from.as_ptr().wrapping_add(f + j0),
                    from_step,
                    to: to.at(t + j0 * width_step),
                    to_step,
                    to_row: width_step,
                    len,
                };
                // SAFETY: as above; the block lies inside both views.
                unsafe { block.transpose((width - j0).min(16)) };
            }
        });
    } else {
        ranges(walk.outer(), len, |range| {
            walk.each(range, |[t, f]| {
                for i in 0..len {
                    // SAFETY: as above.
                    unsafe { *to.at(t + i * to_step) = from[f + i * from_step] };
                }
            });
        });
    }
}

/// A copy that does not call out for a few floats.
///
/// # Safety
/// Both are valid for `len` floats and do not overlap.
#[inline(always)]
unsafe fn run(from: *const f32, to: *mut f32, len: usize) {
    // SAFETY: the caller's.
    unsafe {
        if len <= 8 {
            for i in 0..len {
                *to.add(i) = *from.add(i);
            }
        } else {
            std::ptr::copy_nonoverlapping(from, to, len);
        }
    }
}

/// `to[i * to_step + j * to_row] = from[i * from_step + j]`
struct Block {
    from: *const f32,
    from_step: usize,
    to: *mut f32,
    to_step: usize,
    to_row: usize,
    /// How many `i`.
    len: usize,
}

impl Block {
    /// # Safety
    /// Both sides are valid for `len` x `width`.
    unsafe fn transpose(&self, width: usize) {
        for i0 in (0..self.len).step_by(16) {
            let rows = (self.len - i0).min(16);
            let from = self.from.wrapping_add(i0 * self.from_step);
            let to = self.to.wrapping_add(i0 * self.to_step);
            // SAFETY: the caller's.
            unsafe {
                if rows == 16 && width == 16 && self.to_step == 1 {
                    for j in 0..16 {
                        let mut line = [0f32; 16];
                        for (i, v) in line.iter_mut().enumerate() {
                            *v = *from.add(i * self.from_step + j);
                        }
                        to.add(j * self.to_row).cast::<[f32; 16]>().write_unaligned(line);
                    }
                } else {
                    for j in 0..width {
                        for i in 0..rows {
                            *to.add(i * self.to_step + j * self.to_row) = *from.add(i * self.from_step + j);
                        }
                    }
                }
            }
        }
    }
}
