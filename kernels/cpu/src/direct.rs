//! Sums of products over register tiles: what convolution and matrix product have in common.
//!
//! A [`Job`] is `groups` products, each of `rows` rows (output pixels) and `cols` columns (output channels) summed
//! over `taps * depth` terms. It is cut into tasks by its sizes alone:
//! - weights that fit in L2 stay there: tasks are blocks of rows, all columns inside;
//! - larger ones are read once: tasks are panels of columns, a block of rows inside, and the panel that comes next
//!   is fetched meanwhile.
//!
//! Rows are dealt evenly over tiles (49 = 12 + 12 + 12 + 13, not 14 + 14 + 14 + 7).

use archc_base::Act;

use super::act;
use super::bf16::simd::{Halves, Task, Unit, vectors};
use super::element::{Element, scratch_of};
use super::means::{Extent, Means, Sums, with_means};
use super::par::{Shared, scratch, tasks};
use super::prefetch::{Lines, Prefetch};
use super::simd::{Simd, ld};
use super::stem;
use super::tile::{Finish, Tile, kernel};
use super::view::Rows;
use std::mem::MaybeUninit;
use std::ops::Range;

/// What is done to a sum before it is stored: `after(before(sum + bias) * gate + residual)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a, T = f32> {
    /// One value a column (output channel).
    pub bias: Option<&'a [f32]>,
    pub before: Act,
    /// `[n, columns]`, dense: one row for each image; for a plain matrix, one for all.
    pub gate: Option<&'a [f32]>,
    /// As many rows and columns as the output.
    pub residual: Option<Rows<'a, T>>,
    pub after: Act,
}

impl<'a, T: Element> Epilogue<'a, T> {
    /// Bias and activation.
    pub fn new(bias: Option<&'a [f32]>, act: Act) -> Self {
        Epilogue { bias, before: Act::None, gate: None, residual: None, after: act }
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
    /// Whether the kernel adds the residual and clamps to these bounds, which is all that most layers want; that of
    /// [`Ending::of_tiles`] multiplies by the gate too.
    pub simple: bool,
    pub lo: f32,
    pub hi: f32,
    /// Whether the kernel takes the hard swish instead; only of one that says so.
    pub swish: bool,
    /// Whether there is more to do.
    pub more: bool,
}

/// A block of the output: rows and columns of the whole, and where the first lies.
pub(super) struct Place<O> {
    pub y: *mut O,
    pub stride: usize,
    pub row: usize,
    pub rows: usize,
    pub col: usize,
    pub cols: usize,
}

impl Ending {
    pub fn of<T: Element>(epi: &Epilogue<T>) -> Self {
        Ending::with(if epi.gate.is_none() { bounds(epi) } else { None })
    }

    /// For a kernel that knows hard swish.
    pub fn of_swish<T: Element>(epi: &Epilogue<T>) -> Self {
        if epi.gate.is_none() { Ending::of_tiles(epi) } else { Ending::of(epi) }
    }

    /// For a kernel that knows hard swish and gates, and gives it one row of them a tile.
    pub fn of_tiles<T: Element>(epi: &Epilogue<T>) -> Self {
        let swish = epi.before == Act::None && epi.after == Act::HardSwish;
        let endless = (f32::NEG_INFINITY, f32::INFINITY);
        Ending { swish, ..Ending::with(if swish { Some(endless) } else { bounds(epi) }) }
    }

    fn with(bounds: Option<(f32, f32)>) -> Self {
        let (lo, hi) = bounds.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        Ending { simple: bounds.is_some(), lo, hi, swish: false, more: bounds.is_none() }
    }

