//! Values that are known when the network is loaded, as expressions of the tensors in the file. A pass folds what scales
//! and shifts channels into them; a backend evaluates them in float64 and packs the result.

use super::Layout;
use crate::graph::NodeId;

/// A tensor that is known when the network is loaded.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A tensor of a weight file: the layer that owns it, its index in the layer's tensors, its shape.
    Param { node: NodeId, index: usize, shape: Vec<usize> },
    /// The value of a batchless node of the graph: of parameters alone.
    Value { node: NodeId, shape: Vec<usize> },
    /// [groups * taps, 1, taps h, taps w]: output i of each group is its tap i.
    OneHot { groups: usize, taps: [usize; 2] },
}

impl Source {
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Source::Param { shape, .. } | Source::Value { shape, .. } => shape.clone(),
            Source::OneHot { groups, taps: [h, w] } => vec![groups * h * w, 1, *h, *w],
        }
    }
}

/// A function of each channel: `x * scale[c] + shift[c]`.
#[derive(Clone, Debug, PartialEq)]
pub enum ChannelMap {
    /// Batch norm by its running statistics, with its weight and bias where it has them.
    Norm { affine: Option<[Source; 2]>, mean: Source, var: Source, eps: f64 },
    /// One factor a channel.
    Scale(Source),
    /// One number a channel that is added.
    Shift(Source),
}

/// Which axis of a tensor in the file counts output channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lies {
    /// [out, ..]
    #[default]
    Rows,
    /// [in, out], and comes as [out, in].
    Transposed,
    /// [in, out / groups, ..] of a transposed convolution.
    Inward { groups: usize },
    /// [out, C H W], and comes as [out, H W C]: of a linear map of a flattened image.
    ChannelsLast([usize; 3]),
}

/// A value of parameters alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// A tensor, its output channels times the factors of `maps`.
    Tensor { source: Source, lies: Lies, maps: Vec<ChannelMap> },
    /// What `maps` multiply each channel by.
    Scale { maps: Vec<ChannelMap>, channels: usize },
    /// What `maps` make of `bias`, of 0 where there is none.
    Shift { bias: Option<Source>, maps: Vec<ChannelMap>, channels: usize },
}

impl Constant {
    /// A tensor as it is.
    pub fn plain(source: Source) -> Constant {
        Constant::Tensor { source, lies: Lies::Rows, maps: vec![] }
    }

    /// The tensor, where nothing is done to it.
    pub fn as_plain(&self) -> Option<&Source> {
        match self {
            Constant::Tensor { source, lies: Lies::Rows, maps } if maps.is_empty() => Some(source),
            _ => None,
        }
    }

    /// The maps that have been folded into it, in their order.
    pub fn maps(&self) -> &[ChannelMap] {
        match self {
            Constant::Tensor { maps, .. } | Constant::Scale { maps, .. } | Constant::Shift { maps, .. } => maps,
        }
    }

    /// The same with `more` after its maps.
    pub fn then(&self, more: &[ChannelMap]) -> Constant {
        let mut constant = self.clone();
        match &mut constant {
            Constant::Tensor { maps, .. } | Constant::Scale { maps, .. } | Constant::Shift { maps, .. } => {
                maps.extend_from_slice(more);
            }
        }
        constant
    }

    pub fn shape(&self) -> Vec<usize> {
        match self {
            Constant::Tensor { source, lies: Lies::Transposed, .. } => source.shape().into_iter().rev().collect(),
            Constant::Tensor { source, .. } => source.shape(),
            Constant::Scale { channels, .. } | Constant::Shift { channels, .. } => vec![*channels],
        }
    }

    /// Every tensor that it needs.
    pub fn sources(&self) -> Vec<&Source> {
        let own = match self {
            Constant::Tensor { source, .. } => Some(source),
            Constant::Scale { .. } => None,
            Constant::Shift { bias, .. } => bias.as_ref(),
        };
        own.into_iter().chain(self.maps().iter().flat_map(ChannelMap::sources)).collect()
    }
}

impl ChannelMap {
    fn sources(&self) -> Vec<&Source> {
        match self {
            ChannelMap::Norm { affine, mean, var, .. } => affine.iter().flatten().chain([mean, var]).collect(),
            ChannelMap::Scale(source) | ChannelMap::Shift(source) => vec![source],
        }
    }
}

super::step::plain! {
    Constant, "constant", |_own, _node| Layout::row_major(&[]);
}
