//! Rewrites from the typed graph to what is worth executing: [`lower`] says every op in the plainer [`Kind`]s, and passes
//! make fewer steps of it. A pass is an equation on kinds; it never looks at memory, threads or devices.
//!
//! Outputs of the network keep their values and names through every pass.

mod constant_matmul;
mod dead;
mod flatten;
mod fold_channels;
mod fuse;
mod identity;
mod lower;
mod net;
mod permute;
mod scale;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use crate::typed::Typed;

pub use lower::lower;
pub use net::{
    Act, Arithmetic, ChannelMap, Epilogue, Id, Kind, Net, Node, Pool, Reduce, Resample, Source, Weights, Window,
};

/// A rewrite of a whole network.
pub struct Pass {
    pub name: &'static str,
    pub run: fn(&mut Net),
}

/// The passes, in the order in which they run.
pub static PASSES: &[Pass] = &[
    // what does nothing in eval mode, first, so that the others see neighbours as neighbours
    Pass { name: "identity", run: identity::run },
    // matrix products by parameters become linear maps, which the others know how to fold into
    Pass { name: "constant_matmul", run: constant_matmul::run },
    // elementwise steps move before permutations, next to the maps whose results were permuted
    Pass { name: "permute", run: permute::run },
    // batch norms, layer scales and biases go into the weights
    Pass { name: "fold_channels", run: fold_channels::run },
    // numbers that multiply a matrix product
    Pass { name: "scale", run: scale::run },
    // images are channels-last: linear maps of flattened ones read their columns in that order
    Pass { name: "flatten", run: flatten::run },
    // activations and additions go into what computes their operand
    Pass { name: "fuse", run: fuse::run },
    Pass { name: "dead", run: dead::run },
];

/// The network in eval mode, every pass applied.
pub fn optimise(typed: &Typed) -> Net {
    let mut net = lower(typed);
    for pass in PASSES {
        (pass.run)(&mut net);
    }
    net
}
