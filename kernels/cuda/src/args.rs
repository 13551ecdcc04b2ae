//! The structs that kernels take, the twins of those at the heads of their files.

/// Structs that a kernel takes by value.
///
/// # Safety
/// Only for `repr(C)` structs of numbers, the same as the kernel's.
pub unsafe trait Args: Copy {
    /// As `cuLaunchKernel` wants it.
    fn pointer(&self) -> *mut std::ffi::c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

/// Declares a kernel's struct.
macro_rules! args {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }
        // SAFETY: a repr(C) struct of numbers.
        unsafe impl Args for $name {}
    };
}

/// The highest rank.
pub const RANK: usize = 8;

args! {
    /// A function of one number; see the codes below and `activate` in common.cuh.
    Act { code: i32, a: f32, b: f32, }
}

#[rustfmt::skip]
impl Act {
    pub const NONE: Act = Act::plain(0);
    pub const RELU: Act = Act::plain(1);
    /// Infinite bounds are none.
    pub const fn clamp(lo: f32, hi: f32) -> Act { Act { code: 2, a: lo, b: hi } }
    pub const fn elu(alpha: f32) -> Act { Act { code: 3, a: alpha, b: 0.0 } }
    pub const fn leaky_relu(slope: f32) -> Act { Act { code: 4, a: slope, b: 0.0 } }
    pub const GELU: Act = Act::plain(5);
    pub const GELU_TANH: Act = Act::plain(6);
    pub const SILU: Act = Act::plain(7);
    pub const SIGMOID: Act = Act::plain(8);
    pub const TANH: Act = Act::plain(9);
    pub const HARD_SWISH: Act = Act::plain(10);
    pub const HARD_SIGMOID: Act = Act::plain(11);
    pub const SOFTPLUS: Act = Act::plain(12);
    pub const MISH: Act = Act::plain(13);
    pub const EXP: Act = Act::plain(14);
    /// `scale * x + shift`
    pub const fn linear(scale: f32, shift: f32) -> Act { Act { code: 15, a: scale, b: shift } }
    const fn plain(code: i32) -> Act { Act { code, a: 0.0, b: 0.0 } }
}

args! {
    /// `after(before(sum + bias[k]) * gate[n, k] + residual)`
    Epilogue {
        /// float32 `[channels]`
        bias: u64,
        /// Stored, `[images, channels]`.
        gate: u64,
        /// Stored, the output's shape.
        residual: u64,
        /// From one image's gate to the next.
        gate_dist: i32,
        residual_image: i32,
        residual_row: i32,
        residual_pixel: i32,
        before: Act,
        after: Act,
    }
}

args! {
    /// Where a convolution leaves the sums of every channel over the pixels of each image, by parts: those of part p of image
    /// i are `dist` floats from `(i * parts + p) * dist` on, on 16 bytes. An address of 0 is "not wanted".
    Sums { at: u64, parts: i32, dist: i32, }
}

args! {
    /// A convolution of NHWC images, or a linear map (of rows that are images of one pixel).
    Conv {
        x: u64,
        /// `[groups * k][w_dist]` as `pack_conv` lays them out, on 16 bytes.
        w: u64,
        y: u64,
        /// With `splits` above 1: `splits * tiles * bm * bn` floats, and a zero for each tile that is zero again afterwards.
        partials: u64,
        counters: u64,
        epilogue: Epilogue,
        /// [`Conv::sums`]; with them, `y` may be 0.
        sums: Sums,
        /// A factor for each channel that is read, stored, `[images][scale_dist]`; only of 1 x 1 convolutions of one group.
        scale: u64,
        scale_dist: i32,
        reserved: i32,
        n: i32,
        height: i32,
        width: i32,
        /// Channels of a group, read and written.
        c: i32,
        k: i32,
        groups: i32,
        /// The window.
        r: i32,
        s: i32,
        out_height: i32,
        out_width: i32,
        stride_h: i32,
        stride_w: i32,
        /// Above and left; may be negative.
        pad_h: i32,
        pad_w: i32,
        dilation_h: i32,
        dilation_w: i32,
        x_image: i32,
        x_row: i32,
        x_pixel: i32,
        y_image: i32,
        y_row: i32,
        y_pixel: i32,
        w_dist: i32,
        splits: i32,
    }
}

/// How the copy engine reads a tensor; made by the device's driver.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TensorMap(pub [u64; 16]);

