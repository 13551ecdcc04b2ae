//! Running networks on the CPU: plans bound to kernels with packed weights.

mod bind;
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
use kernels::Isa;
use memory::{Arena, Memory, Slot};
use step::Bound;

/// The CPU with an instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    isa: Isa,
}

impl Cpu {
    /// With the best instruction set there is.
    pub fn new() -> Cpu {
        Cpu { isa: Isa::detect() }
    }

    pub fn with_isa(isa: Isa) -> Cpu {
        Cpu { isa }
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
        let bind = |step| bind::bind(self.isa, plan, step, weights);
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
    fn go(&mut self, inputs: &[&[f32]], mut done: impl FnMut()) -> Vec<Tensor> {
        let mut memory = Memory { arena: &mut self.arena, inputs, constants: &self.constants };
        for step in &self.steps {
            step.run(self.isa, &mut memory);
            done();
        }
        let output = |(slot, view): &(Slot, View)| {
            let mut tensor = Tensor::zeros(view.dims.clone());
            let plain = View::plain(view.place, &view.dims);
            let from = kernels::Strided { data: memory.read(slot), strides: &view.strides };
            kernels::copy(&view.dims, from, tensor.data_mut(), &plain.strides);
            tensor
        };
        self.outputs.iter().map(output).collect()
    }
}

impl Program for Loaded {
    fn run(&mut self, inputs: &[&[f32]]) -> Vec<Tensor> {
        self.go(inputs, || {})
    }

    fn profile(&mut self, inputs: &[&[f32]]) -> (Vec<Tensor>, Vec<Duration>) {
        let mut times = Vec::with_capacity(self.steps.len());
        let mut last = Instant::now();
        let outputs = self.go(inputs, || {
            let now = Instant::now();
            times.push(now - std::mem::replace(&mut last, now));
        });
        (outputs, times)
    }
}
