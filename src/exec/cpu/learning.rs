//! [`Learning`] on the CPU: states and gradients lie in the current program's arena, the other arrays beside it.

use std::time::Duration;

use super::kernels::grad::{Slots, norm_squared, update};
use super::{Cpu, Training};
use crate::diag::Problem;
use crate::exec::learning::{Array, Arrays, Learning, Learns, Part, Update};
use crate::exec::{Backend, Weights};
use crate::plan::{self, Plan};
use crate::tensor::Tensor;

impl Learns for Cpu {
    fn learning_options(&self, batch: usize) -> plan::Options<'_> {
        // statistics of a batch need all of its samples
        plan::Options { slicing: None, ..self.options(batch) }
    }

    fn batch_invariant(&self) -> Box<dyn Backend> {
        Box::new(Cpu::batch_invariant(*self))
    }

    fn learning(&self, arrays: Arrays) -> Box<dyn Learning> {
        Box::new(OnCpu {
            cpu: *self,
            arrays,
            programs: vec![],
            current: 0,
            moments: vec![],
            average: vec![],
            sums: vec![],
        })
    }
}

struct OnCpu {
    cpu: Cpu,
    arrays: Arrays,
    programs: Vec<Training>,
    current: usize,
    moments: Vec<Vec<f32>>,
    average: Vec<f32>,
    sums: Vec<f32>,
}

impl OnCpu {
    fn array(&mut self, array: Array) -> &mut [f32] {
        match array {
            Array::States => self.programs[self.current].kept().0,
            Array::Gradients => self.programs[self.current].kept().1,
            Array::Moment(number) => &mut self.moments[number],
            Array::Average => &mut self.average,
            Array::Sums => &mut self.sums,
        }
    }
}

impl Learning for OnCpu {
    fn load(&mut self, plan: &Plan, weights: &Weights) -> Result<(), Problem> {
        let mut program = self.cpu.load_training(plan, weights)?;
        if self.programs.is_empty() {
            let (states, gradients) = program.kept();
            let (states, learned) = (states.len(), gradients.len());
            let Arrays { moments, average, sums } = self.arrays;
            self.moments = vec![vec![0.0; learned]; moments];
            self.average = vec![0.0; if average { states } else { 0 }];
            self.sums = vec![0.0; if sums { learned } else { 0 }];
        }
        self.programs.push(program);
        self.select(self.programs.len() - 1);
        Ok(())
    }

    fn select(&mut self, program: usize) {
        if program != self.current {
            let states = self.array(Array::States).to_vec();
            self.current = program;
            self.array(Array::States).copy_from_slice(&states);
        }
    }

    fn run(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<(), Problem> {
        self.programs[self.current].run(inputs, outputs)
    }

    fn profile(&mut self, inputs: &[&[f32]], outputs: &mut [Tensor]) -> Result<Vec<Duration>, Problem> {
        self.programs[self.current].profile(inputs, outputs)
    }

    fn kernels(&self) -> Vec<String> {
        self.programs[self.current].kernels()
    }

    fn first_non_finite(&mut self, inputs: &[&[f32]]) -> Option<usize> {
        self.programs[self.current].first_non_finite(inputs)
    }

    fn read(&mut self, array: Array) -> Result<Vec<f32>, Problem> {
        Ok(self.array(array).to_vec())
    }

    fn write(&mut self, array: Array, values: &[f32]) -> Result<(), Problem> {
        self.array(array).copy_from_slice(values);
        Ok(())
    }

    fn accumulate(&mut self) -> Result<(), Problem> {
        let gradients = self.programs[self.current].kept().1;
        self.sums.iter_mut().zip(&*gradients).for_each(|(sum, value)| *sum += value);
        Ok(())
    }

    fn update(&mut self, wanted: &Update) -> Result<Option<f64>, Problem> {
        let Update { lr, weight_decay, runs, clip, ema, parts } = *wanted;
        let (states, gradients) = self.programs[self.current].kept();
        let gradients: &[f32] = if runs > 1 { &self.sums } else { gradients };
        let mut scale = 1.0 / runs as f64;
        let norm = clip.map(|most| {
            let norm = norm_squared(gradients).sqrt() * scale;
            // PyTorch's clip_grad_norm_
            scale *= (most / (norm + 1e-6)).min(1.0);
            norm
        });
        for Part { range, factor, rule } in parts {
            let moments =
                self.moments.iter_mut().take(rule.moments()).map(|moment| &mut moment[range.clone()]).collect();
            let slots = Slots { weights: &mut states[range.clone()], gradients: &gradients[range.clone()], moments };
            update(self.cpu.isa(), *rule, lr * factor, weight_decay, scale as f32, slots);
        }
        if let Some(keep) = ema {
            let keep = keep as f32;
            for (average, value) in self.average.iter_mut().zip(&*states) {
                *average = keep * *average + (1.0 - keep) * value;
            }
        }
        if runs > 1 {
            self.sums.fill(0.0);
        }
        Ok(norm)
    }
}
