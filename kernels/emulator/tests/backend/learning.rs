//! Learning on the emulator beside learning on the CPU, whose own tests compare it with differences and with PyTorch.

use std::sync::Arc;

use archc_base::Loss;

use super::{Random, SAMPLES, compiled, emulated, network, noise, sample_network};
use archc::Tensor;
use archc::stages::compile::{self, Outcome};
use archc::stages::exec::cpu::Cpu;
use archc::stages::exec::cuda::driver::Driver;
use archc::stages::exec::cuda::{Cuda, Dtype, Start};
use archc::stages::exec::learning::{Array, Arrays, Learning, Learns};
use archc::stages::exec::{Tensors, Weights};
use archc::stages::net::{CLOCK, Id, Net, backward};
use archc::stages::opt;
use archc::stages::plan::{self, Plan};
use archc::stages::source::Sources;
use archc::stages::train::{Config, Targets, TrainSpec, Trainer};
use archc::stages::typed::Typed;

/// Forward and backward of a network whose outputs' gradients are inputs.
fn net(typed: &Typed, device: &dyn Learns) -> Net {
    let mut net = opt::lower_training(typed, &|_| false);
    let wanted: Vec<(String, Id)> = net.inputs().iter().filter(|(name, _)| name != CLOCK).cloned().collect();
    let mut outputs = net.outputs().to_vec();
    let mut seeds = vec![];
    for (name, value) in &outputs {
        let shape = net.node(*value).shape.clone();
        seeds.push((*value, net.add_input(format!("d.{name}"), shape, vec![])));
    }
    let ids: Vec<Id> = wanted.iter().map(|(_, id)| *id).collect();
    let gradients = backward(&mut net, &seeds, &ids);
    for ((name, _), gradient) in wanted.iter().zip(gradients) {
        outputs.extend(gradient.map(|id| (format!("d.{name}"), id)));
    }
    net.set_outputs(outputs);
    opt::rewrite(&mut net, device.learning_fusions());
    net
}

/// Everything that a run of a device comes to, by name.
fn run(typed: &Typed, device: &dyn Learns, batch: usize) -> Vec<(String, Vec<f32>)> {
    let plan = plan::plan(net(typed, device), &device.learning_options(batch)).expect("small");
    if std::env::var("ARCHC_DUMP").is_ok() {
        eprintln!("{}", plan.dump(typed));
    }
    let tensors = Random(typed);
    let mut learning = device.learning(Arrays::default());
    learning.load(&plan, &Weights::new(typed, &tensors, &plan).expect("small")).expect("it learns");
    fill(&plan, &tensors, learning.as_mut());
    let make = |(at, (name, dims)): (usize, &(String, Vec<usize>))| {
        let len = dims.iter().product();
        if name == CLOCK { vec![7.0; len] } else { noise(len, 1 << 40 | at as u64) }
    };
    let inputs: Vec<Vec<f32>> = plan.inputs().iter().enumerate().map(make).collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut outputs: Vec<Tensor> = plan.outputs().iter().map(|(_, view)| Tensor::zeros(view.dims.clone())).collect();
    learning.run(&inputs, &mut outputs).expect("it runs");
    let named = plan.outputs().iter().map(|(name, _)| name.clone());
    let mut all: Vec<(String, Vec<f32>)> = named.zip(outputs.iter().map(|output| output.data().to_vec())).collect();
    let (states, gradients) = (learning.read(Array::States), learning.read(Array::Gradients));
    let (states, gradients) = (states.expect("memory"), gradients.expect("memory"));
    for (state, view) in plan.net().states.iter().zip(plan.states()) {
        let name = format!("{} {}", typed.graph().node(state.node).path, typed.params(state.node)[state.index].name);
        let range = view.offset..view.offset + view.len();
        if state.learned {
            all.push((format!("d.{name}"), gradients[range.clone()].to_vec()));
        }
        all.push((name, states[range].to_vec()));
    }
    all
}

fn fill(plan: &Plan, tensors: &dyn Tensors, learning: &mut dyn Learning) {
    let mut states = learning.read(Array::States).expect("memory");
    for (state, view) in plan.net().states.iter().zip(plan.states()) {
        let values = tensors.read(state.node, state.index).expect("made of names");
        states[view.offset..][..values.len()].copy_from_slice(&values);
    }
    learning.write(Array::States, &states).expect("memory");
}

