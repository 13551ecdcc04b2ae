//! Crops, flips, rotations and other affine maps, and the rectangle that is erased.

use archc_base::Resample;

use super::super::Draws;
use crate::io::picture::Rgb;
use crate::io::resample::{Window, resample};

/// Attempts at a rectangle that fits, as torchvision makes them.
const ATTEMPTS: usize = 10;

/// `RandomResizedCrop.get_params` and the crop resized to `size`, (height, width).
pub fn resized_crop(
    picture: &Rgb,
    size: (usize, usize),
    scale: (f64, f64),
    ratio: (f64, f64),
    interpolation: Resample,
    draws: &mut Draws,
) -> Rgb {
    let (height, width) = (picture.height(), picture.width());
    let area = (height * width) as f64;
    let mut found = None;
    for _ in 0..ATTEMPTS {
        let target = area * draws.uniform(scale.0, scale.1);
        let aspect = aspect(ratio, draws);
        let w = (target * aspect).sqrt().round_ties_even() as usize;
        let h = (target / aspect).sqrt().round_ties_even() as usize;
        if 0 < w && w <= width && 0 < h && h <= height {
            found = Some((draws.below(height - h + 1), draws.below(width - w + 1), h, w));
            break;
        }
    }
    let (top, left, h, w) = found.unwrap_or_else(|| {
        // the largest part in the middle whose sides are in `ratio`
        let own = width as f64 / height as f64;
        let (h, w) = if own < ratio.0 {
            ((width as f64 / ratio.0).round_ties_even() as usize, width)
        } else if own > ratio.1 {
            (height, (height as f64 * ratio.1).round_ties_even() as usize)
        } else {
            (height, width)
        };
        let (h, w) = (h.clamp(1, height), w.clamp(1, width));
        ((height - h) / 2, (width - w) / 2, h, w)
    });
    let part = crop(picture, top, left, h, w);
    if (h, w) == size {
        return part;
    }
    let whole = |len: usize| Window { from: 0, len };
    resample(&part, (size.1 as u64, size.0 as u64), interpolation, whole(size.1), whole(size.0))
}

fn aspect(ratio: (f64, f64), draws: &mut Draws) -> f64 {
    // a ratio of 0 has no logarithm; nothing that flat fits anyway
    draws.uniform(ratio.0.max(1e-9).ln(), ratio.1.max(1e-9).ln()).exp()
}

/// `RandomCrop(size, padding)`.
pub fn padded_crop(picture: &Rgb, size: (usize, usize), padding: usize, draws: &mut Draws) -> Rgb {
    // more than the picture itself shows nothing but black; this also bounds the memory
    let padding = padding.min(size.0.max(size.1));
    let (height, width) = (picture.height() + 2 * padding, picture.width() + 2 * padding);
    let top = draws.below(height.saturating_sub(size.0) + 1);
    let left = draws.below(width.saturating_sub(size.1) + 1);
    let mut data = vec![0; size.0 * size.1 * 3];
    for (y, row) in data.chunks_exact_mut(size.1 * 3).enumerate() {
        let Some(from) = (top + y).checked_sub(padding).filter(|y| *y < picture.height()) else { continue };
        let source = &picture.data()[from * picture.width() * 3..][..picture.width() * 3];
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let from = (left + x).checked_sub(padding).filter(|x| *x < picture.width());
            if let Some(x) = from {
                pixel.copy_from_slice(&source[x * 3..][..3]);
            }
        }
    }
    Rgb::new(size.1, size.0, data)
}

fn crop(picture: &Rgb, top: usize, left: usize, height: usize, width: usize) -> Rgb {
    let rows = picture.data().chunks_exact(picture.width() * 3).skip(top).take(height);
    let data = rows.flat_map(|row| row[left * 3..][..width * 3].iter().copied()).collect();
    Rgb::new(width, height, data)
}

/// Left and right change places.
pub fn mirror(picture: &Rgb) -> Rgb {
    let rows = picture.data().chunks_exact(picture.width() * 3);
    let data = rows.flat_map(|row| row.chunks_exact(3).rev().flatten().copied()).collect();
    Rgb::new(picture.width(), picture.height(), data)
}

/// Top and bottom change places.
pub fn turn_over(picture: &Rgb) -> Rgb {
    let data = picture.data().chunks_exact(picture.width() * 3).rev().flatten().copied().collect();
    Rgb::new(picture.width(), picture.height(), data)
}

/// PIL's `rotate`: counter-clockwise about the centre, the nearest pixel, black outside.
pub fn rotate(picture: &Rgb, degrees: f64) -> Rgb {
    let angle = -degrees.rem_euclid(360.0).to_radians();
    let (sin, cos) = angle.sin_cos();
    let (x, y) = (picture.width() as f64 / 2.0, picture.height() as f64 / 2.0);
    affine(picture, [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y])
}

/// PIL's `transform(AFFINE)` with the nearest pixel, in its fixed point of 16 bits: where each pixel of the result comes
/// from, black outside.
pub fn affine(picture: &Rgb, [a, b, c, d, e, f]: [f64; 6]) -> Rgb {
    let fix = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
    let (height, width) = (picture.height(), picture.width());
    let mut data = vec![0; height * width * 3];
    let (mut u, mut v) = (fix(c + a * 0.5 + b * 0.5), fix(f + d * 0.5 + e * 0.5));
    let (across, down) = ((fix(a), fix(d)), (fix(b), fix(e)));
    for row in data.chunks_exact_mut(width * 3) {
        let mut at = (u, v);
        for pixel in row.chunks_exact_mut(3) {
            let (x, y) = (at.0 >> 16, at.1 >> 16);
            if (0..width as i64).contains(&x) && (0..height as i64).contains(&y) {
                let from = (y as usize * width + x as usize) * 3;
                pixel.copy_from_slice(&picture.data()[from..from + 3]);
            }
            at = (at.0 + across.0, at.1 + across.1);
        }
        (u, v) = (u + down.0, v + down.1);
    }
    Rgb::new(width, height, data)
}

/// `RandomErasing` on normalised values [C, H, W].
pub fn erase(values: &mut [f32], [channels, height, width]: [usize; 3], p: f64, draws: &mut Draws) {
    if !draws.chance(p) {
        return;
    }
    let area = (height * width) as f64;
    for _ in 0..ATTEMPTS {
        let target = area * draws.uniform(0.02, 0.33);
        let aspect = aspect((0.3, 3.3), draws);
        let h = (target * aspect).sqrt().round_ties_even() as usize;
        let w = (target / aspect).sqrt().round_ties_even() as usize;
        if h < height && w < width {
            let (top, left) = (draws.below(height - h + 1), draws.below(width - w + 1));
            for channel in 0..channels {
                for y in top..top + h {
                    values[(channel * height + y) * width + left..][..w].fill(0.0);
                }
            }
            return;
        }
    }
}
