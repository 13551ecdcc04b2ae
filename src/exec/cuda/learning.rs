//! [`Learning`] on a device: everything that a run keeps lies there, float32, in one piece that the programs of all batch
//! sizes share; so an update moves nothing between host and device but a few numbers.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::driver::{Driver, Fault, Kernel, Launch, Memory, Packed, Staging, bound};
use super::lower::Kept;
use super::program::{self, Loaded};
use super::{Cuda, Start};
use crate::diag::{Code, Problem};
use crate::exec::learning::{Array, Arrays, Learning, Learns, Part, Update};
use crate::exec::{Backend, Program, Weights};
use crate::plan::{self, Plan, View};
use crate::tensor::Tensor;
use archc_base::Rule;
use archc_cuda::{Accumulate, Dtype, Norm};

impl Learns for Cuda {
    fn learning_options(&self, batch: usize) -> plan::Options<'_> {
        self.options(batch)
    }

    fn batch_invariant(&self) -> Box<dyn Backend> {
        Box::new(BatchInvariant(self.clone()))
    }

    fn learning(&self, arrays: Arrays) -> Box<dyn Learning> {
        let Cuda { driver, dtype, start } = self.clone();
        Box::new(OnDevice { programs: vec![], current: 0, store: None, arrays, dtype, start, driver })
    }
}

/// A GPU whose kernels sum nothing that depends on where in a batch a sample is.
struct BatchInvariant(Cuda);

impl Backend for BatchInvariant {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn options(&self, batch: usize) -> plan::Options<'_> {
        self.0.options(batch)
    }

    fn load(&self, plan: &Plan, weights: &Weights) -> Result<Box<dyn Program>, Problem> {
        self.0.load(plan, weights)
    }
}

/// Fields are dropped in this order: programs before what they refer to.
struct OnDevice {
    programs: Vec<Loaded>,
    current: usize,
    /// Made with the first program.
    store: Option<Store>,
    arrays: Arrays,
    dtype: Dtype,
    start: Start,
    driver: Arc<dyn Driver>,
}

/// Bytes between the starts of arrays.
const ALIGN: usize = 256;

struct Store {
    memory: Memory,
    /// Numbers of all states, and of those that are learned.
    states: usize,
    learned: usize,
    arrays: Arrays,
    /// For float64 sums: partial ones, and the norm.
    sums: Memory,
    /// The norm, on the host.
    norm: Box<dyn Staging>,
    factors: Option<Factors>,
    kernels: Kernels,
}

/// One factor of the learning rate for each line.
struct Factors {
    memory: Memory,
    /// What they were made of.
    parts: Vec<(Range<usize>, f64)>,
}

struct Kernels {
    update: Kernel,
    squares: Kernel,
    norm_of: Kernel,
    accumulate: Kernel,
}

fn problem(fault: &Fault) -> Problem {
    let problem = Problem::new(Code::Resource, format!("the GPU failed: {}: {}", fault.call, fault.message));
    if fault.out_of_memory { problem.hint("a smaller batch, smaller images, or `--dtype bf16`") } else { problem }
}

impl Store {
    fn new(driver: &Arc<dyn Driver>, plan: &Plan, arrays: Arrays) -> Result<Store, Problem> {
        let [(_, states), (_, learned)] = plan.kept();
        let own = |states: usize, learned: usize| {
            (4 * states).next_multiple_of(ALIGN) + (4 * learned).next_multiple_of(ALIGN)
        };
        let bytes = own(states, learned)
            + own(0, learned) * (arrays.moments + usize::from(arrays.sums))
            + own(states, 0) * usize::from(arrays.average);
        let fail = |fault: Fault| problem(&fault);
        let memory = Memory::new(driver, bytes).map_err(fail)?;
        driver.zero(memory.at, bytes).map_err(fail)?;
        driver.wait().map_err(fail)?;
        let sums = Memory::new(driver, 8 * (Norm::PARTS + 1)).map_err(fail)?;
        let norm = driver.staging(8).map_err(fail)?;
        let variant = archc_cuda::Accumulate::default().launch().variant;
        let names = ["update", "squares", "norm_of", "accumulate"];
        let found = driver.kernels(&names.map(|name| (variant.clone(), name, 0)))?;
        let [update, squares, norm_of, accumulate] = found[..] else { unreachable!("as many as were asked for") };
        let kernels = Kernels { update, squares, norm_of, accumulate };
        Ok(Store { memory, states, learned, arrays, sums, norm, factors: None, kernels })
    }

    /// Where an array lies, and its numbers; its address is 0 where there is none.
    fn array(&self, array: Array) -> (u64, usize) {
        let (states, learned) = ((4 * self.states).next_multiple_of(ALIGN), (4 * self.learned).next_multiple_of(ALIGN));
        let Arrays { moments, average, sums } = self.arrays;
        let after_moments = states + learned * (1 + moments);
        let (there, offset, len) = match array {
            Array::States => (true, 0, self.states),
            Array::Gradients => (true, states, self.learned),
            Array::Moment(number) => (number < moments, states + learned * (1 + number), self.learned),
            Array::Average => (average, after_moments, self.states),
            Array::Sums => (sums, after_moments + if average { states } else { 0 }, self.learned),
        };
        (if there { self.memory.at + offset as u64 } else { 0 }, len)
    }

