//! Convolutions and their gradients, and the choice of a kernel for every sum of products.

use std::mem::offset_of;

use archc_base::Window;
use archc_cuda::{ConvWeight, Depthwise, Dtype, Epilogue, LinearRows, Sums, WeightEnd, conv_row};

use super::super::driver::{Driver, Fault};
use super::excitation::Squeezed;
use super::packing::{Packing, Weight};
use super::{Lower, OnCuda, Pending, Rows, Scratch, ready, rows, scratch};
use crate::diag::Problem;
use crate::net::{Conv, ConvData, Squeeze};
use crate::plan::View;
use crate::plan::view::IMAGE;

/// An image in memory: distances in elements.
#[derive(Clone, Copy)]
pub(super) struct Image {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub image: i32,
    pub row: i32,
    pub pixel: i32,
}

impl Image {
    pub(super) fn new(view: &View) -> Image {
        let [n, c, h, w] = view.dims[..] else { unreachable!("images have four axes") };
        let pixel = rows(view, &IMAGE).stride;
        Image { n, c, h, w, image: pixel * (h * w) as i32, row: pixel * w as i32, pixel }
    }

    /// Rows as images of one pixel.
    pub(super) fn of_rows(Rows { rows, cols, stride }: Rows) -> Image {
        Image { n: rows as usize, c: cols as usize, h: 1, w: 1, image: stride, row: stride, pixel: stride }
    }

    /// The result of a window on `x`, of which only the means are kept.
    fn nowhere(x: &View, channels: usize, window: &Window) -> Image {
        let [n, _, height, width] = x.dims[..] else { unreachable!("images have four axes") };
        let [h, w] = window.output([height, width]);
        Image { n, c: channels, h, w, image: 0, row: 0, pixel: 0 }
    }
}

impl OnCuda for Conv {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let (window, groups, squeeze) = (&self.window, self.groups, to.node.epilogue.squeeze);
        let (read, write) = (to.view(0), &to.step.write);
        let x = Image::new(read);
        // an image of which the means alone are kept has no place
        let (y, y_at) = match squeeze {
            Squeeze::Only => (Image::nowhere(read, write.dims[1], window), 0),
            _ => (Image::new(write), to.write()),
        };
        let (x_at, weight, epilogue) = (to.address(0)?, to.weight(1)?, to.epilogue(Image::new)?);
        let (taps, pixels) = (window.taps(), (y.h * y.w) as i32);
        let (c, out) = (x.c / groups, y.c);
        if c == 1 && out == groups && groups > 1 {
            let (w, pending) = to.pack(&weight, &by_taps(taps, out, false))?;
            let mut args = Depthwise { w, ..depthwise([x_at, y_at], [x, y], window, epilogue) };
            let mut means = None;
            if squeeze != Squeeze::None {
                args = args.with_sums();
                args.sums = to.room_for_sums(args.sums)?;
                means = to.squeezed(Squeezed { sums: args.sums, pixels, part: 0 });
            }
            return Ok(pending.into_iter().chain([ready(args.launch(to.dtype), &args)]).chain(means).collect());
        }
        let mut conv = archc_cuda::Conv { x: x_at, y: y_at, epilogue, ..conv(x, y, window, groups) };
        if let Some(scale) = to.step.reads.get(2) {
            (conv.scale, conv.scale_stride) = (to.address(2)?, scale.dims[1] as i32);
        } else if self.is_pointwise() && x.h * x.w == 1 && squeeze == Squeeze::None && fits_few_rows(&y) {
            return few_rows(to, &conv, &weight, &columns_in_rows(x.c, y.c, to.dtype));
        }
        let pending = if by_pairs(to, &mut conv)? {
            let before = conv.window.pad_left as usize * 2 - window.padding[1];
            let ([r, s], pairs) = (window.kernel, conv.window.s as usize);
            with_weights(to, &mut conv, &weight, |_, row| Packing {
                axes: vec![(out, (c * taps) as i64, row), (r, s as i64, pairs * 8), (s, 1, 4), (c, taps as i64, 1)],
                from: 0,
                to: before * 4,
                len: out * row,
            })?
        } else {
            with_weights(to, &mut conv, &weight, |wide, row| {
                Packing::new(vec![(out, (c * taps) as i64, row), (taps, 1, wide), (c, taps as i64, 1)], out * row)
            })?
        };
        let mut means = None;
        if squeeze != Squeeze::None {
            conv.sums = to.room_for_sums(conv.sums())?;
            means = to.squeezed(Squeezed { sums: conv.sums, pixels, part: Sums::PART });
        }
        Ok(pending.into_iter().chain([chosen(to, conv)?]).chain(means).collect())
    }
}

