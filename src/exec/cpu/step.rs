//! One step bound to its kernel: packed weights and the geometry of what it reads and writes.

use archc_base::{Act, Binary, Pool, Reduce, Resample, Window};

use super::kernels::{
    self, Batch, BatchMut, ConvIo, Epilogue, Gated, Heads, Image, ImageMut, Input, Isa, Layout, Map, Operand, Output,
    PackedConv, PackedConvTranspose, PackedMat, PackedPooled, PackedSeparable, Planes, Policy, Rows, RowsMut, Shared,
    Strided, ranges, tasks,
};
use super::memory::{Memory, Slot};
use crate::ops::{self, Op};
use crate::opt::{Learn, Squeeze};
use crate::plan::pairing::Pairing;
use crate::plan::view::Matrix;
use crate::tensor::Tensor;

/// A step that is ready to run.
pub(super) struct Bound {
    pub work: Work,
    pub reads: Vec<Place>,
    pub gate: Option<Place>,
    pub residual: Option<Place>,
    pub write: Place,
    pub means: Option<Place>,
    pub in_place: bool,
    /// Before and after the residual is added.
    pub acts: [Act; 2],
}

/// A view with what kernels want to know of it.
pub(super) struct Place {
    pub slot: Slot,
    pub dims: Vec<usize>,
    pub strides: Vec<usize>,
    /// As rows, in the order of axes that the step works in.
    pub matrix: Matrix,
}

/// What a step does, with the weights it does it with.
pub(super) enum Work {
    Copy,
    Fill(f32),
    Identity,
    Conv {
        packed: PackedConv,
        bias: Option<Vec<f32>>,
        squeeze: Squeeze,
    },
    Separable {
        packed: PackedSeparable,
        bias: Option<Vec<f32>>,
    },
    PooledConv {
        packed: PackedPooled,
    },
    ConvTranspose {
        packed: PackedConvTranspose,
        bias: Option<Vec<f32>>,
    },
    /// Few rows: weights [out, in] as they are.
    Rows {
        weights: Vec<f32>,
        bias: Option<Vec<f32>>,
    },
    Linear {
        packed: PackedMat,
        bias: Option<Vec<f32>>,
    },
    Channels {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    PRelu {
        slope: Vec<f32>,
    },
    LayerNorm {
        weight: Vec<f32>,
        bias: Vec<f32>,
        eps: f32,
    },
    GroupNorm {
        groups: usize,
        weight: Vec<f32>,
        bias: Vec<f32>,
        eps: f32,
    },
    Softmax,
    LogSoftmax,
    Normalize {
        eps: f32,
    },
    Pool {
        pool: Pool,
        window: Window,
    },
    AdaptivePool {
        reduce: Reduce,
    },
    Resize {
        mode: Resample,
        scale: Option<[f64; 2]>,
    },
    /// `shape` and `strides` of the operand in the order in which the results lie.
    Reduce {
        reduce: Reduce,
        shape: Vec<usize>,
        strides: Vec<usize>,
        axes: Vec<bool>,
    },
    Binary(Pairs),
    Matmul(Matmul),
    Attention {
        heads: Heads,
        scale: f32,
    },
    /// A step of training.
    Learn(Learn, Policy),
    /// By the op's own meaning: for what is too rare for a kernel.
    Reference {
        op: Box<Op>,
        params: Vec<Tensor>,
        batched: Vec<bool>,
    },
}

/// How the second operand pairs with the first. `op` is turned where the operands were.
pub(super) struct Pairs {
    pub op: Binary,
    /// Which read is the first operand.
    pub first: usize,
    pub pairing: Pairing,
    /// Of both operands and the sizes in the order of the output's memory, for [`Pairing::Broadcast`].
    pub shape: Vec<usize>,
    pub strides: [Vec<usize>; 2],
}

/// Batches of products of matrices.
pub(super) struct Matmul {
    /// Axes of matrices from the outermost: how many, and how far apart they are in both operands and the result.
    pub levels: Vec<(usize, [usize; 3])>,
    /// Floats from one row to the next.
    pub dists: [usize; 3],
    /// Rows, terms and columns.
    pub sizes: [usize; 3],
    pub layout: Layout,
    pub scale: f32,
}

impl Place {
    pub(super) fn rows<'a, T>(&self, data: &'a [T]) -> Rows<'a, T> {
        Rows { data, rows: self.matrix.rows, cols: self.matrix.cols, dist: self.matrix.dist }
    }

    pub(super) fn rows_mut<'a, T>(&self, data: &'a mut [T]) -> RowsMut<'a, T> {
        RowsMut { data, rows: self.matrix.rows, cols: self.matrix.cols, dist: self.matrix.dist }
    }

    pub(super) fn image<'a, T>(&self, data: &'a [T]) -> Image<'a, T> {
        let [n, c, h, w] = self.dims[..] else { unreachable!("images have four axes") };
        Image { data, n, h, w, c, dist: self.matrix.dist }
    }

    /// As images in any order of axes.
    pub(super) fn planes<'a>(&self, data: &'a [f32]) -> Input<'a> {
        let four = |sizes: &[usize]| <[usize; 4]>::try_from(sizes).expect("images have four axes");
        Input::Planes(Planes { data, dims: four(&self.dims), strides: four(&self.strides) })
    }

    pub(super) fn image_mut<'a, T>(&self, data: &'a mut [T]) -> ImageMut<'a, T> {
        let [n, c, h, w] = self.dims[..] else { unreachable!("images have four axes") };
        ImageMut { data, n, h, w, c, dist: self.matrix.dist }
    }
}