    /// Does the rest to a block, while it is in cache: from `sums` of it to its place, which is the same memory where that
    /// holds floats.
    ///
    /// # Safety
    /// The block is valid, no other thread touches it, and the epilogue was checked against the whole output.
    pub unsafe fn finish<T: Element, O: Element>(
        &self,
        unit: Unit,
        epi: &Epilogue<T>,
        (x, x_stride): (*mut f32, usize),
        at: &Place<O>,
        all_cols: usize,
        rows_per_image: usize,
    ) {
        let act = |act| if self.simple { Act::None } else { act };
        let res = epi.residual.filter(|_| !self.simple);
        unit.run(Finish {
            x,
            x_stride,
            y: at.y,
            y_stride: at.stride,
            rows: at.rows,
            cols: at.cols,
            before: act(epi.before),
            res: res.map_or(std::ptr::null(), |res| res.at(at.row).wrapping_add(at.col)),
            res_stride: res.map_or(0, |res| res.stride),
            after: act(epi.after),
            gate: epi.gate.filter(|_| !self.simple).map_or(std::ptr::null(), |g| g.as_ptr().wrapping_add(at.col)),
            gate_stride: all_cols,
            gate_row: at.row,
            gate_rows: rows_per_image,
        });
    }
}

/// The clamp that an epilogue's activations are, if they are one after everything else.
fn bounds<T: Element>(epi: &Epilogue<T>) -> Option<(f32, f32)> {
    match (epi.before, epi.after) {
        (Act::None, act) => act::bounds(act),
        (act, Act::None) if epi.residual.is_none() && epi.gate.is_none() => act::bounds(act),
        _ => None,
    }
}

/// Where the rows of the left matrix come from.
#[derive(Clone, Copy)]
pub(super) enum Source<T> {
    /// Row `i` starts at `x + i * stride`; one tap.
    Rows {
        x: *const T,
        stride: usize,
    },
    /// The pixels that a window covers.
    Window(Patches<T>),
    /// The same of images of few channels, which each task copies into a frame first.
    Windows(stem::Windows<T>),
    Frame(stem::Frame<T>),
}
// SAFETY: the pointers inside are only read.
unsafe impl<T: Sync> Sync for Source<T> {}

/// The windows of a convolution over images [n, h, w] of pixels `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Patches<T> {
    pub x: *const T,
    pub h: usize,
    pub w: usize,
    pub pixel_stride: usize,
    pub row_stride: usize,
    pub out: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Top, left; negative where windows start inside the image.
    pub padding: [isize; 2],
    /// A row of zeros for taps on the padding.
    pub zeros: *const T,
}

pub(super) struct Job<'a, T, O> {
    pub unit: Unit,
    pub source: Source<T>,
    pub groups: usize,
    /// Rows, in all images.
    pub rows: usize,
    pub images: usize,
    pub taps: usize,
    pub depth: usize,
    /// Columns of one group.
    pub cols: usize,
    /// `[groups][panels][taps][terms of depth][panel columns]`.
    pub w: *const T,
    pub y: Shared<O>,
    pub y_stride: usize,
    pub epilogue: &'a Epilogue<'a, T>,
    pub extra: Extra<'a>,
}

/// What some jobs do besides.
#[derive(Clone, Copy, Default)]
pub(super) struct Extra<'a> {
    /// Factors of what is read, [images, depth]. Only of [`Source::Rows`] in one group: each task multiplies its rows when
    /// it starts.
    pub scale: Option<&'a [f32]>,
    /// The means of the result over the rows of each image.
    pub means: Option<Means>,
    /// Whether the means are all that is wanted, and y is not written.
    pub only_means: bool,
    /// What tiles fetch meanwhile.
    pub prefetch: Option<&'a Prefetch>,
}
// SAFETY: the pointers are read only, but for `y`, of which each task writes its own rows and columns.
unsafe impl<T: Sync, O: Send> Sync for Job<'_, T, O> {}

/// Columns of a panel.
pub(super) fn panel_cols(unit: Unit) -> usize {
    2 * unit.isa().lanes()
}

/// Pointers that one tile needs, at most; the stack has room for a 5x5 window.
const STACK_PTRS: usize = 14 * 25;

/// Values of a tile, at most.
const MOST: usize = 14 * 32;

/// The rows of one task, and which block of rows they are.
struct Part {
    group: usize,
    block: usize,
    rows: Range<usize>,
}

/// Which tile: its rows and panel, its row of gates (null for none), and which half of the next panel it fetches, if any.
struct At {
    group: usize,
    panel: usize,
    rows: Range<usize>,
    gate: *const f32,
    fetch: usize,
    /// What else to fetch meanwhile.
    prefetch: *const f32,
}

