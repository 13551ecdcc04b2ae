//! Faults that were planted, and misuse: each must be noticed.

use archc_cuda::{
    Attention, Choice, Conv, ConvWeight, Depthwise, Dtype, Excitation, HOPPER_NARROW, Launch, Map, Rows, SMALL, Sums,
    Tile, TmaTile, Window, variants,
};
use archc_emu::Buffer;

use crate::support::{Random, Values};

/// The launch, of the variant with a fault in it.
fn with_fault(mut launch: Launch, fault: &str) -> Launch {
    launch.variant.defines.push(("FAULT", fault.into()));
    launch
}

/// A pointwise convolution of many channels; the largest difference from its sums.
fn conv_error(tile: Tile, fault: Option<&str>, seed: u64) -> Result<f64, String> {
    product_error([64, 256, 64], |conv| {
        let launch = conv.launch(Dtype::Bf16, Choice { tile, splits: 1 });
        let launch = fault.map_or(launch.clone(), |fault| with_fault(launch, fault));
        // SAFETY: the addresses are those of buffers as long as stated.
        unsafe { archc_emu::run(&launch, conv, seed) }
    })
}

/// The same with operands that TMA brings, several tiles of more steps than its ring has.
fn tma_error(fault: Option<&str>, seed: u64) -> Result<f64, String> {
    product_error([512, 640, 64], |conv| {
        let tma = conv.tma(Dtype::Bf16, TmaTile::ALL[0], 1).expect("a map can say it");
        let launch = fault.map_or(tma.launch.clone(), |fault| with_fault(tma.launch.clone(), fault));
        let args = tma.args(archc_emu::tensor_map)?;
        // SAFETY: the addresses are those of buffers as long as stated.
        unsafe { archc_emu::run(&launch, &args, seed) }
    })
}

/// The gradient of a linear map's weights; the largest difference from its sums.
fn weight_error(fault: Option<&str>, seed: u64) -> f64 {
    let (rows, c, k) = (256, 64, 64);
    let mut random = Random::new(1);
    let (x, dy) = (random.numbers(rows * c), random.numbers(rows * k));
    let [x_values, dy_values] = [&x, &dy].map(|values| Values::of(Dtype::Bf16, values));
    let partials = Buffer::<f32>::new(k * c);
    let args = ConvWeight {
        x: x_values.address(),
        dy: dy_values.address(),
        partials: partials.address(),
        window: Window::new(rows, [1; 2], [1; 2], &archc_base::Window::PIXEL),
        c: c as i32,
        k: k as i32,
        groups: 1,
        x_stride: c as i32,
        dy_stride: k as i32,
        per: rows as i32,
        ..ConvWeight::default()
    };
    let launch = args.launch(Dtype::Bf16);
    let launch = fault.map_or(launch.clone(), |fault| with_fault(launch, fault));
    // SAFETY: the addresses are those of buffers as long as stated.
    unsafe { archc_emu::run(&launch, &args, seed) }.unwrap();
    let want = |at: usize| -> f64 {
        (0..rows).map(|row| f64::from(dy[row * k + at / c]) * f64::from(x[row * c + at % c])).sum()
    };
    let off = partials.values().iter().enumerate().map(|(at, got)| (f64::from(*got) - want(at)).abs());
    off.fold(0.0, |most, off| if off.is_nan() { f64::INFINITY } else { most.max(off) })
}

#[test]
fn faults_of_gradients_of_weights_show() {
    assert!((0..4).all(|seed| weight_error(None, seed) < 1e-4));
    assert!((0..4).all(|seed| weight_error(Some("COPY_WAIT"), seed) > 0.1), "a wait for too few copies");
    assert!((0..4).any(|seed| weight_error(Some("NO_BARRIER"), seed) > 0.1), "a missing barrier");
}

fn product_error([pixels, c, k]: [usize; 3], run: impl Fn(&Conv) -> Result<(), String>) -> Result<f64, String> {
    let mut random = Random::new(1);
    let (x, w) = (random.numbers(pixels * c), random.numbers(k * c));
    let [x_values, w_values] = [&x, &w].map(|values| Values::of(Dtype::Bf16, values));
    let y = Values::poison(Dtype::Bf16, pixels * k, 0);
    let conv = Conv {
        x: x_values.address(),
        w: w_values.address(),
        y: y.address(),
        window: Window::new(pixels, [1; 2], [1; 2], &archc_base::Window::PIXEL),
        c: c as i32,
        k: k as i32,
        groups: 1,
        x_image: c as i32,
        y_image: k as i32,
        w_stride: c as i32,
        splits: 1,
        ..Conv::default()
    };
    run(&conv)?;
    let sum = |at: usize| {
        let (row, out) = (&x[at / k * c..][..c], &w[at % k * c..][..c]);
        row.iter().zip(out).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>()
    };
    let got = y.read();
    let worst = |worst: f64, off: f64| if off.is_nan() { f64::INFINITY } else { worst.max(off) };
    Ok((0..pixels * k).map(|at| (f64::from(got[at]) - sum(at)).abs()).fold(0.0, worst))
}

