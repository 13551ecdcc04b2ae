//! Which algorithm a convolution uses: a model of the time that each takes.
//!
//! It depends on sizes and the instruction set, not on the number of threads: so a network gives the same bits on any.
//! The unit is a core's time, with [`CLOCK`] cycles a second and its share of the memory's bandwidth; only the
//! relations matter. Its constants are those of two cores of a server CPU with AVX-512; other machines differ less in
//! the relations between them than the algorithms differ in time.

use super::super::bf16::simd::Unit;
use super::super::conv::ConvShape;
use super::super::element::Element;
use super::super::formats::Packs;
use super::super::grouped::Grouped;
use super::super::stem;

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
    /// Arithmetic alone, of each run.
    pub work: f64,
    /// Bytes of packed weights, read in each run.
    pub weights: f64,
}

/// The fastest algorithm that the policy allows; in doubt, the direct one.
pub fn choose<T: Packs>(unit: impl Into<Unit>, shape: &ConvShape, site: &Site) -> Algorithm {
    T::choose(unit.into(), shape, site)
}

pub(in super::super) fn choose_of<T: Element>(unit: Unit, shape: &ConvShape, site: &Site) -> Algorithm {
    let depthwise = shape.groups == shape.in_channels && shape.groups == shape.out_channels;
    if !super::suits(shape) || depthwise || stem::suits::<T>(shape) || site.policy == Policy::Exact {
        return Algorithm::Direct;
    }
    let cost = |algorithm: Algorithm| {
        let Estimate { start, run, .. } = estimate_of::<T>(unit, shape, site, algorithm);
        match site.policy {
            Policy::Runs(runs) => start + run * runs as f64,
            Policy::Exact | Policy::Fast => run,
        }
    };
    let all = [(Algorithm::Direct, 1.0), (Algorithm::Winograd2, DOUBT), (Algorithm::Winograd4, DOUBT)];
    let cheapest = all.into_iter().min_by(|(a, doubt), (b, other)| (cost(*a) * doubt).total_cmp(&(cost(*b) * other)));
    cheapest.expect("there are three").0
}

/// By how much Winograd's algorithm has to be cheaper.
const DOUBT: f64 = 1.05;

/// Cycles a second.
const CLOCK: f64 = 4.2e9;

/// Bytes of weights that a core reads in a cycle, when it does nothing else: 4 to 7 were measured, as others on the
/// same host left room.
const READ: f64 = 5.2;

/// Cycles for each byte of images beyond [`CACHED`], which transforms wait for and register tiles do not.
const WAIT: f64 = 0.2;

/// Bytes of input and output that stay in the caches from one layer to the next.
const CACHED: f64 = 4e6;

/// Bytes of packed weights that a core writes in a cycle, with the making of fresh pages.
const WRITE: f64 = 0.5;

/// Cycles to find the pixels of one row of a tile of the direct kernel, for each group; half as many where one row
/// serves several groups.
const FIND: f64 = 60.0;

/// How much longer a register tile of one vector takes for each vector than one of two.
const NARROW: f64 = 1.3;

/// How much longer a term of bf16 takes than one of float32 where pairs have to be widened.
const WIDEN: f64 = 1.3;

/// Cycles to call a register tile of a few rows, for each row.
const CALL: f64 = 5.0;

/// What an algorithm would cost a convolution of 3x3 windows and stride 1.
///
/// Two FMAs of vectors a cycle, and for each point of a tile 6.5 cycles a vector for the transform of the input, 3.7
/// for that of the products, and 4 to write products and read them again (2.7 points, 5.3 and 4 for the smaller
/// tiles). Reading weights overlaps with arithmetic, but not quite.
///
/// For bf16 images the direct kernel, and the smaller tiles where the CPU multiplies pairs, sum two terms at once.
pub fn estimate<T: Packs>(unit: impl Into<Unit>, shape: &ConvShape, site: &Site, algorithm: Algorithm) -> Estimate {
    T::estimate(unit.into(), shape, site, algorithm)
}

pub(in super::super) fn estimate_of<T: Element>(
    unit: Unit,
    shape: &ConvShape,
    site: &Site,
    algorithm: Algorithm,
) -> Estimate {
    let [p, q] = shape.window.output(site.size);
    let n = unit.isa().lanes();
    let merge = super::merged(unit, shape);
    let groups = shape.groups / merge;
    let (depth, columns) = (shape.in_channels / groups, shape.out_channels.div_ceil(groups).div_ceil(n));
    let narrow = if columns == 1 { NARROW } else { 1.0 };
    let [h, w] = site.size;
    let image = site.batch * (h * w * shape.in_channels + p * q * shape.out_channels) * size_of::<T>();
    let wait = (image as f64 - CACHED).max(0.0) * WAIT;
    // Terms that are summed in the time of one of float32, and the bytes of one.
    let pairs = match (T::TERMS, T::has_dots(unit)) {
        (1, _) => (1.0, 4),
        (_, true) => (2.0, 2),
        (_, false) => (1.0 / WIDEN, 2),
    };
    // Cycles of each group, and bytes of its weights.
    let (work, bytes) = match algorithm {
        Algorithm::Direct => {
            // A vector of outputs of several groups reads the inputs of one group at a time.
            let grouped = Grouped::<T>::suits(unit.isa(), shape);
            let (terms, find) = if grouped { (9 * depth / merge, FIND / 2.0) } else { (9 * depth, FIND) };
            let (rate, bytes) = if grouped { (1.0, 4) } else { pairs };
            let row = find + (columns * terms) as f64 / 2.0 / rate * narrow;
            ((site.batch * p * q) as f64 * row, 9 * depth * columns * n * bytes)
        }
        Algorithm::Winograd2 | Algorithm::Winograd4 => {
            let (m, input, output) = if algorithm == Algorithm::Winograd2 { (2, 2.7, 5.3) } else { (4, 6.5, 3.7) };
            let (rate, bytes) = if super::keeps::<T>(unit, m) { pairs } else { (1.0, 4) };
            let points = (m + 2) * (m + 2);
            let vectors = depth.div_ceil(n);
            let tiles = site.batch * p.div_ceil(m) * q.div_ceil(m);
            let product = (vectors * n * columns) as f64 / 2.0 / rate * narrow + 4.0 * columns as f64 + CALL;
            let transforms = input * vectors as f64 + output * columns as f64;
            let work = (tiles * points) as f64 * (product + transforms);
            (work + wait / groups as f64, points * vectors * n * columns * n * bytes)
        }
    };
    let (work, bytes) = (work * groups as f64, (bytes * groups) as f64);
    let read = bytes / READ;
    let run = (work.max(read) + work.min(read) / 4.0) / CLOCK;
    Estimate { start: bytes / WRITE / CLOCK, run, work: work / CLOCK, weights: bytes }
}
