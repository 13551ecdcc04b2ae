//! Convolution of images.
//!
//! Formula   y[n, p, q, k] = epilogue(sum over r, s, c of x[n, p stride + r dilation - pad, .., c] * w[k, c, r, s])
//! Kernels   direct over register tiles (`direct.rs`); images of few channels through a frame of zeros, in which the
//!           taps of one window row are neighbours; depthwise by a kernel of its own; few channels a group by merging
//!           groups (weights with zeros) or by `grouped.rs`; windows of 3x3 also by `winograd.rs`, as [`Algorithm`] says

use super::depthwise::{Depthwise, window};
use super::direct::{Epilogue, Extra, Job, Source, Window, panel_cols};
use super::grouped::Grouped;
use super::means::Means;
use super::par::{Aligned, Shared, ranges, scratch, tasks};
use super::pool::{Pool, adaptive_pool};
use super::simd::Isa;
use super::view::{Image, ImageMut, RowsMut};
use super::winograd::{Algorithm, Winograd};

/// The parameters of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    pub in_channels: usize,
    pub out_channels: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// Top, left, bottom, right.
    pub padding: [usize; 4],
    pub dilation: [usize; 2],
    pub groups: usize,
}

impl ConvShape {
    /// A square kernel, stride 1, no padding.
    pub fn new(in_channels: usize, out_channels: usize, kernel: usize) -> Self {
        ConvShape {
            in_channels,
            out_channels,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [0; 4],
            dilation: [1; 2],
            groups: 1,
        }
    }

    /// Height and width of the output of an image of `h` x `w`; 0 where the window does not fit.
    pub fn output(&self, [h, w]: [usize; 2]) -> [usize; 2] {
        let one = |size: usize, pad: usize, axis: usize| {
            let window = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
            if size + pad < window { 0 } else { (size + pad - window) / self.stride[axis] + 1 }
        };
        [one(h, self.padding[0] + self.padding[2], 0), one(w, self.padding[1] + self.padding[3], 1)]
    }

    /// Floats of the weights, [out, in / groups, kernel].
    pub fn weight_len(&self) -> usize {
        self.out_channels * (self.in_channels / self.groups) * self.kernel[0] * self.kernel[1]
    }

    pub(super) fn check(&self) {
        let Self { kernel, stride, dilation, groups, .. } = *self;
        let positive = kernel.iter().chain(&stride).chain(&dilation).all(|&v| v > 0) && groups > 0;
        assert!(positive, "kernel, stride, dilation and groups are positive");
        assert!(
            self.in_channels.is_multiple_of(groups) && self.out_channels.is_multiple_of(groups),
            "groups divide the channels"
        );
    }
}

/// What a convolution reads and writes.
#[derive(Debug)]
pub struct ConvIo<'a> {
    pub x: Image<'a>,
    /// `[n, c]`, dense: factors of x's channels, for a pointwise convolution in one group.
    pub scale: Option<&'a [f32]>,
    pub y: Output<'a>,
}

