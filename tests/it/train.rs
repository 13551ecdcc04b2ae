//! Training against what PyTorch made of the same network and batches (`tests/reference/train_small.py`), and what a
//! trainer promises besides: the same bits on any number of threads and after a break, frozen layers that stay.

use std::path::{Path, PathBuf};

use archc::bind::{Bound, bind};
use archc::compile::{Compiled, Outcome, compile};
use archc::exec::cpu::Cpu;
use archc::source::Sources;
use archc::tensor::Tensor;
use archc::train::{Config, Targets, Trainer};
use serde_json::Value;

const BATCH: usize = 6;
const STEPS: usize = 6;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference")
}

/// The small network with more text at its end.
fn spec(more: &str) -> (Compiled, Bound) {
    let text = std::fs::read_to_string(folder().join("train_small.arch")).expect("a spec");
    let mut sources = Sources::new();
    let file = sources.add("spec.arch", format!("{text}\n{more}\n"), Some(Path::new(".")));
    let Ok(Outcome::Spec(compiled)) = compile(&mut sources, file, &[]) else { panic!("the spec is right: {more}") };
    let bound = bind(&compiled.settings, &compiled.base, &compiled.typed, None).expect("random weights");
    (*compiled, bound)
}

fn block(lines: &str) -> String {
    let loss = if lines.contains("loss") { "" } else { "loss cross_entropy\n" };
    format!("train {{\ndata folder(\"none\")\n{loss}{lines}\n}}")
}

/// Images and labels of every step.
fn batches() -> Vec<(Tensor, Vec<usize>)> {
    let bytes = std::fs::read(folder().join("train_small.safetensors")).expect("a file");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let read = |name: &str| -> Vec<f32> {
        let data = file.tensor(name).expect("it is there").data();
        data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let (image, label) = (read("image"), read("label"));
    let each = image.len() / STEPS;
    let one = |step: usize| {
        let tensor = Tensor::new([BATCH, 3, 16, 16], image[step * each..(step + 1) * each].to_vec());
        (tensor, label[step * BATCH..(step + 1) * BATCH].iter().map(|label| *label as usize).collect())
    };
    (0..STEPS).map(one).collect()
}

fn run(trainer: &mut Trainer, steps: std::ops::Range<usize>, lr: f64) -> Vec<f64> {
    let batches = batches();
    let one = |step: usize| {
        let (image, labels) = &batches[step];
        trainer.step(&[("image", image)], Targets::Classes(labels), lr).expect("a finite loss").loss
    };
    steps.map(one).collect()
}

#[test]
fn small_network_learns_as_in_pytorch() {
    let text = std::fs::read_to_string(folder().join("train_small.json")).expect("a file");
    let cases: Value = serde_json::from_str(&text).expect("JSON");
    for (name, case) in cases.as_object().expect("cases by name") {
        let (compiled, bound) = spec(&block(case["lines"].as_str().expect("lines").replace("; ", "\n").as_str()));
        let weights = case["class_weights"].as_array();
        let weights = weights.map(|list| list.iter().map(|w| w.as_f64().expect("a number") as f32).collect());
        let mut config = Config::new(compiled.train.as_ref().expect("a block"), weights);
        config.clip = case["clip"].as_f64();
        config.accumulate = case["accumulate"].as_u64().unwrap_or(1);
        let lr = config.optimizer.lr;
        let mut trainer = Trainer::new(&compiled.typed, &bound, Cpu::new(), config, BATCH).expect("small");
        let losses = run(&mut trainer, 0..STEPS, lr);
        for (step, (got, want)) in losses.iter().zip(case["losses"].as_array().expect("losses")).enumerate() {
            let want = want.as_f64().expect("a number");
            assert!((got - want).abs() <= 1e-3 * want, "loss of step {step} of {name}: {got}, PyTorch's {want}");
        }
        for (key, tensor) in trainer.tensors(false) {
            let want = case["norms"][&key].as_f64().unwrap_or_else(|| panic!("PyTorch has no {key}"));
            let got = tensor.data().iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            assert!((got - want).abs() <= 1e-3 * want.max(0.1), "norm of {key} of {name}: {got}, PyTorch's {want}");
        }
    }
}

fn trainer<'a>(compiled: &'a Compiled, bound: &'a Bound) -> Trainer<'a> {
    let mut config = Config::new(compiled.train.as_ref().expect("a block"), None);
    (config.accumulate, config.ema) = (2, Some(0.9));
    Trainer::new(&compiled.typed, bound, Cpu::new(), config, BATCH).expect("small")
}

#[test]
fn a_broken_run_goes_on_with_the_same_bits() {
    let more = format!("insert dropout(0.3) before fc\n{}", block("optimizer adam(lr = 0.01)\nseed 4"));
    let (compiled, bound) = spec(&more);
    let mut unbroken = trainer(&compiled, &bound);
    let losses = run(&mut unbroken, 0..STEPS, 0.01);
    for at in 1..STEPS {
        let mut first = trainer(&compiled, &bound);
        run(&mut first, 0..at, 0.01);
        let snapshot = first.snapshot();
        let mut second = trainer(&compiled, &bound);
        second.restore(&snapshot).expect("of the same network");
        assert_eq!(run(&mut second, at..STEPS, 0.01), losses[at..], "broken at {at}");
        assert_eq!(second.snapshot(), unbroken.snapshot(), "broken at {at}");
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let more = format!("insert dropout(0.3) before fc\n{}", block("optimizer sgd(lr = 0.1, momentum = 0.9)"));
    let (compiled, bound) = spec(&more);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let mut trainer = trainer(&compiled, &bound);
            (run(&mut trainer, 0..STEPS, 0.1), trainer.snapshot())
        })
    };
    let one = on(1);
    assert_eq!(on(2), one);
    assert_eq!(on(5), one);
}

