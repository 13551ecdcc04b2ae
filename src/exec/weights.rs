//! Evaluates constants when a backend packs: a tensor is read, folded in float64, handed over and forgotten, so that the
//! weights are never in memory twice.

use rustc_hash::FxHashMap;

use super::{Tensors, reference};
use crate::diag::Problem;
use crate::graph::NodeId;
use crate::net::{ChannelMap, Constant, Lies, Source};
use crate::plan::Plan;
use crate::tensor::Tensor;
use crate::typed::Typed;

/// The tensors that a plan's steps need.
pub struct Weights<'a> {
    typed: &'a Typed,
    tensors: &'a dyn Tensors,
    /// Values of parameters alone.
    values: FxHashMap<NodeId, Tensor>,
}

impl<'a> Weights<'a> {
    /// Computes the values of parameters alone that `plan` needs.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn new(typed: &'a Typed, tensors: &'a dyn Tensors, plan: &Plan) -> Result<Weights<'a>, Problem> {
        let mut values = FxHashMap::default();
        let mut keep = vec![];
        for source in plan.constants().iter().flat_map(Constant::sources) {
            if let Source::Value { node, .. } = source {
                reference::constant(typed, tensors, *node, &mut values)?;
                keep.push(*node);
            }
        }
        values.retain(|node, _| keep.contains(node));
        Ok(Weights { typed, tensors, values })
    }

    pub fn typed(&self) -> &Typed {
        self.typed
    }

    /// The values of a constant, row-major in its shape.
    pub fn read(&self, constant: &Constant) -> Result<Vec<f32>, Problem> {
        let single = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        match constant {
            Constant::Tensor { source, lies, maps } => {
                let values = self.in_order(self.source(source)?, &source.shape(), *lies);
                if maps.is_empty() { Ok(values) } else { self.scaled(values, constant, *lies, maps) }
            }
            Constant::Scale { maps, channels } => Ok(single(self.maps(vec![0.0; *channels], maps)?.0)),
            Constant::Shift { bias, maps, channels } => {
                let bias = match bias {
                    Some(bias) => self.double(bias, *channels)?,
                    None => vec![0.0; *channels],
                };
                Ok(single(self.maps(bias, maps)?.1))
            }
        }
    }

    fn source(&self, source: &Source) -> Result<Vec<f32>, Problem> {
        match source {
            Source::Param { node, index, .. } => self.tensors.read(*node, *index),
            Source::Value { node, .. } => Ok(self.values[node].data().to_vec()),
            Source::OneHot { groups, taps: [h, w] } => {
                let taps = h * w;
                let rows = (0..groups * taps).flat_map(|row| (0..taps).map(move |tap| row % taps == tap));
                Ok(rows.map(|is_own| f32::from(u8::from(is_own))).collect())
            }
        }
    }

    fn in_order(&self, values: Vec<f32>, shape: &[usize], lies: Lies) -> Vec<f32> {
        match lies {
            Lies::Rows | Lies::Inward { .. } => values,
            Lies::Transposed => {
                let (inputs, out) = (shape[0], shape[1]);
                (0..values.len()).map(|at| values[at % inputs * out + at / inputs]).collect()
            }
            Lies::ChannelsLast([c, h, w]) => {
                let pixels = h * w;
                let at = |at: usize| {
                    let (row, col) = (at / (c * pixels), at % (c * pixels));
                    values[row * c * pixels + col % c * pixels + col / c]
                };
                (0..values.len()).map(at).collect()
            }
        }
    }

    /// Every output channel times its factor.
    fn scaled(
        &self,
        mut values: Vec<f32>,
        constant: &Constant,
        lies: Lies,
        maps: &[ChannelMap],
    ) -> Result<Vec<f32>, Problem> {
        let shape = constant.shape();
        // [in, out / groups, ..] is [groups, in / groups, out / groups, ..]
        let (outer, groups) = match lies {
            Lies::Inward { groups } => (shape[0] / groups, groups),
            _ => (1, 1),
        };
        let per_group = if outer * groups > 1 { shape[1] } else { shape[0] };
        let channels = per_group * groups;
        let scale = self.maps(vec![0.0; channels], maps)?.0;
        let each = values.len() / (outer * channels);
        for (at, values) in values.chunks_exact_mut(each).enumerate() {
            let (group, channel) = (at / (outer * per_group), at % per_group);
            let scale = scale[group * per_group + channel];
            values.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
        }
        Ok(values)
    }

    /// `shift`, then every map, as one scale and one shift.
    fn maps(&self, mut shift: Vec<f64>, maps: &[ChannelMap]) -> Result<(Vec<f64>, Vec<f64>), Problem> {
        let channels = shift.len();
        let mut scale = vec![1f64; channels];
        for map in maps {
            match map {
                ChannelMap::Norm { affine, mean, var, eps } => {
                    let (weight, bias) = match affine {
                        Some([weight, bias]) => (self.double(weight, channels)?, self.double(bias, channels)?),
                        None => (vec![1.0; channels], vec![0.0; channels]),
                    };
                    let (mean, var) = (self.double(mean, channels)?, self.double(var, channels)?);
                    for c in 0..channels {
                        let factor = weight[c] / (var[c] + eps).sqrt();
                        scale[c] *= factor;
                        shift[c] = (shift[c] - mean[c]) * factor + bias[c];
                    }
                }
                ChannelMap::Scale(by) => {
                    for (c, by) in self.double(by, channels)?.into_iter().enumerate() {
                        scale[c] *= by;
                        shift[c] *= by;
                    }
                }
                ChannelMap::Shift(by) => {
                    for (c, by) in self.double(by, channels)?.into_iter().enumerate() {
                        shift[c] += by;
                    }
                }
            }
        }
        Ok((scale, shift))
    }

    fn double(&self, source: &Source, channels: usize) -> Result<Vec<f64>, Problem> {
        let values = self.source(source)?;
        // one value for all is broadcast
        let at = |c: usize| f64::from(values[if values.len() == 1 { 0 } else { c }]);
        Ok((0..channels).map(at).collect())
    }
}