/// The norm of the difference, as a share of the norm, or of that of numbers of `least` where that is more.
fn off(want: &[f32], got: &[f32], least: f64) -> f64 {
    assert_eq!(want.len(), got.len());
    let (mut error, mut norm) = (0.0, 0.0);
    for (want, got) in want.iter().zip(got) {
        if want.is_nan() != got.is_nan() {
            return f64::INFINITY;
        }
        if want.is_finite() {
            error += (f64::from(*want) - f64::from(*got)).powi(2);
            norm += f64::from(*want).powi(2);
        }
    }
    error.sqrt() / norm.sqrt().max(least * (want.len() as f64).sqrt())
}

/// What rounding to the dtype comes to, where it is most: sums that cancel out, such as gradients before a norm. Nearly all
/// are off by a hundredth of this.
fn tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 5e-5,
        Dtype::Tf32 => 3e-3,
        Dtype::F16 => 3e-2,
        Dtype::Bf16 => 0.25,
    }
}

/// Compares everything that a run comes to with that of the CPU, and a second run with the first.
fn same(text: &str, batch: usize, device: &Cuda) {
    same_within(text, &network(text), batch, device, tolerance(device.dtype()));
}

fn same_within(text: &str, typed: &Typed, batch: usize, device: &Cuda, limit: f64) {
    let dtype = device.dtype();
    let got = run(typed, device, batch);
    let want = run(typed, &Cpu::new(), batch);
    assert_eq!(want.len(), got.len());
    for (name, want) in &want {
        let (_, own) = got.iter().find(|(other, _)| other == name).unwrap_or_else(|| panic!("no {name} of {text}"));
        let error = off(want, own, 0.3);
        assert!(error <= limit, "{name}, {dtype:?}, batch {batch}, is off by {error:.1e} in\n{text}");
    }
    let again = run(typed, device, batch);
    let bits = |all: &[(String, Vec<f32>)]| -> Vec<u32> {
        all.iter().flat_map(|(_, values)| values.iter().map(|value| value.to_bits())).collect()
    };
    assert!(bits(&got) == bits(&again), "a second run gives other bits in\n{text}");
}

/// The samples of every op, in every dtype and with batches of 1 and 3: nothing that learns on the CPU is refused.
#[test]
fn every_op_learns() {
    for (at, (call, operands)) in SAMPLES.iter().enumerate() {
        for text in sample_network(call, operands) {
            let (dtype, batch) = [(Dtype::Bf16, 1), (Dtype::F16, 3), (Dtype::Bf16, 3)][at % 3];
            same(&text, 3, &emulated(132, Dtype::F32));
            same(&text, batch, &emulated(1, dtype));
        }
    }
}

/// The same on a GPU.
pub(super) fn on_the_device(driver: &Arc<dyn Driver>) {
    for dtype in Dtype::ALL {
        let cuda = Cuda::on(driver.clone(), dtype, Start::Replay);
        for text in SAMPLES.iter().flat_map(|(call, operands)| sample_network(call, operands)) {
            [1, 3, 16].into_iter().for_each(|batch| same(&text, batch, &cuda));
        }
        CONVOLUTIONS.iter().for_each(|text| same(text, 3, &cuda));
        for (text, limit) in NETWORKS {
            let limit = limit * tolerance(dtype) / tolerance(Dtype::F32);
            same_within(text, &compiled(text), 8, &cuda, limit);
        }
    }
}

