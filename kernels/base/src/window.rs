//! Windows that move over images.

/// A window that moves over an image, along the height and the width.
///
/// Output pixel `o` of an axis sees the pixels `o stride + r dilation - padding` for each `r` below `kernel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// Top, left, bottom, right.
    pub padding: [usize; 4],
    pub dilation: [usize; 2],
}

impl Window {
    /// A pixel alone.
    pub const PIXEL: Window = Window::square(1);

    /// A square, with stride 1 and no padding.
    pub const fn square(kernel: usize) -> Window {
        Window { kernel: [kernel; 2], stride: [1; 2], padding: [0; 4], dilation: [1; 2] }
    }

    /// How far the window reaches, from its first pixel to its last.
    pub fn reach(&self) -> [usize; 2] {
        [0, 1].map(|axis| (self.kernel[axis] - 1) * self.dilation[axis] + 1)
    }

    /// Pixels that the window sees.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Height and width of the output of an image of such a size; 0 where the window does not fit.
    pub fn output(&self, size: [usize; 2]) -> [usize; 2] {
        let reach = self.reach();
        [0, 1].map(|axis| {
            let padded = size[axis] + self.padding[axis] + self.padding[axis + 2];
            if padded < reach[axis] { 0 } else { (padded - reach[axis]) / self.stride[axis] + 1 }
        })
    }

    /// With the padding below and right that makes an image of size `from` one of size `to`.
    pub fn fitted(mut self, from: [usize; 2], to: [usize; 2]) -> Window {
        let reach = self.reach();
        for axis in 0..2 {
            let end = (to[axis] - 1) * self.stride[axis] + reach[axis];
            self.padding[axis + 2] = end.saturating_sub(from[axis] + self.padding[axis]);
        }
        self
    }

    /// Whether stride, kernel and dilation are above 0, so that the window can move at all.
    pub fn is_valid(&self) -> bool {
        self.kernel.iter().chain(&self.stride).chain(&self.dilation).all(|value| *value > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_outputs() {
        let cases = [
            (Window::square(3), [5, 7], [3, 5]),
            (Window { stride: [2; 2], padding: [1; 4], ..Window::square(3) }, [5, 8], [3, 4]),
            (Window { dilation: [2, 1], ..Window::square(3) }, [5, 2], [1, 0]),
        ];
        for (window, from, to) in cases {
            assert_eq!(window.output(from), to, "{window:?}");
        }
    }

    #[test]
    fn a_fitted_window_pads_no_more_than_is_seen() {
        let window = Window { stride: [2; 2], padding: [1, 1, 9, 9], ..Window::square(3) };
        let fitted = window.fitted([6, 7], [3, 4]);
        assert_eq!(fitted.padding, [1, 1, 0, 1]);
        assert_eq!(fitted.output([6, 7]), [3, 4]);
    }
}
