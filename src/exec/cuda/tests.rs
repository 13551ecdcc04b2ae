//! The backend on the emulator against the reference.

use std::sync::Arc;

use super::contract::Dtype;
use super::emulated::Emulated;
use super::{Cuda, driver::Driver};
use crate::exec::tests::{SAMPLES, compare_on, sample_network};
use crate::opt::testing::network;
use crate::typed::Typed;

/// Enough for small networks.
const MEMORY: usize = 4 << 30;

fn emulated(processors: usize, dtype: Dtype) -> Cuda {
    let driver: Arc<dyn Driver> = Arc::new(Emulated::new(processors, MEMORY));
    Cuda { driver, dtype }
}

/// What rounding of values and weights to the dtype comes to over a few layers.
fn tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 2e-5,
        Dtype::Tf32 => 2e-3,
        Dtype::F16 => 4e-3,
        Dtype::Bf16 => 3e-2,
    }
}

fn check(typed: &Typed, batch: usize, dtype: Dtype) {
    // many processors split the sums of small layers
    for processors in [1, 132] {
        compare_on(&emulated(processors, dtype), typed, batch, tolerance(dtype));
    }
}

#[test]
fn every_op_has_a_kernel() {
    for (call, operands) in SAMPLES {
        for text in sample_network(call, operands) {
            let typed = network(&text);
            for dtype in [Dtype::F32, Dtype::Bf16] {
                check(&typed, 3, dtype);
            }
            check(&typed, 1, Dtype::F16);
        }
    }
}
