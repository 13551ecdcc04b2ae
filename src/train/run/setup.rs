//! From a checked `train` block and its network to what a run needs: the data, how pictures become batches, and the checks
//! that need both.

use std::path::Path;

use super::Job;
use crate::data::augment::Augment;
use crate::data::{Columns, Data, Label, Mixup, Order, Recipe, Want, csv, folder};
use crate::diag::{At, Code, Diagnostics, Problem};
use crate::graph::path;
use crate::ops::Role;
use crate::settings::Settings;
use crate::source::below;
use crate::train::spec::Setting;
use crate::train::{Choice, Config, TrainSpec};
use crate::typed::Typed;

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
    let data_line = spec.choice("data").expect("a checked block has data");
    let loss_line = spec.choice("loss").expect("a checked block has a loss");
    let mut problems = Diagnostics::new();
    let input = problems.take(input(typed).at(data_line.span));
    if let (Some(preprocess), Some(input)) = (&settings.preprocess, input) {
        problems.take(preprocess.check(input).at(data_line.span));
    }
    let want = problems.take(want(loss_line, data_line.name()).at(loss_line.span));
    let seed = given.seed.unwrap_or_else(|| integer(spec, "seed") as u64);
    let batch = given.batch.unwrap_or_else(|| integer(spec, "batch") as usize);
    // a table is read by columns that the loss decides; a folder is the same for all
    let columns = want.or((data_line.name() == "folder").then_some(Want::Classes));
    let data = columns.and_then(|want| problems.take(data(data_line, want, &settings.dir, seed).at(data_line.span)));
    let patience = spec.choice("early_stopping").filter(|choice| choice.name() == "patience");
    if let Some(data) = &data {
        if let Some(want) = want {
            problems.take(check_classes(data, want).at(data_line.span));
            let fits = input.map(|input| check_output(typed, want, data, input, loss_line.name()));
            problems.take(fits.unwrap_or(Ok(())).at(loss_line.span));
        }
        problems.take(check_batch(data, batch).at(data_line.span));
        if let (Some(choice), true) = (patience, data.val.is_empty()) {
            let problem = Problem::new(Code::Train, "nothing is kept for validation, which says when to stop early");
            let problem = problem.hint("give the data a `val` folder, or keep a share: `split = 0.2`");
            problems.push(problem.at(choice.span));
        }
    }
    let (Some(input), Some(want), Some(data), false) = (input, want, data, problems.has_errors()) else {
        return Err(problems);
    };
    let balanced = loss_line.arg("class_weights") == Some(&Setting::Word("balanced"));
    let mut config = Config::new(spec, balanced.then(|| balance(&data)));
    config.seed = seed;
    let (augments, mixup) = augments(spec);
    let recipe = Recipe {
        preprocess: settings.preprocess.clone(),
        input,
        augments,
        mixup,
        want,
        classes: data.classes.len(),
        seed,
        skip_corrupt: data_line.flag("skip_corrupt"),
    };
    let order = Order { seed, shuffle: data_line.flag("shuffle") };
    let remarks = data.remarks.clone();
    let mut job = Job::new(data, recipe, order, batch, integer(spec, "epochs") as usize);
    job.loss = loss_line.name();
    if !matches!(want, Want::Classes | Want::OneHot) {
        job.classes.clear();
    }
    job.patience = patience.and_then(|choice| match choice.arg("epochs") {
        Some(Setting::Int(epochs)) => Some(*epochs as usize),
        _ => None,
    });
    Ok(Setup { job, config, remarks })
}

/// What a picture's target is.
fn want(loss: &Choice, data: &str) -> Result<Want, Problem> {
    let is_image = loss.arg("target") == Some(&Setting::Word("image"));
    match (loss.name(), data, is_image) {
        (_, _, true) => Ok(Want::Image),
        ("cross_entropy", ..) => Ok(Want::Classes),
        ("bce_with_logits", "folder", _) => Ok(Want::OneHot),
        (loss, "folder", _) => {
            let message = format!("`{loss}` needs numbers to come near to, a folder has classes");
            Err(Problem::new(Code::Train, message)
                .hint(format!("learn the picture itself: `loss {loss}(target = image)`"))
                .hint("or classes: `loss cross_entropy`; or numbers from a table: `data csv(..)`"))
        }
        _ => Ok(Want::Numbers),
    }
}

fn integer(spec: &TrainSpec, word: &str) -> i64 {
    match spec.value(word) {
        Some(Setting::Int(value)) => *value,
        other => unreachable!("`{word}` is an integer, not {other:?}"),
    }
}

