//! ONNX's operators in ATen's.

use super::{Fail, Given, Meaning, Out, Reader, file, refuse};
use crate::import::array::{Array, Data, Dtype, broadcast};
use crate::import::trace::{Arg, Kind};
use crate::onnx::proto::{Attribute, Node};

/// ONNX's functions of single values, and ATen's.
const FUNCTIONS: &[(&str, &str)] = &[
    ("Relu", "relu"),
    ("Sigmoid", "sigmoid"),
    ("Tanh", "tanh"),
    ("Exp", "exp"),
    ("Log", "log"),
    ("Sqrt", "sqrt"),
    ("Sin", "sin"),
    ("Cos", "cos"),
    ("Abs", "abs"),
    ("Neg", "neg"),
    ("Floor", "floor"),
    ("Ceil", "ceil"),
    ("Round", "round"),
    ("Sign", "sign"),
    ("Erf", "erf"),
    ("Reciprocal", "reciprocal"),
    ("HardSwish", "hardswish"),
    ("Softplus", "softplus"),
    ("Softsign", "softsign"),
    ("Mish", "mish"),
    ("Not", "logical_not"),
    // found by `fuse`
    ("Silu", "silu"),
    ("LogSigmoid", "log_sigmoid"),
    ("Rsqrt", "rsqrt"),
];

/// ONNX's functions of two values, and ATen's.
const PAIRS: &[(&str, &str)] = &[
    ("Add", "add"),
    ("Sub", "sub"),
    ("Mul", "mul"),
    ("Equal", "eq"),
    ("Less", "lt"),
    ("LessOrEqual", "le"),
    ("Greater", "gt"),
    ("GreaterOrEqual", "ge"),
    ("And", "logical_and"),
    ("Or", "logical_or"),
    ("Xor", "logical_xor"),
];

/// ONNX's reductions, and ATen's.
const REDUCTIONS: &[(&str, &str)] = &[
    ("ReduceMean", "mean"),
    ("ReduceSum", "sum"),
    ("ReduceMax", "amax"),
    ("ReduceMin", "amin"),
    ("ReduceL2", "linalg_vector_norm"),
];

/// The other operators that are read.
const OTHERS: &[&str] = &[
    "Attention",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "CastLike",
    "Celu",
    "Clip",
    "Col2Im",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "CumSum",
    "DepthToSpace",
    "Div",
    "Dropout",
    "Einsum",
    "Elu",
    "Expand",
    "Flatten",
    "Gather",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GroupNormalization",
    "HardSigmoid",
    "Identity",
    "InstanceNormalization",
    "LayerNormalization",
    "LeakyRelu",
    "Linear",
    "LogSoftmax",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mod",
    "PRelu",
    "Pad",
    "Pow",
    "RMSNormalization",
    "Range",
    "Reshape",
    "Resize",
    "Selu",
    "Shape",
    "Size",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "Sum",
    "Swish",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
];

/// Whether an operator is read.
pub fn is_known(op: &str) -> bool {
    let named = |list: &[(&str, &str)]| list.iter().any(|(name, _)| *name == op);
    named(FUNCTIONS) || named(PAIRS) || named(REDUCTIONS) || OTHERS.contains(&op)
}

fn attribute<'n>(node: &'n Node, name: &str) -> Option<&'n Attribute> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn int(node: &Node, name: &str) -> Option<i64> {
    attribute(node, name).and_then(|attribute| attribute.i)
}

fn ints(node: &Node, name: &str) -> Option<Vec<i64>> {
    attribute(node, name).map(|attribute| attribute.ints.clone())
}

fn text<'n>(node: &'n Node, name: &str) -> Option<&'n str> {
    attribute(node, name).and_then(|attribute| std::str::from_utf8(attribute.s.as_deref()?).ok())
}

/// A float32 as the shortest number that it is: 1e-5, not 9.99999974e-6.
fn float(node: &Node, name: &str) -> Option<f64> {
    attribute(node, name).and_then(|attribute| attribute.f).map(shortest)
}

fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn one(meaning: Meaning) -> Out<Vec<Meaning>> {
    Ok(vec![meaning])
}

