//! Every op as PyTorch says it: one entry an op, in [`form`], whose match has no default, so that a new op is not forgotten.

use super::code::{Call, Code, code, text};
use crate::diag::{Code as Error, Problem};
use crate::ops::attr::{Attr, FromAttr, Padding, Pair};
use crate::ops::conv::{Conv1d, Conv2d};
use crate::ops::init::Init;
use crate::ops::shape::Shape;
use crate::ops::{Declared, Op};
use archc_base::Resample;

/// A layer in Python.
#[derive(Clone, Debug)]
pub enum Form {
    /// A module with tensors, or with a mode: how it is made, and how it is called.
    Layer {
        new: Call,
        call: Code,
    },
    /// A function of the operands, and a module that is the same, where PyTorch has one.
    Function {
        code: Code,
        module: Option<Call>,
    },
    /// A tensor that is learned.
    Parameter(Code),
    /// One that is not; whether files have it.
    Buffer {
        code: Code,
        is_saved: bool,
    },
    /// The operand itself.
    Same,
    /// One part of several, all of which one call makes.
    Part {
        code: Code,
        part: usize,
    },
    Input,
}

/// A layer as an exporter sees it.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    pub op: &'a Op,
    pub ins: &'a [&'a Shape],
    pub out: &'a Shape,
    pub is_frozen: bool,
    /// Whether the operand is a table of whole numbers of PyTorch's type.
    pub has_integers: &'a dyn Fn(usize) -> bool,
}

fn int(value: usize) -> Attr {
    Attr::Int(value as i64)
}

