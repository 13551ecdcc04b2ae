//! Keeping a share of the samples for validation, class by class, by the seed.

use super::{Dataset, Draws, Label, Sample};

/// Takes `share` of each class, at least one of a class that has two, out of `train`. Both parts keep their order.
pub fn split(train: &mut Dataset, share: f64, seed: u64) -> Dataset {
    let mut groups: Vec<(usize, Vec<usize>)> = vec![];
    for (at, sample) in train.samples.iter().enumerate() {
        let class = if let Label::Class(class) = sample.label { class } else { 0 };
        match groups.iter_mut().find(|(other, _)| *other == class) {
            Some((_, members)) => members.push(at),
            None => groups.push((class, vec![at])),
        }
    }
    let mut kept = vec![false; train.samples.len()];
    for (class, mut members) in groups {
        let mut count = (members.len() as f64 * share).round() as usize;
        if share > 0.0 && members.len() > 1 {
            count = count.clamp(1, members.len() - 1);
        }
        Draws::named(seed, &format!("split.{class}")).shuffle(&mut members);
        members.iter().take(count).for_each(|at| kept[*at] = true);
    }
    let samples = std::mem::take(&mut train.samples).into_iter().zip(kept);
    let (val, rest): (Vec<(Sample, bool)>, Vec<_>) = samples.partition(|(_, kept)| *kept);
    train.samples = rest.into_iter().map(|(sample, _)| sample).collect();
    Dataset { samples: val.into_iter().map(|(sample, _)| sample).collect(), root: train.root.clone() }
}
