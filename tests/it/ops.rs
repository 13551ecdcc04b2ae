//! The ops: their plain references against PyTorch's golden values, their shapes and messages by table, and their
//! behaviour under arguments that nobody means.

use archc::Tensor;
use archc::stages::diag::Problem;
use archc::stages::ops::attr::{Arg, Attr};
use archc::stages::ops::shape::Shape;
use archc::stages::ops::{MANUAL, OPERAND_OPS, Op, Operand, Role, find};
use archc::stages::philox::Philox;
use serde_json::Value;

/// `conv2d(64, kernel = (3, 5), padding = same)` as an op; names and values only, no expressions.
fn op(text: &str) -> Result<Op, Problem> {
    let (name, args) = match text.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')').expect("closed")),
        None => (text, ""),
    };
    let args: Vec<Arg> = commas(args).into_iter().map(arg).collect();
    (find(name).unwrap_or_else(|| panic!("no op {name}")).make)(&args).map_err(|wrong| wrong.problem)
}

fn arg(text: &str) -> Arg {
    match text.split_once(" = ") {
        Some((name, value)) => Arg { name: Some(name.trim().into()), value: attr(value) },
        None => Arg { name: None, value: attr(text) },
    }
}

fn attr(text: &str) -> Attr {
    let text = text.trim();
    let list = |inner: &str| commas(inner).into_iter().map(attr).collect::<Vec<_>>();
    match text {
        "none" => Attr::None,
        "true" => Attr::Bool(true),
        "false" => Attr::Bool(false),
        _ if text.starts_with(['[', '(']) => Attr::List(list(&text[1..text.len() - 1])),
        _ => match (text.parse(), text.parse(), text.split_once('(')) {
            (Ok(int), ..) => Attr::Int(int),
            (_, Ok(float), _) => Attr::Float(float),
            (.., Some((word, args))) => Attr::Call(word.into(), list(args.strip_suffix(')').expect("closed"))),
            _ => Attr::Word(text.into()),
        },
    }
}

/// Split at the commas outside brackets.
fn commas(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (vec![], 0, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'(' => depth += 1,
            b']' | b')' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text.trim().is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

/// `[N, 3, 7]` as a shape.
fn shape(text: &str) -> Shape {
    let axes: Vec<&str> =
        text.trim_matches(['[', ']']).split(',').map(str::trim).filter(|axis| !axis.is_empty()).collect();
    let batched = axes.first() == Some(&"N");
    let dims: Vec<usize> = axes[usize::from(batched)..].iter().map(|axis| axis.parse().expect("a length")).collect();
    Shape { batched, dims }
}

/// `[N, 3] [3, 4]` as shapes.
fn shapes(text: &str) -> Vec<Shape> {
    text.split_inclusive(']').filter(|one| one.contains('[')).map(|one| shape(one.trim())).collect()
}

/// The result's shape as text, or the message.
fn inferred(call: &str, ins: &str) -> String {
    let ins = shapes(ins);
    match op(call).and_then(|op| op.infer(&ins.iter().collect::<Vec<_>>())) {
        Ok(shape) => shape.to_string(),
        Err(problem) => problem.message,
    }
}

fn manifest() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/ops.json");
    let text = std::fs::read_to_string(path).expect("tests/reference/ops.json");
    serde_json::from_str(&text).expect("JSON")
}

/// The op of a case; with `part` for one of several results.
fn case_op(case: &Value, part: Option<usize>) -> Op {
    let value = |value: &Value| match value {
        Value::String(word) => Attr::Word(word.clone()),
        other => attr(&other.to_string()),
    };
    let positional = case["positional"].as_array().into_iter().flatten().map(|v| Arg { name: None, value: value(v) });
    let named = case["args"].as_object().into_iter().flatten();
    let named = named.map(|(name, v)| Arg { name: Some(name.clone()), value: value(v) });
    let part = part.map(|part| Arg { name: Some("part".into()), value: Attr::Int(part as i64) });
    let args: Vec<Arg> = positional.chain(named).chain(part).collect();
    (find(case["op"].as_str().expect("a name")).expect("an op").make)(&args).unwrap_or_else(|e| panic!("{case}: {e:?}"))
}

fn names<'a>(case: &'a Value, key: &str) -> Vec<&'a str> {
    case[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn references_agree_with_pytorch() {
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/ops.safetensors")).expect("a file");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let read = |case: &Value, key: &str| -> Tensor {
        let name = format!("{}/{key}", case["case"].as_str().expect("a name"));
        let view = file.tensor(&name).unwrap_or_else(|_| panic!("{name}"));
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Tensor::new(view.shape(), values)
    };
    let mut worst = ("", 0.0f64);
    let cases = manifest();
    for case in &cases {
        let name = case["case"].as_str().expect("a name");
        let outputs = match case.get("output") {
            Some(one) => vec![(None, one.as_str().expect("a key"))],
            None => names(case, "outputs").into_iter().enumerate().map(|(at, key)| (Some(at), key)).collect(),
        };
        let batchless = names(case, "batchless");
        let inputs: Vec<(bool, Tensor)> =
            names(case, "inputs").iter().map(|key| (!batchless.contains(key), read(case, key))).collect();
        let ins: Vec<Operand> = inputs.iter().map(|(batched, value)| Operand { value, batched: *batched }).collect();
        let batch = inputs.iter().find(|(batched, _)| *batched).map_or(1, |(_, value)| value.shape()[0]);
        let in_shapes: Vec<Shape> = ins.iter().map(Operand::shape).collect();
        let in_shapes: Vec<&Shape> = in_shapes.iter().collect();
        for (part, key) in outputs {
            let op = case_op(case, part);
            let wanted = read(case, key);
            let out = op.infer(&in_shapes).unwrap_or_else(|e| panic!("{name}: {}", e.message)).concrete(batch);
            assert_eq!(out, wanted.shape(), "{name}: {op}");
            let decls = op.params(&in_shapes);
            let required: Vec<&str> = decls.iter().filter(|p| p.role != Role::Computed).map(|p| p.name).collect();
            assert_eq!(required, names(case, "params"), "{name}: the keys");
            let params: Vec<Tensor> = decls
                .iter()
                .map(|decl| match decl.role {
                    Role::Computed => Tensor::zeros(decl.shape.clone()),
                    _ => read(case, decl.name),
                })
                .collect();
            for (decl, param) in decls.iter().zip(&params) {
                assert_eq!(decl.shape, param.shape(), "{name}: `{}`", decl.name);
            }
            let got = op.eval(&ins, &params.iter().collect::<Vec<_>>(), &out);
            assert_eq!(got.shape(), out, "{name}: eval's shape");
            let scale = wanted.data().iter().fold(0.0f64, |max, value| max.max(value.abs() as f64));
            // both are computed in float64 and rounded to float32; PyTorch makes window_coords in float32
            let relative = if op.name() == "window_coords" { 1e-6 } else { 2e-7 };
            for (at, (got, wanted)) in got.data().iter().zip(wanted.data()).enumerate() {
                let error = (*got as f64 - *wanted as f64).abs();
                let allowed = relative * (wanted.abs() as f64 + 1e-3 * scale) + f32::MIN_POSITIVE as f64;
                assert!(error <= allowed, "{name}: {op} at {at}: {wanted} of PyTorch, got {got}");
                if error / allowed > worst.1 {
                    worst = (name, error / allowed);
                }
            }
        }
    }
    println!("{} cases, worst {} with {:.2} of the tolerance", cases.len(), worst.0, worst.1);
}

