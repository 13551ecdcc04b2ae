//! ATen's ops in the language's: the table, arithmetic, functions, reductions.

use super::view::{Fold, Lifted};
use super::{Arg, Fail, Lifting, Node, Out, Range, ValueId, made, refuse};
use crate::import::array::{Array, Dtype};
use crate::import::eval;
use crate::ops::attr::Attr;

/// Axes of a reduction, the shape that is left, where the batch is in it, and whether the axes stay with length 1.
type Reduced = (Vec<Attr>, Vec<usize>, Option<Fold>, bool);

/// Which of a function's arguments has which name in the language.
type Renamed = &'static [(&'static str, &'static str)];

/// Functions of single values: ATen's name, archc's, and which of its arguments has which name there.
const FUNCTIONS: &[(&str, &str, Renamed)] = &[
    ("relu", "relu", &[]),
    ("relu6", "relu6", &[]),
    ("silu", "silu", &[]),
    ("sigmoid", "sigmoid", &[]),
    ("tanh", "tanh", &[]),
    ("hardswish", "hardswish", &[]),
    ("hardsigmoid", "hardsigmoid", &[]),
    ("mish", "mish", &[]),
    ("softsign", "softsign", &[]),
    ("log_sigmoid", "log_sigmoid", &[]),
    ("selu", "selu", &[]),
    ("elu", "elu", &[("alpha", "alpha")]),
    ("celu", "celu", &[("alpha", "alpha")]),
    ("leaky_relu", "leaky_relu", &[("negative_slope", "slope")]),
    ("exp", "exp", &[]),
    ("log", "log", &[]),
    ("sqrt", "sqrt", &[]),
    ("rsqrt", "rsqrt", &[]),
    ("sin", "sin", &[]),
    ("cos", "cos", &[]),
    ("abs", "abs", &[]),
    ("neg", "neg", &[]),
];

