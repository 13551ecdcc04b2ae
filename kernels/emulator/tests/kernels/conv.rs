//! Convolutions of all kinds against sums in float64.

use archc_base::Act;
use archc_cuda::{
    Choice, Conv, Dtype, Epilogue, HOPPER_LARGE, HOPPER_NARROW, NARROW, SMALL, Sums, TILES, Tile, Tma, TmaTile, Window,
    conv_row,
};
use archc_emu::{Buffer, pack_conv};

use crate::support::{Random, Values, error, run, tolerance};

/// A convolution with everything that may differ.
#[derive(Clone, Copy, Debug)]
struct Case {
    n: usize,
    size: [usize; 2],
    c: usize,
    k: usize,
    groups: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    /// Between pixels of x, of y, and elements by which x starts late.
    gaps: [usize; 2],
    shift: usize,
    residual: bool,
    gate: bool,
    /// Factors of what is read.
    scale: bool,
    before: Act,
    after: Act,
    sums: bool,
    /// Else the sums alone.
    image: bool,
}

const PLAIN: Case = Case {
    n: 1,
    size: [14, 14],
    c: 64,
    k: 64,
    groups: 1,
    kernel: [3, 3],
    stride: [1, 1],
    padding: [1, 1],
    dilation: [1, 1],
    gaps: [0, 0],
    shift: 0,
    residual: false,
    gate: false,
    scale: false,
    before: Act::None,
    after: Act::None,
    sums: false,
    image: true,
};

/// The cases; what is odd about each is what differs from [`PLAIN`].
fn cases() -> Vec<Case> {
    vec![
        Case { residual: true, after: Act::Relu, ..PLAIN },
        Case { n: 3, size: [9, 7], c: 24, k: 70, stride: [2, 2], before: Act::Silu, ..PLAIN },
        Case { size: [7, 5], c: 40, k: 34, kernel: [1, 1], padding: [0, 0], residual: true, gate: true, ..PLAIN },
        Case { n: 2, size: [23, 19], c: 3, k: 16, kernel: [7, 7], stride: [2, 2], padding: [3, 3], ..PLAIN },
        Case {
            n: 2,
            size: [23, 19],
            c: 3,
            k: 16,
            kernel: [7, 7],
            stride: [2, 2],
            padding: [3, 3],
            gaps: [1, 0],
            ..PLAIN
        },
        Case { n: 2, size: [8, 9], c: 12, k: 20, gaps: [4, 3], residual: true, gate: true, after: Act::Gelu, ..PLAIN },
        Case { n: 2, size: [8, 9], c: 12, k: 20, gaps: [5, 4], shift: 1, gate: true, before: Act::Relu, ..PLAIN },
        Case { size: [11, 6], c: 32, k: 48, groups: 4, stride: [2, 1], ..PLAIN },
        Case { size: [11, 6], c: 9, k: 15, groups: 3, kernel: [2, 3], dilation: [2, 1], padding: [1, 0], ..PLAIN },
        Case { size: [15, 15], c: 8, k: 8, kernel: [3, 1], dilation: [3, 2], padding: [3, 0], ..PLAIN },
        Case { n: 5, size: [1, 1], c: 130, k: 67, kernel: [1, 1], padding: [0, 0], before: Act::HardSwish, ..PLAIN },
    ]
}

