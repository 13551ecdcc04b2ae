//! Images resampled.

use archc_base::Banded;

use super::super::bind::{Binder, OnCpu};
use super::super::kernels::{self, Isa, grad};
use super::super::step::{Float, Io, Kernel, Opened, Work};
use crate::diag::Problem;
use crate::net::Antialias;

super::float! {
    Resize, "resize", |own, isa, io, Opened { y, reads: [x, ..], .. }| {
        kernels::resize(isa, own.mode, own.scale, io.reads[0].image(x), io.write.image_mut(y));
    };
    ResizeData, "upsample_data", |own, isa, io, Opened { y, reads: [dy, ..], .. }| {
        grad::resize_data(isa, own.mode, own.scale, io.reads[0].image(dy), io.write.image_mut(y));
    };
}

/// With the matrices of its sizes.
struct Bound {
    name: &'static str,
    matrices: [Banded; 2],
}

impl OnCpu for Antialias {
    fn bind(&self, to: &Binder) -> Result<Work, Problem> {
        let size = |dims: &[usize]| [dims[2], dims[3]];
        let matrices = self.matrices(size(to.dims(0)), size(&to.step.write.dims));
        let name = if self.transposed { "antialias_data" } else { "antialias" };
        Ok(Work::Float(Box::new(Bound { name, matrices })))
    }
}

impl Kernel for Bound {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        self.name.into()
    }
}

impl Float for Bound {
    fn run(&self, isa: Isa, io: &Io, Opened { y, reads: [x, ..], .. }: Opened) {
        let [rows, columns] = &self.matrices;
        kernels::banded(isa, rows, columns, io.reads[0].image(x), io.write.image_mut(y));
    }
}
