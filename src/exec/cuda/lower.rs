//! From the steps of a plan to launches of kernels: every number of a kernel's argument, weights packed and on the device.
//!
//! Memory is laid out before ([`Layout`]), so that addresses are final, but for the workspace of split convolutions, whose
//! size is known when all are lowered.

mod conv;
mod excitation;
mod learn;
mod node;
mod products;

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::driver::{Facts, Packed};
use super::place::{Layout, Pool, stored};
use crate::diag::{Code, Problem};
use crate::exec::Weights;
use crate::opt::{Id, Kind};
use crate::plan::view::{IMAGE, Matrix};
use crate::plan::{Place, Plan, Step, View, Work};
use archc_base::DType;
use archc_cuda::{Act, ActCode, Args, Choice, Conv, Copy_, Dtype, Fill, RANK, Tma};
use rayon::prelude::*;

pub use conv::pixel_distance;
pub(super) use excitation::Squeezed;
pub(super) use learn::reads_raw;

/// A launch that waits for its workspace or for tensor maps, or is ready.
pub(super) enum Pending {
    Conv(Conv, Choice),
    Tma(Box<Tma>),
    Ready(archc_cuda::Launch, Packed),
    /// A launch that leaves something in scratch memory, or finds it there: where in its argument addresses of it are, how
    /// far from its start, and the bytes of all of it.
    Scratch(archc_cuda::Launch, Packed, Vec<(usize, usize)>, usize),
}

/// A plan's states and derivatives, float32, where they lie outside of its own memory.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    pub states: u64,
    pub derivatives: u64,
    /// What values of a batch are kept in; all others are float32.
    pub dtype: Dtype,
}

/// What lowering needs to know.
#[derive(Clone, Copy)]
pub(super) struct Lower<'a> {
    pub plan: &'a Plan,
    pub weights: &'a Weights<'a>,
    pub dtype: Dtype,
    pub facts: &'a Facts,
    pub layout: &'a Layout,
    /// The address of the one allocation.
    pub base: u64,
    pub constants: &'a [u64],
    pub pool: &'a Pool,
    /// Sums that convolutions leave, known when they are lowered.
    pub squeezed: &'a Mutex<BTreeMap<Id, Squeezed>>,
    /// In training.
    pub kept: Option<Kept>,
    /// Views whose numbers are to be found elsewhere.
    pub mirrors: &'a [(View, u64)],
}

