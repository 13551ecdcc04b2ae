//! A network as ONNX's nodes, and the names, shapes and sources of its initializers.

use std::collections::{BTreeMap, HashMap, HashSet};

use archc_base::DType;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Options;
use super::proto::{Attribute, Axis, Entry, Node, ValueInfo, format};
use crate::diag::Problem;
use crate::graph::{Graph, NodeId, Use, key};
use crate::ops::Op;
use crate::ops::shape::Shape;
use crate::typed::Typed;

/// The name of the symbol that stands for the batch.
pub const BATCH: &str = "N";

/// A network in ONNX's words, without the values of its tensors.
#[derive(Debug, Default)]
pub struct Network {
    pub name: String,
    pub nodes: Vec<Node>,
    pub weights: Vec<Weight>,
    pub inputs: Vec<ValueInfo>,
    pub outputs: Vec<ValueInfo>,
    /// The values that layers give.
    pub values: Vec<ValueInfo>,
}

/// An initializer.
#[derive(Debug)]
pub struct Weight {
    pub name: String,
    pub dims: Vec<usize>,
    pub source: Source,
}

/// Where an initializer's values come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A tensor of a layer, by its number there.
    Param(NodeId, usize),
    /// A weight of `layer`, or its bias, into which the batch norm `norm` went.
    Folded {
        layer: NodeId,
        norm: NodeId,
        is_bias: bool,
    },
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Bytes(Vec<u8>),
    Int32s(Vec<i32>),
}

/// Says a network in ONNX's words.
///
/// # Errors
/// What the operator set has no words for.
pub fn build(typed: &Typed, options: &Options) -> Result<Network, Problem> {
    let graph = typed.graph();
    let live = graph.live();
    let mut build = Build::new(typed, options);
    // names that others see come first
    let outside = graph.inputs().keys().chain(graph.outputs().keys());
    build.taken.extend(outside.cloned());
    for id in typed.order() {
        let node = graph.node(*id);
        build.taken.extend(typed.params(*id).iter().map(|decl| key(&node.path, decl.name)));
    }
    for (name, id) in graph.inputs() {
        build.input(name, *id)?;
    }
    for id in typed.order().iter().filter(|id| live.contains(id)) {
        build.layer(*id)?;
    }
    for (name, output) in graph.outputs() {
        let value = build.values[&output.node].clone();
        if value != *name {
            build.here = output.node;
            let node = Node {
                input: vec![value],
                output: vec![name.clone()],
                name: format!("/{name}"),
                op_type: "Identity".into(),
                ..Node::default()
            };
            build.network.nodes.push(node);
        }
        let info = ValueInfo::tensor(name, format::FLOAT, axes(typed.shape(output.node)));
        build.network.outputs.push(info);
    }
    let outputs = graph.outputs();
    build.network.values.retain(|info| !outputs.contains_key(&info.name));
    build.network.name = "network".into();
    Ok(build.network)
}

/// A shape as ONNX says it.
pub fn axes(shape: &Shape) -> Vec<Axis> {
    let batch = shape.batched.then_some(Axis::Symbol(BATCH));
    batch.into_iter().chain(shape.dims.iter().map(|len| Axis::Len(*len))).collect()
}

/// A network in the making.
pub struct Build<'a> {
    pub typed: &'a Typed,
    pub options: &'a Options,
    pub network: Network,
    /// What each layer's value is called.
    pub values: FxHashMap<NodeId, String>,
    /// The layer that is said now.
    pub here: NodeId,
    /// Batch norms that went into the layer before, by that layer.
    folded: FxHashMap<NodeId, NodeId>,
    gone: FxHashSet<NodeId>,
    /// The parts of a value that was cut into so many along an axis.
    pub chunks: HashMap<(NodeId, usize, usize), Vec<String>>,
    taken: HashSet<String>,
    known: HashMap<String, String>,
    params: BTreeMap<String, String>,
    constants: usize,
}

