//! Slopes below zero.

use archc_base::{Act, Binary};

use super::super::bind::{Binder, OnCpu};
use super::super::kernels::{self, Isa, Operand, grad};
use super::super::step::{Chunk, Io, Kernel, Opened, OverRows, RowsIo, Work};
use crate::diag::Problem;
use crate::net::PRelu;

impl OnCpu for PRelu {
    fn bind(&self, _to: &Binder) -> Result<Work, Problem> {
        Ok(Work::Rows(Box::new(self.clone())))
    }
}

impl Kernel for PRelu {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        "prelu".into()
    }
}

impl OverRows for PRelu {
    fn rows(&self, chunk: &Chunk, mut io: RowsIo) {
        let slope = chunk.weights[0];
        let slope = if slope.len() == 1 { Operand::Scalar(slope[0]) } else { Operand::Row(slope) };
        kernels::binary(chunk.isa, Binary::Prelu, io.map(), slope, Act::None);
    }
}

super::float! {
    PReluData, "prelu_data", |_, isa, io, Opened { y, reads: [dy, x, slope, ..], .. }| {
        grad::prelu_data(isa, io.map(y, dy), io.reads[1].rows(x), slope);
    };
    PReluSums, "prelu_sums", |_, isa, io, Opened { y, reads: [dy, x, ..], .. }| {
        grad::prelu_sums(isa, io.reads[0].rows(dy), io.reads[1].rows(x), &mut y[..io.write.dims[0]]);
    };
}
