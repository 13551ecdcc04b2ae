//! Layer norm, group norm and division by the norm, with their gradients.

use archc_base::Act;

use super::super::kernels::{self, grad};
use super::super::step::Opened;

super::rows! {
    LayerNorm, "layer norm", |own, chunk, io| {
        let [weight, bias] = chunk.weights;
        kernels::layer_norm(chunk.isa, io.map(), own.centre, Some(weight), Some(bias), own.eps, Act::None);
    };
    Normalize, "l2 norm", |own, chunk, io| kernels::l2_normalize(chunk.isa, io.map(), own.eps);
}

super::float! {
    LayerNormData, "layer_norm_data", |own, isa, io, Opened { y, reads: [dy, x, weight, ..], .. }| {
        grad::layer_norm_data(isa, io.map(y, dy), io.reads[1].rows(x), weight, own.centre, own.eps);
    };
    LayerNormSums, "layer_norm_sums", |own, isa, io, Opened { y, reads: [dy, x, ..], .. }| {
        grad::layer_norm_sums(isa, io.reads[0].rows(dy), io.reads[1].rows(x), own.centre, own.eps, y);
    };
    NormalizeData, "normalize_data", |own, isa, io, Opened { y, reads: [dy, x, ..], .. }| {
        grad::normalize_data(isa, io.map(y, dy), io.reads[1].rows(x), own.eps);
    };
    GroupNorm, "group norm", |own, isa, io, Opened { y, reads: [x, weight, bias, ..], .. }| {
        let (x, y) = (io.reads[0].image(x), io.write.image_mut(y));
        kernels::group_norm(isa, own.groups, x, Some(weight), Some(bias), own.eps, Act::None, y);
    };
    GroupNormData, "group_norm_data", |own, _isa, io, Opened { y, reads: [dy, x, weight, ..], .. }| {
        let (dy, x) = (io.reads[0].image(dy), io.reads[1].image(x));
        grad::group_norm_data(own.groups, own.eps, dy, x, weight, io.write.image_mut(y));
    };
    GroupNormSums, "group_norm_sums", |own, _isa, io, Opened { y, reads: [dy, x, ..], .. }| {
        grad::group_norm_sums(own.groups, own.eps, io.reads[0].image(dy), io.reads[1].image(x), y);
    };
}
