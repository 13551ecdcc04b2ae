//! Vectors of bf16: pairs of them as they lie in memory, and their way to float32 and back.
//!
//! A [`Unit`] is an instruction set with or without dot products of bf16 pairs. Without, [`Halves::dot`] widens both
//! sides and multiplies in float32: the same products, which are exact either way, in sums that round elsewhere.

use super::super::simd::{Isa, NO_KERNELS, PORTABLE, Portable, Simd};
use half::bf16;
use std::sync::OnceLock;

/// Vectors over bf16 numbers; float32 vectors are those of `S`.
///
/// # Safety
/// As [`Simd`]: every function may be called only on a CPU with the instruction set of the implementor, and pointers
/// must be valid for what they touch. They need no alignment.
pub trait Halves: Copy + Send + Sync + 'static {
    type S: Simd;
    /// `S::N` pairs.
    type P: Copy;
    /// Rows of the register tile of sums of products (with two vectors of columns).
    const MR: usize;

    /// `N` pairs.
    unsafe fn pairs(p: *const bf16) -> Self::P;
    /// The first `n` of `2 N` values, zeros for the rest.
    unsafe fn pairs_n(p: *const bf16, n: usize) -> Self::P;
    /// The two values at `p` in every lane.
    unsafe fn pair(p: *const bf16) -> Self::P;
    /// The value at `p`, then a zero, in every lane.
    unsafe fn single(p: *const bf16) -> Self::P;
    /// `sum + a0 b0 + a1 b1` in every lane.
    unsafe fn dot(a: Self::P, b: Self::P, sum: F<Self>) -> F<Self>;
    /// The first values of the pairs.
    unsafe fn even(v: Self::P) -> F<Self>;
    /// The second values of the pairs.
    unsafe fn odd(v: Self::P) -> F<Self>;
    /// `2 N` values one after another, from the first and the second of the pairs.
    unsafe fn zip(even: F<Self>, odd: F<Self>) -> [F<Self>; 2];
    /// `N` values, one after another.
    unsafe fn widen(p: *const bf16) -> F<Self>;
    /// The first `n` of them, zeros for the rest.
    unsafe fn widen_n(p: *const bf16, n: usize) -> F<Self>;
    /// Rounds to the nearest, halves to even; NaN stays NaN.
    unsafe fn narrow(p: *mut bf16, v: F<Self>);
    /// The first `n` of them.
    unsafe fn narrow_n(p: *mut bf16, v: F<Self>, n: usize);
}

pub type F<H> = <<H as Halves>::S as Simd>::F;

/// Work to be done with some vectors of bf16.
pub(in super::super) trait Task {
    /// Whether it takes or makes bf16; what does not is the same with and without instructions for them.
    const PAIRS: bool;

    /// # Safety
    /// The CPU must have the instruction set of `H`. Implementations are `#[inline(always)]`.
    unsafe fn run<H: Halves>(self);
}

/// What computes with bf16: an instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    isa: Isa,
    dots: bool,
}

impl Unit {
    /// The best there is for `isa`.
    pub fn of(isa: Isa) -> Unit {
        Unit { isa, dots: isa.name() == "avx512" && has_dots() }
    }

    /// All that this CPU has.
    #[cfg(test)]
    pub fn all() -> Vec<Unit> {
        let mut all: Vec<Unit> = Isa::all().into_iter().map(|isa| Unit { isa, dots: false }).collect();
        let best = Unit::of(Isa::all()[0]);
        if best.dots {
            all.push(best);
        }
        all
    }

    pub fn isa(self) -> Isa {
        self.isa
    }

    /// Whether the CPU multiplies pairs of bf16 in one instruction.
    pub fn has_dots(self) -> bool {
        self.dots
    }

    /// The register tile of sums of products, rows x columns.
    pub fn tile(self) -> String {
        format!("{}x{}", self.tile_rows(), 2 * self.isa.lanes())
    }

    /// Rows of the register tile of sums of products.
    pub(in super::super) fn tile_rows(self) -> usize {
        match self.isa.name() {
            "avx512" => 14,
            "avx2" => 4,
            _ => <Portable as Halves>::MR,
        }
    }

    pub(in super::super) fn run<T: Task>(self, task: T) {
        // SAFETY: an Isa is one that the CPU has, and `dots` is only set after asking for them.
        unsafe {
            match (self.isa.name(), self.dots) {
                #[cfg(target_arch = "x86_64")]
                ("avx512", true) if T::PAIRS => super::x86::run_dots(task),
                #[cfg(target_arch = "x86_64")]
                ("avx512", _) => super::x86::run_avx512(task),
                #[cfg(target_arch = "x86_64")]
                ("avx2", _) => super::x86::run_avx2(task),
                _ if PORTABLE => task.run::<Portable>(),
                _ => unreachable!("{NO_KERNELS}"),
            }
        }
    }
}

impl From<Isa> for Unit {
    fn from(isa: Isa) -> Unit {
        Unit::of(isa)
    }
}

