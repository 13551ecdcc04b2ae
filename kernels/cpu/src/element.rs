//! What activations and weights are kept in: float32, or bf16 with sums in float32.
//!
//! A kernel that is generic over an [`Element`] is one source for both: it reads and writes vectors of float32 by
//! [`Element::get`] and [`Element::put`], and sums products of [`Element::Terms`], of which a lane of bf16 holds two.

use super::bf16::simd::{F, Halves, Unit, narrow, widen};
use super::formats::{Packs, Takes};
use super::simd::{Simd, ld, st};
use half::bf16;

/// A number format of values in memory.
pub trait Element: bytemuck::Pod + Default + std::fmt::Debug + Send + Sync + Packs + Takes<f32> + Takes<bf16> {
    const ZERO: Self;

    /// Terms of a sum of products that one lane takes at a time; so many lie beside each other in packed weights. They take
    /// the room of one float in either format.
    const TERMS: usize;

    /// Whether images of few channels have a kernel of their own (`stem.rs`).
    const HAS_STEM: bool;

    /// What follows the name of a kernel: nothing, or ` bf16`.
    const LABEL: &'static str;

    /// A vector of terms.
    type Terms<H: Halves>: Copy;

    /// Stores the first `n` of `N` lanes.
    ///
    /// # Safety
    /// As `Halves` says.
    unsafe fn put<H: Halves>(p: *mut Self, v: F<H>, n: usize);

    /// Loads the first `n` of `N` lanes, zeros for the rest.
    ///
    /// # Safety
    /// As `Halves` says.
    unsafe fn get<H: Halves>(p: *const Self, n: usize) -> F<H>;

    /// `N * TERMS` values.
    ///
    /// # Safety
    /// As `Halves` says.
    unsafe fn terms<H: Halves>(p: *const Self) -> Self::Terms<H>;

    /// The `TERMS` values at `p` in every lane.
    ///
    /// # Safety
    /// As `Halves` says.
    unsafe fn spread<H: Halves>(p: *const Self) -> Self::Terms<H>;

    /// The value at `p` and zeros in every lane.
    ///
    /// # Safety
    /// As `Halves` says.
    unsafe fn spread_one<H: Halves>(p: *const Self) -> Self::Terms<H>;

    /// Adds the products of terms to sums.
    ///
    /// # Safety
    /// As `Halves` says.
    unsafe fn fma<H: Halves>(a: Self::Terms<H>, b: Self::Terms<H>, sum: F<H>) -> F<H>;

    /// The nearest value.
    fn down(value: f32) -> Self;

    fn up(self) -> f32;

    /// The same memory where it holds floats.
    fn floats(p: *mut Self) -> Option<*mut f32>;

    /// Rows of the register tile of sums of products.
    fn tile_rows(unit: Unit) -> usize;

    /// Whether sums are made by the instructions for pairs of bf16.
    fn has_dots(unit: Unit) -> bool;
}

impl Element for f32 {
    const ZERO: f32 = 0.0;
    const TERMS: usize = 1;
    const HAS_STEM: bool = true;
    const LABEL: &'static str = "";
    type Terms<H: Halves> = F<H>;

    #[inline(always)]
    unsafe fn put<H: Halves>(p: *mut f32, v: F<H>, n: usize) {
        // SAFETY: passed on to the caller.
        unsafe { st::<H::S>(p, v, n) }
    }
    #[inline(always)]
    unsafe fn get<H: Halves>(p: *const f32, n: usize) -> F<H> {
        // SAFETY: passed on to the caller.
        unsafe { ld::<H::S>(p, n) }
    }
    #[inline(always)]
    unsafe fn terms<H: Halves>(p: *const f32) -> F<H> {
        // SAFETY: passed on to the caller.
        unsafe { H::S::load(p) }
    }
    #[inline(always)]
    unsafe fn spread<H: Halves>(p: *const f32) -> F<H> {
        // SAFETY: passed on to the caller.
        unsafe { H::S::splat(*p) }
    }
    #[inline(always)]
    unsafe fn spread_one<H: Halves>(p: *const f32) -> F<H> {
        // SAFETY: passed on to the caller.
        unsafe { H::S::splat(*p) }
    }
    #[inline(always)]
    unsafe fn fma<H: Halves>(a: F<H>, b: F<H>, sum: F<H>) -> F<H> {
        // SAFETY: passed on to the caller.
        unsafe { H::S::fma(a, b, sum) }
    }
    #[inline(always)]
    fn down(value: f32) -> f32 {
        value
    }
    #[inline(always)]
    fn up(self) -> f32 {
        self
    }
    #[inline(always)]
    fn floats(p: *mut f32) -> Option<*mut f32> {
        Some(p)
    }
    fn tile_rows(unit: Unit) -> usize {
        unit.isa().tile_rows()
    }
    fn has_dots(_: Unit) -> bool {
        false
    }
}

impl Element for bf16 {
    const ZERO: bf16 = bf16::ZERO;
    const TERMS: usize = 2;
    const HAS_STEM: bool = false;
    const LABEL: &'static str = " bf16";
    type Terms<H: Halves> = H::P;

    #[inline(always)]
    unsafe fn put<H: Halves>(p: *mut bf16, v: F<H>, n: usize) {
        // SAFETY: passed on to the caller.
        unsafe { narrow::<H>(p, v, n) }
    }
    #[inline(always)]
    unsafe fn get<H: Halves>(p: *const bf16, n: usize) -> F<H> {
        // SAFETY: passed on to the caller.
        unsafe { widen::<H>(p, n) }
    }
    #[inline(always)]
    unsafe fn terms<H: Halves>(p: *const bf16) -> H::P {
        // SAFETY: passed on to the caller.
        unsafe { H::pairs(p) }
    }
    #[inline(always)]
    unsafe fn spread<H: Halves>(p: *const bf16) -> H::P {
        // SAFETY: passed on to the caller.
        unsafe { H::pair(p) }
    }
    #[inline(always)]
    unsafe fn spread_one<H: Halves>(p: *const bf16) -> H::P {
        // SAFETY: passed on to the caller.
        unsafe { H::single(p) }
    }
    #[inline(always)]
    unsafe fn fma<H: Halves>(a: H::P, b: H::P, sum: F<H>) -> F<H> {
        // SAFETY: passed on to the caller.
        unsafe { H::dot(a, b, sum) }
    }
    #[inline(always)]
    fn down(value: f32) -> bf16 {
        bf16::from_f32(value)
    }
    #[inline(always)]
    fn up(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn floats(_: *mut bf16) -> Option<*mut f32> {
        None
    }
    fn tile_rows(unit: Unit) -> usize {
        unit.tile_rows()
    }
    fn has_dots(unit: Unit) -> bool {
        unit.has_dots()
    }
}

/// The floats whose room `len` values take.
pub(super) fn words<T>(len: usize) -> usize {
    (len * size_of::<T>()).div_ceil(size_of::<f32>())
}

/// [`super::par::scratch`] of another type.
pub(super) fn scratch_of<T: Element, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    super::par::scratch(words::<T>(len), |floats| f(&mut bytemuck::cast_slice_mut(floats)[..len]))
}