impl Lifting<'_> {
    /// What a node that depends on the input or a parameter gives.
    pub(super) fn lifted(&mut self, node: &Node) -> Out<Vec<Option<Lifted>>> {
        let op = node.op();
        let op = if node.is_in_place() { &op[..op.len() - 1] } else { op };
        if !node.target.starts_with("aten.") {
            return Err(Fail::Unknown);
        }
        if let Some(lifted) = self.layer(node, op)? {
            return Ok(vec![Some(lifted)]);
        }
        if matches!(op, "unbind" | "chunk" | "split" | "split_with_sizes") {
            return self.pieces(node, op);
        }
        self.single(node, op).map(|lifted| vec![Some(lifted)])
    }

    /// A value that an op must have.
    pub(super) fn own_value(&mut self, node: &Node, name: &str) -> Out<Lifted> {
        match node.value(name) {
            Some(value) => self.operand(value),
            None => refuse(format!("it lacks `{name}`")),
        }
    }

    pub(super) fn axis(&self, axis: i64, rank: usize) -> Out<usize> {
        let at = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(at)
            .ok()
            .filter(|at| *at < rank)
            .ok_or(Fail::Refused(format!("there is no axis {axis} of {rank}")))
    }

    pub(super) fn axes(&self, node: &Node, name: &str, rank: usize) -> Out<Vec<usize>> {
        let axes = node.ints(name).filter(|axes| !axes.is_empty());
        match axes {
            Some(axes) => axes.into_iter().map(|axis| self.axis(axis, rank)).collect(),
            None => Ok((0..rank).collect()),
        }
    }

    fn single(&mut self, node: &Node, op: &str) -> Out<Lifted> {
        if let Some((_, name, args)) = FUNCTIONS.iter().find(|(aten, ..)| *aten == op) {
            let x = self.own_value(node, "self")?;
            let args: Vec<(&str, Attr)> = args
                .iter()
                .filter_map(|(theirs, ours)| node.float(theirs).map(|value| (*ours, Attr::Float(value))))
                .collect();
            if op == "elu"
                && (node.float("scale").unwrap_or(1.0) != 1.0 || node.float("input_scale").unwrap_or(1.0) != 1.0)
            {
                return Err(Fail::Unknown);
            }
            return self.same_axes(made(name, &args)?, &x);
        }
        match op {
            "alias" | "detach" | "contiguous" | "clone" | "lift_fresh_copy" | "lift_fresh" => {
                self.own_value(node, "self")
            }
            "to" | "_to_copy" | "type_as" | "float" => {
                let x = self.own_value(node, "self")?;
                let to = match node.arg("dtype") {
                    Arg::Dtype(dtype) => Some(*dtype),
                    _ => node.value("other").map(|other| self.trace.values[other].dtype),
                };
                match to {
                    Some(dtype) if !dtype.is_float() => refuse("floats become whole numbers"),
                    Some(Dtype::F64) => refuse("it computes in float64"),
                    _ => Ok(x),
                }
            }
            "dropout" | "native_dropout" | "alpha_dropout" | "feature_dropout" => {
                let x = self.own_value(node, if node.value("input").is_some() { "input" } else { "self" })?;
                let p = node.float("p").unwrap_or(0.5);
                if p <= 0.0 || op == "alpha_dropout" || op == "native_dropout" {
                    return Ok(x);
                }
                let is_image = op == "feature_dropout" && x.dims.len() == 4 && x.batch == Some(Fold::plain(0));
                let name = if is_image { "dropout2d" } else { "dropout" };
                self.same_axes(made(name, &[("p", Attr::Float(p))])?, &x)
            }
            "square" => self.power(node, 2.0),
            "reciprocal" => {
                let x = self.own_value(node, "self")?;
                self.same_axes(made("div", &[("number", Attr::Float(1.0)), ("swapped", Attr::Bool(true))])?, &x)
            }
            "pow" => match (node.value("self"), self.number(node.arg("exponent"))) {
                (Some(_), Some(exponent)) => self.power(node, exponent),
                _ => match self.number(node.arg("self")) {
                    // a number to the power of values
                    Some(base) if base > 0.0 => {
                        let x = self.own_value(node, "exponent")?;
                        let scaled = self.same_axes(made("mul", &[("number", Attr::Float(base.ln()))])?, &x)?;
                        self.same_axes(made("exp", &[])?, &scaled)
                    }
                    _ => Err(Fail::Unknown),
                },
            },
            "gelu" => {
                let x = self.own_value(node, "self")?;
                let args = match node.text("approximate").unwrap_or("none") {
                    "none" => vec![],
                    "tanh" => vec![("approximate", Attr::Word("tanh".into()))],
                    _ => return Err(Fail::Unknown),
                };
                self.same_axes(made("gelu", &args)?, &x)
            }
            "softplus" => {
                if node.float("beta").unwrap_or(1.0) != 1.0 || node.float("threshold").unwrap_or(20.0) != 20.0 {
                    return Err(Fail::Unknown);
                }
                let x = self.own_value(node, "self")?;
                self.same_axes(made("softplus", &[])?, &x)
            }
            "hardtanh" => {
                let x = self.own_value(node, "self")?;
                let (lo, hi) = (node.float("min_val").unwrap_or(-1.0), node.float("max_val").unwrap_or(1.0));
                match (lo, hi) {
                    (0.0, 6.0) => self.same_axes(made("relu6", &[])?, &x),
                    _ => self.same_axes(made("hardtanh", &[("min", Attr::Float(lo)), ("max", Attr::Float(hi))])?, &x),
                }
            }
            "clamp" | "clamp_min" | "clamp_max" | "clip" => self.clamp(node, op),
            "softmax" | "_softmax" | "log_softmax" | "_log_softmax" => {
                let x = self.own_value(node, "self")?;
                let axis = self.axis(node.int("dim").unwrap_or(-1), x.dims.len())?;
                let x = self.filled(&x)?;
                let axis = self.axis_from_end(&x, axis)?;
                let name = if op.contains("log") { "log_softmax" } else { "softmax" };
                self.same_axes(made(name, &[("axis", Attr::Int(axis))])?, &x)
            }
            "glu" => {
                let x = self.own_value(node, "self")?;
                let at = self.axis(node.int("dim").unwrap_or(-1), x.dims.len())?;
                let x = self.filled(&x)?;
                let axis = self.axis_from_end(&x, at)?;
                let mut glu = self.same_axes(made("glu", &[("axis", Attr::Int(axis))])?, &x)?;
                glu.dims[at] /= 2;
                Ok(glu)
            }
            "add" | "sub" | "rsub" | "mul" | "div" | "true_divide" | "maximum" | "minimum" | "multiply"
            | "subtract" | "divide" => self.arithmetic(node, op),
            "max" | "min" if node.value("other").is_some() => {
                self.arithmetic(node, if op == "max" { "maximum" } else { "minimum" })
            }
            "max" => self.reduce(node, "amax"),
            "addcmul" => {
                let (a, b) = (self.value_of(node, "tensor1")?, self.value_of(node, "tensor2")?);
                let mut product = self.pair("mul", a, b)?;
                let value = node.float("value").unwrap_or(1.0);
                if value != 1.0 {
                    product = self.same_axes(made("mul", &[("number", Attr::Float(value))])?, &product)?;
                }
                let x = self.own_value(node, "self")?;
                self.lifted_pair("add", &x, &product)
            }
            "masked_fill" => self.masked_fill(node),
            "zero" | "fill" => {
                let x = self.own_value(node, "self")?;
                let value = if op == "zero" { Some(0.0) } else { self.number(node.arg("value")) };
                match value {
                    Some(value) if x.batch.is_none() => {
                        let len = x.dims.iter().product();
                        self.made_constant(Array::f32(x.dims, vec![value as f32; len]))
                    }
                    _ => Err(Fail::Unknown),
                }
            }
            "copy" => {
                let x = self.own_value(node, "self")?;
                let source = self.value_of(node, "src")?;
                let source = self.operand_beside(source, x.batch.map(|fold| (fold, x.dims.len())))?;
                let source = self.ranked(&source, x.dims.len())?;
                let source = match x.batch {
                    Some(fold) => self.batched_as(&source, fold)?,
                    None if source.batch.is_some() => return refuse("it writes a sample's values into what all share"),
                    None => source,
                };
                Ok(Lifted { dims: x.dims, ..source })
            }
            "sum" | "mean" | "amax" => self.reduce(node, op),
            "var" | "std" | "linalg_vector_norm" | "norm" => self.spread(node, op),
            "view" | "reshape" | "_unsafe_view" | "view_as" | "reshape_as" => {
                let x = self.own_value(node, "self")?;
                let dims = self.described(node)?;
                self.reshape(&x, dims)
            }
            "flatten" => {
                let x = self.own_value(node, "self")?;
                let rank = x.dims.len();
                if rank == 0 {
                    return refuse("a number is made a list");
                }
                let from = self.axis(node.int("start_dim").unwrap_or(0), rank)?;
                let to = self.axis(node.int("end_dim").unwrap_or(-1), rank)?;
                self.flatten(&x, from, to)
            }
            "unflatten" => {
                let x = self.own_value(node, "self")?;
                let dims = self.described(node)?;
                self.reshape(&x, dims)
            }
            "permute" => {
                let x = self.own_value(node, "self")?;
                let order = self.axes(node, "dims", x.dims.len())?;
                let mut sorted = order.clone();
                sorted.sort_unstable();
                if sorted != (0..x.dims.len()).collect::<Vec<_>>() {
                    return refuse("it names other axes");
                }
                self.permute(&x, &order)
            }
            "transpose" | "swapaxes" | "t" | "mT" => {
                let x = self.own_value(node, "self")?;
                let rank = x.dims.len();
                let (a, b) = match op {
                    "t" => (0, 1),
                    "mT" => (-1, -2),
                    _ => (
                        node.int("dim0").or(node.int("axis0")).unwrap_or(0),
                        node.int("dim1").or(node.int("axis1")).unwrap_or(1),
                    ),
                };
                let (a, b) = (self.axis(a, rank)?, self.axis(b, rank)?);
                let mut order: Vec<usize> = (0..rank).collect();
                order.swap(a, b);
                self.permute(&x, &order)
            }
            "movedim" => {
                let x = self.own_value(node, "self")?;
                let (Some(from), Some(to)) = (node.ints("source"), node.ints("destination")) else {
                    return refuse("it lacks axes");
                };
                let order =
                    eval::moved(&from, &to, x.dims.len()).map_err(|_| Fail::Refused("it names other axes".into()))?;
                self.permute(&x, &order)
            }
            "unsqueeze" => {
                let x = self.own_value(node, "self")?;
                let axis = self.axis(node.int("dim").unwrap_or(0), x.dims.len() + 1)?;
                self.unsqueeze(&x, axis)
            }
            "squeeze" => {
                let x = self.own_value(node, "self")?;
                let rank = x.dims.len();
                let mut axes = self.axes(node, "dim", rank)?;
                // a batch of 1 is a batch
                let has_axes = node.ints("dim").is_some_and(|axes| !axes.is_empty());
                let batch = x.batch.map(|fold| fold.axis);
                if has_axes && axes.iter().any(|axis| Some(*axis) == batch && x.dims[*axis] == 1) {
                    return refuse("it takes the batch away");
                }
                axes.retain(|axis| x.dims[*axis] == 1 && Some(*axis) != batch);
                let kept: Vec<usize> = (0..rank).filter(|axis| !axes.contains(axis)).collect();
                let dims = kept.iter().map(|axis| x.dims[*axis]).collect();
                let batch = x.batch.map(|fold| Fold {
                    axis: kept.iter().position(|axis| *axis == fold.axis).expect("the batch stays"),
                    ..fold
                });
                self.reshaped(&x, dims, batch)
            }
            "expand" | "expand_as" | "broadcast_to" => self.expand(node),
            "select" => {
                let x = self.own_value(node, "self")?;
                let axis = self.axis(node.int("dim").unwrap_or(0), x.dims.len())?;
                let at = self.axis(node.int("index").unwrap_or(0), x.dims[axis])?;
                self.select(&x, axis, at)
            }
            "slice" | "narrow" => {
                let x = self.own_value(node, "self")?;
                let axis = self.axis(node.int("dim").unwrap_or(0), x.dims.len())?;
                let start = node.int("start").unwrap_or(0);
                let end = match op {
                    "narrow" => Some(start.saturating_add(node.int("length").unwrap_or(0))),
                    _ => node.int("end"),
                };
                let step = node.int("step").unwrap_or(1);
                let range = eval::range(start, end, step, x.dims[axis]);
                let Ok((from, to, step)) = range else { return refuse("a slice that is none") };
                if step == 1
                    && (from, to) != (0, x.dims[axis])
                    && let (Some(Some(output)), Some(of)) = (node.outputs.first(), node.value("self"))
                {
                    self.ranges.insert(*output, Range { of, axis, from, to });
                }
                self.slice(&x, axis, from, to, step)
            }
            "cat" | "concat" | "concatenate" => {
                let parts = node.values("tensors").unwrap_or_default().into_iter().flatten().collect::<Vec<_>>();
                let rank = parts.first().map_or(0, |part| self.trace.values[*part].shape.len());
                let axis = self.axis(node.int("dim").unwrap_or(0), rank)?;
                let parts = self.beside_each_other(&parts)?;
                self.concat(parts, axis)
            }
            "stack" => {
                let parts = node.values("tensors").unwrap_or_default().into_iter().flatten().collect::<Vec<_>>();
                let rank = parts.first().map_or(0, |part| self.trace.values[*part].shape.len());
                let axis = self.axis(node.int("dim").unwrap_or(0), rank + 1)?;
                let parts = self.beside_each_other(&parts)?;
                let mut wide = vec![];
                for part in &parts {
                    wide.push(self.unsqueeze(part, axis)?);
                }
                self.concat(wide, axis)
            }
            "repeat" | "tile" => self.repeat(node, op),
            "repeat_interleave" => {
                let x = self.own_value(node, "self")?;
                let (Some(times), Some(axis)) = (node.int("repeats"), node.int("dim")) else {
                    return Err(Fail::Unknown);
                };
                let axis = self.axis(axis, x.dims.len())?;
                let Some(times) = usize::try_from(times).ok().filter(|times| *times > 0) else {
                    return Err(Fail::Unknown);
                };
                let wide = self.unsqueeze(&x, axis + 1)?;
                let mut copies = wide.clone();
                copies.dims[axis + 1] = times;
                let flat = self.flatten(&copies, axis, axis + 1)?;
                Ok(flat)
            }
            "roll" => self.roll(node),
            "flip" => {
                let x = self.own_value(node, "self")?;
                let mut x = x;
                for axis in self.axes(node, "dims", x.dims.len())? {
                    let order: Vec<usize> = (0..x.dims[axis]).rev().collect();
                    x = self.picked(&x, axis, &order)?;
                }
                Ok(x)
            }
            "index" => self.index(node),
            "index_select" => {
                let x = self.own_value(node, "self")?;
                let axis = self.axis(node.int("dim").unwrap_or(0), x.dims.len())?;
                let Some(rows) = node.value("index").and_then(|value| self.known(value)) else {
                    return Err(Fail::Unknown);
                };
                self.take(&x, axis, &rows)
            }
            "unfold" => {
                let x = self.own_value(node, "self")?;
                let axis = self.axis(node.int("dimension").unwrap_or(0), x.dims.len())?;
                let (Some(size), Some(step)) = (node.int("size"), node.int("step")) else { return Err(Fail::Unknown) };
                let (Ok(size), Ok(step)) = (usize::try_from(size), usize::try_from(step)) else {
                    return Err(Fail::Unknown);
                };
                self.windows(&x, axis, size, step)
            }
            "pad" | "constant_pad_nd" => self.pad(node, op),
            _ => Err(Fail::Unknown),
        }
    }

    /// The shape that the file says of a node's first output.
    pub(super) fn described(&self, node: &Node) -> Out<Vec<usize>> {
        match node.outputs.first() {
            Some(Some(output)) => match self.trace.values[*output].shape.clone() {
                shape if shape.contains(&0) => refuse("it gives nothing"),
                shape => Ok(shape),
            },
            _ => refuse("it gives nothing"),
        }
    }

    /// The node's axis for an argument, from the end where that is the same for all that has fewer axes in front.
    pub(super) fn axis_from_end(&self, x: &Lifted, axis: usize) -> Out<i64> {
        let found = self.inner_axis(x, axis)?;
        let rank = self.own(x).len() as i64 + i64::from(x.batch.is_some());
        Ok(if found == rank - 1 { -1 } else { found })
    }

    fn power(&mut self, node: &Node, exponent: f64) -> Out<Lifted> {
        let x = self.own_value(node, "self")?;
        self.same_axes(made("pow", &[("exponent", Attr::Float(exponent))])?, &x)
    }

    /// An operand that may be a known value.
    fn value_of(&self, node: &Node, name: &str) -> Out<ValueId> {
        node.value(name).ok_or_else(|| Fail::Refused(format!("it lacks `{name}`")))
    }

    fn clamp(&mut self, node: &Node, op: &str) -> Out<Lifted> {
        let x = self.own_value(node, "self")?;
        let mut args = vec![];
        let mut beyond = vec![];
        for (name, word, other) in [("min", "maximum", "clamp_max"), ("max", "minimum", "clamp_min")] {
            if op == other || matches!(node.arg(name), Arg::None) {
                continue;
            }
            match self.number(node.arg(name)) {
                Some(bound) if bound.is_finite() => args.push((name, Attr::Float(bound))),
                Some(_) => {}
                None => beyond.push((name, word)),
            }
        }
        let mut result = x;
        if !args.is_empty() {
            result = self.same_axes(made("clamp", &args)?, &result)?;
        }
        for (name, word) in beyond {
            let bound = self.value_of(node, name)?;
            let batch = result.batch.map(|fold| (fold, result.dims.len()));
            let bound = self.operand_beside(bound, batch)?;
            result = self.lifted_pair(word, &result, &bound)?;
        }
        Ok(result)
    }

    fn arithmetic(&mut self, node: &Node, op: &str) -> Out<Lifted> {
        let alpha = node.float("alpha").unwrap_or(1.0);
        if node.text("rounding_mode").is_some() {
            return Err(Fail::Unknown);
        }
        let (first, second) = if node.arg("self") == &Arg::None { ("input", "other") } else { ("self", "other") };
        let rank = |arg: &Arg| match arg {
            Arg::Value(value) => self.trace.values[*value].shape.len(),
            _ => 0,
        };
        let (a_rank, b_rank) = (rank(node.arg(first)), rank(node.arg(second)));
        // a number, or what is one and adds no axes
        let b = self.number(node.arg(second)).filter(|_| b_rank <= a_rank);
        let a = self.number(node.arg(first)).filter(|_| a_rank <= b_rank && b.is_none());
        let name = match op {
            "add" | "rsub" | "sub" | "mul" | "div" | "maximum" | "minimum" => op,
            "multiply" => "mul",
            "subtract" => "sub",
            _ => "div",
        };
        if let Some(number) = b {
            let x = self.own_value(node, first)?;
            let with = |name: &str, number: f64, swapped: bool| {
                let mut args = vec![("number", Attr::Float(number))];
                if swapped {
                    args.push(("swapped", Attr::Bool(true)));
                }
                made(name, &args)
            };
            return match name {
                "add" => self.same_axes(with("add", alpha * number, false)?, &x),
                "sub" => self.same_axes(with("sub", alpha * number, false)?, &x),
                "rsub" if alpha == 1.0 => self.same_axes(with("sub", number, true)?, &x),
                "mul" => self.same_axes(with("mul", number, false)?, &x),
                "div" => self.same_axes(with("div", number, false)?, &x),
                "maximum" => self.same_axes(made("clamp", &[("min", Attr::Float(number))])?, &x),
                "minimum" => self.same_axes(made("clamp", &[("max", Attr::Float(number))])?, &x),
                _ => Err(Fail::Unknown),
            };
        }
        if let Some(number) = a
            && alpha == 1.0
        {
            let x = self.own_value(node, second)?;
            let swapped = [("number", Attr::Float(number)), ("swapped", Attr::Bool(true))];
            return match name {
                "add" | "mul" => self.same_axes(made(name, &swapped[..1])?, &x),
                "sub" | "div" => self.same_axes(made(name, &swapped)?, &x),
                "rsub" => self.same_axes(made("sub", &swapped[..1])?, &x),
                "maximum" => self.same_axes(made("clamp", &[("min", Attr::Float(number))])?, &x),
                _ => self.same_axes(made("clamp", &[("max", Attr::Float(number))])?, &x),
            };
        }
        let (a, b) = (self.value_of(node, first)?, self.value_of(node, second)?);
        let (a, b) = if name == "rsub" { (b, a) } else { (a, b) };
        let name = if name == "rsub" { "sub" } else { name };
        if alpha != 1.0 {
            let parts = self.beside_each_other(&[a, b])?;
            let scaled = self.same_axes(made("mul", &[("number", Attr::Float(alpha))])?, &parts[1])?;
            return self.lifted_pair(name, &parts[0], &scaled);
        }
        self.pair(name, a, b)
    }

    /// Values as nodes, known ones as the others need them.
    pub(super) fn beside_each_other(&mut self, values: &[ValueId]) -> Out<Vec<Lifted>> {
        let mut batch: Option<(Fold, usize)> = None;
        let mut lifted: Vec<Option<Lifted>> = vec![];
        for value in values {
            if self.known(*value).is_some() {
                lifted.push(None);
                continue;
            }
            let one = self.operand(*value)?;
            // what has samples of its own says where the batch is
            if let Some(fold) = one.batch
                && (batch.is_none() || !self.is_shared(&one))
            {
                batch = Some((fold, one.dims.len()));
            }
            lifted.push(Some(one));
        }
        let mut all = vec![];
        for (value, one) in values.iter().zip(lifted) {
            all.push(match one {
                Some(one) => one,
                None => self.operand_beside(*value, batch)?,
            });
        }
        Ok(all)
    }

    /// An op of two values of the trace.
    fn pair(&mut self, name: &str, a: ValueId, b: ValueId) -> Out<Lifted> {
        let both = self.beside_each_other(&[a, b])?;
        self.lifted_pair(name, &both[0], &both[1])
    }

    pub(super) fn lifted_pair(&mut self, name: &str, a: &Lifted, b: &Lifted) -> Out<Lifted> {
        let (a, b, dims, batch) = self.paired(a, b)?;
        let id = self.push(made(name, &[])?, &[a, b])?;
        Ok(Lifted { id, dims, batch })
    }

    fn masked_fill(&mut self, node: &Node) -> Out<Lifted> {
        let x = self.own_value(node, "self")?;
        let mask = node.value("mask").and_then(|value| self.known(value));
        let (Some(mask), Some(value)) = (mask, self.number(node.arg("value"))) else { return Err(Fail::Unknown) };
        // x where the mask is not, and the value where it is
        let flags = mask.to_f64();
        let keep = Array::f32(mask.shape(), flags.iter().map(|flag| f32::from(u8::from(*flag == 0.0))).collect());
        let fill = flags.iter().map(|flag| if *flag == 0.0 { 0.0 } else { value as f32 }).collect();
        let fill = Array::f32(mask.shape(), fill);
        let (keep, fill) = (self.made_constant(keep)?, self.made_constant(fill)?);
        let kept = self.lifted_pair("mul", &x, &keep)?;
        self.lifted_pair("add", &kept, &fill)
    }

    /// The node's axes of a reduction, and the shape that is left.
    fn reduced(&mut self, node: &Node, x: &Lifted) -> Out<Reduced> {
        let axes = self.axes(node, "dim", x.dims.len())?;
        let keep = node.bool("keepdim").unwrap_or(false);
        let mut own = vec![];
        for axis in &axes {
            own.push(Attr::Int(self.axis_from_end(x, *axis)?));
        }
        let mut dims = x.dims.clone();
        let mut batch = x.batch;
        if keep {
            axes.iter().for_each(|axis| dims[*axis] = 1);
        } else {
            let kept: Vec<usize> = (0..dims.len()).filter(|axis| !axes.contains(axis)).collect();
            batch = batch.map(|fold| Fold {
                axis: kept.iter().position(|axis| *axis == fold.axis).expect("the batch is never one of them"),
                ..fold
            });
            dims = kept.iter().map(|axis| dims[*axis]).collect();
        }
        Ok((own, dims, batch, keep))
    }

    fn reduce(&mut self, node: &Node, op: &str) -> Out<Lifted> {
        let x = self.own_value(node, "self")?;
        let x = self.filled(&x)?;
        let (axes, dims, batch, keep) = self.reduced(node, &x)?;
        let mut args = vec![("axis", Attr::List(axes))];
        if keep {
            args.push(("keep", Attr::Bool(true)));
        }
        let id = self.push(made(op, &args)?, &[x.id])?;
        Ok(Lifted { id, dims, batch })
    }

    fn spread(&mut self, node: &Node, op: &str) -> Out<Lifted> {
        let x = self.own_value(node, "self")?;
        let x = self.filled(&x)?;
        let (axes, dims, batch, keep) = self.reduced(node, &x)?;
        let mut args = vec![("axis", Attr::List(axes))];
        if keep {
            args.push(("keep", Attr::Bool(true)));
        }
        if op.ends_with("norm") {
            let order = node.float("ord").or(node.float("p")).unwrap_or(2.0);
            if order != 2.0 {
                return Err(Fail::Unknown);
            }
            let id = self.push(made("vector_norm", &args)?, &[x.id])?;
            return Ok(Lifted { id, dims, batch });
        }
        let unbiased = match node.float("correction") {
            Some(1.0) => true,
            Some(0.0) => false,
            Some(_) => return Err(Fail::Unknown),
            None => node.bool("unbiased").unwrap_or(true),
        };
        if !unbiased {
            args.push(("unbiased", Attr::Bool(false)));
        }
        let id = self.push(made("var", &args)?, &[x.id])?;
        let variance = Lifted { id, dims, batch };
        if op == "std" { self.same_axes(made("sqrt", &[])?, &variance) } else { Ok(variance) }
    }
}

