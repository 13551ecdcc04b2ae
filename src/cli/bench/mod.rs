//! `archc bench`: latency and throughput of a network, step by step where asked, or the kernels alone.

#[cfg(feature = "cuda")]
mod device;
mod kernels;
mod profile;

use std::path::PathBuf;

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Outcome;
use super::args::{BaseArgs, ExecArgs, SpecArgs, name_and_value, positive};
use super::backend::backend;
use super::run::{Finite, bound};
use super::session::Session;
use crate::compile::Compiled;
use crate::diag::{Code, Problem};
use crate::exec::cpu::peaks;
use crate::exec::device::Device;
#[cfg(not(feature = "cuda"))]
use crate::exec::device::WITHOUT_CUDA;
#[cfg(feature = "cuda")]
use crate::exec::device::gpu;
use crate::exec::timing::{Budget, LEAST, Samples, sample};
use crate::exec::{Backend, Draw, Executable, noise};
use crate::io::console::{print, print_json};
use crate::tensor::Tensor;

/// Measure latency and throughput, step by step where asked, or the kernels alone.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["spec", "kernels"]))]
pub struct Bench {
    /// The spec, an .arch file; `-` reads standard input.
    #[arg(value_name = "SPEC.arch")]
    pub spec: Option<PathBuf>,
    /// Give a `param` of the spec another value; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value, requires = "spec")]
    pub set: Vec<(String, String)>,
    #[command(flatten)]
    pub on: BaseArgs,
    /// Measure the peaks of this machine, and the kernels alone against them.
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

pub fn run(session: &mut Session, args: &Bench) -> Outcome {
    let Some(spec) = &args.spec else {
        let given = [
            ("weights", args.exec.weights.is_some()),
            ("seed", args.exec.seed.is_some()),
            ("base", args.on.base.is_some()),
            ("base-weights", args.on.base_weights.is_some()),
        ];
        for (option, given) in given {
            if given {
                let problem = Problem::new(Code::Usage, format!("`--{option}` means nothing to kernels alone"));
                return Err(problem.hint("leave it out, or name a spec instead of `--kernels`").into());
            }
        }
        return args.exec.with_threads(|| match args.exec.device {
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => device::run(args, &gpu(args.exec.precision(), ordinal)?),
            #[cfg(not(feature = "cuda"))]
            Device::Cuda(_) => Err(Problem::new(Code::Resource, WITHOUT_CUDA).into()),
            Device::Auto | Device::Cpu => kernels::run(args),
        });
    };
    let backend = backend(&args.exec, None)?;
    let model = session.compile(&SpecArgs { spec: spec.clone(), set: args.set.clone(), on: args.on.clone() })?;
    let compiled = model.compiled();
    args.exec.with_threads(|| network(session, args, backend.as_ref(), compiled))
}

/// What the arguments say, else `seconds` and `warm_up`.
fn budget(args: &Bench, seconds: f64, warm_up: f64) -> Budget {
    Budget {
        samples: args.iterations,
        time: Duration::from_secs_f64(args.seconds.unwrap_or(seconds)),
        warm_up: Duration::from_secs_f64(args.warm_up.unwrap_or(warm_up)),
    }
}

fn network(session: &Session, args: &Bench, backend: &dyn Backend, compiled: &Compiled) -> Outcome {
    let bound = bound(compiled, &args.exec)?;
    let (batch, seed) = (args.batch.unwrap_or(1), args.exec.seed.unwrap_or(0));
    bound.check_memory()?;
    let mut executable = Executable::new(&compiled.typed, &bound, backend, batch)?;
    session.report(&bound.warnings());
    let wanted = bound.settings().wanted(&compiled.typed);
    let given: Vec<Tensor> = wanted.iter().map(|one| noise(&one.name, &one.shape, batch, seed)).collect();
    let inputs: Vec<(&str, &Tensor)> = wanted.iter().map(|wanted| wanted.name.as_str()).zip(&given).collect();
    let budget = budget(args, 3.0, 0.5);

    let mut outputs = executable.outputs();
    let in_order = executable.in_order(&inputs)?;
    let before = peaks::core_to_core();
    let latency = sample(&budget, || executable.run_into(&in_order, &mut outputs))?;
    let names: Vec<String> = (0..batch).map(|at| format!("noise[{at}]")).collect();
    Finite::new(session, &bound, backend).look(&wanted, Draw::default(), &names, &given, outputs.iter())?;
    let cores = Cores { before, after: peaks::core_to_core() };
    let device_times = executable.device_times(latency.count().clamp(LEAST, MOST_REPLAYS)).transpose()?;
    let seconds = |times: Vec<Duration>| Samples::new(times.iter().map(Duration::as_secs_f64).collect());
    let device_times = device_times.map(seconds);
    let profile = match args.profile {
        true => Some(profile::measure(&mut executable, &compiled.typed, &inputs, &budget, backend.peak()?)?),
        false => None,
    };
    let report = Report { device: backend.name(), args, batch, latency, device_times, cores, profile };
    if args.json {
        print_json(&report.json())
    } else {
        print(&report.text())
    }
    Ok(())
}

/// More replays on a device say no more.
const MOST_REPLAYS: usize = 200;

/// Nanoseconds from core to core, before and after something was measured; none on a single core.
#[derive(Clone, Copy)]
struct Cores {
    before: Option<f64>,
    after: Option<f64>,
}

impl Cores {
    fn text(self) -> String {
        match (self.before, self.after) {
            (Some(before), Some(after)) => format!("core to core {before:.0} ns before, {after:.0} ns after"),
            _ => "a single core".into(),
        }
    }

