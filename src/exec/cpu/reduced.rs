//! Steps of a plan that keeps large values in bf16.
//!
//! A step is run by a kernel on bf16 where there is one; kernels over rows work on some rows at a time, widened and
//! rounded around them; anything else is run by its float32 kernel on widened copies in a part of the arena that all
//! such steps share. Each result is rounded once.

use archc_base::{Act, Binary, DType, Pool, Reduce, Window};
use half::bf16;

use super::bind::{self, FEW_ROWS};
use super::kernels::bf16::{self as reduced, RowsIn, Unit};
use super::kernels::{
    self, ConvIo, Element, Epilogue, Map, Operand, Output, PackedConv, PackedMat, Policy, Rows, RowsMut, Site, Strided,
    Takes, choose,
};
use super::memory::{Data, DataMut, Memory, Slot};
use super::step::{self, Bound, Place};
use crate::diag::Problem;
use crate::exec::Weights;
use crate::opt::Kind;
use crate::plan::pairing::Pairing;
use crate::plan::{self, Plan, Step};

/// A step that is ready to run, its values in float32 or bf16.
pub(super) enum Ready {
    Floats(Box<Bound>),
    Reduced(Box<Reduced>),
}

pub(super) struct Reduced {
    unit: Unit,
    work: Work,
    places: Places,
}

/// Where a step reads and writes.
pub(super) struct Places {
    reads: Vec<Place>,
    residual: Option<Place>,
    write: Place,
    in_place: bool,
    acts: [Act; 2],
}

pub(super) enum Work {
    Copy,
    Fill(f32),
    Conv {
        packed: PackedConv<bf16>,
        bias: Option<Vec<f32>>,
    },
    /// Of few channels in float32, in any order of axes: multiplied as they are.
    Stem {
        packed: PackedConv<f32>,
        bias: Option<Vec<f32>>,
    },
    Linear {
        packed: PackedMat<bf16>,
        bias: Option<Vec<f32>>,
    },
    /// Few rows of float32: weights [out, in] as they are.
    Dots {
        weights: Vec<bf16>,
        bias: Option<Vec<f32>>,
    },
    Pool {
        pool: Pool,
        window: Window,
    },
    AdaptivePool {
        reduce: Reduce,
    },
    /// A float32 kernel over rows.
    Rows(step::Work),
    /// A float32 kernel on copies: those to be widened before, and whether the result is to be rounded after.
    Staged {
        inner: Box<Bound>,
        widen: Vec<(Slot, Slot)>,
        round: bool,
    },
}

/// Binds a step. The copies of one that is staged lie behind the values of the plan.
pub(super) fn bind(unit: Unit, policy: Policy, plan: &Plan, step: &Step, weights: &Weights) -> Result<Ready, Problem> {
    assert!(step.gate.is_none() && step.means.is_none(), "the backend asks for plain fusions");
    let work = match &step.work {
        plan::Work::Copy => Some(Work::Copy),
        plan::Work::Fill(value) => Some(Work::Fill(*value)),
        plan::Work::Node(id) => sums(unit, policy, plan, step, &plan.net().node(*id).kind, weights)?,
    };
    let floats =
        step.reads.iter().chain(&step.residual).chain([&step.write]).all(|view| plan.dtype(view) == DType::F32);
    if let Some(work) = work {
        if floats && matches!(work, Work::Copy | Work::Fill(_)) {
            return Ok(Ready::floats(bind::bind(unit.isa(), policy, plan, step, weights)?));
        }
        let (places, _) = places(plan, step);
        return Ok(Ready::Reduced(Box::new(Reduced { unit, work, places })));
    }
    let bound = bind::bind(unit.isa(), policy, plan, step, weights)?;
    if floats {
        return Ok(Ready::floats(bound));
    }
    let (places, dtypes) = places(plan, step);
    let work = match bound.work {
        step::Work::Pool { pool, window } if dtypes[0] == DType::Bf16 => Work::Pool { pool, window },
        step::Work::AdaptivePool { reduce } if dtypes[0] == DType::Bf16 => Work::AdaptivePool { reduce },
        work if is_over_rows(&work, &dtypes) => Work::Rows(work),
        work => staged(plan, Bound { work, ..bound }, &places),
    };
    Ok(Ready::Reduced(Box::new(Reduced { unit, work, places })))
}

