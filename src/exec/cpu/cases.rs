//! Kernels alone, at the sizes of well-known networks: what `archc bench --kernels` and `cargo bench` measure.
//!
//! A case draws its own data, runs its kernel over the current rayon pool, and can check single results against plain
//! sums in float64.

use archc_base::{Act, Pool, Window};

use super::kernels::{
    self, ConvShape, Element, Epilogue, Image, ImageMut, Isa, Map, PackedConv, PackedMat, Policy, Rows, RowsMut, Site,
    Sums, bf16, choose,
};
use crate::exec::timing::{Budget, Samples, sample};
use crate::philox::{Philox, unit};

/// A kernel at one size.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Where the size comes from: `resnet50`, `gemm`.
    pub family: &'static str,
    pub work: Work,
}

/// What is computed, for one image.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    Conv {
        shape: ConvShape,
        size: [usize; 2],
    },
    /// Of rows of `k` with packed weights: [m, k] x [k, n].
    Gemm {
        m: usize,
        k: usize,
        n: usize,
    },
    /// One row with weights as they lie in the file, [n, k].
    Linear {
        k: usize,
        n: usize,
    },
    Pool {
        pool: Pool,
        kernel: usize,
        stride: usize,
        padding: usize,
        size: [usize; 2],
        channels: usize,
    },
    GlobalPool {
        size: [usize; 2],
        channels: usize,
    },
    Softmax {
        rows: usize,
        cols: usize,
    },
}

/// All cases.
pub fn all() -> Vec<Case> {
    let conv = |family, size: usize, c: usize, k: usize, kernel: usize, stride: usize| {
        let window = Window { stride: [stride; 2], padding: [kernel / 2; 4], ..Window::square(kernel) };
        let shape = ConvShape { window, ..ConvShape::new(c, k, kernel) };
        Case { family, work: Work::Conv { shape, size: [size; 2] } }
    };
    let depthwise = |family, size, c, kernel, stride| {
        let mut case = conv(family, size, c, c, kernel, stride);
        if let Work::Conv { shape, .. } = &mut case.work {
            shape.groups = c;
        }
        case
    };
    let gemm = |m, k, n| Case { family: "gemm", work: Work::Gemm { m, k, n } };
    let pool = |work| Case { family: "pool", work };
    let softmax = |rows, cols| Case { family: "softmax", work: Work::Softmax { rows, cols } };
    vec![
        conv("resnet50", 224, 3, 64, 7, 2),
        conv("resnet50", 56, 64, 64, 1, 1),
        conv("resnet50", 56, 64, 256, 1, 1),
        conv("resnet50", 56, 256, 64, 1, 1),
        conv("resnet50", 28, 128, 512, 1, 1),
        conv("resnet50", 28, 512, 128, 1, 1),
        conv("resnet50", 14, 256, 1024, 1, 1),
        conv("resnet50", 14, 1024, 256, 1, 1),
        conv("resnet50", 7, 512, 2048, 1, 1),
        conv("resnet50", 7, 2048, 512, 1, 1),
        conv("resnet50", 56, 256, 512, 1, 2),
        conv("resnet50", 56, 64, 64, 3, 1),
        conv("resnet50", 28, 128, 128, 3, 1),
        conv("resnet50", 14, 256, 256, 3, 1),
        conv("resnet50", 7, 512, 512, 3, 1),
        conv("resnet50", 56, 128, 128, 3, 2),
        conv("resnet50", 28, 256, 256, 3, 2),
        conv("resnet50", 14, 512, 512, 3, 2),
        conv("mobilenet_v2", 224, 3, 32, 3, 2),
        conv("mobilenet_v2", 112, 16, 96, 1, 1),
        conv("mobilenet_v2", 56, 24, 144, 1, 1),
        conv("mobilenet_v2", 56, 144, 24, 1, 1),
        conv("mobilenet_v2", 14, 96, 576, 1, 1),
        conv("mobilenet_v2", 14, 576, 96, 1, 1),
        conv("mobilenet_v2", 7, 320, 1280, 1, 1),
        depthwise("mobilenet_v2", 112, 32, 3, 1),
        depthwise("mobilenet_v2", 112, 96, 3, 2),
        depthwise("mobilenet_v2", 56, 144, 3, 1),
        depthwise("mobilenet_v2", 28, 192, 3, 1),
        depthwise("mobilenet_v2", 14, 576, 3, 1),
        depthwise("mobilenet_v2", 7, 960, 3, 1),
        depthwise("efficientnet_b0", 28, 240, 5, 1),
        depthwise("efficientnet_b0", 14, 672, 5, 1),
        conv("vgg16", 224, 3, 64, 3, 1),
        conv("vgg16", 224, 64, 64, 3, 1),
        conv("vgg16", 112, 128, 128, 3, 1),
        conv("vgg16", 56, 256, 256, 3, 1),
        conv("vgg16", 28, 512, 512, 3, 1),
        conv("vgg16", 14, 512, 512, 3, 1),
        Case { family: "vgg16", work: Work::Linear { k: 25_088, n: 4096 } },
        gemm(128, 128, 128),
        gemm(197, 768, 3072),
        gemm(512, 512, 512),
        gemm(1024, 1024, 1024),
        pool(Work::Pool { pool: Pool::Max, kernel: 3, stride: 2, padding: 1, size: [112; 2], channels: 64 }),
        pool(Work::Pool { pool: Pool::Max, kernel: 2, stride: 2, padding: 0, size: [224; 2], channels: 64 }),
        pool(Work::Pool {
            pool: Pool::Mean { count_padding: true },
            kernel: 2,
            stride: 2,
            padding: 0,
            size: [28; 2],
            channels: 256,
        }),
        pool(Work::GlobalPool { size: [7; 2], channels: 2048 }),
        softmax(1, 1000),
        softmax(12 * 197, 197),
        softmax(256, 4096),
    ]
}