impl Lower<'_> {
    /// All steps, in their order.
    pub(super) fn steps(&self) -> Result<Vec<Vec<Pending>>, Problem> {
        let steps = self.plan.steps();
        // what reads sums has to know how they were cut
        let waits = |step: &Step| match step.work {
            Work::Node(id) => matches!(self.plan.net().node(id).kind, Kind::Excitation { .. }),
            _ => false,
        };
        let one = |step: &Step| if waits(step) { Ok(vec![]) } else { self.step(step) };
        let mut lowered: Vec<_> = steps.par_iter().with_max_len(1).map(one).collect::<Result<_, _>>()?;
        for (pending, step) in lowered.iter_mut().zip(steps).filter(|(_, step)| waits(step)) {
            *pending = self.step(step)?;
        }
        Ok(lowered)
    }

    fn step(&self, step: &Step) -> Result<Vec<Pending>, Problem> {
        step.views().try_for_each(check)?;
        let float = |view: &View| self.dtype_of(view) == Dtype::F32;
        if self.kept.is_some() && self.dtype.size() == 2 && step.views().all(float) {
            let pending = Lower { dtype: Dtype::F32, ..*self }.lowered(step)?;
            if pending.iter().any(|one| matches!(one, Pending::Conv(..) | Pending::Tma(_))) {
                let message =
                    "a linear map or convolution of learned tensors alone has no CUDA kernel in reduced precision";
                return Err(Problem::new(Code::Resource, message).hint("`--dtype f32`, or `--device cpu`"));
            }
            return Ok(pending);
        }
        self.lowered(step)
    }

    fn lowered(&self, step: &Step) -> Result<Vec<Pending>, Problem> {
        match &step.work {
            Work::Copy => Ok(vec![self.copy(&step.reads[0], &step.write)]),
            Work::Fill(value) => {
                let write = &step.write;
                let fill = Fill {
                    y: self.address(write),
                    rank: write.dims.len() as i32,
                    value: *value,
                    shape: axes(&write.dims),
                    y_strides: axes(&write.strides),
                };
                Ok(vec![ready(fill.launch(self.dtype_of(write)), &fill)])
            }
            Work::Node(id) => self.with_mirrors(*id, step),
        }
    }

    /// The step of a node; what it combines with values of a batch is brought to their dtype before.
    fn with_mirrors(&self, id: Id, step: &Step) -> Result<Vec<Pending>, Problem> {
        let kind = &self.plan.net().node(id).kind;
        let mixes = matches!(kind, Kind::Binary { .. } | Kind::Matmul { .. });
        if self.kept.is_none() || !mixes {
            return self.node(id, step);
        }
        let (mut mirrors, mut launches) = (vec![], vec![]);
        for view in step.reads.iter().filter(|view| self.dtype_of(view) != self.dtype.stored()) {
            let at = self.pool.zeros(view.span().len() * self.dtype.size())?;
            let plain = View { offset: 0, ..view.clone() };
            launches.push(self.move_between(self.raw(view), view, (at, self.dtype), &plain));
            mirrors.push((view.clone(), at));
        }
        launches.extend(Lower { mirrors: &mirrors, ..*self }.node(id, step)?);
        Ok(launches)
    }

    /// Where a step writes, and as what.
    pub(super) fn written(&self, step: &Step) -> (u64, Dtype, View) {
        (self.address(&step.write), self.dtype_of(&step.write), step.write.clone())
    }

    /// Inputs that steps compute with, in the storage dtype.
    pub(super) fn conversions(&self) -> Vec<Pending> {
        let one = |(number, (_, dims)): (usize, &(String, Vec<usize>))| {
            let converted = self.layout.converted[number]?;
            let view = View::plain(Place::Input(number), dims);
            let from = self.base + self.layout.inputs[number] as u64;
            Some(self.move_between((from, Dtype::F32), &view, (self.base + converted as u64, self.dtype), &view))
        };
        self.plan.inputs().iter().enumerate().filter_map(one).collect()
    }

    /// Outputs as dense float32 values.
    pub(super) fn results(&self) -> Result<Vec<Pending>, Problem> {
        let one = |(at, (_, view)): (usize, &(String, View))| {
            check(view)?;
            let plain = View::plain(view.place, &view.dims);
            let to = self.base + self.layout.outputs[at] as u64;
            Ok(self.move_between(self.raw(view), view, (to, Dtype::F32), &plain))
        };
        self.plan.outputs().iter().enumerate().map(one).collect()
    }

    fn copy(&self, from: &View, to: &View) -> Pending {
        match self.closing_copy(to) {
            Some((launch, copy)) => ready(launch, &copy),
            None => self.move_between(self.raw(from), from, (self.address(to), self.dtype_of(to)), to),
        }
    }

    /// The copy that alone writes the buffer of `image`, of less than four channels in pixels of four: it may set the others
    /// to 0, which belong to nobody.
    pub(super) fn closing_copy(&self, image: &View) -> Option<(archc_cuda::Launch, Copy_)> {
        let Place::Buffer(number) = image.place else { return None };
        let mut writers = self.plan.steps().iter().filter(|step| step.write.place == image.place);
        let (step, None) = (writers.next()?, writers.next()) else { return None };
        let pixels = image.len().checked_div(*image.dims.get(1)?)?;
        let four = image.dims.len() == 4
            && image.dims[1] < 4
            && image.matrix(&IMAGE).is_some_and(|matrix| matrix.dist == 4)
            // a buffer has whole lines of the arena
            && image.offset + 4 * pixels <= self.plan.buffers()[number].len.next_multiple_of(4);
        if !four || !matches!(step.work, Work::Copy) || step.write != *image {
            return None;
        }
        let from = &step.reads[0];
        let mut copy = copy_between(self.raw(from), from, (self.address(image), self.dtype), image);
        let launch = copy.launch_with_zeros(self.raw(from).1, self.dtype, 4 - image.dims[1])?;
        Some((launch, copy))
    }

    fn move_between(&self, from: (u64, Dtype), x: &View, to: (u64, Dtype), y: &View) -> Pending {
        let mut copy = copy_between(from, x, to, y);
        let launch = copy.launch(from.1, to.1);
        ready(launch, &copy)
    }

    /// Where a view begins, and what it is stored as: inputs are float32.
    fn raw(&self, view: &View) -> (u64, Dtype) {
        match view.place {
            Place::Input(number) => (self.base + (self.layout.inputs[number] + 4 * view.offset) as u64, Dtype::F32),
            _ => (self.address(view), self.dtype_of(view)),
        }
    }

    /// What the numbers of a view are stored as: all alike, but for training, which keeps what is of no batch in float32.
    fn dtype_of(&self, view: &View) -> Dtype {
        match (self.kept, view.place) {
            (None, _) => self.dtype.stored(),
            (Some(kept), Place::Input(number)) => match self.layout.converted[number] {
                Some(_) => kept.dtype.stored(),
                None => Dtype::F32,
            },
            (Some(_), Place::Constant(_)) => Dtype::F32,
            (Some(kept), Place::Buffer(_)) => match self.plan.dtype(view) {
                DType::F32 => Dtype::F32,
                _ => kept.dtype.stored(),
            },
        }
    }

    /// Where a view begins, in the dtype of its numbers.
    fn address(&self, view: &View) -> u64 {
        if let Some((_, at)) = self.mirrors.iter().find(|(other, _)| other == view) {
            return *at;
        }
        let elements = (self.plan.start(view) * self.dtype_of(view).size()) as u64;
        // the first two buffers, where something is learned
        match (view.place, self.kept.filter(|_| !self.plan.states().is_empty())) {
            (Place::Buffer(0), Some(kept)) => return kept.states + 4 * view.offset as u64,
            (Place::Buffer(1), Some(kept)) => return kept.derivatives + 4 * view.offset as u64,
            _ => {}
        }
        match view.place {
            Place::Buffer(_) => {
                let before = if self.kept.is_some() { 4 * self.plan.kept_floats() as u64 } else { 0 };
                self.base + self.layout.values as u64 + elements - before
            }
            Place::Constant(number) => self.constants[number] + elements,
            Place::Input(number) => {
                let converted = self.layout.converted[number].unwrap_or(self.layout.inputs[number]);
                self.base + converted as u64 + elements
            }
        }
    }

    /// Values in the storage dtype on the device.
    fn stored(&self, values: &[f32]) -> Result<u64, Problem> {
        self.pool.put(&stored(self.dtype, values))
    }

    /// float32 values on the device; 0 for none.
    fn floats(&self, values: Option<&[f32]>) -> Result<u64, Problem> {
        values.map_or(Ok(0), |values| self.pool.put(&stored(Dtype::F32, values)))
    }
}

