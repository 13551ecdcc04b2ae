//! One factor and one number a channel, and sums of each channel.

use super::super::kernels::{self, grad};
use super::super::step::Opened;

super::rows! {
    Channels, "scale and shift", |_, chunk, io| {
        let [scale, shift] = chunk.weights;
        kernels::scale_shift(chunk.isa, io.map(), scale, shift, chunk.io.act());
        chunk.add_residual(&mut io);
    };
}

super::float! {
    Sums, "sums", |_, isa, io, Opened { y, reads: [dy, ..], .. }| grad::sums(isa, io.reads[0].rows(dy), y);
}
