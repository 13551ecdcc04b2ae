//! `archc run`: compiles a spec and executes it on pictures, tensors or noise.

use std::path::PathBuf;

use super::answers::{Collected, std_name, text};
use super::args::{ExecArgs, SpecArgs, WeightArgs, positive};
use super::backend::backend;
use super::inputs::{Given, given};
use super::session::Session;
use super::{Failure, Outcome, progress};
use crate::answers::{Answer, answer, loss_of, names, overruled};
use crate::bind::Bound;
use crate::compile::Compiled;
use crate::diag::{Diagnostics, Problem};
use crate::exec::{Backend, Draw, Executable, finite, noise, samples};
use crate::io::console::{print, say};
use crate::io::output::{self, Drawn, Output};
use crate::io::tensors::Wanted;
use crate::tensor::Tensor;
use crate::weights::WeightsSource;
use crate::words::Choices;

/// Pictures that are run at once where `--batch` does not say.
const BATCH: usize = 8;

/// Compile a spec and execute it on pictures, tensors or noise.
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// A picture (png, jpeg), a folder of them, a .safetensors or .npy file; may be repeated. Noise where none is given.
    /// NAME=PATH where the network has several inputs, whose samples pair up in order.
    #[arg(long, value_name = "PATH")]
    pub input: Vec<PathBuf>,
    /// Where to write results: .safetensors, .npy, .png, .json or .csv; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// Samples that are run at once; of noise, how many there are.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batch: Option<usize>,
    /// Runs of each batch, of a network that draws at inference (`dropout(always = true)`): means and standard deviations
    /// are told, and written beside the outputs as NAME.std.
    #[arg(long, value_name = "N", value_parser = several)]
    pub samples: Option<u64>,
    #[command(flatten)]
    pub exec: ExecArgs,
}

/// What a standard deviation is of.
fn several(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (2..=MOST_SAMPLES).contains(number));
    number.ok_or_else(|| format!("expected a number from 2 to {MOST_SAMPLES}"))
}

/// Runs of a batch that may be asked for.
const MOST_SAMPLES: u64 = 1_000_000;

pub fn run(session: &mut Session, args: &Run) -> Outcome {
    let model = session.compile(&args.spec)?;
    let compiled = model.compiled();
    // what can be refused early is refused before weights are read
    if args.samples.is_some() {
        samples::check(&compiled.typed)?;
    }
    let outputs: Vec<Output> = args.output.iter().map(|path| Output::of(path)).collect::<Result<_, _>>()?;
    let inputs: Vec<&str> = compiled.typed.graph().inputs().keys().map(String::as_str).collect();
    let given = given(&args.input, &inputs)?;
    let batch = batch(args, &given);
    let mut shapes = shapes(compiled, if given.is_noise() { batch } else { given.len() });
    if args.samples.is_some() {
        let stds: Vec<_> = shapes.iter().map(|(name, shape)| (std_name(name), shape.clone())).collect();
        shapes.extend(stds);
    }
    let own = own_files(compiled, &args.spec, &args.exec.source);
    let drawn = match !given.is_noise() && gives_pixels_classes(compiled) {
        true => Drawn::Classes,
        false => Drawn::Values,
    };
    for path in &args.output {
        output::check(path, &shapes, drawn)?;
        output::refuse_what_is_read(path, given.paths().chain(own.iter().map(PathBuf::as_path)))?;
    }
    let times = args.samples.map_or(1, |samples| samples as usize);
    let backend = backend(&args.exec, runs(&given, batch).map(|runs| runs.saturating_mul(times)))?;
    args.exec.with_threads(|| execute(session, args, backend.as_ref(), compiled, &outputs, &given, batch))
}

