//! Going through tensors of any strides, several at a time.

use std::ops::Range;

/// A tensor of a shape that is given beside it: element [i, j, ..] is `data[i * strides[0] + j * strides[1] + ..]`.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a, T = f32> {
    pub data: &'a [T],
    pub strides: &'a [usize],
}

/// The highest rank.
pub(super) const RANK: usize = 8;

/// The strides of a dense tensor, written to `out`.
pub(super) fn dense_strides<'a>(shape: &[usize], out: &'a mut [usize; RANK]) -> &'a [usize] {
    assert!(shape.len() <= RANK, "more than 8 axes");
    let mut stride = 1;
    for axis in (0..shape.len()).rev() {
        out[axis] = stride;
        stride *= shape[axis];
    }
    &out[..shape.len()]
}

/// Asserts that all elements of a view are inside `len` floats.
pub(super) fn check_view(shape: &[usize], strides: &[usize], len: usize) {
    assert!(shape.len() <= RANK && shape.len() == strides.len(), "a stride for each of up to 8 axes");
    if shape.contains(&0) {
        return;
    }
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(0usize, |sum, (&n, &stride)| (n - 1).checked_mul(stride).and_then(|v| sum.checked_add(v)));
    assert!(last.is_some_and(|last| last < len), "strided view beyond its buffer");
}

/// Asserts that no two elements of a view are the same (a sufficient condition: each stride steps over all that
/// smaller strides reach).
pub(super) fn check_distinct(shape: &[usize], strides: &[usize]) {
    if shape.contains(&0) {
        return;
    }
    let mut axes = [(0, 0); RANK];
    let axes = &mut axes[..shape.len()];
    for (axis, (&n, &stride)) in axes.iter_mut().zip(shape.iter().zip(strides)) {
        *axis = (stride, n);
    }
    axes.sort_unstable();
    let mut reach = 0;
    for &(stride, n) in axes.iter().filter(|(_, n)| *n > 1) {
        assert!(stride > reach, "elements that are written overlap");
        reach += (n - 1) * stride;
    }
}

/// A walk over `K` tensors of one shape: axes of 1 are dropped, axes that are one in all tensors merged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<const K: usize> {
    rank: usize,
    shape: [usize; RANK],
    strides: [[usize; K]; RANK],
    empty: bool,
}

impl<const K: usize> Walk<K> {
    /// In the order of the axes.
    pub fn new(shape: &[usize], strides: [&[usize]; K]) -> Self {
        let order: [usize; RANK] = std::array::from_fn(|i| i);
        Self::ordered(shape, strides, &order[..shape.len()])
    }

    /// In the order of the strides of the first tensor, largest first.
    pub fn by_first(shape: &[usize], strides: [&[usize]; K]) -> Self {
        let mut order: [usize; RANK] = std::array::from_fn(|i| i);
        let order = &mut order[..shape.len()];
        order.sort_by_key(|&axis| std::cmp::Reverse(strides[0][axis]));
        Self::ordered(shape, strides, order)
    }

    fn ordered(shape: &[usize], strides: [&[usize]; K], order: &[usize]) -> Self {
        let mut walk = Walk { rank: 0, shape: [1; RANK], strides: [[0; K]; RANK], empty: shape.contains(&0) };
        for &axis in order.iter().filter(|&&axis| shape[axis] != 1) {
            let (n, step) = (shape[axis], std::array::from_fn(|k| strides[k][axis]));
            let merges = walk.rank > 0 && (0..K).all(|k| walk.strides[walk.rank - 1][k] == step[k] * n);
            if merges {
                walk.shape[walk.rank - 1] *= n;
                walk.strides[walk.rank - 1] = step;
            } else {
                walk.shape[walk.rank] = n;
                walk.strides[walk.rank] = step;
                walk.rank += 1;
            }
        }
        walk
    }

    /// The axes that are left.
    pub fn axes(&self) -> impl Iterator<Item = (usize, [usize; K])> + '_ {
        self.shape.iter().copied().zip(self.strides.iter().copied()).take(self.rank)
    }

    /// Length and strides of the last axis.
    pub fn inner(&self) -> (usize, [usize; K]) {
        if self.rank == 0 { (1, [1; K]) } else { (self.shape[self.rank - 1], self.strides[self.rank - 1]) }
    }

    /// How many times the last axis is walked.
    pub fn outer(&self) -> usize {
        if self.empty { 0 } else { self.shape[..self.rank.saturating_sub(1)].iter().product() }
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        if self.empty { 0 } else { self.shape[..self.rank].iter().product() }
    }

    /// Without the last axis and the axis `i`.
    pub fn without_inner_and(self, i: usize) -> Self {
        self.without(self.rank - 1).without(i)
    }

    /// Without the axis `i`.
    pub fn without(mut self, i: usize) -> Self {
        self.shape.copy_within(i + 1.., i);
        self.strides.copy_within(i + 1.., i);
        self.rank -= 1;
        self.shape[self.rank] = 1;
        self
    }

    /// The offsets of walk `i` (of `outer()`).
    pub fn at(&self, i: usize) -> [usize; K] {
        self.offsets(i, self.rank.saturating_sub(1))
    }

    /// The offsets of element `i` (of `len()`).
    pub fn element(&self, i: usize) -> [usize; K] {
        self.offsets(i, self.rank)
    }

    /// Calls `f` with the offsets of the walks `range` (of `outer()`).
    #[inline(always)]
    pub fn each(&self, range: Range<usize>, mut f: impl FnMut([usize; K])) {
        let axes = self.rank.saturating_sub(1);
        let mut count = [0; RANK];
        let mut rest = range.start;
        for axis in (0..axes).rev() {
            count[axis] = rest % self.shape[axis];
            rest /= self.shape[axis];
        }
        let mut offsets = self.offsets(range.start, axes);
        for _ in range {
            f(offsets);
            for axis in (0..axes).rev() {
                count[axis] += 1;
                let strides = &self.strides[axis];
                for (offset, stride) in offsets.iter_mut().zip(strides) {
                    *offset += stride;
                }
                if count[axis] < self.shape[axis] {
                    break;
                }
                for (offset, stride) in offsets.iter_mut().zip(strides) {
                    *offset -= stride * count[axis];
                }
                count[axis] = 0;
            }
        }
    }

    fn offsets(&self, mut i: usize, axes: usize) -> [usize; K] {
        let mut offsets = [0; K];
        for axis in (0..axes).rev() {
            let n = self.shape[axis];
            for (offset, stride) in offsets.iter_mut().zip(&self.strides[axis]) {
                *offset += i % n * stride;
            }
            i /= n;
        }
        offsets
    }
}
