//! Changing an image's size, and moving values between channels and pixels.

use archc_base::Resample;

use super::attr::{Attr, FromAttr, Pair, Wanted};
use super::conv::images;
use super::shape::{MAX_DIM, Shape};
use super::{Operand, Operation, bad_value, eval, mismatch, op};
use crate::diag::{Code, Problem};
use crate::tensor::Tensor;

impl FromAttr for Resample {
    const KIND: &'static str = "word";
    fn from_attr(attr: &Attr) -> Result<Resample, Wanted> {
        let word = if let Attr::Word(word) = attr { word.as_str() } else { "" };
        Resample::named(word).ok_or(Wanted::value("one of `nearest` `bilinear` `bicubic`"))
    }
    fn to_attr(&self) -> Attr {
        Attr::Word(self.name().into())
    }
}

op! {
    /// Resamples [N, C, H, W] to another height and width, larger or smaller, as `torch.nn.functional.interpolate` with
    /// `align_corners = false`; of a value without batch also [C, H, W], such as a table of positions.
    ///
    /// Output pixel i lies at (i + 1/2) r - 1/2 of the input, where r is 1 / scale, or H / H' where `size` is given;
    /// `nearest` takes floor(i r). `bicubic` is cubic convolution with a = -0.75. With `scale`, H' = floor(H scale).
    ///
    /// With `antialias = true` an image that shrinks is filtered, so that every input pixel counts: the filter, a triangle or
    /// the cubic with a = -0.5, is widened by r where r is above 1, and its weights are divided by their sum, as Pillow does.
    pub struct Upsample = "upsample", First, aten ["upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "upsample_linear1d"] {
        /// what height and width are multiplied by
        scale: Option<f64> = "none",
        /// the output's size, instead of a scale
        size: Option<Pair> = "none",
        /// `nearest`, `bilinear` or `bicubic`
        mode: Resample = "nearest",
        /// whether an image that shrinks is filtered; not where `mode` is `nearest`
        antialias: bool = "false",
    }
}

impl Operation for Upsample {
    fn check(&self) -> Result<(), Problem> {
        match (self.scale, self.size) {
            (Some(_), Some(_)) => Err(bad_value("`upsample` needs either `scale` or `size`, got both")),
            (None, None) => {
                Err(Problem::new(Code::MissingArgument, "`upsample` needs either `scale` or `size`, got neither"))
            }
            (Some(scale), _) if !(scale > 0.0 && scale.is_finite()) => {
                Err(bad_value(format!("`scale` of `upsample` needs a number above 0, got {scale}")))
            }
            _ if self.antialias && self.mode == Resample::Nearest => {
                Err(bad_value("`antialias` of `upsample` needs `mode = bilinear` or `mode = bicubic`, got `nearest`"))
            }
            _ => Ok(()),
        }
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (_, height, width) = images(ins[0], "upsample")?;
        let (Some(scale), None) = (self.scale, self.size) else {
            return Ok(ins[0].with_last(&self.size.unwrap_or(Pair::both(1)).sides()));
        };
        let scaled = |len: usize| match (len as f64 * scale).floor() {
            size if size < 1.0 => Err(mismatch(format!(
                "`upsample` by {scale} needs an image that keeps a pixel or more, got {}",
                ins[0]
            ))),
            size if size > MAX_DIM as f64 => {
                Err(Problem::new(Code::TooLarge, format!("`upsample` by {scale} of {} is longer than 2^31", ins[0])))
            }
            size => Ok(size as usize),
        };
        Ok(ins[0].with_last(&[scaled(height)?, scaled(width)?]))
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        // the input pixels of each output pixel, with their weights
        let axis = |from: usize, to: usize| -> Vec<Vec<(usize, f64)>> {
            let ratio = self.scale.map_or(from as f64 / to as f64, |scale| 1.0 / scale);
            let pixels = |at: usize| match self.antialias {
                true => {
                    let (first, weights) = self.mode.antialiased(at as u64, ratio, from);
                    (first..).zip(weights).collect()
                }
                false => self.mode.taps(at, ratio, from, to).pixels().collect(),
            };
            (0..to).map(pixels).collect()
        };
        eval::samples(ins[0].value, 3, out, |x, out| {
            let (rows, columns) = (axis(x.shape()[2], out[2]), axis(x.shape()[3], out[3]));
            eval::build(out, |index| {
                let mut sum = 0.0;
                for (y, row_weight) in &rows[index[2]] {
                    for (x_at, weight) in &columns[index[3]] {
                        sum += eval::at(x, &[index[0], index[1], *y, *x_at]) as f64 * row_weight * weight;
                    }
                }
                sum as f32
            })
        })
    }
}

op! {
    /// Moves values from channels to pixels, [N, C r^2, H, W] to [N, C, H r, W r], as `torch.nn.PixelShuffle` (Shi et al.
    /// 2016): pixel (y, x) of channel c is pixel (y / r, x / r) of channel c r^2 + (y mod r) r + x mod r. Of a value without
    /// batch also [C r^2, H, W].
    pub struct PixelShuffle = "pixel_shuffle", First, aten ["pixel_shuffle"] {
        /// what height and width are multiplied by
        r: usize,
    }
}

impl Operation for PixelShuffle {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (channels, height, width) = images(ins[0], "pixel_shuffle")?;
        let square = self.r.saturating_mul(self.r);
        if channels % square != 0 {
            return Err(mismatch(format!(
                "`pixel_shuffle` by {} needs channels divisible by {square}, got {channels}",
                self.r
            )));
        }
        Ok(ins[0].with_last(&[channels / square, height.saturating_mul(self.r), width.saturating_mul(self.r)]))
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let r = self.r;
        eval::samples(ins[0].value, 3, out, |from, out| {
            eval::build(out, |index| {
                let &[n, c, y, x] = index else { unreachable!("the shape was inferred") };
                eval::at(from, &[n, (c * r + y % r) * r + x % r, y / r, x / r])
            })
        })
    }
}

op! {
    /// Interleaves `groups` groups of channels of [N, C, ..], as `torch.nn.ChannelShuffle` (Zhang et al. 2017): output
    /// channel i groups + g is channel i of group g.
    pub struct ChannelShuffle = "channel_shuffle", First, aten ["channel_shuffle"] {
        /// number of groups; the number of channels must be divisible by it
        groups: usize,
    }
}

impl Operation for ChannelShuffle {
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (true, Some(channels)) = (ins[0].batched, ins[0].axis(1)) else {
            return Err(mismatch(format!("`channel_shuffle` needs [N, C, ..], got {}", ins[0])));
        };
        if channels % self.groups != 0 {
            return Err(mismatch(format!(
                "`channel_shuffle` needs channels divisible by {} groups, got {channels}",
                self.groups
            )));
        }
        Ok(ins[0].clone())
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let each = out[1] / self.groups;
        let mut source = vec![];
        eval::build(out, |index| {
            source.clear();
            source.extend_from_slice(index);
            source[1] = index[1] % self.groups * each + index[1] / self.groups;
            eval::at(ins[0].value, &source)
        })
    }
}