    fn at(&self, array: Array) -> u64 {
        self.array(array).0
    }

    /// The factors of the learning rate on the device; 0 where all are 1.
    fn factors(&mut self, driver: &Arc<dyn Driver>, parts: &[Part]) -> Result<u64, Fault> {
        if parts.iter().all(|part| part.factor == 1.0) {
            return Ok(0);
        }
        let wanted: Vec<(Range<usize>, f64)> = parts.iter().map(|part| (part.range.clone(), part.factor)).collect();
        if let Some(known) = self.factors.as_ref().filter(|known| known.parts == wanted) {
            return Ok(known.memory.at);
        }
        let line = archc_cuda::Update::LINE;
        let mut factors = vec![0f32; self.learned.div_ceil(line)];
        for (range, factor) in &wanted {
            factors[range.start / line..range.end.div_ceil(line)].fill(*factor as f32);
        }
        driver.wait()?;
        let memory = Memory::new(driver, 4 * factors.len())?;
        driver.write(memory.at, bytemuck::cast_slice(&factors))?;
        let at = memory.at;
        self.factors = Some(Factors { memory, parts: wanted });
        Ok(at)
    }
}

impl OnDevice {
    fn store(&self) -> &Store {
        self.store.as_ref().expect("a program is loaded before anything else")
    }

    fn read_bytes(&self, at: u64, bytes: usize) -> Result<Box<dyn Staging>, Fault> {
        let mut staging = self.driver.staging(bytes)?;
        self.driver.start_read(at, staging.as_mut())?;
        self.driver.wait()?;
        Ok(staging)
    }

    /// The launches of an update.
    fn launches(&mut self, update: &Update) -> Result<Vec<Launch>, Fault> {
        let driver = self.driver.clone();
        let store = self.store.as_mut().expect("a program is loaded before anything else");
        let factors = store.factors(&driver, update.parts)?;
        let counted = if update.runs > 1 { Array::Sums } else { Array::Gradients };
        let mut launches = vec![];
        let norm_at = store.sums.at + 8 * Norm::PARTS as u64;
        if update.clip.is_some() {
            let (x, len) = store.array(counted);
            let parts = len.div_ceil(1024).clamp(1, Norm::PARTS) as i32;
            let args = Norm { x, partials: store.sums.at, norm: norm_at, len: len as i32, parts };
            let [squares, norm] = args.launches();
            launches.push(bound(store.kernels.squares, &squares, Packed::new(&args)));
            launches.push(bound(store.kernels.norm_of, &norm, Packed::new(&args)));
        }
        let common = archc_cuda::Update {
            states: store.at(Array::States),
            gradients: store.at(counted),
            first: store.at(Array::Moment(0)),
            second: store.at(Array::Moment(1)),
            third: store.at(Array::Moment(2)),
            average: if update.ema.is_some() { store.at(Array::Average) } else { 0 },
            factors,
            norm: if update.clip.is_some() { norm_at } else { 0 },
            learned: store.learned as i32,
            sums: i32::from(update.runs > 1),
            kept_average: update.ema.unwrap_or(0.0) as f32,
            rate: update.lr,
            decay: update.weight_decay,
            scale: 1.0 / update.runs as f64,
            most: update.clip.unwrap_or(0.0),
            ..archc_cuda::Update::default()
        };
        // parts of one rule in a row are one launch; the first begins with the states, and the last ends with them
        for (at, part) in update.parts.iter().enumerate() {
            let begins = at == 0 || update.parts[at - 1].rule != part.rule;
            if !begins {
                continue;
            }
            let from = if at == 0 { 0 } else { part.range.start };
            let next = update.parts[at..].iter().find(|other| other.rule != part.rule);
            let to = next.map_or(store.states, |next| next.range.start);
            let own = archc_cuda::Update { from: from as i32, to: to as i32, ..common };
            let args = with_rule(own, part.rule);
            launches.push(bound(store.kernels.update, &args.launch(), Packed::new(&args)));
        }
        Ok(launches)
    }

    fn norm(&mut self, runs: u64) -> Result<f64, Fault> {
        let store = self.store.as_mut().expect("a program is loaded before anything else");
        self.driver.start_read(store.sums.at + 8 * Norm::PARTS as u64, store.norm.as_mut())?;
        self.driver.wait()?;
        Ok(bytemuck::pod_read_unaligned::<f64>(store.norm.bytes()) / runs as f64)
    }
}