#[test]
fn every_op_has_golden_values() {
    let cases = manifest();
    let tried: std::collections::BTreeSet<&str> = cases.iter().filter_map(|case| case["op"].as_str()).collect();
    // these compute nothing
    let exempt = ["input", "parameter", "buffer"];
    for entry in MANUAL {
        assert!(tried.contains(entry.name) || exempt.contains(&entry.name), "`{}` has no golden values", entry.name);
    }
    assert!(OPERAND_OPS.iter().all(|name| find(name).is_some()));
}

#[test]
fn calls_are_printed_as_they_parse() {
    let more = ["parameter([1, 768], init = trunc_normal(0.02))", "sub(number = 1.0, swapped = true)", "input([3, 5])"];
    let ops = manifest().iter().map(|case| case_op(case, None)).collect::<Vec<_>>();
    for op_ in ops.into_iter().chain(more.map(|text| op(text).expect("a call"))) {
        let printed = op_.to_string();
        assert_eq!(op(&printed).as_ref(), Ok(&op_), "{printed}");
        assert_eq!(op_.with_attrs(&[]).as_ref(), Ok(&op_), "{printed}");
    }
}

#[test]
fn the_manual_is_complete() {
    for entry in MANUAL {
        assert!(entry.doc.trim().ends_with('.'), "`{}`: a sentence", entry.name);
        for arg in entry.args {
            assert!(!arg.doc.is_empty() && !arg.doc.ends_with('.'), "`{}` of `{}`", arg.name, entry.name);
        }
    }
}

