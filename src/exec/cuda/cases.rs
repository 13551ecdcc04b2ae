//! Kernels alone, at the sizes of well-known networks, for `archc bench --kernels --device cuda`.
//!
//! A graph has a case several times, each time on other buffers, together more than the second-level cache holds, so that
//! what one launch leaves there does not speed up the next. The peaks are the device's own: a copy that is measured, and
//! the nominal rate of its matrix units.

use std::time::Duration;

use archc_base::Window;

use super::Cuda;
use super::driver::{Fault, Launch, Memory};
use super::lower::{Pending, choose, ready};
use super::place::stored;
use crate::diag::Problem;
use crate::philox::{Philox, unit};
use archc_cuda::{Attention, Conv, Copy_, Depthwise, Dtype, Excitation, LinearRows, Pool, RANK, Sums, conv_row};

/// A kernel at one size, for one image (or row).
#[derive(Clone, Copy, Debug)]
pub struct Case {
    family: &'static str,
    work: Work,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Conv {
        size: usize,
        c: usize,
        k: usize,
        kernel: usize,
        stride: usize,
    },
    Depthwise {
        size: usize,
        c: usize,
        kernel: usize,
        stride: usize,
    },
    /// `rows` an image.
    Linear {
        rows: usize,
        c: usize,
        k: usize,
    },
    MaxPool {
        size: usize,
        c: usize,
    },
    /// Of the sums of an image of `size`.
    Excitation {
        size: usize,
        c: usize,
        hidden: usize,
        k: usize,
    },
    /// Queries, keys and values side by side, `rows` an image.
    Attention {
        rows: usize,
        heads: usize,
        dim: usize,
    },
}

/// What a case came to.
#[derive(Clone, Debug)]
pub struct Measured {
    pub name: String,
    pub kernel: String,
    pub seconds: f64,
    pub flops: f64,
    pub bytes: f64,
}

/// What the device can do at most.
#[derive(Clone, Copy, Debug)]
pub struct Peaks {
    /// Bytes read and written a second by a copy, measured.
    pub copy: f64,
    /// Operations a second of the matrix units (for f32 of the others), as the maker states them for its clock.
    pub flops: f64,
}

/// All cases.
pub fn all() -> Vec<Case> {
    let conv = |family, size, c, k, kernel, stride| Case { family, work: Work::Conv { size, c, k, kernel, stride } };
    let depthwise =
        |family, size, c, kernel, stride| Case { family, work: Work::Depthwise { size, c, kernel, stride } };
    let excitation = |family, size, c, hidden, k| Case { family, work: Work::Excitation { size, c, hidden, k } };
    let linear = |family, rows, c, k| Case { family, work: Work::Linear { rows, c, k } };
    vec![
        conv("resnet50", 224, 3, 64, 7, 2),
        Case { family: "resnet50", work: Work::MaxPool { size: 112, c: 64 } },
        conv("resnet50", 56, 64, 64, 1, 1),
        conv("resnet50", 56, 64, 64, 3, 1),
        conv("resnet50", 56, 64, 256, 1, 1),
        conv("resnet50", 56, 256, 64, 1, 1),
        conv("resnet50", 56, 256, 128, 1, 1),
        conv("resnet50", 56, 128, 128, 3, 2),
        conv("resnet50", 28, 128, 512, 1, 1),
        conv("resnet50", 56, 256, 512, 1, 2),
        conv("resnet50", 28, 512, 128, 1, 1),
        conv("resnet50", 28, 128, 128, 3, 1),
        conv("resnet50", 14, 256, 1024, 1, 1),
        conv("resnet50", 14, 1024, 256, 1, 1),
        conv("resnet50", 14, 256, 256, 3, 1),
        conv("resnet50", 7, 512, 2048, 1, 1),
        conv("resnet50", 7, 2048, 512, 1, 1),
        conv("resnet50", 7, 512, 512, 3, 1),
        linear("resnet50", 1, 2048, 1000),
        depthwise("mobilenet_v3", 112, 16, 3, 1),
        depthwise("mobilenet_v3", 56, 72, 3, 1),
        depthwise("mobilenet_v3", 28, 120, 5, 1),
        depthwise("mobilenet_v3", 14, 480, 3, 1),
        depthwise("mobilenet_v3", 7, 960, 5, 1),
        excitation("se_resnet50", 56, 64, 16, 256),
        excitation("se_resnet50", 14, 256, 64, 1024),
        excitation("mobilenet_v3", 14, 480, 120, 480),
        excitation("mobilenet_v3", 7, 960, 240, 960),
        linear("vit_b_16", 197, 768, 2304),
        Case { family: "vit_b_16", work: Work::Attention { rows: 197, heads: 12, dim: 64 } },
        linear("vit_b_16", 197, 768, 768),
        linear("vit_b_16", 197, 768, 3072),
        linear("vit_b_16", 197, 3072, 768),
    ]
}

