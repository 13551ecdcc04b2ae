//! Colours: Pillow's ImageEnhance and ImageOps on 8-bit pixels, and torchvision's ColorJitter made of them.

use super::super::Draws;
use crate::io::picture::Rgb;
use crate::io::preprocess::grey;

/// `ColorJitter`: the four in a random order. `amounts` are brightness, contrast and saturation.
pub fn jitter(picture: Rgb, amounts: [f64; 3], hue: f64, draws: &mut Draws) -> Rgb {
    let mut order = [0, 1, 2, 3];
    draws.shuffle(&mut order);
    let factors = amounts.map(|amount| draws.uniform((1.0 - amount).max(0.0), 1.0 + amount));
    let turn = draws.uniform(-hue, hue);
    order.into_iter().fold(picture, |picture, one| match one {
        0 if amounts[0] > 0.0 => brightness(&picture, factors[0]),
        1 if amounts[1] > 0.0 => contrast(&picture, factors[1]),
        2 if amounts[2] > 0.0 => saturation(&picture, factors[2]),
        3 if hue > 0.0 => turn_hue(&picture, turn),
        _ => picture,
    })
}

/// `ImageEnhance.Brightness`
pub fn brightness(picture: &Rgb, factor: f64) -> Rgb {
    map(picture, |byte| blend(0, byte, factor))
}

/// `ImageEnhance.Contrast`: towards the mean grey.
pub fn contrast(picture: &Rgb, factor: f64) -> Rgb {
    let sum: u64 = picture.data().chunks_exact(3).map(|pixel| u64::from(grey(pixel))).sum();
    let mean = (sum as f64 / (picture.width() * picture.height()) as f64 + 0.5) as u8;
    map(picture, |byte| blend(mean, byte, factor))
}

/// `ImageEnhance.Color`: towards grey.
pub fn saturation(picture: &Rgb, factor: f64) -> Rgb {
    pixels(picture, |pixel| {
        let grey = grey(&pixel);
        pixel.map(|byte| blend(grey, byte, factor))
    })
}

/// `ImageEnhance.Sharpness`: away from the picture smoothed by a kernel of 3 x 3, whose border is the picture's.
pub fn sharpness(picture: &Rgb, factor: f64) -> Rgb {
    let (height, width) = (picture.height(), picture.width());
    let mut data = picture.data().to_vec();
    let at = |y: usize, x: usize, colour: usize| picture.data()[(y * width + x) * 3 + colour];
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            for colour in 0..3 {
                let mut sum = 4 * u32::from(at(y, x, colour));
                for v in y - 1..=y + 1 {
                    for u in x - 1..=x + 1 {
                        sum += u32::from(at(v, u, colour));
                    }
                }
                data[(y * width + x) * 3 + colour] = (f64::from(sum) / 13.0 + 0.5) as u8;
            }
        }
    }
    for (smooth, own) in data.iter_mut().zip(picture.data()) {
        *smooth = blend(*smooth, *own, factor);
    }
    Rgb::new(width, height, data)
}

/// torchvision's `adjust_hue` by a share of the circle, on Pillow's 8-bit HSV.
pub fn turn_hue(picture: &Rgb, turn: f64) -> Rgb {
    let turn = (turn * 255.0) as i32 as u8;
    pixels(picture, |pixel| {
        let [h, s, v] = to_hsv(pixel);
        to_rgb([h.wrapping_add(turn), s, v])
    })
}

/// `ImageOps.posterize`: the highest `bits` bits.
pub fn posterize(picture: &Rgb, bits: u32) -> Rgb {
    let mask = (0xffu32 << (8 - bits.min(8))) as u8;
    map(picture, |byte| byte & mask)
}

/// `ImageOps.solarize`: what is at least `threshold` is inverted.
pub fn solarize(picture: &Rgb, threshold: f64) -> Rgb {
    map(picture, |byte| if f64::from(byte) < threshold { byte } else { 255 - byte })
}

