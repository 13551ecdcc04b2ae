//! The transforms of inputs and products.
//!
//! F(4x4): the points 0, +-5/8, +-3/2 and infinity. With the usual 0, +-1, +-2 the rows of B^T and A^T differ more in
//! size, and the error is more than twice as large; these cost as many operations, and all constants are exact in
//! float32. F(2x2): 0, +-1 and infinity.
//!
//! Roofline  loads, stores and arithmetic alike: 36 loads, 144 operations and 36 stores for N channels of an input
//!           tile of F(4x4)

use super::super::bf16::simd::{F, Halves, Task};
use super::super::element::Element;
use super::super::simd::{Simd, ld, unroll};
use super::super::tile::fetch;
use super::Call;
use std::ops::Range;

/// The points of F(4x4) beside 0 and infinity: `+-P` and `+-Q`.
pub(super) const P: f32 = 0.625;
pub(super) const Q: f32 = 1.5;
const P2: f32 = P * P;
const Q2: f32 = Q * Q;

/// A row of B^T x.
///
/// # Safety
/// The CPU has the instruction set.
#[inline(always)]
unsafe fn forward<S: Simd, const AL: usize>(d: [S::F; AL]) -> [S::F; AL] {
    let mut out = d;
    // SAFETY: the caller's.
    unsafe {
        if AL == 4 {
            out[0] = S::sub(d[0], d[2]);
            out[1] = S::add(d[1], d[2]);
            out[2] = S::sub(d[2], d[1]);
            out[3] = S::sub(d[3], d[1]);
        } else {
            let times = |a, by, b| S::fma(a, S::splat(by), b);
            let (even, odd) = (times(d[2], -Q2, d[4]), times(d[1], -Q2, d[3]));
            out[1] = times(odd, P, even);
            out[2] = times(odd, -P, even);
            let (even, odd) = (times(d[2], -P2, d[4]), times(d[1], -P2, d[3]));
            out[3] = times(odd, Q, even);
            out[4 % AL] = times(odd, -Q, even);
            out[0] = times(d[0], P2 * Q2, times(d[2], -(P2 + Q2), d[4 % AL]));
            out[5 % AL] = times(d[1], P2 * Q2, times(d[3], -(P2 + Q2), d[5 % AL]));
        }
    }
    out
}

/// A row of A^T m.
///
/// # Safety
/// The CPU has the instruction set.
#[inline(always)]
unsafe fn backward<S: Simd, const AL: usize, const M: usize>(m: [S::F; AL]) -> [S::F; M] {
    // SAFETY: the caller's.
    unsafe {
        let mut out = [m[0]; M];
        let (sum, difference) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        if AL == 4 {
            out[0] = S::add(m[0], sum);
            out[1] = S::add(difference, m[3]);
        } else {
            let times = |a, by, b| S::fma(a, S::splat(by), b);
            let (sum2, difference2) = (S::add(m[3], m[4 % AL]), S::sub(m[3], m[4 % AL]));
            out[0] = S::add(S::add(m[0], sum), sum2);
            out[1] = times(difference2, Q, S::mul(difference, S::splat(P)));
            out[2 % M] = times(sum2, Q2, S::mul(sum, S::splat(P2)));
            out[3 % M] = times(difference2, Q * Q2, times(difference, P * P2, m[5 % AL]));
        }
        out
    }
}

/// B^T x B for some tiles and all their channels.
pub(super) struct Input<'a, T, V> {
    pub call: &'a Call<'a, T>,
    pub tiles: Range<usize>,
    pub v: *mut V,
    /// Tiles of V.
    pub slots: usize,
    pub plane: usize,
}

impl<T: Element, V: Element> Task for Input<'_, T, V> {
    const PAIRS: bool = T::TERMS > 1 || V::TERMS > 1;

    /// # Safety
    /// As [`Task::run`]; V has room, and x the pixels that the job says.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        // SAFETY: the caller's.
        unsafe { if self.call.layer.m == 2 { self.tiles::<H, 4>() } else { self.tiles::<H, 6>() } }
    }
}

