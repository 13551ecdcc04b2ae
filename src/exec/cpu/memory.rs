//! The memory of a loaded plan: one arena for all values, borrowed in parts that cannot overlap.

use std::ops::Range;

use super::kernels::Pages;
use crate::diag::{Code, Problem};
use crate::plan::{Place, Plan, View, gigabytes};
use archc_base::DType;
use half::bf16;

/// A zeroed allocation that starts on a cache line.
pub(super) struct Arena(Pages);

impl Arena {
    /// # Errors
    /// If the memory cannot be had.
    pub(super) fn new(len: usize) -> Result<Arena, Problem> {
        Pages::zeros(len).map(Arena).ok_or_else(|| {
            let bytes = len.saturating_mul(size_of::<f32>());
            Problem::new(Code::Resource, format!("{} could not be allocated", gigabytes(bytes)))
        })
    }

    pub(super) fn floats(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

/// Where a view's numbers are, first to last.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    place: Place,
    /// In values, of the first slice of the batch.
    range: Range<usize>,
    /// How much farther each next slice lies.
    slice: usize,
    pub dtype: DType,
}

impl Slot {
    /// A slot without values.
    pub(super) const NOTHING: Slot =
        Slot { place: Place::Buffer(usize::MAX), range: 0..0, slice: 0, dtype: DType::F32 };

    pub(super) fn new(plan: &Plan, view: &View) -> Slot {
        let (start, span) = (plan.start(view), view.span());
        Slot { place: view.place, range: start..start + span.len(), slice: view.slice, dtype: plan.dtype(view) }
    }

    /// As many values in float32, `at` floats into the arena.
    pub(super) fn widened(&self, at: usize) -> Slot {
        Slot { place: Place::Buffer(usize::MAX), range: at..at + self.range.len(), slice: 0, dtype: DType::F32 }
    }

    /// The constant that it is of, if it is.
    pub(super) fn constant(&self) -> Option<usize> {
        match self.place {
            Place::Constant(number) => Some(number),
            _ => None,
        }
    }

    /// The float after the last, of a slot in float32.
    pub(super) fn end(&self) -> usize {
        self.range.end
    }

    /// In values, of a slice of the batch.
    fn at(&self, slice: usize) -> Range<usize> {
        let from = self.range.start + slice * self.slice;
        from..from + self.range.len()
    }

    /// In values of two bytes, of a slice of the batch.
    fn halves(&self, slice: usize) -> Range<usize> {
        let (size, range) = (self.dtype.size() / 2, self.at(slice));
        range.start * size..range.end * size
    }

    fn typed<'a>(&self, halves: &'a [bf16]) -> Data<'a> {
        match self.dtype {
            DType::F32 => Data::F32(bytemuck::cast_slice(halves)),
            _ => Data::Bf16(halves),
        }
    }
}

/// Values of either type.
#[derive(Clone, Copy)]
pub(super) enum Data<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

/// As [`Data`], to be written.
pub(super) enum DataMut<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [bf16]),
}

impl<'a> Data<'a> {
    pub(super) fn f32(self) -> &'a [f32] {
        let Data::F32(data) = self else { panic!("the binding asks for float32") };
        data
    }

    pub(super) fn bf16(self) -> &'a [bf16] {
        let Data::Bf16(data) = self else { panic!("the binding asks for bf16") };
        data
    }
}

/// What steps read and write.
pub(super) struct Memory<'a> {
    pub arena: &'a mut Arena,
    pub inputs: &'a [&'a [f32]],
    pub constants: &'a [Vec<f32>],
    /// Which slice of the batch steps work on.
    pub slice: usize,
}

