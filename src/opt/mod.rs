//! Rewrites from the typed graph to what is worth executing: [`lower`] says every op in the plainer [`Kind`]s, and passes
//! make fewer steps of it. A pass is an equation on kinds; some hold only where they save reading and writing. Passes know no
//! device: a backend says by its [`Fusion`] which of them it can run.
//!
//! Outputs of the network keep their values and names through every pass.

mod constant_matmul;
mod dead;
mod excitation;
mod excite;
mod flatten;
mod fold_channels;
mod fuse;
mod gate;
mod identity;
mod learn;
mod lower;
mod lower_training;
mod net;
mod permute;
mod pooled_conv;
mod relu_mask;
mod scale;
mod separable;
mod squeeze;
mod squeeze_early;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use archc_base::Act;

use crate::typed::Typed;

pub use learn::{Grain, Learn};
pub use lower::lower;
pub use lower_training::{CLOCK, lower_training};
pub use net::{ChannelMap, Epilogue, Excite, Id, Kind, Net, Node, Source, Squeeze, State, Weights};

/// A rewrite of a whole network.
pub struct Pass {
    #[cfg_attr(not(test), expect(dead_code, reason = "tests ask for a pass by its name"))]
    pub name: &'static str,
    pub run: fn(&mut Net),
    /// Whether it is for a backend that can run so much.
    pub suits: fn(Fusion) -> bool,
}

/// Which kinds and epilogues a backend can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fusion {
    /// Those of [`lower`], with activations and residuals in epilogues.
    Plain,
    /// Besides, factors and means of channels in epilogues, factors of what a pointwise convolution reads, whole excitations.
    Gated,
    /// As `Deep`, but for means in epilogues: a sample has the same bits wherever in the batch it stands.
    Steady,
    /// All but excitations, whose maps are as good one by one where starting a step costs little.
    Deep,
}

const fn plain(name: &'static str, run: fn(&mut Net)) -> Pass {
    Pass { name, run, suits: |_| true }
}

const fn gated(name: &'static str, run: fn(&mut Net)) -> Pass {
    Pass { name, run, suits: |fusion| fusion >= Fusion::Gated }
}

const fn excited(name: &'static str, run: fn(&mut Net)) -> Pass {
    Pass { name, run, suits: |fusion| fusion == Fusion::Gated }
}

const fn summed(name: &'static str, run: fn(&mut Net)) -> Pass {
    Pass { name, run, suits: |fusion| matches!(fusion, Fusion::Gated | Fusion::Deep) }
}

const fn deep(name: &'static str, run: fn(&mut Net)) -> Pass {
    Pass { name, run, suits: |fusion| fusion >= Fusion::Steady }
}

/// The passes, in the order in which they run.
pub static PASSES: &[Pass] = &[
    // what does nothing in eval mode, first, so that the others see neighbours as neighbours
    plain("identity", identity::run),
    // matrix products by parameters become linear maps, which the others know how to fold into
    plain("constant_matmul", constant_matmul::run),
    // elementwise steps move before permutations, next to the maps whose results were permuted
    plain("permute", permute::run),
    // batch norms, layer scales and biases go into the weights
    plain("fold_channels", fold_channels::run),
    // numbers that multiply a matrix product
    plain("scale", scale::run),
    // images are channels-last: linear maps of flattened ones read their columns in that order
    plain("flatten", flatten::run),
    // factors of channels become gates, which epilogues have a place for
    gated("gate", gate::run),
    // activations, gates and additions go into what computes their operand
    plain("fuse", fuse::run),
    // the backward pass of a batch norm with the relu that went into it
    plain("relu_mask", relu_mask::run),
    // the gate of a pointwise convolution's own result, before the convolution
    gated("squeeze_early", squeeze_early::run),
    // gates that are left go into the pointwise convolution that reads what is gated
    gated("excite", excite::run),
    // means over pixels go into what computes the image, and are summed by its tiles, which may lie across two samples;
    // after the two that ask who else reads it
    summed("squeeze", squeeze::run),
    // what a gate is computed by from those means
    excited("excitation", excitation::run),
    // images that are larger than what goes in and comes out are not written
    deep("pooled_conv", pooled_conv::run),
    deep("separable", separable::run),
    plain("dead", dead::run),
];

/// The network in eval mode, every pass applied that a backend of this `fusion` knows.
pub fn optimise(typed: &Typed, fusion: Fusion) -> Net {
    let mut net = lower(typed);
    rewrite(&mut net, fusion);
    net
}

/// Applies every pass that a backend of this `fusion` knows.
pub fn rewrite(net: &mut Net, fusion: Fusion) {
    for pass in PASSES.iter().filter(|pass| (pass.suits)(fusion)) {
        (pass.run)(net);
    }
}
