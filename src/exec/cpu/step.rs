//! One step of a plan bound to its kernel: where it reads and writes, and how it runs in float32 or on values in bf16.
//!
//! A kernel works on float32 ([`Float`]), on rows of it ([`OverRows`]), or on values as they are kept ([`Kept`]). Where
//! values are bf16, a kernel over rows works on some rows at a time, widened and rounded around them, and one on float32
//! works on widened copies in a part of the arena that all such steps share. Each result is rounded once.

use archc_base::{Act, DType};
use half::bf16;

use super::kernels::bf16::{self as reduced, RowsIn, Unit};
use super::kernels::{
    self, Element, Epilogue, Image, ImageMut, Input, Isa, Map, Operand, Planes, Rows, RowsMut, Strided, Takes,
};
use super::memory::{Data, DataMut, Memory, Slot};
use crate::plan::view::{IMAGE, Matrix};
use crate::plan::{Geometry, Plan, Step, View};

/// A step that is ready to run.
pub(super) struct Bound {
    unit: Unit,
    work: Work,
    pub io: Io,
    /// Whether it packs weights for one run.
    learns: bool,
}

/// A kernel with the weights that were packed for it.
pub(super) enum Work {
    Float(Box<dyn Float>),
    Rows(Box<dyn OverRows>),
    Kept(Box<dyn Kept>),
    /// A kernel on float32 copies: those to be widened before, and where the result is to be rounded to after.
    Staged {
        inner: Box<dyn Float>,
        widen: Vec<(Slot, Slot)>,
        round: Option<Place>,
    },
}

/// What every kernel says.
pub(super) trait Kernel: Send + Sync {
    /// As `bench --profile` prints it.
    fn name(&self, isa: Isa, io: &Io) -> String;

    /// The weights, if to read them is most of the work.
    fn streamed(&self, _io: &Io) -> Option<&[f32]> {
        None
    }

    /// Floats of other weights that it can fetch meanwhile.
    fn room(&self, _io: &Io) -> usize {
        0
    }
}

/// A kernel on float32.
pub(super) trait Float: Kernel {
    fn run(&self, isa: Isa, io: &Io, opened: Opened);
}

/// A float32 kernel each row of whose result depends on one row of the first operand.
pub(super) trait OverRows: Kernel {
    fn rows(&self, chunk: &Chunk, io: RowsIo);
}

/// A kernel on values as they are kept.
pub(super) trait Kept: Kernel {
    fn run(&self, unit: Unit, io: &Io, memory: &mut Memory);
}

/// Where a step reads and writes.
pub(super) struct Io {
    pub reads: Vec<Place>,
    pub bias: Option<Place>,
    pub gate: Option<Place>,
    pub residual: Option<Place>,
    pub write: Place,
    pub means: Option<Place>,
    /// The result is written over the first operand.
    pub in_place: bool,
    /// Before and after the residual is added.
    pub before: Act,
    pub after: Act,
    pub geometry: Geometry,
}

/// A view with what kernels want to know of it.
#[derive(Clone)]
pub(super) struct Place {
    pub slot: Slot,
    pub dims: Vec<usize>,
    pub strides: Vec<usize>,
    /// As rows, in the order of axes that the step works in.
    pub matrix: Matrix,
}

/// Operands of a step at most.
const MOST: usize = 6;

/// The numbers that a step reads and writes. Where it writes over the first operand, that is empty.
pub(super) struct Opened<'m> {
    pub y: &'m mut [f32],
    pub means: &'m mut [f32],
    pub reads: [&'m [f32]; MOST],
    pub bias: Option<&'m [f32]>,
    pub gate: Option<&'m [f32]>,
    pub residual: Option<&'m [f32]>,
}

impl Io {
    /// The operand that the result is made from row by row.
    pub(super) fn first(&self) -> usize {
        match &self.geometry {
            Geometry::Pairs(pairs) => pairs.first,
            _ => 0,
        }
    }

    /// The activation before a residual, or the only one.
    pub(super) fn act(&self) -> Act {
        if self.residual.is_some() { self.before } else { self.after }
    }

