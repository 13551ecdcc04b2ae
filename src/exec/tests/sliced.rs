//! A CPU whose plans cut the batch into slices wherever chance wants it.

use archc_base::DType;

use crate::diag::Problem;
use crate::exec::cpu::Cpu;
use crate::exec::testing::{Random, noise};
use crate::exec::{Backend, Executable, Program, Weights};
use crate::net::Net;
use crate::opt::Fusions;
use crate::opt::testing::network;
use crate::plan::{self, Level, Load, Plan, Slicing, Step};
use crate::tensor::Tensor;

#[derive(Debug)]
pub(super) struct Sliced {
    pub cpu: Cpu,
    pub seed: u64,
}

impl Slicing for Sliced {
    fn load(&self, _net: &Net, step: &Step, samples: usize) -> Load {
        // each step finds another size cheap
        let mut state = self.seed;
        for number in step.views().flat_map(|view| [view.offset, view.len()]).chain([samples]) {
            state = (state ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        }
        Load { work: samples as f64 * (1.0 + (state >> 40) as f64 / (1 << 22) as f64), weights: 0.0 }
    }

    fn levels(&self) -> [Level; 3] {
        [Level { holds: f64::INFINITY, byte: 1e-9 }; 3]
    }
}

impl Backend for Sliced {
    fn name(&self) -> &'static str {
        self.cpu.name()
    }

    fn options(&self, batch: usize) -> plan::Options<'_> {
        plan::Options { slicing: Some(self), ..self.cpu.options(batch) }
    }

    fn fusions(&self) -> Fusions {
        self.cpu.fusions()
    }

    fn load(&self, plan: &Plan, weights: &Weights) -> Result<Box<dyn Program>, Problem> {
        Backend::load(&self.cpu, plan, weights)
    }
}

#[test]
fn the_batch_is_really_cut_and_takes_less_memory() {
    let typed = network(
        "x = input([3, 16, 16])
        a = conv2d(8, kernel = 3, padding = 1) <- x
        b = conv2d(16, kernel = 3, padding = 1) <- a
        c = conv2d(16, kernel = 3, padding = 1) <- b
        d = add <- c, b
        e = flatten <- d
        f = linear(5) <- e",
    );
    let tensors = Random(&typed);
    let plan = |backend: &dyn Backend| Executable::new(&typed, &tensors, backend, 8).expect("small").plan().clone();
    let whole = plan(&Cpu::new());
    let cut: Vec<Plan> = (0..8).map(|seed| plan(&Sliced { cpu: Cpu::new(), seed })).collect();
    for plan in &cut {
        let steps: Vec<usize> = plan.segments().iter().flat_map(|segment| segment.steps.clone()).collect();
        assert_eq!(steps, (0..plan.steps().len()).collect::<Vec<_>>(), "every step once, in order");
    }
    let sizes = |plan: &Plan| plan.segments().iter().map(|segment| segment.slices).max();
    assert!(cut.iter().filter(|plan| sizes(plan) > Some(1)).count() > 4);
    assert!(cut.iter().any(|plan| plan.arena() < whole.arena()));
}

#[test]
fn threads_do_not_change_a_bit() {
    let typed = network(
        "x = input([3, 40, 40])
        a = conv2d(16, kernel = 3, stride = 2, padding = 1) <- x
        b = batch_norm2d <- a
        c = relu <- b
        d = conv2d(48, kernel = 1) <- c
        e = conv2d(48, kernel = 3, padding = 1, groups = 48) <- d
        f = hardswish <- e
        s = global_avg_pool2d <- f
        t = linear(12) <- s
        u = relu <- t
        v = linear(48) <- u
        w = sigmoid <- v
        g = mul <- f, w
        h = conv2d(16, kernel = 1) <- g
        i = add <- h, c
        j = conv2d(64, kernel = 3, padding = 1) <- i
        k = conv2d(64, kernel = 3, padding = 1) <- j
        l = global_avg_pool2d <- k
        n = linear(10) <- l
        ! n",
    );
    let tensors = Random(&typed);
    let batch = 6;
    let image = Tensor::new(vec![batch, 3, 40, 40], noise(batch * 3 * 40 * 40, 9));
    let bits = |backend: &dyn Backend, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let mut executable = Executable::new(&typed, &tensors, backend, batch).expect("small");
            let found = executable.run(&[("x", &image)]).expect("the input fits");
            found.iter().flat_map(|(_, tensor)| tensor.data().iter().map(|v| v.to_bits())).collect::<Vec<u32>>()
        })
    };
    let cpu = Cpu::new();
    let reduced = cpu.with_dtype(DType::Bf16).expect("the CPU has kernels for it");
    let backends: [&dyn Backend; 4] = [&cpu, &reduced, &Sliced { cpu, seed: 1 }, &Sliced { cpu: reduced, seed: 2 }];
    for backend in backends {
        let one = bits(backend, 1);
        for threads in [2, 3, 8] {
            assert!(bits(backend, threads) == one, "other bits on {threads} threads");
        }
    }
}

#[test]
fn a_batch_that_is_cut_still_has_to_fit() {
    let typed = network("x = input([3, 16, 16])\n a = conv2d(8, kernel = 3) <- x\n b = conv2d(4, kernel = 3) <- a");
    let tensors = Random(&typed);
    // a hundred times the memory there is in inputs alone; and a prime, whose divisors nobody may search for long
    for batch in [plan::available().min(1 << 45) / (3 * 16 * 16 * 4) * 100, 999_999_999_989] {
        let problem = Executable::new(&typed, &tensors, &Cpu::new(), batch).err().expect("it cannot fit");
        assert!(problem.message.contains("for a batch of"), "{}", problem.message);
    }
}
