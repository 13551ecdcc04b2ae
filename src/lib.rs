//! archc: a declarative compiler for edits to pretrained networks.
//!
//! Text goes in; out come predictions, a report or edited weights. The way of the data:
//!
//! ```text
//! .arch text --syntax--> tree --resolve--> Program --build--> Graph --edit--> Graph --typed--> Typed
//!   --weights--> Bound --opt--> Net --plan--> Plan --exec--> outputs
//! ```
//!
//! Each stage is a function to a new type. The fields of [`plan::Plan`], of [`typed::Typed`] and of the types before it are
//! private, so that holding one of them proves that its stage ran. After [`typed::Typed`] exists nothing fails because of the
//! user's program, only for files and resources. Inner code returns a [`diag::Problem`] (code, message, hints, no place);
//! whoever knows the place adds it; independent mistakes are collected.
//!
//! Data flows down this list, and nothing imports upwards (a test checks):
//!
//! - [`diag`], [`source`], [`tensor`], [`philox`]: messages, texts, values, random numbers; they know nothing of networks.
//! - [`io`]: pictures, tensors, labels and results on the machine's disk. [`data`]: samples, augmentation and batches of
//!   what a network learns from.
//! - [`ops`]: every op by one declaration: arguments, shapes, parameters, cost, a plain reference evaluation.
//! - [`syntax`]: text to tree, total: what does not parse is reported and left out. Knows neither ops nor blocks.
//! - [`zoo`]: the networks and blocks that ship with archc, written in the language.
//! - [`graph`]: the network; a node a layer, changed only by patches whose commit checks the invariants.
//! - [`resolve`]: which names a file sees. [`build`]: an interpreter that makes layers of text. [`edit`]: the verbs.
//! - [`typed`]: the check after the last edit.
//! - [`settings`]: weights, preprocessing and labels of a spec.
//! - [`opt`], [`plan`], [`exec`]: rewrites, steps and memory, kernels. One layout for images: channels last.
//! - [`weights`]: files, key maps, initialisers. [`bind`]: which tensor comes from where, and the ledger that accounts
//!   for every one.
//! - [`train`]: the `train` block, gradients, and the steps that learn.
//! - [`compile`]: the stages one after another; [`cli`]: a file a command.

mod answers;
mod bind;
mod build;
#[doc(hidden)]
pub mod cli;
mod compile;
mod data;
mod diag;
mod edit;
mod exec;
mod face;
mod graph;
mod io;
mod ops;
mod opt;
mod philox;
mod plan;
mod resolve;
mod settings;
mod source;
mod syntax;
mod tensor;
mod train;
mod typed;
mod weights;
mod zoo;

pub use archc_base::DType;
pub use bind::Ledger;
pub use compile::Files;
pub use diag::{Code, Diagnostics, Severity};
pub use exec::device::Device;
pub use face::{
    Error, Exporter, Inputs, Message, Model, Options, Outputs, Place, Results, Session, Spec, Start, Trained, Trainer,
};
pub use source::Loader;
pub use tensor::Tensor;
pub use train::run::Watch;
pub use weights::Downloads;

/// The stages behind the face, for this repository's tests and benches, which look at what each of them gives. Nothing here
/// is promised to anybody else.
#[doc(hidden)]
pub mod stages {
    macro_rules! stages {
        ($($name:ident)*) => {
            $(pub mod $name {
                pub use crate::$name::*;
            })*
        };
    }
    stages! { compile data diag edit exec graph io ops philox train typed weights zoo }
}