impl<T: Element, V: Element> Input<'_, T, V> {
    /// # Safety
    /// As `run`; `AL` is m + 2.
    #[inline(always)]
    unsafe fn tiles<H: Halves, const AL: usize>(self) {
        let call = self.call;
        let [h, w] = call.size;
        let [rows, cols] = call.grid;
        let [top, left, ..] = call.layer.shape.window.padding;
        let ([channels, _], vectors) = (call.channels(), call.vectors());
        let all = (1 << AL) - 1;
        for (i, tile) in self.tiles.clone().enumerate() {
            let (image, row, col) = (tile / (rows * cols), tile / cols % rows, tile % cols);
            let y = (row * (AL - 2)) as isize - top as isize;
            let x = (col * (AL - 2)) as isize - left as isize;
            let inside = [inside::<AL>(y, h), inside::<AL>(x, w)];
            let at = ((image * h) as isize + y) * w as isize + x;
            let first = call.x.wrapping_offset(at * call.x_stride as isize);
            for group in 0..call.layer.groups {
                for vector in 0..vectors {
                    let n = (channels - vector * H::S::N).min(H::S::N);
                    let tile = Pixels {
                        first: first.wrapping_add(group * channels + vector * H::S::N),
                        row: w * call.x_stride,
                        col: call.x_stride,
                        inside,
                        n,
                    };
                    let to = self.v.wrapping_add(((group * vectors + vector) * self.slots + i) * H::S::N);
                    // SAFETY: pixels that are not inside are not read; V has this place in every plane.
                    unsafe {
                        if n == H::S::N && inside == [all; 2] {
                            tile.transform::<H, V, AL, true>(to, self.plane);
                        } else {
                            tile.transform::<H, V, AL, false>(to, self.plane);
                        }
                    }
                }
            }
        }
    }
}

/// The bits of the `AL` places from `from` on that are in 0..len.
#[inline(always)]
fn inside<const AL: usize>(from: isize, len: usize) -> u32 {
    (0..AL).filter(|i| (0..len as isize).contains(&(from + *i as isize))).map(|i| 1 << i).sum()
}

/// Some channels of the pixels of a tile.
struct Pixels<T> {
    first: *const T,
    /// Values from one row, and from one column, to the next.
    row: usize,
    col: usize,
    /// The rows and columns that are inside of the image, one bit each.
    inside: [u32; 2],
    /// Channels.
    n: usize,
}

impl<T: Element> Pixels<T> {
    /// # Safety
    /// The CPU has the instruction set, the pixels inside are valid, and `to` has a place in every plane. `WHOLE` only
    /// if all are inside, and N channels.
    #[inline(always)]
    unsafe fn transform<H: Halves, V: Element, const AL: usize, const WHOLE: bool>(&self, to: *mut V, plane: usize) {
        // SAFETY: the caller's.
        unsafe {
            let zero = H::S::splat(0.0);
            let mut half = [[zero; AL]; AL];
            unroll!(J <7 AL, {
                let mut d = [zero; AL];
                let column = self.first.wrapping_add(J * self.col);
                unroll!(I <7 AL, {
                    let from = column.wrapping_add(I * self.row);
                    if !matches!(J, 0 | 1) {
                        // of the tile to the right
                        fetch(from.wrapping_add((AL - 2) * self.col));
                    }
                    if WHOLE {
                        d[I] = T::get::<H>(from, H::S::N);
                    } else if self.inside[0] >> I & self.inside[1] >> J & 1 == 1 {
                        d[I] = T::get::<H>(from, self.n);
                    }
                });
                let d = forward::<H::S, AL>(d);
                unroll!(I <7 AL, {
                    half[I][J] = d[I];
                });
            });
            unroll!(I <7 AL, {
                let d = forward::<H::S, AL>(half[I]);
                unroll!(J <7 AL, {
                    V::put::<H>(to.wrapping_add((I * AL + J) * plane), d[J], H::S::N);
                });
            });
        }
    }
}

/// A^T m A for tiles side by side and the channels of a panel; then bias, and where the ending is simple residual and
/// clamp.
pub(super) struct Output<'a, T> {
    pub call: &'a Call<'a, T>,
    /// The first tile's products.
    pub m: *const f32,
    pub plane: usize,
    /// Tiles.
    pub count: usize,
    /// The first tile's first pixel of the output.
    pub pixel: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row, of all tiles.
    pub pixels: usize,
    pub col: usize,
    pub width: usize,
}

impl<T: Element> Output<'_, T> {
    /// Writes to `y`, pixels `y_stride` and rows `line` pixels apart.
    ///
    /// # Safety
    /// These pixels and channels are valid and nobody else's.
    pub unsafe fn run<Y: Element>(&self, y: *mut Y, y_stride: usize, line: usize) {
        self.call.layer.unit.run(To { tiles: self, y, y_stride, line });
    }
}

/// [`Output`] with where it goes.
struct To<'a, T, Y> {
    tiles: &'a Output<'a, T>,
    y: *mut Y,
    y_stride: usize,
    line: usize,
}

impl<T: Element, Y: Element> Task for To<'_, T, Y> {
    const PAIRS: bool = T::TERMS > 1 || Y::TERMS > 1;

    /// # Safety
    /// As [`Task::run`]; these pixels and channels are valid and nobody else's.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        // SAFETY: the caller's.
        unsafe { if self.tiles.call.layer.m == 2 { self.each::<H, 4, 2>() } else { self.each::<H, 6, 4>() } }
    }
}