impl Reader {
    /// What a node gives.
    pub(super) fn read(&mut self, node: &Node) -> Out<Vec<Meaning>> {
        let op = node.op_type.as_str();
        if let Some((_, aten)) = FUNCTIONS.iter().find(|(name, _)| *name == op) {
            let x = self.x(node, 0)?;
            return one(self.emit(aten, vec![("self", x.into())])?);
        }
        if let Some((_, aten)) = PAIRS.iter().find(|(name, _)| *name == op) {
            let (a, b) = (self.x(node, 0)?, self.x(node, 1)?);
            return one(self.emit(&format!("{aten}.Tensor"), vec![("self", a.into()), ("other", b.into())])?);
        }
        if let Some((_, aten)) = REDUCTIONS.iter().find(|(name, _)| *name == op) {
            return one(self.reduce(node, aten)?);
        }
        match op {
            "Conv" => one(self.conv(node)?),
            "ConvTranspose" => one(self.conv_transpose(node)?),
            "Gemm" => one(self.gemm(node)?),
            "Linear" | "MatMul" => one(self.matmul(node)?),
            "BatchNormalization" => one(self.batch_norm(node)?),
            "LayerNormalization" | "RMSNormalization" => one(self.layer_norm(node, op)?),
            "GroupNormalization" | "InstanceNormalization" => one(self.group_norm(node, op)?),
            "Attention" => one(self.attention(node)?),
            "Div" => {
                let (a, b) = (self.x(node, 0)?, self.x(node, 1)?);
                let is_whole = !self.described(&a)?.0.is_float() && !self.described(&b)?.0.is_float();
                let mut args = vec![("self", a.into()), ("other", b.into())];
                if is_whole {
                    args.push(("rounding_mode", Arg::Text("trunc".into()).into()));
                }
                one(self.emit(if is_whole { "div.Tensor_mode" } else { "div.Tensor" }, args)?)
            }
            "Mod" => {
                let name = if int(node, "fmod").unwrap_or(0) == 0 { "remainder.Tensor" } else { "fmod.Tensor" };
                let (a, b) = (self.x(node, 0)?, self.x(node, 1)?);
                one(self.emit(name, vec![("self", a.into()), ("other", b.into())])?)
            }
            "Pow" => one(self.pow(node)?),
            "Max" | "Min" | "Sum" => {
                let aten = match op {
                    "Max" => "maximum",
                    "Min" => "minimum",
                    _ => "add.Tensor",
                };
                let mut result = self.x(node, 0)?;
                for at in 1..node.input.len() {
                    let other = self.x(node, at)?;
                    result = self.emit(aten, vec![("self", result.into()), ("other", other.into())])?;
                }
                one(result)
            }
            "Clip" => one(self.clip(node)?),
            "LeakyRelu" => self.function(node, "leaky_relu", &[("negative_slope", "alpha", 0.01)]),
            "Elu" => self.function(node, "elu", &[("alpha", "alpha", 1.0)]),
            "Celu" => self.function(node, "celu", &[("alpha", "alpha", 1.0)]),
            "Selu" => {
                let near = |name: &str, wanted: f64| float(node, name).is_none_or(|own| (own - wanted).abs() < 1e-6);
                if !near("alpha", 1.673_263_2) || !near("gamma", 1.050_701) {
                    return Err(Fail::Unknown);
                }
                self.function(node, "selu", &[])
            }
            "HardSigmoid" => {
                let (alpha, beta) = (float(node, "alpha").unwrap_or(0.2), float(node, "beta").unwrap_or(0.5));
                if (alpha - 1.0 / 6.0).abs() > 1e-6 || beta != 0.5 {
                    return Err(Fail::Unknown);
                }
                self.function(node, "hardsigmoid", &[])
            }
            "Swish" => {
                if float(node, "alpha").unwrap_or(1.0) != 1.0 {
                    return Err(Fail::Unknown);
                }
                self.function(node, "silu", &[])
            }
            "Gelu" => {
                let x = self.x(node, 0)?;
                let word = text(node, "approximate").unwrap_or("none").to_string();
                one(self.emit("gelu", vec![("self", x.into()), ("approximate", Arg::Text(word).into())])?)
            }
            "PRelu" => {
                let x = self.x(node, 0)?;
                let slope = self.role(node, 1, "weight", Kind::Parameter)?;
                one(self.emit("prelu", vec![("self", x.into()), ("weight", slope.into())])?)
            }
            "Softmax" | "LogSoftmax" => {
                let x = self.x(node, 0)?;
                let axis = Arg::Int(int(node, "axis").unwrap_or(-1));
                let aten = if op == "Softmax" { "softmax.int" } else { "log_softmax.int" };
                one(self.emit(aten, vec![("self", x.into()), ("dim", axis.into())])?)
            }
            "MaxPool" | "AveragePool" => one(self.pool(node, op)?),
            "GlobalAveragePool" | "GlobalMaxPool" => {
                let x = self.x(node, 0)?;
                if self.shape(&x)?.len() != 4 {
                    return refuse("it is of images alone");
                }
                let aten = if op == "GlobalMaxPool" { "adaptive_max_pool2d" } else { "adaptive_avg_pool2d" };
                one(self.emit(aten, vec![("self", x.into()), ("output_size", Arg::Ints(vec![1, 1]).into())])?)
            }
            "Resize" => one(self.resize(node)?),
            "Pad" => one(self.pad(node)?),
            "DepthToSpace" => {
                if text(node, "mode").unwrap_or("DCR") != "CRD" {
                    return Err(Fail::Unknown);
                }
                let x = self.x(node, 0)?;
                let r = Arg::Int(int(node, "blocksize").unwrap_or(0));
                one(self.emit("pixel_shuffle", vec![("self", x.into()), ("upscale_factor", r.into())])?)
            }
            "Col2Im" => one(self.col2im(node)?),
            "Einsum" => {
                let mut tensors = vec![];
                for at in 0..node.input.len() {
                    tensors.push(self.x(node, at)?);
                }
                let equation = Arg::Text(text(node, "equation").unwrap_or("").to_string());
                one(self.emit("einsum", vec![("equation", equation.into()), ("tensors", Given::List(tensors))])?)
            }
            "Identity" => one(self.x(node, 0)?),
            "Dropout" => {
                if let Some(training) = self.optional(node, 2)?
                    && self.known(&training)?.to_f64().iter().any(|value| *value != 0.0)
                {
                    return refuse("it drops at inference");
                }
                one(self.x(node, 0)?)
            }
            "Cast" | "CastLike" => self.cast(node, op),
            "Constant" => one(self.constant_of(node)?),
            "ConstantOfShape" => {
                let dims = self.dims(node, 0)?;
                let dims = sizes(&dims)?;
                self.hold(dims.iter().fold(1, |all, len| all.saturating_mul(*len)))?;
                let value = match attribute(node, "value").and_then(|own| own.t.clone()) {
                    Some(tensor) => self.file.tensor(&tensor, "value", Kind::Constant)?.array(),
                    None => Array::f32([1], vec![0.0]),
                };
                match value.reshape_to_one().and_then(|value| value.expand(&dims)) {
                    Some(filled) => one(Meaning::Known(filled.copy())),
                    None => refuse("its value is not one number"),
                }
            }
            "Range" => {
                let mut bounds = vec![];
                for at in 0..3 {
                    let x = self.x(node, at)?;
                    bounds.push(self.known(&x)?);
                }
                let is_float = bounds.iter().any(|bound| bound.dtype().is_float());
                let [start, end, step] = [0, 1, 2].map(|at| bounds[at].to_f64().first().copied().unwrap_or(0.0));
                let count = ((end - start) / step).ceil().max(0.0);
                if !count.is_finite() || count > (1u64 << 26) as f64 {
                    return refuse("a range without end");
                }
                self.hold(count as usize)?;
                let values: Vec<f64> = (0..count as usize).map(|at| start + step * at as f64).collect();
                let dtype = if is_float { Dtype::F32 } else { Dtype::Int };
                one(Meaning::Known(Array::of([values.len()], values, dtype)))
            }
            "Shape" => {
                let x = self.x(node, 0)?;
                let dims = self.shape(&x)?;
                let place =
                    |at: i64| (if at < 0 { at + dims.len() as i64 } else { at }).clamp(0, dims.len() as i64) as usize;
                let (from, to) = (place(int(node, "start").unwrap_or(0)), place(int(node, "end").unwrap_or(i64::MAX)));
                let picked: Vec<i64> =
                    dims.get(from..to.max(from)).unwrap_or(&[]).iter().map(|len| *len as i64).collect();
                one(Meaning::Known(Array::int([picked.len()], picked)))
            }
            "Size" => {
                let x = self.x(node, 0)?;
                let len = self.shape(&x)?.iter().product::<usize>();
                one(Meaning::Known(Array::int([], vec![len as i64])))
            }
            "Reshape" => one(self.reshape(node)?),
            "Flatten" => {
                let x = self.x(node, 0)?;
                let dims = self.shape(&x)?;
                let axis = int(node, "axis").unwrap_or(1);
                let at = if axis < 0 { axis + dims.len() as i64 } else { axis };
                if at == 1 && dims.len() > 1 {
                    return one(
                        self.emit("flatten.using_ints", vec![("self", x.into()), ("start_dim", Arg::Int(1).into())])?
                    );
                }
                let Some(before) = usize::try_from(at).ok().and_then(|at| dims.get(..at)) else {
                    return refuse("there is no such axis");
                };
                let rows = before.iter().product::<usize>();
                let columns = dims[before.len()..].iter().product::<usize>();
                one(self.view(x, &[rows, columns])?)
            }
            "Transpose" => one(self.transpose(node)?),
            "Squeeze" => {
                let x = self.x(node, 0)?;
                let rank = self.shape(&x)?.len();
                let axes = match self.axes(node, 1)? {
                    Some(axes) => axes,
                    None => self
                        .shape(&x)?
                        .iter()
                        .enumerate()
                        .filter(|(_, len)| **len == 1)
                        .map(|(at, _)| at as i64)
                        .collect(),
                };
                let mut axes = resolved(&axes, rank)?;
                axes.sort_unstable_by(|a, b| b.cmp(a));
                let mut result = x;
                for axis in axes {
                    if self.shape(&result)?[axis] != 1 {
                        return refuse(format!("axis {axis} has other lengths than 1"));
                    }
                    result =
                        self.emit("squeeze.dim", vec![("self", result.into()), ("dim", Arg::Int(axis as i64).into())])?;
                }
                one(result)
            }
            "Unsqueeze" => {
                let x = self.x(node, 0)?;
                let axes = self.axes(node, 1)?.unwrap_or_default();
                let rank = self.shape(&x)?.len() + axes.len();
                let mut axes = resolved(&axes, rank)?;
                axes.sort_unstable();
                if let Meaning::Weight { name, is_turned: false } = &x
                    && !self.is_constant(&x)
                {
                    return one(Meaning::Raised { name: name.clone(), axes });
                }
                let mut result = x;
                for axis in axes {
                    let dim = Arg::Int(axis as i64);
                    result = self.emit("unsqueeze", vec![("self", result.into()), ("dim", dim.into())])?;
                }
                one(result)
            }
            "Concat" => {
                let mut tensors = vec![];
                for at in 0..node.input.len() {
                    tensors.push(self.x(node, at)?);
                }
                let dim = Arg::Int(int(node, "axis").unwrap_or(0));
                one(self.emit("cat", vec![("tensors", Given::List(tensors)), ("dim", dim.into())])?)
            }
            "Split" => self.split(node),
            "Slice" => one(self.slice(node)?),
            "Gather" => one(self.gather(node)?),
            "Expand" => {
                let x = self.x(node, 0)?;
                let asked = sizes(&self.dims(node, 1)?)?;
                let dims = self.shape(&x)?;
                let Some(shape) = broadcast(&dims, &asked) else {
                    return refuse(format!("{dims:?} does not fit into {asked:?}"));
                };
                let size = Arg::Ints(shape.iter().map(|len| *len as i64).collect());
                one(self.emit("expand", vec![("self", x.into()), ("size", size.into())])?)
            }
            "Tile" => {
                let x = self.x(node, 0)?;
                let times = self.dims(node, 1)?;
                one(self.emit("repeat", vec![("self", x.into()), ("repeats", Arg::Ints(times).into())])?)
            }
            "Where" => {
                let (condition, a, b) = (self.x(node, 0)?, self.x(node, 1)?, self.x(node, 2)?);
                let args = vec![("condition", condition.into()), ("self", a.into()), ("other", b.into())];
                one(self.emit("where.self", args)?)
            }
            "CumSum" => {
                let x = self.x(node, 0)?;
                let axis = self.dims(node, 1)?;
                if int(node, "exclusive").unwrap_or(0) != 0 || int(node, "reverse").unwrap_or(0) != 0 {
                    return Err(Fail::Unknown);
                }
                let dim = Arg::Int(axis.first().copied().unwrap_or(0));
                one(self.emit("cumsum", vec![("self", x.into()), ("dim", dim.into())])?)
            }
            "Trilu" => {
                let x = self.x(node, 0)?;
                let diagonal = match self.optional(node, 1)? {
                    Some(k) => self.known(&k)?.to_int().first().copied().unwrap_or(0),
                    None => 0,
                };
                let aten = if int(node, "upper").unwrap_or(1) == 0 { "tril" } else { "triu" };
                one(self.emit(aten, vec![("self", x.into()), ("diagonal", Arg::Int(diagonal).into())])?)
            }
            _ => Err(Fail::Unknown),
        }
    }

