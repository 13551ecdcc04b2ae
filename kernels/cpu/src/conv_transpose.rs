//! Transposed convolution.
//!
//! Formula   y[o] = sum over i, r with o + pad = i stride + r dilation of x[i] * w[r], along both axes
//! Kernel    output pixels of one phase ((o + pad) mod stride, along both axes) are a convolution of stride 1 with some of
//!           the taps in reverse; each phase is computed by register tiles (`direct.rs`) and then put in its place

use archc_base::Window;

use super::bf16::simd::Unit;
use super::direct::{Epilogue, Extra, Job, Patches, Source, panel_cols};
use super::movement::copy;
use super::par::{Aligned, Shared, scratch, tasks};
use super::simd::Isa;
use super::view::{Image, ImageMut};
use super::walk::Strided;

/// The parameters of a transposed convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTransposeShape {
    pub in_channels: usize,
    pub out_channels: usize,
    /// Of the convolution whose gradient this is: the padding is cut off.
    pub window: Window,
    /// What is added at the bottom and at the right.
    pub output_padding: [usize; 2],
    pub groups: usize,
}

impl ConvTransposeShape {
    /// Height and width of the output of an image of `h` x `w`; 0 where nothing is left.
    pub fn output(&self, [h, w]: [usize; 2]) -> [usize; 2] {
        let one = |size: usize, axis: usize| {
            if size == 0 {
                return 0;
            }
            let Window { stride, padding, .. } = self.window;
            let full = (size - 1) * stride[axis] + self.window.reach()[axis];
            (full + self.output_padding[axis]).saturating_sub(padding[axis] + padding[axis + 2])
        };
        [one(h, 0), one(w, 1)]
    }

    /// Floats of the weights, [in, out / groups, kernel].
    pub fn weight_len(&self) -> usize {
        self.in_channels * (self.out_channels / self.groups) * self.window.taps()
    }
}

/// The output positions of one axis with the same taps.
#[derive(Clone, Copy, Debug)]
struct Phase {
    /// The first output position; the others follow at the stride.
    first: usize,
    /// Taps `tap`, `tap + tap_step`, .., `taps` of them.
    tap: usize,
    tap_step: usize,
    taps: usize,
    /// Input position of the last tap at `first`, and how far the taps before it lie further on.
    start: isize,
    step: usize,
}

impl Phase {
    /// The phase `i` (below the stride) of one axis.
    fn new(i: usize, kernel: usize, stride: usize, dilation: usize, padding: usize) -> Self {
        let first = (i + stride - padding % stride) % stride;
        let mut taps = (0..kernel).filter(|r| r * dilation % stride == i);
        let tap = taps.next().unwrap_or(0);
        let tap_step = taps.next().map_or(1, |next| next - tap);
        let taps = (0..kernel).filter(|r| r * dilation % stride == i).count();
        let step = (tap_step * dilation / stride).max(1);
        let nearest = (first + padding) as isize / stride as isize - (tap * dilation / stride) as isize;
        let start = nearest - (taps.saturating_sub(1) * step) as isize;
        Phase { first, tap, tap_step, taps, start, step }
    }
}

/// The weights of a transposed convolution, by phases.
#[derive(Debug)]
pub struct PackedConvTranspose {
    unit: Unit,
    shape: ConvTransposeShape,
    zeros: Vec<f32>,
    phases: Vec<([Phase; 2], Aligned)>,
}

