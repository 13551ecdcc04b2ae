//! Convolution of images.
//!
//! Formula   y[n, p, q, k] = epilogue(sum over r, s, c of x[n, p stride + r dilation - pad, .., c] * w[k, c, r, s])
//! Kernels   direct over register tiles (`direct.rs`); float32 images of few channels by `stem.rs`, in whatever order they
//!           lie; depthwise by a kernel of its own; few channels a group by merging groups (weights with zeros) or by
//!           `grouped.rs`; windows of 3x3 also by `winograd.rs`, as [`Algorithm`] says

use archc_base::{Pool, Window};

use super::bf16::simd::Unit;
use super::depthwise::{Depthwise, window};
use super::direct::{Epilogue, Extra, Job, Source, panel_cols};
use super::element::{Element, scratch_of};
use super::formats::Convolved;
use super::grouped::Grouped;
use super::means::Means;
use super::par::{Aligned, Shared, tasks};
use super::pool::adaptive_pool_of;
use super::prefetch::{Prefetch, room};
use super::stem::{self, Planes};
use super::view::{Image, ImageMut, RowsMut};
use super::winograd::{Algorithm, Winograd};

/// The parameters of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    pub in_channels: usize,
    pub out_channels: usize,
    pub window: Window,
    pub groups: usize,
}

impl ConvShape {
    /// A square kernel, stride 1, no padding.
    pub fn new(in_channels: usize, out_channels: usize, kernel: usize) -> Self {
        ConvShape { in_channels, out_channels, window: Window::square(kernel), groups: 1 }
    }

    /// Floats of the weights, [out, in / groups, kernel].
    pub fn weight_len(&self) -> usize {
        self.out_channels * (self.in_channels / self.groups) * self.window.taps()
    }

    pub(super) fn check(&self) {
        assert!(self.window.is_valid() && self.groups > 0, "kernel, stride, dilation and groups are positive");
        assert!(
            self.in_channels.is_multiple_of(self.groups) && self.out_channels.is_multiple_of(self.groups),
            "groups divide the channels"
        );
    }
}

/// What a convolution reads and writes.
#[derive(Debug)]
pub struct ConvIo<'a, T = f32, O = T> {
    pub x: Input<'a, T>,
    /// `[n, c]`, dense: factors of x's channels, for a pointwise convolution in one group.
    pub scale: Option<&'a [f32]>,
    pub y: Output<'a, O>,
}

/// Images to be read.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a, T = f32> {
    Image(Image<'a, T>),
    /// In any order of axes: for a convolution that [reads planes](PackedConv::reads_planes).
    Planes(Planes<'a, T>),
}

impl<'a, T: Copy> Input<'a, T> {
    /// `[n, c, h, w]`
    pub(super) fn dims(&self) -> [usize; 4] {
        match self {
            Input::Image(x) => [x.n, x.c, x.h, x.w],
            Input::Planes(x) => x.dims,
        }
    }

    /// The planes, checked.
    pub(super) fn planes(&self) -> Planes<'a, T> {
        let planes = match *self {
            Input::Image(Image { data, n, h, w, c, stride }) => {
                Planes { data, dims: [n, c, h, w], strides: [h * w * stride, 1, w * stride, stride] }
            }
            Input::Planes(planes) => planes,
        };
        planes.check();
        planes
    }

    fn image(&self) -> Image<'a, T> {
        let Input::Image(x) = self else { unreachable!("the kernel reads planes") };
        *x
    }
}