/// An update by a rule.
fn with_rule(update: archc_cuda::Update, rule: Rule) -> archc_cuda::Update {
    let update = archc_cuda::Update { rule: rule.code(), ..update };
    match rule {
        Rule::Sgd { momentum, dampening, nesterov, first } => archc_cuda::Update {
            nesterov: nesterov.into(),
            moving: i32::from(momentum != 0.0),
            begins: first.into(),
            keep: momentum,
            take: 1.0 - dampening,
            ..update
        },
        Rule::Adam { betas, eps, decoupled, amsgrad, corrections } => archc_cuda::Update {
            decoupled: decoupled.into(),
            amsgrad: amsgrad.into(),
            keep: betas[0] as f32,
            take: 1.0 - betas[0] as f32,
            keep_second: betas[1] as f32,
            eps,
            root: 1.0 / corrections[1].sqrt() as f32,
            corrected: update.rate / corrections[0],
            ..update
        },
        Rule::RmsProp { alpha, eps, momentum, centered } => archc_cuda::Update {
            centered: centered.into(),
            moving: i32::from(momentum != 0.0),
            keep: alpha,
            eps,
            momentum,
            ..update
        },
    }
}

impl Learning for OnDevice {
    fn load(&mut self, plan: &Plan, weights: &Weights) -> Result<(), Problem> {
        if self.store.is_none() {
            self.store = Some(Store::new(&self.driver, plan, self.arrays)?);
        }
        let store = self.store();
        let kept = Kept { states: store.at(Array::States), gradients: store.at(Array::Gradients) };
        let loaded = program::load(&self.driver, self.dtype, self.start, plan, weights, kept)?;
        self.programs.push(loaded);
        self.current = self.programs.len() - 1;
        Ok(())
    }

    fn select(&mut self, program: usize) {
        self.current = program;
    }

    fn run(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<(), Problem> {
        self.programs[self.current].run(inputs, outputs)
    }

    fn profile(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<Vec<Duration>, Problem> {
        self.programs[self.current].profile(inputs, outputs)
    }

    fn kernels(&self) -> Vec<String> {
        self.programs[self.current].kernels()
    }

    fn first_non_finite(&mut self, inputs: &[&[f32]]) -> Option<usize> {
        let driver = self.driver.clone();
        let found = self.programs[self.current].stepwise(inputs, |_, (at, dtype, view)| {
            let span = view.span();
            let mut staging = driver.staging(span.len() * dtype.size())?;
            driver.start_read(*at, staging.as_mut())?;
            driver.wait()?;
            Ok(!is_finite(staging.bytes(), *dtype, view))
        });
        // what is asked for is why a run failed; a device that fails now says nothing of that
        found.ok().flatten()
    }

    fn read(&mut self, array: Array) -> Result<Vec<f32>, Problem> {
        let (at, len) = self.store().array(array);
        let staging = self.read_bytes(at, 4 * len).map_err(|fault| problem(&fault))?;
        Ok(bytemuck::pod_collect_to_vec(staging.bytes()))
    }

    fn write(&mut self, array: Array, values: &[f32]) -> Result<(), Problem> {
        let (at, len) = self.store().array(array);
        assert!(values.len() == len, "an array of another length");
        let written = self.driver.wait().and_then(|()| self.driver.write(at, bytemuck::cast_slice(values)));
        written.map_err(|fault| problem(&fault))
    }

    fn accumulate(&mut self) -> Result<(), Problem> {
        let store = self.store();
        let ((x, len), (y, _)) = (store.array(Array::Gradients), store.array(Array::Sums));
        let args = Accumulate { x, y, len: len as i32, reserved: 0 };
        let launch = bound(store.kernels.accumulate, &args.launch(), Packed::new(&args));
        self.driver.launch(&launch).map_err(|fault| problem(&fault))
    }

    fn update(&mut self, update: &Update) -> Result<Option<f64>, Problem> {
        let launches = self.launches(update).map_err(|fault| problem(&fault))?;
        launches.iter().try_for_each(|launch| self.driver.launch(launch)).map_err(|fault| problem(&fault))?;
        update.clip.map(|_| self.norm(update.runs).map_err(|fault| problem(&fault))).transpose()
    }

    fn device_times(&mut self, update: &Update, count: usize) -> Option<Result<Vec<Duration>, Problem>> {
        let launches = match self.launches(update) {
            Ok(launches) => launches,
            Err(fault) => return Some(Err(problem(&fault))),
        };
        let steps = self.programs[self.current].device_times(count)?;
        let updates = self.driver.time_each(&launches, count).map_err(|fault| problem(&fault));
        Some(steps.and_then(|steps| {
            let update: Duration = updates?.into_iter().sum();
            Ok(steps.into_iter().map(|step| step + update).collect())
        }))
    }
}

/// Whether every number of a view is finite, `bytes` being those of its span.
fn is_finite(bytes: &[u8], dtype: Dtype, view: &View) -> bool {
    let size = dtype.size();
    (0..view.len()).all(|at| {
        let (mut rest, mut offset) = (at, 0);
        for (len, stride) in view.dims.iter().zip(&view.strides).rev() {
            offset += rest % len * stride;
            rest /= len;
        }
        let own = &bytes[offset * size..][..size];
        match dtype {
            Dtype::F32 | Dtype::Tf32 => f32::from_le_bytes([own[0], own[1], own[2], own[3]]).is_finite(),
            Dtype::Bf16 => half::bf16::from_le_bytes([own[0], own[1]]).is_finite(),
            Dtype::F16 => half::f16::from_le_bytes([own[0], own[1]]).is_finite(),
        }
    })
}
