//! `.onnx`, opset 13 and newer, as PyTorch's exporters and others write it: its nodes in ATen's words, which the rest of the import
//! knows. Sizes are worked out here, for the batch that the file has, or for two samples where that is a symbol; what is computed
//! of sizes and constants alone is computed at once.
//!
//! Strict: what is not understood is an error that names the node, never a different result.

mod file;
mod fuse;
mod modules;
mod nodes;
mod shapes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::array::{Array, Dtype};
use super::eval::{self, Call};
use super::trace::{Arg, Bytes, Kind, Module, Node, Stored, Stype, Trace, Value, ValueId, contiguous};
use crate::diag::{Code, Problem, count};
use crate::onnx::proto::{self, Tensor, ValueInfo};
use file::{File, SAVE};

/// The opsets that are read.
const OPSETS: std::ops::RangeInclusive<i64> = 13..=28;
/// Samples where the batch is a symbol.
const BATCH: usize = 2;
/// Axes of a value.
const MAX_AXES: usize = 64;
/// Values that are computed at once, together.
const MAX_KNOWN: usize = 1 << 26;

/// Why a node is not read.
enum Fail {
    /// It is not known, or not with these arguments.
    Unknown,
    Refused(String),
    Problem(Problem),
    /// It takes what was not read.
    Follows,
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

/// What a name of the file means.
#[derive(Clone)]
enum Meaning {
    /// Values that depend on no input.
    Known(Array),
    /// An initializer that nothing was made of yet, or a transpose of one of two axes.
    Weight {
        name: String,
        is_turned: bool,
    },
    /// Such an initializer with axes of length 1 put in, which a layer may see through.
    Raised {
        name: String,
        axes: Vec<usize>,
    },
    Value(ValueId),
    /// What a node that was not read would give.
    Missing,
}

/// An argument of an op of ATen.
enum Given {
    Of(Meaning),
    List(Vec<Meaning>),
    Plain(Arg),
}

impl From<Arg> for Given {
    fn from(arg: Arg) -> Given {
        Given::Plain(arg)
    }
}

impl From<Meaning> for Given {
    fn from(meaning: Meaning) -> Given {
        Given::Of(meaning)
    }
}

/// Reads a network and its tensors.
///
/// # Errors
/// A file that cannot be read, is damaged, or says what is not understood: all unknown ops at once.
pub fn read(path: &Path) -> Result<Trace, Problem> {
    let mut file = File::open(path)?;
    let model = std::mem::take(&mut file.model);
    let graph = model.graph.unwrap_or_default();
    let wrong = |what: String| Problem::new(Code::Import, format!("`{}` {what}", path.display()));
    let version = model.opset_import.iter().find(|set| is_onnx(&set.domain)).map(|set| set.version);
    let Some(version) = version else { return Err(wrong("names no version of ONNX's operators".into()).hint(SAVE)) };
    if !OPSETS.contains(&version) {
        let (from, to) = (OPSETS.start(), OPSETS.end());
        return Err(wrong(format!("has opset {version}, archc reads {from} to {to}")).hint(SAVE));
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(wrong("holds sparse tensors, which are not read".into()).hint(SAVE));
    }
    let mut reader = Reader::new(file, version, &graph)?;
    reader.inputs(&graph.input)?;
    reader.nodes(&graph.node, &graph.output)?;
    reader.finish(&graph.output)
}

fn is_onnx(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

struct Reader {
    file: File,
    opset: i64,
    initializers: HashMap<String, Tensor>,
    names: HashMap<String, Meaning>,
    /// The values that initializers are, by name and whether they are turned.
    made: HashMap<(String, bool), ValueId>,
    keys: HashSet<String>,
    trace: Trace,
    /// The modules around the node that is read now.
    modules: Vec<Module>,
    node: String,
    unknown: BTreeMap<String, (usize, String)>,
    refused: Vec<String>,
    known: usize,
    constants: usize,
}

impl Reader {
    fn new(file: File, opset: i64, graph: &proto::Graph) -> Result<Reader, Problem> {
        let mut reader = Reader {
            file,
            opset,
            initializers: HashMap::new(),
            names: HashMap::new(),
            made: HashMap::new(),
            keys: HashSet::new(),
            trace: Trace::default(),
            modules: vec![],
            node: String::new(),
            unknown: BTreeMap::new(),
            refused: vec![],
            known: 0,
            constants: 0,
        };
        for tensor in &graph.initializer {
            let meaning = Meaning::Weight { name: tensor.name.clone(), is_turned: false };
            reader.define(&tensor.name, meaning)?;
            reader.initializers.insert(tensor.name.clone(), tensor.clone());
        }
        Ok(reader)
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Problem {
        Problem::new(Code::Import, format!("`{}` is not understood: {what}", self.file.name)).hint(SAVE)
    }

    fn define(&mut self, name: &str, meaning: Meaning) -> Result<(), Problem> {
        if self.names.insert(name.to_string(), meaning).is_some() {
            let shown: String = name.escape_debug().take(80).collect();
            return Err(self.wrong(format!("two values called `{shown}`")));
        }
        Ok(())
    }

    fn inputs(&mut self, inputs: &[ValueInfo]) -> Result<(), Problem> {
        let mut batch = None;
        for info in inputs {
            // old files list initializers among the inputs
            if self.initializers.contains_key(&info.name) {
                continue;
            }
            let tensor = info.kind.as_ref().and_then(|kind| kind.tensor.as_ref());
            let shape = tensor.and_then(|tensor| Some((tensor.elem_type, tensor.shape.as_ref()?)));
            let Some((elem_type, shape)) = shape else {
                return Err(self.wrong(format!("the input `{}` has no shape", info.name)));
            };
            let Some(dtype) = file::stype(elem_type).map(Stype::dtype) else {
                return Err(self.wrong(format!("the input `{}` is of ONNX's type {elem_type}", info.name)));
            };
            let mut dims = vec![];
            for (axis, dim) in shape.dim.iter().enumerate() {
                dims.push(match (axis, dim.value.and_then(|value| usize::try_from(value).ok())) {
                    (_, Some(len)) if len > 0 => len,
                    (0, _) => *batch.get_or_insert(BATCH),
                    _ => {
                        let message = format!("axis {axis} of the input `{}` is no number", info.name);
                        let problem = Problem::new(Code::Import, message);
                        return Err(problem.hint("export the network for one size: the batch alone may be a symbol"));
                    }
                });
            }
            room(&dims).map_err(|what| self.wrong(format!("the input `{}` is {what}", info.name)))?;
            let id = self.value_of(&info.name, dtype, dims);
            self.trace.inputs.push(id);
            self.define(&info.name, Meaning::Value(id))?;
        }
        Ok(())
    }

    fn value_of(&mut self, name: &str, dtype: Dtype, shape: Vec<usize>) -> ValueId {
        self.trace.values.push(Value { name: name.to_string(), dtype, shape });
        self.trace.values.len() - 1
    }

    fn nodes(&mut self, nodes: &[proto::Node], outputs: &[ValueInfo]) -> Result<(), Problem> {
        let nodes = fuse::fuse(nodes, outputs, &mut Weights(self));
        for node in &nodes {
            self.modules = modules::of(node);
            self.node = match node.name.as_str() {
                "" => node.output.first().cloned().unwrap_or_default(),
                name => name.to_string(),
            };
            let made = self.check(node).and_then(|()| self.read(node));
            let failed = made.is_err();
            match made {
                Ok(results) => {
                    for (name, meaning) in node.output.iter().zip(results).filter(|(name, _)| !name.is_empty()) {
                        self.define(name, meaning)?;
                    }
                }
                Err(Fail::Problem(problem)) => {
                    return Err(problem.note(format!("of the node `{}`", self.node.escape_debug())));
                }
                Err(Fail::Follows) => {}
                Err(Fail::Unknown) => {
                    let target = match is_onnx(&node.domain) {
                        true => node.op_type.clone(),
                        false => format!("{}::{}", node.domain, node.op_type),
                    };
                    let place = format!(" at `{}`", self.node.escape_debug());
                    self.unknown.entry(target).or_insert((0, place)).0 += 1;
                }
                Err(Fail::Refused(why)) => self.refused.push(format!("`{}`: {why}", self.node.escape_debug())),
            }
            if failed {
                for name in node.output.iter().filter(|name| !name.is_empty()) {
                    self.define(name, Meaning::Missing)?;
                }
            }
        }
        self.complaints()
    }

    /// Refuses graphs within the graph, and operands that are not there.
    fn check(&self, node: &proto::Node) -> Out<()> {
        use crate::onnx::proto::AttributeType::{Graph, Graphs};
        if node.attribute.iter().any(|attribute| [Graph as i32, Graphs as i32].contains(&attribute.kind)) {
            return refuse(format!("`{}` is control flow, which is not imported", node.op_type));
        }
        if node.attribute.iter().any(|attribute| !attribute.ref_attr_name.is_empty()) {
            return refuse("an argument of a function, outside of one");
        }
        let mut follows = false;
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            match self.names.get(name) {
                None => {
                    let shown: String = name.escape_debug().take(80).collect();
                    let what = format!(
                        "`{shown}` is used before it is made, or never made: the graph is no order of its nodes"
                    );
                    return Err(Fail::Problem(self.wrong(what)));
                }
                Some(Meaning::Missing) => follows = true,
                Some(_) => {}
            }
        }
        if !is_onnx(&node.domain) {
            return Err(Fail::Unknown);
        }
        if follows {
            if nodes::is_known(&node.op_type) { Err(Fail::Follows) } else { Err(Fail::Unknown) }
        } else {
            Ok(())
        }
    }

    /// What could not be read, as one message.
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
            (0, refused) => format!("{} of the network cannot be imported", count(refused, "node")),
            (unknown, 0) => format!("archc does not know {} of the network", count(unknown, "operator")),
            (unknown, refused) => format!(
                "archc does not know {} of the network, and {} cannot be imported",
                count(unknown, "operator"),
                count(refused, "other node")
            ),
        };
        Err(Problem::new(Code::Import, message).list("unknown operators", unknown).list("nodes", self.refused.clone()))
    }

