//! Depthwise convolution, transposed convolution, linear maps of few rows, pooling, resampling.

use archc_base::{Act, Banded as Matrix, Pool as Of, Resample};
use archc_cuda::{Banded, Conv, Depthwise, Dtype, Epilogue, LinearRows, Pool, Resize, Window, conv_row, phases};
use archc_emu::{Buffer, pack_conv};

use crate::support::{Random, Values, check, run, tolerance};

#[test]
fn one_filter_a_channel() {
    // n, size, c, kernel, stride, padding, dilation, gap
    let cases = [
        (1, [9, 11], 24, 3, 1, 1, 1, 0),
        (2, [10, 7], 13, 3, 2, 1, 1, 0),
        (3, [8, 8], 16, 5, 1, 2, 1, 8),
        (1, [12, 13], 9, 5, 2, 2, 1, 1),
        (1, [15, 15], 8, 7, 1, 3, 1, 0),
        (2, [11, 11], 8, 3, 1, 2, 2, 0),
        (1, [2, 2], 8, 3, 1, 1, 1, 0),
        // groups of vectors with sums, the last of which is cut
        (2, [7, 9], 270, 3, 1, 1, 1, 2),
        (2, [5, 33], 3, 3, 1, 1, 1, 1),
    ];
    for dtype in Dtype::STORED {
        for (n, [h, w], c, kernel, stride, padding, dilation, gap) in cases {
            let mut random = Random::new(12);
            let [oh, ow] = [h, w].map(|size| (size + 2 * padding - (kernel - 1) * dilation - 1) / stride + 1);
            let pixels = n * oh * ow;
            let (x, weights, bias) =
                (random.numbers(n * h * w * c), random.numbers(kernel * kernel * c), random.numbers(c));
            let residual = random.numbers(pixels * c);
            let apart = c + gap;
            let (on_device, packed) = (Values::rows(dtype, &x, c, apart, 0), Values::of(dtype, &weights));
            let (biases, more) = (Buffer::of(&bias), Values::of(dtype, &residual));
            let y = Values::poison(dtype, (pixels - 1) * apart + c, 0);
            let args = Depthwise {
                x: on_device.address(),
                w: packed.address(),
                y: y.address(),
                epilogue: Epilogue {
                    bias: biases.address(),
                    residual: more.address(),
                    residual_image: (oh * ow * c) as i32,
                    residual_row: (ow * c) as i32,
                    residual_pixel: c as i32,
                    before: Act::HardSwish.into(),
                    ..Epilogue::default()
                },
                window: Window::new(n, [h, w], [oh, ow], &square(kernel, stride, padding, dilation)),
                c: c as i32,
                x_stride: apart as i32,
                y_stride: apart as i32,
                ..Depthwise::default()
            };
            run(&args.launch(dtype), &args);
            let mut want = vec![];
            for (at, more) in residual.iter().enumerate() {
                let (pixel, channel) = (at / c, at % c);
                let (image, i, j) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
                let mut sum = f64::from(bias[channel]);
                for tap in 0..kernel * kernel {
                    let row = (i * stride + tap / kernel * dilation).wrapping_sub(padding);
                    let col = (j * stride + tap % kernel * dilation).wrapping_sub(padding);
                    if row < h && col < w {
                        let x = x[((image * h + row) * w + col) * c + channel];
                        sum += f64::from(x) * f64::from(weights[tap * c + channel]);
                    }
                }
                want.push(Act::HardSwish.apply(sum) + f64::from(*more));
            }
            check(&format!("{dtype:?} {c} {kernel}"), &y.read_rows(c, apart), &want, tolerance(dtype));

            // once more with sums, and then with them alone
            let mut args = args.with_sums();
            let left = Buffer::<f32>::new(args.sums.floats(n));
            args.sums.at = left.address();
            let sums: Vec<f64> = (0..n * c)
                .map(|at| (0..oh * ow).map(|pixel| want[(at / c * oh * ow + pixel) * c + at % c]).sum())
                .collect();
            for whole in [true, false] {
                let y = Values::poison(dtype, (pixels - 1) * apart + c, 0);
                args.y = if whole { y.address() } else { 0 };
                run(&args.launch(dtype), &args);
                if whole {
                    check(&format!("{dtype:?} {c} {kernel}"), &y.read_rows(c, apart), &want, tolerance(dtype));
                }
                let parts = args.sums.parts as usize;
                let part = |at: usize, part: usize| {
                    left.values()[(at / c * parts + part) * args.sums.stride as usize + at % c]
                };
                let got: Vec<f32> = (0..n * c).map(|at| (0..parts).map(|one| part(at, one)).sum()).collect();
                check(&format!("sums, {dtype:?} {c} {kernel}"), &got, &sums, tolerance(dtype));
            }
        }
    }
}

