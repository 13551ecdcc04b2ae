//! The steps of training. Weights are float32 values here, which the step that multiplies by them turns into the packed
//! form of its kernel, in the storage dtype, before it does; what is frozen is packed once.

use std::mem::offset_of;

use super::super::contract::{
    ActData, BatchNorm, BatchNormData, ColumnEnd, Columns, Conv, ConvWeight, Depthwise, Dropout, Dtype, Gather,
    GroupNorm, GroupNormData, Launch, Loss, LossEnd, MaxData, Phase, Pool, PoolData, Resize, ResizeData, Rows,
    RowsData, Running, Spread, SpreadRows, Unstretch, UnstretchEnd, WeightEnd, conv_row, phases,
};
use super::conv::{Image, images};
use super::{Args, Lower, Packed, Pending, act, axes, ready, rows};
use crate::diag::{Code, Problem};
use crate::opt::{self, Grain, Id, Kind, Learn, Window};
use crate::plan::view::{IMAGE, Matrix};
use crate::plan::{Place, Step, View};

/// Where the numbers of a tensor go in a packed one, in elements.
struct Turn {
    /// Length, distance in the tensor, distance in the packed one.
    axes: Vec<(usize, i64, usize)>,
    /// The first of the tensor's.
    from: usize,
    /// Where that goes.
    to: usize,
    /// Of the packed one.
    len: usize,
}

impl Turn {
    fn is_identity(&self) -> bool {
        let same = self.axes.iter().all(|(len, from, to)| *len == 1 || *from == *to as i64);
        same && self.from == self.to && self.axes.iter().map(|(len, ..)| len).product::<usize>() == self.len
    }

    /// The packed numbers of `values`.
    fn packed(&self, values: &[f32]) -> Vec<f32> {
        let mut packed = vec![0.0; self.len];
        let count: usize = self.axes.iter().map(|(len, ..)| len).product();
        for at in 0..count {
            let (mut rest, mut from, mut to) = (at, self.from as i64, self.to);
            for (len, here, there) in self.axes.iter().rev() {
                let index = rest % len;
                rest /= len;
                from += index as i64 * here;
                to += index * there;
            }
            packed[to] = values[from as usize];
        }
        packed
    }
}

