//! How a value lies in memory: an offset and a stride for every logical axis. Permutations, slices and most reshapes
//! are other views of the same numbers, so that they cost nothing; a kernel says which views it can read, and the plan
//! copies where a view is not of that kind.

use std::ops::Range;

/// Where a value's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A buffer of the plan, by its number.
    Buffer(usize),
    /// An input of the network, dense and row-major.
    Input(usize),
    /// A value of parameters alone, computed at load, dense and row-major.
    Constant(usize),
}

/// A value in memory: element `i` lies at `offset + sum(i[axis] * strides[axis])`. A stride of 0 repeats an axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    pub place: Place,
    pub offset: usize,
    pub dims: Vec<usize>,
    pub strides: Vec<usize>,
    /// How much farther the next slice of the batch lies, where the view is that of a slice (`Segment`); else 0.
    pub slice: usize,
}

/// A view as a matrix whose rows are equally far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
}

/// The axes of [N, C, H, W] from the outermost to the innermost in memory.
pub const IMAGE: [usize; 4] = [0, 2, 3, 1];

impl View {
    /// Dense, axes in memory as `order` lists them from the outermost, `stride` from one index of the axis before the last
    /// to the next (at least the length of the last).
    pub fn spaced(place: Place, dims: &[usize], order: &[usize], stride: usize) -> View {
        let mut strides = vec![0; dims.len()];
        let mut step = 1;
        for (at, axis) in order.iter().rev().enumerate() {
            strides[*axis] = step;
            step = if at == 0 { stride.max(dims[*axis]) } else { step * dims[*axis] };
        }
        View { place, offset: 0, dims: dims.to_vec(), strides, slice: 0 }
    }

    /// Dense, axes in memory as `order` lists them from the outermost.
    pub fn ordered(place: Place, dims: &[usize], order: &[usize]) -> View {
        View::spaced(place, dims, order, 0)
    }

    /// Dense and row-major.
    pub fn plain(place: Place, dims: &[usize]) -> View {
        View::ordered(place, dims, &(0..dims.len()).collect::<Vec<_>>())
    }

    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every place between the first and the last number, both included.
    pub fn span(&self) -> Range<usize> {
        let reach: usize = self.dims.iter().zip(&self.strides).map(|(len, stride)| (len - 1) * stride).sum();
        self.offset..self.offset + reach + 1
    }

    /// Axis `i` of the result is axis `axes[i]` of this.
    pub fn permuted(&self, axes: &[usize]) -> View {
        View {
            dims: axes.iter().map(|axis| self.dims[*axis]).collect(),
            strides: axes.iter().map(|axis| self.strides[*axis]).collect(),
            ..self.clone()
        }
    }

    /// The indices `from..from + len` of one axis.
    pub fn sliced(&self, axis: usize, from: usize, len: usize) -> View {
        let mut view = self.clone();
        view.offset += from * self.strides[axis];
        view.dims[axis] = len;
        view
    }

    /// The same numbers, in row-major order of the logical axes, under other sizes; None where that needs a copy.
    pub fn reshaped(&self, dims: &[usize]) -> Option<View> {
        // Axes of the old shape that lie next to each other in memory are one run; the new axes must split runs.
        let mut runs: Vec<(usize, usize)> = vec![];
        for (len, stride) in self.dims.iter().zip(&self.strides).filter(|(len, _)| **len != 1) {
            match runs.last_mut() {
                Some((run, step)) if *step == len * stride => (*run, *step) = (*run * len, *stride),
                _ => runs.push((*len, *stride)),
            }
        }
        let mut strides = vec![0; dims.len()];
        let mut run = runs.into_iter().rev();
        let (mut left, mut step) = run.next().unwrap_or((1, 1));
        for (axis, len) in dims.iter().enumerate().rev() {
            if *len == 1 {
                strides[axis] = step;
                continue;
            }
            if left == 1 {
                (left, step) = run.next()?;
            }
            if left % len != 0 {
                return None;
            }
            strides[axis] = step;
            left /= len;
            step *= len;
        }
        Some(View { dims: dims.to_vec(), strides, ..self.clone() })
    }

    /// Broadcast to `dims`, axes paired from the left or from the right.
    pub fn broadcast(&self, dims: &[usize], from_left: bool) -> View {
        let offset = if from_left { 0 } else { dims.len() - self.dims.len() };
        let mut strides = vec![0; dims.len()];
        for (axis, (len, stride)) in self.dims.iter().zip(&self.strides).enumerate() {
            if *len != 1 {
                strides[axis + offset] = *stride;
            }
        }
        View { dims: dims.to_vec(), strides, ..self.clone() }
    }