/// One of each kind at sizes for the emulator.
pub fn small() -> Vec<Case> {
    let works = [
        Work::Conv { size: 9, c: 3, k: 16, kernel: 3, stride: 2 },
        Work::Conv { size: 8, c: 64, k: 72, kernel: 3, stride: 1 },
        Work::Depthwise { size: 7, c: 24, kernel: 3, stride: 1 },
        Work::Linear { rows: 1, c: 40, k: 24 },
        Work::Linear { rows: 70, c: 64, k: 64 },
        Work::MaxPool { size: 8, c: 8 },
        Work::Attention { rows: 20, heads: 2, dim: 16 },
        Work::Excitation { size: 7, c: 24, hidden: 6, k: 40 },
    ];
    works.map(|work| Case { family: "small", work }).to_vec()
}

impl Case {
    /// `resnet50 conv 3x3 56x56 64 -> 64`
    pub fn name(&self) -> String {
        let family = self.family;
        let steps = |stride: usize| if stride == 1 { String::new() } else { format!(" s{stride}") };
        match self.work {
            Work::Conv { size, c, k, kernel, stride } => {
                format!("{family} conv {kernel}x{kernel}{} {size}x{size} {c} -> {k}", steps(stride))
            }
            Work::Depthwise { size, c, kernel, stride } => {
                format!("{family} depthwise {kernel}x{kernel}{} {size}x{size} {c}", steps(stride))
            }
            Work::Linear { rows, c, k } => format!("{family} linear {rows} x {c} -> {k}"),
            Work::MaxPool { size, c } => format!("{family} max 3x3 s2 {size}x{size} {c}"),
            Work::Excitation { size, c, hidden, k } => {
                format!("{family} excitation {size}x{size} {c} -> {hidden} -> {k}")
            }
            Work::Attention { rows, heads, dim } => format!("{family} attention {heads} x {rows} x {dim}"),
        }
    }

    /// Elements of input, weights and output, and operations.
    fn sizes(&self, batch: usize, dtype: Dtype) -> ([usize; 3], f64) {
        let pixel = super::lower::pixel_stride(dtype);
        let product = |pixels: usize, terms: usize, k: usize| 2.0 * (pixels * terms * k) as f64;
        match self.work {
            Work::Conv { size, c, k, kernel, stride } => {
                let out = size.div_ceil(stride);
                let taps = kernel * kernel;
                let pixels = batch * out * out;
                let lens = [batch * size * size * pixel(c), k * taps * pixel(c), pixels * pixel(k)];
                (lens, product(pixels, taps * c, k))
            }
            Work::Depthwise { size, c, kernel, stride } => {
                let out = size.div_ceil(stride);
                let pixels = batch * out * out;
                let lens = [batch * size * size * pixel(c), kernel * kernel * c, pixels * pixel(c)];
                (lens, product(pixels, kernel * kernel, c))
            }
            Work::Linear { rows, c, k } => ([batch * rows * c, k * c, batch * rows * k], product(batch * rows, c, k)),
            Work::MaxPool { size, c } => ([batch * size * size * pixel(c), 0, batch * size * size / 4 * pixel(c)], 0.0),
            Work::Excitation { size, c, hidden, k } => {
                // the sums are float32
                let sums = squeezed(size, c).floats(batch) * 4 / dtype.size();
                let weights = hidden * row(dtype, c) + k * row(dtype, hidden);
                ([sums, weights, batch * k], product(batch, c, hidden) + product(batch, hidden, k))
            }
            Work::Attention { rows, heads, dim } => {
                let values = batch * rows * heads * dim;
                ([3 * values, 0, values], 2.0 * product(batch * rows, rows, heads * dim))
            }
        }
    }

