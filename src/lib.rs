//! archc: a declarative compiler for edits to pretrained networks.

pub mod build;
pub mod cli;
pub mod compile;
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
