//! The stages of a run: what is frozen changes after the epochs that `unfreeze` lines name.

use super::TrainSpec;
use super::split::{Split, split};
use crate::typed::{self, Typed};

/// The network from an epoch on.
pub struct Stage {
    /// The first epoch, from 0 on.
    pub epoch: usize,
    pub typed: Typed,
    /// Its frozen prefix and the rest, where it has one.
    pub split: Option<Split>,
}

/// All stages of a run, the first from its beginning on. Layers unfreeze; none freezes.
pub fn stages(typed: &Typed, spec: &TrainSpec) -> Vec<Stage> {
    let mut epochs: Vec<usize> = [0].into_iter().chain(spec.unfreezes().iter().map(|(_, after)| *after)).collect();
    epochs.sort_unstable();
    epochs.dedup();
    let stage = |epoch: usize| {
        let mut graph = typed.graph().clone();
        let Ok(()) = graph.patch(|patch| {
            for (id, _) in spec.unfreezes().iter().filter(|(_, after)| *after <= epoch) {
                patch.node_mut(*id).frozen = false;
            }
            Ok::<(), std::convert::Infallible>(())
        });
        let typed = typed::check(graph, &[]).expect("what is frozen changes no shape");
        Stage { epoch, split: split(&typed), typed }
    };
    epochs.into_iter().map(stage).collect()
}