impl Case {
    /// `resnet50 conv 3x3 56x56 64 -> 64`
    pub fn name(&self) -> String {
        let family = self.family;
        match self.work {
            Work::Conv { shape, size: [h, w] } => {
                let stride =
                    if shape.window.stride == [1, 1] { String::new() } else { format!(" s{}", shape.window.stride[0]) };
                let [kh, kw] = shape.window.kernel;
                let (c, k) = (shape.in_channels, shape.out_channels);
                if shape.groups == c && c > 1 {
                    format!("{family} depthwise {kh}x{kw}{stride} {h}x{w} {c}")
                } else {
                    format!("{family} conv {kh}x{kw}{stride} {h}x{w} {c} -> {k}")
                }
            }
            Work::Gemm { m, k, n } => format!("{family} {m}x{k}x{n}"),
            Work::Linear { k, n } => format!("{family} linear {k} -> {n}"),
            Work::Pool { pool, kernel, stride, size: [h, w], channels, .. } => {
                let kind = if pool == Pool::Max { "max" } else { "mean" };
                format!("{family} {kind} {kernel}x{kernel} s{stride} {h}x{w} {channels}")
            }
            Work::GlobalPool { size: [h, w], channels } => format!("{family} global {h}x{w} {channels}"),
            Work::Softmax { rows, cols } => format!("{family} {rows} x {cols}"),
        }
    }

    /// Two for each multiply-add of the plain algorithm; none where reading and writing is all there is.
    pub fn flops(&self, batch: usize) -> f64 {
        let macs = match self.work {
            Work::Conv { shape, size } => {
                let [p, q] = shape.window.output(size);
                batch * p * q * shape.weight_len()
            }
            Work::Gemm { m, k, n } => batch * m * k * n,
            Work::Linear { k, n } => batch * k * n,
            Work::Pool { .. } | Work::GlobalPool { .. } | Work::Softmax { .. } => 0,
        };
        2.0 * macs as f64
    }

    /// Bytes that are read and written with values of `T`, weights included.
    pub fn bytes<T: Element>(&self, batch: usize) -> f64 {
        let [x, w, y] = self.lens();
        let values = if matches!(self.work, Work::Linear { .. }) { size_of::<f32>() } else { size_of::<T>() };
        (batch * (x + y) * values + w * size_of::<T>()) as f64
    }

    /// Whether its kernel takes values of `T`.
    pub fn takes<T: Element>(&self) -> bool {
        T::TERMS == 1 || !matches!(self.work, Work::Softmax { .. })
    }

