//! Borrowed views of the data: images [N, H, W, C] and matrices, with a free stride of pixels or rows.

/// A batch of images, channels innermost. Pixel `p` (counted over N, H and W) starts at `data[p * stride]`, so that
/// an image may be a slice of the channels of a wider buffer.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a, T = f32> {
    pub data: &'a [T],
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    /// Values from one pixel to the next, at least `c`.
    pub stride: usize,
}

/// As [`Image`], to be written. What lies between the pixels is left alone.
#[derive(Debug)]
pub struct ImageMut<'a, T = f32> {
    pub data: &'a mut [T],
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    /// Values from one pixel to the next, at least `c`.
    pub stride: usize,
}

/// Rows of a matrix (or the pixels of images); row `i` starts at `data[i * stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T = f32> {
    pub data: &'a [T],
    pub rows: usize,
    pub cols: usize,
    /// Values from one row to the next, at least `cols`.
    pub stride: usize,
}

/// As [`Rows`], to be written.
#[derive(Debug)]
pub struct RowsMut<'a, T = f32> {
    pub data: &'a mut [T],
    pub rows: usize,
    pub cols: usize,
    /// Values from one row to the next, at least `cols`.
    pub stride: usize,
}

/// Whether `len` floats hold `rows` rows of `cols`, `stride` apart.
fn fits(len: usize, rows: usize, cols: usize, stride: usize) -> bool {
    stride >= cols && (rows == 0 || (rows - 1).checked_mul(stride).is_some_and(|start| start + cols <= len))
}

impl<'a, T> Image<'a, T> {
    /// Dense images.
    pub fn new(data: &'a [T], [n, h, w, c]: [usize; 4]) -> Self {
        Image { data, n, h, w, c, stride: c }
    }
    /// The same with another pixel stride.
    pub fn spaced(self, stride: usize) -> Self {
        Image { stride, ..self }
    }
    pub fn pixels(&self) -> usize {
        self.n * self.h * self.w
    }
    /// The pixels as rows.
    pub fn rows(self) -> Rows<'a, T> {
        Rows { data: self.data, rows: self.pixels(), cols: self.c, stride: self.stride }
    }
    pub(super) fn check(&self) {
        assert!(fits(self.data.len(), self.pixels(), self.c, self.stride), "image view beyond its buffer");
    }
}

impl<'a, T> ImageMut<'a, T> {
    /// Dense images.
    pub fn new(data: &'a mut [T], [n, h, w, c]: [usize; 4]) -> Self {
        ImageMut { data, n, h, w, c, stride: c }
    }
    /// The same with another pixel stride.
    pub fn spaced(self, stride: usize) -> Self {
        ImageMut { stride, ..self }
    }
    pub fn pixels(&self) -> usize {
        self.n * self.h * self.w
    }
    /// The pixels as rows.
    pub fn rows(self) -> RowsMut<'a, T> {
        let rows = self.pixels();
        RowsMut { data: self.data, rows, cols: self.c, stride: self.stride }
    }
    pub(super) fn check(&self) {
        assert!(fits(self.data.len(), self.pixels(), self.c, self.stride), "image view beyond its buffer");
    }
}

impl<'a, T> Rows<'a, T> {
    /// Dense rows.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Rows { data, rows, cols, stride: cols }
    }
    /// The same with another stride.
    pub fn spaced(self, stride: usize) -> Self {
        Rows { stride, ..self }
    }
    pub(super) fn check(&self) {
        assert!(fits(self.data.len(), self.rows, self.cols, self.stride), "row view beyond its buffer");
    }
    /// The start of row `i`, for code that has checked the view.
    #[inline(always)]
    pub(super) fn at(&self, i: usize) -> *const T {
        self.data.as_ptr().wrapping_add(i * self.stride)
    }
}

impl<'a, T> RowsMut<'a, T> {
    /// Dense rows.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        RowsMut { data, rows, cols, stride: cols }
    }
    /// The same with another stride.
    pub fn spaced(self, stride: usize) -> Self {
        RowsMut { stride, ..self }
    }
    pub(super) fn check(&self) {
        assert!(fits(self.data.len(), self.rows, self.cols, self.stride), "row view beyond its buffer");
    }
}

/// The pixel stride that a buffer of `channels` should have: `channels`, and a cache line more where equal
/// lanes of neighbouring pixels would fall on the same set of the L1 cache (a multiple of 2 KiB).
pub fn pixel_stride(channels: usize) -> usize {
    if channels > 0 && channels.is_multiple_of(512) { channels + 16 } else { channels }
}
