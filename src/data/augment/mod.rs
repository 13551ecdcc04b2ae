//! Random changes of training pictures, with torchvision's formulas (transforms of 0.28 on PIL images) and Pillow's
//! arithmetic on 8-bit pixels; only the random numbers are others. What a sample becomes depends on the draws it is given
//! and on nothing else.
//!
//! A list with `random_resized_crop` begins with the whole picture; any other with the picture as evaluation sees it, resized
//! and cropped. What works on values instead of pixels (`random_erasing`) comes after normalisation.

mod colour;
mod geometry;
mod policy;

use archc_base::Resample;

use super::Draws;
use crate::diag::Problem;
use crate::io::picture::Rgb;
use crate::io::preprocess::{Preprocess, in_channels};

/// One change of a picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Augment {
    /// `RandomResizedCrop`: a part of the area's share `scale`, sides in `ratio`, at the input's size.
    ResizedCrop {
        scale: (f64, f64),
        ratio: (f64, f64),
    },
    /// `RandomCrop` at the input's size, after so many black pixels were put on each side.
    Crop {
        padding: usize,
    },
    HorizontalFlip {
        p: f64,
    },
    VerticalFlip {
        p: f64,
    },
    /// `RandomRotation` by up to so many degrees either way, the nearest pixel, black outside.
    Rotation {
        degrees: f64,
    },
    /// `ColorJitter`: factors within so much of 1, the hue turned by up to a share of the circle.
    ColorJitter {
        brightness: f64,
        contrast: f64,
        saturation: f64,
        hue: f64,
    },
    /// `RandomErasing` with torchvision's scale (0.02, 0.33) and ratio (0.3, 3.3), value 0.
    Erasing {
        p: f64,
    },
    /// `RandAugment` with 31 bins.
    Policy {
        ops: usize,
        magnitude: usize,
    },
}

/// The picture as the network learns from it: [C, H, W], which is `input`, row-major.
///
/// # Errors
/// Those of [`Preprocess::check`].
pub fn augmented(
    picture: &Rgb,
    preprocess: &Preprocess,
    input: [usize; 3],
    augments: &[Augment],
    draws: &mut Draws,
) -> Result<Vec<f32>, Problem> {
    preprocess.check(input)?;
    let [channels, height, width] = input;
    let picture = in_channels(picture, channels);
    let mut pixels = match augments.iter().any(|one| matches!(one, Augment::ResizedCrop { .. })) {
        true => picture.into_owned(),
        false => preprocess.sized(&picture, height, width),
    };
    for augment in augments {
        pixels = augment.apply(pixels, (height, width), preprocess.interpolation, draws);
    }
    let mut values = preprocess.normalised(&pixels, input).into_data();
    for augment in augments {
        if let Augment::Erasing { p } = augment {
            geometry::erase(&mut values, input, *p, draws);
        }
    }
    Ok(values)
}

impl Augment {
    fn apply(&self, pixels: Rgb, size: (usize, usize), interpolation: Resample, draws: &mut Draws) -> Rgb {
        match *self {
            Augment::ResizedCrop { scale, ratio } => {
                geometry::resized_crop(&pixels, size, scale, ratio, interpolation, draws)
            }
            Augment::Crop { padding } => geometry::padded_crop(&pixels, size, padding, draws),
            Augment::HorizontalFlip { p } if draws.chance(p) => geometry::mirror(&pixels),
            Augment::VerticalFlip { p } if draws.chance(p) => geometry::turn_over(&pixels),
            Augment::Rotation { degrees } => geometry::rotate(&pixels, draws.uniform(-degrees, degrees)),
            Augment::ColorJitter { brightness, contrast, saturation, hue } => {
                colour::jitter(pixels, [brightness, contrast, saturation], hue, draws)
            }
            Augment::Policy { ops, magnitude } => policy::rand_augment(pixels, ops, magnitude, draws),
            Augment::HorizontalFlip { .. } | Augment::VerticalFlip { .. } | Augment::Erasing { .. } => pixels,
        }
    }
}

#[cfg(test)]
mod tests;