#[test]
fn a_missing_wait_or_barrier_shows() {
    for seed in 0..4 {
        assert!(conv_error(SMALL, None, seed).unwrap() < 0.5);
        let off = conv_error(SMALL, Some("COPY_WAIT"), seed).unwrap();
        assert!(off > 1.0, "a wait for too few copies, seed {seed}");
    }
    let off = |seed| conv_error(SMALL, Some("NO_BARRIER"), seed).unwrap();
    assert!((0..4).any(|seed| off(seed) > 1.0), "a missing barrier");
    let error = conv_error(HOPPER_NARROW, Some("WGMMA_WAIT"), 0).unwrap_err();
    assert!(error.contains("before its wgmma are waited for"), "{error}");
    let x = Values::of(Dtype::F32, &Random::new(2).numbers(4096));
    let y = Values::poison(Dtype::F32, 4096, 0);
    let (x_at, y_at) = (x.address(), y.address());
    let args = Rows { x: x_at, y: y_at, rows: 1, cols: 4096, x_stride: 4096, y_stride: 4096, ..Rows::default() };
    let launch = with_fault(args.launch(Dtype::F32, "softmax"), "NO_BARRIER");
    // SAFETY: the addresses are those of buffers as long as stated.
    unsafe { archc_emu::run(&launch, &args, 0) }.unwrap();
    assert!(y.read().iter().any(|v| v.is_nan()), "a missing barrier in a reduction");
    let sums = Buffer::of(&[1f32; 200 * 8]);
    let means = |fault: Option<&str>| {
        let y = Values::poison(Dtype::F32, 8, 0);
        let sums = Sums { at: sums.address(), parts: 200, stride: 8 };
        let mut args =
            Excitation { sums, y: y.address(), n: 1, pixels: 200, c: 8, k: 8, y_stride: 8, ..Excitation::default() };
        let launch = args.launch(Dtype::F32, 1);
        let launch = fault.map_or(launch.clone(), |fault| with_fault(launch, fault));
        // SAFETY: the addresses are those of buffers as long as stated.
        unsafe { archc_emu::run(&launch, &args, 0) }.unwrap();
        y.read()
    };
    let ones = Values::of(Dtype::F32, &[1.0; 8 * 20 * 20]);
    let total = |fault: Option<&str>| {
        let plain = Depthwise {
            x: ones.address(),
            w: ones.address(),
            window: Window::new(1, [20; 2], [20; 2], &archc_base::Window::PIXEL),
            c: 8,
            x_stride: 8,
            ..Depthwise::default()
        };
        let mut args = plain.with_sums();
        let left = Buffer::<f32>::new(args.sums.floats(1));
        args.sums.at = left.address();
        let launch = args.launch(Dtype::F32);
        let launch = fault.map_or(launch.clone(), |fault| with_fault(launch, fault));
        // SAFETY: the addresses are those of buffers as long as stated.
        unsafe { archc_emu::run(&launch, &args, 0) }.unwrap();
        left.values().iter().sum::<f32>()
    };
    assert_eq!(total(None), 8.0 * 400.0);
    assert!(total(Some("NO_BARRIER")) != 8.0 * 400.0, "a missing barrier before strips are added");
    assert_eq!(means(None), [1.0; 8]);
    assert!(means(Some("NO_BARRIER")).iter().any(|v| v.is_nan()), "a missing barrier between sums");
}

/// Attention over several tiles of keys.
fn attended(fault: Option<&str>, seed: u64) -> Vec<f32> {
    let (rows, dim) = (150, 32);
    let values = Values::of(Dtype::Bf16, &Random::new(3).numbers(rows * dim));
    let y = Values::poison(Dtype::Bf16, rows * dim, 0);
    let (at, stride) = (values.address(), dim as i32);
    let args = Attention {
        q: at,
        k: at,
        v: at,
        y: y.address(),
        n: 1,
        heads: 1,
        dim: dim as i32,
        value_dim: dim as i32,
        queries: rows as i32,
        keys: rows as i32,
        q_stride: stride,
        k_stride: stride,
        v_stride: stride,
        y_stride: stride,
        q_images: 1,
        k_images: 1,
        v_images: 1,
        scale: 0.2,
        ..Attention::default()
    };
    let launch = args.launch(Dtype::Bf16);
    let launch = fault.map_or(launch.clone(), |fault| with_fault(launch, fault));
    // SAFETY: the addresses are those of buffers as long as stated.
    unsafe { archc_emu::run(&launch, &args, seed) }.unwrap();
    y.read()
}

