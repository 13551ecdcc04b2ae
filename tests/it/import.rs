//! Networks that were imported: they compute what PyTorch computed, through their text and their file of weights, and are
//! edited, frozen and trained as those of the zoo.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use archc::stages::data::Targets;
use archc::stages::exec::cpu::Cpu;
use archc::stages::train::Config;
use archc::stages::train::run::learner::Learner;
use archc::stages::train::run::network::{NetworkLearner, Pace};
use archc::stages::train::stage::stages;
use archc::{Device, Options, Spec, Tensor};
use safetensors::SafeTensors;

/// Networks of tests/reference/import.py, the block that their residual branches are, and how many there are.
const NETWORKS: &[(&str, &str, usize)] = &[
    ("basic", "basic_block", 3),
    ("bottleneck", "bottleneck", 3),
    ("inverted", "inverted_residual", 3),
    ("regnet", "res_bottleneck_block", 2),
    ("convnext", "cn_block", 3),
    ("mbconv", "mb_conv", 2),
];

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

/// Imports a file into a folder as `net.arch` and `net.safetensors`; gives what was printed.
fn imported(name: &str, folder: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
    command
        .arg("import")
        .arg(reference("import").join(format!("{name}.pt2")))
        .arg("--out")
        .arg(folder.join("net.arch"));
    let output = command.env("NO_COLOR", "1").output().expect("the program runs");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn tensor(tensors: &SafeTensors<'_>, name: &str) -> Tensor {
    let view = tensors.tensor(name).unwrap_or_else(|_| panic!("the reference has {name}"));
    let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Tensor::new(view.shape().to_vec(), numbers)
}

fn spec(folder: &Path, edits: &str) -> Spec {
    let path = folder.join("spec.arch");
    let text = format!("use \"net.arch\"\nbase net {{ weights \"net.safetensors\" }}\n{edits}\n");
    std::fs::write(&path, text).expect("a file can be written");
    Spec::open(&path).expect("it can be read")
}

#[test]
fn what_was_written_computes_what_pytorch_does() {
    let bytes = std::fs::read(reference("import.safetensors")).expect("the reference is there");
    let tensors = SafeTensors::deserialize(&bytes).expect("it is a safetensors file");
    let others = ["blocks", "dynamic", "windows", "heads", "shared", "standardised", "positions"];
    for name in NETWORKS.iter().map(|(name, ..)| *name).chain(others) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let told = imported(name, folder.path());
        assert!(told.contains("of the network agree with the file"), "{name}: {told}");
        let model = spec(folder.path(), "").compile().unwrap_or_else(|error| panic!("{name}: {error}"));
        let options = Options { batch: Some(3), ..Options::default() };
        let mut session = model.load(Device::Cpu, options).unwrap_or_else(|error| panic!("{name}: {error}"));
        let got = session.run(&tensor(&tensors, &format!("{name}.x"))).expect("it runs").into_one();
        let wanted = tensor(&tensors, &format!("{name}.y.output"));
        assert_eq!(got.shape(), wanted.shape(), "{name}");
        let largest = wanted.data().iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let apart = got.data().iter().zip(wanted.data()).fold(0f32, |apart, (a, b)| apart.max((a - b).abs()));
        assert!(apart <= 1e-4 * largest, "{name}: {apart} of {largest}");
    }
}

/// The tensors of a learner by key.
fn floats(learner: &mut impl Learner) -> BTreeMap<String, Vec<f32>> {
    let weights = learner.weights().expect("they can be read");
    weights.iter().filter_map(|(key, kept)| Some((key.clone(), kept.floats()?.to_vec()))).collect()
}

#[test]
fn imported_networks_are_edited_frozen_and_trained() {
    for (name, block, count) in NETWORKS {
        let folder = tempfile::tempdir().expect("a temporary folder");
        imported(name, folder.path());
        let edits = format!(
            "insert se(reduction = 2) at **:{block} expect {count}
             replace @head with linear(3)
             freeze all except @head, **:se
             train {{ data folder(\"none\"); loss cross_entropy; optimizer sgd(lr = 0.5) }}"
        );
        let model = spec(folder.path(), &edits).compile().unwrap_or_else(|error| panic!("{name}: {error}"));
        let compiled = model.compiled();
        let graph = compiled.typed.graph();
        let gates = graph.ids().filter(|id| graph.node(*id).path.ends_with(".se.fc2")).count();
        assert_eq!(gates, *count, "{name}");
        let block = compiled.train.as_ref().expect("it has a `train` block");
        let (bound, _) = model.bind(&Options::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let config = Config::new(block, None);
        let pace = Pace { schedule: block.schedule.value, lr: config.optimizer.lr(), steps_per_epoch: 2, epochs: 1 };
        let stages = stages(&compiled.typed, block);
        let mut learner =
            NetworkLearner::new(&stages, &bound, Arc::new(Cpu::new()), config, 4, pace).expect("a small network");
        learner.begin_epoch(0).expect("small enough");
        let before = floats(&mut learner);
        let image = Tensor::new(
            vec![4, 3, 21, 18],
            (0..4 * 3 * 21 * 18).map(|at| ((at * 37 % 101) as f32) / 50.0 - 1.0).collect(),
        );
        let losses: Vec<f64> = (0..2)
            .map(|_| learner.step(&image, &Targets::Classes(vec![0, 1, 2, 1])).expect("finite numbers").loss)
            .collect();
        assert!(losses.iter().all(|loss| loss.is_finite()) && losses[1] < losses[0], "{name}: {losses:?}");
        let after = floats(&mut learner);
        let moved: Vec<&String> = after.keys().filter(|key| before[*key] != after[*key]).collect();
        let may = |key: &String| key.starts_with("fc.") || key.contains(".se.");
        assert!(moved.iter().all(|key| may(key)), "{name}: {moved:?}");
        // a unit that is off for all samples keeps its weights
        let must = |key: &String| key.starts_with("fc.") || key.ends_with(".se.fc2.bias");
        assert!(after.keys().filter(|key| must(key)).all(|key| moved.contains(&key)), "{name}: only {moved:?}");
    }
}
