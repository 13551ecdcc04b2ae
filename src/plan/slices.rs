//! Running steps for some samples of a batch at a time, so that what they hand on is still in a near cache.
//!
//! A plan's steps are cut into segments. A segment runs for its first samples, all its steps in order, then for the
//! next ones: values that only live within it need memory for one slice of the batch, and come from a cache where the
//! whole batch's would come from memory. What it costs is that each slice reads the segment's weights again. So early
//! layers, of large images and few weights, run for a sample or two at a time, late layers for many.
//!
//! The cut is the cheapest by a model: a step takes its arithmetic, beside the reading of its weights, and then the
//! moving of its values; what is moved comes from the nearest level of memory that holds what lies between two uses.
//! The backend knows the figures ([`Slicing`]). They do not depend on the number of threads, so neither do results.

use std::fmt::Debug;
use std::ops::Range;

use super::{Buffer, Place, Step, View, Work};
use crate::net::Net;

/// Steps that are run for all samples of the batch, a slice after another, before the next segment's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub steps: Range<usize>,
    /// How many slices the batch is cut into.
    pub slices: usize,
}

/// What a step takes for some samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Seconds of arithmetic and of starting it.
    pub work: f64,
    /// Bytes of the weights that it reads.
    pub weights: f64,
}

/// A level of memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Bytes that stay in it.
    pub holds: f64,
    /// Seconds to move a byte between it and the cores.
    pub byte: f64,
}

/// What a backend that can run slices knows of their cost.
pub trait Slicing: Debug + Sync {
    /// What `step` takes for so many samples.
    fn load(&self, net: &Net, step: &Step, samples: usize) -> Load;

    /// The levels of memory from the nearest; the last holds everything.
    fn levels(&self) -> [Level; 3];
}

/// No more sizes of slices are weighed: the smallest divisors of the batch, and the batch.
const SIZES: usize = 10;

/// No slice has more samples than this, unless it is the batch: divisors of any number are not searched for.
const LARGEST: usize = 256;

/// All steps for the whole batch.
pub(super) fn whole(steps: &[Step]) -> Vec<Segment> {
    vec![Segment { steps: 0..steps.len(), slices: 1 }]
}

/// Cuts the steps of a batch into the segments that cost least. The lives of buffers are those of whole batches.
pub(super) fn choose(
    net: &Net,
    steps: &[Step],
    buffers: &[Buffer],
    batch: usize,
    slicing: &dyn Slicing,
) -> Vec<Segment> {
    let mut sizes: Vec<usize> =
        (1..=(batch / 2).min(LARGEST)).filter(|size| batch.is_multiple_of(*size)).take(SIZES).collect();
    sizes.push(batch);
    if sizes.len() == 1 || steps.is_empty() {
        return whole(steps);
    }
    let model = Model { steps, buffers, batch: batch as f64, levels: slicing.levels() };
    let facts: Vec<Facts> = steps.iter().map(|step| model.facts(net, step)).collect();
    let loads = |size: usize| steps.iter().map(|step| slicing.load(net, step, size)).collect();
    // the largest first, as slices have to be worth it
    let loads: Vec<(usize, Vec<Load>)> = sizes.iter().rev().map(|size| (*size, loads(*size))).collect();
    let all_weights: f64 = loads[0].1.iter().map(|load| load.weights).sum();
    // the least cost of all steps before each, and the segment that ends there
    let mut best: Vec<(f64, Segment)> = vec![(f64::INFINITY, Segment { steps: 0..0, slices: 1 }); steps.len() + 1];
    best[0].0 = 0.0;
    for from in 0..steps.len() {
        let before = best[from].0;
        for (size, loads) in &loads {
            let slices = batch / size;
            let mut cost = Running::default();
            for at in from..steps.len() {
                if slices > 1 && !facts[at].sliced {
                    break;
                }
                model.extend(&mut cost, from, at, &facts, *size, loads[at]);
                let reach = if slices == 1 { all_weights } else { cost.weights + cost.peak };
                let total = before + cost.total(model.level(reach));
                // one step alone has nobody to hand a slice to
                let hands_on = slices == 1 || at > from;
                if hands_on && total < best[at + 1].0 {
                    best[at + 1] = (total, Segment { steps: from..at + 1, slices });
                }
            }
        }
    }
    let (mut segments, mut end) = (vec![], steps.len());
    while end > 0 {
        let segment = best[end].1.clone();
        end = segment.steps.start;
        segments.push(segment);
    }
    segments.reverse();
    segments
}

/// What the model needs of a step, whatever the cut.
struct Facts {
    /// Whether it works on each sample alone.
    sliced: bool,
    /// Bytes of a sample of all that it reads and writes.
    sample: f64,
    /// Bytes of a whole batch that it reads, and the first step that writes there.
    reads: Vec<(f64, usize)>,
    /// Bytes of a whole batch that it writes, and the last step that reads there.
    writes: Vec<(f64, usize)>,
}

struct Model<'a> {
    steps: &'a [Step],
    buffers: &'a [Buffer],
    batch: f64,
    levels: [Level; 3],
}

/// The cost of a segment that grows.
#[derive(Default)]
struct Running {
    /// Seconds with weights from each level.
    seconds: [f64; 3],
    weights: f64,
    /// Bytes that one slice of a step moves, at most.
    peak: f64,
    /// Seconds by which values that are written, and not yet read for the last time, are slower to move out of the
    /// segment, and the step that reads each last.
    open: f64,
    closing: Vec<(usize, f64)>,
}

impl Running {
    fn total(&self, weights: usize) -> f64 {
        self.seconds[weights] + self.open
    }
}

