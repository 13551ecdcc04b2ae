//! Kernels for float32 inference on the CPU.
//!
//! They know nothing of graphs or ops: every kernel takes views of slices, shape structs and an [`Isa`], checks the
//! sizes by `assert` (a wrong size is a mistake of the caller, not of the user) and computes over the current rayon
//! pool. The results are the same bits on any number of threads.
//!
//! Images are NHWC with a free *pixel distance* ([`Image::dist`]): a kernel may read and write some channels of a wider
//! buffer (a concatenation without copies), and [`pixel_distance`] says what distance a buffer should have.
//!
//! | what | entry points |
//! |---|---|
//! | convolution | [`PackedConv::pack`] once, [`PackedConv::run`] with an [`Epilogue`] |
//! | linear layers | [`PackedMat::from_nk`] and [`PackedMat::run`]; [`linear`] for up to 8 rows or so, without packing |
//! | products of activations | [`matmul`] over a [`Batch`] |

mod conv;
mod depthwise;
mod direct;
mod gemm;
mod grouped;
mod math;
mod par;
mod simd;
#[cfg(test)]
mod tests;
mod tile;
mod view;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use conv::{ConvShape, PackedConv};
pub use direct::Epilogue;
pub use gemm::{Batch, BatchMut, Layout, PackedMat, linear, matmul};
pub use math::Act;
pub use simd::Isa;
pub use view::{Image, ImageMut, Rows, RowsMut, pixel_distance};
