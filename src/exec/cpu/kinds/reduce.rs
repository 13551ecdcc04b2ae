//! Means, sums and maxima over axes, and their gradients.

use super::super::bind::strided;
use super::super::kernels::{self, grad};
use super::super::step::Opened;

super::float! {
    Reduce, "reduce", |own, isa, io, Opened { y, reads: [x, ..], .. }| {
        let over = io.geometry.over();
        kernels::reduce(isa, own.reduce, &over.shape, strided(&over.strides, x), &over.missing, y);
    };
    MeanData, "mean_data", |_, _isa, io, Opened { y, reads: [dy, ..], .. }| {
        let over = io.geometry.over();
        let scale = 1.0 / over.each() as f32;
        grad::mean_data(&over.shape, strided(&over.strides, dy), scale, y, &io.write.strides);
    };
    MaxData, "amax_data", |_, _isa, io, Opened { y, reads: [dy, x, max, ..], .. }| {
        let over = io.geometry.over();
        grad::max_data(&over.shape, &over.missing, dy, strided(&over.strides, x), max, y);
    };
}
