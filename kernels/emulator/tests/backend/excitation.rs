//! Squeeze-and-excitation: means that convolutions leave, maps in one kernel, gates where they are read.

use super::*;
use archc::stages::opt::Fusions;

/// An image of odd sizes with a block of squeeze-and-excitation on `conv`.
fn block(input: &str, conv: &str, maps: &str) -> String {
    format!(
        "x = input([{input}])\n c = {conv} <- x\n s = hardswish <- c\n m = adaptive_avg_pool2d(1) <- s\n {maps}\n e = mul <- s, g\n y = conv2d(9, kernel = 1) <- e"
    )
}

const PIXELS: &str =
    "a = conv2d(5, kernel = 1) <- m\n r = relu <- a\n b = conv2d(24, kernel = 1) <- r\n g = hardsigmoid <- b";
const FEATURES: &str =
    "v = flatten <- m\n a = linear(11) <- v\n r = silu <- a\n b = linear(24) <- r\n g = sigmoid <- b";

fn kernels(typed: &Typed, backend: &Cuda, batch: usize) -> Vec<String> {
    Executable::new(typed, &Random(typed), backend, batch).expect("it loads").kernels()
}

fn count(kernels: &[String], name: &str) -> usize {
    kernels.iter().flat_map(|names| names.split(", ")).filter(|one| one.starts_with(name)).count()
}

/// By TMA, split ones, grouped ones, depthwise ones of both kinds.
const BLOCKS: [[&str; 3]; 6] = [
    ["16, 13, 11", "conv2d(24, kernel = 3, padding = 1)", PIXELS],
    ["200, 5, 3", "conv2d(24, kernel = 3, padding = 1)", FEATURES],
    ["64, 20, 20", "conv2d(24, kernel = 1)", FEATURES],
    ["48, 7, 9", "conv2d(24, kernel = 3, groups = 3, stride = 2, padding = 1)", PIXELS],
    ["24, 9, 10", "conv2d(24, kernel = 5, groups = 24, stride = 2, padding = 2)", PIXELS],
    ["24, 6, 33", "conv2d(24, kernel = 3, groups = 24, dilation = 2, padding = 2)", FEATURES],
];

#[test]
fn blocks_of_all_kinds_of_convolutions() {
    for [input, conv, maps] in BLOCKS {
        let typed = network(&block(input, conv, maps));
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            for (processors, batch) in [(1, 3), (132, 1), (2, 3)] {
                let cuda = emulated(processors, dtype);
                compare_on(&cuda, &typed, batch, tolerance(dtype));
                let kernels = kernels(&typed, &cuda, batch);
                assert_eq!(count(&kernels, "excitation"), 1, "{kernels:?}");
                // the gate is where the last convolution reads
                assert_eq!(count(&kernels, "reduce") + count(&kernels, "linear_rows") + count(&kernels, "binary"), 0);
            }
        }
    }
}

#[test]
fn on_the_device_excitations() {
    let Some(driver) = device() else { return };
    for text in BLOCKS
        .map(|[input, conv, maps]| block(input, conv, maps))
        .iter()
        .map(String::as_str)
        .chain(MEANS.map(|(text, _)| text))
    {
        let typed = network(text);
        for dtype in Dtype::ALL {
            let cuda = on(driver.clone(), dtype);
            [1, 3, 40].into_iter().for_each(|batch| compare_on(&cuda, &typed, batch, tolerance(dtype)));
        }
    }
}

/// With how many launches of the kernel each has.
const MEANS: [(&str, usize); 6] = [
    // a head, whose image nobody reads; one whose residual is an image
    (
        "x = input([20, 9, 7])\n c = conv2d(34, kernel = 3) <- x\n r = relu <- c\n m = global_avg_pool2d <- r\n y = linear(10) <- m",
        1,
    ),
    (
        "x = input([16, 7, 7])\n c = conv2d(16, kernel = 3, padding = 1) <- x\n a = add <- c, x\n m = mean([2, 3], keep = true) <- a\n y = relu <- m",
        1,
    ),
    ("x = input([12, 9, 7])\n c = conv2d(12, kernel = 3, groups = 12) <- x\n m = global_avg_pool2d <- c", 1),
    // an output; a reader besides the excitation; hidden values that are too many
    (
        "x = input([20, 9, 7])\n c = conv2d(24, kernel = 3) <- x\n m = global_avg_pool2d <- c\n f = linear(3) <- m\n ! m, c, f",
        2,
    ),
    (
        "x = input([20, 9, 7])\n c = conv2d(24, kernel = 3) <- x\n m = global_avg_pool2d <- c\n f = linear(24) <- m\n g = sigmoid <- f\n t = tanh <- m\n h = mul <- g, t\n y = mul <- c, h",
        2,
    ),
    (
        "x = input([20, 9, 7])\n c = conv2d(24, kernel = 3) <- x\n m = global_avg_pool2d <- c\n f = linear(4100) <- m\n r = relu <- f\n h = linear(24) <- r\n y = mul <- c, h",
        1,
    ),
];

/// Where means are wanted for something else, or the maps are too large, means are made of the sums.
#[test]
fn means_beside_an_image_or_in_place_of_it() {
    for (text, launches) in MEANS {
        let typed = network(text);
        for dtype in [Dtype::F32, Dtype::Bf16] {
            for (processors, batch) in [(1, 3), (132, 1)] {
                let cuda = emulated(processors, dtype);
                compare_on(&cuda, &typed, batch, tolerance(dtype));
                let kernels = kernels(&typed, &cuda, batch);
                assert_eq!(count(&kernels, "excitation"), launches, "{kernels:?} of {text}");
                assert_eq!(count(&kernels, "reduce"), 0, "{kernels:?} of {text}");
            }
        }
    }
}

/// A block costs one launch besides the convolutions, where it was a mean and a launch for each map.
#[test]
fn networks_have_a_launch_a_block() {
    // blocks; the head's mean, in a convolution's step or, of a gated sum, by itself; the head's linear maps; gated sums, where
    // an image is so small that its mean is not taken before the convolution
    for (text, blocks, heads, linear, gated) in [(SQUEEZED, 4, [0, 1], 1, 2), (MOBILE, 9, [1, 0], 2, 0)] {
        let typed = compiled(text);
        let cuda = emulated(132, Dtype::Bf16);
        let launches = |fusions| {
            let net = archc::stages::opt::optimise(&typed, fusions);
            archc::stages::plan::plan(net, &cuda.options(1)).expect("it fits").steps().len()
        };
        let kernels = kernels(&typed, &cuda, 1);
        assert_eq!(count(&kernels, "excitation"), blocks + heads[0], "{kernels:?}");
        assert_eq!(count(&kernels, "reduce"), heads[1], "{kernels:?}");
        assert_eq!(count(&kernels, "linear_rows"), linear, "{kernels:?}");
        assert_eq!(count(&kernels, "binary"), gated, "{kernels:?}");
        assert!(launches(cuda.fusions()) + 2 * blocks < launches(Fusions::PLAIN), "{text}");
    }
}
