//! Functions of single values and pairs, copies, fills, dropout.

use archc_base::{Act, Binary as Of};
use archc_cuda::{Binary, Broadcast, Copy_, Dropout, Dtype, Fill, Map, RANK};
use archc_emu::Buffer;

use crate::support::{Random, Values, acts, check, run, tolerance};

#[test]
fn maps_of_every_activation() {
    for dtype in Dtype::STORED {
        for (seed, act) in acts().enumerate() {
            for (rows, cols, gap) in [(5, 24, 0), (7, 13, 0), (3, 64, 8), (4, 5, 3)] {
                let mut random = Random::new(seed as u64 + 1);
                let x: Vec<f32> = random.numbers(rows * cols).into_iter().map(|v| v * 5.0).collect();
                let on_device = Values::rows(dtype, &x, cols, cols + gap, 0);
                let y = Values::poison(dtype, (rows - 1) * (cols + gap) + cols, 0);
                let args = Map {
                    x: on_device.address(),
                    y: y.address(),
                    rows: rows as i32,
                    cols: cols as i32,
                    x_stride: (cols + gap) as i32,
                    y_stride: (cols + gap) as i32,
                    after: act.into(),
                    ..Map::default()
                };
                run(&args.launch(dtype), &args);
                let want: Vec<f64> =
                    on_device.read_rows(cols, cols + gap).iter().map(|x| act.apply(f64::from(*x))).collect();
                check(&format!("{dtype:?} {act:?}"), &y.read_rows(cols, cols + gap), &want, tolerance(dtype));
            }
        }
    }
}

#[test]
fn anything_to_the_power_of_zero_is_one() {
    let x = [f32::NAN, 0.0, -0.0, f32::INFINITY, -3.5, 7.0, 1e-30, f32::NEG_INFINITY];
    for dtype in Dtype::STORED {
        let on_device = Values::of(dtype, &x);
        let y = Values::poison(dtype, x.len(), 0);
        let args = Map {
            x: on_device.address(),
            y: y.address(),
            rows: 1,
            cols: x.len() as i32,
            x_stride: x.len() as i32,
            y_stride: x.len() as i32,
            after: Act::Pow(0.0).into(),
            ..Map::default()
        };
        run(&args.launch(dtype), &args);
        assert_eq!(y.read(), [1.0; 8], "{dtype:?}");
    }
}

#[test]
fn maps_scale_shift_bend_and_add() {
    let (rows, cols) = (9, 21);
    for dtype in Dtype::STORED {
        for slope_col in [0, 1] {
            let mut random = Random::new(5);
            let (x, residual) = (random.numbers(rows * cols), random.numbers(rows * cols));
            let [scale, shift, slope] = [0; 3].map(|_| random.numbers(cols));
            let columns = [&scale, &shift, &slope].map(|values| Buffer::of(values));
            // in place
            let values = Values::rows(dtype, &x, cols, cols + 3, 0);
            let other = Values::of(dtype, &residual);
            let args = Map {
                x: values.address(),
                y: values.address(),
                scale: columns[0].address(),
                shift: columns[1].address(),
                slope: columns[2].address(),
                residual: other.address(),
                rows: rows as i32,
                cols: cols as i32,
                x_stride: cols as i32 + 3,
                y_stride: cols as i32 + 3,
                residual_stride: cols as i32,
                slope_col,
                before: Act::Linear { scale: 2.0, shift: 0.5 }.into(),
                after: Act::Relu.into(),
            };
            let launch = args.launch(dtype);
            // SAFETY: the addresses are those of buffers as long as stated.
            unsafe { archc_emu::run(&launch, &args, 3) }.unwrap();
            let want: Vec<f64> = (0..rows * cols)
                .map(|at| {
                    let col = at % cols;
                    let mut v = f64::from(x[at]) * f64::from(scale[col]) + f64::from(shift[col]);
                    if v <= 0.0 {
                        v *= f64::from(slope[col * slope_col as usize]);
                    }
                    (2.0 * v + 0.5 + f64::from(residual[at])).max(0.0)
                })
                .collect();
            check(&format!("{dtype:?}"), &values.read_rows(cols, cols + 3), &want, tolerance(dtype));
        }
    }
}

#[test]
fn not_a_number_stays() {
    for act in [Act::Relu, Act::Clamp { lo: 0.0, hi: 6.0 }, Act::HardSwish, Act::Gelu, Act::Silu, Act::LeakyRelu(0.1)] {
        let (x, y) = (Values::of(Dtype::F32, &[f32::NAN; 3]), Values::poison(Dtype::F32, 3, 0));
        let (x_at, y_at) = (x.address(), y.address());
        let args =
            Map { x: x_at, y: y_at, rows: 1, cols: 3, x_stride: 3, y_stride: 3, after: act.into(), ..Map::default() };
        run(&args.launch(Dtype::F32), &args);
        assert!(y.read().iter().all(|v| v.is_nan()), "{act:?}");
    }
}

