//! A plan on a device: its memory, its kernels recorded as one graph, and what goes in and out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rayon::prelude::*;

use super::Pace;
use super::driver::{Driver, Fault, Graph, Launch, Memory, Packed, Staging, bound};
use super::lower::{Kept, Lower, Pending};
use super::place::{Layout, Pool, stored};
use crate::diag::{Code, Problem};
use crate::exec::{Program, Weights};
use crate::graph::path;
use crate::plan::{Plan, View, gigabytes};
use crate::tensor::Tensor;
use archc_cuda::{Choice, Conv, Dtype, Tma};

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
    _workspace: Vec<Memory>,
    _scratch: Option<Memory>,
    /// What each step writes, in training: where, and as what.
    written: Vec<(u64, Dtype, View)>,
    driver: Arc<dyn Driver>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Input,
    Step(usize),
    Output,
}

/// Loads `plan`: memory, weights, kernels, and all launches recorded.
pub(super) fn load(
    driver: &Arc<dyn Driver>,
    dtype: Dtype,
    pace: Pace,
    plan: &Plan,
    weights: &Weights,
) -> Result<Loaded, Problem> {
    load_with(driver, dtype, pace, plan, weights, None)
}

/// [`load`] with states and derivatives at `kept`, for a plan in training.
pub(super) fn load_with(
    driver: &Arc<dyn Driver>,
    dtype: Dtype,
    pace: Pace,
    plan: &Plan,
    weights: &Weights,
    kept: Option<Kept>,
) -> Result<Loaded, Problem> {
    let values = match kept {
        // a plan in training counts floats
        Some(_) => (plan.arena() - plan.kept_floats()) * size_of::<f32>(),
        None => plan.arena() * dtype.size(),
    };
    let layout = Layout::new(plan, dtype, values);
    let short = |fault: Fault, needed: usize| too_large(driver, plan, needed, &fault);
    let free = driver.free_memory();
    if layout.bytes > free {
        let fault = Fault { call: "", message: String::new(), out_of_memory: true, launch: None };
        return Err(short(fault, layout.bytes));
    }
    let memory = Memory::new(driver, layout.bytes).map_err(|fault| short(fault, layout.bytes))?;
    let pool = Pool::new(driver);
    let constant_dtype = if kept.is_some() { Dtype::F32 } else { dtype };
    let constants = plan.constants().iter().map(|source| pool.put(&stored(constant_dtype, &weights.read(source)?)));
    let constants = constants.collect::<Result<Vec<u64>, Problem>>()?;
    let facts = driver.facts();
    let lower = Lower {
        plan,
        weights,
        dtype,
        facts,
        layout: &layout,
        base: memory.at,
        constants: &constants,
        pool: &pool,
        squeezed: &Mutex::default(),
        kept,
        mirrors: &[],
    };
    let steps = lower.steps()?.into_iter().enumerate().flat_map(|(at, pending)| {
        let part = Part::Step(at);
        pending.into_iter().map(move |pending| (part, pending))
    });
    let inputs = lower.conversions().into_iter().map(|pending| (Part::Input, pending));
    let outputs = lower.results()?.into_iter().map(|pending| (Part::Output, pending));
    let (works, pending): (Vec<Part>, Vec<Pending>) = inputs.chain(steps).chain(outputs).unzip();
    let workspace = workspace(driver, &pending).map_err(|fault| short(fault, layout.bytes + pool.bytes()))?;
    let scratch = scratch(driver, &pending).map_err(|fault| short(fault, layout.bytes + pool.bytes()))?;
    let kernels = kernels(plan, &works, &pending);
    let launches = launches(driver, dtype, pending, &workspace, scratch.as_ref())?;
    let written = match kept {
        Some(_) => plan.steps().iter().map(|step| lower.written(step)).collect(),
        None => vec![],
    };
    let names = plan.steps().iter().map(|step| {
        let layers = step.layers.iter().map(|layer| path::display(&weights.typed().graph().node(*layer).path));
        layers.collect::<Vec<_>>().join(" + ")
    });
    let staging = |bytes: usize| driver.staging(bytes).map_err(|fault| short(fault, layout.bytes + pool.bytes()));
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
        _workspace: workspace,
        _scratch: scratch,
        written,
        driver: driver.clone(),
    };
    if pace == Pace::Recorded {
        let graph = driver.record(&loaded.launches).map_err(|fault| loaded.problem(&fault))?;
        loaded.graph = Some(graph);
    }
    driver.wait().map_err(|fault| loaded.problem(&fault))?;
    Ok(loaded)
}