    /// Numbers of the input and the output for one image, and of the weights between them, without gaps.
    fn lens(&self) -> [usize; 3] {
        match self.work {
            Work::Conv { shape, size: [h, w] } => {
                let [p, q] = shape.window.output([h, w]);
                [h * w * shape.in_channels, shape.weight_len(), p * q * shape.out_channels]
            }
            Work::Gemm { m, k, n } => [m * k, k * n, m * n],
            Work::Linear { k, n } => [k, k * n, n],
            Work::Pool { size: [h, w], channels, .. } => {
                let [p, q] = self.pooled();
                [h * w * channels, 0, p * q * channels]
            }
            Work::GlobalPool { size: [h, w], channels } => [h * w * channels, 0, channels],
            Work::Softmax { rows, cols } => [rows * cols, 0, rows * cols],
        }
    }

    fn pooled(&self) -> [usize; 2] {
        let Work::Pool { kernel, stride, padding, size, .. } = self.work else { return [1, 1] };
        size.map(|size| (size + 2 * padding - kernel) / stride + 1)
    }

    /// The policies that lead to different kernels: by the definition, and what is chosen for speed where that is another.
    pub fn policies<T: Element>(&self, isa: Isa, batch: usize) -> Vec<Policy> {
        let mut policies = vec![Policy::Exact, Policy::Fast];
        policies.dedup_by_key(|policy| match self.work {
            Work::Conv { shape, size } => Some(choose::<T>(isa, &shape, &Site { batch, size, policy: *policy })),
            _ => None,
        });
        policies
    }

    /// Data, packed weights and room for the result.
    pub fn prepare<T: Element>(&self, isa: Isa, batch: usize, policy: Policy) -> Ready<T> {
        let [x_len, w_len, y_len] = self.lens();
        let (x_cols, y_cols) = match self.work {
            Work::Conv { shape, .. } => (shape.in_channels, shape.out_channels),
            Work::Gemm { k, n, .. } | Work::Linear { k, n } => (k, n),
            Work::Pool { channels, .. } | Work::GlobalPool { channels, .. } => (channels, channels),
            Work::Softmax { cols, .. } => (cols, cols),
        };
        let (x_stride, y_stride) = match self.work {
            Work::Softmax { .. } | Work::Linear { .. } => (x_cols, y_cols),
            _ if T::TERMS == 1 => (kernels::pixel_stride(x_cols), kernels::pixel_stride(y_cols)),
            _ => (bf16::pixel_stride(x_cols), bf16::pixel_stride(y_cols)),
        };
        let (x_rows, y_rows) = (batch * x_len / x_cols, batch * y_len / y_cols);
        // sums of about unit size
        let terms = w_len / y_cols;
        let w: Vec<f32> = noise("w", w_len).iter().map(|w| w * 3.0 / (terms as f32).sqrt()).collect();
        let packed = match self.work {
            Work::Conv { shape, size } => {
                let algorithm = choose::<T>(isa, &shape, &Site { batch, size, policy });
                Packed::Conv(Box::new(PackedConv::pack_for(isa, &shape, algorithm, &w)))
            }
            Work::Gemm { k, n, .. } => Packed::Mat(PackedMat::from_nk(isa, Rows::new(&w, n, k))),
            _ => Packed::None,
        };
        let wide = noise("x", x_rows * x_stride);
        let (x, w) = (rounded(&wide), rounded(&w));
        let y = vec![T::down(f32::NAN); y_rows * y_stride];
        let single = match self.work {
            Work::Linear { .. } => [wide, vec![f32::NAN; y_rows * y_stride]],
            _ => [vec![], vec![]],
        };
        Ready { case: *self, isa, batch, x, x_stride, w, packed, y, y_stride, single }
    }
}

/// Uniform in [-1, 1).
fn noise(name: &str, len: usize) -> Vec<f32> {
    let philox = Philox::named(0, name);
    let blocks = (0..len.div_ceil(4) as u64).flat_map(|at| philox.block(at));
    blocks.take(len).map(|word| 2.0 * unit(word) - 1.0).collect()
}

