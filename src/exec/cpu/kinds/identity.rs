//! Activations, additions and gates.

use archc_base::Act;

use super::super::bind::{Binder, OnCpu};
use super::super::kernels::{self, Gated, Isa, grad};
use super::super::step::{Chunk, Float, Io, Kernel, Opened, OverRows, RowsIo, Work};
use crate::diag::Problem;
use crate::net::Identity;

impl OnCpu for Identity {
    fn bind(&self, to: &Binder) -> Result<Work, Problem> {
        Ok(match to.step.gate {
            Some(_) => Work::Float(Box::new(Gate)),
            None => Work::Rows(Box::new(Each)),
        })
    }
}

/// Factors of channels, with all that may stand around them.
struct Gate;

impl Kernel for Gate {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        "gate".into()
    }
}

impl Float for Gate {
    fn run(&self, isa: Isa, io: &Io, opened: Opened) {
        let residual = io.residual.as_ref().zip(opened.residual).map(|(place, data)| place.rows(data));
        let gate = opened.gate.expect("binding has seen it");
        let rows_each = io.write.matrix.rows / io.write.dims[0];
        let gated = Gated { before: io.before, gate, rows_each, residual, after: io.after };
        kernels::gated(isa, io.map(opened.y, opened.reads[0]), gated);
    }
}

/// A function of each number, and what is added.
struct Each;

impl Kernel for Each {
    fn name(&self, _isa: Isa, io: &Io) -> String {
        if io.residual.is_some() { "binary rows" } else { "unary" }.into()
    }
}

impl OverRows for Each {
    fn rows(&self, chunk: &Chunk, mut io: RowsIo) {
        let act = chunk.io.act();
        // what is converted alone is in place already
        if chunk.io.residual.is_none() && (act != Act::None || io.x.is_some())
            || chunk.io.residual.is_some() && act != Act::None
        {
            kernels::unary(chunk.isa, act, io.map());
        }
        chunk.add_residual(&mut io);
    }
}

super::float! {
    ActData, "act_data", |own, isa, io, Opened { y, reads: [dy, seen, ..], .. }| {
        grad::act_data(isa, own.act, io.map(y, dy), io.reads[1].rows(seen));
    };
}
