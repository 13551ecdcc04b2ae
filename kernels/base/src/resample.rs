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

/// A matrix each row of which has its values side by side: every output along an axis is a weighted sum of inputs in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Banded {
    inputs: usize,
    /// The first input of each output, and where its weights begin; at the end a line for where they all end.
    runs: Vec<(usize, usize)>,
    weights: Vec<f64>,
}

impl Banded {
    /// What makes `to` pixels of an axis of `from` by [`Resample::antialiased`].
    pub fn antialiased(resample: Resample, ratio: f64, from: usize, to: usize) -> Banded {
        let mut banded = Banded { inputs: from, runs: Vec::with_capacity(to + 1), weights: vec![] };
        for at in 0..to {
            let (first, weights) = resample.antialiased(at as u64, ratio, from);
            banded.runs.push((first, banded.weights.len()));
            banded.weights.extend(weights);
        }
        banded.runs.push((0, banded.weights.len()));
        banded
    }

    /// What makes of outputs' gradients those of inputs, where neither the first nor the last input of an output comes before
    /// that of the output before it.
    #[must_use]
    pub fn transposed(&self) -> Banded {
        let end = |at: usize| self.runs[at].0 + self.run(at).1.len();
        let mut banded = Banded { inputs: self.outputs(), runs: Vec::with_capacity(self.inputs + 1), weights: vec![] };
        let mut first = 0;
        for input in 0..self.inputs {
            while first < self.outputs() && end(first) <= input {
                first += 1;
            }
            banded.runs.push((first, banded.weights.len()));
            let those = (first..self.outputs()).map(|at| self.run(at)).take_while(|(start, _)| *start <= input);
            banded.weights.extend(those.map(|(start, weights)| weights[input - start]));
        }
        banded.runs.push((0, banded.weights.len()));
        banded
    }

    /// The number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The number of outputs.
    pub fn outputs(&self) -> usize {
        self.runs.len() - 1
    }

    /// The first input of output `at`, and the weights of as many inputs from there on.
    pub fn run(&self, at: usize) -> (usize, &[f64]) {
        (self.runs[at].0, &self.weights[self.runs[at].1..self.runs[at + 1].1])
    }

    /// The first input of each output, and where its weights begin among [`Banded::weights`]; the last line says where they end.
    pub fn runs(&self) -> &[(usize, usize)] {
        &self.runs
    }

    /// All weights, output by output.
    pub fn weights(&self) -> &[f64] {
        &self.weights
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

    /// What output pixel `at` is made of where `from` input pixels are resampled and antialiased: the first of them, and the
    /// weight of each from there on, as Pillow has them and `torch.nn.functional.interpolate` with `antialias`.
    ///
    /// `ratio` is as in [`Resample::taps`]. The filter, a triangle or the cubic with a = -0.5, is as wide as the pixels that
    /// an output covers, or as one where it covers less; its weights are divided by their sum. `Nearest` is taken as `Bilinear`.
    pub fn antialiased(self, at: u64, ratio: f64, from: usize) -> (usize, Vec<f64>) {
        let (filter, support) = self.filter(ratio);
        let inverse = 1.0 / ratio.max(1.0);
        let center = (at as f64 + 0.5) * ratio;
        // `as` cuts off towards zero, as C does, and takes what is negative as 0
        let start = ((center - support + 0.5) as usize).min(from - 1);
        let end =
            ((center + support + 0.5) as usize).clamp(start + 1, from).min(start.saturating_add(self.most(ratio)));
        let mut weights: Vec<f64> = (start..end).map(|x| filter((x as f64 - center + 0.5) * inverse)).collect();
        let sum: f64 = weights.iter().sum();
        if sum != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        (start, weights)
    }

    /// The most input pixels that [`Resample::antialiased`] makes a pixel of.
    pub fn most(self, ratio: f64) -> usize {
        (self.filter(ratio).1.ceil() as usize).saturating_mul(2).saturating_add(1)
    }

    /// The filter of antialiasing and how far it reaches, in input pixels.
    fn filter(self, ratio: f64) -> (fn(f64) -> f64, f64) {
        let (filter, support): (fn(f64) -> f64, f64) = match self {
            Resample::Bicubic => (cubic, 2.0),
            Resample::Bilinear | Resample::Nearest => (triangle, 1.0),
        };
        (filter, support * ratio.max(1.0))
    }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
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
    #[test]
    fn antialiased_weights_sum_to_one_and_a_transpose_has_the_same() {
        for resample in [Resample::Bilinear, Resample::Bicubic] {
            for (from, to, ratio) in [
                (1, 5, 0.2),
                (5, 1, 5.0),
                (7, 7, 1.0),
                (3, 8, 0.375),
                (9, 4, 2.25),
                (7, 2, 1.0 / 0.3),
                (40, 3, 40.0 / 3.0),
            ] {
                let banded = Banded::antialiased(resample, ratio, from, to);
                let transposed = banded.transposed();
                assert_eq!((banded.inputs(), banded.outputs()), (from, to));
                assert_eq!((transposed.inputs(), transposed.outputs()), (to, from));
                let dense = |banded: &Banded| -> Vec<Vec<f64>> {
                    let row = |at: usize| {
                        let (first, weights) = banded.run(at);
                        let mut row = vec![0.0; banded.inputs()];
                        row[first..first + weights.len()].copy_from_slice(weights);
                        row
                    };
                    (0..banded.outputs()).map(row).collect()
                };
                let (rows, columns) = (dense(&banded), dense(&transposed));
                for (at, row) in rows.iter().enumerate() {
                    assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{resample:?} {at} of {to}: {row:?}");
                    assert!(row.iter().enumerate().all(|(input, weight)| columns[input][at] == *weight));
                }
                assert_eq!(transposed.transposed(), banded, "{resample:?} {from} to {to}");
            }
        }
    }
}
