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
    /// Of several samples the mean, and their standard deviation.
    pub probability: f32,
    pub std: Option<f32>,
}

/// The numbers that a network of regression gives for one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// What the sample is called.
    pub file: String,
    /// Of several samples the means, and their standard deviations.
    pub values: Vec<f32>,
    pub stds: Option<Vec<f32>>,
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
    /// Of the pixels, in 0..1; of several samples the mean, and their standard deviation.
    pub share: f64,
    pub std: Option<f64>,
}

/// One output over all samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub name: String,
    pub dtype: String,
    /// With the batch, which counts all samples.
    pub shape: Vec<usize>,
    /// Of its values; of several samples that are drawn, of the means.
    pub values: Range,
    /// Of the standard deviations of values that are drawn.
    pub stds: Option<Range>,
}

/// The range and the mean of numbers; NaN where one is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub min: f32,
    pub max: f32,
    sum: f64,
    count: usize,
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

/// The probabilities that the outputs of a classifier are.
pub fn probabilities(values: &[f32], scores: Scores) -> Vec<f32> {
    match scores {
        Scores::Logits => softmax(values),
        Scores::Probabilities => values.to_vec(),
        Scores::Sigmoids => values.iter().map(|value| sigmoid(*value)).collect(),
    }
}

/// The `count` most likely classes of the sample `file`, with the standard deviations of their probabilities where these are
/// drawn. Labels are used where there are as many as classes.
pub fn classify(
    file: &str,
    probabilities: &[f32],
    stds: Option<&[f32]>,
    count: usize,
    labels: Option<&Labels>,
) -> Vec<Row> {
    let labels = labels.filter(|labels| labels.len() == probabilities.len());
    let name = |index| labels.and_then(|labels| labels.name(index)).map(str::to_string);
    let best = top(probabilities, count).into_iter().enumerate();
    let row = |(i, (index, probability))| {
        let std = stds.map(|stds| stds[index]);
        Row { file: file.into(), rank: i + 1, index, label: name(index), probability, std }
    };
    best.map(row).collect()
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

/// The share of each class among the pixels of scores [classes, pixels].
pub fn shares(scores: &[f32], classes: usize) -> Vec<f64> {
    let map = pixel_classes(scores, classes);
    let mut counts = vec![0usize; classes];
    map.iter().for_each(|class| counts[*class] += 1);
    counts.into_iter().map(|count| count as f64 / map.len().max(1) as f64).collect()
}

impl Covered {
    /// Of the [`shares`] of a picture, with their standard deviations where they are drawn. Labels are used where there are as
    /// many as classes.
    pub fn new(file: &str, shares: &[f64], stds: Option<&[f64]>, labels: Option<&Labels>) -> Covered {
        let classes = shares.len();
        let labels = labels.filter(|labels| labels.len() == classes);
        let mut found: Vec<Cover> = shares
            .iter()
            .enumerate()
            .filter(|(_, share)| **share > 0.0)
            .map(|(index, share)| Cover {
                index,
                label: labels.and_then(|labels| labels.name(index)).map(str::to_string),
                share: *share,
                std: stds.map(|stds| stds[index]),
            })
            .collect();
        // stable, so that equal shares stay in the order of their indices
        found.sort_by(|a, b| b.share.total_cmp(&a.share));
        Covered { file: file.into(), classes, found }
    }
}

impl Numbers {
    /// With standard deviations where they are drawn. `labels` are used where there are as many as values.
    pub fn new(file: &str, values: &[f32], stds: Option<&[f32]>, labels: Option<&Labels>) -> Numbers {
        let labels = labels.filter(|labels| labels.len() == values.len()).map(|labels| labels.names().to_vec());
        Numbers { file: file.into(), values: values.to_vec(), stds: stds.map(<[f32]>::to_vec), labels }
    }

    pub fn label(&self, index: usize) -> Option<&str> {
        self.labels.as_ref()?.get(index).map(String::as_str)
    }
}

impl Range {
    const NOTHING: Range = Range { min: f32::INFINITY, max: f32::NEG_INFINITY, sum: 0.0, count: 0 };

    fn add(&mut self, values: &[f32]) {
        self.count += values.len();
        for value in values {
            self.sum += f64::from(*value);
            // unlike f32::min, once NaN it stays NaN
            self.min = if self.min.is_nan() || *value >= self.min { self.min } else { *value };
            self.max = if self.max.is_nan() || *value <= self.max { self.max } else { *value };
        }
    }

    /// NaN where there is no number.
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }
}

