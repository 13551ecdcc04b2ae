//! The tests that see archc from outside, in one binary.

mod compiled;
mod fuzz;
mod ops;
mod pages;
mod suite;
