//! The memory of a loaded plan: one arena for all values, borrowed in parts that cannot overlap.

use std::ops::Range;

use super::kernels::Pages;
use crate::diag::{Code, Problem};
use crate::plan::{Place, Plan, View, gigabytes};

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

    fn floats(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

/// Where a view's numbers are, first to last.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    place: Place,
    range: Range<usize>,
}

impl Slot {
    pub(super) fn new(plan: &Plan, view: &View) -> Slot {
        let (start, span) = (plan.start(view), view.span());
        Slot { place: view.place, range: start..start + span.len() }
    }
}

/// What steps read and write.
pub(super) struct Memory<'a> {
    pub arena: &'a mut Arena,
    pub inputs: &'a [&'a [f32]],
    pub constants: &'a [Vec<f32>],
}

impl Memory<'_> {
    /// One slot to be written and others to be read, none of which overlaps it.
    pub(super) fn open<const N: usize>(&mut self, write: &Slot, reads: [&Slot; N]) -> (&mut [f32], [&[f32]; N]) {
        let ([own], reads) = self.open_all([write], reads);
        (own, reads)
    }

    /// Slots to be written and others to be read, none of which overlaps any that is written.
    pub(super) fn open_all<const W: usize, const R: usize>(
        &mut self,
        writes: [&Slot; W],
        reads: [&Slot; R],
    ) -> ([&mut [f32]; W], [&[f32]; R]) {
        let (inputs, constants) = (self.inputs, self.constants);
        let mut order: [usize; W] = std::array::from_fn(|at| at);
        order.sort_unstable_by_key(|at| writes[*at].range.start);
        let mut owned: [&mut [f32]; W] = std::array::from_fn(|_| Default::default());
        // what lies between the slots that are written, and where it starts
        let mut between: [(usize, &[f32]); W] = [(0, &[]); W];
        let (mut rest, mut start) = (self.arena.floats(), 0);
        for (gap, at) in order.into_iter().enumerate() {
            let range = &writes[at].range;
            let (before, after) = rest.split_at_mut(range.start - start);
            between[gap] = (start, before);
            (owned[at], rest) = after.split_at_mut(range.len());
            start = range.end;
        }
        let last = (start, &*rest);
        let read = |slot: &Slot| {
            let range = slot.range.clone();
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

    /// A slot to be read.
    pub(super) fn read(&mut self, slot: &Slot) -> &[f32] {
        match slot.place {
            Place::Input(number) => &self.inputs[number][slot.range.clone()],
            Place::Constant(number) => &self.constants[number][slot.range.clone()],
            Place::Buffer(_) => &self.arena.floats()[slot.range.clone()],
        }
    }
}