/// What samples of single ops do not reach: wide tiles, loads of single channels, odd strides and paddings, sums that are
/// split, images of few channels, residuals in gradients, shared weights.
const CONVOLUTIONS: [&str; 15] = [
    "x = input([136, 5, 7])\n y = conv2d(144, kernel = 3, padding = 1) <- x",
    "x = input([64, 9, 8])\n y = conv2d(130, kernel = 3, stride = 2, padding = 1) <- x",
    "x = input([5, 9, 11])\n y = conv2d(7, kernel = [5, 3], stride = [3, 2], padding = [1, 2], dilation = [1, 2]) <- x",
    "x = input([3, 16, 18])\n a = conv2d(24, kernel = 7, stride = 2, padding = 3, bias = false) <- x\n y = batch_norm2d <- a",
    "x = input([8, 5, 6])\n a = conv2d(8, kernel = 1) <- x\n y = conv2d(16, kernel = 1, stride = 2, padding = 1) <- a",
    "x = input([24, 7, 9])\n a = conv2d(24, kernel = 3, stride = 2, padding = 1, groups = 24) <- x\n y = conv2d(24, kernel = 7, padding = 3, groups = 24) <- a",
    "x = input([16, 7, 6])\n y = conv2d(32, kernel = 3, stride = 2, padding = 1, groups = 4) <- x",
    "x = input([12, 7, 6])\n y = conv2d(6, kernel = 3, padding = 1, groups = 2) <- x",
    "x = input([9, 12, 13])\n a = conv2d(11, kernel = 3, stride = 2, padding = 0) <- x\n y = relu <- a",
    "x = input([8, 6, 5])\n a = conv2d(8, kernel = 3, padding = 1) <- x\n b = add <- a, x\n c = relu <- b\n d = conv2d(8, kernel = 3, stride = 2, padding = 1) <- c\n e = conv2d(8, kernel = 1, stride = 2) <- c\n y = add <- d, e",
    "x = input([300])\n a = linear(150) <- x\n b = relu <- a\n y = linear(10) <- b",
    "x = input([16, 5, 5])\n a = conv_transpose2d(16, kernel = 3, stride = 2, padding = 1) <- x\n b = relu <- a\n y = conv_transpose2d(3, kernel = 4, stride = 2, padding = 1) <- b",
    "x = input([16, 12, 12])\n s = global_avg_pool2d <- x\n f = linear(4) <- s\n r = relu <- f\n g = linear(16) <- r\n h = sigmoid <- g\n y = mul <- x, h",
    "x = input([8, 12, 12])\n a = conv2d(16, kernel = 1, bias = false) <- x\n b = batch_norm2d <- a\n c = relu <- b\n d = max_pool2d(3, stride = 2, padding = 1) <- c\n e = batch_norm2d <- d\n f = silu <- e\n g = dropout2d(0.3) <- f\n y = concat <- g, e",
    "x = input([3, 8, 8])\n a = conv2d(6, kernel = 3, padding = 1) <- x\n b = slice(1, from = 2, to = 6) <- a\n c = upsample(scale = 2, mode = bilinear) <- b\n y = avg_pool2d(2) <- c",
];

#[test]
fn convolutions_of_all_kinds() {
    for text in CONVOLUTIONS {
        for (batch, processors, dtype) in
            [(3, 132, Dtype::F32), (1, 1, Dtype::F32), (3, 132, Dtype::Bf16), (3, 1, Dtype::F16), (2, 132, Dtype::Tf32)]
        {
            same(text, batch, &emulated(processors, dtype));
        }
    }
}

/// Networks of the zoo, and how far float32 may be off: each batch norm of a few values magnifies what came before it.
const NETWORKS: [(&str, f64); 4] = [
    ("base resnet18 { input [N, 3, 64, 64] }", 2e-3),
    ("base mobilenet_v3_small { input [N, 3, 64, 64] }", 5e-3),
    ("base efficientnet_b0 { input [N, 3, 64, 64] }", 5e-3),
    ("use \"zoo:vit.arch\"\nnetwork small = vit(8, 96, 2, 3, 192, 10)\nbase small { input [N, 3, 40, 40] }", 1e-3),
];

#[test]
fn networks_of_the_zoo_learn() {
    for (text, limit) in NETWORKS {
        same_within(text, &compiled(text), 4, &emulated(132, Dtype::F32), limit);
    }
}

#[test]
fn noise_is_the_bits_of_the_cpu() {
    for call in ["dropout(0.4)", "dropout2d(0.4)", "stochastic_depth(0.4)"] {
        let typed = network(&format!("x = input([19, 4, 5])\n y = {call} <- x"));
        let (want, got) = (run(&typed, &Cpu::new(), 6), run(&typed, &emulated(1, Dtype::F32), 6));
        assert!(want[0].1.contains(&0.0) && want[0].1.iter().any(|value| *value != 0.0), "{call}");
        assert_eq!(want, got, "{call}");
    }
}

fn spec(text: &str) -> (Typed, TrainSpec) {
    let mut sources = Sources::new();
    let file = sources.add("spec.arch", text, Some(std::path::Path::new(".")));
    match compile::compile(&mut sources, file, &[]) {
        Ok(Outcome::Spec(compiled)) => (compiled.typed, compiled.train.expect("a train block")),
        other => panic!("no spec: {other:?}"),
    }
}

/// A trainer of random tensors.
fn trainer(typed: &Typed, spec: &TrainSpec, device: Arc<dyn Learns>, batch: usize) -> Trainer<'static> {
    // tests end with the process
    let typed: &'static Typed = Box::leak(Box::new(typed.clone()));
    let tensors: &'static Random<'static> = Box::leak(Box::new(Random(typed)));
    Trainer::new(typed, tensors, device, Config::new(spec, None), batch).expect("it learns")
}