/// The places of a step, and the types of its operands.
fn places(plan: &Plan, step: &Step) -> (Places, Vec<DType>) {
    let order = bind::order(plan, step);
    let place = |view| bind::place(plan, view, &order);
    let acts = match step.work {
        plan::Work::Node(id) => {
            let epilogue = &plan.net().node(id).epilogue;
            [epilogue.before, epilogue.after]
        }
        _ => [Act::None; 2],
    };
    let places = Places {
        reads: step.reads.iter().map(place).collect(),
        residual: step.residual.as_ref().map(place),
        write: place(&step.write),
        in_place: step.in_place,
        acts,
    };
    (places, step.reads.iter().map(|view| plan.dtype(view)).collect())
}

/// Convolutions and linear layers whose operands a kernel on bf16 takes.
fn sums(
    unit: Unit,
    policy: Policy,
    plan: &Plan,
    step: &Step,
    kind: &Kind,
    weights: &Weights,
) -> Result<Option<Work>, Problem> {
    let residual = step.residual.as_ref().map(|view| plan.dtype(view));
    let (Some(from), to) = (step.reads.first().map(|view| plan.dtype(view)), plan.dtype(&step.write)) else {
        return Ok(None);
    };
    let dims = &step.write.dims;
    Ok(match kind {
        Kind::Conv { window, groups, weights: expression } if residual != Some(DType::F32) => {
            let [n, from_channels, h, w] = step.reads[0].dims[..] else { unreachable!("images have four axes") };
            let shape = bind::conv_shape(window, from_channels, dims[1], *groups);
            let (channels, raw) = (weights.channels(expression, dims[1])?, weights.read(&expression.weight)?);
            let scale = channels.scale.as_deref();
            if from == DType::Bf16 {
                let algorithm = choose::<bf16>(unit, &shape, &Site { batch: n, size: [h, w], policy });
                let packed = PackedConv::pack_for(unit, &shape, algorithm, &raw, scale);
                return Ok(Some(Work::Conv { packed, bias: channels.shift }));
            }
            let packed = PackedConv::pack(unit, &shape, &raw, scale);
            (packed.reads_planes() && residual.is_none()).then_some(Work::Stem { packed, bias: channels.shift })
        }
        Kind::Linear { weights: expression } => {
            let out = dims[dims.len() - 1];
            let few = step.write.len() / out <= FEW_ROWS && from == DType::F32 && to == DType::F32;
            if !few && residual == Some(DType::F32) || few && residual == Some(DType::Bf16) {
                return Ok(None);
            }
            let channels = weights.channels(expression, out)?;
            let matrix = weights.matrix(expression, out, channels.scale.as_deref())?;
            Some(if few {
                Work::Dots { weights: reduced::round(&matrix), bias: channels.shift }
            } else {
                let packed = PackedMat::from_nk(unit, Rows::new(&matrix, out, matrix.len() / out));
                Work::Linear { packed, bias: channels.shift }
            })
        }
        _ => None,
    })
}

/// Whether each row of the result depends on one row of the first operand, and the other operand can be read.
fn is_over_rows(work: &step::Work, dtypes: &[DType]) -> bool {
    match work {
        step::Work::Identity
        | step::Work::Channels { .. }
        | step::Work::PRelu { .. }
        | step::Work::LayerNorm { .. }
        | step::Work::Softmax
        | step::Work::LogSoftmax
        | step::Work::Normalize { .. } => true,
        step::Work::Binary(binary) => match binary.pairing {
            Pairing::Broadcast => false,
            Pairing::Rows(_) => true,
            _ => dtypes[1 - binary.first] == DType::F32,
        },
        _ => false,
    }
}

fn staged(plan: &Plan, mut inner: Bound, places: &Places) -> Work {
    let mut at = plan.arena();
    let mut widen = vec![];
    let mut stage = |slot: &Slot| {
        let copy = slot.widened(at);
        at = copy.end().next_multiple_of(16);
        copy
    };
    let places = places.reads.iter().chain(&places.residual);
    for (place, inner) in places.zip(inner.reads.iter_mut().chain(&mut inner.residual)) {
        if place.slot.dtype == DType::Bf16 {
            inner.slot = stage(&place.slot);
            widen.push((place.slot.clone(), inner.slot.clone()));
        }
    }
    let round = inner.write.slot.dtype == DType::Bf16;
    if inner.in_place {
        let first = match &inner.work {
            step::Work::Binary(binary) => binary.first,
            _ => 0,
        };
        inner.write.slot = inner.reads[first].slot.clone();
    } else if round {
        inner.write.slot = stage(&inner.write.slot);
    }
    Work::Staged { inner: Box::new(inner), widen, round }
}

impl Ready {
    pub(super) fn floats(bound: Bound) -> Ready {
        Ready::Floats(Box::new(bound))
    }

    /// Where a step in float32 writes.
    pub(super) fn written(&self) -> Option<&Slot> {
        match self {
            Ready::Floats(bound) => Some(&bound.write.slot),
            Ready::Reduced(_) => None,
        }
    }

