//! A plan on a device: its memory, its kernels as one graph, and what goes in and out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rayon::prelude::*;

use super::Start;
use super::driver::{Driver, Fault, Graph, Launch, Memory, Staging};
use super::lower::{Kept, Loading, Pending, writers};
use super::place::{Layout, Pool};
use crate::diag::{Code, Problem};
use crate::exec::{Program, Weights};
use crate::graph::path;
use crate::plan::{Plan, View, gigabytes};
use crate::tensor::Tensor;
use archc_cuda::Dtype;

/// A plan that is ready to run. Fields are dropped in this order: what refers to memory before the memory.
pub struct Loaded {
    graph: Option<Box<dyn Graph>>,
    launches: Vec<Launch>,
    /// What each launch is for: a step of the plan, or moving the network's inputs and outputs.
    works: Vec<Part>,
    /// Layers of each step.
    names: Vec<String>,
    /// The kernels of each step.
    kernels: Vec<String>,
    inputs: Box<dyn Staging>,
    outputs: Box<dyn Staging>,
    /// Where the bytes of each output begin in the staging memory.
    results: Vec<usize>,
    starts: Vec<usize>,
    layout: Layout,
    memory: Memory,
    _weights: Pool,
    _shared: Shared,
    /// What each step writes: where, and as what.
    written: Vec<(u64, Dtype, View)>,
    driver: Arc<dyn Driver>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Input,
    Step(usize),
    Output,
}

/// Loads `plan`: memory, weights, kernels, and a graph of all launches. States and gradients are at `kept`, where there are
/// any.
pub(super) fn load(
    driver: &Arc<dyn Driver>,
    dtype: Dtype,
    start: Start,
    plan: &Plan,
    weights: &Weights,
    kept: Kept,
) -> Result<Loaded, Problem> {
    let values = (plan.arena() - plan.kept_floats()) * size_of::<f32>();
    let layout = Layout::new(plan, dtype, values);
    let short = |fault: Fault, needed: usize| too_large(driver, plan, needed, fault);
    let free = driver.free_memory();
    if layout.bytes > free {
        let fault = Fault { call: "", message: String::new(), out_of_memory: true, launch: None };
        return Err(short(fault, layout.bytes));
    }
    let memory = Memory::new(driver, layout.bytes).map_err(|fault| short(fault, layout.bytes))?;
    let pool = Pool::new(driver);
    let loading = Loading {
        driver,
        plan,
        weights,
        dtype,
        layout: &layout,
        writers: writers(plan),
        base: memory.at,
        kept,
        pool: &pool,
        constants: Mutex::default(),
        squeezed: Mutex::default(),
    };
    let steps = loading.steps()?.into_iter().enumerate().flat_map(|(at, pending)| {
        let part = Part::Step(at);
        pending.into_iter().map(move |pending| (part, pending))
    });
    let inputs = loading.conversions().into_iter().map(|pending| (Part::Input, pending));
    let outputs = loading.results()?.into_iter().map(|pending| (Part::Output, pending));
    let (works, pending): (Vec<Part>, Vec<Pending>) = inputs.chain(steps).chain(outputs).unzip();
    let written = plan.steps().iter().map(|step| loading.written(step)).collect();
    let short = |fault: Fault| short(fault, layout.bytes + pool.bytes());
    let shared = Shared::new(driver, &pending).map_err(short)?;
    let kernels = kernels(plan, &works, &pending);
    let launches = launches(driver, pending, &shared)?;
    let names = plan.steps().iter().map(|step| {
        let layers = step.layers.iter().map(|layer| path::display(&weights.typed().graph().node(*layer).path));
        layers.collect::<Vec<_>>().join(" + ")
    });
    let staging = |bytes: usize| driver.staging(bytes).map_err(short);
    let results = layout.outputs.iter().map(|start| start - layout.output_start).collect();
    let mut loaded = Loaded {
        graph: None,
        launches,
        works,
        names: names.collect(),
        kernels,
        inputs: staging(layout.input_bytes)?,
        outputs: staging(layout.output_bytes)?,
        results,
        starts: layout.inputs.clone(),
        layout,
        memory,
        _weights: pool,
        _shared: shared,
        written,
        driver: driver.clone(),
    };
    if start == Start::Replay {
        let graph = driver.capture(&loaded.launches).map_err(|fault| loaded.problem(&fault))?;
        loaded.graph = Some(graph);
    }
    driver.wait().map_err(|fault| loaded.problem(&fault))?;
    Ok(loaded)
}

