//! Values in the kernels' types, seeded numbers, comparisons.

use archc_base::Act;
use archc_cuda::{Args, Dtype, Launch};
use archc_emu::Buffer;
use half::{bf16, f16};

/// Numbers as a device stores them, in guarded memory.
pub struct Values {
    pub dtype: Dtype,
    bytes: Buffer<u8>,
}

impl Values {
    /// `len` elements, not numbers yet, starting `shift` elements beyond 16 bytes.
    pub fn poison(dtype: Dtype, len: usize, shift: usize) -> Values {
        let dtype = dtype.stored();
        Values { dtype, bytes: Buffer::shifted(len * dtype.size(), shift * dtype.size()) }
    }

    pub fn of(dtype: Dtype, values: &[f32]) -> Values {
        let mut stored = Values::poison(dtype, values.len(), 0);
        for (at, value) in values.iter().enumerate() {
            stored.set(at, *value);
        }
        stored
    }

    /// Rows of `cols`, `stride` apart, with poison between them.
    pub fn rows(dtype: Dtype, values: &[f32], cols: usize, stride: usize, shift: usize) -> Values {
        let rows = values.len() / cols;
        let mut stored = Values::poison(dtype, (rows - 1) * stride + cols, shift);
        for (at, value) in values.iter().enumerate() {
            stored.set(at / cols * stride + at % cols, *value);
        }
        stored
    }

    pub fn set(&mut self, at: usize, value: f32) {
        let size = self.dtype.size();
        let to = &mut self.bytes.values_mut()[at * size..][..size];
        match self.dtype {
            Dtype::Bf16 => to.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
            Dtype::F16 => to.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
            _ => to.copy_from_slice(&value.to_le_bytes()),
        }
    }

    pub fn get(&self, at: usize) -> f32 {
        let size = self.dtype.size();
        let from = &self.bytes.values()[at * size..][..size];
        match self.dtype {
            Dtype::Bf16 => bf16::from_le_bytes([from[0], from[1]]).to_f32(),
            Dtype::F16 => f16::from_le_bytes([from[0], from[1]]).to_f32(),
            _ => f32::from_le_bytes([from[0], from[1], from[2], from[3]]),
        }
    }

    /// Rows of `cols` that are `stride` apart; asserts that nothing was written between them.
    pub fn read_rows(&self, cols: usize, stride: usize) -> Vec<f32> {
        let len = self.bytes.values().len() / self.dtype.size();
        let (gaps, own): (Vec<usize>, Vec<usize>) = (0..len).partition(|at| at % stride >= cols);
        let size = self.dtype.size();
        let untouched = |at: usize| self.bytes.values()[at * size..][..size].iter().all(|byte| *byte == 0xff);
        assert!(gaps.into_iter().all(untouched), "written between rows");
        own.into_iter().map(|at| self.get(at)).collect()
    }

    pub fn read(&self) -> Vec<f32> {
        (0..self.bytes.values().len() / self.dtype.size()).map(|at| self.get(at)).collect()
    }

    pub fn address(&self) -> u64 {
        self.bytes.address()
    }
}

/// Seeded numbers between -1 and 1 that are the same in every type.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn number(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // seven bits and a sign: bfloat16 holds them
        ((self.0 >> 33) % 255) as f32 / 128.0 - 0.9921875
    }

    pub fn numbers(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.number()).collect()
    }
}

/// What sums of products may be off by, as a share of the result's norm: the rounding of what is stored, and of the
/// operands for tf32.
pub fn tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 2e-6,
        Dtype::Tf32 => 5e-4,
        Dtype::Bf16 => 4e-3,
        Dtype::F16 => 5e-4,
    }
}

/// The norm of the difference, as a share of the norm.
pub fn error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let (mut off, mut norm) = (0.0, 0.0);
    for (got, want) in got.iter().zip(want) {
        if got.is_nan() != want.is_nan() {
            return f64::INFINITY;
        }
        if !want.is_nan() && f64::from(*got) != *want {
            off += (f64::from(*got) - want).powi(2);
        }
        if want.is_finite() {
            norm += want * want;
        }
    }
    if off == 0.0 { 0.0 } else { (off / norm.max(1e-30)).sqrt() }
}

#[track_caller]
pub fn check(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    let error = error(got, want);
    assert!(error <= tolerance, "{what}: off by {error:.1e}, may be {tolerance:.1e}");
}

/// Runs under two orders of threads, the second of which is left to be read.
#[track_caller]
pub fn run<A: Args>(launch: &Launch, args: &A) {
    for seed in [0, 7] {
        // SAFETY: the tests give kernels addresses of buffers of the sizes that they state; a wrong one meets a guard.
        unsafe { archc_emu::run(launch, args, seed) }.unwrap();
    }
}

/// One of each activation, a clamp without a lower bound, and the power of 0, which is 1 of anything.
pub fn acts() -> impl Iterator<Item = Act> {
    let open = Act::Clamp { lo: f32::NEG_INFINITY, hi: 0.5 };
    Act::ALL.into_iter().map(|(_, act)| act).chain([open, Act::Pow(0.0)])
}
