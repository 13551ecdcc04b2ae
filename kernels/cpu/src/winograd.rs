//! Winograd convolution F(m x m, 3x3) for m = 2 and 4: windows of 3x3, stride 1.
//!
//! Formula   y = A^T [sum over c of (G w_c G^T) * (B^T x_c B)] A for each tile of m x m outputs, whose inputs are
//!           (m + 2) x (m + 2) pixels: (m + 2)^2 products of matrices [tiles, C] by [C, K], one for each *point*
//! Layout    weights U [group][panel][point][terms of C][2 N]: the order in which they are read
//!           inputs V [point][C / N][tiles][N]: rows of a register tile are neighbours, whatever C is
//!           products M [point][tiles][2 N], of one panel, in float32: they stay in L2
//! Elements  U and V of float32 images are float32. Of bf16 images they are bf16 for m = 2 where the CPU multiplies pairs,
//!           else float32: the sums that m = 4 takes of V and M would magnify the rounding too much
//! Tile      MR x 2 vectors (`product.rs`); transforms work on N channels of one tile in registers (`transform.rs`)
//! Tasks     many tiles: blocks of tiles, whose V stays in L2, all panels inside. Few tiles: panels, so that U, the
//!           larger part, is read once; each thread transforms the whole input for itself, as to fetch what another
//!           core has just written takes several times as long
//! Roofline  that of the direct kernel times 9 m^2 / (m + 2)^2 (2.25 and 4), less what tiles pad at the edges
//! Measured  2 cores of Zen 5, times the direct kernel: batch 1, weights from memory: 56x56x64 to 28x28x512 2.9 to
//!           3.3, 14x14 1.9 to 2.1 (m = 2), 7x7x512 1.1 to 1.6 (m = 2); batch 8: 2.4 to 3.1, 7x7x512 2.0 to 2.7.
//!           Products alone run at 98 % of the peak where U comes from caches; transforms wait for memory from
//!           about 4 MB of images on
//!           bf16 with dot products, batch 1, times the direct kernel in bf16: m = 2 14x14x256 2.1, 28x28x128 1.9, 7x7x512 1.2;
//!           m = 4 (in float32) 56x56x64 1.7
//! Error     m = 2: less than that of the direct kernel; m = 4: twice as much; figures in `tests/winograd.rs`. Of bf16 images a
//!           ResNet's outputs are as far from the exact ones as with direct kernels: 0.8 to 0.9 %

mod choose;
mod product;
mod transform;
mod weights;

use super::bf16::simd::Unit;
use super::conv::ConvShape;
use super::direct::{Ending, Epilogue, Place, panel_cols};
use super::element::{Element, words};
use super::means::{Extent, Means, Sums, with_means};
use super::par::{Aligned, Shared, scratch, tasks, team};
use super::view::{Image, ImageMut};
use product::Product;
use std::marker::PhantomData;
use std::ops::Range;
use transform::{Input, Output};

pub use choose::{Algorithm, Estimate, Policy, Site, choose, estimate};
pub(super) use choose::{choose_of, estimate_of};

/// The transformed weights of a layer.
#[derive(Debug)]
pub(super) struct Winograd<T> {
    unit: Unit,
    shape: ConvShape,
    /// Outputs of a tile along an axis: 2 or 4.
    pub(super) m: usize,
    /// That of the shape, or fewer where groups were merged.
    groups: usize,
    u: Aligned,
    of: PhantomData<T>,
}

/// Bytes of V that may stay in L2 beside U and M.
const V_BYTES: usize = 384 << 10;

/// Whether the windows are of the kind that this is for.
fn suits(shape: &ConvShape) -> bool {
    shape.window.kernel == [3, 3] && shape.window.stride == [1, 1] && shape.window.dilation == [1, 1]
}

/// Whether U and V are of the images' type `T`, and not of float32.
fn keeps<T: Element>(unit: Unit, m: usize) -> bool {
    T::has_dots(unit) && m == 2
}

