//! Which algorithm a convolution should use.

use super::super::conv::ConvShape;
use super::super::simd::Isa;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// By the definition.
    Direct,
    /// Winograd's F(2x2, 3x3).
    Winograd2,
    /// Winograd's F(4x4, 3x3).
    Winograd4,
}

/// Where a convolution is.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Images.
    pub batch: usize,
    /// Height and width of the input.
    pub size: [usize; 2],
}

pub fn choose(_isa: Isa, shape: &ConvShape, _site: &Site) -> Algorithm {
    if super::Winograd::suits(shape) { Algorithm::Winograd4 } else { Algorithm::Direct }
}
