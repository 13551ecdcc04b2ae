//! Sums of products: convolutions, transposed ones by phases, linear maps.

use super::excitation::Squeezed;
use super::{Lower, Pending, act, ready, rows};
use crate::diag::Problem;
use crate::opt::{self, Id, Squeeze, Weights as Expression};
use crate::plan::view::IMAGE;
use crate::plan::{Step, View};
use archc_base::Window;
use archc_cuda::{Conv, Depthwise, Dtype, Epilogue, LinearRows, Phase, Sums, conv_row, pack_conv, phases};

/// An image in memory: distances in elements.
#[derive(Clone, Copy)]
pub(super) struct Image {
    pub n: i32,
    pub c: usize,
    pub h: i32,
    pub w: i32,
    pub image: i32,
    pub row: i32,
    pub pixel: i32,
}

impl Image {
    pub(super) fn new(view: &View) -> Image {
        let [n, c, h, w] = view.dims[..] else { unreachable!("images have four axes") };
        let dist = rows(view, &IMAGE).dist;
        let number = |number: usize| number as i32;
        Image {
            n: number(n),
            c,
            h: number(h),
            w: number(w),
            image: number(dist * h * w),
            row: number(dist * w),
            pixel: number(dist),
        }
    }
}

impl Image {
    /// What a window makes of `x`, but that it is not kept.
    fn nowhere(x: &View, channels: usize, window: &Window) -> Image {
        let [top, left, bottom, right] = window.padding;
        let out = |axis: usize, len: usize, padding: usize| {
            let span = (window.kernel[axis] - 1) * window.dilation[axis] + 1;
            ((len + padding - span) / window.stride[axis] + 1) as i32
        };
        let [n, _, height, width] = x.dims[..] else { unreachable!("images have four axes") };
        let (h, w) = (out(0, height, top + bottom), out(1, width, left + right));
        Image { n: n as i32, c: channels, h, w, image: 0, row: 0, pixel: 0 }
    }
}