impl<T: Element, O: Element> Job<'_, T, O> {
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
        let mr = T::tile_rows(self.unit);
        let tiles = self.rows.div_ceil(mr);
        let panel_len = self.taps * self.depth * kb;
        // About 10 us on a fast core, which does not quite twice as many products of pairs.
        let grain = ((2 * T::TERMS + 1) << 20) / (2 * mr * panel_len).max(1);
        let large = self.panel_len() * panels * size_of::<T>() > 600 << 10 || tiles < 8;
        let most = self.rows / self.unit_rows();
        if large && panels > 1 {
            // The input of a block should stay in L2 beside a panel.
            let block = ((512 << 10) / (size_of::<T>() * self.depth.max(1) * mr)).max(grain).clamp(1, tiles);
            // Few panels are not dealt evenly: then rows are cut too.
            let blocks = tiles.div_ceil(block).max(tiles.min(16 / panels)).min(most);
            let span = grain.div_ceil(block).clamp(1, panels.div_ceil(16));
            // A frame is made for each span.
            let (blocks, spans) = match self.source {
                Source::Windows(_) => (blocks.max(4).min(most), panels.min(4)),
                _ => (blocks, panels.div_ceil(span)),
            };
            self.summing(blocks, |sums| {
                tasks(self.groups * blocks * spans, |task| {
                    let (g, b, s) = (task / (blocks * spans), task / spans % blocks, task % spans);
                    let part = Part { group: g, block: b, rows: self.rows_of(b, blocks) };
                    let panels = panels * s / spans..panels * (s + 1) / spans;
                    // SAFETY: each task has its own rows, panels and group.
                    unsafe { self.block(&part, panels, true, sums) };
                });
            });
        } else {
            let block = (grain / panels).clamp(1, tiles.div_ceil(16).max(1));
            let blocks = tiles.div_ceil(block).min(most);
            self.summing(blocks, |sums| {
                tasks(self.groups * blocks, |task| {
                    let (g, b) = (task / blocks, task % blocks);
                    let part = Part { group: g, block: b, rows: self.rows_of(b, blocks) };
                    // SAFETY: each task has its own rows and group.
                    unsafe { self.block(&part, 0..panels, false, sums) };
                });
            });
        }
    }

    /// Blocks are made of so many rows.
    fn unit_rows(&self) -> usize {
        match &self.source {
            Source::Windows(windows) => windows.width(),
            _ => 1,
        }
    }

    /// The rows of a block.
    fn rows_of(&self, block: usize, blocks: usize) -> Range<usize> {
        let (unit, units) = (self.unit_rows(), self.rows / self.unit_rows());
        units * block / blocks * unit..units * (block + 1) / blocks * unit
    }

    /// Values of a panel.
    fn panel_len(&self) -> usize {
        self.taps * self.depth.next_multiple_of(T::TERMS) * panel_cols(self.unit)
    }

    /// Runs `work`, with sums by `blocks` blocks of rows where means are wanted.
    fn summing(&self, blocks: usize, work: impl FnOnce(Option<Sums>)) {
        let Some(means) = self.extra.means else { return work(None) };
        let rows = self.rows / self.images;
        let extent = Extent { images: self.images, rows, units: rows, cols: self.groups * self.cols };
        let rows_of = |b| self.rows_of(b, blocks);
        // SAFETY: the caller of `run` answers for the means; blocks begin their sums and add all that they store.
        unsafe { with_means(self.unit.isa(), means, extent, blocks, rows_of, |sums| work(Some(sums))) }
    }

    /// Computes all, on this thread alone.
    ///
    /// # Safety
    /// As `run`.
    pub unsafe fn run_here(&self) {
        // SAFETY: the caller's.
        unsafe { self.rows_here(0..self.rows) };
    }

    /// Computes some rows, on this thread alone. Means are of whole runs only.
    ///
    /// # Safety
    /// As `run`, of these rows.
    pub unsafe fn rows_here(&self, rows: Range<usize>) {
        debug_assert!(self.extra.means.is_none(), "means are of whole runs");
        let panels = self.cols.div_ceil(panel_cols(self.unit));
        for group in 0..self.groups {
            // SAFETY: the caller's.
            unsafe { self.block(&Part { group, block: 0, rows: rows.clone() }, 0..panels, false, None) };
        }
    }

    /// Rows and panels of one group; where `stream`, panels from the first to the last, each read once.
    ///
    /// # Safety
    /// As `run`; nobody else writes these rows and panels.
    unsafe fn block(&self, part: &Part, panels: Range<usize>, stream: bool, sums: Option<Sums>) {
        if let Source::Windows(windows) = &self.source {
            // SAFETY: the caller's.
            return unsafe { self.block_framed(windows, part, panels, stream, sums) };
        }
        let Some(scale) = self.extra.scale else {
            // SAFETY: the caller's.
            return unsafe { self.block_from(&self.source, part, panels, stream, sums) };
        };
        let Source::Rows { x, stride } = self.source else { unreachable!("only rows are scaled") };
        let rows = &part.rows;
        let own = super::view::pixel_stride(self.depth);
        scratch_of(rows.len() * own, |scaled: &mut [T]| {
            self.unit.run(Scale {
                x: x.wrapping_add(rows.start * stride),
                x_stride: stride,
                y: scaled.as_mut_ptr(),
                y_stride: own,
                first: rows.start,
                rows: rows.len(),
                cols: self.depth,
                scale: scale.as_ptr(),
                rows_per_image: self.rows / self.images,
            });
            let source = Source::Rows { x: scaled.as_ptr().wrapping_sub(rows.start * own), stride: own };
            // SAFETY: the caller's; the source has just these rows.
            unsafe { self.block_from(&source, part, panels, stream, sums) };
        });
    }

    /// Output rows of one image after another, each with its frame.
    ///
    /// # Safety
    /// As `block`; the rows of `part` are whole rows of windows.
    unsafe fn block_framed(
        &self,
        windows: &stem::Windows<T>,
        part: &Part,
        panels: Range<usize>,
        stream: bool,
        sums: Option<Sums>,
    ) {
        let (width, height) = (windows.width(), windows.height());
        let (mut line, last) = (part.rows.start / width, part.rows.end / width);
        while line < last {
            let end = last.min((line / height + 1) * height);
            let some = Part { group: part.group, block: part.block, rows: line * width..end * width };
            // SAFETY: the caller's.
            unsafe {
                windows.with_frame(line..end, |frame| {
                    self.block_from(&Source::Frame(frame), &some, panels.clone(), stream, sums);
                });
            }
            line = end;
        }
    }

    /// # Safety
    /// As `block`.
    unsafe fn block_from(
        &self,
        source: &Source<T>,
        part: &Part,
        panels: Range<usize>,
        stream: bool,
        sums: Option<Sums>,
    ) {
        let mr = T::tile_rows(self.unit);
        let mut stack = [const { MaybeUninit::<*const T>::uninit() }; STACK_PTRS];
        let work = |ptrs: *mut *const T| {
            if stream {
                for panel in panels.clone() {
                    // SAFETY: the caller's; there is room for the pointers, which are written before they are read.
                    unsafe { self.block_with(source, part, panel..panel + 1, true, sums, ptrs) };
                }
            } else {
                // SAFETY: as above.
                unsafe { self.block_with(source, part, panels.clone(), false, sums, ptrs) };
            }
        };
        if self.taps * mr <= STACK_PTRS {
            work(stack.as_mut_ptr().cast());
        } else {
            // A float has half the size of a pointer; scratch memory starts on a cache line.
            let floats = self.taps * mr * size_of::<*const T>().div_ceil(4);
            scratch(floats, |s| work(s.as_mut_ptr().cast()));
        }
    }

    /// # Safety
    /// As `block`; `ptrs` has room for `taps * MR` pointers.
    unsafe fn block_with(
        &self,
        source: &Source<T>,
        part: &Part,
        panels: Range<usize>,
        fetch: bool,
        sums: Option<Sums>,
        ptrs: *mut *const T,
    ) {
        let kb = panel_cols(self.unit);
        let (epi, ending) = (self.epilogue, Ending::of_tiles(self.epilogue));
        let (group, all_cols) = (part.group, self.groups * self.cols);
        let per_image = self.rows / self.images;
        if let Some(sums) = &sums {
            let (from, to) = (panels.start * kb, (panels.end * kb).min(self.cols));
            // SAFETY: the caller's.
            unsafe { sums.begin(part.block, &part.rows, group * self.cols + from, to - from) };
        }
        // Tiles of one image each, where they take one row of gates; of one row of it, where they are neighbours in a frame.
        let gated = ending.simple && epi.gate.is_some();
        let unit = match source {
            Source::Frame(frame) => frame.width,
            _ if gated => per_image,
            _ => self.rows,
        };
        let mut first = part.rows.start;
        let mut count = 0;
        let terms = self.taps * self.depth.div_ceil(T::TERMS);
        let tiles = part.rows.len().div_ceil(T::tile_rows(self.unit));
        let mut prefetch =
            self.extra.prefetch.map_or(Lines::none(), |prefetch| prefetch.take(tiles * panels.len() * terms));
        while first < part.rows.end {
            let image = first / per_image;
            let end = ((first / unit + 1) * unit).min(part.rows.end);
            let tiles = (end - first).div_ceil(T::tile_rows(self.unit));
            for t in 0..tiles {
                let (m0, m1) = (first + (end - first) * t / tiles, first + (end - first) * (t + 1) / tiles);
                // SAFETY: `ptrs` has room, and the rows are below `self.rows`.
                unsafe { self.pointers(source, group, m0, m1 - m0, ptrs) };
                for panel in panels.clone() {
                    let col = group * self.cols + panel * kb;
                    let gate = epi.gate.filter(|_| gated);
                    let gate = gate.map_or(std::ptr::null(), |g| g.as_ptr().wrapping_add(image * all_cols + col));
                    // Two tiles fetch the two lines a step of the next panel.
                    let fetch = if fetch { count } else { 2 };
                    let prefetch = if fetch < 2 { std::ptr::null() } else { prefetch.next(terms) };
                    let at = At { group, panel, rows: m0..m1, gate, fetch, prefetch };
                    // SAFETY: the caller's.
                    unsafe { self.tile(source, &at, &ending, part.block, &sums, ptrs) };
                }
                count += 1;
            }
            first = end;
        }
    }

    /// One tile.
    ///
    /// # Safety
    /// As `block`; `ptrs` holds the pointers of these rows.
    #[inline(always)]
    unsafe fn tile(
        &self,
        source: &Source<T>,
        at: &At,
        ending: &Ending,
        block: usize,
        sums: &Option<Sums>,
        ptrs: *const *const T,
    ) {
        let kb = panel_cols(self.unit);
        let (m0, mr) = (at.rows.start, at.rows.len());
        let cols = (self.cols - at.panel * kb).min(kb);
        let col = at.group * self.cols + at.panel * kb;
        let mut held = MaybeUninit::<[O; MOST]>::uninit();
        let (y, y_stride) = match self.extra.only_means {
            true => (held.as_mut_ptr().cast(), kb),
            false => (self.y.at(m0 * self.y_stride + col), self.y_stride),
        };
        let place = Place { y, stride: y_stride, row: m0, rows: mr, col, cols };
        let (all_cols, per_image) = (self.groups * self.cols, self.rows / self.images);
        // SAFETY: the caller's; what is held has room for a tile.
        unsafe {
            if !ending.more {
                self.products(source, at, ending, ptrs, (y, y_stride));
            } else if let Some(floats) = O::floats(y) {
                self.products(source, at, ending, ptrs, (floats, y_stride));
                ending.finish(self.unit, self.epilogue, (floats, y_stride), &place, all_cols, per_image);
            } else {
                let mut wide = MaybeUninit::<[f32; MOST]>::uninit();
                let wide = wide.as_mut_ptr().cast();
                self.products(source, at, ending, ptrs, (wide, kb));
                ending.finish(self.unit, self.epilogue, (wide, kb), &place, all_cols, per_image);
            }
            if let Some(sums) = sums {
                sums.add(self.unit, block, &place);
            }
        }
    }

    /// The products of one tile, with what of the epilogue the kernel does.
    ///
    /// # Safety
    /// As `tile`; `y` has room.
    #[inline(always)]
    unsafe fn products<Y: Element>(
        &self,
        source: &Source<T>,
        at: &At,
        ending: &Ending,
        ptrs: *const *const T,
        (y, y_stride): (*mut Y, usize),
    ) {
        let kb = panel_cols(self.unit);
        let all_panels = self.cols.div_ceil(kb);
        let panel_len = self.panel_len();
        let epi = self.epilogue;
        let (m0, mr) = (at.rows.start, at.rows.len());
        let cols = (self.cols - at.panel * kb).min(kb);
        let col = at.group * self.cols + at.panel * kb;
        let w = self.w.wrapping_add((at.group * all_panels + at.panel) * panel_len);
        let (res, res_stride) = match epi.residual {
            Some(res) => (res.at(m0).wrapping_add(col), res.stride),
            None => (std::ptr::null(), 0),
        };
        let fetch = at.fetch < 2 && at.panel + 1 < all_panels;
        let tile = Tile {
            ptrs,
            taps: self.taps,
            c: self.depth,
            w,
            next: match fetch {
                true => w.wrapping_add(panel_len + at.fetch * (panel_len / 2)),
                false if !at.prefetch.is_null() => at.prefetch.cast(),
                false => w,
            },
            next_step: if fetch || !at.prefetch.is_null() { 64 / size_of::<T>() } else { 0 },
            y,
            y_stride,
            gate: at.gate,
            res: if ending.simple { res } else { std::ptr::null() },
            res_stride,
            bias: epi.bias.map_or(std::ptr::null(), |b| b.as_ptr().wrapping_add(col)),
            lo: ending.lo,
            hi: ending.hi,
            swish: ending.swish,
            cols,
            rows: mr,
            step: if let Source::Frame(frame) = source { frame.step } else { 0 },
            offsets: if let Source::Frame(frame) = source { frame.offsets } else { std::ptr::null() },
        };
        let vectors = if cols <= self.unit.isa().lanes() { 1 } else { 2 };
        let kernel = match source {
            Source::Frame(frame) => stem::kernel(self.unit, frame.step, vectors),
            _ => kernel(self.unit, mr, vectors),
        };
        // SAFETY: the pointers are those of `mr` rows, and of a panel of this unit's width; the caller answers
        // for the rest.
        unsafe { kernel(&tile) };
    }

    /// Writes `[taps][mr]` pointers for rows m0..m0+mr.
    ///
    /// # Safety
    /// `out` has room for them.
    unsafe fn pointers(&self, source: &Source<T>, group: usize, m0: usize, mr: usize, out: *mut *const T) {
        match *source {
            Source::Rows { x, stride } => {
                let x = x.wrapping_add(group * self.depth + m0 * stride);
                for i in 0..mr {
                    // SAFETY: one tap, so `mr` pointers.
                    unsafe { *out.add(i) = x.wrapping_add(i * stride) };
                }
            }
            // SAFETY: one pointer for all rows.
            Source::Frame(frame) => unsafe { *out = frame.at(m0) },
            Source::Windows(_) => unreachable!("its tasks have made frames of them"),
            // SAFETY: the caller's.
            Source::Window(window) => unsafe { window.pointers(group * self.depth, m0, mr, out) },
        }
    }
}

