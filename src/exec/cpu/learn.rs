//! The steps of training bound to their kernels. Weights are values here, and are packed by the step that uses them.

use archc_base::Act;

use super::bind::{FEW_ROWS, conv_shape, transposed_shape};
use super::kernels::grad::{self, BatchNorm, Draw};
use super::kernels::{
    self, Epilogue, Isa, Map, PackedConv, PackedConvTranspose, PackedMat, Policy, Rows, Site, Strided, choose,
};
use super::memory::{Memory, Slot};
use super::step::{Bound, Place};
use crate::opt::{Grain, Learn};
use crate::philox::{Philox, unit};
use crate::plan::view::IMAGE;
use crate::plan::{Step, View};

/// The order of axes in which a step of training goes through the rows of one of its views.
pub(super) fn order(learn: &Learn, step: &Step, view: &View) -> Vec<usize> {
    let with_last = |view: &View, axis: usize| {
        let mut order = view.order();
        order.retain(|other| *other != axis);
        order.push(axis);
        order
    };
    let rank = view.dims.len();
    match learn {
        Learn::Linear | Learn::LinearData => with_last(&step.write, step.write.dims.len() - 1),
        Learn::LayerNorm { axis, .. }
        | Learn::LayerNormData { axis, .. }
        | Learn::SoftmaxData { axis, .. }
        | Learn::NormalizeData { axis, .. } => with_last(&step.write, *axis),
        Learn::LinearWeight => (0..rank).collect(),
        Learn::PRelu | Learn::PReluData => with_last(&step.write, 1),
        Learn::ActData { .. } => step.write.order(),
        Learn::Sums { axis } => with_last(&step.reads[0], *axis),
        Learn::LayerNormSums { axis, .. } => with_last(&step.reads[1], *axis),
        Learn::PReluSums => with_last(&step.reads[1], 1),
        _ if rank == 4 => IMAGE.to_vec(),
        _ => (0..rank).collect(),
    }
}

/// Values of a row.
fn classes(dims: &[usize]) -> usize {
    dims[dims.len() - 1]
}

