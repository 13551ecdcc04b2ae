//! Images resampled.

use super::super::kernels::{self, grad};
use super::super::step::Opened;

super::float! {
    Resize, "resize", |own, isa, io, Opened { y, reads: [x, ..], .. }| {
        kernels::resize(isa, own.mode, own.scale, io.reads[0].image(x), io.write.image_mut(y));
    };
    ResizeData, "upsample_data", |own, isa, io, Opened { y, reads: [dy, ..], .. }| {
        grad::resize_data(isa, own.mode, own.scale, io.reads[0].image(dy), io.write.image_mut(y));
    };
}
