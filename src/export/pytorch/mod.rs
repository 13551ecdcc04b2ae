//! A network as a module of PyTorch: one file of Python that a person can read and go on with, which needs nothing but torch.
//!
//! The tree of modules has the network's paths, so that its `state_dict` has the keys of the files that archc writes, all of
//! them and no others. Scopes that are alike are one class, with parameters for what they differ in; chains are
//! `nn.Sequential`; a layer without tensors is a line of `forward`. Dropouts, stochastic depth and batch norms follow
//! `.train()` and `.eval()`, and what the spec freezes stays as it is. The network's class comes last and takes no arguments.
//!
//! The way there: `unit` makes a module of each scope, with the lines that `ops` has for its layers; `class` finds those that
//! are alike; `text` lays them out.

mod class;
mod code;
mod ops;
#[cfg(test)]
mod tests;
mod text;
mod unit;

use crate::diag::Problem;
use crate::graph::{Graph, NodeId};
use crate::io::preprocess::Preprocess;

/// As `--to` says it.
pub const NAME: &str = "pytorch";

/// The lines of Python that make the network `name` of the module in the file `module`, with its weights; None where that file
/// cannot be imported by its name.
pub fn usage(name: &str, module: &str, weights: &str) -> Option<String> {
    let stem = module.strip_suffix(".py").filter(|stem| code::is_identifier(stem))?;
    let class = text::class_name(name);
    let weights = code::quoted(weights);
    Some(format!(
        "from {stem} import {class}, load_weights\n\nnet = {class}()\nnet.load_state_dict(load_weights({weights}))\nnet.eval()\n"
    ))
}

/// What is said of a network beside its layers.
#[derive(Clone, Copy)]
pub struct About<'a> {
    /// The name of the network; that of its class is made of it.
    pub name: &'a str,
    /// What the spec is called.
    pub spec: Option<&'a str>,
    /// The file of its tensors.
    pub weights: Option<&'a str>,
    /// What makes of a picture what the network takes.
    pub preprocess: Option<&'a Preprocess>,
    /// The edit that made a layer, as a comment says it.
    pub mark: &'a dyn Fn(NodeId) -> Option<String>,
}

/// The network as a file of Python.
///
/// # Errors
/// What PyTorch has no words for: a layer with others inside it, a `pad` that mirrors more than three axes.
pub fn module(graph: &Graph, about: &About<'_>) -> Result<String, Problem> {
    let units = unit::units(graph)?;
    Ok(text::text(graph, about, &units))
}