    fn finish(mut self, outputs: &[ValueInfo]) -> Result<Trace, Problem> {
        for output in outputs {
            let Some(Meaning::Value(value)) = self.names.get(&output.name) else {
                return Err(self.wrong(format!("the output `{}` depends on no input", output.name)));
            };
            self.trace.outputs.push((output.name.clone(), *value));
        }
        if self.trace.outputs.is_empty() {
            return Err(self.wrong("a network without outputs"));
        }
        self.trace.find_used();
        Ok(self.trace)
    }

    /// The one number that a constant of the file is.
    fn number(&mut self, name: &str) -> Option<f64> {
        let tensor = self.initializers.get(name)?;
        if tensor.dims.iter().any(|len| *len != 1) {
            return None;
        }
        let tensor = tensor.clone();
        let stored = self.file.tensor(&tensor, name, Kind::Constant).ok()?;
        stored.array().to_f64().first().copied()
    }

    /// The shape and type of what a name means.
    fn described(&self, meaning: &Meaning) -> Out<(Dtype, Vec<usize>)> {
        match meaning {
            Meaning::Known(array) => Ok((array.dtype(), array.shape().to_vec())),
            Meaning::Value(id) => {
                let value = &self.trace.values[*id];
                Ok((value.dtype, value.shape.clone()))
            }
            Meaning::Weight { name, is_turned } => {
                let tensor = &self.initializers[name];
                let Some(stype) = file::stype(tensor.data_type) else {
                    return refuse(format!("`{name}` is of ONNX's type {}, which is not read", tensor.data_type));
                };
                let mut dims: Vec<usize> =
                    tensor.dims.iter().map(|len| usize::try_from(*len).unwrap_or(usize::MAX)).collect();
                if *is_turned {
                    dims.swap(0, 1);
                }
                Ok((stype.dtype(), dims))
            }
            Meaning::Raised { name, axes } => {
                let of = Meaning::Weight { name: name.clone(), is_turned: false };
                let (dtype, mut dims) = self.described(&of)?;
                axes.iter().for_each(|axis| dims.insert((*axis).min(dims.len()), 1));
                Ok((dtype, dims))
            }
            Meaning::Missing => Err(Fail::Follows),
        }
    }