    fn json(self) -> Value {
        json!({"before": self.before, "after": self.after})
    }
}

struct Report<'a> {
    device: &'static str,
    args: &'a Bench,
    batch: usize,
    latency: Samples,
    /// Without what goes in and out, on a device that keeps its own time.
    device_times: Option<Samples>,
    cores: Cores,
    profile: Option<profile::Profile>,
}

impl Report<'_> {
    fn images_per_second(&self) -> f64 {
        self.batch as f64 / self.latency.median()
    }

    fn text(&self) -> String {
        let threads = rayon::current_num_threads();
        let mut text = format!(
            "{}, {}, batch {}, {threads} thread{}, {} runs, {}\n",
            self.device,
            self.args.exec.dtype.name(),
            self.batch,
            if threads == 1 { "" } else { "s" },
            self.latency.count(),
            self.cores.text()
        );
        let figures: Vec<String> =
            figures(&self.latency).iter().map(|(name, seconds)| format!("{name} {}", millis(*seconds))).collect();
        text += &format!("latency in ms: {}\n", figures.join(", "));
        text += &format!("{:.1} images a second\n", self.images_per_second());
        if let Some(times) = &self.device_times {
            let rate = self.batch as f64 / times.median();
            let (min, median) = (millis(times.min()), millis(times.median()));
            text += &format!("on the device alone: min {min}, median {median}, {rate:.1} images a second\n");
        }
        if let Some(profile) = &self.profile {
            text += "\n";
            text += &profile.text();
        }
        text
    }

    fn json(&self) -> Value {
        let in_ms = |samples: &Samples| -> Map<String, Value> {
            let figures = figures(samples).into_iter();
            figures.map(|(name, seconds)| (name.to_string(), json!(seconds * 1e3))).collect()
        };
        let latency = in_ms(&self.latency);
        let mut json = json!({
            "device": self.device,
            "dtype": self.args.exec.dtype.name(),
            "batch": self.batch,
            "threads": rayon::current_num_threads(),
            "latency_ms": latency,
            "images_per_second": self.images_per_second(),
            "runs": self.latency.count(),
            "core_to_core_ns": self.cores.json(),
        });
        if let Some(times) = &self.device_times {
            json["device_ms"] = json!(in_ms(times));
        }
        if self.args.samples {
            json["samples_ms"] = self.latency.seconds().iter().map(|seconds| seconds * 1e3).collect();
        }
        if let Some(profile) = &self.profile {
            json["profile"] = profile.json();
        }
        json
    }
}

fn figures(samples: &Samples) -> [(&'static str, f64); 6] {
    [
        ("min", samples.min()),
        ("median", samples.median()),
        ("mean", samples.mean()),
        ("p90", samples.percentile(90)),
        ("p95", samples.percentile(95)),
        ("p99", samples.percentile(99)),
    ]
}

/// Three digits behind the point, or what four significant ones need.
fn millis(seconds: f64) -> String {
    let ms = seconds * 1e3;
    let digits = if ms >= 100.0 {
        1
    } else if ms >= 10.0 {
        2
    } else {
        3
    };
    format!("{ms:.digits$}")
}

/// Billions a second, three significant digits or so.
fn giga(rate: f64) -> String {
    let giga = rate / 1e9;
    if giga < 0.05 {
        "-".into()
    } else if giga < 10.0 {
        format!("{giga:.1}")
    } else {
        format!("{giga:.0}")
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds)).ok_or_else(|| "expected seconds".into())
}