impl<'a> Build<'a> {
    fn new(typed: &'a Typed, options: &'a Options) -> Build<'a> {
        let folded = if options.fold { norms(typed) } else { FxHashMap::default() };
        let gone = folded.values().copied().collect();
        Build {
            typed,
            options,
            network: Network::default(),
            values: FxHashMap::default(),
            here: NodeId::end(),
            folded,
            gone,
            chunks: HashMap::new(),
            taken: HashSet::new(),
            known: HashMap::new(),
            params: BTreeMap::new(),
            constants: 0,
        }
    }

    pub fn graph(&self) -> &'a Graph {
        self.typed.graph()
    }

    pub fn opset(&self) -> i64 {
        self.options.opset
    }

    fn input(&mut self, name: &str, id: NodeId) -> Result<(), Problem> {
        self.here = id;
        let shape = self.typed.shape(id);
        let value = match &self.options.preprocess {
            Some(preprocess) if self.graph().inputs().len() == 1 => self.prepared(name, preprocess, shape)?,
            _ => {
                self.network.inputs.push(ValueInfo::tensor(name, format::FLOAT, axes(shape)));
                name.to_string()
            }
        };
        self.values.insert(id, value);
        Ok(())
    }

    fn layer(&mut self, id: NodeId) -> Result<(), Problem> {
        if self.values.contains_key(&id) {
            return Ok(());
        }
        let operands = self.graph().operands(id);
        let ins: Vec<String> = operands.iter().map(|operand| self.values[operand].clone()).collect();
        if self.gone.contains(&id) {
            self.values.insert(id, ins[0].clone());
            return Ok(());
        }
        self.here = id;
        let before = self.network.nodes.len();
        let shapes: Vec<&Shape> = operands.iter().map(|operand| self.typed.shape(*operand)).collect();
        let value = self.op(&self.graph().node(id).op, &ins, &shapes)?;
        let value = self.called(id, value, before);
        self.values.insert(id, value);
        Ok(())
    }

    /// Calls the value of a layer as the layer, or as the output that it is, where a node of its own gives it.
    fn called(&mut self, id: NodeId, value: String, before: usize) -> String {
        let path = &self.graph().node(id).path;
        let is_own = self.network.nodes.len() > before;
        if !is_own || self.network.nodes.last().is_none_or(|node| node.output != [value.clone()]) {
            return value;
        }
        let output = self.graph().output_names(id).next().map(str::to_string);
        let name = output.unwrap_or_else(|| self.unique(path));
        if let Some(node) = self.network.nodes.last_mut() {
            node.output = vec![name.clone()];
            node.name.clone_from(path);
        }
        let shape = self.typed.shape(id);
        self.network.values.push(ValueInfo::tensor(&name, format::FLOAT, axes(shape)));
        name
    }

    /// A name that no value has yet.
    pub fn unique(&mut self, name: &str) -> String {
        let mut free = name.to_string();
        let mut number = 0;
        while !self.taken.insert(free.clone()) {
            number += 1;
            free = format!("{name}_{number}");
        }
        free
    }

    /// A node of the layer that is said now, whose results are called by it.
    pub fn many(&mut self, op: &str, ins: &[&str], attributes: Vec<Attribute>, results: usize) -> Vec<String> {
        let name = format!("{}/{op}", self.graph().node(self.here).path);
        let output: Vec<String> = (0..results).map(|_| self.unique(&name)).collect();
        self.network.nodes.push(Node {
            input: ins.iter().map(|name| (*name).to_string()).collect(),
            name: output[0].clone(),
            output: output.clone(),
            op_type: op.into(),
            attribute: attributes,
            domain: String::new(),
            metadata_props: self.modules(op),
        });
        output
    }

    /// The same with one result.
    pub fn with(&mut self, op: &str, ins: &[&str], attributes: Vec<Attribute>) -> String {
        self.many(op, ins, attributes, 1).remove(0)
    }

    /// The same without attributes.
    pub fn plain(&mut self, op: &str, ins: &[&str]) -> String {
        self.with(op, ins, vec![])
    }

    /// The scopes around the layer that is said now, as PyTorch's exporter writes modules.
    fn modules(&self, op: &str) -> Vec<Entry> {
        let graph = self.graph();
        let node = graph.node(self.here);
        let mut names = vec![String::new()];
        let mut classes = vec!["network".to_string()];
        let ends = node.path.match_indices('.').map(|(at, _)| at).chain([node.path.len()]);
        for end in ends {
            let path = &node.path[..end];
            let class = match graph.scope(path) {
                _ if end == node.path.len() => node.op.name().to_string(),
                Some(scope) if scope.numbered => "torch.nn.modules.container.Sequential".into(),
                Some(scope) => scope.block.clone().unwrap_or_else(|| "torch.nn.modules.container.ModuleDict".into()),
                None => continue,
            };
            names.push(path.to_string());
            classes.push(class);
        }
        names.push(op.to_string());
        classes.push(format!("onnx.{op}"));
        let list = |texts: &[String]| {
            let quoted: Vec<String> =
                texts.iter().map(|text| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))).collect();
            format!("[{}]", quoted.join(", "))
        };
        let namespace: Vec<String> =
            names.iter().zip(&classes).map(|(name, class)| format!("{name}: {class}")).collect();
        let entry = |key: &str, value: String| Entry { key: key.into(), value };
        vec![
            entry("namespace", namespace.join("/")),
            entry("pkg.torch.onnx.class_hierarchy", list(&classes)),
            entry("pkg.torch.onnx.name_scopes", list(&names)),
        ]
    }

    /// Whole numbers, [len].
    pub fn ints(&mut self, values: &[i64]) -> String {
        let text = format!("ints {values:?}");
        self.once(text, vec![values.len()], || Source::Ints(values.to_vec()))
    }

    /// A whole number without axes.
    pub fn int(&mut self, value: i64) -> String {
        self.once(format!("int {value}"), vec![], || Source::Ints(vec![value]))
    }

    /// A number without axes.
    pub fn float(&mut self, value: f64) -> String {
        self.once(format!("float {}", (value as f32).to_bits()), vec![], || Source::Floats(vec![value as f32]))
    }

    /// A tensor that the text or an op makes.
    pub fn floats(&mut self, dims: &[usize], values: Vec<f32>) -> String {
        self.constant(dims.to_vec(), Source::Floats(values))
    }

    /// The same number, `len` times.
    pub fn filled(&mut self, len: usize, value: f32) -> String {
        self.once(format!("filled {len} {}", value.to_bits()), vec![len], || Source::Floats(vec![value; len]))
    }

    pub fn constant(&mut self, dims: Vec<usize>, source: Source) -> String {
        let name = format!("/constants/{}", self.constants);
        self.constants += 1;
        self.network.weights.push(Weight { name: name.clone(), dims, source });
        name
    }

    fn once(&mut self, text: String, dims: Vec<usize>, source: impl FnOnce() -> Source) -> String {
        if let Some(name) = self.known.get(&text) {
            return name.clone();
        }
        let name = self.constant(dims, source());
        self.known.insert(text, name.clone());
        name
    }

    /// A tensor of the layer that is said now, which may be another's.
    ///
    /// # Panics
    /// If the layer has no such tensor.
    pub fn param(&mut self, name: &str) -> String {
        let owner = self.graph().owner(self.here);
        let params = self.typed.params(owner);
        let at = params.iter().position(|decl| decl.name == name).expect("the op declares it");
        let source = match self.folded.get(&self.here) {
            Some(norm) => Source::Folded { layer: self.here, norm: *norm, is_bias: name == "bias" },
            None => Source::Param(owner, at),
        };
        let key = key(&self.graph().node(owner).path, name);
        self.weight(key, params[at].shape.clone(), source)
    }

    /// The bias of the layer that is said now, where it has one or got one of a batch norm.
    pub fn bias(&mut self, has: bool, out: usize) -> Option<String> {
        match (self.folded.get(&self.here), has) {
            (Some(norm), false) => {
                let source = Source::Folded { layer: self.here, norm: *norm, is_bias: true };
                let key = key(&self.graph().node(self.here).path, "bias");
                Some(self.weight(key, vec![out], source))
            }
            (_, true) => Some(self.param("bias")),
            (None, false) => None,
        }
    }

    fn weight(&mut self, key: String, dims: Vec<usize>, source: Source) -> String {
        if let Some(value) = self.params.get(&key) {
            return value.clone();
        }
        self.network.weights.push(Weight { name: key.clone(), dims, source });
        let value = match self.options.dtype {
            DType::F32 => key.clone(),
            // what is computed stays float32
            DType::F16 | DType::Bf16 => self.with("Cast", &[&key], vec![Attribute::int("to", format::FLOAT.into())]),
        };
        self.params.insert(key, value.clone());
        value
    }
}

/// The batch norms that can go into the layer before, by that layer.
fn norms(typed: &Typed) -> FxHashMap<NodeId, NodeId> {
    let graph = typed.graph();
    let shared: FxHashSet<NodeId> = graph.ids().filter_map(|id| graph.node(id).tied).collect();
    let is_alone = |id: NodeId| graph.node(id).tied.is_none() && !shared.contains(&id);
    let mut norms = FxHashMap::default();
    for id in typed.order() {
        let is_norm = match &graph.node(*id).op {
            Op::BatchNorm2d(_) => true,
            Op::BatchNorm1d(_) => typed.shape(*id).rank() == 2,
            _ => false,
        };
        if !is_norm || !is_alone(*id) {
            continue;
        }
        let layer = graph.operands(*id)[0];
        let takes = match &graph.node(layer).op {
            Op::Conv2d(_) => typed.shape(layer).batched,
            Op::ConvTranspose2d(conv) => typed.shape(layer).batched && conv.groups == 1,
            Op::Linear(_) => typed.shape(*id).rank() == 2,
            _ => false,
        };
        if takes && is_alone(layer) && matches!(graph.uses(layer).as_slice(), [Use::Operand { .. }]) {
            norms.insert(layer, *id);
        }
    }
    norms
}