#[test]
fn frozen_layers_stay_and_others_go_on() {
    let (compiled, bound) =
        spec(&format!("freeze all except se, fc\n{}", block("optimizer sgd(lr = 0.1, momentum = 0.9)")));
    let graph = compiled.typed.graph();
    let mut trainer = trainer(&compiled, &bound);
    let hash = trainer.frozen_hash().expect("readable");
    run(&mut trainer, 0..2, 0.1);
    assert_eq!(trainer.frozen_hash().expect("readable"), hash);
    let keys: Vec<String> = trainer.tensors(false).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["se.fc1.weight", "se.fc1.bias", "se.fc2.weight", "se.fc2.bias", "fc.weight", "fc.bias"]);
    let get = |trainer: &mut Trainer, name: &str| {
        trainer.tensors(false).into_iter().find(|(key, _)| key == name).expect("it was learned").1
    };
    // everything but the head thaws, what was learned stays
    let fc = get(&mut trainer, "fc.weight");
    trainer.freeze(&|id| graph.node(id).path == "fc").expect("small");
    assert_eq!(get(&mut trainer, "fc.weight"), fc);
    let before = get(&mut trainer, "conv1.weight");
    run(&mut trainer, 2..4, 0.1);
    assert_eq!(get(&mut trainer, "fc.weight"), fc);
    assert_ne!(get(&mut trainer, "conv1.weight"), before);
    // and the network in eval mode is made of all that was learned
    let (image, _) = &batches()[0];
    let mut evaluator = trainer.evaluator(BATCH, false).expect("small");
    let evaluated = evaluator.run(&[("image", image)]).expect("the input fits");
    assert!(evaluated[0].1.data().iter().all(|value| value.is_finite()));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let (compiled, bound) = spec(&block("optimizer sgd(lr = 1e30)"));
    let mut trainer = trainer(&compiled, &bound);
    let (image, labels) = &batches()[0];
    let refused =
        |outcome: Result<archc::train::Outcome, archc::diag::Problem>| outcome.expect_err("it cannot be").message;
    let more = Targets::Classes(&[9; BATCH]);
    assert_eq!(
        refused(trainer.step(&[("image", image)], more, 0.1)),
        "the network has 5 classes, a label says class 9"
    );
    assert_eq!(refused(trainer.step(&[], Targets::Classes(labels), 0.1)), "a batch needs 1 sample or more, got 0");
    for _ in 0..4 {
        if let Err(problem) = trainer.step(&[("image", image)], Targets::Classes(labels), 1e30) {
            assert!(problem.message.starts_with("the loss is "), "{}", problem.message);
            assert!(problem.notes.iter().any(|note| note.contains("is made by `")), "{:?}", problem.notes);
            return;
        }
    }
    panic!("the loss stayed finite");
}