impl Case {
    fn out(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            (self.size[axis] + 2 * self.padding[axis] - (self.kernel[axis] - 1) * self.dilation[axis] - 1)
                / self.stride[axis]
                + 1
        })
    }

    /// Runs it; the result's error.
    fn error(&self, dtype: Dtype, choose: impl Fn(&Conv) -> Choice, seed: u64) -> f64 {
        self.error_of(dtype, seed, |mut conv| {
            let choice = choose(&conv);
            conv.splits = choice.splits as i32;
            let [floats, words] = conv.workspace(choice);
            let (partials, counters) = (Buffer::<f32>::new(floats), Buffer::of(&vec![0u32; words]));
            (conv.partials, conv.counters) = (partials.address(), counters.address());
            run(&conv.launch(dtype, choice), &conv);
            assert!(counters.values().iter().all(|count| *count == 0), "counters are left at zero");
        })
    }

    /// The error of what `run` does.
    fn error_of(&self, dtype: Dtype, seed: u64, run: impl Fn(Conv)) -> f64 {
        let Case { n, size: [h, w], c, k, groups, kernel: [r, s], .. } = *self;
        let (cg, kg, [oh, ow]) = (c / groups, k / groups, self.out());
        let mut random = Random::new(seed);
        let pixels = n * oh * ow;
        let (x, weights) = (random.numbers(n * h * w * c), random.numbers(k * cg * r * s));
        let (bias, gate, residual) = (random.numbers(k), random.numbers(n * k), random.numbers(pixels * k));
        let (x_stride, y_stride) = (c + self.gaps[0], k + self.gaps[1]);
        let on_device = Values::rows(dtype, &x, c, x_stride, self.shift);
        let y = Values::rows(dtype, &vec![f32::NAN; pixels * k], k, y_stride, 0);
        let y = Values::poison(y.dtype, (pixels - 1) * y_stride + k, 0);
        let residual_values = Values::rows(dtype, &residual, k, y_stride, 0);
        let scale = random.numbers(n * c);
        let scale_values = Values::of(dtype, &scale);
        let (gate_values, bias_values) = (Values::of(dtype, &gate), Buffer::of(&bias));
        let [top, left] = self.padding;
        let window = archc_base::Window {
            kernel: self.kernel,
            stride: self.stride,
            padding: [top, left, top, left],
            dilation: self.dilation,
        };
        let mut conv = Conv {
            x: on_device.address(),
            y: y.address(),
            epilogue: Epilogue {
                bias: bias_values.address(),
                gate: if self.gate { gate_values.address() } else { 0 },
                residual: if self.residual { residual_values.address() } else { 0 },
                gate_stride: k as i32,
                residual_image: (oh * ow * y_stride) as i32,
                residual_row: (ow * y_stride) as i32,
                residual_pixel: y_stride as i32,
                before: self.before.into(),
                after: self.after.into(),
            },
            window: Window::new(n, [h, w], [oh, ow], &window),
            c: cg as i32,
            k: kg as i32,
            groups: groups as i32,
            x_image: (h * w * x_stride) as i32,
            x_row: (w * x_stride) as i32,
            x_pixel: x_stride as i32,
            y_image: (oh * ow * y_stride) as i32,
            y_row: (ow * y_stride) as i32,
            y_pixel: y_stride as i32,
            ..Conv::default()
        };
        let vec = conv.vec(dtype);
        conv.w_stride = conv_row(dtype, vec, cg, r * s) as i32;
        let packed = pack_conv(dtype, vec, [k, cg, r * s], |k, c, tap| weights[(k * cg + c) * r * s + tap]);
        let packed = Values::of(dtype, &packed);
        conv.w = packed.address();
        if self.scale {
            (conv.scale, conv.scale_stride) = (scale_values.address(), c as i32);
        }
        let mut sums = conv.sums();
        let left = Buffer::<f32>::new(sums.floats(n));
        if self.sums {
            sums.at = left.address();
            conv.sums = sums;
        }
        if !self.image {
            conv.y = 0;
        }
        run(conv);

        let mut want = Vec::with_capacity(pixels * k);
        for pixel in 0..pixels {
            let (image, i, j) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
            for out in 0..k {
                let mut sum = f64::from(bias[out]);
                for tap in 0..r * s {
                    let row = (i * self.stride[0] + tap / s * self.dilation[0]).wrapping_sub(self.padding[0]);
                    let col = (j * self.stride[1] + tap % s * self.dilation[1]).wrapping_sub(self.padding[1]);
                    if row >= h || col >= w {
                        continue;
                    }
                    for c_in in 0..cg {
                        let factor = if self.scale { f64::from(scale[image * c + c_in]) } else { 1.0 };
                        let x = x[((image * h + row) * w + col) * c + out / kg * cg + c_in];
                        sum += f64::from(x) * factor * f64::from(weights[(out * cg + c_in) * r * s + tap]);
                    }
                }
                sum = self.before.apply(sum);
                if self.gate {
                    sum *= f64::from(gate[image * k + out]);
                }
                if self.residual {
                    sum += f64::from(residual[pixel * k + out]);
                }
                want.push(self.after.apply(sum));
            }
        }
        let mut off = 0.0;
        if self.image {
            off = error(&y.read_rows(k, y_stride), &want);
        } else {
            assert!(y.read().iter().all(|value| value.is_nan()), "an image that nobody asked for");
        }
        if self.sums {
            off = f64::max(off, sums_error(&sums, left.values(), &want, [n, oh * ow, k]));
        }
        off
    }
}