impl<T: Element> Winograd<T> {
    /// Transforms weights [out, in / groups, 3, 3].
    pub fn pack(unit: Unit, shape: &ConvShape, m: usize, weights: &[f32]) -> Self {
        assert!(suits(shape) && (m == 2 || m == 4), "not a convolution for Winograd's algorithm");
        let merge = merged(unit, shape);
        let u = if keeps::<T>(unit, m) {
            weights::transform::<T>(unit, shape, [m, merge], weights)
        } else {
            weights::transform::<f32>(unit, shape, [m, merge], weights)
        };
        Winograd { unit, shape: *shape, m, groups: shape.groups / merge, u, of: PhantomData }
    }

    /// `winograd f4`, `winograd f2 bf16`; `winograd f4 bf16 in f32` where only the images are bf16.
    pub fn kernel(&self) -> String {
        let within = if T::TERMS == 1 || keeps::<T>(self.unit, self.m) { "" } else { " in f32" };
        format!("winograd f{}{}{within}", self.m, T::LABEL)
    }

    /// Convolves `x` into `y`; both were checked against the shape. The means of y's channels go to `means`.
    pub fn run<O: Element>(&self, x: Image<T>, y: ImageMut<O>, means: Option<Means>, epilogue: &Epilogue<T>) {
        if keeps::<T>(self.unit, self.m) {
            self.run_in::<T, O>(x, y, means, epilogue);
        } else {
            self.run_in::<f32, O>(x, y, means, epilogue);
        }
    }

    /// With U and V of type `V`.
    fn run_in<V: Element, O: Element>(
        &self,
        x: Image<T>,
        y: ImageMut<O>,
        means: Option<Means>,
        epilogue: &Epilogue<T>,
    ) {
        let grid = [y.h.div_ceil(self.m), y.w.div_ceil(self.m)];
        let tiles = y.n * grid[0] * grid[1];
        if tiles == 0 || y.c == 0 {
            return;
        }
        let call = Call {
            layer: self,
            x: x.data.as_ptr(),
            size: [x.h, x.w],
            x_stride: x.stride,
            out: [y.h, y.w],
            grid,
            epilogue,
            ending: Ending::of(epilogue),
        };
        let (images, y_stride) = (y.n, y.stride);
        let job = Job { call, y: Shared(y.data.as_mut_ptr()), y_stride, means, images, within: PhantomData::<V> };
        // SAFETY: the views were checked, the weights were packed for the shape, and nothing overlaps `y`.
        unsafe { job.run(tiles) };
    }
}

/// How many groups are taken as one, with weights of zero between channels that do not meet: as many as fill a vector.
fn merged(unit: Unit, shape: &ConvShape) -> usize {
    let widest = (shape.in_channels / shape.groups).max(shape.out_channels / shape.groups);
    let mut merge = 1;
    while shape.groups.is_multiple_of(merge * 2) && widest * merge * 2 <= unit.isa().lanes() {
        merge *= 2;
    }
    merge
}

/// The stride of planes of `len` values: an odd number of cache lines, so that equal places of planes do not fall on
/// the same set of the cache.
fn plane<V>(len: usize) -> usize {
    let line = 64 / size_of::<V>();
    (len.div_ceil(line) | 1) * line
}

/// The tiles of one task, and where their sums go.
struct Part {
    block: usize,
    tiles: Range<usize>,
    sums: Option<Sums>,
}

/// What the transforms know of a run of a layer, whatever U, V and the output are kept in.
struct Call<'a, T> {
    layer: &'a Winograd<T>,
    x: *const T,
    /// Height and width of the input.
    size: [usize; 2],
    x_stride: usize,
    /// Height and width of the output.
    out: [usize; 2],
    /// Rows and columns of tiles in an image. Tiles are counted over images, rows and columns.
    grid: [usize; 2],
    epilogue: &'a Epilogue<'a, T>,
    ending: Ending,
}

