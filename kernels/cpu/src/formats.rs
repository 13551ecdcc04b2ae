//! The border of the crate for kernels that are generic over formats: every entry point as a method of a concrete format.
//!
//! A generic function is compiled again in each crate that calls it. These methods are not generic, so that the kernels
//! behind them are compiled here and nowhere else; the entry points that users call, such as [`PackedConv::run`], only pass
//! on to them. So a pair of formats is listed here or has no kernels.

use archc_base::{Pool, Window};
use half::bf16;

use super::bf16::{RowsIn, Unit, by_rows_of, copy_of};
use super::conv::{ConvIo, ConvShape, PackedConv};
use super::direct::Epilogue;
use super::gemm::{PackedMat, linear_of};
use super::pool::{adaptive_pool_of, pool_of};
use super::view::{Image, ImageMut, Rows, RowsMut};
use super::walk::Strided;
use super::winograd::{Algorithm, Estimate, Site, choose_of, estimate_of};

/// A format that weights are packed in.
pub trait Packs: Sized {
    /// [`PackedConv::pack_for`]
    fn pack_conv(unit: Unit, shape: &ConvShape, algorithm: Algorithm, weights: &[f32]) -> PackedConv<Self>;
    /// [`PackedMat::from_nk`]
    fn pack_mat(unit: Unit, w: Rows) -> PackedMat<Self>;
    /// [`linear`](super::linear)
    fn linear(unit: Unit, a: Rows, w: Rows<Self>, out: RowsMut, epilogue: &Epilogue);
    /// [`choose`](super::choose)
    fn choose(unit: Unit, shape: &ConvShape, site: &Site) -> Algorithm;
    /// [`estimate`](super::estimate)
    fn estimate(unit: Unit, shape: &ConvShape, site: &Site, algorithm: Algorithm) -> Estimate;
}

/// A format in which convolutions of images of `T` are stored. Float32 images become bf16 in convolutions of few channels
/// only: a network's first.
pub trait Convolved<T>: Sized {
    /// [`PackedConv::run_io`]
    fn conv(packed: &PackedConv<T>, io: ConvIo<T, Self>, epilogue: &Epilogue<T>);
}

/// A format in which sums over values of `T` are stored.
pub trait Sums<T>: Convolved<T> {
    /// [`PackedMat::run`]
    fn mat(packed: &PackedMat<T>, a: Rows<T>, out: RowsMut<Self>, epilogue: &Epilogue<T>);
    /// [`PackedMat::run_wide`]
    fn mat_wide(packed: &PackedMat<T>, a: Rows, out: RowsMut<Self>, epilogue: &Epilogue<T>);
    /// [`pool`](super::pool)
    fn pool(unit: Unit, kind: Pool, window: &Window, x: Image<T>, y: ImageMut<Self>);
    /// [`adaptive_pool`](super::adaptive_pool)
    fn adaptive_pool(unit: Unit, kind: Pool, x: Image<T>, y: ImageMut<Self>);
}

/// A format to which values of `T` are converted.
pub trait Takes<T>: Sized {
    /// [`bf16::copy`](super::bf16::copy)
    fn copy(unit: Unit, shape: &[usize], src: Strided<T>, dst: &mut [Self], dst_strides: &[usize]);
    /// [`bf16::by_rows`](super::bf16::by_rows)
    fn by_rows(unit: Unit, x: RowsIn<T>, y: RowsMut<Self>, f: &(dyn Fn(usize, RowsMut) + Sync));
}

macro_rules! packs {
    ($($T:ty),*) => {$(
        impl Packs for $T {
            fn pack_conv(unit: Unit, shape: &ConvShape, algorithm: Algorithm, weights: &[f32]) -> PackedConv<$T> {
                PackedConv::packed(unit, shape, algorithm, weights)
            }
            fn pack_mat(unit: Unit, w: Rows) -> PackedMat<$T> {
                PackedMat::packed(unit, w)
            }
            fn linear(unit: Unit, a: Rows, w: Rows<$T>, out: RowsMut, epilogue: &Epilogue) {
                linear_of(unit, a, w, out, epilogue);
            }
            fn choose(unit: Unit, shape: &ConvShape, site: &Site) -> Algorithm {
                choose_of::<$T>(unit, shape, site)
            }
            fn estimate(unit: Unit, shape: &ConvShape, site: &Site, algorithm: Algorithm) -> Estimate {
                estimate_of::<$T>(unit, shape, site, algorithm)
            }
        }
    )*};
}
packs!(f32, bf16);

macro_rules! convolved {
    ($($T:ty => $O:ty, $all:literal;)*) => {$(
        impl Convolved<$T> for $O {
            fn conv(packed: &PackedConv<$T>, io: ConvIo<$T, $O>, epilogue: &Epilogue<$T>) {
                packed.convolve::<$O, $all>(io, epilogue);
            }
        }
    )*};
}
convolved! {
    f32 => f32, true;
    bf16 => bf16, true;
    bf16 => f32, true;
    f32 => bf16, false;
}

macro_rules! sums {
    ($($T:ty => $O:ty),*) => {$(
        impl Sums<$T> for $O {
            fn mat(packed: &PackedMat<$T>, a: Rows<$T>, out: RowsMut<$O>, epilogue: &Epilogue<$T>) {
                packed.multiply(a, out, epilogue);
            }
            fn mat_wide(packed: &PackedMat<$T>, a: Rows, out: RowsMut<$O>, epilogue: &Epilogue<$T>) {
                packed.multiply_wide(a, out, epilogue);
            }
            fn pool(unit: Unit, kind: Pool, window: &Window, x: Image<$T>, y: ImageMut<$O>) {
                pool_of(unit, kind, window, x, y);
            }
            fn adaptive_pool(unit: Unit, kind: Pool, x: Image<$T>, y: ImageMut<$O>) {
                adaptive_pool_of(unit, kind, x, y);
            }
        }
    )*};
}
sums!(f32 => f32, bf16 => bf16, bf16 => f32);

macro_rules! takes {
    ($($T:ty => $O:ty),*) => {$(
        impl Takes<$T> for $O {
            fn copy(unit: Unit, shape: &[usize], src: Strided<$T>, dst: &mut [$O], dst_strides: &[usize]) {
                copy_of(unit, shape, src, dst, dst_strides);
            }
            fn by_rows(unit: Unit, x: RowsIn<$T>, y: RowsMut<$O>, f: &(dyn Fn(usize, RowsMut) + Sync)) {
                by_rows_of(unit, x, y, f);
            }
        }
    )*};
}
takes!(f32 => f32, bf16 => bf16, bf16 => f32, f32 => bf16);