/// The error of the sums over each image, whose parts are added here.
fn sums_error(sums: &Sums, left: &[f32], want: &[f64], [n, pixels, k]: [usize; 3]) -> f64 {
    let (part, parts) = (Sums::PART as usize, sums.parts as usize);
    let (mut got, mut wanted) = (vec![], vec![]);
    for image in 0..n {
        let count = ((image + 1) * pixels - 1) / part - image * pixels / part + 1;
        assert!(count <= parts);
        for channel in 0..k {
            let at = |part: usize| left[(image * parts + part) * sums.stride as usize + channel];
            got.push((0..count).map(at).sum::<f32>());
            wanted.push((0..pixels).map(|pixel| want[(image * pixels + pixel) * k + channel]).sum::<f64>());
        }
    }
    error(&got, &wanted)
}

/// A tile that exists for the convolution's loads.
fn fitting(conv: &Conv, dtype: Dtype, tile: Tile) -> Tile {
    match conv.vec(dtype) {
        1 => SMALL,
        4 if dtype.size() == 2 && tile.hopper => HOPPER_NARROW,
        4 if dtype.size() == 2 => NARROW,
        _ => tile,
    }
}

#[test]
fn convolutions_of_all_kinds() {
    for dtype in Dtype::ALL {
        for (seed, case) in cases().into_iter().enumerate() {
            let off = case.error(dtype, |conv| conv.choose(dtype, 8), seed as u64 + 1);
            assert!(off < tolerance(dtype), "{dtype:?} {case:?}: off by {off:.1e}");
        }
    }
}

#[test]
fn every_tile_and_split() {
    for dtype in Dtype::ALL {
        let hopper = [HOPPER_LARGE, HOPPER_NARROW].into_iter().filter(|_| dtype.size() == 2);
        let tiles: Vec<Tile> = TILES.into_iter().chain(hopper).collect();
        for case in [
            cases()[0],
            cases()[1],
            cases()[3],
            Case { n: 2, size: [9, 9], c: 72, k: 136, kernel: [1, 1], padding: [0, 0], ..PLAIN },
        ] {
            for tile in tiles.iter().copied() {
                for splits in [1, 3] {
                    let choose = |conv: &Conv| Choice { tile: fitting(conv, dtype, tile), splits };
                    let off = case.error(dtype, choose, 3);
                    assert!(off < tolerance(dtype), "{dtype:?} {tile:?} in {splits}: off by {off:.1e}");
                }
            }
        }
    }
}

/// Images of fewer pixels than a part, of as many, of many parts that begin amid one; with and without the image itself.
fn squeezed() -> Vec<Case> {
    let sums = Case { sums: true, ..PLAIN };
    vec![
        Case { n: 3, size: [13, 11], after: Act::Relu, residual: true, gate: true, ..sums },
        Case { n: 9, size: [3, 2], c: 24, k: 70, before: Act::Silu, ..sums },
        Case { n: 5, size: [4, 4], c: 72, k: 136, kernel: [1, 1], padding: [0, 0], image: false, ..sums },
        Case { size: [16, 9], c: 40, k: 8, gaps: [8, 8], stride: [2, 1], image: false, ..sums },
    ]
}

