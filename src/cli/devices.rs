//! `archc devices`: what can execute here, and why not the rest.

#[cfg(feature = "cuda")]
mod cuda;

use serde_json::{Value, json};

use super::Outcome;
use super::session::Session;
use crate::exec::cpu::NO_KERNELS;
use crate::exec::cpu::kernels::Isa;
use crate::exec::cpu::kernels::bf16::Unit;
use crate::io::console::{print, print_json};
use crate::plan::memory;

/// List what can execute here, and why not the rest.
#[derive(Debug, clap::Args)]
pub struct Devices {
    /// Print them as JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(_session: &mut Session, args: &Devices) -> Outcome {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let isa = Isa::detect();
    let best = isa.is_there().then(|| isa.name());
    let all: Vec<&str> = Isa::all().into_iter().map(Isa::name).collect();
    let dots = Unit::of(isa).has_dots();
    let free = memory::available();
    if args.json {
        let mut list = vec![json!({
            "device": "cpu", "available": isa.is_there(), "threads": threads, "kernels": best, "instruction_sets": all,
            "bf16_dot_products": dots,
            "memory_available_bytes": if free == usize::MAX { None } else { Some(free) },
        })];
        list.extend(cuda::json());
        print_json(&Value::Array(list));
        return Ok(());
    }
    let free = if free == usize::MAX { "memory unknown".into() } else { format!("{} free", memory::gigabytes(free)) };
    let dots = if dots { ", bf16 dot products" } else { "" };
    let kernels = match best {
        Some(best) => format!("{best} kernels (has {}{dots})", all.join(", ")),
        None => format!("no kernels: {NO_KERNELS}"),
    };
    let cpu = format!("cpu   {threads} threads, {kernels}, {free}\n");
    print(&(cpu + &cuda::text()));
    Ok(())
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use serde_json::{Value, json};

    use crate::exec::device::WITHOUT_CUDA;

    pub fn text() -> String {
        format!("cuda  not available: {WITHOUT_CUDA}\n")
    }

    pub fn json() -> Vec<Value> {
        vec![json!({"device": "cuda", "available": false, "reason": WITHOUT_CUDA})]
    }
}
