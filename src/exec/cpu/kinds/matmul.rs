//! Products of matrices of activations.

use super::super::bind::{Binder, OnCpu};
use super::super::kernels::{self, Batch, BatchMut, Isa, Layout, Shared, tasks};
use super::super::step::{Float, Io, Kernel, Opened, Work};
use crate::diag::Problem;
use crate::net::Matmul;
use crate::plan::geometry::Products;

impl OnCpu for Matmul {
    fn bind(&self, _to: &Binder) -> Result<Work, Problem> {
        Ok(Work::Float(Box::new(self.clone())))
    }
}

impl Kernel for Matmul {
    fn name(&self, isa: Isa, _io: &Io) -> String {
        format!("matmul {}", isa.tile())
    }
}

impl Float for Matmul {
    fn run(&self, isa: Isa, io: &Io, opened: Opened) {
        let products = io.geometry.products();
        run(isa, products, &products.levels, [opened.reads[0], opened.reads[1]], opened.y, self.scale);
    }
}

fn run(isa: Isa, products: &Products, levels: &[(usize, [usize; 3])], [a, b]: [&[f32]; 2], to: &mut [f32], scale: f32) {
    let (count, steps) = levels[0];
    if levels.len() > 1 {
        // the plan lets outer matrices of the result follow one another
        let (base, len) = (Shared(to.as_mut_ptr()), to.len());
        tasks(len.div_ceil(steps[2]), |at| {
            let from = at * steps[2];
            // SAFETY: each task has its own matrices.
            let to = unsafe { std::slice::from_raw_parts_mut(base.at(from), steps[2].min(len - from)) };
            run(isa, products, &levels[1..], [&a[at * steps[0]..], &b[at * steps[1]..]], to, scale);
        });
        return;
    }
    let [m, k, n] = products.sizes;
    let [a_stride, b_stride, stride] = products.leading;
    let (layout, rows, cols) = if products.transposed { (Layout::Nk, n, k) } else { (Layout::Kn, k, n) };
    let a = Batch { data: a, rows: m, cols: k, stride: a_stride, batch: steps[0] };
    let b = Batch { data: b, rows, cols, stride: b_stride, batch: steps[1] };
    let out = BatchMut { data: to, rows: m, cols: n, stride, batch: steps[2] };
    kernels::matmul(isa, count, a, b, layout, out, scale);
}
