//! Each kind's way to its kernels.

mod attention;
mod batch_norm;
mod binary;
mod channels;
mod conv;
mod conv_transpose;
mod dropout;
mod gather;
mod identity;
mod linear;
mod loss;
mod lstm;
mod matmul;
mod norms;
mod pool;
mod prelu;
mod reduce;
mod resize;
mod separable;
mod softmax;

use super::bind::{Binder, OnCpu};
use super::step::Work;
use crate::diag::Problem;
use crate::net;

/// A kind whose kernel is its fields, by its name: work of one way to run it.
macro_rules! bound {
    ($kind:ident, $name:expr, $work:ident) => {
        impl $crate::exec::cpu::bind::OnCpu for $crate::net::$kind {
            fn bind(
                &self,
                _to: &$crate::exec::cpu::bind::Binder,
            ) -> Result<$crate::exec::cpu::step::Work, $crate::diag::Problem> {
                Ok($crate::exec::cpu::step::Work::$work(Box::new(self.clone())))
            }
        }

        impl $crate::exec::cpu::step::Kernel for $crate::net::$kind {
            fn name(&self, _isa: $crate::exec::cpu::kernels::Isa, _io: &$crate::exec::cpu::step::Io) -> String {
                $name.into()
            }
        }
    };
}
use bound;

/// Kinds whose kernels need nothing but their fields: `run` with the instruction set, the places and the numbers.
macro_rules! float {
    ($($kind:ident, $name:expr, |$own:pat_param, $isa:pat_param, $io:pat_param, $opened:pat_param| $run:expr;)*) => {
        $(
            $crate::exec::cpu::kinds::bound! { $kind, $name, Float }

            impl $crate::exec::cpu::step::Float for $crate::net::$kind {
                fn run(
                    &self,
                    $isa: $crate::exec::cpu::kernels::Isa,
                    $io: &$crate::exec::cpu::step::Io,
                    $opened: $crate::exec::cpu::step::Opened,
                ) {
                    let $own = self;
                    $run
                }
            }
        )*
    };
}
use float;

/// The same of kernels over rows: `run` with some rows of a step.
macro_rules! rows {
    ($($kind:ident, $name:expr, |$own:pat_param, $chunk:ident, $io:ident| $run:expr;)*) => {
        $(
            $crate::exec::cpu::kinds::bound! { $kind, $name, Rows }

            impl $crate::exec::cpu::step::OverRows for $crate::net::$kind {
                fn rows(&self, $chunk: &$crate::exec::cpu::step::Chunk, mut $io: $crate::exec::cpu::step::RowsIo) {
                    let $own = self;
                    $run
                }
            }
        )*
    };
}
use rows;

pub(super) use conv::shape as conv_shape;

impl OnCpu for net::Excitation {
    fn bind(&self, _to: &Binder) -> Result<Work, Problem> {
        unreachable!("fused for other backends only")
    }
}
