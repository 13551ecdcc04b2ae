//! Every kernel against a plain loop in f64, on every instruction set of this CPU: odd sizes, tails, outputs full of
//! NaN before the call, and the same bits on one, two, three and eight threads.

use super::*;

mod conv;
mod gemm;
mod images;
mod lstm;
mod rows;
mod winograd;

/// Reproducible noise in about [-1, 1].
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
    pub fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
    /// A number in lo..=hi.
    pub fn pick(&mut self, lo: usize, hi: usize) -> usize {
        lo + (self.bits() >> 20) as usize % (hi - lo + 1)
    }
}

/// Asserts that `got` is within `tolerance` of `want`, relative to the largest magnitude of `want` (or 1).
pub fn close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(g) - w).abs() / scale;
        assert!(error <= tolerance, "{what}: [{i}] is {g}, not {w} (error {error:.1e})");
    }
}

/// Runs `f` on one, two, three and eight threads; asserts that the bits are the same and returns them.
pub fn on_threads(what: &str, f: impl Fn() -> Vec<f32> + Sync) -> Vec<f32> {
    use std::sync::OnceLock;
    static POOLS: [OnceLock<rayon::ThreadPool>; 8] = [const { OnceLock::new() }; 8];
    let run = |n: usize| {
        let pool =
            POOLS[n - 1].get_or_init(|| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads"));
        pool.install(&f)
    };
    let one: Vec<f32> = run(1);
    for n in [2, 3, 8] {
        let other: Vec<f32> = run(n);
        for (i, (a, b)) in one.iter().zip(&other).enumerate() {
            assert_eq!(a.to_bits(), b.to_bits(), "[{i}] is {a} on one thread, {b} on {n}: {what}");
        }
    }
    one
}

/// A buffer of NaN.
pub fn poison(len: usize) -> Vec<f32> {
    vec![f32::NAN; len]
}

#[test]
fn a_team_does_every_task_once() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    for threads in [1, 2, 3, 8] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        for _ in 0..20 {
            pool.install(|| {
                super::team::with(|| {
                    for n in [0, 1, 2, 3, 7, 64, 1000] {
                        let counts: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                        super::par::tasks(n, |task| {
                            // tasks inside tasks are done too, by whoever does the outer one
                            super::par::tasks(2, |_| {
                                counts[task].fetch_add(1, Ordering::Relaxed);
                            });
                        });
                        assert!(
                            counts.iter().all(|count| count.load(Ordering::Relaxed) == 2),
                            "{threads} threads, {n}"
                        );
                    }
                });
            });
        }
    }
}

#[test]
fn a_team_goes_on_after_its_threads_slept() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
    let sum = AtomicUsize::new(0);
    pool.install(|| {
        super::team::with(|| {
            for _ in 0..10 {
                std::thread::sleep(std::time::Duration::from_millis(2));
                super::par::tasks(100, |task| {
                    sum.fetch_add(task, Ordering::Relaxed);
                });
            }
        });
    });
    assert_eq!(sum.into_inner(), 10 * 4950);
}

#[test]
fn a_panic_in_a_task_ends_the_run_and_not_the_pool() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
    for guilty in [0, 50, 99] {
        let run = || {
            super::team::with(|| {
                super::par::tasks(100, |task| assert!(task != guilty, "a planted mistake"));
            });
        };
        let caught = pool.install(|| std::panic::catch_unwind(run));
        assert!(caught.is_err(), "task {guilty} panics");
        // the threads are there for the next run
        pool.install(|| super::team::with(|| super::par::tasks(100, |_| {})));
    }
}

/// Says which instruction sets the tests leave out because this CPU lacks them. `ARCHC_TEST_ISA=avx512,avx512bf16` demands
/// some: the tests fail where one of them is missing.
#[test]
fn instruction_sets_that_are_demanded_are_tested() {
    use std::io::Write;

    let mut here: Vec<&str> = Isa::all().into_iter().map(Isa::name).collect();
    here.extend(bf16::Unit::all().len().gt(&here.len()).then_some("avx512bf16"));
    let known = ["avx512bf16", "avx512", "avx2", "portable"];
    let skipped: Vec<&str> = known.into_iter().filter(|name| !here.contains(name)).collect();
    if !skipped.is_empty() {
        // not by eprintln!, which shows only where a test fails
        let line = format!("skipped: kernels on {}, which this CPU lacks\n", skipped.join(", "));
        std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
    }
    let demanded = std::env::var("ARCHC_TEST_ISA").unwrap_or_default();
    for name in demanded.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        assert!(known.contains(&name), "ARCHC_TEST_ISA takes {}, not `{name}`", known.join(", "));
        assert!(here.contains(&name), "ARCHC_TEST_ISA demands {name}, which this CPU lacks");
    }
}
