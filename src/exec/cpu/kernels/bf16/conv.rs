//! Convolution of bf16 images: the kernels of `../conv.rs` on values of half the size.
//!
//! Formula   y[n, p, q, k] = epilogue(sum over r, s, c of x[n, p stride + r dilation - pad, .., c] * w[k, c, r, s])
//! Kernels   direct over register tiles; images of few channels through a frame of zeros; depthwise. Groups narrower
//!           than a vector are merged, with zeros between channels that do not meet

use super::super::conv::ConvShape;
use super::super::depthwise::window;
use super::super::direct::Window;
use super::super::par::{Aligned, ranges, scratch, tasks};
use super::super::view::{Image, ImageMut};
use super::depthwise::Depthwise;
use super::direct::{Epilogue, Job, Shared, Source, panel_cols};
use super::simd::Unit;
use super::tile::Stored;
use half::bf16;

/// The weights of a convolution, rounded to bf16, in the order in which its kernel reads them. Those of a depthwise
/// convolution, which are few, stay float32.
#[derive(Debug)]
pub struct PackedConv {
    unit: Unit,
    shape: ConvShape,
    kernel: Kernel,
}

#[derive(Debug)]
enum Kernel {
    /// `groups` is that of the shape, or fewer where groups were merged.
    Direct {
        groups: usize,
        weights: Aligned,
        zeros: Vec<bf16>,
    },
    /// Taps of one window row together; the input is copied into a frame of zeros.
    Framed {
        weights: Aligned,
    },
    Depthwise(Depthwise),
}

impl PackedConv {
    /// Packs weights [out, in / groups, kh, kw]; `scale` multiplies each output channel before rounding.
    pub fn pack(unit: Unit, shape: &ConvShape, weights: &[f32], scale: Option<&[f32]>) -> Self {
        shape.check();
        assert!(weights.len() >= shape.weight_len(), "too few weights");
        assert!(scale.is_none_or(|s| s.len() >= shape.out_channels), "too few scales");
        let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
        let kernel = if shape.groups > 1 && cg == 1 && kg == 1 {
            Kernel::Depthwise(Depthwise::pack(unit, shape, weights, scale))
        } else if shape.groups == 1 && cg < 16 && shape.kernel[1] > 1 && shape.dilation[1] == 1 {
            // taps of one row are neighbours in the frame: one run of kw * c values
            let rows = Taps { taps: shape.kernel[0], inner: shape.kernel[1] };
            Kernel::Framed { weights: pack_panels(unit, shape, 1, rows, weights, scale) }
        } else {
            let mut merge = 1;
            while shape.groups.is_multiple_of(merge * 2) && kg * merge * 2 <= unit.isa().lanes() {
                merge *= 2;
            }
            let groups = shape.groups / merge;
            let each = Taps { taps: shape.kernel[0] * shape.kernel[1], inner: 1 };
            Kernel::Direct {
                groups,
                weights: pack_panels(unit, shape, merge, each, weights, scale),
                zeros: vec![bf16::ZERO; shape.in_channels / groups],
            }
        };
        PackedConv { unit, shape: *shape, kernel }
    }

    /// Which kernel was chosen: `direct bf16 14x32`, `depthwise bf16`.
    pub fn kernel(&self) -> String {
        match &self.kernel {
            Kernel::Direct { .. } => format!("direct bf16 {}", self.unit.tile()),
            Kernel::Framed { .. } => format!("framed bf16 {}", self.unit.tile()),
            Kernel::Depthwise(_) => "depthwise bf16".into(),
        }
    }

    /// Convolves `x` into `y`, whose size must be the shape's output for `x`.
    pub fn run<O: Stored>(&self, x: Image<bf16>, y: ImageMut<O>, epilogue: &Epilogue) {
        let shape = &self.shape;
        x.check();
        y.check();
        assert!(x.c == shape.in_channels && y.c == shape.out_channels && x.n == y.n, "images of other channels");
        assert!([y.h, y.w] == shape.output([x.h, x.w]), "output of another size");
        epilogue.check(y.pixels(), y.c, y.n);
        match &self.kernel {
            Kernel::Direct { groups, weights, zeros } => self.direct(*groups, weights, zeros, x, y, epilogue),
            Kernel::Framed { weights } => self.framed(weights, x, y, epilogue),
            Kernel::Depthwise(kernel) => kernel.run(x, y, epilogue),
        }
    }

