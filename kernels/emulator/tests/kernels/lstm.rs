//! The recurrence of LSTMs, and its gradient.

use archc_cuda::{Dtype, LstmScan, LstmScanData};

use crate::support::{Random, Values, check, run, tolerance};

/// Sequences, [outer, steps, inner], hidden features, and how many processors the device has: few, so that a block has several
/// sequences.
const CASES: [([usize; 3], usize, usize); 7] = [
    ([1, 1, 1], 1, 132),
    ([2, 5, 3], 7, 132),
    ([2, 4, 3], 9, 2),
    ([1, 3, 9], 33, 1),
    ([5, 2, 1], 48, 1),
    ([1, 3, 1], 300, 132),
    ([1, 2, 5], 270, 1),
];

fn row(at: usize, sequence: usize, [_, steps, inner]: [usize; 3], reverse: bool) -> usize {
    let step = if reverse { steps - 1 - at } else { at };
    (sequence / inner * steps + step) * inner + sequence % inner
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Gates whose functions saturate here and there.
fn gates(random: &mut Random, len: usize) -> Vec<f32> {
    random.numbers(len).into_iter().map(|v| 4.0 * v).collect()
}

/// Weights whose products with hidden states are about 1.
fn weights(random: &mut Random, hidden: usize) -> Vec<f32> {
    let scale = (hidden as f32).sqrt().recip().log2().floor().exp2();
    random.numbers(4 * hidden * hidden).into_iter().map(|v| scale * v).collect()
}

#[test]
fn hidden_states_of_one_direction_and_of_both() {
    for dtype in Dtype::STORED {
        for ((sizes, hidden, processors), directions, reverse) in
            CASES.into_iter().flat_map(|case| [(case, 1, false), (case, 1, true), (case, 2, false)])
        {
            let [outer, steps, inner] = sizes;
            let (rows, wide, width) = (outer * steps * inner, 4 * hidden, directions * hidden);
            let mut random = Random::new(21);
            let given: Vec<Vec<f32>> = (0..directions).map(|_| gates(&mut random, rows * wide)).collect();
            let weight: Vec<Vec<f32>> = (0..directions).map(|_| weights(&mut random, hidden)).collect();
            let stored: Vec<Values> = given.iter().map(|g| Values::rows(dtype, g, wide, wide + 3, 0)).collect();
            let packed = |w: &Vec<f32>| {
                let at = |i: usize| w[((i % 4) * hidden + i / 4 % hidden) * hidden + i / wide];
                Values::of(dtype, &(0..wide * hidden).map(at).collect::<Vec<f32>>())
            };
            let packed: Vec<Values> = weight.iter().map(packed).collect();
            let y = Values::poison(dtype, (rows - 1) * (width + 1) + width, 0);
            let address = |values: &[Values], at: usize| values.get(at).map_or(0, Values::address);
            let mut args = LstmScan {
                gates: [0, 1].map(|at| address(&stored, at)),
                weight: [0, 1].map(|at| address(&packed, at)),
                y: y.address(),
                gates_stride: [wide as i32 + 3; 2],
                y_stride: width as i32 + 1,
                directions: directions as i32,
                sequences: (outer * inner) as i32,
                steps: steps as i32,
                inner: inner as i32,
                hidden: hidden as i32,
                reverse: reverse.into(),
                each: 0,
            };
            let launch = args.launch(dtype, processors).expect("there is room");
            assert_eq!(args.each == 1, outer * inner * directions <= processors);
            run(&launch, &args);
            let mut want = vec![0f64; rows * width];
            for (direction, sequence) in
                (0..directions).flat_map(|direction| (0..outer * inner).map(move |sequence| (direction, sequence)))
            {
                let (mut h, mut c) = (vec![0f64; hidden], vec![0f64; hidden]);
                for at in 0..steps {
                    let row = row(at, sequence, sizes, reverse || direction == 1);
                    let sum = |of: usize| {
                        let weight = &weight[direction][of * hidden..][..hidden];
                        let product = weight.iter().zip(&h).map(|(w, h)| f64::from(*w) * h).sum::<f64>();
                        f64::from(given[direction][row * wide + of]) + product
                    };
                    let sums: Vec<f64> = (0..wide).map(sum).collect();
                    for unit in 0..hidden {
                        let [i, f, g, o] = [0, 1, 2, 3].map(|part| sums[part * hidden + unit]);
                        c[unit] = sigmoid(f) * c[unit] + sigmoid(i) * g.tanh();
                        h[unit] = sigmoid(o) * c[unit].tanh();
                        want[row * width + direction * hidden + unit] = h[unit];
                    }
                }
            }
            let what = format!("{dtype:?} {sizes:?}, {hidden} hidden, {directions} directions, reverse {reverse}");
            check(&what, &y.read_rows(width, width + 1), &want, tolerance(dtype));
        }
    }
}

#[test]
fn gradients_of_all_steps() {
    for dtype in Dtype::STORED {
        for ((sizes, hidden, processors), reverse) in CASES.into_iter().flat_map(|case| [(case, false), (case, true)]) {
            let [outer, steps, inner] = sizes;
            let (rows, wide) = (outer * steps * inner, 4 * hidden);
            let mut random = Random::new(22);
            let (d, sums) = (random.numbers(rows * hidden), gates(&mut random, rows * wide));
            let weight = weights(&mut random, hidden);
            let d_values = Values::rows(dtype, &d, hidden, hidden + 1, 0);
            let sums_values = Values::rows(dtype, &sums, wide, wide + 2, 0);
            let weight_values = Values::of(dtype, &weight);
            let dx = Values::poison(dtype, (rows - 1) * (wide + 3) + wide, 0);
            let mut args = LstmScanData {
                d: d_values.address(),
                sums: sums_values.address(),
                weight: weight_values.address(),
                dx: dx.address(),
                d_stride: hidden as i32 + 1,
                sums_stride: wide as i32 + 2,
                dx_stride: wide as i32 + 3,
                sequences: (outer * inner) as i32,
                steps: steps as i32,
                inner: inner as i32,
                hidden: hidden as i32,
                reverse: reverse.into(),
                each: 0,
                reserved: 0,
            };
            let launch = args.launch(dtype, processors).expect("there is room");
            run(&launch, &args);
            let mut want = vec![0f64; rows * wide];
            for sequence in 0..outer * inner {
                let row = |at: usize| row(at, sequence, sizes, reverse);
                let gate = |at: usize, part: usize, unit: usize| {
                    let x = f64::from(sums[row(at) * wide + part * hidden + unit]);
                    if part == 2 { x.tanh() } else { sigmoid(x) }
                };
                let mut cells = vec![vec![0f64; hidden]];
                for at in 0..steps {
                    let of = |unit: usize| gate(at, 1, unit) * cells[at][unit] + gate(at, 0, unit) * gate(at, 2, unit);
                    cells.push((0..hidden).map(of).collect());
                }
                let (mut after, mut dc) = (vec![0f64; wide], vec![0f64; hidden]);
                for at in (0..steps).rev() {
                    let mut own = vec![0f64; wide];
                    for unit in 0..hidden {
                        let through = (0..wide).map(|k| after[k] * f64::from(weight[k * hidden + unit])).sum::<f64>();
                        let dh = f64::from(d[row(at) * hidden + unit]) + through;
                        let [i, f, g, o] = [0, 1, 2, 3].map(|part| gate(at, part, unit));
                        let c = cells[at + 1][unit].tanh();
                        let cell = dc[unit] + dh * o * (1.0 - c * c);
                        dc[unit] = cell * f;
                        own[unit] = cell * g * i * (1.0 - i);
                        own[hidden + unit] = cell * cells[at][unit] * f * (1.0 - f);
                        own[2 * hidden + unit] = cell * i * (1.0 - g * g);
                        own[3 * hidden + unit] = dh * c * o * (1.0 - o);
                    }
                    want[row(at) * wide..][..wide].copy_from_slice(&own);
                    after = own;
                }
            }
            // cells are stored in between
            let what = format!("{dtype:?} {sizes:?}, {hidden} hidden, reverse {reverse}");
            check(&what, &dx.read_rows(wide, wide + 3), &want, 2.0 * tolerance(dtype));
        }
    }
}

#[test]
fn states_that_fill_a_block_are_refused() {
    let scan =
        |hidden: i32| LstmScan { hidden, sequences: 9, steps: 2, inner: 1, directions: 1, ..LstmScan::default() };
    let launch = scan(2048).launch(Dtype::F32, 1).expect("four sequences fit");
    assert_eq!((launch.shared, launch.grid), (96 << 10, [3, 1, 1]));
    let launch = scan(8192).launch(Dtype::F32, 1).expect("one sequence fits");
    assert_eq!((launch.shared, launch.grid), (96 << 10, [9, 1, 1]));
    assert_eq!(scan(8193).launch(Dtype::F32, 1), None);
}
