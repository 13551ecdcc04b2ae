//! `archc bench --kernels`: the peaks of this machine, and the kernels alone against them.

use archc_base::DType;
use serde_json::{Value, json};

use super::super::Outcome;
use super::Bench;
use super::profile::{peaks_json, peaks_text};
use super::{Cores, budget, giga, percent};
use crate::diag::{Code, Problem};
use crate::exec::cpu::Cpu;
use crate::exec::cpu::cases::{self, Case};
use crate::exec::cpu::kernels::{Element, Isa, Policy, Sums};
use crate::exec::cpu::peaks::{self, Arithmetic, Ideal, Peaks, Traffic};
use crate::exec::device::cpu;
use crate::exec::timing::Samples;
use crate::io::console::{print, print_json};
use crate::table::{Align, table};

pub fn run(args: &Bench) -> Outcome {
    match cpu(args.exec.precision(), None)?.dtype() {
        DType::F32 => run_in::<f32>(args),
        _ => run_in::<half::bf16>(args),
    }
}

fn run_in<T: Element + Sums<T>>(args: &Bench) -> Outcome {
    let filter = args.filter.as_deref().unwrap_or("");
    let wanted = |case: &Case| case.takes::<T>() && case.name().contains(filter);
    let cases: Vec<Case> = cases::all().into_iter().filter(wanted).collect();
    if cases.is_empty() {
        return Err(Problem::new(Code::Usage, format!("no kernel has `{filter}` in its name"))
            .hint("leave `--filter` out to see them all")
            .into());
    }
    Cpu::new().check()?;
    let isa = Isa::detect();
    let before = peaks::core_to_core();
    // each instruction set alone, then what networks run on with all threads
    let single: Vec<Peaks> = Isa::all().into_iter().map(Peaks::of_one_thread).collect();
    let all = Peaks::measure(isa);
    let batch = args.batch.unwrap_or(1);
    let measured: Vec<Measured> = cases
        .iter()
        .flat_map(|case| case.policies::<T>(isa, batch).into_iter().map(move |policy| (case, policy)))
        .filter(|(_, policy)| !args.exec.exact || *policy == Policy::Exact)
        .map(|(case, policy)| measure::<T>(args, case, policy, batch, &all))
        .collect();
    let cores = Cores { before, after: peaks::core_to_core() };
    match args.json {
        true => print_json(&as_json(&single, &all, cores, &measured)),
        false => print(&as_text(&single, &all, cores, &measured)),
    }
    Ok(())
}

struct Measured {
    name: String,
    kernel: String,
    taken: Samples,
    flops: f64,
    bytes: f64,
    ideal: Ideal,
}

fn measure<T: Element + Sums<T>>(args: &Bench, case: &Case, policy: Policy, batch: usize, peaks: &Peaks) -> Measured {
    let mut ready = case.prepare::<T>(peaks.isa, batch, policy);
    let taken = ready.time(&budget(args, 0.2, 0.04));
    let (flops, bytes) = (case.flops(batch), case.bytes::<T>(batch));
    let ideal = peaks.ideal(flops, Arithmetic::of(&ready.kernel()), &[Traffic { bytes, reach: bytes }]);
    Measured { name: case.name(), kernel: ready.kernel(), taken, flops, bytes, ideal }
}

fn as_text(single: &[Peaks], all: &Peaks, cores: Cores, measured: &[Measured]) -> String {
    let mut text = String::new();
    for peaks in single.iter().chain([all]) {
        text += &format!("{}\n", peaks_text(peaks));
    }
    text += &format!("{}\n\n", cores.text());
    let heads = [
        ("case", Align::Left),
        ("kernel", Align::Left),
        ("median us", Align::Right),
        ("min us", Align::Right),
        ("GFLOP/s", Align::Right),
        ("GB/s", Align::Right),
        ("of roofline", Align::Right),
        ("bound by", Align::Left),
    ];
    let row = |one: &Measured| {
        let seconds = one.taken.median();
        vec![
            one.name.clone(),
            one.kernel.clone(),
            format!("{:.1}", seconds * 1e6),
            format!("{:.1}", one.taken.min() * 1e6),
            giga(one.flops / seconds),
            giga(one.bytes / seconds),
            percent(one.ideal.seconds / seconds),
            one.ideal.bound.to_string(),
        ]
    };
    text += &table(&heads, &measured.iter().map(row).collect::<Vec<_>>());
    text += "\nGFLOP/s counts the multiply-adds of the plain algorithm, so that Winograd may pass the roofline.\n";
    text
}

fn as_json(single: &[Peaks], all: &Peaks, cores: Cores, measured: &[Measured]) -> Value {
    let row = |one: &Measured| {
        let seconds = one.taken.median();
        json!({
            "case": one.name,
            "kernel": one.kernel,
            "median_us": seconds * 1e6,
            "min_us": one.taken.min() * 1e6,
            "gflops": one.flops / seconds / 1e9,
            "gbytes_per_second": one.bytes / seconds / 1e9,
            "share_of_roofline": one.ideal.seconds / seconds,
            "bound_by": one.ideal.bound,
        })
    };
    json!({
        "peaks": single.iter().chain([all]).map(peaks_json).collect::<Vec<_>>(),
        "core_to_core_ns": cores.json(),
        "kernels": measured.iter().map(row).collect::<Vec<_>>(),
    })
}
