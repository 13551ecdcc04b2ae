//! A CPU whose plans cut the batch into slices wherever chance wants it.

use crate::diag::Problem;
use crate::exec::cpu::Cpu;
use crate::exec::tests::Random;
use crate::exec::{Backend, Executable, Program, Weights};
use crate::opt::testing::network;
use crate::opt::{Fusion, Net};
use crate::plan::{self, Level, Load, Plan, Slicing, Step};

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

    fn fusion(&self) -> Fusion {
        self.cpu.fusion()
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
