//! Products by weights that are learned, and their derivatives. Weights are float32 values here, which the step that
//! multiplies by them turns into the packed form of its kernel, in the storage dtype, before it does; what is frozen is
//! packed once.

use std::mem::offset_of;

use super::conv::{Image, depthwise, images};
use super::learn::scratch;
use super::{Copy_, Lower, Pending, axes, ready, rows};
use crate::diag::Problem;
use crate::opt;
use crate::plan::{Place, Step, View};
use archc_base::Window;
use archc_cuda::{Conv, ConvWeight, Depthwise, Dtype, Epilogue, WeightEnd, conv_row};

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
impl Lower<'_> {
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
        let mut copy = Copy_ {
            x: at + 4 * turn.from as u64,
            y: packed + (turn.to * size) as u64,
            rank: turn.axes.len() as i32,
            shape: axes(&turn.axes.iter().map(|(len, ..)| *len).collect::<Vec<_>>()),
            ..Copy_::default()
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

    pub(super) fn conv_learned(
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
            let args = depthwise([self.address(&step.reads[0]), self.address(&step.write)], [x, y], window, own);
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

    /// The derivative of a convolution by what it reads.
    pub(super) fn conv_data(
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
        let args = depthwise([self.address(&step.reads[0]), self.address(&step.write)], [dy, dx], window, own);
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
    pub(super) fn transposed(
        &self,
        step: &Step,
        epilogue: Epilogue,
        window: &Window,
        groups: usize,
    ) -> Result<Vec<Pending>, Problem> {
        let (x, y) = (Image::new(&step.reads[0]), Image::new(&step.write));
        let (c, k) = (x.c / groups, y.c / groups);
        let [kernel_h, kernel_w] = window.kernel;
        let taps = kernel_h * kernel_w;
        self.phased(step, epilogue, window, groups, |conv, down, right| {
            let (rows, cols) = (down.taps.len(), right.taps.len());
            let first = |taps: &[usize]| taps.first().copied().unwrap_or(0);
            let apart = |taps: &[usize]| taps.get(1).map_or(0, |second| (first(taps) - second) as i64);
            let pending = self.with_weights(conv, &step.reads[1], |wide, row| Turn {
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
            })?;
            Ok(pending.into_iter().collect())
        })
    }

    /// A linear map by weights of two axes.
    pub(super) fn linear_learned(
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

    pub(super) fn conv_weight(&self, step: &Step, window: &Window, groups: usize) -> Vec<Pending> {
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

    pub(super) fn linear_weight(&self, step: &Step) -> Vec<Pending> {
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
}

/// Which axis of the weights of a linear map is that of its outputs.
#[derive(Clone, Copy)]
pub(super) enum Outputs {
    Rows,
    Columns,
}
