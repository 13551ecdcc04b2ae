//! All arguments of all commands, as clap types.

use std::path::PathBuf;
use std::sync::Arc;

use archc_base::DType;
use clap::{Args as ClapArgs, Parser, Subcommand};

use super::progress::Bars;
use super::{Failure, threads};
use crate::exec::device::{Device, Precision};
use crate::face::Options;
use crate::weights::Downloads;

/// A compiler for edits to pretrained vision networks.
#[derive(Debug, Parser)]
#[command(name = "archc", version, about, max_term_width = 100)]
pub struct Args {
    /// Print lists of keys and places in full, not the first eight.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compile a spec and execute it on pictures, tensors or noise.
    Run(Run),
    /// Check a spec: everything short of running it.
    Check(Check),
    /// Show the network layer by layer.
    Show(Show),
    /// Show what each edit does, and what becomes of the weights.
    Plan(Plan),
    /// Compare the networks of two specs; exit status 0 if they are the same, 1 if not, 2 for anything else.
    Diff(Diff),
    /// Fine-tune the network as the spec's `train` block says.
    Train(Train),
    /// Say how good a classifier is on a folder of pictures.
    Eval(Eval),
    /// Measure latency and throughput, step by step where asked, or the kernels alone.
    Bench(Bench),
    /// Write the edited network's weights.
    Export(Export),
    /// List the base networks that ship with archc, or print one's source.
    Zoo(Zoo),
    /// Explain an op, a block, a verb or the code of a message.
    Explain(Explain),
    /// Write specs in their canonical form.
    Fmt(Fmt),
    /// List what can execute here, and why not the rest.
    Devices(Devices),
    /// Print a shell's completions.
    Completions(Completions),
}

/// The spec and what it is given: the same for every command that reads one.
#[derive(Clone, Debug, ClapArgs)]
pub struct SpecArgs {
    /// The spec, an .arch file; `-` reads standard input.
    #[arg(value_name = "SPEC.arch")]
    pub spec: PathBuf,
    /// Give a `param` of the spec another value; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub set: Vec<(String, String)>,
}

/// Where weights come from: the same for every command that reads their values.
#[derive(Clone, Debug, ClapArgs)]
pub struct WeightArgs {
    /// Weights of the edited network, as `train` and `export` write them, instead of the spec's.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Seed of whatever is random and has none in the spec.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Threads to use; all cores where not given.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub threads: Option<usize>,
}

/// How a network is executed: the same for every command that does.
#[derive(Clone, Debug, ClapArgs)]
pub struct ExecArgs {
    #[command(flatten)]
    pub source: WeightArgs,
    /// Where to execute: auto, cpu, cuda, cuda:1 ..
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Device,
    /// The number format of weights and activations; sums, small vectors and outputs are f32 in any case.
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: Dtype,
    /// On a GPU with f32: multiply with 10 bits of the mantissa, as PyTorch may.
    #[arg(long)]
    pub tf32: bool,
    /// Only exact algorithms: no Winograd, no reduced precision.
    #[arg(long)]
    pub exact: bool,
}

impl std::ops::Deref for ExecArgs {
    type Target = WeightArgs;
    fn deref(&self) -> &WeightArgs {
        &self.source
    }
}

impl ExecArgs {
    /// The same for whom the face serves.
    pub fn options(&self) -> Options {
        let Precision { dtype, tf32, exact } = self.precision();
        Options { dtype, tf32, exact, ..self.source.options() }
    }

    pub fn precision(&self) -> Precision {
        Precision { dtype: self.dtype.into(), tf32: self.tf32, exact: self.exact }
    }
}

impl WeightArgs {
    /// The same for whom the face serves.
    pub fn options(&self) -> Options {
        let downloads: Arc<dyn Downloads> = Arc::new(Bars);
        Options { weights: self.weights.clone(), seed: self.seed, downloads: Some(downloads), ..Options::default() }
    }

    /// Runs `inside` on as many threads as were asked for.
    ///
    /// # Errors
    /// Those of `inside`; threads that cannot be started.
    pub fn with_threads<T: Send>(&self, inside: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
        threads::with_threads(self.threads, inside)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dtype {
    F32,
    Bf16,
    F16,
}

impl Dtype {
    pub fn name(self) -> &'static str {
        DType::from(self).name()
    }
}

impl From<Dtype> for DType {
    fn from(dtype: Dtype) -> DType {
        match dtype {
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::Bf16,
            Dtype::F16 => DType::F16,
        }
    }
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "expected a number of 1 or more".into())
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds)).ok_or_else(|| "expected seconds".into())
}

