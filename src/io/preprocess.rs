//! From a picture to what a network takes: torchvision's `Resize`, `CenterCrop`, `ToTensor` and `Normalize` on a PIL
//! image, with the same rounding of sizes and the same bits (where the picture's pixels are the same: JPEG decoders
//! differ by a few steps). The contract is `preprocess` in docs/LANGUAGE.md.

use std::borrow::Cow;
use std::fmt;

use archc_base::Resample;

use super::picture::Rgb;
use super::resample::{Window, resample};
use crate::diag::{Code, Problem};
use crate::tensor::Tensor;

/// What happens to a picture before the network sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// Without it nothing is resized.
    pub resize: Option<Resize>,
    /// (height, width) that are kept of the middle; without it the input's size.
    pub crop: Option<(u32, u32)>,
    pub interpolation: Resample,
    /// Subtracted from red, green and blue, which lie in 0..1.
    pub mean: [f64; 3],
    /// What the rest is divided by.
    pub std: [f64; 3],
}

/// What a picture is resized to before it is cropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// The length of the shorter side; the picture keeps its shape.
    Shorter(u32),
    /// Height and width, whatever the picture's shape: timm's `crop_mode` "squash".
    Both(u32, u32),
}

impl Resize {
    /// The same for a network of another input size, each side in proportion, to the nearest pixel.
    fn scaled(self, from: (u32, u32), to: (u32, u32)) -> Resize {
        let side = |side: u32, from: u32, to: u32| {
            ((f64::from(side) * f64::from(to) / f64::from(from.max(1))).round() as u32).max(1)
        };
        match self {
            Resize::Shorter(short) => Resize::Shorter(side(short, from.0.min(from.1), to.0.min(to.1))),
            Resize::Both(height, width) => Resize::Both(side(height, from.0, to.0), side(width, from.1, to.1)),
        }
    }

    fn is_empty(self) -> bool {
        matches!(self, Resize::Shorter(0) | Resize::Both(0, _) | Resize::Both(_, 0))
    }
}

/// As a spec says it: `256`, `(256, 320)`.
impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resize::Shorter(short) => write!(f, "{short}"),
            Resize::Both(height, width) => write!(f, "({height}, {width})"),
        }
    }
}

impl Default for Preprocess {
    /// `preprocess { }`: no resize, a crop to the input's size, values in 0..1.
    fn default() -> Preprocess {
        let interpolation = Resample::Bilinear;
        Preprocess { resize: None, crop: None, interpolation, mean: [0.0; 3], std: [1.0; 3] }
    }
}

impl Preprocess {
    /// The same for a network of another input size, where the spec does not say: crops to that size and scales
    /// `resize` in proportion (a single length by the shorter sides).
    pub fn scaled(&self, from: (u32, u32), to: (u32, u32)) -> Preprocess {
        if from == to {
            return self.clone();
        }
        Preprocess { resize: self.resize.map(|resize| resize.scaled(from, to)), crop: None, ..self.clone() }
    }

    /// Whether it makes what an input [N, C, H, W] takes; `input` is [C, H, W].
    pub fn check(&self, input: [usize; 3]) -> Result<(), Problem> {
        let bad = |message: String| Problem::new(Code::Input, message);
        let [channels, height, width] = input;
        if channels != 1 && channels != 3 {
            return Err(bad(format!("a picture has 1 or 3 channels, the network's input has {channels}"))
                .hint("give the input as a tensor: `--input x.safetensors` or `--input x.npy`"));
        }
        if let Some(resize) = self.resize.filter(|resize| resize.is_empty()) {
            return Err(bad(format!("`resize` must be at least 1, got {resize}")));
        }
        if let Some(std) = self.std.iter().find(|std| !std.is_finite() || **std as f32 == 0.0) {
            return Err(bad(format!("`std` must be finite and not 0, got {std}")));
        }
        if let Some(mean) = self.mean.iter().find(|mean| !mean.is_finite()) {
            return Err(bad(format!("`mean` must be finite, got {mean}")));
        }
        match self.crop {
            Some((h, w)) if (h as usize, w as usize) != (height, width) => {
                Err(bad(format!("`preprocess` crops to {h} x {w}, the network's input is {height} x {width}"))
                    .hint(format!("leave `crop` out, or write `crop = {}`", pair(height, width)))
                    .hint(format!("or build the network for it: `input [N, {channels}, {h}, {w}]`")))
            }
            _ => Ok(()),
        }
    }

