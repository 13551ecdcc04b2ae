//! Functions of two values, and sums over what broadcasting repeats.

use archc_base::Binary as Of;

use super::super::bind::{Binder, OnCpu, is_reduced, strided};
use super::super::kernels::{self, Isa, Operand, grad};
use super::super::step::{Chunk, Float, Io, Kernel, Opened, OverRows, RowsIo, Whole, Work};
use crate::diag::Problem;
use crate::net::Binary;
use crate::plan::geometry::{Pairing, Pairs};

impl OnCpu for Binary {
    fn bind(&self, to: &Binder) -> Result<Work, Problem> {
        let pairs = to.step.geometry.pairs();
        Ok(match pairs.pairing {
            Pairing::Broadcast => Work::Float(Box::new(Broadcast)),
            Pairing::Rows(_) => Work::Rows(Box::new(Paired)),
            // what is repeated is read as it is, in float32
            _ if is_reduced(to.dtype(1 - pairs.first)) => Work::Float(Box::new(Whole(Paired))),
            _ => Work::Rows(Box::new(Paired)),
        })
    }
}

struct Broadcast;

impl Kernel for Broadcast {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        "broadcast".into()
    }
}

impl Float for Broadcast {
    fn run(&self, isa: Isa, io: &Io, opened: Opened) {
        let Pairs { op, first, shape, strides, .. } = io.geometry.pairs();
        let Opened { y, reads, .. } = opened;
        let (a, b) = (strided(&strides[0], reads[*first]), strided(&strides[1], reads[1 - first]));
        kernels::broadcast(isa, *op, shape, a, b, y, io.act());
        if let Some((place, residual)) = io.residual.as_ref().zip(opened.residual) {
            let map = kernels::Map::in_place(io.write.rows_mut(y));
            kernels::binary(isa, Of::Add, map, Operand::Rows(place.rows(residual)), io.after);
        }
    }
}

struct Paired;

impl Kernel for Paired {
    fn name(&self, _isa: Isa, io: &Io) -> String {
        let name = match io.geometry.pairs().pairing {
            Pairing::Rows(_) => "binary rows",
            Pairing::Scalar => "binary scalar",
            Pairing::Row => "binary row",
            Pairing::Gate { .. } => "binary gate",
            Pairing::Column => "binary column",
            Pairing::Broadcast => unreachable!("has a kernel of its own"),
        };
        name.into()
    }
}

impl OverRows for Paired {
    fn rows(&self, chunk: &Chunk, mut io: RowsIo) {
        let Pairs { op, pairing, .. } = chunk.io.geometry.pairs();
        let (isa, op, act, count) = (chunk.isa, *op, chunk.io.act(), io.count());
        match *pairing {
            Pairing::Rows(matrix) => chunk.with_other(matrix, count, |other| {
                kernels::binary(isa, op, io.map(), Operand::Rows(other), act);
            }),
            Pairing::Scalar => kernels::binary(isa, op, io.map(), Operand::Scalar(chunk.other()[0]), act),
            Pairing::Row => kernels::binary(isa, op, io.map(), Operand::Row(chunk.other()), act),
            Pairing::Column => kernels::binary(isa, op, io.map(), Operand::Column(&chunk.other()[chunk.row..]), act),
            Pairing::Gate { rows_each } if chunk.row == 0 && count == chunk.io.write.matrix.rows => {
                kernels::binary(isa, op, io.map(), Operand::Gate { data: chunk.other(), rows_each }, act);
            }
            Pairing::Gate { rows_each } => {
                // the rows of one image at a time
                let cols = io.y.cols;
                let mut from = 0;
                while from < count {
                    let image = (chunk.row + from) / rows_each;
                    let to = ((image + 1) * rows_each - chunk.row).min(count);
                    let gate = Operand::Row(&chunk.other()[image * cols..][..cols]);
                    kernels::binary(isa, op, io.part(from, to), gate, act);
                    from = to;
                }
            }
            Pairing::Broadcast => unreachable!("has a kernel of its own"),
        }
        chunk.add_residual(&mut io);
    }
}

super::float! {
    SumTo, "sum_to", |_, isa, io, Opened { y, reads: [dy, x, ..], .. }| {
        let over = io.geometry.over();
        let other = io.reads.get(1).map(|place| place.strided(x));
        grad::sum_to(isa, &over.shape, &over.missing, strided(&over.strides, dy), other, y);
    };
}
