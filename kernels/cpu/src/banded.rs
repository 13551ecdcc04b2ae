//! Images whose two axes are each multiplied by a banded matrix: antialiased resampling, and by the transposed matrices its
//! gradient.
//!
//! An output is a weighted sum of a rectangle of inputs: `y[p, q] = sum of rows[p, i] columns[q, j] x[i, j]`. Channels are the
//! lanes. A rectangle is as large as what an output covers, so that an image that shrinks is read a few times whatever the
//! factor: 4 times with a triangle, 16 times with the cubic, from a near cache.

use archc_base::Banded;

use super::par::{Shared, ranges};
use super::simd::{Isa, Simd, Task, lanes, ld, st};
use super::view::{Image, ImageMut};

/// Multiplies the axes of `x` by these matrices.
pub fn banded(isa: Isa, rows: &Banded, columns: &Banded, x: Image, y: ImageMut) {
    x.check();
    y.check();
    assert!(x.n == y.n && x.c == y.c, "images of other channels");
    assert!([rows.inputs(), columns.inputs()] == [x.h, x.w], "matrices of other images");
    assert!([rows.outputs(), columns.outputs()] == [y.h, y.w], "matrices of other results");
    let (out, stride, [h, w]) = (Shared(y.data.as_mut_ptr()), y.stride, [y.h, y.w]);
    let taps = (rows.weights().len() / h.max(1) + 1) * (columns.weights().len() / w.max(1) + 1);
    ranges(y.n * h, w * x.c * taps, |range| {
        for row in range {
            let y = out.at(row * w * stride);
            isa.run(Row { x: &x, first: row / h * x.h * x.w, row: rows.run(row % h), columns, y, stride });
        }
    });
}

/// One row of the result.
struct Row<'a> {
    x: &'a Image<'a>,
    /// The first pixel of the image.
    first: usize,
    row: (usize, &'a [f64]),
    columns: &'a Banded,
    y: *mut f32,
    stride: usize,
}

impl Task for Row<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the matrices' inputs lie inside the image, and the row is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Row { x, first, row: (top, downs), columns, y, stride } = self;
        // SAFETY: the caller's.
        unsafe {
            for column in 0..columns.outputs() {
                let (left, acrosses) = columns.run(column);
                // an output of no inputs may begin beyond the image
                let corner = x.data.as_ptr().wrapping_add((first + top * x.w + left) * x.stride);
                lanes!(S, x.c, |c, n| {
                    let mut sum = S::splat(0.0);
                    for (i, down) in downs.iter().enumerate() {
                        let from = corner.add(i * x.w * x.stride + c);
                        let mut line = S::splat(0.0);
                        for (j, across) in acrosses.iter().enumerate() {
                            line = S::fma(ld::<S>(from.add(j * x.stride), n), S::splat(*across as f32), line);
                        }
                        sum = S::fma(line, S::splat(*down as f32), sum);
                    }
                    st::<S>(y.add(column * stride + c), sum, n);
                });
            }
        }
    }
}
