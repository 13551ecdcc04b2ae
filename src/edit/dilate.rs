//! `dilate to 8`: strides beyond a total of 8 become 1, and what comes behind them is dilated instead, so that maps are
//! finer and tensors keep their shapes. This is torchvision's `replace_stride_with_dilation`, on any network.
//!
//! Behind a stride that is gone a map is `rate` times as fine as it was. A window there takes every `rate`-th pixel, and its
//! padding is as many times as wide, so that at every `rate`-th pixel stands what stood in the coarser map. What cannot be
//! done so is refused: layers that count the pixels of a map, or that make it larger again.

use indexmap::IndexMap;
use rustc_hash::FxHashMap;

use super::undone::{Deed, Mark};
use super::{Ctx, Failure, Note, Outcome, SHAPE, Verb};
use crate::build::Value;
use crate::diag::{Code, Problem};
use crate::graph::{Graph, NodeId, path};
use crate::ops::Op;
use crate::ops::attr::{Padding, Pair, Pair0};
use crate::ops::shape::Shape;
use crate::syntax::tree::Part;

pub(super) const VERB: Verb = Verb {
    name: "dilate",
    syntax: &["dilate to N"],
    meaning: "Strides beyond a total of N become 1, and every window behind them takes pixels that are as much farther apart \
        (`dilation`, with `padding` to match), as torchvision's replace_stride_with_dilation. The maps become finer, and all \
        tensors keep their shapes. A stride of which a part fits keeps that part. Windows of an even size that lie side by side \
        get `padding = same`, as timm gives them. It is refused where a layer counts the pixels of a finer map (`flatten`, \
        `reshape`, attention, a table of positions), makes it larger again, or pools it by windows that cannot be dilated.",
    example: "dilate to 8",
    apply,
};

/// No map is coarser.
const MOST: i64 = 4096;

/// An axis of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    /// Pixels of the input a step on it.
    stride: usize,
    /// How many times as fine it is as it was.
    rate: usize,
}

const PLAIN: Axis = Axis { stride: 1, rate: 1 };

/// What a layer makes of the axes that it takes, and the op that it has to be for that.
type Through = Result<(Option<Op>, Vec<Axis>), Problem>;

fn apply<'a>(ctx: &mut Ctx<'a, '_, '_>, parts: &'a [Part]) -> Outcome<()> {
    let [Part::Word(_), Part::Expr(to)] = parts else { unreachable!("{SHAPE}") };
    let mut env = ctx.env("");
    let limit = match ctx.builder.eval(&mut env, to)? {
        Value::Int(limit @ 1..=MOST) => limit as usize,
        Value::Poison => return Err(Failure::Reported),
        other => {
            let message = format!("a total stride is an integer from 1 to {MOST}, got {}", other.describe());
            return Err(Problem::new(Code::BadValue, message).at(to.span).into());
        }
    };
    let mut axes: FxHashMap<NodeId, Vec<Axis>> = FxHashMap::default();
    let mut changes: Vec<(NodeId, Op)> = vec![];
    let mut coarsest = 1;
    for id in ctx.builder.patch.order() {
        let graph: &Graph = ctx.builder.patch;
        let node = graph.node(id);
        let (Some(shapes), Some(out)) = (graph.operand_shapes(id), &node.shape) else {
            let message = format!("the shape of `{}` is not known here", path::display(&node.path));
            let problem = Problem::new(Code::ShapeUnknown, message).note("something before it does not fit");
            ctx.builder.unknown.push(problem.at(ctx.span));
            return Err(Failure::Reported);
        };
        let operands = graph.operands(id);
        let ins: Vec<In> =
            operands.iter().zip(shapes).map(|(operand, shape)| In { shape, axes: &axes[operand] }).collect();
        let (op, made) =
            through(&node.op, &ins, out, limit).map_err(|problem| refused(graph, id, problem).at(ctx.span))?;
        coarsest = made.iter().map(|axis| axis.stride.saturating_mul(axis.rate)).max().unwrap_or(1).max(coarsest);
        changes.extend(op.filter(|op| *op != node.op).map(|op| (id, op)));
        axes.insert(id, made);
    }
    if changes.is_empty() {
        let message = format!("no stride takes a map of this network beyond a total of {limit}");
        let problem = Problem::new(Code::BadEdit, message)
            .note(format!("the strides of its convolutions and poolings come to a total of {coarsest}"));
        return Err(problem.hint(format!("ask for less than {coarsest}")).at(ctx.span).into());
    }
    change(ctx, changes);
    Ok(())
}

