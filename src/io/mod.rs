//! Reading from and writing to the machine's files. Knows nothing of networks.

pub mod atomic;
pub mod console;
pub mod digest;
pub mod inputs;
pub mod labels;
pub mod npy;
pub mod open;
pub mod output;
pub mod picture;
pub mod png;
pub mod preprocess;
pub mod resample;
pub mod results;
pub mod stamp;
pub mod tensors;
mod turn;
