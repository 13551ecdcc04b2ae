//! `archc run`: compiles a spec and executes it on pictures, tensors or noise.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::args::{ExecArgs, Run};
use super::backend::backend;
use super::session::Session;
use super::{Failure, Outcome};
use crate::bind::{Bound, bind, bind_edited};
use crate::compile::Compiled;
use crate::diag::{Code, Diagnostics, Problem, one_line};
use crate::exec::{Backend, Executable};
use crate::io::console::{self, print, say};
use crate::io::inputs::{self, Batch, Inputs};
use crate::io::labels::Labels;
use crate::io::output::{self, Output};
use crate::io::results::{Results, Row, Scores, Summary, classify};
use crate::io::tensors::Wanted;
use crate::ops::shape::Shape;
use crate::philox::Philox;
use crate::settings::LabelsSource;
use crate::tensor::Tensor;
use crate::typed::Typed;
use crate::weights::WeightsSource;

/// Pictures that are run at once where `--batch` does not say.
const BATCH: usize = 8;
/// Classes that are printed a picture.
const TOP: usize = 5;

pub fn run(session: &mut Session, args: &Run) -> Outcome {
    let compiled = session.compile(&args.spec)?;
    // what can be refused early is refused before weights are read
    let outputs: Vec<Output> = args.output.iter().map(|path| Output::of(path)).collect::<Result<_, _>>()?;
    let inputs = inputs::expand(&args.input)?;
    let backend = backend(&args.exec, runs(&inputs, batch(args, &inputs)))?;
    let labels = labels(&compiled)?;
    args.exec.with_threads(|| execute(session, args, backend.as_ref(), &compiled, &outputs, &inputs, labels))
}

fn execute(
    session: &Session,
    args: &Run,
    backend: &dyn Backend,
    compiled: &Compiled,
    outputs: &[Output],
    inputs: &Inputs,
    labels: Option<Labels>,
) -> Outcome {
    let typed = &compiled.typed;
    let bound = bound(compiled, &args.exec)?;
    let labels = trained_labels(&bound).or(labels);
    let wanted = wanted(compiled)?;
    let is_noise = inputs.items.is_empty();
    let batch = batch(args, inputs);
    bound.check_memory()?;
    let mut executable = Executable::new(typed, &bound, backend, batch)?;
    session.report(&bound.warnings());
    let keeps_tensors = outputs.iter().any(|output| output.needs_tensors());
    let mut collected = Collected::new(typed, keeps_tensors, labels, is_noise);
    let mut failed = Diagnostics::new();
    if is_noise {
        let noise: Vec<Tensor> =
            wanted.iter().map(|wanted| noise(wanted, batch, args.exec.seed.unwrap_or(0))).collect();
        let names: Vec<String> = (0..batch).map(|at| format!("noise[{at}]")).collect();
        collected.add(&names, run_batch(&mut executable, &wanted, &noise, batch)?);
    } else {
        if inputs.items.iter().any(|item| !item.tensors)
            && let Some(preprocess) = &compiled.settings.preprocess
        {
            say(preprocess);
        }
        if inputs.skipped > 0 {
            let plural = if inputs.skipped == 1 { "" } else { "s" };
            say(format!("skipped: {} other file{plural}", inputs.skipped));
        }
        let bar = progress(inputs.items.len());
        let mut readers: Vec<_> = wanted.iter().map(|wanted| inputs.batches(wanted, batch)).collect();
        // one reader an input of the network; all read the same files, each the tensor of its name
        while let Some(batches) = next(&mut readers) {
            for problem in batches.iter().flat_map(|one| one.problems.clone()) {
                bar.suspend(|| session.report(&problem.clone().anywhere().into()));
                failed.push(problem.anywhere());
            }
            let count = batches.iter().map(|one| one.names.len()).min().unwrap_or(0);
            if batches.iter().any(|one| one.names.len() != count) {
                return Err(
                    Problem::new(Code::Input, "the inputs of the network have different numbers of samples").into()
                );
            }
            if count > 0 {
                let tensors: Vec<Tensor> = batches.iter().map(|one| one.tensor.clone()).collect();
                collected.add(&batches[0].names, run_batch(&mut executable, &wanted, &tensors, count)?);
            }
            bar.inc(count as u64);
        }
        bar.finish_and_clear();
    }
    let (results, tensors) = collected.finish();
    print(&text(&results));
    for path in &args.output {
        for remark in output::write(path, &tensors, &results)? {
            say(remark);
        }
    }
    if failed.has_errors() { Err(Failure::Status(1)) } else { Ok(()) }
}

