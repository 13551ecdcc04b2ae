//! Losses.

use super::super::kernels::grad;
use super::super::step::{Opened, Place};

/// Values of a row.
fn classes(place: &Place) -> usize {
    place.dims[place.dims.len() - 1]
}

super::float! {
    Loss, "loss", |own, _isa, io, Opened { y, reads: [z, target, ..], .. }| {
        y[0] = grad::loss(&own.0, classes(&io.reads[0]), z, target);
    };
    LossData, "loss_data", |own, _isa, io, Opened { y, reads: [z, target, ..], .. }| {
        grad::loss_data(&own.0, classes(&io.reads[0]), z, target, y);
    };
}