    fn open<'m>(&self, memory: &'m mut Memory) -> Opened<'m> {
        let nothing = Slot::NOTHING;
        let mut slots: [&Slot; MOST + 3] = [&nothing; MOST + 3];
        for (slot, place) in slots.iter_mut().zip(&self.reads) {
            *slot = &place.slot;
        }
        if self.in_place {
            slots[self.first()] = &nothing;
        }
        let beside = [&self.bias, &self.gate, &self.residual];
        for (slot, place) in slots[MOST..].iter_mut().zip(beside) {
            *slot = place.as_ref().map_or(&nothing, |place| &place.slot);
        }
        let means = self.means.as_ref().map_or(&nothing, |place| &place.slot);
        let ([y, means], [a, b, c, d, e, f, bias, gate, residual]) = memory.open_all([&self.write.slot, means], slots);
        Opened {
            y,
            means,
            reads: [a, b, c, d, e, f],
            bias: self.bias.as_ref().map(|_| bias),
            gate: self.gate.as_ref().map(|_| gate),
            residual: self.residual.as_ref().map(|_| residual),
        }
    }

    /// The result, operand and weights of sums over values in bf16, and what follows them.
    pub(super) fn open_sums<'m>(&self, memory: &'m mut Memory) -> (DataMut<'m>, [Data<'m>; 2], Epilogue<'m, bf16>) {
        let nothing = Slot::NOTHING;
        let beside = |place: &Option<Place>| place.as_ref().map_or(nothing.clone(), |place| place.slot.clone());
        let (bias, residual) = (beside(&self.bias), beside(&self.residual));
        let (y, [x, weights, bias, residual]) =
            memory.open_any(&self.write.slot, [&self.reads[0].slot, &self.reads[1].slot, &bias, &residual]);
        let bias = self.bias.as_ref().map(|_| bias.f32());
        let residual = self.residual.as_ref().map(|place| place.rows(residual.bf16()));
        (y, [x, weights], Epilogue { bias, before: self.before, gate: None, residual, after: self.after })
    }

    /// What follows the sums of a step.
    pub(super) fn epilogue<'a>(&self, opened: &Opened<'a>) -> Epilogue<'a> {
        let residual = self.residual.as_ref().zip(opened.residual).map(|(place, data)| place.rows(data));
        Epilogue { bias: opened.bias, before: self.before, gate: opened.gate, residual, after: self.after }
    }

    /// The rows of the first operand and of the result.
    pub(super) fn map<'a>(&self, y: &'a mut [f32], x: &'a [f32]) -> Map<'a> {
        match self.in_place {
            true => Map::in_place(self.write.rows_mut(y)),
            false => Map::new(self.reads[self.first()].rows(x), self.write.rows_mut(y)),
        }
    }
}

impl Place {
    pub(super) fn new(plan: &Plan, view: &View, order: &[usize]) -> Place {
        let as_rows = || view.matrix(&(0..view.dims.len()).collect::<Vec<_>>());
        Place {
            slot: Slot::new(plan, view),
            // what has other axes than the step is read row by row, or not as rows
            matrix: view.matrix(order).or_else(as_rows).unwrap_or(Matrix { rows: 1, cols: 1, stride: 1 }),
            dims: view.dims.clone(),
            strides: view.strides.clone(),
        }
    }

    pub(super) fn rows<'a, T>(&self, data: &'a [T]) -> Rows<'a, T> {
        Rows { data, rows: self.matrix.rows, cols: self.matrix.cols, stride: self.matrix.stride }
    }

    pub(super) fn rows_mut<'a, T>(&self, data: &'a mut [T]) -> RowsMut<'a, T> {
        RowsMut { data, rows: self.matrix.rows, cols: self.matrix.cols, stride: self.matrix.stride }
    }

    fn four(sizes: &[usize]) -> [usize; 4] {
        sizes.try_into().expect("images have four axes")
    }

    pub(super) fn image<'a, T>(&self, data: &'a [T]) -> Image<'a, T> {
        let [n, c, h, w] = Place::four(&self.dims);
        Image { data, n, h, w, c, stride: self.matrix.stride }
    }

    pub(super) fn image_mut<'a, T>(&self, data: &'a mut [T]) -> ImageMut<'a, T> {
        let [n, c, h, w] = Place::four(&self.dims);
        ImageMut { data, n, h, w, c, stride: self.matrix.stride }
    }

    /// As images in any order of axes.
    pub(super) fn planes<'a>(&self, data: &'a [f32]) -> Input<'a> {
        Input::Planes(Planes { data, dims: Place::four(&self.dims), strides: Place::four(&self.strides) })
    }

    pub(super) fn strided<'a, T>(&'a self, data: &'a [T]) -> Strided<'a, T> {
        Strided { data, strides: &self.strides }
    }
}

