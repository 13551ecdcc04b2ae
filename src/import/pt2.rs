//! `.pt2`, as `torch.export.save` of PyTorch 2.8 and newer writes it: a zip with the graph as JSON
//! (`models/model.json`, the schema of torch/_export/serde/schema.py), and tensors as raw bytes beside a JSON that names
//! them. No pickle is read.
//!
//! The file is hostile until it is read: memory is bounded by its size, nesting by the parser, and every name is looked up.

mod schema;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use super::eval::MAX_LEN;
use super::trace::{Arg, Bytes, Kind, Module, Node, Stored, Stype, Trace, Value, ValueId, contiguous};
use crate::diag::{Code, Problem, and};
use crate::io::open;
use schema::{Argument, Graph, InputSpec, OutputSpec, Payloads, Program, SymInt, TensorMeta};

/// The largest JSON that is read, in bytes. That of a network of 2,000 layers has 10 MB.
const MAX_JSON: u64 = 256 << 20;
/// The version of the schema that is read; a newer minor one adds what older readers may leave out.
const MAJOR: i64 = 8;
/// Graphs within graphs.
const MAX_NESTED: usize = 8;
/// Axes of a tensor.
const MAX_AXES: usize = 64;

/// How to write a file that can be read.
const SAVE: &str = "export and save it with PyTorch 2.8 or newer: `torch.export.save(torch.export.export(model.eval(), (x,)), \"model.pt2\")`";

/// Reads a network and its tensors.
///
/// # Errors
/// A file that cannot be read, is damaged, or says what is not understood.
pub fn read(path: &Path) -> Result<Trace, Problem> {
    let mut archive = Archive::open(path)?;
    archive.check_format()?;
    let model = archive.model()?;
    let program: Program = archive.json(&format!("models/{model}.json"))?;
    if program.schema_version.major != MAJOR {
        let (major, minor) = (program.schema_version.major, program.schema_version.minor);
        let message =
            format!("`{}` has schema {major}.{minor} of exported programs, archc reads {MAJOR}.x", archive.name);
        return Err(Problem::new(Code::Import, message).hint(SAVE));
    }
    let weights: Payloads = archive.json(&format!("data/weights/{model}_weights_config.json"))?;
    let constants: Payloads = archive.json(&format!("data/constants/{model}_constants_config.json"))?;
    let mut tensors = HashMap::new();
    let mut order = vec![];
    for (folder, payloads) in [("weights", &weights), ("constants", &constants)] {
        archive.tensors(folder, payloads, &mut tensors, &mut order)?;
    }
    let name = archive.name;
    Reader::new(&name, tensors, order).program(&program)
}

/// The zip.
struct Archive {
    /// For messages.
    name: String,
    zip: ZipArchive<BufReader<File>>,
    /// What every entry's name begins with, `model/`.
    root: String,
    length: u64,
}

impl Archive {
    fn open(path: &Path) -> Result<Archive, Problem> {
        let name = path.display().to_string();
        let mut file = open::plain(path).map_err(|error| error.problem(Code::Import, path))?;
        let wrong = |what: &str| Problem::new(Code::Import, format!("`{name}` {what}"));
        let head = file.start(4).map_err(|error| error.problem(Code::Import, path))?;
        if head.is_empty() {
            return Err(wrong("is empty").hint(SAVE));
        }
        if !head.starts_with(b"PK") {
            return Err(wrong("is no archive of PyTorch's").hint(SAVE));
        }
        let handle = file.file().try_clone().map_err(|error| wrong(&format!("cannot be read: {error}")))?;
        // PyTorch's archives begin where the file does; where that is left to be found, a directory whose first entry is as
        // long as the records behind the directory is read from its second one on
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(config, BufReader::new(handle)).map_err(|error| {
            wrong(&format!("is damaged: {error}")).hint("fetch or write it again; an interrupted copy looks like this")
        })?;
        let mut root = None;
        let mut pickles = false;
        for entry in zip.file_names().filter_map(Result::ok) {
            if let Some(found) = entry.strip_suffix("archive_format") {
                root = Some(found.to_string());
            }
            pickles |= entry.ends_with("data.pkl")
                || entry.ends_with("serialized_state_dict.pt")
                || entry.ends_with("serialized_state_dict.json");
        }
        let Some(root) = root.filter(|root| root.is_empty() || root.ends_with('/')) else {
            let what = if pickles {
                "holds pickles, which are programs and are not run: it is no exported program of PyTorch 2.8 or newer"
            } else {
                "is no exported program of PyTorch: it has no `archive_format`"
            };
            return Err(wrong(what).hint(SAVE));
        };
        Ok(Archive { name, zip, root, length: file.len() })
    }

