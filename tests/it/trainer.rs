//! A small network in training beside PyTorch in float64 (tests/reference/train_small.py): every loss, and the norm of every
//! tensor at the end.

use std::path::Path;

use archc::stages::data::Targets;
use archc::stages::exec::cpu::Cpu;
use archc::stages::train::Config;
use archc::stages::train::run::learner::Learner;
use archc::stages::train::run::network::{NetworkLearner, Pace};
use archc::stages::train::stage::stages;
use archc::{Options, Spec, Tensor};
use serde_json::Value;

fn reference(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

/// The steps of a case, an epoch each: the losses, and the tensors at the end.
fn learn(case: &Value, batches: &safetensors::SafeTensors) -> (Vec<f64>, Vec<(String, f64)>) {
    let lines = case["lines"].as_str().expect("text");
    let loss = if lines.contains("loss ") { "" } else { "loss cross_entropy" };
    let network = std::fs::read_to_string(reference("train_small.arch")).expect("the network is there");
    let freeze = case["freeze"].as_str().unwrap_or("");
    let lines = lines.replace("; ", "\n");
    let text = format!("{network}\n{freeze}\ntrain {{\n data folder(\"none\")\n{loss}\n{lines}\n}}\n");
    let model = Spec::from_text(text).compile().expect("a spec that is right");
    let compiled = model.compiled();
    let block = compiled.train.as_ref().expect("it has a `train` block");
    let (bound, _) = model.bind(&Options::default()).expect("random weights fit");
    let weights = case["class_weights"].as_array();
    let weights = weights.map(|list| list.iter().map(|value| value.as_f64().expect("a number") as f32).collect());
    let mut config = Config::new(block, weights);
    config.clip = case["clip"].as_f64();
    config.accumulate = case["accumulate"].as_u64().unwrap_or(1);
    let losses = case["losses"].as_array().expect("losses").len();
    let pace =
        Pace { schedule: block.schedule.value, lr: config.optimizer.lr(), steps_per_epoch: 1, epochs: losses as u64 };
    let stages = stages(&compiled.typed, block);
    let batch = batches.tensor("image").expect("images").shape()[0] / losses;
    let mut learner = NetworkLearner::new(&stages, &bound, std::sync::Arc::new(Cpu::new()), config, batch, pace)
        .expect("a small network");
    let part = |name: &str, step: usize| {
        let tensor = batches.tensor(name).expect("it is in the file");
        let mut dims = tensor.shape().to_vec();
        dims[0] = batch;
        let len = dims.iter().product::<usize>();
        let numbers = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Tensor::new(dims, numbers.skip(step * len).take(len).collect::<Vec<f32>>())
    };
    let mut found = vec![];
    for step in 0..losses {
        learner.begin_epoch(step).expect("small enough");
        if step == 3 {
            // put away and taken up again, by a learner that is at its beginning
            let state = learner.state().expect("memory");
            learner.begin_epoch(0).expect("small enough");
            learner.restore(state).expect("it is its own");
        }
        let targets = match loss {
            "" if !lines.contains("cross_entropy") => Targets::Values(part("values", step)),
            _ => Targets::Classes(part("label", step).data().iter().map(|label| *label as usize).collect()),
        };
        found.push(learner.step(&part("image", step), &targets).expect("finite numbers").loss);
    }
    let norm = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let weights = learner.weights().expect("they can be read");
    let norms = weights.iter().filter_map(|(key, kept)| Some((key.clone(), norm(kept.floats()?)))).collect();
    let counted = weights.iter().filter(|(key, _)| key.ends_with("bn1.num_batches_tracked"));
    let counted: Vec<&[i64]> = counted.filter_map(|(_, kept)| kept.integers()).collect();
    let unfrozen = if lines.contains("after 4") {
        4
    } else if lines.contains("after 3") {
        3
    } else {
        0
    };
    assert_eq!(counted, [[losses as i64 - unfrozen]], "batches that the first norm has seen");
    (found, norms)
}

#[test]
fn losses_and_tensors_are_pytorchs() {
    let cases = std::fs::read_to_string(reference("train_small.json")).expect("the reference is there");
    let cases: serde_json::Map<String, Value> = serde_json::from_str(&cases).expect("it is JSON");
    let batches = std::fs::read(reference("train_small.safetensors")).expect("the batches are there");
    let batches = safetensors::SafeTensors::deserialize(&batches).expect("it is a safetensors file");
    assert!(cases.len() >= 14);
    for (name, case) in &cases {
        let (losses, norms) = learn(case, &batches);
        let wanted = case["losses"].as_array().expect("losses");
        for (step, (got, want)) in losses.iter().zip(wanted).enumerate() {
            let want = want.as_f64().expect("a number");
            assert!((got - want).abs() <= 1e-4 * want, "{name}: the loss of step {step} is {got}, PyTorch's {want}");
        }
        let wanted = case["norms"].as_object().expect("norms");
        let mut compared = 0;
        for (key, got) in &norms {
            let want = wanted.get(key).and_then(Value::as_f64).unwrap_or_else(|| panic!("PyTorch has no {key}"));
            // biases that began at 0 are of the size of their rates
            assert!((got - want).abs() <= 1e-3 * want.max(0.02), "{name}: {key} has norm {got}, PyTorch's {want}");
            compared += 1;
        }
        assert_eq!(compared, wanted.len(), "{name}: every tensor");
    }
}