    /// Floats of memory that it needs.
    pub(super) fn reach(&self) -> usize {
        match self {
            Ready::Reduced(step) => {
                let Work::Staged { inner, widen, .. } = &step.work else { return 0 };
                let copies = widen.iter().map(|(_, copy)| copy);
                copies.chain([&inner.write.slot]).map(Slot::end).max().unwrap_or(0)
            }
            Ready::Floats(_) => 0,
        }
    }

    /// What does the work, as `bench --profile` prints it.
    pub(super) fn kernel(&self, isa: kernels::Isa) -> String {
        let Reduced { work, places, .. } = match self {
            Ready::Floats(bound) => return bound.kernel(isa),
            Ready::Reduced(step) => &**step,
        };
        match work {
            Work::Copy if places.reads[0].slot.dtype == places.write.slot.dtype => "copy bf16".into(),
            Work::Copy => "convert".into(),
            Work::Fill(_) => "fill bf16".into(),
            Work::Conv { packed, .. } => packed.kernel(),
            Work::Stem { packed, .. } => packed.kernel(),
            Work::Linear { packed, .. } => packed.kernel(),
            Work::Dots { .. } => "dot products bf16".into(),
            Work::Pool { .. } => "pool bf16".into(),
            Work::AdaptivePool { .. } => "adaptive pool bf16".into(),
            Work::Rows(work) => format!("{} bf16", work.name(isa, places.residual.is_some())),
            Work::Staged { inner, .. } => format!("{} widened", inner.kernel(isa)),
        }
    }

    /// The step in float32, if it is.
    pub(super) fn as_floats(&self) -> Option<&Bound> {
        match self {
            Ready::Floats(bound) => Some(bound),
            Ready::Reduced(_) => None,
        }
    }

    pub(super) fn run(&self, isa: kernels::Isa, memory: &mut Memory) {
        match self {
            Ready::Floats(bound) => bound.run(isa, memory),
            Ready::Reduced(step) => step.places.run(step.unit, &step.work, memory),
        }
    }
}

/// Calls a kernel that writes either type.
macro_rules! either {
    ($data:expr, |$to:ident| $call:expr) => {
        match $data {
            DataMut::F32($to) => $call,
            DataMut::Bf16($to) => $call,
        }
    };
}

impl Places {
    fn run(&self, unit: Unit, work: &Work, memory: &mut Memory) {
        match work {
            Work::Copy => {
                let (to, [from]) = memory.open_any(&self.write.slot, [&self.reads[0].slot]);
                either!(to, |to| self.copy(unit, from, to));
            }
            Work::Fill(value) => {
                let (to, []) = memory.open_any(&self.write.slot, []);
                either!(to, |to| reduced::fill(to, *value));
            }
            Work::Conv { packed, bias } => self.sums(memory, bias, |x, to, epilogue| {
                let x = self.reads[0].image(x.bf16());
                either!(to, |to| packed.run(x, self.write.image_mut(to), epilogue));
            }),
            Work::Stem { packed, bias } => {
                let (to, [x]) = memory.open_any(&self.write.slot, [&self.reads[0].slot]);
                let (x, [before, after]) = (self.reads[0].planes(x.f32()), self.acts);
                let epilogue = Epilogue { bias: bias.as_deref(), before, after, ..Epilogue::default() };
                either!(to, |to| packed
                    .run_io(ConvIo { x, scale: None, y: Output::Image(self.write.image_mut(to)) }, &epilogue));
            }
            Work::Linear { packed, bias } => self.sums(memory, bias, |x, to, epilogue| match x {
                Data::Bf16(x) => {
                    let x = self.reads[0].rows(x);
                    either!(to, |to| packed.run(x, self.write.rows_mut(to), epilogue));
                }
                Data::F32(x) => {
                    let x = self.reads[0].rows(x);
                    either!(to, |to| packed.run_wide(x, self.write.rows_mut(to), epilogue));
                }
            }),
            Work::Dots { weights, bias } => {
                let [before, after] = self.acts;
                let residual = self.residual.as_ref().unwrap_or(&self.reads[0]);
                let (to, [x, data]) = memory.open_any(&self.write.slot, [&self.reads[0].slot, &residual.slot]);
                let DataMut::F32(to) = to else { unreachable!("few rows are kept in float32") };
                let residual = self.residual.as_ref().map(|residual| residual.rows(data.f32()));
                let epilogue = Epilogue { bias: bias.as_deref(), before, residual, after, gate: None };
                let x = self.reads[0].rows(x.f32());
                let weights = Rows::new(&weights[..], self.write.matrix.cols, x.cols);
                kernels::linear(unit, x, weights, self.write.rows_mut(to), &epilogue);
            }
            Work::Pool { pool, window } => {
                let (to, [x]) = memory.open_any(&self.write.slot, [&self.reads[0].slot]);
                let x = self.reads[0].image(x.bf16());
                either!(to, |to| kernels::pool(unit, *pool, window, x, self.write.image_mut(to)));
            }
            Work::AdaptivePool { reduce } => {
                let (to, [x]) = memory.open_any(&self.write.slot, [&self.reads[0].slot]);
                let x = self.reads[0].image(x.bf16());
                either!(to, |to| kernels::adaptive_pool(unit, *reduce, x, self.write.image_mut(to)));
            }
            Work::Rows(work) => self.rows(unit, work, memory),
            Work::Staged { inner, widen, round } => {
                for (slot, copy) in widen {
                    let (to, [from]) = memory.open_any(copy, [slot]);
                    let (DataMut::F32(to), Data::Bf16(from)) = (to, from) else { unreachable!("they were made so") };
                    reduced::copy(unit, &[to.len()], Strided { data: from, strides: &[1] }, to, &[1]);
                }
                inner.run(unit.isa(), memory);
                if *round {
                    let (to, [from]) = memory.open_any(&self.write.slot, [&inner.write.slot]);
                    let DataMut::Bf16(to) = to else { unreachable!("it is to be rounded") };
                    let from = Strided { data: from.f32(), strides: &self.write.strides };
                    reduced::copy(unit, &self.write.dims, from, to, &self.write.strides);
                }
            }
        }
    }

