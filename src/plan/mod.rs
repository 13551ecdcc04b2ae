//! From a lowered network and a batch size to steps in order, each with views of the memory that it reads and writes.
//!
//! Every value gets a place before the first step runs; its size is known before anything is allocated. Permutations,
//! slices and most reshapes are views and cost no step; copies are made only where a kernel cannot read a view as it is.
//! The parts of a concatenation are written where they belong, where that is possible.
//!
//! The plan knows nothing of instruction sets or devices: what a backend wishes for is in [`Options`].

mod arena;
mod cost;
mod dtype;
pub mod geometry;
mod layout;
pub mod memory;
mod slices;
mod states;
pub mod view;

use archc_base::DType;

use crate::diag::{Code, Problem};
use crate::graph::{NodeId, path};
use crate::net::{Constant, Id, Kind, Net};
use crate::typed::Typed;

pub use cost::Cost;
pub use dtype::Reduced;
pub use geometry::Geometry;
pub use memory::{available, gigabytes};
pub use slices::{Level, Load, Segment, Slicing};
pub use view::{Place, View};

/// What a plan depends on besides the network.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Samples a run.
    pub batch: usize,
    /// How many values apart the pixels of an image of so many channels should be.
    pub pixel_stride: fn(usize) -> usize,
    /// What values are kept in that `reduced` says; the others are float32.
    pub dtype: DType,
    pub reduced: Reduced,
    /// Convolutions of windows read float32 images of up to so many channels in any order of axes.
    pub few_channels: usize,
    /// Where steps may be run for some samples at a time: what the backend knows of their cost.
    pub slicing: Option<&'a dyn Slicing>,
    /// Bytes that all values together may take.
    pub memory: usize,
}

/// What one step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// What that node says.
    Node(Id),
    /// The same numbers elsewhere, in another layout.
    Copy,
    /// One number everywhere.
    Fill(f32),
}

/// One step. `write` never overlaps what it reads, unless `in_place`: then it is the same memory as the first read.
#[derive(Clone, Debug)]
pub struct Step {
    pub work: Work,
    pub reads: Vec<View>,
    /// One number a channel, `[C]`, of an epilogue.
    pub bias: Option<View>,
    /// The factors of channels [N, C] of an epilogue.
    pub gate: Option<View>,
    pub residual: Option<View>,
    pub write: View,
    /// The means of channels [N, C] that are written besides.
    pub means: Option<View>,
    pub in_place: bool,
    /// The axes from the outermost to the innermost in which a node goes through its values: rows of the last.
    pub order: Vec<usize>,
    /// What else its kernel needs to know of views.
    pub geometry: Geometry,
    /// The layers that it does the work of.
    pub layers: Vec<NodeId>,
}

/// A part of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub dtype: DType,
    /// In floats, from the start of the arena.
    pub offset: usize,
    /// In values.
    pub len: usize,
    /// Values from one sample to the next, where it holds some for each sample of the batch.
    pub sample: Option<usize>,
    /// The first step that writes it and the last that reads it; outputs are read after the last.
    pub life: (usize, usize),
}

impl Step {
    /// A step that reads nothing yet.
    pub fn new(work: Work, write: View, layers: &[NodeId]) -> Step {
        Step {
            work,
            reads: vec![],
            bias: None,
            gate: None,
            residual: None,
            write,
            means: None,
            in_place: false,
            order: vec![],
            geometry: Geometry::Rows,
            layers: layers.to_vec(),
        }
    }

    /// What it reads besides the first operand.
    pub fn further(&self) -> impl Iterator<Item = &View> {
        self.reads.iter().skip(1).chain(&self.bias).chain(&self.gate).chain(&self.residual)
    }

    /// Everything it touches.
    pub fn views(&self) -> impl Iterator<Item = &View> {
        let beside = self.bias.iter().chain(&self.gate).chain(&self.residual);
        self.reads.iter().chain(beside).chain([&self.write]).chain(&self.means)
    }

    fn views_mut(&mut self) -> impl Iterator<Item = &mut View> {
        let beside = self.bias.iter_mut().chain(&mut self.gate).chain(&mut self.residual);
        self.reads.iter_mut().chain(beside).chain([&mut self.write]).chain(&mut self.means)
    }
}

/// Steps and memory. See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    batch: usize,
    net: Net,
    steps: Vec<Step>,
    segments: Vec<Segment>,
    buffers: Vec<Buffer>,
    arena: usize,
    constants: Vec<Constant>,
    inputs: Vec<(String, Vec<usize>)>,
    outputs: Vec<(String, View)>,
    /// Where each of the net's states lies.
    states: Vec<View>,
}

/// No value has more axes than this.
const MAX_RANK: usize = 8;