    /// An operand that may be left out.
    fn optional(&self, node: &Node, at: usize) -> Out<Option<Meaning>> {
        match node.input.get(at).filter(|name| !name.is_empty()) {
            Some(name) => Ok(self.names.get(name).cloned()),
            None => Ok(None),
        }
    }

    fn x(&self, node: &Node, at: usize) -> Out<Meaning> {
        self.optional(node, at)?.ok_or_else(|| Fail::Refused(format!("it lacks operand {}", at + 1)))
    }

    /// Whole numbers of an operand that is known.
    fn dims(&mut self, node: &Node, at: usize) -> Out<Vec<i64>> {
        let x = self.x(node, at)?;
        Ok(self.known(&x)?.to_int())
    }

    /// Axes, which are an attribute in old opsets.
    fn axes(&mut self, node: &Node, at: usize) -> Out<Option<Vec<i64>>> {
        match self.optional(node, at)? {
            Some(axes) => Ok(Some(self.known(&axes)?.to_int())),
            None => Ok(ints(node, "axes")),
        }
    }

    /// An operand that is a layer's tensor of that name.
    fn role(&mut self, node: &Node, at: usize, role: &str, kind: Kind) -> Out<Meaning> {
        match self.x(node, at)? {
            Meaning::Weight { name, is_turned } if Reader::may_be_weight(&name) => {
                Ok(Meaning::Value(self.weight(&name, is_turned, kind, Some(role))?))
            }
            // slopes [C, 1, 1] of a tensor [C]
            Meaning::Raised { name, .. } if node.op_type == "PRelu" => {
                Ok(Meaning::Value(self.weight(&name, false, kind, Some(role))?))
            }
            other => Ok(other),
        }
    }

    fn optional_role(&mut self, node: &Node, at: usize, role: &str) -> Out<Option<Meaning>> {
        match self.optional(node, at)? {
            Some(_) => self.role(node, at, role, Kind::Parameter).map(Some),
            None => Ok(None),
        }
    }

