//! The arguments that several commands have, as clap types. A command's own are in its file.

use std::path::PathBuf;
use std::sync::Arc;

use archc_base::DType;

use super::progress::Bars;
use super::{Failure, threads};
use crate::exec::device::{Device, Precision};
use crate::face::Options;
use crate::weights::Downloads;

/// The spec and what it is given: the same for every command that reads one.
#[derive(Clone, Debug, clap::Args)]
pub struct SpecArgs {
    /// The spec, an .arch file; `-` reads standard input.
    #[arg(value_name = "SPEC.arch")]
    pub spec: PathBuf,
    /// Give a `param` of the spec another value; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub set: Vec<(String, String)>,
    #[command(flatten)]
    pub on: BaseArgs,
}

/// What a spec is built on, where that is another base: the same for every command that reads one.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct BaseArgs {
    /// Another network as the base; what the spec says of its own base's weights is left out.
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    pub base: Option<String>,
    /// Weights of the base, before the edits, instead of the spec's.
    #[arg(long, value_name = "FILE")]
    pub base_weights: Option<PathBuf>,
}

/// Where weights come from: the same for every command that reads their values.
#[derive(Clone, Debug, clap::Args)]
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
#[derive(Clone, Debug, clap::Args)]
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

pub fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "expected a number of 1 or more".into())
}

fn network(text: &str) -> Result<String, String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = text.chars().all(is_word) && text.starts_with(|c: char| !c.is_ascii_digit());
    if is_name { Ok(text.to_string()) } else { Err("expected the name of a network, such as resnet50".into()) }
}

pub fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("expected NAME=VALUE, got `{text}`"))?;
    if name.is_empty() {
        return Err("expected NAME=VALUE, got no name".into());
    }
    Ok((name.to_string(), value.to_string()))
}