impl Model<'_> {
    fn facts(&self, net: &Net, step: &Step) -> Facts {
        let batch = self.batch;
        let sliced = sliced_views(net, self.buffers, step, batch as usize);
        let bytes = |view: &View| match view.place {
            Place::Buffer(buffer) => (distinct(view) * self.buffers[buffer].dtype.size()) as f64,
            _ => (distinct(view) * size_of::<f32>()) as f64,
        };
        let life = |view: &View| match view.place {
            Place::Buffer(buffer) => self.buffers[buffer].life,
            _ => (0, self.steps.len()),
        };
        let (mut sample, mut reads, mut writes) = (0.0, vec![], vec![]);
        // weights are the backend's to count
        for view in step.views().filter(|view| !matches!(view.place, Place::Constant(_))) {
            sample += bytes(view) / batch;
            let (first, last) = life(view);
            let writes_it = std::iter::once(&step.write).chain(&step.means).any(|own| std::ptr::eq(own, view));
            if writes_it {
                writes.push((bytes(view), last));
            } else {
                // an input was there before the first step
                let from = if matches!(view.place, Place::Buffer(_)) { first + 1 } else { 0 };
                reads.push((bytes(view), from));
            }
        }
        Facts { sliced: sliced.is_some(), sample, reads, writes }
    }

    /// The level that holds so many bytes.
    fn level(&self, bytes: f64) -> usize {
        self.levels.iter().position(|level| bytes <= level.holds).unwrap_or(self.levels.len() - 1)
    }

    fn byte(&self, reach: f64) -> f64 {
        self.levels[self.level(reach)].byte
    }

    /// Adds step `at` to a segment that begins with step `from`.
    fn extend(&self, cost: &mut Running, from: usize, at: usize, facts: &[Facts], size: usize, load: Load) {
        let facts = &facts[at];
        let slices = self.batch / size as f64;
        let reach = facts.sample * size as f64;
        let near = self.byte(reach);
        let moved = facts.sample * self.batch * near;
        for (seconds, level) in cost.seconds.iter_mut().zip(&self.levels) {
            let read = load.weights * level.byte;
            // reading overlaps with arithmetic, but not quite
            *seconds += slices * (load.work.max(read) + load.work.min(read) / 4.0) + moved;
        }
        cost.weights += load.weights;
        cost.peak = cost.peak.max(reach);
        let farther = |bytes: f64| bytes * (self.byte(bytes) - near).max(0.0);
        for (bytes, first) in &facts.reads {
            // `first` counts from 1
            if *first <= from {
                cost.seconds.iter_mut().for_each(|seconds| *seconds += farther(*bytes));
            }
        }
        for (bytes, last) in &facts.writes {
            cost.open += farther(*bytes);
            cost.closing.push((*last, farther(*bytes)));
        }
        cost.closing.retain(|(last, seconds)| {
            let closed = *last <= at;
            if closed {
                cost.open -= seconds;
            }
            !closed
        });
    }
}

/// Numbers of a view, those of a repeated axis once.
pub(super) fn distinct(view: &View) -> usize {
    view.dims.iter().zip(&view.strides).filter(|(_, stride)| **stride != 0).map(|(len, _)| *len).product()
}

/// Which of [`Step::views`] have the batch as their first axis; None where the step does not work on samples.
fn sliced_views(net: &Net, buffers: &[Buffer], step: &Step, batch: usize) -> Option<Vec<bool>> {
    let batched = |view: &View| match view.place {
        Place::Buffer(buffer) => buffers[buffer].sample.is_some(),
        Place::Input(number) => net.node(net.inputs()[number].1).shape.batched,
        Place::Constant(_) => false,
    };
    let is_copy = !matches!(step.work, Work::Node(_));
    // a copy's operand has the axes of what it writes, broadcast where it must be
    let sliced: Vec<bool> = step.views().map(|view| is_copy || batched(view)).collect();
    let whole = |(view, sliced): (&View, &bool)| !sliced || view.dims.first() == Some(&batch);
    (batched(&step.write) && step.views().zip(&sliced).all(whole)).then_some(sliced)
}

/// Narrows the views of steps to one slice each, and buffers that live within a segment to what a slice needs.
pub(super) fn cut(net: &Net, steps: &mut [Step], buffers: &mut [Buffer], batch: usize, segments: &[Segment]) {
    for segment in segments.iter().filter(|segment| segment.slices > 1) {
        let samples = batch / segment.slices;
        let own = shrinkable(steps, buffers, segment);
        for step in &mut steps[segment.steps.clone()] {
            let sliced = sliced_views(net, buffers, step, batch).expect("only such steps are in a segment of slices");
            for (view, _) in step.views_mut().zip(sliced).filter(|(_, sliced)| *sliced) {
                view.dims[0] = samples;
                let inner = matches!(view.place, Place::Buffer(buffer) if own[buffer]);
                view.slice = if inner { 0 } else { samples * view.strides[0] };
            }
        }
        for (buffer, _) in buffers.iter_mut().zip(&own).filter(|(_, own)| **own) {
            let sample = buffer.sample.expect("only such buffers shrink");
            buffer.len -= (batch - samples) * sample;
        }
    }
}

/// Buffers that live within the segment, and whose samples lie one after another.
fn shrinkable(steps: &[Step], buffers: &[Buffer], segment: &Segment) -> Vec<bool> {
    let Range { start, end } = segment.steps;
    let mut own: Vec<bool> =
        buffers.iter().map(|buffer| buffer.sample.is_some() && start <= buffer.life.0 && buffer.life.1 < end).collect();
    for view in steps[start..end].iter().flat_map(Step::views) {
        let Place::Buffer(at) = view.place else { continue };
        let apart = |sample| view.strides[0] == sample && view.sliced(0, 0, 1).span().end <= sample;
        own[at] &= buffers[at].sample.is_some_and(apart);
    }
    own
}