fn ints(values: &[i64]) -> String {
    match values {
        [one] => one.to_string(),
        values => format!("({})", values.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn function(template: &str, slots: &[(&'static str, Attr)], module: impl Into<Option<Call>>) -> Form {
    Form::Function { code: code(template, slots), module: module.into() }
}

/// A function without arguments, and its module.
fn plain(template: &str, module: &str) -> Form {
    function(template, &[], Call::new(module))
}

/// A module that is called with the layer's only operand.
fn layer(new: Call) -> Form {
    Form::Layer { new, call: code("{m}({0})", &[]) }
}

/// The call of a function as code, and the module of the same arguments.
fn both(function: &str, module: &str, with: impl Fn(Call) -> Call) -> Form {
    let call = with(Call::new(function).code(code("{0}", &[])));
    Form::Function { code: call.into(), module: Some(with(Call::new(module))) }
}

fn padding_of(padding: Padding) -> Attr {
    match padding {
        Padding::Each(pair) => pair.to_attr(),
        Padding::Same => Attr::Int(0),
    }
}

/// The index of Python that takes `part` of an axis and all of those before it.
fn along(axis: usize, part: &str) -> String {
    format!("{}{part}", ":, ".repeat(axis))
}

fn axis_of(axis: i64, shape: &Shape) -> usize {
    shape.resolve_axis(axis).expect("the shape was inferred")
}

/// What a module for the last axis becomes for another one.
fn on_axis(new: Call, axis: usize, shape: &Shape) -> Form {
    if axis + 1 == shape.rank() {
        return layer(new);
    }
    Form::Layer { new, call: code(&format!("{{m}}({{0}}.movedim({axis}, -1)).movedim(-1, {axis})"), &[]) }
}

/// The window of a pooling and its step, which is left out where it is the window's size.
fn windows(call: Call, kernel: Pair, stride: Option<Pair>) -> Call {
    let call = call.arg("kernel_size", kernel.to_attr());
    match stride.filter(|stride| *stride != kernel) {
        Some(stride) => call.option("stride", stride.to_attr(), Attr::None),
        None => call,
    }
}

/// A sum, product .. of two values, or of one and a number.
fn binary(sign: &str, ins: &[&Shape], number: Option<f64>, swapped: bool) -> Form {
    let Some(number) = number else { return function(&paired(ins, &format!("{{a}} {sign} {{b}}")), &[], None) };
    let template = if swapped { format!("{{number}} {sign} {{0}}") } else { format!("{{0}} {sign} {{number}}") };
    function(&template, &[("number", Attr::Float(number))], None)
}

/// A template of `{a}` and `{b}` with the operands in it, axes of the same meaning above each other: two values with a batch
/// pair their axes from the left.
fn paired(ins: &[&Shape], template: &str) -> String {
    let rank = ins.iter().map(|shape| shape.rank()).max().unwrap_or(0);
    let from_left = ins.iter().all(|shape| shape.batched);
    let operand = |at: usize| match rank - ins[at].rank() {
        more if from_left && more > 0 => format!("{{{at}}}[...{}]", ", None".repeat(more)),
        _ => format!("{{{at}}}"),
    };
    template.replace("{a}", &operand(0)).replace("{b}", &operand(1))
}

/// An operand with the batch of another one, where it has none and is to have it.
fn with_batch(at: usize, shape: &Shape, batch: Option<usize>) -> String {
    match batch {
        Some(of) if !shape.batched => {
            format!("{{{at}}}.expand({{{of}}}.shape[0]{})", ", -1".repeat(shape.rank() - 1))
        }
        _ => format!("{{{at}}}"),
    }
}

fn reduced(name: &str, axes: &[i64], keep: bool, more: &str) -> Form {
    let keep = if keep { ", keepdim=True" } else { "" };
    function(&format!("{{0}}.{name}({}{more}{keep})", ints(axes)), &[], None)
}

fn batch_norm(name: &str, channels: usize, eps: f64, momentum: f64, affine: bool) -> Call {
    Call::new(name)
        .arg("num_features", channels)
        .option("eps", eps, 1e-5)
        .option("momentum", momentum, 0.1)
        .option("affine", affine, true)
}

fn conv(op: &Conv2d, channels: usize) -> Call {
    let (head, padding) = match op.padding {
        Padding::Each(pair) => ("nn.Conv2d", Some(pair)),
        Padding::Same => ("Conv2dSame", None),
    };
    let call = Call::new(head)
        .arg("in_channels", channels)
        .arg("out_channels", op.out)
        .arg("kernel_size", op.kernel.to_attr())
        .option("stride", op.stride.to_attr(), 1usize);
    let call = match padding {
        Some(padding) => call.option("padding", padding.to_attr(), 0usize),
        None => call,
    };
    call.option("dilation", op.dilation.to_attr(), 1usize)
        .option("groups", op.groups, 1usize)
        .option("bias", op.bias, true)
}

fn conv1d(op: &Conv1d, channels: usize) -> Call {
    let (head, padding) = match op.padding {
        Padding::Each(Pair { w, .. }) => ("nn.Conv1d", Some(w)),
        Padding::Same => ("Conv1dSame", None),
    };
    let call = Call::new(head)
        .arg("in_channels", channels)
        .arg("out_channels", op.out)
        .arg("kernel_size", op.kernel)
        .option("stride", op.stride, 1usize);
    let call = match padding {
        Some(padding) => call.option("padding", padding, 0usize),
        None => call,
    };
    call.option("dilation", op.dilation, 1usize).option("groups", op.groups, 1usize).option("bias", op.bias, true)
}

/// A tensor of this shape as it is before weights are loaded.
fn fresh(shape: &Shape, init: &Init) -> Code {
    let dims: Vec<(&'static str, Attr)> = shape.dims.iter().map(|dim| ("size", int(*dim))).collect();
    let mut list: Code = vec![];
    for (at, dim) in dims.iter().enumerate() {
        list.extend(text(if at == 0 { "" } else { ", " }));
        list.extend(code("{size}", std::slice::from_ref(dim)));
    }
    let around = |before: &str, after: &str| [text(before), list.clone(), text(after)].concat();
    let tuple = |head: &str, after: &str| {
        let comma = if shape.dims.len() == 1 { "," } else { "" };
        around(&format!("{head}("), &format!("{comma}){after}"))
    };
    match init {
        Init::Ones => around("torch.ones(", ")"),
        Init::Constant(value) => tuple("torch.full(", &format!(", {value:?})")),
        Init::Normal { std } | Init::TruncNormal { std } => {
            [text(format!("{std:?} * ")), around("torch.randn(", ")")].concat()
        }
        Init::Uniform { bound } => tuple("torch.empty(", &format!(").uniform_({:?}, {bound:?})", -bound)),
        // others have a fan in, or another file, and are made of weights that are loaded
        Init::Zeros
        | Init::KaimingNormal
        | Init::KaimingUniform
        | Init::XavierUniform
        | Init::Identity
        | Init::From { .. } => around("torch.zeros(", ")"),
    }
}

/// The values around which nothing but zeros, or others of the value itself, are put: as many pairs as PyTorch asks for.
fn pad(op: &crate::ops::layout::Pad, shape: &Shape) -> Result<Form, Problem> {
    let mode = if let Attr::Word(word) = op.mode.to_attr() { word } else { "constant".into() };
    let mut sizes = op.sizes.clone();
    if mode == "constant" {
        let slots = [("value", Attr::Float(op.value))];
        let value = if op.value == 0.0 { "" } else { ", value={value}" };
        return Ok(function(&format!("F.pad({{0}}, {}{value})", ints(&sizes)), &slots, None));
    }
    // the other modes take tensors of two axes more than they have pairs, three pairs at most
    while sizes.len() > 2 && sizes.ends_with(&[0, 0]) {
        sizes.truncate(sizes.len() - 2);
    }
    let (rank, pairs) = (shape.rank(), sizes.len() / 2);
    let wanted = pairs.max(rank.saturating_sub(2)).max(1);
    if wanted > 3 {
        let message = format!("`pad` with mode = {mode} of {shape} has no counterpart in PyTorch");
        return Err(Problem::new(Error::Output, message).hint("it pads the last three axes of values of up to five"));
    }
    sizes.resize(2 * wanted, 0);
    let more = wanted + 2 - rank;
    let (before, after) = match more {
        0 => (String::new(), String::new()),
        more => {
            let index = |one: &str| format!("[{}]", vec![one; more].join(", "));
            (index("None"), index("0"))
        }
    };
    Ok(function(&format!("F.pad({{0}}{before}, {}, mode=\"{mode}\"){after}", ints(&sizes)), &[], None))
}

/// A layer in Python.
///
/// # Errors
/// Arguments that PyTorch has no words for.
pub fn form(layer_: Layer<'_>) -> Result<Form, Problem> {
    let Layer { op, ins, out, is_frozen, has_integers, .. } = layer_;
    let channels = |axis: usize| ins[0].axis(axis).expect("the shape was inferred");
    // of images, whose last two axes are pixels
    let image_channels = || ins[0].dims[ins[0].dims.len() - 3];
    Ok(match op {
        Op::Conv2d(op) => layer(conv(op, image_channels())),
        Op::Conv1d(op) => layer(conv1d(op, ins[0].dims[ins[0].dims.len() - 2])),
        Op::Conv2dWith(op) => {
            let bias = if ins.len() > 2 { ", {2}" } else { "" };
            let slots = [
                ("stride", op.stride.to_attr()),
                ("padding", padding_of(op.padding)),
                ("dilation", op.dilation.to_attr()),
                ("groups", int(op.groups)),
            ];
            let rest = "dilation={dilation}, groups={groups}";
            match op.padding {
                Padding::Each(_) => function(
                    &format!("F.conv2d({{0}}, {{1}}{bias}, stride={{stride}}, padding={{padding}}, {rest})"),
                    &slots,
                    None,
                ),
                Padding::Same => {
                    let padded = "pad_same({0}, {1}.shape[2:], {stride}, {dilation})";
                    function(&format!("F.conv2d({padded}, {{1}}{bias}, stride={{stride}}, {rest})"), &slots, None)
                }
            }
        }
        Op::ConvTranspose2d(op) => layer(
            Call::new("nn.ConvTranspose2d")
                .arg("in_channels", image_channels())
                .arg("out_channels", op.out)
                .arg("kernel_size", op.kernel.to_attr())
                .option("stride", op.stride.to_attr(), 1usize)
                .option("padding", op.padding.to_attr(), 0usize)
                .option("output_padding", op.output_padding.to_attr(), 0usize)
                .option("groups", op.groups, 1usize)
                .option("bias", op.bias, true)
                .option("dilation", op.dilation.to_attr(), 1usize),
        ),
        Op::Linear(op) => layer(
            Call::new("nn.Linear")
                .arg("in_features", ins[0].last().expect("the shape was inferred"))
                .arg("out_features", op.out)
                .option("bias", op.bias, true),
        ),
        Op::LinearWith(op) => {
            let part = if op.rows.is_some() { "[{first}:{end}]" } else { "" };
            let range = op.range(ins[1].dims[0]);
            let slots = [("first", int(range.start)), ("end", int(range.end))];
            let bias = if ins.len() > 2 { format!(", {{2}}{part}") } else { String::new() };
            function(&format!("F.linear({{0}}, {{1}}{part}{bias})"), &slots, None)
        }
        Op::BatchNorm2d(op) => layer(batch_norm("nn.BatchNorm2d", channels(1), op.eps, op.momentum, op.affine)),
        Op::BatchNorm1d(op) => {
            let axis = axis_of(op.axis, ins[0]);
            let new = batch_norm("nn.BatchNorm1d", channels(axis), op.eps, op.momentum, op.affine);
            match axis {
                1 => layer(new),
                _ => Form::Layer { new, call: code("{m}({0}.transpose(1, 2)).transpose(1, 2)", &[]) },
            }
        }
        Op::LayerNorm(op) => {
            let axis = axis_of(op.axis, ins[0]);
            let new = Call::new("nn.LayerNorm").arg("normalized_shape", channels(axis)).option("eps", op.eps, 1e-5);
            on_axis(new.option("elementwise_affine", op.affine, true), axis, ins[0])
        }
        Op::LayerNorm2d(op) => {
            layer(Call::new("LayerNorm2d").arg("normalized_shape", channels(1)).option("eps", op.eps, 1e-5).option(
                "elementwise_affine",
                op.affine,
                true,
            ))
        }
        Op::RmsNorm(op) => {
            let axis = axis_of(op.axis, ins[0]);
            let new = Call::new("nn.RMSNorm").arg("normalized_shape", channels(axis)).option("eps", op.eps, Attr::None);
            on_axis(new.option("elementwise_affine", op.affine, true), axis, ins[0])
        }
        Op::GroupNorm(op) => layer(
            Call::new("nn.GroupNorm")
                .arg("num_groups", op.groups)
                .arg("num_channels", channels(1))
                .option("eps", op.eps, 1e-5)
                .option("affine", op.affine, true),
        ),
        Op::InstanceNorm2d(op) => layer(
            Call::new("nn.InstanceNorm2d")
                .arg("num_features", channels(1))
                .option("eps", op.eps, 1e-5)
                .option("affine", op.affine, false),
        ),
        Op::Attention(op) => {
            let batch = (0..3).find(|at| ins[*at].batched);
            let values: Vec<String> = (0..3).map(|at| with_batch(at, ins[at], batch)).collect();
            let values = values.join(", ");
            let mask = if ins.len() > 3 { ", {3}" } else { "" };
            let scale = if op.scale.is_some() { ", scale={scale}" } else { "" };
            let drawn = if op.dropout > 0.0 && !is_frozen { "{dropout} if self.training else 0.0" } else { "" };
            let slots = [
                ("heads", int(op.heads)),
                ("scale", Attr::Float(op.scale.unwrap_or_default())),
                ("dropout", Attr::Float(op.dropout)),
            ];
            let template = if op.heads == 1 {
                let dropout = if drawn.is_empty() { String::new() } else { format!(", dropout_p={drawn}") };
                let mask = mask.replace(", ", ", attn_mask=");
                format!("F.scaled_dot_product_attention({values}{mask}{dropout}{scale})")
            } else {
                let dropout = if drawn.is_empty() { String::new() } else { format!(", dropout={drawn}") };
                let mask = mask.replace(", ", ", mask=");
                format!("attention({values}, heads={{heads}}{mask}{dropout}{scale})")
            };
            function(&template, &slots, None)
        }
        Op::LstmScan(op) => match ins.len() {
            2 if op.reverse => function("lstm_scan({0}, {1}, reverse=True)", &[], None),
            2 => function("lstm_scan({0}, {1})", &[], None),
            _ => function("torch.cat((lstm_scan({0}, {1}), lstm_scan({2}, {3}, reverse=True)), -1)", &[], None),
        },
        Op::Relu(_) => plain("F.relu({0})", "nn.ReLU"),
        Op::Relu6(_) => plain("F.relu6({0})", "nn.ReLU6"),
        Op::Elu(op) => both("F.elu", "nn.ELU", |call| call.option("alpha", op.alpha, 1.0)),
        Op::LeakyRelu(op) => both("F.leaky_relu", "nn.LeakyReLU", |call| call.option("negative_slope", op.slope, 0.01)),
        Op::Prelu(op) => layer(Call::new("nn.PReLU").option("num_parameters", op.parameters, 1usize)),
        Op::Gelu(op) => both("F.gelu", "nn.GELU", |call| {
            let word = if let Attr::Word(word) = op.approximate.to_attr() { word } else { "none".into() };
            call.option("approximate", Attr::Str(word), Attr::Str("none".into()))
        }),
        Op::Silu(_) => plain("F.silu({0})", "nn.SiLU"),
        Op::Sigmoid(_) => plain("torch.sigmoid({0})", "nn.Sigmoid"),
        Op::Tanh(_) => plain("torch.tanh({0})", "nn.Tanh"),
        Op::Hardswish(_) => plain("F.hardswish({0})", "nn.Hardswish"),
        Op::Hardsigmoid(_) => plain("F.hardsigmoid({0})", "nn.Hardsigmoid"),
        Op::Softplus(_) => plain("F.softplus({0})", "nn.Softplus"),
        Op::Mish(_) => plain("F.mish({0})", "nn.Mish"),
        Op::Exp(op) => match op.base {
            None => function("torch.exp({0})", &[], None),
            Some(base) => function("torch.pow({base}, {0})", &[("base", Attr::Float(base))], None),
        },
        Op::Sqrt(_) => function("torch.sqrt({0})", &[], None),
        Op::Rsqrt(_) => function("torch.rsqrt({0})", &[], None),
        Op::Pow(op) => function("{0} ** {exponent}", &[("exponent", Attr::Float(op.exponent))], None),
        Op::Abs(_) => function("torch.abs({0})", &[], None),
        Op::Neg(_) => function("-{0}", &[], None),
        Op::Log(_) => function("torch.log({0})", &[], None),
        Op::Sin(_) => function("torch.sin({0})", &[], None),
        Op::Cos(_) => function("torch.cos({0})", &[], None),
        Op::Softsign(_) => plain("F.softsign({0})", "nn.Softsign"),
        Op::LogSigmoid(_) => plain("F.logsigmoid({0})", "nn.LogSigmoid"),
        Op::Celu(op) => both("F.celu", "nn.CELU", |call| call.option("alpha", op.alpha, 1.0)),
        Op::Selu(_) => plain("F.selu({0})", "nn.SELU"),
        Op::Clamp(op) => {
            let number = |bound: Option<f64>| bound.map_or(Attr::None, Attr::Float);
            let with =
                |call: Call| call.option("min", number(op.min), Attr::None).option("max", number(op.max), Attr::None);
            Form::Function { code: with(Call::new("torch.clamp").code(code("{0}", &[]))).into(), module: None }
        }
        Op::Hardtanh(op) => both("F.hardtanh", "nn.Hardtanh", |call| {
            call.option("min_val", op.min, -1.0).option("max_val", op.max, 1.0)
        }),
        Op::Glu(op) => both("F.glu", "nn.GLU", |call| call.option("dim", op.axis, -1i64)),
        Op::Softmax(op) => both("F.softmax", "nn.Softmax", |call| call.option("dim", op.axis, Attr::None)),
        Op::LogSoftmax(op) => both("F.log_softmax", "nn.LogSoftmax", |call| call.option("dim", op.axis, Attr::None)),
        Op::Normalize(op) => function(&format!("F.normalize({{0}}, dim={})", op.axis), &[], None),
        Op::Identity(_) => Form::Same,
        Op::Dropout(op) => match op.always {
            true => layer(Call::new("AlwaysDropout").arg("p", op.p)),
            false => layer(Call::new("nn.Dropout").arg("p", op.p)),
        },
        Op::Dropout2d(op) => match op.always {
            true => layer(Call::new("AlwaysDropout").arg("p", op.p).option("axes", 2usize, 0usize)),
            false => layer(Call::new("nn.Dropout2d").arg("p", op.p)),
        },
        Op::StochasticDepth(op) => match op.always {
            true => layer(Call::new("AlwaysDropout").arg("p", op.p).option("axes", out.rank() - 1, 0usize)),
            false => layer(Call::new("StochasticDepth").arg("p", op.p)),
        },
        Op::MaxPool2d(op) => both("F.max_pool2d", "nn.MaxPool2d", |call| {
            windows(call, op.kernel, op.stride)
                .option("padding", op.padding.to_attr(), 0usize)
                .option("dilation", op.dilation.to_attr(), 1usize)
                .option("ceil_mode", op.ceil_mode, false)
        }),
        Op::AvgPool2d(op) => both("F.avg_pool2d", "nn.AvgPool2d", |call| {
            windows(call, op.kernel, op.stride)
                .option("padding", op.padding.to_attr(), 0usize)
                .option("ceil_mode", op.ceil_mode, false)
                .option("count_include_pad", op.count_include_pad, true)
        }),
        Op::AdaptiveAvgPool2d(op) => {
            both("F.adaptive_avg_pool2d", "nn.AdaptiveAvgPool2d", |call| call.arg("output_size", op.size.to_attr()))
        }
        Op::AdaptiveMaxPool2d(op) => {
            both("F.adaptive_max_pool2d", "nn.AdaptiveMaxPool2d", |call| call.arg("output_size", op.size.to_attr()))
        }
        Op::GlobalAvgPool2d(_) => function("{0}.mean((-2, -1))", &[], None),
        Op::GlobalMaxPool2d(_) => function("{0}.amax((-2, -1))", &[], None),
        Op::Mean(op) => reduced("mean", &op.axis, op.keep, ""),
        Op::Sum(op) => reduced("sum", &op.axis, op.keep, ""),
        Op::Var(op) => reduced("var", &op.axis, op.keep, if op.unbiased { "" } else { ", correction=0" }),
        Op::VectorNorm(op) => {
            let keep = if op.keep { ", keepdim=True" } else { "" };
            function(&format!("torch.linalg.vector_norm({{0}}, dim={}{keep})", ints(&op.axis)), &[], None)
        }
        Op::Amax(op) => reduced("amax", &op.axis, op.keep, ""),
        Op::Flatten(_) => plain("torch.flatten({0}, 1)", "nn.Flatten"),
        Op::Reshape(op) => {
            let mut list: Code = code("{0}.reshape(", &[]);
            let batch = if !out.batched {
                None
            } else if op.shape.contains(&-1) {
                Some("{0}.shape[0]")
            } else {
                Some("-1")
            };
            let mut first = true;
            if let Some(batch) = batch {
                list.extend(code(batch, &[]));
                first = false;
            }
            for size in &op.shape {
                list.extend(text(if std::mem::take(&mut first) { "" } else { ", " }));
                list.extend(code("{size}", &[("size", Attr::Int(*size))]));
            }
            // a tensor of one value
            list.extend(text(if first { "())" } else { ")" }));
            Form::Function { code: list, module: None }
        }
        Op::Permute(op) => {
            let axes: Vec<String> = op.axes.iter().map(i64::to_string).collect();
            function(&format!("{{0}}.permute({})", axes.join(", ")), &[], None)
        }
        Op::Chunk(op) => {
            let code = code(&format!("{{0}}.chunk({{parts}}, {})", op.axis), &[("parts", int(op.parts))]);
            Form::Part { code, part: op.part as usize }
        }
        Op::Slice(op) => {
            let (axis, range) = op.range(ins[0])?;
            let len = ins[0].axis(axis).expect("the shape was inferred");
            let slots = [("first", int(range.start)), ("end", int(range.end))];
            let first = if range.start == 0 { "" } else { "{first}" };
            let end = if range.end == len { "" } else { "{end}" };
            function(&format!("{{0}}[{}]", along(axis, &format!("{first}:{end}"))), &slots, None)
        }
        Op::Pad(op) => pad(op, ins[0])?,
        Op::Roll(op) => {
            let shift = if op.shift.len() == 1 { vec![op.shift[0]; op.axes.len()] } else { op.shift.clone() };
            let tuple = |values: &[i64]| {
                let values: Vec<String> = values.iter().map(i64::to_string).collect();
                format!("({},)", values.join(", "))
            };
            function(&format!("torch.roll({{0}}, {}, {})", tuple(&shift), tuple(&op.axes)), &[], None)
        }
        Op::Unfold(op) => both("F.unfold", "nn.Unfold", |call| {
            call.arg("kernel_size", op.kernel.to_attr())
                .option("dilation", op.dilation.to_attr(), 1usize)
                .option("padding", op.padding.to_attr(), 0usize)
                .option("stride", op.stride.to_attr(), 1usize)
        }),
        Op::Fold(op) => both("F.fold", "nn.Fold", |call| {
            let Pair { h, w } = op.size;
            call.arg("output_size", Attr::List(vec![int(h), int(w)]))
                .arg("kernel_size", op.kernel.to_attr())
                .option("dilation", op.dilation.to_attr(), 1usize)
                .option("padding", op.padding.to_attr(), 0usize)
                .option("stride", op.stride.to_attr(), 1usize)
        }),
        Op::ChannelShuffle(op) => {
            let template = "{0}.unflatten(1, ({groups}, -1)).transpose(1, 2).flatten(1, 2)";
            function(template, &[("groups", int(op.groups))], None)
        }
        Op::PixelShuffle(op) => both("F.pixel_shuffle", "nn.PixelShuffle", |call| call.arg("upscale_factor", op.r)),
        Op::Upsample(op) => {
            let (size, slots) = match (op.scale, op.size) {
                (Some(scale), _) => ("scale_factor={scale}", [("scale", Attr::Float(scale))]),
                (None, size) => {
                    let Pair { h, w } = size.unwrap_or(Pair::both(1));
                    ("size={size}", [("size", Attr::List(vec![int(h), int(w)]))])
                }
            };
            let mode = match op.mode {
                Resample::Nearest => "nearest",
                Resample::Bilinear => "bilinear",
                Resample::Bicubic => "bicubic",
            };
            let antialias = if op.antialias { ", antialias=True" } else { "" };
            let (x, one) = if ins[0].rank() == 4 { ("{0}", "") } else { ("{0}[None]", "[0]") };
            function(&format!("F.interpolate({x}, {size}, mode=\"{mode}\"{antialias}){one}"), &slots, None)
        }
        Op::Add(op) => binary("+", ins, op.number, false),
        Op::Mul(op) => binary("*", ins, op.number, false),
        Op::Sub(op) => binary("-", ins, op.number, op.swapped),
        Op::Div(op) => binary("/", ins, op.number, op.swapped),
        Op::Maximum(_) => function(&paired(ins, "torch.maximum({a}, {b})"), &[], None),
        Op::Minimum(_) => function(&paired(ins, "torch.minimum({a}, {b})"), &[], None),
        Op::Concat(op) => {
            let batch = ins.iter().position(|shape| shape.batched);
            let parts: Vec<String> = ins.iter().enumerate().map(|(at, shape)| with_batch(at, shape, batch)).collect();
            let comma = if parts.len() == 1 { "," } else { "" };
            function(&format!("torch.cat(({}{comma}), {})", parts.join(", "), op.axis), &[], None)
        }
        Op::Matmul(_) => function("{0} @ {1}", &[], None),
        Op::Gather(_) => function(if has_integers(1) { "{0}[{1}]" } else { "{0}[{1}.long()]" }, &[], None),
        Op::WindowIndex(op) => {
            let Pair { h, w } = op.window;
            let flat = if op.flat { ".flatten()" } else { "" };
            let slots = [("height", int(h)), ("width", int(w))];
            let code = code(&format!("window_index({{height}}, {{width}}){flat}"), &slots);
            Form::Buffer { code, is_saved: op.persistent }
        }
        Op::WindowCoords(op) => {
            let (Pair { h, w }, trained) = (op.window, op.pretrained.unwrap_or(op.window));
            let pair = |h: usize, w: usize| Attr::List(vec![int(h), int(w)]);
            let slots = [("window", pair(h, w)), ("pretrained", pair(trained.h, trained.w))];
            Form::Buffer { code: code("window_coords({window}, {pretrained})", &slots), is_saved: op.persistent }
        }
        Op::WindowMask(op) => {
            let pair = |h: usize, w: usize| Attr::List(vec![int(h), int(w)]);
            let slots = [
                ("size", pair(op.height, op.width)),
                ("window", pair(op.window.h, op.window.w)),
                ("shift", pair(op.shift.0.h, op.shift.0.w)),
            ];
            Form::Buffer { code: code("window_mask({size}, {window}, {shift})", &slots), is_saved: false }
        }
        Op::Input(_) => Form::Input,
        Op::Parameter(op) => Form::Parameter([text("nn.Parameter("), fresh(out, &op.init), text(")")].concat()),
        Op::Buffer(op) => Form::Buffer { code: fresh(out, &op.init), is_saved: true },
        Op::Constant(op) => {
            let values = op.attrs().into_iter().find(|(name, _)| *name == "values").expect("its only argument").1;
            let code = code("torch.tensor({values}, dtype=torch.float32)", &[("values", values)]);
            Form::Buffer { code, is_saved: false }
        }
    })
}