impl<T> Patches<T> {
    /// # Safety
    /// `out` has room for `taps * mr` pointers.
    pub unsafe fn pointers(&self, channel: usize, m0: usize, mr: usize, out: *mut *const T) {
        let [p, q] = self.out;
        let (mut n, mut oy, mut ox) = (m0 / (p * q), m0 / q % p, m0 % q);
        for i in 0..mr {
            let iy0 = (oy * self.stride[0]) as isize - self.padding[0];
            let ix0 = (ox * self.stride[1]) as isize - self.padding[1];
            let base = self.x.wrapping_add(channel).wrapping_offset(
                ((n * self.h) as isize + iy0) * self.row_stride as isize + ix0 * self.pixel_stride as isize,
            );
            for r in 0..self.kernel[0] {
                let iy = iy0 + (r * self.dilation[0]) as isize;
                let in_rows = iy >= 0 && iy < self.h as isize;
                for s in 0..self.kernel[1] {
                    let ix = ix0 + (s * self.dilation[1]) as isize;
                    let inside = in_rows && ix >= 0 && ix < self.w as isize;
                    let offset = r * self.dilation[0] * self.row_stride + s * self.dilation[1] * self.pixel_stride;
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

/// Copies rows, each column times the factor of the row's image.
struct Scale<T> {
    x: *const T,
    x_stride: usize,
    y: *mut T,
    y_stride: usize,
    /// The number of the first row, in all images.
    first: usize,
    rows: usize,
    cols: usize,
    scale: *const f32,
    rows_per_image: usize,
}

impl<T: Element> Task for Scale<T> {
    const PAIRS: bool = T::TERMS > 1;

    /// # Safety
    /// As [`Task::run`]; rows and factors are valid for `cols`.
    #[inline(always)]
    unsafe fn run<H: Halves>(self) {
        // SAFETY: the caller's.
        unsafe {
            for i in 0..self.rows {
                let (x, y) = (self.x.add(i * self.x_stride), self.y.add(i * self.y_stride));
                let scale = self.scale.add((self.first + i) / self.rows_per_image * self.cols);
                vectors!(H, self.cols, |at, n| {
                    T::put::<H>(y.add(at), H::S::mul(T::get::<H>(x.add(at), n), ld::<H::S>(scale.add(at), n)), n);
                });
            }
        }
    }
}
