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
use crate::words::{CHANCE, Kind, choices};

choices! {
    /// One change of a picture. All but mixup are torchvision's of the same name: `random_erasing` with the scale (0.02, 0.33),
    /// the ratio (0.3, 3.3) and value 0, `rand_augment` with 31 bins.
    pub enum Augment {
        /// a random part of the picture at the input's size
        RandomResizedCrop = "random_resized_crop" {
            scale: (f64, f64)[Kind::Range { min: 0.0, max: 1.0 }] = (0.08, 1.0),
            ratio: (f64, f64)[Kind::Range { min: 0.0, max: f64::MAX }] = (0.75, 4.0 / 3.0),
        },
        /// pad with 0, then crop
        RandomCrop = "random_crop" { padding: usize = 4 },
        /// left and right change places
        HorizontalFlip = "horizontal_flip" { p: f64[CHANCE] = 0.5 },
        /// top and bottom change places
        VerticalFlip = "vertical_flip" { p: f64[CHANCE] = 0.5 },
        /// about the centre, by up to so many degrees either way
        Rotation = "rotation" { degrees: f64[Kind::Float { min: 0.0, max: 180.0 }] },
        /// colours vary by up to so much
        ColorJitter = "color_jitter" {
            brightness: f64 = 0.0,
            contrast: f64 = 0.0,
            saturation: f64 = 0.0,
            hue: f64[Kind::Float { min: 0.0, max: 0.5 }] = 0.0,
        },
        /// a random rectangle is cleared
        RandomErasing = "random_erasing" { p: f64[CHANCE] = 0.5 },
        /// so many of fourteen changes of shape and colour, as torchvision's RandAugment
        RandAugment = "rand_augment" {
            ops: usize[Kind::Int { min: 1, max: 14 }] = 2,
            magnitude: usize[Kind::Int { min: 0, max: policy::BINS as i64 - 1 }] = 9,
        },
        /// each sample is mixed with the one before it, target too, by a share of Beta(alpha, alpha) a batch
        Mixup = "mixup" { alpha: f64[Kind::Positive] = 0.2 },
    }
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
    let mut pixels = match augments.iter().any(|one| matches!(one, Augment::RandomResizedCrop { .. })) {
        true => picture.into_owned(),
        false => preprocess.sized(&picture, height, width),
    };
    for augment in augments {
        pixels = augment.apply(pixels, (height, width), preprocess.interpolation, draws);
    }
    let mut values = preprocess.normalised(&pixels, input).into_data();
    for augment in augments {
        if let Augment::RandomErasing { p } = augment {
            geometry::erase(&mut values, input, *p, draws);
        }
    }
    Ok(values)
}

impl Augment {
    fn apply(&self, pixels: Rgb, size: (usize, usize), interpolation: Resample, draws: &mut Draws) -> Rgb {
        match *self {
            Augment::RandomResizedCrop { scale, ratio } => {
                geometry::resized_crop(&pixels, size, scale, ratio, interpolation, draws)
            }
            Augment::RandomCrop { padding } => geometry::padded_crop(&pixels, size, padding, draws),
            Augment::HorizontalFlip { p } if draws.chance(p) => geometry::mirror(&pixels),
            Augment::VerticalFlip { p } if draws.chance(p) => geometry::turn_over(&pixels),
            Augment::Rotation { degrees } => geometry::rotate(&pixels, draws.uniform(-degrees, degrees)),
            Augment::ColorJitter { brightness, contrast, saturation, hue } => {
                colour::jitter(pixels, [brightness, contrast, saturation], hue, draws)
            }
            Augment::RandAugment { ops, magnitude } => policy::rand_augment(pixels, ops, magnitude, draws),
            Augment::HorizontalFlip { .. } | Augment::VerticalFlip { .. } => pixels,
            // later, of values and of whole batches
            Augment::RandomErasing { .. } | Augment::Mixup { .. } => pixels,
        }
    }
}

#[cfg(test)]
mod tests;