#[test]
fn shapes_and_messages() {
    let table = [
        ("conv2d(64, kernel = 7, stride = 2, padding = 3)", "[N, 3, 224, 224]", "[N, 64, 112, 112]"),
        ("conv2d(8, kernel = 3, stride = 2, padding = same)", "[N, 3, 7, 8]", "[N, 8, 4, 4]"),
        ("conv2d(64, kernel = 3)", "[N, 2048]", "`conv2d` needs [N, C, H, W], got [N, 2048]"),
        (
            "conv2d(64, kernel = 9)",
            "[N, 3, 7, 7]",
            "the 9 x 9 window of `conv2d` is larger than its padded input [N, 3, 7, 7]",
        ),
        (
            "conv2d(64, kernel = 3, groups = 2)",
            "[N, 3, 7, 7]",
            "`conv2d` with groups = 2 needs input channels divisible by that, got 3",
        ),
        ("conv2d(8, kernel = 0)", "", "`kernel` of `conv2d` needs integers from 1 to 2^31, got 0"),
        ("conv2d(8, kernel = 3.5)", "", "`kernel` of `conv2d` needs an integer or a pair of them, got a float (3.5)"),
        ("conv2d(8, 3)", "", "`conv2d` takes its arguments after the first by name"),
        ("conv2d(8)", "", "`conv2d` needs `kernel`: size of the window, in pixels"),
        ("conv2d(8, kernel_size = 3)", "", "`conv2d` has no argument `kernel_size`"),
        ("conv2d(out = 8, 16, kernel = 3)", "", "`conv2d` is given `out` twice"),
        ("conv_transpose2d(256, kernel = 3, stride = 2)", "[N, 512, 3, 3]", "[N, 256, 7, 7]"),
        (
            "conv_transpose2d(8, kernel = 1, padding = 2)",
            "[N, 4, 3, 3]",
            "`conv_transpose2d` cuts off the whole of its output, its input is [N, 4, 3, 3]",
        ),
        (
            "conv_transpose2d(8, kernel = 3, stride = 2, output_padding = 2)",
            "",
            "`output_padding` of `conv_transpose2d` needs less than stride or dilation, 2, got 2",
        ),
        ("linear(10)", "[N, 7, 7, 512]", "[N, 7, 7, 10]"),
        ("linear(10)", "[N]", "`linear` needs [.., features], got [N]"),
        (
            "batch_norm2d(features = 1024)",
            "[N, 512, 7, 7]",
            "`batch_norm2d` was told 1024 features, its input [N, 512, 7, 7] has 512 channels",
        ),
        ("batch_norm2d(eps = 0)", "", "`eps` of `batch_norm2d` needs a number above 0 and below 1, got 0"),
        ("group_norm(3)", "[N, 8, 2]", "`group_norm` needs channels divisible by 3 groups, got 8"),
        ("conv2d_with(stride = 2, padding = 1)", "[N, 4, 9, 8] [6, 4, 3, 3] [6]", "[N, 6, 5, 4]"),
        ("conv2d_with(groups = 2)", "[N, 4, 9, 8] [6, 2, 1, 1]", "[N, 6, 9, 8]"),
        (
            "conv2d_with",
            "[N, 4, 9, 8] [6, 3, 3, 3]",
            "`conv2d_with` needs 3 channels for its weight [6, 3, 3, 3], got [N, 4, 9, 8]",
        ),
        (
            "conv2d_with",
            "[N, 4, 9, 8] [6, 4, 3, 3] [5]",
            "`conv2d_with` needs a bias [6] beside its weight [6, 4, 3, 3], got [5]",
        ),
        (
            "conv2d_with",
            "[N, 4, 9, 8] [6, 4]",
            "`conv2d_with` needs a weight [out, C / groups, kernel h, kernel w] without batch, got [6, 4]",
        ),
        (
            "conv2d_with",
            "[N, 4, 2, 2] [6, 4, 3, 3]",
            "the 3 x 3 window of `conv2d_with` is larger than its padded input [N, 4, 2, 2]",
        ),
        ("linear_with", "[N, 5, 4] [6, 4] [6]", "[N, 5, 6]"),
        ("linear_with(rows = (2, 6))", "[N, 4] [6, 4]", "[N, 4]"),
        ("linear_with", "[N, 5] [6, 4]", "`linear_with` needs 4 features for its weight [6, 4], got 5"),
        ("linear_with", "[N, 4] [N, 4]", "`linear_with` needs [.., in] and a weight [out, in], got [N, 4] and [N, 4]"),
        ("linear_with", "[N, 4] [6, 4] [5]", "`linear_with` needs a bias [6] beside its weight [6, 4], got [5]"),
        ("linear_with(rows = (2, 7))", "[N, 4] [6, 4]", "`linear_with` takes rows 2..7 of a weight [6, 4]"),
        (
            "linear_with(rows = (2, 2))",
            "",
            "`rows` of `linear_with` needs a first row and a later one behind the last: `rows = (0, 768)`",
        ),
        ("layer_norm2d", "[N, 4, 7]", "[N, 4, 7]"),
        ("layer_norm2d", "[N]", "`layer_norm2d` needs [N, C, ..], got [N]"),
        ("rms_norm", "[N]", "`rms_norm` needs [.., features], got [N]"),
        ("rms_norm(axis = 0)", "[N, 3, 5]", "`rms_norm` needs an axis of [N, 3, 5] after the batch, got 0"),
        ("batch_norm1d(axis = -1)", "[N, 7, 5]", "[N, 7, 5]"),
        ("batch_norm1d", "[N, 3, 5, 7]", "`batch_norm1d` needs [N, C] or [N, C, L], got [N, 3, 5, 7]"),
        (
            "instance_norm2d(5)",
            "[N, 3, 5, 7]",
            "`instance_norm2d` was told 5 features, its input [N, 3, 5, 7] has 3 channels",
        ),
        ("sum([2, 3], keep = true)", "[N, 3, 5, 7]", "[N, 3, 1, 1]"),
        ("sum(0)", "[N, 3]", "`sum` needs an axis of [N, 3] after the batch, got 0"),
        ("var([2, 2])", "[N, 3, 5]", "`var` needs different axes, got axis 2 twice"),
        ("vector_norm(4)", "[N, 3, 5]", "`vector_norm` needs an axis of [N, 3, 5], got 4"),
        ("glu", "[N, 3, 5]", "`glu` needs an axis of even length, got 5 in [N, 3, 5]"),
        ("div", "[N, 3, 5] [N, 15]", "`div` needs shapes that fit, got [N, 3, 5] and [N, 15]"),
        ("div(0)", "", "`div` needs a number whose reciprocal is finite, got 0"),
        ("pad(1, 1, mode = reflect, value = 2)", "", "`pad` with mode = reflect takes no `value`, got 2"),
        ("linear_with", "[N, 4]", "`linear_with` takes 2 to 3 values, got 1"),
        ("attention(heads = 12)", "[N, 197, 768] [N, 197, 768] [N, 197, 768]", "[N, 197, 768]"),
        ("attention", "[N, 12, 197, 64] [N, 12, 50, 64] [N, 12, 50, 32] [197, 50]", "[N, 12, 197, 32]"),
        ("attention(heads = 3)", "[N, 4, 49, 9] [N, 4, 49, 9] [N, 4, 49, 9] [4, 1, 49, 49]", "[N, 4, 49, 9]"),
        ("attention", "[1, 2, 8] [N, 9, 8] [N, 9, 8]", "[N, 2, 8]"),
        (
            "attention",
            "[3, 2, 8] [N, 9, 8] [N, 9, 8]",
            "`attention` needs q, k and v as [.., L, heads * d], [.., S, heads * d] and [.., S, heads * dv], \
             got [3, 2, 8], [N, 9, 8] and [N, 9, 8]",
        ),
        (
            "attention",
            "[N, 8] [N, 8] [N, 8]",
            "`attention` needs q, k and v as [.., L, heads * d], [.., S, heads * d] and [.., S, heads * dv], \
             got [N, 8], [N, 8] and [N, 8]",
        ),
        (
            "attention(heads = 2)",
            "[N, 4, 8] [N, 5, 8] [N, 5, 8] [3, 4, 5]",
            "`attention` needs a mask that is broadcast to the scores [N, 2, 4, 5], got [3, 4, 5]",
        ),
        (
            "attention",
            "[N, 3, 4, 8] [N, 3, 5, 8] [N, 3, 5, 8] [N, 4, 5]",
            "`attention` needs a mask that is broadcast to the scores [N, 3, 4, 5], got [N, 4, 5]",
        ),
        (
            "attention(heads = 5)",
            "[N, 4, 8] [N, 4, 8] [N, 4, 8]",
            "`attention` needs q divisible by 5 heads, got 8 features",
        ),
        ("attention(scale = 0)", "", "`scale` of `attention` needs a number above 0, got 0"),
        ("lstm_scan", "[N, 32, 384] [384, 96]", "[N, 32, 96]"),
        ("lstm_scan", "[N, 7, 32, 8] [8, 2] [N, 7, 32, 8] [8, 2]", "[N, 7, 32, 4]"),
        ("lstm_scan", "[5, 8] [8, 2]", "[5, 2]"),
        ("lstm_scan", "[N, 8] [8, 2]", "`lstm_scan` needs gates [.., L, 4 * hidden], got [N, 8]"),
        ("lstm_scan", "[N, 5, 6] [6, 2]", "`lstm_scan` needs gates [.., L, 4 * hidden], got [N, 5, 6]"),
        ("lstm_scan", "[N, 5, 8] [8, 3]", "`lstm_scan` needs a weight [8, 2] beside gates [N, 5, 8], got [8, 3]"),
        ("lstm_scan", "[N, 5, 8] [N, 8, 2]", "`lstm_scan` needs a weight [8, 2] beside gates [N, 5, 8], got [N, 8, 2]"),
        (
            "lstm_scan",
            "[N, 5, 8] [8, 2] [N, 5, 8]",
            "`lstm_scan` takes gates and a weight, or two such pairs, got 3 values",
        ),
        (
            "lstm_scan",
            "[N, 5, 8] [8, 2] [N, 4, 8] [8, 2]",
            "`lstm_scan` needs gates of one shape in both directions, got [N, 5, 8] and [N, 4, 8]",
        ),
        (
            "lstm_scan(reverse = true)",
            "[N, 5, 8] [8, 2] [N, 5, 8] [8, 2]",
            "`lstm_scan` of two pairs takes no `reverse`: the second runs backwards",
        ),
        ("conv2d(8, kernel = 3, padding = 1)", "[3, 7, 9]", "[8, 7, 9]"),
        ("conv2d(8, kernel = 3, stride = 2)", "[2, 3, 7, 9]", "[2, 8, 3, 4]"),
        (
            "conv2d(8, kernel = 3)",
            "[196, 768]",
            "`conv2d` of a value without batch needs [C, H, W] or [K, C, H, W], got [196, 768]",
        ),
        ("conv1d(8, kernel = 3)", "[4, 9]", "[8, 7]"),
        ("conv1d(8, kernel = 3)", "[2, 4, 9]", "[2, 8, 7]"),
        ("conv1d(8, kernel = 3)", "[N, 2, 4, 9]", "`conv1d` needs [N, C, L], got [N, 2, 4, 9]"),
        ("conv1d(8, kernel = 3)", "[9]", "`conv1d` of a value without batch needs [C, L] or [K, C, L], got [9]"),
        ("conv_transpose2d(6, kernel = 2, stride = 2)", "[4, 3, 5]", "[6, 6, 10]"),
        ("max_pool2d(2)", "[3, 7, 8]", "[3, 3, 4]"),
        ("adaptive_avg_pool2d([3, 5])", "[2, 4, 7, 7]", "[2, 4, 3, 5]"),
        ("global_max_pool2d", "[64, 7, 7]", "[64]"),
        (
            "global_avg_pool2d",
            "[64]",
            "`global_avg_pool2d` of a value without batch needs [C, H, W] or [K, C, H, W], got [64]",
        ),
        ("upsample(size = [16, 20], mode = bicubic)", "[1, 768, 14, 14]", "[1, 768, 16, 20]"),
        ("upsample(2)", "[768, 7, 5]", "[768, 14, 10]"),
        ("pixel_shuffle(2)", "[12, 4, 5]", "[3, 8, 10]"),
        ("unfold(3)", "[2, 5, 6]", "[18, 12]"),
        ("fold([5, 6], kernel = 3)", "[18, 12]", "[2, 5, 6]"),
        (
            "fold([5, 6], kernel = 3)",
            "[18]",
            "`fold` of a value without batch needs [C * 9, L] or [K, C * 9, L], got [18]",
        ),
        ("prelu(3)", "[N, 4]", "`prelu` has 3 slopes, its input [N, 4] has 4 channels"),
        ("prelu", "[N]", "[N]"),
        ("relu(3)", "", "`relu` takes no arguments"),
        ("gelu(approximate = tan)", "", "`approximate` of `gelu` needs one of `none` `tanh`, got tan"),
        ("clamp", "", "`clamp` needs `min`, `max` or both, got none"),
        ("clamp(min = 2, max = 1)", "", "`clamp` needs `min` up to `max`, got 2 and 1"),
        ("dropout(1.5)", "", "`p` of `dropout` needs a probability from 0 to 1, got 1.5"),
        ("dropout(always = true)", "[4]", "`dropout(always = true)` needs a batch, [N, ..], got [4]"),
        ("stochastic_depth", "", "`stochastic_depth` needs `p`: probability of a zero, from 0 to 1"),
        ("softmax(0)", "[N, 4]", "`softmax` needs an axis of [N, 4] after the batch, got 0"),
        ("softmax(-3)", "[N, 4]", "`softmax` needs an axis of [N, 4], got -3"),
        ("softmax(0)", "[3, 4]", "[3, 4]"),
        ("max_pool2d(3, stride = 2, padding = 1)", "[N, 64, 112, 112]", "[N, 64, 56, 56]"),
        ("max_pool2d(2)", "[N, 64, 7, 7]", "[N, 64, 3, 3]"),
        ("max_pool2d(2, stride = 2, ceil_mode = true)", "[N, 64, 7, 7]", "[N, 64, 4, 4]"),
        ("max_pool2d(3, stride = 2, ceil_mode = true)", "[N, 1, 4, 2]", "[N, 1, 2, 1]"),
        ("max_pool2d(2, stride = 3, ceil_mode = true)", "[N, 1, 4, 5]", "[N, 1, 2, 2]"),
        ("max_pool2d(2, stride = 3, ceil_mode = true)", "[N, 1, 3, 6]", "[N, 1, 1, 2]"),
        ("max_pool2d(3, padding = 2)", "", "`padding` of `max_pool2d` needs at most half the window, 1, got 2"),
        (
            "avg_pool2d(8)",
            "[N, 64, 7, 7]",
            "`avg_pool2d` needs an image of the size of its 8 x 8 window or larger, got [N, 64, 7, 7]",
        ),
        ("adaptive_avg_pool2d((3, 5))", "[N, 2, 7, 7]", "[N, 2, 3, 5]"),
        ("global_avg_pool2d", "[N, 64, 7, 7]", "[N, 64]"),
        ("global_max_pool2d", "[N, 64]", "`global_max_pool2d` needs [N, C, H, W], got [N, 64]"),
        ("mean([2, -1])", "[N, 3, 4, 5]", "[N, 3]"),
        ("mean([2, -1], keep = true)", "[N, 3, 4, 5]", "[N, 3, 1, 1]"),
        ("amax([1, -3])", "[N, 3, 4, 5]", "`amax` needs different axes, got axis 1 twice"),
        ("flatten", "[N, 512, 7, 7]", "[N, 25088]"),
        ("flatten", "[2, 3, 4]", "[2, 12]"),
        ("flatten", "[N]", "`flatten` needs two axes or more, got [N]"),
        ("reshape(512, 4, 4)", "[N, 4096]", "`reshape` to [512, 4, 4] needs 8192 values, got 4096"),
        ("reshape(3, -1)", "[N, 4, 6]", "[N, 3, 8]"),
        ("reshape(5, -1)", "[N, 4, 6]", "`reshape` to [5, -1] needs a multiple of 5 values, got 24"),
        ("reshape(-1, -1)", "", "`reshape` needs one -1 at most, got several"),
        ("reshape([4, 6])", "[24]", "[4, 6]"),
        ("reshape([4], 6)", "", "`reshape` takes its arguments after the first by name"),
        ("reshape(4, shape = [6])", "", "`reshape` is given `shape` twice"),
        ("reshape", "", "`reshape` needs `shape`: lengths of the axes after the batch; one may be -1"),
        ("permute(0, 2, 3, 1)", "[N, 3, 4, 5]", "[N, 4, 5, 3]"),
        ("permute(1, 0)", "[3, 4]", "[4, 3]"),
        ("permute(2, 0, 1)", "[N, 3, 4]", "`permute` of [N, 3, 4] needs 0, the batch, as first axis, got 2"),
        ("permute(0, 1)", "[N, 3, 4]", "`permute` needs every axis of [N, 3, 4] once, 3 of them, got 2"),
        ("permute(0, 1, 1)", "[N, 3, 4]", "`permute` needs every axis of [N, 3, 4] once, got 1 twice"),
        ("chunk(3, axis = -1)", "[N, 3, 9]", "[N, 3, 3]"),
        ("chunk(2)", "[N, 3, 9]", "`chunk` needs an axis divisible by 2 parts, got 3 (axis 1 of [N, 3, 9])"),
        ("slice(1, -2)", "[N, 5]", "[N, 2]"),
        ("slice(1, 3, 99)", "[N, 5]", "[N, 2]"),
        (
            "slice(1, 3, 3)",
            "[N, 5]",
            "`slice` needs a part with something in it, got 3 to 3 of the 5 of axis 1 of [N, 5]",
        ),
        ("slice(0, 0, 1)", "[N, 5]", "`slice` needs an axis of [N, 5] after the batch, got 0"),
        ("slice(1, 2, 3, 4)", "", "`slice` takes 3 arguments at most"),
        ("pad(1, 2, 3, 4)", "[N, 3, 8, 8]", "[N, 3, 15, 11]"),
        ("pad(1, 2, 3)", "", "`pad` needs pairs of numbers, got 3 numbers"),
        ("pad(0, -1)", "", "`pad` needs numbers of 0 or more, got -1"),
        ("pad(1, 1, 1, 1)", "[N, 3]", "`pad` of [N, 3] needs 2 numbers at most, got 4"),
        ("roll(-3, axes = [1, 2])", "[N, 7, 7, 96]", "[N, 7, 7, 96]"),
        ("roll([1, 2], axes = 1)", "", "`roll` of 1 axes needs one shift or 1, got 2"),
        ("channel_shuffle(2)", "[N, 5, 2, 2]", "`channel_shuffle` needs channels divisible by 2 groups, got 5"),
        ("pixel_shuffle(2)", "[N, 12, 4, 5]", "[N, 3, 8, 10]"),
        ("pixel_shuffle(upscale_factor = 2)", "", "`pixel_shuffle` has no argument `upscale_factor`"),
        ("upsample(1.5)", "[N, 3, 5, 7]", "[N, 3, 7, 10]"),
        ("upsample(size = (3, 4))", "[N, 3, 5, 7]", "[N, 3, 3, 4]"),
        ("upsample", "", "`upsample` needs either `scale` or `size`, got neither"),
        ("upsample(2, size = 3)", "", "`upsample` needs either `scale` or `size`, got both"),
        (
            "upsample(0.1)",
            "[N, 3, 5, 7]",
            "`upsample` by 0.1 needs an image that keeps a pixel or more, got [N, 3, 5, 7]",
        ),
        ("add", "[N, 3, 4, 5] [N, 3]", "[N, 3, 4, 5]"),
        ("add", "[N, 3, 4, 5] [4, 1]", "[N, 3, 4, 5]"),
        ("add", "[N, 3, 4, 5] [3]", "`add` needs shapes that fit, got [N, 3, 4, 5] and [3]"),
        ("mul", "[N, 5] [2, 1, 5]", "`mul` needs shapes that fit, got [N, 5] and [2, 1, 5]"),
        ("sub", "[1, 1, 5] [N, 4, 1]", "[N, 4, 5]"),
        ("sub", "[N, 5]", "`sub` takes 2 values, got 1"),
        ("add(number = 2)", "[N, 5]", "[N, 5]"),
        ("concat", "[N, 3, 4] [N, 5, 4] [N, 1, 4]", "[N, 9, 4]"),
        ("concat", "[1, 1, 768] [N, 196, 768]", "[N, 197, 768]"),
        (
            "concat",
            "[2, 1, 768] [N, 196, 768]",
            "`concat` along axis 1 needs values that differ only there, got [N, 196, 768] and [2, 1, 768]",
        ),
        ("concat(axis = 0)", "[3, 4] [2, 4]", "[5, 4]"),
        ("concat(axis = 0)", "[N, 4] [N, 4]", "`concat` needs an axis of [N, 4] after the batch, got 0"),
        ("matmul", "[N, 3, 5, 4] [N, 3, 4, 5]", "[N, 3, 5, 5]"),
        ("matmul", "[N, 6, 5, 4] [4, 7]", "[N, 6, 5, 7]"),
        ("matmul", "[N, 4] [4, 7]", "[N, 7]"),
        ("matmul", "[5, 4] [N, 4, 7]", "[N, 5, 7]"),
        ("matmul", "[N, 4] [N, 4]", "`matmul` needs [.., m, k] and [.., k, n], got [N, 4] and [N, 4]"),
        ("matmul", "[N, 5, 4] [2, 4, 4]", "`matmul` needs [.., m, k] and [.., k, n], got [N, 5, 4] and [2, 4, 4]"),
        (
            "matmul",
            "[N, 5, 4] [3, 1, 4, 4]",
            "`matmul` needs [.., m, k] and [.., k, n], got [N, 5, 4] and [3, 1, 4, 4]",
        ),
        ("gather", "[169, 3] [2401]", "[2401, 3]"),
        (
            "gather",
            "[N, 3] [4]",
            "`gather` needs a table [rows, ..] and indices, both without batch, got [N, 3] and [4]",
        ),
        ("window_index(7)", "", "[2401]"),
        ("window_index(7, flat = false)", "", "[49, 49]"),
        ("window_index([2, 3])", "", "[36]"),
        ("window_coords(8)", "", "[1, 15, 15, 2]"),
        ("window_coords(1)", "", "`window` of `window_coords` needs 2 or more, got 1"),
        ("window_coords(8, pretrained = 1)", "", "`pretrained` of `window_coords` needs 2 or more, got 1"),
        ("window_mask(14, 28, 7, 3)", "", "[8, 1, 49, 49]"),
        ("window_coords([4, 2])", "", "[1, 7, 3, 2]"),
        ("window_mask(14, 6, [7, 6], [3, 0])", "", "[2, 1, 42, 42]"),
        ("window_mask(15, 28, 7, 3)", "", "`window_mask` needs a height divisible by the window, 7, got 15"),
        ("window_mask(14, 28, 7, 7)", "", "`window_mask` needs a shift below the window, 7, got 7"),
        ("parameter([1, 0])", "", "an axis needs a length of 1 or more, got 0"),
        ("parameter([100000, 100000, 1000])", "", "[100000, 100000, 1000]: the tensor has more than 2^40 bytes"),
    ];
    for (call, ins, wanted) in table {
        assert_eq!(inferred(call, ins), wanted, "{call} of {ins}");
    }
}