impl OnCuda for ConvData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let (dy, dx) = (Image::new(to.view(0)), Image::new(&to.step.write));
        if self.groups == 1 || dy.c != self.groups || dx.c != self.groups {
            return super::conv_transpose::transposed(to, &self.window, self.groups);
        }
        // with stride 1 it is a convolution by the window turned half around
        let is_plain = self.window.stride == [1, 1];
        let (w, pending) = to.pack(&to.weight(1)?, &by_taps(self.window.taps(), dx.c, is_plain))?;
        let addresses = [to.address(0)?, to.write()];
        let mut args = Depthwise { w, ..depthwise(addresses, [dy, dx], &self.window, to.epilogue(Image::new)?) };
        let launch = if is_plain {
            let archc_cuda::Window { r, s, dilation_h, dilation_w, .. } = args.window;
            args.window.pad_top = (r - 1) * dilation_h - args.window.pad_top;
            args.window.pad_left = (s - 1) * dilation_w - args.window.pad_left;
            args.launch(to.dtype)
        } else {
            args.launch_data(to.dtype)
        };
        Ok(pending.into_iter().chain([ready(launch, &args)]).collect())
    }
}

impl OnCuda for crate::net::ConvWeight {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let (x, dy) = (Image::new(to.view(0)), Image::new(to.view(1)));
        weight_sums(to, x, dy, &self.window, self.groups)
    }
}

/// The gradient of a weight, from `x` to images of gradients.
pub(super) fn weight_sums(
    to: &Lower,
    x: Image,
    dy: Image,
    window: &Window,
    groups: usize,
) -> Result<Vec<Pending>, Problem> {
    let [x_at, dy_at] = to.operands()?;
    let mut args = ConvWeight {
        x: x_at,
        dy: dy_at,
        window: over(x, dy, window),
        c: (x.c / groups) as i32,
        k: (dy.c / groups) as i32,
        groups: groups as i32,
        x_stride: x.pixel,
        dy_stride: dy.pixel,
        ..ConvWeight::default()
    };
    args.cut(to.dtype, to.processors());
    let bytes = 4 * args.partials(to.dtype);
    let end = args.end(to.dtype, to.write());
    Ok(vec![
        scratch(args.launch(to.dtype), &args, &[(offset_of!(ConvWeight, partials), 0)], bytes),
        scratch(end.launch(), &end, &[(offset_of!(WeightEnd, partials), 0)], bytes),
    ])
}

/// A linear map of few rows, as `conv` has them.
pub(super) fn few_rows(
    to: &Lower,
    conv: &archc_cuda::Conv,
    weight: &Weight,
    packing: &Packing,
) -> Result<Vec<Pending>, Problem> {
    let (w, pending) = to.pack(weight, packing)?;
    let args = LinearRows {
        x: conv.x,
        w,
        y: conv.y,
        epilogue: conv.epilogue,
        rows: conv.window.n,
        inputs: conv.c,
        outputs: conv.k,
        x_stride: conv.x_pixel,
        w_stride: row_of(conv.c as usize, to.dtype) as i32,
        y_stride: conv.y_pixel,
    };
    Ok(pending.into_iter().chain([ready(args.launch(to.dtype), &args)]).collect())
}

/// Whether a linear map to so many rows has a kernel of its own.
pub(super) fn fits_few_rows(y: &Image) -> bool {
    y.n <= LinearRows::MOST
}

/// Weights [out, in], each output's as a row of whole vectors.
pub(super) fn columns_in_rows(inputs: usize, outputs: usize, dtype: Dtype) -> Packing {
    let row = row_of(inputs, dtype);
    Packing::new(vec![(outputs, inputs as i64, row), (inputs, 1, 1)], outputs * row)
}

fn row_of(inputs: usize, dtype: Dtype) -> usize {
    inputs.next_multiple_of(dtype.vector())
}

/// Weights [channels, taps] as [taps, channels], the taps from the last on where `is_reversed`.
fn by_taps(taps: usize, channels: usize, is_reversed: bool) -> Packing {
    let (from, along) = if is_reversed { (taps - 1, -1) } else { (0, 1) };
    let axes = vec![(taps, along, channels), (channels, taps as i64, 1)];
    Packing { from, ..Packing::new(axes, taps * channels) }
}

/// Gives `conv` its packed weights; `packing` is made for the width of a tap's channels and of a row.
pub(super) fn with_weights(
    to: &Lower,
    conv: &mut archc_cuda::Conv,
    weight: &Weight,
    packing: impl FnOnce(usize, usize) -> Packing,
) -> Result<Option<Pending>, Problem> {
    let (vec, c, taps) = (conv.vec(to.dtype), conv.c as usize, (conv.window.r * conv.window.s) as usize);
    let row = conv_row(to.dtype, vec, c, taps);
    let (at, pending) = to.pack(weight, &packing(c.next_multiple_of(vec), row))?;
    (conv.w, conv.w_stride) = (at, row as i32);
    Ok(pending)
}