args! {
    /// A convolution of 16-bit values whose operands the copy engine brings; [`Conv::choose_tma`] fills it in.
    ConvTma {
        x: TensorMap,
        w: TensorMap,
        y: u64,
        epilogue: Epilogue,
        sums: Sums,
        /// Of the output.
        pixels: i32,
        k: i32,
        /// Steps of 64 channels a tap.
        steps_c: i32,
        r: i32,
        s: i32,
        /// Whether `x` is a map of windows.
        windows: i32,
        out_height: i32,
        out_width: i32,
        stride_h: i32,
        stride_w: i32,
        pad_h: i32,
        pad_w: i32,
        dilation_h: i32,
        dilation_w: i32,
        /// Whether pixels of the output, and of the residual, lie one after another.
        plain: i32,
        y_image: i32,
        y_row: i32,
        y_pixel: i32,
    }
}

args! {
    /// A linear map of at most [`LinearRows::MOST`] rows. Weights `[outputs][w_dist]`; rows count as images for the epilogue.
    LinearRows {
        x: u64,
        w: u64,
        y: u64,
        epilogue: Epilogue,
        rows: i32,
        inputs: i32,
        outputs: i32,
        x_dist: i32,
        w_dist: i32,
        y_dist: i32,
    }
}

args! {
    /// One filter a channel. Weights `[r][s][c]`, stored.
    Depthwise {
        x: u64,
        w: u64,
        y: u64,
        epilogue: Epilogue,
        /// [`Depthwise::with_sums`]; with them, `y` may be 0.
        sums: Sums,
        n: i32,
        height: i32,
        width: i32,
        c: i32,
        r: i32,
        s: i32,
        out_height: i32,
        out_width: i32,
        stride_h: i32,
        stride_w: i32,
        pad_h: i32,
        pad_w: i32,
        dilation_h: i32,
        dilation_w: i32,
        x_dist: i32,
        y_dist: i32,
        /// Vectors of eight channels that a block keeps to; only with sums.
        beside: i32,
        reserved: i32,
    }
}

args! {
    /// `second(w2 first(w1 mean + b1) + b2)` of the means of each image's channels, `[n][y_dist]`; with fewer `maps`, what is
    /// left: `first(..)`, or the means. Weights `[out][dist]`, stored, rows on 16 bytes; biases float32.
    Excitation {
        sums: Sums,
        y: u64,
        w1: u64,
        b1: u64,
        w2: u64,
        b2: u64,
        n: i32,
        /// Of an image.
        pixels: i32,
        /// How many of a part, those of all images counted on; 0 where each image has all parts.
        part: i32,
        c: i32,
        /// What the first of two maps gives; else 0.
        hidden: i32,
        /// Channels of y.
        k: i32,
        w1_dist: i32,
        w2_dist: i32,
        y_dist: i32,
        /// Of a block, as [`Excitation::launch`] has it: samples and channels of y.
        samples: i32,
        chunk: i32,
        maps: i32,
        first: Act,
        second: Act,
    }
}

args! {
    /// Maxima or means of windows, PyTorch's.
    Pool {
        x: u64,
        y: u64,
        n: i32,
        height: i32,
        width: i32,
        c: i32,
        r: i32,
        s: i32,
        out_height: i32,
        out_width: i32,
        stride_h: i32,
        stride_w: i32,
        pad_top: i32,
        pad_left: i32,
        pad_bottom: i32,
        pad_right: i32,
        dilation_h: i32,
        dilation_w: i32,
        x_dist: i32,
        y_dist: i32,
        /// [`Pool::MAX`], ..
        mode: i32,
        /// Not 0: the windows are the parts of the image that adaptive pooling takes; the rest of the window is not read.
        adaptive: i32,
    }
}

args! {
    /// Resampling. Ratios are 1 / scale where the op states a scale, in / out where it states a size.
    Resize {
        x: u64,
        y: u64,
        ratio_h: f64,
        ratio_w: f64,
        n: i32,
        height: i32,
        width: i32,
        c: i32,
        out_height: i32,
        out_width: i32,
        x_dist: i32,
        y_dist: i32,
        /// [`Resize::NEAREST`], ..
        mode: i32,
        reserved: i32,
    }
}

args! {
    /// `after(before(prelu(x * scale[col] + shift[col])) + residual)`; y may be x.
    Map {
        x: u64,
        y: u64,
        /// float32 `[cols]`, 0 for none.
        scale: u64,
        shift: u64,
        /// float32, one a column or one for all.
        slope: u64,
        residual: u64,
        rows: i32,
        cols: i32,
        x_dist: i32,
        y_dist: i32,
        residual_dist: i32,
        /// 1 or 0: what the column counts for in `slope`.
        slope_col: i32,
        before: Act,
        after: Act,
    }
}

