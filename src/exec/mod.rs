//! Running compiled networks: from a typed graph and its tensors to an [`Executable`].
//!
//! Everything that can be done before the first input is done in [`Executable::new`]: passes, plan, memory, packed
//! weights. A run then allocates nothing but its outputs, and gives the same bits on any number of threads.

mod batch;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
pub mod finite;
pub mod learning;
pub mod reference;
pub mod samples;
pub mod testing;
#[cfg(test)]
mod tests;
pub mod timing;
mod weights;

use std::time::Duration;

use crate::diag::{Code, Problem};
use crate::graph::NodeId;
use crate::net::{CLOCK, clock};
use crate::opt::{self, Fusions};
use crate::plan::{self, Plan};
use crate::tensor::Tensor;
use crate::typed::Typed;

pub use batch::noise;
pub use weights::Weights;

/// Where the tensors of a network come from.
pub trait Tensors: Sync {
    /// The values of tensor `param` (its index in [`Typed::params`]) of the layer `node`, which owns it. Called from
    /// several threads, for each tensor once where possible.
    fn read(&self, node: NodeId, param: usize) -> Result<Vec<f32>, Problem>;
}

/// Something that can run plans.
pub trait Backend: Sync {
    /// `cpu`, `cuda`
    fn name(&self) -> &'static str;

    /// What a plan for this backend should heed.
    fn options(&self, batch: usize) -> plan::Options<'_>;

    /// What passes may ask of it.
    fn fusions(&self) -> Fusions {
        Fusions::PLAIN
    }

    /// Allocates the plan's memory and packs its weights.
    fn load(&self, plan: &Plan, weights: &Weights) -> Result<Box<dyn Program>, Problem>;

    /// What the device can do at most, where it is not this machine's CPU.
    ///
    /// # Errors
    /// If it cannot be measured.
    fn peak(&self) -> Result<Option<Peak>, Problem> {
        Ok(None)
    }
}

/// What a device can do at most.
#[derive(Clone, Debug, PartialEq)]
pub struct Peak {
    /// Its name.
    pub device: String,
    /// Operations a second.
    pub flops: f64,
    /// Bytes read and written a second.
    pub bytes: f64,
    /// Bytes of an element of weights and activations.
    pub element: usize,
}

/// A loaded plan.
pub trait Program: Send {
    /// Runs every step. Inputs come by number, with the sizes of the plan; outputs are in the plan's order, of its sizes,
    /// and are filled row-major.
    ///
    /// # Errors
    /// If the device fails.
    fn run(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<(), Problem>;

    /// The same, and how long each step took.
    ///
    /// # Errors
    /// If the device fails.
    fn profile(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<Vec<Duration>, Problem>;

    /// The kernel that each step uses: `direct 14x32`, `depthwise`.
    fn kernels(&self) -> Vec<String>;

    /// How long `count` runs of the last inputs take on a device that keeps its own time, without what goes in and out;
    /// None where the host's clock says it all.
    fn device_times(&mut self, count: usize) -> Option<Result<Vec<Duration>, Problem>> {
        let _ = count;
        None
    }
}

/// Which draw a run takes of what is drawn at inference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Draw {
    pub seed: u64,
    /// Its number among those of a seed.
    pub sample: u64,
}

/// A network that is ready to run with one batch size.
pub struct Executable {
    plan: Plan,
    program: Box<dyn Program>,
    /// Of a network that draws: where the input [`CLOCK`] is among the plan's, and what it reads.
    clock: Option<(usize, [f32; 8])>,
}

impl Executable {
    /// Compiles for a batch of `batch` in eval mode, and loads the weights.
    ///
    /// # Errors
    /// If memory does not suffice, or a tensor cannot be read.
    pub fn new(
        typed: &Typed,
        tensors: &dyn Tensors,
        backend: &dyn Backend,
        batch: usize,
    ) -> Result<Executable, Problem> {
        let plan = plan::plan(opt::optimise(typed, backend.fusions()), &backend.options(batch))?;
        let weights = Weights::new(typed, tensors, &plan)?;
        let program = backend.load(&plan, &weights)?;
        let clock = plan.inputs().iter().position(|(name, _)| name == CLOCK);
        let mut executable = Executable { plan, program, clock: clock.map(|at| (at, [0.0; 8])) };
        executable.set_draw(Draw::default());
        Ok(executable)
    }

    /// Whether something is drawn in every run: the network's outputs then depend on [`Executable::set_draw`].
    pub fn draws(&self) -> bool {
        self.clock.is_some()
    }

