//! What `run` found out: the most likely classes of each picture, its numbers, how much of it each class covers, or a summary
//! of each output; as CSV and JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::labels::Labels;
use crate::tensor::Tensor;

/// One of the most likely classes of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What the sample is called.
    pub file: String,
    /// 1 is the most likely.
    pub rank: usize,
    pub index: usize,
    pub label: Option<String>,
    pub probability: f32,
}

/// The numbers that a network of regression gives for one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// What the sample is called.
    pub file: String,
    pub values: Vec<f32>,
    /// What each number is called, where that is known.
    pub labels: Option<Vec<String>>,
}

/// How much of a picture each class covers.
#[derive(Clone, Debug, PartialEq)]
pub struct Covered {
    /// What the sample is called.
    pub file: String,
    /// How many classes there are.
    pub classes: usize,
    /// Those that some pixel has, the largest first.
    pub found: Vec<Cover>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Cover {
    pub index: usize,
    pub label: Option<String>,
    /// Of the pixels, in 0..1.
    pub share: f64,
}

/// One output over all samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub name: String,
    pub dtype: String,
    /// With the batch, which counts all samples.
    pub shape: Vec<usize>,
    pub min: f32,
    /// NaN where a value is.
    pub max: f32,
    sum: f64,
}

/// The results of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Results {
    /// Of a classifier: the best classes of each sample in order.
    Classes(Vec<Row>),
    /// Of a network of regression: the numbers of each sample.
    Numbers(Vec<Numbers>),
    /// Of a network that gives each pixel a class.
    Pixels(Vec<Covered>),
    /// Of any other network: its outputs.
    Outputs(Vec<Summary>),
}

/// What a classifier's output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// Softmax makes probabilities of them.
    Logits,
    /// The last op is a softmax or sigmoid: they are taken as they are.
    Probabilities,
    /// A sigmoid makes a probability of each, and several classes may be right.
    Sigmoids,
}

/// The `count` most likely classes of the sample `file`. Labels are used where there are as many as classes.
pub fn classify(file: &str, values: &[f32], scores: Scores, count: usize, labels: Option<&Labels>) -> Vec<Row> {
    let probabilities = match scores {
        Scores::Logits => softmax(values),
        Scores::Probabilities => values.to_vec(),
        Scores::Sigmoids => values.iter().map(|value| sigmoid(*value)).collect(),
    };
    let labels = labels.filter(|labels| labels.len() == values.len());
    let name = |index| labels.and_then(|labels| labels.name(index)).map(str::to_string);
    let best = top(&probabilities, count).into_iter().enumerate();
    best.map(|(i, (index, probability))| Row { file: file.into(), rank: i + 1, index, label: name(index), probability })
        .collect()
}

/// Softmax over all values, in float64. A NaN makes all of them NaN.
pub fn softmax(values: &[f32]) -> Vec<f32> {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = values.iter().map(|value| (f64::from(*value) - f64::from(largest)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / sum) as f32).collect()
}

/// 1 / (1 + exp(-x)), in float64.
pub fn sigmoid(value: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(value)).exp())) as f32
}

/// The `count` largest values with their indices, the largest first; equal ones by index, NaN behind all others.
pub fn top(values: &[f32], count: usize) -> Vec<(usize, f32)> {
    let mut order: Vec<(usize, f32)> = values.iter().copied().enumerate().collect();
    // stable, so that equal values stay in the order of their indices
    order.sort_by(|(_, a), (_, b)| {
        a.is_nan().cmp(&b.is_nan()).then(b.partial_cmp(a).unwrap_or(std::cmp::Ordering::Equal))
    });
    order.truncate(count);
    order
}

/// The class of each pixel of a map [classes, pixels]: the first of the largest scores; NaN is none of them.
pub fn pixel_classes(scores: &[f32], classes: usize) -> Vec<usize> {
    let pixels = scores.len() / classes.max(1);
    let mut best = vec![(0, f32::NEG_INFINITY); pixels];
    for (class, plane) in scores.chunks_exact(pixels.max(1)).enumerate() {
        for (best, score) in best.iter_mut().zip(plane) {
            if *score > best.1 {
                *best = (class, *score);
            }
        }
    }
    best.into_iter().map(|(class, _)| class).collect()
}

