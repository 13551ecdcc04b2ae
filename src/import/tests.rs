//! Small networks that PyTorch exported, imported and run; and files that nobody should have written.

use std::path::{Path, PathBuf};

use super::*;
use crate::exec::reference;
use crate::tensor::Tensor;
use crate::weights::Store;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/import").join(format!("{name}.pt2"))
}

fn imported(name: &str) -> Imported {
    import(&file(name)).unwrap_or_else(|problem| panic!("{name}: {problem:#?}"))
}

/// Paths and ops in the order of the graph.
fn listed(imported: &Imported) -> String {
    let graph = imported.graph();
    let line = |id: &crate::graph::NodeId| {
        let operands: Vec<String> = graph.operands(*id).iter().map(|id| graph.node(*id).path.clone()).collect();
        let node = graph.node(*id);
        let tied = node.tied.map(|owner| format!(" tied to {}", graph.node(owner).path)).unwrap_or_default();
        format!("{}: {} <- {}{tied}\n", node.path, node.op, operands.join(", "))
    };
    graph.order().iter().map(line).collect()
}

#[test]
fn what_was_imported_computes_what_pytorch_does_with_another_batch() {
    let goldens = Store::open_file(&file("x").with_file_name("../import.safetensors")).unwrap();
    let golden = |key: &str| Tensor::new(goldens.tensors()[key].shape.clone(), goldens.read(key).unwrap());
    let names = [
        "blocks",
        "dynamic",
        "windows",
        "windows2",
        "heads",
        "heads1",
        "shared",
        "standardised",
        "positions",
        "ends",
        "basic",
        "bottleneck",
        "inverted",
        "regnet",
        "convnext",
        "mbconv",
    ];
    for name in names {
        let imported = imported(name);
        let typed = imported.typed().unwrap();
        let x = golden(&format!("{name}.x"));
        let input = typed.graph().inputs().keys().next().unwrap().clone();
        let outputs = reference::run(&typed, &imported, 3, &[(&input, &x)]).unwrap();
        for (at, (output, got)) in outputs.iter().enumerate() {
            let key = match (name, at) {
                ("ends", 0) => "ends.y.out".to_string(),
                _ => format!("{name}.y.{output}"),
            };
            let wanted = golden(&key);
            assert_eq!(got.shape(), wanted.shape(), "{key}");
            let scale = wanted.data().iter().fold(0f32, |scale, value| scale.max(value.abs()));
            let apart = got.data().iter().zip(wanted.data()).fold(0f32, |apart, (a, b)| apart.max((a - b).abs()));
            assert!(apart <= 1e-5 * scale, "{key}: {apart} of {scale}\n{}", listed(&imported));
        }
        assert!(imported.proof.worst < 1e-5 && imported.proof.compared > 3, "{name}: {:?}", imported.proof);
    }
}

#[test]
fn graphs_are_those_of_the_modules() {
    for name in ["blocks", "windows", "heads", "shared", "standardised", "positions", "ends"] {
        let imported = imported(name);
        let keys: Vec<&str> = imported.keys().map(|(key, _)| key).collect();
        let text = format!("{}keys: {}\nunused: {}\n", listed(&imported), keys.join(" "), imported.unused.join(" "));
        insta::with_settings!({ snapshot_path => "../../tests/expect/import", prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, text);
        });
    }
}

#[test]
fn a_graph_does_not_depend_on_the_batch_of_the_export() {
    for (one, other) in [("windows", "windows2"), ("heads", "heads1"), ("blocks", "dynamic")] {
        assert_eq!(listed(&imported(one)), listed(&imported(other)), "{one} and {other}");
    }
}

fn refused(problem: Result<Imported, Problem>) -> String {
    let problem = problem.err().expect("it is refused").in_full();
    [vec![problem.message], problem.notes, problem.hints].concat().join("\n")
}

#[test]
fn what_cannot_be_said_is_named() {
    let mixed = refused(import(&file("mixed")));
    assert_eq!(mixed, "1 op of the network cannot be written in the language\n`mean`: it mixes the samples of a batch");
    let unknown = refused(import(&file("unknown")));
    let wanted = "the language has no op for 3 kinds of the network\n`aten.cosh.default`, 2 times, first\n\
                  `aten.digamma.default`\n`aten.linalg_det.default`";
    assert_eq!(unknown, wanted);
}

/// The entries of a file.
fn entries(name: &str) -> Vec<(String, Vec<u8>)> {
    let mut zip = zip::ZipArchive::new(std::fs::File::open(file(name)).unwrap()).unwrap();
    (0..zip.len())
        .map(|at| {
            let mut entry = zip.by_index(at).unwrap();
            let mut bytes = vec![];
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            (entry.name().unwrap().to_string(), bytes)
        })
        .collect()
}

