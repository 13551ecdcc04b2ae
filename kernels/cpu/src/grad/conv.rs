//! The gradient of a convolution by what it reads.
//!
//! With stride 1 it is a convolution itself, of the weights turned by half a turn and with their channels exchanged:
//! whatever algorithm is fastest for that. With larger strides it is a transposed convolution, by its phases.

use archc_base::{Act, Binary, Window};

use super::super::conv::{ConvShape, PackedConv};
use super::super::conv_transpose::{ConvTransposeShape, PackedConvTranspose};
use super::super::direct::Epilogue;
use super::super::elementwise::{Map, Operand, binary, unary};
use super::super::par::{Shared, scratch, tasks};
use super::super::simd::Isa;
use super::super::view::{Image, ImageMut};
use super::super::winograd::{Policy, Site, choose};
use super::depthwise;

/// How the gradient is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvGrad {
    /// As this convolution.
    Turned(ConvShape),
    Transposed(ConvTransposeShape),
    Depthwise,
}

impl ConvGrad {
    /// For a convolution of images of `size`.
    pub fn new(shape: &ConvShape, size: [usize; 2]) -> ConvGrad {
        let ConvShape { in_channels, out_channels, window, groups } = *shape;
        let Window { stride, padding, .. } = window;
        let reach = window.reach().map(|reach| reach - 1);
        let turned = [0, 1, 2, 3].map(|side| reach[side % 2].checked_sub(padding[side]));
        let depthwise = groups > 1 && in_channels == groups && out_channels == groups;
        if let (true, [Some(top), Some(left), Some(bottom), Some(right)]) = (stride == [1, 1], turned) {
            let window = Window { padding: [top, left, bottom, right], ..window };
            let [in_channels, out_channels] = [out_channels, in_channels];
            return ConvGrad::Turned(ConvShape { in_channels, out_channels, window, groups });
        }
        if depthwise {
            return ConvGrad::Depthwise;
        }
        let out = window.output(size);
        let output_padding = [0, 1].map(|axis| {
            let full = (out[axis] - 1) * stride[axis] + reach[axis] + 1;
            (size[axis] + padding[axis] + padding[axis + 2]).saturating_sub(full)
        });
        let [in_channels, out_channels] = [out_channels, in_channels];
        ConvGrad::Transposed(ConvTransposeShape { in_channels, out_channels, window, output_padding, groups })
    }
}

/// The gradient by x of a convolution with `weights` [out, in / groups, kh, kw], and what an epilogue adds to it.
pub fn conv_data(
    isa: Isa,
    shape: &ConvShape,
    policy: Policy,
    weights: &[f32],
    dy: Image,
    dx: ImageMut,
    epilogue: &Epilogue,
) {
    shape.check();
    dy.check();
    dx.check();
    assert!(dx.c == shape.in_channels && dy.c == shape.out_channels && dx.n == dy.n, "images of other channels");
    assert!(weights.len() >= shape.weight_len(), "too few weights");
    match ConvGrad::new(shape, [dx.h, dx.w]) {
        ConvGrad::Turned(turned) => {
            let (k, c) = (shape.out_channels / shape.groups, shape.in_channels / shape.groups);
            let taps = shape.window.kernel[0] * shape.window.kernel[1];
            scratch(shape.weight_len(), |own| {
                let base = Shared(own.as_mut_ptr());
                tasks(shape.in_channels, |channel| {
                    let (group, at) = (channel / c, channel % c);
                    // SAFETY: each task has its own channel.
                    let own = unsafe { std::slice::from_raw_parts_mut(base.at(channel * k * taps), k * taps) };
                    for (i, own) in own.chunks_exact_mut(taps).enumerate() {
                        let from = &weights[((group * k + i) * c + at) * taps..][..taps];
                        own.iter_mut().zip(from.iter().rev()).for_each(|(own, w)| *own = *w);
                    }
                });
                let algorithm = choose::<f32>(isa, &turned, &Site { batch: dy.n, size: [dy.h, dy.w], policy });
                PackedConv::pack_for(isa, &turned, algorithm, own).run(dy, dx, epilogue);
            });
        }
        grad => {
            let whole = ImageMut { data: &mut *dx.data, ..dx };
            match grad {
                ConvGrad::Transposed(transposed) => {
                    PackedConvTranspose::pack(isa, &transposed, weights).run(dy, whole, &Epilogue::default());
                }
                _ => depthwise::data(isa, shape, weights, dy, whole),
            }
            assert!(
                epilogue.bias.is_none() && epilogue.gate.is_none() && epilogue.before == Act::None,
                "only an addition"
            );
            if let Some(residual) = epilogue.residual {
                let io = Map::in_place(dx.rows());
                binary(isa, Binary::Add, io, Operand::Rows(residual), epilogue.after);
            } else if epilogue.after != Act::None {
                unary(isa, epilogue.after, Map::in_place(dx.rows()));
            }
        }
    }
}