/// Says of a layer that cannot be dilated where it is.
fn refused(graph: &Graph, id: NodeId, problem: Problem) -> Problem {
    let node = graph.node(id);
    let shown = path::display(&node.path);
    let named = |text: &str| text.replace("THIS", &format!("`{shown}`"));
    let hints = problem.hints.iter().map(|hint| hint.replace("THIS", &shown)).collect();
    Problem { message: named(&problem.message), hints, ..problem }.see(node.span, "made here")
}

/// Gives layers their new arguments, and says which.
fn change(ctx: &mut Ctx<'_, '_, '_>, changes: Vec<(NodeId, Op)>) {
    let mut notes: IndexMap<String, Vec<String>> = IndexMap::new();
    let mut marks: IndexMap<&'static str, Vec<(NodeId, Mark)>> = IndexMap::new();
    for (id, op) in changes {
        let node = ctx.builder.patch.node(id);
        let shown = path::display(&node.path);
        for ((name, old), (_, new)) in node.op.attrs().into_iter().zip(op.attrs()) {
            if old != new {
                notes.entry(format!("{name} {} at", new.simplified())).or_default().push(shown.clone());
                marks.entry(name).or_default().push((id, Mark::Argument(name.to_string())));
            }
        }
        ctx.matched.push(shown);
        ctx.builder.patch.set_op(id, op);
    }
    let notes = notes
        .into_iter()
        .flat_map(|(what, places)| places.into_iter().map(move |place| Note { what: what.clone().into(), place }));
    ctx.notes.extend(notes);
    ctx.deeds.extend(marks.into_values().map(Deed::Marks));
}

/// A value that a layer takes.
struct In<'a> {
    shape: &'a Shape,
    axes: &'a [Axis],
}

impl In<'_> {
    /// The place among its axes of one that an argument names, the batch left out.
    fn at(&self, axis: i64) -> Option<usize> {
        self.shape.resolve_axis(axis).ok()?.checked_sub(usize::from(self.shape.batched))
    }

    fn is_finer(&self, at: Option<usize>) -> bool {
        at.and_then(|at| self.axes.get(at)).is_some_and(|axis| axis.rate > 1)
    }

    fn any_finer(&self, axes: &[i64]) -> bool {
        axes.iter().any(|axis| self.is_finer(self.at(*axis)))
    }
}