impl Lower<'_> {
    pub(super) fn conv(
        &self,
        id: Id,
        step: &Step,
        window: &Window,
        groups: usize,
        expression: &Expression,
    ) -> Result<Vec<Pending>, Problem> {
        let epilogue = &self.plan.net().node(id).epilogue;
        let x = Image::new(&step.reads[0]);
        // an image of which the means alone are kept has no place
        let (y, y_at) = match epilogue.squeeze {
            Squeeze::Only => (Image::nowhere(&step.reads[0], step.write.dims[1], window), 0),
            _ => (Image::new(&step.write), self.address(&step.write)),
        };
        let channels = self.weights.channels(expression, y.c)?;
        let raw = self.weights.read(&expression.weight)?;
        let taps = window.kernel[0] * window.kernel[1];
        let (c, k) = (x.c / groups, y.c / groups);
        let scale = |k: usize| channels.scale.as_ref().map_or(1.0, |scale| scale[k]);
        let squeeze = epilogue.squeeze;
        let epilogue = self.epilogue(step, epilogue, channels.shift.as_deref())?;
        let pixels = y.h * y.w;
        if c == 1 && k == 1 && groups > 1 {
            let mut weights = vec![0.0; taps * groups];
            for (at, weight) in weights.iter_mut().enumerate() {
                let (tap, c) = (at / groups, at % groups);
                *weight = raw[c * taps + tap] * scale(c);
            }
            let args = depthwise([self.address(&step.reads[0]), y_at], [x, y], window, epilogue);
            let mut depthwise = Depthwise { w: self.stored(&weights)?, ..args };
            let mut squeezed = None;
            if squeeze != Squeeze::None {
                depthwise = depthwise.with_sums();
                depthwise.sums = self.room_for_sums(depthwise.sums)?;
                squeezed = Some(Squeezed { sums: depthwise.sums, pixels, part: 0 });
            }
            let mut launches = vec![ready(depthwise.launch(self.dtype), &depthwise)];
            launches.extend(squeezed.and_then(|squeezed| self.squeezed(id, step, squeezed)));
            return Ok(launches);
        }
        let is_linear = taps == 1 && groups == 1 && x.h * x.w * y.h * y.w == 1;
        if is_linear && y.n as usize <= LinearRows::MOST {
            let weights = |k: usize, c: usize| raw[k * x.c + c] * scale(k);
            let sizes = [y.n as usize, x.c, y.c];
            return self.few_rows(step, epilogue, sizes, [x.pixel, y.pixel], weights);
        }
        let mut conv = Conv {
            x: self.address(&step.reads[0]),
            y: y_at,
            epilogue,
            r: window.kernel[0] as i32,
            s: window.kernel[1] as i32,
            stride_h: window.stride[0] as i32,
            stride_w: window.stride[1] as i32,
            pad_h: window.padding[0] as i32,
            pad_w: window.padding[1] as i32,
            dilation_h: window.dilation[0] as i32,
            dilation_w: window.dilation[1] as i32,
            ..images(x, y, groups)
        };
        let weight = |k: usize, c_at: usize, tap: usize| raw[(k * c + c_at) * taps + tap] * scale(k);
        if let Some(scale) = step.reads.get(1) {
            (conv.scale, conv.scale_dist) = (self.address(scale), scale.dims[1] as i32);
        }
        if groups == 1 && conv.scale == 0 && self.by_pairs(&mut conv, &step.reads[0]) {
            let before = conv.pad_w as usize * 2 - window.padding[1];
            let (wide, pairs) = (window.kernel[1], conv.s as usize);
            self.pack(&mut conv, |k, c_at, tap| {
                let (r, s) = (tap / pairs, tap % pairs * 2 + c_at / 4);
                let inside = c_at % 4 < c && (before..before + wide).contains(&s);
                if inside { weight(k, c_at % 4, r * wide + s - before) } else { 0.0 }
            })?;
        } else {
            self.pack(&mut conv, weight)?;
        }
        let mut more = None;
        if squeeze != Squeeze::None {
            conv.sums = self.room_for_sums(conv.sums())?;
            more = self.squeezed(id, step, Squeezed { sums: conv.sums, pixels, part: Sums::PART });
        }
        Ok([self.chosen(conv)].into_iter().chain(more).collect())
    }

    /// A picture of up to four channels as one of eight and half the width, whose pixels are pairs, so that loads are 16 bytes
    /// wide. A tap of zeros comes before the first where a window begins amid a pair.
    pub(super) fn by_pairs(&self, conv: &mut Conv, x: &View) -> bool {
        let even = |numbers: [i32; 2]| numbers.iter().all(|number| number % 2 == 0);
        let pairs = self.dtype.size() == 2
            && conv.x_pixel == 4
            && even([conv.width, conv.stride_w])
            && even([conv.x_row / 4, conv.x_image / 4])
            && conv.dilation_w == 1
            && conv.x.is_multiple_of(16)
            && (conv.c == 4 || self.closing_copy(x).is_some());
        if !pairs {
            return false;
        }
        let before = conv.pad_w % 2;
        conv.s = (conv.s + before + 1) / 2;
        conv.pad_w = (conv.pad_w + before) / 2;
        (conv.c, conv.x_pixel) = (8, 8);
        conv.width /= 2;
        conv.stride_w /= 2;
        true
    }

    pub(super) fn conv_transpose(
        &self,
        step: &Step,
        epilogue: &opt::Epilogue,
        window: &Window,
        groups: usize,
        expression: &Expression,
    ) -> Result<Vec<Pending>, Problem> {
        let (x, y) = (Image::new(&step.reads[0]), Image::new(&step.write));
        let channels = self.weights.channels(expression, y.c)?;
        let raw = self.weights.read(&expression.weight)?;
        let scale = |k: usize| channels.scale.as_ref().map_or(1.0, |scale| scale[k]);
        let epilogue = self.epilogue(step, epilogue, channels.shift.as_deref())?;
        let (c, k) = (x.c / groups, y.c / groups);
        let [kernel_h, kernel_w] = window.kernel;
        self.phased(step, epilogue, window, groups, |conv, down, right| {
            self.pack(conv, |out, c_at, tap| {
                let (r, s) = (down.taps[tap / right.taps.len()], right.taps[tap % right.taps.len()]);
                let (group, k_at) = (out / k, out % k);
                raw[(((group * c + c_at) * k + k_at) * kernel_h + r) * kernel_w + s] * scale(out)
            })?;
            Ok(vec![])
        })
    }

    /// A transposed convolution phase by phase: `weigh` gives each its weights, by launches that come before it where it
    /// needs some.
    pub(super) fn phased(
        &self,
        step: &Step,
        epilogue: Epilogue,
        window: &Window,
        groups: usize,
        weigh: impl Fn(&mut Conv, &Phase, &Phase) -> Result<Vec<Pending>, Problem>,
    ) -> Result<Vec<Pending>, Problem> {
        let (x, y) = (Image::new(&step.reads[0]), Image::new(&step.write));
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
                launches.extend(weigh(&mut conv, &down, &right)?);
                launches.push(self.chosen(conv));
            }
        }
        Ok(launches)
    }

    pub(super) fn linear(
        &self,
        step: &Step,
        epilogue: &opt::Epilogue,
        order: &[usize],
        expression: &Expression,
    ) -> Result<Vec<Pending>, Problem> {
        let (x, y) = (rows(&step.reads[0], order), rows(&step.write, order));
        let channels = self.weights.channels(expression, y.cols)?;
        let matrix = self.weights.matrix(expression, y.cols, channels.scale.as_deref())?;
        let mut epilogue = self.acts(epilogue);
        epilogue.bias = self.floats(channels.shift.as_deref())?;
        if let Some(residual) = &step.residual {
            let dist = rows(residual, order).dist as i32;
            epilogue.residual = self.address(residual);
            (epilogue.residual_image, epilogue.residual_row, epilogue.residual_pixel) = (dist, dist, dist);
        }
        let dists = [x.dist as i32, y.dist as i32];
        if y.rows <= LinearRows::MOST {
            let weights = |k: usize, c: usize| matrix[k * x.cols + c];
            return self.few_rows(step, epilogue, [y.rows, x.cols, y.cols], dists, weights);
        }
        let one = |rows: usize, c: usize, dist: i32| Image {
            n: rows as i32,
            c,
            h: 1,
            w: 1,
            image: dist,
            row: dist,
            pixel: dist,
        };
        let mut conv = Conv {
            x: self.address(&step.reads[0]),
            y: self.address(&step.write),
            epilogue,
            ..images(one(x.rows, x.cols, dists[0]), one(y.rows, y.cols, dists[1]), 1)
        };
        self.pack(&mut conv, |k, c, _| matrix[k * x.cols + c])?;
        Ok(vec![self.chosen(conv)])
    }

    /// A linear map of few rows: `sizes` are rows, inputs and outputs.
    fn few_rows(
        &self,
        step: &Step,
        epilogue: Epilogue,
        [rows, inputs, outputs]: [usize; 3],
        [x_dist, y_dist]: [i32; 2],
        weight: impl Fn(usize, usize) -> f32,
    ) -> Result<Vec<Pending>, Problem> {
        let dist = inputs.next_multiple_of(self.dtype.vector());
        let mut packed = vec![0.0; outputs * dist];
        for (k, row) in packed.chunks_exact_mut(dist).enumerate() {
            row[..inputs].iter_mut().enumerate().for_each(|(c, value)| *value = weight(k, c));
        }
        let linear = LinearRows {
            x: self.address(&step.reads[0]),
            w: self.stored(&packed)?,
            y: self.address(&step.write),
            epilogue,
            rows: rows as i32,
            inputs: inputs as i32,
            outputs: outputs as i32,
            x_dist,
            w_dist: dist as i32,
            y_dist,
        };
        Ok(vec![ready(linear.launch(self.dtype), &linear)])
    }

    /// The epilogue of something that writes images.
    pub(super) fn epilogue(
        &self,
        step: &Step,
        epilogue: &opt::Epilogue,
        shift: Option<&[f32]>,
    ) -> Result<Epilogue, Problem> {
        let mut packed = self.acts(epilogue);
        packed.bias = self.floats(shift)?;
        if let Some(gate) = &step.gate {
            packed.gate = self.address(gate);
            packed.gate_dist = gate.dims[1] as i32;
        }
        if let Some(residual) = &step.residual {
            let image = Image::new(residual);
            packed.residual = self.address(residual);
            packed.residual_image = image.image;
            packed.residual_row = image.row;
            packed.residual_pixel = image.pixel;
        }
        Ok(packed)
    }

    pub(super) fn acts(&self, epilogue: &opt::Epilogue) -> Epilogue {
        Epilogue { before: act(epilogue.before), after: act(epilogue.after), ..Epilogue::default() }
    }

    /// Packs the weights of `conv`, whose addresses, distances and window are there.
    fn pack(&self, conv: &mut Conv, weight: impl Fn(usize, usize, usize) -> f32) -> Result<(), Problem> {
        let (dtype, vec) = (self.dtype, conv.vec(self.dtype));
        let (k, c, taps) = ((conv.groups * conv.k) as usize, conv.c as usize, (conv.r * conv.s) as usize);
        conv.w_dist = conv_row(dtype, vec, c, taps) as i32;
        conv.w = self.stored(&pack_conv(dtype, vec, [k, c, taps], weight))?;
        Ok(())
    }

    pub(super) fn chosen(&self, mut conv: Conv) -> Pending {
        if let Some(tma) = self.facts.choose_tma(&conv, self.dtype) {
            return Pending::Tma(Box::new(tma));
        }
        let choice = self.facts.choose(&conv, self.dtype);
        conv.splits = choice.splits as i32;
        Pending::Conv(conv, choice)
    }
}

