//! From a checked `train` block and its network to what a run needs: the data, how pictures become batches, and the checks
//! that need both.

use super::Job;
use crate::data::{Data, DataSource, Label, Order, Recipe, Want};
use crate::diag::{At, Code, Diagnostics, Problem};
use crate::graph::path;
use crate::ops::Role;
use crate::settings::Settings;
use crate::train::loss::{ClassWeights, Loss};
use crate::train::spec::EarlyStopping;
use crate::train::{Config, TrainSpec};
use crate::typed::Typed;
use crate::words::Choices;

/// What the command line says about a run.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Instead of the block's.
    pub batch: Option<usize>,
    /// Instead of the block's seed.
    pub seed: Option<u64>,
}

/// A run's parts.
pub struct Setup {
    pub job: Job,
    pub config: Config,
    /// What was found in the data and is worth a line.
    pub remarks: Vec<String>,
}

/// Reads the data that the block names and puts the run together. No picture is decoded and no weight read, so that
/// `check` can ask too.
///
/// # Errors
/// Data that cannot be read or learned from; a network whose input is no picture, or whose output does not fit the loss.
/// All that is found.
pub fn setup(spec: &TrainSpec, typed: &Typed, settings: &Settings, given: &Given) -> Result<Setup, Diagnostics> {
    let (data_line, loss_line) = (&spec.data, &spec.loss);
    let mut problems = Diagnostics::new();
    let input = problems.take(input(typed).at(data_line.span));
    if let (Some(preprocess), Some(input)) = (&settings.preprocess, input) {
        problems.take(preprocess.check(input).at(data_line.span));
    }
    let want = problems.take(loss_line.value.want(&data_line.value).at(loss_line.span));
    let seed = given.seed.unwrap_or(spec.seed);
    let batch = given.batch.unwrap_or(spec.batch);
    // a table is read by columns that the loss decides; a folder is the same for all
    let columns = want.or(matches!(data_line.value, DataSource::Folder { .. }).then_some(Want::Classes));
    let data = columns.map(|want| data_line.value.find(want, &settings.dir, seed).at(data_line.span));
    let data = data.and_then(|data| problems.take(data));
    let patience = match spec.early_stopping.value {
        EarlyStopping::Off => None,
        EarlyStopping::Patience { epochs } => Some(epochs),
    };
    if let Some(data) = &data {
        if let Some(want) = want {
            problems.take(check_classes(data, want).at(data_line.span));
            let fits = input.map(|input| check_output(typed, want, data, input, loss_line.value.name()));
            problems.take(fits.unwrap_or(Ok(())).at(loss_line.span));
        }
        problems.take(check_batch(data, batch).at(data_line.span));
        if patience.is_some() && data.val.is_empty() {
            let problem = Problem::new(Code::Train, "nothing is kept for validation, which says when to stop early");
            let problem = problem.hint("give the data a `val` folder, or keep a share: `split = 0.2`");
            problems.push(problem.at(spec.early_stopping.span));
        }
    }
    let (Some(input), Some(want), Some(data), false) = (input, want, data, problems.has_errors()) else {
        return Err(problems);
    };
    let is_balanced = matches!(loss_line.value, Loss::CrossEntropy { class_weights: ClassWeights::Balanced, .. });
    let mut config = Config::new(spec, is_balanced.then(|| balance(&data)));
    config.seed = seed;
    let recipe = Recipe {
        preprocess: settings.preprocess.clone(),
        input,
        augments: spec.augment.clone(),
        want,
        classes: data.classes.len(),
        seed,
        skip_corrupt: data_line.value.skip_corrupt(),
    };
    let order = Order { seed, shuffle: data_line.value.shuffle() };
    let remarks = data.remarks.clone();
    let mut job = Job::new(data, recipe, order, batch, spec.epochs);
    job.loss = loss_line.value.name();
    if !matches!(want, Want::Classes | Want::OneHot) {
        job.classes.clear();
    }
    job.patience = patience;
    Ok(Setup { job, config, remarks })
}