    fn direct<O: Stored>(
        &self,
        groups: usize,
        w: &Aligned,
        zeros: &[bf16],
        x: Image<bf16>,
        y: ImageMut<O>,
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
            unit: self.unit,
            source,
            groups,
            rows: y.pixels(),
            images: y.n,
            taps: shape.kernel[0] * shape.kernel[1],
            depth: shape.in_channels / groups,
            cols: shape.out_channels / groups,
            w: w.as_ptr().cast(),
            y: Shared(y.data.as_mut_ptr()),
            y_dist: y.dist,
            epilogue,
        };
        // SAFETY: the views were checked against the shape, and the weights were packed for it.
        unsafe { job.run() };
    }

    fn framed<O: Stored>(&self, w: &Aligned, x: Image<bf16>, y: ImageMut<O>, epilogue: &Epilogue) {
        let shape = &self.shape;
        let [top, left, bottom, right] = shape.padding;
        let (fh, fw) = (x.h + top + bottom, x.w + left + right);
        let row = fw * x.c;
        scratch((x.n * fh * row).div_ceil(2), |frame| {
            let frame: &mut [bf16] = bytemuck::cast_slice_mut(frame);
            let base = Shared(frame.as_mut_ptr());
            ranges(x.n * fh, row, |rows| {
                for i in rows {
                    let (n, fy) = (i / fh, i % fh);
                    // SAFETY: row i of the frame belongs to this task.
                    let out = unsafe { std::slice::from_raw_parts_mut(base.at(i * row), row) };
                    if fy < top || fy >= top + x.h {
                        out.fill(bf16::ZERO);
                        continue;
                    }
                    let (before, rest) = out.split_at_mut(left * x.c);
                    let (inner, after) = rest.split_at_mut(x.w * x.c);
                    before.fill(bf16::ZERO);
                    after.fill(bf16::ZERO);
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
            let job = Job {
                unit: self.unit,
                source: Source::Window(Window {
                    x: frame.as_ptr(),
                    h: fh,
                    w: fw,
                    dist: x.c,
                    row_dist: row,
                    out: [y.h, y.w],
                    kernel: [shape.kernel[0], 1],
                    stride: shape.stride,
                    dilation: shape.dilation,
                    padding: [0, 0],
                    zeros: std::ptr::null(),
                }),
                groups: 1,
                rows: y.pixels(),
                images: y.n,
                taps: shape.kernel[0],
                depth: shape.kernel[1] * x.c,
                cols: shape.out_channels,
                w: w.as_ptr().cast(),
                y: Shared(y.data.as_mut_ptr()),
                y_dist: y.dist,
                epilogue,
            };
            // SAFETY: every window lies inside the frame, so the zeros are never asked for; the rest was checked.
            unsafe { job.run() };
        });
    }
}

/// How the positions of a window are dealt: `taps` runs of `inner` positions, whose channels follow one another.
#[derive(Clone, Copy)]
struct Taps {
    taps: usize,
    inner: usize,
}

/// `[groups][panels][taps][inner depth / 2, rounded up][panel columns][2]` of bf16, where `merge` groups of the shape
/// make one.
fn pack_panels(
    unit: Unit,
    shape: &ConvShape,
    merge: usize,
    Taps { taps, inner }: Taps,
    weights: &[f32],
    scale: Option<&[f32]>,
) -> Aligned {
    let kb = panel_cols(unit);
    let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    let (depth, cols, groups) = (cg * merge, kg * merge, shape.groups / merge);
    let panels = cols.div_ceil(kb);
    let pairs = (inner * depth).div_ceil(2);
    // in floats, each of which holds a pair
    let len = taps * pairs * kb;
    let mut out = Aligned::zeros(groups * panels * len);
    let base = super::super::par::Shared(out.as_mut_ptr());
    tasks(groups * panels, |task| {
        // SAFETY: each task has its own panel.
        let panel = unsafe { std::slice::from_raw_parts_mut(base.at(task * len), len) };
        let panel: &mut [bf16] = bytemuck::cast_slice_mut(panel);
        let (group, first) = (task / panels, task % panels * kb);
        // Some channels at a time: what is written stays in cache, and weights are read by several lines.
        const CHUNK: usize = 32;
        for c0 in (0..cg).step_by(CHUNK) {
            for j in 0..kb.min(cols - first) {
                let k = group * cols + first + j;
                let at = (first + j) / kg * cg;
                let scale = scale.map_or(1.0, |s| s[k]);
                for c in c0..(c0 + CHUNK).min(cg) {
                    for (tap, &w) in weights[(k * cg + c) * taps * inner..][..taps * inner].iter().enumerate() {
                        let term = tap % inner * depth + at + c;
                        panel[((tap / inner * pairs + term / 2) * kb + j) * 2 + term % 2] = bf16::from_f32(w * scale);
                    }
                }
            }
        }
    });
    out
}