impl PackedConvTranspose {
    /// Packs weights [in, out / groups, kh, kw].
    pub fn pack(isa: Isa, shape: &ConvTransposeShape, weights: &[f32]) -> Self {
        let ConvTransposeShape { in_channels, out_channels, window, groups, .. } = *shape;
        let Window { kernel, stride, padding, dilation } = window;
        let positive = kernel.iter().chain(&stride).chain(&dilation).all(|&v| v > 0) && groups > 0;
        assert!(positive, "kernel, stride, dilation and groups are positive");
        assert!(
            in_channels.is_multiple_of(groups) && out_channels.is_multiple_of(groups),
            "groups divide the channels"
        );
        assert!(weights.len() >= shape.weight_len(), "too few weights");
        let (cg, kg) = (in_channels / groups, out_channels / groups);
        let unit = Unit::from(isa);
        let kb = panel_cols(unit);
        let panels = kg.div_ceil(kb);
        let mut phases = Vec::new();
        for py in 0..stride[0] {
            for px in 0..stride[1] {
                let y = Phase::new(py, kernel[0], stride[0], dilation[0], padding[0]);
                let x = Phase::new(px, kernel[1], stride[1], dilation[1], padding[1]);
                let taps = y.taps * x.taps;
                let len = taps * cg * kb;
                let mut packed = Aligned::zeros(groups * panels * len);
                let base = Shared(packed.as_mut_ptr());
                tasks(if len == 0 { 0 } else { groups * panels }, |task| {
                    // SAFETY: each task has its own panel.
                    let panel = unsafe { std::slice::from_raw_parts_mut(base.at(task * len), len) };
                    let (group, first) = (task / panels, task % panels * kb);
                    for (t, row) in panel.chunks_exact_mut(kb).enumerate() {
                        let (tap, c) = (t / cg, group * cg + t % cg);
                        // Reversed: the window goes forwards over the input.
                        let r = y.tap + (y.taps - 1 - tap / x.taps) * y.tap_step;
                        let s = x.tap + (x.taps - 1 - tap % x.taps) * x.tap_step;
                        for (j, out) in row.iter_mut().enumerate().take(kg - first) {
                            let k = first + j;
                            *out = weights[((c * kg + k) * kernel[0] + r) * kernel[1] + s];
                        }
                    }
                });
                phases.push(([y, x], packed));
            }
        }
        PackedConvTranspose { unit, shape: *shape, zeros: vec![0.0; cg], phases }
    }

    pub fn shape(&self) -> &ConvTransposeShape {
        &self.shape
    }

    /// Convolves `x` into `y`, whose size must be `shape().output(..)`. The epilogue may have a bias and activations, but
    /// neither residual nor gate.
    pub fn run(&self, x: Image, y: ImageMut, epilogue: &Epilogue) {
        let shape = &self.shape;
        x.check();
        y.check();
        assert!(x.c == shape.in_channels && y.c == shape.out_channels && x.n == y.n, "images of other channels");
        assert!([y.h, y.w] == shape.output([x.h, x.w]), "output of another size");
        assert!(epilogue.residual.is_none() && epilogue.gate.is_none(), "an epilogue that this kernel does not know");
        epilogue.check(y.pixels(), y.c, y.n);
        for ([py, px], weights) in &self.phases {
            let count = |size: usize, phase: &Phase, stride: usize| size.saturating_sub(phase.first).div_ceil(stride);
            let (h, w) = (count(y.h, py, shape.window.stride[0]), count(y.w, px, shape.window.stride[1]));
            let rows = y.n * h * w;
            if rows == 0 {
                continue;
            }
            scratch(rows * y.c, |out| {
                let job = Job {
                    unit: self.unit,
                    source: Source::Window(Patches {
                        x: x.data.as_ptr(),
                        h: x.h,
                        w: x.w,
                        pixel_stride: x.stride,
                        row_stride: x.w * x.stride,
                        out: [h, w],
                        kernel: [py.taps, px.taps],
                        stride: [1, 1],
                        dilation: [py.step, px.step],
                        padding: [-py.start, -px.start],
                        zeros: self.zeros.as_ptr(),
                    }),
                    groups: shape.groups,
                    rows,
                    images: y.n,
                    taps: py.taps * px.taps,
                    depth: shape.in_channels / shape.groups,
                    cols: shape.out_channels / shape.groups,
                    w: weights.as_ptr(),
                    y: Shared(out.as_mut_ptr()),
                    y_stride: y.c,
                    epilogue,
                    extra: Extra::default(),
                };
                // SAFETY: the views were checked against the shape, and the weights were packed for it.
                unsafe { job.run() };
                let from = [h * w * y.c, w * y.c, y.c, 1];
                let to = [
                    y.h * y.w * y.stride,
                    shape.window.stride[0] * y.w * y.stride,
                    shape.window.stride[1] * y.stride,
                    1,
                ];
                let start = (py.first * y.w + px.first) * y.stride;
                copy(&[y.n, h, w, y.c], Strided { data: out, strides: &from }, &mut y.data[start..], &to);
            });
        }
    }
}
