//! Binds a step of a plan to its kernel: reads and packs its weights, where they are known.

use std::cell::RefCell;

use archc_base::{Act, DType};

use super::Cpu;
use super::kernels::bf16::{self as reduced, Unit};
use super::kernels::{self, Isa, Policy, Strided};
use super::memory::{Data, Memory};
use super::step::{Bound, Io, Kept, Kernel, Work, either, places};
use crate::diag::Problem;
use crate::exec::Weights;
use crate::net::{Kind, Node, kinds};
use crate::plan::{self, Place, Plan, Step};

/// A kind's way to its kernels.
pub(super) trait OnCpu {
    /// # Errors
    /// If a tensor cannot be read.
    fn bind(&self, to: &Binder) -> Result<Work, Problem>;
}

macro_rules! on_cpu {
    ($($kind:ident),*) => {
        fn on_cpu(kind: &Kind) -> &dyn OnCpu {
            match kind {
                $(Kind::$kind(kind) => kind,)*
                kind => unreachable!("the plan makes views and copies of `{}`", kind.name()),
            }
        }
    };
}
kinds!(on_cpu);

/// A step that is bound.
pub(super) struct Binder<'a> {
    pub cpu: &'a Cpu,
    pub unit: Unit,
    pub plan: &'a Plan,
    pub step: &'a Step,
    pub node: &'a Node,
    weights: &'a Weights<'a>,
    /// The operands that were packed.
    packed: RefCell<Vec<usize>>,
}

/// Weights as a kernel wants them: packed once where they are known, else in each run.
pub(super) enum Packed<P> {
    Once(P),
    Each,
}

impl<P> Packed<P> {
    /// Calls `run` with the weights, which `pack` packs where that is to be done in each run.
    pub(super) fn with<R>(&self, pack: impl FnOnce() -> P, run: impl FnOnce(&P) -> R) -> R {
        match self {
            Packed::Once(packed) => run(packed),
            Packed::Each => run(&pack()),
        }
    }

    pub(super) fn once(&self) -> Option<&P> {
        match self {
            Packed::Once(packed) => Some(packed),
            Packed::Each => None,
        }
    }
}

impl Binder<'_> {
    /// The sizes of operand `at`.
    pub(super) fn dims(&self, at: usize) -> &[usize] {
        &self.step.reads[at].dims
    }

    /// The number format of operand `at`.
    pub(super) fn dtype(&self, at: usize) -> DType {
        self.plan.dtype(&self.step.reads[at])
    }

    pub(super) fn isa(&self) -> Isa {
        self.unit.isa()
    }

    /// Which algorithms pay with operand `at` as the weights: what is packed in each run is packed for one.
    pub(super) fn policy(&self, at: usize) -> Policy {
        match self.step.reads[at].place {
            Place::Constant(_) => self.cpu.policy,
            _ => self.policy_of_run(),
        }
    }

    /// Which algorithms pay for weights that are packed in each run.
    pub(super) fn policy_of_run(&self) -> Policy {
        if self.cpu.policy == Policy::Exact { Policy::Exact } else { Policy::Runs(1) }
    }

    /// Operand `at`, which the kernel then does not read any more, where it is known.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub(super) fn known(&self, at: usize) -> Result<Option<Vec<f32>>, Problem> {
        let view = &self.step.reads[at];
        let Place::Constant(number) = view.place else { return Ok(None) };
        self.packed.borrow_mut().push(at);
        let mut values = self.weights.read(&self.plan.constants()[number])?;
        // some rows of it
        values.truncate(view.span().end);
        Ok(Some(values.split_off(view.offset)))
    }

    /// The weights that are operand `at`.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub(super) fn pack<P>(&self, at: usize, pack: impl FnOnce(&[f32]) -> P) -> Result<Packed<P>, Problem> {
        Ok(match self.known(at)? {
            Some(values) => Packed::Once(pack(&values)),
            None => Packed::Each,
        })
    }
}

/// Binds `step` of `plan`.
///
/// # Errors
/// If a tensor cannot be read.
pub(super) fn bind(cpu: &Cpu, plan: &Plan, step: &Step, weights: &Weights) -> Result<Bound, Problem> {
    let unit = Unit::of(cpu.isa);
    let plain = |work| Ok(Bound::new(unit, plan, work, places(plan, step, [Act::None; 2], &[])));
    let id = match step.work {
        plan::Work::Copy => return plain(Work::Kept(Box::new(Copy))),
        plan::Work::Fill(value) => return plain(Work::Kept(Box::new(Fill(value)))),
        plan::Work::Node(id) => id,
    };
    let node = plan.net().node(id);
    let binder = Binder { cpu, unit, plan, step, node, weights, packed: RefCell::default() };
    let work = on_cpu(&node.kind).bind(&binder)?;
    let acts = [node.epilogue.before, node.epilogue.after];
    Ok(Bound::new(unit, plan, work, places(plan, step, acts, &binder.packed.into_inner())))
}

struct Copy;

impl Kernel for Copy {
    fn name(&self, _isa: Isa, io: &Io) -> String {
        let (from, to) = (io.reads[0].slot.dtype, io.write.slot.dtype);
        let name = if from != to {
            "convert"
        } else if to == DType::F32 {
            "copy"
        } else {
            "copy bf16"
        };
        name.into()
    }
}

impl Kept for Copy {
    fn run(&self, unit: Unit, io: &Io, memory: &mut Memory) {
        let (from, to) = (&io.reads[0], &io.write);
        let (dims, strides) = (&to.dims, &to.strides);
        let (y, [x]) = memory.open_any(&to.slot, [&from.slot]);
        match (x, y) {
            (Data::F32(x), super::memory::DataMut::F32(y)) => kernels::copy(dims, from.strided(x), y, strides),
            (Data::F32(x), y) => either!(y, |y| reduced::copy(unit, dims, from.strided(x), y, strides)),
            (Data::Bf16(x), y) => either!(y, |y| reduced::copy(unit, dims, from.strided(x), y, strides)),
        }
    }
}

struct Fill(f32);

impl Kernel for Fill {
    fn name(&self, _isa: Isa, io: &Io) -> String {
        if io.write.slot.dtype == DType::F32 { "fill" } else { "fill bf16" }.into()
    }
}

impl Kept for Fill {
    fn run(&self, _unit: Unit, io: &Io, memory: &mut Memory) {
        let (y, []) = memory.open_any(&io.write.slot, []);
        either!(y, |y| reduced::fill(y, self.0));
    }
}

/// Whether values are kept in less than float32.
pub(super) fn is_reduced(dtype: DType) -> bool {
    dtype != DType::F32
}

/// A view with its numbers.
pub(super) fn strided<'a>(strides: &'a [usize], data: &'a [f32]) -> Strided<'a> {
    Strided { data, strides }
}
