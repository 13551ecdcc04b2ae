//! Means and maxima of windows.

use super::super::bind::{Binder, OnCpu, is_reduced};
use super::super::kernels::bf16::Unit;
use super::super::kernels::{self, Isa, grad};
use super::super::memory::Memory;
use super::super::step::{Float, Io, Kept, Kernel, Opened, Work, either};
use crate::diag::Problem;
use crate::net::{AdaptivePool, Pool};

macro_rules! pools {
    ($($kind:ident, $name:literal, |$own:ident, $unit:ident, $x:ident, $y:ident| $run:expr;)*) => {
        $(
            impl OnCpu for $kind {
                fn bind(&self, to: &Binder) -> Result<Work, Problem> {
                    Ok(match is_reduced(to.dtype(0)) {
                        true => Work::Kept(Box::new(self.clone())),
                        false => Work::Float(Box::new(self.clone())),
                    })
                }
            }

            impl Kernel for $kind {
                fn name(&self, _isa: Isa, io: &Io) -> String {
                    if is_reduced(io.reads[0].slot.dtype) { concat!($name, " bf16") } else { $name }.into()
                }
            }

            impl Float for $kind {
                fn run(&self, isa: Isa, io: &Io, opened: Opened) {
                    let ($own, $unit) = (self, isa);
                    let ($x, $y) = (io.reads[0].image(opened.reads[0]), io.write.image_mut(opened.y));
                    $run
                }
            }

            impl Kept for $kind {
                fn run(&self, unit: Unit, io: &Io, memory: &mut Memory) {
                    let ($own, $unit) = (self, unit);
                    let (y, [x]) = memory.open_any(&io.write.slot, [&io.reads[0].slot]);
                    let $x = io.reads[0].image(x.bf16());
                    either!(y, |y| {
                        let $y = io.write.image_mut(y);
                        $run
                    });
                }
            }
        )*
    };
}
pools! {
    Pool, "pool", |own, unit, x, y| kernels::pool(unit, own.pool, &own.window, x, y);
    AdaptivePool, "adaptive pool", |own, unit, x, y| kernels::adaptive_pool(unit, own.pool, x, y);
}

super::float! {
    PoolData, "pool_data", |own, isa, io, Opened { y, reads: [dy, x, ..], .. }| {
        let (dy, x) = (io.reads[0].image(dy), io.reads[1].image(x));
        grad::pool_data(isa, own.pool, &own.window, dy, x, io.write.image_mut(y));
    };
    AdaptivePoolData, "adaptive_pool_data", |own, isa, io, Opened { y, reads: [dy, x, ..], .. }| {
        let (dy, x) = (io.reads[0].image(dy), io.reads[1].image(x));
        grad::adaptive_pool_data(isa, own.pool, dy, x, io.write.image_mut(y));
    };
}