#[test]
fn other_names_are_named() {
    for (call, hint) in [
        ("conv2d(8, kernel_size = 3)", "it is called `kernel` here"),
        ("conv2d(8, kernal = 3)", "did you mean `kernel`?"),
        ("conv2d(8, in_channels = 3)", "the input's size is inferred: leave it out"),
        ("softmax(dim = 1)", "it is called `axis` here"),
        ("roll(1, dims = 2)", "it is called `axes` here"),
        ("mean(dims = 2)", "it is called `axis` here"),
        ("pixel_shuffle(upscale_factor = 2)", "it is called `r` here"),
        ("upsample(scale_factor = 2)", "it is called `scale` here"),
        ("conv2d(8, 3)", "write `kernel = ..`"),
    ] {
        assert_eq!(op(call).expect_err(call).hints, [hint], "{call}");
    }
}

#[test]
fn a_number_may_be_on_either_side_of_a_difference() {
    let x = Tensor::new([1, 2], vec![3.0, 5.0]);
    for (call, wanted) in [("sub(number = 1)", [2.0, 4.0]), ("sub(number = 1, swapped = true)", [-2.0, -4.0])] {
        let got = op(call).expect(call).eval(&[Operand { value: &x, batched: true }], &[], &[1, 2]);
        assert_eq!(got.data(), wanted, "{call}");
    }
}