fn has_dots() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        let has = is_x86_feature_detected!("avx512bf16");
        #[cfg(not(target_arch = "x86_64"))]
        let has = false;
        has
    })
}

/// Runs a block for `$i` = 0, N, 2 N, .. below `$len`, with `$n` the number of lanes that are left: `lanes!` over the
/// float32 vectors of `$H`.
macro_rules! vectors {
    ($H:ident, $len:expr, |$i:ident, $n:ident| $body:block) => {{
        let len: usize = $len;
        let mut $i = 0;
        while $i + <$H::S as Simd>::N <= len {
            let $n = <$H::S as Simd>::N;
            $body
            $i += <$H::S as Simd>::N;
        }
        if $i < len {
            let $n = len - $i;
            $body
        }
    }};
}
pub(in super::super) use vectors;

/// Loads `n` values; a plain load where all are wanted.
///
/// # Safety
/// As [`Halves`] says.
#[inline(always)]
pub(in super::super) unsafe fn widen<H: Halves>(p: *const bf16, n: usize) -> F<H> {
    // SAFETY: passed on to the caller.
    unsafe { if n == H::S::N { H::widen(p) } else { H::widen_n(p, n) } }
}

/// Stores `n` values; a plain store where all are wanted.
///
/// # Safety
/// As [`Halves`] says.
#[inline(always)]
pub(in super::super) unsafe fn narrow<H: Halves>(p: *mut bf16, v: F<H>, n: usize) {
    // SAFETY: passed on to the caller.
    unsafe { if n == H::S::N { H::narrow(p, v) } else { H::narrow_n(p, v, n) } }
}

impl Halves for Portable {
    type S = Portable;
    type P = [[bf16; 2]; 4];
    const MR: usize = 6;

    #[inline(always)]
    unsafe fn pairs(p: *const bf16) -> Self::P {
        // SAFETY: the caller promises eight values at `p`.
        unsafe { p.cast::<Self::P>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn pairs_n(p: *const bf16, n: usize) -> Self::P {
        let mut v = [[bf16::ZERO; 2]; 4];
        for (i, value) in v.as_flattened_mut().iter_mut().enumerate().take(n) {
            // SAFETY: the caller promises `n` values at `p`.
            *value = unsafe { *p.add(i) };
        }
        v
    }
    #[inline(always)]
    unsafe fn pair(p: *const bf16) -> Self::P {
        // SAFETY: the caller promises two values at `p`.
        unsafe { [p.cast::<[bf16; 2]>().read_unaligned(); 4] }
    }
    #[inline(always)]
    unsafe fn single(p: *const bf16) -> Self::P {
        // SAFETY: the caller promises a value at `p`.
        unsafe { [[*p, bf16::ZERO]; 4] }
    }
    #[inline(always)]
    unsafe fn dot(a: Self::P, b: Self::P, sum: F<Self>) -> F<Self> {
        // SAFETY: these functions need nothing of the CPU.
        unsafe {
            let sum = Portable::fma(Self::odd(a), Self::odd(b), sum);
            Portable::fma(Self::even(a), Self::even(b), sum)
        }
    }
    #[inline(always)]
    unsafe fn even(v: Self::P) -> F<Self> {
        v.map(|pair| up(pair[0]))
    }
    #[inline(always)]
    unsafe fn odd(v: Self::P) -> F<Self> {
        v.map(|pair| up(pair[1]))
    }
    #[inline(always)]
    unsafe fn zip(even: F<Self>, odd: F<Self>) -> [F<Self>; 2] {
        [[even[0], odd[0], even[1], odd[1]], [even[2], odd[2], even[3], odd[3]]]
    }
    #[inline(always)]
    unsafe fn widen(p: *const bf16) -> F<Self> {
        // SAFETY: the caller promises four values at `p`.
        unsafe { p.cast::<[bf16; 4]>().read_unaligned() }.map(up)
    }
    #[inline(always)]
    unsafe fn widen_n(p: *const bf16, n: usize) -> F<Self> {
        let mut v = [0f32; 4];
        for (i, lane) in v.iter_mut().enumerate().take(n) {
            // SAFETY: the caller promises `n` values at `p`.
            *lane = up(unsafe { *p.add(i) });
        }
        v
    }
    #[inline(always)]
    unsafe fn narrow(p: *mut bf16, v: F<Self>) {
        // SAFETY: the caller promises room for four values at `p`.
        unsafe { p.cast::<[bf16; 4]>().write_unaligned(v.map(bf16::from_f32)) }
    }
    #[inline(always)]
    unsafe fn narrow_n(p: *mut bf16, v: F<Self>, n: usize) {
        for (i, lane) in v.iter().enumerate().take(n) {
            // SAFETY: the caller promises room for `n` values at `p`.
            unsafe { *p.add(i) = bf16::from_f32(*lane) };
        }
    }
}

/// Not `to_f32`, which quiets NaN and so costs a branch.
#[inline(always)]
fn up(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}