/// Room for partial sums and counters of the split convolution that needs most; none where none is split.
fn workspace(driver: &Arc<dyn Driver>, pending: &[Pending]) -> Result<Vec<Memory>, Fault> {
    let needs = pending.iter().filter_map(|pending| match pending {
        Pending::Conv(conv, choice) => Some(conv.workspace(*choice)),
        Pending::Tma(_) | Pending::Ready(..) | Pending::Scratch(..) => None,
    });
    let [partials, counters] = needs.fold([0, 0], |most, one| [most[0].max(one[0]), most[1].max(one[1])]);
    if partials == 0 {
        return Ok(vec![]);
    }
    let parts = vec![Memory::new(driver, 4 * partials)?, Memory::new(driver, 4 * counters)?];
    driver.zero(parts[1].at, 4 * counters)?;
    Ok(parts)
}

/// Room for what launches leave for the next ones of their step, as much as the step that needs most; none where none does.
fn scratch(driver: &Arc<dyn Driver>, pending: &[Pending]) -> Result<Option<Memory>, Fault> {
    let needs = pending.iter().filter_map(|pending| match pending {
        Pending::Scratch(.., bytes) => Some(*bytes),
        Pending::Conv(..) | Pending::Tma(_) | Pending::Ready(..) => None,
    });
    needs.max().map(|bytes| Memory::new(driver, bytes)).transpose()
}

/// Gives convolutions their workspace, and every launch its kernel.
fn launches(
    driver: &Arc<dyn Driver>,
    dtype: Dtype,
    pending: Vec<Pending>,
    workspace: &[Memory],
    scratch: Option<&Memory>,
) -> Result<Vec<Launch>, Problem> {
    let with_workspace = |conv: Conv, choice: Choice| match workspace {
        [partials, counters] if choice.splits > 1 => Conv { partials: partials.at, counters: counters.at, ..conv },
        _ => conv,
    };
    let ready = pending.into_iter().map(|pending| match pending {
        Pending::Conv(conv, choice) => {
            let conv = with_workspace(conv, choice);
            Ok((conv.launch(dtype, choice), Packed::new(&conv)))
        }
        Pending::Tma(tma) => {
            let args = tma.args(|boxes| driver.tensor_map(boxes))?;
            Ok((tma.launch, Packed::new(&args)))
        }
        Pending::Ready(launch, args) => Ok((launch, args)),
        Pending::Scratch(launch, mut args, fields, _) => {
            let start = scratch.expect("there is some where a launch needs it").at;
            fields.into_iter().for_each(|(at, offset)| args.set_address(at, start + offset as u64));
            Ok((launch, args))
        }
    });
    let failed = |fault: Fault| Problem::new(Code::Resource, format!("{}: {}", fault.call, fault.message));
    let ready: Vec<_> = ready.collect::<Result<_, Fault>>().map_err(failed)?;
    let wanted: Vec<_> =
        ready.iter().map(|(launch, _)| (launch.variant.clone(), launch.kernel, launch.shared)).collect();
    let kernels = driver.kernels(&wanted)?;
    Ok(kernels.into_iter().zip(ready).map(|(kernel, (launch, args))| bound(kernel, &launch, args)).collect())
}

/// `conv_tma 128x256`
pub(super) fn tma_name(tma: &Tma) -> String {
    format!("conv_tma {}x{}", tma.tile.bm, tma.tile.bn)
}

/// `conv_igemm 128x64 wgmma / 4`, whether or not it has a gate
pub(super) fn name(Choice { tile, splits }: Choice) -> String {
    let own = if tile.hopper { " wgmma" } else { "" };
    let cut = if splits == 1 { String::new() } else { format!(" / {splits}") };
    format!("conv_igemm {}x{}{own}{cut}", tile.bm, tile.bn)
}

/// The kernels of each step; several where they differ.
fn kernels(plan: &Plan, works: &[Part], pending: &[Pending]) -> Vec<String> {
    let mut kernels: Vec<Vec<String>> = vec![vec![]; plan.steps().len()];
    for (part, pending) in works.iter().zip(pending) {
        let Part::Step(step) = part else { continue };
        let name = match pending {
            Pending::Conv(_, choice) => name(*choice),
            Pending::Tma(tma) => tma_name(tma),
            Pending::Ready(launch, _) | Pending::Scratch(launch, ..) => launch.kernel.into(),
        };
        if !kernels[*step].contains(&name) {
            kernels[*step].push(name);
        }
    }
    kernels.into_iter().map(|names| names.join(", ")).collect()
}

fn too_large(driver: &Arc<dyn Driver>, plan: &Plan, needed: usize, fault: &Fault) -> Problem {
    if !fault.out_of_memory {
        return Problem::new(Code::Resource, format!("{}: {}", fault.call, fault.message));
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
                .note("recorded kernels run on their own, and a process whose GPU failed can ask it no more: the step is not known")
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
