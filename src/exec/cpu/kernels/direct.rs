//! Sums of products over register tiles: what convolution and matrix product have in common.
//!
//! A [`Job`] is `groups` products, each of `rows` rows (output pixels) and `cols` columns (output channels) summed
//! over `taps * depth` terms. It is cut into tasks by its sizes alone:
//! - weights that fit in L2 stay there: tasks are blocks of rows, all columns inside;
//! - larger ones are read once: tasks are panels of columns, a block of rows inside, and the panel that comes next
//!   is fetched meanwhile.
//!
//! Rows are dealt evenly over tiles (49 = 12 + 12 + 12 + 13, not 14 + 14 + 14 + 7).

use super::math::Act;
use super::par::{Shared, scratch, tasks};
use super::simd::Isa;
use super::tile::{Finish, Tile, kernel};
use super::view::Rows;
use std::mem::MaybeUninit;
use std::ops::Range;

/// What is done to a sum before it is stored: `after(before(sum + bias) + residual) * gate`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value a column (output channel).
    pub bias: Option<&'a [f32]>,
    pub before: Act,
    /// As many rows and columns as the output.
    pub residual: Option<Rows<'a>>,
    pub after: Act,
    /// `[n, columns]`, dense: one row for each image; for a plain matrix, one for all.
    pub gate: Option<&'a [f32]>,
}

impl<'a> Epilogue<'a> {
    /// Bias and activation.
    pub fn new(bias: Option<&'a [f32]>, act: Act) -> Self {
        Epilogue { bias, after: act, ..Epilogue::default() }
    }

    pub(super) fn check(&self, rows: usize, cols: usize, images: usize) {
        assert!(self.bias.is_none_or(|b| b.len() >= cols), "too few values of bias");
        assert!(self.gate.is_none_or(|g| g.len() >= images * cols), "too few gates");
        if let Some(res) = self.residual {
            res.check();
            assert!(res.rows == rows && res.cols == cols, "residual of another shape than the output");
        }
    }
}

/// How an epilogue is shared between a kernel and [`Finish`].
pub(super) struct Ending {
    /// Whether the kernel adds the residual and clamps to these bounds, which is all that most layers want.
    pub simple: bool,
    pub lo: f32,
    pub hi: f32,
    /// Whether there is more to do.
    pub more: bool,
}

/// A block of the output: rows and columns of the whole, and where the first lies.
pub(super) struct Place {
    pub y: *mut f32,
    pub dist: usize,
    pub row: usize,
    pub rows: usize,
    pub col: usize,
    pub cols: usize,
}

impl Ending {
    pub fn of(epi: &Epilogue) -> Self {
        let bounds = match (epi.before, epi.after) {
            (Act::None, act) => act.bounds(),
            (act, Act::None) if epi.residual.is_none() => act.bounds(),
            _ => None,
        };
        let (lo, hi) = bounds.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        Ending { simple: bounds.is_some(), lo, hi, more: bounds.is_none() || epi.gate.is_some() }
    }

    /// Does the rest to a block, while it is in cache.
    ///
    /// # Safety
    /// The block is valid, no other thread touches it, and the epilogue was checked against the whole output.
    pub unsafe fn finish(&self, isa: Isa, epi: &Epilogue, at: Place, all_cols: usize, rows_per_image: usize) {
        let act = |act| if self.simple { Act::None } else { act };
        let res = epi.residual.filter(|_| !self.simple);
        isa.run(Finish {
            y: at.y,
            y_dist: at.dist,
            rows: at.rows,
            cols: at.cols,
            before: act(epi.before),
            res: res.map_or(std::ptr::null(), |res| res.at(at.row).wrapping_add(at.col)),
            res_dist: res.map_or(0, |res| res.dist),
            after: act(epi.after),
            gate: epi.gate.map_or(std::ptr::null(), |g| g.as_ptr().wrapping_add(at.col)),
            gate_dist: all_cols,
            gate_row: at.row,
            gate_rows: rows_per_image,
        });
    }
}

/// Where the rows of the left matrix come from.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// Row `i` starts at `x + i * dist`; one tap.
    Rows { x: *const f32, dist: usize },
    /// The pixels that a window covers.
    Window(Window),
}

/// The windows of a convolution over images [n, h, w] of pixels `dist` apart.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub x: *const f32,
    pub h: usize,
    pub w: usize,
    pub dist: usize,
    pub row_dist: usize,
    pub out: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Top, left; negative where windows start inside the image.
    pub padding: [isize; 2],
    /// A row of zeros for taps on the padding.
    pub zeros: *const f32,
}

