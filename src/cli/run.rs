//! `archc run`: compiles a spec and executes it on pictures, tensors or noise.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::answers::{Answer, Collected, answer, loss_of, names, text};
use super::args::{Run, SpecArgs, WeightArgs};
use super::backend::backend;
use super::inputs::{Given, given};
use super::session::Session;
use super::{Failure, Outcome};
use crate::bind::{Bound, bind, bind_edited};
use crate::compile::Compiled;
use crate::diag::{Diagnostics, Problem};
use crate::exec::finite::blame;
use crate::exec::{Backend, Executable};
use crate::io::console::{self, print, say};
use crate::io::output::{self, Output};
use crate::io::preprocess::Preprocess;
use crate::io::tensors::Wanted;
use crate::ops::shape::Shape;
use crate::philox::Philox;
use crate::tensor::Tensor;
use crate::weights::WeightsSource;

/// Pictures that are run at once where `--batch` does not say.
const BATCH: usize = 8;

pub fn run(session: &mut Session, args: &Run) -> Outcome {
    let compiled = session.compile(&args.spec)?;
    // what can be refused early is refused before weights are read
    let outputs: Vec<Output> = args.output.iter().map(|path| Output::of(path)).collect::<Result<_, _>>()?;
    let inputs: Vec<&str> = compiled.typed.graph().inputs().keys().map(String::as_str).collect();
    let given = given(&args.input, &inputs)?;
    let batch = batch(args, &given);
    let shapes = shapes(&compiled, if given.is_noise() { batch } else { given.len() });
    let own = own_files(&compiled, &args.spec, &args.exec.source);
    for path in &args.output {
        output::check(path, &shapes)?;
        output::refuse_what_is_read(path, given.paths().chain(own.iter().map(PathBuf::as_path)))?;
    }
    let backend = backend(&args.exec, runs(&given, batch))?;
    args.exec.with_threads(|| execute(session, args, backend.as_ref(), &compiled, &outputs, &given, batch))
}

/// The spec and the file of its weights: what a result must not be written over.
pub fn own_files(compiled: &Compiled, spec: &SpecArgs, source: &WeightArgs) -> Vec<PathBuf> {
    let weights = match (&source.weights, &compiled.settings.weights) {
        (Some(path), _) => Some(path.clone()),
        (None, WeightsSource::File(name)) => Some(compiled.settings.dir.join(name)),
        (None, WeightsSource::Hub(_) | WeightsSource::Random { .. }) => None,
    };
    std::iter::once(spec.spec.clone()).chain(weights).collect()
}

