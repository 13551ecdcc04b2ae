//! One vector type per instruction set, so that a kernel is written once, generic over [`Simd`].
//!
//! An [`Isa`] can only be made for an instruction set that this CPU has; that is what makes the safe
//! entry points of the kernels sound. A kernel is a [`Task`]: its `run::<S>` is `#[inline(always)]` and
//! [`Isa::run`] calls it inside a function compiled with the features of `S`, so that all intrinsics are inlined.

use std::sync::OnceLock;

/// Vectors of `N` floats. `N` is at most 16.
///
/// # Safety
/// Every function may be called only on a CPU with the instruction set of the implementor. Pointers must be
/// valid for the lanes they touch: `N` of them, or the first `n` for the functions that end in `_n`.
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector of `N` floats.
    type F: Copy;
    /// A mask of `N` lanes.
    type M: Copy;
    /// Lane numbers, for [`Simd::permute`].
    type I: Copy;
    const N: usize;
    /// Rows of the register tile of the matrix kernels (with two vectors of columns).
    const MR: usize;

    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn store(p: *mut f32, v: Self::F);
    /// Lanes from `n` on are zero. `n <= N`.
    unsafe fn load_n(p: *const f32, n: usize) -> Self::F;
    unsafe fn store_n(p: *mut f32, v: Self::F, n: usize);
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, fused where the CPU can.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a > b ? a : b`: `b` where either is NaN.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? a : b`: `b` where either is NaN.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sqrt(a: Self::F) -> Self::F;
    /// To the nearest integer, halves to even.
    unsafe fn round(a: Self::F) -> Self::F;
    unsafe fn abs(a: Self::F) -> Self::F;
    /// The magnitude of `a` with the sign of `b`.
    unsafe fn copysign(a: Self::F, b: Self::F) -> Self::F;
    /// `a * 2^n` for integral `n` in [-252, 252], rounded once more where the result is subnormal.
    unsafe fn scale2(a: Self::F, n: Self::F) -> Self::F;
    /// `(m, n)` with `a = m 2^n`, `m` in [sqrt(1/2), sqrt(2)) and integral `n`; of positive normal numbers.
    unsafe fn split(a: Self::F) -> (Self::F, Self::F);
    /// `a > b`; false where either is NaN.
    unsafe fn gt(a: Self::F, b: Self::F) -> Self::M;
    unsafe fn is_nan(a: Self::F) -> Self::M;
    /// `a` where the mask is set, else `b`.
    unsafe fn select(m: Self::M, a: Self::F, b: Self::F) -> Self::F;
    /// Reads `N` lane numbers.
    unsafe fn lanes(p: *const u32) -> Self::I;
    /// Lane `i` of the result is lane `idx[i]` of `a`.
    unsafe fn permute(a: Self::F, idx: Self::I) -> Self::F;
    /// The sum of all lanes, in a fixed order.
    unsafe fn sum(a: Self::F) -> f32;
    /// Runs a task in a function of its own, which all callers share: a call for each block of rows, in place of a copy of
    /// large code in each kernel.
    unsafe fn apart<T: Task>(task: T) -> T::Output;
    /// The largest lane; NaN if any lane is NaN.
    #[inline(always)]
    unsafe fn reduce_max(a: Self::F) -> f32 {
        let mut lanes = [0f32; 16];
        // SAFETY: N <= 16 and the caller has the instruction set.
        unsafe { Self::store(lanes.as_mut_ptr(), a) };
        lanes[1..Self::N].iter().fold(lanes[0], |m, &x| if x > m || x.is_nan() { x } else { m })
    }
}

/// The bits of sqrt(1/2): a number's distance from it has the power of two that [`Simd::split`] takes out.
pub(super) const ROOT_OF_HALF: i32 = 0x3f35_04f3;