/// What is wanted of a result.
#[derive(Debug)]
pub enum Output<'a> {
    Image(ImageMut<'a>),
    /// With the means of its channels over its pixels: a row for each image.
    Both(ImageMut<'a>, RowsMut<'a>),
    /// The means alone.
    Means(RowsMut<'a>),
}

/// The weights of a convolution, in the order in which its kernel reads them.
#[derive(Debug)]
pub struct PackedConv {
    isa: Isa,
    shape: ConvShape,
    kernel: Kernel,
}

/// Which kernel a convolution uses.
#[derive(Debug)]
enum Kernel {
    /// `groups` is that of the shape, or fewer where groups were merged.
    Direct {
        groups: usize,
        weights: Aligned,
        zeros: Vec<f32>,
    },
    /// Taps of one window row together; the input is copied into a frame of zeros.
    Framed {
        weights: Aligned,
    },
    Depthwise(Depthwise),
    Grouped(Grouped),
    Winograd(Winograd),
}

impl Kernel {
    /// Whether it takes the sums of what it stores.
    fn sums(&self) -> bool {
        !matches!(self, Kernel::Grouped(_))
    }

    /// Whether it need not store what it sums.
    fn keeps_nothing(&self) -> bool {
        matches!(self, Kernel::Direct { .. } | Kernel::Framed { .. })
    }
}

impl PackedConv {
    /// Packs weights [out, in / groups, kh, kw] for the direct kernels; `scale` multiplies each output channel (a batch
    /// norm that is folded in).
    pub fn pack(isa: Isa, shape: &ConvShape, weights: &[f32], scale: Option<&[f32]>) -> Self {
        Self::pack_for(isa, shape, Algorithm::Direct, weights, scale)
    }

    /// The same for an algorithm that [`choose`] has chosen.
    ///
    /// [`choose`]: super::choose
    pub fn pack_for(isa: Isa, shape: &ConvShape, algorithm: Algorithm, weights: &[f32], scale: Option<&[f32]>) -> Self {
        shape.check();
        assert!(weights.len() >= shape.weight_len(), "too few weights");
        assert!(scale.is_none_or(|s| s.len() >= shape.out_channels), "too few scales");
        let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
        let tile = match algorithm {
            Algorithm::Direct => None,
            Algorithm::Winograd2 => Some(2),
            Algorithm::Winograd4 => Some(4),
        };
        let kernel = if let Some(tile) = tile {
            Kernel::Winograd(Winograd::pack(isa, shape, tile, weights, scale))
        } else if shape.groups > 1 && cg == 1 && kg == 1 {
            Kernel::Depthwise(Depthwise::pack(isa, shape, weights, scale))
        } else if Grouped::suits(isa, shape) {
            Kernel::Grouped(Grouped::pack(isa, shape, weights, scale))
        } else if shape.groups == 1 && cg < 16 && shape.kernel[1] > 1 && shape.dilation[1] == 1 {
            Kernel::Framed { weights: pack_panels(isa, shape, 1, weights, scale) }
        } else {
            // Groups narrower than a vector are merged, so that no more lanes than needed are wasted.
            let mut merge = 1;
            while shape.groups.is_multiple_of(merge * 2) && kg * merge * 2 <= isa.lanes() {
                merge *= 2;
            }
            let groups = shape.groups / merge;
            Kernel::Direct {
                groups,
                weights: pack_panels(isa, shape, merge, weights, scale),
                zeros: vec![0.0; shape.in_channels / groups],
            }
        };
        PackedConv { isa, shape: *shape, kernel }
    }

    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Which kernel was chosen: `direct 14x32`, `depthwise`.
    pub fn kernel(&self) -> String {
        match &self.kernel {
            Kernel::Direct { .. } => format!("direct {}", self.isa.tile()),
            Kernel::Framed { .. } => format!("framed {}", self.isa.tile()),
            Kernel::Depthwise(_) => "depthwise".into(),
            Kernel::Grouped(_) => "grouped".into(),
            Kernel::Winograd(winograd) => format!("winograd f{}", winograd.m),
        }
    }

    /// Convolves `x` into `y`, whose size must be `shape().output(..)`.
    pub fn run(&self, x: Image, y: ImageMut, epilogue: &Epilogue) {
        self.run_io(ConvIo { x, scale: None, y: Output::Image(y) }, epilogue);
    }

    /// The same, with factors of what is read, and means of what is written.
    pub fn run_io(&self, io: ConvIo, epilogue: &Epilogue) {
        let shape = &self.shape;
        let ConvIo { x, scale, y } = io;
        x.check();
        let [h, w] = shape.output([x.h, x.w]);
        let (n, c) = (x.n, shape.out_channels);
        assert!(x.c == shape.in_channels, "images of other channels");
        epilogue.check(n * h * w, c, n);
        let pointwise = shape.kernel == [1, 1] && shape.stride == [1, 1] && shape.padding == [0; 4];
        if let Some(scale) = scale {
            assert!(pointwise && shape.groups == 1 && scale.len() >= n * x.c, "factors of other channels");
        }
        let means_of = |means: &mut RowsMut| {
            means.check();
            assert!(means.rows == n && means.cols == c && h * w > 0, "means of other images");
            Means { y: Shared(means.data.as_mut_ptr()), dist: means.dist }
        };
        let check = |y: &ImageMut| {
            y.check();
            assert!(y.c == c && y.n == n && [y.h, y.w] == [h, w], "output of another size");
        };
        match y {
            Output::Image(y) => {
                check(&y);
                self.compute(x, y, Extra { scale, ..Extra::default() }, epilogue);
            }
            Output::Both(y, mut means) => {
                check(&y);
                if self.kernel.sums() {
                    return self.compute(
                        x,
                        y,
                        Extra { scale, means: Some(means_of(&mut means)), ..Extra::default() },
                        epilogue,
                    );
                }
                means_of(&mut means);
                let ImageMut { data, n, h, w, c, dist } = y;
                self.compute(
                    x,
                    ImageMut { data: &mut *data, n, h, w, c, dist },
                    Extra { scale, ..Extra::default() },
                    epilogue,
                );
                self.mean(Image { data, n, h, w, c, dist }, means);
            }
            Output::Means(mut means) => {
                let to = means_of(&mut means);
                if self.kernel.keeps_nothing() {
                    let y = ImageMut { data: &mut [], n, h, w, c, dist: c };
                    return self.compute(x, y, Extra { scale, means: Some(to), only_means: true }, epilogue);
                }
                scratch(n * h * w * c, |data| {
                    self.compute(x, ImageMut::new(data, [n, h, w, c]), Extra { scale, ..Extra::default() }, epilogue);
                    self.mean(Image::new(data, [n, h, w, c]), means);
                });
            }
        }
    }

    /// What is left of a kernel that takes no sums itself.
    fn mean(&self, y: Image, means: RowsMut) {
        let RowsMut { data, rows, cols, dist } = means;
        let kind = Pool::Mean { count_include_pad: false };
        adaptive_pool(self.isa, kind, y, ImageMut { data, n: rows, h: 1, w: 1, c: cols, dist });
    }

    fn compute(&self, x: Image, y: ImageMut, extra: Extra, epilogue: &Epilogue) {
        match &self.kernel {
            Kernel::Direct { groups, weights, zeros } => self.direct(*groups, weights, zeros, x, y, extra, epilogue),
            Kernel::Framed { weights } => self.framed(weights, x, y, extra, epilogue),
            Kernel::Depthwise(kernel) => kernel.run(x, y, extra.means, epilogue),
            Kernel::Grouped(kernel) => kernel.run(x, y, epilogue),
            Kernel::Winograd(kernel) => kernel.run(x, y, extra.means, epilogue),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a kernel, and of a call")]
    fn direct(
        &self,
        groups: usize,
        w: &Aligned,
        zeros: &[f32],
        x: Image,
        y: ImageMut,
        extra: Extra,
        epilogue: &Epilogue,
    ) {
        let shape = &self.shape;
        let plain = shape.kernel == [1, 1] && shape.stride == [1, 1] && shape.padding == [0; 4];
        let source = if plain {
            Source::Rows { x: x.data.as_ptr(), dist: x.dist }
        } else {
            Source::Window(window(shape, &x, [y.h, y.w], zeros))
        };
        let job = Job {
            isa: self.isa,
            source,
            groups,
            rows: y.pixels(),
            images: y.n,
            taps: shape.kernel[0] * shape.kernel[1],
            depth: shape.in_channels / groups,
            cols: shape.out_channels / groups,
            w: w.as_ptr(),
            y: Shared(y.data.as_mut_ptr()),
            y_dist: y.dist,
            epilogue,
            extra,
        };
        // SAFETY: the views were checked against the shape, and the weights were packed for it.
        unsafe { job.run() };
    }

    fn framed(&self, w: &Aligned, x: Image, y: ImageMut, extra: Extra, epilogue: &Epilogue) {
        let (rows, images) = (y.pixels(), y.n);
        let (y, y_dist) = (Shared(y.data.as_mut_ptr()), y.dist);
        self.with_frame(x, |source| {
            let job = self.framed_job(w, source, [rows, images], (y, y_dist), extra, epilogue);
            // SAFETY: every window lies inside the frame, so the zeros are never asked for; the rest was checked.
            unsafe { job.run() };
        });
    }

    /// The work of a framed kernel on the windows that [`PackedConv::with_frame`] made.
    fn framed_job<'a>(
        &self,
        w: &'a Aligned,
        source: Source,
        [rows, images]: [usize; 2],
        (y, y_dist): (Shared, usize),
        extra: Extra<'a>,
        epilogue: &'a Epilogue<'a>,
    ) -> Job<'a> {
        let shape = &self.shape;
        Job {
            isa: self.isa,
            source,
            groups: 1,
            rows,
            images,
            taps: shape.kernel[0],
            depth: shape.kernel[1] * shape.in_channels,
            cols: shape.out_channels,
            w: w.as_ptr(),
            y,
            y_dist,
            epilogue,
            extra,
        }
    }

    /// The work of this convolution, if its kernel is the framed one.
    pub(super) fn frame_weights(&self) -> Option<&Aligned> {
        match &self.kernel {
            Kernel::Framed { weights } => Some(weights),
            _ => None,
        }
    }

    /// Rows of the result of a framed kernel from `first` on, pixel `p` (counted over all images) at `y.at(p * y_dist)`.
    ///
    /// # Safety
    /// `source` is that of a frame, the rows are below those of all `images`, and these places of y are valid and nobody
    /// else's.
    pub(super) unsafe fn framed_rows(
        &self,
        source: Source,
        images: usize,
        pixels: std::ops::Range<usize>,
        y: (Shared, usize),
        epilogue: &Epilogue,
    ) {
        let weights = self.frame_weights().expect("the caller has asked for it");
        let Source::Window(Window { out: [h, w], .. }) = &source else { unreachable!("frames have windows") };
        let rows = images * h * w;
        let job = self.framed_job(weights, source, [rows, images], y, Extra::default(), epilogue);
        // SAFETY: the caller's.
        unsafe { job.rows_here(pixels) };
    }

    /// Copies `x` into a frame of zeros, and calls `f` with its windows.
    pub(super) fn with_frame(&self, x: Image, f: impl FnOnce(Source)) {
        let shape = &self.shape;
        let [top, left, bottom, right] = shape.padding;
        let (fh, fw) = (x.h + top + bottom, x.w + left + right);
        let row = fw * x.c;
        scratch(x.n * fh * row, |frame| {
            let base = Shared(frame.as_mut_ptr());
            ranges(x.n * fh, row, |rows| {
                for i in rows {
                    let (n, fy) = (i / fh, i % fh);
                    // SAFETY: row i of the frame belongs to this task.
                    let out = unsafe { std::slice::from_raw_parts_mut(base.at(i * row), row) };
                    if fy < top || fy >= top + x.h {
                        out.fill(0.0);
                        continue;
                    }
                    let (before, rest) = out.split_at_mut(left * x.c);
                    let (inner, after) = rest.split_at_mut(x.w * x.c);
                    before.fill(0.0);
                    after.fill(0.0);
                    let first = (n * x.h + fy - top) * x.w;
                    if x.dist == x.c {
                        inner.copy_from_slice(&x.data[first * x.c..][..x.w * x.c]);
                    } else {
                        for (px, out) in inner.chunks_exact_mut(x.c).enumerate() {
                            out.copy_from_slice(&x.data[(first + px) * x.dist..][..x.c]);
                        }
                    }
                }
            });
            f(Source::Window(Window {
                x: frame.as_ptr(),
                h: fh,
                w: fw,
                dist: x.c,
                row_dist: row,
                out: shape.output([x.h, x.w]),
                kernel: [shape.kernel[0], 1],
                stride: shape.stride,
                dilation: shape.dilation,
                padding: [0, 0],
                zeros: std::ptr::null(),
            }));
        });
    }
}

/// `[groups][panels][kh kw][depth][panel columns]`, where `merge` groups of the shape make one, with zeros between
/// channels that do not meet.
pub(super) fn pack_panels(
    isa: Isa,
    shape: &ConvShape,
    merge: usize,
    weights: &[f32],
    scale: Option<&[f32]>,
) -> Aligned {
    let kb = panel_cols(isa);
    let taps = shape.kernel[0] * shape.kernel[1];
    let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    let (depth, cols, groups) = (cg * merge, kg * merge, shape.groups / merge);
    let panels = cols.div_ceil(kb);
    let len = taps * depth * kb;
    let mut out = Aligned::padded(groups * panels * len, merge > 1 || !cols.is_multiple_of(kb));
    let base = Shared(out.as_mut_ptr());
    tasks(groups * panels, |task| {
        // SAFETY: each task has its own panel.
        let panel = unsafe { std::slice::from_raw_parts_mut(base.at(task * len), len) };
        let (group, first) = (task / panels, task % panels * kb);
        // Some channels at a time: what is written stays in cache, and weights are read by several lines.
        const CHUNK: usize = 32;
        for c0 in (0..cg).step_by(CHUNK) {
            for j in 0..kb.min(cols - first) {
                let k = group * cols + first + j;
                let at = (first + j) / kg * cg;
                let scale = scale.map_or(1.0, |s| s[k]);
                for c in c0..(c0 + CHUNK).min(cg) {
                    for (tap, &w) in weights[(k * cg + c) * taps..][..taps].iter().enumerate() {
                        panel[(tap * depth + at + c) * kb + j] = w * scale;
                    }
                }
            }
        }
    });
    out
}