/// torchvision's published figures count both projections and both products of an attention.
#[test]
fn multiply_adds_of_vit_b_16() {
    let macs = |call: &str, ins: &str| {
        let (op, ins) = (op(call).expect(call), shapes(ins));
        let ins: Vec<&Shape> = ins.iter().collect();
        op.macs(&ins, &op.infer(&ins).expect(call))
    };
    let tokens = "[N, 197, 768]";
    let block = macs("linear(2304)", tokens)
        + macs("attention(heads = 12)", &[tokens; 3].join(" "))
        + macs("linear(768)", tokens)
        + macs("linear(3072)", "[N, 197, 768]")
        + macs("linear(768)", "[N, 197, 3072]");
    let ends = macs("conv2d(768, kernel = 16, stride = 16)", "[N, 3, 224, 224]") + macs("linear(1000)", "[N, 768]");
    assert_eq!(12 * block + ends, 17_563_828_224);
    assert_eq!(macs("matmul", "[N, 12, 197, 64] [N, 12, 64, 197]"), 12 * 197 * 197 * 64);
    assert_eq!(macs("conv_transpose2d(6, kernel = 3, stride = 2, groups = 2)", "[N, 4, 5, 5]"), 4 * 25 * 9 * 3);
}

#[test]
fn fans_are_pytorchs() {
    use archc::stages::ops::init::Init;
    let init = |call: &str, ins: &str, at: usize| {
        let (op, ins) = (op(call).expect(call), shapes(ins));
        op.params(&ins.iter().collect::<Vec<_>>())[at].init.clone()
    };
    let bound = |fan: f64| Init::Uniform { bound: 1.0 / fan.sqrt() };
    assert_eq!(init("conv2d(8, kernel = 3, groups = 2)", "[N, 4, 5, 5]", 1), bound(18.0));
    assert_eq!(init("conv_transpose2d(8, kernel = 3, groups = 2)", "[N, 4, 5, 5]", 0), bound(36.0));
    assert_eq!(init("linear(8)", "[N, 4]", 0), bound(4.0));
    assert_eq!(init("linear(8, init = zeros)", "[N, 4]", 1), Init::Zeros);
    assert_eq!(init("batch_norm2d(init = zeros)", "[N, 4, 5, 5]", 0), Init::Zeros);
}

