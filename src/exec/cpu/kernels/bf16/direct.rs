//! Sums of products of bf16 over register tiles: `../direct.rs` for weights and inputs of half the size.
//!
//! Work is cut the same way, by sizes alone: weights that fit in L2 stay there and rows are cut; larger ones are read
//! once, a panel of columns after the other.

use super::super::direct::{Ending, Epilogue as Floats, Window};
use super::super::math::Act;
use super::super::par::{scratch, tasks};
use super::super::view::Rows;
use super::simd::Unit;
use super::tile::{Finish, Stored, Tile, kernel};
use half::bf16;
use std::ops::Range;

/// What is done to a sum before it is rounded and stored: `after(before(sum + bias) + residual) * gate`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value a column (output channel).
    pub bias: Option<&'a [f32]>,
    pub before: Act,
    /// As many rows and columns as the output.
    pub residual: Option<Rows<'a, bf16>>,
    pub after: Act,
    /// `[n, columns]`, dense: one row for each image; for a plain matrix, one for all.
    pub gate: Option<&'a [f32]>,
}

impl Epilogue<'_> {
    pub(super) fn check(&self, rows: usize, cols: usize, images: usize) {
        assert!(self.bias.is_none_or(|b| b.len() >= cols), "too few values of bias");
        assert!(self.gate.is_none_or(|g| g.len() >= images * cols), "too few gates");
        if let Some(res) = self.residual {
            res.check();
            assert!(res.rows == rows && res.cols == cols, "residual of another shape than the output");
        }
    }

    /// How it is shared between a kernel and [`Finish`].
    pub(super) fn ending(&self) -> Ending {
        let none: &[f32] = &[];
        let residual = self.residual.map(|_| Rows::new(none, 0, 0));
        Ending::of(&Floats { bias: None, before: self.before, residual, after: self.after, gate: self.gate })
    }
}

/// A pointer that tasks may share, because each writes a part of its own.
#[derive(Clone, Copy)]
pub(super) struct Shared<O>(pub *mut O);
// SAFETY: whoever dereferences it answers for the parts being disjoint; see the uses.
unsafe impl<O: Send> Send for Shared<O> {}
// SAFETY: as above.
unsafe impl<O: Send> Sync for Shared<O> {}

impl<O> Shared<O> {
    /// The pointer `offset` values on. A method, so that closures capture the whole struct.
    #[inline(always)]
    pub fn at(&self, offset: usize) -> *mut O {
        self.0.wrapping_add(offset)
    }
}

/// Where the rows of the left matrix come from.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// Row `i` starts at `x + i * dist`; one tap.
    Rows { x: *const bf16, dist: usize },
    /// The pixels that a window covers.
    Window(Window<bf16>),
}

pub(super) struct Job<'a, O> {
    pub unit: Unit,
    pub source: Source,
    pub groups: usize,
    /// Rows, in all images.
    pub rows: usize,
    pub images: usize,
    pub taps: usize,
    pub depth: usize,
    /// Columns of one group.
    pub cols: usize,
    /// `[groups][panels][taps][depth / 2, rounded up][panel columns][2]`.
    pub w: *const bf16,
    pub y: Shared<O>,
    pub y_dist: usize,
    pub epilogue: &'a Epilogue<'a>,
}
// SAFETY: the pointers are read only, but for `y`, of which each task writes its own rows and columns.
unsafe impl<O: Send> Sync for Job<'_, O> {}

/// Columns of a panel.
pub(super) fn panel_cols(unit: Unit) -> usize {
    2 * unit.isa().lanes()
}

/// Pointers that one tile needs, at most; the stack has room for a 5x5 window.
const STACK_PTRS: usize = 14 * 25;

/// Sums of a tile, at most.
const TILE: usize = 14 * 32;