/// One run of a layer.
struct Job<'a, T, V, O> {
    call: Call<'a, T>,
    y: Shared<O>,
    y_stride: usize,
    means: Option<Means>,
    images: usize,
    /// The type of U and V.
    within: PhantomData<V>,
}
// SAFETY: the pointers are read only, but for `y`, of which each task writes its own pixels and channels.
unsafe impl<T: Sync, V, O: Send> Sync for Job<'_, T, V, O> {}

impl<T: Element> Call<'_, T> {
    /// (m + 2)^2.
    fn points(&self) -> usize {
        (self.layer.m + 2) * (self.layer.m + 2)
    }

    fn lanes(&self) -> usize {
        self.layer.unit.isa().lanes()
    }

    /// Channels of a group's input and output.
    fn channels(&self) -> [usize; 2] {
        [self.layer.shape.in_channels / self.layer.groups, self.layer.shape.out_channels / self.layer.groups]
    }

    /// Vectors of the input channels of a group; each group begins with a vector of its own.
    fn vectors(&self) -> usize {
        self.channels()[0].div_ceil(self.lanes())
    }

    /// Panels of all groups.
    fn panels(&self) -> usize {
        self.layer.groups * self.channels()[1].div_ceil(panel_cols(self.layer.unit))
    }
}