/// Plans `net`.
///
/// # Errors
/// If its values for that batch cannot fit into the memory that there is.
pub fn plan(net: Net, options: &Options) -> Result<Plan, Problem> {
    check_sizes(&net, options.batch)?;
    let mut plan = layout::lay_out(net, options);
    // statistics are those of the whole batch
    let slicing = options.slicing.filter(|_| plan.states.is_empty());
    if let Some(slicing) = slicing {
        arena::find_lives(&plan.steps, &plan.segments, &mut plan.buffers, &plan.outputs);
        plan.segments = slices::choose(&plan.net, &plan.steps, &plan.buffers, plan.batch, slicing);
        slices::cut(&plan.net, &mut plan.steps, &mut plan.buffers, plan.batch, &plan.segments);
    }
    let kept = if plan.states.is_empty() { 0 } else { states::KEPT };
    plan.arena = arena::assign(&mut plan.steps, &plan.segments, &mut plan.buffers, &mut plan.outputs, kept)
        .ok_or_else(|| memory::too_large(usize::MAX, options.batch))?;
    for step in &mut plan.steps {
        step.geometry = Geometry::of(&plan.net, step);
    }
    match plan.bytes() {
        Some(bytes) if bytes <= options.memory => Ok(plan),
        bytes => Err(memory::too_large(bytes.unwrap_or(usize::MAX), options.batch)),
    }
}

/// Makes sure that no size overflows later.
fn check_sizes(net: &Net, batch: usize) -> Result<(), Problem> {
    if batch == 0 {
        return Err(Problem::new(Code::BadValue, "a batch needs 1 sample or more, got 0"));
    }
    let limit = 1 << 50;
    for id in net.order() {
        let shape = &net.node(id).shape;
        if shape.rank() > MAX_RANK {
            let message = format!("a value of {} axes: {shape}; kernels take up to {MAX_RANK}", shape.rank());
            return Err(Problem::new(Code::TooLarge, message));
        }
        let len = if shape.batched { shape.len().checked_mul(batch) } else { Some(shape.len()) };
        if len.is_none_or(|len| len > limit) {
            return Err(memory::too_large(usize::MAX, batch));
        }
    }
    Ok(())
}

impl Plan {
    /// Bytes of all values at once, inputs and outputs of the whole batch among them; None beyond counting.
    fn bytes(&self) -> Option<usize> {
        let inputs = self.inputs.iter().map(|(_, dims)| dims.iter().product());
        let outputs = self.outputs.iter().map(|(_, view)| view.len());
        let floats = inputs.chain(outputs).try_fold(self.arena, |sum: usize, len| sum.checked_add(len));
        floats?.checked_mul(size_of::<f32>())
    }

    pub fn batch(&self) -> usize {
        self.batch
    }

    pub fn net(&self) -> &Net {
        &self.net
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// All steps, cut into parts that are each run for a slice of the batch after another.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// How many times step `at` is run.
    pub fn slices(&self, at: usize) -> usize {
        self.segments.iter().find(|segment| segment.steps.contains(&at)).map_or(1, |segment| segment.slices)
    }

    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// The memory of all values together in floats, memory that is used again counted once.
    pub fn arena(&self) -> usize {
        self.arena
    }

    /// The values of parameters alone that steps read, by [`Place::Constant`].
    pub fn constants(&self) -> &[Constant] {
        &self.constants
    }

    /// The inputs by name with all their axes, by [`Place::Input`].
    pub fn inputs(&self) -> &[(String, Vec<usize>)] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[(String, View)] {
        &self.outputs
    }

    /// Where a view begins, in values of its type from the start of the arena (or of its input or constant).
    pub fn start(&self, view: &View) -> usize {
        match view.place {
            Place::Buffer(buffer) => {
                let Buffer { offset, dtype, .. } = self.buffers[buffer];
                offset * size_of::<f32>() / dtype.size() + view.offset
            }
            _ => view.offset,
        }
    }

    /// Whether read `at` of a step is a weight.
    pub fn is_weight(&self, step: &Step, at: usize) -> bool {
        matches!(step.work, Work::Node(id) if self.net.node(id).kind.is_weight(at))
    }

    /// One line for a step: number, kind, layers, shapes.
    pub fn describe(&self, step: &Step, typed: &Typed) -> String {
        let kind = match &step.work {
            Work::Node(id) => match &self.net.node(*id).kind {
                Kind::Identity(_) if step.gate.is_some() => "mul",
                Kind::Identity(_) if step.residual.is_some() => "add",
                Kind::Identity(_) => "map",
                kind => kind.name(),
            },
            Work::Copy => "copy",
            Work::Fill(_) => "fill",
        };
        let layers: Vec<String> =
            step.layers.iter().map(|layer| path::display(&typed.graph().node(*layer).path)).collect();
        let shape = |view: &View| {
            let dims: Vec<String> = view.dims.iter().map(usize::to_string).collect();
            let layout = if view.pixel_stride().is_some() && !view.is_plain() { "nhwc " } else { "" };
            format!("{layout}[{}]", dims.join(", "))
        };
        let reads = step.reads.iter().enumerate().filter(|(at, _)| !self.is_weight(step, *at)).map(|(_, view)| view);
        let reads: Vec<String> = reads.chain(&step.gate).chain(&step.residual).map(shape).collect();
        let place = if step.in_place { " in place" } else { "" };
        let means = step.means.as_ref().map_or(String::new(), |means| format!(", {}", shape(means)));
        format!("{kind} {} : {} -> {}{means}{place}", layers.join(" + "), reads.join(", "), shape(&step.write))
    }

    /// [`Plan::describe`] for every step, and the size of the arena, for `show --steps`.
    pub fn dump(&self, typed: &Typed) -> String {
        let lines = self.steps.iter().map(|step| self.describe(step, typed) + "\n");
        lines.collect::<String>() + &format!("values: {} floats in {} buffers\n", self.arena, self.buffers.len())
    }
}
