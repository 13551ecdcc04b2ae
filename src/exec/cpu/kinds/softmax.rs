//! Softmax and its logarithm.

use super::super::bind::{Binder, OnCpu};
use super::super::kernels::{self, Isa, grad};
use super::super::step::{Chunk, Io, Kernel, Opened, OverRows, RowsIo, Work};
use crate::diag::Problem;
use crate::net::Softmax;

impl OnCpu for Softmax {
    fn bind(&self, _to: &Binder) -> Result<Work, Problem> {
        Ok(Work::Rows(Box::new(self.clone())))
    }
}

impl Kernel for Softmax {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        if self.log { "log softmax" } else { "softmax" }.into()
    }
}

impl OverRows for Softmax {
    fn rows(&self, chunk: &Chunk, mut io: RowsIo) {
        let softmax = if self.log { kernels::log_softmax } else { kernels::softmax };
        softmax(chunk.isa, io.map());
    }
}

super::float! {
    SoftmaxData, "softmax_data", |own, isa, io, Opened { y, reads: [dy, seen, ..], .. }| {
        grad::softmax_data(isa, io.map(y, dy), io.reads[1].rows(seen), own.log);
    };
}
