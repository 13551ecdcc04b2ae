//! Transposed convolutions.

use super::super::bind::{Binder, OnCpu, Packed};
use super::super::kernels::{ConvTransposeShape, Isa, PackedConvTranspose};
use super::super::step::{Float, Io, Kernel, Opened, Work};
use crate::diag::Problem;
use crate::net::ConvTranspose;

struct Bound {
    shape: ConvTransposeShape,
    packed: Packed<PackedConvTranspose>,
}

impl OnCpu for ConvTranspose {
    fn bind(&self, to: &Binder) -> Result<Work, Problem> {
        let ConvTranspose { window, groups, output_padding } = *self;
        let (in_channels, out_channels) = (to.dims(0)[1], to.step.write.dims[1]);
        let shape = ConvTransposeShape { in_channels, out_channels, window, output_padding, groups };
        let packed = to.pack(1, |weights| PackedConvTranspose::pack(to.isa(), &shape, weights))?;
        Ok(Work::Float(Box::new(Bound { shape, packed })))
    }
}

impl Kernel for Bound {
    fn name(&self, isa: Isa, _io: &Io) -> String {
        format!("transposed {}", isa.tile())
    }
}

impl Float for Bound {
    fn run(&self, isa: Isa, io: &Io, opened: Opened) {
        let epilogue = io.epilogue(&opened);
        let Opened { y, reads: [x, weights, ..], .. } = opened;
        let pack = || PackedConvTranspose::pack(isa, &self.shape, weights);
        self.packed.with(pack, |packed| packed.run(io.reads[0].image(x), io.write.image_mut(y), &epilogue));
    }
}
