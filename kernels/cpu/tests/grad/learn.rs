//! Losses and updates.

use archc_base::{Loss, Rule, ValueLoss};
use archc_cpu::Isa;
use archc_cpu::grad::{self, Slots};

use crate::support::{close, on_threads, rng, wide};

#[test]
fn losses() {
    let (rows, classes) = (7, 11);
    let mut rng = rng(380);
    let z: Vec<f32> = rng.vec(rows * classes).iter().map(|value| value * 4.0).collect();
    let weights: Vec<f32> = rng.vec(classes).iter().map(|value| value.abs() + 0.1).collect();
    let mixed: Vec<f32> =
        (0..rows).flat_map(|row| [(row * 3 % classes) as f32, (row * 5 % classes) as f32, 0.7]).collect();
    let values: Vec<f32> = rng.vec(rows * classes).iter().map(|value| value.abs()).collect();
    let cross = |z: &[f64], smoothing: f64, weight: &dyn Fn(usize) -> f64| {
        let (mut sum, mut whole) = (0.0, 0.0);
        for (row, target) in z.chunks_exact(classes).zip(mixed.chunks_exact(3)) {
            let total = row.iter().map(|z| z.exp()).sum::<f64>().ln();
            let spread: f64 = row.iter().enumerate().map(|(class, z)| weight(class) * (total - z)).sum();
            for (class, share) in [(target[0], f64::from(target[2])), (target[1], 1.0 - f64::from(target[2]))] {
                let class = class as usize;
                sum += share
                    * ((1.0 - smoothing) * weight(class) * (total - row[class]) + smoothing / classes as f64 * spread);
                whole += share * weight(class);
            }
        }
        sum / whole
    };
    let each = |z: &[f64], f: &dyn Fn(f64, f64) -> f64| {
        z.iter().zip(&values).map(|(z, t)| f(*z, f64::from(*t))).sum::<f64>() / z.len() as f64
    };
    type Plain<'a> = Box<dyn Fn(&[f64]) -> f64 + 'a>;
    let kinds: Vec<(Loss, Plain)> = vec![
        (Loss::CrossEntropy { smoothing: 0.0, weights: None }, Box::new(|z| cross(z, 0.0, &|_| 1.0))),
        (
            Loss::CrossEntropy { smoothing: 0.25, weights: Some(weights.clone()) },
            Box::new(|z| cross(z, 0.25, &|class| f64::from(weights[class]))),
        ),
        (ValueLoss::BceWithLogits.into(), Box::new(|z| each(z, &|z, t| (1.0 + z.exp()).ln() - z * t))),
        (ValueLoss::Mse.into(), Box::new(|z| each(z, &|z, t| (z - t).powi(2)))),
        (ValueLoss::L1.into(), Box::new(|z| each(z, &|z, t| (z - t).abs()))),
        (
            ValueLoss::Huber { delta: 0.5 }.into(),
            Box::new(|z| {
                each(z, &|z, t| {
                    let d = (z - t).abs();
                    if d < 0.5 { 0.5 * d * d } else { 0.5 * (d - 0.25) }
                })
            }),
        ),
    ];
    for (kind, f) in &kinds {
        let targets = if matches!(kind, Loss::CrossEntropy { .. }) { &mixed } else { &values };
        let wide_z = wide(&z);
        close(&[grad::loss(kind, classes, &z, targets)], &[f(&wide_z)], 1e-6, &format!("{kind:?}"));
        let got = on_threads("loss", || {
            let mut out = vec![f32::NAN; z.len()];
            grad::loss_data(kind, classes, &z, targets, &mut out);
            out
        });
        let h = 1e-5;
        let want: Vec<f64> = (0..z.len())
            .map(|at| {
                let moved = |by: f64| {
                    let mut z = wide_z.clone();
                    z[at] += by;
                    f(&z)
                };
                (moved(h) - moved(-h)) / (2.0 * h)
            })
            .collect();
        let most = want.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        let scaled: Vec<f32> = got.iter().map(|value| *value / most as f32).collect();
        close(&scaled, &want.iter().map(|value| value / most).collect::<Vec<_>>(), 1e-5, &format!("{kind:?}"));
    }
}

