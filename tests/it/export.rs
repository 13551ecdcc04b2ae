//! Networks as Python: the text of small specs and of some of the zoo is that of `tests/expect/export`, and what is written of
//! every network of the zoo is Python. `ARCHC_BLESS=1` writes what came instead. That PyTorch gives what archc gives is
//! tests/reference/export.py's to say.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use archc::stages::zoo;
use archc::{Options, Spec};
use rayon::prelude::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expect/export")
}

/// What Python says of texts that are not its own; None where there is no Python.
fn parsed(texts: &[(String, String)]) -> Option<String> {
    let script = "import ast, json, sys\nfor name, text in json.load(sys.stdin):\n    try:\n        ast.parse(text)\n    \
                  except SyntaxError as error:\n        print(name, error)\n";
    let python = Command::new("python3").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = python.ok()?;
    let json = serde_json::to_vec(texts).expect("JSON of strings");
    child.stdin.take().expect("it is piped").write_all(&json).expect("Python reads it");
    let output = child.wait_with_output().expect("Python ends");
    assert!(output.status.success(), "Python failed");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn modules_are_written_as_expected() {
    let bless = std::env::var_os("ARCHC_BLESS").is_some();
    let mut specs: Vec<PathBuf> =
        fs::read_dir(folder()).expect("the folder").map(|entry| entry.expect("a file").path()).collect();
    specs.retain(|path| path.extension().is_some_and(|extension| extension == "arch"));
    specs.sort();
    assert!(specs.len() > 2, "there are specs");
    let mut texts = vec![];
    for spec in &specs {
        let model = Spec::open(spec).and_then(|spec| spec.compile()).unwrap_or_else(|error| panic!("{error}"));
        let stem = spec.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = model.pytorch(Some("net.safetensors")).unwrap_or_else(|error| panic!("{stem}: {error}"));
        let expected = spec.with_extension("py");
        if bless {
            fs::write(&expected, &text).expect("the folder can be written");
        }
        let wanted = fs::read_to_string(&expected).unwrap_or_default();
        assert!(text == wanted, "{stem}.py is another one, {}", first_difference(&wanted, &text));
        texts.push((stem, text));
    }
    let found = parsed(&texts).unwrap_or_default();
    assert!(found.is_empty(), "{found}");
}

fn first_difference(wanted: &str, got: &str) -> String {
    let pairs = wanted.lines().map(Some).chain(std::iter::repeat(None)).zip(got.lines().map(Some).chain([None]));
    let differing = pairs.enumerate().find(|(_, (wanted, got))| wanted != got);
    differing.map_or("it is shorter".into(), |(at, (wanted, got))| {
        format!("line {}: expected {:?}, got {:?}", at + 1, wanted.unwrap_or_default(), got.unwrap_or_default())
    })
}

#[test]
fn every_network_of_the_zoo_is_written_as_python() {
    let networks = zoo::networks();
    let written: Vec<Result<(String, String), String>> = networks
        .par_iter()
        .map(|(name, _)| {
            let model = Spec::from_text(format!("base {name}\n")).compile().expect("the zoo compiles");
            let text = model.pytorch(None).map_err(|error| format!("{name}: {error}"))?;
            // the network's class comes last, and begins without arguments
            let last = text.rfind("\nclass ").map_or("", |at| &text[at..]);
            let is_root = last.contains("def __init__(self) -> None:");
            if is_root { Ok((name.to_string(), text)) } else { Err(format!("{name}: the last class takes arguments")) }
        })
        .collect();
    let failed: Vec<String> = written.iter().filter_map(|one| one.clone().err()).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), networks.len(), failed.join("\n"));
    let texts: Vec<(String, String)> = written.into_iter().flatten().collect();
    let found = parsed(&texts).unwrap_or_default();
    assert!(found.is_empty(), "{found}");
}

#[test]
fn the_tensors_lie_beside_the_module() {
    let model = Spec::open(folder().join("odd.arch")).and_then(|spec| spec.compile()).expect("it compiles");
    let exporter = model.exporter(&Options::default()).expect("random weights");
    let written = tempfile::tempdir().expect("a folder");
    let path = written.path().join("net.py");
    let (weights, count) = exporter.write_pytorch(&path, archc::DType::F32).expect("the folder can be written");
    assert_eq!(weights, written.path().join("net.safetensors"));
    let bytes = fs::read(&weights).expect("the tensors");
    let keys = safetensors::SafeTensors::deserialize(&bytes).expect("a file of tensors").len();
    assert_eq!(keys, count);
    let text = fs::read_to_string(&path).expect("the module");
    assert!(text.contains("load_weights(\"net.safetensors\")"), "{text}");
    // and nothing else, such as what was temporary
    assert_eq!(fs::read_dir(written.path()).expect("the folder").count(), 2);
}

#[test]
fn nothing_is_written_of_folded_layers() {
    let model = Spec::from_text("base repvgg_a2\n").compile().expect("the zoo compiles");
    let mut exporter = model.exporter(&Options::default()).expect("random weights");
    exporter.fold().expect("it has sums");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.py");
    let error = exporter.write_pytorch(&path, archc::DType::F32).expect_err("the file would fit another network");
    assert!(error.to_string().contains("folded layers"), "{error}");
    assert!(!path.exists() && fs::read_dir(folder.path()).expect("the folder").count() == 0);
}