/// Every op that is lifted, for what cannot be tried because it takes what was not.
pub(super) const OPS: &[&str] = &[
    "_log_softmax",
    "_softmax",
    "_to_copy",
    "_unsafe_view",
    "_upsample_bicubic2d_aa",
    "_upsample_bilinear2d_aa",
    "abs",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "add",
    "addcmul",
    "addmm",
    "alias",
    "alpha_dropout",
    "amax",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "bmm",
    "broadcast_to",
    "cat",
    "celu",
    "channel_shuffle",
    "chunk",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "clone",
    "col2im",
    "concat",
    "concatenate",
    "constant_pad_nd",
    "copy",
    "fill",
    "zero",
    "contiguous",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "cos",
    "detach",
    "div",
    "divide",
    "dropout",
    "einsum",
    "elu",
    "exp",
    "expand",
    "expand_as",
    "feature_dropout",
    "flatten",
    "flip",
    "float",
    "gelu",
    "glu",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "im2col",
    "index",
    "index_select",
    "instance_norm",
    "layer_norm",
    "leaky_relu",
    "lift_fresh",
    "lift_fresh_copy",
    "linalg_vector_norm",
    "linear",
    "log",
    "log_sigmoid",
    "log_softmax",
    "mT",
    "masked_fill",
    "matmul",
    "max",
    "max_pool1d",
    "max_pool2d",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mish",
    "mm",
    "movedim",
    "mul",
    "multiply",
    "narrow",
    "native_dropout",
    "neg",
    "norm",
    "pad",
    "permute",
    "pixel_shuffle",
    "pow",
    "prelu",
    "reciprocal",
    "relu",
    "relu6",
    "repeat",
    "repeat_interleave",
    "reshape",
    "reshape_as",
    "rms_norm",
    "roll",
    "rsqrt",
    "rsub",
    "scaled_dot_product_attention",
    "select",
    "selu",
    "sigmoid",
    "silu",
    "sin",
    "slice",
    "softmax",
    "softplus",
    "softsign",
    "split",
    "split_with_sizes",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "sub",
    "subtract",
    "sum",
    "swapaxes",
    "t",
    "tanh",
    "tile",
    "to",
    "transpose",
    "true_divide",
    "type_as",
    "unbind",
    "unflatten",
    "unfold",
    "unsqueeze",
    "upsample_bicubic2d",
    "upsample_bilinear2d",
    "upsample_linear1d",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "var",
    "view",
    "view_as",
];

#[cfg(test)]
mod tests {
    use super::OPS;

    #[test]
    fn the_list_of_ops_is_that_of_the_match() {
        let text = [include_str!("table.rs"), include_str!("ops.rs")].join("\n");
        for op in OPS {
            let quoted = format!("\"{op}\"");
            // once in the list, and once where it is lifted
            assert!(text.matches(&quoted).count() >= 2, "{op}");
        }
    }
}