pub(super) struct Job<'a> {
    pub isa: Isa,
    pub source: Source,
    pub groups: usize,
    /// Rows, in all images.
    pub rows: usize,
    pub images: usize,
    pub taps: usize,
    pub depth: usize,
    /// Columns of one group.
    pub cols: usize,
    /// `[groups][panels][taps][depth][panel columns]`.
    pub w: *const f32,
    pub y: Shared,
    pub y_dist: usize,
    pub epilogue: &'a Epilogue<'a>,
}
// SAFETY: the pointers are read only, but for `y`, of which each task writes its own rows and columns.
unsafe impl Sync for Job<'_> {}

/// Columns of a panel.
pub(super) fn panel_cols(isa: Isa) -> usize {
    2 * isa.lanes()
}

/// Pointers that one tile needs, at most; the stack has room for a 5x5 window.
const STACK_PTRS: usize = 14 * 25;

impl Job<'_> {
    /// Computes all.
    ///
    /// # Safety
    /// Source, weights and y must be valid for the sizes of the job; `y` is written by nobody else, and no input
    /// lies in it.
    pub unsafe fn run(&self) {
        if self.rows == 0 || self.cols == 0 || self.groups == 0 {
            return;
        }
        let kb = panel_cols(self.isa);
        let panels = self.cols.div_ceil(kb);
        let tiles = self.rows.div_ceil(self.isa.tile_rows());
        let panel_len = self.taps * self.depth * kb;
        let flops_per_tile = 2 * self.isa.tile_rows() * panel_len;
        // About 10 us on a fast core.
        let grain = (3 << 20) / flops_per_tile.max(1);
        let large = panel_len * panels * 4 > 600 << 10 || tiles < 8;
        if large && panels > 1 {
            // The input of a block should stay in L2 beside a panel.
            let block = ((512 << 10) / (4 * self.depth.max(1) * self.isa.tile_rows())).max(grain).clamp(1, tiles);
            let blocks = tiles.div_ceil(block);
            let span = grain.div_ceil(block).clamp(1, panels.div_ceil(16));
            let spans = panels.div_ceil(span);
            tasks(self.groups * blocks * spans, |task| {
                let (g, b, s) = (task / (blocks * spans), task / spans % blocks, task % spans);
                let block = self.rows * b / blocks..self.rows * (b + 1) / blocks;
                for panel in panels * s / spans..panels * (s + 1) / spans {
                    // SAFETY: each task has its own rows, panels and group.
                    unsafe { self.block(g, block.clone(), panel..panel + 1, true) };
                }
            });
        } else {
            let block = (grain / panels).clamp(1, tiles.div_ceil(16).max(1));
            let blocks = tiles.div_ceil(block);
            tasks(self.groups * blocks, |task| {
                let (g, b) = (task / blocks, task % blocks);
                // SAFETY: each task has its own rows and group.
                unsafe { self.block(g, self.rows * b / blocks..self.rows * (b + 1) / blocks, 0..panels, false) };
            });
        }
    }

    /// Computes all, on this thread alone.
    ///
    /// # Safety
    /// As `run`.
    pub unsafe fn run_here(&self) {
        let panels = self.cols.div_ceil(panel_cols(self.isa));
        for group in 0..self.groups {
            // SAFETY: the caller's.
            unsafe { self.block(group, 0..self.rows, 0..panels, false) };
        }
    }

    /// Rows and panels of one group.
    ///
    /// # Safety
    /// As `run`; nobody else writes these rows and panels.
    unsafe fn block(&self, group: usize, rows: Range<usize>, panels: Range<usize>, fetch: bool) {
        let mr = self.isa.tile_rows();
        let mut stack = [const { MaybeUninit::<*const f32>::uninit() }; STACK_PTRS];
        if self.taps * mr <= STACK_PTRS {
            // SAFETY: the caller's; the pointers are written before they are read.
            unsafe { self.block_with(group, rows, panels, fetch, stack.as_mut_ptr().cast()) };
        } else {
            // A float has half the size of a pointer.
            let floats = self.taps * mr * size_of::<*const f32>().div_ceil(4);
            // SAFETY: the caller's; scratch memory starts on a cache line.
            scratch(floats, |s| unsafe { self.block_with(group, rows, panels, fetch, s.as_mut_ptr().cast()) });
        }
    }

    /// # Safety
    /// As `block`; `ptrs` has room for `taps * MR` pointers.
    unsafe fn block_with(
        &self,
        group: usize,
        rows: Range<usize>,
        panels: Range<usize>,
        fetch: bool,
        ptrs: *mut *const f32,
    ) {
        let kb = panel_cols(self.isa);
        let all_panels = self.cols.div_ceil(kb);
        let panel_len = self.taps * self.depth * kb;
        let len = rows.len();
        let tiles = len.div_ceil(self.isa.tile_rows());
        let (epi, ending) = (self.epilogue, Ending::of(self.epilogue));
        for t in 0..tiles {
            let (m0, m1) = (rows.start + len * t / tiles, rows.start + len * (t + 1) / tiles);
            let mr = m1 - m0;
            // SAFETY: `ptrs` has room, and the rows are below `self.rows`.
            unsafe { self.pointers(group, m0, mr, ptrs) };
            for panel in panels.clone() {
                let cols = (self.cols - panel * kb).min(kb);
                let col = group * self.cols + panel * kb;
                let w = self.w.wrapping_add((group * all_panels + panel) * panel_len);
                let (res, res_dist) = match epi.residual {
                    Some(res) => (res.at(m0).wrapping_add(col), res.dist),
                    None => (std::ptr::null(), 0),
                };
                // Two tiles fetch the two lines a step of the next panel.
                let fetch = fetch && t < 2 && panel + 1 < all_panels;
                let tile = Tile {
                    ptrs,
                    taps: self.taps,
                    c: self.depth,
                    w,
                    w_step: kb,
                    next: if fetch { w.wrapping_add(panel_len + t * (panel_len / 2)) } else { w },
                    next_step: if fetch { 16 } else { 0 },
                    y: self.y.at(m0 * self.y_dist + col),
                    y_dist: self.y_dist,
                    res: if ending.simple { res } else { std::ptr::null() },
                    res_dist,
                    bias: epi.bias.map_or(std::ptr::null(), |b| b.as_ptr().wrapping_add(col)),
                    lo: ending.lo,
                    hi: ending.hi,
                    cols,
                };
                let vectors = if cols <= self.isa.lanes() { 1 } else { 2 };
                // SAFETY: the pointers are those of `mr` rows, and of a panel of this isa's width; the caller answers
                // for the rest.
                unsafe { kernel(self.isa, mr, vectors)(&tile) };
                if ending.more {
                    let tile = Place { y: tile.y, dist: self.y_dist, row: m0, rows: mr, col, cols };
                    // SAFETY: the kernel has just written these rows and columns.
                    unsafe { ending.finish(self.isa, epi, tile, self.groups * self.cols, self.rows / self.images) };
                }
            }
        }
    }

    /// Writes `[taps][mr]` pointers for rows m0..m0+mr.
    ///
    /// # Safety
    /// `out` has room for them.
    unsafe fn pointers(&self, group: usize, m0: usize, mr: usize, out: *mut *const f32) {
        match self.source {
            Source::Rows { x, dist } => {
                let x = x.wrapping_add(group * self.depth + m0 * dist);
                for i in 0..mr {
                    // SAFETY: one tap, so `mr` pointers.
                    unsafe { *out.add(i) = x.wrapping_add(i * dist) };
                }
            }
            // SAFETY: the caller's.
            Source::Window(window) => unsafe { window.pointers(group * self.depth, m0, mr, out) },
        }
    }
}

