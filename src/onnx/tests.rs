//! Networks of every op, written, read again by the importer, and run by the plain reference both ways.

use std::path::Path;

use super::*;
use crate::exec::reference;
use crate::exec::testing::{Random, SAMPLES, distance, noise, sample_network};
use crate::import::{Imported, import};
use crate::opt::testing::network;
use crate::tensor::Tensor;
use prost::Message;

/// Ops whose words in ONNX are not read again, and why.
const ONE_WAY: &[(&str, &str)] = &[
    ("lstm_scan", "the language has the recurrent part alone, ONNX's `LSTM` the whole"),
    ("always = true", "what is drawn at inference is refused"),
    ("identity", "a network that gives its input is refused"),
    ("dropout", "the same: what training alone needs is not written"),
    ("stochastic_depth", "the same"),
];

fn written(typed: &Typed, folder: &Path, options: &Options) -> std::path::PathBuf {
    let path = folder.join("net.onnx");
    export(typed, &Random(typed), &path, options).unwrap_or_else(|problem| panic!("{problem:?}\n{}", typed.graph()));
    path
}

fn inputs(typed: &Typed, batch: usize) -> Vec<(String, Tensor)> {
    let of = |(at, (name, id)): (usize, (&String, &crate::graph::NodeId))| {
        let shape = typed.shape(*id).concrete(batch);
        (name.clone(), Tensor::new(shape.clone(), noise(shape.iter().product(), 1 << 40 | at as u64)))
    };
    typed.graph().inputs().iter().enumerate().map(of).collect()
}

/// The outputs of a network, in their order.
fn outputs(typed: &Typed, tensors: &dyn crate::exec::Tensors, given: &[(String, Tensor)]) -> Vec<Tensor> {
    let own = typed.graph().inputs().keys();
    let given: Vec<(&str, &Tensor)> = own.zip(given).map(|(name, (_, tensor))| (name.as_str(), tensor)).collect();
    let results = reference::run(typed, tensors, given[0].1.shape()[0], &given).unwrap();
    results.into_iter().map(|(_, tensor)| tensor).collect()
}

/// How far what comes back lies from what was written; why it does not come back.
fn apart(typed: &Typed, imported: &Imported) -> f64 {
    let again = imported.typed().unwrap();
    let given = inputs(typed, 3);
    let (want, got) = (outputs(typed, &Random(typed), &given), outputs(&again, imported, &given));
    assert_eq!(want.len(), got.len());
    let each = want.iter().zip(&got).map(|(want, got)| {
        assert_eq!(want.shape(), got.shape());
        distance(want.data(), got.data())
    });
    each.fold(0.0, f64::max)
}

