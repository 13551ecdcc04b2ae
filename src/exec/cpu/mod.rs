//! Running networks on the CPU: plans bound to kernels with packed weights.

mod bind;
pub mod cases;
mod kinds;
mod learning;
mod memory;
pub mod peaks;
mod prefetch;
mod slicing;
mod step;
mod training;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use archc_base::DType;
use rayon::prelude::*;

use super::{Backend, Program, Weights};
use crate::diag::{Code, Problem};
use crate::opt::Fusions;
use crate::plan::{self, Plan, Segment, View};
use crate::tensor::Tensor;
pub use archc_cpu as kernels;
use kernels::bf16::Unit;
use kernels::{Isa, Policy, Strided};
use memory::{Arena, Data, Memory, Slot};
use prefetch::Fetch;
use step::Bound;
pub use training::Training;

/// Why a CPU [has no kernels](Isa::is_there).
pub const NO_KERNELS: &str = "this CPU lacks AVX2 or FMA, which the kernels need";

/// The CPU with an instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    isa: Isa,
    policy: Policy,
    dtype: DType,
    batch_invariant: bool,
}

impl Cpu {
    /// With the best instruction set there is.
    pub fn new() -> Cpu {
        Cpu::with_isa(Isa::detect())
    }

    pub fn with_isa(isa: Isa) -> Cpu {
        Cpu { isa, policy: Policy::default(), dtype: DType::F32, batch_invariant: false }
    }

    /// Which algorithms it may use.
    pub fn with_policy(self, policy: Policy) -> Cpu {
        Cpu { policy, ..self }
    }

    /// What it keeps large values and weights in.
    ///
    /// # Errors
    /// If no kernel computes with that.
    pub fn with_dtype(self, dtype: DType) -> Result<Cpu, Problem> {
        if dtype == DType::F16 {
            let problem = Problem::new(Code::Resource, "the CPU computes in f32 and bf16, not in f16");
            return Err(problem
                .note("f16 overflows beyond 65504, which activations of networks that were trained in f32 may pass")
                .hint("`--dtype bf16` halves weights and activations too, and keeps the range of f32"));
        }
        Ok(Cpu { dtype, ..self })
    }

    /// Computes a sample to the same bits wherever in its batch it stands, at the price of a few more trips to memory.
    pub fn batch_invariant(self) -> Cpu {
        Cpu { batch_invariant: true, ..self }
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// What it keeps large values and weights in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}

impl Default for Cpu {
    fn default() -> Cpu {
        Cpu::new()
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn options(&self, batch: usize) -> plan::Options<'_> {
        let pixel_stride = match self.dtype {
            DType::F32 => kernels::pixel_stride,
            _ => kernels::bf16::pixel_stride,
        };
        plan::Options {
            batch,
            pixel_stride,
            dtype: self.dtype,
            reduced: plan::Reduced::Large,
            few_channels: kernels::FEW_CHANNELS,
            slicing: Some(self),
            memory: plan::available(),
        }
    }

    fn fusions(&self) -> Fusions {
        let gates = Fusions::GATES.and(Fusions::CHAINS);
        match self.dtype {
            DType::F32 if self.batch_invariant => gates,
            DType::F32 => gates.and(Fusions::MEANS),
            _ => Fusions::PLAIN,
        }
    }

    fn load(&self, plan: &Plan, weights: &Weights) -> Result<Box<dyn Program>, Problem> {
        Ok(Box::new(self.bound(plan, weights)?))
    }
}

impl Cpu {
    /// # Errors
    /// If there are no kernels for this CPU.
    pub fn check(&self) -> Result<(), Problem> {
        if self.isa.is_there() {
            return Ok(());
        }
        Err(Problem::new(Code::Resource, NO_KERNELS)
            .hint("`--device cuda` runs on a GPU, and a debug build (`cargo build`) has slow kernels for any CPU"))
    }

    fn bound(&self, plan: &Plan, weights: &Weights) -> Result<Loaded, Problem> {
        self.check()?;
        let bind = |step| bind::bind(self, plan, step, weights);
        let steps: Vec<Bound> = plan.steps().par_iter().with_max_len(1).map(bind).collect::<Result<_, _>>()?;
        let outputs: Vec<_> = plan.outputs().iter().map(|(_, view)| (Slot::new(plan, view), view.clone())).collect();
        // those that are not packed
        let mut constants = vec![vec![]; plan.constants().len()];
        let given = outputs.iter().filter_map(|(slot, _)| slot.constant());
        for number in steps.iter().flat_map(Bound::constants).chain(given).collect::<BTreeSet<_>>() {
            constants[number] = weights.read(&plan.constants()[number])?;
        }
        let arena = Arena::new(steps.iter().map(Bound::reach).fold(plan.arena(), usize::max))?;
        let (fetches, segments) = (prefetch::assign(&steps), plan.segments().to_vec());
        Ok(Loaded { unit: Unit::of(self.isa), arena, constants, steps, segments, fetches, outputs })
    }
}

/// A plan with its memory and packed weights.
struct Loaded {
    unit: Unit,
    arena: Arena,
    constants: Vec<Vec<f32>>,
    steps: Vec<Bound>,
    segments: Vec<Segment>,
    /// What each step fetches for a later one.
    fetches: Vec<Option<Fetch>>,
    outputs: Vec<(Slot, View)>,
}

impl Loaded {
    fn go(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor], mut done: impl FnMut(usize) + Send) {
        let mut memory = Memory { arena: &mut self.arena, inputs, constants: &self.constants, slice: 0 };
        let (unit, steps, segments) = (self.unit, &self.steps, &self.segments);
        let (fetches, places) = (&self.fetches, &self.outputs);
        kernels::team::with(|| {
            for segment in segments {
                for slice in 0..segment.slices {
                    memory.slice = slice;
                    for at in segment.steps.clone() {
                        // what a later segment needs is fetched once
                        let now = |fetch: &&Fetch| slice + 1 == segment.slices || segment.steps.contains(&fetch.step);
                        if let Some(fetch) = fetches[at].as_ref().filter(now) {
                            fetch.ask(steps);
                        }
                        steps[at].run(&mut memory);
                        done(at);
                    }
                }
            }
            memory.slice = 0;
            for ((slot, view), output) in places.iter().zip(outputs) {
                let (dims, to) = plain(view);
                let (to, strides) = (&to[..dims], &view.strides[..]);
                match memory.read_any(slot) {
                    Data::F32(data) => kernels::copy(&view.dims, Strided { data, strides }, output.data_mut(), to),
                    Data::Bf16(data) => {
                        kernels::bf16::copy(unit, &view.dims, Strided { data, strides }, output.data_mut(), to);
                    }
                }
            }
        });
    }
}

/// How many axes a view has, and the strides of its values in row-major order.
fn plain(view: &View) -> (usize, [usize; 8]) {
    let (mut strides, mut stride) = ([0; 8], 1);
    for axis in (0..view.dims.len()).rev() {
        strides[axis] = stride;
        stride *= view.dims[axis];
    }
    (view.dims.len(), strides)
}

impl Program for Loaded {
    fn run(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<(), Problem> {
        self.go(inputs, outputs, |_| {});
        Ok(())
    }

    fn profile(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<Vec<Duration>, Problem> {
        let mut times = vec![Duration::ZERO; self.steps.len()];
        let mut last = Instant::now();
        self.go(inputs, outputs, |at| {
            let now = Instant::now();
            times[at] += now - std::mem::replace(&mut last, now);
        });
        Ok(times)
    }

    fn kernels(&self) -> Vec<String> {
        self.steps.iter().map(Bound::kernel).collect()
    }
}