    fn shape(&self, meaning: &Meaning) -> Out<Vec<usize>> {
        Ok(self.described(meaning)?.1)
    }

    /// Whether a name of a tensor says nothing, so that it is no key.
    fn is_anonymous(name: &str) -> bool {
        let is_number = |text: &str| !text.is_empty() && text.chars().all(|letter| letter.is_ascii_digit());
        let numbered = name.strip_prefix("val_").or(name.strip_prefix("tensor_"));
        name.contains("::")
            || name.starts_with(['/', '_'])
            || is_number(name)
            || numbered.is_some_and(is_number)
            || !name.contains('.') && (name.contains("onstant") || name.contains("lifted"))
    }

    /// Whether a tensor without a name may be a weight all the same, as exporters make them of others.
    fn may_be_weight(name: &str) -> bool {
        !name.starts_with('/')
    }

    /// Whether what a name means is a constant, rather than something that was learned: whole numbers, single ones, those without
    /// a name.
    fn is_constant(&self, meaning: &Meaning) -> bool {
        match meaning {
            Meaning::Known(_) => true,
            Meaning::Weight { name, .. } => {
                let tensor = &self.initializers[name];
                let is_float = file::stype(tensor.data_type).is_some_and(|stype| stype.dtype().is_float());
                !is_float || tensor.dims.is_empty() || Reader::is_anonymous(name)
            }
            _ => false,
        }
    }

