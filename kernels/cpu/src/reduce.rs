//! Means, sums and maxima over any axes of a strided tensor.
//!
//! The lanes are an axis that is contiguous: one that is kept (then no sum crosses lanes), else one that is reduced.
//! NaN wins a maximum.

use archc_base::Reduce;

use super::norm::{first_lanes, tail_or};
use super::par::{Shared, ranges};
use super::simd::{Isa, Simd, Task, lanes, ld, st};
use super::walk::{RANK, Strided, Walk, check_view, dense_strides};

/// Reduces the axes that are marked; `y` is dense over the others, in their order.
pub fn reduce(isa: Isa, kind: Reduce, shape: &[usize], x: Strided, axes: &[bool], y: &mut [f32]) {
    check_view(shape, x.strides, x.data.len());
    assert!(axes.len() == shape.len(), "a mark for each axis");
    let pick = |reduced: bool, values: &[usize], out: &mut [usize; RANK]| {
        let mut n = 0;
        for (axis, &value) in values.iter().enumerate().filter(|(axis, _)| axes[*axis] == reduced) {
            let _ = axis;
            out[n] = value;
            n += 1;
        }
        n
    };
    let mut bufs = [[0; RANK]; 5];
    let [kept_shape, kept_strides, over_shape, over_strides, dense] = &mut bufs;
    let kept_rank = pick(false, shape, kept_shape);
    pick(false, x.strides, kept_strides);
    let over_rank = pick(true, shape, over_shape);
    pick(true, x.strides, over_strides);
    let kept_shape = &kept_shape[..kept_rank];
    let dense = dense_strides(kept_shape, dense);
    assert!(kept_shape.iter().product::<usize>() <= y.len(), "too small an output");
    let kept = Walk::new(kept_shape, [dense, &kept_strides[..kept_rank]]);
    let over = Walk::by_first(&over_shape[..over_rank], [&over_strides[..over_rank]]);
    let count = over.len();
    assert!(count > 0 || kind != Reduce::Max, "a maximum of nothing");
    if kept.len() == 0 {
        return;
    }
    let out = Shared(y.as_mut_ptr());
    let lane_axis = kept.axes().position(|(_, [_, step])| step == 1);
    if let Some(axis) = lane_axis {
        let (width, [y_step, _]) = kept.axes().nth(axis).expect("an axis that was just found");
        let others = kept.without(axis);
        let blocks = width.div_ceil(64);
        ranges(others.len() * blocks, count * width.min(64), |range| {
            for i in range {
                let ([t, f], j0) = (others.element(i / blocks), i % blocks * 64);
                let x = x.data.as_ptr().wrapping_add(f + j0);
                let y = out.at(t + j0 * y_step);
                isa.run(Columns { kind, over: &over, count, x, y, y_step, width: (width - j0).min(64) });
            }
        });
    } else {
        ranges(kept.len(), count, |range| {
            for i in range {
                let [t, f] = kept.element(i);
                isa.run(One { kind, over: &over, count, x: x.data.as_ptr().wrapping_add(f), y: out.at(t) });
            }
        });
    }
}

/// Joins two values.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
unsafe fn join<S: Simd>(kind: Reduce, sum: S::F, v: S::F) -> S::F {
    // SAFETY: the caller's.
    unsafe {
        match kind {
            Reduce::Mean | Reduce::Sum => S::add(sum, v),
            Reduce::Max => S::select(S::is_nan(v), v, S::max(v, sum)),
        }
    }
}

/// What changes nothing.
fn start(kind: Reduce) -> f32 {
    match kind {
        Reduce::Mean | Reduce::Sum => 0.0,
        Reduce::Max => f32::NEG_INFINITY,
    }
}

/// Up to 64 outputs whose values are neighbours.
struct Columns<'a> {
    kind: Reduce,
    over: &'a Walk<1>,
    count: usize,
    x: *const f32,
    y: *mut f32,
    y_step: usize,
    width: usize,
}

impl Task for Columns<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the views were checked, and these outputs are this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (len, [step]) = self.over.inner();
        let outer = self.over.outer();
        // SAFETY: the caller's.
        unsafe {
            lanes!(S, self.width, |j, n| {
                let mut total = S::splat(start(self.kind));
                for i in 0..outer {
                    let x = self.x.add(self.over.at(i)[0] + j);
                    let mut part = S::splat(start(self.kind));
                    for i in 0..len {
                        part = join::<S>(self.kind, part, ld::<S>(x.add(i * step), n));
                    }
                    total = join::<S>(self.kind, total, part);
                }
                if self.kind == Reduce::Mean {
                    total = S::div(total, S::splat(self.count as f32));
                }
                if self.y_step == 1 {
                    st::<S>(self.y.add(j), total, n);
                } else {
                    let mut some = [0f32; 16];
                    S::store(some.as_mut_ptr(), total);
                    for (i, &v) in some.iter().enumerate().take(n) {
                        *self.y.add((j + i) * self.y_step) = v;
                    }
                }
            });
        }
    }
}

/// One output.
struct One<'a> {
    kind: Reduce,
    over: &'a Walk<1>,
    count: usize,
    x: *const f32,
    y: *mut f32,
}

impl Task for One<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the views were checked, and the output is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (len, [step]) = self.over.inner();
        let summing = self.kind != Reduce::Max;
        // SAFETY: the caller's.
        unsafe {
            let mut total = S::splat(start(self.kind));
            for i in 0..self.over.outer() {
                let x = self.x.add(self.over.at(i)[0]);
                if step == 1 {
                    let mut part = S::splat(start(self.kind));
                    lanes!(S, len, |i, n| {
                        let mut v = ld::<S>(x.add(i), n);
                        if n < S::N && !summing {
                            v = tail_or::<S>(v, part, n);
                        }
                        part = join::<S>(self.kind, part, v);
                    });
                    total = join::<S>(self.kind, total, part);
                } else {
                    // One lane holds it; the others stay what changes nothing.
                    let mut part = S::splat(start(self.kind));
                    for i in 0..len {
                        part = join::<S>(self.kind, part, S::splat(*x.add(i * step)));
                    }
                    let part = if summing { first_lanes::<S>(part, 1) } else { part };
                    total = join::<S>(self.kind, total, part);
                }
            }
            *self.y = match self.kind {
                Reduce::Mean => S::sum(total) / self.count as f32,
                Reduce::Sum => S::sum(total),
                Reduce::Max => S::reduce_max(total),
            };
        }
    }
}
