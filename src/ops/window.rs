//! Constant tables of attention in windows (Swin, MaxViT).

use super::attr::{Pair, Pair0};
use super::init::Init;
use super::shape::Shape;
use super::{Arity, Operand, Operation, ParamDecl, Role, bad_value, eval, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

op! {
    /// For every two pixels of a window of h x w the row of a table of relative positions, as torchvision's
    /// `relative_position_index`: (y1 - y2 + h - 1) (2 w - 1) + x1 - x2 + w - 1. A constant: its path is its
    /// key, it is carried where a weight file has it and required nowhere.
    ///
    /// A list of (h w)^2 numbers (Swin), or without `flat` [h w, h w] (MaxViT).
    pub struct WindowIndex = "window_index", First, aten [] {
        /// height and width of the window, in pixels
        window: Pair,
        /// whether it is one list
        flat: bool = "true",
        /// whether an exported file has it, as a buffer of PyTorch's
        persistent: bool = "true",
    }
}

impl Operation for WindowIndex {
    fn arity(&self) -> Arity {
        Arity::Exactly(0)
    }

    fn infer(&self, _ins: &[&Shape]) -> Result<Shape, Problem> {
        let area = self.window.h.saturating_mul(self.window.w);
        Ok(if self.flat { Shape::fixed([area.saturating_mul(area)]) } else { Shape::fixed([area, area]) })
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        computed(self.infer(ins), self.persistent)
    }

    fn eval(&self, _ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let Pair { h, w } = self.window;
        let area = h * w;
        let row = |index: &[usize]| {
            let (a, b) = (index[0], index[1]);
            let (dy, dx) = (a / w + h - 1 - b / w, a % w + w - 1 - b % w);
            (dy * (2 * w - 1) + dx) as f32
        };
        eval::build(&[area, area], row).reshape(out)
    }
}

op! {
    /// The relative positions of two pixels of a window of h x w on a logarithmic scale, [1, 2 h - 1, 2 w - 1, 2], as Swin
    /// v2's `relative_coords_table`: sign(d) log2(1 + |d|) / 3 for d = 8 dy / (h - 1), and the same for x. A constant: its path
    /// is its key, it is carried where a weight file has it and required nowhere.
    pub struct WindowCoords = "window_coords", First, aten [] {
        /// height and width of the window, 2 pixels or more each
        window: Pair,
        /// those of the window that the weights were trained for, whose h and w the scale has then
        pretrained: Option<Pair> = "none",
        /// whether an exported file has it, as a buffer of PyTorch's
        persistent: bool = "true",
    }
}

impl Operation for WindowCoords {
    fn arity(&self) -> Arity {
        Arity::Exactly(0)
    }

    fn check(&self) -> Result<(), Problem> {
        for (name, side) in [("window", Some(self.window)), ("pretrained", self.pretrained)] {
            if let Some(side @ 0..2) = side.map(|pair| pair.h.min(pair.w)) {
                return Err(bad_value(format!("`{name}` of `window_coords` needs 2 or more, got {side}")));
            }
        }
        Ok(())
    }

    fn infer(&self, _ins: &[&Shape]) -> Result<Shape, Problem> {
        let [rows, columns] = self.window.sides().map(|side| 2 * side - 1);
        Ok(Shape::fixed([1, rows, columns, 2]))
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        computed(self.infer(ins), self.persistent)
    }

    fn eval(&self, _ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let reach = self.pretrained.unwrap_or(self.window).sides();
        eval::build(out, |index| {
            let axis = index[3];
            let steps = index[1 + axis] as f64 - (self.window.sides()[axis] - 1) as f64;
            let d = 8.0 * steps / (reach[axis] - 1) as f64;
            (d.signum() * (d.abs() + 1.0).log2() / 3.0) as f32
        })
    }
}

/// A constant's tensor, whose key is the layer's path.
fn computed(shape: Result<Shape, Problem>, is_exported: bool) -> Vec<ParamDecl> {
    let shape = shape.expect("the shape was inferred");
    vec![ParamDecl { role: Role::Computed, is_exported, ..ParamDecl::weight("", shape.dims, Init::Zeros) }]
}

op! {
    /// Keeps the tokens of a rolled image apart in windows that hold parts of opposite borders, as torchvision's Swin:
    /// [windows, 1, tokens, tokens] to be added to the attention of [N, windows, heads, tokens, tokens], -100 where two
    /// tokens were no neighbours before the image was rolled by `-shift`, else 0. It has no key.
    ///
    /// An axis of a single window is not rolled. Windows and tokens count in reading order; `height` and `width` must be divisible
    /// by the window's.
    pub struct WindowMask = "window_mask", All, aten [] {
        /// height of the image, in pixels
        height: usize,
        /// width of the image, in pixels
        width: usize,
        /// height and width of the windows, in pixels
        window: Pair,
        /// by how many pixels the image was rolled along each axis, less than a window
        shift: Pair0,
    }
}

impl Operation for WindowMask {
    fn arity(&self) -> Arity {
        Arity::Exactly(0)
    }

    fn check(&self) -> Result<(), Problem> {
        let WindowMask { height, width, window, shift } = *self;
        let axes = [("height", height), ("width", width)].into_iter().zip(window.sides()).zip(shift.0.sides());
        for (((name, len), window), shift) in axes {
            if len % window != 0 {
                return Err(bad_value(format!(
                    "`window_mask` needs a {name} divisible by the window, {window}, got {len}"
                )));
            }
            if shift >= window {
                return Err(bad_value(format!("`window_mask` needs a shift below the window, {window}, got {shift}")));
            }
        }
        Ok(())
    }

    fn infer(&self, _ins: &[&Shape]) -> Result<Shape, Problem> {
        let windows = (self.height / self.window.h).saturating_mul(self.width / self.window.w);
        let area = self.window.h.saturating_mul(self.window.w);
        Ok(Shape::fixed([windows, 1, area, area]))
    }

    fn eval(&self, _ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let WindowMask { height, width, window, shift } = *self;
        let columns = width / window.w;
        // which of the three strips along an axis, borders first
        let strip = |at: usize, len: usize, window: usize, shift: usize| match len > window {
            true => usize::from(at >= len - window) + usize::from(at >= len - shift),
            // it was not rolled
            false => 0,
        };
        let region = |which: usize, token: usize| {
            let y = which / columns * window.h + token / window.w;
            let x = which % columns * window.w + token % window.w;
            (strip(y, height, window.h, shift.0.h), strip(x, width, window.w, shift.0.w))
        };
        eval::build(out, |index| if region(index[0], index[2]) == region(index[0], index[3]) { 0.0 } else { -100.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_scaled_by_the_window_that_was_trained() {
        // timm's WindowAttention of Swin v2, window 3, pretrained_window_size 5
        let coords = WindowCoords { window: Pair::both(3), pretrained: Some(Pair::both(5)), persistent: false };
        let table = coords.eval(&[], &[], &[1, 5, 5, 2]);
        let row: Vec<f32> = table.data()[..10].iter().map(|value| (value * 1e5).round() / 1e5).collect();
        let (far, near) = (0.773_98, 0.528_32);
        assert_eq!(row, [-far, -far, -far, -near, -far, 0.0, -far, near, -far, far]);
    }
}