/// The places of a step, `packed` being the operands that its kernel has packed.
pub(super) fn places(plan: &Plan, step: &Step, acts: [Act; 2], packed: &[usize]) -> Io {
    let place = |view: &View| Place::new(plan, view, if step.order.is_empty() { &IMAGE } else { &step.order });
    let read = |(at, view): (usize, &View)| {
        let place = place(view);
        if packed.contains(&at) { Place { slot: Slot::NOTHING, ..place } } else { place }
    };
    let [bias, gate, residual, means] =
        [&step.bias, &step.gate, &step.residual, &step.means].map(|view| view.as_ref().map(place));
    Io {
        reads: step.reads.iter().enumerate().map(read).collect(),
        bias,
        gate,
        residual,
        write: place(&step.write),
        means,
        in_place: step.in_place,
        before: acts[0],
        after: acts[1],
        geometry: step.geometry.clone(),
    }
}

impl Bound {
    /// The copies of a step that is staged lie behind the values of the plan.
    pub(super) fn new(unit: Unit, plan: &Plan, work: Work, mut io: Io) -> Bound {
        let is_reduced =
            io.reads.iter().chain(&io.residual).chain([&io.write]).any(|place| place.slot.dtype != DType::F32);
        let work = match work {
            Work::Float(inner) if is_reduced => staged(plan.arena(), inner, &mut io),
            work => work,
        };
        Bound { unit, work, io, learns: !plan.states().is_empty() }
    }

    fn inner(&self) -> &dyn Kernel {
        match &self.work {
            Work::Float(kernel) | Work::Staged { inner: kernel, .. } => kernel.as_ref(),
            Work::Rows(kernel) => kernel.as_ref(),
            Work::Kept(kernel) => kernel.as_ref(),
        }
    }

    /// What does the work, as `bench --profile` prints it.
    pub(super) fn kernel(&self) -> String {
        let name = self.inner().name(self.unit.isa(), &self.io);
        let is_reduced = |place: &Place| place.slot.dtype != DType::F32;
        match &self.work {
            Work::Rows(_) if self.io.reads.iter().chain([&self.io.write]).any(is_reduced) => format!("{name} bf16"),
            Work::Staged { .. } => format!("{name} widened"),
            _ => name,
        }
    }

    /// The weights, if to read them is most of the work.
    pub(super) fn streamed(&self) -> Option<&[f32]> {
        self.inner().streamed(&self.io)
    }

    /// Floats of other weights that it can fetch meanwhile.
    pub(super) fn room(&self) -> usize {
        self.inner().room(&self.io)
    }

    /// Floats of memory that it needs.
    pub(super) fn reach(&self) -> usize {
        let Work::Staged { widen, .. } = &self.work else { return 0 };
        widen.iter().map(|(_, copy)| copy).chain([&self.io.write.slot]).map(Slot::end).max().unwrap_or(0)
    }

    /// The constants that it reads as they are.
    pub(super) fn constants(&self) -> impl Iterator<Item = usize> {
        let io = &self.io;
        let beside = io.bias.iter().chain(&io.gate).chain(&io.residual);
        io.reads.iter().chain(beside).filter_map(|place| place.slot.constant())
    }

    /// Where a step in float32 writes.
    pub(super) fn written(&self) -> Option<&Slot> {
        let slot = &self.io.write.slot;
        (slot.dtype == DType::F32).then_some(slot)
    }

