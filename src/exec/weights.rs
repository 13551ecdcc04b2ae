//! Evaluates weight expressions when a backend packs: a tensor is read, folded in float64, handed over and forgotten, so
//! that the weights are never in memory twice.

use rustc_hash::FxHashMap;

use super::{Tensors, reference};
use crate::diag::Problem;
use crate::graph::NodeId;
use crate::opt::{ChannelMap, Kind, Source, Weights as Expression};
use crate::plan::Plan;
use crate::tensor::Tensor;
use crate::typed::Typed;

/// The tensors that a plan's steps need.
pub struct Weights<'a> {
    typed: &'a Typed,
    tensors: &'a dyn Tensors,
    /// Values of parameters alone.
    constants: FxHashMap<NodeId, Tensor>,
}

/// The scale of each output channel and what is added to it.
pub struct Channels {
    /// None for 1 everywhere.
    pub scale: Option<Vec<f32>>,
    /// None for 0 everywhere.
    pub shift: Option<Vec<f32>>,
}

impl<'a> Weights<'a> {
    /// Computes the values of parameters alone that `plan` needs.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn new(typed: &'a Typed, tensors: &'a dyn Tensors, plan: &Plan) -> Result<Weights<'a>, Problem> {
        let mut wanted: Vec<&Source> = plan.constants().iter().collect();
        for id in plan.net().order() {
            wanted.extend(sources(&plan.net().node(id).kind));
        }
        let mut constants = FxHashMap::default();
        let mut keep = vec![];
        for source in wanted {
            if let Source::Value { node, .. } = source {
                reference::constant(typed, tensors, *node, &mut constants)?;
                keep.push(*node);
            }
        }
        constants.retain(|node, _| keep.contains(node));
        Ok(Weights { typed, tensors, constants })
    }

    pub fn typed(&self) -> &Typed {
        self.typed
    }

    /// The values of a source.
    pub fn read(&self, source: &Source) -> Result<Vec<f32>, Problem> {
        match source {
            Source::Param { node, index, .. } => self.tensors.read(*node, *index),
            Source::Value { node, .. } => Ok(self.constants[node].data().to_vec()),
        }
    }

    /// Every tensor of a layer, in the order of its declarations.
    pub fn params(&self, node: NodeId) -> Result<Vec<Tensor>, Problem> {
        reference::params(self.typed, self.tensors, node)
    }

    /// What an expression does to `channels` output channels, its own bias counted.
    pub fn channels(&self, weights: &Expression, channels: usize) -> Result<Channels, Problem> {
        self.maps(weights.bias.as_ref(), &weights.maps, channels)
    }

    /// `bias`, then every map, as one scale and one shift.
    pub fn maps(&self, bias: Option<&Source>, maps: &[ChannelMap], channels: usize) -> Result<Channels, Problem> {
        let mut scale = vec![1f64; channels];
        let mut shift = match bias {
            Some(bias) => self.double(bias, channels)?,
            None => vec![0f64; channels],
        };
        for map in maps {
            match map {
                ChannelMap::Norm { weight, bias, mean, var, eps } => {
                    let (weight, bias) = (self.double(weight, channels)?, self.double(bias, channels)?);
                    let (mean, var) = (self.double(mean, channels)?, self.double(var, channels)?);
                    for c in 0..channels {
                        let factor = weight[c] / (var[c] + eps).sqrt();
                        scale[c] *= factor;
                        shift[c] = (shift[c] - mean[c]) * factor + bias[c];
                    }
                }
                ChannelMap::Factor { weight, var, eps } => {
                    let (weight, var) = (self.double(weight, channels)?, self.double(var, channels)?);
                    for c in 0..channels {
                        let factor = weight[c] / (var[c] + eps).sqrt();
                        scale[c] *= factor;
                        shift[c] *= factor;
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
        let single = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        let scaled = maps.iter().any(|map| !matches!(map, ChannelMap::Shift(_)));
        let shifted =
            bias.is_some() || maps.iter().any(|map| !matches!(map, ChannelMap::Scale(_) | ChannelMap::Factor { .. }));
        Ok(Channels { scale: scaled.then(|| single(scale)), shift: shifted.then(|| single(shift)) })
    }

    fn double(&self, source: &Source, channels: usize) -> Result<Vec<f64>, Problem> {
        let values = self.read(source)?;
        // one value for all is stretched
        let at = |c: usize| values[if values.len() == 1 { 0 } else { c }] as f64;
        Ok((0..channels).map(at).collect())
    }

    /// The matrix [out, in] of a linear map, output channels scaled.
    pub fn matrix(&self, weights: &Expression, out: usize, scale: Option<&[f32]>) -> Result<Vec<f32>, Problem> {
        let mut values = self.read(&weights.weight)?;
        let cols = values.len() / out;
        if weights.transposed {
            values = (0..values.len()).map(|at| values[at % cols * out + at / cols]).collect();
        }
        if let Some([c, h, w]) = weights.channels_last {
            let mut row = vec![0.0; cols];
            for values in values.chunks_exact_mut(cols) {
                for (channel, pixels) in values.chunks_exact(h * w).enumerate() {
                    pixels.iter().enumerate().for_each(|(pixel, value)| row[pixel * c + channel] = *value);
                }
                values.copy_from_slice(&row);
            }
        }
        for (row, scale) in values.chunks_exact_mut(cols).zip(scale.into_iter().flatten()) {
            row.iter_mut().for_each(|value| *value *= scale);
        }
        Ok(values)
    }
}

/// Every source of a node.
fn sources(kind: &Kind) -> Vec<&Source> {
    fn of_maps(maps: &[ChannelMap]) -> impl Iterator<Item = &Source> {
        maps.iter().flat_map(|map| match map {
            ChannelMap::Norm { weight, bias, mean, var, .. } => vec![weight, bias, mean, var],
            ChannelMap::Factor { weight, var, .. } => vec![weight, var],
            ChannelMap::Scale(source) | ChannelMap::Shift(source) => vec![source],
        })
    }
    fn of(weights: &Expression) -> impl Iterator<Item = &Source> {
        [&weights.weight].into_iter().chain(&weights.bias).chain(of_maps(&weights.maps))
    }
    match kind {
        Kind::Conv { weights, .. }
        | Kind::PooledConv { weights, .. }
        | Kind::ConvTranspose { weights, .. }
        | Kind::Linear { weights } => of(weights).collect(),
        Kind::Excitation { maps } => maps.iter().flat_map(|map| of(&map.weights)).collect(),
        Kind::Separable { depthwise, pointwise, .. } => of(depthwise).chain(of(pointwise)).collect(),
        Kind::Channels { maps, .. } => of_maps(maps).collect(),
        Kind::PRelu { slope } => vec![slope],
        Kind::LayerNorm { weight, bias, .. } | Kind::GroupNorm { weight, bias, .. } => vec![weight, bias],
        _ => vec![],
    }
}
