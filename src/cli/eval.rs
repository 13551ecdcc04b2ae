//! `archc eval`: how good a classifier is on a folder or a table of pictures.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use archc_base::{Loss, ValueLoss};

use super::args::{ExecArgs, SpecArgs, positive};
use super::backend::backend;
use super::run::{Finite, bound};
use super::session::Session;
use super::{Failure, Outcome};
use crate::answers::{Answer, loss_of, overruled, own_answer, spec_names, trained};
use crate::bind::Bound;
use crate::compile::Compiled;
use crate::data::{DataSource, Dataset, EvalTable, Loader, Recipe, Want, eval_folder};
use crate::diag::{Code, Problem, and};
use crate::exec::{Backend, Draw, Executable, samples};
use crate::io::atomic;
use crate::io::console::{print, print_json, say};
use crate::io::results::Scores as Kind;
use crate::settings::LabelsSource;
use crate::source::below;
use crate::table::{Align, table};
use crate::train;
use crate::train::loss::ClassWeights;
use crate::train::run::scores::Scores;
use crate::words::Choices;

/// Pictures that are run at once where `--batch` does not say.
const BATCH: usize = 8;

/// Say how good a classifier is on a folder or a table of pictures.
#[derive(Debug, clap::Args)]
pub struct Eval {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// The pictures: a folder a class, or a .csv of files and labels; the validation pictures of the `train` block where it is
    /// left out.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Where to write the confusion matrix: .csv, or .json with all figures.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Leave out pictures that cannot be read, with a warning; else they are an error.
    #[arg(long)]
    pub skip_corrupt: bool,
    /// Pictures that are run at once.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batch: Option<usize>,
    #[command(flatten)]
    pub exec: ExecArgs,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(session: &mut Session, args: &Eval) -> Outcome {
    let model = session.compile(&args.spec)?;
    let compiled = model.compiled();
    let pictures = match (&args.data, &compiled.train) {
        (Some(path), _) if path.is_file() => Pictures::Table { path: path.clone(), kept: None },
        (Some(path), _) => Pictures::Folder(path.clone()),
        (None, Some(spec)) => match &spec.data.value {
            DataSource::Folder { path, .. } => Pictures::Folder(below(&compiled.settings.dir, path)),
            DataSource::Csv { path, val, split, .. } => {
                let val = Some(val).filter(|val| !val.is_empty()).map(|val| below(&compiled.settings.dir, val));
                let path = below(&compiled.settings.dir, path);
                Pictures::Table { path, kept: Some((val, *split, spec.seed)) }
            }
        },
        (None, None) => {
            let problem = Problem::new(Code::Usage, "`--data` is needed: the spec has no `train` block");
            return Err(problem.hint("`--data FOLDER`, a folder a class in it").into());
        }
    };
    if let Some(output) = &args.output
        && !output.extension().is_some_and(|extension| extension == "csv" || extension == "json")
    {
        let message = format!("`{}` ends neither in .csv nor in .json", output.display());
        return Err(Problem::new(Code::Usage, message).into());
    }
    if let Some(output) = &args.output {
        atomic::check_writable(output)?;
    }
    let backend = backend(&args.exec, None)?;
    args.exec.with_threads(|| evaluate(session, args, compiled, backend.as_ref(), &pictures))
}

/// Where the pictures are.
enum Pictures {
    /// A folder a class in it.
    Folder(PathBuf),
    /// Files and labels; what of them is kept for validation: another table, a share, a seed.
    Table { path: PathBuf, kept: Option<(Option<PathBuf>, f64, u64)> },
}

impl Pictures {
    fn path(&self) -> &Path {
        let (Pictures::Folder(path) | Pictures::Table { path, .. }) = self;
        path
    }