fn copy_between(from: (u64, Dtype), x: &View, to: (u64, Dtype), y: &View) -> Copy_ {
    Copy_ {
        x: from.0,
        y: to.0,
        rank: x.dims.len() as i32,
        zeros: 0,
        shape: axes(&x.dims),
        x_strides: axes(&x.strides),
        y_strides: axes(&y.strides),
    }
}

fn ready<A: Args>(launch: archc_cuda::Launch, args: &A) -> Pending {
    Pending::Ready(launch, Packed::new(args))
}

/// Kernels count elements in 32 bits.
fn check(view: &View) -> Result<(), Problem> {
    if view.span().end <= i32::MAX as usize {
        return Ok(());
    }
    let message = format!("a value of {} elements; the CUDA kernels take up to 2147483647", view.span().len());
    Err(Problem::new(Code::Resource, message).hint("a smaller batch or smaller images"))
}

fn axes(values: &[usize]) -> [i32; RANK] {
    let mut axes = [1; RANK];
    axes.iter_mut().zip(values).for_each(|(axis, value)| *axis = *value as i32);
    axes
}

/// The view as rows, in an order of axes that the plan promises it has.
fn rows(view: &View, order: &[usize]) -> Matrix {
    let mut matrix = view.matrix(order).expect("the plan gives rows where a kernel needs them");
    if matrix.rows == 1 {
        // no second row is so far away: a round distance lets kernels load in whole vectors
        matrix.dist = matrix.cols.next_multiple_of(16);
    }
    matrix
}

pub(super) fn act(act: archc_base::Act) -> Act {
    let [a, b] = act.parameters();
    Act { code: ActCode::of(act.code()), a, b }
}
