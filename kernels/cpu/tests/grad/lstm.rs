//! The recurrence of LSTMs, backwards.

use archc_cpu::grad::{self, PackedLstmData};
use archc_cpu::{Isa, Rows, RowsMut, Sequences};

use crate::support::{close, dense, on_threads, rng, spaced};

/// The gradients of the sums by the formulas, in float64; a row is a step of a sequence.
fn gradients(
    sequences: &Sequences,
    hidden: usize,
    reverse: bool,
    dy: &[f32],
    sums: &[f32],
    weight: &[f32],
) -> Vec<f64> {
    let mut dx = vec![0f64; sequences.rows() * 4 * hidden];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for sequence in 0..sequences.count() {
        let row = |at: usize| {
            let step = if reverse { sequences.steps - 1 - at } else { at };
            (sequence / sequences.inner * sequences.steps + step) * sequences.inner + sequence % sequences.inner
        };
        let gate = |at: usize, part: usize, unit: usize| {
            let x = f64::from(sums[row(at) * 4 * hidden + part * hidden + unit]);
            if part == 2 { x.tanh() } else { sigmoid(x) }
        };
        let mut cells = vec![vec![0f64; hidden]];
        for at in 0..sequences.steps {
            let of = |unit: usize| gate(at, 1, unit) * cells[at][unit] + gate(at, 0, unit) * gate(at, 2, unit);
            cells.push((0..hidden).map(of).collect());
        }
        let (mut after, mut dc) = (vec![0f64; 4 * hidden], vec![0f64; hidden]);
        for at in (0..sequences.steps).rev() {
            let mut own = vec![0f64; 4 * hidden];
            for unit in 0..hidden {
                let through = (0..4 * hidden).map(|k| after[k] * f64::from(weight[k * hidden + unit])).sum::<f64>();
                let dh = f64::from(dy[row(at) * hidden + unit]) + through;
                let [i, f, g, o] = [0, 1, 2, 3].map(|part| gate(at, part, unit));
                let c = cells[at + 1][unit].tanh();
                let cell = dc[unit] + dh * o * (1.0 - c * c);
                dc[unit] = cell * f;
                let parts = [
                    cell * g * i * (1.0 - i),
                    cell * cells[at][unit] * f * (1.0 - f),
                    cell * i * (1.0 - g * g),
                    dh * c * o * (1.0 - o),
                ];
                parts.into_iter().enumerate().for_each(|(part, value)| own[part * hidden + unit] = value);
            }
            dx[row(at) * 4 * hidden..][..4 * hidden].copy_from_slice(&own);
            after = own;
        }
    }
    dx
}

#[test]
fn gradients_go_back_through_all_steps() {
    let shapes: [([usize; 3], usize); 8] = [
        ([1, 1, 1], 1),
        ([1, 6, 1], 3),
        ([2, 3, 5], 7),
        ([1, 4, 7], 16),
        ([3, 5, 1], 33),
        ([1, 2, 40], 20),
        ([70, 3, 1], 8),
        ([5, 3, 2], 65),
    ];
    for (number, ([outer, steps, inner], hidden)) in shapes.into_iter().enumerate() {
        let mut rng = rng(number as u64 + 60);
        let sequences = Sequences { outer, steps, inner };
        let (rows, wide) = (sequences.rows(), 4 * hidden);
        let dy = rng.vec(rows * hidden);
        let sums: Vec<f32> = rng.vec(rows * wide).into_iter().map(|v| 3.0 * v).collect();
        let scale = 2.0 / (hidden as f32).sqrt();
        let weight: Vec<f32> = rng.vec(wide * hidden).into_iter().map(|v| scale * v).collect();
        let (dy_gaps, sums_gaps) = (spaced(&dy, hidden, hidden + 2), spaced(&sums, wide, wide + 1));
        for (isa, reverse) in Isa::all().into_iter().flat_map(|isa| [(isa, false), (isa, true)]) {
            let what = format!("{sequences:?}, {hidden} hidden, {}, reverse {reverse}", isa.name());
            let packed = PackedLstmData::pack(isa, Rows::new(&weight, wide, hidden));
            let got = on_threads(&what, || {
                let mut dx = vec![f32::NAN; rows * (wide + 3)];
                let to = RowsMut::new(&mut dx, rows, wide).spaced(wide + 3);
                let (dy, sums) = (
                    Rows::new(&dy_gaps, rows, hidden).spaced(hidden + 2),
                    Rows::new(&sums_gaps, rows, wide).spaced(wide + 1),
                );
                grad::lstm_scan_data(isa, sequences, reverse, &packed, dy, sums, to);
                dense(&dx, wide, wide + 3)
            });
            close(&got, &gradients(&sequences, hidden, reverse, &dy, &sums, &weight), 3e-6, &what);
        }
    }
}