    fn wrong(&self, what: &str) -> Problem {
        Problem::new(Code::Import, format!("`{}` {what}", self.name))
    }

    fn check_format(&mut self) -> Result<(), Problem> {
        for (entry, wanted) in [("archive_format", "pt2"), ("byteorder", "little")] {
            let found = self.bytes(entry, 64)?;
            if found != wanted.as_bytes() {
                let found = String::from_utf8_lossy(&found).escape_debug().to_string();
                return Err(self.wrong(&format!("has the {entry} `{found}`, wanted `{wanted}`")).hint(SAVE));
            }
        }
        Ok(())
    }

    /// The name of the one model that it holds.
    fn model(&self) -> Result<String, Problem> {
        let folder = format!("{}models/", self.root);
        let names = self.zip.file_names().filter_map(Result::ok);
        let names = names.filter_map(|name| Some(name.strip_prefix(&folder)?.strip_suffix(".json")?.to_string()));
        let mut names: Vec<String> = names.collect();
        names.sort();
        match names.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(self.wrong("holds no exported program: it has no `models/model.json`").hint(SAVE)),
            several => Err(self.wrong(&format!("holds several programs: {}", and(several))).hint("save one in a file")),
        }
    }

    /// The content of an entry, at most `limit` bytes, its checksum compared.
    fn bytes(&mut self, entry: &str, limit: u64) -> Result<Vec<u8>, Problem> {
        let path = format!("{}{entry}", self.root);
        let (name, length) = (self.name.clone(), self.length);
        let wrong = |what: String| Problem::new(Code::Import, format!("`{name}`: `{entry}` {what}"));
        let damaged = "fetch or write the file again; an interrupted copy looks like this";
        let mut found = match self.zip.by_name(&path) {
            Ok(found) => found,
            Err(zip::result::ZipError::FileNotFound) => return Err(wrong("is missing".into()).hint(SAVE)),
            Err(error) => return Err(wrong(format!("is damaged: {error}")).hint(damaged)),
        };
        if found.compression() != CompressionMethod::Stored {
            return Err(wrong("is compressed, which PyTorch's files are not".into()).hint(SAVE));
        }
        let size = found.size();
        if size > length {
            return Err(wrong(format!("claims {size} bytes of a file of {length}")).hint(damaged));
        }
        if size > limit {
            return Err(wrong(format!("has {size} bytes, more than the {limit} that are read")));
        }
        let mut bytes = vec![];
        let room = usize::try_from(size).unwrap_or(usize::MAX);
        bytes.try_reserve_exact(room).map_err(|_| {
            Problem::new(Code::Resource, format!("`{name}`: there is no memory for the {size} bytes of `{entry}`"))
        })?;
        found.read_to_end(&mut bytes).map_err(|error| wrong(format!("cannot be read: {error}")).hint(damaged))?;
        if bytes.len() as u64 != size {
            return Err(wrong(format!("ends after {} of {size} bytes", bytes.len())).hint(damaged));
        }
        Ok(bytes)
    }

    fn json<T: DeserializeOwned>(&mut self, entry: &str) -> Result<T, Problem> {
        let bytes = self.bytes(entry, MAX_JSON)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            self.wrong(&format!("is not understood: `{entry}` {error}"))
                .hint("archc reads files of `torch.export.save` of PyTorch 2.8 and newer")
        })
    }

    /// The tensors of a folder, by key. Those that share a storage share it here.
    fn tensors(
        &mut self,
        folder: &str,
        payloads: &Payloads,
        into: &mut HashMap<String, Stored>,
        order: &mut Vec<String>,
    ) -> Result<(), Problem> {
        let mut storages: HashMap<String, Arc<Bytes>> = HashMap::new();
        for (key, payload) in &payloads.config.0 {
            let name = self.name.clone();
            let wrong = |what: &str| Problem::new(Code::Import, format!("`{name}` {what}: `{key}`"));
            if payload.use_pickle {
                let problem = wrong("holds a pickle, which is a program and is not run");
                return Err(problem.hint("save plain tensors: quantised and other subclasses are no plain tensors"));
            }
            let Some(meta) = &payload.tensor_meta else {
                return Err(wrong("holds an object that is no tensor"));
            };
            let stype = stype(meta.dtype)
                .ok_or_else(|| wrong(&format!("has a tensor of PyTorch's type {}, which is not read", meta.dtype)))?;
            let (shape, strides) = (sizes(&meta.sizes, key)?, sizes(&meta.strides, key)?);
            let offset = sizes(std::slice::from_ref(&meta.storage_offset), key)?[0];
            if shape.len() != strides.len() || shape.len() > MAX_AXES {
                return Err(wrong("has a tensor whose strides do not belong to its shape"));
            }
            let path = &payload.path_name;
            let bytes = match storages.get(path) {
                Some(known) if known.dtype == stype => known.clone(),
                known => {
                    // the same storage in another format is rare, and read again
                    let is_known = known.is_some();
                    let bytes = self.bytes(&format!("data/{folder}/{path}"), u64::MAX)?;
                    let bytes = Arc::new(Bytes { dtype: stype, bytes });
                    if !is_known {
                        storages.insert(path.clone(), bytes.clone());
                    }
                    bytes
                }
            };
            let kind = if payload.is_param { Kind::Parameter } else { Kind::Buffer };
            let kind = if folder == "constants" { Kind::Constant } else { kind };
            // one value has no steps
            let strides = if shape.iter().product::<usize>() <= 1 { contiguous(&shape) } else { strides };
            let dtype = stype.dtype();
            let stored = Stored { key: key.clone(), kind, value: 0, dtype, shape, strides, offset, bytes };
            stored.check()?;
            if into.insert(key.clone(), stored).is_some() {
                return Err(wrong("has two tensors of one name"));
            }
            order.push(key.clone());
        }
        Ok(())
    }
}

