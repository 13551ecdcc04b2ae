//! From the steps of a plan to launches of kernels: every number of a kernel's argument, weights packed and on the device.
//!
//! Memory is laid out before ([`Layout`]), so that addresses are final, but for scratch memory, whose size is known when all
//! steps are lowered. A kind has its way to its kernels, [`OnCuda`], in a file of `lower/`; weights are packed for all of
//! them in [`packing`].

mod attention;
mod batch_norm;
mod binary;
mod chains;
mod channels;
mod conv;
mod conv_transpose;
mod dropout;
mod excitation;
mod gather;
mod identity;
mod linear;
mod loss;
mod lstm;
mod matmul;
mod norms;
mod packing;
mod pool;
mod prelu;
mod reduce;
mod resize;
mod softmax;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use archc_cuda::{Args, Copy_, Dtype, Epilogue, Fill, RANK};
use rayon::prelude::*;

use super::driver::{Driver, Kernel, Launch, Packed, bound};
use super::place::{Layout, Pool, stored};
use crate::diag::{Code, Problem};
use crate::exec::Weights;
use crate::net::{Id, Kind, Node, kinds};
use crate::plan::view::{IMAGE, Matrix};
use crate::plan::{Place, Plan, Step, View, Work};
use archc_base::DType;
use conv::Image;
use excitation::Squeezed;

pub(super) use conv::{choose, pixel_stride};

/// A kind's way to its kernels.
pub(super) trait OnCuda {
    /// The launches of a step, in their order.
    ///
    /// # Errors
    /// If a tensor cannot be read, the device has no memory for it, or there is no kernel.
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem>;

    /// Whether operand `at`, where it is an input of the network, is read as it came: float32.
    fn reads_raw(&self, at: usize) -> bool {
        let _ = at;
        false
    }
}

macro_rules! on_cuda {
    ($($kind:ident),*) => {
        pub(super) fn on_cuda(kind: &Kind) -> &dyn OnCuda {
            match kind {
                $(Kind::$kind(kind) => kind,)*
                kind => unreachable!("the plan makes views and copies of `{}`", kind.name()),
            }
        }
    };
}
kinds!(on_cuda);

/// A launch, but for the addresses of what launches share.
pub(super) struct Pending {
    /// As `bench --profile` prints it.
    pub name: String,
    pub launch: archc_cuda::Launch,
    pub args: Packed,
    /// Scratch memory, where it leaves something for the next launches of its step or finds it.
    pub scratch: Scratch,
    /// Counters, which are 0 before and after it: where in the argument their address is, and their bytes.
    pub counters: Option<(usize, usize)>,
}

/// What a launch needs of scratch memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    /// Where in the argument addresses of it are, and how far from its start.
    pub fields: Vec<(usize, usize)>,
    pub bytes: usize,
}

impl Pending {
    /// The driver's launch, scratch memory and counters being at these addresses.
    pub(super) fn bound(mut self, kernel: Kernel, [scratch, counters]: [u64; 2]) -> Launch {
        for (at, offset) in self.scratch.fields {
            self.args.set_address(at, scratch + offset as u64);
        }
        if let Some((at, _)) = self.counters {
            self.args.set_address(at, counters);
        }
        bound(kernel, &self.launch, self.args)
    }
}

/// A launch that needs nothing but its argument.
pub(super) fn ready<A: Args>(launch: archc_cuda::Launch, args: &A) -> Pending {
    let name = launch.kernel.into();
    Pending { name, launch, args: Packed::new(args), scratch: Scratch::default(), counters: None }
}

/// A launch that works in scratch memory: `fields` of its argument are addresses there, each so many bytes from the start.
fn scratch<A: Args>(launch: archc_cuda::Launch, args: &A, fields: &[(usize, usize)], bytes: usize) -> Pending {
    Pending { scratch: Scratch { fields: fields.to_vec(), bytes }, ..ready(launch, args) }
}

/// Where states and gradients lie, float32, outside of the plan's own memory.
#[derive(Clone, Copy, Default)]
pub(super) struct Kept {
    pub states: u64,
    pub gradients: u64,
}

