//! One factor and one number a channel, and sums of each channel.

use super::super::bind::{Binder, OnCpu};
use super::super::kernels::{self, Isa, grad};
use super::super::step::{Chunk, Io, Kernel, Opened, OverRows, RowsIo, Work};
use crate::diag::Problem;
use crate::net::Channels;

impl OnCpu for Channels {
    fn bind(&self, _to: &Binder) -> Result<Work, Problem> {
        Ok(Work::Rows(Box::new(self.clone())))
    }
}

impl Kernel for Channels {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        "scale and shift".into()
    }
}

impl OverRows for Channels {
    fn rows(&self, chunk: &Chunk, mut io: RowsIo) {
        let [scale, shift] = chunk.weights;
        kernels::scale_shift(chunk.isa, io.map(), scale, shift, chunk.io.act());
        chunk.add_residual(&mut io);
    }
}

super::float! {
    Sums, "sums", |_, isa, io, Opened { y, reads: [dy, ..], .. }| grad::sums(isa, io.reads[0].rows(dy), y);
}