    /// Lets the next runs take that draw; at first it is sample 0 of seed 0.
    pub fn set_draw(&mut self, draw: Draw) {
        if let Some((_, words)) = &mut self.clock {
            *words = clock(draw.seed, draw.sample);
        }
    }

    /// The inputs that a run is given, with their sizes.
    pub fn inputs(&self) -> impl Iterator<Item = &(String, Vec<usize>)> {
        self.plan.inputs().iter().filter(|(name, _)| name != CLOCK)
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs the network on inputs by name, all of its batch size. Outputs are row-major in their logical axes.
    ///
    /// # Errors
    /// An input that is missing or of another shape; a device that fails.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, Problem> {
        let mut outputs = self.outputs();
        let inputs = self.in_order(inputs)?;
        self.run_into(&inputs, &mut outputs)?;
        Ok(self.named(outputs))
    }

    /// Runs the network on inputs in the order of [`Executable::inputs`] into what [`Executable::outputs`] made, or a run
    /// before filled. Allocates nothing, but a list of the inputs where something is drawn.
    ///
    /// # Errors
    /// A device that fails.
    ///
    /// # Panics
    /// If there are other than these inputs and the plan's outputs, or they have other sizes.
    pub fn run_into(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<(), Problem> {
        self.fits(inputs, outputs);
        match &self.clock {
            Some(clock) => self.program.run(&with_clock(inputs, clock), outputs),
            None => self.program.run(inputs, outputs),
        }
    }

    /// [`Executable::run`], and the time of each of the plan's steps.
    #[expect(clippy::type_complexity, reason = "outputs beside times")]
    pub fn profile(&mut self, inputs: &[(&str, &Tensor)]) -> Result<(Vec<(String, Tensor)>, Vec<Duration>), Problem> {
        let mut outputs = self.outputs();
        let inputs = self.in_order(inputs)?;
        let times = match &self.clock {
            Some(clock) => self.program.profile(&with_clock(&inputs, clock), &mut outputs)?,
            None => self.program.profile(&inputs, &mut outputs)?,
        };
        Ok((self.named(outputs), times))
    }

    /// Tensors of zeros for the outputs, in the plan's order.
    pub fn outputs(&self) -> Vec<Tensor> {
        self.plan.outputs().iter().map(|(_, view)| Tensor::zeros(view.dims.clone())).collect()
    }

    fn fits(&self, inputs: &[&[f32]], outputs: &[Tensor]) {
        let given = inputs.iter().map(|input| input.len());
        assert!(given.eq(self.inputs().map(|(_, dims)| dims.iter().product::<usize>())), "inputs of other sizes");
        let given = outputs.iter().map(Tensor::shape);
        assert!(given.eq(self.plan.outputs().iter().map(|(_, view)| view.dims.as_slice())), "outputs of other shapes");
    }

    /// The kernel that each of the plan's steps uses.
    pub fn kernels(&self) -> Vec<String> {
        self.program.kernels()
    }

    /// [`Program::device_times`]
    pub fn device_times(&mut self, count: usize) -> Option<Result<Vec<Duration>, Problem>> {
        self.program.device_times(count)
    }

    /// Inputs by name in the order of [`Executable::inputs`], for [`Executable::run_into`].
    ///
    /// # Errors
    /// An input that is missing or of another shape.
    pub fn in_order<'a>(&self, given: &[(&str, &'a Tensor)]) -> Result<Vec<&'a [f32]>, Problem> {
        let one = |(name, dims): &(String, Vec<usize>)| {
            let Some((_, tensor)) = given.iter().find(|(other, _)| other == name) else {
                return Err(Problem::new(Code::Input, format!("the network needs the input `{name}`")));
            };
            if tensor.shape() != dims.as_slice() {
                let message = format!("the input `{name}` needs {dims:?}, got {:?}", tensor.shape());
                return Err(Problem::new(Code::Input, message));
            }
            Ok(tensor.data())
        };
        self.inputs().map(one).collect()
    }

    fn named(&self, outputs: Vec<Tensor>) -> Vec<(String, Tensor)> {
        self.plan.outputs().iter().map(|(name, _)| name.clone()).zip(outputs).collect()
    }
}

/// The plan's inputs: those that a run is given, and the clock at its place.
fn with_clock<'a>(inputs: &[&'a [f32]], (at, words): &'a (usize, [f32; 8])) -> Vec<&'a [f32]> {
    let mut all = inputs.to_vec();
    all.insert(*at, words);
    all
}