/// Work to be done with some vector type.
pub trait Task {
    type Output;
    /// # Safety
    /// The CPU must have the instruction set of `S`. Implementations are `#[inline(always)]`.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// Whether the kernels are there in plain Rust too. They are a quarter of the code, for CPUs that nobody runs networks on:
/// so they are compiled where there is no AVX2 to be had, and in builds with debug assertions, where the tests compare
/// them with the others.
pub(super) const PORTABLE: bool = cfg!(any(debug_assertions, not(target_arch = "x86_64")));

/// What a kernel without code says.
pub(super) const NO_KERNELS: &str = "whoever loads a network asks whether this CPU has kernels";

/// An instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The best instruction set of this CPU, or the one named by the variable `ARCHC_ISA` if the CPU has it; where there
    /// are no kernels for this CPU, one that [is not there](Isa::is_there).
    pub fn detect() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let wanted = std::env::var("ARCHC_ISA").ok().and_then(|name| Isa::named(&name));
            wanted.or_else(|| Isa::all().first().copied()).unwrap_or(Isa(Kind::Portable))
        })
    }

    /// Whether there are kernels for it. On x86-64 they need AVX2 and FMA.
    pub fn is_there(self) -> bool {
        Isa::all().contains(&self)
    }

    /// `avx512`, `avx2` or `portable`; none if there is no such set or the CPU lacks it.
    pub fn named(name: &str) -> Option<Isa> {
        Isa::all().into_iter().find(|isa| isa.name() == name)
    }

    /// All that this CPU has, best first.
    pub fn all() -> Vec<Isa> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
            {
                all.push(Isa(Kind::Avx512));
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Isa(Kind::Avx2));
            }
        }
        if PORTABLE {
            all.push(Isa(Kind::Portable));
        }
        all
    }

    /// The name by which `ARCHC_ISA` asks for it.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            Kind::Portable => "portable",
        }
    }

    /// Floats in a vector.
    pub fn lanes(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => 16,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => 8,
            Kind::Portable => Portable::N,
        }
    }

    /// Rows of the register tile of the matrix kernels.
    pub(super) fn tile_rows(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => super::x86::Avx512::MR,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => super::x86::Avx2::MR,
            Kind::Portable => Portable::MR,
        }
    }

    /// The register tile of the matrix kernels, rows x columns: `14x32`.
    pub fn tile(self) -> String {
        format!("{}x{}", self.tile_rows(), 2 * self.lanes())
    }

    /// Runs a task with this instruction set.
    #[inline]
    pub(super) fn run<T: Task>(self, task: T) -> T::Output {
        // SAFETY: an Isa is only made by `all`, after asking the CPU.
        unsafe {
            match self.0 {
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512 => super::x86::run_avx512(task),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2 => super::x86::run_avx2(task),
                Kind::Portable if PORTABLE => task.run::<Portable>(),
                Kind::Portable => unreachable!("{NO_KERNELS}"),
            }
        }
    }
}

