//! What the CPU tells the plan about running steps for some samples of a batch at a time.
//!
//! The unit is a core's time, as in `winograd/choose.rs`. Sizes of caches are the machine's, the rates those of a server
//! CPU with AVX-512: others differ less in the relations between them.

use std::sync::OnceLock;

use super::Cpu;
use super::bind::conv_shape;
use super::ceilings::cache_sizes;
use super::kernels::{Algorithm, ConvShape, Element, Estimate, Isa, Site, choose, estimate};
use crate::opt::{Id, Kind, Net, Source, Weights};
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
        let sums = |multiply_adds: f64, weights: &[&Source]| {
            let numbers: usize = weights.iter().map(|source| source.shape().iter().product::<usize>()).sum();
            let size = self.dtype.size();
            let rate = 2 * self.isa.lanes() * if size == 2 { 2 } else { 1 };
            Load { work: START + multiply_adds / rate as f64 / CLOCK, weights: (numbers * size) as f64 }
        };
        // multiply-adds where each number of the weights meets each pixel
        let pixels = |id: Id| of_samples(batch * pixels_of(net, id));
        let plain = |pixels: f64, weights: &[&Weights]| {
            let sources: Vec<&Source> = weights.iter().map(|weights| &weights.weight).collect();
            let numbers: usize = sources.iter().map(|source| source.shape().iter().product::<usize>()).sum();
            sums(pixels * numbers as f64, &sources)
        };
        match &node.kind {
            Kind::Conv { window, groups, weights } => {
                let [_, channels, h, w] = step.reads[0].dims[..] else { unreachable!("images have four axes") };
                // of an image of which only the means are written, the node's shape does not tell the size
                let out = weights.weight.shape()[0];
                let shape = conv_shape(window, channels, out, *groups);
                let site = Site { batch: samples, size: [h, w], policy: self.policy };
                let found = match self.dtype {
                    DType::F32 => winograd::<f32>(self.isa, &shape, &site),
                    _ => winograd::<bf16>(self.isa, &shape, &site),
                };
                if let Some(found) = found {
                    return Load { work: START + found.work, weights: found.weights };
                }
                let [p, q] = shape.window.output([h, w]);
                plain((samples * p * q) as f64, &[weights])
            }
            Kind::Separable { depthwise, pointwise, .. } => plain(pixels(id), &[depthwise, pointwise]),
            Kind::PooledConv { weights, pool, .. } => {
                plain(pixels(id) * (pool.stride[0] * pool.stride[1]) as f64, &[weights])
            }
            Kind::ConvTranspose { weights, .. } => plain(pixels(node.operands[0]), &[weights]),
            Kind::Linear { weights } => {
                let out = step.write.dims.last().copied().unwrap_or(1);
                plain(of_samples(step.write.len() / out), &[weights])
            }
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

/// Pixels of one sample of an image.
fn pixels_of(net: &Net, id: Id) -> usize {
    let shape = &net.node(id).shape;
    shape.as_image().map_or(1, |(_, h, w)| h * w)
}
