//! Running compiled networks: from a typed graph and its tensors to an [`Executable`].
//!
//! Everything that can be done before the first input is done in [`Executable::new`]: passes, plan, memory, packed
//! weights. A run then allocates nothing but its outputs, and gives the same bits on any number of threads.

pub mod cpu;
pub mod reference;
#[cfg(test)]
pub(crate) mod tests;
mod weights;

use std::time::Duration;

use crate::diag::{Code, Problem};
use crate::graph::NodeId;
use crate::opt::{self, Fusion};
use crate::plan::{self, Plan};
use crate::tensor::Tensor;
use crate::typed::Typed;

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
    fn options(&self, batch: usize) -> plan::Options;

    /// How much passes may ask of it.
    fn fusion(&self) -> Fusion {
        Fusion::Plain
    }

    /// Allocates the plan's memory and packs its weights.
    fn load(&self, plan: &Plan, weights: &Weights) -> Result<Box<dyn Program>, Problem>;
}

/// A loaded plan.
pub trait Program: Send {
    /// Runs every step. Inputs come by number, with the sizes of the plan; outputs are in the plan's order, row-major.
    fn run(&mut self, inputs: &[&[f32]]) -> Vec<Tensor>;

    /// The same, and how long each step took.
    fn profile(&mut self, inputs: &[&[f32]]) -> (Vec<Tensor>, Vec<Duration>);
}

/// A network that is ready to run with one batch size.
pub struct Executable {
    plan: Plan,
    program: Box<dyn Program>,
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
        let plan = plan::plan(opt::optimise(typed, backend.fusion()), &backend.options(batch))?;
        let weights = Weights::new(typed, tensors, &plan)?;
        let program = backend.load(&plan, &weights)?;
        Ok(Executable { plan, program })
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs the network on inputs by name, all of its batch size. Outputs are row-major in their logical axes.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, Problem> {
        let inputs = self.inputs(inputs)?;
        let outputs = self.program.run(&inputs);
        Ok(self.named(outputs))
    }

    /// [`Executable::run`], and the time of each of the plan's steps.
    #[expect(clippy::type_complexity, reason = "outputs beside times")]
    pub fn profile(&mut self, inputs: &[(&str, &Tensor)]) -> Result<(Vec<(String, Tensor)>, Vec<Duration>), Problem> {
        let inputs = self.inputs(inputs)?;
        let (outputs, times) = self.program.profile(&inputs);
        Ok((self.named(outputs), times))
    }

    fn inputs<'a>(&self, given: &[(&str, &'a Tensor)]) -> Result<Vec<&'a [f32]>, Problem> {
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
        self.plan.inputs().iter().map(one).collect()
    }

    fn named(&self, outputs: Vec<Tensor>) -> Vec<(String, Tensor)> {
        self.plan.outputs().iter().map(|(name, _)| name.clone()).zip(outputs).collect()
    }
}