/// PyTorch's `ScalarType`, as the schema numbers it.
fn stype(number: i64) -> Option<Stype> {
    Some(match number {
        1 => Stype::U8,
        2 => Stype::I8,
        3 => Stype::I16,
        4 => Stype::I32,
        5 => Stype::I64,
        6 => Stype::F16,
        7 => Stype::F32,
        8 => Stype::F64,
        12 => Stype::Bool,
        13 => Stype::BF16,
        _ => return None,
    })
}

/// Sizes as numbers; of a symbol the number that it had.
fn sizes(list: &[SymInt], what: &str) -> Result<Vec<usize>, Problem> {
    let size = |size: &SymInt| {
        size.number().and_then(|size| usize::try_from(size).ok()).filter(|size| *size <= 1 << 40).ok_or_else(|| {
            Problem::new(Code::Import, format!("the file says no size of `{what}` that can be"))
                .hint("export the network with sizes that are numbers; a symbolic batch needs an example")
        })
    };
    list.iter().map(size).collect()
}

/// Makes a trace of a program.
struct Reader<'a> {
    name: &'a str,
    tensors: HashMap<String, Stored>,
    /// The keys in the file's order.
    order: Vec<String>,
    trace: Trace,
    /// What names mean; a graph within a graph has its own.
    names: Vec<HashMap<String, Meaning>>,
}

#[derive(Clone, Copy)]
enum Meaning {
    Value(ValueId),
    /// A symbol's number.
    Int(i64),
    Float(f64),
    Bool(bool),
    /// An input that is none.
    Nothing,
}

