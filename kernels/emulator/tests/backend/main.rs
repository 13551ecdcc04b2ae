//! The backend on the emulator, against the reference and the CPU; the same on a GPU, where there is one.

mod emulated;
mod excitation;
mod learning;
mod tiles;

use std::path::Path;
use std::sync::Arc;

use archc::Tensor;
use archc::stages::compile::{self, Outcome};
use archc::stages::exec::cpu::Cpu;
use archc::stages::exec::cuda::driver::Driver;
use archc::stages::exec::cuda::{Cuda, Device, Start, cases};
use archc::stages::exec::learning::Learns;
use archc::stages::exec::testing::{
    Random, SAMPLES, compare_on, distance, moved_samples_keep_their_bits, noise, sample_network,
};
use archc::stages::exec::{Backend, Executable};
use archc::stages::opt::testing::network;
use archc::stages::source::Sources;
use archc::stages::typed::Typed;
use archc_cuda::Dtype;
use emulated::Emulated;

/// Enough for small networks.
const MEMORY: usize = 4 << 30;

fn on(driver: Arc<dyn Driver>, dtype: Dtype) -> Cuda {
    Cuda::on(driver, dtype, Start::Replay)
}

fn emulated(processors: usize, dtype: Dtype) -> Cuda {
    on(Arc::new(Emulated::new(processors, MEMORY)), dtype)
}

/// What rounding of values and weights to the dtype comes to over a few layers. The reduced ones leave room for an activation
/// that keeps little more than the rounding: means that are below zero, but for a few.
fn tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 2e-5,
        Dtype::Tf32 | Dtype::F16 => 1e-2,
        Dtype::Bf16 => 8e-2,
    }
}

#[test]
fn every_op_has_a_kernel() {
    for (at, (call, operands)) in SAMPLES.iter().enumerate() {
        for text in sample_network(call, operands) {
            let typed = network(&text);
            // many processors split the sums of small layers
            compare_on(&emulated(132, Dtype::F32), &typed, 3, tolerance(Dtype::F32));
            let (dtype, batch) = [(Dtype::Bf16, 1), (Dtype::F16, 3), (Dtype::Bf16, 3)][at % 3];
            compare_on(&emulated(1, dtype), &typed, batch, tolerance(dtype));
        }
    }
}

/// On a GPU; where there is none there is nothing to see.
#[test]
fn on_the_device_every_op() {
    let Some(driver) = device() else { return };
    let variants = archc_cuda::variants().into_iter().filter(|one| driver.facts().wgmma || !one.is_hopper());
    let wanted: Vec<_> = variants.map(|one| (one.of().kernels()[0], one)).collect();
    let wanted: Vec<_> = wanted.into_iter().map(|(kernel, variant)| (variant, kernel, 0)).collect();
    driver.kernels(&wanted).expect("everything compiles and loads");
    for dtype in Dtype::ALL {
        let cuda = on(driver.clone(), dtype);
        for (call, operands) in SAMPLES {
            for text in sample_network(call, operands) {
                let typed = network(&text);
                [1, 3, 16].into_iter().for_each(|batch| compare_on(&cuda, &typed, batch, tolerance(dtype)));
            }
        }
    }
}

#[test]
fn on_the_device_learning() {
    let Some(driver) = device() else { return };
    learning::on_the_device(&driver);
}

fn device() -> Option<Arc<dyn Driver>> {
    match Device::new(0) {
        Ok(device) => Some(Arc::new(device)),
        Err(problem) => {
            eprintln!("no GPU: {}", problem.message);
            None
        }
    }
}

fn compiled(text: &str) -> Typed {
    let mut sources = Sources::new();
    let file = sources.add("spec.arch", text, Some(Path::new(".")));
    match compile::compile(&mut sources, file, &[]) {
        Ok(Outcome::Spec(compiled)) => compiled.typed,
        other => panic!("no spec: {other:?}"),
    }
}

fn inputs(typed: &Typed, batch: usize) -> Vec<(String, Tensor)> {
    let inputs = typed.graph().inputs().iter();
    inputs
        .map(|(name, id)| {
            let shape = typed.shape(*id).concrete(batch);
            let len = shape.iter().product();
            (name.clone(), Tensor::new(shape, noise(len, 7)))
        })
        .collect()
}

fn run(typed: &Typed, backend: &dyn Backend, batch: usize) -> Vec<(String, Tensor)> {
    let inputs = inputs(typed, batch);
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut executable = Executable::new(typed, &Random(typed), backend, batch).expect("it loads");
    executable.run(&inputs).expect("it runs")
}

/// A whole network on a backend against the CPU, whose own tests say that it is right.
fn end_to_end(text: &str, batch: usize, backend: &dyn Backend, limit: f64) {
    let typed = compiled(text);
    let (want, got) = (run(&typed, &Cpu::new(), batch), run(&typed, backend, batch));
    for ((name, want), (_, got)) in want.iter().zip(&got) {
        let error = distance(want.data(), got.data());
        assert!(error < limit, "{name} is off by {error:.1e} in {text}");
    }
}

