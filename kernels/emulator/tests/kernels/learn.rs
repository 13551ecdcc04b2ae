//! What training adds. Whole steps are compared with the CPU's by the tests of the runtime; here is what those do not reach:
//! gaps that must not be touched, tails, parts, and single kernels against float64.

use archc_base::{Act, Loss as Of};
use archc_cuda::{
    ActData, Args, Backward, BatchNorm, BatchNormData, ColumnMode, Columns, ConvWeight, Dtype, Launch, Loss, LossEnd,
    Map, Norm, PoolData, Update, WeightEnd, Window,
};
use archc_emu::Buffer;

use crate::support::{Random, Values, acts, check, run, tolerance};

/// Floats that hold no numbers yet.
fn floats(len: usize) -> Buffer<f32> {
    Buffer::new(len)
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// Images [n, h, w, c] by any index; 0 outside.
struct Image<'a> {
    values: &'a [f32],
    dims: [usize; 4],
}

impl Image<'_> {
    fn at(&self, n: usize, h: i64, w: i64, c: usize) -> f64 {
        let [_, height, width, channels] = self.dims;
        if h < 0 || w < 0 || h >= height as i64 || w >= width as i64 {
            return 0.0;
        }
        f64::from(self.values[((n * height + h as usize) * width + w as usize) * channels + c])
    }
}

/// A case of a convolution's weights: batch, image, channels of a group read and written, groups, window, stride, padding,
/// dilation, how far apart pixels are beyond their channels, multiprocessors.
struct Case {
    n: usize,
    size: [usize; 2],
    c: usize,
    k: usize,
    groups: usize,
    window: [usize; 2],
    stride: usize,
    padding: usize,
    dilation: usize,
    gaps: [usize; 2],
    processors: usize,
}

#[test]
fn gradients_of_weights() {
    let base = Case {
        n: 2,
        size: [9, 11],
        c: 16,
        k: 24,
        groups: 1,
        window: [3, 3],
        stride: 1,
        padding: 1,
        dilation: 1,
        gaps: [0, 0],
        processors: 8,
    };
    let cases = [
        Case { ..base },
        // wide tiles with tails of both sides, many parts
        Case { c: 72, k: 136, processors: 64, ..base },
        Case { c: 128, k: 128, window: [1, 1], padding: 0, n: 5, ..base },
        // single channels, quarters of a load, gaps
        Case { c: 5, k: 7, gaps: [3, 2], stride: 2, ..base },
        Case { c: 3, k: 16, gaps: [1, 0], window: [7, 7], stride: 2, padding: 3, ..base },
        Case { c: 4, k: 12, gaps: [4, 4], dilation: 2, ..base },
        // one image of one pixel, and fewer pixels than a step
        Case { n: 1, size: [1, 1], window: [1, 1], padding: 0, ..base },
        Case { n: 300, size: [1, 1], c: 33, k: 10, window: [1, 1], padding: 0, ..base },
        Case { c: 8, k: 16, groups: 3, ..base },
        Case { c: 3, k: 5, groups: 2, window: [2, 3], padding: 0, ..base },
        // one filter a channel
        Case { c: 1, k: 1, groups: 24, ..base },
        Case { c: 1, k: 1, groups: 300, window: [5, 7], padding: 2, stride: 2, n: 3, processors: 64, ..base },
        Case { c: 1, k: 1, groups: 5, gaps: [3, 1], dilation: 2, padding: 2, ..base },
    ];
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
        for (seed, case) in cases.iter().enumerate() {
            weights_of(dtype, seed, case);
        }
    }
}