/// Samples that are run at once: of noise as many as are asked for, else 1.
fn batch(args: &Run, inputs: &Inputs) -> usize {
    let most = if inputs.items.is_empty() { 1 } else { BATCH };
    args.exec.batch.unwrap_or(inputs.items.len().clamp(1, most))
}

/// How many times the network will run, where that is known: a file of tensors may hold any number of samples.
fn runs(inputs: &Inputs, batch: usize) -> Option<usize> {
    let known = inputs.items.iter().all(|item| !item.tensors);
    known.then(|| inputs.items.len().div_ceil(batch.max(1)).max(1))
}

/// The network's tensors: the spec's own, or `--weights`; says what became of each.
pub fn bound(compiled: &Compiled, exec: &ExecArgs) -> Result<Bound, Failure> {
    let settings = &compiled.settings;
    if let Some(path) = &exec.weights {
        let bound = bind_edited(&compiled.typed, path)?;
        say(format!("weights: {} from {}", bound.ledger(), path.display()));
        return Ok(bound);
    }
    let bound = bind(settings, &compiled.base, &compiled.typed, exec.seed)?;
    if let (WeightsSource::Random { .. }, None) = (&settings.weights, settings.weights_span) {
        let seed = exec.seed.unwrap_or(0);
        say(format!("weights: the spec names none, so they are random(seed = {seed}): {}", bound.ledger()));
    } else {
        say(format!("weights: {}", bound.ledger()));
    }
    Ok(bound)
}

pub fn labels(compiled: &Compiled) -> Result<Option<Labels>, Failure> {
    match &compiled.settings.labels {
        None => Ok(None),
        Some(LabelsSource::Imagenet) => Ok(Some(Labels::imagenet())),
        Some(LabelsSource::File(path, span)) => match Labels::load(path) {
            Ok(labels) => Ok(Some(labels)),
            Err(problem) => Err(Diagnostics::from(problem.at(*span)).into()),
        },
    }
}

/// The class names that a trained file carries.
pub fn trained_labels(bound: &Bound) -> Option<Labels> {
    let names = bound.metadata().get("classes").cloned()?;
    let names: Vec<String> = serde_json::from_str(&names).ok()?;
    Some(Labels::from(names))
}

/// What each input takes.
pub fn wanted(compiled: &Compiled) -> Result<Vec<Wanted>, Failure> {
    let typed = &compiled.typed;
    let preprocess = compiled.settings.preprocess.clone().unwrap_or_default();
    let inputs = typed.graph().inputs().iter();
    Ok(inputs
        .map(|(name, id)| Wanted {
            name: name.clone(),
            shape: typed.shape(*id).dims.clone(),
            preprocess: preprocess.clone(),
        })
        .collect())
}

/// Standard normal values, which depend on the seed, the input's name and the sample only.
pub fn noise(wanted: &Wanted, batch: usize, seed: u64) -> Tensor {
    let philox = Philox::named(seed, &wanted.name);
    let shape = Shape::batched(wanted.shape.clone()).concrete(batch);
    let len: usize = shape.iter().product();
    let mut values = Vec::with_capacity(len.next_multiple_of(4));
    for block in 0..len.div_ceil(4) as u64 {
        let words = philox.block(block);
        for pair in words.chunks_exact(2) {
            // Box and Muller 1958; 1 - u keeps the logarithm finite
            let radius = (-2.0 * (1.0 - crate::philox::unit(pair[0])).ln()).sqrt();
            let angle = std::f32::consts::TAU * crate::philox::unit(pair[1]);
            values.extend([radius * angle.cos(), radius * angle.sin()]);
        }
    }
    values.truncate(len);
    Tensor::new(shape, values)
}

