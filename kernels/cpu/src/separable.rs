//! A depthwise convolution and the pointwise one after it, as one.
//!
//! Formula   y = epilogue(sum over c of act(depthwise(x) + bias)[c] * w[k, c])
//! Tasks     blocks of output pixels: their depthwise values go to scratch memory that stays in L2, and are multiplied at
//!           once; nothing is computed twice, as only the input overlaps. The sums are those of both kernels alone, to
//!           the bit
//! Roofline  that of the two, without the hidden image's way to memory and back, which is most of it for large batches

use archc_base::Act;

use super::bf16::simd::Unit;
use super::conv::{ConvShape, pack_panels};
use super::depthwise::Depthwise;
use super::direct::{Ending, Epilogue, Extra, Job, Source, panel_cols};
use super::par::{Aligned, Shared, scratch, tasks};
use super::prefetch::{Prefetch, room};
use super::view::{Image, ImageMut, Rows, pixel_stride};

/// The weights of both.
#[derive(Debug)]
pub struct PackedSeparable {
    unit: Unit,
    /// Of the depthwise convolution.
    shape: ConvShape,
    depthwise: Depthwise<f32>,
    bias: Option<Vec<f32>>,
    act: Act,
    pointwise: Aligned,
    out_channels: usize,
}

/// Floats of the hidden image that a task keeps, at most.
const HIDDEN: usize = 48 << 10;

impl PackedSeparable {
    /// `depthwise` has the weights [channels, 1, kh, kw] of `shape`, `pointwise` [out, channels].
    pub fn pack(
        unit: impl Into<Unit>,
        shape: &ConvShape,
        depthwise: &[f32],
        bias: Option<Vec<f32>>,
        act: Act,
        out_channels: usize,
        pointwise: &[f32],
    ) -> Self {
        let unit = unit.into();
        shape.check();
        let channels = shape.out_channels;
        assert!(shape.groups == channels && shape.in_channels == channels, "not a depthwise convolution");
        assert!(bias.as_ref().is_none_or(|bias| bias.len() >= channels), "too few values of bias");
        let flat = ConvShape::new(channels, out_channels, 1);
        for (weights, shape) in [(depthwise, shape), (pointwise, &flat)] {
            assert!(weights.len() >= shape.weight_len(), "too few weights");
        }
        PackedSeparable {
            unit,
            shape: *shape,
            depthwise: Depthwise::pack(unit, shape, depthwise),
            bias,
            act,
            pointwise: pack_panels::<f32>(unit, &flat, 1, pointwise),
            out_channels,
        }
    }

    /// Floats of other weights that it can fetch while it computes so many pixels.
    pub fn room(&self, pixels: usize) -> usize {
        let panels = self.out_channels.div_ceil(panel_cols(self.unit));
        room(self.unit.isa().tile_rows(), pixels, panels, self.shape.out_channels)
    }

    pub fn run(&self, x: Image, y: ImageMut, epilogue: &Epilogue) {
        let channels = self.shape.out_channels;
        x.check();
        y.check();
        assert!(x.c == channels && y.c == self.out_channels && x.n == y.n, "images of other channels");
        assert!([y.h, y.w] == self.shape.window.output([x.h, x.w]), "output of another size");
        assert!(epilogue.gate.is_none(), "an epilogue that this kernel does not know");
        epilogue.check(y.pixels(), y.c, y.n);
        let hidden = Epilogue::new(self.bias.as_deref(), self.act);
        let ending = Ending::of_swish(&hidden);
        let call = self.depthwise.call(&x, [y.h, y.w], &hidden, &ending);
        let tiles = call.tiles();
        if tiles == 0 {
            return;
        }
        let stride = pixel_stride(channels);
        let (out, y_stride, pixels) = (Shared(y.data.as_mut_ptr()), y.stride, y.pixels());
        // So many that two threads and more are even, as long as each has some tiles of the product.
        let most = (HIDDEN / stride).max(28).min((pixels / 16).max(28));
        let blocks = pixels.div_ceil(most).min(tiles);
        let prefetch = Prefetch::asked();
        tasks(blocks, |block| {
            let tiles = tiles * block / blocks..tiles * (block + 1) / blocks;
            let range = call.pixels(&tiles);
            scratch(range.len() * stride, |hidden| {
                let first = hidden.as_mut_ptr().wrapping_sub(range.start * stride);
                // SAFETY: the views were checked; the scratch memory holds these pixels.
                unsafe { call.run(tiles, 0..call.chunks(), Shared(first), stride, None) };
                let residual = epilogue.residual.map(|residual| {
                    let data = &residual.data[range.start * residual.stride..];
                    Rows { data, rows: range.len(), ..residual }
                });
                let job = Job {
                    unit: self.unit,
                    source: Source::Rows { x: hidden.as_ptr(), stride },
                    groups: 1,
                    rows: range.len(),
                    images: 1,
                    taps: 1,
                    depth: channels,
                    cols: self.out_channels,
                    w: self.pointwise.as_ptr(),
                    y: Shared(out.at(range.start * y_stride)),
                    y_stride,
                    epilogue: &Epilogue { residual, ..*epilogue },
                    extra: Extra { prefetch: Some(&prefetch), ..Extra::default() },
                };
                // SAFETY: as above; these pixels of y are this task's.
                unsafe { job.run_here() };
            });
        });
    }
}