    /// The picture as [C, H, W], which is `input`. A picture of the input's size is neither resized nor cropped. Where
    /// the input has one channel it gets PIL's grey, normalised by the first of `mean` and `std`.
    ///
    /// # Errors
    /// Those of [`Preprocess::check`].
    pub fn apply(&self, picture: &Rgb, input: [usize; 3]) -> Result<Tensor, Problem> {
        self.check(input)?;
        let [channels, height, width] = input;
        let picture = in_channels(picture, channels);
        let (pixels, place) = self.seen(&picture, height, width);
        Ok(self.levels(&pixels, place, input))
    }

    /// The first half of [`Preprocess::apply`]: the 8-bit pixels that the network sees, of the input's height and width,
    /// black where the picture does not reach.
    pub fn sized(&self, picture: &Rgb, height: usize, width: usize) -> Rgb {
        let (pixels, place) = self.seen(picture, height, width);
        if (pixels.height(), pixels.width()) == (height, width) {
            return pixels.into_owned();
        }
        let mut data = vec![0; height * width * 3];
        let rows = data.chunks_exact_mut(width * 3).skip(place.top);
        for (to, from) in rows.zip(pixels.data().chunks_exact(pixels.width() * 3)) {
            to[place.left * 3..][..from.len()].copy_from_slice(from);
        }
        Rgb::new(width, height, data)
    }

    /// The second half of [`Preprocess::apply`]: pixels of the input's height and width as [C, H, W].
    ///
    /// # Panics
    /// If the picture has another size, or the input other channels than 1 or 3.
    pub fn normalised(&self, pixels: &Rgb, input: [usize; 3]) -> Tensor {
        assert_eq!([pixels.height(), pixels.width()], input[1..], "pixels of the input's size");
        self.levels(pixels, Place { left: 0, top: 0 }, input)
    }

    /// Values back to the 8-bit picture that they came from, as far as it can be told.
    pub fn picture(&self, values: &[f32], input: [usize; 3]) -> Rgb {
        let [channels, height, width] = input;
        let plane = height * width;
        let mut data = vec![0; plane * 3];
        for (at, pixel) in data.chunks_exact_mut(3).enumerate() {
            for (colour, byte) in pixel.iter_mut().enumerate() {
                let channel = colour.min(channels - 1);
                let (mean, std) = (self.mean[channel] as f32, self.std[channel] as f32);
                *byte = ((values[channel * plane + at] * std + mean) * 255.0).round().clamp(0.0, 255.0) as u8;
            }
        }
        Rgb::new(width, height, data)
    }