/// A plan on its way to the device.
pub(super) struct Loading<'a> {
    pub driver: &'a Arc<dyn Driver>,
    pub plan: &'a Plan,
    pub weights: &'a Weights<'a>,
    /// What values of a batch are kept in; all others are float32.
    pub dtype: Dtype,
    pub layout: &'a Layout,
    /// For each buffer of the plan, [`writers`].
    pub writers: Vec<Option<usize>>,
    /// The address of the one allocation.
    pub base: u64,
    pub kept: Kept,
    pub pool: &'a Pool,
    /// The constants that launches read as they are, in the dtypes in which they do.
    pub constants: Mutex<BTreeMap<(usize, Dtype), u64>>,
    /// Sums that convolutions leave, known when they are lowered.
    pub squeezed: Mutex<BTreeMap<Id, Squeezed>>,
}

/// A node's step on its way to launches.
pub(super) struct Lower<'a> {
    load: &'a Loading<'a>,
    id: Id,
    node: &'a Node,
    step: &'a Step,
    /// What the kernel stores and multiplies in.
    dtype: Dtype,
}

/// For each buffer the step that alone writes there, if there is one.
pub(super) fn writers(plan: &Plan) -> Vec<Option<usize>> {
    let mut counts = vec![(0, None); plan.buffers().len()];
    for (at, step) in plan.steps().iter().enumerate() {
        if let Place::Buffer(number) = step.write.place {
            let (count, last) = &mut counts[number];
            (*count, *last) = (*count + 1, Some(at));
        }
    }
    counts.into_iter().map(|(count, last)| last.filter(|_| count == 1)).collect()
}