impl Covered {
    /// Of scores [classes, pixels]. Labels are used where there are as many as classes.
    pub fn new(file: &str, scores: &[f32], classes: usize, labels: Option<&Labels>) -> Covered {
        let labels = labels.filter(|labels| labels.len() == classes);
        let map = pixel_classes(scores, classes);
        let mut counts = vec![0usize; classes];
        map.iter().for_each(|class| counts[*class] += 1);
        let mut found: Vec<Cover> = counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| Cover {
                index,
                label: labels.and_then(|labels| labels.name(index)).map(str::to_string),
                share: *count as f64 / map.len() as f64,
            })
            .collect();
        // stable, so that equal shares stay in the order of their indices
        found.sort_by(|a, b| b.share.total_cmp(&a.share));
        Covered { file: file.into(), classes, found }
    }
}

impl Numbers {
    /// `labels` are used where there are as many as values.
    pub fn new(file: &str, values: &[f32], labels: Option<&Labels>) -> Numbers {
        let labels = labels.filter(|labels| labels.len() == values.len()).map(|labels| labels.names().to_vec());
        Numbers { file: file.into(), values: values.to_vec(), labels }
    }

    pub fn label(&self, index: usize) -> Option<&str> {
        self.labels.as_ref()?.get(index).map(String::as_str)
    }
}

impl Summary {
    /// Of no sample yet.
    pub fn new(name: impl Into<String>, dtype: impl Into<String>) -> Summary {
        let (min, max) = (f32::INFINITY, f32::NEG_INFINITY);
        Summary { name: name.into(), dtype: dtype.into(), shape: vec![], min, max, sum: 0.0 }
    }

    /// Adds the samples of a batch, [B, ..].
    pub fn add(&mut self, batch: &Tensor) {
        if self.shape.is_empty() {
            self.shape = batch.shape().to_vec();
        } else if let (Some(samples), Some(more)) = (self.shape.first_mut(), batch.shape().first()) {
            *samples += more;
        }
        for value in batch.data() {
            self.sum += f64::from(*value);
            // unlike f32::min, once NaN it stays NaN
            self.min = if self.min.is_nan() || *value >= self.min { self.min } else { *value };
            self.max = if self.max.is_nan() || *value <= self.max { self.max } else { *value };
        }
    }

    /// Over all values; NaN where there is none.
    pub fn mean(&self) -> f64 {
        self.sum / self.shape.iter().product::<usize>() as f64
    }
}

impl Results {
    /// A header and a line a row (RFC 4180, but lines end in LF).
    pub fn to_csv(&self) -> String {
        let mut text = String::new();
        match self {
            Results::Classes(rows) => {
                text.push_str("file,rank,index,label,probability\n");
                for row in rows {
                    let (file, label) = (quoted(&row.file), quoted(row.label.as_deref().unwrap_or("")));
                    let _ = writeln!(text, "{file},{},{},{label},{}", row.rank, row.index, row.probability);
                }
            }
            Results::Numbers(samples) => {
                text.push_str("file,index,label,value\n");
                for sample in samples {
                    let file = quoted(&sample.file);
                    for (index, value) in sample.values.iter().enumerate() {
                        let _ = writeln!(text, "{file},{index},{},{value}", quoted(sample.label(index).unwrap_or("")));
                    }
                }
            }
            Results::Pixels(samples) => {
                text.push_str("file,index,label,share\n");
                for sample in samples {
                    let file = quoted(&sample.file);
                    for one in &sample.found {
                        let label = quoted(one.label.as_deref().unwrap_or(""));
                        let _ = writeln!(text, "{file},{},{label},{}", one.index, one.share);
                    }
                }
            }
            Results::Outputs(outputs) => {
                text.push_str("output,dtype,shape,min,mean,max\n");
                for output in outputs {
                    let shape: Vec<String> = output.shape.iter().map(usize::to_string).collect();
                    let (name, shape, mean) = (quoted(&output.name), shape.join("x"), output.mean());
                    let _ = writeln!(text, "{name},{},{shape},{},{mean},{}", output.dtype, output.min, output.max);
                }
            }
        }
        text
    }

