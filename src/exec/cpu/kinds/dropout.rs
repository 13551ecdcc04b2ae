//! Values zeroed at random.

use super::super::kernels::grad::{self, Draw};
use super::super::step::Opened;
use crate::net::Grain;
use crate::philox::{Philox, unit};

/// The uniform numbers of a draw in a run whose clock reads so.
fn draws(clock: &[f32], stream: u64) -> impl Fn(u64) -> [f32; 4] + Sync + use<> {
    let word = |at: usize| clock[at..at + 4].iter().rev().fold(0u64, |word, part| word << 16 | *part as u64);
    let philox = Philox::at_step(word(0), stream, word(4));
    move |index| philox.block(index).map(unit)
}

super::float! {
    Dropout, "dropout", |own, _isa, io, Opened { y, reads: [x, clock, ..], .. }| {
        let draws = draws(clock, own.stream);
        let (rows, cols) = (io.write.matrix.rows / io.write.dims[0], io.write.matrix.cols);
        let each = match own.grain {
            Grain::Sample => 1,
            Grain::Channel => cols,
            Grain::Value => rows * cols,
        };
        let draw = Draw { block: &draws, p: own.p as f32, rows_each: rows, each, alike: own.alike };
        grad::dropout(io.map(y, x), &draw);
    };
}