#[test]
fn transposed_convolutions_by_phases() {
    // size, c, k, kernel, stride, padding, output padding, dilation
    let cases = [
        ([5, 4], 16, 8, 4, 2, 1, 0, 1),
        ([4, 6], 8, 24, 3, 2, 1, 1, 1),
        ([3, 3], 5, 3, 2, 3, 0, 0, 1),
        ([5, 5], 8, 8, 3, 1, 1, 0, 2),
        ([4, 4], 8, 8, 3, 2, 0, 0, 2),
        ([4, 3], 8, 8, 5, 3, 2, 2, 1),
    ];
    for dtype in Dtype::ALL {
        for ([h, w], c, k, kernel, stride, padding, output_padding, dilation) in cases {
            let mut random = Random::new(13);
            let n = 2;
            let [oh, ow] =
                [h, w].map(|size| (size - 1) * stride + (kernel - 1) * dilation + output_padding + 1 - 2 * padding);
            let (x, weights, bias) =
                (random.numbers(n * h * w * c), random.numbers(c * k * kernel * kernel), random.numbers(k));
            let (on_device, biases) = (Values::of(dtype, &x), Buffer::of(&bias));
            let y = Values::poison(dtype, n * oh * ow * k, 0);
            let of = |out| phases(kernel, stride, padding, dilation, out);
            for (rows, cols) in of(oh).iter().flat_map(|rows| of(ow).into_iter().map(move |cols| (rows, cols))) {
                let taps = rows.taps.len() * cols.taps.len();
                let mut conv = Conv {
                    x: on_device.address(),
                    y: y.address() + ((rows.first * ow + cols.first) * k * dtype.size()) as u64,
                    epilogue: Epilogue { bias: biases.address(), ..Epilogue::default() },
                    window: Window {
                        r: rows.taps.len() as i32,
                        s: cols.taps.len() as i32,
                        pad_top: rows.padding,
                        pad_left: cols.padding,
                        dilation_h: rows.dilation,
                        dilation_w: cols.dilation,
                        ..Window::new(n, [h, w], [rows.count, cols.count], &archc_base::Window::PIXEL)
                    },
                    c: c as i32,
                    k: k as i32,
                    groups: 1,
                    x_image: (h * w * c) as i32,
                    x_row: (w * c) as i32,
                    x_pixel: c as i32,
                    y_image: (oh * ow * k) as i32,
                    y_row: (ow * stride * k) as i32,
                    y_pixel: (stride * k) as i32,
                    splits: 1,
                    ..Conv::default()
                };
                let vec = conv.vec(dtype);
                conv.w_stride = conv_row(dtype, vec, c, taps) as i32;
                let packed = pack_conv(dtype, vec, [k, c, taps], |out, c_in, tap| {
                    let (row, col) = (rows.taps[tap / cols.taps.len()], cols.taps[tap % cols.taps.len()]);
                    weights[((c_in * k + out) * kernel + row) * kernel + col]
                });
                let packed = Values::of(dtype, &packed);
                conv.w = packed.address();
                let choice = conv.choose(dtype, 1);
                run(&conv.launch(dtype, choice), &conv);
            }
            let mut want: Vec<f64> = (0..n * oh * ow * k).map(|at| f64::from(bias[at % k])).collect();
            for (image, i, j) in (0..n * h * w).map(|at| (at / (h * w), at / w % h, at % w)) {
                for tap in 0..kernel * kernel {
                    let row = (i * stride + tap / kernel * dilation).wrapping_sub(padding);
                    let col = (j * stride + tap % kernel * dilation).wrapping_sub(padding);
                    if row >= oh || col >= ow {
                        continue;
                    }
                    for (c_in, out) in (0..c * k).map(|at| (at / k, at % k)) {
                        let x = f64::from(x[((image * h + i) * w + j) * c + c_in]);
                        let weight = weights[(c_in * k + out) * kernel * kernel + tap];
                        want[((image * oh + row) * ow + col) * k + out] += x * f64::from(weight);
                    }
                }
            }
            check(&format!("{dtype:?} {kernel} by {stride}"), &y.read(), &want, tolerance(dtype));
        }
    }
}

