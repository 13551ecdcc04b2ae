//! The recurrence of LSTMs.

use super::*;

/// Hidden states of one direction by the formulas, a row a step of a sequence.
fn states(sequences: &Sequences, hidden: usize, reverse: bool, gates: &[f32], weight: &[f32]) -> Vec<f64> {
    let mut y = vec![0f64; sequences.rows() * hidden];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for sequence in 0..sequences.count() {
        let (mut h, mut c) = (vec![0f64; hidden], vec![0f64; hidden]);
        for at in 0..sequences.steps {
            let step = if reverse { sequences.steps - 1 - at } else { at };
            let row =
                (sequence / sequences.inner * sequences.steps + step) * sequences.inner + sequence % sequences.inner;
            let sum = |part: usize, unit: usize| {
                let of = part * hidden + unit;
                let product = (0..hidden).map(|k| f64::from(weight[of * hidden + k]) * h[k]).sum::<f64>();
                f64::from(gates[row * 4 * hidden + of]) + product
            };
            let sums: Vec<[f64; 4]> = (0..hidden).map(|unit| [0, 1, 2, 3].map(|part| sum(part, unit))).collect();
            for (unit, [i, f, g, o]) in sums.into_iter().enumerate() {
                c[unit] = sigmoid(f) * c[unit] + sigmoid(i) * g.tanh();
                h[unit] = sigmoid(o) * c[unit].tanh();
                y[row * hidden + unit] = h[unit];
            }
        }
    }
    y
}

/// Rows of `cols`, `stride` apart, with NaN between them.
fn spaced(values: &[f32], cols: usize, stride: usize) -> Vec<f32> {
    let mut out = poison(values.len() / cols * stride);
    for (row, from) in out.chunks_exact_mut(stride).zip(values.chunks_exact(cols)) {
        row[..cols].copy_from_slice(from);
    }
    out
}

#[test]
fn hidden_states_are_those_of_the_formulas() {
    let shapes: [([usize; 3], usize); 9] = [
        ([1, 1, 1], 1),
        ([1, 5, 1], 3),
        ([2, 3, 5], 7),
        ([1, 9, 7], 16),
        ([3, 4, 1], 17),
        ([1, 2, 40], 33),
        ([70, 3, 1], 8),
        ([1, 33, 2], 48),
        ([13, 2, 2], 65),
    ];
    for (number, ([outer, steps, inner], hidden)) in shapes.into_iter().enumerate() {
        let mut rng = Rng::new(number as u64 + 40);
        let sequences = Sequences { outer, steps, inner };
        let rows = sequences.rows();
        let mut noise = |len: usize, scale: f32| rng.vec(len).into_iter().map(|v| v * scale).collect::<Vec<f32>>();
        let (gates, back) = (noise(rows * 4 * hidden, 3.0), noise(rows * 4 * hidden, 3.0));
        let scale = 2.0 / (hidden as f32).sqrt();
        let (weight, weight_back) = (noise(4 * hidden * hidden, scale), noise(4 * hidden * hidden, scale));
        let (wide, gap) = (4 * hidden, 4 * hidden + 3);
        let (gates_gaps, back_gaps) = (spaced(&gates, wide, gap), spaced(&back, wide, gap));
        for isa in Isa::all() {
            let what = format!("{sequences:?}, {hidden} hidden, {}", isa.name());
            let packed = PackedLstm::pack(isa, Rows::new(&weight, wide, hidden));
            let packed_back = PackedLstm::pack(isa, Rows::new(&weight_back, wide, hidden));
            let one =
                |gates, weight, reverse| Direction { gates: Rows::new(gates, rows, wide).spaced(gap), weight, reverse };
            for directions in [
                vec![one(&gates_gaps[..], &packed, false)],
                vec![one(&gates_gaps[..], &packed, true)],
                vec![one(&gates_gaps[..], &packed, false), one(&back_gaps[..], &packed_back, true)],
            ] {
                let width = directions.len() * hidden;
                let got = on_threads(&what, || {
                    let mut out = poison(rows * (width + 1));
                    lstm_scan(isa, sequences, &directions, RowsMut::new(&mut out, rows, width).spaced(width + 1));
                    assert!(
                        out.iter().skip(width).step_by(width + 1).all(|gap| gap.is_nan()),
                        "{what}: written between rows"
                    );
                    out.chunks_exact(width + 1).flat_map(|row| row[..width].to_vec()).collect()
                });
                let first = states(&sequences, hidden, directions[0].reverse, &gates, &weight);
                let second = states(&sequences, hidden, true, &back, &weight_back);
                let both = first.chunks_exact(hidden).zip(second.chunks_exact(hidden));
                let want: Vec<f64> = match directions.len() {
                    1 => first,
                    _ => both.flat_map(|(first, second)| [first, second].concat()).collect(),
                };
                close(&got, &want, 3e-6, &what);
            }
        }
    }
}

#[test]
fn what_is_no_number_stays_in_its_sequence() {
    let (sequences, hidden) = (Sequences { outer: 1, steps: 3, inner: 4 }, 5);
    let mut rng = Rng::new(3);
    let mut gates = rng.vec(sequences.rows() * 4 * hidden);
    let weight = rng.vec(4 * hidden * hidden);
    // the forget gate of a unit at the first step of sequence 2, where there is nothing to forget yet
    gates[2 * 4 * hidden + hidden + 1] = f32::NAN;
    for isa in Isa::all() {
        let packed = PackedLstm::pack(isa, Rows::new(&weight, 4 * hidden, hidden));
        let direction =
            Direction { gates: Rows::new(&gates, sequences.rows(), 4 * hidden), weight: &packed, reverse: false };
        let mut y = poison(sequences.rows() * hidden);
        lstm_scan(isa, sequences, &[direction], RowsMut::new(&mut y, sequences.rows(), hidden));
        for (row, y) in y.chunks_exact(hidden).enumerate() {
            // in the next steps all units of the sequence depend on it
            let tainted = row % 4 == 2;
            let want = |unit: usize| tainted && (row > 4 || unit == 1);
            assert!(y.iter().enumerate().all(|(unit, v)| v.is_nan() == want(unit)), "{}: row {row}: {y:?}", isa.name());
        }
    }
}