fn text<'a>(choice: &'a Choice, name: &str) -> &'a str {
    match choice.arg(name) {
        Some(Setting::Text(text)) => text,
        _ => "",
    }
}

/// The shape of the picture that the network takes.
fn input(typed: &Typed) -> Result<[usize; 3], Problem> {
    let inputs = typed.graph().inputs();
    let (Some((name, id)), 1) = (inputs.first(), inputs.len()) else {
        let message = format!("a network that learns takes one input, this one has {}", inputs.len());
        return Err(Problem::new(Code::Train, message));
    };
    match typed.shape(*id).as_image() {
        Some((channels @ (1 | 3), height, width)) => Ok([channels, height, width]),
        _ => {
            let message = format!("the input `{name}` is {}, no picture of 1 or 3 channels", typed.shape(*id));
            Err(Problem::new(Code::Train, message).hint("networks learn from pictures: `input [N, 3, 224, 224]`"))
        }
    }
}

fn data(choice: &Choice, want: Want, dir: &Path, seed: u64) -> Result<Data, Problem> {
    let path = below(dir, text(choice, "path"));
    let part = choice.float("split");
    if choice.name() == "folder" {
        return folder(&path, part, seed);
    }
    let val = Some(text(choice, "val")).filter(|val| !val.is_empty()).map(|val| below(dir, val));
    let columns = if want == Want::Numbers || want == Want::OneHot { Columns::Numbers } else { Columns::Label };
    let data = csv(&path, val.as_deref(), columns, part, seed)?;
    if !choice.flag("skip_corrupt") {
        check_files(text(choice, "path"), &data)?;
    }
    Ok(data)
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

/// Whether the pictures that a table names are there.
fn check_files(table: &str, data: &Data) -> Result<(), Problem> {
    let samples = || data.train.samples.iter().chain(&data.val.samples);
    let gone: Vec<&Path> = samples().map(|sample| sample.path.as_path()).filter(|path| !path.exists()).collect();
    let Some(first) = gone.first() else { return Ok(()) };
    let message = format!("{} of {} pictures of `{table}` are not there", gone.len(), samples().count());
    Err(Problem::new(Code::Input, message)
        .note(format!("the first is `{}`", first.display()))
        .hint("files are found from the table's folder; `skip_corrupt = true` leaves out what cannot be read"))
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
                let names: Vec<&str> = data.classes.iter().take(10).map(String::as_str).collect();
                let more = if data.classes.len() > 10 { ", .." } else { "" };
                let message = format!(
                    "the labels do not match the head: {} classes, `{head}` gives {answers}",
                    data.classes.len()
                );
                return Err(Problem::new(Code::Train, message)
                    .note(format!("the data's classes: {}{more}", names.join(", ")))
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

fn augments(spec: &TrainSpec) -> (Vec<Augment>, Option<Mixup>) {
    let mut mixup = None;
    let mut augments = vec![];
    for choice in spec.augment() {
        let pair = |name: &str| match choice.arg(name) {
            Some(Setting::Floats(pair)) => (pair[0], pair[1]),
            other => unreachable!("`{name}` is a pair, not {other:?}"),
        };
        let count = |name: &str| match choice.arg(name) {
            Some(Setting::Int(value)) => *value as usize,
            other => unreachable!("`{name}` is an integer, not {other:?}"),
        };
        let float = |name: &str| choice.float(name);
        augments.push(match choice.name() {
            "random_resized_crop" => Augment::ResizedCrop { scale: pair("scale"), ratio: pair("ratio") },
            "random_crop" => Augment::Crop { padding: count("padding") },
            "horizontal_flip" => Augment::HorizontalFlip { p: float("p") },
            "vertical_flip" => Augment::VerticalFlip { p: float("p") },
            "rotation" => Augment::Rotation { degrees: float("degrees") },
            "color_jitter" => Augment::ColorJitter {
                brightness: float("brightness"),
                contrast: float("contrast"),
                saturation: float("saturation"),
                hue: float("hue"),
            },
            "random_erasing" => Augment::Erasing { p: float("p") },
            "rand_augment" => Augment::Policy { ops: count("ops"), magnitude: count("magnitude") },
            "mixup" => {
                mixup = Some(Mixup { alpha: float("alpha") });
                continue;
            }
            other => unreachable!("the table has no `{other}`"),
        });
    }
    (augments, mixup)
}