fn weights_of(dtype: Dtype, seed: usize, case: &Case) {
    let Case { n, size: [height, width], c, k, groups, window, stride, padding, dilation, gaps, processors } = *case;
    let [r, s] = window;
    let out = |len: usize, kernel: usize| (len + 2 * padding - (kernel - 1) * dilation - 1) / stride + 1;
    let [oh, ow] = [out(height, r), out(width, s)];
    let mut random = Random::new(seed as u64 + 3);
    let (x, dy) = (random.numbers(n * height * width * c * groups), random.numbers(n * oh * ow * k * groups));
    let (x_stride, dy_stride) = (c * groups + gaps[0], k * groups + gaps[1]);
    let on_device =
        [Values::rows(dtype, &x, c * groups, x_stride, 0), Values::rows(dtype, &dy, k * groups, dy_stride, 0)];
    let number = |value: usize| value as i32;
    let over =
        archc_base::Window { kernel: window, stride: [stride; 2], padding: [padding; 4], dilation: [dilation; 2] };
    let mut args = ConvWeight {
        x: on_device[0].address(),
        dy: on_device[1].address(),
        window: Window::new(n, [height, width], [oh, ow], &over),
        c: number(c),
        k: number(k),
        groups: number(groups),
        x_stride: number(x_stride),
        dy_stride: number(dy_stride),
        ..ConvWeight::default()
    };
    args.cut(dtype, processors);
    let partials = floats(args.partials(dtype));
    args.partials = partials.address();
    let dw = floats(groups * k * c * r * s);
    let end: WeightEnd = args.end(dtype, dw.address());
    run(&args.launch(dtype), &args);
    run(&end.launch(), &end);
    let x = Image { values: &x, dims: [n, height, width, c * groups] };
    let dy = Image { values: &dy, dims: [n, oh, ow, k * groups] };
    let mut want = vec![];
    for out in 0..groups * k {
        for channel in 0..c {
            for tap in 0..r * s {
                let mut sum = 0.0;
                for image in 0..n {
                    for p in 0..oh {
                        for q in 0..ow {
                            let ih = (p * stride + tap / s * dilation) as i64 - padding as i64;
                            let iw = (q * stride + tap % s * dilation) as i64 - padding as i64;
                            let from = out / k * c + channel;
                            sum += dy.at(image, p as i64, q as i64, out) * x.at(image, ih, iw, from);
                        }
                    }
                }
                want.push(sum);
            }
        }
    }
    // operands are the same in every type, and sums are float32
    check(&format!("{dtype:?} case {seed}"), dw.values(), &want, 2e-6);
}

#[test]
fn sums_of_columns_in_parts() {
    for dtype in Dtype::STORED {
        for (rows, cols, gap, processors) in [(1, 1, 0, 4), (37, 20, 4, 1), (700, 13, 0, 16), (90, 300, 4, 132)] {
            let mut random = Random::new(4);
            let far: Vec<f32> = random.numbers(rows * cols).iter().map(|value| value + 30.0).collect();
            // stored with what rounding leaves
            let x = Values::rows(dtype, &far, cols, cols + gap, 0);
            let held = doubles(&x.read_rows(cols, cols + gap));
            let mut args = Columns {
                d: x.address(),
                x: x.address(),
                rows: rows as i32,
                cols: cols as i32,
                d_stride: (cols + gap) as i32,
                x_stride: (cols + gap) as i32,
                ..Columns::default()
            };
            args.cut(processors);
            for (kernel, kinds, mode) in [("sums", 1, ColumnMode::Plain), ("statistics", 2, ColumnMode::Statistics)] {
                let (partials, y) = (floats(args.partials(kinds)), floats(kinds * cols));
                args.partials = partials.address();
                run(&args.launch(dtype, kernel), &args);
                let end = args.end(y.address(), kinds, mode);
                run(&end.launch(dtype), &end);
                let column = |col: usize| held.iter().skip(col).step_by(cols).copied();
                let sums: Vec<f64> = (0..cols).map(|col| column(col).sum()).collect();
                let means: Vec<f64> = sums.iter().map(|sum| sum / rows as f64).collect();
                let variances =
                    (0..cols).map(|col| column(col).map(|v| (v - means[col]).powi(2)).sum::<f64>() / rows as f64);
                let what = format!("{kernel} {dtype:?} {rows} x {cols}");
                match kinds {
                    1 => check(&what, y.values(), &sums, 2e-6),
                    _ => {
                        check(&what, &y.values()[..cols], &means, 1e-7);
                        check(&what, &y.values()[cols..], &variances.collect::<Vec<_>>(), 2e-6);
                    }
                }
            }
        }
    }
}