/// A launch that works in scratch memory: `fields` of its argument are addresses there, each so many bytes from the start.
fn scratch<A: Args>(launch: Launch, args: &A, fields: &[(usize, usize)], bytes: usize) -> Pending {
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
                Ok(self.columns(args, "statistics", 2, ColumnEnd::STATISTICS, write))
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
                Ok(self.columns(args, "norm_sums", 2, ColumnEnd::NORM, write))
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
                Ok(vec![self.bent(step, &order, [0, 0, 1], opt::Act::None)])
            }
            Learn::PReluData => Ok(vec![self.bent(step, &with_last(write, 1), [0, 1, 2], opt::Act::None)]),
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
                let mode = if write.dims[0] == 1 { ColumnEnd::SLOPE } else { ColumnEnd::PLAIN };
                Ok(self.columns(args, "slope_sums", 1, mode, write))
            }
            Learn::Sums { axis } => {
                let d = rows(&reads[0], &with_last(&reads[0], *axis));
                let args = Columns { d: self.address(&reads[0]), d_dist: d.dist as i32, ..over(d) };
                Ok(self.columns(args, "sums", 1, ColumnEnd::PLAIN, write))
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
                let mode = match pool {
                    opt::Pool::Max => Pool::MAX,
                    opt::Pool::Mean { count_padding: true } => Pool::MEAN,
                    opt::Pool::Mean { count_padding: false } => Pool::MEAN_INSIDE,
                };
                let [pad_top, pad_left, pad_bottom, pad_right] = window.padding.map(|pad| pad as i32);
                let [r, s] = window.kernel.map(|len| len as i32);
                let [stride_h, stride_w] = window.stride.map(|len| len as i32);
                let [dilation_h, dilation_w] = window.dilation.map(|len| len as i32);
                let args = PoolData { r, s, stride_h, stride_w, dilation_h, dilation_w, ..self.pooled(step, mode) };
                let args = PoolData { pad_top, pad_left, pad_bottom, pad_right, ..args };
                Ok(vec![ready(args.launch(self.dtype), &args)])
            }
            Learn::AdaptivePoolData { reduce } => {
                let mode = match reduce {
                    opt::Reduce::Max => Pool::MAX,
                    opt::Reduce::Mean => Pool::MEAN_INSIDE,
                };
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
    fn operand(&self, step: &Step, at: usize) -> u64 {
        step.reads.get(at).map_or(0, |view| self.address(view))
    }

    /// The packed form of a tensor in memory, and what makes it anew in each run.
    fn turned(&self, tensor: &View, turn: &Turn) -> Result<(u64, Option<Pending>), Problem> {
        if let Place::Constant(number) = tensor.place {
            let values = self.weights.read(&self.plan.constants()[number])?;
            return Ok((self.stored(&turn.packed(&values[tensor.offset..]))?, None));
        }
        let at = self.address(tensor);
        if self.dtype.size() == 4 && turn.is_identity() && at.is_multiple_of(16) {
            return Ok((at, None));
        }
        // nobody writes the gaps
        let size = self.dtype.size();
        let packed = self.pool.zeros(turn.len * size)?;
        if turn.axes.iter().any(|(len, ..)| *len == 0) {
            return Ok((packed, None));
        }
        let mut copy = super::Copy_ {
            x: at + 4 * turn.from as u64,
            y: packed + (turn.to * size) as u64,
            rank: turn.axes.len() as i32,
            shape: axes(&turn.axes.iter().map(|(len, ..)| *len).collect::<Vec<_>>()),
            ..super::Copy_::default()
        };
        for (axis, (_, from, to)) in turn.axes.iter().enumerate() {
            (copy.x_strides[axis], copy.y_strides[axis]) = (*from as i32, *to as i32);
        }
        let launch = copy.launch(Dtype::F32, self.dtype);
        Ok((packed, Some(ready(launch, &copy))))
    }

    /// Gives `conv` its packed weights; `turn` is made for the width of a tap's channels and of a row.
    fn with_weights(
        &self,
        conv: &mut Conv,
        tensor: &View,
        turn: impl FnOnce(usize, usize) -> Turn,
    ) -> Result<Option<Pending>, Problem> {
        let (vec, c, taps) = (conv.vec(self.dtype), conv.c as usize, (conv.r * conv.s) as usize);
        let row = conv_row(self.dtype, vec, c, taps);
        conv.w_dist = row as i32;
        let (at, pending) = self.turned(tensor, &turn(c.next_multiple_of(vec), row))?;
        conv.w = at;
        Ok(pending)
    }

    fn conv_learned(
        &self,
        step: &Step,
        epilogue: &opt::Epilogue,
        window: &Window,
        groups: usize,
    ) -> Result<Vec<Pending>, Problem> {
        let (x, y) = (Image::new(&step.reads[0]), Image::new(&step.write));
        let mut own = self.epilogue(step, epilogue, None)?;
        own.bias = self.operand(step, 2);
        let [r, s] = window.kernel;
        let (taps, c, k) = (r * s, x.c / groups, y.c / groups);
        if c == 1 && k == 1 && groups > 1 {
            let args = self.depthwise(&step.reads[0], &step.write, window, own);
            let turn = Turn { axes: vec![(taps, 1, x.c), (x.c, taps as i64, 1)], from: 0, to: 0, len: taps * x.c };
            let (w, pending) = self.turned(&step.reads[1], &turn)?;
            let args = Depthwise { w, ..args };
            return Ok(pending.into_iter().chain([ready(args.launch(self.dtype), &args)]).collect());
        }
        let mut conv = Conv {
            x: self.address(&step.reads[0]),
            y: self.address(&step.write),
            epilogue: own,
            r: r as i32,
            s: s as i32,
            stride_h: window.stride[0] as i32,
            stride_w: window.stride[1] as i32,
            pad_h: window.padding[0] as i32,
            pad_w: window.padding[1] as i32,
            dilation_h: window.dilation[0] as i32,
            dilation_w: window.dilation[1] as i32,
            ..images(x, y, groups)
        };
        let out = y.c;
        let pending = if groups == 1 && self.by_pairs(&mut conv, &step.reads[0]) {
            let before = conv.pad_w as usize * 2 - window.padding[1];
            let pairs = conv.s as usize;
            self.with_weights(&mut conv, &step.reads[1], |_, row| Turn {
                axes: vec![(out, (c * taps) as i64, row), (r, s as i64, pairs * 8), (s, 1, 4), (c, taps as i64, 1)],
                from: 0,
                to: before * 4,
                len: out * row,
            })?
        } else {
            self.with_weights(&mut conv, &step.reads[1], |wide, row| Turn {
                axes: vec![(out, (c * taps) as i64, row), (taps, 1, wide), (c, taps as i64, 1)],
                from: 0,
                to: 0,
                len: out * row,
            })?
        };
        Ok(pending.into_iter().chain([self.chosen(conv)]).collect())
    }

    fn depthwise(&self, x: &View, y: &View, window: &Window, epilogue: super::super::contract::Epilogue) -> Depthwise {
        let (from, to) = (Image::new(x), Image::new(y));
        Depthwise {
            x: self.address(x),
            w: 0,
            y: self.address(y),
            epilogue,
            n: from.n,
            height: from.h,
            width: from.w,
            c: from.c as i32,
            r: window.kernel[0] as i32,
            s: window.kernel[1] as i32,
            out_height: to.h,
            out_width: to.w,
            stride_h: window.stride[0] as i32,
            stride_w: window.stride[1] as i32,
            pad_h: window.padding[0] as i32,
            pad_w: window.padding[1] as i32,
            dilation_h: window.dilation[0] as i32,
            dilation_w: window.dilation[1] as i32,
            x_dist: from.pixel,
            y_dist: to.pixel,
        }
    }

    /// The derivative of a convolution by what it reads.
    fn conv_data(
        &self,
        step: &Step,
        epilogue: &opt::Epilogue,
        window: &Window,
        groups: usize,
    ) -> Result<Vec<Pending>, Problem> {
        let (dy, dx) = (Image::new(&step.reads[0]), Image::new(&step.write));
        let own = self.epilogue(step, epilogue, None)?;
        if groups == 1 || dy.c != groups || dx.c != groups {
            return self.transposed(step, own, window, groups);
        }
        let (taps, c) = (window.kernel[0] * window.kernel[1], dx.c);
        let args = self.depthwise(&step.reads[0], &step.write, window, own);
        // with stride 1 it is a convolution by the window turned half around
        let is_plain = window.stride == [1, 1];
        let (from, along) = if is_plain { (taps - 1, -1) } else { (0, 1) };
        let turn = Turn { axes: vec![(taps, along, c), (c, taps as i64, 1)], from, to: 0, len: taps * c };
        let (w, pending) = self.turned(&step.reads[1], &turn)?;
        let mut args = Depthwise { w, ..args };
        let launch = if is_plain {
            args.pad_h = (args.r - 1) * args.dilation_h - args.pad_h;
            args.pad_w = (args.s - 1) * args.dilation_w - args.pad_w;
            args.launch(self.dtype)
        } else {
            args.launch_data(self.dtype)
        };
        Ok(pending.into_iter().chain([ready(launch, &args)]).collect())
    }

    /// A transposed convolution by weights [in, out / groups, r, s], phase by phase.
    fn transposed(
        &self,
        step: &Step,
        epilogue: super::super::contract::Epilogue,
        window: &Window,
        groups: usize,
    ) -> Result<Vec<Pending>, Problem> {
        let (x, y) = (Image::new(&step.reads[0]), Image::new(&step.write));
        let (c, k) = (x.c / groups, y.c / groups);
        let [kernel_h, kernel_w] = window.kernel;
        let taps = kernel_h * kernel_w;
        let along = |axis: usize, out: i32| -> Vec<Phase> {
            let (kernel, stride) = (window.kernel[axis], window.stride[axis]);
            phases(kernel, stride, window.padding[axis], window.dilation[axis], out as usize)
        };
        let [stride_h, stride_w] = window.stride.map(|stride| stride as i32);
        let mut launches = vec![];
        for down in along(0, y.h) {
            for right in along(1, y.w) {
                let skipped = down.first as i64 * i64::from(y.row) + right.first as i64 * i64::from(y.pixel);
                let mut own = epilogue;
                if own.residual != 0 {
                    let residual = down.first as i64 * i64::from(own.residual_row)
                        + right.first as i64 * i64::from(own.residual_pixel);
                    own.residual += (residual as usize * self.dtype.size()) as u64;
                    own.residual_row *= stride_h;
                    own.residual_pixel *= stride_w;
                }
                let mut conv = Conv {
                    x: self.address(&step.reads[0]),
                    y: self.address(&step.write) + (skipped as usize * self.dtype.size()) as u64,
                    epilogue: own,
                    r: down.taps.len() as i32,
                    s: right.taps.len() as i32,
                    out_height: down.count as i32,
                    out_width: right.count as i32,
                    pad_h: down.padding,
                    pad_w: right.padding,
                    dilation_h: down.dilation,
                    dilation_w: right.dilation,
                    y_row: y.row * stride_h,
                    y_pixel: y.pixel * stride_w,
                    ..images(x, y, groups)
                };
                let (rows, cols) = (down.taps.len(), right.taps.len());
                let first = |taps: &[usize]| taps.first().copied().unwrap_or(0);
                let apart = |taps: &[usize]| taps.get(1).map_or(0, |second| (first(taps) - second) as i64);
                launches.extend(self.with_weights(&mut conv, &step.reads[1], |wide, row| Turn {
                    axes: vec![
                        (groups, (c * k * taps) as i64, k * row),
                        (k, taps as i64, row),
                        (rows, -apart(&down.taps) * kernel_w as i64, cols * wide),
                        (cols, -apart(&right.taps), wide),
                        (c, (k * taps) as i64, 1),
                    ],
                    from: first(&down.taps) * kernel_w + first(&right.taps),
                    to: 0,
                    len: groups * k * row,
                })?);
                launches.push(self.chosen(conv));
            }
        }
        Ok(launches)
    }

    /// A linear map by weights of two axes.
    fn linear_learned(
        &self,
        step: &Step,
        epilogue: &opt::Epilogue,
        order: &[usize],
        outputs: Outputs,
    ) -> Result<Vec<Pending>, Problem> {
        let (x, y) = (rows(&step.reads[0], order), rows(&step.write, order));
        let mut own = self.acts(epilogue);
        own.bias = self.operand(step, 2);
        if let Some(residual) = &step.residual {
            let dist = rows(residual, order).dist as i32;
            own.residual = self.address(residual);
            (own.residual_image, own.residual_row, own.residual_pixel) = (dist, dist, dist);
        }
        let one = |rows: usize, c: usize, dist: usize| {
            let dist = dist as i32;
            Image { n: rows as i32, c, h: 1, w: 1, image: dist, row: dist, pixel: dist }
        };
        let mut conv = Conv {
            x: self.address(&step.reads[0]),
            y: self.address(&step.write),
            epilogue: own,
            ..images(one(x.rows, x.cols, x.dist), one(y.rows, y.cols, y.dist), 1)
        };
        let (out_apart, in_apart) = match outputs {
            Outputs::Rows => (x.cols as i64, 1),
            Outputs::Columns => (1, y.cols as i64),
        };
        let pending = self.with_weights(&mut conv, &step.reads[1], |_, row| Turn {
            axes: vec![(y.cols, out_apart, row), (x.cols, in_apart, 1)],
            from: 0,
            to: 0,
            len: y.cols * row,
        })?;
        Ok(pending.into_iter().chain([self.chosen(conv)]).collect())
    }

    fn conv_weight(&self, step: &Step, window: &Window, groups: usize) -> Vec<Pending> {
        let (x, dy) = (Image::new(&step.reads[0]), Image::new(&step.reads[1]));
        let args = ConvWeight {
            x: self.address(&step.reads[0]),
            dy: self.address(&step.reads[1]),
            n: x.n,
            height: x.h,
            width: x.w,
            c: (x.c / groups) as i32,
            k: (dy.c / groups) as i32,
            groups: groups as i32,
            r: window.kernel[0] as i32,
            s: window.kernel[1] as i32,
            out_height: dy.h,
            out_width: dy.w,
            stride_h: window.stride[0] as i32,
            stride_w: window.stride[1] as i32,
            pad_h: window.padding[0] as i32,
            pad_w: window.padding[1] as i32,
            dilation_h: window.dilation[0] as i32,
            dilation_w: window.dilation[1] as i32,
            x_dist: x.pixel,
            dy_dist: dy.pixel,
            ..ConvWeight::default()
        };
        self.weight_sums(args, &step.write)
    }

    fn linear_weight(&self, step: &Step) -> Vec<Pending> {
        let order: Vec<usize> = (0..step.reads[0].dims.len()).collect();
        let (x, dy) = (rows(&step.reads[0], &order), rows(&step.reads[1], &order));
        let args = ConvWeight {
            x: self.address(&step.reads[0]),
            dy: self.address(&step.reads[1]),
            n: x.rows as i32,
            height: 1,
            width: 1,
            c: x.cols as i32,
            k: dy.cols as i32,
            groups: 1,
            r: 1,
            s: 1,
            out_height: 1,
            out_width: 1,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            x_dist: x.dist as i32,
            dy_dist: dy.dist as i32,
            ..ConvWeight::default()
        };
        self.weight_sums(args, &step.write)
    }

    fn weight_sums(&self, mut args: ConvWeight, write: &View) -> Vec<Pending> {
        args.cut(self.dtype, self.facts.processors);
        let bytes = 4 * args.partials(self.dtype);
        let end = args.end(self.dtype, self.address(write));
        vec![
            scratch(args.launch(self.dtype), &args, &[(offset_of!(ConvWeight, partials), 0)], bytes),
            scratch(end.launch(), &end, &[(offset_of!(WeightEnd, partials), 0)], bytes),
        ]
    }

    fn columns(&self, mut args: Columns, kernel: &'static str, kinds: usize, mode: i32, write: &View) -> Vec<Pending> {
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
        let end = args.end(self.address(&step.write), 2, ColumnEnd::PLAIN);
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
    fn bent(&self, step: &Step, order: &[usize], [d, seen, slope]: [usize; 3], function: opt::Act) -> Pending {
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
    fn pooled(&self, step: &Step, mode: i32) -> PoolData {
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

    fn resize_data(&self, step: &Step, mode: opt::Resample, scale: Option<[f64; 2]>) -> Pending {
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
            mode: resample(mode),
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

    fn loss(&self, step: &Step, loss: &opt::Loss) -> Result<Loss, Problem> {
        let (z, target) = (&step.reads[0], &step.reads[1]);
        let classes = z.dims[z.dims.len() - 1];
        let mut args = Loss {
            z: self.address(z),
            targets: self.raw(target).0,
            rows: (z.len() / classes) as i32,
            classes: classes as i32,
            ..Loss::default()
        };
        match loss {
            opt::Loss::CrossEntropy { smoothing, weights } => {
                args.kind = Loss::CROSS_ENTROPY;
                args.smoothing = *smoothing;
                args.weights = self.floats(weights.as_deref())?;
            }
            opt::Loss::BceWithLogits => args.kind = Loss::BCE,
            opt::Loss::Mse => args.kind = Loss::MSE,
            opt::Loss::L1 => args.kind = Loss::L1,
            opt::Loss::Huber { delta } => (args.kind, args.delta) = (Loss::HUBER, *delta),
        }
        Ok(args)
    }
}

/// Which axis of the weights of a linear map is that of its outputs.
#[derive(Clone, Copy)]
enum Outputs {
    Rows,
    Columns,
}

/// Whether a step reads an input as it came, float32: targets, and the clock of noise.
pub(in crate::exec::cuda) fn reads_raw(kind: &Kind, operand: usize) -> bool {
    matches!(kind, Kind::Learn(Learn::Noise { .. } | Learn::Loss(_) | Learn::LossData(_))) && operand == 1
}

fn resample(mode: opt::Resample) -> i32 {
    match mode {
        opt::Resample::Nearest => Resize::NEAREST,
        opt::Resample::Bilinear => Resize::BILINEAR,
        opt::Resample::Bicubic => Resize::BICUBIC,
    }
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
