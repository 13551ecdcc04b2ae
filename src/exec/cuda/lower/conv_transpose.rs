//! Transposed convolutions.

use archc_base::Window;
use archc_cuda::{Phase, phases};

use super::conv::{Image, chosen, conv, with_weights};
use super::packing::Packing;
use super::{Lower, OnCuda, Pending};
use crate::diag::Problem;
use crate::net::ConvTranspose;

impl OnCuda for ConvTranspose {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        transposed(to, &self.window, self.groups)
    }
}

/// By weights [in, out / groups, r, s], phase by phase.
pub(super) fn transposed(to: &Lower, window: &Window, groups: usize) -> Result<Vec<Pending>, Problem> {
    let (x, y) = (Image::new(to.view(0)), Image::new(&to.step.write));
    let (x_at, weight, epilogue, size) = (to.address(0)?, to.weight(1)?, to.epilogue(Image::new)?, to.dtype.size());
    let (c, k, taps, kernel_w) = (x.c / groups, y.c / groups, window.taps(), window.kernel[1]);
    let along = |axis: usize, out: usize| -> Vec<Phase> {
        let (kernel, stride) = (window.kernel[axis], window.stride[axis]);
        phases(kernel, stride, window.padding[axis], window.dilation[axis], out)
    };
    let [stride_h, stride_w] = window.stride.map(|stride| stride as i32);
    let first = |taps: &[usize]| taps.first().copied().unwrap_or(0);
    let apart = |taps: &[usize]| taps.get(1).map_or(0, |second| (first(taps) - second) as i64);
    let (across, mut launches) = (along(1, y.w), vec![]);
    for down in along(0, y.h) {
        for right in &across {
            let skipped = |row: i32, pixel: i32| {
                let elements = down.first as i64 * i64::from(row) + right.first as i64 * i64::from(pixel);
                (elements as usize * size) as u64
            };
            let mut own = epilogue;
            if own.residual != 0 {
                own.residual += skipped(own.residual_row, own.residual_pixel);
                own.residual_row *= stride_h;
                own.residual_pixel *= stride_w;
            }
            let plain = conv(x, y, &Window::PIXEL, groups);
            let mut conv = archc_cuda::Conv {
                x: x_at,
                y: to.write() + skipped(y.row, y.pixel),
                epilogue: own,
                window: archc_cuda::Window {
                    r: down.taps.len() as i32,
                    s: right.taps.len() as i32,
                    out_height: down.count as i32,
                    out_width: right.count as i32,
                    pad_top: down.padding,
                    pad_left: right.padding,
                    dilation_h: down.dilation,
                    dilation_w: right.dilation,
                    ..plain.window
                },
                y_row: y.row * stride_h,
                y_pixel: y.pixel * stride_w,
                ..plain
            };
            let (rows, cols) = (down.taps.len(), right.taps.len());
            launches.extend(with_weights(to, &mut conv, &weight, |wide, row| Packing {
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
            launches.push(chosen(to, conv)?);
        }
    }
    Ok(launches)
}
