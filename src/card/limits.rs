//! What the figures of a card do not say, as far as the data shows it.

use super::{Card, Training};
use crate::answers::Answer;
use crate::diag::and;
use crate::io::results;
use crate::table::count;
use crate::train::run::scores::Scores;

/// Fewer pictures of a class than this are few.
const FEW: usize = 20;

/// How many times as many pictures the largest class has as the smallest, from where on it is said.
const UNEVEN: usize = 3;

/// How far below the accuracy a class's recall is told.
const BEHIND: f64 = 0.1;

/// Classes, and pairs of them, that are named.
const NAMED: usize = 3;

impl Card {
    /// A sentence each.
    pub(super) fn limits(&self) -> Vec<String> {
        let mut limits = match &self.training {
            Some(training) => of_training(training),
            None => self.of_weights(),
        };
        if let Some(preprocess) = &self.preprocess {
            let sizes = preprocess.trim_start_matches("preprocess: ");
            limits.push(format!(
                "It expects pictures as they were prepared for its base ({sizes}); of others, such as drawings, scans or \
                 infrared pictures, nothing is known."
            ));
        }
        if let Answer::Classes(results::Scores::Logits | results::Scores::Probabilities) = self.answer {
            limits.push(
                "It gives every picture one of its classes, also a picture that shows none of them; its probabilities were \
                 not calibrated."
                    .into(),
            );
        }
        limits
    }

    fn of_weights(&self) -> Vec<String> {
        let mut limits = vec![];
        if self.is_random {
            limits.push("All weights are random: it was never trained.".to_string());
        } else if self.fresh > 0 {
            limits.push(format!(
                "{} new and {} what an initialiser drew: before it is trained its outputs mean nothing.",
                if self.fresh == 1 { "1 tensor is".into() } else { format!("{} tensors are", self.fresh) },
                if self.fresh == 1 { "holds" } else { "hold" }
            ));
        }
        limits.push("archc has seen no data of it: nothing is known of its accuracy.".into());
        limits
    }
}

fn of_training(training: &Training) -> Vec<String> {
    let mut limits = vec![];
    let Training { counts, validation, scores, .. } = training;
    if *validation == 0 {
        limits.push(
            "No sample was kept for validation: the figures are of samples that it has learned from, and say little of \
             others."
                .to_string(),
        );
    }
    if let Some(scores) = scores.as_ref().filter(|scores| scores.samples > 0) {
        if *validation > 0 {
            let (low, high) = interval(scores.correct(), scores.samples);
            limits.push(format!(
                "The accuracy was measured on {}. With so many, an accuracy from {:.1} % to {:.1} % fits what was seen \
                 (Wilson's interval, 95 %); the epoch was chosen by the same samples, so that new ones will do a little worse.",
                count(scores.samples as usize, "sample"),
                low * 100.0,
                high * 100.0
            ));
        }
        limits.extend(behind(scores));
        limits.extend(confused(scores));
    }
    limits.extend(uneven(counts));
    limits
}

/// Wilson's interval of the share `part` / `whole`, 95 %: Wilson, "Probable inference, the law of succession, and statistical
/// inference", 1927.
pub fn interval(part: u64, whole: u64) -> (f64, f64) {
    const Z: f64 = 1.959_963_984_540_054;
    let n = whole.max(1) as f64;
    let share = part as f64 / n;
    let middle = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0))
}

/// The classes that are found much less often than others.
fn behind(scores: &Scores) -> Option<String> {
    let accuracy = scores.accuracy();
    let mut found: Vec<(usize, f64)> =
        (0..scores.classes.len()).filter_map(|class| Some((class, scores.recall(class)?))).collect();
    found.retain(|(_, recall)| accuracy - recall > BEHIND);
    found.sort_by(|a, b| a.1.total_cmp(&b.1));
    if found.is_empty() {
        return None;
    }
    let named: Vec<String> = found
        .iter()
        .take(NAMED)
        .map(|(class, recall)| {
            format!(
                "{} ({:.0} % of {})",
                super::inline(&scores.classes[*class]),
                recall * 100.0,
                scores.support(*class)
            )
        })
        .collect();
    let more = found.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("Some classes are found less often than the rest: {}{more}.", named.join(", ")))
}

/// The classes that are most often taken for others.
fn confused(scores: &Scores) -> Option<String> {
    let count = scores.classes.len();
    let mut found: Vec<(u64, usize, usize)> = vec![];
    for truth in 0..count {
        for answer in (0..count).filter(|answer| *answer != truth) {
            let times = scores.confusion[truth * count + answer];
            if times > 1 {
                found.push((times, truth, answer));
            }
        }
    }
    found.sort_by_key(|(times, truth, answer)| (std::cmp::Reverse(*times), *truth, *answer));
    let named: Vec<String> = found
        .iter()
        .take(NAMED)
        .map(|(times, truth, answer)| {
            let name = |class: usize| super::inline(&scores.classes[class]);
            format!("{} for {} ({times} times)", name(*truth), name(*answer))
        })
        .collect();
    (!named.is_empty()).then(|| format!("What it mistakes most often: {}.", named.join(", ")))
}

/// Classes with few pictures, or far fewer than others.
fn uneven(counts: &[(String, usize)]) -> Vec<String> {
    let mut limits = vec![];
    let few: Vec<&(String, usize)> = counts.iter().filter(|(_, pictures)| *pictures < FEW).collect();
    if !few.is_empty() {
        let named: Vec<String> = few.iter().take(NAMED).map(|(name, _)| super::code(name)).collect();
        let more = few.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        limits.push(format!("Fewer than {FEW} pictures to learn from have the classes {}{more}.", and(&named)));
    }
    let (least, most) =
        (counts.iter().min_by_key(|(_, pictures)| *pictures), counts.iter().max_by_key(|(_, pictures)| *pictures));
    if let (Some((rare, least)), Some((frequent, most))) = (least, most)
        && *most >= UNEVEN * (*least).max(1)
    {
        limits.push(format!(
            "The classes are uneven: `{}` has {most} pictures to learn from, `{}` {least}.",
            super::code(frequent),
            super::code(rare)
        ));
    }
    limits
}