impl Window {
    /// # Safety
    /// `out` has room for `taps * mr` pointers.
    pub unsafe fn pointers(&self, channel: usize, m0: usize, mr: usize, out: *mut *const f32) {
        let [p, q] = self.out;
        let (mut n, mut oy, mut ox) = (m0 / (p * q), m0 / q % p, m0 % q);
        for i in 0..mr {
            let iy0 = (oy * self.stride[0]) as isize - self.padding[0];
            let ix0 = (ox * self.stride[1]) as isize - self.padding[1];
            let base = self
                .x
                .wrapping_add(channel)
                .wrapping_offset(((n * self.h) as isize + iy0) * self.row_dist as isize + ix0 * self.dist as isize);
            for r in 0..self.kernel[0] {
                let iy = iy0 + (r * self.dilation[0]) as isize;
                let in_rows = iy >= 0 && iy < self.h as isize;
                for s in 0..self.kernel[1] {
                    let ix = ix0 + (s * self.dilation[1]) as isize;
                    let inside = in_rows && ix >= 0 && ix < self.w as isize;
                    let offset = r * self.dilation[0] * self.row_dist + s * self.dilation[1] * self.dist;
                    // SAFETY: tap and i are below taps and mr.
                    unsafe {
                        *out.add((r * self.kernel[1] + s) * mr + i) =
                            if inside { base.wrapping_add(offset) } else { self.zeros };
                    }
                }
            }
            ox += 1;
            if ox == q {
                (ox, oy) = (0, oy + 1);
                if oy == p {
                    (oy, n) = (0, n + 1);
                }
            }
        }
    }
}
