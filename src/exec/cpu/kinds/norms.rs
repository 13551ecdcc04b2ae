//! Layer norm, group norm and division by the norm, with their gradients.

use archc_base::Act;

use super::super::bind::{Binder, OnCpu};
use super::super::kernels::{self, Isa, grad};
use super::super::step::{Chunk, Io, Kernel, Opened, OverRows, RowsIo, Work};
use crate::diag::Problem;
use crate::net::{LayerNorm, Normalize};

impl OnCpu for LayerNorm {
    fn bind(&self, _to: &Binder) -> Result<Work, Problem> {
        Ok(Work::Rows(Box::new(self.clone())))
    }
}

impl Kernel for LayerNorm {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        "layer norm".into()
    }
}

impl OverRows for LayerNorm {
    fn rows(&self, chunk: &Chunk, mut io: RowsIo) {
        let [weight, bias] = chunk.weights;
        kernels::layer_norm(chunk.isa, io.map(), Some(weight), Some(bias), self.eps, Act::None);
    }
}

impl OnCpu for Normalize {
    fn bind(&self, _to: &Binder) -> Result<Work, Problem> {
        Ok(Work::Rows(Box::new(self.clone())))
    }
}

impl Kernel for Normalize {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        "l2 norm".into()
    }
}

impl OverRows for Normalize {
    fn rows(&self, chunk: &Chunk, mut io: RowsIo) {
        kernels::l2_normalize(chunk.isa, io.map(), self.eps);
    }
}

super::float! {
    LayerNormData, "layer_norm_data", |own, isa, io, Opened { y, reads: [dy, x, weight, ..], .. }| {
        grad::layer_norm_data(isa, io.map(y, dy), io.reads[1].rows(x), weight, own.eps);
    };
    LayerNormSums, "layer_norm_sums", |own, isa, io, Opened { y, reads: [dy, x, ..], .. }| {
        grad::layer_norm_sums(isa, io.reads[0].rows(dy), io.reads[1].rows(x), own.eps, y);
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