#[test]
fn functions_are_known_to_passes() {
    for (call, activation, random, elementwise) in [
        ("relu", true, false, true),
        ("clamp(max = 6)", true, false, true),
        ("softmax", false, false, false),
        ("prelu", false, false, false),
        ("dropout", false, true, true),
        ("identity", false, false, true),
        ("stochastic_depth(0.1)", false, true, true),
        ("add", false, false, true),
        ("matmul", false, false, false),
    ] {
        let op = op(call).expect(call);
        let got = (op.activation().is_some(), op.is_random(), op.is_elementwise());
        assert_eq!(got, (activation, random, elementwise), "{call}");
    }
}

/// Arguments and shapes drawn from sizes that overflow, vanish or repeat: an error or a shape, never a panic. Where the
/// result is small, it is computed, and has the shape that was inferred.
#[test]
fn nothing_panics() {
    let philox = Philox::named(7, "ops");
    let mut words = (0..).flat_map(|block| philox.block(block));
    let mut draw = |n: usize| words.next().map_or(0, |word| word as usize % n);
    let mut made = 0;
    let mut computed = 0;
    for entry in MANUAL {
        for _ in 0..3000 {
            let huge = draw(3) == 0;
            let mut args = vec![];
            for decl in entry.args {
                if decl.default.is_none() || draw(3) == 0 {
                    args.push(Arg { name: Some(decl.name.into()), value: any(decl.kind, huge, &mut draw) });
                }
            }
            let Ok(op) = (entry.make)(&args) else { continue };
            made += 1;
            let operands = match op.arity() {
                archc::stages::ops::Arity::Between(least, most) => least + draw(most - least + 1),
                archc::stages::ops::Arity::Exactly(n) => n,
                archc::stages::ops::Arity::AtLeast(n) => n + draw(3),
            };
            let like = any_shape(huge, &mut draw);
            let mut ins = vec![];
            for _ in 0..operands {
                let mut other = if draw(2) == 0 { like.clone() } else { any_shape(huge, &mut draw) };
                if other.check().is_err() {
                    other = Shape::image(8, 6, 6);
                }
                ins.push(other);
            }
            let ins: Vec<&Shape> = ins.iter().collect();
            let Ok(out) = op.infer(&ins) else { continue };
            let params = op.params(&ins);
            op.macs(&ins, &out);
            let small = |dims: &[usize]| dims.iter().try_fold(1usize, |all, dim| all.checked_mul(*dim)) < Some(5000);
            let sizes = ins.iter().map(|shape| &shape.dims).chain(params.iter().map(|param| &param.shape));
            if entry.name == "input" || !sizes.chain([&out.dims]).all(|dims| small(dims)) {
                continue;
            }
            let mut fill = |dims: Vec<usize>| {
                let len = dims.iter().product();
                Tensor::new(dims, (0..len).map(|_| draw(5) as f32 - 1.0).collect())
            };
            let values: Vec<Tensor> = ins.iter().map(|shape| fill(shape.concrete(2))).collect();
            let params: Vec<Tensor> = params.into_iter().map(|param| fill(param.shape)).collect();
            let operands = values.iter().zip(&ins).map(|(value, shape)| Operand { value, batched: shape.batched });
            let operands: Vec<Operand> = operands.collect();
            let result = op.eval(&operands, &params.iter().collect::<Vec<_>>(), &out.concrete(2));
            assert_eq!(result.shape(), out.concrete(2), "{op}");
            computed += 1;
        }
    }
    println!("{made} ops made, {computed} computed");
    assert!(made > 50_000 && computed > 5_000, "{made} {computed}");
}

