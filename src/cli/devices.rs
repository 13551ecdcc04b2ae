//! `archc devices`: what can execute here, and why not the rest.

use super::Outcome;
use super::args::Devices;
use super::session::{Session, print};
use crate::exec::cpu::kernels::Isa;
use crate::exec::cpu::kernels::bf16::Unit;
use crate::plan::memory;

pub fn run(_session: &mut Session, args: &Devices) -> Outcome {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let best = Isa::detect().name();
    let all: Vec<&str> = Isa::all().into_iter().map(Isa::name).collect();
    let dots = Unit::of(Isa::detect()).has_dots();
    let free = memory::available();
    if args.json {
        let json = serde_json::json!([
            {"device": "cpu", "available": true, "threads": threads, "kernels": best, "instruction_sets": all,
             "bf16_dot_products": dots,
             "memory_available_bytes": if free == usize::MAX { None } else { Some(free) }},
            {"device": "cuda", "available": false, "reason": NO_CUDA},
        ]);
        print(&format!("{json:#}\n"));
        return Ok(());
    }
    let free = if free == usize::MAX { "memory unknown".into() } else { format!("{} free", memory::gigabytes(free)) };
    print(&format!(
        "cpu   {threads} threads, {best} kernels (has {}{}), {free}\ncuda  not available: {NO_CUDA}\n",
        all.join(", "),
        if dots { ", bf16 dot products" } else { "" }
    ));
    Ok(())
}

const NO_CUDA: &str = "this build has no CUDA backend";