    /// The pictures and the classes by whose indices they are known.
    fn read(&self, names: Option<&[String]>) -> Result<(Dataset, Vec<String>), Problem> {
        match self {
            Pictures::Folder(path) => eval_folder(path, names),
            Pictures::Table { path, kept } => {
                let kept = kept.as_ref().map(|(val, part, seed)| (val.as_deref(), *part, *seed));
                EvalTable { path, kept }.read(names)
            }
        }
    }
}

fn evaluate(
    session: &Session,
    args: &Eval,
    compiled: &Compiled,
    backend: &dyn Backend,
    pictures: &Pictures,
) -> Outcome {
    let path = pictures.path();
    let typed = &compiled.typed;
    let (shape, answers) = shapes(compiled)?;
    let bound = bound(compiled, &args.exec)?;
    let learned_by = loss_of(compiled, &bound);
    let scores_are = match own_answer(typed, learned_by.as_deref()) {
        Answer::Classes(kind) => kind,
        Answer::Numbers | Answer::Pixels | Answer::Tensors => return Err(no_classes(learned_by.as_deref()).into()),
    };
    let names = match trained(compiled, &bound)? {
        Some(labels) => {
            overruled(&labels, &bound)?.into_iter().for_each(say);
            Some(labels.names().to_vec())
        }
        None => names(&bound)?,
    };
    // names that are not of this head say nothing
    let names = names.filter(|names| names.len() == answers);
    let (data, classes) = pictures.read(names.as_deref())?;
    let counts = data.counts(classes.len());
    if classes.len() != answers {
        let message =
            format!("the labels do not match the head: {} classes, the network gives {answers}", classes.len());
        return Err(Problem::new(Code::Input, message)
            .note("neither the weights nor the spec name the classes, so that the data's stand for them")
            .hint("`archc train` writes the names into the weights: `--weights DIR/model.safetensors`; or `labels \"file.txt\"`")
            .into());
    }
    bound.check_memory()?;
    let (batch, of) = (args.batch.unwrap_or(BATCH).min(data.len().max(1)), data.len());
    // each class for itself, whether a sigmoid ends the network or the loss has one
    let last = typed.graph().outputs().values().next().map(|output| typed.graph().node(output.node).op.name());
    let is_binary = scores_are == Kind::Sigmoids || last == Some("sigmoid");
    let plain = match is_binary {
        true => ValueLoss::BceWithLogits.into(),
        false => Loss::CrossEntropy { smoothing: 0.0, weights: None },
    };
    let mut executable = Executable::new(typed, &bound, backend, batch)?;
    let draw = Draw { seed: args.exec.seed.unwrap_or(0), sample: 0 };
    executable.set_draw(draw);
    session.report(&bound.warnings());
    samples::remark(typed, draw.seed).iter().for_each(say);
    if let Some(preprocess) = &bound.settings().preprocess {
        say(preprocess);
    }
    let recipe = Recipe {
        preprocess: bound.settings().preprocess.clone(),
        input: shape,
        augments: vec![],
        want: if is_binary { Want::OneHot } else { Want::Classes },
        classes: classes.len(),
        seed: 0,
        skip_corrupt: args.skip_corrupt || skips(compiled, args),
    };
    let wanted = bound.settings().wanted(typed);
    let mut finite = Finite::new(session, &bound, backend);
    let mut scores = Scores::new(&classes);
    let mut sum = 0.0;
    let files: Vec<std::path::PathBuf> = data.samples.iter().map(|sample| sample.path.clone()).collect();
    for found in Loader::evaluation(Arc::new(data), Arc::new(recipe), batch, |_| false)? {
        let found = found?;
        for problem in &found.problems {
            session.report(&problem.clone().anywhere().warning().into());
        }
        let count = found.samples.len();
        if count == 0 {
            continue;
        }
        let outputs = executable.run_samples(&[(wanted[0].name.as_str(), &found.input)])?;
        let Some((_, mut output)) = outputs.into_iter().next() else { continue };
        let names: Vec<String> = found.samples.iter().map(|at| files[*at].display().to_string()).collect();
        finite.look(&wanted, draw, &names, std::slice::from_ref(&found.input), std::iter::once(&output))?;
        match last {
            Some("softmax") => {
                output.data_mut().iter_mut().for_each(|share| *share = share.max(f32::MIN_POSITIVE).ln())
            }
            Some("sigmoid") => output.data_mut().iter_mut().for_each(|share| *share = logit(*share)),
            _ => {}
        }
        sum += crate::train::run::loss(&plain, &output, &found.targets) * count as f64;
        scores.add(&found.samples, &output, &found.targets);
    }
    if scores.samples == 0 {
        let message = format!("none of the {of} pictures of `{}` could be read", path.display());
        return Err(Problem::new(Code::Input, message).hint("the warnings above say why").into());
    }
    let left_out = of.saturating_sub(scores.samples as usize);
    if left_out > 0 {
        say(format!("left out: {left_out} of {of} pictures, which cannot be read"));
        let is_gone = |class: &usize| counts[*class] > 0 && scores.support(*class) == 0;
        let gone: Vec<&String> = (0..counts.len()).filter(is_gone).map(|class| &classes[class]).collect();
        if !gone.is_empty() {
            say(format!("left out: every picture of {}", and(&gone)));
        }
    }
    let loss = sum / scores.samples as f64;
    if let Some(extra) = beside_cross_entropy(compiled) {
        say(format!("note: the loss is the plain cross entropy, training's has {extra} too"));
    }
    if args.json {
        print_json(&scores.to_json(Some(loss)));
    } else {
        print(&text(&scores, loss));
    }
    if let Some(output) = &args.output {
        let is_json = output.extension().is_some_and(|extension| extension == "json");
        let text = if is_json { format!("{:#}\n", scores.to_json(Some(loss))) } else { scores.to_csv() };
        atomic::write_bytes(output, text.as_bytes())?;
        say(format!("wrote {}", output.display()));
    }
    Ok(())
}

/// Whether the spec's own data, where that is evaluated, does without pictures that cannot be read.
fn skips(compiled: &Compiled, args: &Eval) -> bool {
    args.data.is_none() && compiled.train.as_ref().is_some_and(|spec| spec.data.value.skip_corrupt())
}

/// The shape of the picture that the network takes, and how many classes it answers with.
fn shapes(compiled: &Compiled) -> Result<([usize; 3], usize), Problem> {
    let (typed, graph) = (&compiled.typed, compiled.typed.graph());
    let input = graph.inputs().values().next().and_then(|id| typed.shape(*id).as_image());
    let output = graph.outputs().values().next().map(|output| typed.shape(output.node));
    let (Some((channels, height, width)), Some(output), 1) = (input, output, graph.inputs().len()) else {
        return Err(Problem::new(Code::Input, "`eval` is for networks that take one picture"));
    };
    if !output.batched || output.rank() != 2 {
        let message = format!("`eval` is for classifiers, whose output is [N, classes]; this network's is {output}");
        return Err(Problem::new(Code::Input, message).hint("`archc run` says what comes out of other networks"));
    }
    Ok(([channels, height, width], output.dims[0]))
}

fn no_classes(loss: Option<&str>) -> Problem {
    let why = match loss {
        Some(loss) => format!("this network learned by `{loss}`, and answers with numbers"),
        None => "this network answers with one number".into(),
    };
    Problem::new(Code::Input, format!("`eval` is for classifiers: {why}"))
        .hint("`archc run` prints the numbers; `archc train` says the loss on the validation pictures")
}

/// The logit of a probability, which stays finite.
fn logit(share: f32) -> f32 {
    let share = f64::from(share).clamp(f64::from(f32::MIN_POSITIVE), 1.0 - f64::EPSILON);
    (share / (1.0 - share)).ln() as f32
}

/// What makes the loss that the `train` block names another one than that of `eval`.
fn beside_cross_entropy(compiled: &Compiled) -> Option<String> {
    let loss = &compiled.train.as_ref()?.loss.value;
    let train::loss::Loss::CrossEntropy { label_smoothing, class_weights } = loss else { return None };
    let smoothing = Some(label_smoothing).filter(|smoothing| **smoothing > 0.0);
    let weights = Some(class_weights.name()).filter(|_| *class_weights != ClassWeights::None);
    let smoothing = smoothing.map(|smoothing| format!("label_smoothing = {smoothing}"));
    let weights = weights.map(|weights| format!("class_weights = {weights}"));
    let extra: Vec<String> = smoothing.into_iter().chain(weights).collect();
    (!extra.is_empty()).then(|| extra.join(" and "))
}

/// What the spec calls its classes.
fn names(bound: &Bound) -> Result<Option<Vec<String>>, Failure> {
    let labels = spec_names(bound)?;
    let is_imagenet = bound.settings().labels == Some(LabelsSource::Imagenet);
    // a folder is seldom called as ImageNet's labels are; 1000 folders in sorted order are
    Ok(labels.filter(|_| !is_imagenet).map(|labels| labels.names().to_vec()))
}

fn text(scores: &Scores, loss: f64) -> String {
    let percent = |share: Option<f64>| share.map_or("-".to_string(), |share| format!("{:.1} %", share * 100.0));
    let row = |(class, name): (usize, &String)| {
        let (precision, recall) = (percent(scores.precision(class)), percent(scores.recall(class)));
        vec![name.clone(), precision, recall, scores.support(class).to_string()]
    };
    let rows: Vec<Vec<String>> = scores.classes.iter().enumerate().map(row).collect();
    let right = Align::Right;
    let heads = [("class", Align::Left), ("precision", right), ("recall", right), ("samples", right)];
    let mut text =
        format!("pictures  {}\nloss      {loss:.4}\naccuracy  {:.2} %\n", scores.samples, scores.accuracy() * 100.0);
    if scores.classes.len() > 5 {
        text += &format!("top 5     {:.2} %\n", scores.top5() * 100.0);
    }
    text + "\n" + &table(&heads, &rows)
}
