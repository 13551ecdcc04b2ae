//! Executables against the reference, on every kind of small network.

use super::cpu::Cpu;
use super::{Executable, Tensors, reference};
use crate::diag::Problem;
use crate::graph::NodeId;
use crate::opt::testing::network;
use crate::tensor::Tensor;
use crate::typed::Typed;

/// Tensors made of their names: the same on every call, variances positive.
pub(crate) struct Random<'a>(pub &'a Typed);

impl Tensors for Random<'_> {
    fn read(&self, node: NodeId, param: usize) -> Result<Vec<f32>, Problem> {
        let decl = &self.0.params(node)[param];
        let len: usize = decl.shape.iter().product();
        let mut values = noise(len, node.index() as u64 * 64 + param as u64);
        let fan_in: usize = decl.shape.iter().skip(1).product();
        let (scale, shift) = match decl.name {
            "running_var" => (0.25, 1.0),
            "weight" if decl.shape.len() == 1 => (0.25, 1.0),
            _ => (1.5 / (fan_in.max(1) as f32).sqrt(), 0.0),
        };
        values.iter_mut().for_each(|value| *value = *value * scale + shift);
        Ok(values)
    }
}

/// Numbers in -1..1.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x >> 40) as f32 / (1 << 23) as f32) - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Runs a network both ways with a batch, twice on the executable, and compares every output.
pub(crate) fn compare(typed: &Typed, batch: usize, tolerance: f64) {
    let tensors = Random(typed);
    let inputs: Vec<(String, Tensor)> = typed
        .graph()
        .inputs()
        .iter()
        .enumerate()
        .map(|(at, (name, id))| {
            let shape = typed.shape(*id).concrete(batch);
            let len = shape.iter().product();
            (name.clone(), Tensor::new(shape, noise(len, 1 << 40 | at as u64)))
        })
        .collect();
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let want = reference::run(typed, &tensors, batch, &inputs).expect("nothing to fail");
    let mut executable = Executable::new(typed, &tensors, &Cpu::new(), batch).expect("small enough");
    let first = executable.run(&inputs).expect("the inputs fit");
    let got = executable.run(&inputs).expect("the inputs fit");
    assert!(first == got, "a second run gives the same bits");
    for ((name, want), (same, got)) in want.iter().zip(&got) {
        assert_eq!(name, same);
        assert_eq!(want.shape(), got.shape(), "{name}");
        let error = distance(want.data(), got.data());
        assert!(
            error < tolerance,
            "{name} is off by {error:.1e} in\n{}\n{}",
            typed.graph(),
            executable.plan().dump(typed)
        );
    }
}

/// Relative distance in the Euclidean norm; infinite where one has what is no number and the other has not.
pub(crate) fn distance(want: &[f32], got: &[f32]) -> f64 {
    let (mut error, mut norm) = (0.0, 0.0);
    for (want, got) in want.iter().zip(got) {
        if want.is_nan() != got.is_nan() || want.is_infinite() != got.is_infinite() {
            return f64::INFINITY;
        }
        if want.is_finite() {
            error += (*want as f64 - *got as f64).powi(2);
            norm += (*want as f64).powi(2);
        }
    }
    if error == 0.0 { 0.0 } else { (error / norm).sqrt() }
}

/// As [`compare`], with several batches.
fn check(text: &str) {
    let typed = network(text);
    for batch in [1, 3] {
        compare(&typed, batch, 2e-5);
    }
}

#[test]
fn convolutions_and_additions() {
    check(
        "x = input([3, 9, 7])
        a = conv2d(5, kernel = 3, padding = 1) <- x
        b = conv2d(5, kernel = 1, bias = false) <- x
        c = add <- a, b
        d = add <- c, a
        e = conv2d(600, kernel = [3, 2], stride = 2) <- d
        f = conv2d(8, kernel = 1) <- e
        g = add(0.5) <- f
        ! c",
    );
}

#[test]
fn the_network_may_be_its_input() {
    check("x = input([3, 4, 5])");
    check("x = input([4])\n y = linear(7) <- x");
    check("x = input([2, 3, 4])\n y = linear(7) <- x");
}

#[test]
fn parameters_are_broadcast() {
    check("x = input([6, 4])\n p = parameter([1, 6, 4]) \n y = add <- x, p");
    check("x = input([6, 4])\n p = parameter([4]) \n y = add <- p, x");
    check("x = input([6, 4, 3])\n p = parameter([6, 1, 1]) \n c = conv2d(6, kernel = 1) <- x\n y = add <- c, p");
    check("x = input([6])\n p = parameter([6]) \n y = add <- x, p\n ! p");
}