    /// The values of a constant, or of a tensor that is taken as one.
    fn known(&mut self, meaning: &Meaning) -> Out<Array> {
        match meaning {
            Meaning::Known(array) => Ok(array.clone()),
            Meaning::Weight { name, is_turned } => {
                let tensor = self.initializers[name].clone();
                let array = self.file.tensor(&tensor, name, Kind::Constant)?.array();
                self.hold(array.len())?;
                Ok(if *is_turned { array.permute(&[1, 0]) } else { array })
            }
            Meaning::Value(_) | Meaning::Raised { .. } => refuse("an argument is computed of the input or learned"),
            Meaning::Missing => Err(Fail::Follows),
        }
    }

    /// Counts what is computed at once.
    fn hold(&mut self, len: usize) -> Out<()> {
        self.known = self.known.saturating_add(len);
        if self.known > MAX_KNOWN { refuse(format!("constants of more than {MAX_KNOWN} values")) } else { Ok(()) }
    }

    /// A tensor of the file as a value, under a key where its own name is none.
    fn weight(&mut self, name: &str, is_turned: bool, kind: Kind, role: Option<&str>) -> Out<ValueId> {
        let at = (name.to_string(), is_turned);
        if let Some(value) = self.made.get(&at) {
            return Ok(*value);
        }
        let tensor = self.initializers[name].clone();
        let is_second = is_turned && self.made.contains_key(&(name.to_string(), false));
        // what PyTorch's exporter calls a bias that a batch norm left
        let left = name.strip_suffix("weight_bias").filter(|_| role == Some("bias"));
        let key = match left {
            Some(layer) => format!("{layer}bias"),
            None if !is_second && !Reader::is_anonymous(name) => name.to_string(),
            None => {
                let module = self.modules.last().map(|module| module.path.clone());
                let holder = module.unwrap_or_else(|| self.node.replace(['.', '/', ':'], "_"));
                format!("{holder}.{}", role.unwrap_or("constant"))
            }
        };
        let key = self.free(key);
        let mut stored = self.file.tensor(&tensor, &key, kind)?;
        if is_turned {
            stored.shape.swap(0, 1);
            stored.strides.swap(0, 1);
        }
        room(&stored.shape).map_err(Fail::Refused)?;
        let value = self.value_of(&key, stored.dtype, stored.shape.clone());
        self.trace.tensors.push(Stored { value, ..stored });
        self.made.insert(at, value);
        Ok(value)
    }

    fn free(&mut self, key: String) -> String {
        let mut free = key.clone();
        let mut number = 0;
        while !self.keys.insert(free.clone()) {
            number += 1;
            free = format!("{key}_{number}");
        }
        free
    }

    /// What a name means, as a value.
    fn value(&mut self, meaning: &Meaning) -> Out<ValueId> {
        match meaning {
            Meaning::Value(value) => Ok(*value),
            Meaning::Weight { .. } if self.is_constant(meaning) => {
                let array = self.known(meaning)?;
                self.constant(&array)
            }
            Meaning::Weight { name, is_turned } => {
                let name = name.clone();
                self.weight(&name, *is_turned, Kind::Parameter, None)
            }
            Meaning::Raised { name, axes } => {
                let mut result = Meaning::Weight { name: name.clone(), is_turned: false };
                for axis in axes {
                    let dim = Arg::Int(*axis as i64);
                    result = self.emit("unsqueeze", vec![("self", result.into()), ("dim", dim.into())])?;
                }
                self.value(&result)
            }
            Meaning::Known(array) => self.constant(&array.clone()),
            Meaning::Missing => Err(Fail::Follows),
        }
    }

