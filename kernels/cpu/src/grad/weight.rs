//! Gradients of weights: products of images over their pixels.
//!
//! Formula   dw[k, c, r, s] = sum over n, p, q of dy[n, p, q, k] * x[n, p stride + r dilation - pad, .., c]
//! Kernel    register tiles of up to MR input channels (broadcast) by 2 vectors of output channels, summed over a block of
//!           pixels that stays in L2 while all tiles go over it; pointers to the pixels that a tap sees, so that nothing is
//!           packed and padding is a row of zeros. Images of few channels are framed with zeros, the taps of a window row
//!           being one long row of channels
//! Cut       by panels of output channels and, where those are few, by pixels too; parts are summed in their order
//! Roofline  the FMA units: per pixel of a tile MR + 2 loads and 2 MR FMAs

use super::super::conv::ConvShape;
use super::super::par::{Shared, scratch, tasks};
use super::super::simd::{Isa, Simd, Task, unroll};
use super::super::view::{Image, Rows};
use super::depthwise;

/// The gradient of the weights [out, in / groups, kh, kw] of a convolution of `x` whose result has the gradient `dy`.
pub fn conv_weight(isa: Isa, shape: &ConvShape, x: Image, dy: Image, dw: &mut [f32]) {
    shape.check();
    x.check();
    dy.check();
    assert!(x.c == shape.in_channels && dy.c == shape.out_channels && x.n == dy.n, "images of other channels");
    assert!(dw.len() >= shape.weight_len(), "too small an output");
    let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    if shape.groups > 1 && cg == 1 && kg == 1 {
        return depthwise::weight(isa, shape, x, dy, dw);
    }
    if shape.groups == 1 && cg < 16 && shape.window.kernel[1] > 1 && shape.window.dilation[1] == 1 {
        return framed(isa, shape, x, dy, dw);
    }
    let see = |tap: usize, first: usize, seen: &mut [Seen]| {
        let (r, s) = (tap / shape.window.kernel[1], tap % shape.window.kernel[1]);
        let (mut row, mut q) = (first / dy.w, first % dy.w);
        let mut rest = seen;
        while !rest.is_empty() {
            let (n, p) = (row / dy.h, row % dy.h);
            let (line, more) = rest.split_at_mut((dy.w - q).min(rest.len()));
            // below 0 wraps to far beyond the image
            let iy = (p * shape.window.stride[0] + r * shape.window.dilation[0]).wrapping_sub(shape.window.padding[0]);
            let mut ix =
                (q * shape.window.stride[1] + s * shape.window.dilation[1]).wrapping_sub(shape.window.padding[1]);
            for seen in line {
                *seen = (iy < x.h && ix < x.w).then(|| ((n * x.h + iy) * x.w + ix) * x.stride);
                ix = ix.wrapping_add(shape.window.stride[1]);
            }
            (rest, row, q) = (more, row + 1, 0);
        }
    };
    let taps = shape.window.kernel[0] * shape.window.kernel[1];
    let to = To { col: cg * taps, row: (0..cg).map(|c| c * taps).collect(), tap: 1 };
    let job = Job { isa, groups: shape.groups, taps, rows: cg, cols: kg, x: x.data, dy: dy.rows(), see: &see, to: &to };
    job.run(dw);
}

/// The gradient of the weights [out, in] of a linear map of rows `x`.
pub fn linear_weight(isa: Isa, x: Rows, dy: Rows, dw: &mut [f32]) {
    x.check();
    dy.check();
    assert!(x.rows == dy.rows && dw.len() >= x.cols * dy.cols, "rows of another shape");
    let see = |_: usize, first: usize, seen: &mut [Seen]| {
        seen.iter_mut().enumerate().for_each(|(i, seen)| *seen = Some((first + i) * x.stride));
    };
    let to = To { col: x.cols, row: (0..x.cols).collect(), tap: 0 };
    let job = Job { isa, groups: 1, taps: 1, rows: x.cols, cols: dy.cols, x: x.data, dy, see: &see, to: &to };
    job.run(dw);
}

