//! The steps of training: each as the launches that it takes, sums over a batch as two.

use std::mem::offset_of;

use super::products::Outputs;
use super::{Args, Lower, Packed, Pending, act, axes, ready, rows};
use crate::diag::{Code, Problem};
use crate::opt::{Grain, Id, Kind, Learn};
use crate::plan::view::{IMAGE, Matrix};
use crate::plan::{Step, View};
use archc_cuda::{
    ActData, BatchNorm, BatchNormData, ColumnEnd, ColumnMode, Columns, Dropout, Dtype, Gather, GroupNorm,
    GroupNormData, Launch, Loss, LossEnd, LossKind, MaxData, PoolData, PoolMode, ResizeData, ResizeMode, Rows,
    RowsData, Running, Spread, SpreadRows, Unstretch, UnstretchEnd,
};

/// A launch that works in scratch memory: `fields` of its argument are addresses there, each so many bytes from the start.
pub(super) fn scratch<A: Args>(launch: Launch, args: &A, fields: &[(usize, usize)], bytes: usize) -> Pending {
    Pending::Scratch(launch, Packed::new(args), fields.to_vec(), bytes)
}

impl Lower<'_> {
    pub(super) fn learn(&self, id: Id, step: &Step, learn: &Learn) -> Result<Vec<Pending>, Problem> {
        let node = self.plan.net().node(id);
        let epilogue = &node.epilogue;
        let (reads, write) = (&step.reads, &step.write);
        let with_last = |view: &View, axis: usize| {
            let mut order = view.order();
            order.retain(|other| *other != axis);
            order.push(axis);
            order
        };
        match learn {
            Learn::Conv { window, groups } => self.conv_learned(step, epilogue, window, *groups),
            Learn::ConvTranspose { window, groups, .. } => {
                let mut own = self.epilogue(step, epilogue, None)?;
                own.bias = self.operand(step, 2);
                self.transposed(step, own, window, *groups)
            }
            Learn::ConvData { window, groups } => self.conv_data(step, epilogue, window, *groups),
            Learn::ConvWeight { window, groups } => Ok(self.conv_weight(step, window, *groups)),
            Learn::Linear => {
                let order = with_last(write, write.dims.len() - 1);
                self.linear_learned(step, epilogue, &order, Outputs::Rows)
            }
            Learn::LinearData => {
                let order = with_last(write, write.dims.len() - 1);
                self.linear_learned(step, epilogue, &order, Outputs::Columns)
            }
            Learn::LinearWeight => Ok(self.linear_weight(step)),
            Learn::BatchStats => {
                let x = rows(&reads[0], &IMAGE);
                let args = Columns { x: self.address(&reads[0]), x_dist: x.dist as i32, ..over(x) };
                Ok(self.columns(args, "statistics", 2, ColumnMode::Statistics, write))
            }
            Learn::Running { momentum, count, .. } => {
                let count = (*count * self.plan.batch()) as f64;
                let mean = self.address(write);
                let args = Running {
                    stats: self.address(&reads[0]),
                    mean,
                    variance: mean + 4 * write.strides[0] as u64,
                    channels: write.dims[1] as i32,
                    momentum: *momentum,
                    unbiased: (count / (count - 1.0).max(1.0)) as f32,
                    reserved: 0,
                };
                Ok(vec![ready(args.launch(Dtype::F32), &args)])
            }
            Learn::BatchNorm { eps } => {
                let (x, y) = (rows(&reads[0], &IMAGE), rows(write, &IMAGE));
                let args = BatchNorm {
                    x: self.address(&reads[0]),
                    y: self.address(write),
                    residual: step.residual.as_ref().map_or(0, |view| self.address(view)),
                    stats: self.address(&reads[1]),
                    weight: self.address(&reads[2]),
                    bias: self.address(&reads[3]),
                    rows: x.rows as i32,
                    cols: x.cols as i32,
                    x_dist: x.dist as i32,
                    y_dist: y.dist as i32,
                    residual_dist: step.residual.as_ref().map_or(0, |view| rows(view, &IMAGE).dist as i32),
                    eps: *eps,
                    after: act(epilogue.after),
                    reserved: 0,
                };
                Ok(vec![ready(args.launch(self.dtype), &args)])
            }
            Learn::BatchNormSums { eps, relu } => {
                let (d, x) = (rows(&reads[0], &IMAGE), rows(&reads[1], &IMAGE));
                let args = Columns {
                    d: self.address(&reads[0]),
                    x: self.address(&reads[1]),
                    stats: self.address(&reads[2]),
                    weight: self.address(&reads[3]),
                    bias: self.address(&reads[4]),
                    d_dist: d.dist as i32,
                    x_dist: x.dist as i32,
                    relu: i32::from(*relu),
                    eps: *eps,
                    ..over(x)
                };
                Ok(self.columns(args, "norm_sums", 2, ColumnMode::Norm, write))
            }
            Learn::BatchNormData { eps, relu } => {
                let (d, x, dx) = (rows(&reads[0], &IMAGE), rows(&reads[1], &IMAGE), rows(write, &IMAGE));
                let args = BatchNormData {
                    d: self.address(&reads[0]),
                    x: self.address(&reads[1]),
                    dx: self.address(write),
                    stats: self.address(&reads[2]),
                    weight: self.address(&reads[3]),
                    bias: self.address(&reads[4]),
                    sums: self.address(&reads[5]),
                    rows: x.rows as i32,
                    cols: x.cols as i32,
                    d_dist: d.dist as i32,
                    x_dist: x.dist as i32,
                    dx_dist: dx.dist as i32,
                    relu: i32::from(*relu),
                    eps: *eps,
                    reserved: 0,
                };
                Ok(vec![ready(args.launch(self.dtype), &args)])
            }
            Learn::LayerNorm { axis, eps } => {
                let order = with_last(write, *axis);
                let (x, y) = (rows(&reads[0], &order), rows(write, &order));
                let args = Rows {
                    x: self.address(&reads[0]),
                    y: self.address(write),
                    weight: self.address(&reads[1]),
                    bias: self.address(&reads[2]),
                    rows: y.rows as i32,
                    cols: y.cols as i32,
                    x_dist: x.dist as i32,
                    y_dist: y.dist as i32,
                    eps: *eps,
                    reserved: 0,
                };
                Ok(vec![ready(args.launch(self.dtype, "layer_norm"), &args)])
            }
            Learn::GroupNorm { groups, eps } => {
                let args = GroupNorm {
                    x: self.address(&reads[0]),
                    y: self.address(write),
                    weight: self.address(&reads[1]),
                    bias: self.address(&reads[2]),
                    n: write.dims[0] as i32,
                    pixels: (write.dims[2] * write.dims[3]) as i32,
                    c: write.dims[1] as i32,
                    groups: *groups as i32,
                    x_dist: rows(&reads[0], &IMAGE).dist as i32,
                    y_dist: rows(write, &IMAGE).dist as i32,
                    eps: *eps,
                    reserved: 0,
                };
                Ok(vec![ready(args.launch(self.dtype), &args)])
            }
            Learn::PRelu => {
                let order = with_last(write, 1);
                Ok(vec![self.bent(step, &order, [0, 0, 1], archc_base::Act::None)])
            }
            Learn::PReluData => Ok(vec![self.bent(step, &with_last(write, 1), [0, 1, 2], archc_base::Act::None)]),
            Learn::ActData { act } => Ok(vec![self.bent(step, &write.order(), [0, 1, usize::MAX], *act)]),
            Learn::PReluSums => {
                let order = with_last(&reads[1], 1);
                let (d, x) = (rows(&reads[0], &order), rows(&reads[1], &order));
                let args = Columns {
                    d: self.address(&reads[0]),
                    x: self.address(&reads[1]),
                    d_dist: d.dist as i32,
                    x_dist: x.dist as i32,
                    ..over(x)
                };
                let mode = if write.dims[0] == 1 { ColumnMode::Slope } else { ColumnMode::Plain };
                Ok(self.columns(args, "slope_sums", 1, mode, write))
            }
            Learn::Sums { axis } => {
                let d = rows(&reads[0], &with_last(&reads[0], *axis));
                let args = Columns { d: self.address(&reads[0]), d_dist: d.dist as i32, ..over(d) };
                Ok(self.columns(args, "sums", 1, ColumnMode::Plain, write))
            }
            Learn::LayerNormSums { axis, eps } => {
                let order = with_last(&reads[1], *axis);
                let (d, x) = (rows(&reads[0], &order), rows(&reads[1], &order));
                let moments = RowsData {
                    seen: self.address(&reads[1]),
                    rows: x.rows as i32,
                    cols: x.cols as i32,
                    seen_dist: x.dist as i32,
                    eps: *eps,
                    ..RowsData::default()
                };
                let launch = moments.launch(self.dtype, "row_moments");
                let first = scratch(launch, &moments, &[(offset_of!(RowsData, moments), 0)], 8 * x.rows);
                let args = Columns { rows_each: 1, groups: 1, size: x.cols as i32, ..over(x) };
                let args = Columns { d_dist: d.dist as i32, x_dist: x.dist as i32, ..args };
                Ok(self.normed_sums(first, 8 * x.rows, args, step))
            }
            Learn::GroupNormSums { groups, eps } => {
                let (d, x) = (rows(&reads[0], &IMAGE), rows(&reads[1], &IMAGE));
                let norm = self.group_norm(step, *groups, *eps);
                let bytes = 8 * reads[1].dims[0] * groups;
                let first = self.group_moments(&norm, bytes);
                let args = Columns {
                    rows_each: norm.pixels,
                    groups: *groups as i32,
                    size: norm.c / *groups as i32,
                    d_dist: d.dist as i32,
                    x_dist: x.dist as i32,
                    ..over(x)
                };
                Ok(self.normed_sums(first, bytes, args, step))
            }
            Learn::GroupNormData { groups, eps } => {
                let norm = GroupNormData {
                    dx: self.address(write),
                    weight: self.address(&reads[2]),
                    dx_dist: rows(write, &IMAGE).dist as i32,
                    ..self.group_norm(step, *groups, *eps)
                };
                let bytes = 8 * reads[1].dims[0] * groups;
                let launch = norm.launch(self.dtype, "group_norm_data");
                let second = scratch(launch, &norm, &[(offset_of!(GroupNormData, moments), 0)], bytes);
                Ok(vec![self.group_moments(&norm, bytes), second])
            }
            Learn::LayerNormData { axis, eps } => {
                let weight = self.address(&reads[2]);
                Ok(self.rows_data(
                    step,
                    *axis,
                    "layer_norm_data",
                    RowsData { weight, eps: *eps, ..RowsData::default() },
                ))
            }
            Learn::SoftmaxData { axis, log } => {
                let kernel = if *log { "log_softmax_data" } else { "softmax_data" };
                Ok(self.rows_data(step, *axis, kernel, RowsData::default()))
            }
            Learn::NormalizeData { axis, eps } => {
                Ok(self.rows_data(step, *axis, "normalize_data", RowsData { eps: *eps, ..RowsData::default() }))
            }
            Learn::Noise { p, grain, stream } => Ok(vec![self.noise(step, *p, *grain, *stream)]),
            Learn::PoolData { pool, window } => {
                let mode = PoolMode::of(pool.code());
                let [pad_top, pad_left, pad_bottom, pad_right] = window.padding.map(|pad| pad as i32);
                let [r, s] = window.kernel.map(|len| len as i32);
                let [stride_h, stride_w] = window.stride.map(|len| len as i32);
                let [dilation_h, dilation_w] = window.dilation.map(|len| len as i32);
                let args = PoolData { r, s, stride_h, stride_w, dilation_h, dilation_w, ..self.pooled(step, mode) };
                let args = PoolData { pad_top, pad_left, pad_bottom, pad_right, ..args };
                Ok(vec![ready(args.launch(self.dtype), &args)])
            }
            Learn::AdaptivePoolData { reduce } => {
                let mode = PoolMode::of(archc_base::Pool::from(*reduce).code());
                let args = PoolData { adaptive: 1, ..self.pooled(step, mode) };
                Ok(vec![ready(args.launch(self.dtype), &args)])
            }
            Learn::ResizeData { mode, scale } => Ok(vec![self.resize_data(step, *mode, *scale)]),
            Learn::MeanData { axes } => Ok(vec![self.mean_data(step, axes)]),
            Learn::MaxData { axes } => Ok(vec![self.max_data(step, axes)]),
            Learn::Unstretch { from_left } => Ok(self.unstretch(step, *from_left)),
            Learn::GatherData => {
                let args = self.gathered(step, [&reads[0], write], write)?;
                Ok(vec![ready(args.launch_data(self.dtype), &args)])
            }
            Learn::Loss(loss) => {
                let args = self.loss(step, loss)?;
                let bytes = 4 * args.partials(self.dtype);
                let end = args.end(self.dtype, self.address(write));
                let first = scratch(args.launch(self.dtype), &args, &[(offset_of!(Loss, partials), 0)], bytes);
                let at = offset_of!(LossEnd, loss) + offset_of!(Loss, partials);
                Ok(vec![first, scratch(end.launch(self.dtype), &end, &[(at, 0)], bytes)])
            }
            Learn::LossData(loss) => {
                let args = Loss { dz: self.address(write), ..self.loss(step, loss)? };
                Ok(vec![ready(args.launch_data(self.dtype), &args)])
            }
            Learn::Gradient { .. } => unreachable!("the plan makes copies of these"),
        }
    }

    /// Rows of a table that depends on what is learned.
    pub(super) fn gather(&self, step: &Step) -> Result<Vec<Pending>, Problem> {
        let args = self.gathered(step, [&step.reads[0], &step.write], &step.reads[0])?;
        Ok(vec![ready(args.launch(self.dtype), &args)])
    }

    fn gathered(&self, step: &Step, [from, to]: [&View; 2], table: &View) -> Result<Gather, Problem> {
        let index = &step.reads[1];
        if [from, to, index].iter().any(|view| self.dtype_of(view) != self.dtype.stored()) {
            let message = "`gather` of values that depend on the input has no CUDA kernel in reduced precision";
            return Err(Problem::new(Code::Resource, message).hint("`--dtype f32`, or `--device cpu`"));
        }
        Ok(Gather {
            d: self.address(from),
            index: self.address(index),
            y: self.address(to),
            rows: index.len() as i32,
            cols: table.dims[1..].iter().product::<usize>() as i32,
            table: table.dims[0] as i32,
            reserved: 0,
        })
    }

    /// The address of a bias or the like; 0 where there is none.
    pub(super) fn operand(&self, step: &Step, at: usize) -> u64 {
        step.reads.get(at).map_or(0, |view| self.address(view))
    }

    fn columns(
        &self,
        mut args: Columns,
        kernel: &'static str,
        kinds: usize,
        mode: ColumnMode,
        write: &View,
    ) -> Vec<Pending> {
        args.cut(self.facts.processors);
        let bytes = 4 * args.partials(kinds);
        let end = args.end(self.address(write), kinds, mode);
        vec![
            scratch(args.launch(self.dtype, kernel), &args, &[(offset_of!(Columns, partials), 0)], bytes),
            scratch(end.launch(self.dtype), &end, &[(offset_of!(ColumnEnd, partials), 0)], bytes),
        ]
    }

    /// Sums of `d n` and of `d`, n normalised by the moments that `first` leaves, `before` bytes of them.
    fn normed_sums(&self, first: Pending, before: usize, args: Columns, step: &Step) -> Vec<Pending> {
        let mut args = Columns { d: self.address(&step.reads[0]), x: self.address(&step.reads[1]), ..args };
        args.cut(self.facts.processors);
        let before = before.next_multiple_of(16);
        let bytes = before + 4 * args.partials(2);
        let end = args.end(self.address(&step.write), 2, ColumnMode::Plain);
        let fields = [(offset_of!(Columns, moments), 0), (offset_of!(Columns, partials), before)];
        vec![
            first,
            scratch(args.launch(self.dtype, "normed_sums"), &args, &fields, bytes),
            scratch(end.launch(self.dtype), &end, &[(offset_of!(ColumnEnd, partials), before)], bytes),
        ]
    }

    fn group_norm(&self, step: &Step, groups: usize, eps: f32) -> GroupNormData {
        let x = &step.reads[1];
        GroupNormData {
            d: self.address(&step.reads[0]),
            x: self.address(x),
            n: x.dims[0] as i32,
            pixels: (x.dims[2] * x.dims[3]) as i32,
            c: x.dims[1] as i32,
            groups: groups as i32,
            d_dist: rows(&step.reads[0], &IMAGE).dist as i32,
            x_dist: rows(x, &IMAGE).dist as i32,
            eps,
            ..GroupNormData::default()
        }
    }

    fn group_moments(&self, norm: &GroupNormData, bytes: usize) -> Pending {
        let launch = norm.launch(self.dtype, "group_moments");
        scratch(launch, norm, &[(offset_of!(GroupNormData, moments), 0)], bytes)
    }

    /// `d`, `seen` and a slope of those numbers among the operands, the last beyond them where there is none.
    fn bent(&self, step: &Step, order: &[usize], [d, seen, slope]: [usize; 3], function: archc_base::Act) -> Pending {
        let matrix = |view: &View| rows(view, order);
        let (from, other, to) = (matrix(&step.reads[d]), matrix(&step.reads[seen]), matrix(&step.write));
        let slopes = step.reads.get(slope);
        let args = ActData {
            d: self.address(&step.reads[d]),
            seen: self.address(&step.reads[seen]),
            dx: self.address(&step.write),
            slope: slopes.map_or(0, |view| self.address(view)),
            rows: to.rows as i32,
            cols: to.cols as i32,
            d_dist: from.dist as i32,
            seen_dist: other.dist as i32,
            dx_dist: to.dist as i32,
            slope_col: slopes.map_or(0, |view| i32::from(view.dims[0] > 1)),
            act: act(function),
            reserved: 0,
        };
        let kernel = if slopes.is_some() { "prelu_data" } else { "act_data" };
        ready(args.launch(self.dtype, kernel), &args)
    }

    fn rows_data(&self, step: &Step, axis: usize, kernel: &'static str, given: RowsData) -> Vec<Pending> {
        let mut order = step.write.order();
        order.retain(|other| *other != axis);
        order.push(axis);
        let matrix = |view: &View| rows(view, &order);
        let (d, seen, dx) = (matrix(&step.reads[0]), matrix(&step.reads[1]), matrix(&step.write));
        let args = RowsData {
            d: self.address(&step.reads[0]),
            seen: self.address(&step.reads[1]),
            dx: self.address(&step.write),
            rows: dx.rows as i32,
            cols: dx.cols as i32,
            d_dist: d.dist as i32,
            seen_dist: seen.dist as i32,
            dx_dist: dx.dist as i32,
            ..given
        };
        vec![ready(args.launch(self.dtype, kernel), &args)]
    }

    fn noise(&self, step: &Step, p: f64, grain: Grain, stream: u64) -> Pending {
        let rank = step.write.dims.len();
        let order: Vec<usize> = if rank == 4 { IMAGE.to_vec() } else { (0..rank).collect() };
        let (x, y) = (rows(&step.reads[0], &order), rows(&step.write, &order));
        let each = y.rows / step.write.dims[0];
        let [rows_each, index_row, index_col] = match grain {
            Grain::Value => [1, y.cols, 1],
            Grain::Channel => [each, y.cols, 1],
            Grain::Sample => [each, 1, 0],
        };
        let args = Dropout {
            x: self.address(&step.reads[0]),
            y: self.address(&step.write),
            seed: [0; 2],
            stream: [stream as u32, (stream >> 32) as u32],
            clock: self.raw(&step.reads[1]).0,
            rows: y.rows as i32,
            cols: y.cols as i32,
            x_dist: x.dist as i32,
            y_dist: y.dist as i32,
            rows_each: rows_each as i32,
            index_row: index_row as i32,
            index_col: index_col as i32,
            p: p as f32,
        };
        ready(args.launch(self.dtype), &args)
    }

    /// Addresses and sizes of the derivative of a pooling, its window being a pixel.
    fn pooled(&self, step: &Step, mode: PoolMode) -> PoolData {
        let (d, x) = (&step.reads[0], &step.reads[1]);
        PoolData {
            x: self.address(x),
            d: self.address(d),
            dx: self.address(&step.write),
            n: x.dims[0] as i32,
            height: x.dims[2] as i32,
            width: x.dims[3] as i32,
            c: x.dims[1] as i32,
            r: 1,
            s: 1,
            out_height: d.dims[2] as i32,
            out_width: d.dims[3] as i32,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            x_dist: rows(x, &IMAGE).dist as i32,
            d_dist: rows(d, &IMAGE).dist as i32,
            dx_dist: rows(&step.write, &IMAGE).dist as i32,
            mode,
            ..PoolData::default()
        }
    }

    fn resize_data(&self, step: &Step, mode: archc_base::Resample, scale: Option<[f64; 2]>) -> Pending {
        let (d, dx) = (&step.reads[0], &step.write);
        let ratio = |axis: usize| match scale {
            Some(scale) => 1.0 / scale[axis],
            None => dx.dims[axis + 2] as f64 / d.dims[axis + 2] as f64,
        };
        let args = ResizeData {
            d: self.address(d),
            dx: self.address(dx),
            ratio_h: ratio(0),
            ratio_w: ratio(1),
            n: dx.dims[0] as i32,
            height: dx.dims[2] as i32,
            width: dx.dims[3] as i32,
            c: dx.dims[1] as i32,
            out_height: d.dims[2] as i32,
            out_width: d.dims[3] as i32,
            d_dist: rows(d, &IMAGE).dist as i32,
            dx_dist: rows(dx, &IMAGE).dist as i32,
            mode: ResizeMode::of(mode.code()),
            reserved: 0,
        };
        ready(args.launch(self.dtype), &args)
    }

    fn mean_data(&self, step: &Step, over: &[usize]) -> Pending {
        let (d, write) = (&step.reads[0], &step.write);
        let len: usize = over.iter().map(|axis| write.dims[*axis]).product();
        let scale = 1.0 / len as f32;
        let mut strides = d.strides.clone();
        if strides.len() < write.dims.len() {
            over.iter().for_each(|axis| strides.insert(*axis, 0));
        }
        over.iter().for_each(|axis| strides[*axis] = 0);
        let is_pooled = write.dims.len() == 4 && *over == [2, 3] && (strides[1] == 1 || write.dims[1] == 1);
        if let (true, Some(y)) = (is_pooled, write.matrix(&IMAGE)) {
            let args = SpreadRows {
                x: self.address(d),
                y: self.address(write),
                rows: y.rows as i32,
                cols: y.cols as i32,
                rows_each: (write.dims[2] * write.dims[3]) as i32,
                x_dist: strides[0] as i32,
                y_dist: y.dist as i32,
                scale,
            };
            return ready(args.launch(self.dtype), &args);
        }
        let order = write.order();
        let in_order = |values: &[usize]| axes(&order.iter().map(|axis| values[*axis]).collect::<Vec<_>>());
        let args = Spread {
            x: self.address(d),
            y: self.address(write),
            rank: write.dims.len() as i32,
            scale,
            shape: in_order(&write.dims),
            x_strides: in_order(&strides),
            y_strides: in_order(&write.strides),
        };
        ready(args.launch(self.dtype), &args)
    }

    fn max_data(&self, step: &Step, over: &[usize]) -> Pending {
        let (x, dx) = (&step.reads[1], &step.write);
        let part = |inside: bool, values: &[usize]| -> Vec<usize> {
            values
                .iter()
                .enumerate()
                .filter(|(axis, _)| over.contains(axis) == inside)
                .map(|(_, value)| *value)
                .collect()
        };
        let rank = |inside: bool| part(inside, &x.dims).len() as i32;
        let args = MaxData {
            d: self.address(&step.reads[0]),
            x: self.address(x),
            y: self.address(&step.reads[2]),
            dx: self.address(dx),
            outer_rank: rank(false),
            inner_rank: rank(true),
            outer_shape: axes(&part(false, &x.dims)),
            x_outer: axes(&part(false, &x.strides)),
            dx_outer: axes(&part(false, &dx.strides)),
            inner_shape: axes(&part(true, &x.dims)),
            x_inner: axes(&part(true, &x.strides)),
            dx_inner: axes(&part(true, &dx.strides)),
        };
        ready(args.launch(self.dtype), &args)
    }

    fn unstretch(&self, step: &Step, from_left: bool) -> Vec<Pending> {
        let (d, write) = (&step.reads[0], &step.write);
        let shape = &d.dims;
        let offset = if from_left { 0 } else { shape.len() - write.dims.len() };
        let repeated = |axis: usize| match axis.checked_sub(offset).and_then(|axis| write.dims.get(axis)) {
            Some(own) => *own != shape[axis],
            None => true,
        };
        let part = |inside: bool, values: &[usize]| -> Vec<usize> {
            let own = values.iter().enumerate().filter(|(axis, _)| repeated(*axis) == inside && shape[*axis] != 1);
            own.map(|(_, value)| *value).collect()
        };
        let other = step.reads.get(1);
        let strides = |inside: bool| other.map_or(axes(&[]), |view| axes(&part(inside, &view.strides)));
        let rank = |inside: bool| part(inside, shape).len() as i32;
        let mut args = Unstretch {
            d: self.address(d),
            x: other.map_or(0, |view| self.address(view)),
            partials: 0,
            outer_rank: rank(false),
            inner_rank: rank(true),
            outer_shape: axes(&part(false, shape)),
            d_outer: axes(&part(false, &d.strides)),
            x_outer: strides(false),
            inner_shape: axes(&part(true, shape)),
            d_inner: axes(&part(true, &d.strides)),
            x_inner: strides(true),
            per: 0,
            reserved: 0,
        };
        args.cut(self.facts.processors);
        let bytes = 4 * args.partials();
        let to = self.address(write);
        let is_stored = self.dtype_of(write) == self.dtype.stored();
        let end = if is_stored { args.end(to, 0) } else { args.end(0, to) };
        vec![
            scratch(args.launch(self.dtype), &args, &[(offset_of!(Unstretch, partials), 0)], bytes),
            scratch(end.launch(self.dtype), &end, &[(offset_of!(UnstretchEnd, partials), 0)], bytes),
        ]
    }

    fn loss(&self, step: &Step, loss: &archc_base::Loss) -> Result<Loss, Problem> {
        let (z, target) = (&step.reads[0], &step.reads[1]);
        let classes = z.dims[z.dims.len() - 1];
        let mut args = Loss {
            z: self.address(z),
            targets: self.raw(target).0,
            rows: (z.len() / classes) as i32,
            classes: classes as i32,
            kind: LossKind::of(loss.code()),
            ..Loss::default()
        };
        match loss {
            archc_base::Loss::CrossEntropy { smoothing, weights } => {
                args.smoothing = *smoothing;
                args.weights = self.floats(weights.as_deref())?;
            }
            archc_base::Loss::Huber { delta } => args.delta = *delta,
            archc_base::Loss::BceWithLogits | archc_base::Loss::Mse | archc_base::Loss::L1 => {}
        }
        Ok(args)
    }
}

/// Whether a step reads an input as it came, float32: targets, and the clock of noise.
pub(in crate::exec::cuda) fn reads_raw(kind: &Kind, operand: usize) -> bool {
    matches!(kind, Kind::Learn(Learn::Noise { .. } | Learn::Loss(_) | Learn::LossData(_))) && operand == 1
}

/// Sums over the rows of a matrix.
fn over(matrix: Matrix) -> Columns {
    Columns {
        rows: matrix.rows as i32,
        cols: matrix.cols as i32,
        rows_each: 1,
        groups: 1,
        size: 1,
        ..Columns::default()
    }
}
