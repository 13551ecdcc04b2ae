//! What does not multiply by weights in sums: one launch a step.

use super::{Lower, Pending, act, axes, ready, rows};
use crate::diag::{Code, Problem};
use crate::ops::Op;
use crate::opt::{self, Id, Kind, Source};
use crate::plan::pairing::{Pairing, pairing};
use crate::plan::view::IMAGE;
use crate::plan::{Step, View};
use archc_cuda::{
    Attention, Binary, BinaryOp, Broadcast, GroupNorm, Map, Matmul, Pool, PoolMode, Reduce, ReduceOp, Resize,
    ResizeMode, Rows,
};

/// The kernels of [`Rows`].
const LAYER_NORM: &str = "layer_norm";
const NORMALIZE: &str = "normalize";
const SOFTMAX: &str = "softmax";
const LOG_SOFTMAX: &str = "log_softmax";

impl Lower<'_> {
    pub(super) fn node(&self, id: Id, step: &Step) -> Result<Vec<Pending>, Problem> {
        let node = self.plan.net().node(id);
        let (dims, epilogue) = (&step.write.dims, &node.epilogue);
        let order = self.order(id, step);
        let one = match &node.kind {
            Kind::Conv { window, groups, weights } => return self.conv(id, step, window, *groups, weights),
            Kind::ConvTranspose { window, groups, weights, .. } => {
                return self.conv_transpose(step, epilogue, window, *groups, weights);
            }
            Kind::Linear { weights } => return self.linear(step, epilogue, &order, weights),
            Kind::Identity if step.gate.is_some() => return Ok(self.gated(step, epilogue, &order)),
            Kind::Identity => self.map(step, epilogue, &order, Map::default()),
            Kind::Channels { axis, maps } => {
                let channels = self.weights.maps(None, maps, dims[*axis])?;
                let scale = self.floats(channels.scale.as_deref())?;
                let shift = self.floats(channels.shift.as_deref())?;
                self.map(step, epilogue, &order, Map { scale, shift, ..Map::default() })
            }
            Kind::PRelu { slope } => {
                let values = self.weights.read(slope)?;
                let (slope, slope_col) = (self.floats(Some(&values))?, i32::from(values.len() > 1));
                self.map(step, epilogue, &order, Map { slope, slope_col, ..Map::default() })
            }
            Kind::LayerNorm { eps, weight, bias, .. } => {
                let rows = Rows { weight: self.source(weight)?, bias: self.source(bias)?, ..Rows::default() };
                self.rows(step, &order, LAYER_NORM, Rows { eps: *eps as f32, ..rows })
            }
            Kind::Normalize { eps, .. } => {
                self.rows(step, &order, NORMALIZE, Rows { eps: *eps as f32, ..Rows::default() })
            }
            Kind::Softmax { log: false, .. } => self.rows(step, &order, SOFTMAX, Rows::default()),
            Kind::Softmax { log: true, .. } => self.rows(step, &order, LOG_SOFTMAX, Rows::default()),
            Kind::GroupNorm { groups, eps, weight, bias } => {
                let norm = GroupNorm {
                    x: self.address(&step.reads[0]),
                    y: self.address(&step.write),
                    weight: self.source(weight)?,
                    bias: self.source(bias)?,
                    n: dims[0] as i32,
                    pixels: (dims[2] * dims[3]) as i32,
                    c: dims[1] as i32,
                    groups: *groups as i32,
                    x_dist: rows(&step.reads[0], &IMAGE).dist as i32,
                    y_dist: rows(&step.write, &IMAGE).dist as i32,
                    eps: *eps as f32,
                    reserved: 0,
                };
                ready(norm.launch(self.dtype), &norm)
            }
            Kind::Pool { pool, window } => {
                let mode = PoolMode::of(pool.code());
                let [pad_top, pad_left, pad_bottom, pad_right] = window.padding.map(|pad| pad as i32);
                let [r, s] = window.kernel.map(|len| len as i32);
                let [stride_h, stride_w] = window.stride.map(|len| len as i32);
                let [dilation_h, dilation_w] = window.dilation.map(|len| len as i32);
                let pool = Pool { r, s, stride_h, stride_w, dilation_h, dilation_w, mode, ..self.pool_of(step) };
                let pool = Pool { pad_top, pad_left, pad_bottom, pad_right, ..pool };
                ready(pool.launch(self.dtype), &pool)
            }
            Kind::AdaptivePool { reduce } => {
                let mode = PoolMode::of(archc_base::Pool::from(*reduce).code());
                let pool = Pool { mode, adaptive: 1, ..self.pool_of(step) };
                ready(pool.launch(self.dtype), &pool)
            }
            Kind::Resize { mode, scale } => {
                let from = &step.reads[0].dims;
                let ratio = |axis: usize| match scale {
                    Some(scale) => 1.0 / scale[axis],
                    None => from[axis + 2] as f64 / dims[axis + 2] as f64,
                };
                let image = self.pool_of(step);
                let resize = Resize {
                    x: image.x,
                    y: image.y,
                    ratio_h: ratio(0),
                    ratio_w: ratio(1),
                    n: image.n,
                    height: image.height,
                    width: image.width,
                    c: image.c,
                    out_height: image.out_height,
                    out_width: image.out_width,
                    x_dist: image.x_dist,
                    y_dist: image.y_dist,
                    mode: ResizeMode::of(mode.code()),
                    reserved: 0,
                };
                ready(resize.launch(self.dtype), &resize)
            }
            Kind::Excitation { maps } => self.excitation(node.operands[0], step, maps)?,
            Kind::Reduce { reduce, axes } => self.reduce(step, *reduce, axes),
            Kind::Binary { op } => self.binary(id, step, *op, epilogue),
            Kind::Matmul { scale } => self.matmul(step, *scale),
            Kind::Attention { heads, scale } => self.attention(step, *heads, *scale)?,
            Kind::Op { op, .. } if self.kept.is_some() && matches!(**op, Op::Gather(_)) => return self.gather(step),
            Kind::Op { op, .. } => {
                let message = format!("`{}` of values that depend on the input has no CUDA kernel", op.name());
                return Err(Problem::new(Code::Resource, message).hint("`--device cpu` takes the CPU"));
            }
            Kind::Learn(learn) => return self.learn(id, step, learn),
            Kind::State(_)
            | Kind::Input(_)
            | Kind::Constant(_)
            | Kind::Means
            | Kind::Concat { .. }
            | Kind::Reshape
            | Kind::Permute { .. }
            | Kind::Slice { .. }
            | Kind::Pad { .. }
            | Kind::Roll { .. } => unreachable!("the plan makes views and copies of these"),
            Kind::Separable { .. } | Kind::PooledConv { .. } => unreachable!("fused for other backends only"),
        };
        Ok(vec![one])
    }

    /// The order of axes in which a step goes through rows.
    fn order(&self, id: Id, step: &Step) -> Vec<usize> {
        let rank = step.write.dims.len();
        let with_last = |axis: usize| {
            let mut order = step.write.order();
            order.retain(|other| *other != axis);
            order.push(axis);
            order
        };
        match &self.plan.net().node(id).kind {
            Kind::Linear { .. } => with_last(rank - 1),
            Kind::LayerNorm { axis, .. }
            | Kind::Softmax { axis, .. }
            | Kind::Normalize { axis, .. }
            | Kind::Channels { axis, .. } => with_last(*axis),
            Kind::PRelu { .. } => with_last(1),
            Kind::Identity if step.gate.is_some() => IMAGE.to_vec(),
            _ => step.write.order(),
        }
    }

    fn source(&self, source: &Source) -> Result<u64, Problem> {
        self.floats(Some(&self.weights.read(source)?))
    }

    fn map(&self, step: &Step, epilogue: &opt::Epilogue, order: &[usize], map: Map) -> Pending {
        let (x, y) = (rows(&step.reads[0], order), rows(&step.write, order));
        let residual = step.residual.as_ref();
        let map = Map {
            x: self.address(&step.reads[0]),
            y: self.address(&step.write),
            residual: residual.map_or(0, |view| self.address(view)),
            rows: y.rows as i32,
            cols: y.cols as i32,
            x_dist: x.dist as i32,
            y_dist: y.dist as i32,
            residual_dist: residual.map_or(0, |view| rows(view, order).dist as i32),
            before: act(epilogue.before),
            after: act(epilogue.after),
            ..map
        };
        ready(map.launch(self.dtype), &map)
    }

    /// An image times a factor for each channel of each sample.
    fn gated(&self, step: &Step, epilogue: &opt::Epilogue, order: &[usize]) -> Vec<Pending> {
        let gate = step.gate.as_ref().expect("who calls has seen it");
        let (residual, y) = (step.residual.as_ref(), rows(&step.write, order));
        let (from, to) = (self.address(&step.reads[0]), self.address(&step.write));
        let [_, channels, height, width] = step.write.dims[..] else { unreachable!("images have four axes") };
        let mut args = Binary {
            a: from,
            b: self.address(gate),
            y: to,
            residual: residual.map_or(0, |view| self.address(view)),
            rows: y.rows as i32,
            cols: y.cols as i32,
            a_dist: rows(&step.reads[0], order).dist as i32,
            y_dist: y.dist as i32,
            residual_dist: residual.map_or(0, |view| rows(view, order).dist as i32),
            rows_each: (height * width) as i32,
            b_outer: channels as i32,
            b_row: 0,
            b_col: 1,
            op: BinaryOp::Mul,
            before: act(archc_base::Act::None),
            after: act(epilogue.after),
        };
        let mut launches = vec![];
        if epilogue.before != archc_base::Act::None {
            // what comes before the gate goes where the result will be
            let map = opt::Epilogue { after: epilogue.before, ..opt::Epilogue::default() };
            launches.push(self.map(&Step { residual: None, ..step.clone() }, &map, order, Map::default()));
            (args.a, args.a_dist) = (to, args.y_dist);
        }
        launches.push(ready(args.launch(self.dtype), &args));
        launches
    }

    fn rows(&self, step: &Step, order: &[usize], kernel: &'static str, given: Rows) -> Pending {
        let (x, y) = (rows(&step.reads[0], order), rows(&step.write, order));
        let args = Rows {
            x: self.address(&step.reads[0]),
            y: self.address(&step.write),
            rows: y.rows as i32,
            cols: y.cols as i32,
            x_dist: x.dist as i32,
            y_dist: y.dist as i32,
            ..given
        };
        ready(args.launch(self.dtype, kernel), &args)
    }

    /// Addresses and sizes of a step from images to images.
    fn pool_of(&self, step: &Step) -> Pool {
        let (x, y) = (&step.reads[0], &step.write);
        Pool {
            x: self.address(x),
            y: self.address(y),
            n: x.dims[0] as i32,
            height: x.dims[2] as i32,
            width: x.dims[3] as i32,
            c: x.dims[1] as i32,
            r: 1,
            s: 1,
            out_height: y.dims[2] as i32,
            out_width: y.dims[3] as i32,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            x_dist: rows(x, &IMAGE).dist as i32,
            y_dist: rows(y, &IMAGE).dist as i32,
            ..Pool::default()
        }
    }

    fn reduce(&self, step: &Step, reduce: archc_base::Reduce, over: &[usize]) -> Pending {
        let (from, to) = (&step.reads[0], &step.write);
        // in the order in which the results lie
        let order =
            if from.dims.len() == to.dims.len() { to.order() } else { (0..from.dims.len()).collect::<Vec<_>>() };
        let part = |inside: bool| {
            let wanted = order.iter().filter(|axis| over.contains(axis) == inside && from.dims[**axis] != 1);
            joined(wanted.map(|axis| (from.dims[*axis], from.strides[*axis])))
        };
        let (outer, inner) = (part(false), part(true));
        let column = |pairs: &[(usize, usize)]| pairs.iter().copied().unzip::<usize, usize, Vec<_>, Vec<_>>();
        let ((outer_shape, outer_strides), (inner_shape, inner_strides)) = (column(&outer), column(&inner));
        let args = Reduce {
            x: self.address(from),
            y: self.address(to),
            outer_rank: outer.len() as i32,
            inner_rank: inner.len() as i32,
            outer_shape: axes(&outer_shape),
            outer_strides: axes(&outer_strides),
            inner_shape: axes(&inner_shape),
            inner_strides: axes(&inner_strides),
            op: ReduceOp::of(reduce.code()),
            reserved: 0,
        };
        ready(args.launch(self.dtype), &args)
    }

    fn binary(&self, id: Id, step: &Step, op: archc_base::Binary, epilogue: &opt::Epilogue) -> Pending {
        let (dims, order) = (&step.write.dims, step.write.order());
        let operands = &self.plan.net().node(id).operands;
        let from_left = operands.iter().all(|operand| self.plan.net().node(*operand).shape.batched);
        let views: Vec<View> = step.reads.iter().map(|view| view.stretched(dims, from_left)).collect();
        let whole = |at: &usize| step.reads[*at].dims == *dims && step.reads[*at].matrix(&order).is_some();
        let found = (0..2).find(whole).filter(|_| step.write.matrix(&order).is_some());
        let first = found.unwrap_or(0);
        let op = if first == 0 { op } else { op.swapped().expect("the net has sums, differences and products") };
        let (a, b) = (self.address(&step.reads[first]), self.address(&step.reads[1 - first]));
        let residual = step.residual.as_ref();
        let (y, residual_at) = (self.address(&step.write), residual.map_or(0, |view| self.address(view)));
        let (before, after) = (act(epilogue.before), act(epilogue.after));
        let pair = if found.is_some() { pairing(&views[1 - first], &order) } else { Pairing::Broadcast };
        // how far b moves by a row's place among those before the next outer one, by such a group, by a column
        let steps = |rows: usize, cols: usize| match pair {
            Pairing::Rows(matrix) => Some((rows, [0, matrix.dist, 1])),
            Pairing::Scalar => Some((1, [0, 0, 0])),
            Pairing::Row => Some((1, [0, 0, 1])),
            Pairing::Gate { rows_each } => Some((rows_each, [cols, 0, 1])),
            Pairing::Column => Some((rows, [0, 1, 0])),
            Pairing::Broadcast => None,
        };
        let matrix = found.map(|_| rows(&step.write, &order));
        if let Some((matrix, (rows_each, [outer, row, col]))) =
            matrix.and_then(|matrix| Some((matrix, steps(matrix.rows, matrix.cols)?)))
        {
            let args = Binary {
                a,
                b,
                y,
                residual: residual_at,
                rows: matrix.rows as i32,
                cols: matrix.cols as i32,
                a_dist: rows(&step.reads[first], &order).dist as i32,
                y_dist: matrix.dist as i32,
                residual_dist: residual.map_or(0, |view| rows(view, &order).dist as i32),
                rows_each: rows_each as i32,
                b_outer: outer as i32,
                b_row: row as i32,
                b_col: col as i32,
                op: BinaryOp::of(op.code()),
                before,
                after,
            };
            return ready(args.launch(self.dtype), &args);
        }
        let lie = |view: &View| axes(&view.permuted(&order).strides);
        let args = Broadcast {
            a,
            b,
            y,
            residual: residual_at,
            rank: dims.len() as i32,
            op: BinaryOp::of(op.code()),
            shape: axes(&order.iter().map(|axis| dims[*axis]).collect::<Vec<_>>()),
            a_strides: lie(&views[first]),
            b_strides: lie(&views[1 - first]),
            y_strides: lie(&step.write),
            residual_strides: residual.map_or(axes(&[]), lie),
            before,
            after,
        };
        ready(args.launch(self.dtype), &args)
    }

    fn matmul(&self, step: &Step, scale: f32) -> Pending {
        let out = &step.write;
        let rank = out.dims.len();
        let stretch = |view: &View| {
            // the last two axes are the matrix, those before are stretched
            let mut dims = out.dims.clone();
            dims[rank - 2..].copy_from_slice(&view.dims[view.dims.len() - 2..]);
            view.stretched(&dims, false)
        };
        let (a, b) = (stretch(&step.reads[0]), stretch(&step.reads[1]));
        let [m, k, n] = [a.dims[rank - 2], a.dims[rank - 1], b.dims[rank - 1]];
        let plain = b.strides[rank - 1] == 1 || b.dims[rank - 1] == 1;
        // of a single row the distance says nothing, and may be less than a row is long
        let dist = |stride: usize, rows: usize, cols: usize| if rows == 1 { stride.max(cols) } else { stride } as i32;
        let b_dist = if plain { dist(b.strides[rank - 2], k, n) } else { dist(b.strides[rank - 1], n, k) };
        let batch: Vec<usize> = (0..rank - 2).filter(|axis| out.dims[*axis] != 1).collect();
        let of = |values: &[usize]| axes(&batch.iter().map(|axis| values[*axis]).collect::<Vec<_>>());
        let args = Matmul {
            a: self.address(&step.reads[0]),
            b: self.address(&step.reads[1]),
            y: self.address(out),
            m: m as i32,
            n: n as i32,
            k: k as i32,
            a_dist: dist(a.strides[rank - 2], m, k),
            b_dist,
            y_dist: dist(out.strides[rank - 2], m, n),
            transposed: i32::from(!plain),
            scale,
            rank: batch.len() as i32,
            shape: of(&out.dims),
            a_strides: of(&a.strides),
            b_strides: of(&b.strides),
            y_strides: of(&out.strides),
            reserved: 0,
        };
        ready(args.launch(self.dtype), &args)
    }

    fn attention(&self, step: &Step, heads: usize, scale: f32) -> Result<Pending, Problem> {
        let [q, k, v] = &step.reads[..] else { unreachable!("attention has three operands") };
        let dim = q.dims[2] / heads;
        if dim > Attention::MOST_DIM {
            let most = Attention::MOST_DIM;
            let message = format!("the CUDA kernel of attention takes heads of up to {most} features, got {dim}");
            return Err(Problem::new(Code::Resource, message).hint("more heads, or no `--device`, to run on the CPU"));
        }
        let dist = |view: &View| rows(view, &[0, 1, 2]).dist as i32;
        let args = Attention {
            q: self.address(q),
            k: self.address(k),
            v: self.address(v),
            y: self.address(&step.write),
            n: q.dims[0] as i32,
            heads: heads as i32,
            dim: dim as i32,
            queries: q.dims[1] as i32,
            keys: k.dims[1] as i32,
            q_dist: dist(q),
            k_dist: dist(k),
            v_dist: dist(v),
            y_dist: dist(&step.write),
            scale,
        };
        Ok(ready(args.launch(self.dtype), &args))
    }
}

/// Axes (length, distance) from the outermost, neighbours in memory as one.
fn joined(axes: impl Iterator<Item = (usize, usize)>) -> Vec<(usize, usize)> {
    let mut joined: Vec<(usize, usize)> = vec![];
    for (len, stride) in axes {
        match joined.last_mut() {
            Some(last) if last.1 == len * stride => *last = (last.0 * len, stride),
            _ => joined.push((len, stride)),
        }
    }
    joined
}