/// Few channels: a frame of zeros, in which the taps of one window row are neighbours.
fn framed(isa: Isa, shape: &ConvShape, x: Image, dy: Image, dw: &mut [f32]) {
    let [top, left, bottom, right] = shape.window.padding;
    let (fh, fw, c) = (x.h + top + bottom, x.w + left + right, x.c);
    let row = fw * c;
    scratch(x.n * fh * row, |frame| {
        let base = Shared(frame.as_mut_ptr());
        tasks(x.n, |n| {
            // SAFETY: each task has its own image of the frame.
            let image = unsafe { std::slice::from_raw_parts_mut(base.at(n * fh * row), fh * row) };
            image.fill(0.0);
            for (y, line) in image.chunks_exact_mut(row).skip(top).take(x.h).enumerate() {
                for (ix, pixel) in line[left * c..].chunks_exact_mut(c).take(x.w).enumerate() {
                    pixel.copy_from_slice(&x.data[((n * x.h + y) * x.w + ix) * x.stride..][..c]);
                }
            }
        });
        let see = |tap: usize, first: usize, seen: &mut [Seen]| {
            let (mut line, mut q) = (first / dy.w, first % dy.w);
            for seen in seen {
                let (n, p) = (line / dy.h, line % dy.h);
                let iy = p * shape.window.stride[0] + tap * shape.window.dilation[0];
                *seen = Some((n * fh + iy) * row + q * shape.window.stride[1] * c);
                q += 1;
                if q == dy.w {
                    (line, q) = (line + 1, 0);
                }
            }
        };
        let [kh, kw] = shape.window.kernel;
        // a row of the job is a tap of the window's row and a channel
        let to = To { col: c * kh * kw, row: (0..kw * c).map(|at| at % c * kh * kw + at / c).collect(), tap: kw };
        let job =
            Job { isa, groups: 1, taps: kh, rows: kw * c, cols: dy.c, x: frame, dy: dy.rows(), see: &see, to: &to };
        job.run(dw);
    });
}

/// `sum over pixels of x[see(tap, pixel) + row] * dy[pixel][col]` for every tap, row and column of each group.
struct Job<'a> {
    isa: Isa,
    groups: usize,
    taps: usize,
    /// Of one group, as `cols`.
    rows: usize,
    cols: usize,
    x: &'a [f32],
    dy: Rows<'a>,
    /// Where the pixels lie that a tap sees, for the pixels of dy from the given one on.
    see: &'a (dyn Fn(usize, usize, &mut [Seen]) + Sync),
    to: &'a To,
}

/// Where (column, row, tap) goes: the sum of what each adds, the columns counted over all groups.
struct To {
    col: usize,
    row: Vec<usize>,
    tap: usize,
}

/// Where a pixel of x begins; none on the padding.
type Seen = Option<usize>;

/// Pixels that go over all tiles together, at most.
const MOST: usize = 1024;

impl Job<'_> {
    fn run(&self, dw: &mut [f32]) {
        let &Job { isa, groups, taps, rows, cols, x, dy, see, to } = self;
        let kb = 2 * isa.lanes();
        let panels = groups * cols.div_ceil(kb);
        let pixels = dy.rows;
        // Many tasks for many threads, but not more sums than there are pixels to pay for them.
        let parts = (16 / panels).clamp(1, (pixels / 256).max(1));
        let len = taps * rows * kb;
        let tiles = rows.div_ceil(isa.tile_rows());
        let all = groups * rows;
        // half of L2
        let block = ((512 << 10) / (4 * all.max(cols))).clamp(64, MOST);
        let zeros = vec![0.0f32; all];
        let out = Shared(dw.as_mut_ptr());
        let finish = |panel: usize, sums: &[f32], own: &[f32]| {
            let (group, first) = (panel / (panels / groups), panel % (panels / groups) * kb);
            // some rows of all taps stay in L1 while each column takes its own, which lie near each other where they go
            let some = (256 / taps).max(16);
            for from in (0..rows).step_by(some) {
                let rows_to = &to.row[from..rows.min(from + some)];
                for j in 0..kb.min(cols - first) {
                    let col = (group * cols + first + j) * to.col;
                    for (row, row_to) in rows_to.iter().enumerate() {
                        for tap in 0..taps {
                            let at = (tap * rows + from + row) * kb + j;
                            let sum: f32 =
                                if parts == 1 { own[at] } else { sums[at..].iter().step_by(len).take(parts).sum() };
                            // SAFETY: places are one to one, and below the length that the caller has checked.
                            unsafe { *out.at(col + row_to + tap * to.tap) = sum };
                        }
                    }
                }
            }
        };
        let whole = if parts == 1 { 0 } else { panels * parts * len };
        scratch(whole, |partial| {
            let base = Shared(partial.as_mut_ptr());
            tasks(panels * parts, |task| {
                let (panel, part) = (task / parts, task % parts);
                let (group, first) = (panel / (panels / groups), panel % (panels / groups) * kb);
                let range = pixels * part / parts..pixels * (part + 1) / parts;
                let work = |own: &mut [f32]| {
                    let mut at = range.start;
                    if range.is_empty() {
                        own.fill(0.0);
                    }
                    let (mut places, mut seen) = ([None; MOST], [std::ptr::null::<f32>(); MOST]);
                    while at < range.end {
                        let count = block.min(range.end - at);
                        for tap in 0..taps {
                            see(tap, at, &mut places[..count]);
                            for (seen, place) in seen.iter_mut().zip(&places[..count]) {
                                *seen = match *place {
                                    Some(offset) => x[offset + group * rows..].as_ptr(),
                                    None => zeros.as_ptr(),
                                };
                            }
                            for tile in 0..tiles {
                                let (from, to) = (rows * tile / tiles, rows * (tile + 1) / tiles);
                                isa.run(Tile {
                                    x: &seen[..count],
                                    from,
                                    rows: to - from,
                                    dy: dy.at(at).wrapping_add(group * cols + first),
                                    stride: dy.stride,
                                    cols: kb.min(cols - first),
                                    sums: &mut own[(tap * rows + from) * kb..(tap * rows + to) * kb],
                                    begin: at == range.start,
                                });
                            }
                        }
                        at += count;
                    }
                };
                if parts == 1 {
                    scratch(len, |own| {
                        work(own);
                        finish(panel, &[], own);
                    });
                } else {
                    // SAFETY: each task has its own part of the scratch.
                    work(unsafe { std::slice::from_raw_parts_mut(base.at(task * len), len) });
                }
            });
            if parts > 1 {
                let partial: &[f32] = partial;
                tasks(panels, |panel| finish(panel, &partial[panel * parts * len..], &[]));
            }
        });
    }
}