const RESNET: &str = "base resnet18 { input [N, 3, 48, 48] }";
const SQUEEZED: &str = "base resnet50 { input [N, 3, 64, 64] }\n\
    insert se(reduction = 16) at layer*[-1] expect 4\nreplace fc with linear(10)";
const MOBILE: &str = "base mobilenet_v3_small { input [N, 3, 64, 64] }";
const IMAGES: &str = "base resnet18 { input [N, 3, 32, 32] }\ncut after avgpool\nappend { flatten\nfc: linear(576)\n\
    reshape(64, 3, 3)\nconv_transpose2d(32, kernel = 3, stride = 2); relu\nconv_transpose2d(3, kernel = 3, stride = 2)\n\
    sigmoid } as decoder";
const TOKENS: &str =
    "use \"zoo:vit.arch\"\nnetwork small = vit(8, 96, 2, 3, 192, 10)\nbase small { input [N, 3, 40, 40] }";

/// Of many layers.
fn deep(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 1e-4,
        Dtype::Tf32 => 1e-2,
        Dtype::F16 => 1e-2,
        Dtype::Bf16 => 8e-2,
    }
}

#[test]
fn networks_on_the_emulator() {
    for (text, batch, dtype) in [
        (RESNET, 1, Dtype::F32),
        (RESNET, 2, Dtype::Bf16),
        (SQUEEZED, 1, Dtype::F16),
        (MOBILE, 2, Dtype::Bf16),
        (MOBILE, 1, Dtype::F32),
        (IMAGES, 2, Dtype::F16),
        (TOKENS, 2, Dtype::F32),
        (TOKENS, 1, Dtype::Bf16),
    ] {
        end_to_end(text, batch, &emulated(132, dtype), deep(dtype));
    }
}

/// What comes before everything that learns may be kept from epoch to epoch.
#[test]
fn samples_keep_their_bits_wherever_they_stand() {
    for (text, dtype) in [(MOBILE, Dtype::Bf16), (TOKENS, Dtype::F32), (SQUEEZED, Dtype::Bf16)] {
        moved_samples_keep_their_bits(Learns::batch_invariant(&emulated(132, dtype)).as_ref(), &compiled(text), 3);
    }
}

/// Convolutions of images of few channels, which are read in pairs of pixels where they can be.
#[test]
fn images_of_few_channels() {
    for (channels, size, window) in [
        (3, [10, 12], "kernel = 7, stride = 2, padding = 3"),
        (3, [9, 8], "kernel = 3, stride = 2, padding = 1"),
        (4, [8, 8], "kernel = 4, stride = 4"),
        (1, [7, 6], "kernel = [3, 4], stride = [1, 2], padding = [1, 2]"),
        (2, [8, 7], "kernel = 3, stride = 2, padding = 1"),
        (3, [2, 2], "kernel = 3, stride = 2, padding = 1"),
    ] {
        let [h, w] = size;
        let typed = network(&format!("x = input([{channels}, {h}, {w}])\n y = conv2d(24, {window}) <- x"));
        for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32] {
            compare_on(&emulated(132, dtype), &typed, 3, tolerance(dtype));
        }
    }
}

/// On several multiprocessors TMA brings the operands of what is large enough.
#[test]
fn large_convolutions_and_linear_maps() {
    for text in [
        "x = input([64, 12, 10])\n a = conv2d(136, kernel = 3, padding = 1) <- x\n y = conv2d(72, kernel = 1, stride = 2) <- a",
        "x = input([40, 128])\n y = linear(260) <- x",
    ] {
        let typed = network(text);
        for dtype in [Dtype::Bf16, Dtype::F16] {
            let cuda = emulated(2, dtype);
            compare_on(&cuda, &typed, 3, tolerance(dtype));
            let executable = Executable::new(&typed, &Random(&typed), &cuda, 3).expect("it loads");
            let kernels = executable.kernels();
            assert!(kernels.iter().filter(|kernel| kernel.starts_with("conv_tma")).count() > 0, "{kernels:?}");
        }
    }
}

#[test]
fn kernels_alone_are_measured() {
    for dtype in [Dtype::Bf16, Dtype::F32] {
        let cuda = emulated(2, dtype);
        let measured: Vec<_> = cases::small().iter().map(|case| cuda.measure(case, 2).expect("it runs")).collect();
        for (one, kernel) in measured.iter().zip([
            "conv_",
            "conv_",
            "depthwise",
            "linear_rows",
            "conv_",
            "pool",
            "attention",
            "excitation",
        ]) {
            assert!(one.kernel.starts_with(kernel), "{one:?}");
            assert!(one.seconds > 0.0 && one.bytes > 0.0, "{one:?}");
        }
        let peaks = cuda.peaks().expect("it runs");
        assert!(peaks.copy > 0.0 && peaks.flops > 0.0);
    }
}

#[test]
fn on_the_device_networks() {
    let Some(driver) = device() else { return };
    for text in [RESNET, SQUEEZED, MOBILE, IMAGES, TOKENS] {
        for dtype in Dtype::ALL {
            let cuda = on(driver.clone(), dtype);
            [1, 2, 33].into_iter().for_each(|batch| end_to_end(text, batch, &cuda, deep(dtype)));
        }
    }
}