#[derive(Debug, ClapArgs)]
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
    #[command(flatten)]
    pub exec: ExecArgs,
}

#[derive(Debug, ClapArgs)]
pub struct Train {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// The run's folder, which is made: checkpoints, metrics, the trained weights, a report.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on with the run in the folder.
    #[arg(long)]
    pub resume: bool,
    /// Compute the frozen layers before the first that learns in every step, instead of once a picture.
    #[arg(long)]
    pub no_prefix_cache: bool,
    /// Pictures a step, instead of the block's.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batch: Option<usize>,
    #[command(flatten)]
    pub exec: ExecArgs,
}

#[derive(Debug, ClapArgs)]
pub struct Eval {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// The pictures, a folder a class; the validation pictures of the `train` block where it is left out.
    #[arg(long, value_name = "FOLDER")]
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

#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["spec", "kernels"]))]
pub struct Bench {
    /// The spec, an .arch file; `-` reads standard input.
    #[arg(value_name = "SPEC.arch")]
    pub spec: Option<PathBuf>,
    /// Give a `param` of the spec another value; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value, requires = "spec")]
    pub set: Vec<(String, String)>,
    /// Measure the ceilings of this machine, and the kernels alone against them.
    #[arg(long)]
    pub kernels: bool,
    /// Only kernels whose name has this in it: `resnet50`, `depthwise`.
    #[arg(long, value_name = "TEXT", requires = "kernels")]
    pub filter: Option<String>,
    /// The time of each step, its share of what the machine can do, and totals by kernel.
    #[arg(long, conflicts_with = "kernels")]
    pub profile: bool,
    /// Seconds to measure, after the warm-up; 3 runs are made in any case [default: 3, of a kernel 0.2].
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Make exactly so many runs, however long they take.
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "seconds")]
    pub iterations: Option<usize>,
    /// Seconds to run before anything is measured; 2 runs are made in any case [default: 0.5, of a kernel 0.04].
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub warm_up: Option<f64>,
    /// Samples a run.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batch: Option<usize>,
    #[command(flatten)]
    pub exec: ExecArgs,
    /// Print the latency of every run too, in order of size.
    #[arg(long, requires = "json", conflicts_with = "kernels")]
    pub samples: bool,
    /// Print it as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Export {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// The format.
    #[arg(long, value_enum)]
    pub to: Target,
    /// The file to write.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// The number format of the tensors that are written.
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: Dtype,
    #[command(flatten)]
    pub source: WeightArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    Safetensors,
}

#[derive(Debug, ClapArgs)]
pub struct Devices {
    /// Print them as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Show {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Fold what lies deeper than N labels into one row.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub depth: Option<usize>,
    /// The base network, before the edits.
    #[arg(long)]
    pub base: bool,
    /// Only what a selector matches: 'layer4.**:conv2d where kernel == 3'.
    #[arg(long, value_name = "SELECTOR", conflicts_with = "depth")]
    pub select: Option<String>,
    /// The steps that will execute, after fusion, for one sample on the CPU.
    #[arg(long, conflicts_with_all = ["depth", "select"])]
    pub steps: bool,
    /// Print it as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Plan {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Print it as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Diff {
    /// The one spec.
    #[arg(value_name = "A.arch")]
    pub a: PathBuf,
    /// The other.
    #[arg(value_name = "B.arch")]
    pub b: PathBuf,
    /// Give a `param` of both specs another value; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub set: Vec<(String, String)>,
    /// Print it as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Zoo {
    /// A network or a file of the zoo, whose source is printed.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Print the list as JSON.
    #[arg(long, conflicts_with = "name")]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Explain {
    /// An op, a block, a verb or the code of a message; all topics where it is left out.
    #[arg(value_name = "TOPIC")]
    pub topic: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct Fmt {
    /// The files; `-` formats standard input to standard output.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Change nothing; list the files that would change, and exit with 1 if there are any.
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Completions {
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, ClapArgs)]
pub struct Check {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Print the messages as JSON.
    #[arg(long)]
    pub json: bool,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("expected NAME=VALUE, got `{text}`"))?;
    if name.is_empty() {
        return Err("expected NAME=VALUE, got no name".into());
    }
    Ok((name.to_string(), value.to_string()))
}