impl<T: Element, V: Element, O: Element> Job<'_, T, V, O> {
    /// Values between the planes of V and M for so many tiles.
    fn planes(&self, tiles: usize) -> [usize; 2] {
        let vectors = self.call.layer.groups * self.call.vectors();
        [plane::<V>(vectors * tiles * self.call.lanes()), plane::<f32>(tiles * panel_cols(self.call.layer.unit))]
    }

    /// # Safety
    /// x, y and epilogue are valid for the sizes; nobody else writes y.
    unsafe fn run(&self, tiles: usize) {
        let points = self.call.points();
        let panels = self.call.panels();
        let depth = self.call.layer.groups * self.call.vectors() * self.call.lanes();
        let mr = V::tile_rows(self.call.layer.unit);
        let most = (V_BYTES / (points * depth * size_of::<V>())).clamp(3 * mr, 8 * mr);
        if tiles <= FEW && panels > 1 {
            let [v_plane, m_plane] = self.planes(tiles);
            // Neighbouring panels share what they read of V.
            let span = if panels >= 8 { 2 } else { 1 };
            let spans = panels.div_ceil(span);
            self.summing(1, tiles, |sums| {
                team(spans, |first, rest| {
                    let v_len = words::<V>(points * v_plane);
                    scratch(v_len + points * span * m_plane, |s| {
                        let (v, m) = s.split_at_mut(v_len);
                        let part = Part { block: 0, tiles: 0..tiles, sums };
                        // SAFETY: the caller's; each task has its own channels of y.
                        unsafe {
                            self.input(0..tiles, v.as_mut_ptr().cast());
                            for i in std::iter::once(first).chain(rest) {
                                let panels = panels * i / spans..panels * (i + 1) / spans;
                                self.panels_of(panels, v.as_ptr().cast(), &part, m.as_mut_ptr());
                            }
                        }
                    });
                });
            });
            return;
        }
        let blocks = blocks(tiles, most, mr);
        self.summing(blocks, tiles, |sums| {
            tasks(blocks, |block| {
                let part = Part { block, tiles: tiles * block / blocks..tiles * (block + 1) / blocks, sums };
                let [v_plane, m_plane] = self.planes(part.tiles.len());
                let v_len = words::<V>(points * v_plane);
                scratch(v_len + points * m_plane, |s| {
                    let (v, m) = s.split_at_mut(v_len);
                    // SAFETY: the caller's; each task has its own tiles of y, and its own V and M.
                    unsafe {
                        self.input(part.tiles.clone(), v.as_mut_ptr().cast());
                        for panel in 0..panels {
                            self.panels_of(panel..panel + 1, v.as_ptr().cast(), &part, m.as_mut_ptr());
                        }
                    }
                });
            });
        });
    }

    /// Runs `work`, with sums by `blocks` blocks of tiles where means are wanted.
    fn summing(&self, blocks: usize, tiles: usize, work: impl FnOnce(Option<Sums>)) {
        let Some(means) = self.means else { return work(None) };
        let [h, w] = self.call.out;
        let cols = self.call.layer.shape.out_channels;
        let extent = Extent { images: self.images, rows: h * w, units: tiles / self.images, cols };
        let tiles_of = |b| tiles * b / blocks..tiles * (b + 1) / blocks;
        // SAFETY: the caller of `run` answers for the means; blocks begin their sums and add all that they store.
        unsafe { with_means(self.call.layer.unit.isa(), means, extent, blocks, tiles_of, |sums| work(Some(sums))) }
    }

    /// V of some tiles.
    ///
    /// # Safety
    /// As `run`; `v` has room.
    unsafe fn input(&self, tiles: Range<usize>, v: *mut V) {
        let slots = tiles.len();
        self.call.layer.unit.run(Input { call: &self.call, tiles, v, slots, plane: self.planes(slots)[0] });
    }

    /// Panels of output channels for tiles, whose transformed inputs are all that `v` holds.
    ///
    /// # Safety
    /// As `run`; `m` has room for the products of each panel.
    unsafe fn panels_of(&self, panels: Range<usize>, v: *const V, part: &Part, m: *mut f32) {
        let kb = panel_cols(self.call.layer.unit);
        let [_, cols] = self.call.channels();
        let per_group = cols.div_ceil(kb);
        let tiles = part.tiles.len();
        let m_len = self.call.points() * self.planes(tiles)[1];
        let place = |panel: usize| {
            let (group, first) = (panel / per_group, panel % per_group * kb);
            (group, group * cols + first, (cols - first).min(kb), m.wrapping_add((panel - panels.start) * m_len))
        };
        for point in 0..self.call.points() {
            for panel in panels.clone() {
                let (group, _, width, m) = place(panel);
                // SAFETY: the caller's.
                unsafe { self.multiply(point, group, panel, width, v, tiles, m) };
            }
        }
        for panel in panels.clone() {
            let (_, col, width, m) = place(panel);
            // SAFETY: the caller's.
            unsafe { self.output(part, col, width, m) };
        }
    }

    /// M of one panel at one point.
    ///
    /// # Safety
    /// As `panels_of`.
    #[expect(clippy::too_many_arguments, reason = "one caller")]
    unsafe fn multiply(
        &self,
        point: usize,
        group: usize,
        panel: usize,
        width: usize,
        v: *const V,
        tiles: usize,
        m: *mut f32,
    ) {
        let unit = self.call.layer.unit;
        let (n, kb, vectors) = (self.call.lanes(), panel_cols(unit), self.call.vectors());
        let [v_plane, m_plane] = self.planes(tiles);
        let len = vectors * n * kb;
        let u = self.call.layer.u.as_ptr().cast::<V>().wrapping_add((panel * self.call.points() + point) * len);
        let blocks = tiles.div_ceil(V::tile_rows(unit));
        for block in 0..blocks {
            let (from, to) = (tiles * block / blocks, tiles * (block + 1) / blocks);
            // While this matrix of U is used the next comes to L2, two lines a step: the first two blocks take half
            // each, and a lone one takes both.
            let fetch = block < 2;
            let half = |half: usize| u.wrapping_add(if fetch { len + half * (len / 2) } else { 0 });
            let product = Product {
                v: v.wrapping_add(point * v_plane + (group * vectors * tiles + from) * n),
                v_step: tiles * n,
                u,
                vectors,
                m: m.wrapping_add(point * m_plane + from * kb),
                next: if blocks == 1 { [half(0), half(1)] } else { [half(block % 2); 2] },
                next_step: if fetch { 64 / size_of::<V>() } else { 0 },
            };
            // SAFETY: V, U and M have these places.
            unsafe { product::kernel(unit, to - from, if width <= n { 1 } else { 2 })(&product) };
        }
    }

    /// Transforms the products of tiles back to pixels of y, channels `col..col + width`, and ends with the epilogue.
    ///
    /// # Safety
    /// As `panels_of`; M was computed.
    unsafe fn output(&self, part: &Part, col: usize, width: usize, m: *const f32) {
        let tiles = &part.tiles;
        if let Some(sums) = &part.sums {
            // SAFETY: the caller's.
            unsafe { sums.begin(part.block, tiles, col, width) };
        }
        let [rows, cols] = self.call.grid;
        let [h, w] = self.call.out;
        let (size, plane) = (self.call.layer.m, self.planes(tiles.len())[1]);
        let (kb, first) = (panel_cols(self.call.layer.unit), tiles.start);
        let mut tile = tiles.start;
        while tile < tiles.end {
            // tiles side by side
            let count = (cols - tile % cols).min(tiles.end - tile);
            let (top, left) = (tile / cols % rows * size, tile % cols * size);
            let pixel = (tile / (rows * cols) * h + top) * w + left;
            let (height, pixels) = ((h - top).min(size), (w - left).min(count * size));
            let output = Output {
                call: &self.call,
                m: m.wrapping_add((tile - first) * kb),
                plane,
                count,
                pixel,
                height,
                pixels,
                col,
                width,
            };
            let y = self.y.at(pixel * self.y_stride + col);
            // SAFETY: these pixels and channels are this task's; scratch memory has room for them.
            unsafe {
                if !self.call.ending.more {
                    output.run(y, self.y_stride, w);
                } else if let Some(floats) = O::floats(y) {
                    output.run(floats, self.y_stride, w);
                    self.finish(&output, (floats, self.y_stride, w));
                } else {
                    scratch(height * pixels * kb, |wide| {
                        let wide = wide.as_mut_ptr();
                        output.run(wide, kb, pixels);
                        self.finish(&output, (wide, kb, pixels));
                    });
                }
                if let Some(sums) = &part.sums {
                    (0..height).for_each(|row| sums.add(self.call.layer.unit, part.block, &self.place(&output, row)));
                }
            }
            tile += count;
        }
    }
}

