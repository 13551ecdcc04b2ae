//! Pillow's `Image.resize` on 8-bit RGB, bit for bit: antialiased convolution in two passes, the horizontal one first
//! and rounded to 8 bits between them, with fixed-point weights of 22 bits (Pillow's libImaging/Resample.c), and its
//! nearest neighbour (Geometry.c). Pillow 13 takes the vertical pass first for some shapes (tall pictures among them);
//! here, as in every Pillow before it, the horizontal one always comes first.
//!
//! A window of the result costs only what the window needs, so a picture of 20000 x 1 pixels whose short side is
//! enlarged to 256 is no burden when 224 x 224 of it are kept.

use archc_base::Resample;

use super::picture::Rgb;

/// A part of one axis of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: u64,
    pub len: usize,
}

/// The part `columns` x `rows` of `picture` resized to `width` x `height`.
///
/// # Panics
/// If a window is empty or reaches over the result, or the picture is empty.
pub fn resample(
    picture: &Rgb,
    (width, height): (u64, u64),
    interpolation: Resample,
    columns: Window,
    rows: Window,
) -> Rgb {
    assert!(columns.len > 0 && columns.from + columns.len as u64 <= width, "the columns lie in the result");
    assert!(rows.len > 0 && rows.from + rows.len as u64 <= height, "the rows lie in the result");
    if interpolation == Resample::Nearest {
        let xs = nearest(picture.width(), width, columns);
        let ys = nearest(picture.height(), height, rows);
        return gather(picture, &xs, &ys);
    }
    let weights = |size: usize, to: u64, window| {
        if size as u64 == to { Weights::identity(window) } else { Weights::new(size, to, interpolation, window) }
    };
    let vertical = weights(picture.height(), height, rows);
    let horizontal = weights(picture.width(), width, columns);
    // only the rows that the vertical pass reads
    let first = vertical.starts.iter().copied().min().unwrap_or(0);
    let end = vertical.starts.iter().zip(&vertical.lens).map(|(start, len)| start + len).max().unwrap_or(0);
    let narrow = pass_over_rows(picture, &horizontal, first, end);
    pass_over_columns(&narrow, &vertical, first)
}

const BITS: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (BITS - 1);

/// The source pixels of each pixel of a window and their fixed-point weights.
struct Weights {
    starts: Vec<usize>,
    lens: Vec<usize>,
    /// `stride` for each pixel of the window.
    values: Vec<i32>,
    stride: usize,
}

impl Weights {
    fn new(size: usize, to: u64, interpolation: Resample, window: Window) -> Weights {
        let scale = size as f64 / to as f64;
        let stride = interpolation.most(scale);
        let mut weights = Weights { starts: vec![], lens: vec![], values: vec![0; stride * window.len], stride };
        for (i, values) in weights.values.chunks_exact_mut(stride).enumerate() {
            let (start, row) = interpolation.antialiased(window.from + i as u64, scale, size);
            for (value, weight) in values.iter_mut().zip(&row) {
                let scaled = weight * f64::from(1 << BITS);
                *value = if *weight < 0.0 { (scaled - 0.5) as i32 } else { (scaled + 0.5) as i32 };
            }
            weights.starts.push(start);
            weights.lens.push(row.len());
        }
        weights
    }

    /// Each pixel is itself.
    fn identity(window: Window) -> Weights {
        Weights {
            starts: (0..window.len).map(|i| window.from as usize + i).collect(),
            lens: vec![1; window.len],
            values: vec![1 << BITS; window.len],
            stride: 1,
        }
    }

    fn of(&self, i: usize) -> (usize, &[i32]) {
        (self.starts[i], &self.values[i * self.stride..][..self.lens[i]])
    }
}

fn pass_over_rows(picture: &Rgb, weights: &Weights, first: usize, end: usize) -> Rgb {
    let width = weights.starts.len();
    let mut data = vec![0; width * (end - first) * 3];
    let sources = picture.data().chunks_exact(picture.width() * 3).skip(first);
    for (to, from) in data.chunks_exact_mut(width * 3).zip(sources) {
        for (x, to) in to.chunks_exact_mut(3).enumerate() {
            let (start, values) = weights.of(x);
            let (mut r, mut g, mut b) = (HALF, HALF, HALF);
            for (pixel, weight) in from[start * 3..].chunks_exact(3).zip(values) {
                r += i32::from(pixel[0]) * weight;
                g += i32::from(pixel[1]) * weight;
                b += i32::from(pixel[2]) * weight;
            }
            to.copy_from_slice(&[clip(r), clip(g), clip(b)]);
        }
    }
    Rgb::new(width, end - first, data)
}

fn pass_over_columns(picture: &Rgb, weights: &Weights, first: usize) -> Rgb {
    let (row, height) = (picture.width() * 3, weights.starts.len());
    let mut data = vec![0; row * height];
    let mut sums = vec![0; row];
    for (y, to) in data.chunks_exact_mut(row).enumerate() {
        let (start, values) = weights.of(y);
        sums.fill(HALF);
        for (from, weight) in picture.data()[(start - first) * row..].chunks_exact(row).zip(values) {
            for (sum, value) in sums.iter_mut().zip(from) {
                *sum += i32::from(*value) * weight;
            }
        }
        for (to, sum) in to.iter_mut().zip(&sums) {
            *to = clip(*sum);
        }
    }
    Rgb::new(picture.width(), height, data)
}

fn clip(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// The source index of each pixel of the window. Pillow adds the scale up from pixel to pixel; so does this, for the
/// same rounding, as long as the result is of a size that Pillow can make.
fn nearest(size: usize, to: u64, window: Window) -> Vec<usize> {
    let scale = size as f64 / to as f64;
    let mut at = scale * 0.5;
    if to <= 1 << 20 {
        (0..window.from).for_each(|_| at += scale);
    } else {
        at += scale * window.from as f64;
    }
    let mut step = || {
        let index = (at as usize).min(size - 1);
        at += scale;
        index
    };
    (0..window.len).map(|_| step()).collect()
}

fn gather(picture: &Rgb, xs: &[usize], ys: &[usize]) -> Rgb {
    let mut data = Vec::with_capacity(xs.len() * ys.len() * 3);
    for y in ys {
        let row = &picture.data()[y * picture.width() * 3..][..picture.width() * 3];
        xs.iter().for_each(|x| data.extend_from_slice(&row[x * 3..][..3]));
    }
    Rgb::new(xs.len(), ys.len(), data)
}
