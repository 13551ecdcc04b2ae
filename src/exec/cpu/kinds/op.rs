//! Ops by their own meaning: for what is too rare for a kernel.

use super::super::bind::{Binder, OnCpu};
use super::super::kernels::Isa;
use super::super::step::{Float, Io, Kernel, Opened, Work};
use crate::diag::Problem;
use crate::exec::reference;
use crate::net::Reference;
use crate::ops::{self, Op};
use crate::tensor::Tensor;

struct Bound {
    op: Op,
    params: Vec<Tensor>,
    batched: Vec<bool>,
}

impl OnCpu for Reference {
    fn bind(&self, to: &Binder) -> Result<Work, Problem> {
        let batched = to.node.operands.iter().map(|operand| to.plan.net().node(*operand).shape.batched).collect();
        Ok(Work::Float(Box::new(Bound { op: (*self.op).clone(), params: to.params()?, batched })))
    }
}

impl Kernel for Bound {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        "reference".into()
    }
}

impl Float for Bound {
    fn run(&self, _isa: Isa, io: &Io, opened: Opened) {
        let tensor = |(place, data): (&_, &&[f32])| {
            let place: &super::super::step::Place = place;
            Tensor::new(place.dims.clone(), data.to_vec())
        };
        let ins: Vec<Tensor> = io.reads.iter().zip(&opened.reads).map(tensor).collect();
        let batched = ins.iter().zip(&self.batched);
        let ins: Vec<_> = batched.map(|(value, batched)| ops::Operand { value, batched: *batched }).collect();
        let result = reference::eval(&self.op, &ins, &self.params, &io.write.dims);
        opened.y.copy_from_slice(result.data());
    }
}
