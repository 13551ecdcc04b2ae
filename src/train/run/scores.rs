//! How good answers are: accuracy, top 5, precision and recall of each class, the confusion matrix, the worst mistakes.

use serde_json::{Value, json};

use crate::data::Targets;
use crate::io::results::{sigmoid, softmax, top};
use crate::tensor::Tensor;

/// Mistakes that are remembered.
const WORST: usize = 24;

/// What became of the samples of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    pub classes: Vec<String>,
    /// [truth, answer], row-major.
    pub confusion: Vec<u64>,
    pub top5: u64,
    pub samples: u64,
    /// Those that the network is most sure of, the worst first.
    pub worst: Vec<Mistake>,
}

/// A sample that was taken for another class.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    pub sample: usize,
    pub truth: usize,
    pub answer: usize,
    /// The answer's probability.
    pub probability: f32,
}

impl Scores {
    pub fn new(classes: &[String]) -> Scores {
        let count = classes.len();
        Scores { classes: classes.to_vec(), confusion: vec![0; count * count], top5: 0, samples: 0, worst: vec![] }
    }

    /// Counts a batch: `outputs` are logits [B, classes] of the data set's `samples`, whose classes `targets` says.
    pub fn add(&mut self, samples: &[usize], outputs: &Tensor, targets: &Targets) {
        let count = self.classes.len();
        let rows = outputs.data().chunks_exact(count.max(1));
        for (at, (row, sample)) in rows.zip(samples).enumerate() {
            let truth = match targets {
                Targets::Classes(classes) => classes[at],
                Targets::Mixed { first, .. } => first[at],
                Targets::Values(tensor) => {
                    top(&tensor.data()[at * count..][..count], 1).first().map_or(0, |best| best.0)
                }
            };
            let best = top(row, 5);
            let answer = best.first().map_or(0, |best| best.0);
            self.samples += 1;
            self.confusion[truth * count + answer] += 1;
            self.top5 += u64::from(best.iter().any(|(class, _)| *class == truth));
            if answer != truth {
                // numbers as targets are those of binary cross entropy, a sigmoid each
                let probability = match targets {
                    Targets::Values(_) => sigmoid(row[answer]),
                    Targets::Classes(_) | Targets::Mixed { .. } => softmax(row)[answer],
                };
                self.worst.push(Mistake { sample: *sample, truth, answer, probability });
            }
        }
        self.worst.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(a.sample.cmp(&b.sample)));
        self.worst.truncate(WORST);
    }

    pub fn correct(&self) -> u64 {
        (0..self.classes.len()).map(|class| self.confusion[class * self.classes.len() + class]).sum()
    }

    /// The share of correct answers.
    pub fn accuracy(&self) -> f64 {
        share(self.correct(), self.samples)
    }

    /// The share of samples whose class is among the five likeliest.
    pub fn top5(&self) -> f64 {
        share(self.top5, self.samples)
    }

    /// How many samples are of a class.
    pub fn support(&self, class: usize) -> u64 {
        let count = self.classes.len();
        self.confusion[class * count..][..count].iter().sum()
    }

    /// Of the answers that name a class, the share that is right; None where there are none.
    pub fn precision(&self, class: usize) -> Option<f64> {
        let count = self.classes.len();
        let named: u64 = (0..count).map(|truth| self.confusion[truth * count + class]).sum();
        (named > 0).then(|| share(self.confusion[class * count + class], named))
    }

    /// Of the samples of a class, the share that is found; None where there are none.
    pub fn recall(&self, class: usize) -> Option<f64> {
        let support = self.support(class);
        (support > 0).then(|| share(self.confusion[class * self.classes.len() + class], support))
    }

    /// The confusion matrix as a table: a row a true class, a column an answer.
    pub fn to_csv(&self) -> String {
        let count = self.classes.len();
        let names: Vec<String> = self.classes.iter().map(|name| quoted(name)).collect();
        let mut text = format!("truth,{}\n", names.join(","));
        for (name, row) in names.iter().zip(self.confusion.chunks_exact(count.max(1))) {
            let row: Vec<String> = row.iter().map(u64::to_string).collect();
            text += &format!("{name},{}\n", row.join(","));
        }
        text
    }

    pub fn to_json(&self, loss: Option<f64>) -> Value {
        let count = self.classes.len();
        let classes: Vec<Value> = (0..count)
            .map(|class| {
                json!({
                    "class": self.classes[class],
                    "precision": self.precision(class),
                    "recall": self.recall(class),
                    "samples": self.support(class),
                })
            })
            .collect();
        let rows: Vec<&[u64]> = self.confusion.chunks_exact(count.max(1)).collect();
        let mut json = json!({
            "samples": self.samples,
            "accuracy": self.accuracy(),
            "top5": self.top5(),
            "classes": classes,
            "confusion": rows,
        });
        if let (Some(loss), Some(object)) = (loss, json.as_object_mut()) {
            object.insert("loss".into(), json!(loss));
        }
        json
    }
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn quoted(name: &str) -> String {
    if name.contains([',', '"', '\n', '\r']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.into() }
}
