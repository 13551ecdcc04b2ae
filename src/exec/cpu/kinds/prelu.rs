//! Slopes below zero.

use archc_base::{Act, Binary};

use super::super::kernels::{self, Operand, grad};
use super::super::step::Opened;

super::rows! {
    PRelu, "prelu", |_, chunk, io| {
        let slope = chunk.weights[0];
        let slope = if slope.len() == 1 { Operand::Scalar(slope[0]) } else { Operand::Row(slope) };
        kernels::binary(chunk.isa, Binary::Prelu, io.map(), slope, Act::None);
    };
}

super::float! {
    PReluData, "prelu_data", |_, isa, io, Opened { y, reads: [dy, x, slope, ..], .. }| {
        grad::prelu_data(isa, io.map(y, dy), io.reads[1].rows(x), slope);
    };
    PReluSums, "prelu_sums", |_, isa, io, Opened { y, reads: [dy, x, ..], .. }| {
        grad::prelu_sums(isa, io.reads[0].rows(dy), io.reads[1].rows(x), &mut y[..io.write.dims[0]]);
    };
}