    pub(super) fn run(&self, memory: &mut Memory) {
        let (unit, io) = (self.unit, &self.io);
        match &self.work {
            Work::Float(kernel) if self.learns => kernels::kept(|| kernel.run(unit.isa(), io, io.open(memory))),
            Work::Float(kernel) => kernel.run(unit.isa(), io, io.open(memory)),
            Work::Rows(kernel) => over_rows(unit, io, kernel.as_ref(), memory),
            Work::Kept(kernel) => kernel.run(unit, io, memory),
            Work::Staged { inner, widen, round } => {
                for (slot, copy) in widen {
                    let (to, [from]) = memory.open_any(copy, [slot]);
                    let (DataMut::F32(to), Data::Bf16(from)) = (to, from) else { unreachable!("they were made so") };
                    reduced::copy(unit, &[to.len()], Strided { data: from, strides: &[1] }, to, &[1]);
                }
                inner.run(unit.isa(), io, io.open(memory));
                if let Some(place) = round {
                    let (to, [from]) = memory.open_any(&place.slot, [&io.write.slot]);
                    let DataMut::Bf16(to) = to else { unreachable!("it is to be rounded") };
                    reduced::copy(unit, &place.dims, place.strided(from.f32()), to, &place.strides);
                }
            }
        }
    }
}

fn staged(arena: usize, inner: Box<dyn Float>, io: &mut Io) -> Work {
    let (mut at, mut widen) = (arena, vec![]);
    let mut stage = |slot: &Slot| {
        let copy = slot.widened(at);
        at = copy.end().next_multiple_of(16);
        copy
    };
    for place in io.reads.iter_mut().chain(&mut io.residual).filter(|place| place.slot.dtype == DType::Bf16) {
        let copy = stage(&place.slot);
        widen.push((std::mem::replace(&mut place.slot, copy.clone()), copy));
    }
    let round = (io.write.slot.dtype == DType::Bf16).then(|| io.write.clone());
    if io.in_place {
        io.write.slot = io.reads[io.first()].slot.clone();
    } else if round.is_some() {
        io.write.slot = stage(&io.write.slot);
    }
    Work::Staged { inner, widen, round }
}

/// Some rows of a step, the first of them `row`, with what belongs to them.
pub(super) struct Chunk<'a> {
    pub isa: Isa,
    pub io: &'a Io,
    pub row: usize,
    unit: Unit,
    /// The operand that is paired with the first.
    other: Data<'a>,
    residual: Data<'a>,
    /// Operands 1 and 2, of no rows.
    pub weights: [&'a [f32]; 2],
}

/// Rows of the first operand, none where they are those of the result, and of the result.
pub(super) struct RowsIo<'a> {
    pub x: Option<Rows<'a>>,
    pub y: RowsMut<'a>,
}

impl RowsIo<'_> {
    pub(super) fn count(&self) -> usize {
        self.y.rows
    }

    /// From the operand to the result, which from then on is its own operand.
    pub(super) fn map(&mut self) -> Map<'_> {
        let RowsMut { rows, cols, stride, .. } = self.y;
        let y = RowsMut { data: &mut *self.y.data, rows, cols, stride };
        match self.x.take() {
            Some(x) => Map::new(x, y),
            None => Map::in_place(y),
        }
    }

    /// The rows from `from` to `to`, in place.
    pub(super) fn part(&mut self, from: usize, to: usize) -> Map<'_> {
        let RowsMut { cols, stride, .. } = self.y;
        let end = if to == self.y.rows { self.y.data.len() } else { to * stride };
        Map::in_place(RowsMut { data: &mut self.y.data[from * stride..end], rows: to - from, cols, stride })
    }
}