    fn copy<B: Element>(&self, unit: Unit, from: Data, to: &mut [B]) {
        let (dims, strides) = (&self.write.dims, &self.write.strides);
        match from {
            Data::F32(data) => {
                reduced::copy(unit, dims, Strided { data, strides: &self.reads[0].strides }, to, strides);
            }
            Data::Bf16(data) => {
                reduced::copy(unit, dims, Strided { data, strides: &self.reads[0].strides }, to, strides);
            }
        }
    }

    /// A kernel with an epilogue.
    fn sums(&self, memory: &mut Memory, bias: &Option<Vec<f32>>, run: impl FnOnce(Data, DataMut, &Epilogue<bf16>)) {
        let [before, after] = self.acts;
        // the operand is read twice where there is no residual
        let residual = self.residual.as_ref().unwrap_or(&self.reads[0]);
        let (to, [x, data]) = memory.open_any(&self.write.slot, [&self.reads[0].slot, &residual.slot]);
        let residual = self.residual.as_ref().map(|residual| residual.rows(data.bf16()));
        run(x, to, &Epilogue { bias: bias.as_deref(), before, residual, after, gate: None });
    }

    fn rows(&self, unit: Unit, work: &step::Work, memory: &mut Memory) {
        let (first, second) = match work {
            step::Work::Binary(binary) => (binary.first, Some(&self.reads[1 - binary.first])),
            _ => (0, None),
        };
        let first = &self.reads[first];
        // what is not there is read as the operand, and not used
        let other = |place: Option<&Place>| place.map_or(&first.slot, |place| &place.slot).clone();
        let (other, residual) = (other(second), other(self.residual.as_ref()));
        if self.in_place {
            let blank = first.slot.clone();
            let pick = |slot: Slot, there: bool| if there { slot } else { blank.nothing() };
            let (other, residual) = (pick(other, second.is_some()), pick(residual, self.residual.is_some()));
            let (to, [other, residual]) = memory.open_any(&self.write.slot, [&other, &residual]);
            let over = OverRows { places: self, unit, work, other, residual };
            either!(to, |to| over.run_same(to));
        } else {
            let (to, [x, other, residual]) = memory.open_any(&self.write.slot, [&first.slot, &other, &residual]);
            let over = OverRows { places: self, unit, work, other, residual };
            match x {
                Data::F32(x) => either!(to, |to| over.run_other(first.rows(x), to)),
                Data::Bf16(x) => either!(to, |to| over.run_other(first.rows(x), to)),
            }
        }
    }
}

/// A float32 kernel over rows, with its other operands.
struct OverRows<'a> {
    places: &'a Places,
    unit: Unit,
    work: &'a step::Work,
    other: Data<'a>,
    residual: Data<'a>,
}

