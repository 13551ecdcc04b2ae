//! What a step asks of the machine by the plain algorithm, whatever the kernel does.

use super::{Plan, Step, View, Work};
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
    /// What `step` asks for. `typed` is the network that the plan was made of.
    pub fn cost(&self, step: &Step, typed: &Typed) -> Cost {
        let mut cost = Cost::default();
        // what a copy prepares is counted where it is read
        let layers = if matches!(step.work, Work::Node(_)) { &step.layers[..] } else { &[] };
        for layer in layers {
            cost.flops += 2 * typed.macs(*layer) * self.batch as u64;
            cost.weights +=
                typed.params(*layer).iter().map(|param| param.shape.iter().product::<usize>() as u64).sum::<u64>();
        }
        cost.values = step.views().map(distinct).sum::<u64>() * size_of::<f32>() as u64;
        cost
    }
}

/// Numbers of a view, those of a repeated axis once.
fn distinct(view: &View) -> u64 {
    view.dims.iter().zip(&view.strides).filter(|(_, stride)| **stride != 0).map(|(len, _)| *len as u64).product()
}
