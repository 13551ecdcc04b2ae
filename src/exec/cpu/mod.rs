//! Running networks on the CPU.

pub mod kernels;