/// Imports a file of these entries.
fn packed(entries: &[(String, Vec<u8>)], method: zip::CompressionMethod) -> Result<Imported, Problem> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.pt2");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    for (name, bytes) in entries {
        zip.start_file(name.as_str(), zip::write::SimpleFileOptions::default().compression_method(method)).unwrap();
        std::io::Write::write_all(&mut zip, bytes).unwrap();
    }
    zip.finish().unwrap();
    import(&path)
}

/// Imports `blocks` with an entry changed.
fn edited(ending: &str, change: impl FnOnce(&mut serde_json::Value)) -> Result<Imported, Problem> {
    let mut entries = entries("blocks");
    let entry = entries.iter_mut().find(|(name, _)| name.ends_with(ending)).unwrap();
    let mut value = serde_json::from_slice(&entry.1).unwrap();
    change(&mut value);
    entry.1 = serde_json::to_vec(&value).unwrap();
    packed(&entries, zip::CompressionMethod::Stored)
}

const MODEL: &str = "models/model.json";
const WEIGHTS: &str = "model_weights_config.json";

#[test]
fn damaged_files_are_refused_with_a_reason() {
    type Change = fn(&mut serde_json::Value);
    let cases: &[(&str, Change, &str)] = &[
        (MODEL, |json| json["schema_version"]["major"] = 9.into(), "has schema 9."),
        (MODEL, |json| drop(json["graph_module"].as_object_mut().unwrap().remove("graph")), "missing field `graph`"),
        (MODEL, |json| graph(json)["nodes"].as_array_mut().unwrap().reverse(), "used before it is made"),
        (
            MODEL,
            |json| graph(json)["nodes"][1]["outputs"] = graph(json)["nodes"][0]["outputs"].clone(),
            "two values called `conv2d`",
        ),
        (
            MODEL,
            |json| graph(json)["tensor_values"]["conv2d"]["sizes"][1]["as_int"] = (1i64 << 50).into(),
            "no size of `conv2d`",
        ),
        (MODEL, |json| graph(json)["tensor_values"]["conv2d"]["sizes"][1]["as_int"] = (1i64 << 35).into(), "more than"),
        (
            MODEL,
            |json| graph(json)["tensor_values"]["conv2d"]["sizes"][1]["as_int"] = 5.into(),
            "the file says [2, 5, 5, 7]",
        ),
        (MODEL, |json| graph(json)["tensor_values"]["conv2d"]["dtype"] = 29.into(), "PyTorch's type 29"),
        (
            MODEL,
            |json| graph(json)["nodes"][0]["inputs"][3]["arg"] = serde_json::json!({"as_ints": [0, 1]}),
            "`stride`",
        ),
        (
            MODEL,
            |json| graph(json)["nodes"][0]["inputs"][4]["arg"] = serde_json::json!({"as_ints": [-1, 1]}),
            "`padding`",
        ),
        (MODEL, |json| graph(json)["nodes"][0]["inputs"][0]["arg"] = serde_json::json!({"as_what": 1}), "`as_what`"),
        (MODEL, |json| graph(json)["nodes"][0]["inputs"][0]["arg"] = serde_json::json!({}), "an argument of no kind"),
        (MODEL, |json| json["graph_module"]["signature"]["output_specs"] = serde_json::json!([]), "without outputs"),
        (
            MODEL,
            |json| json["graph_module"]["signature"]["input_specs"][0]["parameter"]["parameter_name"] = "no".into(),
            "the values of `no` are missing",
        ),
        (
            WEIGHTS,
            |json| json["config"]["fc.weight"]["tensor_meta"]["sizes"][0]["as_int"] = 1000.into(),
            "reaches beyond the 18 values",
        ),
        (
            WEIGHTS,
            |json| json["config"]["fc.weight"]["tensor_meta"]["strides"][0]["as_int"] = 7.into(),
            "reaches beyond",
        ),
        (
            WEIGHTS,
            |json| json["config"]["fc.weight"]["tensor_meta"]["storage_offset"]["as_int"] = 1.into(),
            "reaches beyond",
        ),
        (
            WEIGHTS,
            |json| json["config"]["fc.weight"]["tensor_meta"]["strides"][0]["as_int"] = (-1).into(),
            "no size of `fc.weight`",
        ),
        (WEIGHTS, |json| json["config"]["fc.weight"]["use_pickle"] = true.into(), "holds a pickle"),
        (WEIGHTS, |json| json["config"]["fc.weight"]["path_name"] = "../../x".into(), "is missing"),
        (
            WEIGHTS,
            |json| drop(json["config"].as_object_mut().unwrap().remove("fc.weight")),
            "the values of `fc.weight` are missing",
        ),
    ];
    for (entry, change, wanted) in cases {
        let got = refused(edited(entry, change));
        assert!(got.contains(wanted), "wanted {wanted}, got {got}");
    }
}