impl OverRows<'_> {
    fn run_same<T: Element + Takes<T>>(&self, to: &mut [T]) {
        reduced::by_rows::<T, T>(self.unit, RowsIn::Same, self.places.write.rows_mut(to), |row, wide| {
            self.some(row, wide)
        });
    }

    fn run_other<A, B: Takes<A>>(&self, x: Rows<A>, to: &mut [B]) {
        let to = self.places.write.rows_mut(to);
        reduced::by_rows(self.unit, RowsIn::Other(x), to, |row, wide| self.some(row, wide));
    }

    /// Rows from `row` on, in place.
    fn some(&self, row: usize, wide: RowsMut) {
        let (isa, places) = (self.unit.isa(), self.places);
        let [before, after] = places.acts;
        let has_residual = places.residual.is_some();
        let act = if has_residual { before } else { after };
        let RowsMut { data, rows, cols, .. } = wide;
        match self.work {
            step::Work::Identity => {
                if act != Act::None {
                    kernels::unary(isa, act, Map::in_place(RowsMut::new(data, rows, cols)));
                }
            }
            step::Work::Channels { scale, shift } => {
                kernels::scale_shift(isa, Map::in_place(RowsMut::new(data, rows, cols)), scale, shift, act)
            }
            step::Work::PRelu { slope } => {
                let slope = if slope.len() == 1 { Operand::Scalar(slope[0]) } else { Operand::Row(slope) };
                kernels::binary(isa, Binary::Prelu, Map::in_place(RowsMut::new(data, rows, cols)), slope, Act::None);
            }
            step::Work::LayerNorm { weight, bias, eps } => {
                kernels::layer_norm(
                    isa,
                    Map::in_place(RowsMut::new(data, rows, cols)),
                    Some(weight),
                    Some(bias),
                    *eps,
                    Act::None,
                );
            }
            step::Work::Softmax => kernels::softmax(isa, Map::in_place(RowsMut::new(data, rows, cols))),
            step::Work::LogSoftmax => kernels::log_softmax(isa, Map::in_place(RowsMut::new(data, rows, cols))),
            step::Work::Normalize { eps } => {
                kernels::l2_normalize(isa, Map::in_place(RowsMut::new(data, rows, cols)), *eps)
            }
            step::Work::Binary(binary) => self.binary(binary, row, RowsMut::new(data, rows, cols), act),
            _ => unreachable!("it is not over rows"),
        }
        if has_residual {
            let matrix = places.residual.as_ref().map_or(places.write.matrix, |residual| residual.matrix);
            self.with_rows(self.residual, matrix, row, rows, |residual| {
                kernels::binary(
                    isa,
                    Binary::Add,
                    Map::in_place(RowsMut::new(data, rows, cols)),
                    Operand::Rows(residual),
                    after,
                );
            });
        }
    }

    fn binary(&self, binary: &step::Pairs, row: usize, wide: RowsMut, act: Act) {
        let (isa, op) = (self.unit.isa(), binary.op);
        let RowsMut { data, rows, cols, .. } = wide;
        match binary.pairing {
            Pairing::Rows(matrix) => self.with_rows(self.other, matrix, row, rows, |other| {
                kernels::binary(isa, op, Map::in_place(RowsMut::new(data, rows, cols)), Operand::Rows(other), act);
            }),
            Pairing::Gate { rows_each } => {
                // the rows of one image at a time
                let gates = self.other.f32();
                let mut from = 0;
                while from < rows {
                    let image = (row + from) / rows_each;
                    let to = ((image + 1) * rows_each - row).min(rows);
                    let some = RowsMut::new(&mut data[from * cols..to * cols], to - from, cols);
                    let gate = Operand::Row(&gates[image * cols..][..cols]);
                    kernels::binary(isa, op, Map::in_place(some), gate, act);
                    from = to;
                }
            }
            Pairing::Scalar | Pairing::Row | Pairing::Column => {
                let other = self.other.f32();
                let operand = match binary.pairing {
                    Pairing::Scalar => Operand::Scalar(other[0]),
                    Pairing::Row => Operand::Row(other),
                    _ => Operand::Column(&other[row..]),
                };
                kernels::binary(isa, op, Map::in_place(RowsMut::new(data, rows, cols)), operand, act);
            }
            Pairing::Broadcast => unreachable!("it is not over rows"),
        }
    }

    /// Some rows of another operand, widened.
    fn with_rows(&self, from: Data, matrix: plan::view::Matrix, row: usize, rows: usize, run: impl FnOnce(Rows)) {
        let plan::view::Matrix { cols, dist, .. } = matrix;
        match from {
            Data::F32(data) => run(Rows { data: &data[row * dist..], rows, cols, dist }),
            Data::Bf16(data) => {
                reduced::widened(self.unit, Rows { data: &data[row * dist..], rows, cols, dist }, run);
            }
        }
    }
}
