//! Kernels for the CPU: inference in float32 and bfloat16 ([`mod@bf16`]), and the steps of training ([`grad`]).
//!
//! They know nothing of graphs or ops: every kernel takes views of slices, shape structs and an [`Isa`], checks the
//! sizes by `assert` (a wrong size is a mistake of the caller, not of the user) and computes over the current rayon
//! pool, or the threads of the run that it is part of ([`team`]). The results are the same bits on any number of threads.
//!
//! Images are NHWC with a free *pixel stride* ([`Image::stride`]): a kernel may read and write some channels of a wider
//! buffer (a concatenation without copies), and [`pixel_stride`] says what stride a buffer should have.
//!
//! | what | entry points |
//! |---|---|
//! | convolution | [`choose`] an [`Algorithm`], [`PackedConv::pack_for`] once, [`PackedConv::run`] with an [`Epilogue`]; [`PackedConv::run_io`] with factors of what is read, means of what is written |
//! | two at once | [`PackedSeparable`]: depthwise, then pointwise; [`PackedPooled`]: of an image, then maxima of windows |
//! | transposed convolution | [`PackedConvTranspose`] |
//! | linear layers | [`PackedMat::from_nk`] and [`PackedMat::run`]; [`linear`] for up to 8 rows or so, without packing |
//! | products of activations | [`matmul`] over a [`Batch`] |
//! | attention | [`attention`] over rows of queries, keys and values, all heads side by side |
//! | recurrence | [`PackedLstm`] once, [`lstm_scan`] over the steps of [`Sequences`] |
//! | pooling | [`pool`] (the image written decides about ceil mode), [`adaptive_pool`] (1 x 1: global) |
//! | single values, pairs | [`unary`] with an [`Act`](archc_base::Act), [`binary`] with an [`Operand`], [`gated`] for factors of channels, [`broadcast`] for any strides |
//! | norms | [`layer_norm`], [`group_norm`], [`scale_shift`], [`softmax`], [`log_softmax`], [`l2_normalize`] |
//! | reductions | [`reduce`] over any axes |
//! | movement | [`copy`] (any permutation, slice or repetition) |
//! | resampling | [`resize`], [`banded`] with antialiasing |
//!
//! [`Map`] is the pair of rows that a row kernel reads and writes; [`Map::in_place`] is one matrix for both.
//! Memory that a kernel needs meanwhile is kept by each thread for the next call.

mod act;
mod attention;
mod banded;
pub mod bf16;
mod conv;
mod conv_transpose;
mod depthwise;
mod direct;
mod element;
mod elementwise;
mod formats;
mod gemm;
pub mod grad;
mod grouped;
mod lstm;
mod math;
mod means;
mod movement;
mod norm;
mod pages;
mod par;
pub mod peak;
mod pool;
mod pooled;
mod prefetch;
mod reduce;
mod resize;
mod separable;
mod simd;
mod stem;
pub mod team;
#[cfg(test)]
mod tests;
mod tile;
mod view;
mod walk;
mod winograd;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use attention::{Heads, Mask, attention};
pub use banded::banded;
pub use conv::{ConvIo, ConvShape, Input, Output, PackedConv};
pub use conv_transpose::{ConvTransposeShape, PackedConvTranspose};
pub use direct::Epilogue;
pub use element::Element;
pub use elementwise::{Gated, Map, Operand, binary, broadcast, gated, unary};
pub use formats::{Convolved, Packs, Sums, Takes};
pub use gemm::{Batch, BatchMut, Layout, PackedMat, linear, matmul};
pub use lstm::{Direction, PackedLstm, Sequences, lstm_scan};
pub use movement::copy;
pub use norm::{group_norm, l2_normalize, layer_norm, log_softmax, scale_shift, softmax};
pub use pages::Pages;
pub use par::{NoMemory, Shared, kept, ranges, tasks};
pub use pool::{adaptive_pool, pool};
pub use pooled::PackedPooled;
pub use prefetch::prefetch;
pub use reduce::reduce;
pub use resize::resize;
pub use separable::PackedSeparable;
pub use simd::Isa;
pub use stem::{FEW_CHANNELS, Planes, reads_planes};
pub use view::{Image, ImageMut, Rows, RowsMut, pixel_stride};
pub use walk::Strided;
pub use winograd::{Algorithm, Estimate, Policy, Site, choose, estimate};