#[test]
fn linear_maps_of_few_rows() {
    for dtype in Dtype::STORED {
        for (rows, inputs, outputs, gap) in [(1, 512, 10, 0), (3, 77, 33, 0), (8, 264, 9, 1), (2, 8, 1, 0)] {
            let mut random = Random::new(14);
            let (x, weights, bias) =
                (random.numbers(rows * inputs), random.numbers(outputs * inputs), random.numbers(outputs));
            let residual = random.numbers(rows * outputs);
            let w_stride = inputs.next_multiple_of(dtype.vector());
            let packed = Values::rows(dtype, &weights, inputs, w_stride, 0);
            let on_device = Values::rows(dtype, &x, inputs, inputs + gap, 0);
            let (biases, more) = (Buffer::of(&bias), Values::of(dtype, &residual));
            let y = Values::poison(dtype, rows * outputs, 0);
            let args = LinearRows {
                x: on_device.address(),
                w: packed.address(),
                y: y.address(),
                epilogue: Epilogue {
                    bias: biases.address(),
                    residual: more.address(),
                    residual_image: outputs as i32,
                    before: Act::Silu.into(),
                    ..Epilogue::default()
                },
                rows: rows as i32,
                inputs: inputs as i32,
                outputs: outputs as i32,
                x_stride: (inputs + gap) as i32,
                w_stride: w_stride as i32,
                y_stride: outputs as i32,
            };
            run(&args.launch(dtype), &args);
            let mut want = vec![];
            for at in 0..rows * outputs {
                let (row, out) = (&x[at / outputs * inputs..][..inputs], &weights[at % outputs * inputs..][..inputs]);
                let sum: f64 = row.iter().zip(out).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                want.push(Act::Silu.apply(sum + f64::from(bias[at % outputs])) + f64::from(residual[at]));
            }
            check(&format!("{dtype:?} {rows} x {inputs}"), &y.read(), &want, tolerance(dtype));
        }
    }
}

fn square(kernel: usize, stride: usize, padding: usize, dilation: usize) -> archc_base::Window {
    archc_base::Window {
        stride: [stride; 2],
        padding: [padding; 4],
        dilation: [dilation; 2],
        ..archc_base::Window::square(kernel)
    }
}

/// Windows along one axis as PyTorch takes them: the inputs of each output, and how many there are with padding.
fn windows(
    size: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    out: usize,
) -> Vec<(Vec<usize>, usize)> {
    let one = |at: usize| {
        let taps = (0..kernel).map(|tap| (at * stride + tap * dilation) as isize - padding as isize);
        let inside = taps.filter(|at| (0..size as isize).contains(at)).map(|at| at as usize).collect();
        let end = (at * stride + (kernel - 1) * dilation + 1).min(size + 2 * padding);
        (inside, end - at * stride)
    };
    (0..out).map(one).collect()
}

#[test]
fn pooling_of_all_kinds() {
    // size, c, kernel, stride, padding, dilation, ceil mode
    let cases = [
        ([9, 7], 24, 3, 2, 1, 1, false),
        ([9, 8], 13, 3, 2, 1, 1, true),
        ([6, 6], 8, 2, 2, 0, 1, false),
        ([11, 10], 16, 3, 1, 2, 2, false),
    ];
    for dtype in Dtype::STORED {
        for ([h, w], c, kernel, stride, padding, dilation, ceil) in cases {
            let reach = |size: usize| size + 2 * padding - (kernel - 1) * dilation - 1;
            let [oh, ow] =
                [h, w].map(|size| if ceil { reach(size).div_ceil(stride) } else { reach(size) / stride } + 1);
            let axes =
                [windows(h, kernel, stride, padding, dilation, oh), windows(w, kernel, stride, padding, dilation, ow)];
            let args = Pool {
                window: Window::new(2, [h, w], [oh, ow], &square(kernel, stride, padding, dilation)),
                c,
                ..Pool::default()
            };
            pool_all(dtype, args, &axes);
        }
        for ([h, w], [oh, ow]) in [([7, 9], [3, 4]), ([2, 3], [5, 5]), ([10, 10], [1, 1])] {
            let parts = |size: usize, out: usize| -> Vec<(Vec<usize>, usize)> {
                let one = |at: usize| (at * size / out..((at + 1) * size).div_ceil(out)).collect::<Vec<usize>>();
                (0..out).map(one).map(|inside| (inside.clone(), inside.len())).collect()
            };
            let window = Window::new(2, [h, w], [oh, ow], &archc_base::Window::PIXEL);
            let args = Pool { window, c: 11, adaptive: 1, ..Pool::default() };
            pool_all(dtype, args, &[parts(h, oh), parts(w, ow)]);
        }
    }
}

