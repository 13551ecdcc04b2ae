//! Numbers, comparisons, and kernels run on several threads and in place.

use archc_cpu::{Map, Rows, RowsMut};

/// Batches and sizes of images.
pub const SHAPES: &[(usize, [usize; 2])] = &[(1, [7, 9]), (3, [12, 5]), (2, [14, 14])];

/// Reproducible numbers in about [-1, 1].
pub struct Rng(u64);

impl Rng {
    pub fn float(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
}

pub fn rng(seed: u64) -> Rng {
    let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    rng.vec(8);
    rng
}

/// Asserts that `got` is within `tolerance` of `want`, relative to the largest finite magnitude of `want` (or 1); what is infinite or no
/// number must be the same in both.
pub fn close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().filter(|value| value.is_finite()).fold(1.0f64, |most, value| most.max(value.abs()));
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs() / scale;
        let is_same = got.is_nan() && want.is_nan() || f64::from(*got) == *want;
        assert!(is_same || error <= tolerance, "{what}: [{at}] is {got}, not {want} (error {error:.1e})");
    }
}

/// Runs `f` on one, two, three and eight threads; the bits must be the same.
pub fn on_threads(what: &str, f: impl Fn() -> Vec<f32> + Sync) -> Vec<f32> {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(&f)
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        let same = one.iter().zip(run(threads)).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "other bits on {threads} threads: {what}");
    }
    one
}

/// Rows of `cols` values, `stride` apart, whose gaps hold NaN.
pub fn spaced(values: &[f32], cols: usize, stride: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; values.len() / cols.max(1) * stride];
    for (row, from) in out.chunks_exact_mut(stride).zip(values.chunks_exact(cols)) {
        row[..cols].copy_from_slice(from);
    }
    out
}

pub fn dense(values: &[f32], cols: usize, stride: usize) -> Vec<f32> {
    values.chunks_exact(stride).flat_map(|row| row[..cols].iter().copied()).collect()
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// Runs a kernel that maps rows of dy to rows of dx, from one place to another and in place, and returns dx.
pub fn mapped(what: &str, dy: &[f32], cols: usize, f: impl Fn(Map) + Sync) -> Vec<f32> {
    let rows = dy.len() / cols;
    let stride = cols + 3;
    let from = spaced(dy, cols, stride);
    let apart = on_threads(what, || {
        let mut out = vec![f32::NAN; rows * (cols + 1)];
        f(Map::new(Rows::new(&from, rows, cols).spaced(stride), RowsMut::new(&mut out, rows, cols).spaced(cols + 1)));
        dense(&out, cols, cols + 1)
    });
    let mut out = from.clone();
    f(Map::in_place(RowsMut::new(&mut out, rows, cols).spaced(stride)));
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    assert_eq!(bits(&dense(&out, cols, stride)), bits(&apart), "in place: {what}");
    apart
}