/// The uniform numbers of a draw in a run whose clock reads so.
fn draws(clock: &[f32], stream: u64) -> impl Fn(u64) -> [f32; 4] + Sync + use<> {
    let word = |at: usize| clock[at..at + 4].iter().rev().fold(0u64, |word, part| word << 16 | *part as u64);
    // a step's numbers lie far from any other's
    let philox = Philox::new(word(0), stream ^ word(4).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    move |index| philox.block(index).map(unit)
}

impl Place {
    fn strided<'a>(&'a self, data: &'a [f32]) -> Strided<'a> {
        Strided { data, strides: &self.strides }
    }
}

/// Operands of a step at most, its residual counted.
const MOST: usize = 7;

impl Bound {
    /// What is written, and what is read: the operands, then the residual; nothing in place of the first operand where
    /// the step writes over it.
    fn opened<'m>(&self, memory: &'m mut Memory) -> (&'m mut [f32], [&'m [f32]; MOST]) {
        let nothing = self.write.slot.nothing();
        let mut slots: [&Slot; MOST] = [&nothing; MOST];
        for (slot, place) in slots.iter_mut().zip(self.reads.iter().chain(&self.residual)) {
            *slot = &place.slot;
        }
        if self.in_place {
            slots[0] = &nothing;
        }
        memory.open(&self.write.slot, slots)
    }

    fn mapped<'a>(&'a self, to: &'a mut [f32], x: &'a [f32]) -> Map<'a> {
        match self.in_place {
            true => Map::in_place(self.write.rows_mut(to)),
            false => Map::new(self.reads[0].rows(x), self.write.rows_mut(to)),
        }
    }

    pub(super) fn learn(&self, isa: Isa, policy: Policy, learn: &Learn, memory: &mut Memory) {
        let [before, after] = self.acts;
        let (reads, write) = (&self.reads, &self.write);
        let (to, data) = self.opened(memory);
        let residual = self.residual.as_ref().map(|place| place.rows(data[reads.len()]));
        let ending = |bias: Option<usize>| {
            let bias = bias.filter(|at| *at < reads.len()).map(|at| data[at]);
            Epilogue { bias, before, gate: None, residual, after }
        };
        let dims = |at: usize| &reads[at].dims;
        match learn {
            Learn::Conv { window, groups } => {
                let shape = conv_shape(window, dims(0)[1], write.dims[1], *groups);
                let site = Site { batch: dims(0)[0], size: [dims(0)[2], dims(0)[3]], policy };
                let packed = PackedConv::pack_for(isa, &shape, choose::<f32>(isa, &shape, &site), data[1], None);
                packed.run(reads[0].image(data[0]), write.image_mut(to), &ending(Some(2)));
            }
            Learn::ConvTranspose { window, groups, output_padding } => {
                let shape = transposed_shape(window, *output_padding, dims(0)[1], write.dims[1], *groups);
                let packed = PackedConvTranspose::pack(isa, &shape, data[1], None);
                packed.run(reads[0].image(data[0]), write.image_mut(to), &ending(Some(2)));
            }
            Learn::Linear => {
                let (x, out) = (reads[0].rows(data[0]), write.matrix.cols);
                let weights = Rows::new(data[1], out, x.cols);
                match x.rows <= FEW_ROWS {
                    true => kernels::linear(isa, x, weights, write.rows_mut(to), &ending(Some(2))),
                    false => PackedMat::from_nk(isa, weights).run(x, write.rows_mut(to), &ending(Some(2))),
                }
            }
            Learn::ConvData { window, groups } => {
                let shape = conv_shape(window, write.dims[1], dims(0)[1], *groups);
                let (dy, dx) = (reads[0].image(data[0]), write.image_mut(to));
                grad::conv_data(isa, &shape, policy, data[1], dy, dx, &ending(None));
            }
            Learn::ConvWeight { window, groups } => {
                let shape = conv_shape(window, dims(0)[1], dims(1)[1], *groups);
                grad::conv_weight(isa, &shape, reads[0].image(data[0]), reads[1].image(data[1]), to);
            }
            Learn::LinearData => {
                let dy = reads[0].rows(data[0]);
                let weights = Rows::new(data[1], dy.cols, write.matrix.cols);
                PackedMat::from_kn(isa, weights).run(dy, write.rows_mut(to), &Epilogue::default());
            }
            Learn::LinearWeight => grad::linear_weight(isa, reads[0].rows(data[0]), reads[1].rows(data[1]), to),
            Learn::BatchStats => grad::batch_stats(isa, reads[0].rows(data[0]), to),
            Learn::BatchNorm { eps } => {
                let norm = BatchNorm { stats: data[1], weight: data[2], bias: data[3], eps: *eps };
                grad::batch_norm(isa, self.mapped(to, data[0]), &norm, &ending(None));
            }
            Learn::BatchNormSums { eps, relu } => {
                let norm = BatchNorm { stats: data[2], weight: data[3], bias: data[4], eps: *eps };
                grad::batch_norm_sums(isa, reads[0].rows(data[0]), reads[1].rows(data[1]), &norm, *relu, to);
            }
            Learn::BatchNormData { eps, relu } => {
                let norm = BatchNorm { stats: data[2], weight: data[3], bias: data[4], eps: *eps };
                let x = reads[1].rows(data[1]);
                grad::batch_norm_data(isa, self.mapped(to, data[0]), x, &norm, data[5], *relu);
            }
            Learn::Running { momentum, count, .. } => {
                let (mean, rest) = to.split_at_mut(write.strides[0]);
                let channels = write.dims[1];
                grad::running(data[0], &mut mean[..channels], &mut rest[..channels], *momentum, *count);
            }
            Learn::LayerNorm { eps, .. } => {
                let io = self.mapped(to, data[0]);
                kernels::layer_norm(isa, io, Some(data[1]), Some(data[2]), *eps, Act::None);
            }
            Learn::GroupNorm { groups, eps } => {
                let (x, y) = (reads[0].image(data[0]), write.image_mut(to));
                kernels::group_norm(isa, *groups, x, Some(data[1]), Some(data[2]), *eps, Act::None, y);
            }
            Learn::LayerNormData { eps, .. } => {
                grad::layer_norm_data(isa, self.mapped(to, data[0]), reads[1].rows(data[1]), data[2], *eps);
            }
            Learn::LayerNormSums { eps, .. } => {
                grad::layer_norm_sums(isa, reads[0].rows(data[0]), reads[1].rows(data[1]), *eps, to);
            }
            Learn::GroupNormData { groups, eps } => {
                let (dy, x) = (reads[0].image(data[0]), reads[1].image(data[1]));
                grad::group_norm_data(*groups, *eps, dy, x, data[2], write.image_mut(to));
            }
            Learn::GroupNormSums { groups, eps } => {
                grad::group_norm_sums(*groups, *eps, reads[0].image(data[0]), reads[1].image(data[1]), to);
            }
            Learn::PRelu => {
                // 1 above 0, else the slope, times the value itself
                let (x, slope) = (reads[0].rows(data[0]), data[1]);
                grad::prelu_data(isa, Map::new(x, write.rows_mut(to)), x, &slope[..dims(1)[0]]);
            }
            Learn::PReluData => {
                let slope = &data[2][..dims(2)[0]];
                grad::prelu_data(isa, self.mapped(to, data[0]), reads[1].rows(data[1]), slope);
            }
            Learn::PReluSums => {
                grad::prelu_sums(isa, reads[0].rows(data[0]), reads[1].rows(data[1]), &mut to[..write.dims[0]])
            }
            Learn::Sums { .. } => grad::sums(isa, reads[0].rows(data[0]), to),
            Learn::Noise { p, grain, stream } => {
                let draws = draws(data[1], *stream);
                let (rows, cols) = (write.matrix.rows / write.dims[0], write.matrix.cols);
                let each = match grain {
                    Grain::Sample => 1,
                    Grain::Channel => cols,
                    Grain::Value => rows * cols,
                };
                let draw = Draw { block: &draws, p: *p as f32, rows_each: rows, each };
                grad::noise(self.mapped(to, data[0]), &draw);
            }
            Learn::ActData { act } => {
                grad::act_data(isa, *act, self.mapped(to, data[0]), reads[1].rows(data[1]));
            }
            Learn::SoftmaxData { log, .. } => {
                grad::softmax_data(isa, self.mapped(to, data[0]), reads[1].rows(data[1]), *log);
            }
            Learn::NormalizeData { eps, .. } => {
                grad::normalize_data(isa, self.mapped(to, data[0]), reads[1].rows(data[1]), *eps);
            }
            Learn::PoolData { pool, window } => {
                let (dy, x) = (reads[0].image(data[0]), reads[1].image(data[1]));
                grad::pool_data(isa, *pool, window, dy, x, write.image_mut(to));
            }
            Learn::AdaptivePoolData { reduce } => {
                let (dy, x) = (reads[0].image(data[0]), reads[1].image(data[1]));
                grad::adaptive_pool_data(isa, *reduce, dy, x, write.image_mut(to));
            }
            Learn::ResizeData { mode, scale } => {
                grad::resize_data(isa, *mode, *scale, reads[0].image(data[0]), write.image_mut(to));
            }
            Learn::MeanData { axes } => {
                let mut strides = reads[0].strides.clone();
                if strides.len() < write.dims.len() {
                    axes.iter().for_each(|axis| strides.insert(*axis, 0));
                }
                axes.iter().for_each(|axis| strides[*axis] = 0);
                let len: usize = axes.iter().map(|axis| write.dims[*axis]).product();
                let dy = Strided { data: data[0], strides: &strides };
                grad::mean_data(&write.dims, dy, 1.0 / len as f32, to, &write.strides);
            }
            Learn::MaxData { axes } => {
                let marks: Vec<bool> = (0..write.dims.len()).map(|axis| axes.contains(&axis)).collect();
                grad::max_data(&write.dims, &marks, data[0], reads[1].strided(data[1]), data[2], to);
            }
            Learn::Unstretch { from_left } => {
                let shape = dims(0);
                let offset = if *from_left { 0 } else { shape.len() - write.dims.len() };
                let repeated = |axis: usize| match axis.checked_sub(offset).and_then(|axis| write.dims.get(axis)) {
                    Some(own) => *own != shape[axis],
                    None => true,
                };
                let marks: Vec<bool> = (0..shape.len()).map(repeated).collect();
                let other = (reads.len() > 1).then(|| reads[1].strided(data[1]));
                grad::unstretch(isa, shape, &marks, reads[0].strided(data[0]), other, to);
            }
            Learn::GatherData => {
                let cols = write.dims[1..].iter().product();
                grad::gather_data(data[0], data[1], cols, to);
            }
            Learn::Loss(loss) => to[0] = grad::loss(loss, classes(dims(0)), data[0], data[1]),
            Learn::LossData(loss) => {
                grad::loss_data(loss, classes(dims(0)), data[0], data[1], to);
            }
            Learn::Gradient { .. } => unreachable!("the plan makes copies of these"),
        }
    }
}
