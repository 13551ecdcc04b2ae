//! The recurrence of LSTMs, and its gradient.

use super::super::bind::{Binder, OnCpu, Packed};
use super::super::kernels::grad::{self, PackedLstmData};
use super::super::kernels::{self, Direction, Isa, PackedLstm, Rows, Sequences};
use super::super::step::{Float, Io, Kernel, Opened, Work};
use crate::diag::Problem;
use crate::net::{LstmScan, LstmScanData};

/// Weights [4 hidden, hidden] as rows.
fn square(weight: &[f32], hidden: usize) -> Rows<'_> {
    Rows::new(weight, 4 * hidden, hidden)
}

fn sequences(io: &Io) -> Sequences {
    let crate::plan::geometry::Steps { outer, steps, inner } = io.geometry.steps();
    Sequences { outer, steps, inner }
}

/// The weights of each direction.
struct Scan {
    own: LstmScan,
    packed: Vec<Packed<PackedLstm>>,
}

impl OnCpu for LstmScan {
    fn bind(&self, to: &Binder) -> Result<Work, Problem> {
        let pack = |at: usize| {
            let hidden = to.dims(at)[1];
            to.pack(at, |weight| PackedLstm::pack(to.isa(), square(weight, hidden)))
        };
        let packed = (0..to.step.reads.len()).filter(|at| at % 2 == 1).map(pack).collect::<Result<_, _>>()?;
        Ok(Work::Float(Box::new(Scan { own: self.clone(), packed })))
    }
}

impl Kernel for Scan {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        "lstm scan".into()
    }
}

impl Float for Scan {
    fn run(&self, isa: Isa, io: &Io, opened: Opened) {
        let Opened { y, reads, .. } = opened;
        let of_run = |(pair, packed): (usize, &Packed<PackedLstm>)| {
            let (at, hidden) = (2 * pair + 1, io.reads[2 * pair + 1].dims[1]);
            packed.once().is_none().then(|| PackedLstm::pack(isa, square(reads[at], hidden)))
        };
        let fresh: Vec<Option<PackedLstm>> = self.packed.iter().enumerate().map(of_run).collect();
        let directions: Vec<Direction> = self
            .packed
            .iter()
            .zip(&fresh)
            .enumerate()
            .map(|(pair, (packed, fresh))| Direction {
                gates: io.reads[2 * pair].rows(reads[2 * pair]),
                weight: packed.once().or(fresh.as_ref()).expect("what is not known was packed now"),
                reverse: self.own.runs_back(pair),
            })
            .collect();
        kernels::lstm_scan(isa, sequences(io), &directions, io.write.rows_mut(y));
    }
}

struct Data {
    own: LstmScanData,
    packed: Packed<PackedLstmData>,
}

impl OnCpu for LstmScanData {
    fn bind(&self, to: &Binder) -> Result<Work, Problem> {
        let hidden = to.dims(2)[1];
        let packed = to.pack(2, |weight| PackedLstmData::pack(to.isa(), square(weight, hidden)))?;
        Ok(Work::Float(Box::new(Data { own: self.clone(), packed })))
    }
}

impl Kernel for Data {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        "lstm_scan_data".into()
    }
}

impl Float for Data {
    fn run(&self, isa: Isa, io: &Io, opened: Opened) {
        let Opened { y, reads: [dy, sums, weight, ..], .. } = opened;
        let pack = || PackedLstmData::pack(isa, square(weight, io.reads[2].dims[1]));
        let (dy, sums) = (io.reads[0].rows(dy), io.reads[1].rows(sums));
        self.packed.with(pack, |packed| {
            grad::lstm_scan_data(isa, sequences(io), self.own.reverse, packed, dy, sums, io.write.rows_mut(y));
        });
    }
}
