//! From a trace to archc's ops: the network's input, and what becomes of it, op by op; what does not depend on it and on no
//! parameter is computed here and now.
//!
//! Nothing is approximated. What the language cannot say is refused by name, all unknown ops at once.

mod layers;
mod movement;
mod ops;
mod table;
mod view;

use std::collections::{BTreeMap, HashMap};

pub use view::{Fold, Lifted, inner};

use super::array::{Array, Dtype};
use super::draft::{Content, DraftId, Drafts, Place};
use super::eval::{self, Call};
use super::trace::{Arg, Kind, Module, Node, Trace, ValueId};
use crate::diag::{Code, Problem, count};
use crate::ops::attr::{self, Attr};
use crate::ops::constant::{Buffer, Input, Parameter};
use crate::ops::init::Init;
use crate::ops::layout::Reshape;
use crate::ops::{Op, find};
use layers::Layers;

/// Why a node is not lifted.
#[derive(Debug)]
pub enum Fail {
    /// The language has no such op, or not with these arguments.
    Unknown,
    Refused(String),
    /// What archc's op says of its operands.
    Problem(Problem),
}

type Out<T> = Result<T, Fail>;

fn refuse<T>(what: impl Into<String>) -> Out<T> {
    Err(Fail::Refused(what.into()))
}

impl From<Problem> for Fail {
    fn from(problem: Problem) -> Fail {
        Fail::Problem(problem)
    }
}

/// A value of the trace, as far as it is followed.
#[derive(Clone)]
enum Val {
    /// It does not depend on input and parameters.
    Known(Array),
    /// A tensor of the file that no node was made of yet.
    Tensor(usize),
    Lifted(Lifted),
}

/// What became of a trace.
pub struct Lift {
    pub drafts: Drafts,
    pub inputs: Vec<(String, DraftId)>,
    pub outputs: Vec<(String, DraftId)>,
    /// What each value of the trace is, for those that are nodes.
    pub values: Vec<Option<Lifted>>,
}

/// The largest whole number up to which all are float32.
const MAX_WHOLE: i64 = 1 << 24;
/// Values that folded constants may have, together.
const MAX_FOLDED: usize = 1 << 27;

/// Lifts a trace.
///
/// # Errors
/// Ops that are not known, all of them; else the first nodes that the language cannot say.
pub fn lift(trace: &Trace) -> Result<Lift, Problem> {
    let first = trace.inputs.first().map(|value| &trace.values[*value]);
    let Some(batch) = first.and_then(|value| value.shape.first().copied()).filter(|batch| *batch > 0) else {
        return Err(Problem::new(Code::Import, "the network has no input with a batch")
            .hint("export it with an input [N, ..], as PyTorch's networks take it"));
    };
    let mut lifting = Lifting::new(trace, batch);
    lifting.run()?;
    lifting.finish()
}

/// A range of an axis of a value.
#[derive(Clone, Copy, Debug)]
struct Range {
    of: ValueId,
    axis: usize,
    from: usize,
    to: usize,
}

struct Lifting<'a> {
    trace: &'a Trace,
    /// Samples in the trace.
    batch: usize,
    drafts: Drafts,
    vals: Vec<Option<Val>>,
    /// What each value was before anything was written into it.
    made: Vec<Option<Lifted>>,
    /// The value whose storage each value looks into, itself where it has its own.
    roots: Vec<ValueId>,
    /// Values that are a range of an axis of another one.
    ranges: HashMap<ValueId, Range>,
    /// The others that look into a value's storage.
    views: HashMap<ValueId, Vec<ValueId>>,
    /// The last node that takes each value.
    last_use: Vec<usize>,
    /// The node that makes each value.
    maker: Vec<Option<usize>>,
    /// The node that is lifted now.
    at: usize,
    layers: Layers,
    /// The first layer of each key prefix.
    owners: HashMap<String, DraftId>,
    parameters: HashMap<usize, DraftId>,
    constants: HashMap<ValueId, DraftId>,
    /// Storages of tensors of the file.
    storages: HashMap<*const (), usize>,
    inputs: Vec<(String, DraftId)>,
    unknown: BTreeMap<String, (usize, String)>,
    refused: Vec<String>,
    folded: usize,
}