    /// The axes from the outermost to the innermost in memory; those of length 1 first.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.dims.len()).collect();
        order.sort_by_key(|axis| (self.dims[*axis] != 1, std::cmp::Reverse(self.strides[*axis])));
        order
    }

    /// The view as a matrix whose columns are the last axis of `order` and whose rows are the others in that order.
    pub fn matrix(&self, order: &[usize]) -> Option<Matrix> {
        if order.len() != self.dims.len() {
            return None;
        }
        let (last, outer) = order.split_last()?;
        let cols = self.dims[*last];
        if cols != 1 && self.strides[*last] != 1 {
            return None;
        }
        let (mut rows, mut own) = (1, None);
        for axis in outer.iter().rev().filter(|axis| self.dims[**axis] != 1) {
            let stride = self.strides[*axis];
            if stride != rows * *own.get_or_insert(stride) || stride == 0 {
                return None;
            }
            rows *= self.dims[*axis];
        }
        let stride = own.unwrap_or(cols);
        (stride >= cols).then_some(Matrix { rows, cols, stride })
    }

    /// The pixel stride, where this is [N, C, H, W] with channels innermost.
    pub fn pixel_stride(&self) -> Option<usize> {
        (self.dims.len() == 4).then(|| self.matrix(&IMAGE)).flatten().map(|matrix| matrix.stride)
    }

    /// Row-major without gaps.
    pub fn is_plain(&self) -> bool {
        let mut step = 1;
        self.dims.iter().zip(&self.strides).rev().filter(|(len, _)| **len != 1).all(|(len, stride)| {
            let fits = *stride == step;
            step *= len;
            fits
        })
    }

    /// Without gaps or repetitions, in whatever order.
    pub fn is_dense(&self) -> bool {
        let order = self.order();
        self.permuted(&order).is_plain()
    }

    /// The same numbers at the same places, whatever the strides of axes of length 1.
    pub fn same_layout(&self, other: &View) -> bool {
        self.dims == other.dims
            && (0..self.dims.len()).all(|axis| self.dims[axis] == 1 || self.strides[axis] == other.strides[axis])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dims: &[usize]) -> View {
        View::ordered(Place::Buffer(0), dims, &IMAGE)
    }

    #[test]
    fn permuting_channels_last_gives_a_plain_view() {
        let view = image(&[2, 5, 3, 4]);
        assert_eq!(view.strides, [60, 1, 20, 5]);
        assert!(view.permuted(&[0, 2, 3, 1]).is_plain());
        assert!(!view.is_plain() && view.is_dense());
        assert_eq!(view.pixel_stride(), Some(5));
        assert_eq!(view.sliced(1, 2, 3).pixel_stride(), Some(5));
        assert_eq!(view.sliced(1, 2, 3).offset, 2);
        assert_eq!(view.sliced(2, 1, 1).sliced(0, 0, 1).pixel_stride(), Some(5));
    }

    #[test]
    fn reshapes_are_views_where_axes_are_neighbours_in_memory() {
        let view = image(&[2, 5, 3, 4]);
        let tokens = view.reshaped(&[2, 5, 12]).expect("height and width are neighbours");
        assert!(tokens.permuted(&[0, 2, 1]).is_plain());
        assert!(view.reshaped(&[2, 60]).is_none());
        assert!(image(&[2, 5, 1, 1]).reshaped(&[2, 5]).expect("nothing to reorder").is_plain());
        assert!(view.permuted(&[0, 2, 3, 1]).reshaped(&[2, 60]).expect("plain").is_plain());
        assert!(view.reshaped(&[1, 2, 5, 3, 2, 2, 1]).is_some());
        assert!(View::spaced(Place::Buffer(0), &[1, 5, 3, 4], &IMAGE, 8).reshaped(&[1, 5, 12]).is_some());
    }

    #[test]
    fn matrices_need_equal_distances() {
        let view = View::plain(Place::Buffer(0), &[2, 3, 4]);
        assert_eq!(view.matrix(&[0, 1, 2]), Some(Matrix { rows: 6, cols: 4, stride: 4 }));
        assert_eq!(view.matrix(&[1, 0, 2]), None);
        assert_eq!(view.sliced(1, 0, 2).matrix(&[0, 1, 2]), None);
        assert_eq!(view.sliced(2, 0, 2).matrix(&[0, 1, 2]), Some(Matrix { rows: 6, cols: 2, stride: 4 }));
        assert_eq!(view.broadcast(&[5, 2, 3, 4], false).matrix(&[0, 1, 2, 3]), None);
    }
}