/// Makes of an image of up to four channels one of eight and half the width, whose pixels are pairs, so that loads are 16
/// bytes wide; says whether it could. A tap of zeros comes before the first where a window begins amid a pair.
fn by_pairs(to: &Lower, conv: &mut archc_cuda::Conv) -> Result<bool, Problem> {
    let even = |numbers: [i32; 2]| numbers.iter().all(|number| number % 2 == 0);
    let pairs = to.dtype.size() == 2
        && conv.groups == 1
        && conv.scale == 0
        && conv.x_pixel == 4
        && even([conv.window.width, conv.window.stride_w])
        && even([conv.x_row / 4, conv.x_image / 4])
        && conv.window.dilation_w == 1
        && conv.x.is_multiple_of(16)
        && (conv.c == 4 || to.load.closing_copy(to.view(0))?.is_some());
    if pairs {
        let window = &mut conv.window;
        let before = window.pad_left % 2;
        window.s = (window.s + before + 1) / 2;
        window.pad_left = (window.pad_left + before) / 2;
        window.width /= 2;
        window.stride_w /= 2;
        (conv.c, conv.x_pixel) = (8, 8);
    }
    Ok(pairs)
}

/// The launch of a convolution whose addresses, distances and window are there, by the kernel that is best on this device.
pub(super) fn chosen(to: &Lower, conv: archc_cuda::Conv) -> Result<Pending, Problem> {
    Ok(choose(to.load.driver.as_ref(), conv, to.dtype)?)
}

/// [`chosen`] for a driver.
pub(in crate::exec::cuda) fn choose(
    driver: &dyn Driver,
    mut conv: archc_cuda::Conv,
    dtype: Dtype,
) -> Result<Pending, Fault> {
    if let Some(tma) = driver.facts().choose_tma(&conv, dtype) {
        let name = format!("conv_tma {}x{}", tma.tile.bm, tma.tile.bn);
        let args = tma.args(|boxes| driver.tensor_map(boxes))?;
        return Ok(Pending { name, ..ready(tma.launch, &args) });
    }
    let choice = driver.facts().choose(&conv, dtype);
    conv.splits = choice.splits as i32;
    let own = if choice.tile.hopper { " wgmma" } else { "" };
    let cut = if choice.splits == 1 { String::new() } else { format!(" / {}", choice.splits) };
    let name = format!("conv_igemm {}x{}{own}{cut}", choice.tile.bm, choice.tile.bn);
    let pending = Pending { name, ..ready(conv.launch(dtype, choice), &conv) };
    if choice.splits == 1 {
        return Ok(pending);
    }
    let [partials, counters] = conv.workspace(choice);
    Ok(Pending {
        scratch: Scratch { fields: vec![(offset_of!(archc_cuda::Conv, partials), 0)], bytes: 4 * partials },
        counters: Some((offset_of!(archc_cuda::Conv, counters), 4 * counters)),
        ..pending
    })
}

/// A convolution from images to images; addresses and weights are still to come.
pub(super) fn conv(x: Image, y: Image, window: &Window, groups: usize) -> archc_cuda::Conv {
    archc_cuda::Conv {
        window: over(x, y, window),
        c: (x.c / groups) as i32,
        k: (y.c / groups) as i32,
        groups: groups as i32,
        x_image: x.image,
        x_row: x.row,
        x_pixel: x.pixel,
        y_image: y.image,
        y_row: y.row,
        y_pixel: y.pixel,
        splits: 1,
        ..archc_cuda::Conv::default()
    }
}

/// A window from images to images.
fn over(from: Image, to: Image, window: &Window) -> archc_cuda::Window {
    archc_cuda::Window::new(from.n, [from.h, from.w], [to.h, to.w], window)
}

/// A convolution with one filter a channel from an image at one address to another; its weights are still to come.
fn depthwise([x, y]: [u64; 2], [from, to]: [Image; 2], window: &Window, epilogue: Epilogue) -> Depthwise {
    Depthwise {
        x,
        y,
        epilogue,
        window: over(from, to, window),
        c: from.c as i32,
        x_stride: from.pixel,
        y_stride: to.pixel,
        ..Depthwise::default()
    }
}

/// Elements of a pixel of an image of so many channels: whole vectors, so that kernels load them at once.
pub(in crate::exec::cuda) fn pixel_stride(dtype: Dtype) -> fn(usize) -> usize {
    match dtype.size() {
        4 => |channels| channels.next_multiple_of(4),
        // few channels take half of a vector
        _ => |channels| if channels <= 4 { channels.next_multiple_of(4) } else { channels.next_multiple_of(8) },
    }
}
