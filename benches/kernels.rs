//! `cargo bench --bench kernels [-- TEXT]`: the kernels alone at the sizes of well-known networks, and products of matrices
//! beside the `gemm` crate (its part for f32), with GFLOP/s or GB/s and the share of the roofline.
//!
//! After `--bf16` those that take bf16, in bf16. Without `--bench`, as under `cargo test`, every case runs once and is checked. A harness of its own, as none prints a
//! share of a measured peak.

use std::error::Error;

use archc::stages::exec::cpu::cases::{self, Case, Work};
use archc::stages::exec::cpu::kernels::{Element, Isa, Sums};
use archc::stages::exec::cpu::peaks::{Arithmetic, Peaks, Traffic, core_to_core};
use archc::stages::exec::timing::{Budget, Samples, sample};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_bench = args.iter().any(|arg| arg == "--bench");
    let filter = args.iter().find(|arg| !arg.starts_with('-')).map_or("", String::as_str);
    if !is_bench {
        check::<f32>(&cases_of::<f32>(filter))?;
        return check::<half::bf16>(&cases_of::<half::bf16>(filter));
    }
    if args.iter().any(|arg| arg == "--bf16") { measure::<half::bf16>(filter) } else { measure::<f32>(filter) }
}

fn cases_of<T: Element>(filter: &str) -> Vec<Case> {
    cases::all().into_iter().filter(|case| case.takes::<T>() && case.name().contains(filter)).collect()
}

fn measure<T: Element + Sums<T>>(filter: &str) -> Result<(), Box<dyn Error>> {
    let peaks = Peaks::measure(Isa::detect());
    let threads = rayon::current_num_threads();
    let cores = core_to_core().map_or("a single core".into(), |ns| format!("{ns:.0} ns from core to core"));
    println!("{}, {threads} threads, {:.0} GFLOP/s at most, {cores}", peaks.isa.name(), peaks.fma / 1e9);
    for case in &cases_of::<T>(filter) {
        for policy in case.policies::<T>(peaks.isa, 1) {
            let mut ready = case.prepare::<T>(peaks.isa, 1, policy);
            let taken = ready.time(&Budget::seconds(0.2));
            print::<T>(&case.name(), &ready.kernel(), case, &taken, &peaks);
        }
        if let Work::Gemm { m, k, n } = case.work {
            let mut other = Other::new(m, k, n);
            let taken = sample(&Budget::seconds(0.2), || {
                other.run();
                Ok::<(), String>(())
            })?;
            print::<f32>(&case.name(), "gemm crate", case, &taken, &peaks);
        }
    }
    Ok(())
}

fn print<T: Element>(name: &str, kernel: &str, case: &Case, taken: &Samples, peaks: &Peaks) {
    let (seconds, bytes) = (taken.median(), case.bytes::<T>(1));
    let ideal = peaks.ideal(case.flops(1), Arithmetic::of(kernel), &[Traffic { bytes, reach: bytes }]);
    let (rate, unit) =
        if case.flops(1) > 0.0 { (case.flops(1) / seconds, "GFLOP/s") } else { (bytes / seconds, "GB/s") };
    println!(
        "{name:<42} {kernel:<23} {:>9.1} us {:>7.1} {unit:<7} {:>4.0} % of {}",
        seconds * 1e6,
        rate / 1e9,
        100.0 * ideal.seconds / seconds,
        ideal.bound
    );
}

/// Runs every case once on one image, and a batch of the smaller ones.
fn check<T: Element + Sums<T>>(cases: &[Case]) -> Result<(), Box<dyn Error>> {
    for case in cases {
        for batch in [1, 2].into_iter().filter(|batch| *batch == 1 || case.bytes::<T>(1) < 4e6) {
            for policy in case.policies::<T>(Isa::detect(), batch) {
                let mut ready = case.prepare::<T>(Isa::detect(), batch, policy);
                ready.run();
                ready.check()?;
            }
        }
        if let Work::Gemm { m, k, n } = case.work {
            let mut other = Other::new(m, k, n);
            other.run();
            other.check()?;
        }
    }
    println!("{} cases give what plain sums give{}", cases.len(), T::LABEL);
    Ok(())
}

/// A product by the `gemm` crate: ones and twos, so that the result is known.
struct Other {
    sizes: [usize; 3],
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

impl Other {
    fn new(m: usize, k: usize, n: usize) -> Other {
        Other { sizes: [m, k, n], a: vec![1.0; m * k], b: vec![2.0; k * n], c: vec![f32::NAN; m * n] }
    }

    /// All row-major.
    fn run(&mut self) {
        let [m, k, n] = self.sizes;
        let threads = gemm_common::Parallelism::Rayon(rayon::current_num_threads());
        // SAFETY: the vectors have the sizes and strides that are passed, and nothing else refers to `c`.
        unsafe {
            gemm_f32::gemm::f32::get_gemm_fn()(
                m,
                n,
                k,
                self.c.as_mut_ptr(),
                1,
                n as isize,
                false,
                self.a.as_ptr(),
                1,
                k as isize,
                self.b.as_ptr(),
                1,
                n as isize,
                0.0f32,
                1.0f32,
                false,
                false,
                false,
                threads,
            );
        }
    }

    fn check(&self) -> Result<(), String> {
        let want = 2.0 * self.sizes[1] as f32;
        match self.c.iter().find(|value| **value != want) {
            None => Ok(()),
            Some(value) => Err(format!("gemm {:?} gives {value}, not {want}", self.sizes)),
        }
    }
}
