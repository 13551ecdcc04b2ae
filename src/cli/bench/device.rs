//! `archc bench --kernels --device cuda`: the kernels alone against the peaks of the same GPU.

use serde_json::{Value, json};

use super::super::Outcome;
use super::Bench;
use super::{giga, percent};
use crate::diag::{Code, Problem};
use crate::exec::cuda::Cuda;
use crate::exec::cuda::cases::{self, Case, Measured, Peaks};
use crate::io::console::{print, print_json};
use crate::table::{Align, table};

pub fn run(args: &Bench, cuda: &Cuda) -> Outcome {
    let filter = args.filter.as_deref().unwrap_or("");
    let cases: Vec<Case> = cases::all().into_iter().filter(|case| case.name().contains(filter)).collect();
    if cases.is_empty() {
        return Err(Problem::new(Code::Usage, format!("no kernel has `{filter}` in its name"))
            .hint("leave `--filter` out to see them all")
            .into());
    }
    let batch = args.batch.unwrap_or(32);
    let peaks = cuda.peaks()?;
    let measured: Vec<Measured> = cases.iter().map(|case| cuda.measure(case, batch)).collect::<Result<_, _>>()?;
    match args.json {
        true => print_json(&as_json(args, cuda, batch, &peaks, &measured)),
        false => print(&as_text(args, cuda, batch, &peaks, &measured)),
    }
    Ok(())
}

fn ideal(peaks: &Peaks, one: &Measured) -> (f64, &'static str) {
    let (sums, moved) = (one.flops / peaks.flops, one.bytes / peaks.copy);
    if sums > moved { (sums, "arithmetic") } else { (moved, "memory") }
}

fn as_text(args: &Bench, cuda: &Cuda, batch: usize, peaks: &Peaks, measured: &[Measured]) -> String {
    let mut text = format!(
        "{}, {}, batch {batch}: {} GB/s copied (measured), {} GFLOP/s (nominal)\n\n",
        cuda.device(),
        args.exec.dtype.name(),
        giga(peaks.copy),
        giga(peaks.flops)
    );
    let heads = [
        ("case", Align::Left),
        ("kernel", Align::Left),
        ("us", Align::Right),
        ("GFLOP/s", Align::Right),
        ("GB/s", Align::Right),
        ("of roofline", Align::Right),
        ("bound by", Align::Left),
    ];
    let row = |one: &Measured| {
        let (least, by) = ideal(peaks, one);
        vec![
            one.name.clone(),
            one.kernel.clone(),
            format!("{:.1}", one.seconds * 1e6),
            giga(one.flops / one.seconds),
            giga(one.bytes / one.seconds),
            percent(least / one.seconds),
            by.to_string(),
        ]
    };
    text += &table(&heads, &measured.iter().map(row).collect::<Vec<_>>());
    text
}

fn as_json(args: &Bench, cuda: &Cuda, batch: usize, peaks: &Peaks, measured: &[Measured]) -> Value {
    let row = |one: &Measured| {
        let (least, by) = ideal(peaks, one);
        json!({
            "case": one.name,
            "kernel": one.kernel,
            "us": one.seconds * 1e6,
            "gflops": one.flops / one.seconds / 1e9,
            "gbytes_per_second": one.bytes / one.seconds / 1e9,
            "share_of_roofline": least / one.seconds,
            "bound_by": by,
        })
    };
    json!({
        "device": cuda.device(),
        "dtype": args.exec.dtype.name(),
        "batch": batch,
        "copy_gbytes_per_second": peaks.copy / 1e9,
        "nominal_gflops": peaks.flops / 1e9,
        "kernels": measured.iter().map(row).collect::<Vec<_>>(),
    })
}