#[test]
fn sums_over_images() {
    for dtype in Dtype::ALL {
        let hopper = [HOPPER_LARGE, HOPPER_NARROW].into_iter().filter(|_| dtype.size() == 2);
        let tiles: Vec<Tile> = TILES.into_iter().chain(hopper).collect();
        for (seed, case) in squeezed().into_iter().enumerate() {
            for (tile, splits) in tiles.iter().flat_map(|tile| [(*tile, 1), (*tile, 3)]) {
                let choose = |conv: &Conv| Choice { tile: fitting(conv, dtype, tile), splits };
                let off = case.error(dtype, choose, seed as u64);
                assert!(off < tolerance(dtype), "{dtype:?} {tile:?} in {splits}, {case:?}: off by {off:.1e}");
            }
            for tile in TmaTile::ALL.into_iter().filter(|_| dtype.size() == 2) {
                let off = case.error_of(dtype, seed as u64, |conv| {
                    run_tma(&conv.tma(dtype, tile, 2).expect("a map can say it"));
                });
                assert!(off < tolerance(dtype), "{dtype:?} {tile:?} {case:?}: off by {off:.1e}");
            }
        }
        let grouped = Case { n: 2, size: [11, 6], c: 32, k: 48, groups: 4, stride: [2, 1], sums: true, ..PLAIN };
        let off = grouped.error(dtype, |conv| conv.choose(dtype, 8), 5);
        assert!(off < tolerance(dtype), "{dtype:?} in groups: off by {off:.1e}");
    }
}

#[test]
fn factors_of_what_is_read() {
    let point = Case { kernel: [1, 1], padding: [0, 0], scale: true, ..PLAIN };
    let cases = [
        Case { n: 3, size: [7, 5], c: 72, k: 40, residual: true, after: Act::Relu, ..point },
        Case { n: 2, size: [9, 9], c: 20, k: 130, gaps: [4, 3], before: Act::Silu, ..point },
        Case { n: 5, size: [4, 3], c: 13, k: 9, gate: true, ..point },
        Case { n: 2, size: [6, 5], c: 4, k: 24, ..point },
        Case { n: 1, size: [14, 14], c: 160, k: 64, gaps: [1, 0], shift: 1, ..point },
    ];
    for dtype in Dtype::ALL {
        for (seed, case) in cases.into_iter().enumerate() {
            // narrow tiles, small ones, split ones
            for processors in [1, 132] {
                let choose = |conv: &Conv| {
                    assert!(conv.choose_tma(dtype, 1).is_none(), "TMA multiplies nothing");
                    conv.choose_for_hopper(dtype, processors)
                };
                let off = case.error(dtype, choose, seed as u64 + 1);
                // what is read is rounded once more
                assert!(off < 1.5 * tolerance(dtype), "{dtype:?} {case:?}: off by {off:.1e}");
            }
        }
    }
}

/// Runs a convolution whose operands TMA brings.
fn run_tma(tma: &Tma) {
    let args = tma.args(archc_emu::tensor_map).expect("a map that the driver takes");
    run(&tma.launch, &args);
}

#[test]
fn operands_that_the_copy_engine_brings() {
    let windows = [
        cases()[0],
        Case { gaps: [8, 8], ..cases()[1] },
        Case { gaps: [8, 3], residual: true, gate: true, k: 67, n: 2, ..cases()[1] },
        Case { c: 72, k: 136, kernel: [2, 3], dilation: [2, 3], padding: [1, 3], residual: true, ..PLAIN },
        Case { n: 3, size: [9, 10], c: 136, k: 40, kernel: [1, 1], padding: [0, 0], stride: [2, 3], ..PLAIN },
        Case { n: 2, size: [12, 1], c: 16, k: 16, kernel: [5, 1], padding: [2, 0], gate: true, ..PLAIN },
    ];
    let rows = [
        Case { residual: true, gate: true, gaps: [0, 6], ..cases()[2] },
        Case { n: 150, size: [1, 1], c: 130, k: 260, kernel: [1, 1], padding: [0, 0], gaps: [6, 0], ..PLAIN },
        Case { n: 3, size: [10, 9], c: 200, k: 300, kernel: [1, 1], padding: [0, 0], before: Act::Silu, ..PLAIN },
    ];
    for dtype in [Dtype::Bf16, Dtype::F16] {
        for (seed, case) in windows.iter().chain(&rows).enumerate() {
            for tile in TmaTile::ALL {
                // few multiprocessors, so that a block has several tiles
                let off = case.error_of(dtype, seed as u64 + 1, |conv| {
                    run_tma(&conv.tma(dtype, tile, 1 + seed % 2).expect("a map can say it"));
                });
                assert!(off < tolerance(dtype), "{dtype:?} {tile:?} {case:?}: off by {off:.1e}");
            }
        }
    }
}