#[test]
fn every_op_comes_back_from_every_operator_set() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = vec![];
    for (call, operands) in SAMPLES {
        if ONE_WAY.iter().any(|(text, _)| call.contains(text))
            || !operands.iter().any(|operand| !operand.starts_with('p'))
        {
            continue;
        }
        for text in sample_network(call, operands) {
            let typed = network(&text);
            // a transposed convolution of a constant, before `Col2Im`, is no layer
            let opsets: &[i64] = if call.starts_with("fold") { &[18, 20, 23] } else { &[13, 17, 20, 23] };
            for opset in opsets.iter().copied() {
                let path = written(&typed, folder.path(), &Options { opset, ..Options::default() });
                match import(&path) {
                    Ok(imported) => {
                        let apart = apart(&typed, &imported);
                        if apart.is_nan() || apart > 2e-5 {
                            wrong.push(format!("{call} at {opset} is off by {apart:.1e}"));
                        }
                    }
                    Err(problem) => {
                        let problem = problem.in_full();
                        wrong.push(format!("{call} at {opset}: {} {:?}", problem.message, problem.notes));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_written_one_way_alone_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let is_one_way = |call: &str| ONE_WAY.iter().any(|(text, _)| call.contains(text));
    for (call, operands) in SAMPLES.iter().filter(|(call, _)| is_one_way(call)) {
        for text in sample_network(call, operands) {
            let path = written(&network(&text), folder.path(), &Options::default());
            let model = proto::Model::decode(&std::fs::read(path).unwrap()[..]).unwrap();
            assert!(!model.graph.unwrap().node.is_empty(), "{call}");
        }
    }
}

const NET: &str = "x = input([3, 9, 8])
    stem.conv = conv2d(6, kernel = 3, padding = 1, bias = false) <- x
    stem.norm = batch_norm2d <- stem.conv
    act = relu <- stem.norm
    pool = global_avg_pool2d <- act
    drop = dropout(0.2) <- pool
    fc = linear(4) <- drop";

/// Checks what every file of ONNX keeps: names are made before they are used, once, and tensors fill their shapes.
fn checked(model: &proto::Model) -> &proto::Graph {
    let graph = model.graph.as_ref().expect("a graph");
    let mut names: std::collections::HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    for tensor in &graph.initializer {
        assert!(names.insert(&tensor.name), "{} is there twice", tensor.name);
    }
    for node in &graph.node {
        let missing = node.input.iter().find(|name| !name.is_empty() && !names.contains(name.as_str()));
        assert_eq!(missing, None, "{} takes what is not there", node.name);
        for name in &node.output {
            assert!(names.insert(name), "{name} is made twice");
        }
    }
    assert!(graph.output.iter().all(|output| names.contains(output.name.as_str())));
    graph
}

#[test]
fn a_file_says_layers_keys_and_modules() {
    let folder = tempfile::tempdir().unwrap();
    let typed = network(NET);
    let metadata = vec![("classes".to_string(), "[\"a\"]".to_string())];
    let path = written(&typed, folder.path(), &Options { metadata, ..Options::default() });
    let model = proto::Model::decode(&std::fs::read(&path).unwrap()[..]).unwrap();
    assert_eq!((model.producer_name.as_str(), model.opset_import[0].version), ("archc", 20));
    assert_eq!(model.metadata_props[0].value, "[\"a\"]");
    let graph = checked(&model);
    let nodes: Vec<String> = graph.node.iter().map(|node| format!("{} {}", node.op_type, node.name)).collect();
    assert_eq!(nodes, ["Conv stem.conv", "BatchNormalization stem.norm", "Relu act", "ReduceMean pool", "Gemm fc"]);
    let keys: Vec<&str> =
        graph.initializer.iter().map(|tensor| tensor.name.as_str()).filter(|name| !name.starts_with('/')).collect();
    let norm = ["weight", "bias", "running_mean", "running_var"].map(|name| format!("stem.norm.{name}"));
    let wanted: Vec<&str> = ["stem.conv.weight"]
        .into_iter()
        .chain(norm.iter().map(String::as_str))
        .chain(["fc.weight", "fc.bias"])
        .collect();
    assert_eq!(keys, wanted);
    let batch =
        |info: &proto::ValueInfo| info.kind.clone().unwrap().tensor.unwrap().shape.unwrap().dim[0].param.clone();
    assert!(graph.input.iter().chain(&graph.output).all(|info| batch(info).as_deref() == Some("N")));
    let scopes = graph.node[0].metadata_props.iter().find(|entry| entry.key.ends_with("name_scopes")).unwrap();
    assert_eq!(scopes.value, "['', 'stem.conv', 'Conv']");
}

#[test]
fn batch_norms_go_into_the_layers_before() {
    let folder = tempfile::tempdir().unwrap();
    for text in [
        NET,
        "x = input([5])\n l = linear(4) <- x\n n = batch_norm1d <- l\n y = relu <- n",
        "x = input([3, 4, 5])\n c = conv_transpose2d(4, kernel = 2, stride = 2) <- x\n n = batch_norm2d(affine = false) <- c",
    ] {
        let typed = network(text);
        let path = written(&typed, folder.path(), &Options { fold: true, ..Options::default() });
        let model = proto::Model::decode(&std::fs::read(&path).unwrap()[..]).unwrap();
        assert!(checked(&model).node.iter().all(|node| node.op_type != "BatchNormalization"), "{text}");
        let apart = apart(&typed, &import(&path).unwrap());
        assert!(apart < 2e-5, "{text}: {apart}");
    }
    // a value that somebody else takes stays as it is
    let shared =
        network("x = input([3, 4, 5])\n c = conv2d(4, kernel = 1) <- x\n n = batch_norm2d <- c\n y = add <- n, c");
    let path = written(&shared, folder.path(), &Options { fold: true, ..Options::default() });
    let model = proto::Model::decode(&std::fs::read(&path).unwrap()[..]).unwrap();
    assert!(checked(&model).node.iter().any(|node| node.op_type == "BatchNormalization"));
}

#[test]
fn tensors_may_be_narrow_and_lie_beside() {
    let folder = tempfile::tempdir().unwrap();
    let typed = network(NET);
    for (dtype, limit) in [(DType::F32, 1e-6), (DType::F16, 2e-3), (DType::Bf16, 2e-2)] {
        for external_data in [None, Some(true)] {
            let path = written(&typed, folder.path(), &Options { dtype, external_data, ..Options::default() });
            let beside = folder.path().join("net.onnx.data");
            assert_eq!(beside.exists(), external_data.is_some());
            let apart = apart(&typed, &import(&path).unwrap());
            assert!(apart < limit && (dtype == DType::F32 || apart > 1e-6), "{dtype:?}: {apart}");
            let _ = std::fs::remove_file(beside);
        }
    }
}

#[test]
fn an_operator_set_that_is_not_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let typed = network(NET);
    for opset in [12, 99] {
        let path = folder.path().join("net.onnx");
        let problem = export(&typed, &Random(&typed), &path, &Options { opset, ..Options::default() }).unwrap_err();
        assert!(problem.message.contains(&format!("got {opset}")), "{}", problem.message);
        assert!(!path.exists());
    }
}
