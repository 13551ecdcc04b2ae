//! What the CPU tells the plan about running steps for some samples of a batch at a time.
//!
//! The unit is a core's time, as in `winograd/choose.rs`. Sizes of caches are the machine's, the rates those of a server
//! CPU with AVX-512: others differ less in the relations between them.

use std::sync::OnceLock;

use super::Cpu;
use super::kernels::{Algorithm, ConvShape, Element, Estimate, Isa, Site, choose, estimate};
use super::kinds::conv_shape;
use super::peaks::cache_sizes;
use crate::net::{Kind, Net};
use crate::plan::{Level, Load, Slicing, Step, Work};
use archc_base::DType;
use half::bf16;

/// Cycles a second.
const CLOCK: f64 = 4.2e9;

/// Seconds to start a step on all threads, and to wait for the last of them.
const START: f64 = 2e-6;

/// How many second-level caches a slice may fill: as many as there are cores at the least. Not those of the threads in
/// use, as results would depend on them.
const CORES: f64 = 2.0;

/// The share of a cache that stays for values, beside what else passes through it.
const KEPT: f64 = 0.75;

impl Slicing for Cpu {
    fn load(&self, net: &Net, step: &Step, samples: usize) -> Load {
        let Work::Node(id) = step.work else { return Load { work: START, weights: 0.0 } };
        let node = net.node(id);
        if let Kind::Conv(conv) = &node.kind {
            let [_, channels, h, w] = step.reads[0].dims[..] else { unreachable!("images have four axes") };
            let shape = conv_shape(&conv.window, channels, step.reads[1].dims[0], conv.groups);
            let site = Site { batch: samples, size: [h, w], policy: self.policy };
            let found = match self.dtype {
                DType::F32 => winograd::<f32>(self.isa, &shape, &site),
                _ => winograd::<bf16>(self.isa, &shape, &site),
            };
            if let Some(found) = found {
                return Load { work: START + found.work, weights: found.weights };
            }
        }
        // each number of the weights meets each pixel, or each row
        let weights = step.reads.iter().enumerate().filter(|(at, _)| node.kind.is_weight(*at));
        let numbers: usize = weights.map(|(_, view)| view.len()).sum();
        let sums = (node.kind.reuse(node, net) * samples * numbers) as f64;
        let size = self.dtype.size();
        let rate = 2 * self.isa.lanes() * if size == 2 { 2 } else { 1 };
        let streamed = if sums > 0.0 { numbers * size } else { 0 };
        Load { work: START + sums / rate as f64 / CLOCK, weights: streamed as f64 }
    }

    fn levels(&self) -> [Level; 3] {
        static SIZES: OnceLock<[usize; 2]> = OnceLock::new();
        let [l2, l3] = SIZES.get_or_init(cache_sizes).map(|bytes| bytes as f64);
        [
            Level { holds: l2 * CORES * KEPT, byte: 1.0 / 250e9 },
            Level { holds: l3 * KEPT, byte: 1.0 / 105e9 },
            Level { holds: f64::INFINITY, byte: 1.0 / 22e9 },
        ]
    }
}

/// What a convolution costs that is not computed by its definition.
fn winograd<T: Element>(isa: Isa, shape: &ConvShape, site: &Site) -> Option<Estimate> {
    let algorithm = choose::<T>(isa, shape, site);
    (algorithm != Algorithm::Direct).then(|| estimate::<T>(isa, shape, site, algorithm))
}