impl Work {
    /// What does the work.
    pub(super) fn name(&self, isa: Isa, has_residual: bool) -> String {
        let name = match self {
            Work::Copy => "copy",
            Work::Fill(_) => "fill",
            Work::Identity if has_residual => "binary rows",
            Work::Identity => "unary",
            Work::Conv { packed, .. } => return packed.kernel(),
            Work::Separable { .. } => return format!("separable {}", isa.tile()),
            Work::PooledConv { .. } => return format!("stem, pooled {}", isa.tile()),
            Work::ConvTranspose { .. } => return format!("transposed {}", isa.tile()),
            Work::Rows { .. } => "dot products",
            Work::Linear { .. } => return format!("gemm {}", isa.tile()),
            Work::Channels { .. } => "scale and shift",
            Work::PRelu { .. } => "prelu",
            Work::LayerNorm { .. } => "layer norm",
            Work::GroupNorm { .. } => "group norm",
            Work::Softmax => "softmax",
            Work::LogSoftmax => "log softmax",
            Work::Normalize { .. } => "l2 norm",
            Work::Pool { .. } => "pool",
            Work::AdaptivePool { .. } => "adaptive pool",
            Work::Resize { .. } => "resize",
            Work::Reduce { .. } => "reduce",
            Work::Binary(binary) => match binary.pairing {
                Pairing::Rows(_) => "binary rows",
                Pairing::Scalar => "binary scalar",
                Pairing::Row => "binary row",
                Pairing::Gate { .. } => "binary gate",
                Pairing::Column => "binary column",
                Pairing::Broadcast => "broadcast",
            },
            Work::Matmul(_) => return format!("matmul {}", isa.tile()),
            Work::Attention { .. } => "attention",
            Work::Reference { .. } => "reference",
            Work::Learn(learn, _) => learn.name(),
        };
        name.to_string()
    }
}

impl Bound {
    /// What does the work, as `bench --profile` prints it.
    pub(super) fn kernel(&self, isa: Isa) -> String {
        match &self.work {
            Work::Identity if self.gate.is_some() => "gate".into(),
            work => work.name(isa, self.residual.is_some()),
        }
    }

    /// The weights, if to read them is most of the work.
    pub(super) fn streamed(&self) -> Option<&[f32]> {
        let rows = self.write.matrix.rows;
        match &self.work {
            Work::Conv { packed, .. } => packed.streamed(rows),
            Work::Linear { packed, .. } => packed.streamed(rows),
            Work::Rows { weights, .. } => Some(weights),
            _ => None,
        }
    }

    /// Floats of other weights that it can fetch meanwhile.
    pub(super) fn room(&self) -> usize {
        match &self.work {
            Work::Conv { packed, squeeze, .. } if *squeeze != Squeeze::Only => packed.room(self.write.matrix.rows),
            Work::Separable { packed, .. } => packed.room(self.write.matrix.rows),
            _ => 0,
        }
    }

