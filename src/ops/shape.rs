//! The shape of a value: a symbolic batch and known sizes.

use std::fmt;

use crate::diag::{Code, Problem};

/// No axis is longer than this.
pub const MAX_DIM: usize = 1 << 31;
/// No tensor has more axes; PyTorch's limit.
pub const MAX_AXES: usize = 64;
/// No tensor has more bytes than this, the batch counted once.
pub const MAX_BYTES: usize = 1 << 40;

/// The sizes of a value. `batched` values have the batch, a symbol `N`, as axis 0, which `dims` leaves out; values made
/// of parameters alone have none, and `dims` lists every axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    pub batched: bool,
    pub dims: Vec<usize>,
}

impl Shape {
    /// [N, dims..]
    pub fn batched(dims: impl Into<Vec<usize>>) -> Shape {
        Shape { batched: true, dims: dims.into() }
    }

    /// [dims..]
    pub fn fixed(dims: impl Into<Vec<usize>>) -> Shape {
        Shape { batched: false, dims: dims.into() }
    }

    /// [N, channels, height, width]
    pub fn image(channels: usize, height: usize, width: usize) -> Shape {
        Shape::batched([channels, height, width])
    }

    /// Number of axes, the batch counted.
    pub fn rank(&self) -> usize {
        self.dims.len() + usize::from(self.batched)
    }

    /// (C, H, W) of an [N, C, H, W].
    pub fn as_image(&self) -> Option<(usize, usize, usize)> {
        match (self.batched, self.dims.as_slice()) {
            (true, &[c, h, w]) => Some((c, h, w)),
            _ => None,
        }
    }

    /// (C, H, W) of images: an [N, C, H, W], or a value without batch, [C, H, W] or [K, C, H, W].
    pub fn as_images(&self) -> Option<(usize, usize, usize)> {
        match (self.batched, self.dims.as_slice()) {
            (_, &[c, h, w]) | (false, &[_, c, h, w]) => Some((c, h, w)),
            _ => None,
        }
    }

    /// The length of axis `axis` as PyTorch counts them (0 is the batch of a batched value); None for the batch and
    /// beyond the rank.
    pub fn axis(&self, axis: usize) -> Option<usize> {
        if self.batched { axis.checked_sub(1).and_then(|at| self.dims.get(at)) } else { self.dims.get(axis) }.copied()
    }

    /// The last axis, unless that is the batch.
    pub fn last(&self) -> Option<usize> {
        self.dims.last().copied()
    }

    /// `axis`, counted from the end where negative, as an index that is in range.
    pub fn resolve_axis(&self, axis: i64) -> Result<usize, Problem> {
        let rank = self.rank() as i64;
        let at = if axis < 0 { axis + rank } else { axis };
        if (0..rank).contains(&at) {
            return Ok(at as usize);
        }
        Err(Problem::new(Code::ShapeMismatch, format!("axis {axis} does not exist in {self}")))
    }

    /// The shape with axis `axis` (not the batch) of length `len`.
    pub fn with_axis(&self, axis: usize, len: usize) -> Shape {
        let mut shape = self.clone();
        shape.dims[axis - usize::from(self.batched)] = len;
        shape
    }

    /// The shape whose last axes, as many as `last` has, are of these lengths.
    ///
    /// # Panics
    /// If it has fewer.
    pub fn with_last(&self, last: &[usize]) -> Shape {
        let kept = &self.dims[..self.dims.len() - last.len()];
        Shape { batched: self.batched, dims: [kept, last].concat() }
    }

    /// Number of values, a batch counted as 1. Never overflows for a shape that passed [`Shape::check`].
    pub fn len(&self) -> usize {
        self.dims.iter().fold(1, |all: usize, dim| all.saturating_mul(*dim))
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All axes for a batch of `n`.
    pub fn concrete(&self, n: usize) -> Vec<usize> {
        self.batched.then_some(n).into_iter().chain(self.dims.iter().copied()).collect()
    }

    /// Refuses empty axes and what is beyond [`MAX_AXES`], [`MAX_DIM`] and [`MAX_BYTES`].
    pub fn check(&self) -> Result<(), Problem> {
        check_rank(self.rank())?;
        check_dims(&self.dims).map_err(|problem| Problem { message: format!("{self}: {}", problem.message), ..problem })
    }
}

/// [`Shape::check`] for the axes of a parameter.
pub fn check_dims(dims: &[usize]) -> Result<(), Problem> {
    check_rank(dims.len())?;
    if dims.contains(&0) {
        return Err(Problem::new(Code::ShapeMismatch, "an axis has length 0"));
    }
    if let Some(dim) = dims.iter().find(|dim| **dim > MAX_DIM) {
        return Err(Problem::new(Code::TooLarge, format!("an axis of {dim} is longer than 2^31")));
    }
    let bytes = dims.iter().try_fold(4usize, |bytes, dim| bytes.checked_mul(*dim));
    match bytes {
        Some(bytes) if bytes <= MAX_BYTES => Ok(()),
        _ => Err(Problem::new(Code::TooLarge, "the tensor has more than 2^40 bytes")),
    }
}

fn check_rank(rank: usize) -> Result<(), Problem> {
    if rank <= MAX_AXES {
        return Ok(());
    }
    Err(Problem::new(Code::TooLarge, format!("a tensor has at most {MAX_AXES} axes, got {rank}")))
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims = self.dims.iter().map(usize::to_string);
        let all: Vec<String> = self.batched.then(|| "N".to_string()).into_iter().chain(dims).collect();
        write!(f, "[{}]", all.join(", "))
    }
}
