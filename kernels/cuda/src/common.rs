//! What every kernel shares: activations, the epilogue, sums.

use super::{Code, Stored};

args! {
    use Code<archc_base::Act>;

    const RANK: usize = super::RANK;

    /// A function of one number, `activate` in common.cuh: its code and its parameters.
    pub struct Act {
        code: Code<archc_base::Act>,
        a: f32,
        b: f32,
    }

    /// `after(before(sum + bias[k]) * gate[n, k] + residual)`
    pub struct Epilogue {
        /// float32 `[channels]`
        bias: *const f32,
        /// Stored, `[images, channels]`.
        gate: *const Stored,
        /// Stored, the output's shape.
        residual: *const Stored,
        /// From one image's gate to the next.
        gate_stride: i32,
        residual_image: i32,
        residual_row: i32,
        residual_pixel: i32,
        before: Act,
        after: Act,
    }

    /// Rows in the backward pass: the gradient of what a step made, and of what it read. dx may be d.
    pub struct Backward {
        d: *const Stored,
        /// What is known of the forward pass, x or y.
        seen: *const Stored,
        dx: *mut Stored,
        rows: i32,
        cols: i32,
        d_stride: i32,
        seen_stride: i32,
        dx_stride: i32,
        reserved: i32,
    }

    /// The sizes of images, and the window by which others are made of them.
    pub struct Window {
        n: i32,
        height: i32,
        width: i32,
        out_height: i32,
        out_width: i32,
        /// Height and width of the window itself.
        r: i32,
        s: i32,
        stride_h: i32,
        stride_w: i32,
        pad_top: i32,
        pad_left: i32,
        pad_bottom: i32,
        pad_right: i32,
        dilation_h: i32,
        dilation_w: i32,
    }

    /// Where a convolution leaves the sums of every channel over the pixels of each image, by parts: those of part p of image
    /// i are `stride` floats from `(i * parts + p) * stride` on, on 16 bytes. An address of 0 is "not wanted".
    pub struct Sums {
        at: *mut f32,
        parts: i32,
        stride: i32,
    }
    impl Sums {
        /// Pixels of a convolution's part; those of all images count on, so that an image's first and last may have fewer.
        const PART: i32 = 16;
    }
}

impl From<archc_base::Act> for Act {
    fn from(act: archc_base::Act) -> Act {
        let [a, b] = act.parameters();
        Act { code: act.code(), a, b }
    }
}

impl Window {
    /// A window over `n` images of `size`, each of which becomes one of size `out`.
    pub fn new(n: usize, size: [usize; 2], out: [usize; 2], window: &archc_base::Window) -> Window {
        let archc_base::Window { kernel, stride, padding, dilation } = window;
        let [height, width] = size.map(|len| len as i32);
        let [out_height, out_width] = out.map(|len| len as i32);
        let [r, s] = kernel.map(|len| len as i32);
        let [stride_h, stride_w] = stride.map(|len| len as i32);
        let [pad_top, pad_left, pad_bottom, pad_right] = padding.map(|len| len as i32);
        let [dilation_h, dilation_w] = dilation.map(|len| len as i32);
        Window {
            n: n as i32,
            height,
            width,
            out_height,
            out_width,
            r,
            s,
            stride_h,
            stride_w,
            pad_top,
            pad_left,
            pad_bottom,
            pad_right,
            dilation_h,
            dilation_w,
        }
    }

    /// Pixels of all images that are read.
    pub(super) fn inputs(&self) -> usize {
        self.n as usize * self.height as usize * self.width as usize
    }

    /// Pixels of all images that are made.
    pub(super) fn outputs(&self) -> usize {
        self.n as usize * self.out_height as usize * self.out_width as usize
    }

    /// Pixels of the window.
    pub(super) fn taps(&self) -> usize {
        self.r as usize * self.s as usize
    }
}

impl Sums {
    pub(super) fn stride(channels: i32) -> i32 {
        (channels + 3) / 4 * 4
    }

    /// Floats for so many images.
    pub fn floats(&self, n: usize) -> usize {
        n * self.parts as usize * self.stride as usize
    }
}
