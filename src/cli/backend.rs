//! Which backend `--device`, `--dtype` and their company ask for.

use std::sync::Arc;

use super::args::{Device, Dtype, ExecArgs};
use crate::diag::{Code, Problem};
use crate::exec::Backend;
use crate::exec::cuda::{self, Cuda};
use crate::exec::learning::Learns;
use crate::io::console::say;

/// The backend; `auto` is the first GPU where it can be used, else the CPU. Where it is known that there are few runs,
/// only such preparations are made as pay for them.
///
/// # Errors
/// What is missing.
pub fn backend(exec: &ExecArgs, runs: Option<usize>) -> Result<Box<dyn Backend>, Problem> {
    match exec.device {
        Device::Cuda(ordinal) => Ok(Box::new(gpu(exec, ordinal)?)),
        Device::Cpu => cpu(exec, runs),
        Device::Auto => {
            let found = cuda::find();
            match (found.problem(), &found.gpus) {
                (None, _) => Ok(Box::new(gpu(exec, 0)?)),
                // who has a GPU wants to know why it is not used
                (Some(why), Ok(gpus)) if !gpus.is_empty() => {
                    say(format!("device: the CPU; the GPU is not used: {why}"));
                    cpu(exec, runs)
                }
                _ => cpu(exec, runs),
            }
        }
    }
}

/// The same for networks that learn: on the CPU in float32, on a GPU in bf16 too.
///
/// # Errors
/// What is missing.
pub fn learns(exec: &ExecArgs) -> Result<Arc<dyn Learns>, Problem> {
    if exec.dtype == Dtype::F16 {
        return Err(Problem::new(Code::Resource, "networks learn in f32 or bf16, not in f16")
            .note("derivatives are often too small for f16")
            .hint("`--device cuda --dtype bf16`; `archc run --dtype f16` runs what was learned"));
    }
    let ordinal = match exec.device {
        Device::Cuda(ordinal) => Some(ordinal),
        Device::Cpu => None,
        Device::Auto => cuda::find().problem().is_none().then_some(0),
    };
    if let Some(ordinal) = ordinal {
        return Ok(Arc::new(gpu(exec, ordinal)?));
    }
    if exec.dtype != Dtype::F32 {
        let message = format!("on the CPU networks learn in f32 only, not in {}", exec.dtype.name());
        return Err(Problem::new(Code::Resource, message)
            .hint("leave `--dtype` out; `archc run --dtype bf16` runs what was learned")
            .hint("`--device cuda` learns in bf16"));
    }
    if exec.tf32 {
        return Err(tf32_on_a_cpu());
    }
    Ok(Arc::new(exec.cpu(None)?))
}

/// GPU number `ordinal`, computing as the options say.
pub fn gpu(exec: &ExecArgs, ordinal: usize) -> Result<Cuda, Problem> {
    let dtype = match exec.dtype {
        Dtype::F32 if exec.tf32 && !exec.exact => cuda::Dtype::Tf32,
        Dtype::F32 => cuda::Dtype::F32,
        Dtype::Bf16 => cuda::Dtype::Bf16,
        Dtype::F16 => cuda::Dtype::F16,
    };
    Cuda::new(ordinal, dtype)
}

fn cpu(exec: &ExecArgs, runs: Option<usize>) -> Result<Box<dyn Backend>, Problem> {
    if exec.tf32 {
        return Err(tf32_on_a_cpu());
    }
    Ok(Box::new(exec.cpu(runs)?))
}

fn tf32_on_a_cpu() -> Problem {
    Problem::new(Code::Usage, "`--tf32` is for GPUs").hint("leave it out on a CPU")
}