    /// A function with numbers beside its value: ATen's name, ONNX's, what it is by default.
    fn function(&mut self, node: &Node, aten: &str, numbers: &[(&'static str, &str, f64)]) -> Out<Vec<Meaning>> {
        let x = self.x(node, 0)?;
        let mut args: Vec<(&str, Given)> = vec![("self", x.into())];
        for (theirs, ours, default) in numbers {
            args.push((theirs, Arg::Float(float(node, ours).unwrap_or(*default)).into()));
        }
        one(self.emit(aten, args)?)
    }

    fn view(&mut self, x: Meaning, dims: &[usize]) -> Out<Meaning> {
        let size = Arg::Ints(dims.iter().map(|len| *len as i64).collect());
        self.emit("view", vec![("self", x.into()), ("size", size.into())])
    }

    fn permute(&mut self, x: Meaning, order: &[usize]) -> Out<Meaning> {
        let order = Arg::Ints(order.iter().map(|axis| *axis as i64).collect());
        self.emit("permute", vec![("self", x.into()), ("dims", order.into())])
    }

    /// What windows lie in, padded where their padding is not the same at both ends, and the padding that is left.
    fn padded(&mut self, node: &Node, x: Meaning, kernel: &[usize]) -> Out<(Meaning, Arg)> {
        let dims = self.shape(&x)?;
        let places = kernel.len();
        if dims.len() != places + 2 {
            return refuse(format!("windows of {places} axes in {dims:?}"));
        }
        let along = |name: &str| -> Out<Vec<usize>> {
            match ints(node, name).filter(|list| !list.is_empty()) {
                None => Ok(vec![1; places]),
                Some(list) if list.len() == places => sizes(&list),
                Some(list) => refuse(format!("`{name}` is {list:?}")),
            }
        };
        let (stride, dilation) = (along("strides")?, along("dilations")?);
        let (mut before, mut after) = (vec![0; places], vec![0; places]);
        match text(node, "auto_pad").unwrap_or("NOTSET") {
            "NOTSET" => {
                let pads = sizes(&ints(node, "pads").filter(|pads| !pads.is_empty()).unwrap_or(vec![0; 2 * places]))?;
                if pads.len() != 2 * places {
                    return refuse(format!("`pads` is {pads:?}"));
                }
                before.copy_from_slice(&pads[..places]);
                after.copy_from_slice(&pads[places..]);
            }
            "VALID" => {}
            word @ ("SAME_UPPER" | "SAME_LOWER") => {
                if word == "SAME_UPPER" && node.op_type == "Conv" && places == 2 {
                    return Ok((x, Arg::Text("same_upper".into())));
                }
                for axis in 0..places {
                    let len = dims[axis + 2];
                    let out = len.div_ceil(stride[axis].max(1)).max(1);
                    let reach = kernel[axis].saturating_sub(1).saturating_mul(dilation[axis]) + 1;
                    let needed = ((out - 1).saturating_mul(stride[axis]).saturating_add(reach)).saturating_sub(len);
                    before[axis] = if word == "SAME_UPPER" { needed / 2 } else { needed - needed / 2 };
                    after[axis] = needed - before[axis];
                }
            }
            other => return refuse(format!("`auto_pad` is {other}")),
        }
        if before == after {
            return Ok((x, Arg::Ints(before.iter().map(|pad| *pad as i64).collect())));
        }
        let mut pads = vec![];
        for axis in (0..places).rev() {
            pads.extend([before[axis] as i64, after[axis] as i64]);
        }
        let args =
            vec![("self", x.into()), ("pad", Arg::Ints(pads).into()), ("mode", Arg::Text("constant".into()).into())];
        Ok((self.emit("pad", args)?, Arg::Ints(vec![0; places])))
    }

    fn conv(&mut self, node: &Node) -> Out<Meaning> {
        let x = self.x(node, 0)?;
        let weight = self.role(node, 1, "weight", Kind::Parameter)?;
        let bias = self.optional_role(node, 2, "bias")?;
        let shape = self.shape(&weight)?;
        if !matches!(shape.len(), 3 | 4) {
            return refuse(format!("a weight {shape:?}"));
        }
        let kernel = &shape[2..];
        if ints(node, "kernel_shape").is_some_and(|own| sizes(&own).is_ok_and(|own| own != kernel)) {
            return refuse(format!("its `kernel_shape` is not that of its weight {shape:?}"));
        }
        let (x, padding) = self.padded(node, x, kernel)?;
        let places = kernel.len();
        let list = |name: &str| Arg::Ints(ints(node, name).filter(|list| !list.is_empty()).unwrap_or(vec![1; places]));
        let mut args: Vec<(&str, Given)> = vec![("input", x.into()), ("weight", weight.into())];
        args.push(("bias", bias.map_or(Given::Plain(Arg::None), Given::Of)));
        args.push(("stride", list("strides").into()));
        args.push(("padding", padding.into()));
        args.push(("dilation", list("dilations").into()));
        args.push(("groups", Arg::Int(int(node, "group").unwrap_or(1)).into()));
        self.emit(if places == 1 { "conv1d" } else { "conv2d" }, args)
    }

    fn conv_transpose(&mut self, node: &Node) -> Out<Meaning> {
        if ints(node, "output_shape").is_some_and(|own| !own.is_empty())
            || text(node, "auto_pad").unwrap_or("NOTSET") != "NOTSET"
        {
            return Err(Fail::Unknown);
        }
        let x = self.x(node, 0)?;
        let weight = self.role(node, 1, "weight", Kind::Parameter)?;
        let bias = self.optional_role(node, 2, "bias")?;
        let list =
            |name: &str, default: i64| ints(node, name).filter(|list| !list.is_empty()).unwrap_or(vec![default; 2]);
        let pads = ints(node, "pads").filter(|pads| !pads.is_empty()).unwrap_or(vec![0; 4]);
        let (mut extra, padding) = (list("output_padding", 0), pads.get(..2).unwrap_or(&[]).to_vec());
        if pads.len() != 4 || extra.len() != 2 {
            return refuse("it is of images alone");
        }
        // what is cut off at the end less than at the beginning is padding of the output
        for axis in 0..2 {
            extra[axis] = extra[axis].saturating_add(pads[axis].saturating_sub(pads[axis + 2]));
            if extra[axis] < 0 {
                return Err(Fail::Unknown);
            }
        }
        let mut args: Vec<(&str, Given)> = vec![("input", x.into()), ("weight", weight.into())];
        args.push(("bias", bias.map_or(Given::Plain(Arg::None), Given::Of)));
        args.push(("stride", Arg::Ints(list("strides", 1)).into()));
        args.push(("padding", Arg::Ints(padding).into()));
        args.push(("output_padding", Arg::Ints(extra).into()));
        args.push(("groups", Arg::Int(int(node, "group").unwrap_or(1)).into()));
        args.push(("dilation", Arg::Ints(list("dilations", 1)).into()));
        self.emit("conv_transpose2d.input", args)
    }

    fn linear(&mut self, x: Meaning, weight: Meaning, bias: Option<Meaning>) -> Out<Meaning> {
        let bias = bias.map_or(Given::Plain(Arg::None), Given::Of);
        self.emit("linear", vec![("input", x.into()), ("weight", weight.into()), ("bias", bias)])
    }

    /// A weight the other way round.
    fn turned(&mut self, meaning: &Meaning) -> Meaning {
        match meaning {
            Meaning::Weight { name, is_turned } => Meaning::Weight { name: name.clone(), is_turned: !is_turned },
            other => other.clone(),
        }
    }

    fn gemm(&mut self, node: &Node) -> Out<Meaning> {
        let near = |name: &str| float(node, name).unwrap_or(1.0) == 1.0;
        if !near("alpha") || !near("beta") {
            return Err(Fail::Unknown);
        }
        let mut x = self.x(node, 0)?;
        if int(node, "transA").unwrap_or(0) != 0 {
            x = self.permute(x, &[1, 0])?;
        }
        let weight = self.x(node, 1)?;
        let is_turned = int(node, "transB").unwrap_or(0) != 0;
        let bias = self.optional(node, 2)?;
        let is_line = match &bias {
            Some(bias) => self.shape(bias)?.len() == 1,
            None => true,
        };
        if let (Meaning::Weight { .. }, true) = (&weight, is_line) {
            let weight = if is_turned { weight } else { self.turned(&weight) };
            let Meaning::Weight { name, is_turned } = weight else { unreachable!("it is a weight") };
            let weight = Meaning::Value(self.weight(&name, is_turned, Kind::Parameter, Some("weight"))?);
            let bias = self.optional_role(node, 2, "bias")?;
            return self.linear(x, weight, bias);
        }
        let weight = if is_turned { self.permute(weight, &[1, 0])? } else { weight };
        let product = self.emit("matmul", vec![("self", x.into()), ("other", weight.into())])?;
        match bias {
            Some(bias) => self.emit("add.Tensor", vec![("self", product.into()), ("other", bias.into())]),
            None => Ok(product),
        }
    }

    /// A product of matrices, and one with a bias, which `fuse` found. A weight without a name was turned by whoever exported it.
    fn matmul(&mut self, node: &Node) -> Out<Meaning> {
        let (x, weight) = (self.x(node, 0)?, self.x(node, 1)?);
        let is_linear = match &weight {
            Meaning::Weight { name, is_turned } => {
                self.initializers[name].dims.len() == 2
                    && (*is_turned || Reader::is_anonymous(name) && Reader::may_be_weight(name))
            }
            _ => false,
        };
        let is_weight = |meaning: &Meaning| matches!(meaning, Meaning::Weight { .. });
        if is_linear && !is_weight(&x) {
            let Meaning::Weight { name, is_turned } = self.turned(&weight) else { unreachable!("it is a weight") };
            let weight = Meaning::Value(self.weight(&name, is_turned, Kind::Parameter, Some("weight"))?);
            let bias = self.optional_role(node, 2, "bias")?;
            return self.linear(x, weight, bias);
        }
        let product = self.emit("matmul", vec![("self", x.into()), ("other", weight.into())])?;
        match self.optional(node, 2)? {
            Some(bias) => self.emit("add.Tensor", vec![("self", product.into()), ("other", bias.into())]),
            None => Ok(product),
        }
    }

    /// Whether an operand is a constant of this number alone.
    fn is_filled(&mut self, node: &Node, at: usize, number: f64) -> Out<bool> {
        match self.optional(node, at)? {
            Some(meaning) if self.is_constant(&meaning) => {
                Ok(self.known(&meaning)?.to_f64().iter().all(|value| *value == number))
            }
            Some(_) => Ok(false),
            None => Ok(true),
        }
    }

    /// `weight` and `bias` of a norm, which has none where they are ones and zeros.
    fn scale_and_bias(&mut self, node: &Node, at: usize) -> Out<[Given; 2]> {
        let none = || Given::Plain(Arg::None);
        if self.is_filled(node, at, 1.0)? && self.is_filled(node, at + 1, 0.0)? {
            return Ok([none(), none()]);
        }
        let weight = self.role(node, at, "weight", Kind::Parameter)?;
        let bias = self.optional_role(node, at + 1, "bias")?;
        Ok([weight.into(), bias.map_or_else(none, Given::Of)])
    }

    fn batch_norm(&mut self, node: &Node) -> Out<Meaning> {
        if int(node, "training_mode").unwrap_or(0) != 0 {
            return refuse("it normalises by the batch: export the network after `model.eval()`");
        }
        let x = self.x(node, 0)?;
        let [weight, bias] = self.scale_and_bias(node, 1)?;
        let mean = self.role(node, 3, "running_mean", Kind::Buffer)?;
        let variance = self.role(node, 4, "running_var", Kind::Buffer)?;
        let momentum = shortest((1.0 - float(node, "momentum").unwrap_or(0.9)) as f32);
        let args = vec![
            ("input", x.into()),
            ("weight", weight),
            ("bias", bias),
            ("running_mean", mean.into()),
            ("running_var", variance.into()),
            ("training", Arg::Bool(false).into()),
            ("momentum", Arg::Float(momentum).into()),
            ("eps", Arg::Float(float(node, "epsilon").unwrap_or(1e-5)).into()),
        ];
        self.emit("batch_norm", args)
    }

    fn layer_norm(&mut self, node: &Node, op: &str) -> Out<Meaning> {
        let x = self.x(node, 0)?;
        let dims = self.shape(&x)?;
        let axis = resolved(&[int(node, "axis").unwrap_or(-1)], dims.len())?[0];
        let shape = Arg::Ints(dims[axis..].iter().map(|len| *len as i64).collect());
        let eps = Arg::Float(float(node, "epsilon").unwrap_or(1e-5));
        let [weight, bias] = self.scale_and_bias(node, 1)?;
        let mut args = vec![("input", x.into()), ("normalized_shape", shape.into()), ("weight", weight)];
        if op == "LayerNormalization" {
            args.push(("bias", bias));
        }
        args.push(("eps", eps.into()));
        self.emit(if op == "LayerNormalization" { "layer_norm" } else { "rms_norm" }, args)
    }

    fn group_norm(&mut self, node: &Node, op: &str) -> Out<Meaning> {
        let x = self.x(node, 0)?;
        if op == "GroupNormalization" && self.opset < 21 {
            return refuse("before opset 21 it scales groups, which archc has not: export with `opset_version=21`");
        }
        let [weight, bias] = self.scale_and_bias(node, 1)?;
        let eps = Arg::Float(float(node, "epsilon").unwrap_or(1e-5));
        let mut args = vec![("input", x.into())];
        if op == "GroupNormalization" {
            args.push(("num_groups", Arg::Int(int(node, "num_groups").unwrap_or(0)).into()));
        }
        args.extend([("weight", weight), ("bias", bias)]);
        if op == "InstanceNormalization" {
            args.push(("use_input_stats", Arg::Bool(true).into()));
        }
        args.push(("eps", eps.into()));
        self.emit(if op == "GroupNormalization" { "group_norm" } else { "instance_norm" }, args)
    }

    /// `Attention` of opset 23, of [N, heads, L, d] or [N, L, heads * d].
    fn attention(&mut self, node: &Node) -> Out<Meaning> {
        let is_plain = node.input.iter().skip(4).all(String::is_empty)
            && node.output.len() == 1
            && float(node, "softcap").unwrap_or(0.0) == 0.0
            && int(node, "softmax_precision").is_none();
        if !is_plain {
            return Err(Fail::Unknown);
        }
        let mut parts = vec![self.x(node, 0)?, self.x(node, 1)?, self.x(node, 2)?];
        let rank = self.shape(&parts[0])?.len();
        let heads = [int(node, "q_num_heads"), int(node, "kv_num_heads"), int(node, "kv_num_heads")];
        if rank == 3 {
            for (part, heads) in parts.iter_mut().zip(heads) {
                let heads = heads.and_then(|heads| usize::try_from(heads).ok()).filter(|heads| *heads > 0);
                let Some(heads) = heads else { return refuse("it does not say how many heads it has") };
                let dims = self.shape(part)?;
                let &[n, tokens, features] = &dims[..] else { return refuse(format!("attention of {dims:?}")) };
                if features % heads != 0 {
                    return refuse(format!("{features} features in {heads} heads"));
                }
                let split = self.view(part.clone(), &[n, tokens, heads, features / heads])?;
                *part = self.permute(split, &[0, 2, 1, 3])?;
            }
        }
        let queries = self.shape(&parts[0])?;
        let keys = self.shape(&parts[1])?;
        if queries.len() != 4 || keys.len() != 4 || queries[1] != keys[1] {
            return Err(Fail::Unknown);
        }
        let mut parts = parts.into_iter();
        let mut next = || Given::Of(parts.next().expect("three of them"));
        let mut args = vec![("query", next()), ("key", next()), ("value", next())];
        if let Some(mask) = self.optional(node, 3)? {
            args.push(("attn_mask", mask.into()));
        }
        args.push(("is_causal", Arg::Bool(int(node, "is_causal").unwrap_or(0) != 0).into()));
        if let Some(scale) = float(node, "scale") {
            let plain = 1.0 / (queries[3] as f64).sqrt();
            if (scale / plain - 1.0).abs() > 1e-6 {
                args.push(("scale", Arg::Float(scale).into()));
            }
        }
        let mixed = self.emit("scaled_dot_product_attention", args)?;
        if rank == 4 {
            return Ok(mixed);
        }
        let mixed = self.permute(mixed, &[0, 2, 1, 3])?;
        let dims = self.shape(&mixed)?;
        self.view(mixed, &[dims[0], dims[1], dims[2] * dims[3]])
    }

    fn pow(&mut self, node: &Node) -> Out<Meaning> {
        let (a, b) = (self.x(node, 0)?, self.x(node, 1)?);
        if !(self.is_constant(&a) && self.is_constant(&b)) {
            if let Some(exponent) = self.single(&b)? {
                return self
                    .emit("pow.Tensor_Scalar", vec![("self", a.into()), ("exponent", Arg::Float(exponent).into())]);
            }
            if let Some(base) = self.single(&a)? {
                return self.emit("pow.Scalar", vec![("self", Arg::Float(base).into()), ("exponent", b.into())]);
            }
        }
        self.emit("pow.Tensor_Tensor", vec![("self", a.into()), ("exponent", b.into())])
    }

    /// The one number that a constant is.
    fn single(&mut self, meaning: &Meaning) -> Out<Option<f64>> {
        if !self.is_constant(meaning) || self.shape(meaning)?.iter().any(|len| *len != 1) {
            return Ok(None);
        }
        let array = self.known(meaning)?;
        Ok(array
            .to_f64()
            .first()
            .map(|value| if array.dtype() == Dtype::F32 { shortest(*value as f32) } else { *value }))
    }

    fn clip(&mut self, node: &Node) -> Out<Meaning> {
        let x = self.x(node, 0)?;
        let mut bounds = vec![];
        for at in [1, 2] {
            bounds.push(match self.optional(node, at)? {
                Some(bound) => match self.single(&bound)? {
                    Some(number) => Some(number),
                    None => return refuse("a bound that is no number"),
                },
                None => None,
            });
        }
        let [min, max] =
            [bounds[0].filter(|min| *min > f64::from(f32::MIN)), bounds[1].filter(|max| *max < f64::from(f32::MAX))];
        let arg = |bound: Option<f64>| bound.map_or(Arg::None, Arg::Float);
        match (min, max) {
            (None, None) => Ok(x),
            (Some(0.0), Some(6.0)) => self.emit("relu6", vec![("self", x.into())]),
            (min, max) => {
                self.emit("clamp", vec![("self", x.into()), ("min", arg(min).into()), ("max", arg(max).into())])
            }
        }
    }

    fn reduce(&mut self, node: &Node, aten: &str) -> Out<Meaning> {
        let x = self.x(node, 0)?;
        let axes = self.axes(node, 1)?.unwrap_or_default();
        if axes.is_empty() && int(node, "noop_with_empty_axes").unwrap_or(0) != 0 {
            return Ok(x);
        }
        let keep = Arg::Bool(int(node, "keepdims").unwrap_or(1) != 0);
        let rank = self.shape(&x)?.len();
        let axes = if axes.is_empty() { (0..rank as i64).collect() } else { axes };
        let args = vec![("self", x.into()), ("dim", Arg::Ints(axes).into()), ("keepdim", keep.into())];
        self.emit(aten, args)
    }

    fn pool(&mut self, node: &Node, op: &str) -> Out<Meaning> {
        let is_max = op == "MaxPool";
        if is_max && (node.output.len() > 1 || int(node, "storage_order").unwrap_or(0) != 0) {
            return Err(Fail::Unknown);
        }
        let mut x = self.x(node, 0)?;
        let kernel = ints(node, "kernel_shape").unwrap_or_default();
        let places = kernel.len();
        let dims = self.shape(&x)?;
        if places == 0 || places > 2 || dims.len() != places + 2 {
            return Err(Fail::Unknown);
        }
        let window = sizes(&kernel)?;
        let list = |name: &str| ints(node, name).filter(|list| !list.is_empty()).unwrap_or(vec![1; places]);
        let (stride, dilation) = (sizes(&list("strides"))?, sizes(&list("dilations"))?);
        if stride.len() != places || dilation.len() != places || stride.contains(&0) {
            return refuse("its numbers are not as many as its axes");
        }
        let mut ceil = int(node, "ceil_mode").unwrap_or(0) != 0;
        let mut counts = is_max || int(node, "count_include_pad").unwrap_or(0) != 0;
        let is_explicit = text(node, "auto_pad").unwrap_or("NOTSET") == "NOTSET";
        let pads = ints(node, "pads").filter(|pads| !pads.is_empty()).unwrap_or(vec![0; 2 * places]);
        let pads = sizes(&pads)?;
        if pads.len() != 2 * places {
            return refuse(format!("`pads` is {pads:?}"));
        }
        let (before, after) = pads.split_at(places);
        let mut padding = Arg::Ints(before.iter().map(|pad| *pad as i64).collect());
        if !is_explicit || before != after {
            // more at the end, as far as windows that are rounded up reach
            let is_ceil = is_explicit
                && !ceil
                && (is_max || !counts)
                && (0..places).all(|axis| {
                    let (len, reach) = (dims[axis + 2], (window[axis].saturating_sub(1)) * dilation[axis] + 1);
                    let count = |extra: usize| {
                        (len + before[axis] + extra).checked_sub(reach).map(|room| room / stride[axis] + 1)
                    };
                    let rounded =
                        (len + 2 * before[axis]).checked_sub(reach).map(|room| room.div_ceil(stride[axis]) + 1);
                    let rounded = rounded
                        .map(|count| if (count - 1) * stride[axis] >= len + before[axis] { count - 1 } else { count });
                    after[axis] >= before[axis] && count(after[axis]) == rounded
                });
            if is_ceil {
                ceil = true;
            } else if is_max || counts {
                let value = if is_max { f64::NEG_INFINITY } else { 0.0 };
                let before = x.clone();
                (x, padding) = self.padded(node, x, &window)?;
                if let (Meaning::Value(a), Meaning::Value(b)) = (&before, &x)
                    && a != b
                    && let Some(made) = self.trace.nodes.last_mut()
                {
                    made.args.push(("value".into(), Arg::Float(value)));
                }
            } else {
                return Err(Fail::Unknown);
            }
        }
        if matches!(&padding, Arg::Ints(list) if list.iter().all(|pad| *pad == 0)) {
            counts = true;
        }
        let mut args: Vec<(&str, Given)> = vec![("self", x.into()), ("kernel_size", Arg::Ints(kernel).into())];
        args.push(("stride", Arg::Ints(list("strides")).into()));
        args.push(("padding", padding.into()));
        if is_max {
            args.push(("dilation", Arg::Ints(list("dilations")).into()));
        } else if dilation.iter().any(|step| *step != 1) {
            return Err(Fail::Unknown);
        }
        args.push(("ceil_mode", Arg::Bool(ceil).into()));
        if !is_max {
            args.push(("count_include_pad", Arg::Bool(counts).into()));
        }
        let aten = match (is_max, places) {
            (true, 2) => "max_pool2d",
            (true, _) => "max_pool1d",
            (false, 2) => "avg_pool2d",
            (false, _) => "avg_pool1d",
        };
        self.emit(aten, args)
    }

    fn resize(&mut self, node: &Node) -> Out<Meaning> {
        let x = self.x(node, 0)?;
        let dims = self.shape(&x)?;
        if dims.len() != 4 || text(node, "keep_aspect_ratio_policy").unwrap_or("stretch") != "stretch" {
            return Err(Fail::Unknown);
        }
        let axes = match ints(node, "axes").filter(|axes| !axes.is_empty()) {
            Some(axes) => resolved(&axes, 4)?,
            None => vec![0, 1, 2, 3],
        };
        let mut factors = None;
        let mut asked = dims.clone();
        if let Some(scales) =
            self.optional(node, 2)?.filter(|_| self.optional(node, 3).is_ok_and(|sizes| sizes.is_none()))
        {
            let array = self.known(&scales)?;
            let scales: Vec<f64> = array.to_f64().iter().map(|scale| shortest(*scale as f32)).collect();
            if scales.len() != axes.len() {
                return refuse(format!("{} scales for {} axes", scales.len(), axes.len()));
            }
            let mut all = [1.0; 4];
            axes.iter().zip(&scales).for_each(|(axis, scale)| all[*axis] = *scale);
            if all[..2] != [1.0, 1.0] {
                return refuse("it resizes more than height and width");
            }
            for axis in 2..4 {
                asked[axis] = (dims[axis] as f64 * all[axis]).floor() as usize;
            }
            factors = Some(vec![all[2], all[3]]);
        } else {
            let given = sizes(&self.dims(node, 3)?)?;
            if given.len() != axes.len() {
                return refuse(format!("{} sizes for {} axes", given.len(), axes.len()));
            }
            axes.iter().zip(&given).for_each(|(axis, len)| asked[*axis] = *len);
            if asked[..2] != dims[..2] {
                return refuse("it resizes more than height and width");
            }
        }
        let mode = text(node, "mode").unwrap_or("nearest");
        let transform = text(node, "coordinate_transformation_mode").unwrap_or("half_pixel");
        let is_half =
            transform == "half_pixel" || transform == "pytorch_half_pixel" && asked[2..].iter().all(|len| *len > 1);
        let antialias = int(node, "antialias").unwrap_or(0) != 0;
        let cubic = float(node, "cubic_coeff_a").unwrap_or(-0.75);
        let excludes = int(node, "exclude_outside").unwrap_or(0) != 0;
        let aten = match mode {
            "nearest" if transform == "asymmetric" && text(node, "nearest_mode") == Some("floor") => {
                "upsample_nearest2d.vec"
            }
            "linear" if is_half && antialias => "_upsample_bilinear2d_aa.vec",
            "linear" if is_half && !excludes => "upsample_bilinear2d.vec",
            "cubic" if is_half && antialias && cubic == -0.5 => "_upsample_bicubic2d_aa.vec",
            "cubic" if is_half && !antialias && cubic == -0.75 && !excludes => "upsample_bicubic2d.vec",
            _ => return Err(Fail::Unknown),
        };
        let mut args: Vec<(&str, Given)> = vec![("input", x.into())];
        match factors {
            Some(factors) => args.push(("scale_factors", Arg::Floats(factors).into())),
            None => args.push(("output_size", Arg::Ints(asked[2..].iter().map(|len| *len as i64).collect()).into())),
        }
        if mode != "nearest" {
            args.push(("align_corners", Arg::Bool(false).into()));
        }
        self.emit(aten, args)
    }

    fn pad(&mut self, node: &Node) -> Out<Meaning> {
        let x = self.x(node, 0)?;
        let rank = self.shape(&x)?.len();
        let given = self.dims(node, 1)?;
        let axes = match self.optional(node, 3)? {
            Some(axes) => {
                let axes = self.known(&axes)?.to_int();
                resolved(&axes, rank)?
            }
            None => (0..rank).collect(),
        };
        if given.len() != 2 * axes.len() {
            return refuse(format!("{} numbers for {} axes", given.len(), axes.len()));
        }
        let mut each = vec![(0, 0); rank];
        for (at, axis) in axes.iter().enumerate() {
            each[*axis] = (given[at], given[at + axes.len()]);
        }
        if each.iter().all(|pair| *pair == (0, 0)) {
            return Ok(x);
        }
        let first = each.iter().position(|pair| *pair != (0, 0)).unwrap_or(0);
        let pads: Vec<i64> = each[first..].iter().rev().flat_map(|(before, after)| [*before, *after]).collect();
        let mode = match text(node, "mode").unwrap_or("constant") {
            "constant" => "constant",
            "reflect" => "reflect",
            "edge" => "replicate",
            "wrap" => "circular",
            _ => return Err(Fail::Unknown),
        };
        let value = match self.optional(node, 2)? {
            Some(value) => self.single(&value)?.unwrap_or(0.0),
            None => 0.0,
        };
        let mut args: Vec<(&str, Given)> = vec![("self", x.into()), ("pad", Arg::Ints(pads).into())];
        args.push(("mode", Arg::Text(mode.into()).into()));
        if mode == "constant" {
            args.push(("value", Arg::Float(value).into()));
        }
        self.emit("pad", args)
    }

    fn col2im(&mut self, node: &Node) -> Out<Meaning> {
        let x = self.x(node, 0)?;
        let (size, kernel) = (self.dims(node, 1)?, self.dims(node, 2)?);
        let list =
            |name: &str, default: i64| ints(node, name).filter(|list| !list.is_empty()).unwrap_or(vec![default; 2]);
        let pads = ints(node, "pads").filter(|pads| !pads.is_empty()).unwrap_or(vec![0; 4]);
        if size.len() != 2 || pads.len() != 4 || pads[..2] != pads[2..] {
            return Err(Fail::Unknown);
        }
        let args = vec![
            ("self", x.into()),
            ("output_size", Arg::Ints(size).into()),
            ("kernel_size", Arg::Ints(kernel).into()),
            ("dilation", Arg::Ints(list("dilations", 1)).into()),
            ("padding", Arg::Ints(pads[..2].to_vec()).into()),
            ("stride", Arg::Ints(list("strides", 1)).into()),
        ];
        self.emit("col2im", args)
    }

    /// Between formats of floats a value is itself: what is computed is float32.
    fn cast(&mut self, node: &Node, op: &str) -> Out<Vec<Meaning>> {
        let x = self.x(node, 0)?;
        let to = match op {
            "Cast" => {
                let number = int(node, "to").and_then(|number| i32::try_from(number).ok()).unwrap_or(0);
                match file::stype(number) {
                    Some(stype) => stype.dtype(),
                    None => return refuse(format!("a cast to ONNX's type {number}")),
                }
            }
            _ => {
                let other = self.x(node, 1)?;
                self.described(&other)?.0
            }
        };
        let from = self.described(&x)?.0;
        if from == to || from.is_float() && to == Dtype::F32 && !matches!(x, Meaning::Known(_)) {
            return one(x);
        }
        if matches!(x, Meaning::Known(_)) || self.is_constant(&x) {
            return one(Meaning::Known(self.known(&x)?.cast(to)));
        }
        one(self.emit("to.dtype", vec![("self", x.into()), ("dtype", Arg::Dtype(to).into())])?)
    }

    fn constant_of(&mut self, node: &Node) -> Out<Meaning> {
        let [own] = &node.attribute[..] else { return refuse("its value is missing") };
        let array = match own.name.as_str() {
            "value" => match &own.t {
                Some(tensor) => {
                    let array = self.file.tensor(tensor, "value", Kind::Constant)?.array();
                    self.hold(array.len())?;
                    array
                }
                None => return refuse("its value is missing"),
            },
            "value_float" => Array::f32([], vec![own.f.unwrap_or(0.0)]),
            "value_int" => Array::int([], vec![own.i.unwrap_or(0)]),
            "value_floats" => Array::f32([own.floats.len()], own.floats.clone()),
            "value_ints" => Array::int([own.ints.len()], own.ints.clone()),
            other => return refuse(format!("`{other}` is not read")),
        };
        Ok(Meaning::Known(array))
    }

    fn reshape(&mut self, node: &Node) -> Out<Meaning> {
        let x = self.x(node, 0)?;
        let dims = self.shape(&x)?;
        let mut asked = self.dims(node, 1)?;
        if int(node, "allowzero").unwrap_or(0) == 0 {
            for (at, len) in asked.iter_mut().enumerate().filter(|(_, len)| **len == 0) {
                match dims.get(at) {
                    Some(own) => *len = *own as i64,
                    None => return refuse(format!("it keeps axis {at} of {dims:?}")),
                }
            }
        }
        let all: usize = dims.iter().product();
        let known = asked.iter().filter(|len| **len >= 0).try_fold(1usize, |all, len| all.checked_mul(*len as usize));
        let free = asked.iter().filter(|len| **len == -1).count();
        let Some(known) = known.filter(|_| free <= 1 && asked.iter().all(|len| *len >= -1)) else {
            return refuse(format!("a shape {asked:?}"));
        };
        let fits = if free == 1 { known > 0 && all.is_multiple_of(known) } else { known == all };
        if !fits {
            return refuse(format!("{dims:?} does not fill {asked:?}"));
        }
        let to: Vec<usize> = asked.iter().map(|len| usize::try_from(*len).unwrap_or(all / known.max(1))).collect();
        self.view(x, &to)
    }

    fn transpose(&mut self, node: &Node) -> Out<Meaning> {
        let x = self.x(node, 0)?;
        let rank = self.shape(&x)?.len();
        let order = match ints(node, "perm").filter(|perm| !perm.is_empty()) {
            Some(perm) => resolved(&perm, rank)?,
            None => (0..rank).rev().collect(),
        };
        if order.len() != rank {
            return refuse(format!("{} axes of {rank}", order.len()));
        }
        if matches!(x, Meaning::Weight { .. }) && order == [1, 0] {
            return Ok(self.turned(&x));
        }
        self.permute(x, &order)
    }

    fn split(&mut self, node: &Node) -> Out<Vec<Meaning>> {
        let x = self.x(node, 0)?;
        let dims = self.shape(&x)?;
        let axis = resolved(&[int(node, "axis").unwrap_or(0)], dims.len())?[0];
        let parts = match self.optional(node, 1)? {
            Some(lengths) => self.known(&lengths)?.to_int(),
            None => {
                let count = int(node, "num_outputs").unwrap_or(node.output.len() as i64);
                let Some(count) =
                    usize::try_from(count).ok().filter(|count| *count > 0 && *count <= node.output.len().max(1))
                else {
                    return refuse("parts of nothing");
                };
                let each = dims[axis].div_ceil(count);
                (0..count).map(|at| dims[axis].saturating_sub(at * each).min(each) as i64).collect()
            }
        };
        let args =
            vec![("self", x.into()), ("split_sizes", Arg::Ints(parts).into()), ("dim", Arg::Int(axis as i64).into())];
        self.emit_all("split_with_sizes", args)
    }

    fn slice(&mut self, node: &Node) -> Out<Meaning> {
        let mut x = self.x(node, 0)?;
        let (starts, ends) = (self.dims(node, 1)?, self.dims(node, 2)?);
        let rank = self.shape(&x)?.len();
        let axes = match self.optional(node, 3)? {
            Some(axes) => {
                let axes = self.known(&axes)?.to_int();
                resolved(&axes, rank)?
            }
            None => (0..starts.len()).collect(),
        };
        let steps = match self.optional(node, 4)? {
            Some(steps) => self.known(&steps)?.to_int(),
            None => vec![1; starts.len()],
        };
        if starts.len() != ends.len()
            || starts.len() != axes.len()
            || starts.len() != steps.len()
            || axes.iter().any(|axis| *axis >= rank)
        {
            return refuse("its numbers are not as many as its axes");
        }
        for (at, axis) in axes.iter().enumerate() {
            let len = self.shape(&x)?[*axis] as i64;
            let (start, end, step) = (starts[at], ends[at], steps[at]);
            if step == -1 && (start >= len - 1 || start == -1) && end < -len {
                x = self.emit("flip", vec![("self", x.into()), ("dims", Arg::Ints(vec![*axis as i64]).into())])?;
                continue;
            }
            if step < 1 {
                return refuse(format!("steps of {step}"));
            }
            if (start == 0 || start <= -len) && end >= len && step == 1 {
                continue;
            }
            let args = vec![
                ("self", x.into()),
                ("dim", Arg::Int(*axis as i64).into()),
                ("start", Arg::Int(start).into()),
                ("end", Arg::Int(end).into()),
                ("step", Arg::Int(step).into()),
            ];
            x = self.emit("slice.Tensor", args)?;
        }
        Ok(x)
    }

    fn gather(&mut self, node: &Node) -> Out<Meaning> {
        let (x, index) = (self.x(node, 0)?, self.x(node, 1)?);
        let dims = self.shape(&x)?;
        let axis = resolved(&[int(node, "axis").unwrap_or(0)], dims.len())?[0];
        let array = self.known(&index)?;
        let len = dims[axis] as i64;
        let rows: Vec<i64> =
            array.to_int().into_iter().map(|row| if row < 0 { row.saturating_add(len) } else { row }).collect();
        if let Some(row) = rows.iter().find(|row| !(0..len).contains(row)) {
            return refuse(format!("there is no {row} among {len}"));
        }
        let dim = Arg::Int(axis as i64);
        if array.rank() == 0 {
            return self.emit(
                "select.int",
                vec![("self", x.into()), ("dim", dim.into()), ("index", Arg::Int(rows[0]).into())],
            );
        }
        let shape = array.shape().to_vec();
        let known = Meaning::Known(Array::new([rows.len()], Data::Int(rows)));
        let picked =
            self.emit("index_select", vec![("self", x.into()), ("dim", dim.into()), ("index", known.into())])?;
        if shape.len() == 1 {
            return Ok(picked);
        }
        self.view(picked, &[&dims[..axis], &shape, &dims[axis + 1..]].concat())
    }
}

/// Lengths of 0 or more.
fn sizes(list: &[i64]) -> Out<Vec<usize>> {
    list.iter()
        .map(|len| {
            let size = usize::try_from(*len).ok().filter(|len| *len <= 1 << 40);
            size.ok_or_else(|| Fail::Refused(format!("{len} is no size")))
        })
        .collect()
}

/// Axes from 0 on, each once.
fn resolved(axes: &[i64], rank: usize) -> Out<Vec<usize>> {
    let mut found = vec![];
    for axis in axes {
        let at = if *axis < 0 { axis + rank as i64 } else { *axis };
        match usize::try_from(at) {
            Ok(at) if at < rank && !found.contains(&at) => found.push(at),
            _ => return refuse(format!("there is no axis {axis} of {rank}, or it is named twice")),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_operators_is_that_of_the_match() {
        let text = include_str!("nodes.rs");
        let (_, code) = text.split_once("pub(super) fn read").expect("the match");
        for op in OTHERS {
            assert!(code.contains(&format!("\"{op}\"")), "{op}");
        }
    }

    #[test]
    fn numbers_are_those_that_were_written() {
        for number in [1e-5, 0.1, 1e-6, 0.001, 1.5] {
            assert_eq!(shortest(number as f32), number);
        }
    }
}
