//! Which algorithm a convolution uses: a model of the time that each takes.
//!
//! It depends on sizes and the instruction set, not on the number of threads: so a network gives the same bits on any.
//! The unit is a core's time, with [`CLOCK`] cycles a second and its share of the memory's bandwidth; only the relations
//! matter. `benches` beside this crate hold the model against measured times.

use super::super::conv::ConvShape;
use super::super::simd::Isa;
use super::Winograd;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// By the definition.
    Direct,
    /// Winograd's F(2x2, 3x3).
    Winograd2,
    /// Winograd's F(4x4, 3x3).
    Winograd4,
}

/// Which algorithms may be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Those that compute a convolution by its definition.
    Exact,
    /// What is fastest in a run, whatever its weights cost at the start.
    #[default]
    Fast,
    /// What is fastest for so many runs together, the start counted.
    Runs(usize),
}

/// Where a convolution is.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Images.
    pub batch: usize,
    /// Height and width of the input.
    pub size: [usize; 2],
    pub policy: Policy,
}

/// Seconds of one core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Packing the weights, once.
    pub start: f64,
    /// Each run.
    pub run: f64,
}

/// The fastest algorithm that the policy allows.
pub fn choose(isa: Isa, shape: &ConvShape, site: &Site) -> Algorithm {
    if !Winograd::suits(shape) || site.policy == Policy::Exact {
        return Algorithm::Direct;
    }
    let cost = |algorithm: Algorithm| {
        let Estimate { start, run } = estimate(isa, shape, site, algorithm);
        match site.policy {
            Policy::Runs(runs) => start + run * runs as f64,
            Policy::Exact | Policy::Fast => run,
        }
    };
    let all = [Algorithm::Direct, Algorithm::Winograd2, Algorithm::Winograd4];
    all.into_iter().min_by(|a, b| cost(*a).total_cmp(&cost(*b))).expect("there are three")
}

/// Cycles a second.
const CLOCK: f64 = 4e9;

/// Bytes of weights that come from memory in a cycle.
const READ: f64 = 7.0;

/// Bytes of packed weights that are written in a cycle, fresh pages counted.
const WRITE: f64 = 1.5;

/// What an algorithm would cost a convolution of 3x3 windows and stride 1.
pub fn estimate(isa: Isa, shape: &ConvShape, site: &Site, algorithm: Algorithm) -> Estimate {
    let [p, q] = shape.output(site.size);
    let n = isa.lanes();
    let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    // Cycles of arithmetic, and bytes of weights.
    let (work, bytes) = match algorithm {
        Algorithm::Direct => {
            let columns = shape.groups * kg.next_multiple_of(n.min(kg.next_power_of_two()));
            let terms = (cg * 9) as f64;
            ((site.batch * p * q * columns / n) as f64 * terms / 2.0, (shape.weight_len() * 4) as f64)
        }
        Algorithm::Winograd2 | Algorithm::Winograd4 => {
            let m = if algorithm == Algorithm::Winograd2 { 2 } else { 4 };
            let points = (m + 2) * (m + 2);
            let merge = super::merged(isa, shape);
            let groups = shape.groups / merge;
            let (vectors, columns) = ((cg * merge).div_ceil(n), (kg * merge).div_ceil(n));
            let tiles = site.batch * p.div_ceil(m) * q.div_ceil(m);
            let products = (groups * points * vectors * n * columns) as f64 / 2.0;
            let transforms = (groups * points * (2 * vectors + 2 * columns)) as f64;
            let bytes = groups * points * vectors * n * columns * n * 4;
            (tiles as f64 * (products + transforms), bytes as f64)
        }
    };
    Estimate { start: bytes / WRITE / CLOCK, run: (work + bytes / READ) / CLOCK }
}
