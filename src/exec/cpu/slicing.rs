//! What the CPU tells the plan about running steps for some samples of a batch at a time.
//!
//! The unit is a core's time, as in `winograd/choose.rs`. Sizes of caches are the machine's, the rates those of a server
//! CPU with AVX-512: others differ less in the relations between them.

use std::sync::OnceLock;

use super::Cpu;
use super::ceilings::cache_sizes;
use super::kernels::{Algorithm, ConvShape, Element, Estimate, Isa, Site, choose, estimate};
use super::kinds::conv_shape;
use crate::net::{Kind, Net};
use crate::ops::shape::Shape;
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
        let batch = step.write.dims.first().copied().unwrap_or(1).max(1);
        let of_samples = |len: usize| (len / batch * samples) as f64;
        // multiply-adds where each number of the weights meets each pixel, or each row
        let plain = |meets: f64| {
            let weights = step.reads.iter().enumerate().filter(|(at, _)| node.kind.is_weight(*at));
            let numbers: usize = weights.map(|(_, view)| view.len()).sum();
            let size = self.dtype.size();
            let rate = 2 * self.isa.lanes() * if size == 2 { 2 } else { 1 };
            Load { work: START + meets * numbers as f64 / rate as f64 / CLOCK, weights: (numbers * size) as f64 }
        };
        let pixels = |shape: &Shape| of_samples(batch * shape.as_image().map_or(1, |(_, h, w)| h * w));
        match &node.kind {
            Kind::Conv(conv) => {
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
                // of an image of which only the means are written, the node's shape does not tell the size
                let [p, q] = shape.window.output([h, w]);
                plain((samples * p * q) as f64)
            }
            Kind::Separable(_) => plain(pixels(&node.shape)),
            Kind::PooledConv(conv) => plain(pixels(&node.shape) * (conv.pool.stride[0] * conv.pool.stride[1]) as f64),
            Kind::ConvTranspose(_) => plain(pixels(&net.node(node.operands[0]).shape)),
            Kind::Linear(_) => plain(of_samples(step.write.len() / step.write.dims.last().copied().unwrap_or(1))),
            _ => Load { work: START, weights: 0.0 },
        }
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