    /// The pixels that are seen, and where in height x width they lie.
    fn seen<'a>(&self, picture: &'a Rgb, height: usize, width: usize) -> (Cow<'a, Rgb>, Place) {
        if (picture.height(), picture.width()) == (height, width) {
            return (Cow::Borrowed(picture), Place { left: 0, top: 0 });
        }
        let (sized, place) = self.resize_and_crop(picture, height, width);
        (Cow::Owned(sized), place)
    }

    /// Pixels as normalised values, black around them.
    fn levels(&self, pixels: &Rgb, place: Place, [channels, height, width]: [usize; 3]) -> Tensor {
        let plane = height * width;
        let mut data = vec![0.0; channels * plane];
        for (channel, values) in data.chunks_exact_mut(plane.max(1)).enumerate() {
            let (mean, std) = (self.mean[channel] as f32, self.std[channel] as f32);
            let level: [f32; 256] = std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std);
            values.fill(level[0]);
            let rows = values.chunks_exact_mut(width).skip(place.top);
            for (to, from) in rows.zip(pixels.data().chunks_exact(pixels.width() * 3)) {
                for (to, from) in to[place.left..].iter_mut().zip(from.chunks_exact(3)) {
                    *to = level[usize::from(from[channel])];
                }
            }
        }
        Tensor::new([channels, height, width], data)
    }

    /// What of the picture is seen, at most height x width, and where in these it lies. The rest is black.
    fn resize_and_crop(&self, picture: &Rgb, height: usize, width: usize) -> (Rgb, Place) {
        let (w, h) = (picture.width() as u64, picture.height() as u64);
        let (full_w, full_h) = match self.resize {
            None => (w, h),
            Some(Resize::Both(height, width)) => (u64::from(width), u64::from(height)),
            Some(Resize::Shorter(short)) => {
                // torchvision's `int(size * long / short)`
                let long = (f64::from(short) * w.max(h) as f64 / w.min(h) as f64) as u64;
                if w <= h { (u64::from(short), long) } else { (long, u64::from(short)) }
            }
        };
        let (columns, left) = centre(full_w, width);
        let (rows, top) = centre(full_h, height);
        (resample(picture, (full_w, full_h), self.interpolation, columns, rows), Place { left, top })
    }
}

/// Where the pixels lie in the crop that is larger than they.
#[derive(Clone, Copy)]
struct Place {
    left: usize,
    top: usize,
}

/// torchvision's `center_crop` along one axis: what is kept of `size`, and the padding before it.
fn centre(size: u64, crop: usize) -> (Window, usize) {
    if crop as u64 > size {
        // padded on both sides, the odd pixel after
        return (Window { from: 0, len: size as usize }, (crop - size as usize) / 2);
    }
    let spare = size - crop as u64;
    // Python's `round`, half to even
    let half = spare / 2;
    (Window { from: half + (spare % 2) * (half % 2), len: crop }, 0)
}

/// The picture as a network of so many channels is given it: in colour, or grey for one channel.
pub fn in_channels(picture: &Rgb, channels: usize) -> Cow<'_, Rgb> {
    if channels != 1 {
        return Cow::Borrowed(picture);
    }
    let data = picture.data().chunks_exact(3).flat_map(|pixel| [grey(pixel); 3]).collect();
    Cow::Owned(Rgb::new(picture.width(), picture.height(), data))
}

/// PIL's `convert("L")` of a pixel, ITU-R 601-2 in 16-bit fixed point.
pub fn grey(pixel: &[u8]) -> u8 {
    ((u32::from(pixel[0]) * 19595 + u32::from(pixel[1]) * 38470 + u32::from(pixel[2]) * 7471 + 0x8000) >> 16) as u8
}

fn pair(height: usize, width: usize) -> String {
    if height == width { height.to_string() } else { format!("({height}, {width})") }
}

/// One line, which `run` prints once.
impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "preprocess: RGB")?;
        let interpolation = self.interpolation.name();
        match self.resize {
            Some(Resize::Shorter(short)) => write!(f, ", shorter side to {short} ({interpolation})")?,
            Some(Resize::Both(height, width)) => write!(f, ", resized to {height} x {width} ({interpolation})")?,
            None => {}
        }
        match self.crop {
            Some((height, width)) => write!(f, ", centre crop {height} x {width}")?,
            None => write!(f, ", centre crop to the input's size")?,
        }
        write!(f, ", values / 255")?;
        if self.mean != [0.0; 3] {
            write!(f, ", mean {}", triple(self.mean))?;
        }
        if self.std != [1.0; 3] {
            write!(f, ", std {}", triple(self.std))?;
        }
        Ok(())
    }
}

fn triple(values: [f64; 3]) -> String {
    let [r, g, b] = values;
    if r == g && g == b { r.to_string() } else { format!("[{r}, {g}, {b}]") }
}

#[cfg(test)]
mod tests;
