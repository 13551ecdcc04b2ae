//! Running networks on NVIDIA GPUs with the kernels of `archc-cuda`, which are compiled for the device when they are first
//! needed. Nothing of CUDA is needed to build archc; what is missing at run time is an error that says how to get it.
//!
//! Everything but `device` and `nvrtc` works on any `driver::Driver`, so that `kernels/emulator` tests it where there is no GPU.

mod cache;
pub mod cases;
mod compile;
mod device;
pub mod driver;
mod found;
mod learning;
mod lower;
mod nvrtc;
mod place;
mod program;

use std::sync::Arc;

use archc_base::DType;

use super::{Backend, Peak, Program, Weights};
use crate::diag::Problem;
use crate::opt::Fusions;
use crate::plan::{self, Plan};

pub use archc_cuda::Dtype;
pub use device::Device;
pub use found::{Found, find};
pub use place::stored;

/// A GPU and a dtype.
#[derive(Clone)]
pub struct Cuda {
    driver: Arc<dyn driver::Driver>,
    dtype: Dtype,
    start: Start,
}

/// How the kernels of a batch are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// All at once, by replaying a graph of them.
    Replay,
    /// One by one, each waited for, so that a fault is seen where it happens.
    Stepwise,
}

impl Start {
    /// What the variable `ARCHC_CUDA_SYNC` asks for.
    fn wanted() -> Start {
        match std::env::var_os(STEPWISE) {
            Some(value) if !value.is_empty() && value != "0" => Start::Stepwise,
            _ => Start::Replay,
        }
    }
}

/// The variable that asks for steps one by one.
const STEPWISE: &str = "ARCHC_CUDA_SYNC";

impl Cuda {
    /// GPU number `ordinal`.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn new(ordinal: usize, dtype: Dtype) -> Result<Cuda, Problem> {
        Ok(Cuda::on(Arc::new(Device::new(ordinal)?), dtype, Start::wanted()))
    }

    /// On a driver.
    pub fn on(driver: Arc<dyn driver::Driver>, dtype: Dtype, start: Start) -> Cuda {
        Cuda { driver, dtype, start }
    }

    /// What it keeps values and weights in.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its name: `NVIDIA H100 80GB HBM3`.
    pub fn device(&self) -> &str {
        &self.driver.facts().name
    }
}

impl Backend for Cuda {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn options(&self, batch: usize) -> plan::Options<'_> {
        plan::Options {
            batch,
            pixel_stride: lower::pixel_stride(self.dtype),
            dtype: match self.dtype {
                Dtype::F32 | Dtype::Tf32 => DType::F32,
                Dtype::Bf16 => DType::Bf16,
                Dtype::F16 => DType::F16,
            },
            reduced: plan::Reduced::Batched,
            few_channels: 0,
            slicing: None,
            // the device itself is asked when the plan is loaded
            memory: usize::MAX,
        }
    }

    fn fusions(&self) -> Fusions {
        Fusions::GATES.and(Fusions::MEANS).and(Fusions::EXCITATIONS)
    }

    fn load(&self, plan: &Plan, weights: &Weights) -> Result<Box<dyn Program>, Problem> {
        Ok(Box::new(program::load(&self.driver, self.dtype, self.start, plan, weights, lower::Kept::default())?))
    }

    fn peak(&self) -> Result<Option<Peak>, Problem> {
        let cases::Peaks { copy, flops } = self.peaks()?;
        Ok(Some(Peak { device: self.device().into(), flops, bytes: copy, element: self.dtype.size() }))
    }
}