impl Summary {
    /// Of no sample yet.
    pub fn new(name: impl Into<String>, dtype: impl Into<String>) -> Summary {
        Summary { name: name.into(), dtype: dtype.into(), shape: vec![], values: Range::NOTHING, stds: None }
    }

    /// Adds the samples of a batch, [B, ..].
    pub fn add(&mut self, batch: &Tensor) {
        if self.shape.is_empty() {
            self.shape = batch.shape().to_vec();
        } else if let (Some(samples), Some(more)) = (self.shape.first_mut(), batch.shape().first()) {
            *samples += more;
        }
        self.values.add(batch.data());
    }

    /// Adds the standard deviations of a batch.
    pub fn add_stds(&mut self, batch: &Tensor) {
        self.stds.get_or_insert(Range::NOTHING).add(batch.data());
    }
}

impl Results {
    /// A header and a line a row (RFC 4180, but lines end in LF). What is drawn has standard deviations in columns at the end.
    pub fn to_csv(&self) -> String {
        let mut text = String::new();
        // a column more, where there is one
        let header = |header: &str, is_drawn: bool| format!("{header}{}\n", if is_drawn { ",std" } else { "" });
        let more = |std: Option<String>| std.map_or(String::new(), |std| format!(",{std}"));
        match self {
            Results::Classes(rows) => {
                text += &header("file,rank,index,label,probability", rows.iter().any(|row| row.std.is_some()));
                for row in rows {
                    let (file, label) = (quoted(&row.file), quoted(row.label.as_deref().unwrap_or("")));
                    let std = more(row.std.map(|std| std.to_string()));
                    let _ = writeln!(text, "{file},{},{},{label},{}{std}", row.rank, row.index, row.probability);
                }
            }
            Results::Numbers(samples) => {
                text += &header("file,index,label,value", samples.iter().any(|sample| sample.stds.is_some()));
                for sample in samples {
                    let file = quoted(&sample.file);
                    for (index, value) in sample.values.iter().enumerate() {
                        let label = quoted(sample.label(index).unwrap_or(""));
                        let std = more(sample.stds.as_ref().map(|stds| stds[index].to_string()));
                        let _ = writeln!(text, "{file},{index},{label},{value}{std}");
                    }
                }
            }
            Results::Pixels(samples) => {
                let mut all = samples.iter().flat_map(|sample| &sample.found);
                text += &header("file,index,label,share", all.any(|one| one.std.is_some()));
                for sample in samples {
                    let file = quoted(&sample.file);
                    for one in &sample.found {
                        let label = quoted(one.label.as_deref().unwrap_or(""));
                        let std = more(one.std.map(|std| std.to_string()));
                        let _ = writeln!(text, "{file},{},{label},{}{std}", one.index, one.share);
                    }
                }
            }
            Results::Outputs(outputs) => {
                let is_drawn = outputs.iter().any(|output| output.stds.is_some());
                let drawn = if is_drawn { ",std min,std mean,std max" } else { "" };
                text += &format!("output,dtype,shape,min,mean,max{drawn}\n");
                let range = |range: &Range| format!("{},{},{}", range.min, range.mean(), range.max);
                for output in outputs {
                    let shape: Vec<String> = output.shape.iter().map(usize::to_string).collect();
                    let (name, shape) = (quoted(&output.name), shape.join("x"));
                    let stds = more(output.stds.as_ref().map(range));
                    let _ = writeln!(text, "{name},{},{shape},{}{stds}", output.dtype, range(&output.values));
                }
            }
        }
        text
    }

