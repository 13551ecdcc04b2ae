//! A plan in training: a loaded plan whose states and gradients the caller reads and writes between runs.

use super::memory::Memory;
use super::{Cpu, Loaded};
use crate::diag::Problem;
use crate::exec::{Program, Weights};
use crate::plan::Plan;
use crate::tensor::Tensor;
use std::time::Duration;

/// A network in training with its memory.
pub struct Training {
    loaded: Loaded,
    /// Of states and gradients: where they begin and their number.
    kept: [(usize, usize); 2],
}

impl Cpu {
    /// Allocates the memory of a plan in training and packs what is frozen. States are 0 at first.
    ///
    /// # Errors
    /// If memory does not suffice, or a tensor cannot be read.
    pub fn load_training(&self, plan: &Plan, weights: &Weights) -> Result<Training, Problem> {
        Ok(Training { loaded: self.bound(plan, weights)?, kept: plan.kept() })
    }
}

impl Training {
    /// Runs every step.
    ///
    /// # Errors
    /// None on this device; as [`Program::run`].
    pub fn run(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<(), Problem> {
        self.loaded.run(inputs, outputs)
    }

    /// The same with the time of each step.
    ///
    /// # Errors
    /// As [`Training::run`].
    pub fn profile(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<Vec<Duration>, Problem> {
        self.loaded.profile(inputs, outputs)
    }

    /// The kernel of each step.
    pub fn kernels(&self) -> Vec<String> {
        self.loaded.kernels()
    }

    /// States and gradients, the latter in the layout of the learned states, which come first.
    pub fn kept(&mut self) -> (&mut [f32], &mut [f32]) {
        let [(states, len), (gradients, count)] = self.kept;
        let floats = self.loaded.arena.floats();
        let swapped = gradients < states;
        // where nothing is learned, gradients may have the place of the states
        let (low, high) = floats.split_at_mut(if swapped { states } else { gradients.max(states + len) });
        let (first, second) = if swapped { (high, low) } else { (low, high) };
        let at = |start: usize, in_high: bool| if in_high { 0 } else { start };
        let states = &mut first[at(states, swapped)..][..len];
        (states, &mut second[at(gradients, !swapped)..][..count])
    }

    /// Runs the steps one by one and returns the first whose result is not finite.
    pub fn first_non_finite(&mut self, inputs: &[&[f32]]) -> Option<usize> {
        let Loaded { arena, constants, steps, .. } = &mut self.loaded;
        let mut memory = Memory { arena, inputs, constants, slice: 0 };
        steps.iter().position(|step| {
            step.run(&mut memory);
            step.written().is_some_and(|slot| memory.read(slot).iter().any(|value| !value.is_finite()))
        })
    }
}
