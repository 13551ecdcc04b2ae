//! archc: a declarative compiler for edits to pretrained networks.
//!
//! Text goes in; out come predictions, a report or edited weights. The way of the data:
//!
//! ```text
//! .arch text --syntax--> tree --resolve--> Program --build--> Graph --edit--> Graph --typed--> Typed
//!   --weights--> Bound --opt--> Net --plan--> Plan --exec--> outputs
//! ```
//!
//! Each stage is a function to a new type whose fields are private, so that holding the type proves that the stage ran.
//! After [`typed::Typed`] exists nothing fails because of the user's program, only for files and resources. Inner code
//! returns a [`diag::Problem`] (code, message, hints, no place); whoever knows the place adds it; independent mistakes are
//! collected.
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

pub mod bind;
pub mod build;
pub mod cli;
pub mod compile;
pub mod data;
pub mod diag;
pub mod edit;
pub mod exec;
pub mod graph;
pub mod io;
pub mod ops;
pub mod opt;
pub mod philox;
pub mod plan;
pub mod resolve;
pub mod settings;
pub mod source;
pub mod syntax;
pub mod tensor;
pub mod train;
pub mod typed;
pub mod weights;
pub mod zoo;