#[test]
fn a_device_that_is_too_small_says_how_much_is_needed() {
    let typed = network("x = input([8, 40, 40])\n y = conv2d(8, kernel = 3, padding = 1) <- x");
    for (memory, words) in [(100_000, "for a batch of 4 needs 0.0 GB"), (40 << 10, "needs")] {
        let driver: Arc<dyn Driver> = Arc::new(Emulated::new(1, memory));
        let cuda = on(driver, Dtype::F32);
        let Err(problem) = Executable::new(&typed, &Random(&typed), &cuda, 4) else { panic!("it does not fit") };
        assert!(problem.message.contains(words), "{}", problem.message);
        assert_eq!(problem.code, archc::stages::diag::Code::Resource);
    }
}

/// Whatever does not fit, it is said, and nothing stays.
#[test]
fn memory_that_runs_out_anywhere_is_an_error() {
    let typed = network("x = input([64, 7, 7])\n c = conv2d(64, kernel = 3) <- x\n y = relu <- c");
    let load = |memory: usize| {
        let driver = Arc::new(Emulated::new(132, memory));
        let cuda = on(driver.clone(), Dtype::F32);
        let loaded = Executable::new(&typed, &Random(&typed), &cuda, 2).map(drop);
        assert_eq!(driver.taken(), 0);
        loaded
    };
    // more and more until it fits, then down to where it just does
    let (mut short, mut enough) = (0, 1 << 10);
    let mut messages = vec![];
    let mut fits = |memory: usize| match load(memory) {
        Ok(()) => true,
        Err(problem) => {
            assert_eq!(problem.code, archc::stages::diag::Code::Resource);
            messages.push(problem.message);
            false
        }
    };
    while !fits(enough) {
        (short, enough) = (enough, enough + enough / 4);
    }
    while enough - short > 256 {
        let half = (short + enough) / 2;
        if fits(half) { enough = half } else { short = half }
    }
    for words in ["for a batch of 2 needs", "does not hold the weights"] {
        assert!(messages.iter().any(|message| message.contains(words)), "{messages:?}");
    }
    assert!(messages.last().is_some_and(|last| last.contains("needs")), "a split needs its workspace: {messages:?}");
}

#[test]
fn everything_is_given_back() {
    let driver = Arc::new(Emulated::new(132, MEMORY));
    let typed = network("x = input([64, 7, 7])\n c = conv2d(64, kernel = 3) <- x\n y = relu <- c");
    let cuda = on(driver.clone(), Dtype::Bf16);
    drop(Executable::new(&typed, &Random(&typed), &cuda, 2).expect("it fits"));
    assert_eq!(driver.taken(), 0);
}

/// A fault of a graph's kernels is seen when they are waited for, when the process can ask the GPU no more; another one, step
/// by step, names what failed.
#[test]
fn a_fault_of_a_graph_is_found_step_by_step() {
    let typed = network("x = input([5])\n first = linear(7) <- x\n second = softmax <- first");
    let tensors = Random(&typed);
    let failed = |at: usize, start: Start| {
        let cuda = Cuda::on(Arc::new(Emulated::failing(1, MEMORY, at)), Dtype::F32, start);
        let mut executable = Executable::new(&typed, &tensors, &cuda, 2).expect("it loads");
        let inputs = inputs(&typed, 2);
        let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut run = || executable.run(&inputs).expect_err("the launch fails");
        let first = run();
        // nothing runs any more
        run();
        first
    };
    for (at, what) in ["step 0, `first`", "step 1, `second`", "converting the output"].into_iter().enumerate() {
        let replayed = failed(at, Start::Replay);
        assert_eq!(
            replayed.message,
            "the GPU failed: waiting for the device: an illegal memory access was encountered"
        );
        assert!(replayed.hints[0].starts_with("run with ARCHC_CUDA_SYNC=1"), "{:?}", replayed.hints);
        let stepwise = failed(at, Start::Stepwise).message;
        assert_eq!(stepwise, replayed.message.replace("failed", &format!("failed at {what}")));
    }
}

#[test]
fn profiles_and_kernels_have_an_entry_a_step() {
    let typed =
        network("x = input([16, 9, 9])\n c = conv2d(16, kernel = 3) <- x\n p = max_pool2d(2) <- c\n y = softmax <- p");
    let mut executable = Executable::new(&typed, &Random(&typed), &emulated(1, Dtype::F16), 1).expect("it loads");
    let inputs = inputs(&typed, 1);
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let steps = executable.plan().steps().len();
    assert_eq!(executable.profile(&inputs).expect("it runs").1.len(), steps);
    let kernels = executable.kernels();
    assert_eq!(kernels.len(), steps);
    assert!(kernels.iter().any(|kernel| kernel.starts_with("conv_igemm")), "{kernels:?}");
    assert_eq!(executable.device_times(3).expect("the device keeps time").expect("it runs").len(), 3);
}