impl<T: Element, Y: Element> To<'_, T, Y> {
    /// # Safety
    /// As `run`; `M` is m and `AL` m + 2.
    #[inline(always)]
    unsafe fn each<H: Halves, const AL: usize, const M: usize>(self) {
        let (tiles, lanes) = (self.tiles, H::S::N);
        let (epilogue, ending) = (tiles.call.epilogue, &tiles.call.ending);
        let residual = epilogue.residual.filter(|_| ending.simple);
        let res = residual.map_or(std::ptr::null(), |res| res.at(tiles.pixel).wrapping_add(tiles.col));
        let res_stride = residual.map_or(0, |res| res.stride);
        // SAFETY: tiles, pixels and channels stay within what the caller answers for.
        unsafe {
            for vector in 0..tiles.width.div_ceil(lanes) {
                let at = vector * lanes;
                let n = (tiles.width - at).min(lanes);
                let bias = epilogue.bias.map(|bias| ld::<H::S>(bias.as_ptr().add(tiles.col + at), n));
                let bias = if let Some(bias) = bias { bias } else { H::S::splat(0.0) };
                for tile in 0..tiles.count {
                    let m = tiles.m.wrapping_add((tile * 2 + vector) * lanes);
                    let pixel = tile * M;
                    let block = Block {
                        y: self.y.wrapping_add(pixel * self.y_stride + at),
                        y_stride: self.y_stride,
                        y_line: self.line,
                        res: res.wrapping_add(pixel * res_stride + at),
                        res_stride,
                        res_line: tiles.call.out[1],
                        height: tiles.height,
                        width: (tiles.pixels - pixel).min(M),
                        n,
                    };
                    let out = product::<H::S, AL, M>(m, tiles.plane, bias);
                    let bounds = [H::S::splat(ending.lo), H::S::splat(ending.hi)];
                    match (block.height == M && block.width == M && n == lanes, residual.is_some()) {
                        (true, false) => block.store::<H, M, true, false>(out, bounds),
                        (true, true) => block.store::<H, M, true, true>(out, bounds),
                        (false, false) => block.store::<H, M, false, false>(out, bounds),
                        (false, true) => block.store::<H, M, false, true>(out, bounds),
                    }
                }
            }
        }
    }
}

/// A^T m A + bias.
///
/// # Safety
/// The CPU has the instruction set; every plane has a vector there.
#[inline(always)]
unsafe fn product<S: Simd, const AL: usize, const M: usize>(m: *const f32, plane: usize, bias: S::F) -> [[S::F; M]; M] {
    // SAFETY: the caller's.
    unsafe {
        let mut half = [[bias; AL]; M];
        unroll!(J <7 AL, {
            let mut d = [bias; AL];
            unroll!(I <7 AL, {
                d[I] = S::load(m.wrapping_add((I * AL + J) * plane));
            });
            let d = backward::<S, AL, M>(d);
            unroll!(I <4 M, {
                half[I][J] = d[I];
            });
        });
        let mut out = [[bias; M]; M];
        unroll!(I <4 M, {
            out[I] = backward::<S, AL, M>(half[I]);
            unroll!(J <4 M, {
                out[I][J] = S::add(out[I][J], bias);
            });
        });
        out
    }
}

/// The pixels that a tile writes.
struct Block<T, Y> {
    y: *mut Y,
    y_stride: usize,
    /// Pixels from one row to the next.
    y_line: usize,
    res: *const T,
    res_stride: usize,
    res_line: usize,
    height: usize,
    width: usize,
    /// Channels.
    n: usize,
}

impl<T: Element, Y: Element> Block<T, Y> {
    /// # Safety
    /// The CPU has the instruction set; the pixels are valid. `WHOLE` only for M x M pixels of N channels, `ADD` only
    /// with a residual.
    #[inline(always)]
    unsafe fn store<H: Halves, const M: usize, const WHOLE: bool, const ADD: bool>(
        &self,
        out: [[F<H>; M]; M],
        [lo, hi]: [F<H>; 2],
    ) {
        // SAFETY: the caller's.
        unsafe {
            unroll!(I <4 M, {
                unroll!(J <4 M, {
                    if WHOLE || (I < self.height && J < self.width) {
                        let mut v = out[I][J];
                        let n = if WHOLE { H::S::N } else { self.n };
                        if ADD {
                            let res = self.res.add((I * self.res_line + J) * self.res_stride);
                            v = H::S::add(v, T::get::<H>(res, n));
                        }
                        let y = self.y.add((I * self.y_line + J) * self.y_stride);
                        Y::put::<H>(y, H::S::min(hi, H::S::max(lo, v)), n);
                    }
                });
            });
        }
    }
}