fn any(kind: &str, huge: bool, draw: &mut impl FnMut(usize) -> usize) -> Attr {
    const HUGE: [i64; 8] = [i64::MIN, -1 << 31, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 62, i64::MAX];
    let int = |draw: &mut dyn FnMut(usize) -> usize| match draw(if huge { 2 } else { 1 }) {
        0 => Attr::Int([1, 2, 3, 4, 1, 2, 0, -1][draw(8)]),
        _ => Attr::Int(HUGE[draw(HUGE.len())]),
    };
    match kind {
        "number" => Attr::Float([0.0, 0.5, 1.0, 1e-5, 2.0, -1.0, 1e300, f64::NAN, f64::INFINITY][draw(9)]),
        "boolean" => Attr::Bool(draw(2) == 0),
        "word" => Attr::Word(["none", "tanh", "nearest", "bilinear", "bicubic"][draw(5)].into()),
        "integers" => Attr::List((0..draw(6)).map(|_| int(draw)).collect()),
        "initialiser" => Attr::Word("zeros".into()),
        "lists of numbers" => {
            let row = |draw: &mut dyn FnMut(usize) -> usize| {
                let number = |draw: &mut dyn FnMut(usize) -> usize| match draw(8) {
                    0 => Attr::Float([f64::NAN, f64::INFINITY, 1e300, 1e-60][draw(4)]),
                    1 => Attr::Int(HUGE[draw(HUGE.len())]),
                    2 => Attr::List(vec![]),
                    _ => Attr::Float(draw(9) as f64 / 4.0 - 1.0),
                };
                Attr::List((0..draw(4)).map(|_| number(draw)).collect())
            };
            match draw(4) {
                0 => row(draw),
                1 => Attr::List((0..draw(3)).map(|_| row(draw)).collect()),
                2 => Attr::List(vec![Attr::List(vec![Attr::Int(1), Attr::Int(2)]); 3]),
                _ => Attr::Float(draw(5) as f64),
            }
        }
        "pair" | "pair or `same`" if draw(3) == 0 => Attr::List(vec![int(draw), int(draw)]),
        "pair or `same`" if draw(3) == 0 => Attr::Word("same".into()),
        _ => int(draw),
    }
}

fn any_shape(huge: bool, draw: &mut impl FnMut(usize) -> usize) -> Shape {
    let dims = (0..[3, 3, 3, 2, 1, 0, 4, 5][draw(8)]).map(|_| match draw(if huge { 2 } else { 1 }) {
        0 => [1, 2, 3, 4, 6, 8][draw(6)],
        _ => [1 << 10, 1 << 20, 1 << 31][draw(3)],
    });
    let dims: Vec<usize> = dims.collect();
    Shape { batched: draw(4) != 0, dims }
}
