//! Functions of one value, and dropout.

use archc_base::Act;
use archc_cpu::grad::{self, Draw};
use archc_cpu::{Isa, Rows};

use crate::support::{close, mapped, rng, spaced};

#[test]
fn activations() {
    let (rows, cols) = (9, 37);
    let mut rng = rng(200);
    // a rounded operand may lie on the other side of a kink
    let apart = |x: f32| match [-3.0, -1.0, -0.25, 0.0, 1.5, 2.0, 3.0f32].iter().any(|kink| (x - kink).abs() < 1e-3) {
        true => x + 0.01,
        false => x,
    };
    let x: Vec<f32> = rng.vec(rows * cols).iter().map(|value| apart(value * 5.0)).collect();
    let dy = rng.vec(rows * cols);
    let more = [Act::Clamp { lo: -1.0, hi: 1.5 }, Act::Elu(0.7), Act::Elu(-0.7), Act::LeakyRelu(0.1)];
    for act in Act::ALL.into_iter().map(|(_, act)| act).chain(more) {
        let seen = |x: &f32| if act.by_result() { act.apply(f64::from(*x)) as f32 } else { *x };
        let want: Vec<f64> = x.iter().zip(&dy).map(|(x, dy)| f64::from(*dy) * act.gradient(f64::from(*x))).collect();
        let gaps = spaced(&x.iter().map(seen).collect::<Vec<f32>>(), cols, cols + 2);
        for isa in Isa::all() {
            let what = format!("{act} with {}", isa.name());
            let got = mapped(&what, &dy, cols, |io| {
                grad::act_data(isa, act, io, Rows::new(&gaps, rows, cols).spaced(cols + 2));
            });
            close(&got, &want, 2e-5, &what);
        }
    }
}

/// Whatever it is of, and whatever reaches it: PyTorch's is zeros.
#[test]
fn the_power_of_zero_has_no_gradient() {
    let x = [f32::NAN, 0.0, -0.0, f32::INFINITY, -2.5, 3.0, 1e-40];
    let dy = [1.0, -2.0, f32::INFINITY, f32::NAN, 0.5, 0.0, 1e30];
    for isa in Isa::all() {
        let got =
            mapped(isa.name(), &dy, x.len(), |io| grad::act_data(isa, Act::Pow(0.0), io, Rows::new(&x, 1, x.len())));
        assert_eq!(got, [0.0; 7], "{}", isa.name());
    }
}

#[test]
fn dropout() {
    let (n, pixels, cols) = (3, 10, 7);
    let x = rng(350).vec(n * pixels * cols);
    let number = |at: u64| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 24) as f32;
    let block = |at: u64| [0, 1, 2, 3].map(|lane| number(4 * at + lane));
    let cases = [(1, 0.5f32), (cols, 0.3), (cols * pixels, 0.25), (cols, 0.0), (cols, 1.0)];
    for ((each, p), alike) in cases.into_iter().flat_map(|case| [(case, false), (case, true)]) {
        let draw = Draw { block: &block, p, rows_each: pixels, each, alike };
        let got = mapped("dropout", &x, cols, |io| grad::dropout(io, &draw));
        let want: Vec<f64> = (0..x.len())
            .map(|at| {
                let (sample, own) = (at / (pixels * cols), at % (pixels * cols));
                let sample = if alike { 0 } else { sample };
                let draw = match each {
                    1 => sample,
                    each if each == cols => sample * cols + own % cols,
                    _ => sample * pixels * cols + own,
                };
                if number(draw as u64) < p { 0.0 } else { f64::from(x[at]) / (1.0 - f64::from(p)) }
            })
            .collect();
        close(&got, &want, 1e-6, &format!("{each} draws with p = {p}, alike: {alike}"));
    }
}
