//! Means from sums, and the maps of squeeze-and-excitation, against float64.

use archc_base::Act;
use archc_cuda::{Dtype, Excitation, Sums};
use archc_emu::Buffer;

use crate::support::{Random, Values, check, run, tolerance};

/// Samples, pixels, channels, hidden values, channels of the result; a hidden 0 is one map, a result of 0 the means alone.
const CASES: [[usize; 5]; 9] = [
    [1, 49, 24, 6, 24],
    [3, 20, 70, 5, 70],
    [1, 3136, 64, 16, 256],
    [5, 6, 13, 9, 40],
    [2, 49, 520, 33, 300],
    [9, 16, 36, 0, 100],
    [1, 100, 9, 0, 9],
    [3, 18, 70, 0, 0],
    [1, 49, 2052, 0, 0],
];

/// Where parts lie across images, and where each has its own.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Across,
    Own(usize),
}

#[test]
fn means_and_their_maps() {
    for dtype in Dtype::STORED {
        for (seed, case) in CASES.into_iter().enumerate() {
            for cut in [Cut::Across, Cut::Own(1 + seed * 7)] {
                // blocks of several samples, of one, and several blocks a sample
                for processors in [1, case[0], 132] {
                    one(dtype, case, cut, processors, seed as u64 + 1);
                }
            }
        }
    }
}

fn one(dtype: Dtype, [n, pixels, c, hidden, k]: [usize; 5], cut: Cut, processors: usize, seed: u64) {
    let mut random = Random::new(seed);
    let part = Sums::PART as usize;
    let parts = match cut {
        Cut::Across => (pixels + part - 2) / part + 1,
        Cut::Own(parts) => parts,
    };
    let stride = c.next_multiple_of(4);
    let mut sums = Buffer::<f32>::new(n * parts * stride);
    let mut means = vec![0f64; n * c];
    for image in 0..n {
        let own = match cut {
            Cut::Across => ((image + 1) * pixels - 1) / part - image * pixels / part + 1,
            Cut::Own(parts) => parts,
        };
        for (at, channel) in (0..own).flat_map(|at| (0..c).map(move |channel| (at, channel))) {
            let sum = random.number() * 8.0;
            sums.values_mut()[(image * parts + at) * stride + channel] = sum;
            means[image * c + channel] += f64::from(sum) / pixels as f64;
        }
    }
    let [first, second] = [Act::Silu, Act::HardSigmoid];
    let mut linear = |from: usize, to: usize| {
        let (w, b) = (random.numbers(from * to), random.numbers(to));
        (Values::rows(dtype, &w, from, from.next_multiple_of(dtype.vector()), 0), Buffer::of(&b), w, b)
    };
    let map = |x: &[f64], from: usize, w: &[f32], b: &[f32], act: Act| -> Vec<f64> {
        let row = |x: &[f64], out: usize| {
            let products = w[out * from..][..from].iter().zip(x).map(|(w, x)| f64::from(*w) * x);
            act.apply(products.sum::<f64>() + f64::from(b[out]))
        };
        x.chunks(from).flat_map(|x| (0..b.len()).map(|out| row(x, out)).collect::<Vec<_>>()).collect()
    };
    let out = if k == 0 { c } else { k };
    let y = Values::poison(dtype, (n - 1) * (out + 3) + out, 0);
    let mut args = Excitation {
        sums: Sums { at: sums.address(), parts: parts as i32, stride: stride as i32 },
        y: y.address(),
        n: n as i32,
        pixels: pixels as i32,
        part: if matches!(cut, Cut::Across) { Sums::PART } else { 0 },
        c: c as i32,
        hidden: hidden as i32,
        k: out as i32,
        y_stride: (out + 3) as i32,
        ..Excitation::default()
    };
    let row = |from: usize| from.next_multiple_of(dtype.vector()) as i32;
    let mut kept = vec![];
    let mut want = means;
    if k > 0 {
        let width = if hidden == 0 { k } else { hidden };
        let (w, b, weights, biases) = linear(c, width);
        (args.w1, args.b1, args.w1_stride, args.first, args.maps) = (w.address(), b.address(), row(c), first.into(), 1);
        want = map(&want, c, &weights, &biases, first);
        kept.push((w, b));
    }
    if hidden > 0 {
        let (w, b, weights, biases) = linear(hidden, k);
        (args.w2, args.b2, args.w2_stride, args.second, args.maps) =
            (w.address(), b.address(), row(hidden), second.into(), 2);
        want = map(&want, hidden, &weights, &biases, second);
        kept.push((w, b));
    }
    run(&args.launch(dtype, processors), &args);
    let what = format!("{dtype:?} {n} x {pixels} x {c} -> {hidden} -> {k}, {cut:?}, {processors} multiprocessors");
    check(&what, &y.read_rows(out, out + 3), &want, tolerance(dtype));
}
