//! What a step asks of the machine by the plain algorithm, whatever the kernel does.

use super::slices::distinct;
use super::{Plan, View, Work};
use crate::typed::Typed;

/// Of one step and a whole batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Two for each multiply-add of its layers.
    pub flops: u64,
    /// Learned numbers that it reads.
    pub weights: u64,
    /// Bytes of activations that it reads and writes; what it reads twice, or again for each sample, counts once.
    pub values: u64,
}

impl Plan {
    /// What step `at` asks for, all its slices together. `typed` is the network that the plan was made of.
    pub fn cost(&self, at: usize, typed: &Typed) -> Cost {
        let step = &self.steps[at];
        let mut cost = Cost::default();
        // what a copy prepares is counted where it is read
        let layers = if matches!(step.work, Work::Node(_)) { &step.layers[..] } else { &[] };
        for layer in layers {
            let samples = if typed.shape(*layer).batched { self.batch as u64 } else { 1 };
            cost.flops += 2 * typed.macs(*layer) * samples;
            cost.weights +=
                typed.params(*layer).iter().map(|param| param.shape.iter().product::<usize>() as u64).sum::<u64>();
        }
        let weights = |(at, _): &(usize, &View)| !self.is_weight(step, *at);
        let values = step.reads.iter().enumerate().filter(weights).map(|(_, view)| view);
        let beside = step.gate.iter().chain(&step.residual).chain([&step.write]).chain(&step.means);
        let values: u64 = values.chain(beside).map(|view| (distinct(view) * self.dtype(view).size()) as u64).sum();
        cost.values = values * self.slices(at) as u64;
        cost
    }
}
