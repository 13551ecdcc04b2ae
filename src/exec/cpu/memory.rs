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
        let (inputs, constants) = (self.inputs, self.constants);
        let (before, rest) = self.arena.floats().split_at_mut(write.range.start);
        let (own, after) = rest.split_at_mut(write.range.len());
        let (before, after) = (&*before, &*after);
        let read = |slot: &Slot| {
            let range = slot.range.clone();
            match slot.place {
                Place::Input(number) => &inputs[number][range],
                Place::Constant(number) => &constants[number][range],
                Place::Buffer(_) if range.end <= write.range.start => &before[range],
                Place::Buffer(_) => {
                    let start = range
                        .start
                        .checked_sub(write.range.end)
                        .unwrap_or_else(|| panic!("the plan keeps reads and writes apart: {slot:?} {write:?}"));
                    &after[start..][..range.len()]
                }
            }
        };
        (own, reads.map(read))
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
