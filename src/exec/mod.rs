//! Running compiled networks.

pub mod cpu;