    pub(super) fn run(&self, isa: Isa, memory: &mut Memory) {
        let [before, after] = self.acts;
        match &self.work {
            Work::Copy => {
                let (to, [from]) = memory.open(&self.write.slot, [&self.reads[0].slot]);
                let from = Strided { data: from, strides: &self.reads[0].strides };
                kernels::copy(&self.write.dims, from, to, &self.write.strides);
            }
            Work::Fill(value) => {
                let (to, []) = memory.open(&self.write.slot, []);
                let (base, len) = (Shared(to.as_mut_ptr()), to.len());
                ranges(len, 1, |range| {
                    // SAFETY: each task has its own part.
                    unsafe { std::slice::from_raw_parts_mut(base.at(range.start), range.len()) }.fill(*value);
                });
            }
            Work::Conv { packed, bias, squeeze } => self.conv(memory, packed, bias.as_deref(), *squeeze),
            Work::Separable { packed, bias } => self.sums(memory, bias, |x, y, epilogue| {
                packed.run(self.reads[0].image(x), self.write.image_mut(y), epilogue)
            }),
            Work::PooledConv { packed } => {
                let (to, [x]) = memory.open(&self.write.slot, [&self.reads[0].slot]);
                packed.run(self.reads[0].planes(x), self.write.image_mut(to));
            }
            Work::ConvTranspose { packed, bias } => self.sums(memory, bias, |x, y, epilogue| {
                packed.run(self.reads[0].image(x), self.write.image_mut(y), epilogue)
            }),
            Work::Linear { packed, bias } => self.sums(memory, bias, |x, y, epilogue| {
                packed.run(self.reads[0].rows(x), self.write.rows_mut(y), epilogue)
            }),
            Work::Rows { weights, bias } => self.sums(memory, bias, |x, y, epilogue| {
                let x = self.reads[0].rows(x);
                let weights = Rows::new(weights, self.write.matrix.cols, x.cols);
                kernels::linear(isa, x, weights, self.write.rows_mut(y), epilogue)
            }),
            Work::Learn(learn, policy) => kernels::kept(|| self.learn(isa, *policy, learn, memory)),
            Work::Identity if self.gate.is_some() => self.gated(isa, memory),
            Work::Identity => match &self.residual {
                None => self.map(memory, |io| kernels::unary(isa, after, io)),
                Some(_) => {
                    if before == Act::None {
                        return self.add_residual(isa, memory, false);
                    }
                    self.map(memory, |io| kernels::unary(isa, before, io));
                    self.add_residual(isa, memory, true);
                }
            },
            Work::Channels { scale, shift } => {
                let act = if self.residual.is_some() { before } else { after };
                self.map(memory, |io| kernels::scale_shift(isa, io, scale, shift, act));
                if self.residual.is_some() {
                    self.add_residual(isa, memory, true);
                }
            }
            Work::PRelu { slope } => {
                let slope = if slope.len() == 1 { Operand::Scalar(slope[0]) } else { Operand::Row(slope) };
                self.map(memory, |io| kernels::binary(isa, Binary::Prelu, io, slope, Act::None));
            }
            Work::LayerNorm { weight, bias, eps } => {
                self.map(memory, |io| kernels::layer_norm(isa, io, Some(weight), Some(bias), *eps, Act::None));
            }
            Work::Softmax => self.map(memory, |io| kernels::softmax(isa, io)),
            Work::LogSoftmax => self.map(memory, |io| kernels::log_softmax(isa, io)),
            Work::Normalize { eps } => self.map(memory, |io| kernels::l2_normalize(isa, io, *eps)),
            Work::GroupNorm { groups, weight, bias, eps } => self.images(memory, |x, y| {
                kernels::group_norm(isa, *groups, x, Some(weight), Some(bias), *eps, Act::None, y);
            }),
            Work::Pool { pool, window } => self.images(memory, |x, y| kernels::pool(isa, *pool, window, x, y)),
            Work::AdaptivePool { reduce } => self.images(memory, |x, y| kernels::adaptive_pool(isa, *reduce, x, y)),
            Work::Resize { mode, scale } => self.images(memory, |x, y| kernels::resize(isa, *mode, *scale, x, y)),
            Work::Reduce { reduce, shape, strides, axes } => {
                let from = &self.reads[0];
                let (to, [data]) = memory.open(&self.write.slot, [&from.slot]);
                kernels::reduce(isa, *reduce, shape, Strided { data, strides }, axes, to);
            }
            Work::Binary(binary) => self.binary(isa, memory, binary),
            Work::Matmul(matmul) => self.matmul(isa, memory, matmul),
            Work::Attention { heads, scale } => {
                let [q, k, v] = &self.reads[..] else { unreachable!("attention has three operands") };
                let (to, data) = memory.open(&self.write.slot, [&q.slot, &k.slot, &v.slot]);
                let (q, k, v) = (q.rows(data[0]), k.rows(data[1]), v.rows(data[2]));
                kernels::attention(isa, heads, *scale, q, k, v, self.write.rows_mut(to));
            }
            Work::Reference { op, params, batched } => {
                let read = |place: &Place| Tensor::new(place.dims.clone(), memory.read(&place.slot).to_vec());
                let ins: Vec<Tensor> = self.reads.iter().map(read).collect();
                let batched = ins.iter().zip(batched);
                let ins: Vec<_> = batched.map(|(value, batched)| ops::Operand { value, batched: *batched }).collect();
                let result = super::super::reference::eval(op, &ins, params, &self.write.dims);
                memory.open(&self.write.slot, []).0.copy_from_slice(result.data());
            }
        }
    }