    /// The launch for buffers at these addresses.
    fn launch(&self, cuda: &Cuda, batch: usize, [x, w, y]: [u64; 3]) -> Result<Pending, Fault> {
        let (dtype, facts) = (cuda.dtype, cuda.driver.facts());
        let pixel = super::lower::pixel_stride(dtype);
        let number = |number: usize| number as i32;
        let over = |n: usize, size: usize, kernel: usize, stride: usize| {
            let window = Window { stride: [stride; 2], padding: [kernel / 2; 4], ..Window::square(kernel) };
            archc_cuda::Window::new(n, [size; 2], [size.div_ceil(stride); 2], &window)
        };
        let conv = |n: usize, size: usize, c: usize, k: usize, kernel: usize, stride: usize, pixels: [usize; 2]| {
            let out = size.div_ceil(stride);
            let mut conv = Conv {
                x,
                w,
                y,
                window: over(n, size, kernel, stride),
                c: number(c),
                k: number(k),
                groups: 1,
                x_image: number(size * size * pixels[0]),
                x_row: number(size * pixels[0]),
                x_pixel: number(pixels[0]),
                y_image: number(out * out * pixels[1]),
                y_row: number(out * pixels[1]),
                y_pixel: number(pixels[1]),
                splits: 1,
                ..Conv::default()
            };
            conv.w_stride = number(conv_row(dtype, conv.vec(dtype), c, kernel * kernel));
            choose(cuda.driver.as_ref(), conv, dtype)
        };
        Ok(match self.work {
            Work::Conv { size, c, k, kernel, stride } => {
                return conv(batch, size, c, k, kernel, stride, [pixel(c), pixel(k)]);
            }
            Work::Linear { rows, c, k } if batch * rows <= LinearRows::MOST => {
                let (rows, inputs, outputs) = (number(batch * rows), number(c), number(k));
                let rows = LinearRows {
                    x,
                    w,
                    y,
                    rows,
                    inputs,
                    outputs,
                    x_stride: inputs,
                    w_stride: inputs,
                    y_stride: outputs,
                    ..LinearRows::default()
                };
                ready(rows.launch(dtype), &rows)
            }
            Work::Linear { rows, c, k } => return conv(batch * rows, 1, c, k, 1, 1, [c, k]),
            Work::Depthwise { size, c, kernel, stride } => {
                let depthwise = Depthwise {
                    x,
                    w,
                    y,
                    window: over(batch, size, kernel, stride),
                    c: number(c),
                    x_stride: number(pixel(c)),
                    y_stride: number(pixel(c)),
                    ..Depthwise::default()
                };
                ready(depthwise.launch(dtype), &depthwise)
            }
            Work::MaxPool { size, c } => {
                let pool = Pool {
                    x,
                    y,
                    window: over(batch, size, 3, 2),
                    c: number(c),
                    x_stride: number(pixel(c)),
                    y_stride: number(pixel(c)),
                    mode: archc_base::Pool::Max.code(),
                    ..Pool::default()
                };
                ready(pool.launch(dtype), &pool)
            }
            Work::Excitation { size, c, hidden, k } => {
                let mut excitation = Excitation {
                    sums: Sums { at: x, ..squeezed(size, c) },
                    y,
                    w1: w,
                    w2: w + (hidden * row(dtype, c) * dtype.size()) as u64,
                    n: number(batch),
                    pixels: number(size * size),
                    part: Sums::PART,
                    c: number(c),
                    hidden: number(hidden),
                    k: number(k),
                    w1_stride: number(row(dtype, c)),
                    w2_stride: number(row(dtype, hidden)),
                    y_stride: number(k),
                    maps: 2,
                    first: archc_base::Act::Relu.into(),
                    second: archc_base::Act::Sigmoid.into(),
                    ..Excitation::default()
                };
                let launch = excitation.launch(dtype, facts.processors);
                ready(launch, &excitation)
            }
            Work::Attention { rows, heads, dim } => {
                let cols = heads * dim;
                let part = |at: usize| x + (at * cols * dtype.size()) as u64;
                let attention = Attention {
                    q: part(0),
                    k: part(1),
                    v: part(2),
                    y,
                    n: number(batch),
                    heads: number(heads),
                    dim: number(dim),
                    value_dim: number(dim),
                    queries: number(rows),
                    keys: number(rows),
                    q_stride: number(3 * cols),
                    k_stride: number(3 * cols),
                    v_stride: number(3 * cols),
                    y_stride: number(cols),
                    q_images: number(batch),
                    k_images: number(batch),
                    v_images: number(batch),
                    scale: 1.0 / (dim as f32).sqrt(),
                    ..Attention::default()
                };
                ready(attention.launch(dtype), &attention)
            }
        })
    }
}

/// Elements from one row of weights to the next.
fn row(dtype: Dtype, cols: usize) -> usize {
    cols.next_multiple_of(dtype.vector())
}

/// The sums that a convolution leaves of an image.
fn squeezed(size: usize, c: usize) -> Sums {
    let window = archc_cuda::Window::new(1, [size; 2], [size; 2], &Window::PIXEL);
    Conv { window, groups: 1, k: c as i32, ..Conv::default() }.sums()
}

/// Launches of a recording, at least.
const LAUNCHES: usize = 8;
/// Sets of buffers at most.
const SETS: usize = 12;
/// Replays whose median counts.
const REPLAYS: usize = 10;
/// Floats for partial sums, and counters: more than any case takes.
const PARTIALS: usize = 32 << 20;
const COUNTERS: usize = 1 << 16;

