//! What of CUDA is on this machine, for `archc devices`.

use std::path::PathBuf;

use super::cache::Cache;
use super::device::{self, INSTALL};
use super::nvrtc::nvrtc;

/// Everything that the backend looks for.
#[derive(Clone, Debug)]
pub struct Found {
    /// The CUDA version that the driver is for, or why there is none.
    pub driver: Result<(u32, u32), String>,
    pub gpus: Result<Vec<Gpu>, String>,
    /// The compiler's file and version, or why there is none.
    pub compiler: Result<(PathBuf, (u32, u32)), String>,
    pub cache: Option<PathBuf>,
    /// Why nothing can be kept in the cache.
    pub cache_problem: Option<String>,
}

/// A GPU of this machine.
#[derive(Clone, Debug)]
pub struct Gpu {
    pub name: String,
    pub capability: (u32, u32),
    /// Bytes.
    pub memory: usize,
    pub processors: usize,
    /// Why it cannot be used, if so.
    pub refusal: Option<String>,
}

/// Looks for all of it; opens no device.
pub fn find() -> Found {
    let gpus = device::devices().map(|devices| {
        let one = |facts: super::driver::Facts| Gpu {
            name: facts.name,
            capability: facts.capability,
            memory: facts.memory,
            processors: facts.processors,
            refusal: device::refusal(facts.capability),
        };
        devices.into_iter().map(one).collect()
    });
    let cache = Cache::new();
    Found {
        driver: device::driver_version(),
        gpus,
        compiler: nvrtc().map(|found| (found.path.clone(), found.version)),
        cache: cache.folder().map(Into::into),
        cache_problem: cache.problem(),
    }
}

impl Found {
    /// Why nothing can execute here, if so.
    pub fn problem(&self) -> Option<String> {
        let gpus = match &self.gpus {
            Ok(gpus) => gpus,
            Err(why) => return Some(why.clone()),
        };
        if gpus.is_empty() {
            return Some("the driver knows no GPU".into());
        }
        if let Some(why) = gpus.iter().map(|gpu| gpu.refusal.clone()).collect::<Option<Vec<_>>>() {
            return why.into_iter().next();
        }
        self.compiler.as_ref().err().map(|why| format!("{why}: {INSTALL}"))
    }
}
