//! Which device computes, and how: the way from a user's words to a [`Backend`]. What a machine has is found at run time.

use std::str::FromStr;
use std::sync::Arc;

use archc_base::DType;

use super::Backend;
use super::cpu::Cpu;
use super::cpu::kernels::Policy;
use super::learning::Learns;
use crate::diag::{Code, Problem};

/// A device by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The first GPU where it can be used, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// The GPU of that number.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;

    /// `auto`, `cpu`, `cuda`, `cuda:1`
    fn from_str(text: &str) -> Result<Device, String> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                number.map(Device::Cuda).ok_or_else(|| "expected auto, cpu, cuda or cuda:N".into())
            }
        }
    }
}

/// How a device computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Precision {
    /// The number format of weights and activations.
    pub dtype: DType,
    /// On a GPU with f32: multiply with 10 bits of the mantissa.
    pub tf32: bool,
    /// Only exact algorithms.
    pub exact: bool,
}

/// A backend, and what there is to say about its choice.
pub struct Chosen {
    pub backend: Box<dyn Backend>,
    /// Why a GPU that is there is not used.
    pub remark: Option<String>,
}

impl Device {
    /// The backend that runs networks. Where it is known that there are few runs, only such preparations are made as pay
    /// for them.
    ///
    /// # Errors
    /// What is missing.
    pub fn backend(self, precision: Precision, runs: Option<usize>) -> Result<Chosen, Problem> {
        let without = |backend| Chosen { backend, remark: None };
        match self {
            Device::Cuda(ordinal) => Ok(without(gpus::backend(precision, ordinal)?)),
            Device::Cpu => Ok(without(runs_on_cpu(precision, runs)?)),
            Device::Auto => match gpus::refusal() {
                None => Ok(without(gpus::backend(precision, 0)?)),
                // who has a GPU wants to know why it is not used
                Some(Refusal { why, is_there: true }) => Ok(Chosen {
                    backend: runs_on_cpu(precision, runs)?,
                    remark: Some(format!("device: the CPU; the GPU is not used: {why}")),
                }),
                Some(_) => Ok(without(runs_on_cpu(precision, runs)?)),
            },
        }
    }

    /// The backend that networks learn on: on the CPU in float32, on a GPU in bf16 too.
    ///
    /// # Errors
    /// What is missing.
    pub fn learns(self, precision: Precision) -> Result<Arc<dyn Learns>, Problem> {
        if precision.dtype == DType::F16 {
            return Err(Problem::new(Code::Resource, "networks learn in f32 or bf16, not in f16")
                .note("gradients are often too small for f16")
                .hint("`--device cuda --dtype bf16`; `archc run --dtype f16` runs what was learned"));
        }
        let ordinal = match self {
            Device::Cuda(ordinal) => Some(ordinal),
            Device::Cpu => None,
            Device::Auto => gpus::refusal().is_none().then_some(0),
        };
        if let Some(ordinal) = ordinal {
            return gpus::learns(precision, ordinal);
        }
        if precision.dtype != DType::F32 {
            let message = format!("on the CPU networks learn in f32 only, not in {}", precision.dtype.name());
            return Err(Problem::new(Code::Resource, message)
                .hint("leave `--dtype` out; `archc run --dtype bf16` runs what was learned")
                .hint("`--device cuda` learns in bf16"));
        }
        if precision.tf32 {
            return Err(tf32_on_a_cpu());
        }
        Ok(Arc::new(cpu(precision, None)?))
    }
}

/// The CPU with the algorithms that are allowed, and that pay for `runs` where that is known.
///
/// # Errors
/// If it does not compute in that number format, or may not.
pub fn cpu(precision: Precision, runs: Option<usize>) -> Result<Cpu, Problem> {
    if precision.exact && precision.dtype != DType::F32 {
        let message =
            format!("`--exact` allows no reduced precision, and `--dtype {}` asks for it", precision.dtype.name());
        return Err(Problem::new(Code::Usage, message).hint("leave one of them out"));
    }
    let policy = match runs {
        _ if precision.exact => Policy::Exact,
        Some(runs) => Policy::Runs(runs),
        None => Policy::Fast,
    };
    Cpu::new().with_policy(policy).with_dtype(precision.dtype)
}

fn runs_on_cpu(precision: Precision, runs: Option<usize>) -> Result<Box<dyn Backend>, Problem> {
    if precision.tf32 {
        return Err(tf32_on_a_cpu());
    }
    Ok(Box::new(cpu(precision, runs)?))
}

fn tf32_on_a_cpu() -> Problem {
    Problem::new(Code::Usage, "`--tf32` is for GPUs").hint("leave it out on a CPU")
}

/// Why no GPU can be used.
struct Refusal {
    why: String,
    /// Whether there is one all the same.
    is_there: bool,
}

#[cfg(feature = "cuda")]
mod gpus {
    use super::super::cuda::{self, Cuda};
    use super::{Arc, Backend, DType, Learns, Precision, Problem, Refusal};

    /// GPU number `ordinal`, computing so.
    ///
    /// # Errors
    /// What is missing.
    pub fn gpu(precision: Precision, ordinal: usize) -> Result<Cuda, Problem> {
        let dtype = match precision.dtype {
            DType::F32 if precision.tf32 && !precision.exact => cuda::Dtype::Tf32,
            DType::F32 => cuda::Dtype::F32,
            DType::Bf16 => cuda::Dtype::Bf16,
            DType::F16 => cuda::Dtype::F16,
        };
        Cuda::new(ordinal, dtype)
    }

    pub fn backend(precision: Precision, ordinal: usize) -> Result<Box<dyn Backend>, Problem> {
        Ok(Box::new(gpu(precision, ordinal)?))
    }

    pub fn learns(precision: Precision, ordinal: usize) -> Result<Arc<dyn Learns>, Problem> {
        Ok(Arc::new(gpu(precision, ordinal)?))
    }

    /// Why the first GPU cannot be used, if so.
    pub fn refusal() -> Option<Refusal> {
        let found = cuda::find();
        let is_there = found.gpus.as_ref().is_ok_and(|gpus| !gpus.is_empty());
        found.problem().map(|why| Refusal { why, is_there })
    }
}

#[cfg(not(feature = "cuda"))]
mod gpus {
    use super::{Arc, Backend, Code, Learns, Precision, Problem, Refusal, WITHOUT_CUDA};

    pub fn backend(_precision: Precision, _ordinal: usize) -> Result<Box<dyn Backend>, Problem> {
        Err(Problem::new(Code::Resource, WITHOUT_CUDA))
    }

    pub fn learns(_precision: Precision, _ordinal: usize) -> Result<Arc<dyn Learns>, Problem> {
        Err(Problem::new(Code::Resource, WITHOUT_CUDA))
    }

    pub fn refusal() -> Option<Refusal> {
        Some(Refusal { why: WITHOUT_CUDA.into(), is_there: false })
    }
}

/// Why there are no GPUs, whatever the machine has.
#[cfg(not(feature = "cuda"))]
pub const WITHOUT_CUDA: &str = "this archc was built without its feature `cuda`";

#[cfg(feature = "cuda")]
pub use gpus::gpu;