impl Memory<'_> {
    /// Slots to be written and others to be read, none of which overlaps any that is written.
    pub(super) fn open_all<const W: usize, const R: usize>(
        &mut self,
        writes: [&Slot; W],
        reads: [&Slot; R],
    ) -> ([&mut [f32]; W], [&[f32]; R]) {
        let (inputs, constants, slice) = (self.inputs, self.constants, self.slice);
        let mut order: [usize; W] = std::array::from_fn(|at| at);
        order.sort_unstable_by_key(|at| (writes[*at].at(slice).start, writes[*at].range.len()));
        let mut owned: [&mut [f32]; W] = std::array::from_fn(|_| Default::default());
        // what lies between the slots that are written, and where it starts
        let mut between: [(usize, &[f32]); W] = [(0, &[]); W];
        let (mut rest, mut start) = (self.arena.floats(), 0);
        for (gap, at) in order.into_iter().enumerate() {
            let range = writes[at].at(slice);
            let (before, after) = rest.split_at_mut(range.start - start);
            between[gap] = (start, before);
            (owned[at], rest) = after.split_at_mut(range.len());
            start = range.end;
        }
        let last = (start, &*rest);
        let read = |slot: &Slot| {
            if slot.range.is_empty() {
                return &[][..];
            }
            let range = slot.at(slice);
            match slot.place {
                Place::Input(number) => &inputs[number][range],
                Place::Constant(number) => &constants[number][range],
                Place::Buffer(_) => {
                    let holds =
                        |(start, part): &&(usize, &[f32])| *start <= range.start && range.end <= start + part.len();
                    let (start, part) = between
                        .iter()
                        .chain([&last])
                        .find(holds)
                        .unwrap_or_else(|| panic!("the plan keeps reads and writes apart: {slot:?} {writes:?}"));
                    &part[range.start - start..][..range.len()]
                }
            }
        };
        (owned, reads.map(read))
    }

    /// As [`Memory::open`], for slots of either type.
    pub(super) fn open_any<const N: usize>(&mut self, write: &Slot, reads: [&Slot; N]) -> (DataMut<'_>, [Data<'_>; N]) {
        let (inputs, constants, slice) = (self.inputs, self.constants, self.slice);
        let range = write.halves(slice);
        let halves: &mut [bf16] = bytemuck::cast_slice_mut(self.arena.floats());
        let (before, rest) = halves.split_at_mut(range.start);
        let (own, after) = rest.split_at_mut(range.len());
        let (before, after) = (&*before, &*after);
        let read = |slot: &Slot| match slot.place {
            Place::Input(number) => Data::F32(&inputs[number][slot.at(slice)]),
            Place::Constant(number) => Data::F32(&constants[number][slot.at(slice)]),
            Place::Buffer(_) if slot.halves(slice).end <= range.start => slot.typed(&before[slot.halves(slice)]),
            Place::Buffer(_) => {
                let start = slot.halves(slice).start.checked_sub(range.end);
                let start =
                    start.unwrap_or_else(|| panic!("the plan keeps reads and writes apart: {slot:?} {write:?}"));
                slot.typed(&after[start..][..slot.halves(slice).len()])
            }
        };
        let reads = reads.map(read);
        let own = match write.dtype {
            DType::F32 => DataMut::F32(bytemuck::cast_slice_mut(own)),
            _ => DataMut::Bf16(own),
        };
        (own, reads)
    }

    /// A slot of either type to be read.
    pub(super) fn read_any(&mut self, slot: &Slot) -> Data<'_> {
        match slot.place {
            Place::Input(number) => Data::F32(&self.inputs[number][slot.at(self.slice)]),
            Place::Constant(number) => Data::F32(&self.constants[number][slot.at(self.slice)]),
            Place::Buffer(_) => {
                let range = slot.halves(self.slice);
                let halves: &[bf16] = bytemuck::cast_slice(self.arena.floats());
                slot.typed(&halves[range])
            }
        }
    }

    /// A slot to be read.
    pub(super) fn read(&mut self, slot: &Slot) -> &[f32] {
        match slot.place {
            Place::Input(number) => &self.inputs[number][slot.at(self.slice)],
            Place::Constant(number) => &self.constants[number][slot.at(self.slice)],
            Place::Buffer(_) => {
                let range = slot.at(self.slice);
                &self.arena.floats()[range]
            }
        }
    }
}
