//! Backward of what repeats and what reduces: sums over what was repeated, repetitions of what was summed.

use super::super::movement::copy;
use super::super::par::{Shared, ranges};
use super::super::simd::{Isa, Simd, Task, lanes, ld, st};
use super::super::walk::{RANK, Strided, Walk, check_view, dense_strides};

/// `dy`, times `other` where there is one (both of `shape`), summed over the axes that are marked, into `out`, dense over
/// the other axes.
pub fn sum_to(isa: Isa, shape: &[usize], axes: &[bool], dy: Strided, other: Option<Strided>, out: &mut [f32]) {
    check_view(shape, dy.strides, dy.data.len());
    let x = other.unwrap_or(dy);
    check_view(shape, x.strides, x.data.len());
    assert!(axes.len() == shape.len(), "a mark for each axis");
    let pick = |reduced: bool, values: &[usize]| -> Vec<usize> {
        values.iter().zip(axes).filter(|(_, axis)| **axis == reduced).map(|(value, _)| *value).collect()
    };
    let kept = pick(false, shape);
    let mut dense = [0; RANK];
    let dense = dense_strides(&kept, &mut dense);
    assert!(kept.iter().product::<usize>() <= out.len(), "too small an output");
    let (own, own_x) = (pick(false, dy.strides), pick(false, x.strides));
    let walk = Walk::new(&kept, [dense, &own, &own_x]);
    let (more, more_x) = (pick(true, dy.strides), pick(true, x.strides));
    let over = Walk::by_first(&pick(true, shape), [&more, &more_x]);
    let base = Shared(out.as_mut_ptr());
    let product = other.is_some();
    // lanes along an axis that lies in a row in all
    let lane = walk.axes().position(|(_, [to, a, b])| to == 1 && a == 1 && b == 1);
    let (width, rest) = match lane {
        Some(axis) => (walk.axes().nth(axis).expect("an axis that was just found").0, walk.without(axis)),
        None => (1, walk),
    };
    let blocks = width.div_ceil(64);
    ranges(rest.len() * blocks, over.len() * width.min(64), |range| {
        for i in range {
            let ([to, a, b], first) = (rest.element(i / blocks), i % blocks * 64);
            let (dy, x) = (dy.data.as_ptr().wrapping_add(a + first), x.data.as_ptr().wrapping_add(b + first));
            isa.run(Columns { over: &over, dy, x, product, to: base.at(to + first), width: (width - first).min(64) });
        }
    });
}

struct Columns<'a> {
    over: &'a Walk<2>,
    dy: *const f32,
    x: *const f32,
    product: bool,
    to: *mut f32,
    width: usize,
}

impl Task for Columns<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the walk stays inside both, and `to` is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Columns { over, dy, x, product, to, width } = self;
        let (count, [step, step_x]) = over.inner();
        // SAFETY: the caller's.
        unsafe {
            lanes!(S, width, |c, n| {
                let mut sum = S::splat(0.0);
                for outer in 0..over.outer() {
                    let [a, b] = over.at(outer);
                    // a line on its own first, so that long sums lose less
                    let mut line = S::splat(0.0);
                    for i in 0..count {
                        let d = ld::<S>(dy.wrapping_add(a + i * step + c), n);
                        line = match product {
                            true => S::fma(d, ld::<S>(x.wrapping_add(b + i * step_x + c), n), line),
                            false => S::add(line, d),
                        };
                    }
                    sum = S::add(sum, line);
                }
                st::<S>(to.add(c), sum, n);
            });
        }
    }
}

/// `dy`, times `scale`, repeated where its strides are 0, into `out`.
pub fn mean_data(shape: &[usize], dy: Strided, scale: f32, out: &mut [f32], strides: &[usize]) {
    let scaled: Vec<f32> = dy.data.iter().map(|value| value * scale).collect();
    copy(shape, Strided { data: &scaled, strides: dy.strides }, out, strides);
}

/// `dy` for what is equal to the maximum `y`, shared where several are. `dy` and `y` are dense over the axes that are not
/// marked, `out` over all.
pub fn max_data(shape: &[usize], axes: &[bool], dy: &[f32], x: Strided, y: &[f32], out: &mut [f32]) {
    check_view(shape, x.strides, x.data.len());
    assert!(axes.len() == shape.len() && out.len() >= shape.iter().product(), "too small an output");
    let all = Walk::<1>::new(shape, [x.strides]).len();
    let mut counts = vec![0u32; y.len()];
    // which maximum an element belongs to, and where it lies in x
    let place = |mut i: usize| {
        let (mut at, mut offset, mut step) = (0, 0, 1);
        for axis in (0..shape.len()).rev() {
            let index = i % shape[axis];
            i /= shape[axis];
            offset += index * x.strides[axis];
            if !axes[axis] {
                at += index * step;
                step *= shape[axis];
            }
        }
        (at, offset)
    };
    for i in 0..all {
        let (at, offset) = place(i);
        counts[at] += u32::from(x.data[offset] == y[at]);
    }
    for (i, out) in out.iter_mut().enumerate().take(all) {
        let (at, offset) = place(i);
        *out = if x.data[offset] == y[at] { dy[at] / counts[at] as f32 } else { 0.0 };
    }
}

/// Rows of `dy`, each added to the row of the table `out` that its index names; what names none is dropped.
pub fn gather_data(dy: &[f32], index: &[f32], cols: usize, out: &mut [f32]) {
    out.fill(0.0);
    for (row, at) in dy.chunks_exact(cols.max(1)).zip(index) {
        if *at >= 0.0
            && let Some(to) = out.get_mut(*at as usize * cols..(*at as usize + 1) * cols)
        {
            to.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }
}