    /// A kernel with an epilogue.
    fn sums(&self, memory: &mut Memory, bias: &Option<Vec<f32>>, run: impl FnOnce(&[f32], &mut [f32], &Epilogue)) {
        let [before, after] = self.acts;
        let bias = bias.as_deref();
        match &self.residual {
            None => {
                let (to, [x]) = memory.open(&self.write.slot, [&self.reads[0].slot]);
                run(x, to, &Epilogue { bias, before, residual: None, after, gate: None });
            }
            Some(residual) => {
                let (to, [x, data]) = memory.open(&self.write.slot, [&self.reads[0].slot, &residual.slot]);
                run(x, to, &Epilogue { bias, before, residual: Some(residual.rows(data)), after, gate: None });
            }
        }
    }

    fn conv(&self, memory: &mut Memory, packed: &PackedConv, bias: Option<&[f32]>, squeeze: Squeeze) {
        let [before, after] = self.acts;
        let (x, scale) = (&self.reads[0], self.reads.get(1));
        // what there is not is as good as the operand
        let [factors, gate, residual] =
            [scale, self.gate.as_ref(), self.residual.as_ref()].map(|place| place.map_or(&x.slot, |place| &place.slot));
        let run = |[x_data, scale_data, gate, residual]: [&[f32]; 4], y: Output| {
            let gate = self.gate.as_ref().map(|_| gate);
            let residual = self.residual.as_ref().map(|place| place.rows(residual));
            let x = if packed.reads_planes() { x.planes(x_data) } else { Input::Image(x.image(x_data)) };
            let io = ConvIo { x, scale: scale.map(|_| scale_data), y };
            packed.run_io(io, &Epilogue { bias, before, gate, residual, after });
        };
        let reads = [&x.slot, factors, gate, residual];
        match (squeeze, &self.means) {
            (Squeeze::None, _) => {
                let (to, data) = memory.open(&self.write.slot, reads);
                run(data, Output::Image(self.write.image_mut(to)));
            }
            (Squeeze::Also, Some(means)) => {
                let ([to, own], data) = memory.open_all([&self.write.slot, &means.slot], reads);
                let own = RowsMut::new(own, means.dims[0], means.dims[1]);
                run(data, Output::Both(self.write.image_mut(to), own));
            }
            (Squeeze::Only, _) => {
                let (to, data) = memory.open(&self.write.slot, reads);
                run(data, Output::Means(self.write.rows_mut(to)));
            }
            (Squeeze::Also, None) => unreachable!("the plan gives the means a place"),
        }
    }

    /// Factors of channels, with all that may stand around them.
    fn gated(&self, isa: Isa, memory: &mut Memory) {
        let [before, after] = self.acts;
        let gate = self.gate.as_ref().expect("the caller has seen it");
        let x = &self.reads[0].slot;
        let residual = self.residual.as_ref().map_or(&gate.slot, |place| &place.slot);
        let rows_each = self.write.matrix.rows / self.write.dims[0];
        let run = |io: Map, gate: &[f32], residual: &[f32]| {
            let residual = self.residual.as_ref().map(|place| place.rows(residual));
            kernels::gated(isa, io, Gated { before, gate, rows_each, residual, after });
        };
        if self.in_place {
            let (to, [gate, residual]) = memory.open(&self.write.slot, [&gate.slot, residual]);
            run(Map::in_place(self.write.rows_mut(to)), gate, residual);
        } else {
            let (to, [x, gate, residual]) = memory.open(&self.write.slot, [x, &gate.slot, residual]);
            run(Map::new(self.reads[0].rows(x), self.write.rows_mut(to)), gate, residual);
        }
    }

    /// A kernel over rows, in place where the plan says so.
    fn map(&self, memory: &mut Memory, run: impl FnOnce(Map)) {
        if self.in_place {
            let (to, []) = memory.open(&self.write.slot, []);
            run(Map::in_place(self.write.rows_mut(to)));
        } else {
            let (to, [x]) = memory.open(&self.write.slot, [&self.reads[0].slot]);
            run(Map::new(self.reads[0].rows(x), self.write.rows_mut(to)));
        }
    }