    /// Of a classifier a list of {`file`, `top`: [{`index`, `label`, `probability`}]}, of numbers one of {`file`, `values`,
    /// and `labels` where there are any}, of pixels one of {`file`, `classes`, `found`: [{`index`, `label`, `share`}]}, else a
    /// list of {`output`, `dtype`, `shape`, `min`, `mean`, `max`}. What is drawn several times is its mean, and has its
    /// standard deviation beside it: `std`, of numbers a list, of outputs {`min`, `mean`, `max`}. What is not finite is null.
    pub fn to_json(&self) -> Value {
        let with = |mut json: Value, key: &str, value: Option<Value>| {
            if let Some(value) = value {
                json[key] = value;
            }
            json
        };
        let values = match self {
            Results::Classes(rows) => {
                // a file may have been given twice: a sample begins with rank 1
                let samples = rows.chunk_by(|_, next| next.rank != 1);
                let one = |row: &Row| {
                    let json =
                        json!({ "index": row.index, "label": row.label, "probability": number(row.probability) });
                    with(json, "std", row.std.map(number))
                };
                let sample = |rows: &[Row]| {
                    let top: Vec<Value> = rows.iter().map(one).collect();
                    json!({ "file": rows[0].file, "top": top })
                };
                samples.map(sample).collect()
            }
            Results::Numbers(samples) => {
                let numbers = |values: &[f32]| Value::Array(values.iter().map(|value| number(*value)).collect());
                let one = |sample: &Numbers| {
                    let json = json!({ "file": sample.file, "values": numbers(&sample.values) });
                    let json = with(json, "std", sample.stds.as_deref().map(numbers));
                    with(json, "labels", sample.labels.as_ref().map(|labels| json!(labels)))
                };
                samples.iter().map(one).collect()
            }
            Results::Pixels(samples) => {
                let cover = |one: &Cover| {
                    let json = json!({ "index": one.index, "label": one.label, "share": one.share });
                    with(json, "std", one.std.map(|std| json!(std)))
                };
                let one = |sample: &Covered| {
                    let found: Vec<Value> = sample.found.iter().map(cover).collect();
                    json!({ "file": sample.file, "classes": sample.classes, "found": found })
                };
                samples.iter().map(one).collect()
            }
            Results::Outputs(outputs) => {
                let one = |output: &Summary| {
                    let Range { min, max, .. } = output.values;
                    let json = json!({ "output": output.name, "dtype": output.dtype, "shape": output.shape,
                        "min": number(min), "mean": output.values.mean(), "max": number(max) });
                    let range =
                        |stds: &Range| json!({ "min": number(stds.min), "mean": stds.mean(), "max": number(stds.max) });
                    with(json, "std", output.stds.as_ref().map(range))
                };
                outputs.iter().map(one).collect()
            }
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
        let covered = Covered::new("a.png", &shares(&scores, 3), None, None);
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
        let rows = classify("a,b.png", &[0.25, 0.75], None, 5, Some(&labels));
        assert_eq!(rows[0].label.as_deref(), Some("dog, \"big\""));
        let results = Results::Classes(rows);
        let csv =
            "file,rank,index,label,probability\n\"a,b.png\",1,1,\"dog, \"\"big\"\"\",0.75\n\"a,b.png\",2,0,cat,0.25\n";
        assert_eq!(results.to_csv(), csv);
        let rows = classify("a", &probabilities(&[0.0, 0.0, 0.0], Scores::Logits), None, 1, Some(&labels));
        let row = Row { file: "a".into(), rank: 1, index: 0, label: None, probability: 1.0 / 3.0, std: None };
        assert_eq!(rows[0], row);
    }

    #[test]
    fn sigmoids_are_each_their_own() {
        let rows = classify("a", &probabilities(&[0.0, 2.0, -800.0, 800.0], Scores::Sigmoids), None, 4, None);
        let found: Vec<(usize, f32)> = rows.iter().map(|row| (row.index, row.probability)).collect();
        // torch.sigmoid
        assert_eq!(found, [(3, 1.0), (1, 0.880_797_1), (0, 0.5), (2, 0.0)]);
    }

    #[test]
    fn numbers_are_as_they_are() {
        let labels = Labels::from(vec!["age".to_string(), "height".to_string()]);
        let plain = Numbers::new("a.png", &[31.5, -0.25], None, None);
        let results = Results::Numbers(vec![plain, Numbers::new("b.png", &[7.0, f32::NAN], None, Some(&labels))]);
        assert_eq!(
            results.to_csv(),
            "file,index,label,value\na.png,0,,31.5\na.png,1,,-0.25\nb.png,0,age,7\nb.png,1,height,NaN\n"
        );
        let expected = json!([
            { "file": "a.png", "values": [31.5, -0.25] },
            { "file": "b.png", "values": [7.0, null], "labels": ["age", "height"] },
        ]);
        assert_eq!(results.to_json(), expected);
        assert_eq!(Numbers::new("a", &[1.0], None, Some(&labels)).labels, None);
    }

    #[test]
    fn json_groups_by_sample() {
        let mut rows = classify("a.png", &[0.1, 0.9], None, 2, None);
        rows.extend(classify("a.png", &[f32::NAN, 0.9], None, 2, None));
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
        let values = summary.values;
        assert_eq!((values.min, values.max, values.mean()), (-3.0, 5.0, 1.0));
        let results = Results::Outputs(vec![summary.clone()]);
        assert_eq!(results.to_csv(), "output,dtype,shape,min,mean,max\noutput,f32,3x2,-3,1,5\n");
        let expected =
            json!([{ "output": "output", "dtype": "f32", "shape": [3, 2], "min": -3.0, "mean": 1.0, "max": 5.0 }]);
        assert_eq!(results.to_json(), expected);
        summary.add(&Tensor::new([1, 2], vec![f32::NAN, 100.0]));
        let values = summary.values;
        assert!(values.min.is_nan() && values.max.is_nan() && values.mean().is_nan());
    }

    #[test]
    fn what_is_drawn_has_standard_deviations_beside_it() {
        let classes = Results::Classes(classify("a.png", &[0.25, 0.75], Some(&[0.125, 0.5]), 1, None));
        assert_eq!(classes.to_csv(), "file,rank,index,label,probability,std\na.png,1,1,,0.75,0.5\n");
        let top = json!([{ "index": 1, "label": null, "probability": 0.75, "std": 0.5 }]);
        assert_eq!(classes.to_json(), json!([{ "file": "a.png", "top": top }]));
        let numbers = Results::Numbers(vec![Numbers::new("a.png", &[2.0, 3.0], Some(&[0.5, f32::NAN]), None)]);
        assert_eq!(numbers.to_csv(), "file,index,label,value,std\na.png,0,,2,0.5\na.png,1,,3,NaN\n");
        assert_eq!(numbers.to_json(), json!([{ "file": "a.png", "values": [2.0, 3.0], "std": [0.5, null] }]));
        let pixels = Results::Pixels(vec![Covered::new("a.png", &[0.25, 0.0, 0.75], Some(&[0.125, 0.0, 0.5]), None)]);
        assert_eq!(pixels.to_csv(), "file,index,label,share,std\na.png,2,,0.75,0.5\na.png,0,,0.25,0.125\n");
        assert_eq!(pixels.to_json()[0]["found"][1]["std"], json!(0.125));
        let mut summary = Summary::new("output", "f32");
        summary.add(&Tensor::new([1, 2], vec![1.0, 3.0]));
        summary.add_stds(&Tensor::new([1, 2], vec![0.5, 0.25]));
        let outputs = Results::Outputs(vec![summary]);
        let csv = "output,dtype,shape,min,mean,max,std min,std mean,std max\noutput,f32,1x2,1,2,3,0.25,0.375,0.5\n";
        assert_eq!(outputs.to_csv(), csv);
        assert_eq!(outputs.to_json()[0]["std"], json!({ "min": 0.25, "mean": 0.375, "max": 0.5 }));
    }
}
