//! From samples to what a step takes: decoded, changed, normalised, side by side.

use rayon::prelude::*;

use super::augment::{Augment, augmented};
use super::{Dataset, Draws, Label, Sample};
use crate::diag::{Code, Problem};
use crate::io::picture::{self, Rgb};
use crate::io::preprocess::Preprocess;
use crate::tensor::Tensor;

/// What a loss compares outputs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The index of a class.
    Classes,
    /// 1 for the class of a sample and 0 for the others.
    OneHot,
    /// The numbers of the sample's row.
    Numbers,
    /// The input itself.
    Image,
}

/// The targets of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// A class a sample.
    Classes(Vec<usize>),
    /// Two classes a sample, the first with this share.
    Mixed { first: Vec<usize>, second: Vec<usize>, share: f32 },
    /// [B, ..]: numbers, or the input itself.
    Values(Tensor),
}

/// How samples become batches.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// None where the network does not say how pictures are prepared: they must have the input's size.
    pub preprocess: Option<Preprocess>,
    /// [C, H, W].
    pub input: [usize; 3],
    pub augments: Vec<Augment>,
    pub want: Want,
    /// How many classes there are.
    pub classes: usize,
    pub seed: u64,
    /// Whether pictures that cannot be read are left out; else they end the run.
    pub skip_corrupt: bool,
}

/// Samples that are learned from, or looked at, at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Their indices in the data set.
    pub samples: Vec<usize>,
    /// [B, C, H, W].
    pub input: Tensor,
    pub targets: Targets,
    /// The pictures that could not be read and were left out.
    pub problems: Vec<Problem>,
}

impl Recipe {
    /// The batch of `samples` as epoch `epoch` learns from it; `step` is its place in the epoch.
    ///
    /// # Errors
    /// A picture that cannot be read or does not fit the input, unless such are left out.
    pub fn training(&self, data: &Dataset, samples: &[usize], epoch: usize, step: usize) -> Result<Batch, Problem> {
        let values = |sample: &Sample, at: usize| {
            let mut draws = Draws::named(self.seed, &format!("augment.{epoch}.{at}"));
            let picture = self.read(sample)?;
            let preprocess = self.preprocess.clone().unwrap_or_default();
            augmented(&picture, &preprocess, self.input, &self.augments, &mut draws)
        };
        let mut batch = self.collect(data, samples, values)?;
        let alpha = |augment: &Augment| if let Augment::Mixup { alpha } = augment { Some(*alpha) } else { None };
        if let Some(alpha) = self.augments.iter().rev().find_map(alpha) {
            let share = Draws::named(self.seed, &format!("mixup.{epoch}.{step}")).beta(alpha);
            mix(&mut batch, share as f32);
        }
        Ok(batch)
    }

    /// The batch of `samples` as evaluation sees it, without anything random.
    ///
    /// # Errors
    /// Those of [`Recipe::training`].
    pub fn evaluation(&self, data: &Dataset, samples: &[usize]) -> Result<Batch, Problem> {
        let preprocess = self.preprocess.clone().unwrap_or_default();
        let values = |sample: &Sample, _| Ok(preprocess.apply(&self.read(sample)?, self.input)?.into_data());
        self.collect(data, samples, values)
    }

    /// Whether the input of a sample is the same in every epoch.
    pub fn is_fixed(&self) -> bool {
        self.augments.is_empty()
    }

    fn read(&self, sample: &Sample) -> Result<Rgb, Problem> {
        let picture = picture::read(&sample.path)?;
        let [channels, height, width] = self.input;
        if self.preprocess.is_none() && (picture.height(), picture.width()) != (height, width) {
            let message = format!(
                "`{}` is {} x {}, the network's input is {height} x {width}",
                sample.path.display(),
                picture.height(),
                picture.width()
            );
            let size = if height == width { height.to_string() } else { format!("({height}, {width})") };
            return Err(Problem::new(Code::Input, message)
                .note("the network does not say how pictures are prepared for it")
                .hint(format!("say it: `base .. {{ preprocess {{ resize = {}, crop = {size} }} }}`", height.min(width)))
                .hint(format!(
                    "or build the network for such pictures: `base .. {{ input [N, {channels}, {}, {}] }}`",
                    picture.height(),
                    picture.width()
                )));
        }
        Ok(picture)
    }