impl<'a> Lifting<'a> {
    fn new(trace: &'a Trace, batch: usize) -> Lifting<'a> {
        let count = trace.values.len();
        let mut last_use = vec![0; count];
        let mut maker = vec![None; count];
        for (at, node) in trace.nodes.iter().enumerate() {
            node.takes().for_each(|value| last_use[value] = at);
            node.outputs.iter().flatten().for_each(|value| maker[*value] = Some(at));
        }
        trace.outputs.iter().for_each(|(_, value)| last_use[*value] = usize::MAX);
        let mut vals: Vec<Option<Val>> = vec![None; count];
        for (at, stored) in trace.tensors.iter().enumerate() {
            vals[stored.value] = Some(Val::Tensor(at));
        }
        Lifting {
            trace,
            batch,
            drafts: Drafts::default(),
            vals,
            made: vec![None; count],
            roots: (0..count).collect(),
            ranges: HashMap::new(),
            views: HashMap::new(),
            last_use,
            maker,
            at: 0,
            layers: Layers::of(trace),
            owners: HashMap::new(),
            parameters: HashMap::new(),
            constants: HashMap::new(),
            storages: HashMap::new(),
            inputs: vec![],
            unknown: BTreeMap::new(),
            refused: vec![],
            folded: 0,
        }
    }

    fn run(&mut self) -> Result<(), Problem> {
        let trace = self.trace;
        for value in &trace.inputs {
            let described = &trace.values[*value];
            if described.shape.first() != Some(&self.batch) || !described.dtype.is_float() {
                let message = format!(
                    "the input `{}` is {:?}, not a batch of {} samples of floats",
                    described.name, described.shape, self.batch
                );
                return Err(Problem::new(Code::Import, message));
            }
            let shape = described.shape[1..].iter().map(|len| *len as i64).collect();
            // a picture is called so in every network
            let is_picture = trace.inputs.len() == 1 && described.shape.len() == 4;
            let name = if is_picture { "image".to_string() } else { described.name.clone() };
            let id = self.drafts.push(Input { shape }.into(), vec![], Place::Key(name.clone()))?;
            self.inputs.push((name, id));
            let lifted = Lifted { id, dims: described.shape.clone(), batch: Some(Fold::plain(0)) };
            self.vals[*value] = Some(Val::Lifted(lifted));
        }
        for (at, node) in trace.nodes.iter().enumerate() {
            self.at = at;
            if trace.is_idle(at) {
                continue;
            }
            // what an op takes that was not lifted was told already
            if node.takes().any(|value| self.vals[value].is_none()) {
                let op = node.op();
                let plain = op.strip_suffix('_').filter(|plain| !plain.is_empty()).unwrap_or(op);
                if !node.target.starts_with("aten.") || !table::OPS.contains(&plain) {
                    self.unknown.entry(node.target.clone()).or_insert((0, place(node))).0 += 1;
                }
                continue;
            }
            match self.node(node) {
                Ok(()) => {}
                Err(Fail::Unknown) => {
                    let entry = self.unknown.entry(node.target.clone()).or_insert((0, place(node)));
                    entry.0 += 1;
                }
                Err(Fail::Refused(why)) => self.refused.push(format!("`{}`{}: {why}", node.name, place(node))),
                Err(Fail::Problem(problem)) => {
                    self.refused.push(format!("`{}`{}: {}", node.name, place(node), problem.message));
                }
            }
        }
        self.complaints()
    }

    /// What could not be lifted, as one message.
    fn complaints(&self) -> Result<(), Problem> {
        if self.unknown.is_empty() && self.refused.is_empty() {
            return Ok(());
        }
        let shown = |(target, (times, place)): (&String, &(usize, String))| match times {
            1 => format!("`{target}`{place}"),
            times => format!("`{target}`, {times} times, first{place}"),
        };
        let unknown: Vec<String> = self.unknown.iter().map(shown).collect();
        let message = match (unknown.len(), self.refused.len()) {
            (0, refused) => format!("{} of the network cannot be written in the language", count(refused, "op")),
            (unknown, 0) => format!("the language has no op for {} of the network", count(unknown, "kind")),
            (unknown, refused) => format!(
                "the language has no op for {} of the network, and {} cannot be written in it",
                count(unknown, "kind"),
                count(refused, "other")
            ),
        };
        Err(Problem::new(Code::Import, message).list("unknown ops", unknown).list("ops", self.refused.clone()))
    }

    fn node(&mut self, node: &'a Node) -> Out<()> {
        if self.is_known(node) {
            return self.fold(node);
        }
        let results = self.lifted(node)?;
        // of a largest value its place, which somebody may want
        if node.outputs.iter().skip(results.len()).flatten().any(|output| self.last_use[*output] > self.at) {
            return refuse("one of its further values is used");
        }
        for (output, result) in node.outputs.iter().zip(results) {
            let (Some(output), Some(result)) = (output, result) else { continue };
            let described = &self.trace.values[*output].shape;
            if result.dims != *described {
                return refuse(format!("it gives {:?}, the file says {described:?}", result.dims));
            }
            if self.own(&result).len() != inner(&result.dims, result.batch).len() {
                return refuse("its axes were lost");
            }
            self.made[*output] = Some(result.clone());
            self.vals[*output] = Some(Val::Lifted(result));
        }
        self.share_storages(node)
    }

    /// Whether it depends neither on the input nor on a parameter.
    fn is_known(&self, node: &Node) -> bool {
        is_of_shapes(node.op())
            || node.takes().all(|value| match &self.vals[value] {
                Some(Val::Known(_)) => true,
                Some(Val::Tensor(at)) => self.trace.tensors[*at].kind != Kind::Parameter,
                _ => false,
            })
    }

    /// Computes a node of known values.
    fn fold(&mut self, node: &Node) -> Out<()> {
        for value in node.takes() {
            self.known(value);
        }
        let results = {
            let (vals, values) = (&self.vals, &self.trace.values);
            let get = |value: ValueId| match &vals[value] {
                Some(Val::Known(array)) => Some(array.clone()),
                // of which the shape alone counts
                _ => Array::of([], vec![0.0], values[value].dtype).expand(&values[value].shape),
            };
            eval::eval(&Call { node, get: &get }).map_err(|fail| match fail {
                eval::Fail::Unknown => Fail::Unknown,
                eval::Fail::Wrong(why) => Fail::Refused(why),
            })?
        };
        if node.is_in_place() {
            // what was made of the values before stays as it was
            if let Some(Val::Known(own)) = node.takes().next().and_then(|value| self.vals[value].as_ref()) {
                let storage = own.storage();
                let vals = &self.vals;
                self.constants
                    .retain(|value, _| !matches!(&vals[*value], Some(Val::Known(array)) if array.storage() == storage));
                self.storages.remove(&storage);
            }
        }
        for (output, result) in node.outputs.iter().zip(results) {
            let Some(output) = output else { continue };
            if result.shape() != self.trace.values[*output].shape {
                return refuse(format!(
                    "it gives {:?}, the file says {:?}",
                    result.shape(),
                    self.trace.values[*output].shape
                ));
            }
            self.folded += result.len();
            if self.folded > MAX_FOLDED {
                return refuse(format!("constants of more than {MAX_FOLDED} values"));
            }
            self.vals[*output] = Some(Val::Known(result));
        }
        Ok(())
    }

    /// The values of what is known; None of what depends on the input or on a parameter.
    fn known(&mut self, value: ValueId) -> Option<Array> {
        match &self.vals[value] {
            Some(Val::Known(array)) => Some(array.clone()),
            Some(Val::Tensor(at)) if self.trace.tensors[*at].kind != Kind::Parameter => {
                let array = self.trace.tensors[*at].array();
                self.storages.insert(array.storage(), *at);
                self.vals[value] = Some(Val::Known(array.clone()));
                Some(array)
            }
            _ => None,
        }
    }

    /// The one number that a value or an argument is.
    fn number(&mut self, arg: &Arg) -> Option<f64> {
        match arg {
            Arg::Int(number) => Some(*number as f64),
            Arg::Float(number) => Some(*number),
            Arg::Bool(value) => Some(f64::from(u8::from(*value))),
            Arg::Value(value) => {
                let array = self.known(*value)?;
                if array.len() == 1 { array.to_f64().first().copied() } else { None }
            }
            _ => None,
        }
    }

    fn modules(&self) -> Vec<Module> {
        self.trace.nodes[self.at].modules.clone()
    }

    /// Makes a node in the module that runs now.
    fn push(&mut self, op: impl Into<Op>, ins: &[DraftId]) -> Out<DraftId> {
        let place = Place::In { modules: self.modules(), name: None };
        self.push_at(op, ins, place)
    }

    fn push_at(&mut self, op: impl Into<Op>, ins: &[DraftId], place: Place) -> Out<DraftId> {
        let id = self.drafts.push(op.into(), ins.to_vec(), place)?;
        if self.drafts.shape(id).len().saturating_mul(self.batch) > eval::MAX_LEN {
            return refuse(format!("{} is more than is computed", self.drafts.shape(id)));
        }
        Ok(id)
    }

    /// A value as a node.
    fn operand(&mut self, value: ValueId) -> Out<Lifted> {
        match self.vals[value].clone() {
            Some(Val::Lifted(lifted)) => Ok(lifted),
            Some(Val::Tensor(at)) if self.trace.tensors[at].kind == Kind::Parameter => self.parameter(at),
            Some(_) => {
                let array = self.known(value).expect("it is no parameter and was not lifted");
                let id = self.constant(value, &array)?;
                Ok(Lifted { id, dims: array.shape().to_vec(), batch: None })
            }
            None => refuse("what it takes was not lifted"),
        }
    }

    /// A value as a node, beside values of `rank` axes with such a batch: what is known and the same for all samples has a 1
    /// in the batch's place.
    fn operand_beside(&mut self, value: ValueId, batch: Option<(Fold, usize)>) -> Out<Lifted> {
        let (Some((fold, rank)), Some(array)) = (batch, self.known(value)) else { return self.operand(value) };
        let Some(axis) = (fold.axis + array.rank()).checked_sub(rank) else { return self.operand(value) };
        if array.rank() > rank || array.shape()[axis] == 1 {
            return self.operand(value);
        }
        let Some(one) = one_sample(&array, Fold { axis, ..fold }, self.batch) else {
            return refuse(format!("a constant {:?} differs from sample to sample", array.shape()));
        };
        let id = self.new_constant(value, &one)?;
        Ok(Lifted { id, dims: array.shape().to_vec(), batch: Some(Fold { axis, ..fold }) })
    }

    fn parameter(&mut self, at: usize) -> Out<Lifted> {
        let stored = &self.trace.tensors[at];
        let dims = stored.shape.clone();
        let id = match self.parameters.get(&at) {
            Some(id) => *id,
            None => {
                let shape = dims.iter().map(|len| *len as i64).collect();
                let place = Place::Key(stored.key.clone());
                let id = self.push_at(Parameter { shape, init: Init::Zeros }, &[], place)?;
                self.drafts.nodes[id].content = Some(Content::Stored(at));
                self.parameters.insert(at, id);
                id
            }
        };
        Ok(Lifted { id, dims, batch: None })
    }

    /// The node of a known value: the file's own tensor where it is one, under any axes, else a constant.
    fn constant(&mut self, value: ValueId, array: &Array) -> Out<DraftId> {
        if let Some(id) = self.constants.get(&value) {
            return Ok(*id);
        }
        let stored = self.storages.get(&array.storage()).copied();
        let whole = stored.filter(|at| {
            let stored = &self.trace.tensors[*at];
            stored.is_whole() && array.is_contiguous() && array.len() == stored.shape.iter().product::<usize>()
        });
        let id = match whole {
            Some(at) => {
                let stored = &self.trace.tensors[at];
                let id = match self.parameters.get(&at) {
                    Some(id) => *id,
                    None => {
                        whole_numbers(array)?;
                        let shape = stored.shape.iter().map(|len| *len as i64).collect();
                        let place = Place::Key(stored.key.clone());
                        let id = self.push_at(Buffer { shape, init: Init::Zeros }, &[], place)?;
                        self.drafts.nodes[id].content = Some(Content::Stored(at));
                        self.parameters.insert(at, id);
                        id
                    }
                };
                match array.shape() == stored.shape {
                    true => id,
                    false => {
                        let shape = array.shape().iter().map(|len| *len as i64).collect();
                        self.push(Reshape { shape }, &[id])?
                    }
                }
            }
            None => self.new_constant(value, array)?,
        };
        self.constants.insert(value, id);
        Ok(id)
    }

    /// A constant of its own, in the module that made its values.
    fn new_constant(&mut self, value: ValueId, array: &Array) -> Out<DraftId> {
        whole_numbers(array)?;
        let modules = match self.maker[value] {
            Some(maker) => self.trace.nodes[maker].modules.clone(),
            None => self.modules(),
        };
        let shape = array.shape().iter().map(|len| *len as i64).collect();
        let place = Place::In { modules, name: Some("constant") };
        let id = self.push_at(Buffer { shape, init: Init::Zeros }, &[], place)?;
        self.drafts.nodes[id].content = Some(Content::Folded(array.cast(Dtype::F32)));
        Ok(id)
    }

    /// A constant that no value of the trace is.
    fn made_constant(&mut self, array: Array) -> Out<Lifted> {
        let shape = array.shape().iter().map(|len| *len as i64).collect();
        let dims = array.shape().to_vec();
        let place = Place::In { modules: self.modules(), name: Some("constant") };
        let id = self.push_at(Buffer { shape, init: Init::Zeros }, &[], place)?;
        self.drafts.nodes[id].content = Some(Content::Folded(array));
        Ok(Lifted { id, dims, batch: None })
    }

    /// After an op: which values look into one storage, and what those are that it wrote into.
    fn share_storages(&mut self, node: &Node) -> Out<()> {
        let Some(first) = node.takes().next() else { return Ok(()) };
        let outputs: Vec<ValueId> = node.outputs.iter().flatten().copied().collect();
        let in_place = node.is_in_place();
        if in_place || is_view(node.op()) {
            let root = self.roots[first];
            outputs.iter().for_each(|output| self.roots[*output] = root);
            self.views.entry(root).or_default().extend(&outputs);
        }
        if !in_place {
            return Ok(());
        }
        let Some(result) = outputs.first().and_then(|output| self.vals[*output].clone()) else { return Ok(()) };
        let Some(Val::Lifted(before)) = self.vals[first].clone() else {
            return refuse("it writes a sample's values into a constant");
        };
        let root = self.roots[first];
        let others = [vec![root], self.views.get(&root).cloned().unwrap_or_default()].concat();
        let rewritten = self.write_back(first, &result, &others)?;
        for value in others {
            if outputs.contains(&value) || rewritten.contains(&value) || self.vals[value].is_none() {
                continue;
            }
            // another name of the same values
            let is_same = matches!(&self.vals[value], Some(Val::Lifted(other)) if *other == before);
            if is_same {
                self.vals[value] = Some(result.clone());
            } else if self.last_use[value] > self.at {
                let name = &self.trace.values[value].name;
                return refuse(format!("it works in place on a part of `{name}`, which is used later"));
            }
        }
        Ok(())
    }

    /// After a write into a range of a value, or a range of that: the value with the range replaced, under all its names,
    /// which it gives.
    fn write_back(&mut self, into: ValueId, result: &Val, names: &[ValueId]) -> Out<Vec<ValueId>> {
        let mut rewritten = vec![];
        let Val::Lifted(written) = result else { return Ok(rewritten) };
        let (mut part, mut written) = (into, written.clone());
        while let Some(Range { of, axis, from, to }) = self.ranges.get(&part).copied() {
            let Some(Val::Lifted(whole)) = self.vals[of].clone() else {
                return refuse("it writes a sample's values into a constant");
            };
            let len = whole.dims[axis];
            let mut parts = vec![];
            if from > 0 {
                parts.push(self.slice(&whole, axis, 0, from, 1)?);
            }
            parts.push(written);
            if to < len {
                parts.push(self.slice(&whole, axis, to, len, 1)?);
            }
            written = self.concat(parts, axis)?;
            for name in names {
                if matches!(&self.vals[*name], Some(Val::Lifted(other)) if *other == whole) {
                    self.vals[*name] = Some(Val::Lifted(written.clone()));
                    rewritten.push(*name);
                }
            }
            part = of;
        }
        Ok(rewritten)
    }

    fn finish(mut self) -> Result<Lift, Problem> {
        let mut outputs = vec![];
        for (name, value) in &self.trace.outputs {
            let wrong = |what: &str| Err(Problem::new(Code::Import, format!("the output `{name}` {what}")));
            let Some(Val::Lifted(lifted)) = self.vals[*value].clone() else {
                return wrong("does not depend on the input");
            };
            if lifted.batch != Some(Fold::plain(0)) || self.is_shared(&lifted) {
                return wrong("has no batch as its first axis");
            }
            if self.inputs.iter().any(|(_, input)| *input == lifted.id) {
                return wrong("is the input itself");
            }
            let lifted = self.filled(&lifted).map_err(|fail| match fail {
                Fail::Problem(problem) => problem,
                _ => Problem::new(Code::Import, format!("the output `{name}` cannot be written in the language")),
            })?;
            outputs.push((name.clone(), lifted.id));
        }
        Ok(Lift { drafts: self.drafts, inputs: self.inputs, outputs, values: self.made })
    }
}

/// Where a node is, for messages.
fn place(node: &Node) -> String {
    match node.modules.last() {
        Some(module) => format!(" in `{}`", crate::graph::path::display(&module.path)),
        None => String::new(),
    }
}

/// An op by its name and arguments, as the language would read it.
fn made(name: &str, args: &[(&str, Attr)]) -> Out<Op> {
    let entry = find(name).unwrap_or_else(|| panic!("the language has an op `{name}`"));
    let arg = |(name, value): &(&str, Attr)| attr::Arg { name: Some((*name).into()), value: value.clone() };
    let args: Vec<attr::Arg> = args.iter().map(arg).collect();
    (entry.make)(&args).map_err(|problem| Fail::Problem(problem.problem))
}

/// Refuses whole numbers that float32 rounds.
fn whole_numbers(array: &Array) -> Out<()> {
    if array.dtype() == Dtype::Int && array.to_int().iter().any(|value| value.abs() > MAX_WHOLE) {
        return refuse("whole numbers beyond 2^24 are not exact in float32");
    }
    Ok(())
}

/// Ops that see nothing of a value but its shape and type.
fn is_of_shapes(op: &str) -> bool {
    let plain = op.strip_suffix("_like").or(op.strip_prefix("new_"));
    plain.is_some_and(|plain| matches!(plain, "zeros" | "ones" | "full" | "empty"))
}

/// Ops whose results may look into the storage of their first operand.
fn is_view(op: &str) -> bool {
    matches!(
        op,
        "view"
            | "reshape"
            | "view_as"
            | "reshape_as"
            | "_unsafe_view"
            | "flatten"
            | "unflatten"
            | "permute"
            | "transpose"
            | "t"
            | "movedim"
            | "squeeze"
            | "unsqueeze"
            | "expand"
            | "expand_as"
            | "select"
            | "slice"
            | "narrow"
            | "unbind"
            | "chunk"
            | "split"
            | "split_with_sizes"
            | "alias"
            | "detach"
            | "contiguous"
            | "to"
            | "dropout"
            | "feature_dropout"
            | "alpha_dropout"
            | "unfold"
            | "type_as"
            | "swapaxes"
    )
}

/// The values that every sample has, with a 1 in the batch's place; None where they differ.
fn one_sample(array: &Array, fold: Fold, batch: usize) -> Option<Array> {
    let dims = array.shape();
    if dims[fold.axis] != fold.before * batch * fold.after {
        return None;
    }
    let split = [&dims[..fold.axis], &[fold.before, batch, fold.after], &dims[fold.axis + 1..]].concat();
    let split = array.reshape(&split);
    let one = split.select(fold.axis + 1, 0);
    let first = one.to_f64();
    let is_same = |sample: usize| {
        let other = split.select(fold.axis + 1, sample).to_f64();
        first.iter().zip(other).all(|(a, b)| *a == b || (a.is_nan() && b.is_nan()))
    };
    let shape = [&[1], inner(dims, Some(fold)).as_slice()].concat();
    (1..batch).all(is_same).then(|| one.copy().reshape(&shape))
}