    fn images(&self, memory: &mut Memory, run: impl FnOnce(Image, ImageMut)) {
        let (to, [x]) = memory.open(&self.write.slot, [&self.reads[0].slot]);
        run(self.reads[0].image(x), self.write.image_mut(to));
    }

    /// Adds the residual to what was written already, or to the operand.
    fn add_residual(&self, isa: Isa, memory: &mut Memory, written: bool) {
        let residual = self.residual.as_ref().expect("the caller has seen it");
        let after = self.acts[1];
        if written || self.in_place {
            let (to, [data]) = memory.open(&self.write.slot, [&residual.slot]);
            let io = Map::in_place(self.write.rows_mut(to));
            kernels::binary(isa, Binary::Add, io, Operand::Rows(residual.rows(data)), after);
        } else {
            let (to, [x, data]) = memory.open(&self.write.slot, [&self.reads[0].slot, &residual.slot]);
            let io = Map::new(self.reads[0].rows(x), self.write.rows_mut(to));
            kernels::binary(isa, Binary::Add, io, Operand::Rows(residual.rows(data)), after);
        }
    }

    fn binary(&self, isa: Isa, memory: &mut Memory, binary: &Pairs) {
        let [before, after] = self.acts;
        let act = if self.residual.is_some() { before } else { after };
        let (first, second) = (&self.reads[binary.first], &self.reads[1 - binary.first]);
        let operand = |data| match binary.pairing {
            Pairing::Rows(matrix) => {
                Operand::Rows(Rows { data, rows: matrix.rows, cols: matrix.cols, dist: matrix.dist })
            }
            Pairing::Scalar => Operand::Scalar(data[0]),
            Pairing::Row => Operand::Row(data),
            Pairing::Gate { rows_each } => Operand::Gate { data, rows_each },
            Pairing::Column => Operand::Column(data),
            Pairing::Broadcast => unreachable!("has a kernel of its own"),
        };
        if binary.pairing == Pairing::Broadcast {
            let (to, [a, b]) = memory.open(&self.write.slot, [&first.slot, &second.slot]);
            let a = Strided { data: a, strides: &binary.strides[0] };
            let b = Strided { data: b, strides: &binary.strides[1] };
            kernels::broadcast(isa, binary.op, &binary.shape, a, b, to, act);
        } else if self.in_place {
            let (to, [b]) = memory.open(&self.write.slot, [&second.slot]);
            kernels::binary(isa, binary.op, Map::in_place(self.write.rows_mut(to)), operand(b), act);
        } else {
            let (to, [a, b]) = memory.open(&self.write.slot, [&first.slot, &second.slot]);
            kernels::binary(isa, binary.op, Map::new(first.rows(a), self.write.rows_mut(to)), operand(b), act);
        }
        if self.residual.is_some() {
            self.add_residual(isa, memory, true);
        }
    }

    fn matmul(&self, isa: Isa, memory: &mut Memory, product: &Matmul) {
        let (to, [a, b]) = memory.open(&self.write.slot, [&self.reads[0].slot, &self.reads[1].slot]);
        product.run(isa, &product.levels, [a, b], to);
    }
}

impl Matmul {
    fn run(&self, isa: Isa, levels: &[(usize, [usize; 3])], [a, b]: [&[f32]; 2], to: &mut [f32]) {
        let (count, steps) = levels[0];
        if levels.len() > 1 {
            // the plan lets outer matrices of the result follow one another
            let (base, len) = (Shared(to.as_mut_ptr()), to.len());
            tasks(len.div_ceil(steps[2]), |at| {
                let from = at * steps[2];
                // SAFETY: each task has its own matrices.
                let to = unsafe { std::slice::from_raw_parts_mut(base.at(from), steps[2].min(len - from)) };
                self.run(isa, &levels[1..], [&a[at * steps[0]..], &b[at * steps[1]..]], to);
            });
            return;
        }
        let [m, k, n] = self.sizes;
        let [a_dist, b_dist, dist] = self.dists;
        let (rows, cols) = if self.layout == Layout::Kn { (k, n) } else { (n, k) };
        let a = Batch { data: a, rows: m, cols: k, dist: a_dist, batch: steps[0] };
        let b = Batch { data: b, rows, cols, dist: b_dist, batch: steps[1] };
        let out = BatchMut { data: to, rows: m, cols: n, dist, batch: steps[2] };
        kernels::matmul(isa, count, a, b, self.layout, out, self.scale);
    }
}
