//! `archc devices`: what can execute here, and why not the rest.

use serde_json::{Value, json};

use super::Outcome;
use super::args::Devices;
use super::session::Session;
use crate::exec::cpu::kernels::Isa;
use crate::exec::cpu::kernels::bf16::Unit;
use crate::exec::cuda::{Found, find};
use crate::io::console::{print, print_json};
use crate::plan::memory;

pub fn run(_session: &mut Session, args: &Devices) -> Outcome {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let best = Isa::detect().name();
    let all: Vec<&str> = Isa::all().into_iter().map(Isa::name).collect();
    let dots = Unit::of(Isa::detect()).has_dots();
    let free = memory::available();
    let cuda = find();
    if args.json {
        let mut list = vec![json!({
            "device": "cpu", "available": true, "threads": threads, "kernels": best, "instruction_sets": all,
            "bf16_dot_products": dots,
            "memory_available_bytes": if free == usize::MAX { None } else { Some(free) },
        })];
        list.extend(cuda_json(&cuda));
        print_json(&Value::Array(list));
        return Ok(());
    }
    let free = if free == usize::MAX { "memory unknown".into() } else { format!("{} free", memory::gigabytes(free)) };
    let dots = if dots { ", bf16 dot products" } else { "" };
    let cpu = format!("cpu   {threads} threads, {best} kernels (has {}{dots}), {free}\n", all.join(", "));
    print(&(cpu + &cuda_text(&cuda)));
    Ok(())
}

/// A line a GPU, or why there is none; then what else the backend looked for.
fn cuda_text(found: &Found) -> String {
    let mut text = String::new();
    let compiler = match &found.compiler {
        Ok((path, (major, minor))) => format!("NVRTC {major}.{minor} ({})", path.display()),
        Err(why) => why.clone(),
    };
    if let Some(why) = found.problem() {
        text += &format!("cuda  not available: {why}\n");
    }
    for (at, gpu) in found.gpus.iter().flatten().enumerate() {
        let (major, minor) = gpu.capability;
        let memory = memory::gigabytes(gpu.memory);
        text += &format!("cuda:{at}  {}, compute capability {major}.{minor}, {memory}\n", gpu.name);
        if let Some(why) = &gpu.refusal {
            text += &format!("      cannot be used: {why}\n");
        }
    }
    let driver = match found.driver {
        Ok((major, minor)) => format!("for CUDA {major}.{minor}"),
        Err(_) => "none".into(),
    };
    let folder = found.cache.as_ref().map_or("none".into(), |folder| folder.display().to_string());
    let unkept = found.cache_problem.as_ref().map_or(String::new(), |why| format!(", cannot be written: {why}"));
    text + &format!("      driver {driver}\n      compiler {compiler}\n      compiled kernels in {folder}{unkept}\n")
}

fn cuda_json(found: &Found) -> Vec<Value> {
    let compiler = found.compiler.as_ref().ok();
    let common = json!({
        "driver_cuda_version": found.driver.as_ref().ok().map(|(major, minor)| format!("{major}.{minor}")),
        "nvrtc_version": compiler.map(|(_, (major, minor))| format!("{major}.{minor}")),
        "nvrtc": compiler.map(|(path, _)| path.display().to_string()),
        "cache": found.cache.as_ref().map(|folder| folder.display().to_string()),
    });
    let with = |mut json: Value| {
        let (all, common) = (json.as_object_mut(), common.as_object());
        all.into_iter().zip(common).for_each(|(all, common)| all.extend(common.clone()));
        json
    };
    let gpus: Vec<Value> = found
        .gpus
        .iter()
        .flatten()
        .enumerate()
        .map(|(at, gpu)| {
            let why = gpu.refusal.clone().or_else(|| found.problem());
            with(json!({
                "device": format!("cuda:{at}"),
                "available": why.is_none(),
                "reason": why,
                "name": gpu.name,
                "compute_capability": format!("{}.{}", gpu.capability.0, gpu.capability.1),
                "multiprocessors": gpu.processors,
                "memory_bytes": gpu.memory,
            }))
        })
        .collect();
    if gpus.is_empty() {
        return vec![with(json!({"device": "cuda", "available": false, "reason": found.problem()}))];
    }
    gpus
}