#[test]
fn faults_of_attention_show() {
    let right = attended(None, 0);
    let differs =
        |fault, seed| attended(fault, seed).iter().zip(&right).any(|(a, b)| a.is_nan() || (a - b).abs() > 0.05);
    assert!((0..4).all(|seed| !differs(None, seed)), "the order of threads is nothing to it");
    assert!((0..4).all(|seed| differs(Some("COPY_WAIT"), seed)), "a wait for too few copies");
    assert!((0..4).any(|seed| differs(Some("NO_BARRIER"), seed)), "a missing barrier");
}

#[test]
fn faults_of_the_copy_engine_show() {
    for seed in 0..4 {
        assert!(tma_error(None, seed).unwrap() < 0.5);
        for fault in ["FULL_WAIT", "PARITY", "FEW_BYTES", "EARLY_COPY", "NO_TURNS"] {
            let shows = tma_error(Some(fault), seed).map_or(true, |off| off > 1.0);
            assert!(shows, "{fault}, seed {seed}");
        }
    }
    let error = tma_error(Some("NO_RELEASE"), 0).unwrap_err();
    assert!(error.contains("deadlock") && error.contains("waits at an mbarrier"), "{error}");
    let error = tma_error(Some("NO_FENCE"), 0).unwrap_err();
    assert!(error.contains("no fence after it was initialised"), "{error}");
    let error = conv_error(HOPPER_NARROW, Some("NO_FENCE"), 0).unwrap_err();
    assert!(error.contains("without a fence"), "{error}");
}

#[test]
fn an_access_out_of_bounds_is_reported() {
    let (x, y) = (Values::of(Dtype::F32, &[1.0; 12]), Values::poison(Dtype::F32, 12, 0));
    let (x_at, y_at) = (x.address(), y.address());
    let args = Map { x: x_at, y: y_at, rows: 1, cols: 12, x_stride: 12, y_stride: 12, ..Map::default() };
    let launch = with_fault(args.launch(Dtype::F32), "BOUNDS");
    // SAFETY: the kernel goes beyond the buffers, into their guards.
    let error = unsafe { archc_emu::run(&launch, &args, 0) }.unwrap_err();
    assert!(error.starts_with("map: block (0, 0, 0), thread (1, 0, 0): access out of bounds"), "{error}");
}

#[test]
fn launches_that_cannot_be_are_refused() {
    let args = Map::default();
    let good = Map { rows: 1, cols: 1, ..args }.launch(Dtype::F32);
    let bad = [
        (Launch { kernel: "nope", ..good.clone() }, "takes 0 bytes"),
        (Launch { block: [512, 1, 1], ..good.clone() }, "too many threads"),
        (Launch { shared: 1 << 20, ..good.clone() }, "too much shared memory"),
        (Launch { grid: [1, 0, 1], ..good.clone() }, "no such grid"),
    ];
    for (launch, want) in bad {
        // SAFETY: refused before anything is read.
        let error = unsafe { archc_emu::run(&launch, &args, 0) }.unwrap_err();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn misuse_is_reported_with_block_and_thread() {
    let cases = [
        ("unmet_barrier", 64, "deadlock: no thread can go on: thread 0 waits at a named barrier"),
        ("divergent", 32, "lanes of a warp diverge"),
        ("misaligned", 32, "thread (0, 0, 0): cp.async of 16 bytes: not aligned"),
        ("unwaited", 32, "returns before its copies are waited for"),
        ("beyond_shared", 32, "thread (16, 0, 0): access out of bounds"),
        ("spinning", 32, "livelock: one block spins"),
    ];
    for (kernel, threads, want) in cases {
        let word = Buffer::of(&[0u32; 4]);
        let mut args = word.address();
        let mut pointers = [std::ptr::from_mut(&mut args).cast()];
        // SAFETY: the kernels take the address of a word; what they do beyond that is caught.
        let result = unsafe { archc_emu::launch("misuse.f32", kernel, [2, 1, 1], [threads, 1, 1], 64, &mut pointers) };
        let error = result.unwrap_err();
        assert!(error.starts_with(&format!("{kernel}: block (")) && error.contains(want), "{error}");
    }
}

#[test]
fn every_kernel_is_there() {
    for variant in variants() {
        for kernel in variant.of().kernels() {
            assert!(archc_emu::args_bytes(&variant.name(), kernel) > 0, "{} {kernel}", variant.name());
        }
    }
}

#[test]
fn buffers_end_at_their_guard() {
    for (len, shift) in [(1, 0), (7, 1), (4096, 0), (5000, 3)] {
        let mut buffer = Buffer::<u16>::shifted(len, shift);
        assert_eq!(buffer.address() % 16, shift as u64 * 2 % 16);
        buffer.values_mut().fill(1);
        assert!(buffer.values().iter().all(|v| *v == 1));
    }
}