    /// Values as a tensor that the file might have had.
    fn constant(&mut self, array: &Array) -> Out<ValueId> {
        let (stype, bytes) = match array.dtype() {
            Dtype::Bool => (Stype::Bool, array.to_f64().into_iter().map(|value| u8::from(value != 0.0)).collect()),
            Dtype::Int => (Stype::I64, bytemuck::cast_slice(&array.to_int()).to_vec()),
            Dtype::F32 => (Stype::F32, bytemuck::cast_slice(&array.to_f32()).to_vec()),
            Dtype::F64 => (Stype::F64, bytemuck::cast_slice(&array.to_f64()).to_vec()),
        };
        let holder = self.modules.last().map_or("", |module| module.path.as_str());
        let key = if holder.is_empty() { "constant".to_string() } else { format!("{holder}.constant") };
        let key = self.free(key);
        self.constants += 1;
        let value = self.value_of(&key, array.dtype(), array.shape().to_vec());
        let shape = array.shape().to_vec();
        let strides = contiguous(&shape);
        let bytes = Arc::new(Bytes { dtype: stype, bytes });
        let kind = Kind::Constant;
        self.trace.tensors.push(Stored { key, kind, value, dtype: array.dtype(), shape, strides, offset: 0, bytes });
        Ok(value)
    }

    /// An op of ATen, computed at once where it takes constants alone.
    fn emit(&mut self, op: &str, args: Vec<(&str, Given)>) -> Out<Meaning> {
        Ok(self.emit_all(op, args)?.remove(0))
    }

    fn emit_all(&mut self, op: &str, args: Vec<(&str, Given)>) -> Out<Vec<Meaning>> {
        let target = if op.contains('.') { format!("aten.{op}") } else { format!("aten.{op}.default") };
        let of = |given: &Given| -> Vec<Meaning> {
            match given {
                Given::Of(meaning) => vec![meaning.clone()],
                Given::List(list) => list.clone(),
                Given::Plain(_) => vec![],
            }
        };
        let operands: Vec<Meaning> = args.iter().flat_map(|(_, given)| of(given)).collect();
        let at_once = !operands.is_empty() && operands.iter().all(|operand| self.is_constant(operand));
        let mut arrays: Vec<Array> = vec![];
        let mut ids = vec![];
        for operand in &operands {
            match at_once {
                true => {
                    arrays.push(self.known(operand)?);
                    ids.push(arrays.len() - 1);
                }
                false => ids.push(self.value(operand)?),
            }
        }
        let mut ids = ids.into_iter();
        let mut next = || ids.next().expect("as many as there are operands");
        let args: Vec<(String, Arg)> = args
            .into_iter()
            .map(|(name, given)| {
                let arg = match given {
                    Given::Of(_) => Arg::Value(next()),
                    Given::List(list) => Arg::Values(list.iter().map(|_| Some(next())).collect()),
                    Given::Plain(arg) => arg,
                };
                (name.to_string(), arg)
            })
            .collect();
        let mut node = Node { name: self.node.clone(), target, args, outputs: vec![], modules: self.modules.clone() };
        if at_once {
            let get = |at: ValueId| arrays.get(at).cloned();
            let results = eval::eval(&Call { node: &node, get: &get }).map_err(|fail| match fail {
                eval::Fail::Unknown => Fail::Unknown,
                eval::Fail::Wrong(why) => Fail::Refused(why),
            })?;
            for result in &results {
                self.hold(result.len())?;
            }
            return Ok(results.into_iter().map(Meaning::Known).collect());
        }
        let described = shapes::infer(&node, &self.trace.values)?;
        let mut results = vec![];
        for (at, (dtype, shape)) in described.into_iter().enumerate() {
            room(&shape).map_err(Fail::Refused)?;
            let name = if at == 0 { self.node.clone() } else { format!("{}:{at}", self.node) };
            let id = self.value_of(&name, dtype, shape);
            node.outputs.push(Some(id));
            results.push(Meaning::Value(id));
        }
        self.trace.nodes.push(node);
        Ok(results)
    }
}

/// What `fuse` asks of initializers.
struct Weights<'a>(&'a mut Reader);

impl fuse::Look for Weights<'_> {
    fn number(&mut self, name: &str) -> Option<f64> {
        self.0.number(name)
    }

    fn rank(&self, name: &str) -> Option<usize> {
        self.0.initializers.get(name).map(|tensor| tensor.dims.len())
    }
}

/// Refuses what no value is.
fn room(dims: &[usize]) -> Result<(), String> {
    let len = dims.iter().try_fold(1usize, |all, len| all.checked_mul(*len));
    match len {
        Some(len) if len <= eval::MAX_LEN && dims.len() <= MAX_AXES => Ok(()),
        _ => Err(format!("{dims:?}, more than {} values", eval::MAX_LEN)),
    }
}
