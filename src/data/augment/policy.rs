//! RandAugment (Cubuk et al. 2019) as torchvision has it: so many of fourteen changes, each as likely, of one magnitude.

use super::super::Draws;
use super::{colour, geometry};
use crate::io::picture::Rgb;

/// Magnitudes are 0 to 30.
pub const BINS: usize = 31;

/// `RandAugment(num_ops, magnitude)`, nearest pixel, black outside.
pub fn rand_augment(picture: Rgb, ops: usize, magnitude: usize, draws: &mut Draws) -> Rgb {
    (0..ops).fold(picture, |picture, _| {
        let op = draws.below(14);
        // `torch.linspace(0, most, 31)[magnitude]`
        let share = magnitude.min(BINS - 1) as f64 / (BINS - 1) as f64;
        let negative = matches!(op, 1..=9) && draws.chance(0.5);
        apply(&picture, op, share, if negative { -1.0 } else { 1.0 })
    })
}

fn apply(picture: &Rgb, op: usize, share: f64, sign: f64) -> Rgb {
    let (width, height) = (picture.width() as f64, picture.height() as f64);
    let factor = 1.0 + sign * 0.9 * share;
    match op {
        // about the upper left corner, as torchvision shears
        1 => geometry::affine(picture, [1.0, sign * 0.3 * share, 0.0, 0.0, 1.0, 0.0]),
        2 => geometry::affine(picture, [1.0, 0.0, 0.0, sign * 0.3 * share, 1.0, 0.0]),
        3 => geometry::affine(picture, [1.0, 0.0, -(sign * 150.0 / 331.0 * width * share).trunc(), 0.0, 1.0, 0.0]),
        4 => geometry::affine(picture, [1.0, 0.0, 0.0, 0.0, 1.0, -(sign * 150.0 / 331.0 * height * share).trunc()]),
        5 => geometry::rotate(picture, sign * 30.0 * share),
        6 => colour::brightness(picture, factor),
        7 => colour::saturation(picture, factor),
        8 => colour::contrast(picture, factor),
        9 => colour::sharpness(picture, factor),
        // 8 - round(arange(31) / (30 / 4))
        10 => colour::posterize(picture, 8 - (4.0 * share).round_ties_even() as u32),
        11 => colour::solarize(picture, 255.0 * (1.0 - share)),
        12 => colour::autocontrast(picture),
        13 => colour::equalize(picture),
        _ => picture.clone(),
    }
}
