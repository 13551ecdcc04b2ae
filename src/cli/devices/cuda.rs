//! What of CUDA `archc devices` finds.

use serde_json::{Value, json};

use crate::exec::cuda::find;
use crate::plan::memory;

/// A line a GPU, or why there is none; then what else the backend looked for.
pub fn text() -> String {
    let found = find();
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

/// The same as JSON, a value a GPU.
pub fn json() -> Vec<Value> {
    let found = find();
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
