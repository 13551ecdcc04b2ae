//! Linear maps and their gradients.

use archc_base::DType;
use half::bf16;

use super::super::bind::{Binder, OnCpu, Packed, is_reduced};
use super::super::kernels::bf16::{self as reduced, Unit};
use super::super::kernels::{self, Epilogue, Isa, PackedMat, Policy, Rows, grad};
use super::super::memory::{Data, Memory};
use super::super::step::{Float, Io, Kept, Kernel, Opened, Work, either};
use crate::diag::Problem;
use crate::net::{Linear, LinearData};

/// At most so many rows may be multiplied with weights as they lie in the file; more are always worth packing for.
const FEW_ROWS: usize = 8;

/// Packed weights.
struct Bound<T> {
    packed: Packed<PackedMat<T>>,
}

/// Few rows: weights [out, in] as they are.
struct Few<T> {
    weights: Packed<Vec<T>>,
}

impl OnCpu for Linear {
    fn bind(&self, to: &Binder) -> Result<Work, Problem> {
        let (out, inputs) = (to.dims(1)[0], to.dims(0)[to.dims(0).len() - 1]);
        let is_few = to.step.write.len() / out <= FEW_ROWS;
        let residual = to.step.residual.as_ref().map(|view| to.plan.dtype(view));
        if is_reduced(to.cpu.dtype) {
            let floats = !is_reduced(to.dtype(0)) && !is_reduced(to.plan.dtype(&to.step.write));
            if is_few && floats && residual != Some(DType::Bf16) {
                let weights = to.pack(1, reduced::round)?;
                return Ok(Work::Float(Box::new(Few::<bf16> { weights })));
            }
            if !(is_few && floats) && residual != Some(DType::F32) {
                let packed = to.pack(1, |w| PackedMat::<bf16>::from_nk(to.unit, Rows::new(w, out, inputs)))?;
                return Ok(Work::Kept(Box::new(Bound::<bf16> { packed })));
            }
        }
        // to pack weights pays for itself within some runs
        if is_few && to.policy(1) != Policy::Fast {
            let weights = to.pack(1, <[f32]>::to_vec)?;
            return Ok(Work::Float(Box::new(Few::<f32> { weights })));
        }
        let packed = to.pack(1, |w| PackedMat::<f32>::from_nk(to.unit, Rows::new(w, out, inputs)))?;
        Ok(Work::Float(Box::new(Bound::<f32> { packed })))
    }
}

impl Kernel for Few<f32> {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        "dot products".into()
    }

    fn streamed(&self, _io: &Io) -> Option<&[f32]> {
        self.weights.once().map(Vec::as_slice)
    }
}

impl Float for Few<f32> {
    fn run(&self, isa: Isa, io: &Io, opened: Opened) {
        let epilogue = io.epilogue(&opened);
        let Opened { y, reads: [x, weights, ..], .. } = opened;
        let x = io.reads[0].rows(x);
        let weights = self.weights.once().map_or(weights, Vec::as_slice);
        let weights = Rows::new(weights, io.write.matrix.cols, x.cols);
        kernels::linear(isa, x, weights, io.write.rows_mut(y), &epilogue);
    }
}

impl Kernel for Few<bf16> {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        "dot products bf16".into()
    }
}

impl Float for Few<bf16> {
    fn run(&self, isa: Isa, io: &Io, opened: Opened) {
        let epilogue = io.epilogue(&opened);
        let Opened { y, reads: [x, weights, ..], .. } = opened;
        let x = io.reads[0].rows(x);
        let run = |weights: &Vec<bf16>| {
            let weights = Rows::new(&weights[..], io.write.matrix.cols, x.cols);
            kernels::linear(Unit::of(isa), x, weights, io.write.rows_mut(y), &epilogue);
        };
        self.weights.with(|| reduced::round(weights), run);
    }
}

impl Kernel for Bound<f32> {
    fn name(&self, isa: Isa, _io: &Io) -> String {
        format!("gemm {}", isa.tile())
    }

    fn streamed(&self, io: &Io) -> Option<&[f32]> {
        self.packed.once()?.streamed(io.write.matrix.rows)
    }
}

impl Float for Bound<f32> {
    fn run(&self, isa: Isa, io: &Io, opened: Opened) {
        let epilogue = io.epilogue(&opened);
        let Opened { y, reads: [x, weights, ..], .. } = opened;
        let x = io.reads[0].rows(x);
        let pack = || PackedMat::from_nk(isa, Rows::new(weights, io.write.matrix.cols, x.cols));
        self.packed.with(pack, |packed| packed.run(x, io.write.rows_mut(y), &epilogue));
    }
}

impl Kernel for Bound<bf16> {
    fn name(&self, isa: Isa, _io: &Io) -> String {
        match self.packed.once() {
            Some(packed) => packed.kernel(),
            None => format!("gemm bf16 {}", isa.tile()),
        }
    }
}

impl Kept for Bound<bf16> {
    fn run(&self, unit: Unit, io: &Io, memory: &mut Memory) {
        let (y, [x, weights], epilogue) = io.open_sums(memory);
        let from = &io.reads[0];
        let pack = || PackedMat::from_nk(unit, Rows::new(weights.f32(), io.write.matrix.cols, from.matrix.cols));
        self.packed.with(pack, |packed| match x {
            Data::Bf16(x) => either!(y, |y| packed.run(from.rows(x), io.write.rows_mut(y), &epilogue)),
            Data::F32(x) => either!(y, |y| packed.run_wide(from.rows(x), io.write.rows_mut(y), &epilogue)),
        });
    }
}

impl OnCpu for LinearData {
    fn bind(&self, to: &Binder) -> Result<Work, Problem> {
        let (out, inputs) = (to.dims(1)[0], to.step.write.dims[to.step.write.dims.len() - 1]);
        let packed = to.pack(1, |weights| PackedMat::from_kn(to.isa(), Rows::new(weights, out, inputs)))?;
        Ok(Work::Float(Box::new(DataBound(packed))))
    }
}

struct DataBound(Packed<PackedMat<f32>>);

impl Kernel for DataBound {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        "linear_data".into()
    }
}

impl Float for DataBound {
    fn run(&self, isa: Isa, io: &Io, opened: Opened) {
        let Opened { y, reads: [dy, weights, ..], .. } = opened;
        let dy = io.reads[0].rows(dy);
        let pack = || PackedMat::from_kn(isa, Rows::new(weights, dy.cols, io.write.matrix.cols));
        self.0.with(pack, |packed| packed.run(dy, io.write.rows_mut(y), &Epilogue::default()));
    }
}

super::float! {
    LinearWeight, "linear_weight", |_, isa, io, Opened { y, reads: [x, dy, ..], .. }| {
        grad::linear_weight(isa, io.reads[0].rows(x), io.reads[1].rows(dy), y);
    };
}