impl<T: Element, V: Element, O: Element> Job<'_, T, V, O> {
    /// A row of pixels of tiles.
    fn place(&self, tiles: &Output<T>, row: usize) -> Place<O> {
        let row = tiles.pixel + row * self.call.out[1];
        let y = self.y.at(row * self.y_stride + tiles.col);
        Place { y, stride: self.y_stride, row, rows: tiles.pixels, col: tiles.col, cols: tiles.width }
    }

    /// What of the epilogue transforms do not do, from sums with these strides of pixels, and pixels to a row.
    ///
    /// # Safety
    /// As `output`; the sums were computed.
    unsafe fn finish(&self, tiles: &Output<T>, (sums, stride, line): (*mut f32, usize, usize)) {
        let (all, per_image) = (self.call.layer.shape.out_channels, self.call.out[0] * self.call.out[1]);
        for row in 0..tiles.height {
            let sums = (sums.wrapping_add(row * line * stride), stride);
            let place = self.place(tiles, row);
            // SAFETY: the caller's.
            unsafe { self.call.ending.finish(self.call.layer.unit, self.call.epilogue, sums, &place, all, per_image) };
        }
    }
}

/// Tiles that are too few for blocks.
const FEW: usize = 48;

/// How many blocks of at most `most` tiles: an even number where tiles suffice.
fn blocks(tiles: usize, most: usize, mr: usize) -> usize {
    let blocks = tiles.div_ceil(most);
    let even = blocks.next_multiple_of(4);
    if tiles / even >= mr { even } else { blocks }
}