/// Sizes and distances, for a window of one pixel.
pub(super) fn images(x: Image, y: Image, groups: usize) -> Conv {
    Conv {
        n: x.n,
        height: x.h,
        width: x.w,
        c: (x.c / groups) as i32,
        k: (y.c / groups) as i32,
        groups: groups as i32,
        r: 1,
        s: 1,
        out_height: y.h,
        out_width: y.w,
        stride_h: 1,
        stride_w: 1,
        dilation_h: 1,
        dilation_w: 1,
        x_image: x.image,
        x_row: x.row,
        x_pixel: x.pixel,
        y_image: y.image,
        y_row: y.row,
        y_pixel: y.pixel,
        splits: 1,
        ..Conv::default()
    }
}

/// Elements of a pixel of an image of so many channels: whole vectors, so that kernels load them at once.
pub fn pixel_distance(dtype: Dtype) -> fn(usize) -> usize {
    match dtype.size() {
        4 => |channels| channels.next_multiple_of(4),
        // few channels take half of a vector
        _ => |channels| if channels <= 4 { channels.next_multiple_of(4) } else { channels.next_multiple_of(8) },
    }
}

/// A convolution with one filter a channel from an image at one address to another; its weights are still to come.
pub(super) fn depthwise([x, y]: [u64; 2], [from, to]: [Image; 2], window: &Window, epilogue: Epilogue) -> Depthwise {
    Depthwise {
        x,
        w: 0,
        y,
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
        ..Depthwise::default()
    }
}