fn next(readers: &mut [inputs::Batches<'_>]) -> Option<Vec<Batch>> {
    readers.iter_mut().map(Iterator::next).collect()
}

/// Runs `count` samples; a short batch is filled up with zeros, whose results are left out.
fn run_batch(
    executable: &mut Executable,
    wanted: &[Wanted],
    tensors: &[Tensor],
    count: usize,
) -> Result<Vec<(String, Tensor)>, Problem> {
    let batch = executable.plan().batch();
    let full: Vec<Tensor> = tensors.iter().map(|tensor| resized(tensor, batch)).collect();
    let named: Vec<(&str, &Tensor)> = wanted.iter().map(|wanted| wanted.name.as_str()).zip(&full).collect();
    let outputs = executable.run(&named)?;
    Ok(outputs.into_iter().map(|(name, tensor)| (name, resized(&tensor, count))).collect())
}

/// The tensor with `batch` samples: zeros behind its own, or its first.
pub fn resized(tensor: &Tensor, batch: usize) -> Tensor {
    let mut shape = tensor.shape().to_vec();
    if shape.first() == Some(&batch) || shape.is_empty() {
        return tensor.clone();
    }
    let sample: usize = shape[1..].iter().product();
    shape[0] = batch;
    let mut data = tensor.data()[..tensor.len().min(batch * sample)].to_vec();
    data.resize(batch * sample, 0.0);
    Tensor::new(shape, data)
}

fn progress(files: usize) -> ProgressBar {
    if files < 2 || !console::is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}").expect("the template is well formed");
    let bar = ProgressBar::new(files as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// What has come out so far.
struct Collected {
    scores: Option<Scores>,
    labels: Option<Labels>,
    rows: Vec<Row>,
    summaries: Vec<Summary>,
    tensors: Option<Vec<(String, Tensor)>>,
}

impl Collected {
    fn new(typed: &Typed, keeps_tensors: bool, labels: Option<Labels>, is_noise: bool) -> Collected {
        let tensors = keeps_tensors.then(Vec::new);
        // noise has no classes
        let scores = if is_noise { None } else { scores(typed) };
        Collected { scores, labels, rows: vec![], summaries: vec![], tensors }
    }

    fn add(&mut self, names: &[String], outputs: Vec<(String, Tensor)>) {
        if let (Some(scores), [(_, output)]) = (self.scores, outputs.as_slice()) {
            let classes = output.shape().get(1).copied().unwrap_or(1).max(1);
            for (name, values) in names.iter().zip(output.data().chunks_exact(classes)) {
                self.rows.extend(classify(name, values, scores, TOP, self.labels.as_ref()));
            }
        } else {
            if self.summaries.is_empty() {
                self.summaries = outputs.iter().map(|(name, _)| Summary::new(name, "f32")).collect();
            }
            for (summary, (_, tensor)) in self.summaries.iter_mut().zip(&outputs) {
                summary.add(tensor);
            }
        }
        let Some(kept) = &mut self.tensors else { return };
        if kept.is_empty() {
            *kept = outputs;
            return;
        }
        for ((_, whole), (_, more)) in kept.iter_mut().zip(outputs) {
            let mut shape = whole.shape().to_vec();
            if let (Some(samples), Some(added)) = (shape.first_mut(), more.shape().first()) {
                *samples += added;
            }
            let old = std::mem::replace(whole, Tensor::zeros([0]));
            let data: Vec<f32> = [old.into_data(), more.into_data()].concat();
            *whole = Tensor::new(shape, data);
        }
    }

    fn finish(self) -> (Results, Vec<(String, Tensor)>) {
        let results =
            if self.summaries.is_empty() { Results::Classes(self.rows) } else { Results::Outputs(self.summaries) };
        (results, self.tensors.unwrap_or_default())
    }
}

/// Whether the network is a classifier, its only output [N, classes], and what that output is.
fn scores(typed: &Typed) -> Option<Scores> {
    let graph = typed.graph();
    let (1, Some(output)) = (graph.outputs().len(), graph.outputs().values().next()) else { return None };
    let shape = typed.shape(output.node);
    if !shape.batched || shape.rank() != 2 {
        return None;
    }
    let last = graph.node(output.node).op.name();
    Some(if matches!(last, "softmax" | "sigmoid") { Scores::Probabilities } else { Scores::Logits })
}

fn text(results: &Results) -> String {
    let mut text = String::new();
    match results {
        Results::Classes(rows) => {
            let mut file = None;
            for row in rows {
                if file != Some(&row.file) {
                    text += &format!("{}\n", one_line(&row.file));
                    file = Some(&row.file);
                }
                let index = row.index.to_string();
                let label = row.label.as_deref().map_or(String::new(), |label| format!("  {}", one_line(label)));
                text += &format!("  {:6.2} %  {index:>4}{label}\n", row.probability * 100.0);
            }
        }
        Results::Outputs(summaries) => {
            for one in summaries {
                text += &format!(
                    "{}  {}  {:?}  min {:.6}  mean {:.6}  max {:.6}\n",
                    one_line(&one.name),
                    one.dtype,
                    one.shape,
                    one.min,
                    one.mean(),
                    one.max
                );
            }
        }
    }
    text
}