/// What is wanted of a result.
#[derive(Debug)]
pub enum Output<'a, O = f32> {
    Image(ImageMut<'a, O>),
    /// With the means of its channels over its pixels: a row for each image.
    Both(ImageMut<'a, O>, RowsMut<'a>),
    /// The means alone.
    Means(RowsMut<'a>),
}

/// The weights of a convolution of images of `T`, in the order in which its kernel reads them: rounded to `T`, but for
/// those of depthwise and grouped convolutions, which are few, and of Winograd's algorithm with large tiles.
#[derive(Debug)]
pub struct PackedConv<T = f32> {
    unit: Unit,
    shape: ConvShape,
    kernel: Kernel<T>,
}

/// Which kernel a convolution uses.
#[derive(Debug)]
enum Kernel<T> {
    /// `groups` is that of the shape, or fewer where groups were merged.
    Direct {
        groups: usize,
        weights: Aligned,
        zeros: Vec<T>,
    },
    /// Of few channels.
    Stem {
        weights: Aligned,
    },
    Depthwise(Depthwise<T>),
    Grouped(Grouped<T>),
    Winograd(Winograd<T>),
}

impl<T> Kernel<T> {
    /// Whether it takes the sums of what it stores.
    fn sums(&self) -> bool {
        !matches!(self, Kernel::Grouped(_))
    }

    /// Whether it need not store what it sums.
    fn keeps_nothing(&self) -> bool {
        matches!(self, Kernel::Direct { .. } | Kernel::Stem { .. })
    }
}

impl<T: Element> PackedConv<T> {
    /// Packs weights [out, in / groups, kh, kw] for the direct kernels.
    pub fn pack(unit: impl Into<Unit>, shape: &ConvShape, weights: &[f32]) -> Self {
        Self::pack_for(unit, shape, Algorithm::Direct, weights)
    }

    /// The same for an algorithm that [`choose`] has chosen.
    ///
    /// [`choose`]: super::choose
    pub fn pack_for(unit: impl Into<Unit>, shape: &ConvShape, algorithm: Algorithm, weights: &[f32]) -> Self {
        T::pack_conv(unit.into(), shape, algorithm, weights)
    }

    pub(super) fn packed(unit: Unit, shape: &ConvShape, algorithm: Algorithm, weights: &[f32]) -> Self {
        shape.check();
        assert!(weights.len() >= shape.weight_len(), "too few weights");
        let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
        let tile = match algorithm {
            Algorithm::Direct => None,
            Algorithm::Winograd2 => Some(2),
            Algorithm::Winograd4 => Some(4),
        };
        let kernel = if let Some(tile) = tile {
            Kernel::Winograd(Winograd::pack(unit, shape, tile, weights))
        } else if shape.groups > 1 && cg == 1 && kg == 1 {
            Kernel::Depthwise(Depthwise::pack(unit, shape, weights))
        } else if Grouped::<T>::suits(unit.isa(), shape) {
            Kernel::Grouped(Grouped::pack(unit, shape, weights))
        } else if stem::suits::<T>(shape) {
            Kernel::Stem { weights: pack_panels::<T>(unit, shape, 1, weights) }
        } else {
            // Groups narrower than a vector are merged, so that no more lanes than needed are wasted.
            let mut merge = 1;
            while shape.groups.is_multiple_of(merge * 2) && kg * merge * 2 <= unit.isa().lanes() {
                merge *= 2;
            }
            let groups = shape.groups / merge;
            Kernel::Direct {
                groups,
                weights: pack_panels::<T>(unit, shape, merge, weights),
                zeros: vec![T::ZERO; shape.in_channels / groups],
            }
        };
        PackedConv { unit, shape: *shape, kernel }
    }

    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Which kernel was chosen: `direct 14x32`, `depthwise`, `winograd f4 bf16`.
    pub fn kernel(&self) -> String {
        let tile = || format!("{}x{}", T::tile_rows(self.unit), panel_cols(self.unit));
        match &self.kernel {
            Kernel::Direct { .. } => format!("direct{} {}", T::LABEL, tile()),
            Kernel::Stem { .. } => format!("stem{} {}", T::LABEL, tile()),
            Kernel::Depthwise(_) => format!("depthwise{}", T::LABEL),
            Kernel::Grouped(_) => format!("grouped{}", T::LABEL),
            Kernel::Winograd(winograd) => winograd.kernel(),
        }
    }

    /// The weights, if to read them is most of the work for so many pixels: for [`prefetch`](super::prefetch).
    pub fn streamed(&self, pixels: usize) -> Option<&[f32]> {
        let Kernel::Direct { weights, .. } = &self.kernel else { return None };
        (pixels < T::tile_rows(self.unit)).then_some(weights)
    }

    /// Floats of other weights that it can fetch while it computes so many pixels.
    pub fn room(&self, pixels: usize) -> usize {
        let Kernel::Direct { groups, .. } = &self.kernel else { return 0 };
        let (shape, panel) = (&self.shape, panel_cols(self.unit));
        let panels = groups * (shape.out_channels / groups).div_ceil(panel);
        let terms = shape.window.kernel[0] * shape.window.kernel[1] * (shape.in_channels / groups).div_ceil(T::TERMS);
        room(T::tile_rows(self.unit), pixels, panels, terms)
    }

    /// Convolves `x` into `y`, whose size must be `shape().window.output(..)`.
    pub fn run<O: Convolved<T>>(&self, x: Image<T>, y: ImageMut<O>, epilogue: &Epilogue<T>) {
        self.run_io(ConvIo { x: Input::Image(x), scale: None, y: Output::Image(y) }, epilogue);
    }

    /// Whether its images may lie in any order of axes.
    pub fn reads_planes(&self) -> bool {
        matches!(self.kernel, Kernel::Stem { .. })
    }

    /// The same, with factors of what is read, and means of what is written.
    pub fn run_io<O: Convolved<T>>(&self, io: ConvIo<T, O>, epilogue: &Epilogue<T>) {
        O::conv(self, io, epilogue);
    }

    /// [`PackedConv::run_io`], of images of few channels alone unless `ALL`.
    pub(super) fn convolve<O: Element, const ALL: bool>(&self, io: ConvIo<T, O>, epilogue: &Epilogue<T>) {
        let shape = &self.shape;
        let ConvIo { x, scale, y } = io;
        let [n, in_channels, h, w] = x.dims();
        let [h, w] = shape.window.output([h, w]);
        let c = shape.out_channels;
        assert!(in_channels == shape.in_channels, "images of other channels");
        epilogue.check(n * h * w, c, n);
        let pointwise =
            shape.window.kernel == [1, 1] && shape.window.stride == [1, 1] && shape.window.padding == [0; 4];
        if let Some(scale) = scale {
            assert!(pointwise && shape.groups == 1 && scale.len() >= n * in_channels, "factors of other channels");
        }
        let means_of = |means: &mut RowsMut| {
            means.check();
            assert!(means.rows == n && means.cols == c && h * w > 0, "means of other images");
            Means { y: Shared(means.data.as_mut_ptr()), stride: means.stride }
        };
        let check = |y: &ImageMut<O>| {
            y.check();
            assert!(y.c == c && y.n == n && [y.h, y.w] == [h, w], "output of another size");
        };
        match y {
            Output::Image(y) => {
                check(&y);
                self.compute::<O, ALL>(x, y, Extra { scale, ..Extra::default() }, epilogue);
            }
            Output::Both(y, mut means) => {
                check(&y);
                if self.kernel.sums() {
                    return self.compute::<O, ALL>(
                        x,
                        y,
                        Extra { scale, means: Some(means_of(&mut means)), ..Extra::default() },
                        epilogue,
                    );
                }
                means_of(&mut means);
                let ImageMut { data, n, h, w, c, stride } = y;
                self.compute::<O, ALL>(
                    x,
                    ImageMut { data: &mut *data, n, h, w, c, stride },
                    Extra { scale, ..Extra::default() },
                    epilogue,
                );
                self.mean(Image { data, n, h, w, c, stride }, means);
            }
            Output::Means(mut means) => {
                let to = means_of(&mut means);
                if self.kernel.keeps_nothing() {
                    let y = ImageMut::<O> { data: &mut [], n, h, w, c, stride: c };
                    let extra = Extra { scale, means: Some(to), only_means: true, ..Extra::default() };
                    return self.compute::<O, ALL>(x, y, extra, epilogue);
                }
                scratch_of(n * h * w * c, |data: &mut [O]| {
                    self.compute::<O, ALL>(
                        x,
                        ImageMut::new(data, [n, h, w, c]),
                        Extra { scale, ..Extra::default() },
                        epilogue,
                    );
                    self.mean(Image::new(data, [n, h, w, c]), means);
                });
            }
        }
    }

    /// What is left of a kernel that takes no sums itself.
    fn mean<O: Element>(&self, y: Image<O>, means: RowsMut) {
        let RowsMut { data, rows, cols, stride } = means;
        adaptive_pool_of(self.unit, Pool::MEAN, y, ImageMut { data, n: rows, h: 1, w: 1, c: cols, stride });
    }

    fn compute<O: Element, const ALL: bool>(&self, x: Input<T>, y: ImageMut<O>, extra: Extra, epilogue: &Epilogue<T>) {
        // both conditions are constants, so that kernels that cannot be meant are not compiled
        if T::HAS_STEM
            && let Kernel::Stem { weights } = &self.kernel
        {
            return self.stem(weights, x.planes(), y, extra, epilogue);
        }
        if !ALL {
            unreachable!("only images of few channels change their format");
        }
        let x = x.image();
        x.check();
        match &self.kernel {
            Kernel::Direct { groups, weights, zeros } => self.direct(*groups, weights, zeros, x, y, extra, epilogue),
            Kernel::Stem { .. } => unreachable!("has been run"),
            Kernel::Depthwise(kernel) => kernel.run(x, y, extra.means, epilogue),
            Kernel::Grouped(kernel) => kernel.run(x, y, epilogue),
            Kernel::Winograd(kernel) => kernel.run(x, y, extra.means, epilogue),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a kernel, and of a call")]
    fn direct<O: Element>(
        &self,
        groups: usize,
        w: &Aligned,
        zeros: &[T],
        x: Image<T>,
        y: ImageMut<O>,
        extra: Extra,
        epilogue: &Epilogue<T>,
    ) {
        let shape = &self.shape;
        let plain = shape.window.kernel == [1, 1] && shape.window.stride == [1, 1] && shape.window.padding == [0; 4];
        let source = if plain {
            Source::Rows { x: x.data.as_ptr(), stride: x.stride }
        } else {
            Source::Window(window(shape, &x, [y.h, y.w], zeros))
        };
        let prefetch = Prefetch::asked();
        let job = Job {
            unit: self.unit,
            source,
            groups,
            rows: y.pixels(),
            images: y.n,
            taps: shape.window.kernel[0] * shape.window.kernel[1],
            depth: shape.in_channels / groups,
            cols: shape.out_channels / groups,
            w: w.as_ptr().cast(),
            y: Shared(y.data.as_mut_ptr()),
            y_stride: y.stride,
            epilogue,
            extra: Extra { prefetch: Some(&prefetch), ..extra },
        };
        // SAFETY: the views were checked against the shape, and the weights were packed for it.
        unsafe { job.run() };
    }

    fn stem<O: Element>(&self, w: &Aligned, x: Planes<T>, y: ImageMut<O>, extra: Extra, epilogue: &Epilogue<T>) {
        let source = Source::Windows(stem::Windows::new(self.unit, &self.shape, &x));
        let (rows, images) = (y.pixels(), y.n);
        let job = self.stem_job(w, source, [rows, images], (Shared(y.data.as_mut_ptr()), y.stride), extra, epilogue);
        // SAFETY: the views were checked against the shape, and the weights were packed for it.
        unsafe { job.run() };
    }

    fn stem_job<'a, O>(
        &self,
        w: &'a Aligned,
        source: Source<T>,
        [rows, images]: [usize; 2],
        (y, y_stride): (Shared<O>, usize),
        extra: Extra<'a>,
        epilogue: &'a Epilogue<'a, T>,
    ) -> Job<'a, T, O> {
        let shape = &self.shape;
        Job {
            unit: self.unit,
            source,
            groups: 1,
            rows,
            images,
            taps: shape.window.kernel[0] * shape.window.kernel[1],
            depth: shape.in_channels,
            cols: shape.out_channels,
            w: w.as_ptr().cast(),
            y,
            y_stride,
            epilogue,
            extra,
        }
    }

    /// Some pixels of the result for few channels, pixel `p` (counted over all images) at `y.at(p * y_stride)`, on this
    /// thread alone.
    ///
    /// # Safety
    /// The pixels are of the output rows of `frame`, and below those of all `images`; their places in y are valid and
    /// nobody else's.
    pub(super) unsafe fn stem_rows<O: Element>(
        &self,
        frame: stem::Frame<T>,
        images: [usize; 2],
        pixels: std::ops::Range<usize>,
        y: (Shared<O>, usize),
        epilogue: &Epilogue<T>,
    ) {
        let Kernel::Stem { weights } = &self.kernel else { unreachable!("the caller has frames") };
        let job = self.stem_job(weights, Source::Frame(frame), images, y, Extra::default(), epilogue);
        // SAFETY: the caller's.
        unsafe { job.rows_here(pixels) };
    }
}

/// `[groups][panels][taps][terms][panel columns]` of `T`, where `merge` groups of the shape make one, with zeros between
/// channels that do not meet.
pub(super) fn pack_panels<T: Element>(unit: Unit, shape: &ConvShape, merge: usize, weights: &[f32]) -> Aligned {
    let kb = panel_cols(unit);
    let taps = shape.window.kernel[0] * shape.window.kernel[1];
    let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    let (depth, cols, groups) = (cg * merge, kg * merge, shape.groups / merge);
    let panels = cols.div_ceil(kb);
    let terms = depth.div_ceil(T::TERMS);
    // in floats, which hold one term
    let len = taps * terms * kb;
    let padded = merge > 1 || !cols.is_multiple_of(kb) || !depth.is_multiple_of(T::TERMS);
    let mut out = Aligned::padded(groups * panels * len, padded);
    let base = Shared(out.as_mut_ptr());
    tasks(groups * panels, |task| {
        // SAFETY: each task has its own panel.
        let panel = unsafe { std::slice::from_raw_parts_mut(base.at(task * len), len) };
        let panel: &mut [T] = bytemuck::cast_slice_mut(panel);
        let (group, first) = (task / panels, task % panels * kb);
        // Some channels at a time: what is written stays in cache, and weights are read by several lines.
        const CHUNK: usize = 32;
        for c0 in (0..cg).step_by(CHUNK) {
            for j in 0..kb.min(cols - first) {
                let k = group * cols + first + j;
                let at = (first + j) / kg * cg;
                for c in c0..(c0 + CHUNK).min(cg) {
                    let value = at + c;
                    for (tap, &w) in weights[(k * cg + c) * taps..][..taps].iter().enumerate() {
                        let term = (tap * terms + value / T::TERMS) * kb + j;
                        panel[term * T::TERMS + value % T::TERMS] = T::down(w);
                    }
                }
            }
        }
    });
    out
}
