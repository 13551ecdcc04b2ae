//! Reading from and writing to the machine's files. Knows nothing of networks.

pub mod atomic;
pub mod npy;
pub mod picture;
pub mod preprocess;
mod resample;