/// Step number `at`, of images and classes of its own; the loss.
fn step(trainer: &mut Trainer, typed: &Typed, spec: &TrainSpec, at: usize, batch: usize) -> f64 {
    let config = Config::new(spec, None);
    let (name, id) = typed.graph().inputs().first().expect("an input");
    let shape = typed.shape(*id).concrete(batch);
    let len = shape.iter().product();
    let image = Tensor::new(shape, noise(len, 90 + at as u64));
    let classes: Vec<usize> = (0..batch).map(|sample| (sample * 7 + at) % 10).collect();
    let is_classes = matches!(config.loss, Loss::CrossEntropy { .. });
    let targets = if is_classes { Targets::Classes(&classes) } else { Targets::Image };
    trainer.step(&[(name, &image)], targets, config.optimizer.lr()).expect("finite").loss
}

/// A trainer after some steps, and their losses.
fn learn(typed: &Typed, spec: &TrainSpec, device: Arc<dyn Learns>, batches: &[usize]) -> (Vec<f64>, Trainer<'static>) {
    let mut trainer = trainer(typed, spec, device, batches[0]);
    let numbered = batches.iter().enumerate();
    let losses = numbered.map(|(at, batch)| step(&mut trainer, typed, spec, at, *batch)).collect();
    (losses, trainer)
}

const SMALL: &str = "archc 1\nnetwork small() {\n input image: [N, 3, 20, 20]\n\
    stem: conv2d(16, kernel = 3, stride = 2, padding = 1, bias = false)\n bn1: batch_norm2d\n relu\n\
    max_pool2d(3, stride = 2, padding = 1)\n\
    conv2: conv2d(24, kernel = 3, padding = 1, bias = false)\n bn2: batch_norm2d\n silu\n\
    dw: conv2d(24, kernel = 3, stride = 2, padding = 1, groups = 24)\n hardswish\n\
    dropout(0.2)\n global_avg_pool2d\n flatten\n fc: linear(10)\n}\nbase small()\n";
const CODER: &str = "archc 1\nnetwork coder() {\n input image: [N, 3, 16, 16]\n\
    c1: conv2d(16, kernel = 3, stride = 2, padding = 1)\n relu\n c2: conv2d(24, kernel = 3, stride = 2, padding = 1)\n relu\n\
    d1: conv_transpose2d(16, kernel = 4, stride = 2, padding = 1)\n relu\n\
    d2: conv_transpose2d(3, kernel = 4, stride = 2, padding = 1)\n sigmoid\n}\nbase coder()\n";

/// Steps on both devices, every optimizer with what it has, losses at every step and everything learned at the end.
#[test]
fn steps_are_those_of_the_cpu() {
    let sgd = "optimizer sgd(lr = 0.05, momentum = 0.9, nesterov = true, weight_decay = 1e-3)\nlr fc by 0.5";
    let cases = [
        (SMALL, format!("loss cross_entropy(label_smoothing = 0.1)\n{sgd}"), true),
        (SMALL, "loss cross_entropy\noptimizer adamw(lr = 1e-3)\nclip 0.5\naverage 0.9".into(), true),
        (SMALL, "loss cross_entropy\noptimizer adam(lr = 1e-3, amsgrad = true)\naccumulate 2".into(), false),
        (SMALL, "loss cross_entropy\noptimizer sgd(lr = 0.05)\nclip 1\naccumulate 2".into(), false),
        (
            CODER,
            "loss mse(target = image)\noptimizer rmsprop(lr = 1e-3, momentum = 0.5, centered = true)".into(),
            false,
        ),
        (CODER, "loss huber(target = image, delta = 0.5)\noptimizer rmsprop(lr = 1e-3)".into(), true),
        (CODER, "loss l1(target = image)\noptimizer sgd(lr = 0.01, momentum = 0.9)".into(), false),
    ];
    for (base, block, reduced) in cases {
        let (typed, spec) = spec(&format!("{base}train {{\ndata folder(\"digits\")\n{block}\n}}\n"));
        let batches = [4, 4, 4, 4, 3];
        let (want, mut cpu) = learn(&typed, &spec, Arc::new(Cpu::new()), &batches);
        // bf16 keeps 8 bits: a few layers and steps of it are off by a few hundredths
        for (dtype, limit) in [(Dtype::F32, 1e-4), (Dtype::Bf16, 0.05)].into_iter().take(1 + usize::from(reduced)) {
            let (got, mut cuda) = learn(&typed, &spec, Arc::new(emulated(132, dtype)), &batches);
            for (step, (want, got)) in want.iter().zip(&got).enumerate() {
                let error = (want - got).abs() / want.abs();
                assert!(error <= limit, "{dtype:?}: the loss of step {step} is {got}, not {want}, of {block}");
            }
            for averaged in [false, true] {
                let (want, got) = (cpu.tensors(averaged).expect("memory"), cuda.tensors(averaged).expect("memory"));
                for ((key, want), (other, got)) in want.iter().zip(&got) {
                    assert_eq!(key, other);
                    let error = off(want.data(), got.data(), 1e-2);
                    assert!(error <= limit, "{dtype:?}: `{key}` is off by {error:.1e} of {block}");
                }
            }
        }
    }
}