#[test]
fn what_no_map_can_say_has_other_kernels() {
    let no = [
        Case { groups: 4, ..PLAIN },
        Case { c: 3, ..PLAIN },
        Case { gaps: [4, 0], ..PLAIN },
        Case { shift: 1, ..PLAIN },
        Case { stride: [9, 1], ..PLAIN },
        Case { size: [300, 1], kernel: [270, 1], padding: [0, 0], ..PLAIN },
        Case { size: [300, 1], kernel: [3, 1], dilation: [140, 1], padding: [0, 0], ..PLAIN },
    ];
    for case in no {
        let choose = |conv: &Conv| {
            assert!(conv.tma(Dtype::Bf16, TmaTile::ALL[0], 1).is_none(), "{case:?}");
            conv.choose_for_hopper(Dtype::Bf16, 8)
        };
        let off = case.error(Dtype::Bf16, choose, 1);
        assert!(off < tolerance(Dtype::Bf16), "{case:?}: off by {off:.1e}");
    }
    for dtype in [Dtype::F32, Dtype::Tf32] {
        let choose = |conv: &Conv| {
            assert!(conv.tma(dtype, TmaTile::ALL[0], 1).is_none(), "numbers of four bytes");
            Choice { splits: 1, tile: SMALL }
        };
        PLAIN.error(dtype, choose, 1);
    }
}

/// A convolution of n images of `size`, by addresses that say nothing.
fn sized(n: usize, size: usize, c: usize, k: usize, window: usize) -> Conv {
    let over = archc_base::Window { padding: [window / 2; 4], ..archc_base::Window::square(window) };
    Conv {
        x: 256,
        w: 256,
        window: Window::new(n, [size; 2], [size; 2], &over),
        c: c as i32,
        k: k as i32,
        groups: 1,
        x_image: (size * size * c) as i32,
        x_row: (size * c) as i32,
        x_pixel: c as i32,
        w_stride: (window * window * c) as i32,
        ..Conv::default()
    }
}

#[test]
fn tiles_and_splits_by_what_they_cost() {
    let choice = |conv: Conv, dtype| {
        let Choice { tile, splits } = conv.choose(dtype, 132);
        (tile, splits)
    };
    // a device that is full already; depths that fill it; one so deep that two blocks share a multiprocessor
    assert_eq!(choice(sized(197, 1, 768, 2304, 1), Dtype::Bf16), (SMALL, 1));
    assert_eq!(choice(sized(1, 14, 256, 256, 3), Dtype::Bf16), (SMALL, 8));
    assert_eq!(choice(sized(1, 7, 512, 512, 3), Dtype::Bf16), (SMALL, 16));
    assert_eq!(choice(sized(197, 1, 3072, 768, 1), Dtype::Bf16), (SMALL, 5));
    // multiply-adds never in large tiles
    assert_eq!(choice(sized(256, 14, 256, 256, 3), Dtype::F32), (NARROW, 1));
    assert_eq!(choice(sized(256, 14, 256, 256, 3), Dtype::Tf32), (TILES[0], 1));
}

#[test]
fn tma_where_it_pays() {
    let choice = |n: usize, size: usize, c: usize, k: usize, window: usize| {
        let conv = sized(n, size, c, k, window);
        conv.choose_tma(Dtype::Bf16, 132).map(|tma| (tma.tile.bm, tma.tile.bn))
    };
    // narrow results, long depths, short depths
    assert_eq!(choice(32, 56, 64, 64, 3), Some((128, 64)));
    assert_eq!(choice(256, 14, 256, 256, 3), Some((128, 256)));
    assert_eq!(choice(256, 56, 64, 256, 1), Some((128, 128)));
    // few tiles, whose depth is better split; depths that would be mostly zeros
    assert_eq!(choice(1, 7, 512, 512, 3), None);
    assert_eq!(choice(256, 56, 24, 24, 3), None);
}