/// A batch norm with a relu, its result in place of x in a wider image, and its gradient in place of that of its result.
#[test]
fn batch_norms_and_their_gradients_in_place() {
    let (rows, cols, gap, eps) = (45, 21, 3, 1e-3);
    for dtype in Dtype::STORED {
        let mut random = Random::new(6);
        let (x, d, residual) = (random.numbers(rows * cols), random.numbers(rows * cols), random.numbers(rows * cols));
        let [mean, variance, weight, bias] = [0; 4].map(|_| random.numbers(cols));
        let variance: Vec<f32> = variance.iter().map(|value| value * value + 0.5).collect();
        let stats = Buffer::of(&[mean.clone(), variance.clone()].concat());
        let [w, b] = [&weight, &bias].map(|values| Buffer::of(values));
        let stride = (cols + gap) as i32;
        let line = |col: usize| {
            let scale = f64::from(weight[col]) / (f64::from(variance[col]) + eps).sqrt();
            (scale, f64::from(bias[col]) - f64::from(mean[col]) * scale)
        };
        let normed = |at: usize| f64::from(x[at]) * line(at % cols).0 + line(at % cols).1;

        let values = Values::rows(dtype, &x, cols, cols + gap, 0);
        let more = Values::of(dtype, &residual);
        let before = Act::Clamp { lo: -0.5, hi: 0.75 };
        let args = BatchNorm {
            x: values.address(),
            y: values.address(),
            residual: more.address(),
            stats: stats.address(),
            weight: w.address(),
            bias: b.address(),
            rows: rows as i32,
            cols: cols as i32,
            x_stride: stride,
            y_stride: stride,
            residual_stride: cols as i32,
            eps: eps as f32,
            before: before.into(),
            after: Act::Relu.into(),
        };
        once(&args.launch(dtype), &args);
        let sum = |at: usize| before.apply(normed(at)) + f64::from(residual[at]);
        let want: Vec<f64> = (0..rows * cols).map(|at| sum(at).max(0.0)).collect();
        check(&format!("{dtype:?}"), &values.read_rows(cols, cols + gap), &want, tolerance(dtype));

        let (from, to) = (Values::of(dtype, &x), Values::rows(dtype, &d, cols, cols + gap, 0));
        let mut sums = Columns {
            d: to.address(),
            x: from.address(),
            stats: stats.address(),
            weight: w.address(),
            bias: b.address(),
            rows: rows as i32,
            cols: cols as i32,
            d_stride: stride,
            x_stride: cols as i32,
            relu: 1,
            eps: eps as f32,
            ..Columns::default()
        };
        sums.cut(3);
        let (partials, both) = (floats(sums.partials(2)), floats(2 * cols));
        sums.partials = partials.address();
        run(&sums.launch(dtype, "norm_sums"), &sums);
        let end = sums.end(both.address(), 2, ColumnMode::Norm);
        run(&end.launch(dtype), &end);
        let masked = |at: usize| if normed(at) > 0.0 { f64::from(d[at]) } else { 0.0 };
        let unit = |at: usize| {
            let col = at % cols;
            (f64::from(x[at]) - f64::from(mean[col])) / (f64::from(variance[col]) + eps).sqrt()
        };
        let column = |col: usize| (0..rows).map(move |row| row * cols + col);
        let of_weight: Vec<f64> = (0..cols).map(|col| column(col).map(|at| masked(at) * unit(at)).sum()).collect();
        let of_bias: Vec<f64> = (0..cols).map(|col| column(col).map(masked).sum()).collect();
        check(&format!("weight {dtype:?}"), &both.values()[..cols], &of_weight, 2e-6);
        check(&format!("bias {dtype:?}"), &both.values()[cols..], &of_bias, 2e-6);

        let args = BatchNormData {
            d: to.address(),
            x: from.address(),
            dx: to.address(),
            stats: stats.address(),
            weight: w.address(),
            bias: b.address(),
            sums: both.address(),
            rows: rows as i32,
            cols: cols as i32,
            d_stride: stride,
            x_stride: cols as i32,
            dx_stride: stride,
            relu: 1,
            eps: eps as f32,
            reserved: 0,
        };
        once(&args.launch(dtype), &args);
        let want: Vec<f64> = (0..rows * cols)
            .map(|at| {
                let col = at % cols;
                let rest = (of_bias[col] + unit(at) * of_weight[col]) / rows as f64;
                line(col).0 * (masked(at) - rest)
            })
            .collect();
        check(&format!("dx {dtype:?}"), &to.read_rows(cols, cols + gap), &want, tolerance(dtype));
    }
}

/// Once: what is done in place cannot be done twice.
fn once<A: Args>(launch: &Launch, args: &A) {
    // SAFETY: the addresses are those of buffers as long as stated.
    unsafe { archc_emu::run(launch, args, 5) }.unwrap();
}