/// Memory that launches share one after another, as much as the one that needs most; none where none needs any.
struct Shared {
    /// For what launches leave for the next ones of their step.
    scratch: Option<Memory>,
    /// All 0 between launches.
    counters: Option<Memory>,
}

impl Shared {
    fn new(driver: &Arc<dyn Driver>, pending: &[Pending]) -> Result<Shared, Fault> {
        let most = |bytes: fn(&Pending) -> usize| match pending.iter().map(bytes).max() {
            None | Some(0) => Ok(None),
            Some(bytes) => Memory::new(driver, bytes).map(Some),
        };
        let scratch = most(|pending| pending.scratch.bytes)?;
        let counters = most(|pending| pending.counters.map_or(0, |(_, bytes)| bytes))?;
        if let Some(counters) = &counters {
            driver.zero(counters.at, counters.bytes)?;
        }
        Ok(Shared { scratch, counters })
    }
}

/// Gives every launch its addresses of what is shared, and its kernel.
fn launches(driver: &Arc<dyn Driver>, pending: Vec<Pending>, shared: &Shared) -> Result<Vec<Launch>, Problem> {
    let wanted = pending.iter().map(|Pending { launch, .. }| (launch.variant.clone(), launch.kernel, launch.shared));
    let kernels = driver.kernels(&wanted.collect::<Vec<_>>())?;
    let at = |memory: &Option<Memory>| memory.as_ref().map_or(0, |memory| memory.at);
    let shared = [at(&shared.scratch), at(&shared.counters)];
    Ok(kernels.into_iter().zip(pending).map(|(kernel, pending)| pending.bound(kernel, shared)).collect())
}

/// The kernels of each step; several where they differ.
fn kernels(plan: &Plan, works: &[Part], pending: &[Pending]) -> Vec<String> {
    let mut kernels: Vec<Vec<String>> = vec![vec![]; plan.steps().len()];
    for (part, pending) in works.iter().zip(pending) {
        let Part::Step(step) = part else { continue };
        let name = pending.name.clone();
        if !kernels[*step].contains(&name) {
            kernels[*step].push(name);
        }
    }
    kernels.into_iter().map(|names| names.join(", ")).collect()
}

fn too_large(driver: &Arc<dyn Driver>, plan: &Plan, needed: usize, fault: Fault) -> Problem {
    if !fault.out_of_memory {
        return fault.into();
    }
    let name = &driver.facts().name;
    let message = format!(
        "the network for a batch of {} needs {} of the memory of the GPU ({name})",
        plan.batch(),
        gigabytes(needed)
    );
    Problem::new(Code::Resource, message)
        .note(format!("{} are free", gigabytes(driver.free_memory())))
        .hint("a smaller batch, smaller images, or `--dtype bf16`")
}

impl Loaded {
    pub(super) fn problem(&self, fault: &Fault) -> Problem {
        let Some(at) = fault.launch else {
            let message = format!("the GPU failed: {}: {}", fault.call, fault.message);
            return Problem::new(Code::Resource, message)
                .note("a graph of kernels runs on its own, and a process whose GPU failed can ask it no more: the step is not known")
                .hint("run with ARCHC_CUDA_SYNC=1: step by step, and the one that fails is named");
        };
        let what = match self.works[at] {
            Part::Input => "converting the input".into(),
            Part::Output => "converting the output".into(),
            Part::Step(step) => format!("step {step}, `{}`", self.names[step]),
        };
        Problem::new(Code::Resource, format!("the GPU failed at {what}: {}: {}", fault.call, fault.message))
    }

