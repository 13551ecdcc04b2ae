//! Rewrites of a network: [`lower`] says every op in the plainer kinds of a [`Net`], and passes make fewer steps of it. A
//! pass is an equation on kinds; some hold only where they save reading and writing. Passes know no device: a backend says by
//! its [`Fusions`] which of them it can run.
//!
//! Outputs of the network keep their values and names through every pass, and after each the net is checked.

mod constant_matmul;
mod excitation;
mod excite;
mod flatten;
mod fold_channels;
mod fuse;
mod gate;
mod identity;
mod lower;
mod permute;
mod pooled_conv;
mod relu_mask;
mod scale;
mod separable;
mod squeeze;
mod squeeze_early;
pub mod testing;
#[cfg(test)]
mod tests;

use crate::net::Net;
use crate::typed::Typed;

pub use lower::{lower, lower_training};

/// A rewrite of a whole network.
pub struct Pass {
    pub name: &'static str,
    pub run: fn(&mut Net),
    /// What a backend must be able to run for it.
    pub needs: Fusions,
}

/// Kinds and epilogues that a backend can run besides those of `lower`, and activations and residuals in epilogues: a
/// set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fusions(u8);

impl Fusions {
    /// None of them.
    pub const PLAIN: Fusions = Fusions(0);
    /// Factors of channels in epilogues, and of what a pointwise convolution reads.
    pub const GATES: Fusions = Fusions(1);
    /// Means of channels in epilogues: sums over tiles, which may lie across two samples.
    pub const MEANS: Fusions = Fusions(2);
    /// Whole excitations.
    pub const EXCITATIONS: Fusions = Fusions(4);
    /// Two steps in one without the image between them.
    pub const CHAINS: Fusions = Fusions(8);

    /// These and those.
    pub const fn and(self, other: Fusions) -> Fusions {
        Fusions(self.0 | other.0)
    }

    pub fn contains(self, other: Fusions) -> bool {
        self.0 & other.0 == other.0
    }
}

const fn pass(name: &'static str, needs: Fusions, run: fn(&mut Net)) -> Pass {
    Pass { name, run, needs }
}

/// The passes, in the order in which they run.
pub static PASSES: &[Pass] = &[
    // what does nothing in eval mode, first, so that the others see neighbours as neighbours
    pass("identity", Fusions::PLAIN, identity::run),
    // matrix products by parameters become linear maps, which the others know how to fold into
    pass("constant_matmul", Fusions::PLAIN, constant_matmul::run),
    // elementwise steps move before permutations, next to the maps whose results were permuted
    pass("permute", Fusions::PLAIN, permute::run),
    // batch norms, layer scales and biases go into the weights
    pass("fold_channels", Fusions::PLAIN, fold_channels::run),
    // numbers that multiply a matrix product
    pass("scale", Fusions::PLAIN, scale::run),
    // images are channels-last: linear maps of flattened ones read their columns in that order
    pass("flatten", Fusions::PLAIN, flatten::run),
    // factors of channels become gates, which epilogues have a place for
    pass("gate", Fusions::GATES, gate::run),
    // activations, gates and additions go into what computes their operand
    pass("fuse", Fusions::PLAIN, fuse::run),
    // the backward pass of a batch norm with the relu that went into it
    pass("relu_mask", Fusions::PLAIN, relu_mask::run),
    // the gate of a pointwise convolution's own result, before the convolution
    pass("squeeze_early", Fusions::GATES, squeeze_early::run),
    // gates that are left go into the pointwise convolution that reads what is gated
    pass("excite", Fusions::GATES, excite::run),
    // means over pixels go into what computes the image; after the two that ask who else reads it
    pass("squeeze", Fusions::MEANS, squeeze::run),
    // what a gate is computed by from those means
    pass("excitation", Fusions::MEANS.and(Fusions::EXCITATIONS), excitation::run),
    // images that are larger than what goes in and comes out are not written
    pass("pooled_conv", Fusions::CHAINS, pooled_conv::run),
    pass("separable", Fusions::CHAINS, separable::run),
];

/// The network in eval mode, every pass applied that a backend of these `fusions` can run.
pub fn optimise(typed: &Typed, fusions: Fusions) -> Net {
    let mut net = lower(typed);
    rewrite(&mut net, fusions);
    net
}

/// Applies every pass that a backend of these `fusions` can run.
pub fn rewrite(net: &mut Net, fusions: Fusions) {
    net.check("lower");
    for pass in PASSES.iter().filter(|pass| fusions.contains(pass.needs)) {
        (pass.run)(net);
        net.check(pass.name);
    }
    net.sweep();
}