impl<O: Stored> Job<'_, O> {
    /// Computes all.
    ///
    /// # Safety
    /// Source, weights and y must be valid for the sizes of the job; `y` is written by nobody else, and no input
    /// lies in it.
    pub unsafe fn run(&self) {
        if self.rows == 0 || self.cols == 0 || self.groups == 0 {
            return;
        }
        let kb = panel_cols(self.unit);
        let panels = self.cols.div_ceil(kb);
        let mr = self.unit.tile_rows();
        let tiles = self.rows.div_ceil(mr);
        let panel_len = self.panel_len();
        // About 10 us on a fast core.
        let grain = (5 << 20) / (2 * mr * panel_len).max(1);
        let large = panel_len * panels * 2 > 600 << 10 || tiles < 8;
        if large && panels > 1 {
            // The input of a block should stay in L2 beside a panel.
            let block = ((384 << 10) / (2 * self.depth.max(1) * mr)).max(grain).clamp(1, tiles);
            let blocks = tiles.div_ceil(block);
            let span = grain.div_ceil(block).clamp(1, panels);
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

    fn panel_len(&self) -> usize {
        self.taps * self.depth.div_ceil(2) * 2 * panel_cols(self.unit)
    }

    /// Rows and panels of one group.
    ///
    /// # Safety
    /// As `run`; nobody else writes these rows and panels.
    unsafe fn block(&self, group: usize, rows: Range<usize>, panels: Range<usize>, fetch: bool) {
        let mr = self.unit.tile_rows();
        let mut stack = [0usize; STACK_PTRS];
        if self.taps * mr <= STACK_PTRS {
            // SAFETY: the caller's.
            unsafe { self.block_with(group, rows, panels, fetch, stack.as_mut_ptr().cast()) };
        } else {
            // A float has half the size of a pointer.
            let floats = self.taps * mr * size_of::<*const bf16>().div_ceil(4);
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
        ptrs: *mut *const bf16,
    ) {
        let kb = panel_cols(self.unit);
        let all_panels = self.cols.div_ceil(kb);
        let panel_len = self.panel_len();
        let len = rows.len();
        let tiles = len.div_ceil(self.unit.tile_rows());
        let (epi, ending) = (self.epilogue, self.epilogue.ending());
        for t in 0..tiles {
            let (m0, m1) = (rows.start + len * t / tiles, rows.start + len * (t + 1) / tiles);
            // SAFETY: `ptrs` has room, and the rows are below `self.rows`.
            unsafe { self.pointers(group, m0, m1 - m0, ptrs) };
            for panel in panels.clone() {
                let cols = (self.cols - panel * kb).min(kb);
                let col = group * self.cols + panel * kb;
                let w = self.w.wrapping_add((group * all_panels + panel) * panel_len);
                // Two tiles fetch the two lines a step of the next panel.
                let fetch = fetch && t < 2 && panel + 1 < all_panels;
                let next = if fetch { w.wrapping_add(panel_len + t * (panel_len / 2)) } else { w };
                let place =
                    Place { ptrs, w, next, next_step: if fetch { 32 } else { 0 }, row: m0, rows: m1 - m0, col, cols };
                // SAFETY: the pointers are those of these rows, and of a panel of this unit's width; the caller answers
                // for the rest.
                unsafe {
                    if ending.more {
                        self.finished(epi, &ending, &place);
                    } else {
                        let (res, res_dist) = residual(epi, &place);
                        let y = self.y.at(m0 * self.y_dist + col);
                        self.tile(&place, y, self.y_dist, (res, res_dist), [ending.lo, ending.hi]);
                    }
                }
            }
        }
    }

    /// # Safety
    /// As `block`; `y` is where the tile goes.
    unsafe fn tile<T: Stored>(
        &self,
        at: &Place,
        y: *mut T,
        y_dist: usize,
        res: (*const bf16, usize),
        bounds: [f32; 2],
    ) {
        let tile = Tile {
            ptrs: at.ptrs,
            taps: self.taps,
            c: self.depth,
            w: at.w,
            next: at.next,
            next_step: at.next_step,
            y,
            y_dist,
            res: res.0,
            res_dist: res.1,
            bias: self.epilogue.bias.map_or(std::ptr::null(), |b| b.as_ptr().wrapping_add(at.col)),
            lo: bounds[0],
            hi: bounds[1],
            cols: at.cols,
        };
        let vectors = if at.cols <= self.unit.isa().lanes() { 1 } else { 2 };
        // SAFETY: the caller's.
        unsafe { kernel::<T>(self.unit, at.rows, vectors)(&tile) };
    }

    /// A tile whose epilogue is more than the kernel does: through sums in float32 on the stack.
    ///
    /// # Safety
    /// As `block`.
    unsafe fn finished(&self, epi: &Epilogue, ending: &Ending, at: &Place) {
        let mut sums = [0f32; TILE];
        let x_dist = panel_cols(self.unit);
        let clamped = ending.simple && epi.residual.is_none();
        let bounds = if clamped { [ending.lo, ending.hi] } else { [f32::NEG_INFINITY, f32::INFINITY] };
        let (res, res_dist) = residual(epi, at);
        // SAFETY: the caller's; the stack has room for the tile.
        unsafe { self.tile(at, sums.as_mut_ptr(), x_dist, (std::ptr::null(), 0), bounds) };
        self.unit.run(Finish {
            x: sums.as_mut_ptr(),
            x_dist,
            rows: at.rows,
            cols: at.cols,
            before: if clamped { Act::None } else { epi.before },
            res,
            res_dist,
            after: if clamped { Act::None } else { epi.after },
            gate: epi.gate.map_or(std::ptr::null(), |g| g.as_ptr().wrapping_add(at.col)),
            gate_dist: self.groups * self.cols,
            gate_row: at.row,
            gate_rows: self.rows / self.images,
            y: self.y.at(at.row * self.y_dist + at.col),
            y_dist: self.y_dist,
        });
    }

    /// Writes `[taps][mr]` pointers for rows m0..m0+mr.
    ///
    /// # Safety
    /// `out` has room for them.
    unsafe fn pointers(&self, group: usize, m0: usize, mr: usize, out: *mut *const bf16) {
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

/// One tile: its inputs, and which part of the output it is.
struct Place {
    ptrs: *const *const bf16,
    w: *const bf16,
    next: *const bf16,
    next_step: usize,
    row: usize,
    rows: usize,
    col: usize,
    cols: usize,
}

fn residual(epi: &Epilogue, at: &Place) -> (*const bf16, usize) {
    match epi.residual {
        Some(res) => (res.at(at.row).wrapping_add(at.col), res.dist),
        None => (std::ptr::null(), 0),
    }
}
