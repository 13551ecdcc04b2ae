//! Batch norm by the statistics of the batch.

use super::super::bind::{Binder, OnCpu};
use super::super::kernels::{Isa, grad};
use super::super::step::{Float, Io, Kernel, Opened, Work};
use crate::diag::Problem;
use crate::net::Running;

/// Statistics, weight and bias.
fn norm<'a>([stats, weight, bias]: [&'a [f32]; 3], eps: f32) -> grad::BatchNorm<'a> {
    grad::BatchNorm { stats, weight, bias, eps }
}

super::float! {
    BatchStats, "batch_statistics", |_, isa, io, Opened { y, reads: [x, ..], .. }| {
        grad::batch_stats(isa, io.reads[0].rows(x), y);
    };
    BatchNorm, "batch_norm2d", |own, isa, io, opened| {
        let epilogue = io.epilogue(&opened);
        let Opened { y, reads: [x, stats, weight, bias, ..], .. } = opened;
        grad::batch_norm(isa, io.map(y, x), &norm([stats, weight, bias], own.eps), &epilogue);
    };
    BatchNormSums, "batch_norm2d_sums", |own, isa, io, Opened { y, reads: [dy, x, stats, weight, bias, _], .. }| {
        let norm = norm([stats, weight, bias], own.eps);
        grad::batch_norm_sums(isa, io.reads[0].rows(dy), io.reads[1].rows(x), &norm, own.relu, y);
    };
    BatchNormData, "batch_norm2d_data", |own, isa, io, Opened { y, reads: [dy, x, stats, weight, bias, sums], .. }| {
        let norm = norm([stats, weight, bias], own.eps);
        grad::batch_norm_data(isa, io.map(y, dy), io.reads[1].rows(x), &norm, sums, own.relu);
    };
}

/// The running statistics with the number of values that those of a batch are taken of.
struct Moving {
    momentum: f32,
    count: usize,
}

impl OnCpu for Running {
    fn bind(&self, to: &Binder) -> Result<Work, Problem> {
        // only here it is known how many samples there are
        Ok(Work::Float(Box::new(Moving { momentum: self.momentum, count: self.count * to.plan.batch() })))
    }
}

impl Kernel for Moving {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        "running_statistics".into()
    }
}

impl Float for Moving {
    fn run(&self, _isa: Isa, io: &Io, opened: Opened) {
        let (mean, rest) = opened.y.split_at_mut(io.write.strides[0]);
        let channels = io.write.dims[1];
        grad::running(opened.reads[0], &mut mean[..channels], &mut rest[..channels], self.momentum, self.count);
    }
}
