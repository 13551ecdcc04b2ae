//! Networks that learn on a device: everything that a trainer asks of one.
//!
//! A run keeps arrays that all have the layout of the plan's states, float32 whatever values are kept in; they belong to
//! the device, where every program of the run, one for each batch size, finds them.

use std::ops::Range;
use std::time::Duration;

use archc_base::Rule;

use super::{Backend, Weights};
use crate::diag::Problem;
use crate::opt::Fusions;
use crate::plan::{self, Plan};
use crate::tensor::Tensor;

/// An array that a run keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Array {
    /// Weights and running statistics; what is learned comes first.
    States,
    /// Of what is learned, by the last run.
    Gradients,
    /// What the optimizer keeps of what is learned.
    Moment(usize),
    /// Averaged states.
    Average,
    /// Sums of the gradients of runs since the last update.
    Sums,
}

/// Which arrays there are besides states and gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrays {
    pub moments: usize,
    pub average: bool,
    pub sums: bool,
}

/// A change of everything that is learned.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    pub lr: f64,
    pub weight_decay: f64,
    /// Runs whose gradients are averaged: those in [`Array::Sums`] where there are several.
    pub runs: u64,
    /// The most that the norm of the averaged gradients may be.
    pub clip: Option<f64>,
    /// How much of the averaged states is kept.
    pub ema: Option<f64>,
    /// The learned states, in their order.
    pub parts: &'a [Part],
}

/// Learned states in a row that are changed alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub range: Range<usize>,
    /// Of the rate.
    pub factor: f64,
    pub rule: Rule,
}

/// A backend that networks can learn on.
pub trait Learns: Backend + Send {
    /// What a plan in training should heed.
    fn learning_options(&self, batch: usize) -> plan::Options<'_>;

    /// How much passes may ask of it in training.
    fn learning_fusions(&self) -> Fusions {
        self.fusions()
    }

    /// The backend for what comes before everything that learns: a sample's bits do not depend on its place in a batch.
    fn batch_invariant(&self) -> Box<dyn Backend>;

    /// Room for a run; the first program decides how large.
    fn learning(&self, arrays: Arrays) -> Box<dyn Learning>;
}

/// A network that learns, with everything that a device keeps of it. States, moments and the others are 0 at first.
pub trait Learning: Send {
    /// Loads the program of one more batch size, and makes it the current one.
    ///
    /// # Errors
    /// If memory does not suffice, a tensor cannot be read, or the device lacks a kernel.
    fn load(&mut self, plan: &Plan, weights: &Weights) -> Result<(), Problem>;

    /// Makes a program current, by its number in the order of loading.
    fn select(&mut self, program: usize);

    /// Runs every step of the current program.
    ///
    /// # Errors
    /// If the device fails.
    fn run(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<(), Problem>;

    /// The same with the time of each step.
    ///
    /// # Errors
    /// If the device fails.
    fn profile(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<Vec<Duration>, Problem>;

    /// The kernel of each step.
    fn kernels(&self) -> Vec<String>;

    /// Runs the steps one by one and returns the first whose result is not finite.
    fn first_non_finite(&mut self, inputs: &[&[f32]]) -> Option<usize>;

    /// # Errors
    /// If the device fails.
    fn read(&mut self, array: Array) -> Result<Vec<f32>, Problem>;

    /// Replaces an array, `values` being as many as it has.
    ///
    /// # Errors
    /// If the device fails.
    fn write(&mut self, array: Array, values: &[f32]) -> Result<(), Problem>;

    /// Adds the gradients of the last run to [`Array::Sums`].
    ///
    /// # Errors
    /// If the device fails.
    fn accumulate(&mut self) -> Result<(), Problem>;

    /// Changes what is learned, and sets [`Array::Sums`] to 0. Returns the norm of the averaged gradients before they
    /// were clipped, where they are.
    ///
    /// # Errors
    /// If the device fails.
    fn update(&mut self, update: &Update) -> Result<Option<f64>, Problem>;

    /// How long `count` runs of the last inputs, each with this update, take on a device that keeps its own time, without what
    /// goes in and out; None where the host's clock says it all.
    fn device_times(&mut self, update: &Update, count: usize) -> Option<Result<Vec<Duration>, Problem>> {
        let _ = (update, count);
        None
    }
}