fn through(op: &Op, ins: &[In<'_>], out: &Shape, limit: usize) -> Through {
    let plain = || vec![PLAIN; out.dims.len()];
    let Some(first) = ins.first() else { return Ok((None, plain())) };
    // what has no batch is no map of the input, whatever its strides
    if !out.batched {
        return Ok((None, plain()));
    }
    let is_finer = ins.iter().any(|one| one.axes.iter().any(|axis| axis.rate > 1));
    let last = first.axes.len().checked_sub(1);
    let same = || Ok((None, first.axes.to_vec()));
    let counts = || {
        let problem = refuse(format!("THIS counts the pixels of a map that becomes finer: it is a `{}`", op.name()));
        problem.hint("what lies before it can be dilated: `cut before THIS` first")
    };
    match op {
        Op::Conv2d(conv) => {
            let padding = match conv.padding {
                Padding::Each(pair) => pair.sides().map(Some),
                Padding::Same => [None, None],
            };
            let sides = sides(first.axes, conv.kernel, conv.stride, conv.dilation, padding, limit);
            let mut conv = conv.clone();
            (conv.stride, conv.dilation) = (pair(&sides, |side| side.stride), pair(&sides, |side| side.dilation));
            if let Padding::Each(_) = conv.padding {
                let is_same = sides.iter().any(|side| side.is_same)
                    && sides.iter().zip(conv.kernel.sides()).all(|(side, kernel)| side.is_same || kernel == 1);
                let each = Padding::Each(pair(&sides, |side| side.padding.unwrap_or(0)));
                conv.padding = if is_same { Padding::Same } else { each };
            }
            Ok((Some(conv.into()), map(&sides)))
        }
        Op::MaxPool2d(pool) => {
            let stride = pool.stride.unwrap_or(pool.kernel);
            let padding = pool.padding.0.sides().map(Some);
            let sides = sides(first.axes, pool.kernel, stride, pool.dilation, padding, limit);
            can_be_dilated(&sides, pool.kernel, stride, pool.ceil_mode)?;
            let mut pool = pool.clone();
            pool.stride = pool.stride.or(Some(stride)).map(|_| pair(&sides, |side| side.stride));
            pool.dilation = pair(&sides, |side| side.dilation);
            pool.padding = Pair0(pair(&sides, |side| side.padding.unwrap_or(0)));
            Ok((Some(pool.into()), map(&sides)))
        }
        Op::AvgPool2d(pool) => {
            let stride = pool.stride.unwrap_or(pool.kernel);
            let padding = pool.padding.0.sides().map(Some);
            let sides = sides(first.axes, pool.kernel, stride, Pair::both(1), padding, limit);
            if sides.iter().any(|side| side.dilation > 1) {
                let problem = refuse("THIS takes means of windows, which have no dilation");
                return Err(problem.hint(instead(stride)));
            }
            can_be_dilated(&sides, pool.kernel, stride, pool.ceil_mode)?;
            let mut pool = pool.clone();
            pool.stride = Some(pair(&sides, |side| side.stride));
            Ok((Some(pool.into()), map(&sides)))
        }
        Op::BatchNorm2d(_) | Op::LayerNorm2d(_) | Op::GroupNorm(_) | Op::InstanceNorm2d(_) => same(),
        Op::ChannelShuffle(_) => same(),
        Op::LayerNorm(op) if !first.is_finer(first.at(op.axis)) => same(),
        Op::RmsNorm(op) if !first.is_finer(first.at(op.axis)) => same(),
        Op::BatchNorm1d(op) if !first.is_finer(first.at(op.axis)) => same(),
        Op::Exp(_) | Op::Prelu(_) | Op::Identity(_) | Op::Dropout(_) | Op::Dropout2d(_) | Op::StochasticDepth(_) => {
            same()
        }
        _ if op.activation().is_some() => same(),
        Op::Linear(_) if first.is_finer(last) => Err(counts()),
        Op::Linear(_) => same(),
        Op::Softmax(op) if !first.is_finer(first.at(op.axis)) => same(),
        Op::LogSoftmax(op) if !first.is_finer(first.at(op.axis)) => same(),
        Op::Normalize(op) if !first.is_finer(first.at(op.axis)) => same(),
        Op::Glu(op) if !first.is_finer(first.at(op.axis)) => same(),
        Op::Chunk(op) if !first.is_finer(first.at(op.axis)) => same(),
        Op::Slice(op) if !first.is_finer(first.at(op.axis)) => same(),
        Op::Pad(pad) => {
            let mut pad = pad.clone();
            for (sizes, axis) in pad.sizes.chunks_exact_mut(2).zip(first.axes.iter().rev()) {
                sizes.iter_mut().for_each(|size| *size = size.saturating_mul(axis.rate as i64));
            }
            Ok((Some(pad.into()), first.axes.to_vec()))
        }
        Op::Permute(permute) => {
            let order = permute.order(first.shape).expect("the shape was inferred");
            let order = order.into_iter().filter_map(|axis| axis.checked_sub(usize::from(first.shape.batched)));
            Ok((None, order.map(|at| first.axes[at]).collect()))
        }
        Op::Mean(mean) => Ok((None, reduced(first, &mean.axis, mean.keep))),
        Op::Var(var) => Ok((None, reduced(first, &var.axis, var.keep))),
        // those of places count them
        Op::Sum(sum) if !first.any_finer(&sum.axis) => Ok((None, reduced(first, &sum.axis, sum.keep))),
        Op::VectorNorm(norm) if !first.any_finer(&norm.axis) => Ok((None, reduced(first, &norm.axis, norm.keep))),
        Op::Amax(amax) => Ok((None, reduced(first, &amax.axis, amax.keep))),
        // a size of its own, whatever the map's
        Op::AdaptiveAvgPool2d(_) | Op::AdaptiveMaxPool2d(_) | Op::GlobalAvgPool2d(_) | Op::GlobalMaxPool2d(_) => {
            Ok((None, plain()))
        }
        Op::Upsample(upsample) if upsample.size.is_some() => Ok((None, plain())),
        Op::Add(_) | Op::Mul(_) | Op::Sub(_) | Op::Div(_) | Op::Maximum(_) | Op::Minimum(_) => joined(ins, out, None),
        Op::Concat(concat) => joined(ins, out, first.at(concat.axis)),
        Op::ConvTranspose2d(_) | Op::PixelShuffle(_) | Op::Upsample(_) if is_finer => {
            let problem = refuse("THIS makes a map larger again that becomes finer");
            Err(problem.hint("dilate before the edit that puts a decoder in"))
        }
        Op::ConvTranspose2d(_) | Op::PixelShuffle(_) | Op::Upsample(_) => {
            let lens = first.shape.dims.iter().zip(&out.dims);
            let larger = |(axis, (was, is)): (&Axis, (&usize, &usize))| Axis {
                stride: (axis.stride.saturating_mul(*was) / is).max(1),
                ..*axis
            };
            Ok((None, first.axes.iter().zip(lens).map(larger).collect()))
        }
        _ if is_finer => Err(counts()),
        _ if ins.len() == 1 && first.shape == out => same(),
        _ => Ok((None, plain())),
    }
}

/// What becomes of a window along one axis of an image.
struct Side {
    stride: usize,
    dilation: usize,
    padding: Option<usize>,
    /// Windows of an even size that lay side by side.
    is_same: bool,
    /// A part of its stride goes, or it is behind one that went.
    is_changed: bool,
    out: Axis,
}

fn sides(
    axes: &[Axis],
    kernel: Pair,
    stride: Pair,
    dilation: Pair,
    padding: [Option<usize>; 2],
    limit: usize,
) -> [Side; 2] {
    [0, 1].map(|at| {
        let axis = axes.get(at + 1).copied().unwrap_or(PLAIN);
        let [kernel, stride, dilation] = [kernel, stride, dilation].map(|pair| pair.sides()[at]);
        let room = (limit / axis.stride).max(1);
        let kept = if stride <= room { stride } else { (1..=room).rev().find(|kept| stride % kept == 0).unwrap_or(1) };
        let gone = stride / kept;
        Side {
            stride: kept,
            dilation: if kernel > 1 { dilation.saturating_mul(axis.rate) } else { dilation },
            padding: padding[at].map(|padding| padding.saturating_mul(axis.rate)),
            is_same: gone > 1 && kernel == stride && kernel % 2 == 0 && padding[at] == Some(0),
            is_changed: gone > 1 || axis.rate > 1,
            out: Axis { stride: axis.stride.saturating_mul(kept), rate: axis.rate.saturating_mul(gone) },
        }
    })
}

fn pair(sides: &[Side; 2], of: impl Fn(&Side) -> usize) -> Pair {
    Pair { h: of(&sides[0]), w: of(&sides[1]) }
}

/// The axes of the image that windows make.
fn map(sides: &[Side; 2]) -> Vec<Axis> {
    vec![PLAIN, sides[0].out, sides[1].out]
}

/// Pools have no padding that would keep the size of a map without their stride, but for odd windows.
fn can_be_dilated(sides: &[Side; 2], kernel: Pair, stride: Pair, ceil_mode: bool) -> Result<(), Problem> {
    for ((side, kernel), step) in sides.iter().zip(kernel.sides()).zip(stride.sides()) {
        let why = match () {
            _ if !side.is_changed || (kernel == 1 && !ceil_mode) => continue,
            _ if kernel % 2 == 0 => "THIS pools windows of an even size, which shift the map without their stride",
            _ if ceil_mode && step > 1 => {
                "THIS lets windows reach beyond the map (`ceil_mode`), which they do not without their stride"
            }
            _ => continue,
        };
        return Err(refuse(why).hint(instead(stride)));
    }
    Ok(())
}

/// A pooling that can be dilated, of the same stride.
fn instead(stride: Pair) -> String {
    let stride = if stride.h == stride.w { stride.h.to_string() } else { format!("({}, {})", stride.h, stride.w) };
    format!("replace it first: `replace THIS with max_pool2d(3, stride = {stride}, padding = 1)`")
}

/// The axes that are left of a value, or stay with length 1.
fn reduced(one: &In<'_>, axes: &[i64], keep: bool) -> Vec<Axis> {
    let gone: Vec<usize> = axes.iter().filter_map(|axis| one.at(*axis)).collect();
    let each = one.axes.iter().enumerate();
    match keep {
        true => each.map(|(at, axis)| if gone.contains(&at) { PLAIN } else { *axis }).collect(),
        false => each.filter(|(at, _)| !gone.contains(at)).map(|(_, axis)| *axis).collect(),
    }
}

/// Values of one size, but for what is broadcast and for the axis along which they are joined.
fn joined(ins: &[In<'_>], out: &Shape, along: Option<usize>) -> Through {
    let mut axes: Vec<Option<Axis>> = vec![None; out.dims.len()];
    for one in ins {
        // values with a batch pair axes from the left, others from the right
        let from = if one.shape.batched == out.batched { 0 } else { out.rank().saturating_sub(one.shape.rank()) };
        for (at, axis) in one.axes.iter().enumerate() {
            let place = (at + usize::from(one.shape.batched) + from).checked_sub(usize::from(out.batched));
            let Some(place) = place.filter(|place| *place < axes.len()) else { continue };
            if one.shape.dims[at] == 1 && out.dims[place] != 1 && along != Some(place) {
                continue;
            }
            let known = axes[place].get_or_insert(*axis);
            if known.rate != axis.rate || (along == Some(place) && axis.rate > 1) {
                let problem = refuse("THIS joins a map that becomes finer with a value whose size stays");
                return Err(problem.hint("dilate before the edit that puts it in, or replace what has that size"));
            }
            known.stride = known.stride.max(axis.stride);
        }
    }
    Ok((None, axes.into_iter().map(|axis| axis.unwrap_or(PLAIN)).collect()))
}

/// `THIS` stands for the layer.
fn refuse(why: impl Into<String>) -> Problem {
    Problem::new(Code::BadEdit, why)
}