impl Chunk<'_> {
    /// Adds the residual to what was written, where there is one.
    pub(super) fn add_residual(&self, io: &mut RowsIo) {
        let Some(residual) = &self.io.residual else { return };
        let (rows, after) = (io.count(), self.io.after);
        self.with_rows(self.residual, residual.matrix, rows, |residual| {
            kernels::binary(self.isa, archc_base::Binary::Add, io.map(), Operand::Rows(residual), after);
        });
    }

    /// So many rows of the paired operand, of which `matrix` are all.
    pub(super) fn with_other(&self, matrix: Matrix, rows: usize, run: impl FnOnce(Rows)) {
        self.with_rows(self.other, matrix, rows, run);
    }

    /// The paired operand, which is float32.
    pub(super) fn other(&self) -> &[f32] {
        self.other.f32()
    }

    fn with_rows(&self, from: Data, matrix: Matrix, rows: usize, run: impl FnOnce(Rows)) {
        let Matrix { cols, stride, .. } = matrix;
        match from {
            Data::F32(data) => run(Rows { data: &data[self.row * stride..], rows, cols, stride }),
            Data::Bf16(data) => {
                reduced::widened(self.unit, Rows { data: &data[self.row * stride..], rows, cols, stride }, run);
            }
        }
    }
}

/// A kernel over rows on all of them at once.
pub(super) struct Whole<K>(pub K);

impl<K: Kernel> Kernel for Whole<K> {
    fn name(&self, isa: Isa, io: &Io) -> String {
        self.0.name(isa, io)
    }
}

impl<K: OverRows> Float for Whole<K> {
    fn run(&self, isa: Isa, io: &Io, opened: Opened) {
        let (first, reads) = (io.first(), opened.reads);
        let chunk = Chunk {
            isa,
            io,
            row: 0,
            unit: Unit::of(isa),
            other: Data::F32(reads[1 - first]),
            residual: Data::F32(opened.residual.unwrap_or_default()),
            weights: [reads[1], reads[2]],
        };
        let x = (!io.in_place).then(|| io.reads[first].rows(reads[first]));
        self.0.rows(&chunk, RowsIo { x, y: io.write.rows_mut(opened.y) });
    }
}

/// Calls a kernel that writes either type.
macro_rules! either {
    ($data:expr, |$to:ident| $call:expr) => {
        match $data {
            $crate::exec::cpu::memory::DataMut::F32($to) => $call,
            $crate::exec::cpu::memory::DataMut::Bf16($to) => $call,
        }
    };
}
pub(super) use either;

fn over_rows(unit: Unit, io: &Io, kernel: &dyn OverRows, memory: &mut Memory) {
    let nothing = Slot::NOTHING;
    let at = |at: usize| io.reads.get(at).map_or(&nothing, |place| &place.slot);
    let first = io.first();
    let x = if io.in_place { &nothing } else { at(first) };
    // a paired operand may be bf16, weights are float32
    let (other, weights) = match &io.geometry {
        Geometry::Pairs(_) => (at(1 - first), [&nothing, &nothing]),
        _ => (&nothing, [at(1), at(2)]),
    };
    let residual = io.residual.as_ref().map_or(&nothing, |place| &place.slot);
    let (to, [x, other, residual, weight, bias]) =
        memory.open_any(&io.write.slot, [x, other, residual, weights[0], weights[1]]);
    let weights = [weight.f32(), bias.f32()];
    let chunk = |row| Chunk { isa: unit.isa(), io, row, unit, other, residual, weights };
    let wide = |row: usize, wide: RowsMut| kernel.rows(&chunk(row), RowsIo { x: None, y: wide });
    let from = &io.reads[first];
    match (to, x) {
        (DataMut::F32(to), Data::F32(x)) => {
            let x = (!io.in_place).then(|| from.rows(x));
            kernel.rows(&chunk(0), RowsIo { x, y: io.write.rows_mut(to) });
        }
        (DataMut::Bf16(to), _) if io.in_place => by_rows::<bf16, bf16>(unit, RowsIn::Same, io.write.rows_mut(to), wide),
        (to, Data::F32(x)) => either!(to, |to| by_rows(unit, RowsIn::Other(from.rows(x)), io.write.rows_mut(to), wide)),
        (to, Data::Bf16(x)) => {
            either!(to, |to| by_rows(unit, RowsIn::Other(from.rows(x)), io.write.rows_mut(to), wide))
        }
    }
}

fn by_rows<A, B: Element + Takes<A>>(unit: Unit, x: RowsIn<A>, y: RowsMut<B>, run: impl Fn(usize, RowsMut) + Sync) {
    reduced::by_rows::<A, B>(unit, x, y, run);
}
