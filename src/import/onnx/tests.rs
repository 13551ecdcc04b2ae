//! Small networks that PyTorch's exporters wrote, imported and run; and files that nobody should have written.

use std::path::{Path, PathBuf};

use prost::Message;

use crate::diag::Problem;
use crate::exec::reference;
use crate::import::{Imported, import};
use crate::onnx::proto::{Attribute, AttributeType, Entry, Model, Node, Tensor};
use crate::tensor::Tensor as Values;
use crate::weights::Store;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/onnx")
}

#[test]
fn what_was_imported_computes_what_pytorch_does_with_another_batch() {
    let goldens = Store::open_file(&folder().with_file_name("import.safetensors")).unwrap();
    let golden = |key: &str| Values::new(goldens.tensors()[key].shape.clone(), goldens.read(key).unwrap());
    let (x, wanted) = (golden("blocks.x"), golden("blocks.y.output"));
    for name in ["blocks-dynamo", "blocks-script"] {
        let imported =
            import(&folder().join(format!("{name}.onnx"))).unwrap_or_else(|problem| panic!("{name}: {problem:#?}"));
        let typed = imported.typed().unwrap();
        let input = typed.graph().inputs().keys().next().unwrap().clone();
        let outputs = reference::run(&typed, &imported, 3, &[(&input, &x)]).unwrap();
        let got = &outputs[0].1;
        assert_eq!(got.shape(), wanted.shape(), "{name}");
        let scale = wanted.data().iter().fold(0f32, |scale, value| scale.max(value.abs()));
        let apart = got.data().iter().zip(wanted.data()).fold(0f32, |apart, (a, b)| apart.max((a - b).abs()));
        assert!(apart <= 1e-5 * scale, "{name}: {apart} of {scale}");
    }
}

/// Batch norms went into the convolutions before, as both exporters do.
#[test]
fn keys_are_those_of_the_modules() {
    for name in ["blocks-dynamo", "blocks-script"] {
        let imported = import(&folder().join(format!("{name}.onnx"))).unwrap();
        let keys: Vec<&str> = imported.keys().map(|(key, _)| key).collect();
        let layers = ["layers.0.conv", "layers.1.conv", "fc"];
        let of_layers = layers.map(|layer| ["weight", "bias"].map(|key| format!("{layer}.{key}")));
        for key in of_layers.as_flattened() {
            assert!(keys.contains(&key.as_str()), "{name}: {key} is not in {keys:?}");
        }
    }
}

fn refused(problem: Result<Imported, Problem>) -> String {
    let problem = problem.err().expect("it is refused").in_full();
    [vec![problem.message], problem.notes, problem.hints].concat().join("\n")
}

/// `blocks` with a change.
fn edited(change: impl FnOnce(&mut Model)) -> Result<Imported, Problem> {
    let mut model = Model::decode(&std::fs::read(folder().join("blocks-dynamo.onnx")).unwrap()[..]).unwrap();
    change(&mut model);
    bytes(&model.encode_to_vec())
}

fn bytes(bytes: &[u8]) -> Result<Imported, Problem> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    std::fs::write(&path, bytes).unwrap();
    import(&path)
}

fn nodes(model: &mut Model) -> &mut Vec<Node> {
    &mut model.graph.as_mut().unwrap().node
}

fn weight(model: &mut Model) -> &mut Tensor {
    let tensors = &mut model.graph.as_mut().unwrap().initializer;
    tensors.iter_mut().find(|tensor| tensor.name.ends_with("conv.weight")).unwrap()
}

fn lies_in(model: &mut Model, location: &str, offset: &str) {
    let tensor = weight(model);
    let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into() };
    tensor.external_data = vec![entry("location", location), entry("offset", offset)];
    (tensor.data_location, tensor.raw_data) = (1, prost::bytes::Bytes::new());
}

#[test]
fn damaged_files_are_refused_with_a_reason() {
    type Change = fn(&mut Model);
    let cases: &[(Change, &str)] = &[
        (|model| model.opset_import[0].version = 12, "has opset 12, archc reads 13"),
        (|model| model.opset_import.clear(), "names no version"),
        (|model| model.graph = None, "is damaged, or is no file of ONNX"),
        (|model| nodes(model).reverse(), "used before it is made"),
        (|model| nodes(model)[1].output = nodes(model)[0].output.clone(), "two values called"),
        (|model| model.graph.as_mut().unwrap().output.clear(), "without outputs"),
        (
            |model| {
                nodes(model)[0].attribute.push(Attribute { kind: AttributeType::Graph as i32, ..Attribute::default() })
            },
            "is control flow",
        ),
        (
            |model| {
                nodes(model)
                    .iter_mut()
                    .filter(|node| node.op_type == "Conv")
                    .for_each(|node| node.op_type = "Det".into())
            },
            "`Det`, 2 times, first at",
        ),
        (|model| nodes(model)[0].domain = "com.microsoft".into(), "`com.microsoft::"),
        (|model| weight(model).dims = vec![6, 6, 3, 4], "and the file holds"),
        (|model| weight(model).dims = vec![i64::MAX, 2], "more than memory can hold"),
        (|model| weight(model).dims = vec![1 << 31, 1 << 20], "and the file holds"),
        (|model| weight(model).dims = vec![-1, 6], "has an axis of -1"),
        (|model| weight(model).dims = vec![1; 65], "has 65 axes"),
        (|model| weight(model).data_type = 8, "is of ONNX's type 8"),
        (|model| lies_in(model, "../secret", "0"), "outside of the file's folder"),
        (|model| lies_in(model, "/etc/passwd", "0"), "outside of the file's folder"),
        (|model| lies_in(model, "", "0"), "outside of the file's folder"),
        (|model| lies_in(model, "net.onnx", "99999999999"), "reaches beyond"),
        (|model| lies_in(model, "net.onnx", "-1"), "has the offset `-1`"),
        (|model| lies_in(model, "none.data", "0"), "none.data"),
    ];
    for (change, wanted) in cases {
        let got = refused(edited(change));
        assert!(got.contains(wanted), "wanted {wanted}, got {got}");
    }
}

#[test]
fn files_that_are_none_are_refused() {
    assert!(refused(bytes(b"")).contains("is empty"));
    assert!(refused(bytes(b"PK\x03\x04 an archive")).contains("is no file of ONNX"));
    let whole = std::fs::read(folder().join("blocks-dynamo.onnx")).unwrap();
    for part in 0..24 {
        assert!(bytes(&whole[..whole.len() * part / 24]).is_err(), "{part} of 24 parts");
    }
    // little in the file, much in memory
    let empty = [0x3a, 0].repeat(1 << 20);
    assert!(bytes(&empty).is_err());
    let mut graph = vec![];
    prost::encoding::encode_key(7, prost::encoding::WireType::LengthDelimited, &mut graph);
    prost::encoding::encode_varint(4 << 20, &mut graph);
    graph.extend([0x0a, 0].repeat(2 << 20));
    assert!(refused(bytes(&graph)).contains("more than"));
}

#[test]
fn bytes_that_nobody_wrote_do_no_harm() {
    let whole = std::fs::read(folder().join("blocks-dynamo.onnx")).unwrap();
    let mut seed = 11u64;
    for _ in 0..200 {
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        let mut changed = whole.clone();
        for _ in 0..3 {
            let at = next(changed.len());
            changed[at] = next(256) as u8;
        }
        // what comes of it does not matter, as long as it comes
        drop(bytes(&changed));
    }
}