    /// Of a classifier a list of {`file`, `top`: [{`index`, `label`, `probability`}]}, of numbers one of {`file`, `values`,
    /// and `labels` where there are any}, of pixels one of {`file`, `classes`, `found`: [{`index`, `label`, `share`}]}, else a list of {`output`, `dtype`, `shape`, `min`, `mean`, `max`}. What is not
    /// finite is null.
    pub fn to_json(&self) -> Value {
        let values = match self {
            Results::Classes(rows) => {
                // a file may have been given twice: a sample begins with rank 1
                let samples = rows.chunk_by(|_, next| next.rank != 1);
                let sample = |rows: &[Row]| {
                    let top: Vec<Value> = rows
                        .iter()
                        .map(|row| json!({ "index": row.index, "label": row.label, "probability": number(row.probability) }))
                        .collect();
                    json!({ "file": rows[0].file, "top": top })
                };
                samples.map(sample).collect()
            }
            Results::Numbers(samples) => samples
                .iter()
                .map(|sample| {
                    let values: Vec<Value> = sample.values.iter().map(|value| number(*value)).collect();
                    let mut json = json!({ "file": sample.file, "values": values });
                    if let Some(labels) = &sample.labels {
                        json["labels"] = json!(labels);
                    }
                    json
                })
                .collect(),
            Results::Pixels(samples) => samples
                .iter()
                .map(|sample| {
                    let found: Vec<Value> = sample
                        .found
                        .iter()
                        .map(|one| json!({ "index": one.index, "label": one.label, "share": one.share }))
                        .collect();
                    json!({ "file": sample.file, "classes": sample.classes, "found": found })
                })
                .collect(),
            Results::Outputs(outputs) => outputs
                .iter()
                .map(|output| {
                    json!({ "output": output.name, "dtype": output.dtype, "shape": output.shape,
                        "min": number(output.min), "mean": output.mean(), "max": number(output.max) })
                })
                .collect(),
        };
        Value::Array(values)
    }
}

/// The shortest decimal that is this float32, not the longer one of its float64.
fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, |value| json!(value))
}

fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_ties_by_index_and_nan_last() {
        let nan = f32::NAN;
        let indices = |values: &[f32], count| top(values, count).iter().map(|(i, _)| *i).collect::<Vec<_>>();
        assert_eq!(indices(&[1.0, 3.0, 2.0, 3.0], 3), [1, 3, 2]);
        assert_eq!(indices(&[nan, 1.0, nan, f32::NEG_INFINITY, f32::INFINITY], 5), [4, 1, 3, 0, 2]);
        assert_eq!(indices(&[0.0, -0.0], 5), [0, 1]);
        assert_eq!(indices(&[], 5), [0usize; 0]);
    }

    #[test]
    fn pixels_have_the_class_of_the_largest_score() {
        let nan = f32::NAN;
        // three classes of four pixels
        let scores = [0.0, 5.0, nan, nan, 1.0, 5.0, 2.0, nan, 3.0, 4.0, 1.0, nan];
        assert_eq!(pixel_classes(&scores, 3), [2, 0, 1, 0]);
        let covered = Covered::new("a.png", &scores, 3, None);
        let found: Vec<_> = covered.found.iter().map(|one| (one.index, one.share)).collect();
        assert_eq!(found, [(0, 0.5), (1, 0.25), (2, 0.25)]);
        assert_eq!(pixel_classes(&[], 3), [0usize; 0]);
        let results = Results::Pixels(vec![covered]);
        assert_eq!(results.to_csv(), "file,index,label,share\na.png,0,,0.5\na.png,1,,0.25\na.png,2,,0.25\n");
        assert_eq!(results.to_json()[0]["found"][1], json!({ "index": 1, "label": null, "share": 0.25 }));
    }

    #[test]
    fn softmax_is_stable() {
        assert_eq!(softmax(&[1000.0, 1000.0]), [0.5, 0.5]);
        assert_eq!(softmax(&[0.0, -1000.0]), [1.0, 0.0]);
        let values = softmax(&[1.0, 2.0, 3.0]);
        let expected = [0.090_030_57, 0.244_728_48, 0.665_240_94];
        assert!(values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7), "{values:?}");
        assert!(softmax(&[1.0, f32::NAN]).iter().all(|value| value.is_nan()));
    }

    #[test]
    fn labels_are_used_where_there_are_as_many_as_classes() {
        let labels = Labels::from(vec!["cat".to_string(), "dog, \"big\"".to_string()]);
        let rows = classify("a,b.png", &[0.25, 0.75], Scores::Probabilities, 5, Some(&labels));
        assert_eq!(rows[0].label.as_deref(), Some("dog, \"big\""));
        let results = Results::Classes(rows);
        let csv =
            "file,rank,index,label,probability\n\"a,b.png\",1,1,\"dog, \"\"big\"\"\",0.75\n\"a,b.png\",2,0,cat,0.25\n";
        assert_eq!(results.to_csv(), csv);
        let rows = classify("a", &[0.0, 0.0, 0.0], Scores::Logits, 1, Some(&labels));
        assert_eq!(rows[0], Row { file: "a".into(), rank: 1, index: 0, label: None, probability: 1.0 / 3.0 });
    }

    #[test]
    fn sigmoids_are_each_their_own() {
        let rows = classify("a", &[0.0, 2.0, -800.0, 800.0], Scores::Sigmoids, 4, None);
        let found: Vec<(usize, f32)> = rows.iter().map(|row| (row.index, row.probability)).collect();
        // torch.sigmoid
        assert_eq!(found, [(3, 1.0), (1, 0.880_797_1), (0, 0.5), (2, 0.0)]);
    }

    #[test]
    fn numbers_are_as_they_are() {
        let labels = Labels::from(vec!["age".to_string(), "height".to_string()]);
        let plain = Numbers::new("a.png", &[31.5, -0.25], None);
        let results = Results::Numbers(vec![plain, Numbers::new("b.png", &[7.0, f32::NAN], Some(&labels))]);
        assert_eq!(
            results.to_csv(),
            "file,index,label,value\na.png,0,,31.5\na.png,1,,-0.25\nb.png,0,age,7\nb.png,1,height,NaN\n"
        );
        let expected = json!([
            { "file": "a.png", "values": [31.5, -0.25] },
            { "file": "b.png", "values": [7.0, null], "labels": ["age", "height"] },
        ]);
        assert_eq!(results.to_json(), expected);
        assert_eq!(Numbers::new("a", &[1.0], Some(&labels)).labels, None);
    }

    #[test]
    fn json_groups_by_sample() {
        let mut rows = classify("a.png", &[0.1, 0.9], Scores::Probabilities, 2, None);
        rows.extend(classify("a.png", &[f32::NAN, 0.9], Scores::Probabilities, 2, None));
        let expected = json!([
            { "file": "a.png", "top": [{ "index": 1, "label": null, "probability": 0.9 }, { "index": 0, "label": null, "probability": 0.1 }] },
            { "file": "a.png", "top": [{ "index": 1, "label": null, "probability": 0.9 }, { "index": 0, "label": null, "probability": null }] },
        ]);
        assert_eq!(Results::Classes(rows).to_json(), expected);
    }

    #[test]
    fn outputs_are_summed_up_over_batches() {
        let mut summary = Summary::new("output", "f32");
        summary.add(&Tensor::new([2, 2], vec![1.0, -2.0, 4.0, 5.0]));
        summary.add(&Tensor::new([1, 2], vec![-3.0, 1.0]));
        assert_eq!((summary.min, summary.max, summary.mean()), (-3.0, 5.0, 1.0));
        let results = Results::Outputs(vec![summary.clone()]);
        assert_eq!(results.to_csv(), "output,dtype,shape,min,mean,max\noutput,f32,3x2,-3,1,5\n");
        let expected =
            json!([{ "output": "output", "dtype": "f32", "shape": [3, 2], "min": -3.0, "mean": 1.0, "max": 5.0 }]);
        assert_eq!(results.to_json(), expected);
        summary.add(&Tensor::new([1, 2], vec![f32::NAN, 100.0]));
        assert!(summary.min.is_nan() && summary.max.is_nan() && summary.mean().is_nan());
    }
}