#[test]
fn pairs_of_all_kinds() {
    let (rows, cols) = (12, 20);
    // rows_each, b_outer, b_row, b_col and how long b is: rows, one for all, one a column, gates of 4 rows, one a row
    let pairings = [[12, 0, 20, 1, 240], [1, 0, 0, 0, 1], [1, 0, 0, 1, 20], [4, 20, 0, 1, 60], [12, 0, 1, 0, 12]];
    for dtype in Dtype::STORED {
        for [rows_each, b_outer, b_row, b_col, len] in pairings {
            for &(_, op) in Of::ALL {
                let mut random = Random::new(9);
                let (a, b, residual) =
                    (random.numbers(rows * cols), random.numbers(len as usize), random.numbers(rows * cols));
                let y = Values::poison(dtype, rows * cols, 0);
                let [a_values, b_values, more] = [&a, &b, &residual].map(|values| Values::of(dtype, values));
                let args = Binary {
                    a: a_values.address(),
                    b: b_values.address(),
                    y: y.address(),
                    residual: more.address(),
                    rows: rows as i32,
                    cols: cols as i32,
                    a_stride: cols as i32,
                    y_stride: cols as i32,
                    residual_stride: cols as i32,
                    rows_each,
                    b_outer,
                    b_row,
                    b_col,
                    op: op.code(),
                    before: Act::Relu.into(),
                    after: Act::None.into(),
                };
                run(&args.launch(dtype), &args);
                let want: Vec<f64> = (0..rows * cols)
                    .map(|at| {
                        let (row, col) = ((at / cols) as i32, (at % cols) as i32);
                        let at_b = row / rows_each * b_outer + row % rows_each * b_row + col * b_col;
                        let (a, b) = (f64::from(a[at]), f64::from(b[at_b as usize]));
                        op.apply(a, b).max(0.0) + f64::from(residual[at])
                    })
                    .collect();
                check(&format!("{dtype:?} {op:?} {rows_each}"), &y.read(), &want, tolerance(dtype));
            }
        }
    }
}

fn padded(values: &[i32]) -> [i32; RANK] {
    std::array::from_fn(|axis| values.get(axis).copied().unwrap_or(0))
}

/// Offsets of all elements in row-major order.
fn offsets(shape: &[i32], strides: &[i32]) -> Vec<usize> {
    let mut all = vec![0];
    for (len, stride) in shape.iter().zip(strides) {
        all = all.iter().flat_map(|at| (0..*len).map(move |i| at + (i * stride) as usize)).collect();
    }
    all
}

#[test]
fn operands_of_any_strides() {
    let shape = [2, 3, 4, 5];
    let (a_strides, b_strides, y_strides) = ([60, 1, 15, 3], [0, 4, 1, 0], [60, 20, 5, 1]);
    for dtype in Dtype::STORED {
        let mut random = Random::new(2);
        let (a, b) = (random.numbers(120), random.numbers(12));
        let [a_values, b_values] = [&a, &b].map(|values| Values::of(dtype, values));
        let y = Values::poison(dtype, 120, 0);
        let args = Broadcast {
            a: a_values.address(),
            b: b_values.address(),
            y: y.address(),
            rank: 4,
            op: Of::Mul.code(),
            shape: padded(&shape),
            a_strides: padded(&a_strides),
            b_strides: padded(&b_strides),
            y_strides: padded(&y_strides),
            after: Act::Linear { scale: 1.0, shift: 1.0 }.into(),
            ..Broadcast::default()
        };
        run(&args.launch(dtype), &args);
        let pairs = offsets(&shape, &a_strides).into_iter().zip(offsets(&shape, &b_strides));
        let want: Vec<f64> = pairs.map(|(i, j)| f64::from(a[i]) * f64::from(b[j]) + 1.0).collect();
        check(&format!("{dtype:?}"), &y.read(), &want, tolerance(dtype));
    }
}

#[test]
fn copies_in_any_order_and_type() {
    // shapes with the strides of x and y
    let cases: [(&[i32], &[i32], &[i32]); 7] = [
        // channels first to channels last, and back
        (&[2, 20, 9, 11], &[1980, 99, 11, 1], &[1980, 1, 220, 20]),
        (&[2, 20, 9, 11], &[1980, 1, 220, 20], &[1980, 99, 11, 1]),
        // with gaps between pixels
        (&[2, 3, 40, 5], &[600, 200, 5, 1], &[1600, 1, 40, 8]),
        // the few channels of an image
        (&[2, 3, 6, 10], &[180, 60, 10, 1], &[240, 1, 40, 4]),
        // eight axes reversed
        (&[2, 1, 3, 2, 2, 3, 1, 2], &[1, 1, 2, 6, 12, 24, 1, 72], &[72, 72, 24, 12, 6, 2, 2, 1]),
        // repeated rows
        (&[4, 33], &[0, 1], &[33, 1]),
        (&[1], &[1], &[1]),
    ];
    let types = [Dtype::F32, Dtype::Bf16, Dtype::F16];
    for (from, to) in types.into_iter().flat_map(|from| types.map(|to| (from, to))) {
        if from != to && from != Dtype::F32 && to != Dtype::F32 {
            continue;
        }
        for (shape, x_strides, y_strides) in cases {
            let (reads, writes) = (offsets(shape, x_strides), offsets(shape, y_strides));
            let x = Random::new(1).numbers(reads.iter().max().unwrap() + 1);
            let on_device = Values::of(from, &x);
            let y = Values::poison(to, writes.iter().max().unwrap() + 1, 0);
            let mut args = Copy_ {
                x: on_device.address(),
                y: y.address(),
                rank: shape.len() as i32,
                shape: padded(shape),
                x_strides: padded(x_strides),
                y_strides: padded(y_strides),
                ..Copy_::default()
            };
            let launch = args.launch(from, to);
            run(&launch, &args);
            for (read, write) in reads.iter().zip(&writes) {
                assert_eq!(y.get(*write), x[*read], "{from:?} {to:?} {shape:?}");
            }
        }
    }
}

