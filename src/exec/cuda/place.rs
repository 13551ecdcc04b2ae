//! Where everything of a plan lies on the device: one allocation for all values, inputs and outputs, and a pool of larger
//! pieces for weights.

use std::sync::{Arc, Mutex};

use super::driver::{Driver, Fault, Memory};
use super::lower::on_cuda;
use crate::diag::{Code, Problem};
use crate::plan::{Place, Plan, View, Work, gigabytes};
use archc_cuda::Dtype;

/// Bytes between the starts of parts: what the fastest copies of the device want.
const ALIGN: usize = 256;

/// Offsets of the one allocation, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// float32, as they come.
    pub inputs: Vec<usize>,
    /// In the storage dtype, for steps that do more than copy them.
    pub converted: Vec<Option<usize>>,
    /// float32, row-major.
    pub outputs: Vec<usize>,
    /// Where inputs end, from the first of them; outputs likewise.
    pub input_bytes: usize,
    pub output_start: usize,
    pub output_bytes: usize,
    pub values: usize,
    pub bytes: usize,
}

impl Layout {
    /// With so many bytes for values.
    pub fn new(plan: &Plan, dtype: Dtype, values: usize) -> Layout {
        let mut layout = Layout::default();
        let mut at = 0usize;
        let mut take = |bytes: usize| {
            let start = at;
            at = (at + bytes).next_multiple_of(ALIGN);
            start
        };
        let len = |dims: &[usize]| dims.iter().product::<usize>();
        for (_, dims) in plan.inputs() {
            layout.inputs.push(take(4 * len(dims)));
        }
        layout.input_bytes = take(0);
        for (number, (_, dims)) in plan.inputs().iter().enumerate() {
            // what is of no batch stays float32
            let batched = plan.net().node(plan.net().inputs()[number].1).shape.batched;
            let needed = dtype.stored() != Dtype::F32 && batched && computes_with(plan, number);
            layout.converted.push(needed.then(|| take(dtype.size() * len(dims))));
        }
        layout.output_start = take(0);
        for (_, view) in plan.outputs() {
            layout.outputs.push(take(4 * view.len()));
        }
        layout.output_bytes = take(0) - layout.output_start;
        layout.values = take(values);
        layout.bytes = at;
        layout
    }
}

/// Whether a step does more with input `number` than to copy it, or to read it as it came.
fn computes_with(plan: &Plan, number: usize) -> bool {
    let is = |view: &&View| view.place == Place::Input(number);
    plan.steps().iter().any(|step| {
        let all = step.views().filter(is).count();
        let raw = match &step.work {
            Work::Copy => all,
            Work::Node(id) => {
                let kind = on_cuda(&plan.net().node(*id).kind);
                step.reads.iter().enumerate().filter(|(at, view)| is(view) && kind.reads_raw(*at)).count()
            }
            Work::Fill(_) => 0,
        };
        all > raw
    })
}

/// Device memory for what stays: weights, packed or as they are.
pub struct Pool {
    driver: Arc<dyn Driver>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pieces: Vec<Memory>,
    /// Bytes of the last piece that are taken.
    taken: usize,
    bytes: usize,
}

/// Bytes that are asked for at once.
const PIECE: usize = 32 << 20;

impl Pool {
    pub fn new(driver: &Arc<dyn Driver>) -> Pool {
        Pool { driver: driver.clone(), state: Mutex::default() }
    }

    /// Copies `bytes` to the device; says where they are.
    pub fn put(&self, bytes: &[u8]) -> Result<u64, Problem> {
        let at = self.take(bytes.len()).map_err(|fault| self.problem(&fault, bytes.len()))?;
        self.driver.write(at, bytes).map_err(|fault| self.problem(&fault, bytes.len()))?;
        Ok(at)
    }

    /// Memory for so many bytes, which are no numbers yet.
    pub fn room(&self, bytes: usize) -> Result<u64, Problem> {
        self.take(bytes).map_err(|fault| self.problem(&fault, bytes))
    }

    fn take(&self, bytes: usize) -> Result<u64, Fault> {
        let mut state = self.state.lock().expect("no thread panics while it holds the lock");
        let room = state.pieces.last().map_or(0, |piece| piece.bytes);
        if state.pieces.is_empty() || state.taken + bytes > room {
            state.pieces.push(Memory::new(&self.driver, bytes.max(PIECE))?);
            state.taken = 0;
        }
        let at = state.pieces.last().expect("one was just added").at + state.taken as u64;
        state.taken = (state.taken + bytes).next_multiple_of(ALIGN);
        state.bytes += bytes;
        Ok(at)
    }

    /// Room for so many bytes, all 0.
    pub fn zeros(&self, bytes: usize) -> Result<u64, Problem> {
        let at = self.take(bytes).map_err(|fault| self.problem(&fault, bytes))?;
        self.driver.zero(at, bytes).map_err(|fault| self.problem(&fault, bytes))?;
        Ok(at)
    }

    /// Bytes of everything in it.
    pub fn bytes(&self) -> usize {
        self.state.lock().expect("no thread panics while it holds the lock").bytes
    }

    fn problem(&self, fault: &Fault, bytes: usize) -> Problem {
        if fault.out_of_memory {
            let more = gigabytes(self.bytes() + bytes);
            return Problem::new(
                Code::Resource,
                format!("the memory of the GPU does not hold the weights: {more} and more"),
            )
            .note(format!("{} are free", gigabytes(self.driver.free_memory())))
            .hint("a smaller network, `--dtype bf16`, or a GPU with more memory");
        }
        fault.clone().into()
    }
}

/// The bytes of `values` in a dtype.
pub fn stored(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F32 | Dtype::Tf32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Dtype::Bf16 => values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(),
    }
}