fn pool_all(dtype: Dtype, args: Pool, axes: &[Vec<(Vec<usize>, usize)>; 2]) {
    let (c, gap) = (args.c as usize, 8);
    let Window { n, height, width, out_height, out_width, dilation_h, .. } = args.window;
    let [n, h, w, oh, ow] = [n, height, width, out_height, out_width].map(|len| len as usize);
    let x = Random::new(15).numbers(n * h * w * c);
    let on_device = Values::rows(dtype, &x, c, c + gap, 0);
    for (_, of) in Of::ALL {
        if of != Of::Max && dilation_h > 1 {
            continue;
        }
        let y = Values::poison(dtype, (n * oh * ow - 1) * (c + gap) + c, 0);
        let (x_stride, y_stride) = ((c + gap) as i32, (c + gap) as i32);
        let mode = of.code();
        let args = Pool { x: on_device.address(), y: y.address(), x_stride, y_stride, mode, ..args };
        run(&args.launch(dtype), &args);
        let mut want = vec![];
        for at in 0..n * oh * ow * c {
            let (pixel, channel) = (at / c, at % c);
            let ((rows, high), (cols, wide)) = (&axes[0][pixel / ow % oh], &axes[1][pixel % ow]);
            let values = rows.iter().flat_map(|row| cols.iter().map(move |col| (row, col)));
            let values = values.map(|(row, col)| f64::from(x[((pixel / (oh * ow) * h + row) * w + col) * c + channel]));
            want.push(match of {
                Of::Max => values.fold(f64::NEG_INFINITY, f64::max),
                Of::Mean { count_padding: true } => values.sum::<f64>() / (high * wide) as f64,
                Of::Mean { count_padding: false } => values.sum::<f64>() / (rows.len() * cols.len()) as f64,
            });
        }
        check(&format!("{dtype:?} {args:?}"), &y.read_rows(c, c + gap), &want, tolerance(dtype));
    }
}

/// Inputs and weights of an output, along one axis.
fn taps(mode: Resample, at: usize, ratio: f64, size: usize) -> Vec<(usize, f64)> {
    let source = ratio * (at as f64 + 0.5) - 0.5;
    let inside = |at: f64| at.clamp(0.0, size as f64 - 1.0) as usize;
    match mode {
        Resample::Nearest => vec![(inside((at as f32 * ratio as f32).floor().into()), 1.0)],
        Resample::Bilinear => {
            let source = source.max(0.0);
            let t = source - source.floor();
            vec![(inside(source.floor()), 1.0 - t), (inside(source.floor() + 1.0), t)]
        }
        _ => {
            let t = source - source.floor();
            let cubic = |d: f64| {
                if d <= 1.0 { (1.25 * d - 2.25) * d * d + 1.0 } else { ((-0.75 * d + 3.75) * d - 6.0) * d + 3.0 }
            };
            (-1..3).map(|k| (inside(source.floor() + f64::from(k)), cubic((t - f64::from(k)).abs()))).collect()
        }
    }
}

