//! archc: a declarative compiler for edits to pretrained networks.
//!
//! Text goes in; out come predictions, a report or edited weights. A [`Spec`] is text, compiled it is a [`Model`], and a
//! model is loaded as a [`Session`] that runs, taken by a [`Trainer`] that learns, or written by an [`Exporter`]:
//!
//! ```
//! use archc::{Device, Options, Spec, Tensor};
//!
//! let spec = Spec::from_text(
//!     "network tiny(classes = 2) { input [N, 3, 8, 8]; conv2d(4, kernel = 3); relu; global_avg_pool2d; fc: linear(classes) }
//!      param classes = 5
//!      base tiny
//!      replace fc with linear(classes)",
//! );
//! let model = spec.set("classes", 10).compile()?;
//! let mut session = model.load(Device::Cpu, Options::default())?;
//! let output = session.run(&Tensor::zeros([1, 3, 8, 8]))?.into_one();
//! assert_eq!(output.shape(), [1, 10]);
//! # Ok::<(), archc::Error>(())
//! ```
//!
//! From a file it is a line: `Spec::open("se.arch")?.set("classes", 10).compile()?.load(Device::Cpu, Options::default())?`.
//! What goes wrong is one [`Error`], whose text is what the `archc` program prints and whose [`Message`]s have a code, a
//! place and ways out:
//!
//! ```
//! let error = archc::Spec::from_text("base resnet49").compile().unwrap_err();
//! let message = &error.messages()[0];
//! assert_eq!(message.code.name(), "unknown-name");
//! assert_eq!(message.place.as_ref().map(|place| (place.line, place.column)), Some((1, 6)));
//! assert!(error.to_string().starts_with("error[unknown-name]: "));
//! ```
//!
//! # Inside
//!
//! ```text
//! .arch text --syntax--> tree --resolve--> Program --build--> Graph --edit--> Graph --typed--> Typed
//!   --bind--> Bound --opt--> Net --plan--> Plan --exec--> outputs
//! ```
//!
//! Each stage is a function to a new type. The fields of `Plan`, of `Typed` and of the types before it are private, so that
//! holding one of them proves that its stage ran. After `Typed` exists nothing fails because of the user's program, only for
//! files and resources. Inner code returns a `Problem` (code, message, hints, no place); whoever knows the place adds it;
//! independent mistakes are collected.
//!
//! The modules in the order in which data flows; nothing imports upwards (a test checks):
//!
//! - `source`, `diag`, `table`, `tensor`, `philox`: texts, messages, columns and figures, values, random numbers; they know
//!   nothing of networks.
//! - `words`: how the words of a `train` block are declared, each once.
//! - `io`: pictures, tensors, labels and results on the machine's disk. `data`: samples, augmentation and batches of
//!   what a network learns from.
//! - `ops`: every op by one declaration: arguments, shapes, parameters, cost, a plain reference evaluation.
//! - `syntax`: text to tree, total: what does not parse is reported and left out. Knows neither ops nor blocks.
//! - `zoo`: the networks and blocks that ship with archc, written in the language.
//! - `graph`: the network; a node a layer, changed only by patches whose commit checks the invariants.
//! - `resolve`: which names a file sees. `build`: an interpreter that makes layers of text. `edit`: the verbs.
//! - `typed`: the check after the last edit. `outline`: a checked network as scopes, equal neighbours folded. `compare`: what is
//!   different between two.
//! - `weights`: files, what becomes of their tensors, initialisers. `settings`: weights, preprocessing and labels of a spec.
//! - `net`, `opt`, `plan`, `exec`: steps with their gradients, rewrites, memory and geometry, kernels. One layout for
//!   images: channels last.
//! - `merge`: adapters folded into the layers beside them. `bind`: which tensor comes from where, and the ledger that accounts for every one. `drift`: how far an edit moves the
//!   outputs.
//! - `onnx`: ONNX's messages, and a network as one.
//! - `train`: the `train` block, the loss, and the steps that learn.
//! - `compile`: the stages one after another. `writer`: a network as text of the language. `export`: a network as a program of
//!   another tool. `doctor`: which network a file
//!   of weights is of. `import`: networks of other programs. `answers`: what the outputs of a network
//!   mean. `card`: the model card beside what was written.
//! - `view`: a network, its edits or the difference of two as a picture or a page.
//! - `face`: what is public. `cli`: a file a command.
//!
//! # Features
//!
//! All are on by default. `cli` is the `archc` program; `cuda` runs on NVIDIA GPUs, which are looked for at run time;
//! `hub` fetches weights over the network.

// some of what lies below the program, GPUs and the network is asked for by them alone
#![cfg_attr(not(all(feature = "cli", feature = "cuda", feature = "hub")), allow(dead_code, unused_imports))]

mod answers;
mod bind;
mod build;
mod card;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod compare;
mod compile;
mod data;
mod diag;
mod doctor;
mod drift;
mod edit;
mod exec;
mod export;
mod face;
mod graph;
mod import;
mod io;
mod merge;
mod net;
mod onnx;
mod ops;
mod opt;
mod outline;
mod philox;
mod plan;
mod resolve;
mod settings;
mod source;
mod syntax;
mod table;
mod tensor;
mod train;
mod typed;
#[cfg(feature = "cli")]
mod view;
mod weights;
mod words;
mod writer;
mod zoo;

pub use archc_base::DType;
pub use bind::Ledger;
pub use compile::Files;
pub use diag::{Code, Diagnostics, Severity};
pub use doctor::Diagnosis;
pub use exec::device::Device;
pub use face::{
    Compared, Error, Exporter, Inputs, Likeness, Message, Model, Onnx, Options, Outputs, Place, Reproduced, Results,
    Samples, Session, Spec, Start, Trained, Trainer, doctor, reproduce,
};
pub use source::Loader;
pub use tensor::Tensor;
pub use train::run::Watch;
pub use weights::{Downloads, Format};

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
    stages! { compile data diag doctor edit exec export graph import io net onnx ops opt philox plan source train typed weights writer zoo }
}