fn rounded<T: Element>(values: &[f32]) -> Vec<T> {
    values.iter().map(|value| T::down(*value)).collect()
}

enum Packed<T> {
    None,
    Conv(Box<PackedConv<T>>),
    Mat(PackedMat<T>),
}

/// A case with its data.
pub struct Ready<T> {
    case: Case,
    isa: Isa,
    batch: usize,
    x: Vec<T>,
    x_stride: usize,
    /// As they were before they were packed.
    w: Vec<T>,
    packed: Packed<T>,
    y: Vec<T>,
    y_stride: usize,
    /// What a layer of a single row reads and writes, which is float32 in any case.
    single: [Vec<f32>; 2],
}

impl<T: Element + Sums<T>> Ready<T> {
    /// The kernel that was chosen.
    pub fn kernel(&self) -> String {
        match (&self.packed, self.case.work) {
            (Packed::Conv(packed), _) => packed.kernel(),
            (Packed::Mat(packed), _) => packed.kernel(),
            (Packed::None, Work::Linear { .. }) => format!("dot products{}", T::LABEL),
            (Packed::None, Work::Softmax { .. }) => "softmax".into(),
            (Packed::None, _) => format!("pool{}", T::LABEL),
        }
    }

    /// Runs again and again, the threads kept together as in a network.
    pub fn time(&mut self, budget: &Budget) -> Samples {
        let once = || {
            self.run();
            Ok::<(), std::convert::Infallible>(())
        };
        let Ok(samples) = kernels::team::with(|| sample(budget, once));
        samples
    }

    /// Computes the result.
    pub fn run(&mut self) {
        let (isa, n) = (self.isa, self.batch);
        let image = |x, [h, w]: [usize; 2], c| Image::<T>::new(x, [n, h, w, c]).spaced(self.x_stride);
        let image_mut = |y, [h, w]: [usize; 2], c| ImageMut::new(y, [n, h, w, c]).spaced(self.y_stride);
        let epilogue = Epilogue::new(None, Act::None);
        let [single_x, single_y] = &mut self.single;
        match (&self.packed, self.case.work) {
            (Packed::Conv(packed), Work::Conv { shape, size }) => {
                let x = image(&self.x, size, shape.in_channels);
                packed.run(x, image_mut(&mut self.y, shape.window.output(size), shape.out_channels), &epilogue);
            }
            (Packed::Mat(packed), Work::Gemm { m, k, n: cols }) => {
                let a = Rows::new(&self.x[..], n * m, k).spaced(self.x_stride);
                packed.run(a, RowsMut::new(&mut self.y[..], n * m, cols).spaced(self.y_stride), &epilogue);
            }
            (_, Work::Linear { k, n: cols }) => {
                let (a, w) = (Rows::new(&single_x[..], n, k), Rows::new(&self.w[..], cols, k));
                kernels::linear(isa, a, w, RowsMut::new(single_y, n, cols), &Epilogue::new(None, Act::None));
            }
            (_, Work::Pool { pool, kernel, stride, padding, size, channels }) => {
                let window = Window { stride: [stride; 2], padding: [padding; 4], ..Window::square(kernel) };
                let y = image_mut(&mut self.y, self.case.pooled(), channels);
                kernels::pool(isa, pool, &window, image(&self.x, size, channels), y);
            }
            (_, Work::GlobalPool { size, channels }) => {
                let y = image_mut(&mut self.y, [1, 1], channels);
                kernels::adaptive_pool(isa, Pool::MEAN, image(&self.x, size, channels), y);
            }
            (_, Work::Softmax { rows, cols }) => {
                // of float32 alone
                let (x, y) = (bytemuck::cast_slice(&self.x), bytemuck::cast_slice_mut(&mut self.y));
                kernels::softmax(isa, Map::new(Rows::new(x, n * rows, cols), RowsMut::new(y, n * rows, cols)));
            }
            (_, Work::Conv { .. } | Work::Gemm { .. }) => unreachable!("its weights were packed"),
        }
    }