    fn start(&mut self, inputs: &[&[f32]]) -> Result<(), Fault> {
        let staging = self.inputs.bytes_mut();
        for (start, values) in self.starts.iter().zip(inputs) {
            let bytes: &[u8] = bytemuck::cast_slice(values);
            let to = staging[*start..][..bytes.len()].par_chunks_mut(1 << 20);
            to.zip(bytes.par_chunks(1 << 20)).for_each(|(to, from)| to.copy_from_slice(from));
        }
        self.driver.start_write(self.memory.at, self.inputs.as_ref())
    }

    fn go(&mut self) -> Result<(), Fault> {
        if let Some(graph) = &self.graph {
            return graph.replay();
        }
        for (at, launch) in self.launches.iter().enumerate() {
            let named = |fault: Fault| Fault { launch: Some(at), ..fault };
            self.driver.launch(launch).map_err(named)?;
            self.driver.wait().map_err(named)?;
        }
        Ok(())
    }

    fn finish(&mut self, outputs: &mut [Tensor]) -> Result<(), Fault> {
        let from = self.memory.at + self.layout.output_start as u64;
        self.driver.start_read(from, self.outputs.as_mut())?;
        self.driver.wait()?;
        for (start, output) in self.results.iter().zip(outputs) {
            let to: &mut [u8] = bytemuck::cast_slice_mut(output.data_mut());
            to.copy_from_slice(&self.outputs.bytes()[*start..][..to.len()]);
        }
        Ok(())
    }

    /// Runs step by step, and calls `done` after each with its number and what it wrote; ends where that is true.
    pub(super) fn stepwise(
        &mut self,
        inputs: &[&[f32]],
        mut done: impl FnMut(usize, &(u64, Dtype, View)) -> Result<bool, Fault>,
    ) -> Result<Option<usize>, Fault> {
        self.start(inputs)?;
        for at in 0..self.launches.len() {
            self.driver.launch(&self.launches[at])?;
            let Part::Step(step) = self.works[at] else { continue };
            let is_last = self.works.get(at + 1).is_none_or(|next| *next != Part::Step(step));
            if is_last && done(step, &self.written[step])? {
                return Ok(Some(step));
            }
        }
        Ok(None)
    }

    fn once(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<(), Fault> {
        self.start(inputs)?;
        self.go()?;
        self.finish(outputs)
    }
}

impl Program for Loaded {
    fn run(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<(), Problem> {
        self.once(inputs, outputs).map_err(|fault| self.problem(&fault))
    }

    fn profile(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<Vec<Duration>, Problem> {
        let measured = self.once(inputs, outputs).and_then(|()| self.driver.time_each(&self.launches, PROFILES));
        let times = measured.map_err(|fault| self.problem(&fault))?;
        let mut steps = vec![Duration::ZERO; self.names.len()];
        let last = steps.len().saturating_sub(1);
        for (part, time) in self.works.iter().zip(times) {
            let at = match part {
                Part::Input => 0,
                Part::Step(step) => *step,
                Part::Output => last,
            };
            if let Some(step) = steps.get_mut(at) {
                *step += time;
            }
        }
        Ok(steps)
    }

    fn kernels(&self) -> Vec<String> {
        self.kernels.clone()
    }

    fn device_times(&mut self, count: usize) -> Option<Result<Vec<Duration>, Problem>> {
        let graph = self.graph.as_ref()?;
        let measured = (0..WARM).try_for_each(|_| graph.replay()).and_then(|()| graph.time(count));
        Some(measured.map_err(|fault| self.problem(&fault)))
    }
}

/// Runs before the device's time is taken.
const WARM: usize = 3;

/// Runs whose median a profile is.
const PROFILES: usize = 20;

impl Drop for Loaded {
    fn drop(&mut self) {
        // nothing that still runs may see its memory go; a failure here was reported before
        let _ = self.driver.wait();
    }
}
