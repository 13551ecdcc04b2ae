//! Running networks on the CPU: plans bound to kernels with packed weights.

mod bind;
pub mod cases;
pub mod ceilings;
pub mod kernels;
mod memory;
mod step;

use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::{Backend, Program, Weights};
use crate::diag::Problem;
use crate::opt::Fusion;
use crate::plan::{self, Plan, View};
use crate::tensor::Tensor;
use kernels::{Isa, Policy};
use memory::{Arena, Memory, Slot};
use step::Bound;

/// The CPU with an instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    isa: Isa,
    policy: Policy,
}

impl Cpu {
    /// With the best instruction set there is.
    pub fn new() -> Cpu {
        Cpu::with_isa(Isa::detect())
    }

    pub fn with_isa(isa: Isa) -> Cpu {
        Cpu { isa, policy: Policy::default() }
    }

    /// Which algorithms it may use.
    pub fn with_policy(self, policy: Policy) -> Cpu {
        Cpu { policy, ..self }
    }

    pub fn isa(&self) -> Isa {
        self.isa
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

    fn options(&self, batch: usize) -> plan::Options {
        plan::Options { batch, pixel_distance: kernels::pixel_distance }
    }

    fn fusion(&self) -> Fusion {
        Fusion::Deep
    }

    fn load(&self, plan: &Plan, weights: &Weights) -> Result<Box<dyn Program>, Problem> {
        let arena = Arena::new(plan.arena())?;
        let constants = plan.constants().iter().map(|source| weights.read(source)).collect::<Result<_, _>>()?;
        let bind = |step| bind::bind(self.isa, self.policy, plan, step, weights);
        let steps = plan.steps().par_iter().with_max_len(1).map(bind).collect::<Result<_, _>>()?;
        let outputs = plan.outputs().iter().map(|(_, view)| (Slot::new(plan, view), view.clone())).collect();
        Ok(Box::new(Loaded { isa: self.isa, arena, constants, steps, outputs }))
    }
}

/// A plan with its memory and packed weights.
struct Loaded {
    isa: Isa,
    arena: Arena,
    constants: Vec<Vec<f32>>,
    steps: Vec<Bound>,
    outputs: Vec<(Slot, View)>,
}

impl Loaded {
    fn go(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor], mut done: impl FnMut() + Send) {
        let mut memory = Memory { arena: &mut self.arena, inputs, constants: &self.constants };
        let (isa, steps, places) = (self.isa, &self.steps, &self.outputs);
        kernels::team::with(|| {
            for step in steps {
                step.run(isa, &mut memory);
                done();
            }
            for ((slot, view), output) in places.iter().zip(outputs) {
                let from = kernels::Strided { data: memory.read(slot), strides: &view.strides };
                let (dims, strides) = plain(view);
                kernels::copy(&view.dims, from, output.data_mut(), &strides[..dims]);
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
        self.go(inputs, outputs, || {});
        Ok(())
    }

    fn profile(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<Vec<Duration>, Problem> {
        let mut times = Vec::with_capacity(self.steps.len());
        let mut last = Instant::now();
        self.go(inputs, outputs, || {
            let now = Instant::now();
            times.push(now - std::mem::replace(&mut last, now));
        });
        Ok(times)
    }

    fn kernels(&self) -> Vec<String> {
        self.steps.iter().map(|step| step.kernel(self.isa)).collect()
    }
}