args! {
    /// `after(before(a op b) + residual)`; y may be a. Row `i`, column `j` of b lies at
    /// `i / rows_each * b_outer + i % rows_each * b_row + j * b_col`.
    Binary {
        a: u64,
        b: u64,
        y: u64,
        residual: u64,
        rows: i32,
        cols: i32,
        a_dist: i32,
        y_dist: i32,
        residual_dist: i32,
        rows_each: i32,
        b_outer: i32,
        b_row: i32,
        b_col: i32,
        /// [`Binary::ADD`], ..
        op: i32,
        before: Act,
        after: Act,
    }
}

args! {
    /// As [`Binary`] for operands of any strides. Axes from the outermost; those beyond `rank` are not read.
    Broadcast {
        a: u64,
        b: u64,
        y: u64,
        residual: u64,
        rank: i32,
        op: i32,
        shape: [i32; RANK],
        a_strides: [i32; RANK],
        b_strides: [i32; RANK],
        y_strides: [i32; RANK],
        residual_strides: [i32; RANK],
        before: Act,
        after: Act,
    }
}

args! {
    /// The same numbers elsewhere, x of the variant's first dtype, y of its second.
    Copy_ {
        x: u64,
        y: u64,
        rank: i32,
        /// For `copy_few` alone: how many numbers after those of y's last axis are set to 0; see [`Copy_::launch_with_zeros`].
        zeros: i32,
        shape: [i32; RANK],
        x_strides: [i32; RANK],
        y_strides: [i32; RANK],
    }
}

args! {
    /// One number everywhere.
    Fill { y: u64, rank: i32, value: f32, shape: [i32; RANK], y_strides: [i32; RANK], }
}

args! {
    /// Each row by itself; y may be x. Weight and bias are float32 `[cols]`, for the layer norm alone.
    Rows {
        x: u64,
        y: u64,
        weight: u64,
        bias: u64,
        rows: i32,
        cols: i32,
        x_dist: i32,
        y_dist: i32,
        eps: f32,
        reserved: i32,
    }
}

args! {
    /// Groups of channels of each image; weight and bias float32 `[c]`.
    GroupNorm {
        x: u64,
        y: u64,
        weight: u64,
        bias: u64,
        n: i32,
        pixels: i32,
        c: i32,
        groups: i32,
        x_dist: i32,
        y_dist: i32,
        eps: f32,
        reserved: i32,
    }
}

args! {
    /// Over the inner axes, for each index of the outer ones; results dense in the order of the outer axes.
    Reduce {
        x: u64,
        y: u64,
        outer_rank: i32,
        inner_rank: i32,
        outer_shape: [i32; RANK],
        outer_strides: [i32; RANK],
        inner_shape: [i32; RANK],
        inner_strides: [i32; RANK],
        /// [`Reduce::MEAN`], [`Reduce::MAX`]
        op: i32,
        reserved: i32,
    }
}

args! {
    /// `y = scale * a b` for each matrix of a batch of `rank` axes. a `[m][k]`, y `[m][n]`.
    Matmul {
        a: u64,
        b: u64,
        y: u64,
        m: i32,
        n: i32,
        k: i32,
        a_dist: i32,
        /// Between the rows of b: `[k][n]`, or `[n][k]` where `transposed` is not 0.
        b_dist: i32,
        y_dist: i32,
        transposed: i32,
        scale: f32,
        rank: i32,
        shape: [i32; RANK],
        a_strides: [i32; RANK],
        b_strides: [i32; RANK],
        y_strides: [i32; RANK],
        reserved: i32,
    }
}

args! {
    /// `softmax(q k^T scale) v` in each head of each image; rows of q and y `[n, queries]`, of k and v `[n, keys]`, columns
    /// `[heads, dim]`. `dim` is at most [`Attention::MOST_DIM`].
    Attention {
        q: u64,
        k: u64,
        v: u64,
        y: u64,
        n: i32,
        heads: i32,
        dim: i32,
        queries: i32,
        keys: i32,
        q_dist: i32,
        k_dist: i32,
        v_dist: i32,
        y_dist: i32,
        scale: f32,
    }
}

args! {
    /// Zero with probability p, else `x / (1 - p)`; y may be x. Row `i`, column `j` has the number
    /// `i / rows_each * index_row + j * index_col` in the stream of `philox`.
    Dropout {
        x: u64,
        y: u64,
        /// Low and high half.
        seed: [u32; 2],
        stream: [u32; 2],
        /// float32 `[8]`: seed and step that change from launch to launch, each as four numbers of 16 bits, the lowest
        /// first. The step is mixed into the stream.
        clock: u64,
        rows: i32,
        cols: i32,
        x_dist: i32,
        y_dist: i32,
        rows_each: i32,
        index_row: i32,
        index_col: i32,
        p: f32,
    }
}