/// `ImageOps.autocontrast`, channel by channel.
pub fn autocontrast(picture: &Rgb) -> Rgb {
    tables(picture, |counts| {
        let low = counts.iter().position(|count| *count > 0).unwrap_or(0);
        let high = counts.iter().rposition(|count| *count > 0).unwrap_or(255);
        if high <= low {
            return std::array::from_fn(|value| value as u8);
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        std::array::from_fn(|value| (value as f64 * scale + offset).clamp(0.0, 255.0) as u8)
    })
}

/// `ImageOps.equalize`, channel by channel.
pub fn equalize(picture: &Rgb) -> Rgb {
    tables(picture, |counts| {
        let used: Vec<usize> = counts.iter().copied().filter(|count| *count > 0).collect();
        let step = match used.split_last() {
            Some((last, others)) if !others.is_empty() => (used.iter().sum::<usize>() - last) / 255,
            _ => 0,
        };
        if step == 0 {
            return std::array::from_fn(|value| value as u8);
        }
        let mut n = step / 2;
        std::array::from_fn(|value| {
            let level = (n / step).min(255) as u8;
            n += counts[value];
            level
        })
    })
}

/// Pillow's `blend` of a byte: `from + factor * (to - from)` in float32, cut off.
fn blend(from: u8, to: u8, factor: f64) -> u8 {
    let (from, to, factor) = (f32::from(from), f32::from(to), factor as f32);
    // `as` cuts off, and saturates as Pillow's clipping does
    (from + factor * (to - from)) as u8
}

fn map(picture: &Rgb, change: impl Fn(u8) -> u8) -> Rgb {
    let table: [u8; 256] = std::array::from_fn(|value| change(value as u8));
    let data = picture.data().iter().map(|byte| table[usize::from(*byte)]).collect();
    Rgb::new(picture.width(), picture.height(), data)
}

fn pixels(picture: &Rgb, change: impl Fn([u8; 3]) -> [u8; 3]) -> Rgb {
    let data = picture.data().chunks_exact(3).flat_map(|pixel| change([pixel[0], pixel[1], pixel[2]])).collect();
    Rgb::new(picture.width(), picture.height(), data)
}

/// A table of levels for each channel, made of how often each level comes.
fn tables(picture: &Rgb, table: impl Fn(&[usize; 256]) -> [u8; 256]) -> Rgb {
    let mut counts = [[0; 256]; 3];
    for pixel in picture.data().chunks_exact(3) {
        for (counts, byte) in counts.iter_mut().zip(pixel) {
            counts[usize::from(*byte)] += 1;
        }
    }
    let tables = counts.each_ref().map(table);
    pixels(picture, |pixel| std::array::from_fn(|colour| tables[colour][usize::from(pixel[colour])]))
}

/// Pillow's rgb2hsv, float32 as there.
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    if high == low {
        return [0, 0, high];
    }
    let range = f32::from(high - low);
    let share = |byte: u8| f32::from(high - byte) / range;
    let (rc, gc, bc) = (share(r), share(g), share(b));
    let h = if r == high {
        bc - gc
    } else if g == high {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let h = ((f64::from(h) / 6.0 + 1.0) % 1.0) as f32;
    let s = range / f32::from(high);
    [(f64::from(h) * 255.0) as u8, (f64::from(s) * 255.0) as u8, high]
}

/// Pillow's hsv2rgb.
fn to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let sixth = f64::from(h) * 6.0 / 255.0;
    let i = sixth.floor();
    let f = f64::from((sixth - i) as f32);
    let (fs, value) = (f64::from((f64::from(s) / 255.0) as f32), f64::from(v));
    let byte = |value: f64| value.round().clamp(0.0, 255.0) as u8;
    let (p, q, t) = (byte(value * (1.0 - fs)), byte(value * (1.0 - fs * f)), byte(value * (1.0 - fs * (1.0 - f))));
    match i as u32 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}