/// Three updates beside PyTorch's formulas in f64.
#[test]
fn updates() {
    let len = 1037;
    let (lr, decay, scale) = (0.01, 0.02, 0.5f32);
    let steps = 3;
    type Plain = fn(usize, f64, f64, &mut [f64; 3]) -> f64;
    // what is subtracted of a weight, rate and all, of (step from 1 on, gradient with decay, weight, moments)
    type Rules<'a> = &'a (dyn Fn(usize) -> Rule + Sync);
    let cases: [(&str, Rules, Plain, bool); 6] = [
        (
            "sgd",
            &|_| Rule::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false, first: false },
            |_, d, _, _| 0.01 * d,
            false,
        ),
        (
            "momentum",
            &|step| Rule::Sgd { momentum: 0.9, dampening: 0.1, nesterov: false, first: step == 1 },
            |step, d, _, m| {
                m[0] = if step == 1 { d } else { 0.9 * m[0] + 0.9 * d };
                0.01 * m[0]
            },
            false,
        ),
        (
            "nesterov",
            &|step| Rule::Sgd { momentum: 0.9, dampening: 0.0, nesterov: true, first: step == 1 },
            |step, d, _, m| {
                m[0] = if step == 1 { d } else { 0.9 * m[0] + d };
                0.01 * (d + 0.9 * m[0])
            },
            false,
        ),
        (
            "adam",
            &|step| Rule::Adam {
                betas: [0.9, 0.99],
                eps: 1e-8,
                decoupled: false,
                amsgrad: true,
                corrections: [1.0 - 0.9f64.powi(step as i32), 1.0 - 0.99f64.powi(step as i32)],
            },
            |step, d, _, m| {
                m[0] = 0.9 * m[0] + 0.1 * d;
                m[1] = 0.99 * m[1] + 0.01 * d * d;
                m[2] = m[2].max(m[1]);
                let root = (m[2] / (1.0 - 0.99f64.powi(step as i32))).sqrt();
                0.01 / (1.0 - 0.9f64.powi(step as i32)) * m[0] / (root + 1e-8)
            },
            false,
        ),
        (
            "adamw",
            &|step| Rule::Adam {
                betas: [0.9, 0.99],
                eps: 1e-8,
                decoupled: true,
                amsgrad: false,
                corrections: [1.0 - 0.9f64.powi(step as i32), 1.0 - 0.99f64.powi(step as i32)],
            },
            |step, d, w, m| {
                m[0] = 0.9 * m[0] + 0.1 * d;
                m[1] = 0.99 * m[1] + 0.01 * d * d;
                let root = (m[1] / (1.0 - 0.99f64.powi(step as i32))).sqrt();
                0.01 * 0.02 * w + 0.01 / (1.0 - 0.9f64.powi(step as i32)) * m[0] / (root + 1e-8)
            },
            true,
        ),
        (
            "rmsprop",
            &|_| Rule::RmsProp { alpha: 0.9, eps: 1e-8, momentum: 0.5, centered: true },
            |_, d, _, m| {
                m[0] = 0.9 * m[0] + 0.1 * d * d;
                m[1] = 0.9 * m[1] + 0.1 * d;
                m[2] = 0.5 * m[2] + d / ((m[0] - m[1] * m[1]).sqrt() + 1e-8);
                0.01 * m[2]
            },
            false,
        ),
    ];
    for (name, rule, plain, decoupled) in cases {
        let mut rng = rng(410);
        let start = rng.vec(len);
        // no gradient near zero, where a quotient of moments has no digits
        let g: Vec<Vec<f32>> =
            (0..steps).map(|_| rng.vec(len).iter().map(|v| v + 0.2f32.copysign(*v)).collect()).collect();
        let mut want = wide(&start);
        let mut kept = vec![[0.0; 3]; len];
        for (step, g) in g.iter().enumerate() {
            for (at, w) in want.iter_mut().enumerate() {
                let d = f64::from(g[at]) * f64::from(scale) + if decoupled { 0.0 } else { decay * *w };
                *w -= plain(step + 1, d, *w, &mut kept[at]);
            }
        }
        for isa in Isa::all() {
            let got = on_threads(name, || {
                let mut weights = start.clone();
                let mut moments = vec![vec![0.0f32; len]; rule(1).moments()];
                for (step, g) in g.iter().enumerate() {
                    let moments = moments.iter_mut().map(Vec::as_mut_slice).collect();
                    let slots = Slots { weights: &mut weights, gradients: g, moments };
                    grad::update(isa, rule(step + 1), lr, decay, scale, slots);
                }
                weights
            });
            close(&got, &want, 5e-6, &format!("{name} with {}", isa.name()));
        }
    }
    let values = rng(440).vec(200_001);
    let want: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
    assert!((grad::norm_squared(&values) - want).abs() < 1e-9 * want);
}