/// What was begun on a device goes on there with the bits of an unbroken run, and on the other one with its numbers; also where
/// some layers learn since a later update than others.
#[test]
fn a_snapshot_goes_on_on_either_device() {
    let block = "loss cross_entropy\noptimizer adam(lr = 1e-3)\naverage 0.9\naccumulate 2";
    let (typed, spec) = spec(&format!("{SMALL}train {{\ndata folder(\"digits\")\n{block}\n}}\n"));
    let cuda = || -> Arc<dyn Learns> { Arc::new(emulated(4, Dtype::F32)) };
    let (_, mut begun) = learn(&typed, &spec, cuda(), &[4, 4, 4]);
    for late in
        [vec![], vec![("conv2.weight".to_string(), 1)], vec![("stem.weight".into(), 1), ("fc.weight".into(), 1)]]
    {
        let mut snapshot = begun.snapshot().expect("memory");
        snapshot.since = late;
        let mut ends = vec![];
        for device in [cuda(), cuda(), Arc::new(Cpu::new())] {
            let (_, mut other) = learn(&typed, &spec, device, &[4]);
            other.restore(&snapshot).expect("it fits");
            assert_eq!(other.snapshot().expect("memory"), snapshot);
            (3..6).for_each(|at| _ = step(&mut other, &typed, &spec, at, 4));
            ends.push(other.snapshot().expect("memory"));
        }
        assert!(ends[0] == ends[1], "other bits");
        for ((name, _, want), (_, _, got)) in ends[2].tensors.iter().zip(&ends[0].tensors) {
            let error = off(want, got, 1e-2);
            assert!(error <= 1e-4, "`{name}` is off by {error:.1e}");
        }
        if snapshot.since.is_empty() {
            let mut unbroken = learn(&typed, &spec, cuda(), &[4; 6]).1;
            assert!(unbroken.snapshot().expect("memory") == ends[0], "other bits than those of an unbroken run");
        }
    }
}

#[test]
fn frozen_layers_stay_and_networks_of_the_zoo_learn() {
    let text = "base resnet18 { input [N, 3, 64, 64] }\nreplace fc with linear(10)\nfreeze all except layer4, fc\n\
        train {\ndata folder(\"digits\")\nloss cross_entropy\noptimizer sgd(lr = 0.01, momentum = 0.9)\n}\n";
    let (typed, spec) = spec(text);
    let (want, mut cpu) = learn(&typed, &spec, Arc::new(Cpu::new()), &[3, 2]);
    let (got, mut cuda) = learn(&typed, &spec, Arc::new(emulated(132, Dtype::F32)), &[3, 2]);
    assert!(want.iter().zip(&got).all(|(want, got)| (want - got).abs() <= 1e-3 * want), "{want:?} {got:?}");
    let keys: Vec<String> = cuda.tensors(false).expect("memory").into_iter().map(|(key, _)| key).collect();
    assert!(keys.iter().all(|key| key.starts_with("layer4") || key.starts_with("fc")), "{keys:?}");
    for ((key, want), (_, got)) in cpu.tensors(false).expect("memory").iter().zip(&cuda.tensors(false).expect("memory"))
    {
        let error = off(want.data(), got.data(), 1e-2);
        assert!(error <= 1e-3, "`{key}` is off by {error:.1e}");
    }
}

#[test]
fn a_loss_that_is_not_finite_names_the_layer() {
    let (typed, spec) = spec(&format!("{SMALL}train {{\ndata folder(\"digits\")\nloss cross_entropy\n}}\n"));
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let (_, mut trainer) = learn(&typed, &spec, Arc::new(emulated(1, dtype)), &[2]);
        let mut image = Tensor::zeros(vec![2, 3, 20, 20]);
        image.data_mut()[5] = f32::NAN;
        let (name, _) = typed.graph().inputs().first().expect("an input");
        let problem = trainer.step(&[(name, &image)], Targets::Classes(&[1, 2]), 0.1).expect_err("not finite");
        assert_eq!(problem.code, archc::stages::diag::Code::NonFinite);
        assert!(problem.notes.iter().any(|note| note.contains("`stem`")), "{:?}", problem.notes);
    }
}