/// Whether pixels get classes, as far as the spec says: by its loss, or by names of its own, which are as many as channels.
fn gives_pixels_classes(compiled: &Compiled) -> bool {
    let loss = compiled.train.as_ref().map(|spec| spec.loss.value.name());
    let is_map = compiled.typed.graph().outputs().values().all(|output| compiled.typed.shape(output.node).rank() == 4);
    let answer = answer(&compiled.typed, loss, None);
    answer == Answer::Pixels || (is_map && loss.is_none() && compiled.settings.has_own_labels())
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
    let labels = names(compiled, &bound)?;
    let wanted = bound.settings().wanted(&compiled.typed);
    bound.check_memory()?;
    let executable = Executable::new(&compiled.typed, &bound, backend, batch)?;
    session.report(&bound.warnings());
    let is_noise = given.is_noise();
    // noise has no classes
    let answer = match is_noise {
        true => Answer::Tensors,
        false => answer(&compiled.typed, loss_of(compiled, &bound).as_deref(), labels.as_ref()),
    };
    if let (Answer::Classes(_) | Answer::Pixels, Some(labels)) = (answer, &labels) {
        overruled(labels, &bound)?.into_iter().for_each(say);
    }
    let mut batches = Batches {
        seed: args.exec.seed.unwrap_or(0),
        samples: args.samples,
        collected: Collected::new(answer, labels, outputs.iter().any(|output| output.needs_tensors())),
        finite: Finite::new(session, &bound, backend),
        executable,
        wanted: &wanted,
    };
    if args.samples.is_none() {
        let remark = samples::remark(&compiled.typed, batches.seed);
        remark.iter().for_each(|remark| say(format!("{remark}: `--samples 20` gives mean and standard deviation")));
    }
    let mut failed = Diagnostics::new();
    if is_noise {
        let noise: Vec<Tensor> =
            wanted.iter().map(|one| noise(&one.name, &one.shape, batch, args.exec.seed.unwrap_or(0))).collect();
        let names: Vec<String> = (0..batch).map(|at| format!("noise[{at}]")).collect();
        batches.run(&names, &noise, |look| look())?;
    } else {
        prepared(&bound, given, &wanted).iter().for_each(say);
        if given.skipped() > 0 {
            let plural = if given.skipped() == 1 { "" } else { "s" };
            say(format!("skipped: {} other file{plural}", given.skipped()));
        }
        let bar = progress::steps(given.len());
        let mut samples = given.samples(&wanted, batch);
        while let Some(now) = samples.next()? {
            for problem in now.problems {
                bar.suspend(|| session.report(&problem.clone().anywhere().into()));
                failed.push(problem.anywhere());
            }
            let count = now.names.len();
            if count > 0 {
                batches.run(&now.names, &now.tensors, |look| bar.suspend(look))?;
            }
            bar.inc(count as u64);
        }
        bar.finish_and_clear();
    }
    let collected = batches.collected;
    let (results, tensors) = collected.finish();
    print(&text(&results));
    for path in &args.output {
        for remark in output::write(path, &tensors, &results)? {
            say(remark);
        }
    }
    if failed.has_errors() { Err(Failure::Status(1)) } else { Ok(()) }
}

/// A loaded network, and what has come out of it.
struct Batches<'a> {
    executable: Executable,
    collected: Collected,
    finite: Finite<'a>,
    wanted: &'a [Wanted],
    seed: u64,
    /// Runs of a batch of a network that draws.
    samples: Option<u64>,
}

impl Batches<'_> {
    /// Runs a batch, once or as often as there are to be samples. `look` calls what may print a line.
    fn run(
        &mut self,
        names: &[String],
        tensors: &[Tensor],
        look: impl Fn(&mut dyn FnMut() -> Result<(), Problem>) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let Batches { executable, collected, finite, wanted, seed, samples } = self;
        let inputs = named(wanted, tensors);
        let mut once = |draw: Draw| {
            executable.set_draw(draw);
            let outputs = executable.run_samples(&inputs)?;
            look(&mut || finite.look(wanted, draw, names, tensors, outputs.iter().map(|(_, tensor)| tensor)))?;
            Ok::<_, Problem>(outputs)
        };
        let Some(samples) = samples else {
            let outputs = once(Draw { seed: *seed, sample: 0 })?;
            collected.add(names, outputs);
            return Ok(());
        };
        let mut draws = collected.draws();
        for sample in 0..*samples {
            let outputs = once(Draw { seed: *seed, sample })?;
            collected.draw(&mut draws, &outputs);
        }
        collected.add_drawn(names, draws);
        Ok(())
    }
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
fn prepared(bound: &Bound, given: &Given, wanted: &[Wanted]) -> Vec<String> {
    let pictures = given.files.iter().zip(wanted).filter(|(files, _)| files.items.iter().any(|item| !item.tensors));
    let (Some(_), pictures) = (&bound.settings().preprocess, pictures.map(|(_, wanted)| wanted).collect::<Vec<_>>())
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
    let (bound, line) = compiled.bind(source.weights.as_deref(), source.seed, &progress::Bars)?;
    say(line);
    bound.remarks().iter().for_each(say);
    Ok(bound)
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

    /// Looks at a batch: the draw that it took, what its samples are called, the inputs in the order of `wanted`, and the
    /// outputs.
    ///
    /// # Errors
    /// If the network cannot be run once more.
    pub fn look<'t>(
        &mut self,
        wanted: &[Wanted],
        draw: Draw,
        names: &[String],
        inputs: &[Tensor],
        outputs: impl Iterator<Item = &'t Tensor>,
    ) -> Result<(), Problem> {
        if self.is_told {
            return Ok(());
        }
        let inputs = named(wanted, inputs);
        let found = finite::look(self.bound.typed(), self.bound, self.backend, draw, names, &inputs, outputs)?;
        if let Some(warning) = found {
            self.is_told = true;
            self.session.report(&warning.into());
        }
        Ok(())
    }
}

/// Tensors by the names of the inputs that they are for.
fn named<'a>(wanted: &'a [Wanted], tensors: &'a [Tensor]) -> Vec<(&'a str, &'a Tensor)> {
    wanted.iter().map(|wanted| wanted.name.as_str()).zip(tensors).collect()
}