/// Repeats a block with the constant `$i` = 0, 1, .. below `$n` (at most 16; `<4`, `<7`, `<17`: at most that).
///
/// Accumulators stay in registers only where every index into them is a literal: a `for` that LLVM does not
/// unroll puts the whole array in memory.
macro_rules! unroll {
    ($i:ident < $n:expr, $body:block) => {
        unroll!(@ $i, $n, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($i:ident <4 $n:expr, $body:block) => {
        unroll!(@ $i, $n, $body, 0 1 2 3)
    };
    ($i:ident <7 $n:expr, $body:block) => {
        unroll!(@ $i, $n, $body, 0 1 2 3 4 5 6)
    };
    ($i:ident <17 $n:expr, $body:block) => {
        unroll!(@ $i, $n, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
    (@ $i:ident, $n:expr, $body:block, $($k:literal)*) => {
        $({
            const $i: usize = $k;
            if $i < $n $body
        })*
    };
}
pub(super) use unroll;

/// Runs a block for `$i` = 0, N, 2 N, .. below `$len`, with `$n` the number of lanes that are left (the constant N
/// but for the last). A macro, not a function of a closure: a closure is compiled without the features of `$S`.
macro_rules! lanes {
    ($S:ident, $len:expr, |$i:ident, $n:ident| $body:block) => {{
        let len: usize = $len;
        let mut $i = 0;
        while $i + $S::N <= len {
            let $n = $S::N;
            $body
            $i += $S::N;
        }
        if $i < len {
            let $n = len - $i;
            $body
        }
    }};
}
pub(super) use lanes;

/// Loads `n` lanes; a plain load where all are wanted.
///
/// # Safety
/// As [`Simd`] says.
#[inline(always)]
pub(super) unsafe fn ld<S: Simd>(p: *const f32, n: usize) -> S::F {
    // SAFETY: passed on to the caller.
    unsafe { if n == S::N { S::load(p) } else { S::load_n(p, n) } }
}

/// Stores `n` lanes; a plain store where all are wanted.
///
/// # Safety
/// As [`Simd`] says.
#[inline(always)]
pub(super) unsafe fn st<S: Simd>(p: *mut f32, v: S::F, n: usize) {
    // SAFETY: passed on to the caller.
    unsafe { if n == S::N { S::store(p, v) } else { S::store_n(p, v, n) } }
}

/// Plain Rust, four lanes; any CPU.
#[derive(Clone, Copy)]
pub(super) struct Portable;

macro_rules! lanewise {
    ($a:ident, $b:ident => $e:expr) => {{
        let mut out = [0f32; 4];
        for i in 0..4 {
            let ($a, $b) = ($a[i], $b[i]);
            out[i] = $e;
        }
        out
    }};
}

impl Simd for Portable {
    type F = [f32; 4];
    type M = [bool; 4];
    type I = [u32; 4];
    const N: usize = 4;
    const MR: usize = 6;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::F {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::F {
        // SAFETY: the caller promises four floats at `p`.
        unsafe { p.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::F) {
        // SAFETY: the caller promises room for four floats at `p`.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> Self::F {
        let mut v = [0f32; 4];
        for (i, lane) in v.iter_mut().enumerate().take(n) {
            // SAFETY: the caller promises `n` floats at `p`.
            *lane = unsafe { *p.add(i) };
        }
        v
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: Self::F, n: usize) {
        for (i, lane) in v.iter().enumerate().take(n) {
            // SAFETY: the caller promises room for `n` floats at `p`.
            unsafe { *p.add(i) = *lane };
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        lanewise!(a, b => a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        lanewise!(a, b => a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        lanewise!(a, b => a * b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        lanewise!(a, b => a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // Not `mul_add`: without the instruction it is a slow call.
        [a[0] * b[0] + c[0], a[1] * b[1] + c[1], a[2] * b[2] + c[2], a[3] * b[3] + c[3]]
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        lanewise!(a, b => if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        lanewise!(a, b => if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn sqrt(a: Self::F) -> Self::F {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        // Not `round_ties_even`, a call on old CPUs: 1.5 * 2^23 pushes the fraction out.
        const BIG: f32 = 12_582_912.0;
        a.map(|x| if x.abs() < 4_194_304.0 { ((x + BIG) - BIG).copysign(x) } else { x })
    }
    #[inline(always)]
    unsafe fn abs(a: Self::F) -> Self::F {
        a.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn copysign(a: Self::F, b: Self::F) -> Self::F {
        lanewise!(a, b => a.copysign(b))
    }
    #[inline(always)]
    unsafe fn scale2(a: Self::F, n: Self::F) -> Self::F {
        lanewise!(a, n => {
            // In two steps, so that each power is a normal number. NaN converts to 0.
            let half = (n as i32) >> 1;
            let rest = (n as i32) - half;
            a * f32::from_bits(((half + 127) as u32) << 23) * f32::from_bits(((rest + 127) as u32) << 23)
        })
    }
    #[inline(always)]
    unsafe fn split(a: Self::F) -> (Self::F, Self::F) {
        let powers = a.map(|a| (a.to_bits() as i32).wrapping_sub(ROOT_OF_HALF) >> 23);
        let part = |i: usize| f32::from_bits((a[i].to_bits() as i32).wrapping_sub(powers[i] << 23) as u32);
        ([part(0), part(1), part(2), part(3)], powers.map(|power| power as f32))
    }
    #[inline(always)]
    unsafe fn gt(a: Self::F, b: Self::F) -> Self::M {
        [a[0] > b[0], a[1] > b[1], a[2] > b[2], a[3] > b[3]]
    }
    #[inline(always)]
    unsafe fn is_nan(a: Self::F) -> Self::M {
        a.map(f32::is_nan)
    }
    #[inline(always)]
    unsafe fn select(m: Self::M, a: Self::F, b: Self::F) -> Self::F {
        let pick = |i: usize| if m[i] { a[i] } else { b[i] };
        [pick(0), pick(1), pick(2), pick(3)]
    }
    #[inline(always)]
    unsafe fn lanes(p: *const u32) -> Self::I {
        // SAFETY: the caller promises four numbers at `p`.
        unsafe { p.cast::<[u32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn permute(a: Self::F, idx: Self::I) -> Self::F {
        idx.map(|i| a[(i & 3) as usize])
    }
    #[inline(always)]
    unsafe fn sum(a: Self::F) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
    unsafe fn apart<T: Task>(task: T) -> T::Output {
        // SAFETY: passed on to the caller.
        unsafe { task.run::<Self>() }
    }
}