#[test]
fn fills() {
    for dtype in Dtype::STORED {
        let y = Values::poison(dtype, 5 * 8 - 2, 0);
        let (shape, y_strides) = (padded(&[5, 6]), padded(&[8, 1]));
        let args = Fill { y: y.address(), rank: 2, value: -1.5, shape, y_strides };
        run(&args.launch(dtype), &args);
        assert_eq!(y.read_rows(6, 8), [-1.5; 30]);
    }
}

/// Philox 4x32-10 as src/philox.rs has it.
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut words, mut key) = (counter, key);
    for _ in 0..10 {
        let (a, b) = (0xD251_1F53 * u64::from(words[0]), 0xCD9E_8D57 * u64::from(words[2]));
        words = [(b >> 32) as u32 ^ words[1] ^ key[0], b as u32, (a >> 32) as u32 ^ words[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    words
}

#[test]
fn dropout_draws_the_bits_of_philox() {
    let (rows, cols, seed, stream) = (6, 19, [3, 4], [5, 6]);
    // single values, channels of images of three pixels, whole images; then those of all images alike
    for [period, rows_each, index_row, index_col] in
        [[6, 1, 19, 1], [6, 3, 19, 1], [6, 3, 1, 0], [3, 1, 19, 1], [3, 3, 19, 1], [3, 3, 1, 0]]
    {
        for dtype in Dtype::STORED {
            let x = Random::new(8).numbers(rows * cols);
            let (on_device, y) = (Values::of(dtype, &x), Values::poison(dtype, rows * cols, 0));
            let args = Dropout {
                x: on_device.address(),
                y: y.address(),
                seed,
                stream,
                clock: 0,
                rows: rows as i32,
                cols: cols as i32,
                x_stride: cols as i32,
                y_stride: cols as i32,
                period,
                rows_each,
                index_row,
                index_col,
                p: 0.25,
                reserved: 0,
            };
            run(&args.launch(dtype), &args);
            let want: Vec<f64> = (0..rows * cols)
                .map(|at| {
                    let row = (at / cols) as i32 % period;
                    let number = row / rows_each * index_row + (at % cols) as i32 * index_col;
                    let word = philox([number as u32 / 4, 0, stream[0], stream[1]], seed)[number as usize % 4];
                    if (word >> 8) as f32 / 16_777_216.0 < 0.25 { 0.0 } else { f64::from(x[at]) / 0.75 }
                })
                .collect();
            check(&format!("{dtype:?} {period} {rows_each}"), &y.read(), &want, tolerance(dtype));
        }
    }
}

#[test]
fn copies_of_few_channels_close_their_gaps() {
    let (n, pixels) = (2, 19);
    let x: Vec<f32> = Random::new(5).numbers(n * 3 * pixels);
    let (from, y) = (Values::of(Dtype::F32, &x), Values::poison(Dtype::Bf16, n * pixels * 4, 0));
    let mut copy = Copy_ { x: from.address(), y: y.address(), rank: 3, ..Copy_::default() };
    let axes = |values: [usize; 3]| {
        let mut axes = [1; RANK];
        axes.iter_mut().zip(values).for_each(|(axis, value)| *axis = value as i32);
        axes
    };
    copy.shape = axes([n, 3, pixels]);
    copy.x_strides = axes([3 * pixels, pixels, 1]);
    copy.y_strides = axes([4 * pixels, 1, 4]);
    let launch = copy.launch_with_zeros(Dtype::F32, Dtype::Bf16, 1).expect("few channels");
    run(&launch, &copy);
    let want = (0..n * pixels * 4).map(|at| {
        let (image, pixel, channel) = (at / 4 / pixels, at / 4 % pixels, at % 4);
        if channel == 3 { 0.0 } else { f64::from(x[(image * 3 + channel) * pixels + pixel]) }
    });
    check("a gap", &y.read(), &want.collect::<Vec<f64>>(), tolerance(Dtype::Bf16));
    copy.shape[0] = 1;
    assert!(Copy_ { rank: 1, shape: axes([9, 1, 1]), ..copy }.launch_with_zeros(Dtype::F32, Dtype::Bf16, 1).is_none());
}
