//! archc: a declarative compiler for edits to pretrained networks.

pub mod diag;
pub mod exec;
pub mod graph;
pub mod io;
pub mod ops;
pub mod source;
pub mod syntax;
pub mod tensor;
pub mod typed;
pub mod build;
pub mod edit;
pub mod resolve;
pub mod zoo;