fn graph(json: &mut serde_json::Value) -> &mut serde_json::Value {
    &mut json["graph_module"]["graph"]
}

#[test]
fn archives_that_are_none_are_refused() {
    let whole = std::fs::read(file("blocks")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pt2");
    for part in 0..24 {
        std::fs::write(&path, &whole[..whole.len() * part / 24]).unwrap();
        assert!(import(&path).is_err(), "{part} of 24 parts");
    }
    std::fs::write(&path, b"not a zip").unwrap();
    assert!(refused(import(&path)).contains("is no archive of PyTorch's"));
    let mut inside = entries("blocks");
    assert!(refused(packed(&inside, zip::CompressionMethod::Deflated)).contains("is compressed"));
    // nesting that would overflow a stack
    let model = inside.iter().position(|(name, _)| name.ends_with(MODEL)).unwrap();
    inside[model].1 = [vec![b'['; 1 << 20]].concat();
    assert!(refused(packed(&inside, zip::CompressionMethod::Stored)).contains("is not understood"));
    inside[model].1 = br#"{"graph_module": {"graph": {"nodes": [], "tensor_values": {"a": 1, "a": 1}}}}"#.to_vec();
    assert!(refused(packed(&inside, zip::CompressionMethod::Stored)).contains("is not understood"));
    // as `torch.save` and older versions write
    let old = [("archive/data.pkl".to_string(), vec![0x80, 2])];
    assert!(refused(packed(&old, zip::CompressionMethod::Stored)).contains("holds pickles, which are programs"));
    // a checksum
    let at = whole.windows(8).position(|bytes| bytes == 1f64.to_le_bytes()).unwrap_or(whole.len() / 8);
    let mut flipped = whole;
    flipped[at] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    drop(import(&path));
}

/// The records that PyTorch writes behind the directory have as many bytes as an entry with a name of 30 letters.
#[test]
fn a_directory_is_read_from_its_first_entry_on() {
    let mut all = entries("blocks");
    let root = all[0].0.split('/').next().unwrap().to_string();
    all.insert(0, (format!("{root}/{}", "x".repeat(29 - root.len())), vec![]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.pt2");
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    for (name, bytes) in &all {
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(name.as_str(), stored).unwrap();
        std::io::Write::write_all(&mut zip, bytes).unwrap();
    }
    let bytes = zip.finish().unwrap().into_inner();
    let (before, end) = bytes.split_at(bytes.len() - 22);
    let number = |at: usize| u64::from(u32::from_le_bytes(end[at..at + 4].try_into().unwrap()));
    let count = (all.len() as u64).to_le_bytes();
    let record = [
        &b"PK\x06\x06"[..],
        &44u64.to_le_bytes(),
        &[30, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &count,
        &count,
        &number(12).to_le_bytes(),
        &number(16).to_le_bytes(),
        b"PK\x06\x07\0\0\0\0",
        &(before.len() as u64).to_le_bytes(),
        &1u32.to_le_bytes(),
    ]
    .concat();
    assert_eq!(record.len(), 46 + 30);
    std::fs::write(&path, [before, &record, end].concat()).unwrap();
    assert!(import(&path).is_ok());
}

#[test]
fn numbers_that_nobody_wrote_do_no_harm() {
    fn numbers<'a>(value: &'a mut serde_json::Value, all: &mut Vec<&'a mut serde_json::Value>) {
        match value {
            serde_json::Value::Number(_) => all.push(value),
            serde_json::Value::Array(list) => list.iter_mut().for_each(|value| numbers(value, all)),
            serde_json::Value::Object(map) => map.values_mut().for_each(|value| numbers(value, all)),
            _ => {}
        }
    }
    let values = [-1, 0, 1, 2, 3, 7, 64, 1 << 20, 1 << 31, i64::MAX, i64::MIN];
    let mut seed = 7u64;
    for _ in 0..160 {
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        // what comes of it does not matter, as long as it comes
        drop(edited(MODEL, |json| {
            let mut all = vec![];
            numbers(&mut json["graph_module"]["graph"], &mut all);
            for _ in 0..2 {
                let (at, value) = (next(all.len()), values[next(values.len())]);
                *all[at] = value.into();
            }
        }));
    }
}
