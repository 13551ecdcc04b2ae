//! Changing the size of an image.

/// How a pixel between pixels is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resample {
    /// The nearest one.
    Nearest,
    /// The two beside it along each axis, by their distance.
    Bilinear,
    /// The four around it along each axis, by cubic convolution (Keys 1981).
    Bicubic,
}

/// The input pixels of one output pixel along one axis: the first `n` of each array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taps {
    pub n: usize,
    pub at: [usize; 4],
    pub weight: [f64; 4],
}

impl Taps {
    /// The pixels with their weights.
    pub fn pixels(&self) -> impl Iterator<Item = (usize, f64)> {
        self.at.into_iter().zip(self.weight).take(self.n)
    }
}

impl Resample {
    /// One of each, with the name by which CUDA code knows it.
    pub const ALL: [(&str, Resample); 3] =
        [("Nearest", Resample::Nearest), ("Bilinear", Resample::Bilinear), ("Bicubic", Resample::Bicubic)];

    /// Its place in [`Resample::ALL`].
    pub fn code(self) -> i32 {
        crate::place(&Resample::ALL, |other| *other == self)
    }

    /// The word of the language.
    pub fn name(self) -> &'static str {
        match self {
            Resample::Nearest => "nearest",
            Resample::Bilinear => "bilinear",
            Resample::Bicubic => "bicubic",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Resample> {
        Resample::ALL.into_iter().map(|(_, resample)| resample).find(|resample| resample.name() == name)
    }

    /// What output pixel `at` of `to` is made of, as `torch.nn.functional.interpolate` without `align_corners` and
    /// antialiasing.
    ///
    /// It lies at `(at + 1/2) ratio - 1/2` of the `from` input pixels, `ratio` being 1 / scale where a scale was given and
    /// from / to where a size was; nearest takes `floor(at ratio)`, in float32 as PyTorch does. The cubic has a = -0.75.
    pub fn taps(self, at: usize, ratio: f64, from: usize, to: usize) -> Taps {
        let source = ratio * (at as f64 + 0.5) - 0.5;
        match self {
            Resample::Nearest => {
                let at = if from == to { at } else { (at as f32 * ratio as f32).floor() as usize };
                Taps { n: 1, at: [at.min(from - 1); 4], weight: [1.0, 0.0, 0.0, 0.0] }
            }
            Resample::Bilinear => {
                let source = source.max(0.0);
                let low = (source as usize).min(from - 1);
                let t = source - low as f64;
                Taps { n: 2, at: [low, (low + 1).min(from - 1), 0, 0], weight: [1.0 - t, t, 0.0, 0.0] }
            }
            Resample::Bicubic => {
                const A: f64 = -0.75;
                let near = |t: f64| ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
                let far = |t: f64| ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A;
                let low = source.floor();
                let t = source - low;
                let at = std::array::from_fn(|k| (low as i64 + k as i64 - 1).clamp(0, from as i64 - 1) as usize);
                Taps { n: 4, at, weight: [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)] }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_pixels_exist() {
        for (_, resample) in Resample::ALL {
            assert_eq!(Resample::named(resample.name()), Some(resample));
            for (from, to) in [(1, 5), (5, 1), (7, 7), (3, 8), (9, 4)] {
                for at in 0..to {
                    let taps = resample.taps(at, from as f64 / to as f64, from, to);
                    let sum: f64 = taps.weight[..taps.n].iter().sum();
                    assert!((sum - 1.0).abs() < 1e-12, "{resample:?} {at} of {to}: {sum}");
                    assert!(taps.at[..taps.n].iter().all(|at| *at < from), "{resample:?} {at} of {to}");
                }
            }
        }
    }
}