impl Cuda {
    /// Times a case on the device.
    ///
    /// # Errors
    /// If memory does not suffice, or the device fails.
    pub fn measure(&self, case: &Case, batch: usize) -> Result<Measured, Problem> {
        let ([x, w, y], flops) = case.sizes(batch, self.dtype);
        let bytes = [x, w, y].map(|len| len * self.dtype.size());
        let set: usize = bytes[0] + bytes[2];
        let sets = (2 * self.driver.facts().l2).div_ceil(set.max(1)).clamp(2, SETS);
        let memory = |bytes: usize| Memory::new(&self.driver, bytes);
        let weights = self.filled(bytes[1].max(16) + (64 << 10))?;
        let (partials, counters) = (memory(4 * PARTIALS)?, memory(4 * COUNTERS)?);
        self.driver.zero(counters.at, counters.bytes)?;
        let buffers: Vec<(Memory, Memory)> =
            (0..sets).map(|_| Ok((self.filled(bytes[0])?, memory(bytes[2])?))).collect::<Result<_, Problem>>()?;
        let mut kernel = String::new();
        let mut launches = vec![];
        for at in 0..LAUNCHES.next_multiple_of(sets) {
            let (from, to) = &buffers[at % sets];
            let pending = case.launch(self, batch, [from.at, weights.at, to.at])?;
            kernel.clone_from(&pending.name);
            launches.push(self.bind(pending, [partials.at, counters.at])?);
        }
        let seconds = self.time(&launches)?;
        let bytes = bytes.iter().sum::<usize>() as f64;
        Ok(Measured { name: case.name(), kernel, seconds, flops, bytes })
    }

    /// The peaks of the device for this dtype.
    ///
    /// # Errors
    /// As [`Cuda::measure`].
    pub fn peaks(&self) -> Result<Peaks, Problem> {
        let side = if self.driver.facts().memory < 8 << 30 { 1 << 10 } else { 1 << 13 };
        let len = side * side;
        let (from, to) = (self.filled(4 * len)?, Memory::new(&self.driver, 4 * len)?);
        let mut copy = Copy_ { x: from.at, y: to.at, rank: 1, ..Copy_::default() };
        copy.shape = [1; RANK];
        copy.shape[0] = len as i32;
        (copy.x_strides[0], copy.y_strides[0]) = (1, 1);
        let launch = copy.launch(Dtype::F32, Dtype::F32);
        let launch = self.bind(ready(launch, &copy), [0; 2])?;
        let seconds = self.time(&[launch.clone(), launch])?;
        Ok(Peaks { copy: (8 * len) as f64 / seconds, flops: self.nominal() })
    }

    /// Operations a second at the nominal clock: those a multiprocessor makes a cycle by its architecture's white paper.
    fn nominal(&self) -> f64 {
        let facts = self.driver.facts();
        let each = match (facts.capability, self.dtype) {
            (_, Dtype::F32) if facts.capability == (8, 0) => 128.0,
            (_, Dtype::F32) => 256.0,
            ((9 | 10, _), Dtype::Tf32) => 2048.0,
            ((9 | 10, _), _) => 4096.0,
            ((8, 0), Dtype::Tf32) => 1024.0,
            ((8, 0), _) => 2048.0,
            (_, Dtype::Tf32) => 256.0,
            _ => 512.0,
        };
        facts.processors as f64 * facts.clock * each
    }

    fn bind(&self, pending: Pending, shared: [u64; 2]) -> Result<Launch, Problem> {
        let launch = &pending.launch;
        let kernels = self.driver.kernels(&[(launch.variant.clone(), launch.kernel, launch.shared)])?;
        Ok(pending.bound(kernels[0], shared))
    }

    /// Median seconds of a launch.
    fn time(&self, launches: &[Launch]) -> Result<f64, Problem> {
        let measured = || -> Result<Duration, Fault> {
            let graph = self.driver.capture(launches)?;
            graph.replay()?;
            self.driver.wait()?;
            let mut times = graph.time(REPLAYS)?;
            self.driver.wait()?;
            times.sort();
            Ok(times[REPLAYS / 2])
        };
        let median: Duration = measured()?;
        Ok(median.as_secs_f64().max(1e-9) / launches.len() as f64)
    }

    /// Memory of numbers in -1..1.
    fn filled(&self, bytes: usize) -> Result<Memory, Problem> {
        let memory = Memory::new(&self.driver, bytes)?;
        let philox = Philox::named(0, "bench");
        let values: Vec<f32> =
            (0..1u64 << 16).flat_map(|at| philox.block(at)).map(|word| 2.0 * unit(word) - 1.0).collect();
        let pattern = stored(self.dtype, &values);
        for start in (0..bytes).step_by(pattern.len()) {
            let len = pattern.len().min(bytes - start);
            self.driver.write(memory.at + start as u64, &pattern[..len])?;
        }
        Ok(memory)
    }
}