#[test]
fn resampling() {
    for dtype in Dtype::STORED {
        for ([h, w], [oh, ow], c) in
            [([5, 7], [10, 14], 16), ([8, 6], [3, 4], 5), ([4, 4], [4, 9], 8), ([1, 2], [3, 3], 9)]
        {
            let n = 2;
            let x = Random::new(16).numbers(n * h * w * c);
            let on_device = Values::of(dtype, &x);
            let [ratio_h, ratio_w] = [(h, oh), (w, ow)].map(|(from, to)| from as f64 / to as f64);
            for mode in [Resample::Nearest, Resample::Bilinear, Resample::Bicubic] {
                let y = Values::poison(dtype, n * oh * ow * c, 0);
                let args = Resize {
                    x: on_device.address(),
                    y: y.address(),
                    ratio_h,
                    ratio_w,
                    n: n as i32,
                    height: h as i32,
                    width: w as i32,
                    c: c as i32,
                    out_height: oh as i32,
                    out_width: ow as i32,
                    x_stride: c as i32,
                    y_stride: c as i32,
                    mode: mode.code(),
                    reserved: 0,
                };
                run(&args.launch(dtype), &args);
                let mut want = vec![];
                for at in 0..n * oh * ow * c {
                    let (pixel, channel) = (at / c, at % c);
                    let image = pixel / (oh * ow);
                    let (rows, cols) = (taps(mode, pixel / ow % oh, ratio_h, h), taps(mode, pixel % ow, ratio_w, w));
                    let mut sum = 0.0;
                    for (row, by) in &rows {
                        for (col, and) in &cols {
                            sum += by * and * f64::from(x[((image * h + row) * w + col) * c + channel]);
                        }
                    }
                    want.push(sum);
                }
                check(&format!("{dtype:?} {mode:?} {h} to {oh}"), &y.read(), &want, tolerance(dtype));
            }
        }
    }
}

#[test]
fn antialiased_resampling_and_its_gradient() {
    for dtype in Dtype::STORED {
        for ([h, w], [oh, ow], c, gap) in
            [([5, 7], [10, 14], 16, 0), ([13, 6], [3, 4], 5, 2), ([9, 4], [4, 9], 8, 8), ([1, 2], [3, 1], 9, 0)]
        {
            for mode in [Resample::Bilinear, Resample::Bicubic] {
                let matrix = |from: usize, to: usize| Matrix::antialiased(mode, from as f64 / to as f64, from, to);
                let (rows, columns) = (matrix(h, oh), matrix(w, ow));
                let what = format!("{dtype:?} {mode:?} {h} x {w} to {oh} x {ow}");
                multiplies(&what, dtype, [&rows, &columns], c, gap);
                multiplies(&format!("{what}, back"), dtype, [&rows.transposed(), &columns.transposed()], c, gap);
            }
        }
    }
}

fn multiplies(what: &str, dtype: Dtype, [rows, columns]: [&Matrix; 2], c: usize, gap: usize) {
    let (n, [h, w], [oh, ow]) = (2, [rows.inputs(), columns.inputs()], [rows.outputs(), columns.outputs()]);
    let apart = c + gap;
    let x = Random::new(17).numbers(n * h * w * c);
    let on_device = Values::rows(dtype, &x, c, apart, 0);
    let y = Values::poison(dtype, (n * oh * ow - 1) * apart + c, 0);
    let runs = |matrix: &Matrix| {
        Buffer::of(&matrix.runs().iter().flat_map(|(first, from)| [*first as u32, *from as u32]).collect::<Vec<_>>())
    };
    let weights =
        |matrix: &Matrix| Buffer::of(&matrix.weights().iter().map(|weight| *weight as f32).collect::<Vec<f32>>());
    let (down, across) = ((runs(rows), weights(rows)), (runs(columns), weights(columns)));
    let args = Banded {
        x: on_device.address(),
        y: y.address(),
        rows: down.0.address(),
        row_weights: down.1.address(),
        columns: across.0.address(),
        column_weights: across.1.address(),
        n: n as i32,
        height: h as i32,
        width: w as i32,
        c: c as i32,
        out_height: oh as i32,
        out_width: ow as i32,
        x_stride: apart as i32,
        y_stride: apart as i32,
    };
    run(&args.launch(dtype), &args);
    let mut want = vec![];
    for at in 0..n * oh * ow * c {
        let (pixel, channel) = (at / c, at % c);
        let image = pixel / (oh * ow);
        let ((top, down), (left, across)) = (rows.run(pixel / ow % oh), columns.run(pixel % ow));
        let mut sum = 0.0;
        for (row, by) in (top..).zip(down) {
            for (col, and) in (left..).zip(across) {
                sum += by * and * f64::from(x[((image * h + row) * w + col) * c + channel]);
            }
        }
        want.push(sum);
    }
    check(what, &y.read_rows(c, apart), &want, tolerance(dtype));
}