/// Some rows of x times some columns of dy, over some pixels.
struct Tile<'a> {
    x: &'a [*const f32],
    from: usize,
    rows: usize,
    dy: *const f32,
    stride: usize,
    cols: usize,
    /// [rows][2 vectors]
    sums: &'a mut [f32],
    /// Whether the sums begin here.
    begin: bool,
}

impl Task for Tile<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; each pixel of x has the rows, each of dy the columns.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        debug_assert!(self.rows <= S::MR, "the caller cuts rows to tiles");
        macro_rules! by_rows {
            ($($rows:literal)*) => {
                match self.rows {
                    // SAFETY: the caller's.
                    $($rows if $rows <= S::MR => unsafe { self.some::<S, $rows>() },)*
                    _ => unreachable!("no tile has more rows"),
                }
            };
        }
        by_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    }
}

impl Tile<'_> {
    /// # Safety
    /// As `run`, with `MR` rows.
    #[inline(always)]
    unsafe fn some<S: Simd, const MR: usize>(self) {
        let full = self.cols == 2 * S::N;
        let lanes = [self.cols.min(S::N), self.cols.saturating_sub(S::N)];
        // SAFETY: the caller's; `sums` has MR rows of two vectors.
        unsafe {
            let sums = self.sums.as_mut_ptr();
            let mut acc = [[S::splat(0.0); 2]; MR];
            if !self.begin {
                unroll!(I < MR, {
                    acc[I] = [S::load(sums.add(I * 2 * S::N)), S::load(sums.add(I * 2 * S::N + S::N))];
                });
            }
            let mut dy = self.dy;
            if full {
                for x in self.x {
                    let x = x.add(self.from);
                    let d = [S::load(dy), S::load(dy.add(S::N))];
                    unroll!(I < MR, {
                        let v = S::splat(*x.add(I));
                        acc[I] = [S::fma(v, d[0], acc[I][0]), S::fma(v, d[1], acc[I][1])];
                    });
                    dy = dy.wrapping_add(self.stride);
                }
            } else {
                for x in self.x {
                    let x = x.add(self.from);
                    let d = [S::load_n(dy, lanes[0]), S::load_n(dy.wrapping_add(S::N), lanes[1])];
                    unroll!(I < MR, {
                        let v = S::splat(*x.add(I));
                        acc[I] = [S::fma(v, d[0], acc[I][0]), S::fma(v, d[1], acc[I][1])];
                    });
                    dy = dy.wrapping_add(self.stride);
                }
            }
            unroll!(I < MR, {
                S::store(sums.add(I * 2 * S::N), acc[I][0]);
                S::store(sums.add(I * 2 * S::N + S::N), acc[I][1]);
            });
        }
    }
}