impl Loading<'_> {
    /// All steps, in their order.
    pub(super) fn steps(&self) -> Result<Vec<Vec<Pending>>, Problem> {
        let steps = self.plan.steps();
        // what reads sums has to know how they were cut
        let waits = |step: &Step| match step.work {
            Work::Node(id) => matches!(self.plan.net().node(id).kind, Kind::Excitation(_)),
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
        let id = match step.work {
            Work::Copy => return Ok(vec![self.copy(&step.reads[0], &step.write)?]),
            Work::Fill(value) => {
                let (y, dtype, view) = self.written(step);
                let (shape, y_strides) = (axes(&view.dims), axes(&view.strides));
                let fill = Fill { y, rank: view.dims.len() as i32, value, shape, y_strides };
                return Ok(vec![ready(fill.launch(dtype), &fill)]);
            }
            Work::Node(id) => id,
        };
        let node = self.plan.net().node(id);
        // a step on parameters alone
        let is_float = self.dtype.size() == 2 && step.views().all(|view| self.dtype_of(view) == Dtype::F32);
        let dtype = if is_float { Dtype::F32 } else { self.dtype };
        on_cuda(&node.kind).launches(&Lower { load: self, id, node, step, dtype })
    }

    /// Where a step writes, and as what.
    pub(super) fn written(&self, step: &Step) -> (u64, Dtype, View) {
        (self.place(&step.write), self.dtype_of(&step.write), step.write.clone())
    }

    /// Inputs that steps compute with, in the storage dtype.
    pub(super) fn conversions(&self) -> Vec<Pending> {
        let one = |(number, (_, dims)): (usize, &(String, Vec<usize>))| {
            let converted = self.layout.converted[number]?;
            let view = View::plain(Place::Input(number), dims);
            let to = (self.base + converted as u64, self.dtype);
            Some(move_between((self.base + self.layout.inputs[number] as u64, Dtype::F32), &view, to, &view))
        };
        self.plan.inputs().iter().enumerate().filter_map(one).collect()
    }

    /// Outputs as dense float32 values.
    pub(super) fn results(&self) -> Result<Vec<Pending>, Problem> {
        let one = |(at, (_, view)): (usize, &(String, View))| {
            check(view)?;
            let plain = View::plain(view.place, &view.dims);
            let to = self.base + self.layout.outputs[at] as u64;
            Ok(move_between(self.raw(view)?, view, (to, Dtype::F32), &plain))
        };
        self.plan.outputs().iter().enumerate().map(one).collect()
    }

    fn copy(&self, from: &View, to: &View) -> Result<Pending, Problem> {
        Ok(match self.closing_copy(to)? {
            Some(pending) => pending,
            None => move_between(self.raw(from)?, from, (self.place(to), self.dtype_of(to)), to),
        })
    }

    /// The copy that alone writes the buffer of `image`, of less than four channels in pixels of four: it may set the others
    /// to 0, which belong to nobody.
    fn closing_copy(&self, image: &View) -> Result<Option<Pending>, Problem> {
        let Place::Buffer(number) = image.place else { return Ok(None) };
        let Some(step) = self.writers[number].map(|at| &self.plan.steps()[at]) else { return Ok(None) };
        let four = image.dims.len() == 4
            && image.dims[1] < 4
            && image.matrix(&IMAGE).is_some_and(|matrix| matrix.stride == 4)
            // a buffer has whole lines of the arena
            && image.offset + 4 * image.len() / image.dims[1] <= self.plan.buffers()[number].len.next_multiple_of(4);
        if !four || !matches!(step.work, Work::Copy) || step.write != *image {
            return Ok(None);
        }
        let (from, to) = (self.raw(&step.reads[0])?, (self.place(image), self.dtype_of(image)));
        let mut copy = copy_between(from, &step.reads[0], to, image);
        let launch = copy.launch_with_zeros(from.1, to.1, 4 - image.dims[1]);
        Ok(launch.map(|launch| ready(launch, &copy)))
    }

    /// Where a view begins as it came, and what it is stored as: inputs are float32.
    fn raw(&self, view: &View) -> Result<(u64, Dtype), Problem> {
        Ok(match view.place {
            Place::Input(number) => (self.base + (self.layout.inputs[number] + 4 * view.offset) as u64, Dtype::F32),
            _ => (self.address(view)?, self.dtype_of(view)),
        })
    }

    /// What the numbers of a view are stored as.
    fn dtype_of(&self, view: &View) -> Dtype {
        let is_float = match view.place {
            Place::Input(number) => self.layout.converted[number].is_none(),
            _ => self.plan.dtype(view) == DType::F32,
        };
        if is_float { Dtype::F32 } else { self.dtype.stored() }
    }

    /// Where a view begins, in the dtype of its numbers.
    fn address(&self, view: &View) -> Result<u64, Problem> {
        match view.place {
            Place::Constant(number) => Ok(self.constant(number, Dtype::F32)? + 4 * view.offset as u64),
            _ => Ok(self.place(view)),
        }
    }

    /// [`Loading::address`] of what is no constant.
    fn place(&self, view: &View) -> u64 {
        let bytes = (self.plan.start(view) * self.dtype_of(view).size()) as u64;
        match view.place {
            // the first two buffers, where something is learned
            Place::Buffer(0) if self.learns() => self.kept.states + 4 * view.offset as u64,
            Place::Buffer(1) if self.learns() => self.kept.gradients + 4 * view.offset as u64,
            Place::Buffer(_) => self.base + self.layout.values as u64 + bytes - 4 * self.plan.kept_floats() as u64,
            Place::Input(number) => {
                let at = self.layout.converted[number].unwrap_or(self.layout.inputs[number]);
                self.base + at as u64 + bytes
            }
            Place::Constant(_) => unreachable!("a constant has no place until it is read"),
        }
    }

    fn learns(&self) -> bool {
        !self.plan.states().is_empty()
    }

    /// The numbers of a constant.
    fn known(&self, number: usize) -> Result<Vec<f32>, Problem> {
        self.weights.read(&self.plan.constants()[number])
    }

    /// A constant on the device, in a dtype.
    fn constant(&self, number: usize, dtype: Dtype) -> Result<u64, Problem> {
        let there = || self.constants.lock().expect("no thread panics while it holds the lock");
        if let Some(at) = there().get(&(number, dtype)) {
            return Ok(*at);
        }
        // no lock is held while others may work on this thread
        let values = self.known(number)?;
        let mut constants = there();
        if let Some(at) = constants.get(&(number, dtype)) {
            return Ok(*at);
        }
        let at = self.pool.put(&stored(dtype, &values))?;
        constants.insert((number, dtype), at);
        Ok(at)
    }
}