fn execute(
    session: &Session,
    args: &Run,
    backend: &dyn Backend,
    compiled: &Compiled,
    outputs: &[Output],
    given: &Given,
    batch: usize,
) -> Outcome {
    let bound = bound(compiled, &args.exec)?;
    let labels = names(compiled, &bound, &args.exec)?;
    let wanted = wanted(compiled);
    bound.check_memory()?;
    let mut executable = Executable::new(&compiled.typed, &bound, backend, batch)?;
    session.report(&bound.warnings());
    let is_noise = given.is_noise();
    // noise has no classes
    let answer = match is_noise {
        true => Answer::Tensors,
        false => answer(&compiled.typed, loss_of(compiled, &bound, &args.exec).as_deref()),
    };
    let mut collected = Collected::new(answer, labels, outputs.iter().any(|output| output.needs_tensors()));
    let mut failed = Diagnostics::new();
    let mut finite = Finite::new(session, &bound, backend);
    if is_noise {
        let noise: Vec<Tensor> =
            wanted.iter().map(|wanted| noise(wanted, batch, args.exec.seed.unwrap_or(0))).collect();
        let names: Vec<String> = (0..batch).map(|at| format!("noise[{at}]")).collect();
        let outputs = run_batch(&mut executable, &wanted, &noise, batch)?;
        finite.look(&wanted, &names, &noise, outputs.iter().map(|(_, tensor)| tensor))?;
        collected.add(&names, outputs);
    } else {
        prepared(compiled, given, &wanted).iter().for_each(say);
        if given.skipped() > 0 {
            let plural = if given.skipped() == 1 { "" } else { "s" };
            say(format!("skipped: {} other file{plural}", given.skipped()));
        }
        let bar = progress(given.len());
        let mut samples = given.samples(&wanted, batch);
        while let Some(now) = samples.next()? {
            for problem in now.problems {
                bar.suspend(|| session.report(&problem.clone().anywhere().into()));
                failed.push(problem.anywhere());
            }
            let count = now.names.len();
            if count > 0 {
                let outputs = run_batch(&mut executable, &wanted, &now.tensors, count)?;
                bar.suspend(|| {
                    finite.look(&wanted, &now.names, &now.tensors, outputs.iter().map(|(_, tensor)| tensor))
                })?;
                collected.add(&now.names, outputs);
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

/// Samples that are run at once: of noise as many as are asked for, else 1; of pictures no more than there are.
fn batch(args: &Run, given: &Given) -> usize {
    let most = if given.is_noise() { 1 } else { BATCH };
    let batch = args.batch.unwrap_or(given.len().clamp(1, most));
    match given.pictures() {
        Some(counts) if !given.is_noise() => batch.min(counts[0].max(1)),
        _ => batch,
    }
}

/// How many times the network will run, where that is known: a file of tensors may hold any number of samples.
fn runs(given: &Given, batch: usize) -> Option<usize> {
    given.pictures().map(|_| given.len().div_ceil(batch.max(1)).max(1))
}

/// The outputs of so many samples by name.
fn shapes(compiled: &Compiled, samples: usize) -> Vec<(String, Vec<usize>)> {
    let typed = &compiled.typed;
    let outputs = typed.graph().outputs().iter();
    outputs.map(|(name, output)| (name.clone(), typed.shape(output.node).concrete(samples))).collect()
}

/// How pictures are prepared, a line for all inputs, or one for each where they differ.
fn prepared(compiled: &Compiled, given: &Given, wanted: &[Wanted]) -> Vec<String> {
    let pictures = given.files.iter().zip(wanted).filter(|(files, _)| files.items.iter().any(|item| !item.tensors));
    let (Some(_), pictures) = (&compiled.settings.preprocess, pictures.map(|(_, wanted)| wanted).collect::<Vec<_>>())
    else {
        return vec![];
    };
    match pictures.split_first() {
        None => vec![],
        Some((first, rest)) if rest.iter().all(|other| other.preprocess == first.preprocess) => {
            vec![first.preprocess.to_string()]
        }
        _ => pictures.iter().map(|wanted| format!("{}: {}", wanted.name, wanted.preprocess)).collect(),
    }
}

/// The network's tensors: the spec's own, or `--weights`; says what became of each.
pub fn bound(compiled: &Compiled, source: &WeightArgs) -> Result<Bound, Failure> {
    let settings = &compiled.settings;
    if let Some(path) = &source.weights {
        let bound = bind_edited(&compiled.typed, path)?;
        say(format!("weights: {} from {}", bound.ledger(), path.display()));
        return Ok(bound);
    }
    let bound = bind(settings, &compiled.base, &compiled.typed, source.seed)?;
    match (&settings.weights, settings.weights_span) {
        (WeightsSource::Random { .. }, None) => {
            let (seed, ledger) = (source.seed.unwrap_or(0), bound.ledger().drawn());
            say(format!("weights: the spec names none, so they are random(seed = {seed}): {ledger}"));
        }
        (WeightsSource::Random { .. }, Some(_)) => say(format!("weights: {}", bound.ledger().drawn())),
        _ => say(format!("weights: {}", bound.ledger())),
    }
    Ok(bound)
}

/// What each input takes. The network's preprocessing is that of its first picture; others are prepared in proportion.
pub fn wanted(compiled: &Compiled) -> Vec<Wanted> {
    let typed = &compiled.typed;
    let preprocess = compiled.settings.preprocess.clone().unwrap_or_default();
    let size = |shape: &Shape| shape.as_image().map(|(_, height, width)| (height as u32, width as u32));
    let first = typed.graph().inputs().values().find_map(|id| size(typed.shape(*id)));
    let of = |shape: &Shape| -> Preprocess {
        match (first, size(shape)) {
            (Some(first), Some(own)) => preprocess.scaled(first, own),
            _ => preprocess.clone(),
        }
    };
    let inputs = typed.graph().inputs().iter().map(|(name, id)| (name.clone(), typed.shape(*id)));
    inputs.map(|(name, shape)| Wanted { name, shape: shape.dims.clone(), preprocess: of(shape) }).collect()
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

/// Looks for outputs that are not finite, and says once where they come from.
pub struct Finite<'a> {
    session: &'a Session,
    bound: &'a Bound,
    backend: &'a dyn Backend,
    is_told: bool,
}

impl<'a> Finite<'a> {
    pub fn new(session: &'a Session, bound: &'a Bound, backend: &'a dyn Backend) -> Finite<'a> {
        // weights that are not finite explain it, and were named when they were read
        Finite { session, bound, backend, is_told: !bound.warnings().is_empty() }
    }

    /// Looks at a batch: what its samples are called, the inputs in the order of `wanted`, and the outputs.
    ///
    /// # Errors
    /// If the network cannot be run once more.
    pub fn look<'t>(
        &mut self,
        wanted: &[Wanted],
        names: &[String],
        inputs: &[Tensor],
        outputs: impl Iterator<Item = &'t Tensor>,
    ) -> Result<(), Problem> {
        if self.is_told {
            return Ok(());
        }
        let bad = outputs.filter_map(|tensor| {
            let size = tensor.len() / tensor.shape().first().copied().unwrap_or(1).max(1);
            tensor.data().iter().position(|value| !value.is_finite()).map(|at| at / size.max(1))
        });
        let Some(sample) = bad.min() else { return Ok(()) };
        self.is_told = true;
        let one: Vec<Tensor> = inputs.iter().map(|tensor| only(tensor, sample)).collect();
        let named: Vec<(&str, &Tensor)> = wanted.iter().map(|wanted| wanted.name.as_str()).zip(&one).collect();
        let whose = names.get(sample).map_or_else(|| format!("sample {sample}"), |name| format!("`{name}`"));
        let warning = blame(self.bound.typed(), self.bound, self.backend, &named, &whose)?;
        self.session.report(&warning.into());
        Ok(())
    }
}

/// One sample of a batch, as a batch of one.
fn only(tensor: &Tensor, sample: usize) -> Tensor {
    let mut shape = tensor.shape().to_vec();
    let size: usize = shape.iter().skip(1).product();
    shape[0] = 1;
    Tensor::new(shape, tensor.data()[sample * size..][..size].to_vec())
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