    /// Compares some results of the last run with plain sums; the largest error over the unit size of a result.
    ///
    /// # Errors
    /// What is wrong where one is farther off than the kernels' tests allow.
    pub fn check(&self) -> Result<f64, String> {
        const RESULTS: u64 = 50;
        // that of Winograd F(4x4) on such data, and room; that of rounding weights and results to bf16 once or twice
        let tolerance = if T::TERMS == 1 { 5e-4 } else { 5e-2 };
        let [_, _, len] = self.case.lens();
        let cols = match self.case.work {
            Work::Conv { shape, .. } => shape.out_channels,
            Work::Gemm { n, .. } | Work::Linear { n, .. } => n,
            Work::Pool { channels, .. } | Work::GlobalPool { channels, .. } => channels,
            Work::Softmax { cols, .. } => cols,
        };
        let philox = Philox::named(0, "places");
        let mut worst = 0.0f64;
        for at in 0..RESULTS {
            let word = philox.block(at)[0] as usize;
            // the corners too
            let place = match at {
                0 => 0,
                1 => self.batch * len - 1,
                _ => word % (self.batch * len),
            };
            let (row, col) = (place / cols, place % cols);
            let at = row * self.y_stride + col;
            let got = self.single[1].get(at).copied().unwrap_or_else(|| self.y[at].up());
            let (got, want) = (f64::from(got), self.plain(row, col));
            let error = (got - want).abs();
            if error.is_nan() || error > tolerance {
                return Err(format!("{}: result [{row}, {col}] is {got}, not {want}", self.case.name()));
            }
            worst = worst.max(error);
        }
        Ok(worst)
    }

    /// Row (or pixel) and column (or channel) of the result, by the formula.
    fn plain(&self, row: usize, col: usize) -> f64 {
        let x = |row: usize, col: usize| {
            let at = row * self.x_stride + col;
            f64::from(self.single[0].get(at).copied().unwrap_or_else(|| self.x[at].up()))
        };
        match self.case.work {
            Work::Conv { shape, size: [h, w] } => {
                let [p, q] = shape.window.output([h, w]);
                let (image, oy, ox) = (row / (p * q), row / q % p, row % q);
                let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
                let mut sum = 0.0;
                for (dy, dx) in
                    (0..shape.window.kernel[0]).flat_map(|dy| (0..shape.window.kernel[1]).map(move |dx| (dy, dx)))
                {
                    let iy = (oy * shape.window.stride[0] + dy).wrapping_sub(shape.window.padding[0]);
                    let ix = (ox * shape.window.stride[1] + dx).wrapping_sub(shape.window.padding[1]);
                    if iy < h && ix < w {
                        for c in 0..cg {
                            let weight =
                                self.w[((col * cg + c) * shape.window.kernel[0] + dy) * shape.window.kernel[1] + dx];
                            sum += x((image * h + iy) * w + ix, col / kg * cg + c) * f64::from(weight.up());
                        }
                    }
                }
                sum
            }
            Work::Gemm { k, .. } | Work::Linear { k, .. } => {
                (0..k).map(|at| x(row, at) * f64::from(self.w[col * k + at].up())).sum()
            }
            Work::Pool { pool, kernel, stride, padding, size: [h, w], .. } => {
                let [p, q] = self.case.pooled();
                let (image, oy, ox) = (row / (p * q), row / q % p, row % q);
                let inside = |at: usize, size| at.checked_sub(padding).filter(|at| *at < size);
                let mut values = vec![];
                for (dy, dx) in (0..kernel).flat_map(|dy| (0..kernel).map(move |dx| (dy, dx))) {
                    if let (Some(iy), Some(ix)) = (inside(oy * stride + dy, h), inside(ox * stride + dx, w)) {
                        values.push(x((image * h + iy) * w + ix, col));
                    }
                }
                match pool {
                    Pool::Max => values.into_iter().fold(f64::NEG_INFINITY, f64::max),
                    Pool::Mean { .. } => values.iter().sum::<f64>() / (kernel * kernel) as f64,
                }
            }
            Work::GlobalPool { size: [h, w], .. } => {
                (0..h * w).map(|at| x(row * h * w + at, col)).sum::<f64>() / (h * w) as f64
            }
            Work::Softmax { cols, .. } => {
                let sum: f64 = (0..cols).map(|at| x(row, at).exp()).sum();
                x(row, col).exp() / sum
            }
        }
    }
}
