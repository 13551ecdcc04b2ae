//! Depthwise convolutions with the pointwise one behind them.

use super::super::bind::{Binder, OnCpu};
use super::super::kernels::{Isa, PackedSeparable};
use super::super::step::{Float, Io, Kernel, Opened, Work};
use super::conv::shape;
use crate::diag::Problem;
use crate::net::Separable;

struct Bound(PackedSeparable);

impl OnCpu for Separable {
    fn bind(&self, to: &Binder) -> Result<Work, Problem> {
        let (hidden, out) = (to.dims(0)[1], to.dims(2)[0]);
        let shape = shape(&self.window, hidden, hidden, hidden);
        let known = |at: usize| Ok::<_, Problem>(to.known(at)?.expect("the pass asks for known weights"));
        let (depthwise, pointwise) = (known(1)?, known(2)?);
        let bias = if to.step.reads.len() > 3 { Some(known(3)?) } else { None };
        let packed = PackedSeparable::pack(to.isa(), &shape, &depthwise, bias, self.act, out, &pointwise);
        Ok(Work::Float(Box::new(Bound(packed))))
    }
}

impl Kernel for Bound {
    fn name(&self, isa: Isa, _io: &Io) -> String {
        format!("separable {}", isa.tile())
    }

    fn room(&self, io: &Io) -> usize {
        self.0.room(io.write.matrix.rows)
    }
}

impl Float for Bound {
    fn run(&self, _isa: Isa, io: &Io, opened: Opened) {
        let epilogue = io.epilogue(&opened);
        self.0.run(io.reads[0].image(opened.reads[0]), io.write.image_mut(opened.y), &epilogue);
    }
}