/// The shape of the image that the network takes.
fn input(typed: &Typed) -> Result<[usize; 3], Problem> {
    let (name, id) = typed.graph().inputs().first().expect("a network has an input, and one that learns has one alone");
    match typed.shape(*id).as_image() {
        Some((channels @ (1 | 3), height, width)) => Ok([channels, height, width]),
        _ => {
            let message = format!("the input `{name}` is {}, no picture of 1 or 3 channels", typed.shape(*id));
            Err(Problem::new(Code::Train, message).hint("networks learn from pictures: `input [N, 3, 224, 224]`"))
        }
    }
}

fn check_classes(data: &Data, want: Want) -> Result<(), Problem> {
    if matches!(want, Want::Classes | Want::OneHot) && data.classes.len() < 2 {
        let name = data.classes.first().map_or("none", String::as_str);
        return Err(Problem::new(Code::Input, format!("the data has one class only, `{name}`"))
            .hint("two classes or more can be told apart: a folder each, or a label each in a table"));
    }
    Ok(())
}

fn check_batch(data: &Data, batch: usize) -> Result<(), Problem> {
    if batch > data.train.len() {
        let message = format!("a batch of {batch} is larger than the data: {} training pictures", data.train.len());
        return Err(Problem::new(Code::Input, message)
            .hint(format!("`batch {}` or less, or more pictures", data.train.len().max(1))));
    }
    Ok(())
}

/// Whether the network's output is what the loss compares with the data.
fn check_output(typed: &Typed, want: Want, data: &Data, input: [usize; 3], loss: &str) -> Result<(), Problem> {
    let output = typed.graph().outputs().values().next().expect("a network has an output").node;
    let shape = typed.shape(output);
    let head = typed.order().iter().rev().find(|id| typed.params(**id).iter().any(|param| param.role == Role::Weight));
    let head = head.map_or("fc".to_string(), |id| path::display(&typed.graph().node(*id).path));
    let answers = shape.dims.iter().product::<usize>();
    match want {
        Want::Classes | Want::OneHot => {
            if !shape.batched || shape.rank() != 2 {
                let message = format!("`{loss}` needs an output [N, classes], this network's is {shape}");
                let (problem, classes) = (Problem::new(Code::Train, message), data.classes.len());
                return Err(match shape.as_image() {
                    Some((channels, ..)) if channels == classes => problem
                        .note("the labels are classes of whole pictures, not of their pixels")
                        .hint("one answer a picture: `append global_avg_pool2d`"),
                    Some(_) => {
                        problem.hint(format!("give it a head: `append {{ global_avg_pool2d; fc: linear({classes}) }}`"))
                    }
                    None => problem.hint(format!("give it a head: `append {{ flatten; fc: linear({classes}) }}`")),
                });
            }
            if answers != data.classes.len() {
                let message = format!(
                    "the labels do not match the head: {} classes, `{head}` gives {answers}",
                    data.classes.len()
                );
                return Err(Problem::new(Code::Train, message)
                    .row("the data's classes", data.classes.clone())
                    .hint(format!("replace the head: `replace {head} with linear({})`", data.classes.len())));
            }
        }
        Want::Image => {
            if !shape.batched || shape.dims != input {
                let [channels, height, width] = input;
                let message = format!(
                    "`target = image` needs an output like the input, [N, {channels}, {height}, {width}], this network's is {shape}"
                );
                let mut problem = Problem::new(Code::Train, message);
                if let Some((c, h, w)) = shape.as_image() {
                    problem = problem.hint(format!(
                        "give it pictures of the output's size: `base .. {{ input [N, {c}, {h}, {w}] }}`"
                    ));
                }
                return Err(problem);
            }
        }
        Want::Numbers => {
            let width = match data.train.samples.first().map(|sample| &sample.label) {
                Some(Label::Numbers(numbers)) => numbers.len(),
                _ => 0,
            };
            if !shape.batched || shape.dims != [width] {
                let message = format!("the table has {width} numbers a row, the network's output is {shape}");
                return Err(Problem::new(Code::Train, message)
                    .hint(format!("replace the head: `replace {head} with linear({width})`")));
            }
        }
    }
    Ok(())
}

/// scikit-learn's `balanced`: samples / (classes * samples of the class).
fn balance(data: &Data) -> Vec<f32> {
    let counts = data.train.counts(data.classes.len());
    let whole = data.train.len() as f64 / counts.len().max(1) as f64;
    counts.into_iter().map(|count| (whole / count.max(1) as f64) as f32).collect()
}
