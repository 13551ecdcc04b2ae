//! The tests that see archc from outside, in one binary.

mod answers;
mod bench;
mod bombs;
mod branches;
mod checkpoints;
mod cli;
mod command;
mod compiled;
mod early;
mod ends;
mod flow;
mod fuzz;
mod gpu_script;
mod hub;
mod language;
mod limits;
mod map;
mod ops;
mod pages;
mod reading;
mod resources;
mod resuming;
mod suite;
mod train;
mod trainer;
mod zoo;
