//! Softmax and its logarithm.

use super::super::kernels::{self, grad};
use super::super::step::Opened;

super::rows! {
    Softmax, "softmax", |own, chunk, io| {
        let softmax = if own.log { kernels::log_softmax } else { kernels::softmax };
        softmax(chunk.isa, io.map());
    };
}

super::float! {
    SoftmaxData, "softmax_data", |own, isa, io, Opened { y, reads: [dy, seen, ..], .. }| {
        grad::softmax_data(isa, io.map(y, dy), io.reads[1].rows(seen), own.log);
    };
}