/// Of equal values the first has it all.
#[test]
fn maxima_give_to_the_first() {
    let x = [1.0, 3.0, 3.0, 3.0, 0.0, 3.0, 2.0, 3.0, 1.0];
    for dtype in Dtype::STORED {
        let (image, d) = (Values::of(dtype, &x), Values::of(dtype, &[1.0, 2.0, 4.0, 8.0]));
        let dx = Values::poison(dtype, 9, 0);
        let args = PoolData {
            x: image.address(),
            d: d.address(),
            dx: dx.address(),
            window: Window::new(1, [3; 2], [2; 2], &archc_base::Window::square(2)),
            c: 1,
            x_stride: 1,
            d_stride: 1,
            dx_stride: 1,
            ..PoolData::default()
        };
        run(&args.launch(dtype), &args);
        assert_eq!(dx.read(), [0.0, 3.0, 0.0, 4.0, 0.0, 8.0, 0.0, 0.0, 0.0], "{dtype:?}");
    }
}

/// Dense rows.
fn backward([d, seen, dx]: [&Values; 3], rows: usize, cols: usize) -> Backward {
    let [rows, cols] = [rows, cols].map(|len| len as i32);
    let [d, seen, dx] = [d, seen, dx].map(Values::address);
    Backward { d, seen, dx, rows, cols, d_stride: cols, seen_stride: cols, dx_stride: cols, reserved: 0 }
}

#[test]
fn gradients_of_every_activation() {
    let (rows, cols) = (5, 21);
    for dtype in Dtype::STORED {
        for (seed, act) in acts().enumerate() {
            let mut random = Random::new(seed as u64 + 1);
            // off the kinks, which are whole numbers and quarters
            let x: Vec<f32> = random.numbers(rows * cols).iter().map(|x| (x * 5.0).round() + 0.375).collect();
            let d = random.numbers(rows * cols);
            let result = |x: f32| act.apply(x.into()) as f32;
            let seen: Vec<f32> = x.iter().map(|x| if act.by_result() { result(*x) } else { *x }).collect();
            let (d_values, seen) = (Values::of(dtype, &d), Values::of(dtype, &seen));
            let dx = Values::poison(dtype, rows * cols, 0);
            let io = backward([&d_values, &seen, &dx], rows, cols);
            let args = ActData { io, act: act.into(), ..ActData::default() };
            run(&args.launch(dtype), &args);
            let want: Vec<f64> = x.iter().zip(&d).map(|(x, d)| act.gradient((*x).into()) * f64::from(*d)).collect();
            // of results that were rounded
            check(&format!("{dtype:?} {act:?}"), &dx.read(), &want, 4.0 * tolerance(dtype));
        }
    }
}

#[test]
fn losses_of_single_values() {
    let (rows, classes) = (37, 19);
    let len = rows * classes;
    for dtype in Dtype::STORED {
        for (name, loss) in Of::ALL {
            let Of::OfValues(of) = loss else { continue };
            let mut random = Random::new(8);
            let z: Vec<f32> = random.numbers(len).iter().map(|z| z * 4.0).collect();
            let t: Vec<f32> = random.numbers(len).iter().map(|t| t.abs()).collect();
            let (z_values, dz, y) = (Values::of(dtype, &z), Values::poison(dtype, len, 0), floats(1));
            let targets = Buffer::of(&t);
            let mut args = Loss {
                z: z_values.address(),
                targets: targets.address(),
                dz: dz.address(),
                rows: rows as i32,
                classes: classes as i32,
                kind: loss.code(),
                parameter: of.parameter(),
                ..Loss::default()
            };
            let partials = floats(args.partials(dtype));
            args.partials = partials.address();
            run(&args.launch(dtype), &args);
            let end: LossEnd = args.end(dtype, y.address());
            run(&end.launch(dtype), &end);
            run(&args.launch_data(dtype), &args);
            let pairs = || z.iter().zip(&t).map(|(z, t)| (f64::from(*z), f64::from(*t)));
            let mean = pairs().map(|(z, t)| of.value(z, t)).sum::<f64>() / len as f64;
            check(&format!("{dtype:?} {name}"), y.values(), &[mean], 2e-6);
            let gradients: Vec<f64> = pairs().map(|(z, t)| of.gradient(z, t) / len as f64).collect();
            check(&format!("gradient {dtype:?} {name}"), &dz.read(), &gradients, tolerance(dtype));
        }
    }
}