impl<'a> Reader<'a> {
    fn new(name: &'a str, tensors: HashMap<String, Stored>, order: Vec<String>) -> Reader<'a> {
        Reader { name, tensors, order, trace: Trace::default(), names: vec![HashMap::new()] }
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Problem {
        Problem::new(Code::Import, format!("`{}` is not understood: {what}", self.name)).hint(SAVE)
    }

    fn program(mut self, program: &Program) -> Result<Trace, Problem> {
        let module = &program.graph_module;
        let graph = &module.graph;
        self.symbols(graph)?;
        for spec in &module.signature.input_specs {
            self.input(graph, spec)?;
        }
        self.nodes(graph, &[], 0)?;
        let names = module.module_call_graph.iter().find(|entry| entry.fqn.is_empty());
        let names = names.and_then(|entry| entry.signature.as_ref()).and_then(|signature| leaves(&signature.out_spec));
        let mut users = 0;
        for spec in &module.signature.output_specs {
            let OutputSpec::User(output) = spec else { continue };
            match &output.arg {
                Argument::Tensor(tensor) => {
                    let value = self.value(&tensor.name)?;
                    let name = names.as_ref().and_then(|names| names.get(users).cloned());
                    let name = name.unwrap_or_else(|| match users {
                        0 => "output".to_string(),
                        more => format!("output_{more}"),
                    });
                    self.trace.outputs.push((name, value));
                }
                Argument::None(_) => {}
                _ => return Err(self.wrong("an output that is no tensor")),
            }
            users += 1;
        }
        if self.trace.outputs.is_empty() {
            return Err(self.wrong("a network without outputs"));
        }
        let used: std::collections::HashSet<ValueId> =
            self.trace.nodes.iter().flat_map(|node| node.takes().collect::<Vec<_>>()).collect();
        let tensors = std::mem::take(&mut self.trace.tensors);
        let mut at: HashMap<String, Stored> = self.tensors;
        let (mut kept, mut unused) = (vec![], vec![]);
        for stored in tensors {
            at.remove(&stored.key);
            if used.contains(&stored.value) { kept.push(stored) } else { unused.push(stored) }
        }
        for key in &self.order {
            unused.extend(at.remove(key));
        }
        // of the file's order
        let place: HashMap<&str, usize> = self.order.iter().enumerate().map(|(at, key)| (key.as_str(), at)).collect();
        for list in [&mut kept, &mut unused] {
            list.sort_by_key(|stored| place.get(stored.key.as_str()).copied().unwrap_or(usize::MAX));
        }
        self.trace.tensors = kept;
        self.trace.unused = unused;
        self.trace.find_used();
        Ok(self.trace)
    }

    /// What the graph's symbols were when it was written.
    fn symbols(&mut self, graph: &Graph) -> Result<(), Problem> {
        let mut known = vec![];
        for (name, size) in &graph.sym_int_values.0 {
            let number = size.number().ok_or_else(|| {
                Problem::new(Code::Import, format!("`{}` has a symbol `{name}` without an example", self.name)).hint(
                    "export the network with an example input of fixed size, or with the batch as its only symbol",
                )
            })?;
            known.push((name.clone(), Meaning::Int(number)));
        }
        for (name, float) in &graph.sym_float_values.0 {
            known.extend(float.number().map(|number| (name.clone(), Meaning::Float(number))));
        }
        for (name, bool) in &graph.sym_bool_values.0 {
            known.extend(bool.known().map(|known| (name.clone(), Meaning::Bool(known))));
        }
        self.names.last_mut().expect("a graph is read").extend(known);
        Ok(())
    }

    fn define(&mut self, name: &str, meaning: Meaning) -> Result<(), Problem> {
        if self.names.last_mut().expect("a graph is read").insert(name.to_string(), meaning).is_some() {
            return Err(self.wrong(format!("two values called `{name}`")));
        }
        Ok(())
    }

    fn meaning(&self, name: &str) -> Result<Meaning, Problem> {
        let names = self.names.last().expect("a graph is read");
        names.get(name).copied().ok_or_else(|| {
            self.wrong(format!("`{name}` is used before it is made, or never made: the graph is no order of its ops"))
        })
    }

    fn value(&self, name: &str) -> Result<ValueId, Problem> {
        match self.meaning(name)? {
            Meaning::Value(value) => Ok(value),
            _ => Err(self.wrong(format!("`{name}` is no tensor"))),
        }
    }

    /// A value that the graph describes.
    fn new_value(&mut self, graph: &Graph, name: &str) -> Result<ValueId, Problem> {
        let Some(meta) = graph.tensor_values.0.get(name) else {
            return Err(self.wrong(format!("the shape of `{name}` is missing")));
        };
        let value = Value { name: name.to_string(), ..described(meta, name)? };
        self.trace.values.push(value);
        let id = self.trace.values.len() - 1;
        self.define(name, Meaning::Value(id))?;
        Ok(id)
    }

    fn input(&mut self, graph: &Graph, spec: &InputSpec) -> Result<(), Problem> {
        let (name, key, kind) = match spec {
            InputSpec::User(input) => return self.user_input(graph, &input.arg),
            InputSpec::Parameter(spec) => (&spec.arg.name, &spec.parameter_name, Kind::Parameter),
            InputSpec::Buffer(spec) => {
                let kind = if spec.persistent { Kind::Buffer } else { Kind::Constant };
                (&spec.arg.name, &spec.buffer_name, kind)
            }
            InputSpec::TensorConstant(spec) => (&spec.arg.name, &spec.tensor_constant_name, Kind::Constant),
            InputSpec::ConstantInput(spec) => return self.define(&spec.name, Meaning::Nothing),
            InputSpec::Token(_) | InputSpec::CustomObj(_) => {
                return Err(self.wrong("an input that is neither a tensor nor a number"));
            }
        };
        let value = self.new_value(graph, name)?;
        let Some(stored) = self.tensors.get(key) else {
            return Err(self.wrong(format!("the values of `{key}` are missing")));
        };
        let described = &self.trace.values[value];
        if described.shape != stored.shape || described.dtype != stored.dtype {
            return Err(self.wrong(format!(
                "`{key}` is {:?} in the graph and {:?} among the weights",
                described.shape, stored.shape
            )));
        }
        let stored = Stored { kind, value, ..stored.clone() };
        self.trace.tensors.push(stored);
        Ok(())
    }

    fn user_input(&mut self, graph: &Graph, arg: &Argument) -> Result<(), Problem> {
        let Argument::Tensor(tensor) = arg else {
            return Err(self.wrong("an input that is no tensor"));
        };
        let value = self.new_value(graph, &tensor.name)?;
        let meta = &graph.tensor_values.0[&tensor.name];
        let symbols: Vec<String> = meta
            .sizes
            .iter()
            .skip(1)
            .filter(|size| size.is_symbol())
            .map(|size| size.number().unwrap_or(0).to_string())
            .collect();
        if !symbols.is_empty() {
            self.trace.remarks.push(format!(
                "`{}` has symbols beside the batch: the network is that for {:?}",
                tensor.name, self.trace.values[value].shape
            ));
        }
        self.trace.inputs.push(value);
        Ok(())
    }

    fn nodes(&mut self, graph: &Graph, around: &[Module], depth: usize) -> Result<(), Problem> {
        for node in &graph.nodes {
            let target = node.target.strip_prefix("torch.ops.").unwrap_or(&node.target);
            let modules = match node.metadata.nn_module_stack.as_deref().map(modules) {
                Some(Some(modules)) if !modules.is_empty() => modules,
                _ => around.to_vec(),
            };
            // of symbols alone; their numbers are known
            if node.outputs.iter().all(|output| output.is_symbol())
                && (!node.outputs.is_empty() || !target.starts_with("aten.") || is_assertion(target))
            {
                continue;
            }
            if target.starts_with("higher_order.wrap_with_") {
                self.inline(node, &modules, depth)?;
                continue;
            }
            let mut args = vec![];
            for input in &node.inputs {
                args.push((input.name.clone(), self.arg(&input.arg)?));
            }
            let mut outputs = vec![];
            for output in &node.outputs {
                match output {
                    Argument::Tensor(tensor) => outputs.push(Some(self.new_value(graph, &tensor.name)?)),
                    Argument::Tensors(list) => {
                        for tensor in list {
                            outputs.push(Some(self.new_value(graph, &tensor.name)?));
                        }
                    }
                    Argument::None(_) => outputs.push(None),
                    _ => return Err(self.wrong(format!("what `{target}` gives"))),
                }
            }
            let name = node.name.clone().unwrap_or_else(|| match outputs.first() {
                Some(Some(value)) => self.trace.values[*value].name.clone(),
                _ => target.to_string(),
            });
            self.trace.nodes.push(Node { name, target: target.to_string(), args, outputs, modules });
        }
        Ok(())
    }

    /// Puts the ops of a graph that is an argument in the place of the op that runs it.
    fn inline(&mut self, node: &schema::Node, modules: &[Module], depth: usize) -> Result<(), Problem> {
        if depth >= MAX_NESTED {
            return Err(self.wrong(format!("more than {MAX_NESTED} graphs within each other")));
        }
        let mut inner = None;
        let mut given = vec![];
        for input in &node.inputs {
            match &input.arg {
                Argument::Graph(graph) => inner = Some(&*graph.graph),
                Argument::Tensor(tensor) if inner.is_some() => given.push(self.meaning(&tensor.name)?),
                Argument::SymInt(schema::SymIntArgument::Name(name)) if inner.is_some() => {
                    given.push(self.meaning(name)?);
                }
                Argument::Int(number) if inner.is_some() => given.push(Meaning::Int(*number)),
                // what is before the graph says how it is run: gradients, number formats
                _ if inner.is_none() => {}
                _ => return Err(self.wrong(format!("what `{}` is given", node.target))),
            }
        }
        let Some(graph) = inner else { return Err(self.wrong(format!("`{}` without a graph", node.target))) };
        self.names.push(HashMap::new());
        self.symbols(graph)?;
        if graph.inputs.len() != given.len() {
            return Err(self.wrong(format!("`{}` gives its graph {} values", node.target, given.len())));
        }
        for (input, meaning) in graph.inputs.iter().zip(given) {
            match input {
                Argument::Tensor(tensor) => self.define(&tensor.name, meaning)?,
                Argument::SymInt(schema::SymIntArgument::Name(name)) => {
                    self.names.last_mut().expect("pushed above").insert(name.clone(), meaning);
                }
                Argument::Int(_) => {}
                _ => return Err(self.wrong(format!("what the graph of `{}` takes", node.target))),
            }
        }
        self.nodes(graph, modules, depth + 1)?;
        let mut results = vec![];
        for output in &graph.outputs {
            match output {
                Argument::Tensor(tensor) => results.push(self.meaning(&tensor.name)?),
                Argument::Tensors(list) => {
                    for tensor in list {
                        results.push(self.meaning(&tensor.name)?);
                    }
                }
                _ => return Err(self.wrong(format!("what the graph of `{}` gives", node.target))),
            }
        }
        self.names.pop();
        let names: Vec<&str> = node.outputs.iter().flat_map(Argument::names).collect();
        if names.len() != results.len() {
            return Err(self.wrong(format!("`{}` gives {} values", node.target, results.len())));
        }
        for (name, result) in names.into_iter().zip(results) {
            self.define(name, result)?;
        }
        Ok(())
    }

    fn arg(&self, arg: &Argument) -> Result<Arg, Problem> {
        let named = |name: &str| -> Result<Arg, Problem> {
            Ok(match self.meaning(name)? {
                Meaning::Value(value) => Arg::Value(value),
                Meaning::Int(number) => Arg::Int(number),
                Meaning::Float(number) => Arg::Float(number),
                Meaning::Bool(value) => Arg::Bool(value),
                Meaning::Nothing => Arg::None,
            })
        };
        let values = |names: &mut dyn Iterator<Item = Option<&str>>| -> Result<Arg, Problem> {
            let value = |name: Option<&str>| name.map(|name| self.value(name)).transpose();
            Ok(Arg::Values(names.map(value).collect::<Result<_, _>>()?))
        };
        Ok(match arg {
            Argument::None(_) => Arg::None,
            Argument::Tensor(tensor) => named(&tensor.name)?,
            Argument::Tensors(list) => values(&mut list.iter().map(|tensor| Some(tensor.name.as_str())))?,
            Argument::OptionalTensor(tensor) => match tensor.name() {
                Some(name) => named(name)?,
                None => Arg::None,
            },
            Argument::OptionalTensors(list) => values(&mut list.iter().map(schema::OptionalTensor::name))?,
            Argument::Int(number) => Arg::Int(*number),
            Argument::Ints(list) => Arg::Ints(list.clone()),
            Argument::Float(number) => Arg::Float(number.0),
            Argument::Floats(list) => Arg::Floats(list.iter().map(|number| number.0).collect()),
            Argument::Bool(value) => Arg::Bool(*value),
            Argument::String(text) => Arg::Text(text.clone()),
            Argument::SymInt(number) => match number {
                schema::SymIntArgument::Int(number) => Arg::Int(*number),
                schema::SymIntArgument::Name(name) => named(name)?,
            },
            Argument::SymInts(list) => {
                let mut numbers = vec![];
                for number in list {
                    numbers.push(match number {
                        schema::SymIntArgument::Int(number) => *number,
                        schema::SymIntArgument::Name(name) => match self.meaning(name)? {
                            Meaning::Int(number) => number,
                            _ => return Err(self.wrong(format!("`{name}` is no whole number"))),
                        },
                    });
                }
                Arg::Ints(numbers)
            }
            Argument::SymFloat(number) => match number {
                schema::SymFloatArgument::Float(number) => Arg::Float(number.0),
                schema::SymFloatArgument::Name(name) => named(name)?,
            },
            Argument::ScalarType(number) => match stype(*number) {
                Some(stype) => Arg::Dtype(stype.dtype()),
                None => return Err(self.wrong(format!("PyTorch's type {number}"))),
            },
            Argument::SymBool(_)
            | Argument::Device(_)
            | Argument::Layout(_)
            | Argument::MemoryFormat(_)
            | Argument::Bools(_)
            | Argument::Strings(_)
            | Argument::Operator(_) => Arg::Other,
            Argument::Graph(_) => return Err(self.wrong("a graph within the graph: control flow is not imported")),
            Argument::Else(kind) => return Err(self.wrong(format!("an argument of the kind `{kind}`"))),
        })
    }
}

fn described(meta: &TensorMeta, name: &str) -> Result<Value, Problem> {
    let Some(stype) = stype(meta.dtype) else {
        let message = format!("`{name}` is of PyTorch's type {}, which is not read", meta.dtype);
        return Err(Problem::new(Code::Import, message).hint("export the network in float32"));
    };
    let shape = sizes(&meta.sizes, name)?;
    if shape.len() > MAX_AXES {
        return Err(Problem::new(Code::Import, format!("`{name}` has {} axes", shape.len())));
    }
    let len = shape.iter().try_fold(1usize, |all, len| all.checked_mul(*len));
    if len.is_none_or(|len| len > MAX_LEN) {
        return Err(Problem::new(Code::Import, format!("`{name}` is {shape:?}, more than {MAX_LEN} values")));
    }
    Ok(Value { name: String::new(), dtype: stype.dtype(), shape })
}

/// Ops that only check.
fn is_assertion(target: &str) -> bool {
    target.contains("assert") || target.contains("sym_constrain")
}

/// The modules around an op: `key,path,class;..`, the network itself left out. A second call of a module has `@1` at its
/// key or path.
fn modules(stack: &str) -> Option<Vec<Module>> {
    let mut modules: Vec<Module> = vec![];
    for entry in stack.split(';') {
        let mut fields = entry.split(',');
        let (key, path, class) = (fields.next()?, fields.next()?, fields.next()?);
        if class.starts_with("_empty_nn_module_stack") {
            return None;
        }
        let call = [key, path].iter().find_map(|text| text.rsplit_once('@')?.1.parse().ok()).unwrap_or(0);
        let path = path.split('@').next().unwrap_or(path);
        if !path.is_empty() {
            modules.push(Module { path: path.to_string(), class: class.to_string(), call });
        }
    }
    Some(modules)
}

/// The keys of a flat dictionary of tensors, as PyTorch's trees are written; None of anything else.
fn leaves(spec: &str) -> Option<Vec<String>> {
    let tree: serde_json::Value = serde_json::from_str(spec).ok()?;
    let root = tree.get(1)?;
    let kind = root.get("type")?.as_str()?;
    if !kind.ends_with("dict") && !kind.ends_with("OrderedDict") {
        return None;
    }
    let keys: Vec<String> = serde_json::from_str(root.get("context")?.as_str()?).ok()?;
    let children = root.get("children_spec")?.as_array()?;
    let is_leaf = |child: &serde_json::Value| child.get("type").is_some_and(serde_json::Value::is_null);
    (children.len() == keys.len() && children.iter().all(is_leaf)).then_some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_of_modules_are_read() {
        let stack = "L__self__,,m.Net;L__self__layers,layers,torch.nn.modules.container.Sequential;L__self__layers.0@1,layers.0@1,m.Block";
        let modules = modules(stack).unwrap();
        let shown: Vec<(&str, &str, usize)> =
            modules.iter().map(|module| (module.path.as_str(), module.kind(), module.call)).collect();
        assert_eq!(shown, [("layers", "Sequential", 0), ("layers.0", "Block", 1)]);
    }

    #[test]
    fn outputs_of_a_dictionary_have_its_keys() {
        let leaf = "{\"type\": null, \"context\": null, \"children_spec\": []}";
        let spec = format!(
            "[1, {{\"type\": \"collections.OrderedDict\", \"context\": \"[\\\"out\\\", \\\"aux\\\"]\", \"children_spec\": [{leaf}, {leaf}]}}]"
        );
        assert_eq!(leaves(&spec), Some(vec!["out".to_string(), "aux".to_string()]));
        assert_eq!(leaves(&format!("[1, {leaf}]")), None);
    }
}