impl Lower<'_> {
    /// Operand `at`.
    fn view(&self, at: usize) -> &View {
        &self.step.reads[at]
    }

    /// Where operand `at` begins.
    fn address(&self, at: usize) -> Result<u64, Problem> {
        self.load.address(self.view(at))
    }

    /// Where the operands begin, of a step that has so many.
    fn operands<const N: usize>(&self) -> Result<[u64; N], Problem> {
        let operands = self.step.reads.iter().map(|view| self.load.address(view)).collect::<Result<Vec<u64>, _>>()?;
        Ok(operands.try_into().expect("the kind has so many operands"))
    }

    /// Where an operand beside the others begins; 0 where there is none.
    fn beside(&self, view: &Option<View>) -> Result<u64, Problem> {
        view.as_ref().map_or(Ok(0), |view| self.load.address(view))
    }

    /// Where the result goes.
    fn write(&self) -> u64 {
        self.load.place(&self.step.write)
    }

    /// Operand `at` in the dtype of the step, and what brings it there in each run, where that is needed.
    fn address_as_stored(&self, at: usize) -> Result<(u64, Option<Pending>), Problem> {
        let view = self.view(at);
        let size = self.dtype.size();
        if self.load.dtype_of(view) == self.dtype.stored() {
            return Ok((self.address(at)?, None));
        }
        if let Place::Constant(number) = view.place {
            return Ok((self.load.constant(number, self.dtype.stored())? + (size * view.offset) as u64, None));
        }
        let to = self.load.pool.zeros(view.span().len() * size)?;
        let dense = View { offset: 0, ..view.clone() };
        Ok((to, Some(move_between(self.load.raw(view)?, view, (to, self.dtype), &dense))))
    }

    /// float32 values on the device.
    fn floats(&self, values: &[f32]) -> Result<u64, Problem> {
        self.load.pool.put(&stored(Dtype::F32, values))
    }

    /// Whole numbers on the device.
    fn words(&self, values: &[u32]) -> Result<u64, Problem> {
        self.load.pool.put(bytemuck::cast_slice(values))
    }

    /// A view as rows, in the order of axes in which the step goes through its values.
    fn rows(&self, view: &View) -> Rows {
        rows(view, &self.step.order)
    }

    /// Multiprocessors of the device.
    fn processors(&self) -> usize {
        self.load.driver.facts().processors
    }

    /// The epilogue, its residual being images as `lie` says.
    fn epilogue(&self, lie: impl Fn(&View) -> Image) -> Result<Epilogue, Problem> {
        let (own, step) = (&self.node.epilogue, self.step);
        let residual = step.residual.as_ref().map(lie);
        let apart = |of: fn(&Image) -> i32| residual.as_ref().map_or(0, of);
        Ok(Epilogue {
            bias: self.beside(&step.bias)?,
            gate: self.beside(&step.gate)?,
            residual: self.beside(&step.residual)?,
            gate_stride: step.gate.as_ref().map_or(0, |gate| gate.dims[1] as i32),
            residual_image: apart(|image| image.image),
            residual_row: apart(|image| image.row),
            residual_pixel: apart(|image| image.pixel),
            before: own.before.into(),
            after: own.after.into(),
        })
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

fn move_between(from: (u64, Dtype), x: &View, to: (u64, Dtype), y: &View) -> Pending {
    let mut copy = copy_between(from, x, to, y);
    let launch = copy.launch(from.1, to.1);
    ready(launch, &copy)
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

/// A view as rows, as kernels count.
#[derive(Clone, Copy)]
struct Rows {
    rows: i32,
    cols: i32,
    stride: i32,
}

/// The view as rows, in an order of axes that the plan promises it has.
fn rows(view: &View, order: &[usize]) -> Rows {
    let Matrix { rows, cols, stride } = view.matrix(order).expect("the plan gives rows where a kernel needs them");
    // no second row is so far away: a round distance lets kernels load in whole vectors
    let stride = if rows == 1 { cols.next_multiple_of(16) } else { stride };
    Rows { rows: rows as i32, cols: cols as i32, stride: stride as i32 }
}