    /// A batch of `samples` whose input is not needed, and is empty.
    pub fn without_input(&self, data: &Dataset, samples: &[usize]) -> Batch {
        let mut batch = Batch {
            samples: samples.to_vec(),
            input: Tensor::zeros([0]),
            targets: Targets::Classes(vec![]),
            problems: vec![],
        };
        batch.targets = self.targets(data, &batch);
        batch
    }

    fn collect(
        &self,
        data: &Dataset,
        samples: &[usize],
        values: impl Fn(&Sample, usize) -> Result<Vec<f32>, Problem> + Sync,
    ) -> Result<Batch, Problem> {
        let read: Vec<Result<Vec<f32>, Problem>> =
            samples.par_iter().map(|at| values(&data.samples[*at], *at)).collect();
        let mut batch =
            Batch { samples: vec![], input: Tensor::zeros([0]), targets: Targets::Classes(vec![]), problems: vec![] };
        let len: usize = self.input.iter().product();
        let mut input = Vec::with_capacity(len * samples.len());
        for (at, values) in samples.iter().zip(read) {
            match values {
                Ok(values) => {
                    input.extend(values);
                    batch.samples.push(*at);
                }
                // the picture may be good
                Err(problem) if problem.code == Code::Resource => return Err(problem),
                Err(problem) if self.skip_corrupt => batch.problems.push(problem),
                Err(problem) => {
                    let hint = "or leave such pictures out: `data folder(.., skip_corrupt = true)`";
                    return Err(problem.hint(hint));
                }
            }
        }
        let count = batch.samples.len();
        let [channels, height, width] = self.input;
        batch.input = Tensor::new([count, channels, height, width], input);
        batch.targets = self.targets(data, &batch);
        Ok(batch)
    }

    fn targets(&self, data: &Dataset, batch: &Batch) -> Targets {
        let labels = || batch.samples.iter().map(|at| &data.samples[*at].label);
        let class = |label: &Label| if let Label::Class(class) = label { *class } else { 0 };
        match self.want {
            Want::Classes => Targets::Classes(labels().map(class).collect()),
            Want::OneHot => Targets::Values(one_hot(labels().map(class), self.classes)),
            Want::Image => Targets::Values(batch.input.clone()),
            Want::Numbers => {
                let numbers =
                    |label: &Label| if let Label::Numbers(numbers) = label { numbers.clone() } else { vec![] };
                let rows: Vec<Vec<f32>> = labels().map(numbers).collect();
                let width = rows.first().map_or(0, Vec::len);
                Targets::Values(Tensor::new([rows.len(), width], rows.concat()))
            }
        }
    }
}

impl Targets {
    /// How many samples there are.
    pub fn len(&self) -> usize {
        match self {
            Targets::Classes(classes) => classes.len(),
            Targets::Mixed { first, .. } => first.len(),
            Targets::Values(tensor) => tensor.shape().first().copied().unwrap_or(0),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn one_hot(labels: impl ExactSizeIterator<Item = usize>, classes: usize) -> Tensor {
    let mut tensor = Tensor::zeros([labels.len(), classes]);
    for (row, class) in tensor.data_mut().chunks_exact_mut(classes.max(1)).zip(labels) {
        row[class] = 1.0;
    }
    tensor
}

/// `share` of each sample and the rest of the one before it, the last before the first, as torchvision's RandomMixup (Zhang
/// et al. 2017).
fn mix(batch: &mut Batch, share: f32) {
    let count = batch.samples.len();
    if count < 2 {
        return;
    }
    let roll = |tensor: &mut Tensor| {
        let len = tensor.len() / count;
        let old = tensor.data().to_vec();
        for (at, values) in tensor.data_mut().chunks_exact_mut(len).enumerate() {
            let before = &old[(at + count - 1) % count * len..][..len];
            for (value, other) in values.iter_mut().zip(before) {
                *value = *value * share + *other * (1.0 - share);
            }
        }
    };
    roll(&mut batch.input);
    batch.targets = match std::mem::replace(&mut batch.targets, Targets::Classes(vec![])) {
        Targets::Classes(first) => {
            let second = (0..count).map(|at| first[(at + count - 1) % count]).collect();
            Targets::Mixed { first, second, share }
        }
        mixed @ Targets::Mixed { .. } => mixed,
        Targets::Values(mut tensor) => {
            roll(&mut tensor);
            Targets::Values(tensor)
        }
    };
}