/// A code of no list is not taken for one that is in it.
#[test]
fn unknown_codes_give_no_number() {
    let (x, y) = (Values::of(Dtype::F32, &[0.5; 3]), Values::poison(Dtype::F32, 3, 0));
    let act = archc_cuda::Act { code: Act::ALL.len() as i32, ..Act::None.into() };
    let [x_at, y_at] = [x.address(), y.address()];
    let args = Map { x: x_at, y: y_at, rows: 1, cols: 3, x_stride: 3, y_stride: 3, after: act, ..Map::default() };
    run(&args.launch(Dtype::F32), &args);
    assert!(y.read().iter().all(|y| y.is_nan()));
    let args = ActData { io: backward([&x, &x, &y], 1, 3), act, ..ActData::default() };
    run(&args.launch(Dtype::F32), &args);
    assert!(y.read().iter().all(|y| y.is_nan()));
    let states = Buffer::of(&[1.0f32; 3]);
    let gradients = Buffer::of(&[1.0f32; 3]);
    let rule = archc_base::Rule::ALL.len() as i32;
    let (states_at, gradients_at) = (states.address(), gradients.address());
    let args = Update { states: states_at, gradients: gradients_at, to: 3, learned: 3, rule, ..Update::default() };
    once(&args.launch(), &args);
    assert!(states.values().iter().all(|state| state.is_nan()));
}

/// What is masked is 0, even where the gradient is no number.
#[test]
fn masks_hold_whatever_is_masked() {
    let (d, seen) =
        (Values::of(Dtype::F32, &[f32::NAN, 2.0, f32::INFINITY]), Values::of(Dtype::F32, &[0.0, 1.0, -1.0]));
    let dx = Values::poison(Dtype::F32, 3, 0);
    let args = ActData { io: backward([&d, &seen, &dx], 1, 3), act: Act::Relu.into(), ..ActData::default() };
    run(&args.launch(Dtype::F32), &args);
    assert_eq!(dx.read(), [0.0, 2.0, 0.0]);
}

/// A range of states alone is changed, the average and the sums with it; lines have their factors, and the norm clips.
#[test]
fn an_update_of_a_range() {
    let (len, learned, from, to) = (80, 64, 16, 80);
    let mut random = Random::new(1);
    let [w, g, average] = [0; 3].map(|_| random.numbers(len));
    let [states, averages] = [&w, &average].map(|values| Buffer::of(values));
    let gradients = Buffer::of(&g[..learned]);
    let factors = Buffer::of(&[1.0f32, 1.0, 0.5, 0.0]);
    let (partials, norm) = (Buffer::<f64>::new(Norm::PARTS), Buffer::<f64>::new(1));
    let parts = 3;
    let args = Norm { x: gradients.address(), partials: partials.address(), norm: norm.address(), len: 64, parts };
    args.launches().iter().for_each(|launch| run(launch, &args));
    let total = g[..learned].iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    assert!((norm.values()[0] - total).abs() < 1e-12 * total);
    let args = Update {
        states: states.address(),
        gradients: gradients.address(),
        average: averages.address(),
        factors: factors.address(),
        norm: norm.address(),
        from,
        to,
        learned: learned as i32,
        rule: archc_base::Rule::ALL[0].1.code(),
        sums: 1,
        kept_average: 0.75,
        rate: 0.1,
        decay: 0.01,
        scale: 0.5,
        most: 0.25,
        ..Update::default()
    };
    once(&args.launch(), &args);
    let scale = 0.5 * (0.25 / (total * 0.5 + 1e-6));
    let factor = [1.0, 1.0, 0.5, 0.0];
    let new: Vec<f64> = (0..len)
        .map(|at| {
            let w = f64::from(w[at]);
            if at < from as usize || at >= learned {
                return w;
            }
            w - 0.1 * factor[at / Update::LINE] * (f64::from(g[at]) * scale + 0.01 * w)
        })
        .collect();
    check("states", states.values(), &new, 1e-7);
    let averaged: Vec<f64> = (0..len)
        .map(|at| {
            let old = f64::from(average[at]);
            if at < from as usize { old } else { 0.75 * old + 0.25 * new[at] }
        })
        .collect();
    check("average", averages.values(), &averaged, 1e-7);
    let left: Vec<f32> =
        g[..learned].iter().enumerate().map(|(at, g)| if at < from as usize { *g } else { 0.0 }).collect();
    assert_eq!(gradients.values(), left);
}
